// simcc.cu: SimCC decoding (RTMPose, RTMW, SimCC) in one launch for all rows.
//
// A keypoint k of row n has two vectors: simcc_x[n, k] of W[0] bins and simcc_y[n, k] of W[1]. On each of the two axes
//     v[i]   = the element, dequantized; MERGED: half the sum of it and of its partner from the flipped image,
//              flipped_x[n, pair[k], W[0] - 1 - i] and flipped_y[n, pair[k], i]
//     i, top = the first largest bin and its value           (on what was given: logits, scores or raw integers alike)
//     at     = i - dx / dxx                                   DARK: Newton's step on L, see `dark` below; else at = i
//     seen   = 1 / sum_j exp(sharpness * (v[j] - top))        the largest value of a softmax
// and then
//     score  = min(top_x, top_y), or with `mean` half their sum, each first scaled by `normalizer` and cut to 0 ... 1 where asked for
//     point  = (at_x, at_y), or (absent, absent) where the score is not above the threshold, divided by `split`
//     point  = transform applied to (point, 1), where there is one
//     score  = sigmoid(score) where the vectors are logits; visibility = min(seen_x, seen_y)
// Source: get_simcc_maximum, gaussian_blur1d, refine_simcc_dark and SimCCLabel.decode of mmpose 1.3.2 (codecs/),
// flip_vectors of models/utils/tta.py.
//
// Vectors (N, K, W) with any strides; keypoints (N, K, 2) as (x, y) in pixels of the network's input, scores and
// visibility (N, K), float32, C order. Each element is read once; DARK reads the window around the peak again.
//
// Parallel plan. A warp takes a vector: 16-byte loads where its bins are consecutive, four in flight; element by
// element otherwise. The two warps of a keypoint meet once, in shared memory, and one thread writes. A block holds one
// keypoint while there are few, so that they spread over the GPU, or four. Sums run in a fixed order, lane by lane and
// then by halves, and the logarithm is made of + - * /, so that the NumPy implementation gives the same points bit for
// bit.
//
// Ties and NaN as argmax.cuh: the first largest, NaN above all; a NaN on either axis makes the score NaN. A score of -0
// is written +0.

#include "argmax.cuh"

#define WARPS (THREADS / 32)
#define MOST_TAPS 64

struct Params {
    const void* vectors[2];   // simcc_x, simcc_y
    const void* flipped[2];   // of the flipped image, or null
    const float* transforms;  // rows of 2x3, or null
    float* keypoints;
    float* scores;
    float* visibility;  // or null
    // strides in elements
    i64 stride_n[2], stride_k[2], stride_i[2];
    i64 flipped_stride_n[2], flipped_stride_k[2], flipped_stride_i[2];
    i64 transform_stride;  // in floats from one row to the next
    u32 total;             // N * K
    u32 K;
    u32 W[2];
    u32 dark;
    u32 radius[2];      // taps of the blur to either side of the middle
    u32 mean;           // 1 where the score is the mean of both maxima, 0 where it is the smaller
    u32 sigmoid;        // 1 where the vectors are logits
    u32 affine;         // 0 none, 1 `matrix` for all rows, 2 `transforms`
    u32 threshold_key;  // f32::key of the largest score of an absent keypoint; 0: none is absent
    float absent, split;
    float scale[2], zero[2];  // integers: value = (q - zero) * scale
    float sharpness[2];
    float normalizer[2];  // 0: scores stay as they are
    float matrix[6];
    float taps[128];  // MOST_TAPS an axis: the middle one of a blur and those to one side
    u16_t flip_pairs[512];
};

typedef ELEMENT E;
#if MERGED
typedef f32 Key;  // means of two elements are compared
#else
typedef E Key;
#endif

struct Scratch {
    float taps[2 * MOST_TAPS];
    float at[WARPS], top[WARPS], seen[WARPS];  // warps 2 j and 2 j + 1: x and y of the block's keypoint j
};

// One vector, with its partner where there is one: bin i of `flipped` is at i * flipped_stride, which is
// negative for x.
struct Vector {
    const E::Raw* given;
    const E::Raw* flipped;
    i64 stride, flipped_stride;
    u32 W;
    float scale, zero;

    static INLINE u32 key(u32 bits, u32 flipped_bits) {
        return MERGED ? f32::key(__float_as_uint((E::widen(bits) + E::widen(flipped_bits)) * 0.5f)) : E::key(bits);
    }
    INLINE float dequantized(float number) const { return E::INTEGER ? (number - zero) * scale : number; }
    INLINE float value(u32 key) const { return dequantized(Key::value(key)); }
    INLINE float at(u32 i) const {  // ranges [0, W)
        float number = E::widen(__ldg(given + i * stride));
        if (MERGED) number = (number + E::widen(__ldg(flipped + i * flipped_stride))) * 0.5f;
        return dequantized(number);
    }
};

