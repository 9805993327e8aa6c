// heatmap.cu: single-person and top-down heatmap decoding in one launch for all rows: HRNet, ViTPose, MMPose, SLEAP ...
//
// For every row b and keypoint k, on maps averaged with those of the flipped image where there are some:
//     cell   = first largest cell of heatmaps[b, k]   (HEAD ARGMAX), or of the blurred map (HEAD BLURRED)
//     point  = cell + refinement (refine.cuh) or + offsets there (OFFSET, udp_combined);
//              HEAD SOFT: the mean cell under a softmax over the whole map
//     point  = (point + center_shift) * cell size, and transform applied to (point, 1), where there is one
//     score  = value of the cell, dequantized, through a sigmoid where the maps are logits
// Where the score is not above the threshold nothing is refined, and `absent` takes the place of the cell, where given.
// Rules and sources: posepost/ref/heatmap.py and posepost/ref/refine.py, the NumPy implementation.
//
// heatmaps and flipped (B, K, H, W) with any strides, or volumes (B, K, D, H, W) whose D * H rows count as H here;
// offsets (B, K, H, W) twice, x and y. keypoints (B, K, 2 or 3) and scores (B, K), float32, C order.
//
// Parallel plan.
//     ARGMAX   scan.cuh finds the winners, then a warp refines a keypoint. Maps with flipped partners are STRIDED.
//     SOFT     a block takes a map (PLANAR) or a tile of `channel_lanes` maps (STRIDED): one pass, each thread with its
//              own running maximum and sums, then a tree. Never split, so that the order of sums is fixed.
//     BLURRED  a block takes a map, in shared memory as far as there is room: blurred along x, then along y, each
//              thread taking four neighboring cells at a time, which share what they read
// A clip of DARK that could act needs the maximum of the whole blurred map: the block then computes it, map by map.
//
// Ties and NaN as argmax.cuh: the first largest, NaN above all. A score of -0 is written +0.

#include "argmax.cuh"

#define ARGMAX 0
#define SOFT 1
#define BLURRED 2
#define TILE_FLOATS 8192  // BLURRED: shared memory of a block

struct Params {
    const void* heatmaps;
    const void* flipped;  // or null
    const void* offsets;  // or null
    const void* flipped_offsets;
    const float* transforms;  // rows of 2x3, or null
    float* keypoints;
    float* scores;
    u64* best;     // (B, K) workspace, zero
    u32* tickets;  // one per tile, zero
    // strides in elements; _xy: from x to y
    i64 heatmap_stride_b, heatmap_stride_k, heatmap_stride_z, heatmap_stride_y, heatmap_stride_x;
    i64 flipped_stride_b, flipped_stride_k, flipped_stride_z, flipped_stride_y, flipped_stride_x;
    i64 offset_stride_b, offset_stride_k, offset_stride_y, offset_stride_x, offset_stride_xy;
    i64 flipped_offset_stride_b, flipped_offset_stride_k, flipped_offset_stride_y, flipped_offset_stride_x;
    i64 flipped_offset_stride_xy;
    i64 transform_stride;  // in floats from one row to the next
    u32 K, H, W;
    u32 slice_rows;      // rows of a slice of a volume; H where the maps are flat
    u32 runs;            // PLANAR: 1 where a map is one run of H * W elements, H where it is H runs of W
    u32 channel_lanes;   // STRIDED: maps of a tile, a power of two up to 32
    u32 axes;            // coordinates of a point: 2 or 3
    u32 flip_shift;      // 1: the flipped map is moved one cell to the right
    u32 offset_element;  // type of the offsets: position in f32, f16, bf16, u8, i8
    u32 sigmoid;         // 1 where the maps are logits
    u32 affine;          // 0 none, 1 `matrix` for all rows, 2 `transforms`
    // refine.cuh
    u32 refine, guard, border, reach, positive, blur;
    u32 tile_h, tile_w;  // BLURRED: rows and columns that a block blurs at a time, multiples of 4
    u32 megvii;          // 1: the score is that of the map, over 255, plus 0.5
    u32 debias;
    u32 has_absent;
    u32 threshold_key;  // f32::key of the largest score of what is not refined, and absent; 0: nothing
    float beta, absent, center_shift;
    // integer tensors: value = (q - zero) * scale
    float heatmap_scale, heatmap_zero, offset_scale, offset_zero;
    float cell[3];          // pixels of the input from one cell to the next: x, y, z
    float offset_cells[2];  // what an offset of 1 is in cells: x, y
    float matrix[6];
    float taps[35];
    u16_t flip_pairs[512];
};

