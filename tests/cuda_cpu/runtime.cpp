// Runs a CUDA kernel's threads as fibers on one OS thread, and reports what a GPU would do wrong in silence.
//
// A lane (CUDA thread) has a stack of its own and is switched to and from by a dozen instructions.  It runs until it
// meets others (__syncthreads, warp collectives), ends or, in chaos mode, touches an atomic or a fence; the last to
// arrive releases the others.  Which lane goes on next is the schedule: ascending or descending, each warp as far as it
// can get, or all lanes in random turns.  `resident` blocks are in progress at once; the next block starts when one
// ends, so a grid may be of any size.  A finding (fault) ends the launch: the stacks are simply left.
//
// AddressSanitizer is told of every stack switch, and of the shared variables' bounds.  To ThreadSanitizer each lane is
// a fiber; the switches order nothing, and only what CUDA promises does: __syncthreads and __syncwarp (no shuffle, no
// vote), and atomics on one address between fences.  For these to be exact a lane needs two shadow fibers: what it had
// done by its last fence (an atomic publishes that, no more), and what its atomics have seen (the next fence takes it
// in).  This file itself is never instrumented: the scheduler's own memory would order everything.
#define CUDA_CPU_RUNTIME
#include "cuda_cpu.h"
#include <algorithm>
#include <stdio.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <tuple>
#include <vector>
#ifdef CUDA_CPU_THREAD
#include <sanitizer/tsan_interface.h>
#define TSAN(...) __VA_ARGS__
#else
#define TSAN(...)
#endif
#ifdef CUDA_CPU_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define ASAN(...) __VA_ARGS__
#else
#define ASAN(...)
#endif
using namespace cuda_cpu;
uint3 threadIdx, blockIdx, blockDim, gridDim;

// Save the registers a call must keep, and go on where the other stack pointer was saved.
extern "C" void cuda_cpu_switch(void** save, void* next);
asm(".text\n.type cuda_cpu_switch,@function\n.globl cuda_cpu_switch\n.hidden cuda_cpu_switch\ncuda_cpu_switch:\n"
    "pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15\nmovq %rsp,(%rdi); movq %rsi,%rsp\n"
    "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret\n.size cuda_cpu_switch,.-cuda_cpu_switch\n");

