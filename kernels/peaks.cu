// peaks.cu: the best local maxima of each map, in one launch.
//
// A cell (y, x) of heatmaps[b, k] is a peak if its value is at least the threshold and no neighbor in the clipped
// window of 2 radius + 1 cells is larger (plateau "all"), or every neighbor is smaller ("none"). The max_peaks best are
// written; `left_out` counts the others. A point is its cell, refined by refine.cuh.
// Rules and source: posepost/ref/peaks.py, the NumPy implementation.
//
// heatmaps (B, K, H, W), any strides; points (B, K, M, 2) as (x, y) in cells, scores (B, K, M); counts and left_out
// (B, K).
//
// Parallel plan. A block takes a map; of few large maps several blocks take one, and the last of them goes on. Every
// thread looks at its cells, four loads in flight; the few above the threshold look at their window too. Peaks go to
// the map's list in any order: the first LISTED to shared memory, others to the workspace, and all of them there where
// several blocks share the list. Where shared memory holds them all, a thread counts how many are larger than its peak,
// which is the peak's place: packed values differ, so no two share one. From a longer list the largest value is taken
// as often as there is room for a peak. Then each warp refines the next peak; where a clip of DARK could act, it does
// so again with the maximum of the blurred map.
//
// Ties: value, then y, then x, packed as in argmax.cuh. A NaN cell, a cell with NaN in its window and a cell of -inf
// are no peaks. A score of -0 is written +0.

#include "argmax.cuh"

#define MOST_THREADS (2 * THREADS)  // of a block: as many for large maps
#define LISTED 1024

struct Params {
    const void* heatmaps;
    float* points;
    float* scores;
    u32* counts;
    u32* left_out;
    u64* list;     // (B * K, room) workspace: peaks after the first LISTED; all, where several blocks share a map
    u64* taken;    // (B * K, max_peaks) workspace: the best, in order
    u32* found;    // (B * K) workspace, zero before and after: length of the list that several blocks share
    u32* tickets;  // (B * K) as `found`
    // of the maps, in elements
    i64 stride_b, stride_k, stride_y, stride_x;
    u32 K, H, W;
    u32 room;  // of a map's list in the workspace
    u32 max_peaks;
    u32 least_key;  // key of the least value of a peak
    u32 radius;
    u32 strict;   // 1: every neighbor must be smaller
    u32 sigmoid;  // 1 where the maps are logits
    // refine.cuh
    u32 refine, guard, border, reach, positive, blur;
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
    INLINE float value(u32 y, u32 x) const { return p.sigmoid ? sigmoid(raw(y, x)) : raw(y, x); }
};

struct Scratch {
    u64 list[LISTED];
    u64 best[MOST_THREADS / 32];
    u32 found;
    u32 unclear;  // peaks where a clip could act
    u32 last;     // 1 in the last block of a map
};

INLINE bool is_peak(const Params& p, const E::Raw* map, u32 y, u32 x, u32 key) {
    if (!E::INTEGER && key == E::NAN_KEY) return false;
    const u32 bottom = min(p.H - 1, y + p.radius), right = min(p.W - 1, x + p.radius);
    for (u32 v = y - min(y, p.radius); v <= bottom; ++v)
        for (u32 u = x - min(x, p.radius); u <= right; ++u) {
            if (v == y && u == x) continue;
            const u32 other = E::key(__ldg(map + v * p.stride_y + u * p.stride_x));
            if (p.strict ? other >= key : other > key) return false;
        }
    return true;
}

// What reference implementations scale a blurred map by: the largest value of the map over that of the blurred map.
// All threads call.
INLINE float blur_factor(const Params& p, const Map& map, Scratch& s) {
    const auto read = [&](u32 y, u32 x) { return map.value(y, x); };
    u32 largest = 0, blurred = 0;
    for (u32 cell = threadIdx.x; cell < p.H * p.W; cell += blockDim.x) {
        largest = max(largest, f32::key(__float_as_uint(read(cell / p.W, cell % p.W))));
        blurred = max(blurred, f32::key(__float_as_uint(blurred_at(p, read, cell / p.W, cell % p.W))));
    }
    const u64 of_map = block_max(s.best, blockDim.x / 32, (u64)largest << 32);
    __syncthreads();
    const u64 of_blurred = block_max(s.best, blockDim.x / 32, (u64)blurred << 32);
    __syncthreads();
    return scale_of(f32::value(key_of(of_map)), f32::value(key_of(of_blurred)));
}

