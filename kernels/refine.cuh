// refine.cuh: where between the cells a peak lies. Rules and sources: posepost/ref/refine.py, the NumPy implementation.
//
// Included after `struct Params`, which has: H, W; refine, guard, border, reach, positive, blur, taps, beta. A warp
// works on one peak: all 32 lanes call with the same arguments and get the same result. `read(y, x)` is a map's value
// in a cell. Sums run in the order of the NumPy implementation, so that + - * / give the same bits. Of the map only the
// cells around the peak are read.

enum Refine { NONE, QUARTER, DARK, DARK_UDP, CENTROID, SOFT_ARGMAX };  // as KINDS in the NumPy implementation
enum Guard { MMPOSE, HRNET, HIGHERHRNET, MEGVII };
enum Border { ZERO, REFLECT, REFLECT_101 };

struct Step {
    float x, y;  // in cells
};

struct Scale {  // what reference implementations multiply a blurred map by; only `log_clipped` may need it
    bool known;
    float c;
};

// A map of zeros stays one: no 0 / 0.
INLINE float scale_of(float largest, float blurred) { return largest / (blurred == 0.0f ? 1.0f : blurred); }

INLINE float sign(float v) { return v > 0.0f ? 1.0f : v < 0.0f ? -1.0f : v; }  // NaN stays

// The cell that stands for cell `at` of an axis; -1 where there is none and the weight is 0.
INLINE i32 inside(i32 at, i32 size, u32 border) {
    if (at >= 0 && at < size) return at;
    if (border == ZERO) return -1;
    if (size == 1) return 0;
    const i32 period = border == REFLECT ? 2 * size : 2 * size - 2;
    at %= period;
    if (at < 0) at += period;
    return at < size ? at : (border == REFLECT ? 2 * size - 1 : 2 * size - 2) - at;
}

template <class Read>
INLINE float around(const Params& p, const Read& read, i32 y, i32 x) {
    const i32 row = inside(y, p.H, p.border), column = inside(x, p.W, p.border);
    return row < 0 || column < 0 ? 0.0f : read(row, column);
}

// ---- a quarter of a cell toward the larger neighbor; lanes 0 to 3 read left, right, above, below

// The cell that the lane looks at.
INLINE void neighbor(const Params& p, u32 lane, u32& y, u32& x) {
    const u32 column = x, row = y;
    if (lane == 0) x = column - (column > 0);
    if (lane == 1) x = min(column + 1, p.W - 1);
    if (lane == 2) y = row - (row > 0);
    if (lane == 3) y = min(row + 1, p.H - 1);
}

// `value`: of the lane's neighbor.
INLINE Step quarter_step(const Params& p, float value, u32 y, u32 x) {
    const float dx = __shfl_sync(FULL, value, 1) - __shfl_sync(FULL, value, 0);
    const float dy = __shfl_sync(FULL, value, 3) - __shfl_sync(FULL, value, 2);
    if (p.guard == HIGHERHRNET) return {dx > 0.0f ? 0.25f : -0.25f, dy > 0.0f ? 0.25f : -0.25f};
    const bool across = x > 1 && x + 1 < p.W, along = y > 1 && y + 1 < p.H;
    const bool move_x = p.guard == MMPOSE ? across && y > 0 : across && along;
    const bool move_y = p.guard == MMPOSE ? along && x > 0 : across && along;
    const float more = p.guard == MEGVII ? 0.5f : 0.0f;
    return {move_x ? 0.25f * sign(dx) + more : 0.0f, move_y ? 0.25f * sign(dy) + more : 0.0f};
}

template <class Read>
INLINE Step quarter(const Params& p, const Read& read, u32 y, u32 x) {
    u32 row = y, column = x;
    neighbor(p, lane_id(), row, column);
    return quarter_step(p, lane_id() < 4 ? read(row, column) : 0.0f, y, x);
}

// ---- the blurred map

// In one cell, by one lane: along x, then along y.
template <class Read>
INLINE float blurred_at(const Params& p, const Read& read, i32 y, i32 x) {
    const i32 radius = p.blur / 2;
    float sum = 0.0f;
    for (i32 j = 0; j < (i32)p.blur; ++j) {
        const i32 row = inside(y - radius + j, p.H, p.border);
        if (row < 0) continue;
        float along_x = 0.0f;
        for (i32 i = 0; i < (i32)p.blur; ++i) along_x += p.taps[i] * around(p, read, row, x - radius + i);
        sum += p.taps[j] * along_x;
    }
    return sum;
}

// In one cell, by all lanes: each blurs a row along x, and all add the rows up.
template <class Read>
INLINE float blurred_by_warp(const Params& p, const Read& read, i32 y, i32 x) {
    const i32 radius = p.blur / 2, lane = lane_id();
    float sum = 0.0f;
    for (i32 base = 0; base < (i32)p.blur; base += 32) {
        const i32 j = base + lane, row = j < (i32)p.blur ? inside(y - radius + j, p.H, p.border) : -1;
        float along_x = 0.0f;
        if (row >= 0)
            for (i32 i = 0; i < (i32)p.blur; ++i) along_x += p.taps[i] * around(p, read, row, x - radius + i);
        for (i32 i = 0; i < min(32, (i32)p.blur - base); ++i) sum += p.taps[base + i] * __shfl_sync(FULL, along_x, i);
    }
    return sum;
}

