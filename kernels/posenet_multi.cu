// posenet_multi.cu: multi-person PoseNet decoding, entirely on the device, in three launches for the whole batch.
//
// The rules, mode by mode: posepost/ref/posenet_multi.py, the NumPy implementation. Sources:
//     tfjs     tensorflow/tfjs-models@18a7342 posenet/src/multi_pose
//     pytorch  rwightman/posenet-pytorch posenet/decode_multi.py
//     coral    google-coral/libcoral@6589d0b coral/pose_estimation/posenet_decoder.cc; edgetpu: its older edge rule
//
// K keypoints, E = K - 1 edges of a tree. heatmaps (B, K, H, W), offsets (B, 2K, H, W), displacement_fwd and
// displacement_bwd (B, 2E, H, W), any strides. Results: keypoints (B, P, K, 2) as (x, y), keypoint_scores (B, P, K),
// scores (B, P), count (B), zero from count on.
//
// Parallel plan. Three launches suffice: where a root leads does not depend on the poses accepted before it, and
// the skeleton is a tree, so that a keypoint's place depends only on the path to it from the root.
//     find_roots    every cell of every map: local maxima above the threshold go to their image's list, in any order
//     walk_roots    a warp follows a root to all other keypoints, one lane a keypoint, one level of the tree at a time,
//                   and strikes it out where its mean score can never reach that of a pose
//     accept_poses  a block an image: take the best root that is left, accept its pose, strike out the roots near it.
//                   The loop runs over accepted poses, not over roots, and needs no sorted list. Roots and accepted
//                   poses are in shared memory where they fit
// An image's list has room for every cell of it, so no root is ever left out. Walks are kept for the first `walked`
// roots of a list; accept_poses walks the others again when their turn comes.
//
// Ties: value, then y, then x, then k, packed as in argmax.cuh, so that the order of the list does not matter. A NaN
// cell and its neighbors are no roots. NaN becomes cell 0, infinity the last cell: no read leaves the maps.

#include "argmax.cuh"

#define MOST_KEYPOINTS 32                // lanes of a warp
#define SMALLEST_NORMAL 1.17549435e-38f  // smaller scores are 0 where denormals are flushed, and so nowhere above 0

enum Mode { TFJS, PYTORCH, CORAL, EDGETPU };
enum TensorName { HEATMAPS, OFFSETS, FORWARD, BACKWARD };

struct Params {
    const void* heatmaps;
    const void* offsets;
    const void* forward;
    const void* backward;
    const float* transforms;  // rows of 2x3, or null
    float* keypoints;
    float* keypoint_scores;
    float* scores;
    u32* counts;
    u64* roots;            // (B, room) workspace: packed value and place, 0 once struck out
    float* root_places;    // (B, room, 2) workspace: y, x
    float* walks;          // (B, walked, K, 3) workspace: y, x, score
    float* accepted;       // (B, P, K, 3) workspace
    float* means;          // (B, P) workspace
    u32* found;            // (B) workspace, zero before and after
    i64 strides[16];       // in elements: b, channel, y, x of each of the four tensors
    i64 transform_stride;  // in floats from one image to the next
    u32 element[4];        // which type each is: position in f32, f16, bf16, u8, i8
    float scale[4];
    float zero[4];  // integer tensors: value = (q - zero) * scale
    u32 K, H, W;
    u8_t parent[32];  // of each keypoint; the root's is the root
    u8_t edge[32];    // to the parent
    u8_t depth[32];   // edges from the root
    u32 longest;      // edges from any keypoint to any other, at most
    u32 room, walked;
    u32 max_poses;
    u32 least_key;  // key of the least value of a root
    u32 mode;
    u32 refinements;
    u32 sigmoid;           // 1 where the maps are logits
    u32 channels_fastest;  // 1 where neighboring addresses are channels of a cell
    u32 affine;            // 0 none, 1 `matrix` for all images, 2 `transforms`
    float output_stride;
    float radius;      // squared; in pixels, for coral in cells
    float least_pose;  // least score of a pose
    float matrix[6];
};

typedef ELEMENT E;

struct Point {
    float y, x;
};

struct Pose {
    float y[MOST_KEYPOINTS], x[MOST_KEYPOINTS], score[MOST_KEYPOINTS];
};

// ---- the skeleton

struct Route {
    u32 level;   // edges from the root
    u32 source;  // keypoint that comes before
    bool up;     // from child to parent, by the backward displacement
};

INLINE bool on_the_way_up(const Params& p, u32 keypoint, u32 root) {
    while (p.depth[root] > p.depth[keypoint]) root = p.parent[root];
    return root == keypoint;
}