// The denominator of a softmax that has its largest element for numerator, kept up to date as larger ones come.
struct Mass {
    float top = 0.0f, sum = 0.0f;
    INLINE void raise(float to, float sharpness) {
        if (sum > 0.0f && top != to) sum *= expf(sharpness * (top - to));
        top = to;
    }
    INLINE void add(float v, float sharpness) { sum += expf(sharpness * (v == top ? 0.0f : v - top)); }
};

// One lane's part of a vector.
struct Scan {
    const Vector& vector;
    const float sharpness;
    const bool soft;
    Best best;
    Mass mass;

    INLINE void take(u32 bits, u32 flipped_bits, u32 i) {
        const u32 key = Vector::key(bits, flipped_bits);
        best.take(key, i);
        if (!soft) return;
        mass.raise(vector.value(best.key), sharpness);
        mass.add(vector.value(key), sharpness);
    }

    // PER_VECTOR bins from i on. backwards: those of `b` come last first.
    INLINE void take_vector(const uint4& a, const uint4& b, bool backwards, u32 i) {
        constexpr u32 N = E::PER_VECTOR;
        if (MERGED) {
#pragma unroll
            for (u32 n = 0; n < N; ++n) {
                const u32 partner = backwards ? E::get(b, N - 1 - n) : E::get(b, n);
                best.take(Vector::key(E::get(a, n), partner), i + n);
            }
        } else {
            best.take_vector<E>(a, i);
        }
        if (!soft) return;
        mass.raise(vector.value(best.key), sharpness);
#pragma unroll 4
        for (u32 n = 0; n < N; ++n) {
            const u32 partner = backwards ? E::get(b, N - 1 - n) : E::get(b, n);
            mass.add(vector.value(Vector::key(E::get(a, n), partner)), sharpness);
        }
    }
};

INLINE bool finite(float v) { return fabsf(v) <= 3.402823466e+38f; }
INLINE bool aligned(const void* address) { return (u64)address % 16 == 0; }

// 16-byte loads: bins are consecutive, and the partners of 16 aligned bytes are 16 aligned bytes. All 32 lanes call.
INLINE void scan_vectors(Scan& scan, u32 lane) {
    constexpr u32 N = E::PER_VECTOR, IN_FLIGHT = MERGED ? 2 : 4;
    const Vector& v = scan.vector;
    const bool backwards = MERGED && v.flipped_stride < 0;
    const u32 head = elements_before_vectors<E>(v.given, v.W), vectors = (v.W - head) / N;
    const uint4* given = (const uint4*)(v.given + head);
    // vector n of `given` meets vector n of `flipped`, or the n-th before it
    const uint4* flipped = (const uint4*)(backwards ? v.flipped - head - (N - 1) : v.flipped + head);
    const u32 loose = lane < head ? lane : lane + vectors * N;  // bins before and after the vectors: fewer than 32

    const bool has_loose = loose < v.W;
    u32 loose_bits = 0, loose_flipped = 0;
    if (has_loose) {
        loose_bits = __ldg(v.given + loose);
        if (MERGED) loose_flipped = __ldg(v.flipped + loose * v.flipped_stride);
    }
    if (lane < head) scan.take(loose_bits, loose_flipped, loose);
    for (u32 first = lane; first < vectors; first += 32 * IN_FLIGHT) {
        uint4 a[IN_FLIGHT], b[IN_FLIGHT];
#pragma unroll
        for (u32 n = 0; n < IN_FLIGHT; ++n) {
            const u32 at = first + 32 * n;
            if (at < vectors) {
                a[n] = __ldg(given + at);
                b[n] = MERGED ? __ldg(backwards ? flipped - at : flipped + at) : a[n];
            }
        }
#pragma unroll
        for (u32 n = 0; n < IN_FLIGHT; ++n) {
            const u32 at = first + 32 * n;
            if (at < vectors) scan.take_vector(a[n], b[n], backwards, head + at * N);
        }
    }
    if (lane >= head && has_loose) scan.take(loose_bits, loose_flipped, loose);
}