template <class Read>
INLINE Step quarter_of_blurred(const Params& p, const Read& read, u32 y, u32 x) {
    float mine = 0.0f;
    for (u32 lane = 0; lane < 4; ++lane) {
        u32 row = y, column = x;
        neighbor(p, lane, row, column);
        const float blurred = blurred_by_warp(p, read, row, column);
        if (lane_id() == lane) mine = blurred;
    }
    return quarter_step(p, mine, y, x);
}

// Around (y, x): lane i gets row y - REACH + i, columns x - REACH to x + REACH; lanes from 2 REACH + 1 on get no row.
// Each lane blurs one row along x, for all columns at once; the rows are then summed along y through shuffles. blur + 2
// REACH <= 32.
template <i32 REACH, class Read>
INLINE void blurred_around(const Params& p, const Read& read, i32 y, i32 x, float (&columns)[2 * REACH + 1]) {
    const i32 lane = lane_id(), radius = p.blur / 2, span = p.blur + 2 * REACH;
    float rows[2 * REACH + 1] = {};
    const i32 row = y - REACH - radius + lane;
    if (lane < span && inside(row, p.H, p.border) >= 0)
        for (i32 i = 0; i < span; ++i) {
            const float value = around(p, read, row, x - REACH - radius + i);
#pragma unroll
            for (i32 c = 0; c <= 2 * REACH; ++c)
                if (i >= c && i - c < (i32)p.blur) rows[c] += p.taps[i - c] * value;
        }
#pragma unroll
    for (i32 c = 0; c <= 2 * REACH; ++c) columns[c] = 0.0f;
    for (i32 j = 0; j < (i32)p.blur; ++j)
#pragma unroll
        for (i32 c = 0; c <= 2 * REACH; ++c) columns[c] += p.taps[j] * __shfl_sync(FULL, rows[c], (lane + j) % 32);
}

// The logarithm of the blurred map around (y, x), clipped to lowest ... highest, in place. With border ZERO the
// reference implementations scale the blurred map by c = max(map) / max(blurred map). Differences of logarithms do not
// depend on c, and c is at least 1, so it is needed only where a clip could act. False where that is so and c is not
// known.
template <i32 REACH>
INLINE bool log_clipped(const Params& p, float (&columns)[2 * REACH + 1], float peak, Scale scale, float lowest,
                        float highest) {
    bool clear = !(peak > highest);
#pragma unroll
    for (i32 i = 0; i <= 2 * REACH; ++i) clear &= columns[i] >= lowest;
    if (p.border == ZERO && !scale.known && !__all_sync(FULL, lane_id() > 2 * REACH || clear)) return false;
#pragma unroll
    for (i32 i = 0; i <= 2 * REACH; ++i) {
        float v = columns[i];
        if (p.border == ZERO && scale.known) v *= scale.c;
        v = v < lowest ? lowest : v > highest ? highest : v;  // NaN stays
        columns[i] = logf(v);
    }
    return true;
}

INLINE u32 whole(float v) { return __float2uint_rz(fabsf(v)); }  // 0 of NaN; the largest of what is larger

// To the maximum of the parabola. None from a singular Hessian, and none that leads a map's length or more away, which
// only the rounding of flat surroundings does; NaN stays.
INLINE Step newton(const Params& p, float dx, float dy, float dxx, float dyy, float dxy) {
    const float determinant = dxx * dyy - dxy * dxy;
    const float x = (dxy * dy - dyy * dx) / determinant, y = (dxy * dx - dxx * dy) / determinant;
    if (determinant == 0.0f || whole(x) >= p.W || whole(y) >= p.H) return {0.0f, 0.0f};
    return {x, y};
}

// Second differences are differences of first ones: where a map does not change along an axis they are 0, not rounding.
template <class Read>
INLINE bool dark(const Params& p, const Read& read, u32 y, u32 x, float peak, Scale scale, Step& step) {
    step = {0.0f, 0.0f};
    if (!(x > 1 && x + 2 < p.W && y > 1 && y + 2 < p.H)) return true;
    float columns[5];
    blurred_around<2>(p, read, y, x, columns);
    if (!log_clipped<2>(p, columns, peak, scale, 1e-10f, __uint_as_float(0x7f800000))) return false;
    float L[5][5];
#pragma unroll
    for (i32 j = 0; j < 5; ++j)
#pragma unroll
        for (i32 i = 0; i < 5; ++i) L[j][i] = __shfl_sync(FULL, columns[i], j);
    const float dx = 0.5f * (L[2][3] - L[2][1]), dy = 0.5f * (L[3][2] - L[1][2]);
    const float dxx = 0.25f * ((L[2][4] - L[2][2]) - (L[2][2] - L[2][0]));
    const float dyy = 0.25f * ((L[4][2] - L[2][2]) - (L[2][2] - L[0][2]));
    const float dxy = 0.25f * ((L[3][3] - L[1][3]) - (L[3][1] - L[1][1]));
    step = newton(p, dx, dy, dxx, dyy, dxy);
    return true;
}