namespace {
constexpr size_t PAGE = 4096, STACK = 64 * 1024 ASAN(* 4) TSAN(* 4), SHARED_MAX = 48 * 1024, ARENA = 64 * 1024;
constexpr size_t LANES_MAX = 16384;          // a stack and its guard page are two of the 65530 mappings Linux allows
constexpr unsigned PATIENCE = 10000;         // rounds in which lanes ran and nothing changed

struct Block;
struct Lane {
    void* stack_pointer; char* stack; Block* block; unsigned index; uint3 thread;
    Op op; unsigned mask; int argument, width, absent; uint64_t value, result; Where at;   // what it waits in
    bool slow, fenced, unfenced; const void* ticket; unsigned atomics;
    TSAN(void *fiber, *published, *seen; char* sync;) ASAN(void* fake_stack;)
};
struct Warp { unsigned live, ready, at_collective, at_barrier; bool released; };
struct Access { unsigned line, warp, nth; uintptr_t sector; };
struct Block {
    bool running; uint3 index; unsigned live, at_barrier; Where barrier; bool fenced, unfenced;
    std::vector<Lane> lanes; Warp warps[32];
    char* arena; size_t poisoned;
    std::vector<Access> accesses; std::vector<unsigned> nth;                          // only while counting
};
Entry* entry; Launch* launch; unsigned threads;
Lane* me;                                    // the lane that runs; null in the scheduler
void* scheduler; std::string report; unsigned random_state; unsigned idle_rounds;
std::vector<Block> blocks; std::vector<char*> stacks; std::vector<LineCount> lines; std::vector<Lane*> turns;
ASAN(const void* main_stack; size_t main_size; void* main_fake;)
TSAN(void* main_fiber; char finished;)

unsigned random_number() {                   // xorshift32
    random_state ^= random_state << 13; random_state ^= random_state >> 17; random_state ^= random_state << 5;
    return random_state >> 4;
}
template <class... T> std::string text(const char* format, T... values) {
    char line[400]; snprintf(line, sizeof line, format, values...); return line;
}
std::string place(Where at) { return at.file ? text("%s:%d", at.file, at.line) : "(end)"; }
std::string name(const Lane& l) {
    uint3 b = l.block->index, t = l.thread;
    return text("block (%u,%u,%u) thread (%u,%u,%u)", b.x, b.y, b.z, t.x, t.y, t.z);
}
const char* const OPS[] = {"__shfl_sync", "__shfl_xor_sync", "__shfl_up_sync", "__shfl_down_sync", "__ballot_sync", "__any_sync",
    "__all_sync", "__reduce_max_sync", "__reduce_min_sync", "__reduce_add_sync", "__reduce_and_sync", "__reduce_or_sync",
    "__reduce_xor_sync", "__match_any_sync", "__syncwarp"};

// ---- fibers ---------------------------------------------------------------------------------------------------------
void leave(bool for_good) {                  // from the running lane to the scheduler
    Lane* l = me; (void)for_good;
    ASAN(__sanitizer_start_switch_fiber(for_good ? nullptr : &l->fake_stack, main_stack, main_size);)
    TSAN(__tsan_switch_to_fiber(main_fiber, __tsan_switch_to_fiber_no_sync);)
    cuda_cpu_switch(&l->stack_pointer, scheduler);
    ASAN(__sanitizer_finish_switch_fiber(l->fake_stack, &main_stack, &main_size);)
}
void enter(Lane& l) {
    me = &l; threadIdx = l.thread; blockIdx = l.block->index;
    ASAN(__sanitizer_start_switch_fiber(&main_fake, l.stack, STACK);)
    TSAN(__tsan_switch_to_fiber(l.fiber, __tsan_switch_to_fiber_no_sync);)
    cuda_cpu_switch(&scheduler, l.stack_pointer);
    ASAN(__sanitizer_finish_switch_fiber(main_fake, nullptr, nullptr);)
    me = nullptr;
}
[[noreturn]] void fault(const std::string& what, Where at) {          // called by the running lane, which never goes on
    report = what + ": " + name(*me) + " at " + place(at);
    leave(true); __builtin_unreachable();
}
char* stack(size_t i) {                      // kept for the life of the process; the guard page below stops an overflow
    while (stacks.size() <= i) {
        char* s = (char*)mmap(nullptr, PAGE + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (s == MAP_FAILED || mprotect(s, PAGE, PROT_NONE)) { perror("cuda_cpu: no memory for a stack"); abort(); }
        stacks.push_back(s + PAGE);
    }
    return stacks[i];
}
#ifdef CUDA_CPU_THREAD
char* fresh(size_t bytes) {                  // a multiple of 64; address space never given out before: reuse would order unrelated blocks
    static char *next, *end;
    if ((size_t)(end - next) < bytes) {
        next = (char*)mmap(nullptr, 1 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (next == MAP_FAILED) { perror("cuda_cpu: no address space"); abort(); }
        end = next + (1 << 30);
    }
    return (next += bytes) - bytes;
}
template <class F> void as_fiber(void* fiber, F act) {
    void* self = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync); act();
    __tsan_switch_to_fiber(self, __tsan_switch_to_fiber_no_sync);
}
void rendezvous(Block& b, const unsigned* members) {                   // a bit mask for each warp
    char* sync = fresh(64);
    for (Lane& l : b.lanes) if (members[l.index / 32] >> l.index % 32 & 1) as_fiber(l.fiber, [&] { __tsan_release(sync); });
    for (Lane& l : b.lanes) if (members[l.index / 32] >> l.index % 32 & 1) as_fiber(l.fiber, [&] { __tsan_acquire(sync); });
}
#endif

// ---- warp collectives -----------------------------------------------------------------------------------------------
bool same(Where a, Where b) { return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file)); }
void deliver(Lane* warp, Lane& l, unsigned members) {                  // the result of a complete collective for one lane
    if (l.op <= SHFL_DOWN) {
        const int lane = l.index & 31, first = lane / l.width * l.width, end = first + l.width;
        const int64_t distance = (unsigned)l.argument;                 // up and down take it unsigned
        int64_t from = l.op == SHFL ? first + (l.argument & (l.width - 1)) : l.op == SHFL_XOR ? lane ^ distance :
                       l.op == SHFL_UP ? lane - distance : lane + distance;
        if (from >= end || (l.op == SHFL_UP && from < first)) from = lane;      // off the end: its own value
        if (members >> from & 1) l.result = warp[from].value; else l.absent = (int)from;
        return;
    }
    unsigned set = 0, equal = 0; uint64_t x = 0; bool any = false;
    for (int j = 0; j < 32; ++j) if (members >> j & 1) {
        uint64_t v = warp[j].value;
        set |= (unsigned)(v != 0) << j; equal |= (unsigned)(v == l.value) << j;
        x = !any ? v : l.op == MAX ? std::max(x, v) : l.op == MIN ? std::min(x, v) : l.op == ADD ? x + v :
            l.op == AND ? x & v : l.op == OR ? x | v : l.op == XOR ? x ^ v : 0;
        any = true;
    }
    l.result = l.op == BALLOT ? set : l.op == ANY ? set != 0 : l.op == ALL ? set == members : l.op == MATCH ? equal : x;
}
void complete_collective(Block& b, unsigned warp_index, const Lane& l) {   // if every living lane of l's mask waits in l's call
    Warp& w = b.warps[warp_index]; Lane* warp = &b.lanes[warp_index * 32]; const unsigned members = l.mask & w.live;
    if (members & ~w.at_collective) return;
    for (unsigned m = members; m; m &= m - 1) {
        const Lane& other = warp[__builtin_ctz(m)];
        if (other.op != l.op || other.mask != l.mask || !same(other.at, l.at)) return;
    }
    for (unsigned m = members; m; m &= m - 1) deliver(warp, warp[__builtin_ctz(m)], members);
    TSAN(if (l.op == SYNCWARP) { unsigned in[32] = {}; in[warp_index] = members; rendezvous(b, in); })
    w.at_collective &= ~members; w.ready |= members; w.released = true; idle_rounds = 0;
}