// One warp: peak m of a map. False where refine.cuh needs the scale and it is not known.
INLINE bool write_point(const Params& p, const Map& map, u64 to, u64 packed, Scale scale) {
    const u32 cell = position_of(packed), y = cell / p.W, x = cell - y * p.W;
    float peak = E::value(key_of(packed));
    if (E::INTEGER) peak = (peak - p.zero) * p.scale;
    if (p.sigmoid) peak = sigmoid(peak);
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

INLINE void list_peaks(const Params& p, const E::Raw* map, u64* behind, Scratch& s) {
    const u32 cells = p.H * p.W, team = gridDim.y * blockDim.x, down = team / p.W, right = team - down * p.W;
    u32 i = blockIdx.y * blockDim.x + threadIdx.x, y = i / p.W, x = i - y * p.W;
    while (i < cells) {
        u32 bits[4], ys[4], xs[4];
#pragma unroll
        for (u32 n = 0; n < 4; ++n) {
            ys[n] = y;
            xs[n] = x;
            y += down;
            x += right;
            if (x >= p.W) {
                x -= p.W;
                ++y;
            }
        }
#pragma unroll
        for (u32 n = 0; n < 4; ++n)
            if (i + n * team < cells) bits[n] = __ldg(map + ys[n] * p.stride_y + xs[n] * p.stride_x);
#pragma unroll
        for (u32 n = 0; n < 4; ++n, i += team) {
            if (i >= cells) break;
            const u32 key = E::key(bits[n]);
            if (key < p.least_key || !is_peak(p, map, ys[n], xs[n], key)) continue;
            const u64 peak = pack(key, i);
            if (gridDim.y > 1) {
                behind[atomicAdd(p.found + blockIdx.x, 1u)] = peak;
            } else {
                const u32 at = atomicAdd(&s.found, 1u);
                (at < LISTED ? s.list[at] : behind[at - LISTED]) = peak;
            }
        }
    }
}

// Where several blocks share a map: true in the last of them, which then has the list as a single block would have it.
INLINE bool is_last_of_map(const Params& p, u64*& behind, Scratch& s) {
    const auto take_count = [&] { s.found = atomicExch(p.found + blockIdx.x, 0u); };
    if (!is_last_block(p.tickets + blockIdx.x, s.last, take_count)) return false;
    for (u32 i = threadIdx.x; i < min(s.found, LISTED); i += blockDim.x) s.list[i] = behind[i];
    behind += LISTED;
    return true;
}

// The best `count` of `found` peaks, in order, to `taken`. All threads call.
INLINE void take_best(u32 found, u32 count, u64* behind, u64* taken, Scratch& s) {
    const u32 t = threadIdx.x, threads = blockDim.x;
    if (found <= LISTED) {
        for (u32 i = t; i < found; i += threads) {
            u32 above = 0;
            for (u32 j = 0; j < found; ++j) above += s.list[j] > s.list[i];
            if (above < count) taken[above] = s.list[i];
        }
        return;
    }
    for (u32 m = 0; m < count; ++m) {
        u64 mine = 0;  // a thread looks after the entries t, t + threads, ... from beginning to end
        u64* from = 0;
        for (u32 i = t; i < found; i += threads) {
            u64* entry = i < LISTED ? s.list + i : behind + (i - LISTED);
            if (*entry > mine) {
                mine = *entry;
                from = entry;
            }
        }
        const u64 best = block_max(s.best, blockDim.x / 32, mine);
        __syncthreads();
        if (mine == best) {  // packed values differ: one thread holds it
            *from = 0;
            taken[m] = best;
        }
    }
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) find_peaks(const __grid_constant__ Params p) {
    SHARED(Scratch, s);
    const u64 row = blockIdx.x;  // ranges [0, B * K)
    const u64 image = row / p.K;
    const u32 k = (u32)(row - image * p.K), t = threadIdx.x, warps = blockDim.x / 32;
    const E::Raw* map = (const E::Raw*)p.heatmaps + image * p.stride_b + k * p.stride_k;
    u64* behind = p.list + row * p.room;
    u64* taken = p.taken + row * p.max_peaks;

    if (t == 0) s.found = s.unclear = 0;
    __syncthreads();
    list_peaks(p, map, behind, s);
    if (gridDim.y > 1 && !is_last_of_map(p, behind, s)) return;
    __syncthreads();
    const u32 found = s.found, count = min(found, p.max_peaks);
    take_best(found, count, behind, taken, s);
    __syncthreads();

    const Map values = {p, map};
    const u64 first = row * p.max_peaks;
    float factor = 1.0f;
#pragma unroll 1
    for (bool again = false;; again = true) {
        for (u32 m = t / 32; m < count; m += warps) {
            bool done = false;
#pragma unroll 1
            for (u32 known = 0; known <= (u32)again && !done; ++known)
                done = write_point(p, values, first + m, taken[m], {known == 1, factor});
            if (!done && lane_id() == 0) atomicAdd(&s.unclear, 1u);
        }
        __syncthreads();
        if (again || !s.unclear) break;
        factor = blur_factor(p, values, s);
    }
    for (u32 m = count + t; m < p.max_peaks; m += blockDim.x)
        p.points[2 * (first + m)] = p.points[2 * (first + m) + 1] = p.scores[first + m] = 0.0f;
    if (t == 0) {
        p.counts[row] = count;
        p.left_out[row] = found - count;
    }
}
