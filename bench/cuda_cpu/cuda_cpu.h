// The CUDA that a kernel source sees when g++ compiles it (C++17, x86-64 Linux).  Tests only; comes before the kernel.
//
// Each CUDA thread becomes a fiber, and every built-in at which threads meet, or whose use can be wrong, calls
// runtime.cpp, which decides who runs next and checks the call.  The rest is plain C++ with CUDA's own results
// (saturating conversions, max that ignores NaN, shifts and bit counts of zero).  What has no faithful twin on a CPU
// (__expf, inline asm, float atomicMax, a bare __shared__) is not defined here, so using it fails to compile;
// __CUDA_ARCH__ is not defined either.
//
// Default arguments __builtin_FILE() and __builtin_LINE() are evaluated at the call, so every report and every count
// names the line of the .cu file without any change to the kernel.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct uint3 { unsigned x, y, z; };

// ---- between header, runtime and executor.py ------------------------------------------------------------------------
namespace cuda_cpu {
struct Where { const char* file; int line; };                        // a place in the kernel source
enum Op { SHFL, SHFL_XOR, SHFL_UP, SHFL_DOWN, BALLOT, ANY, ALL, MAX, MIN, ADD, AND, OR, XOR, MATCH, SYNCWARP };
enum AtomicKind { PLAIN, TICKET };                                    // TICKET: atomicInc, 'last block finishes'
struct SharedSite { size_t bytes, align; ptrdiff_t offset; };         // one SHARED() variable; -1: not placed yet
struct Entry {                                                        // one kernel
    size_t params_bytes;
    unsigned max_threads;                                             // of __launch_bounds__
    void (*call)(const void* params);
    size_t shared_bytes, shared_end;                                  // sum of the SHARED() sizes, end of their layout
};
struct Watch { uintptr_t begin, end; uint8_t* counts; };              // counts: one byte for each, at most 255; or null
struct LineCount { const char* file; int line; uint64_t requests, lanes, sectors; };
struct Launch {                                                       // mirrored by executor.py, field by field
    unsigned grid[3], block[3];
    const void* params;
    int order; unsigned seed; int resident, chaos;                    // order 0 forward, 1 reverse, 2 random
    const Watch* watches; size_t watch_count;
    uint64_t loads[5];                                                // out: __ldg of 1, 2, 4, 8, 16 bytes, added to
    const LineCount* lines; size_t line_count;                        // out: this launch alone
};
extern "C" {
void cuda_cpu_syncthreads(Where at);
uint64_t cuda_cpu_collective(Op op, unsigned mask, uint64_t value, int argument, int width, Where at);
void* cuda_cpu_shared(SharedSite* site, Where at);
void cuda_cpu_load(const void* address, size_t bytes, Where at);      // returns only if the load may be done
void cuda_cpu_before_atomic(const void* address, size_t bytes, AtomicKind kind, Where at);
void cuda_cpu_after_atomic(const void* address, bool changed, bool last_ticket);
void cuda_cpu_fence(Where at);
unsigned cuda_cpu_lane();
[[noreturn]] void cuda_cpu_trap(Where at);
}
}  // namespace cuda_cpu
#ifdef CUDA_CPU_RUNTIME
extern "C" uint3 threadIdx, blockIdx, blockDim, gridDim;
#else
extern "C" const uint3 threadIdx, blockIdx, blockDim, gridDim;        // runtime.cpp sets them whenever a fiber goes on

