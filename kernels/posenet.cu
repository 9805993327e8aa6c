// posenet.cu: PoseNet single-pose decoding in one launch for the whole batch.
//
// For every image b and keypoint k:
//     (y, x)   = first largest cell of heatmaps[b, k]                  (on logits, scores or raw integers alike)
//     point    = (x * output_stride + offsets[b, K + k, y, x],  y * output_stride + offsets[b, k, y, x])
//     score    = heatmaps[b, k, y, x], dequantized where the maps are integers, through a sigmoid where they are logits
//     point    = transform applied to (point, 1), where there is one
// Source: decodeSinglePose of tensorflow/tfjs-models@18a7342 (posenet/src/single_pose).
//
// heatmaps (B, K, H, W) and offsets (B, 2K, H, W), all y channels first, with any strides; keypoints (B, K, 2) as
// (x, y) in pixels of the network's input and scores (B, K), float32, C order. Each heatmap element is read once, and
// of the offsets only the two of each winner.
//
// Parallel plan. scan.cuh finds the winners, several blocks a map where there are few; a thread then writes a keypoint.
//
// Ties and NaN as argmax.cuh: the first largest, NaN above all. A score of -0 is written +0.

#include "argmax.cuh"

struct Params {
    const void* heatmaps;
    const void* offsets;
    const float* transforms;  // rows of 2x3, or null
    float* keypoints;
    float* scores;
    u64* best;     // (B, K) workspace, zero
    u32* tickets;  // one per tile, zero
    // strides in elements
    i64 heatmap_stride_b, heatmap_stride_k, heatmap_stride_y, heatmap_stride_x;
    i64 offset_stride_b, offset_stride_k, offset_stride_y, offset_stride_x;
    i64 transform_stride;  // in floats from one image to the next
    u32 K, H, W;
    u32 runs;            // PLANAR: 1 where a map is one run of H * W elements, H where it is H runs of W
    u32 channel_lanes;   // STRIDED: maps of a tile, a power of two up to 32
    u32 offset_element;  // type of the offsets: position in f32, f16, bf16, u8, i8
    u32 sigmoid;         // 1 where the maps are logits
    u32 affine;          // 0 none, 1 `matrix` for all images, 2 `transforms`
    float output_stride;
    // integer tensors: value = (q - zero) * scale
    float heatmap_scale, heatmap_zero, offset_scale, offset_zero;
    float matrix[6];
};

typedef ELEMENT E;

#include "scan.cuh"

INLINE float offset_at(const Params& p, u64 index) {
    return element_at(p.offsets, p.offset_element, index, p.offset_zero, p.offset_scale);
}

INLINE void write_keypoint(const Params& p, u64 image, u32 k, u64 winner) {
    const u32 cell = position_of(winner), cy = cell / p.W, cx = cell - cy * p.W;
    const u64 offset =
        image * p.offset_stride_b + k * p.offset_stride_k + cy * p.offset_stride_y + cx * p.offset_stride_x;
    float y = (float)cy * p.output_stride + offset_at(p, offset);
    float x = (float)cx * p.output_stride + offset_at(p, offset + p.K * p.offset_stride_k);
    float score = E::value(key_of(winner));
    if (E::INTEGER) score = (score - p.heatmap_zero) * p.heatmap_scale;
    if (p.sigmoid) score = sigmoid(score);
    transform_point(p, image, x, y);
    const u64 row = image * p.K + k;
    p.keypoints[2 * row] = x;
    p.keypoints[2 * row + 1] = y;
    p.scores[row] = score;
}

extern "C" __global__ void __launch_bounds__(THREADS) decode_posenet(const __grid_constant__ Params p) {
    SHARED(Scratch, scratch);
    const Tile tile = tile_of_block(p);
    const E::Raw* maps =
        (const E::Raw*)p.heatmaps + tile.image * p.heatmap_stride_b + tile.first_channel * p.heatmap_stride_k;
    if (LAYOUT == PLANAR) scan_planar(p, maps, scratch);
    if (LAYOUT == INTERLEAVED) scan_interleaved(p, maps, scratch);
    if (LAYOUT == STRIDED)
        scan_strided(
            p, tile.channels,
            [&](u32 c, u32 y, u32 x) {
                return maps + c * p.heatmap_stride_k + y * p.heatmap_stride_y + x * p.heatmap_stride_x;
            },
            [](const E::Raw* at) { return __ldg(at); }, [](u32 bits) { return E::key(bits); }, scratch);
    __syncthreads();
    if (gridDim.y > 1 && !is_last_of_tile(p, tile, scratch)) return;
    for (u32 c = threadIdx.x; c < tile.channels; c += blockDim.x)
        write_keypoint(p, tile.image, tile.first_channel + c, scratch.best[c]);
}