typedef ELEMENT E;

#include "scan.cuh"
#include "refine.cuh"

// ---- values of a map

INLINE float dequantized(const Params& p, float value) {
    return E::INTEGER ? (value - p.heatmap_zero) * p.heatmap_scale : value;
}
INLINE float activated(const Params& p, float value) { return p.sigmoid ? sigmoid(value) : value; }

INLINE u32 flipped_column(const Params& p, u32 x) { return p.W - 1 - x + (p.flip_shift && x > 0); }

struct Map {
    const Params& p;
    u64 image;  // ranges [0, B)
    u32 k;      // ranges [0, K)

    // FLAT: the maps are no volumes
    template <bool FLAT>
    INLINE const E::Raw* own(u32 y, u32 x) const {
        const E::Raw* map = (const E::Raw*)p.heatmaps + image * p.heatmap_stride_b + k * p.heatmap_stride_k;
        if (FLAT) return map + y * p.heatmap_stride_y + x * p.heatmap_stride_x;
        const u32 z = y / p.slice_rows, row = y - z * p.slice_rows;
        return map + z * p.heatmap_stride_z + row * p.heatmap_stride_y + x * p.heatmap_stride_x;
    }
    template <bool FLAT>
    INLINE const E::Raw* partner(u32 y, u32 x) const {  // in the map of the flipped image
        const E::Raw* map =
            (const E::Raw*)p.flipped + image * p.flipped_stride_b + p.flip_pairs[k] * p.flipped_stride_k;
        x = flipped_column(p, x);
        if (FLAT) return map + y * p.flipped_stride_y + x * p.flipped_stride_x;
        const u32 z = y / p.slice_rows, row = y - z * p.slice_rows;
        return map + z * p.flipped_stride_z + row * p.flipped_stride_y + x * p.flipped_stride_x;
    }
    static INLINE float mean(u32 a, u32 b) { return (E::widen(a) + E::widen(b)) * 0.5f; }

    // What the argmax compares: the element as given, as float32. Of flat maps alone, as volumes are not refined. Maps
    // with a partner are STRIDED.
    INLINE float element(u32 y, u32 x) const {
        const u32 bits = __ldg(own<true>(y, x));
        return LAYOUT == STRIDED && p.flipped ? mean(bits, __ldg(partner<true>(y, x))) : E::widen(bits);
    }
    INLINE float raw(u32 y, u32 x) const { return dequantized(p, element(y, x)); }
    INLINE float value(u32 y, u32 x) const { return activated(p, raw(y, x)); }
};

INLINE Step offset_of(const Params& p, const Map& map, u32 y, u32 x) {
    const auto offset_at = [&](const void* offsets, u64 index) {
        return element_at(offsets, p.offset_element, index, p.offset_zero, p.offset_scale);
    };
    const u64 own =
        map.image * p.offset_stride_b + map.k * p.offset_stride_k + y * p.offset_stride_y + x * p.offset_stride_x;
    float dx = offset_at(p.offsets, own), dy = offset_at(p.offsets, own + p.offset_stride_xy);
    if (p.flipped_offsets) {
        const u64 other = map.image * p.flipped_offset_stride_b + p.flip_pairs[map.k] * p.flipped_offset_stride_k +
                          y * p.flipped_offset_stride_y + flipped_column(p, x) * p.flipped_offset_stride_x;
        dx = (dx - offset_at(p.flipped_offsets, other)) * 0.5f;
        dy = (dy + offset_at(p.flipped_offsets, other + p.flipped_offset_stride_xy)) * 0.5f;
    }
    return {dx * p.offset_cells[0], dy * p.offset_cells[1]};
}

