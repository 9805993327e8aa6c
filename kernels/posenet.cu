// posenet.cu: PoseNet single-pose decoding in one launch for the whole batch.
//
// For every image b and keypoint k:
//     (y, x)   = first largest cell of heatmaps[b, k]                  (on logits, scores or raw integers alike)
//     point    = (x * output_stride + offsets[b, K + k, y, x],  y * output_stride + offsets[b, k, y, x])
//     score    = heatmaps[b, k, y, x], dequantised where the maps are integers, through a sigmoid where they are logits
//     point    = transform applied to (point, 1), where there is one
// Source: decodeSinglePose of tensorflow/tfjs-models@18a7342 (posenet/src/single_pose).
//
// heatmaps (B, K, H, W) and offsets (B, 2K, H, W), all y channels first, with any strides; keypoints (B, K, 2) as (x, y) in
// pixels of the network's input and scores (B, K), float32, C order. The heatmaps are read once and of the offsets the
// winners' two elements alone. Ties and NaN as argmax.cuh: the first largest, NaN above all. A score of -0 is written +0.
//
// Parallel plan. A tile is the set of maps that one block finishes; `gridDim.y` blocks may share a tile when there are few.
//     PLANAR       elements of a map are consecutive, whole or line by line (NCHW, crops of it): a tile is one map
//     INTERLEAVED  pixels of K channels are consecutive (dense NHWC): a tile is the K maps of one image
//     STRIDED      anything else, element by element: a tile is `channel_lanes` maps
// Blocks that share a tile merge their winners by a 64-bit atomic maximum; the last one to draw a ticket writes the keypoints and
// leaves the workspace as it found it: all zero.

#include "argmax.cuh"

#define PLANAR 0
#define INTERLEAVED 1
#define STRIDED 2
#define THREADS 256

struct Params {
    const void* heatmaps;
    const void* offsets;
    const float* transforms;  // rows of 2x3, or null
    float* keypoints;
    float* scores;
    u64* best;     // (B, K) workspace, zero
    u32* tickets;  // one per tile, zero
    i64 heatmap_stride_b, heatmap_stride_k, heatmap_stride_y, heatmap_stride_x;  // in elements
    i64 offset_stride_b, offset_stride_k, offset_stride_y, offset_stride_x;
    i64 transform_stride;  // in floats from one image to the next
    u32 K, H, W;
    u32 runs;           // PLANAR: 1 where a map is one run of H * W elements, H where it is H runs of W
    u32 channel_lanes;  // STRIDED: maps of a tile, a power of two up to 32
    u32 offset_element; // which type the offsets are: position in f32, f16, bf16, u8, i8
    u32 sigmoid;        // 1 where the maps are logits
    u32 affine;         // 0 none, 1 the matrix below for all images, 2 `transforms`
    float output_stride;
    float heatmap_scale, heatmap_zero, offset_scale, offset_zero;  // integer maps: value = (q - zero) * scale
    float matrix[6];
};

typedef ELEMENT E;

struct Scratch {
    u64 part[LAYOUT == PLANAR ? THREADS / 32 : LAYOUT == INTERLEAVED ? THREADS * E::PER_VECTOR : THREADS];
    u64 best[LAYOUT == PLANAR ? 1 : LAYOUT == INTERLEAVED ? THREADS : 32];  // winners of the tile, one per channel
    u32 last;
};

struct Tile {
    u64 image;          // ranges [0, B)
    u32 first_channel;  // ranges [0, K)
    u32 channels;
};

INLINE Tile tile_of_block(const Params& p) {
    const u32 tile = blockIdx.x;  // ranges [0, tiles of an image * B)
    const u32 width = LAYOUT == PLANAR ? 1 : LAYOUT == INTERLEAVED ? p.K : p.channel_lanes;
    const u32 tiles = (p.K + width - 1) / width;
    const u32 image = tile / tiles, first = (tile - image * tiles) * width;
    return {image, first, min(width, p.K - first)};
}