// ---- barriers and ends ----------------------------------------------------------------------------------------------
void complete_barrier(Block& b) {            // threads that have ended count as arrived
    if (!b.at_barrier || b.at_barrier != b.live) return;
    const void* ticket = nullptr;
    for (Lane& l : b.lanes) {                // what one thread did before the barrier, each has behind it after it
        b.fenced |= l.fenced; b.unfenced |= l.unfenced; l.unfenced = false; if (l.ticket) ticket = l.ticket;
    }
    TSAN(unsigned in[32]; for (int i = 0; i < 32; ++i) in[i] = b.warps[i].at_barrier; rendezvous(b, in);)
    for (Lane& l : b.lanes) l.ticket = ticket;
    for (Warp& w : b.warps) { w.ready |= w.at_barrier; w.at_barrier = 0; }
    b.at_barrier = 0; idle_rounds = 0;
}
void lane_main() {
    ASAN(__sanitizer_finish_switch_fiber(nullptr, &main_stack, &main_size);)
    entry->call(launch->params);
    TSAN(__tsan_release(&finished);)
    Lane& l = *me; Block& b = *l.block; unsigned warp_index = l.index / 32, bit = 1u << l.index % 32; Warp& w = b.warps[warp_index];
    w.live &= ~bit; w.ready &= ~bit; --b.live; idle_rounds = 0;
    for (unsigned m = w.at_collective; m; m &= m - 1) {                 // those may have waited for this lane alone
        Lane& waiting = b.lanes[warp_index * 32 + __builtin_ctz(m)];
        if (w.at_collective >> waiting.index % 32 & 1) complete_collective(b, warp_index, waiting);
    }
    complete_barrier(b);
    leave(true); __builtin_unreachable();
}

