// argmax.cuh: the first largest element of a map, on integer keys.
//
// Every element becomes an unsigned key that orders as numpy.argmax does: -inf < ... < -0 == +0 < ... < +inf < NaN, all
// NaN equal. Integers know no flush to zero, so denormals stay apart although CuPy compiles with -ftz=true. Key and
// position are packed as key << 32 | ~position: one 64-bit maximum then gives the largest value, the first position
// that holds it, and the NaN rule, in any order of reduction. A key is never 0, so 0 means "nothing seen yet".

#include "common.cuh"

INLINE u64 pack(u32 key, u32 position) { return (u64)key << 32 | (u32)~position; }
INLINE u32 key_of(u64 packed) { return (u32)(packed >> 32); }
INLINE u32 position_of(u64 packed) { return ~(u32)packed; }

// ---- element types
//
// Raw: bits in memory. PER_VECTOR: elements in 16 bytes. NAN_KEY: key of every NaN. `key` of an element's bits, `value`
// of a key, `widen`: bits to float. Of a vector of 16 bytes `get`, one element's bits, and `top`, the largest key.

INLINE u32 word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
// clang-format off
INLINE u32 max_f32(u32 a, u32 b) { u32 m; asm("max.NaN.f32 %0, %1, %2;" : "=r"(m) : "r"(a), "r"(b)); return m; }
INLINE u32 max_f16x2(u32 a, u32 b) { u32 m; asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(m) : "r"(a), "r"(b)); return m; }
INLINE u32 max_bf16x2(u32 a, u32 b) { u32 m; asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(m) : "r"(a), "r"(b)); return m; }
// clang-format on
#define HAS_VECTOR_MAX 1
#else
#define HAS_VECTOR_MAX 0
#endif

// Sixteen-bit floats share one key; `infinity` tells where NaN begins.
constexpr u32 NAN_KEY16 = 0xffff;
INLINE u32 key16(u32 bits, u32 infinity) {
    u32 magnitude = bits & 0x7fff;
    u32 key = bits & 0x8000 ? 0x8000 - magnitude : 0x8000 + magnitude;
    return magnitude > infinity ? NAN_KEY16 : key;
}
INLINE u32 bits16(u32 key) { return key >= 0x8000 ? key - 0x8000 : 0x8000 | (0x8000 - key); }

INLINE float half_to_float(u32 bits) {
#if defined(__CUDA_ARCH__)
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"((u16_t)bits));
    return value;
#else
    u32 sign = (bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | fraction << 13);
    if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
    float subnormal = (float)fraction * 5.9604644775390625e-8f;  // fraction * 2^-24: a normal float32
    return sign ? -subnormal : subnormal;
#endif
}

template <class E>
INLINE u32 largest_key(const uint4& v) {
    u32 largest = 0;
#pragma unroll
    for (int i = 0; i < E::PER_VECTOR; ++i) largest = max(largest, E::key(E::get(v, i)));
    return largest;
}

struct f32 {
    typedef u32 Raw;
    static constexpr int PER_VECTOR = 4;
    static constexpr bool INTEGER = false;
    static constexpr u32 NAN_KEY = 0xffffffffu;
    static INLINE u32 key(u32 bits) {
        u32 key = (i32)bits < 0 ? 0u - bits : bits + 0x80000000u;
        return (bits & 0x7fffffffu) > 0x7f800000u ? NAN_KEY : key;
    }
    static INLINE float value(u32 key) {
        u32 bits = key >= 0x80000000u ? key - 0x80000000u : 0u - key;
        return key == NAN_KEY ? quiet_nan() : __uint_as_float(bits);
    }
    static INLINE float widen(u32 bits) { return __uint_as_float(bits); }
    static INLINE u32 get(const uint4& v, int i) { return word(v, i); }
    static INLINE u32 top(const uint4& v) {
#if HAS_VECTOR_MAX
        return key(max_f32(max_f32(v.x, v.y), max_f32(v.z, v.w)));
#else
        return largest_key<f32>(v);
#endif
    }
};