// PLANAR: all threads of all blocks share a single run; of several runs, each goes to one warp.
INLINE void scan_planar(const Params& p, const E::Raw* map, Scratch& scratch) {
    const u32 thread = blockIdx.y * blockDim.x + threadIdx.x, threads = gridDim.y * blockDim.x;
    Best best;
    if (p.runs == 1) {
        scan_run<E>(map, 0, p.H * p.W, thread, threads, best);
    } else {
        for (u32 y = thread / 32; y < p.H; y += threads / 32)
            scan_run<E>(map + y * p.heatmap_stride_y, y * p.W, p.W, thread % 32, 32, best);
    }
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u64 of_warp = warp_max(best.packed());
    if (lane == 0) scratch.part[warp] = of_warp;
    __syncthreads();
    if (warp) return;
    const u64 of_block = warp_max(lane < blockDim.x / 32 ? scratch.part[lane] : 0);
    if (lane == 0) scratch.best[0] = of_block;
}

// INTERLEAVED: the number of active threads is a multiple of K, so from step to step a thread meets the same channel in the
// same place of its vector, and no address is divided inside the loop. Fewer than 2^32 elements an image, K <= THREADS.
INLINE void scan_interleaved(const Params& p, const E::Raw* image, Scratch& scratch) {
    constexpr u32 N = E::PER_VECTOR;
    const u32 K = p.K, length = p.H * p.W * K, t = threadIdx.x;
    const u32 head = elements_before_vectors<E>(image, length);
    const u32 vectors = (length - head) / N, tail = length - head - vectors * N;
    const uint4* vector = (const uint4*)(image + head);
    const u32 active = THREADS / K * K, steps = (vectors + active - 1) / active;

    Best best[N];  // of the channels in a vector's N places; position counts steps
    if (t < active) {
        for (u32 step = blockIdx.y; step < steps; step += 4 * gridDim.y) {
            uint4 loaded[4];
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                const u32 v = (step + i * gridDim.y) * active + t;
                if (v < vectors) loaded[i] = __ldg(vector + v);
            }
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                const u32 s = step + i * gridDim.y;
                if (s * active + t < vectors)
#pragma unroll
                    for (u32 n = 0; n < N; ++n) best[n].take(E::key(E::get(loaded[i], n)), s);
            }
        }
#pragma unroll
        for (u32 n = 0; n < N; ++n) {
            const u32 cell = (head + t * N + n) / K + best[n].position * (active / K * N);
            scratch.part[n * THREADS + t] = best[n].key ? pack(best[n].key, cell) : 0;
        }
    }
    __syncthreads();

    const u32 lane = t % 32;
    for (u32 k = t / 32; k < K; k += THREADS / 32) {  // one warp gathers a channel
        u64 m = 0;
        for (u32 i = (k + K - head % K) % K + lane * K; i < active * N; i += 32 * K)
            m = larger(m, scratch.part[i % N * THREADS + i / N]);
        const u32 loose = lane < head ? lane : length - tail + lane - head;  // at most 2 * (N - 1) elements off the vectors
        if (blockIdx.y == 0 && lane < head + tail && loose % K == k)
            m = larger(m, pack(E::key(__ldg(image + loose)), loose / K));
        m = warp_max(m);
        if (lane == 0) scratch.best[k] = m;
    }
}

// STRIDED: lanes run along the axis of the smaller stride, channels or cells.
INLINE void scan_strided(const Params& p, const E::Raw* maps, u32 channels, Scratch& scratch) {
    const u32 lanes = p.channel_lanes, t = threadIdx.x, channel = t % lanes, rows = THREADS / lanes;
    const u64 cells = (u64)p.H * p.W, stride = (u64)rows * gridDim.y;
    Best best;
    if (channel < channels) {
        const E::Raw* map = maps + channel * p.heatmap_stride_k;
        for (u64 i = (u64)blockIdx.y * rows + t / lanes; i < cells; i += 4 * stride) {
            u32 bits[4];
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                const u64 cell = i + n * stride;
                const u32 y = (u32)cell / p.W, x = (u32)cell - y * p.W;
                if (cell < cells) bits[n] = __ldg(map + y * p.heatmap_stride_y + x * p.heatmap_stride_x);
            }
#pragma unroll
            for (int n = 0; n < 4; ++n)
                if (i + n * stride < cells) best.take(E::key(bits[n]), (u32)(i + n * stride));
        }
    }
    scratch.part[t] = best.packed();
    for (u32 half = THREADS / 2; half >= lanes; half /= 2) {  // t and t + half hold the same channel
        __syncthreads();
        if (t < half) scratch.part[t] = larger(scratch.part[t], scratch.part[t + half]);
    }
    if (t < channels) scratch.best[t] = scratch.part[t];
}