// ---- from cells to keypoints, by one thread

// On keys: a comparison of floats would take a denormal score for 0.
INLINE bool is_absent(const Params& p, float value) { return f32::key(__float_as_uint(value)) <= p.threshold_key; }

INLINE void write_keypoint(const Params& p, const Map& map, float x, float y, float z, float value) {
    x = (x + p.center_shift) * p.cell[0];
    y = (y + p.center_shift) * p.cell[1];
    z = (z + p.center_shift) * p.cell[2];
    float score = f32::value(f32::key(__float_as_uint(value)));  // -0 becomes +0, NaN the quiet one
    if (p.has_absent && is_absent(p, value)) {
        x = p.absent * p.cell[0];
        y = p.absent * p.cell[1];
        z = p.absent * p.cell[2];
        if (p.absent != p.absent) score = 0.0f;
    }
    if (p.megvii) score = score / 255.0f + 0.5f;
    transform_point(p, map.image, x, y);
    const u64 row = map.image * p.K + map.k;
    p.keypoints[p.axes * row] = x;
    p.keypoints[p.axes * row + 1] = y;
    if (p.axes == 3) p.keypoints[3 * row + 2] = z;
    p.scores[row] = score;
}

#if HEAD == ARGMAX

struct Finish {
    u32 unclear[LAYOUT == PLANAR ? 1 : LAYOUT == INTERLEAVED ? THREADS : 32];  // 1 where a clip could act
    float scale[LAYOUT == PLANAR ? 1 : LAYOUT == INTERLEAVED ? THREADS : 32];  // of those, once it is known
    u64 largest[THREADS / 32];
};

struct Shared {
    Scratch scan;
    Finish finish;
};

INLINE float value_of(const Params& p, u64 winner) {
    const float found = LAYOUT == STRIDED ? f32::value(key_of(winner)) : E::value(key_of(winner));
    return activated(p, dequantized(p, found));
}

// A warp refines one keypoint. False where refine.cuh needs the scale and it is not known.
INLINE bool finish(const Params& p, const Map& map, u64 winner, Scale scale) {
    const u32 cell = position_of(winner), y = cell / p.W, x = cell - y * p.W;
    const float value = value_of(p, winner);
    Step step = {0.0f, 0.0f};
    if (!is_absent(p, value)) {
        const auto raw = [&](u32 v, u32 u) { return map.raw(v, u); };
        const auto read = [&](u32 v, u32 u) { return map.value(v, u); };
        if (!refined(p, raw, read, y, x, value, scale, step)) return false;
        if (p.offsets) step = offset_of(p, map, y, x);
    }
    const u32 z = y / p.slice_rows;
    if (lane_id() == 0)
        write_keypoint(p, map, (float)x + step.x, (float)(y - z * p.slice_rows) + step.y, (float)z, value);
    return true;
}

struct Two {
    const E::Raw *own, *partner;
};
struct Bits {
    u32 own, partner;
};

template <bool FLAT>
INLINE void scan_any(const Params& p, const Tile& tile, Scratch& scratch) {
    const auto map = [&](u32 c) { return Map{p, tile.image, tile.first_channel + c}; };
    if (p.flipped)
        scan_strided(
            p, tile.channels,
            [&](u32 c, u32 y, u32 x) {
                return Two{map(c).template own<FLAT>(y, x), map(c).template partner<FLAT>(y, x)};
            },
            [](const Two& at) { return Bits{__ldg(at.own), __ldg(at.partner)}; },
            [](const Bits& bits) { return f32::key(__float_as_uint(Map::mean(bits.own, bits.partner))); }, scratch);
    else
        scan_strided(
            p, tile.channels, [&](u32 c, u32 y, u32 x) { return map(c).template own<FLAT>(y, x); },
            [](const E::Raw* at) { return __ldg(at); },
            [](u32 bits) { return f32::key(__float_as_uint(E::widen(bits))); }, scratch);
}