struct f16 {
    typedef u16_t Raw;
    static constexpr int PER_VECTOR = 8;
    static constexpr bool INTEGER = false;
    static constexpr u32 NAN_KEY = NAN_KEY16;
    static INLINE u32 key(u32 bits) { return key16(bits, 0x7c00); }
    static INLINE float value(u32 key) { return key == NAN_KEY ? quiet_nan() : half_to_float(bits16(key)); }
    static INLINE float widen(u32 bits) { return half_to_float(bits); }
    static INLINE u32 get(const uint4& v, int i) { return word(v, i / 2) >> (i % 2 * 16) & 0xffff; }
    static INLINE u32 top(const uint4& v) {
#if HAS_VECTOR_MAX
        const u32 m = max_f16x2(max_f16x2(v.x, v.y), max_f16x2(v.z, v.w));
        return key(max_f16x2(m, m >> 16 | m << 16) & 0xffff);
#else
        return largest_key<f16>(v);
#endif
    }
};

struct bf16 {
    typedef u16_t Raw;
    static constexpr int PER_VECTOR = 8;
    static constexpr bool INTEGER = false;
    static constexpr u32 NAN_KEY = NAN_KEY16;
    static INLINE u32 key(u32 bits) { return key16(bits, 0x7f80); }
    static INLINE float value(u32 key) { return key == NAN_KEY ? quiet_nan() : __uint_as_float(bits16(key) << 16); }
    static INLINE float widen(u32 bits) { return __uint_as_float(bits << 16); }
    static INLINE u32 get(const uint4& v, int i) { return f16::get(v, i); }
    static INLINE u32 top(const uint4& v) {
#if HAS_VECTOR_MAX
        const u32 m = max_bf16x2(max_bf16x2(v.x, v.y), max_bf16x2(v.z, v.w));
        return key(max_bf16x2(m, m >> 16 | m << 16) & 0xffff);
#else
        return largest_key<bf16>(v);
#endif
    }
};

// Bytes: key = unsigned order + 1. Two at a time, in words of 16-bit lanes.
INLINE u32 max_u16x2(u32 a, u32 b) {
#if defined(__CUDA_ARCH__)
    return __vmaxu2(a, b);
#else
    return max(a >> 16, b >> 16) << 16 | max(a & 0xffff, b & 0xffff);
#endif
}

INLINE u32 largest_byte(const uint4& v, u32 flip) {
    u32 largest = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const u32 w = word(v, i) ^ flip;
        largest = max_u16x2(largest, max_u16x2(w & 0x00ff00ff, w >> 8 & 0x00ff00ff));
    }
    return max(largest & 0xffff, largest >> 16);
}

struct u8 {
    typedef u8_t Raw;
    static constexpr int PER_VECTOR = 16;
    static constexpr bool INTEGER = true;
    static constexpr u32 NAN_KEY = 0;  // of no element
    static INLINE u32 key(u32 bits) { return bits + 1; }
    static INLINE float value(u32 key) { return (float)(key - 1); }
    static INLINE float widen(u32 bits) { return (float)bits; }
    static INLINE u32 get(const uint4& v, int i) { return word(v, i / 4) >> (i % 4 * 8) & 0xff; }
    static INLINE u32 top(const uint4& v) { return largest_byte(v, 0) + 1; }
};

struct i8 {
    typedef u8_t Raw;
    static constexpr int PER_VECTOR = 16;
    static constexpr bool INTEGER = true;
    static constexpr u32 NAN_KEY = 0;  // of no element
    static INLINE u32 key(u32 bits) { return (bits ^ 0x80) + 1; }
    static INLINE float value(u32 key) { return (float)((i32)key - 129); }
    static INLINE float widen(u32 bits) { return (float)((i32)(bits ^ 0x80) - 128); }
    static INLINE u32 get(const uint4& v, int i) { return u8::get(v, i); }
    static INLINE u32 top(const uint4& v) { return largest_byte(v, 0x80808080u) + 1; }
};