// ---- blocks ---------------------------------------------------------------------------------------------------------
uint64_t block_number(uint64_t i, uint64_t n) {                        // i-th to start: a permutation of 0..n-1, no table
    if (launch->order == 0) return i;
    if (launch->order == 1) return n - 1 - i;
    unsigned half = 1; while (half < 32 && 1ull << 2 * half < n) ++half;
    const uint64_t low = (1ull << half) - 1;
    do for (unsigned round = 0; round < 4; ++round) {                  // Feistel network, repeated until it hits the range
        uint64_t left = i >> half, right = i & low, h = (((uint64_t)launch->seed << 34) + (right << 2 | round)) * 0x9e3779b97f4a7c15ull;
        h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull;
        i = right << half | (left ^ (h >> 32 & low));
    } while (i >= n);
    return i;
}
void start(Block& b, size_t slot, uint64_t number) {
    const uint3 g = gridDim;
    b.index = {(unsigned)(number % g.x), (unsigned)(number / g.x % g.y), (unsigned)(number / g.x / g.y)};
    b.live = threads; b.at_barrier = 0; b.fenced = b.unfenced = false; b.poisoned = 0; b.accesses.clear(); b.nth.clear();
    TSAN(b.arena = nullptr;)
    if (!b.arena) b.arena = TSAN(fresh(ARENA); (void)) (char*)mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASAN(__asan_poison_memory_region(b.arena, ARENA);)
    b.lanes.assign(threads, Lane{}); b.running = true;
    for (unsigned i = 0; i < 32; ++i) {
        unsigned n = threads > i * 32 ? std::min(32u, threads - i * 32) : 0, all = n == 32 ? ~0u : (1u << n) - 1;
        b.warps[i] = {all, all, 0, 0, false};
    }
    for (unsigned i = 0; i < threads; ++i) {
        Lane& l = b.lanes[i];
        l.block = &b; l.index = i; l.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        l.stack = stack(slot * threads + i); l.slow = launch->chaos >= 2 && random_number() % 4 == 0;
        void** top = (void**)(l.stack + STACK) - 2;
        *--top = nullptr; *--top = (void*)lane_main;                   // 'returns' into lane_main, six zeroed registers below
        l.stack_pointer = top - 6; memset(l.stack_pointer, 0, 6 * sizeof(void*));
        TSAN(l.fiber = __tsan_create_fiber(0);)
    }
    idle_rounds = 0;
}
void finish(Block& b) {
    std::sort(b.accesses.begin(), b.accesses.end(), [](const Access& a, const Access& c) {
        return std::tie(a.line, a.warp, a.nth, a.sector) < std::tie(c.line, c.warp, c.nth, c.sector); });
    const Access* last = nullptr;
    for (const Access& a : b.accesses) {
        bool request = !last || a.line != last->line || a.warp != last->warp || a.nth != last->nth;
        lines[a.line].requests += request; lines[a.line].lanes++; lines[a.line].sectors += request || a.sector != last->sector;
        last = &a;
    }
    TSAN(for (Lane& l : b.lanes) for (void* f : {l.fiber, l.published, l.seen}) if (f) __tsan_destroy_fiber(f);)
    ASAN(for (Lane& l : b.lanes) if (b.warps[l.index / 32].live >> l.index % 32 & 1) __asan_unpoison_memory_region(l.stack, STACK);)
    b.running = false; b.live = 0;
}

