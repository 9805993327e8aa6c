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
// vote), and atomics on one address between fences.  This file itself is never instrumented: the scheduler's own memory
// would order everything.
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

// Save the registers that a call must keep, and go on where the other stack pointer was saved.
extern "C" void cuda_cpu_switch(void** save, void* next);
asm(".text\n.type cuda_cpu_switch,@function\n.globl cuda_cpu_switch\n.hidden cuda_cpu_switch\ncuda_cpu_switch:\n"
    "pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
    "movq %rsp,(%rdi); movq %rsi,%rsp\n"
    "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret\n"
    ".size cuda_cpu_switch,.-cuda_cpu_switch\n");

namespace {
constexpr size_t PAGE = 4096, STACK = 64 * 1024 ASAN(* 4) TSAN(* 4);
constexpr size_t SHARED_MAX = 48 * 1024, ARENA = 64 * 1024;  // the arena also holds the gaps between shared variables
constexpr size_t LANES_MAX = 16384;      // a stack and its guard page are two of the 65530 mappings that Linux allows
constexpr unsigned PATIENCE = 10000;     // rounds in which lanes ran and nothing changed

struct Block;
struct Lane {
    void* stack_pointer;
    char* stack;
    Block* block;
    unsigned index;                      // in the block, x fastest
    uint3 thread;
    Where at;                            // of its last wait, atomic or fence
    Op op;                               // the collective it waits in, or waited in last
    unsigned mask;
    int argument, width, absent;         // absent: the missing lane that it tried to read, or -1
    uint64_t value, result;
    bool slow;                           // lags far behind
    unsigned atomics;
    bool fenced, unfenced;               // has fenced at all; has used atomics since its last fence
    const void* ticket;                  // drew the last ticket here and has not fenced since
    ASAN(void* fake_stack;)
    TSAN(void *fiber, *published, *seen; char* sync;)
};
struct Warp {
    unsigned live, ready, at_collective, at_barrier;         // one bit for each lane
    bool released;                                           // a collective was completed
};
struct Access { unsigned line, warp, nth; uintptr_t sector; };   // nth: how often the lane had passed the line
struct Block {
    bool running;
    uint3 index;
    unsigned live, at_barrier;                               // lanes
    Where barrier;
    bool fenced, unfenced;                                   // as of the lanes, up to the last __syncthreads
    char* arena;
    size_t poisoned;                                         // bytes of the arena
    std::vector<Lane> lanes;
    Warp warps[32];
    std::vector<Access> accesses;
    std::vector<unsigned> nth;                               // [line][lane]
};

Entry* entry;
Launch* launch;
unsigned threads;                        // of a block
Lane* me;                                // the lane that runs; null in the scheduler
void* scheduler;                         // its stack pointer
std::string report;
unsigned random_state, idle_rounds;
std::vector<Block> blocks;
std::vector<char*> stacks;
std::vector<LineCount> lines;
ASAN(const void* main_stack; size_t main_size; void* main_fake;)
TSAN(void* main_fiber; char finished;)

unsigned random_number() {               // xorshift32
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state >> 4;
}
template <class... T> std::string text(const char* format, T... values) {
    char line[400];
    snprintf(line, sizeof line, format, values...);
    return line;
}
std::string text(Where at) { return text("%s:%d", at.file, at.line); }
std::string text(uint3 v) { return text("(%u,%u,%u)", v.x, v.y, v.z); }
bool same(Where a, Where b) { return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file)); }
const char* name(Op op) {
    static const char* const names[] = {
        "__shfl_sync", "__shfl_xor_sync", "__shfl_up_sync", "__shfl_down_sync", "__ballot_sync", "__any_sync",
        "__all_sync", "__reduce_max_sync", "__reduce_min_sync", "__reduce_add_sync", "__reduce_and_sync",
        "__reduce_or_sync", "__reduce_xor_sync", "__match_any_sync", "__syncwarp"};
    return names[op];
}