// ---- one thread's running maximum; positions must arrive in ascending order, so that > keeps the first

struct Best {
    u32 key = 0, position = 0;
    INLINE void take(u32 k, u32 p) {
        if (k > key) {
            key = k;
            position = p;
        }
    }
    template <class E>
    INLINE void take_vector(const uint4& v, u32 p) {  // elements p, p + 1, ...: one test for all
        if (E::top(v) > key) {
#pragma unroll
            for (int i = 0; i < E::PER_VECTOR; ++i) take(E::key(E::get(v, i)), p + i);
        }
    }
    INLINE u64 packed() const { return key ? pack(key, position) : 0; }
};

// The first vector that holds the largest element so far. Which of its elements that is, is settled once, at the end:
// on most turns of a warp's loop some lane sees a new maximum, and all lanes would wait while it looks.
struct BestVector {
    u32 key = 0, position = 0;  // of its first element
    uint4 elements = {};

    template <class E>
    INLINE void take(const uint4& v, u32 p) {
        const u32 top = E::top(v);
        if (top > key) {
            key = top;
            position = p;
            elements = v;
        }
    }
    template <class E>
    INLINE u32 place() const {
        u32 first = 0;
#pragma unroll
        for (int i = E::PER_VECTOR - 1; i >= 0; --i)
            if (E::key(E::get(elements, i)) == key) first = i;
        return position + first;
    }
};

// ---- 16-byte scan

// The elements of a run before its first 16-byte boundary.
template <class E>
INLINE u32 elements_before_vectors(const typename E::Raw* run, u32 length) {
    return min(length, (u32)((0u - (u32)(u64)run) % 16 / sizeof(typename E::Raw)));
}

// Scan `length` elements at consecutive addresses with a team of at least 32 threads, this one being `rank` of `team`.
// Element i of the run is element first + i of its map. Four 16-byte loads are in flight; each element is read once.
template <class E>
INLINE void scan_run(const typename E::Raw* run, u32 first, u32 length, u32 rank, u32 team, Best& best) {
    const u32 head = elements_before_vectors<E>(run, length);
    const u32 vectors = (length - head) / E::PER_VECTOR;
    const u32 tail = length - head - vectors * E::PER_VECTOR;
    const u32 tail_start = length - tail;
    const uint4* vector = (const uint4*)(run + head);
    u32 head_bits = 0, tail_bits = 0;
    if (rank < head) head_bits = __ldg(run + rank);
    if (rank < tail) tail_bits = __ldg(run + tail_start + rank);

    if (rank < head) best.take(E::key(head_bits), first + rank);
    BestVector of_vectors;
    for (u32 v = rank; v < vectors; v += 4 * team) {  // v + 3 team stays below 2^32: maps have at most 2^32 - 1 cells
        uint4 loaded[4];
#pragma unroll
        for (u32 i = 0; i < 4; ++i)
            if (v + i * team < vectors) loaded[i] = __ldg(vector + v + i * team);
#pragma unroll
        for (u32 i = 0; i < 4; ++i)
            if (v + i * team < vectors) of_vectors.take<E>(loaded[i], first + head + (v + i * team) * E::PER_VECTOR);
    }
    if (of_vectors.key > best.key) best.take(of_vectors.key, of_vectors.place<E>());
    if (rank < tail) best.take(E::key(tail_bits), first + tail_start + rank);
}

// ---- an element of a tensor whose type is known only at run time: `element` is its position in f32, f16, bf16, u8, i8

INLINE float element_at(const void* data, u32 element, u64 index, float zero, float scale) {
    switch (element) {
        case 0: return f32::widen(__ldg((const f32::Raw*)data + index));
        case 1: return f16::widen(__ldg((const f16::Raw*)data + index));
        case 2: return bf16::widen(__ldg((const bf16::Raw*)data + index));
        case 3: return (u8::widen(__ldg((const u8::Raw*)data + index)) - zero) * scale;
        default: return (i8::widen(__ldg((const i8::Raw*)data + index)) - zero) * scale;
    }
}