// ---- scheduling -----------------------------------------------------------------------------------------------------
bool round() {                               // false: no lane can run
    bool ready = false; const bool reverse = launch->order == 1; turns.clear();
    auto run = [&](Lane& l) { ready = true; if (!l.slow || random_number() % 16 == 0) enter(l); };    // a slow lane lags far behind
    for (size_t s = 0; s < blocks.size(); ++s) for (unsigned i = 0; i < 32; ++i) {
        Block& b = blocks[s]; unsigned index = reverse ? 31 - i : i; Warp& w = b.warps[index];
        if (!b.live) break;
        do {
            w.released = false;
            for (unsigned todo = w.ready; todo && report.empty();) {
                int lane = reverse ? 31 - __builtin_clz(todo) : __builtin_ctz(todo);
                todo &= ~(1u << lane);
                if (launch->order == 2) turns.push_back(&b.lanes[index * 32 + lane]); else run(b.lanes[index * 32 + lane]);
            }
        } while (w.released && report.empty());
    }
    for (size_t i = turns.size(); i > 1; --i) std::swap(turns[i - 1], turns[random_number() % i]);
    for (size_t i = 0; i < turns.size() && report.empty(); ++i) run(*turns[i]);
    return ready;
}
void stalled(const char* what) {             // who waits where: one line for each run of threads in the same place
    std::string title = what, list; int shown = 0;
    for (Block& b : blocks) for (unsigned i = 0; b.live && i < threads;) {
        auto state = [&](unsigned t) { const Warp& w = b.warps[t / 32]; unsigned bit = 1u << t % 32;
            return w.at_collective & bit ? 1 : w.at_barrier & bit ? 2 : w.ready & bit ? 3 : 0; };
        auto alike = [&](const Lane& a, const Lane& c) { return state(a.index) == state(c.index) && same(a.at, c.at) &&
            (state(a.index) != 1 || (a.op == c.op && a.mask == c.mask)); };
        Lane& l = b.lanes[i]; unsigned end = i + 1; const int s = state(i);
        if (!s) { ++i; continue; }
        while (end < threads && state(end) && alike(l, b.lanes[end])) ++end;
        if (end < threads && end % 32 && s == 1 && state(end) == 1)
            title = same(l.at, b.lanes[end].at) ? "mismatched warp collective" : "divergent warp collective";
        if (++shown <= 8) list += text("\n  block (%u,%u,%u) threads %u-%u ", b.index.x, b.index.y, b.index.z, i, end - 1) +
            (s == 2 ? "wait in __syncthreads" : s == 3 ? "spin" : text("wait in %s mask 0x%08x", OPS[l.op], l.mask)) + " at " + place(l.at);
        i = end;
    }
    report = title + ": no thread can go on" + list + (shown > 8 ? text("\n  and %d more", shown - 8) : "");
}
std::string unlaunchable() {
    const unsigned *g = launch->grid, *b = launch->block; const uint64_t n = (uint64_t)b[0] * b[1] * b[2];
    std::string shape = text("grid (%u,%u,%u) block (%u,%u,%u)", g[0], g[1], g[2], b[0], b[1], b[2]);
    if (!g[0] || !g[1] || !g[2] || !n) return "invalid launch: a zero dimension: " + shape;
    if (g[0] > 0x7fffffffu || g[1] > 65535 || g[2] > 65535) return "invalid launch: grid over (2147483647,65535,65535): " + shape;
    if (b[0] > 1024 || b[1] > 1024 || b[2] > 64 || n > 1024) return "invalid launch: block over 1024 threads or (1024,1024,64): " + shape;
    if (n > entry->max_threads) return text("invalid launch: block over the kernel's __launch_bounds__(%u): ", entry->max_threads) + shape;
    if (n * launch->resident > LANES_MAX) return text("too many resident blocks: over %zu threads: ", LANES_MAX) + shape;
    return "";
}