// ---- fibers ---------------------------------------------------------------------------------------------------------
void leave(bool for_good) {              // from the running lane to the scheduler
    Lane* l = me;
    (void)for_good;
    ASAN(__sanitizer_start_switch_fiber(for_good ? nullptr : &l->fake_stack, main_stack, main_size);)
    TSAN(__tsan_switch_to_fiber(main_fiber, __tsan_switch_to_fiber_no_sync);)
    cuda_cpu_switch(&l->stack_pointer, scheduler);
    ASAN(__sanitizer_finish_switch_fiber(l->fake_stack, &main_stack, &main_size);)
}
void enter(Lane& l) {
    me = &l;
    threadIdx = l.thread;
    blockIdx = l.block->index;
    ASAN(__sanitizer_start_switch_fiber(&main_fake, l.stack, STACK);)
    TSAN(__tsan_switch_to_fiber(l.fiber, __tsan_switch_to_fiber_no_sync);)
    cuda_cpu_switch(&scheduler, l.stack_pointer);
    ASAN(__sanitizer_finish_switch_fiber(main_fake, nullptr, nullptr);)
    me = nullptr;
}
[[noreturn]] void fault(const std::string& what, Where at) {  // called by the running lane, which never goes on
    report = what + ": block " + text(me->block->index) + " thread " + text(me->thread) + " at " + text(at);
    leave(true);
    __builtin_unreachable();
}
char* map(size_t bytes) {
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("cuda_cpu: no memory");
        abort();
    }
    return (char*)p;
}
TSAN(void forget(char* s) {              // ThreadSanitizer must not see a stack's last lane in its next one
    mmap(s, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
})
char* stack(size_t i) {                  // kept for the life of the process; the guard page below stops an overflow
    while (stacks.size() <= i) {
        char* p = map(PAGE + STACK);
        mprotect(p, PAGE, PROT_NONE);
        stacks.push_back(p + PAGE);
    }
    return stacks[i];
}

// ---- what orders memory, for ThreadSanitizer ------------------------------------------------------------------------
// A fence is exact: an atomic publishes what its lane had done by the last fence and no more, and a fence takes in what
// the lane's atomics had seen by then.  So a lane with atomics has two shadow fibers which carry just that.
#ifdef CUDA_CPU_THREAD
char* fresh(size_t bytes) {              // address space never given out before: reuse would order unrelated blocks
    static char *next, *end;
    if ((size_t)(end - next) < bytes) {
        next = map(1 << 30);
        end = next + (1 << 30);
    }
    next += bytes;
    return next - bytes;
}
template <class F> void as_fiber(void* fiber, F act) {
    void* self = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync);
    act();
    __tsan_switch_to_fiber(self, __tsan_switch_to_fiber_no_sync);
}
void rendezvous(Block& b, unsigned warp, unsigned members, char* sync, bool arrive) {
    for (unsigned m = members; m; m &= m - 1) {
        Lane& l = b.lanes[warp * 32 + __builtin_ctz(m)];
        as_fiber(l.fiber, [&] { arrive ? __tsan_release(sync) : __tsan_acquire(sync); });
    }
}
void order_warp(Block& b, unsigned warp, unsigned members) {
    char* sync = fresh(64);
    for (bool arrive : {true, false}) rendezvous(b, warp, members, sync, arrive);
}
void order_block(Block& b) {
    char* sync = fresh(64);
    for (bool arrive : {true, false})
        for (unsigned i = 0; i < 32; ++i) rendezvous(b, i, b.warps[i].at_barrier, sync, arrive);
}
void order_before_atomic(Lane& l, const void* p) {
    if (!l.fenced) return;
    if (!l.published) as_fiber(main_fiber, [&] { l.published = __tsan_create_fiber(0); });
    as_fiber(l.published, [&] { __tsan_acquire(l.sync); __tsan_release((void*)p); });
}
void order_after_atomic(Lane& l, const void* p) {
    if (!l.seen) l.seen = __tsan_create_fiber(0);
    as_fiber(l.seen, [&] { __tsan_acquire((void*)p); });
}
void order_fence(Lane& l) {
    if (!l.sync) l.sync = fresh(64);
    if (l.seen) {
        as_fiber(l.seen, [&] { __tsan_release(l.sync + 32); });
        __tsan_acquire(l.sync + 32);
    }
    __tsan_release(l.sync);
}
#endif