INLINE void scan_elements(Scan& scan, u32 lane) {
    const Vector& v = scan.vector;
    for (u32 i = lane; i < v.W; i += 4 * 32) {
        u32 a[4], b[4];
#pragma unroll
        for (u32 n = 0; n < 4; ++n)
            if (i + 32 * n < v.W) {
                a[n] = __ldg(v.given + (i + 32 * n) * v.stride);
                b[n] = MERGED ? __ldg(v.flipped + (i + 32 * n) * v.flipped_stride) : 0;
            }
#pragma unroll
        for (u32 n = 0; n < 4; ++n)
            if (i + 32 * n < v.W) scan.take(a[n], b[n], i + 32 * n);
    }
}

INLINE bool has_vectors(const Vector& v) {
    if (v.stride != 1) return false;
    if (!MERGED) return true;
    const u32 head = elements_before_vectors<E>(v.given, v.W);
    if (v.flipped_stride == 1) return aligned(v.flipped + head);
    return v.flipped_stride == -1 && aligned(v.flipped - head + 1);
}

INLINE float warp_sum(float v) {
#pragma unroll
    for (int lane = 16; lane; lane /= 2) v += __shfl_xor_sync(FULL, v, lane);
    return v;
}

INLINE float clipped(float v) { return v < 1e-3f ? 1e-3f : v > 50.0f ? 50.0f : v; }  // NaN stays

// ln(a / b) for normal quotients. a / b = m * 2^e with m from sqrt(1/2) to sqrt(2); ln m = 2 artanh((m - 1) / (m + 1)),
// whose series ends with the ninth power: the rest is less than 1e-8.
INLINE float log_ratio(float a, float b) {
    const u32 above = __float_as_uint(a / b) - 0x3f3504f3;  // sqrt(1/2)
    const float e = (float)((i32)above >> 23);
    const float m = __uint_as_float((above & 0x7fffff) + 0x3f3504f3);
    const float z = (m - 1.0f) / (m + 1.0f), s = z * z;
    return e * 0.693147182f + z * (2.0f + s * (0.666666687f + s * (0.4f + s * (0.285714298f + s * 0.222222224f))));
}

// The largest bin of the whole blurred vector; bins outside it are 0.
INLINE float largest_blurred(const Vector& v, const float* taps, i32 radius, u32 lane) {
    float largest = minus_infinity();
    for (i32 q = lane; q < (i32)v.W; q += 32) {
        float sum = 0.0f;
        for (i32 j = max(0, q - radius); j <= min((i32)v.W - 1, q + radius); ++j) sum += taps[abs(j - q)] * v.at(j);
        largest = fmaxf(largest, sum);
    }
    return warp_max(largest);
}

// DARK. The vector is blurred, scaled by c = top / largest of the blurred vector and clipped to 1e-3 ... 50. L is its
// logarithm, continued beyond its ends by its last bins:
//     dx = (L[i+1] - L[i-1]) / 2,  dxx = 1e-9 + (L[i+2] - 2 L[i] + L[i-2]) / 4
// Only bins i - 2 ... i + 2 of the blurred vector are made. Differences of logarithms do not depend on c, and c is at
// least 1, so it is computed only where a clip could act: a bin below 1e-3, or a top above 50. Where no bin can exceed
// 1e-3 there is no step. A top of NaN or infinity gives NaN.
INLINE float dark(const Vector& v, const float* taps, i32 radius, u32 winner, float top, u32 lane) {
    if (!finite(top)) return quiet_nan();
    const i32 i = winner, last = v.W - 1, first = i - 2 - radius;
    if (top <= 1e-3f) return (float)i;
    float b[5] = {};  // bins i - 2 ... i + 2
    for (i32 u = lane; u <= 2 * radius + 4; u += 32) {
        const i32 j = first + u;
        if (j < 0 || j > last) continue;
        const float value = v.at(j);
#pragma unroll
        for (i32 t = 0; t < 5; ++t) {
            const i32 distance = abs(u - radius - t);
            if (distance <= radius) b[t] += taps[distance] * value;
        }
    }
#pragma unroll
    for (i32 t = 0; t < 5; ++t) b[t] = warp_sum(b[t]);
    if (i < 1) b[1] = b[2];
    if (i < 2) b[0] = b[1];
    if (i > last - 1) b[3] = b[2];
    if (i > last - 2) b[4] = b[3];

    bool clear = top <= 50.0f;
#pragma unroll
    for (i32 t = 0; t < 5; ++t) clear &= b[t] >= 1e-3f;
    if (!clear) {
        const float c = top / largest_blurred(v, taps, radius, lane);
#pragma unroll
        for (i32 t = 0; t < 5; ++t) b[t] = clipped(b[t] * c);
    }
    const float dx = 0.5f * log_ratio(b[3], b[1]);
    const float dxx = 1e-9f + 0.25f * (log_ratio(b[4], b[2]) + log_ratio(b[0], b[2]));
    return (float)i - dx / dxx;
}