// ---- memory ---------------------------------------------------------------------------------------------------------
bool in_arena(const void* p) { return (size_t)((const char*)p - me->block->arena) < ARENA; }
void count(uintptr_t address, Where at) {
    Block& b = *me->block; unsigned line = 0;
    while (line < lines.size() && !same(at, {lines[line].file, lines[line].line})) ++line;
    if (line == lines.size()) lines.push_back({at.file, at.line, 0, 0, 0});
    if (b.nth.size() < (line + 1) * threads) b.nth.resize((line + 1) * threads);
    b.accesses.push_back({line, me->index / 32, b.nth[line * threads + me->index]++, address / 32});
}
void check(const void* p, size_t bytes, const char* what, bool load, Where at) {
    const uintptr_t a = (uintptr_t)p; bool inside = !launch->watch_count, counted = false;
    if (a % bytes) fault(text("misaligned %s of %zu bytes", what, bytes), at);
    for (size_t i = 0; i < launch->watch_count; ++i) {
        const Watch& w = launch->watches[i];
        if (a < w.begin || a + bytes > w.end) continue;
        inside = true;
        if (load && w.counts) for (size_t j = 0; j < bytes; ++j) { uint8_t& c = w.counts[a - w.begin + j]; c += c != 255; counted = true; }
    }
    if (!inside) fault(text("%s of %zu bytes outside every registered buffer", what, bytes), at);
    if (counted) count(a, at);
}
void maybe_yield() { if (launch->chaos && random_number() % 4 == 0) leave(false); }
}  // namespace