// All threads: the largest value of the blurred map, NaN above all.
INLINE float blurred_maximum(const Params& p, const Map& map, Finish& scratch) {
    const auto read = [&](u32 v, u32 u) { return map.value(v, u); };
    u32 largest = 0;
    for (u32 cell = threadIdx.x; cell < p.H * p.W; cell += blockDim.x)
        largest = max(largest, f32::key(__float_as_uint(blurred_at(p, read, cell / p.W, cell % p.W))));
    const u64 of_block = block_max(scratch.largest, blockDim.x / 32, (u64)largest << 32);
    __syncthreads();
    return f32::value(key_of(of_block));
}

// As many blocks an SM as registers allow without a spill: one block reads its maps while another refines.
extern "C" __global__ void __launch_bounds__(THREADS, LAYOUT == INTERLEAVED ? 3 : 4)
    decode_heatmap(const __grid_constant__ Params p) {
    SHARED(Shared, shared);
    Scratch& scratch = shared.scan;
    Finish& after = shared.finish;
    const Tile tile = tile_of_block(p);
    const E::Raw* maps =
        (const E::Raw*)p.heatmaps + tile.image * p.heatmap_stride_b + tile.first_channel * p.heatmap_stride_k;
    if (LAYOUT == PLANAR) scan_planar(p, maps, scratch);
    if (LAYOUT == INTERLEAVED) scan_interleaved(p, maps, scratch);
    if (LAYOUT == STRIDED) p.axes == 2 ? scan_any<true>(p, tile, scratch) : scan_any<false>(p, tile, scratch);
    __syncthreads();
    if (gridDim.y > 1) {
        if (!is_last_of_tile(p, tile, scratch)) return;
        __syncthreads();
    }
    const u32 warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll 1
    for (u32 known = 0;; ++known) {  // once more with the scale, for what needs it: the code stands once
        for (u32 c = warp; c < tile.channels; c += warps) {
            if (known && !after.unclear[c]) continue;
            const Scale scale = {known > 0, after.scale[c]};
            const bool done = finish(p, {p, tile.image, tile.first_channel + c}, scratch.best[c], scale);
            if (!known && lane_id() == 0) after.unclear[c] = !done;
        }
        if (known || p.border != ZERO || (p.refine != DARK && p.refine != DARK_UDP)) return;
        __syncthreads();
        for (u32 c = 0; c < tile.channels; ++c) {
            if (!after.unclear[c]) continue;
            const float largest = blurred_maximum(p, {p, tile.image, tile.first_channel + c}, after);
            if (threadIdx.x == 0) after.scale[c] = scale_of(value_of(p, scratch.best[c]), largest);
        }
        __syncthreads();
    }
}

#elif HEAD == SOFT

// Sums of exp((value - maximum) * beta): alone, and times the distance from the map's middle. `mass`: without beta.
struct Soft {
    float maximum, sum, x, y, mass;
    u64 best;