// ---- meeting places -------------------------------------------------------------------------------------------------
void shuffle(const Lane* warp, unsigned members, Lane& l) {
    const int lane = l.index % 32, first = lane / l.width * l.width, end = first + l.width;
    const int64_t distance = (unsigned)l.argument;
    int64_t from = l.op == SHFL       ? first + (l.argument & (l.width - 1))
                   : l.op == SHFL_XOR ? lane ^ distance
                   : l.op == SHFL_UP  ? lane - distance
                                      : lane + distance;
    if (from >= end || (l.op == SHFL_UP && from < first)) from = lane;  // off the end: its own value
    if (members >> from & 1)
        l.result = warp[from].value;
    else
        l.absent = (int)from;
}
void reduce(const Lane* warp, unsigned members, Lane& l) {
    unsigned nonzero = 0, equal = 0;
    uint64_t x = warp[__builtin_ctz(members)].value;
    for (unsigned m = members; m; m &= m - 1) {
        const int j = __builtin_ctz(m);
        const uint64_t v = warp[j].value;
        nonzero |= (unsigned)(v != 0) << j;
        equal |= (unsigned)(v == l.value) << j;
        if (m == members) continue;      // the first is in x already
        if (l.op == MAX) x = std::max(x, v);
        if (l.op == MIN) x = std::min(x, v);
        if (l.op == ADD) x += v;
        if (l.op == AND) x &= v;
        if (l.op == OR) x |= v;
        if (l.op == XOR) x ^= v;
    }
    l.result = l.op == BALLOT  ? nonzero
               : l.op == ANY   ? nonzero != 0
               : l.op == ALL   ? nonzero == members
               : l.op == MATCH ? equal
                               : x;
}
void complete_collective(const Lane& l) {  // if every living lane of its mask waits in the same call
    Block& b = *l.block;
    const unsigned index = l.index / 32;
    Warp& w = b.warps[index];
    Lane* warp = &b.lanes[index * 32];
    const unsigned members = l.mask & w.live;
    if (members & ~w.at_collective) return;
    for (unsigned m = members; m; m &= m - 1) {
        const Lane& other = warp[__builtin_ctz(m)];
        if (other.op != l.op || other.mask != l.mask || !same(other.at, l.at)) return;
    }
    for (unsigned m = members; m; m &= m - 1) {
        Lane& member = warp[__builtin_ctz(m)];
        if (l.op <= SHFL_DOWN) shuffle(warp, members, member);
        else reduce(warp, members, member);
    }
    TSAN(if (l.op == SYNCWARP) order_warp(b, index, members);)
    w.at_collective &= ~members;
    w.ready |= members;
    w.released = true;
    idle_rounds = 0;
}
void complete_barrier(Block& b) {        // if every living lane waits; those that have ended need not
    if (!b.at_barrier || b.at_barrier != b.live) return;
    const void* ticket = nullptr;
    for (Lane& l : b.lanes) {            // for the ticket rule: what one lane had behind it, now each has behind it
        b.fenced |= l.fenced;
        b.unfenced |= l.unfenced;
        l.unfenced = false;
        if (l.ticket) ticket = l.ticket;
    }
    for (Lane& l : b.lanes) l.ticket = ticket;
    TSAN(order_block(b);)
    for (Warp& w : b.warps) {
        w.ready |= w.at_barrier;
        w.at_barrier = 0;
    }
    b.at_barrier = 0;
    idle_rounds = 0;
}
void lane_main() {                       // the bottom of each lane's stack
    ASAN(__sanitizer_finish_switch_fiber(nullptr, &main_stack, &main_size);)
    entry->call(launch->params);
    TSAN(__tsan_release(&finished);)
    Block& b = *me->block;
    Warp& w = b.warps[me->index / 32];
    w.live &= ~(1u << me->index % 32);
    w.ready &= w.live;
    --b.live;
    idle_rounds = 0;
    for (unsigned lane = 0; lane < 32; ++lane)  // others may have waited for this lane alone
        if (w.at_collective >> lane & 1) complete_collective(b.lanes[me->index / 32 * 32 + lane]);
    complete_barrier(b);
    leave(true);
    __builtin_unreachable();
}

