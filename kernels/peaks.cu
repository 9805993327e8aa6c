// peaks.cu: the best local maxima of each map, in one launch.
//
// A cell (y, x) of heatmaps[b, k] is a peak if its value is at least the threshold and no neighbour in the clipped window of
// 2 radius + 1 cells is larger (plateau "all"), or every neighbour is smaller ("none"). A NaN cell, a cell with NaN in its
// window and a cell of -inf are none. The max_peaks best are written, by value, then y, then x; `left_out` counts the others.
// A point is its cell, refined by refine.cuh. Rules and source: posepost/ref/peaks.py, the NumPy twin.
//
// heatmaps (B, K, H, W), any strides; points (B, K, M, 2) as (x, y) in cells, scores (B, K, M), counts and left_out (B, K).
//
// Parallel plan. A block takes a map. Every thread looks at its cells; the few above the threshold look at their window too, and
// peaks go to the map's list, which has room for all its cells, in any order. Then, as often as there is room for a peak,
// the block takes the largest packed value off the list: no sort, and the order of the list does not matter. Then each warp
// refines the next peak; where a clip of DARK could act, it does so again with the maximum of the blurred map.

#include "argmax.cuh"

#define THREADS 256

struct Params {
    const void* heatmaps;
    float* points;
    float* scores;
    u32* counts;
    u32* left_out;
    u64* list;   // (B * K, H * W) workspace
    u64* taken;  // (B * K, max_peaks) workspace: the best, in order
    i64 stride_b, stride_k, stride_y, stride_x;  // in elements
    u32 K, H, W;
    u32 max_peaks;
    u32 least_key;     // key of the least value of a peak
    u32 radius;
    u32 strict;        // 1: every neighbour must be smaller
    u32 sigmoid;       // 1 where the maps are logits
    u32 refine, guard, border, reach, positive, blur;  // refine.cuh
    float scale, zero;  // integer maps: value = (q - zero) * scale
    float beta;
    float taps[35];
};

typedef ELEMENT E;

#include "refine.cuh"

struct Map {
    const Params& p;
    const E::Raw* first;

    INLINE float raw(u32 y, u32 x) const {
        const float value = E::widen(__ldg(first + y * p.stride_y + x * p.stride_x));
        return E::INTEGER ? (value - p.zero) * p.scale : value;
    }
    INLINE float value(u32 y, u32 x) const { return p.sigmoid ? 1.0f / (1.0f + expf(-raw(y, x))) : raw(y, x); }
};

struct Scratch {
    u64 best[THREADS / 32];
    u32 found;
    u32 unclear;  // peaks where a clip could act
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

INLINE u64 block_max(Scratch& s, u64 mine) {  // all threads call; all get the maximum
    const u64 of_warp = warp_max(mine);
    if (threadIdx.x % 32 == 0) s.best[threadIdx.x / 32] = of_warp;
    __syncthreads();
    u64 best = 0;
    for (u32 w = 0; w < THREADS / 32; ++w) best = larger(best, s.best[w]);
    __syncthreads();
    return best;
}

// What the peers scale a blurred map by: the largest value of the map over that of the blurred map. All threads call.
INLINE float blur_factor(const Params& p, const Map& map, Scratch& s) {
    const auto read = [&](u32 y, u32 x) { return map.value(y, x); };
    u32 largest = 0, blurred = 0;
    for (u32 cell = threadIdx.x; cell < p.H * p.W; cell += THREADS) {
        largest = max(largest, f32::key(__float_as_uint(read(cell / p.W, cell % p.W))));
        blurred = max(blurred, f32::key(__float_as_uint(blurred_at(p, read, cell / p.W, cell % p.W))));
    }
    return f32::value(key_of(block_max(s, (u64)largest << 32))) / f32::value(key_of(block_max(s, (u64)blurred << 32)));
}

// One warp: peak m of a map. False where refine.cuh needs the scale and it is not known.
INLINE bool write_point(const Params& p, const Map& map, u64 to, u64 packed, Scale scale) {
    const u32 cell = position_of(packed), y = cell / p.W, x = cell - y * p.W;
    float peak = E::value(key_of(packed));
    if (E::INTEGER) peak = (peak - p.zero) * p.scale;
    if (p.sigmoid) peak = 1.0f / (1.0f + expf(-peak));
    Step step;
    const auto raw = [&](u32 v, u32 u) { return map.raw(v, u); };
    const auto read = [&](u32 v, u32 u) { return map.value(v, u); };
    if (!refined(p, raw, read, y, x, peak, scale, step)) return false;
    if (lane_id() == 0) {
        p.points[2 * to] = (float)x + step.x;
        p.points[2 * to + 1] = (float)y + step.y;
        p.scores[to] = f32::value(f32::key(__float_as_uint(peak)));  // -0 becomes +0
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
    u64* taken = p.taken + row * p.max_peaks;

    if (t == 0) s.found = s.unclear = 0;
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
        const u64 best = block_max(s, mine);
        if (mine == best) {  // packed values differ: one thread holds it
            list[at] = 0;
            taken[m] = best;
        }
    }
    __syncthreads();

    const Map values = {p, map};
    const u64 first = row * p.max_peaks;
    for (u32 m = t / 32; m < count; m += THREADS / 32)
        if (!write_point(p, values, first + m, taken[m], {false, 1.0f}) && lane_id() == 0) atomicAdd(&s.unclear, 1u);
    for (u32 m = count + t; m < p.max_peaks; m += THREADS)
        p.points[2 * (first + m)] = p.points[2 * (first + m) + 1] = p.scores[first + m] = 0.0f;
    __syncthreads();
    if (s.unclear) {
        const Scale scale = {true, blur_factor(p, values, s)};
        for (u32 m = t / 32; m < count; m += THREADS / 32)
            if (!write_point(p, values, first + m, taken[m], {false, 1.0f})) write_point(p, values, first + m, taken[m], scale);
    }
    if (t == 0) {
        p.counts[row] = count;
        p.left_out[row] = found - count;
    }
}