    INLINE void scale_to(const Params& p, float m) {
        if (maximum == m) return;
        const float factor = expf((maximum - m) * p.beta);  // 0 where nothing was seen yet
        sum *= factor;
        x *= factor;
        y *= factor;
        if (p.debias) mass *= expf(maximum - m);
        maximum = m;
    }
    INLINE void add(const Params& p, float value, float dx, float dy) {
        if (value > maximum) scale_to(p, value);
        const bool nothing = value == minus_infinity();
        const float weight = nothing ? 0.0f : expf((value - maximum) * p.beta);
        sum += weight;
        x += weight * dx;
        y += weight * dy;
        if (p.debias) mass += nothing ? 0.0f : expf(value - maximum);
    }
    // N elements of which the first is cell (y, x): their largest is known before any exponential is taken.
    INLINE void add_vector(const Params& p, const uint4& v, u32 y, u32 x, float middle_y, float middle_x) {
        constexpr u32 N = E::PER_VECTOR;
        const float largest = dequantized(p, E::value(E::top(v)));
        if (!(largest <= maximum)) scale_to(p, largest);
        if (maximum == minus_infinity()) return;  // as all elements are
        float weights = 0.0f, behind_first = 0.0f, masses = 0.0f;
        if (x + N <= p.W) {
#pragma unroll
            for (u32 n = 0; n < N; ++n) {
                const float below = dequantized(p, E::widen(E::get(v, n))) - maximum, weight = expf(below * p.beta);
                weights += weight;
                behind_first += weight * (float)n;
                if (p.debias) masses += expf(below);
            }
            sum += weights;
            this->x += weights * ((float)x - middle_x) + behind_first;
            this->y += weights * ((float)y - middle_y);
            mass += masses;
            return;
        }
#pragma unroll 1
        for (u32 n = 0; n < N; ++n) {
            add(p, dequantized(p, E::widen(E::get(v, n))), (float)x - middle_x, (float)y - middle_y);
            if (++x == p.W) {
                x = 0;
                ++y;
            }
        }
    }
    INLINE void merge(const Params& p, Soft other) {
        const float m = fmaxf(maximum, other.maximum);
        scale_to(p, m);
        other.scale_to(p, m);
        sum += other.sum;
        x += other.x;
        y += other.y;
        mass += other.mass;
        best = larger(best, other.best);
    }
};

struct Threads {
    Soft soft[THREADS];
};

INLINE uint4 vector_at(const E::Raw* at, bool aligned) {
    if (aligned) return __ldg((const uint4*)at);
    constexpr u32 PER_WORD = E::PER_VECTOR / 4, BITS = 32 / PER_WORD;
    u32 words[4] = {};
#pragma unroll
    for (u32 n = 0; n < E::PER_VECTOR; ++n) words[n / PER_WORD] |= (u32)__ldg(at + n) << n % PER_WORD * BITS;
    return {words[0], words[1], words[2], words[3]};
}

INLINE Soft soft_planar(const Params& p, const E::Raw* map) {
    constexpr u32 N = E::PER_VECTOR, TEAM = THREADS * N;
    const u32 cells = p.H * p.W;
    const float middle_x = (float)(p.W - 1) * 0.5f, middle_y = (float)(p.H - 1) * 0.5f;
    const bool aligned = (u64)map % 16 == 0;  // an element's thread and turn do not depend on it: neither does the sum
    Soft soft = {minus_infinity(), 0.0f, 0.0f, 0.0f, 0.0f, 0};
    BestVector of_vectors;
    u32 first = threadIdx.x * N;
    while (first + N <= cells) {
        uint4 loaded[2];
#pragma unroll
        for (u32 i = 0; i < 2; ++i)
            if (first + i * TEAM + N <= cells) loaded[i] = vector_at(map + first + i * TEAM, aligned);
#pragma unroll
        for (u32 i = 0; i < 2; ++i) {
            if (first + N > cells) break;
            const u32 y = first / p.W, x = first - y * p.W;
            soft.add_vector(p, loaded[i], y, x, middle_y, middle_x);
            of_vectors.take<E>(loaded[i], first);
            first += TEAM;
        }
    }
    Best best;
    if (of_vectors.key) best.take(of_vectors.key, of_vectors.place<E>());
    for (u32 cell = first; cell < cells; ++cell) {  // fewer than a vector: of one thread
        const u32 bits = __ldg(map + cell), y = cell / p.W, x = cell - y * p.W;
        soft.add(p, dequantized(p, E::widen(bits)), (float)x - middle_x, (float)y - middle_y);
        best.take(E::key(bits), cell);
    }
    soft.best = best.packed();
    return soft;
}