INLINE Vector vector_of(const Params& p, u32 keypoint, u32 axis) {
    const u32 n = keypoint / p.K, k = keypoint - n * p.K, partner = MERGED ? p.flip_pairs[k] : 0;
    Vector v;
    v.W = p.W[axis];
    v.scale = p.scale[axis];
    v.zero = p.zero[axis];
    v.given = (const E::Raw*)p.vectors[axis] + n * p.stride_n[axis] + k * p.stride_k[axis];
    v.stride = p.stride_i[axis];
    v.flipped = nullptr;
    v.flipped_stride = 0;
    if (MERGED) {
        const i64 step = p.flipped_stride_i[axis];
        v.flipped = (const E::Raw*)p.flipped[axis] + n * p.flipped_stride_n[axis] + partner * p.flipped_stride_k[axis];
        if (axis == 0) v.flipped += (v.W - 1) * step;
        v.flipped_stride = axis == 0 ? -step : step;
    }
    return v;
}

INLINE void decode_vector(const Params& p, u32 keypoint, u32 axis, u32 warp, u32 lane, Scratch& scratch) {
    const Vector v = vector_of(p, keypoint, axis);
    Scan scan = {v, p.sharpness[axis], p.visibility != nullptr, {}, {}};
    if (has_vectors(v))
        scan_vectors(scan, lane);
    else
        scan_elements(scan, lane);
    const u64 winner = warp_max(scan.best.packed());
    const float top = v.value(key_of(winner));
    float at = (float)position_of(winner), seen = 0.0f;
    if (scan.soft) {
        scan.mass.raise(top, scan.sharpness);
        seen = finite(top) ? 1.0f / warp_sum(scan.mass.sum) : quiet_nan();
    }
    if (p.dark) at = dark(v, scratch.taps + axis * MOST_TAPS, p.radius[axis], position_of(winner), top, lane);
    if (lane == 0) {
        scratch.at[warp] = at;
        scratch.top[warp] = top;
        scratch.seen[warp] = seen;
    }
}

INLINE float smaller(float a, float b) {  // NaN wins; by keys, which keep denormals apart
    const u32 p = f32::key(__float_as_uint(a)), q = f32::key(__float_as_uint(b));
    return a != a ? a : b != b ? b : p < q ? a : b;
}

INLINE float normalized(const Params& p, float top, u32 axis) {
    if (p.normalizer[axis] == 0.0f) return top;
    const float score = top / p.normalizer[axis];
    return score < 0.0f ? 0.0f : score > 1.0f ? 1.0f : score;
}

INLINE void write_keypoint(const Params& p, u32 keypoint, u32 x_warp, const Scratch& scratch) {
    const float of_x = normalized(p, scratch.top[x_warp], 0), of_y = normalized(p, scratch.top[x_warp + 1], 1);
    float score = p.mean ? (of_x + of_y) * 0.5f + 0.0f : smaller(of_x, of_y);
    const bool absent = f32::key(__float_as_uint(score)) <= p.threshold_key;
    float x = (absent ? p.absent : scratch.at[x_warp]) / p.split;
    float y = (absent ? p.absent : scratch.at[x_warp + 1]) / p.split;
    if (p.sigmoid) score = sigmoid(score);
    transform_point(p, keypoint / p.K, x, y);
    const u64 at = keypoint;
    p.keypoints[2 * at] = x;
    p.keypoints[2 * at + 1] = y;
    p.scores[at] = score;
    if (p.visibility) p.visibility[at] = smaller(scratch.seen[x_warp], scratch.seen[x_warp + 1]);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) decode_simcc(const __grid_constant__ Params p) {
    SHARED(Scratch, scratch);
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, of_block = blockDim.x / 64;
    const u32 first = blockIdx.x * of_block, keypoint = first + warp / 2;
    if (p.dark) {
        for (u32 t = threadIdx.x; t < 2 * MOST_TAPS; t += blockDim.x) scratch.taps[t] = p.taps[t];
        __syncthreads();
    }
    if (keypoint < p.total) decode_vector(p, keypoint, warp % 2, warp, lane, scratch);
    __syncthreads();
    if (threadIdx.x < of_block && first + threadIdx.x < p.total)
        write_keypoint(p, first + threadIdx.x, 2 * threadIdx.x, scratch);
}
