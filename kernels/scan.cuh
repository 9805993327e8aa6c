// scan.cuh: the first largest cell of many maps, one launch, whatever their strides. Included after `struct Params`.
//
// Params has: K, H, W; heatmap_stride_k, _y, _x in elements; runs, channel_lanes; workspaces best and tickets. E is the
// element type, LAYOUT one of the three below. A tile is the set of maps that one block finishes; `gridDim.y` blocks
// share a tile where there are few.
//     PLANAR       elements of a map are consecutive, whole or line by line (NCHW, crops of it): a tile is one map
//     INTERLEAVED  pixels of K channels are consecutive (dense NHWC): a tile is the K maps of one image
//     STRIDED      anything else, element by element: a tile is `channel_lanes` maps
// Blocks that share a tile merge their winners by a 64-bit atomic maximum. The last of them holds the winners and
// leaves the workspace as it found it: all zero. Ties and NaN as argmax.cuh.

#define PLANAR 0
#define INTERLEAVED 1
#define STRIDED 2

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
    store_block_max(scratch.part, best.packed(), scratch.best[0]);
}

// INTERLEAVED: the number of active threads is a multiple of K, so from step to step a thread meets the same channel in
// the same place of its vector, and no address is divided inside the loop. Fewer than 2^32 elements an image, K <=
// THREADS.
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
        // elements before and after the vectors: at most 2 * (N - 1)
        const u32 loose = lane < head ? lane : length - tail + lane - head;
        if (blockIdx.y == 0 && lane < head + tail && loose % K == k)
            m = larger(m, pack(E::key(__ldg(image + loose)), loose / K));
        m = warp_max(m);
        if (lane == 0) scratch.best[k] = m;
    }
}

// STRIDED: lanes run along the axis of the smaller stride, channels or cells. address(c, y, x) of a cell of map c,
// load(address) and key(what was loaded) are three steps, so that four cells are loaded before the first is looked at.
// From cell to cell y and x are stepped: nothing is divided inside the loop.
template <class Address, class Load, class Key>
INLINE void scan_strided(const Params& p, u32 channels, const Address& address, const Load& load, const Key& key,
                         Scratch& scratch) {
    const u32 lanes = p.channel_lanes, t = threadIdx.x, channel = t % lanes, rows = THREADS / lanes;
    const u64 cells = (u64)p.H * p.W, stride = (u64)rows * gridDim.y;
    const u32 down = (u32)(stride / p.W), right = (u32)(stride - (u64)down * p.W);
    Best best;
    if (channel < channels) {
        u64 i = (u64)blockIdx.y * rows + t / lanes;
        u32 y = (u32)i / p.W, x = (u32)i - y * p.W;
        for (; i < cells; i += 4 * stride) {
            decltype(address(0u, 0u, 0u)) at[4];
            decltype(load(at[0])) loaded[4];
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                at[n] = address(channel, y, x);
                y += down;
                x += right;
                if (x >= p.W) {
                    x -= p.W;
                    ++y;
                }
            }
#pragma unroll
            for (int n = 0; n < 4; ++n)
                if (i + n * stride < cells) loaded[n] = load(at[n]);
#pragma unroll
            for (int n = 0; n < 4; ++n)
                if (i + n * stride < cells) best.take(key(loaded[n]), (u32)(i + n * stride));
        }
    }
    scratch.part[t] = best.packed();
    for (u32 half = THREADS / 2; half >= lanes; half /= 2) {  // t and t + half hold the same channel
        __syncthreads();
        if (t < half) scratch.part[t] = larger(scratch.part[t], scratch.part[t + half]);
    }
    if (t < channels) scratch.best[t] = scratch.part[t];
}

// Merge this block's winners with those of the blocks that share its tile. True in the last block, whose scratch.best
// then holds the winners of the tile. A thread reads back only the winners that it wrote itself.
INLINE bool is_last_of_tile(const Params& p, const Tile& tile, Scratch& scratch) {
    u64* best = p.best + tile.image * p.K + tile.first_channel;
    for (u32 c = threadIdx.x; c < tile.channels; c += blockDim.x)
        if (scratch.best[c]) atomicMax(best + c, scratch.best[c]);
    if (!is_last_block(p.tickets + blockIdx.x, scratch.last, [] {})) return false;
    for (u32 c = threadIdx.x; c < tile.channels; c += blockDim.x) scratch.best[c] = atomicExch(best + c, 0ull);
    return true;
}