INLINE Soft soft_strided(const Params& p, const Tile& tile, u32 lane, u32 first) {
    const float middle_x = (float)(p.W - 1) * 0.5f, middle_y = (float)(p.H - 1) * 0.5f;
    Soft soft = {minus_infinity(), 0.0f, 0.0f, 0.0f, 0.0f, 0};
    Best best;
    if (lane < tile.channels) {
        const Map map = {p, tile.image, tile.first_channel + lane};
        for (u32 cell = first; cell < p.H * p.W; cell += THREADS / p.channel_lanes) {
            const u32 y = cell / p.W, x = cell - y * p.W;
            const float element = map.element(y, x);
            soft.add(p, dequantized(p, element), (float)x - middle_x, (float)y - middle_y);
            best.take(f32::key(__float_as_uint(element)), cell);
        }
    }
    soft.best = best.packed();
    return soft;
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) decode_heatmap(const __grid_constant__ Params p) {
    SHARED(Threads, all);
    const Tile tile = tile_of_block(p);
    const u32 t = threadIdx.x, lanes = LAYOUT == PLANAR ? 1 : p.channel_lanes;
    const E::Raw* map =
        (const E::Raw*)p.heatmaps + tile.image * p.heatmap_stride_b + tile.first_channel * p.heatmap_stride_k;
    all.soft[t] = LAYOUT == PLANAR ? soft_planar(p, map) : soft_strided(p, tile, t % lanes, t / lanes);
    for (u32 half = THREADS / 2; half >= lanes; half /= 2) {  // t and t + half hold the same map
        __syncthreads();
        if (t < half) all.soft[t].merge(p, all.soft[t + half]);
    }
    if (t >= tile.channels) return;
    const Soft soft = all.soft[t];
    float x = soft.x / soft.sum + (float)(p.W - 1) * 0.5f, y = soft.y / soft.sum + (float)(p.H - 1) * 0.5f;
    if (p.debias) {
        const float mass = soft.mass * expf(soft.maximum);
        x = mass / (mass - 1.0f) * (x - (float)p.W / (2.0f * mass));
        y = mass / (mass - 1.0f) * (y - (float)p.H / (2.0f * mass));
    }
    const float found = LAYOUT == PLANAR ? E::value(key_of(soft.best)) : f32::value(key_of(soft.best));
    write_keypoint(p, {p, tile.image, tile.first_channel + t}, x, y, 0.0f, activated(p, dequantized(p, found)));
}

#else

// A block works on one rectangle of its map after the other: `tile_h` rows of `tile_w` cells, both multiples of 4. The
// launch chooses them so that both buffers hold a rectangle and what the blur sees around it. Rows are an odd number of
// words apart, so that the lanes of a warp, which take neighboring rows or columns, meet different banks.
struct Tiles {
    float values[TILE_FLOATS];  // cells, tile_w + blur - 1 a row; after them the same rows blurred along x, tile_w each
    u64 best[THREADS / 32];     // of the blurred map
    u64 highest[THREADS / 32];  // of the map
};

// Four neighboring sums, of a window that slides: sum[n] = taps[0] value(n) + taps[1] value(n + 1) + ...
template <class Value>
INLINE void four_sums(const Params& p, const Value& value, float (&sum)[4]) {
    float seen[4] = {0.0f, value(0), value(1), value(2)};
#pragma unroll
    for (u32 n = 0; n < 4; ++n) sum[n] = 0.0f;
#pragma unroll 4
    for (u32 i = 0; i < p.blur; ++i) {
#pragma unroll
        for (u32 n = 0; n < 3; ++n) seen[n] = seen[n + 1];
        seen[3] = value(i + 3);
#pragma unroll
        for (u32 n = 0; n < 4; ++n) sum[n] += p.taps[i] * seen[n];
    }
}