// ---- what the kernel calls ------------------------------------------------------------------------------------------
extern "C" {
void cuda_cpu_syncthreads(Where at) {
    Lane& l = *me; Block& b = *l.block; Warp& w = b.warps[l.index / 32]; const unsigned bit = 1u << l.index % 32;
    if (!b.at_barrier++) b.barrier = at;
    else if (!same(at, b.barrier)) fault("divergent __syncthreads (others wait at " + place(b.barrier) + ")", at);
    l.at = at; w.ready &= ~bit; w.at_barrier |= bit;
    complete_barrier(b);
    leave(false);
}
uint64_t cuda_cpu_collective(Op op, unsigned mask, uint64_t value, int argument, int width, Where at) {
    Lane& l = *me; Block& b = *l.block; Warp& w = b.warps[l.index / 32]; const unsigned bit = 1u << l.index % 32;
    if (!(mask & bit)) fault(text("lane not in its own mask 0x%08x of %s", mask, OPS[op]), at);
    if (width < 1 || width > 32 || width & (width - 1)) fault(text("%s width %d is no power of two up to 32", OPS[op], width), at);
    l.op = op; l.mask = mask; l.value = value; l.argument = argument; l.width = width; l.absent = -1; l.at = at;
    w.ready &= ~bit; w.at_collective |= bit;
    complete_collective(b, l.index / 32, l);
    leave(false);
    if (l.absent >= 0) fault(text("%s from absent lane %d", OPS[op], l.absent), at);
    return l.result;
}
void* cuda_cpu_shared(SharedSite* site, Where at) {
    Block& b = *me->block;
    if (site->offset < 0) {                  // a gap after each variable, which AddressSanitizer guards
        const size_t align = std::max<size_t>(site->align, 16), begin = (entry->shared_end + align - 1) & ~(align - 1);
        if (entry->shared_bytes + site->bytes > SHARED_MAX || begin + site->bytes > ARENA)
            fault(text("static shared memory over 48 KiB: %zu bytes", entry->shared_bytes + site->bytes), at);
        site->offset = begin; entry->shared_bytes += site->bytes; entry->shared_end = begin + site->bytes + 32;
    }
    char* p = b.arena + site->offset; const size_t end = site->offset + site->bytes;
    if (b.poisoned < end) {
        ASAN(__asan_unpoison_memory_region(b.arena + b.poisoned, end - b.poisoned);)
        memset(b.arena + b.poisoned, 0xA5, end - b.poisoned);
        ASAN(__asan_poison_memory_region(b.arena + b.poisoned, end - b.poisoned);)
        b.poisoned = end;
    }
    ASAN(__asan_unpoison_memory_region(p, site->bytes);)
    return p;
}
void cuda_cpu_load(const void* address, size_t bytes, Where at) {
    if (in_arena(address)) fault("__ldg of shared memory", at);
    check(address, bytes, "__ldg", true, at);
    launch->loads[__builtin_ctzll(bytes)]++;
}
// The ticket rule ('last block finishes'): a block's work must be fenced before its atomicInc, and the thread that
// draws the last ticket must fence before its next atomic, or it may miss the others' work.  atomicInc that wraps
// is taken for a ticket; atomicAdd is not, because a list that grows looks the same (ThreadSanitizer judges both).
void cuda_cpu_before_atomic(const void* p, size_t bytes, AtomicKind kind, Where at) {
    Lane& l = *me; Block& b = *l.block; l.at = at;
    if (++l.atomics % 64 == 0) leave(false); else maybe_yield();       // a thread that spins lets the others run
    if (in_arena(p)) return;
    check(p, bytes, "atomic", false, at);
    if (l.ticket && l.ticket != p) fault("atomic after the last ticket without a __threadfence between", at);
    if (kind == PLAIN) l.unfenced = true;
    else if (l.unfenced || b.unfenced) fault("ticket without a __threadfence after earlier atomics", at);
    else if (!l.fenced && !b.fenced) fault("ticket without a __threadfence before it", at);
    TSAN(if (l.published) as_fiber(l.published, [&] { __tsan_release((void*)p); });)
}
void cuda_cpu_after_atomic(const void* p, bool changed, bool last_ticket) {
    Lane& l = *me;
    if (changed) idle_rounds = 0;
    if (in_arena(p)) return;
    if (last_ticket) l.ticket = p;
    TSAN(if (!l.sync) l.sync = fresh(64); if (!l.seen) l.seen = __tsan_create_fiber(0);
         as_fiber(l.seen, [&] { __tsan_acquire((void*)p); });)
}
void cuda_cpu_fence(Where at) {
    Lane& l = *me; l.at = at;
    maybe_yield();
    l.fenced = true; l.unfenced = l.block->unfenced = false; l.ticket = nullptr;
    TSAN(if (!l.sync) l.sync = fresh(64);
         if (l.seen) { as_fiber(l.seen, [&] { __tsan_release(l.sync); }); __tsan_acquire(l.sync); }
         if (!l.published) l.published = __tsan_create_fiber(0);
         __tsan_release(l.sync + 8); as_fiber(l.published, [&] { __tsan_acquire(l.sync + 8); });)
}
unsigned cuda_cpu_lane() { return me->index & 31; }
void cuda_cpu_trap(Where at) { fault("__trap", at); }

// Returns the finding, or an empty string.
const char* cuda_cpu_launch(Entry* e, Launch* l) {
    entry = e; launch = l; lines.clear(); report = unlaunchable();
    if (!report.empty()) return report.c_str();
    gridDim = {l->grid[0], l->grid[1], l->grid[2]}; blockDim = {l->block[0], l->block[1], l->block[2]};
    threads = blockDim.x * blockDim.y * blockDim.z; random_state = l->seed * 2654435761u | 1;
    TSAN(main_fiber = __tsan_get_current_fiber();)
    blocks.resize(l->resident);
    const uint64_t total = (uint64_t)gridDim.x * gridDim.y * gridDim.z; uint64_t next = 0;
    for (unsigned active = 1; active && report.empty();) {
        active = 0;
        for (size_t s = 0; s < blocks.size(); ++s) {
            Block& b = blocks[s];
            if (!b.live && b.running) finish(b);
            if (!b.live && next < total) start(b, s, block_number(next++, total));
            active += b.live != 0;
        }
        if (!active) break;
        ++idle_rounds;
        if (!round()) stalled("deadlock"); else if (report.empty() && idle_rounds > PATIENCE) stalled("livelock");
    }
    for (Block& b : blocks) if (b.running) finish(b);           // left where they were by a fault
    TSAN(__tsan_acquire(&finished);)
    l->lines = lines.data(); l->line_count = lines.size();
    return report.c_str();
}
}