// ---- the language ---------------------------------------------------------------------------------------------------
#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __constant__ static const
#define __launch_bounds__(...)                                        // executor.py passes the bound to CUDA_CPU_ENTRY
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define CUDA_CPU_AT cuda_cpu::Where at = {__builtin_FILE(), __builtin_LINE()}
#define SHARED(Type, name)                                                                                 \
    static cuda_cpu::SharedSite name##_site = {sizeof(Type), alignof(Type), -1};                           \
    Type& name = *static_cast<Type*>(                                                                      \
        cuda_cpu::cuda_cpu_shared(&name##_site, {__builtin_FILE(), __builtin_LINE()}))

#define CUDA_CPU_VECTOR(T, name)                                                                           \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                     \
    struct alignas(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; };                         \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                             \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_CPU_VECTOR(signed char, char) CUDA_CPU_VECTOR(unsigned char, uchar)
CUDA_CPU_VECTOR(short, short) CUDA_CPU_VECTOR(unsigned short, ushort)
CUDA_CPU_VECTOR(int, int) CUDA_CPU_VECTOR(unsigned, uint) CUDA_CPU_VECTOR(float, float)
CUDA_CPU_VECTOR(long long, longlong) CUDA_CPU_VECTOR(unsigned long long, ulonglong) CUDA_CPU_VECTOR(double, double)

// ---- bits and numbers -----------------------------------------------------------------------------------------------
namespace cuda_cpu {
template <class To, class From> inline To bits_of(From v) {
    static_assert(sizeof(From) <= sizeof(To), "the value does not fit");
    To out{}; __builtin_memcpy(&out, &v, sizeof v); return out;
}
template <class To> inline To from_bits(uint64_t u) { To out; __builtin_memcpy(&out, &u, sizeof out); return out; }
template <class Int> inline Int saturate(float v) {                   // v is whole already; NaN becomes 0, as in CUDA
    constexpr Int low = Int(-1) < 0 ? Int(1u << 31) : Int(0), high = Int(-1) < 0 ? Int(0x7fffffff) : Int(-1);
    return v != v ? Int(0) : v <= (float)low ? low : v >= (float)high ? high : (Int)v;
}
template <class T> struct Same { using type = T; };                   // keeps an argument out of type deduction
template <class T> using same = typename Same<T>::type;
}  // namespace cuda_cpu
extern "C" {
float expf(float), exp2f(float), exp10f(float), expm1f(float), logf(float), log2f(float), log10f(float), log1pf(float);
float sqrtf(float), cbrtf(float), powf(float, float), hypotf(float, float), fmodf(float, float);
float fmaf(float, float, float);
float floorf(float), ceilf(float), truncf(float), roundf(float), rintf(float), nearbyintf(float), fabsf(float);
float sinf(float), cosf(float), tanf(float), asinf(float), acosf(float), atanf(float), atan2f(float, float);
float sinhf(float), coshf(float), tanhf(float), erff(float), copysignf(float, float), ldexpf(float, int);
double exp(double), log(double), sqrt(double), floor(double), ceil(double), rint(double), fabs(double);
void* memcpy(void*, const void*, size_t); void* memset(void*, int, size_t);
}
inline float __uint_as_float(unsigned u) { return cuda_cpu::bits_of<float>(u); }
inline float __int_as_float(int i) { return cuda_cpu::bits_of<float>(i); }
inline unsigned __float_as_uint(float f) { return cuda_cpu::bits_of<unsigned>(f); }
inline int __float_as_int(float f) { return cuda_cpu::bits_of<int>(f); }
inline int __float2int_rn(float f) { return cuda_cpu::saturate<int>(rintf(f)); }
inline int __float2int_rd(float f) { return cuda_cpu::saturate<int>(floorf(f)); }
inline int __float2int_ru(float f) { return cuda_cpu::saturate<int>(ceilf(f)); }
inline int __float2int_rz(float f) { return cuda_cpu::saturate<int>(truncf(f)); }
inline unsigned __float2uint_rn(float f) { return cuda_cpu::saturate<unsigned>(rintf(f)); }
inline unsigned __float2uint_rz(float f) { return cuda_cpu::saturate<unsigned>(truncf(f)); }
inline float __int2float_rn(int i) { return (float)i; }
inline float __uint2float_rn(unsigned u) { return (float)u; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline bool isnan(float f) { return f != f; }
inline bool isinf(float f) { return __builtin_isinf(f); }
inline bool isfinite(float f) { return __builtin_isfinite(f); }
inline float fmaxf(float a, float b) {                                // NaN loses; +0 is above -0
    return a != a ? b : b != b ? a : a > b || (a == b && !__builtin_signbit(a)) ? a : b;
}
inline float fminf(float a, float b) {
    return a != a ? b : b != b ? a : a < b || (a == b && __builtin_signbit(a)) ? a : b;
}
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
#define CUDA_CPU_MINMAX(R, A, B)                                                                           \
    inline R max(A a, B b) { return (R)a > (R)b ? (R)a : (R)b; }                                           \
    inline R min(A a, B b) { return (R)a < (R)b ? (R)a : (R)b; }
CUDA_CPU_MINMAX(int, int, int) CUDA_CPU_MINMAX(unsigned, unsigned, unsigned)
CUDA_CPU_MINMAX(unsigned, int, unsigned) CUDA_CPU_MINMAX(unsigned, unsigned, int)
CUDA_CPU_MINMAX(long, long, long) CUDA_CPU_MINMAX(unsigned long, unsigned long, unsigned long)
CUDA_CPU_MINMAX(long long, long long, long long)
CUDA_CPU_MINMAX(unsigned long long, unsigned long long, unsigned long long)
inline int abs(int v) { return v < 0 ? -v : v; }
inline float abs(float v) { return fabsf(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline unsigned __brev(unsigned v) {
    unsigned out = 0;
    for (int i = 0; i < 32; ++i) out |= (v >> i & 1u) << (31 - i);
    return out;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {   // three bits of each nibble choose a byte
    uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; ++i) out |= (unsigned)(bytes >> (selector >> 4 * i & 7u) * 8 & 0xffu) << 8 * i;
    return out;
}

// ---- threads meet ---------------------------------------------------------------------------------------------------
inline void __syncthreads(CUDA_CPU_AT) { cuda_cpu::cuda_cpu_syncthreads(at); }
inline void __syncwarp(unsigned mask = ~0u, CUDA_CPU_AT) {
    cuda_cpu::cuda_cpu_collective(cuda_cpu::SYNCWARP, mask, 0, 0, 32, at);
}
inline unsigned __activemask() { return 1u << cuda_cpu::cuda_cpu_lane(); }  // fibers run one by one: the honest answer
#define CUDA_CPU_SHUFFLE(name, op, Argument)                                                               \
    template <class T> inline T name(unsigned mask, T value, Argument n, int width = 32, CUDA_CPU_AT) {    \
        static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles values of 4 or 8 bytes");           \
        const uint64_t bits = cuda_cpu::bits_of<uint64_t>(value);                                          \
        return cuda_cpu::from_bits<T>(cuda_cpu::cuda_cpu_collective(op, mask, bits, (int)n, width, at));   \
    }
CUDA_CPU_SHUFFLE(__shfl_sync, cuda_cpu::SHFL, int)
CUDA_CPU_SHUFFLE(__shfl_xor_sync, cuda_cpu::SHFL_XOR, int)
CUDA_CPU_SHUFFLE(__shfl_up_sync, cuda_cpu::SHFL_UP, unsigned)
CUDA_CPU_SHUFFLE(__shfl_down_sync, cuda_cpu::SHFL_DOWN, unsigned)
#define CUDA_CPU_VOTE(R, name, op)                                                                         \
    inline R name(unsigned mask, int predicate, CUDA_CPU_AT) {                                             \
        return (R)cuda_cpu::cuda_cpu_collective(op, mask, predicate != 0, 0, 32, at);                      \
    }
CUDA_CPU_VOTE(unsigned, __ballot_sync, cuda_cpu::BALLOT)
CUDA_CPU_VOTE(int, __any_sync, cuda_cpu::ANY)
CUDA_CPU_VOTE(int, __all_sync, cuda_cpu::ALL)
#define CUDA_CPU_REDUCE(name, op)                                                                          \
    inline unsigned name(unsigned mask, unsigned value, CUDA_CPU_AT) {                                     \
        return (unsigned)cuda_cpu::cuda_cpu_collective(op, mask, value, 0, 32, at);                        \
    }
CUDA_CPU_REDUCE(__reduce_max_sync, cuda_cpu::MAX) CUDA_CPU_REDUCE(__reduce_min_sync, cuda_cpu::MIN)
CUDA_CPU_REDUCE(__reduce_add_sync, cuda_cpu::ADD) CUDA_CPU_REDUCE(__reduce_and_sync, cuda_cpu::AND)
CUDA_CPU_REDUCE(__reduce_or_sync, cuda_cpu::OR) CUDA_CPU_REDUCE(__reduce_xor_sync, cuda_cpu::XOR)
template <class T> inline unsigned __match_any_sync(unsigned mask, T value, CUDA_CPU_AT) {
    const uint64_t bits = cuda_cpu::bits_of<uint64_t>(value);
    return (unsigned)cuda_cpu::cuda_cpu_collective(cuda_cpu::MATCH, mask, bits, 0, 32, at);
}
// CUDA has signed overloads, and no 64-bit ones: neither may convert silently.
template <class T> T __reduce_max_sync(unsigned, T) = delete;
template <class T> T __reduce_min_sync(unsigned, T) = delete;

// ---- memory ---------------------------------------------------------------------------------------------------------
template <class T> inline T __ldg(const T* p, CUDA_CPU_AT) {
    static_assert(sizeof(T) == alignof(T) && sizeof(T) <= 16, "__ldg takes the built-in scalar and vector types");
    cuda_cpu::cuda_cpu_load(p, sizeof(T), at);
    return *p;
}
inline void __threadfence(CUDA_CPU_AT) { cuda_cpu::cuda_cpu_fence(at); }
inline void __threadfence_system(CUDA_CPU_AT) { cuda_cpu::cuda_cpu_fence(at); }
inline void __threadfence_block() {}                                  // orders nothing between blocks: no fence here
[[noreturn]] inline void __trap(CUDA_CPU_AT) { cuda_cpu::cuda_cpu_trap(at); }
namespace cuda_cpu {
// No fiber runs between load and store, so no update is lost.  Both are atomic and relaxed to ThreadSanitizer.
template <class T, class F> inline T update(T* p, AtomicKind kind, Where at, F next) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA's atomics here take 4 or 8 bytes");
    cuda_cpu_before_atomic(p, sizeof(T), kind, at);
    T old, now;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    now = next(old);
    __atomic_store(p, &now, __ATOMIC_RELAXED);
    cuda_cpu_after_atomic(p, __builtin_memcmp(&old, &now, sizeof(T)) != 0, kind == TICKET && now == T(0));
    return old;
}
}  // namespace cuda_cpu
#define CUDA_CPU_ATOMIC(name, result)                                                                      \
    template <class T> inline T name(T* p, cuda_cpu::same<T> v, CUDA_CPU_AT) {                             \
        return cuda_cpu::update(p, cuda_cpu::PLAIN, at, [=](T old) -> T { return result; });               \
    }
CUDA_CPU_ATOMIC(atomicAdd, old + v) CUDA_CPU_ATOMIC(atomicExch, v) CUDA_CPU_ATOMIC(atomicAnd, old & v)
CUDA_CPU_ATOMIC(atomicOr, old | v) CUDA_CPU_ATOMIC(atomicXor, old ^ v)
CUDA_CPU_ATOMIC(atomicMax, old > v ? old : v) CUDA_CPU_ATOMIC(atomicMin, old < v ? old : v)
float atomicMax(float*, float) = delete;
float atomicMin(float*, float) = delete;
template <class T> inline T atomicCAS(T* p, cuda_cpu::same<T> expected, cuda_cpu::same<T> v, CUDA_CPU_AT) {
    return cuda_cpu::update(p, cuda_cpu::PLAIN, at, [=](T old) -> T { return old == expected ? v : old; });
}
inline unsigned atomicInc(unsigned* p, unsigned limit, CUDA_CPU_AT) {
    return cuda_cpu::update(p, cuda_cpu::TICKET, at, [=](unsigned old) { return old >= limit ? 0u : old + 1u; });
}

// ---- the way in -----------------------------------------------------------------------------------------------------
namespace cuda_cpu {
template <auto kernel> struct Call;
template <class Params, void (*kernel)(Params)> struct Call<kernel> {
    static constexpr size_t bytes = sizeof(Params);
    static void call(const void* params) { kernel(*static_cast<const Params*>(params)); }
};
constexpr unsigned first(unsigned threads, ...) { return threads; }
}  // namespace cuda_cpu
#define CUDA_CPU_ENTRY(kernel, ...)                                                                        \
    extern "C" __attribute__((visibility("default"))) cuda_cpu::Entry cuda_cpu_entry;                      \
    cuda_cpu::Entry cuda_cpu_entry = {cuda_cpu::Call<&kernel>::bytes, cuda_cpu::first(__VA_ARGS__),        \
                                      &cuda_cpu::Call<&kernel>::call, 0, 0};
#endif
