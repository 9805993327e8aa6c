// floors.cu: what the hardware allows, to measure a decoder against.
//
// `empty` does nothing on the grid of the decoder. `read` loads the same bytes once by 16-byte loads, four in flight a
// thread, and keeps an exclusive or of them, which is written for one value in 2^32: the loads cannot be left out.

typedef unsigned int u32;
typedef unsigned long long u64;

struct Params {
    const uint4* data;
    u32* out;
    u64 vectors;
};

extern "C" __global__ void __launch_bounds__(256) empty(const __grid_constant__ Params p) {}

extern "C" __global__ void __launch_bounds__(256) read(const __grid_constant__ Params p) {
    const u64 threads = (u64)gridDim.x * blockDim.x;
    u32 seen = 0;
    for (u64 v = (u64)blockIdx.x * blockDim.x + threadIdx.x; v < p.vectors; v += 4 * threads) {
        uint4 loaded[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (v + i * threads < p.vectors) loaded[i] = __ldg(p.data + v + i * threads);
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (v + i * threads < p.vectors) seen ^= loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
    }
    if (seen == 0x9e3779b9u) *p.out = seen;
}