INLINE Route route_to(const Params& p, u32 keypoint, u32 root) {
    if (on_the_way_up(p, keypoint, root)) {
        u32 below = root;
        while (p.depth[below] > p.depth[keypoint] + 1) below = p.parent[below];
        return {(u32)(p.depth[root] - p.depth[keypoint]), below, true};
    }
    u32 level = 0, above = keypoint;
    do {
        above = p.parent[above];
        ++level;
    } while (!on_the_way_up(p, above, root));
    return {level + p.depth[root] - p.depth[above], p.parent[keypoint], false};
}

// ---- reading the tensors

INLINE float value_at(const Params& p, u32 tensor, u64 image, u32 channel, u32 y, u32 x) {
    const void* data = tensor == HEATMAPS  ? p.heatmaps
                       : tensor == OFFSETS ? p.offsets
                       : tensor == FORWARD ? p.forward
                                           : p.backward;
    const i64* stride = p.strides + 4 * tensor;
    const u64 index = image * stride[0] + channel * stride[1] + y * stride[2] + x * stride[3];
    return element_at(data, p.element[tensor], index, p.zero[tensor], p.scale[tensor]);
}

INLINE float clamped(float v, u32 size) { return fminf(fmaxf(v, 0.0f), (float)(size - 1)); }

INLINE u32 cell(const Params& p, float pixels, u32 size) {
    const float at = pixels / p.output_stride;
    return (u32)(p.mode == PYTORCH ? rintf(clamped(at, size)) : floorf(clamped(at + 0.5f, size)));
}

INLINE Point place(const Params& p, u64 image, u32 y, u32 x, u32 keypoint) {
    return {(float)y * p.output_stride + value_at(p, OFFSETS, image, keypoint, y, x),
            (float)x * p.output_stride + value_at(p, OFFSETS, image, p.K + keypoint, y, x)};
}

INLINE float between(float a, float b, float f) { return f == 0.0f ? a : a * (1.0f - f) + b * f; }

// Coral reads maps between cells; offsets and displacements in cells too.
INLINE float sample(const Params& p, u32 tensor, u64 image, u32 channel, Point at) {
    const float factor = tensor == HEATMAPS ? 1.0f : 1.0f / p.output_stride;
    const float fy = floorf(at.y), fx = floorf(at.x);
    const u32 y0 = (u32)fy, x0 = (u32)fx, y1 = min(y0 + 1, p.H - 1), x1 = min(x0 + 1, p.W - 1);
    const float a = value_at(p, tensor, image, channel, y0, x0) * factor;
    const float b = value_at(p, tensor, image, channel, y0, x1) * factor;
    const float c = value_at(p, tensor, image, channel, y1, x0) * factor;
    const float d = value_at(p, tensor, image, channel, y1, x1) * factor;
    return between(between(a, b, at.x - fx), between(c, d, at.x - fx), at.y - fy);
}

INLINE bool is_coral(const Params& p) { return p.mode >= CORAL; }
INLINE Point clamp_to_map(const Params& p, Point q) { return {clamped(q.y, p.H), clamped(q.x, p.W)}; }

INLINE Point root_place(const Params& p, u64 image, u32 y, u32 x, u32 k) {
    if (!is_coral(p)) return place(p, image, y, x, k);
    const float per_stride = 1.0f / p.output_stride;
    return clamp_to_map(p, {(float)y + value_at(p, OFFSETS, image, k, y, x) * per_stride,
                            (float)x + value_at(p, OFFSETS, image, p.K + k, y, x) * per_stride});
}

INLINE float activated(const Params& p, float value) { return p.sigmoid ? sigmoid(value) : value + 0.0f; }