// ---- blocks ---------------------------------------------------------------------------------------------------------
uint64_t block_number(uint64_t i, uint64_t n) {  // the i-th block to start
    if (launch->order == 0) return i;
    if (launch->order == 1) return n - 1 - i;
    unsigned half = 1;                   // random: a permutation of 0..n-1 without a table.  A Feistel network permutes
    while (half < 32 && 1ull << 2 * half < n) ++half;        // 2 * half bits; it is repeated until it hits the range.
    const uint64_t low = (1ull << half) - 1;
    do {
        for (unsigned round = 0; round < 4; ++round) {
            const uint64_t left = i >> half, right = i & low;
            uint64_t hash = (((uint64_t)launch->seed << 34) + (right << 2 | round)) * 0x9e3779b97f4a7c15ull;
            hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9ull;
            i = right << half | (left ^ (hash >> 32 & low));
        }
    } while (i >= n);
    return i;
}
void start(Block& b, size_t slot, uint64_t number) {
    const uint64_t x = gridDim.x, y = gridDim.y;
    b.index = {(unsigned)(number % x), (unsigned)(number / x % y), (unsigned)(number / x / y)};
    b.running = true;
    b.live = threads;
    b.at_barrier = 0;
    b.fenced = b.unfenced = false;
    b.poisoned = 0;
    b.accesses.clear();
    b.nth.clear();
    TSAN(b.arena = fresh(ARENA);)
    if (!b.arena) b.arena = map(ARENA);
    ASAN(__asan_poison_memory_region(b.arena, ARENA);)
    for (unsigned i = 0; i < 32; ++i) {
        const unsigned lanes = threads > i * 32 ? std::min(32u, threads - i * 32) : 0;
        const unsigned all = (unsigned)((1ull << lanes) - 1);
        b.warps[i] = {all, all, 0, 0, false};
    }
    b.lanes.assign(threads, Lane{});
    for (unsigned i = 0; i < threads; ++i) {
        Lane& l = b.lanes[i];
        l.block = &b;
        l.index = i;
        l.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        l.slow = launch->chaos >= 2 && random_number() % 4 == 0;
        l.stack = stack(slot * threads + i);
        TSAN(forget(l.stack);)
        void** top = (void**)(l.stack + STACK) - 2;
        *--top = nullptr;
        *--top = (void*)lane_main;       // where the first switch returns to, with six zeroed registers
        l.stack_pointer = top - 6;
        memset(l.stack_pointer, 0, 6 * sizeof(void*));
        TSAN(l.fiber = __tsan_create_fiber(0);)
    }
    idle_rounds = 0;
}
void finish(Block& b) {                  // also a block that a fault has left where it was
    auto key = [](const Access& a) { return std::tie(a.line, a.warp, a.nth, a.sector); };
    std::sort(b.accesses.begin(), b.accesses.end(), [&](auto& a, auto& c) { return key(a) < key(c); });
    for (size_t i = 0; i < b.accesses.size(); ++i) {
        const Access& a = b.accesses[i];
        const Access* last = i ? &b.accesses[i - 1] : nullptr;
        const bool new_request = !last || last->line != a.line || last->warp != a.warp || last->nth != a.nth;
        LineCount& line = lines[a.line];
        line.requests += new_request;
        line.lanes += 1;
        line.sectors += new_request || last->sector != a.sector;
    }
    for (Lane& l : b.lanes) {
        (void)l;
        TSAN(for (void* fiber : {l.fiber, l.published, l.seen}) if (fiber) __tsan_destroy_fiber(fiber);)
        ASAN(if (b.warps[l.index / 32].live >> l.index % 32 & 1) __asan_unpoison_memory_region(l.stack, STACK);)
    }
    b.running = false;
    b.live = 0;
}