// The rectangle from (y0, x0) on: `best` takes the largest of its blurred cells, `highest` the largest as given.
INLINE void blur_tile(const Params& p, const Map& map, i32 y0, i32 x0, float* cells, u64& best, u32& highest) {
    const u32 t = threadIdx.x, radius = p.blur / 2, rows = p.tile_h + 2 * radius, columns = p.tile_w + 2 * radius;
    const u32 wide = columns | 1, narrow = p.tile_w | 1;
    float* along_x = cells + rows * wide;

    for (u32 i = t; i < (rows + 3) / 4 * columns; i += THREADS) {  // four rows of a column
        const u32 group = i / columns, column = i - group * columns;
        const i32 x = inside(x0 + (i32)(column - radius), p.W, p.border);
        i32 ys[4];
#pragma unroll
        for (u32 n = 0; n < 4; ++n) ys[n] = inside(y0 + (i32)(4 * group + n - radius), p.H, p.border);
        float values[4];
        if (p.flipped) {
#pragma unroll
            for (u32 n = 0; n < 4; ++n) values[n] = ys[n] < 0 || x < 0 ? 0.0f : map.value(ys[n], x);
        } else {
            u32 bits[4];
#pragma unroll
            for (u32 n = 0; n < 4; ++n) bits[n] = __ldg(map.own<true>(max(ys[n], 0), max(x, 0)));
#pragma unroll
            for (u32 n = 0; n < 4; ++n)
                values[n] = ys[n] < 0 || x < 0 ? 0.0f : activated(p, dequantized(p, E::widen(bits[n])));
        }
#pragma unroll
        for (u32 n = 0; n < 4; ++n) {
            const u32 row = 4 * group + n;
            if (row < rows) cells[row * wide + column] = values[n];
            const i32 y = y0 + (i32)(row - radius);
            const bool in_map = x >= 0 && x == x0 + (i32)(column - radius) && y >= 0 && y < (i32)p.H;
            if (in_map) highest = max(highest, f32::key(__float_as_uint(values[n])));
        }
    }
    __syncthreads();
    for (u32 i = t; i < rows * (p.tile_w / 4); i += THREADS) {  // four columns of a row
        const u32 group = i / rows, row = i - group * rows;
        float sum[4];
        four_sums(p, [&](u32 at) { return cells[row * wide + 4 * group + at]; }, sum);
#pragma unroll
        for (u32 n = 0; n < 4; ++n) along_x[row * narrow + 4 * group + n] = sum[n];
    }
    __syncthreads();
    for (u32 i = t; i < p.tile_h / 4 * p.tile_w; i += THREADS) {  // four rows of a column
        const u32 group = i / p.tile_w, column = i - group * p.tile_w, x = x0 + column;
        float sum[4];
        four_sums(p, [&](u32 at) { return along_x[(4 * group + at) * narrow + column]; }, sum);
#pragma unroll
        for (u32 n = 0; n < 4; ++n) {
            const u32 y = y0 + 4 * group + n;
            if (x < p.W && y < p.H) best = larger(best, pack(f32::key(__float_as_uint(sum[n])), y * p.W + x));
        }
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) decode_heatmap(const __grid_constant__ Params p) {
    SHARED(Tiles, tiles);
    const u64 image = blockIdx.x / p.K;  // blockIdx.x ranges [0, B * K)
    const Map map = {p, image, (u32)(blockIdx.x - image * p.K)};
    u64 best = 0;
    u32 highest = 0;
    for (u32 y = 0; y < p.H; y += p.tile_h)
        for (u32 x = 0; x < p.W; x += p.tile_w) blur_tile(p, map, y, x, tiles.values, best, highest);
    best = block_max(tiles.best, blockDim.x / 32, best);
    highest = key_of(block_max(tiles.highest, blockDim.x / 32, (u64)highest << 32));
    if (threadIdx.x >= 32) return;
    const u32 cell = position_of(best), y = cell / p.W, x = cell - y * p.W;
    const float value = f32::value(p.megvii ? highest : key_of(best));
    const auto read = [&](u32 v, u32 u) { return map.value(v, u); };
    Step step = {0.0f, 0.0f};
    if (!is_absent(p, value)) step = p.offsets ? offset_of(p, map, y, x) : quarter_of_blurred(p, read, y, x);
    if (lane_id() == 0) write_keypoint(p, map, (float)x + step.x, (float)y + step.y, 0.0f, value);
}

#endif