// From a keypoint at `from` along the edge of `route` to keypoint k: its place, and its score.
INLINE Point step(const Params& p, u64 image, Point from, Route route, u32 k, float& score) {
    const u32 displacement = route.up ? BACKWARD : FORWARD, edge = p.edge[route.up ? route.source : k];
    Point q = from;
    if (is_coral(p)) {
        u32 tensor_y = displacement, channel_y = edge, channel_x = p.K - 1 + edge;
        // left eye to nose: edgetpu reads one block too early
        if (p.mode == EDGETPU && route.up && route.source == 1) {
            tensor_y = FORWARD;
            channel_y = p.K - 1;
            channel_x = 0;
        }
        const float dy = sample(p, tensor_y, image, channel_y, from);
        const float dx = sample(p, displacement, image, channel_x, from);
        q = clamp_to_map(p, {from.y + dy, from.x + dx});
        for (u32 i = 0; i < p.refinements; ++i) {
            const float oy = sample(p, OFFSETS, image, k, q), ox = sample(p, OFFSETS, image, p.K + k, q);
            q = clamp_to_map(p, {q.y + oy, q.x + ox});
        }
        score = activated(p, sample(p, HEATMAPS, image, k, q));
        return q;
    }
    u32 y = cell(p, from.y, p.H), x = cell(p, from.x, p.W);
    q = {from.y + value_at(p, displacement, image, edge, y, x),
         from.x + value_at(p, displacement, image, p.K - 1 + edge, y, x)};
    for (u32 i = 0; i < p.refinements; ++i) {
        y = cell(p, q.y, p.H);
        x = cell(p, q.x, p.W);
        q = place(p, image, y, x, k);
    }
    if (p.mode == TFJS) {  // "pytorch" scores the cell before the refinement
        y = cell(p, q.y, p.H);
        x = cell(p, q.x, p.W);
    }
    score = activated(p, value_at(p, HEATMAPS, image, k, y, x));
    return q;
}

struct Root {
    u32 y, x, k;
};

INLINE Root root_of(const Params& p, u64 packed) {
    const u32 position = position_of(packed), at = position / p.K;
    return {at / p.W, at % p.W, position % p.K};
}

// One warp: lane k finds keypoint k, level by level of the tree. All lanes call; lanes from K on get no keypoint.
INLINE void walk(const Params& p, u64 image, Root root, Point& at, float& score) {
    const u32 k = min(threadIdx.x % 32, p.K - 1);
    const Route route = route_to(p, k, root.k);
    at = {0.0f, 0.0f};
    score = 0.0f;
    bool known = k == root.k;
    if (known) {
        at = root_place(p, image, root.y, root.x, k);
        const float value =
            is_coral(p) ? sample(p, HEATMAPS, image, k, at) : value_at(p, HEATMAPS, image, k, root.y, root.x);
        score = activated(p, value);
    }
    for (u32 level = 1; level <= p.longest; ++level) {
        const float y = __shfl_sync(FULL, at.y, route.source), x = __shfl_sync(FULL, at.x, route.source);
        const float source_score = __shfl_sync(FULL, score, route.source);
        const bool source_known = __shfl_sync(FULL, (int)known, route.source);
        if (route.level == level && source_known && (p.mode != PYTORCH || source_score >= SMALLEST_NORMAL)) {
            at = step(p, image, {y, x}, route, k, score);
            known = true;
        }
    }
}

// ---- the three kernels

struct None {};

extern "C" __global__ void __launch_bounds__(THREADS, 1) find_roots(const __grid_constant__ Params p) {
    const u64 image = blockIdx.y;  // ranges [0, B)
    const u32 cells = p.H * p.W, n = cells * p.K;
    const E::Raw* maps = (const E::Raw*)p.heatmaps + image * p.strides[0];
    for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
        const u32 k = p.channels_fastest ? i % p.K : i / cells, at = p.channels_fastest ? i / p.K : i % cells;
        const u32 y = at / p.W, x = at - y * p.W;
        const E::Raw* map = maps + k * p.strides[1];
        const u32 key = E::key(__ldg(map + y * p.strides[2] + x * p.strides[3]));
        if (key < p.least_key || (!E::INTEGER && key == E::NAN_KEY)) continue;
        bool largest = true;  // NaN has the largest key of all, so that a cell beside it is no root
        for (u32 v = y - (y > 0); v <= min(y + 1, p.H - 1); ++v)
            for (u32 u = x - (x > 0); u <= min(x + 1, p.W - 1); ++u)
                if (v != y || u != x) largest &= E::key(__ldg(map + v * p.strides[2] + u * p.strides[3])) <= key;
        if (!largest) continue;
        const u64 slot = image * p.room + atomicAdd(p.found + image, 1u);
        const Point q = root_place(p, image, y, x, k);
        p.roots[slot] = pack(key, at * p.K + k);
        p.root_places[2 * slot] = q.y;
        p.root_places[2 * slot + 1] = q.x;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) walk_roots(const __grid_constant__ Params p) {
    const u64 image = blockIdx.y;  // ranges [0, B)
    const u32 warp = threadIdx.x / 32, k = threadIdx.x % 32, found = p.found[image];
    u64* roots = p.roots + image * p.room;
    const u32 last = p.mode == TFJS ? min(found, p.walked) : found;  // tfjs rejects no pose
    for (u32 slot = blockIdx.x * (THREADS / 32) + warp; slot < last; slot += gridDim.x * (THREADS / 32)) {
        Point at;
        float score;
        walk(p, image, root_of(p, roots[slot]), at, score);
        if (slot < p.walked && k < p.K) {
            float* result = p.walks + ((image * p.walked + slot) * p.K + k) * 3;
            result[0] = at.y;
            result[1] = at.x;
            result[2] = score;
        }
        if (p.mode == TFJS) continue;
        float sum = __shfl_sync(FULL, score, 0);
        bool rising = !(sum >= 0.0f);  // a negative score or NaN: without it the mean would be larger
        for (u32 i = 1; i < p.K; ++i) {
            const float next = __shfl_sync(FULL, score, i);
            rising |= !(next >= 0.0f);
            sum += next;
        }
        __syncwarp();  // all lanes have read the root
        // pytorch: keypoints that accepted poses have count 0, which else only lowers the mean
        if (k == 0 && !(sum / (float)p.K >= p.least_pose) && (is_coral(p) || !rising)) roots[slot] = 0;
    }
}

