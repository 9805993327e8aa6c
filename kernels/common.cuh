// common.cuh: what every kernel uses. Integer types, the sigmoid, the last step of a keypoint, and where threads meet:
// the maximum over a warp and over a block, and which block of several is the last to finish.
//
// A block has at most 1024 threads, a multiple of 32, along x alone. Inline assembly and __CUDA_ARCH__ stand only in
// one-line primitives; the C++ beside each is what older GPUs and the CPU run.

typedef unsigned char u8_t;
typedef unsigned short u16_t;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

// of a block, or fewer where there is less to do; all lanes of a warp
#define THREADS 256
#define FULL 0xffffffffu

#ifndef SHARED
#define SHARED(Type, name) __shared__ Type name
#endif
#define INLINE __device__ __forceinline__

INLINE u32 lane_id() { return threadIdx.x % 32; }
INLINE u64 larger(u64 a, u64 b) { return a > b ? a : b; }

INLINE float quiet_nan() { return __uint_as_float(0x7fc00000); }
INLINE float minus_infinity() { return __uint_as_float(0xff800000); }
INLINE float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

// ---- a keypoint in the caller's coordinates

// Params has: affine, which is 0 for no matrix, 1 for `matrix` and all rows, 2 for that of the row in `transforms`,
// whose rows lie `transform_stride` floats apart; a matrix is 2x3.
template <class Params>
INLINE void transform_point(const Params& p, u64 row, float& x, float& y) {
    if (!p.affine) return;
    float m[6];
#pragma unroll
    for (int i = 0; i < 6; ++i) m[i] = p.affine == 1 ? p.matrix[i] : __ldg(p.transforms + row * p.transform_stride + i);
    const float tx = m[0] * x + m[1] * y + m[2];
    y = m[3] * x + m[4] * y + m[5];
    x = tx;
}

// ---- maxima: every lane of the warp, or every thread of the block, calls

INLINE u64 warp_max(u64 v) {  // to all lanes
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    u32 high = __reduce_max_sync(FULL, (u32)(v >> 32));
    u32 low = __reduce_max_sync(FULL, (u32)(v >> 32) == high ? (u32)v : 0u);
    return (u64)high << 32 | low;
#else
#pragma unroll
    for (int lane = 16; lane; lane /= 2) v = larger(v, __shfl_xor_sync(FULL, v, lane));
    return v;
#endif
}

INLINE float warp_max(float v) {  // to all lanes; NaN is passed over
#pragma unroll
    for (int lane = 16; lane; lane /= 2) v = fmaxf(v, __shfl_xor_sync(FULL, v, lane));
    return v;
}

// The largest of each warp to `parts`, in shared memory, of which there is at least one for each warp.
template <u32 N>
INLINE void share_warp_max(u64 (&parts)[N], u32 warp, u32 lane, u64 mine) {
    const u64 of_warp = warp_max(mine);
    if (lane == 0) parts[warp] = of_warp;
    __syncthreads();
}

// The maximum over a block of `warps` warps, to all threads. `parts` may be written again after the next barrier.
template <u32 N>
INLINE u64 block_max(u64 (&parts)[N], u32 warps, u64 mine) {
    share_warp_max(parts, threadIdx.x / 32, lane_id(), mine);
    u64 of_block = 0;
    for (u32 w = 0; w < warps; ++w) of_block = larger(of_block, parts[w]);
    return of_block;
}

// The same to `result`, in shared memory, by the first warp, which takes less time. To be read after the next barrier.
template <u32 N>
INLINE void store_block_max(u64 (&parts)[N], u64 mine, u64& result) {
    const u32 warp = threadIdx.x / 32, lane = lane_id();
    share_warp_max(parts, warp, lane, mine);
    if (warp) return;
    const u64 of_block = warp_max(lane < blockDim.x / 32 ? parts[lane] : 0);
    if (lane == 0) result = of_block;
}

// ---- order between blocks

// What this thread has seen done comes before what it does next.
INLINE void fence() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
    asm volatile("fence.acq_rel.gpu;" ::: "memory");  // __threadfence() is sequentially consistent, which costs more
#else
    __threadfence();
#endif
}

// Whether this block is the last of the `gridDim.y` that share a ticket: it sees what all of them did before they
// called. All threads call. `ticket` is zero before the first call and after the last, `last` is in shared memory, and
// one thread of the last block does `first` before any thread returns.
template <class First>
INLINE bool is_last_block(u32* ticket, u32& last, const First& first) {
    __syncthreads();
    if (threadIdx.x == 0) {  // behind the barrier one thread's fences order what all have done
        fence();
        last = atomicInc(ticket, gridDim.y - 1) == gridDim.y - 1;
        fence();
        if (last) first();
    }
    __syncthreads();
    return last;
}