// ---- scheduling -----------------------------------------------------------------------------------------------------
void run(Lane& l) {
    if (!l.slow || random_number() % 16 == 0) enter(l);
}
void run_warp(Block& b, unsigned index) {  // its lanes in order, as far as they get without other warps
    Warp& w = b.warps[index];
    do {
        w.released = false;
        for (unsigned todo = w.ready; todo && report.empty();) {
            const int lane = launch->order == 1 ? 31 - __builtin_clz(todo) : __builtin_ctz(todo);
            todo &= ~(1u << lane);
            run(b.lanes[index * 32 + lane]);
        }
    } while (w.released && report.empty());
}
void run_shuffled() {                    // each ready lane of each block once
    static std::vector<Lane*> turns;
    turns.clear();
    for (Block& b : blocks)
        for (unsigned i = 0; b.live && i < threads; ++i)
            if (b.warps[i / 32].ready >> i % 32 & 1) turns.push_back(&b.lanes[i]);
    for (size_t i = turns.size(); i > 1; --i) std::swap(turns[i - 1], turns[random_number() % i]);
    for (size_t i = 0; i < turns.size() && report.empty(); ++i) run(*turns[i]);
}
bool round() {                           // false: no lane can run
    unsigned ready = 0;
    for (Block& b : blocks)
        for (unsigned i = 0; b.live && i < 32; ++i) ready |= b.warps[i].ready;
    if (launch->order == 2) run_shuffled();
    else
        for (Block& b : blocks)
            for (unsigned i = 0; b.live && i < 32; ++i) run_warp(b, launch->order == 1 ? 31 - i : i);
    return ready;
}
char state(const Block& b, unsigned lane) {
    const Warp& w = b.warps[lane / 32];
    const unsigned bit = 1u << lane % 32;
    return w.at_collective & bit ? 'c' : w.at_barrier & bit ? 'b' : w.ready & bit ? 'r' : 0;
}
void stalled(std::string title) {        // who waits where: one line for each run of threads in the same place
    std::string list;
    int shown = 0;
    for (Block& b : blocks)
        for (unsigned i = 0, end; b.live && i < threads; i = end) {
            const Lane& l = b.lanes[i];
            const char s = state(b, i);
            for (end = i + 1; end < threads && state(b, end) == s; ++end) {
                const Lane& other = b.lanes[end];
                if (s && !same(l.at, other.at)) break;
                if (s == 'c' && (l.op != other.op || l.mask != other.mask)) break;
            }
            if (!s) continue;
            if (end < threads && end % 32 && s == 'c' && state(b, end) == 'c')
                title = same(l.at, b.lanes[end].at) ? "mismatched warp collective" : "divergent warp collective";
            const std::string what = s == 'b'   ? "wait in __syncthreads"
                                     : s == 'r' ? "spin"
                                                : text("wait in %s mask 0x%08x", name(l.op), l.mask);
            if (++shown <= 8)
                list += "\n  block " + text(b.index) + text(" threads %u-%u ", i, end - 1) + what + " at " + text(l.at);
        }
    report = title + ": no thread can go on" + list + (shown > 8 ? text("\n  and %d more", shown - 8) : "");
}
std::string unlaunchable() {
    const uint3 g = gridDim, b = blockDim;
    const uint64_t size = (uint64_t)b.x * b.y * b.z;
    std::string rule;
    if (!g.x || !g.y || !g.z || !size) rule = "a zero dimension";
    else if (g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) rule = "grid over (2147483647,65535,65535)";
    else if (b.x > 1024 || b.y > 1024 || b.z > 64 || size > 1024) rule = "block over 1024 threads or (1024,1024,64)";
    else if (size > entry->max_threads)
        rule = text("block over the kernel's __launch_bounds__(%u)", entry->max_threads);
    else if (size * launch->resident > LANES_MAX) rule = text("over %zu threads in resident blocks", LANES_MAX);
    return rule.empty() ? "" : "invalid launch: " + rule + ": grid " + text(g) + " block " + text(b);
}