#define LISTED 1024  // roots that shared memory holds
#define KEPT 4096    // floats of accepted poses there

struct Scratch {
    u64 roots[LISTED];  // what is left of the list after walk_roots
    Point places[LISTED];
    u32 slots[LISTED];  // their places in the list
    float accepted[KEPT];
    u64 best[THREADS / 32];
    u32 left;
    u32 slot;
    Pose pose;
    u32 taken[MOST_KEYPOINTS];  // 1 where the pose's keypoint is near the same one of an accepted pose
    u32 accept;
};

INLINE bool near(const Params& p, float ay, float ax, float by, float bx) {
    const float dy = ay - by, dx = ax - bx;
    return dy * dy + dx * dx <= p.radius;
}

INLINE float mean_score(const Params& p, const Pose& pose, const u32* taken) {
    float sum = taken && taken[0] ? 0.0f : pose.score[0];
    for (u32 k = 1; k < p.K; ++k) sum += taken && taken[k] ? 0.0f : pose.score[k];
    return sum / (float)p.K;
}

// Whether pose a has a larger mean than b, or an equal one and was accepted before.
INLINE bool comes_before(const float* means, u32 a, u32 b) {
    return means[a] > means[b] || (means[a] == means[b] && a < b);
}

// Whether keypoint k at (y, x) is near the same keypoint of one of `count` poses in `accepted`.
INLINE bool near_any(const Params& p, const float* accepted, u32 count, u32 k, float y, float x) {
    bool any = false;
    for (u32 q = 0; q < count; ++q) any |= near(p, accepted[(q * p.K + k) * 3], accepted[(q * p.K + k) * 3 + 1], y, x);
    return any;
}

