// peaks.cu: the best local maxima of each map, in one launch.
//
// A cell (y, x) of heatmaps[b, k] is a peak if its value is at least the threshold and no neighbour in the clipped window of
// 2 radius + 1 cells is larger (plateau "all"), or every neighbour is smaller ("none"). A NaN cell, a cell with NaN in its
// window and a cell of -inf are none. The max_peaks best are written, by value, then y, then x; `left_out` counts the others.
// Rules and source: posepost/ref/peaks.py, the NumPy twin.
//
// heatmaps (B, K, H, W), any strides; points (B, K, M, 2) as (x, y) in cells, scores (B, K, M), counts and left_out (B, K).
//
// Parallel plan. A block takes a map. Every thread looks at its cells; the few above the threshold look at their window too, and
// peaks go to the map's list, which has room for all its cells, in any order. Then, as often as there is room for a peak,
// the block takes the largest packed value off the list: no sort, and the order of the list does not matter.

#include "argmax.cuh"

#define THREADS 256

struct Params {
    const void* heatmaps;
    float* points;
    float* scores;
    u32* counts;
    u32* left_out;
    u64* list;  // (B * K, H * W) workspace
    i64 stride_b, stride_k, stride_y, stride_x;  // in elements
    u32 K, H, W;
    u32 max_peaks;
    u32 least_key;     // key of the least value of a peak
    u32 radius;
    u32 strict;        // 1: every neighbour must be smaller
    u32 sigmoid;       // 1 where the maps are logits
    float scale, zero;  // integer maps: value = (q - zero) * scale
};

typedef ELEMENT E;

struct Scratch {
    u64 best[THREADS / 32];
    u32 found;
};

INLINE bool is_peak(const Params& p, const E::Raw* map, u32 y, u32 x, u32 key) {
    if (!E::INTEGER && key == E::key(E::PER_VECTOR == 4 ? 0x7fffffffu : 0x7fffu)) return false;  // NaN
    const u32 bottom = min(p.H - 1, y + p.radius), right = min(p.W - 1, x + p.radius);
    for (u32 v = y - min(y, p.radius); v <= bottom; ++v)
        for (u32 u = x - min(x, p.radius); u <= right; ++u) {
            if (v == y && u == x) continue;
            const u32 other = E::key(__ldg(map + v * p.stride_y + u * p.stride_x));
            if (p.strict ? other >= key : other > key) return false;
        }
    return true;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) find_peaks(const __grid_constant__ Params p) {
    SHARED(Scratch, s);
    const u64 row = blockIdx.x;  // ranges [0, B * K)
    const u64 image = row / p.K;
    const u32 k = (u32)(row - image * p.K), cells = p.H * p.W, t = threadIdx.x;
    const E::Raw* map = (const E::Raw*)p.heatmaps + image * p.stride_b + k * p.stride_k;
    u64* list = p.list + row * cells;

    if (t == 0) s.found = 0;
    __syncthreads();
    for (u32 i = t; i < cells; i += THREADS) {
        const u32 y = i / p.W, x = i - y * p.W;
        const u32 key = E::key(__ldg(map + y * p.stride_y + x * p.stride_x));
        if (key >= p.least_key && is_peak(p, map, y, x, key)) list[atomicAdd(&s.found, 1u)] = pack(key, i);
    }
    __syncthreads();
    const u32 found = s.found, count = min(found, p.max_peaks);

    for (u32 m = 0; m < count; ++m) {
        u64 mine = 0;  // a thread looks after the entries t, t + THREADS, ... from beginning to end
        u32 at = 0;
        for (u32 i = t; i < found; i += THREADS)
            if (list[i] > mine) {
                mine = list[i];
                at = i;
            }
        const u64 of_warp = warp_max(mine);
        if (t % 32 == 0) s.best[t / 32] = of_warp;
        __syncthreads();
        u64 best = 0;
        for (u32 w = 0; w < THREADS / 32; ++w) best = larger(best, s.best[w]);
        if (mine == best) list[at] = 0;
        if (t == 0) {
            const u64 to = row * p.max_peaks + m;
            float score = E::value(key_of(best));
            if (E::INTEGER) score = (score - p.zero) * p.scale;
            if (p.sigmoid) score = 1.0f / (1.0f + expf(-score));
            p.points[2 * to] = (float)(position_of(best) % p.W);
            p.points[2 * to + 1] = (float)(position_of(best) / p.W);
            p.scores[to] = score;
        }
        __syncthreads();
    }
    for (u64 m = row * p.max_peaks + count + t; m < (row + 1) * p.max_peaks; m += THREADS)
        p.points[2 * m] = p.points[2 * m + 1] = p.scores[m] = 0.0f;
    if (t == 0) {
        p.counts[row] = count;
        p.left_out[row] = found - count;
    }
}