// ---- memory ---------------------------------------------------------------------------------------------------------
bool is_shared(const void* p) { return (size_t)((const char*)p - me->block->arena) < ARENA; }
void count_request(uintptr_t address, Where at) {
    Block& b = *me->block;
    unsigned line = 0;
    while (line < lines.size() && !same(at, {lines[line].file, lines[line].line})) ++line;
    if (line == lines.size()) lines.push_back({at.file, at.line, 0, 0, 0});
    if (b.nth.size() < (line + 1) * threads) b.nth.resize((line + 1) * threads);
    b.accesses.push_back({line, me->index / 32, b.nth[line * threads + me->index]++, address / 32});
}
void check(const void* p, size_t bytes, const char* what, bool load, Where at) {
    const uintptr_t a = (uintptr_t)p;
    bool inside = !launch->watch_count, counted = false;
    if (a % bytes) fault(text("misaligned %s of %zu bytes", what, bytes), at);
    for (size_t i = 0; i < launch->watch_count; ++i) {
        const Watch& w = launch->watches[i];
        if (a < w.begin || a + bytes > w.end) continue;
        inside = true;
        if (!load || !w.counts) continue;
        counted = true;
        for (uint8_t* c = w.counts + (a - w.begin); c < w.counts + (a - w.begin) + bytes; ++c) *c += *c != 255;
    }
    if (!inside) fault(text("%s of %zu bytes outside every registered buffer", what, bytes), at);
    if (counted) count_request(a, at);
}
void maybe_yield() {
    if (launch->chaos && random_number() % 4 == 0) leave(false);
}
}  // namespace