INLINE void write_pose(const Params& p, u64 image, u32 row, const float* pose, float score) {
    const u64 to = image * p.max_poses + row;
    const u32 k = threadIdx.x;
    if (k >= p.K) return;
    float y = pose[3 * k], x = pose[3 * k + 1];
    if (is_coral(p)) {
        y *= p.output_stride;
        x *= p.output_stride;
    }
    transform_point(p, image, x, y);
    p.keypoints[2 * (to * p.K + k)] = x;
    p.keypoints[2 * (to * p.K + k) + 1] = y;
    p.keypoint_scores[to * p.K + k] = pose[3 * k + 2];
    if (k == 0) p.scores[to] = score;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) accept_poses(const __grid_constant__ Params p) {
    SHARED(Scratch, s);
    const u64 image = blockIdx.x;  // ranges [0, B)
    const u32 t = threadIdx.x, warp = t / 32, lane = t % 32;
    const u32 listed = p.found[image];
    u64* list = p.roots + image * p.room;
    const Point* list_places = (const Point*)p.root_places + image * p.room;
    float* means = p.means + image * p.max_poses;
    float* accepted = p.max_poses * p.K * 3 <= KEPT ? s.accepted : p.accepted + image * p.max_poses * p.K * 3;

    if (t == 0) s.left = 0;
    __syncthreads();
    for (u32 i = t; i < listed; i += THREADS) {
        const u64 root = list[i];
        const u32 at = root ? atomicAdd(&s.left, 1u) : LISTED;
        if (at >= LISTED) continue;
        s.roots[at] = root;
        s.places[at] = list_places[i];
        s.slots[at] = i;
    }
    __syncthreads();
    const bool fits = s.left <= LISTED;
    const u32 found = fits ? s.left : listed;
    u64* roots = fits ? s.roots : list;
    const Point* places = fits ? s.places : list_places;

    u32 count = 0;
    while (count < p.max_poses) {
        u64 mine = 0;  // a thread looks after the slots t, t + THREADS, ... from beginning to end
        u32 slot = 0;
        for (u32 i = t; i < found; i += THREADS)
            if (roots[i] > mine) {
                mine = roots[i];
                slot = i;
            }
        const u64 best = block_max(s.best, THREADS / 32, mine);
        if (!best) break;
        if (mine == best) {
            s.slot = fits ? s.slots[slot] : slot;
            roots[slot] = 0;
        }
        __syncthreads();

        const Root root = root_of(p, best);
        if (warp == 0) {
            Point at;
            float score;
            if (s.slot < p.walked) {
                const float* kept = p.walks + ((image * p.walked + s.slot) * p.K + min(lane, p.K - 1)) * 3;
                at = {kept[0], kept[1]};
                score = kept[2];
            } else {
                walk(p, image, root, at, score);
            }
            if (lane < p.K) {
                s.pose.y[lane] = at.y;
                s.pose.x[lane] = at.x;
                s.pose.score[lane] = score;
                s.taken[lane] = !is_coral(p) && near_any(p, accepted, count, lane, at.y, at.x);
            }
            __syncwarp();
            if (lane == 0) {
                const float mean = mean_score(p, s.pose, is_coral(p) ? nullptr : s.taken);
                s.accept = p.mode == TFJS || mean >= p.least_pose;
                means[count] = mean;
            }
        }
        __syncthreads();
        if (s.accept) {
            if (t < p.K) {
                float* row = accepted + (count * p.K + t) * 3;
                row[0] = s.pose.y[t];
                row[1] = s.pose.x[t];
                row[2] = s.pose.score[t];
            }
            for (u32 i = t; i < found; i += THREADS) {
                const u32 k = position_of(roots[i]) % p.K;
                if (roots[i] && near(p, s.pose.y[k], s.pose.x[k], places[i].y, places[i].x)) roots[i] = 0;
            }
            ++count;
        }
        __syncthreads();
    }
    __syncthreads();

    if (!is_coral(p)) {
        for (u32 q = 0; q < count; ++q) write_pose(p, image, q, accepted + q * p.K * 3, means[q]);
    } else {
        // Coral: by mean score; keypoints near the same one of a better pose count 0 in a second mean; by that, if
        // enough.
        float* second = p.scores + image * p.max_poses;  // until the poses are written
        for (u32 q = t; q < count; q += THREADS) {
            float sum = 0.0f;
            for (u32 k = 0; k < p.K; ++k) {
                const float* own = accepted + (q * p.K + k) * 3;
                bool taken = false;
                for (u32 other = 0; other < count; ++other) {
                    const float* theirs = accepted + (other * p.K + k) * 3;
                    if (comes_before(means, other, q)) taken |= near(p, own[0], own[1], theirs[0], theirs[1]);
                }
                const float score = taken ? 0.0f : own[2];
                sum = k ? sum + score : score;
            }
            second[q] = sum / (float)p.K;
        }
        __syncthreads();
        u32* order = (u32*)roots;  // the list is done with
        if (t == 0) s.slot = 0;
        __syncthreads();
        for (u32 q = t; q < count; q += THREADS) {  // by the second mean; equal ones by the first, then as accepted
            if (!(second[q] >= p.least_pose)) continue;
            u32 before = 0;
            for (u32 other = 0; other < count; ++other)
                before += second[other] > second[q] || (second[other] == second[q] && comes_before(means, other, q));
            order[before] = q;
            atomicAdd(&s.slot, 1u);
        }
        __syncthreads();
        count = s.slot;
        for (u32 q = t; q < count; q += THREADS) means[q] = second[order[q]];
        __syncthreads();
        for (u32 q = 0; q < count; ++q) write_pose(p, image, q, accepted + order[q] * p.K * 3, means[q]);
    }
    __syncthreads();
    const u64 first = image * p.max_poses + count, rest = p.max_poses - count;
    for (u64 i = t; i < rest * p.K * 2; i += THREADS) p.keypoints[first * p.K * 2 + i] = 0.0f;
    for (u64 i = t; i < rest * p.K; i += THREADS) p.keypoint_scores[first * p.K + i] = 0.0f;
    for (u64 i = t; i < rest; i += THREADS) p.scores[first + i] = 0.0f;
    if (t == 0) {
        p.counts[image] = count;
        p.found[image] = 0;
    }
}