template <class Read>
INLINE bool dark_udp(const Params& p, const Read& read, u32 y, u32 x, float peak, Scale scale, Step& step) {
    float columns[3];
    step = {0.0f, 0.0f};
    blurred_around<1>(p, read, y, x, columns);
    if (!log_clipped<1>(p, columns, peak, scale, 1e-3f, 50.0f)) return false;
    if (x == 0) columns[0] = columns[1];  // the blurred map is continued by its border cells
    if (x + 1 == p.W) columns[2] = columns[1];
    float L[3][3];
#pragma unroll
    for (i32 j = 0; j < 3; ++j)
#pragma unroll
        for (i32 i = 0; i < 3; ++i)
            L[j][i] = __shfl_sync(FULL, columns[i], j == 0 ? (y > 0 ? 0 : 1) : j == 2 ? (y + 1 < p.H ? 2 : 1) : 1);
    const float epsilon = 1.1920928955078125e-7f;
    const float left = L[1][1] - L[1][0], right = L[1][2] - L[1][1];
    const float above = L[1][1] - L[0][1], below = L[2][1] - L[1][1];
    const float dx = 0.5f * (L[1][2] - L[1][0]), dy = 0.5f * (L[2][1] - L[0][1]);
    const float dxx = right - left + epsilon, dyy = below - above + epsilon;
    const float dxy = 0.5f * (((L[2][2] - L[1][2]) - below) + (left - (L[0][1] - L[0][0])));
    step = newton(p, dx, dy, dxx, dyy, dxy);
    return true;
}

// ---- centers of gravity: lanes fetch 32 weights at a time, then all add them up, row after row from left to right

template <class Weight>
INLINE Step mean_place(const Params& p, const Weight& weight) {
    const i32 reach = p.reach, side = 2 * reach + 1, cells = side * side, lane = lane_id();
    float sum_x = 0.0f, sum_y = 0.0f, sum = 0.0f;
    for (i32 base = 0; base < cells; base += 32) {
        const i32 mine = base + lane;
        const float w = mine < cells ? weight(mine / side - reach, mine % side - reach) : 0.0f;
        for (i32 j = 0; j < min(32, cells - base); ++j) {
            const float of = __shfl_sync(FULL, w, j);
            sum_x += of * (float)((base + j) % side - reach);
            sum_y += of * (float)((base + j) / side - reach);
            sum += of;
        }
    }
    return {sum_x / sum, sum_y / sum};
}

template <class Read>
INLINE Step centroid(const Params& p, const Read& read, u32 y, u32 x) {
    return mean_place(p, [&](i32 dy, i32 dx) {
        const float w = around(p, read, (i32)y + dy, (i32)x + dx);
        return p.positive && !(w > 0.0f) ? 0.0f : w;
    });
}

template <class Read>
INLINE Step soft_argmax(const Params& p, const Read& read, u32 y, u32 x) {
    const i32 reach = p.reach, side = 2 * reach + 1;
    const auto in_map = [&](i32 dy, i32 dx) {
        return (i32)y + dy >= 0 && (i32)y + dy < (i32)p.H && (i32)x + dx >= 0 && (i32)x + dx < (i32)p.W;
    };
    float largest = minus_infinity();
    for (i32 i = lane_id(); i < side * side; i += 32)
        if (in_map(i / side - reach, i % side - reach))
            largest = fmaxf(largest, read(y + i / side - reach, x + i % side - reach));
    largest = warp_max(largest);
    const auto weight = [&](i32 dy, i32 dx) {
        return in_map(dy, dx) ? expf((read(y + dy, x + dx) - largest) * p.beta) : 0.0f;
    };
    return mean_place(p, weight);
}

// The step from the cell (y, x), whose value is `peak`. `raw` reads the map as given, `read` after its activation.
// False where the scale is needed and not known.
template <class Raw, class Read>
INLINE bool refined(const Params& p, const Raw& raw, const Read& read, u32 y, u32 x, float peak, Scale scale,
                    Step& step) {
    step = {0.0f, 0.0f};
    if (p.refine == QUARTER) step = quarter(p, raw, y, x);
    if (p.refine == CENTROID) step = centroid(p, read, y, x);
    if (p.refine == SOFT_ARGMAX) step = soft_argmax(p, raw, y, x);
    if (p.refine == DARK) return dark(p, read, y, x, peak, scale, step);
    if (p.refine == DARK_UDP) return dark_udp(p, read, y, x, peak, scale, step);
    return true;
}