// ---- what the kernel calls ------------------------------------------------------------------------------------------
extern "C" {
void cuda_cpu_syncthreads(Where at) {
    Block& b = *me->block;
    Warp& w = b.warps[me->index / 32];
    const unsigned bit = 1u << me->index % 32;
    if (b.at_barrier && !same(at, b.barrier))
        fault("divergent __syncthreads (others wait at " + text(b.barrier) + ")", at);
    me->at = b.barrier = at;
    ++b.at_barrier;
    w.ready &= ~bit;
    w.at_barrier |= bit;
    complete_barrier(b);
    leave(false);
}
uint64_t cuda_cpu_collective(Op op, unsigned mask, uint64_t value, int argument, int width, Where at) {
    Lane& l = *me;
    Warp& w = l.block->warps[l.index / 32];
    const unsigned bit = 1u << l.index % 32;
    if (!(mask & bit)) fault(text("lane not in its own mask 0x%08x of %s", mask, name(op)), at);
    if (width < 1 || width > 32 || width & (width - 1))
        fault(text("%s width %d is no power of two up to 32", name(op), width), at);
    l.op = op;
    l.mask = mask;
    l.value = value;
    l.argument = argument;
    l.width = width;
    l.absent = -1;
    l.at = at;
    w.ready &= ~bit;
    w.at_collective |= bit;
    complete_collective(l);
    leave(false);
    if (l.absent >= 0) fault(text("%s from absent lane %d", name(op), l.absent), at);
    return l.result;
}
void* cuda_cpu_shared(SharedSite* site, Where at) {
    Block& b = *me->block;
    if (site->offset < 0) {              // placed once for the kernel, with a gap behind that AddressSanitizer guards
        const size_t align = std::max<size_t>(site->align, 16), begin = (entry->shared_end + align - 1) & ~(align - 1);
        const size_t sum = entry->shared_bytes + site->bytes;
        if (sum > SHARED_MAX || begin + site->bytes > ARENA)
            fault(text("static shared memory over 48 KiB: %zu bytes", sum), at);
        site->offset = begin;
        entry->shared_bytes = sum;
        entry->shared_end = begin + site->bytes + 32;
    }
    char *variable = b.arena + site->offset, *clean = b.arena + b.poisoned, *end = variable + site->bytes;
    if (clean < end) {
        ASAN(__asan_unpoison_memory_region(clean, end - clean);)
        memset(clean, 0xA5, end - clean);
        ASAN(__asan_poison_memory_region(clean, end - clean);)
        b.poisoned = end - b.arena;
    }
    ASAN(__asan_unpoison_memory_region(variable, site->bytes);)
    return variable;
}
void cuda_cpu_load(const void* address, size_t bytes, Where at) {
    if (is_shared(address)) fault("__ldg of shared memory", at);
    check(address, bytes, "__ldg", true, at);
    launch->loads[__builtin_ctzll(bytes)]++;
}
// The ticket rule ('last block finishes'): a block's work must be fenced before its atomicInc, and the thread that
// draws the last ticket must fence before its next atomic, or it may miss the others' work.  Any atomicInc in global
// memory is taken for a ticket; atomicAdd is not: a list that grows looks the same.  ThreadSanitizer judges both.
void cuda_cpu_before_atomic(const void* p, size_t bytes, AtomicKind kind, Where at) {
    Lane& l = *me;
    const Block& b = *l.block;
    l.at = at;
    if (++l.atomics % 64 == 0) leave(false);  // a thread that spins lets the others run
    else maybe_yield();
    if (is_shared(p)) return;
    check(p, bytes, "atomic", false, at);
    if (l.ticket && l.ticket != p) fault("atomic after the last ticket without a __threadfence between", at);
    if (kind == PLAIN) l.unfenced = true;
    else if (l.unfenced || b.unfenced) fault("ticket without a __threadfence after earlier atomics", at);
    else if (!l.fenced && !b.fenced) fault("ticket without a __threadfence before it", at);
    TSAN(order_before_atomic(l, p);)
}
void cuda_cpu_after_atomic(const void* p, bool changed, bool last_ticket) {
    if (changed) idle_rounds = 0;
    if (is_shared(p)) return;
    if (last_ticket) me->ticket = p;
    TSAN(order_after_atomic(*me, p);)
}
void cuda_cpu_fence(Where at) {
    me->at = at;
    maybe_yield();
    me->fenced = true;
    me->unfenced = me->block->unfenced = false;
    me->ticket = nullptr;
    TSAN(order_fence(*me);)
}
unsigned cuda_cpu_lane() { return me->index % 32; }
void cuda_cpu_trap(Where at) { fault("__trap", at); }

// Returns the finding, or an empty string.
const char* cuda_cpu_launch(Entry* kernel, Launch* l) {
    entry = kernel;
    launch = l;
    gridDim = {l->grid[0], l->grid[1], l->grid[2]};
    blockDim = {l->block[0], l->block[1], l->block[2]};
    lines.clear();
    report = unlaunchable();
    if (!report.empty()) return report.c_str();
    threads = blockDim.x * blockDim.y * blockDim.z;
    random_state = l->seed * 2654435761u | 1;
    const size_t slots = l->resident;
    if (blocks.size() < slots) blocks.resize(slots);
    TSAN(main_fiber = __tsan_get_current_fiber();)
    const uint64_t total = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
    uint64_t next = 0;
    while (report.empty()) {
        bool any = false;
        for (size_t slot = 0; slot < slots; ++slot) {
            Block& b = blocks[slot];
            if (b.running && !b.live) finish(b);
            if (!b.running && next < total) start(b, slot, block_number(next++, total));
            any |= b.running;
        }
        if (!any) break;
        ++idle_rounds;
        if (!round()) stalled("deadlock");
        else if (report.empty() && idle_rounds > PATIENCE) stalled("livelock");
    }
    for (Block& b : blocks)
        if (b.running) finish(b);
    TSAN(__tsan_acquire(&finished);)
    l->lines = lines.data();
    l->line_count = lines.size();
    return report.c_str();
}
}