// Merge this block's winners with those of the blocks that share its tile. True in the last block, whose scratch.best then
// holds the winners of the tile. A thread reads back only the winners that it wrote itself.
INLINE bool is_last_of_tile(const Params& p, const Tile& tile, Scratch& scratch) {
    u64* best = p.best + tile.image * p.K + tile.first_channel;
    for (u32 c = threadIdx.x; c < tile.channels; c += blockDim.x)
        if (scratch.best[c]) atomicMax(best + c, scratch.best[c]);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        scratch.last = atomicInc(p.tickets + blockIdx.x, gridDim.y - 1) == gridDim.y - 1;
        __threadfence();
    }
    __syncthreads();
    if (!scratch.last) return false;
    for (u32 c = threadIdx.x; c < tile.channels; c += blockDim.x) scratch.best[c] = atomicExch(best + c, 0ull);
    return true;
}

INLINE float offset_at(const Params& p, u64 index) {
    switch (p.offset_element) {
        case 0: return f32::widen(__ldg((const f32::Raw*)p.offsets + index));
        case 1: return f16::widen(__ldg((const f16::Raw*)p.offsets + index));
        case 2: return bf16::widen(__ldg((const bf16::Raw*)p.offsets + index));
        case 3: return (u8::widen(__ldg((const u8::Raw*)p.offsets + index)) - p.offset_zero) * p.offset_scale;
        default: return (i8::widen(__ldg((const i8::Raw*)p.offsets + index)) - p.offset_zero) * p.offset_scale;
    }
}

INLINE void write_keypoint(const Params& p, u64 image, u32 k, u64 winner) {
    const u32 cell = position_of(winner), cy = cell / p.W, cx = cell - cy * p.W;
    const u64 offset = image * p.offset_stride_b + k * p.offset_stride_k + cy * p.offset_stride_y + cx * p.offset_stride_x;
    float y = (float)cy * p.output_stride + offset_at(p, offset);
    float x = (float)cx * p.output_stride + offset_at(p, offset + p.K * p.offset_stride_k);
    float score = E::value(key_of(winner));
    if (E::INTEGER) score = (score - p.heatmap_zero) * p.heatmap_scale;
    if (p.sigmoid) score = 1.0f / (1.0f + expf(-score));
    if (p.affine) {
        float m[6];
#pragma unroll
        for (int i = 0; i < 6; ++i) m[i] = p.affine == 1 ? p.matrix[i] : __ldg(p.transforms + image * p.transform_stride + i);
        const float tx = m[0] * x + m[1] * y + m[2];
        y = m[3] * x + m[4] * y + m[5];
        x = tx;
    }
    const u64 row = image * p.K + k;
    p.keypoints[2 * row] = x;
    p.keypoints[2 * row + 1] = y;
    p.scores[row] = score;
}

extern "C" __global__ void __launch_bounds__(THREADS) decode_posenet(const __grid_constant__ Params p) {
    SHARED(Scratch, scratch);
    const Tile tile = tile_of_block(p);
    const E::Raw* maps = (const E::Raw*)p.heatmaps + tile.image * p.heatmap_stride_b + tile.first_channel * p.heatmap_stride_k;
    if (LAYOUT == PLANAR) scan_planar(p, maps, scratch);
    if (LAYOUT == INTERLEAVED) scan_interleaved(p, maps, scratch);
    if (LAYOUT == STRIDED) scan_strided(p, maps, tile.channels, scratch);
    __syncthreads();
    if (gridDim.y > 1 && !is_last_of_tile(p, tile, scratch)) return;
    for (u32 c = threadIdx.x; c < tile.channels; c += blockDim.x)
        write_keypoint(p, tile.image, tile.first_channel + c, scratch.best[c]);
}
