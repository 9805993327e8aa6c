"""Where between the cells a peak lies: the rules that heatmap heads and `find_peaks` share, for many peaks at once.

Everything is float32, each operation rounded, in the order written: kernels/refine.cuh does the same.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _check
from .posenet import dequantize, sigmoid

Array = np.ndarray[Any, Any]

LOWEST_DARK = np.float32(1e-10)  # of a blurred map before its logarithm
LOWEST_UDP, HIGHEST_UDP = np.float32(1e-3), np.float32(50)
EPSILON = np.finfo(np.float32).eps  # what DARK-UDP adds to the diagonal of its Hessian
QUARTER, HALF = np.float32(0.25), np.float32(0.5)


class Refinement(NamedTuple):
    """A rule with all its numbers, checked and with every default filled in."""

    kind: str = "none"  # "none", "quarter", "dark", "dark_udp", "centroid", "soft_argmax"
    guard: str = "mmpose"  # quarter: "mmpose", "hrnet", "higherhrnet", "megvii" (on the blurred map)
    taps: tuple[float, ...] = (1.0,)  # of the blur, one axis
    border: str = "zero"  # of blur or window: "zero", "reflect", "reflect_101"
    window: int = 0  # side of the square of a centroid or soft-argmax; 0: the whole map
    positive: bool = False  # centroid: only values above 0 have weight
    beta: float = 1.0  # soft-argmax: weights are exp(beta * value)


class Maps(NamedTuple):
    """Maps (B, K, H, W) as given, or as merged, and what turns an element into the value that is refined."""

    elements: Array
    scale: tuple[np.float32, np.float32] | None = None
    sigmoid: bool = False

    def read(self, b: Array, k: Array, y: Array, x: Array) -> Array:
        """Values at [b, k, y, x], as float32, in new memory."""
        flat, (stride_b, stride_k, stride_y, stride_x) = flattened(self.elements)
        start = k * stride_k + b * stride_b
        return self.values(flat.take(start + y * stride_y + (x if stride_x == 1 else x * stride_x)))

    def values(self, elements: Array) -> Array:
        """What elements of the maps are worth; float32 ones themselves where nothing changes them."""
        values = dequantize(elements, self.scale)
        return sigmoid(values) if self.sigmoid else values


def flattened(array: Array) -> tuple[Array, tuple[int, ...]]:
    """A (B, K, H, W) array of any strides as one axis, without a copy, and the strides in elements."""
    if array.flags.c_contiguous:
        _, K, H, W = array.shape
        return array.reshape(-1), (K * H * W, H * W, W, 1)
    strides = tuple(stride // array.itemsize for stride in array.strides)
    span = sum((size - 1) * stride for size, stride in zip(array.shape, strides)) + 1 if array.size else 0
    return np.lib.stride_tricks.as_strided(array, (span,), (array.itemsize,), writeable=False), strides


class Peaks(NamedTuple):
    """n peaks: whose map, which cell, and the value there, activated."""

    b: Array
    k: Array
    y: Array
    x: Array
    value: Array


CACHED = 1 << 16  # elements that are worked on at a time: what stays in a core's cache


def refined(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """(n, 2) float32: x and y of each peak in cells."""
    n = len(peaks.x)
    points = np.empty((n, 2), np.float32)
    points[:, 0], points[:, 1] = peaks.x, peaks.y
    if rule.kind == "none" or not n:
        return points
    find = _blurred_quarter if rule.guard == "megvii" else _STEPS[rule.kind]
    side = max(rule.window, len(rule.taps) + 4)
    many = max(1, 2 * CACHED // side**2)
    with np.errstate(all="ignore"):
        if n <= many:
            points += find(maps, peaks, rule).T
        else:
            for first in range(0, n, many):
                some = slice(first, first + many)
                points[some] += find(maps, Peaks(*(field[some] for field in peaks)), rule).T
    return points


# Steps are (2, n), x and y. Windows and whatever is made of them are (rows, columns, n), the peaks side by side.


# ---- a quarter of a cell towards the larger neighbour


def _quarter(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """0.25 * sign of the difference of the neighbours, on what was given: a sigmoid would not change the sign.

    guard "mmpose": along x where 1 < x < W - 1 and 0 < y, along y where 1 < y < H - 1 and 0 < x; "hrnet": both where
    1 < x < W - 1 and 1 < y < H - 1; "higherhrnet": everywhere, neighbours clamped to the map, and a tie counts as
    -0.25.
    """
    b, k, y, x, _ = peaks
    H, W = maps.elements.shape[2:]
    right, left, below, above = (
        np.minimum(x + 1, W - 1),
        np.maximum(x - 1, 0),
        np.minimum(y + 1, H - 1),
        np.maximum(y - 1, 0),
    )
    values = maps._replace(sigmoid=False).read(b, k, np.array([y, below, y, above]), np.array([right, x, left, x]))
    return _quarter_step(values[:2] - values[2:], peaks, rule.guard, H, W)


def _quarter_step(difference: Array, peaks: Peaks, guard: str, H: int, W: int) -> Array:
    if guard == "higherhrnet":
        return np.where(difference > 0, QUARTER, -QUARTER)
    x, y = peaks.x, peaks.y
    across, along = (x > 1) & (x < W - 1), (y > 1) & (y < H - 1)
    inside = np.array([across & (y > 0), along & (x > 0)]) if guard == "mmpose" else across & along
    step = np.sign(difference)
    step *= QUARTER
    if guard == "megvii":
        step += HALF
    return np.where(inside, step, np.float32(0))


def _blurred_quarter(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """The same on the blurred map."""
    around = blur(windows(maps, peaks, 1 + len(rule.taps) // 2, rule.border), rule.taps)
    difference = np.array([around[1, 2] - around[1, 0], around[2, 1] - around[0, 1]])
    return _quarter_step(difference, peaks, rule.guard, *maps.elements.shape[2:])


# ---- the blurred map around a peak

_FIXED_TAPS = {1: (1.0,), 3: (0.25, 0.5, 0.25), 5: (0.0625, 0.25, 0.375, 0.25, 0.0625)}
_FIXED_TAPS[7] = (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125)
_FIXED_TAPS[9] = tuple(n / 256 for n in (4, 13, 30, 51, 60, 51, 30, 13, 4))


@functools.lru_cache(maxsize=64)
def gaussian_taps(size: int, sigma: float | None = None) -> tuple[float, ...]:
    """Weights of a Gaussian over `size` cells, float32 values. sigma None: OpenCV's for that size (GaussianBlur with
    sigma 0: fixed tables up to 9, else sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8)."""
    if sigma is None and size in _FIXED_TAPS:
        return _FIXED_TAPS[size]
    spread = 0.3 * ((size - 1) * 0.5 - 1) + 0.8 if sigma is None else sigma
    weights = [math.exp(-((i - size // 2) ** 2) / (2 * spread * spread)) for i in range(size)]
    total = sum(weights)
    return tuple(float(np.float32(weight / total)) for weight in weights)


def inside(at: Array, size: int, border: str) -> Array:
    """The cell that stands for cell `at` of an axis: mirrored at the borders; clipped for "zero", whose weight is 0."""
    if border == "zero":
        return np.maximum(np.minimum(at, size - 1), 0)
    if border == "reflect":  # c b a | a b c d | d c b
        at = np.mod(at, 2 * size)
        return np.where(at < size, at, 2 * size - 1 - at)
    if size == 1:
        return np.zeros_like(at)
    at = np.mod(at, 2 * size - 2)  # reflect_101: c b | a b c d | c b
    return np.where(at < size, at, 2 * size - 2 - at)


def windows(maps: Maps, peaks: Peaks, radius: int, border: str, outside: float = 0) -> Array:
    """(2 radius + 1, 2 radius + 1, n) values around each peak; with border "zero" `outside` lies around the map."""
    H, W = maps.elements.shape[2:]
    reach = _reach(radius)
    y, x = reach + peaks.y, reach + peaks.x
    rows, columns = inside(y, H, border), inside(x, W, border)
    values = maps.read(peaks.b, peaks.k, rows[:, None], columns)
    if border == "zero":
        for lines, moved in ((values, rows != y), (values.swapaxes(0, 1), columns != x)):
            if moved.any():
                np.copyto(lines, np.float32(outside), where=moved[:, None])
    return values


@functools.lru_cache(maxsize=64)
def _reach(radius: int) -> Array:
    return np.arange(-radius, radius + 1)[:, None]


@functools.lru_cache(maxsize=64)
def _column(taps: tuple[float, ...]) -> Array:
    return np.array(taps, np.float32)[:, None]


def blur(values: Array, taps: tuple[float, ...]) -> Array:
    """(h, w, n) float32, C-contiguous -> (h - size + 1, w - size + 1, n): along x, then along y, taps in ascending
    order."""
    (h, w, n), size = values.shape, len(taps)
    rows, columns, word = h - size + 1, w - size + 1, values.itemsize
    moved = np.ndarray((size, h, columns * n), np.float32, values, 0, (n * word, w * n * word, word))
    across = ordered_sum(np.multiply(moved, _column(taps)[:, None], order="C"))
    moved = np.ndarray((size, rows * columns * n), np.float32, across, 0, (columns * n * word, word))
    return ordered_sum(moved * _column(taps)).reshape(rows, columns, n)


def ordered_sum(terms: Array) -> Array:
    """Sum along the first axis of a C-contiguous array, each in turn. NumPy does so but along a contiguous axis, where
    it adds in pairs."""
    total: Array = np.cumsum(terms, axis=0)[-1] if terms.size == len(terms) else np.add.reduce(terms, axis=0)
    return total


def blurred_maps(values: Array, taps: tuple[float, ...], border: str) -> Array:
    """(n, H, W) float32 -> the same size."""
    n, H, W = values.shape
    radius, many = len(taps) // 2, max(1, CACHED // (H * W))
    rows, columns = (inside(np.arange(-radius, size + radius), size, border) for size in (H, W))
    result = np.empty_like(values)
    for first in range(0, n, many):
        some = values[first : first + many]
        if border == "zero":
            padded = np.pad(some, ((0, 0), (radius, radius), (radius, radius)))
        else:
            padded = some[:, rows[:, None], columns]
        for axis, size in ((2, W), (1, H)):
            total = None
            for i, tap in enumerate(taps):
                part = (padded[:, :, i : i + size] if axis == 2 else padded[:, i : i + size]) * np.float32(tap)
                total = part if total is None else np.add(total, part, out=total)
            assert total is not None
            padded = total
        result[first : first + many] = padded
    return result


def blurred(maps: Maps, b: Array, k: Array, y: Array, x: Array, rule: Refinement) -> Array:
    """(n,) values of the blurred map at [b, k, y, x]."""
    size = len(rule.taps)
    result, many = np.empty(len(b), np.float32), max(1, CACHED // size**2)
    for first in range(0, len(b), many):
        some = slice(first, first + many)
        around = windows(maps, Peaks(b[some], k[some], y[some], x[some], y[some]), size // 2, rule.border)
        result[some] = blur(around, rule.taps)[0, 0]
    return result


ROUNDING = np.float32(8.4 * 2**-24)  # of sums in two orders and for two cells, per tap and largest magnitude
TINY = np.float32(1e-35)  # above what denormals lose
HUGE = np.float32(1e30)  # below what overflows
CANDIDATES = 16
WIDE = 512  # cells of a map's side from which a product with a matrix is slower than a sum over taps
BLOCK, PATCH = 3, 16  # cells along a side


def blurred_peaks(maps: Maps, taps: tuple[float, ...], border: str) -> tuple[Array, Array]:
    """(B * K,) each: the first largest cell of the blurred map, and the largest value of the map before.

    Matrix products blur many times as fast, but round otherwise. They leave the few cells, most often one, that can be
    the largest; where there are several, those are blurred as `blur` does it. Maps with too many, such as plateaus, and
    maps that are not finite are blurred as a whole.
    """
    B, K, H, W = maps.elements.shape
    elements = maps.elements.reshape(B * K, H, W)
    cells, largest = np.empty(B * K, np.int64), np.empty(B * K, np.float32)
    many = max(1, 2 * CACHED // (H * W))
    for first in range(0, B * K, many):
        values = maps.values(elements[first : first + many])
        flat = values.reshape(len(values), H * W)
        top = largest[first : first + many] = flat.max(axis=1)
        bound = np.maximum(top, -flat.min(axis=1))
        left = np.arange(len(values))  # maps whose cell is not known yet
        for find in (_in_patches, _in_maps):
            if len(left):
                some = values if len(left) == len(values) else values[left]
                of, cell, clear = find(some, bound[left], taps, border)
                if len(of) != np.count_nonzero(clear):
                    of, cell = _best_candidates(maps, first + left[of], cell, taps, border)
                    cells[of] = cell
                else:
                    cells[first + left[of]] = cell
                left = left[~clear]
        if len(left):
            cells[first + left] = blurred_maps(values[left], taps, border).reshape(len(left), H * W).argmax(axis=1)
    return cells, largest


Candidates = tuple[Array, Array, Array]
"""Map and cell of every candidate, in ascending order, of the maps that are clear; and which these are."""


def _in_maps(values: Array, bound: Array, taps: tuple[float, ...], border: str) -> Candidates:
    n, H, W = values.shape
    if max(H, W) >= WIDE:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(n, bool)
    down, across = _blur_matrix(taps, border, H), _blur_matrix(taps, border, W)
    return _candidates(np.matmul(down, np.matmul(values, across.T)).reshape(n, H * W), bound, len(taps))


def _candidates(rough: Array, bound: Array, size: int) -> Candidates:
    n, cells = rough.shape
    least = rough.max(axis=1) - (ROUNDING * np.float32(size + 4) * bound + TINY)
    near = rough >= least[:, None]
    if np.count_nonzero(near) == n:  # one each, most often: a map has none only where its bound is NaN
        cell, clear = near.argmax(axis=1), bound < HUGE
        if clear.all():
            return np.arange(n), cell, clear
    of, cell = np.divmod(np.flatnonzero(near), cells)
    count = np.bincount(of, minlength=n)
    clear = (count > 0) & (count <= CANDIDATES) & (bound < HUGE)
    if not clear.all():
        some = clear[of]
        of, cell = of[some], cell[some]
    return of, cell, clear


def _in_patches(values: Array, bound: Array, taps: tuple[float, ...], border: str) -> Candidates:
    """The same with a fifth of the work, for maps with one peak: no cell of a block of cells is larger than the map's
    positive part blurred by the largest of the block's weights. The patch around the largest of these is blurred, and
    is all that counts where the blocks outside stay below it."""
    n, H, W = values.shape
    if min(H, W) < 2 * PATCH or max(H, W) >= WIDE:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(n, bool)
    (down, _, gain_y), (_, across, gain_x) = _block_matrix(taps, border, H), _block_matrix(taps, border, W)
    wide = across.shape[1]
    highest = np.matmul(np.maximum(values, np.float32(0)).reshape(n * H, W), across).reshape(n, H, -1)
    highest = np.matmul(down, highest).reshape(n, len(down) * wide)
    row, column = np.divmod(highest.argmax(axis=1), wide)
    y = np.minimum(np.maximum(row * BLOCK - (PATCH - BLOCK) // 2, 0), H - PATCH)
    x = np.minimum(np.maximum(column * BLOCK - (PATCH - BLOCK) // 2, 0), W - PATCH)
    reach = np.arange(PATCH)
    rows = _blur_matrix(taps, border, H).take(y[:, None] + reach, axis=0)
    columns = _blur_matrix(taps, border, W).take(x[:, None] + reach, axis=0)
    patch = np.matmul(rows, np.matmul(values, columns.transpose(0, 2, 1))).reshape(n, PATCH * PATCH)
    of, cell, clear = _candidates(patch, bound, len(taps))

    least = patch.max(axis=1) - (
        ROUNDING * np.float32(len(taps) + 8) * max(np.float32(1), gain_y * gain_x) * bound + TINY
    )
    rival, block = np.divmod(np.flatnonzero(highest >= least[:, None]), len(down) * wide)
    row, column = np.divmod(block, wide)
    outside = (row * BLOCK < y[rival]) | (np.minimum(row * BLOCK + BLOCK, H) > y[rival] + PATCH)
    outside |= (column * BLOCK < x[rival]) | (np.minimum(column * BLOCK + BLOCK, W) > x[rival] + PATCH)
    if np.count_nonzero(outside):
        clear[rival[outside]] = False
        some = clear[of]
        of, cell = of[some], cell[some]
    return of, (y[of] + cell // PATCH) * W + x[of] + cell % PATCH, clear


@functools.lru_cache(maxsize=64)
def _block_matrix(taps: tuple[float, ...], border: str, size: int) -> tuple[Array, Array, np.float32]:
    """(blocks, size): the most that a blurred cell of each block takes of each cell of an axis; its transpose; the most
    that a block takes in all."""
    most = np.maximum.reduceat(_blur_matrix(taps, border, size), np.arange(0, size, BLOCK), axis=0)
    return most, np.ascontiguousarray(most.T), most.sum(axis=1).max()


@functools.lru_cache(maxsize=64)
def _blur_matrix(taps: tuple[float, ...], border: str, size: int) -> Array:
    """(size, size): what a blurred cell takes of each cell of an axis."""
    matrix, at = np.zeros((size, size)), np.arange(size)
    for i, tap in enumerate(taps):
        moved = at + i - len(taps) // 2
        cell = inside(moved, size, border)
        matrix[at, cell] += np.where(cell == moved, tap, 0) if border == "zero" else tap
    return matrix.astype(np.float32)


def _best_candidates(maps: Maps, of: Array, cell: Array, taps: tuple[float, ...], border: str) -> tuple[Array, Array]:
    """Map and cell, in ascending order, of each map's first largest candidate."""
    _, K, _, W = maps.elements.shape
    rule = Refinement(taps=taps, border=border)
    value = blurred(maps, *np.divmod(of, K), *np.divmod(cell, W), rule)
    order = np.lexsort((cell, -value, of))
    best = order[np.unique(of[order], return_index=True)[1]]
    return of[best], cell[best]


def _log_stencil(maps: Maps, peaks: Peaks, rule: Refinement, reach: int, lowest: np.float32, highest: float) -> Array:
    """(n, 2 reach + 1, 2 reach + 1): logarithm of the blurred map around each peak, clipped to lowest ... highest.

    border "zero": the peers scale the blurred map by c = max(map) / max(blurred map). Differences of logarithms do
    not see c, and c is at least 1, so that it is needed only where a clip could act: there the whole map is blurred.
    """
    around = blur(windows(maps, peaks, reach + len(rule.taps) // 2, rule.border), rule.taps)
    if rule.border != "zero":
        return np.log(_clip(around, lowest, highest))
    if not around.min() >= lowest or (highest < np.inf and not peaks.value.max() <= highest):
        clear = (around >= lowest).all(axis=(0, 1)) & ~(peaks.value > highest)
        (these,) = np.nonzero(~clear)
        many = max(1, CACHED // maps.elements[0, 0].size)
        for some in (these[first : first + many] for first in range(0, len(these), many)):
            whole = peaks_maps(maps, peaks, some)
            largest = blurred_maps(whole, rule.taps, "zero").max(axis=(1, 2))
            factor = whole.max(axis=(1, 2)) / largest
            around[:, :, some] = _clip(around[:, :, some] * factor, lowest, highest)
    return np.log(around, out=around)


def peaks_maps(maps: Maps, peaks: Peaks, these: Array) -> Array:
    H, W = maps.elements.shape[2:]
    y, x = np.ogrid[:H, :W]
    return maps.read(peaks.b[these, None, None], peaks.k[these, None, None], y, x)


def _clip(values: Array, lowest: np.float32, highest: float) -> Array:
    """NaN stays NaN."""
    clipped: Array = np.clip(values, lowest, np.float32(highest))
    return clipped


def _dark(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """Distribution-aware decoding: the maximum of the parabola through the logarithm of the blurred map; where 1 < x
    < W - 2, 1 < y < H - 2 and the Hessian is not singular. Source: Zhang et al., arXiv:1910.06278; mmpose 1.3.2
    refine_keypoints_dark."""
    H, W = maps.elements.shape[2:]
    guarded = (peaks.x > 1) & (peaks.x < W - 2) & (peaks.y > 1) & (peaks.y < H - 2)
    if not guarded.all():
        step = np.zeros((2, len(peaks.x)), np.float32)
        (these,) = np.nonzero(guarded)
        if len(these):
            step[:, these] = _dark(maps, Peaks(*(field[these] for field in peaks)), rule)
        return step
    L = _log_stencil(maps, peaks, rule, 2, LOWEST_DARK, np.inf)
    middle = np.float32(2) * L[2, 2]
    dx, dy = HALF * (L[2, 3] - L[2, 1]), HALF * (L[3, 2] - L[1, 2])
    dxx = QUARTER * (L[2, 4] - middle + L[2, 0])
    dyy = QUARTER * (L[4, 2] - middle + L[0, 2])
    dxy = QUARTER * (L[3, 3] - L[1, 3] - L[3, 1] + L[1, 1])
    return _newton(dx, dy, dxx, dyy, dxy, only_regular=True)


def _dark_udp(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """DARK of unbiased data processing: differences over one cell, the blurred map continued by its border cells, no
    guard.
    Source: Huang et al., arXiv:1911.07524; mmpose 1.3.2 refine_keypoints_dark_udp."""
    H, W = maps.elements.shape[2:]
    L = _log_stencil(maps, peaks, rule, 1, LOWEST_UDP, float(HIGHEST_UDP))
    for edge, inner, where in (
        (L[:, 0], L[:, 1], peaks.x == 0),
        (L[:, 2], L[:, 1], peaks.x == W - 1),
        (L[0], L[1], peaks.y == 0),
        (L[2], L[1], peaks.y == H - 1),
    ):
        if where.any():
            np.copyto(edge, inner, where=where)
    middle = np.float32(2) * L[1, 1]
    dx, dy = HALF * (L[1, 2] - L[1, 0]), HALF * (L[2, 1] - L[0, 1])
    dxx = L[1, 2] - middle + L[1, 0] + EPSILON
    dyy = L[2, 1] - middle + L[0, 1] + EPSILON
    dxy = HALF * (L[2, 2] - L[1, 2] - L[2, 1] + middle - L[1, 0] - L[0, 1] + L[0, 0])
    return _newton(dx, dy, dxx, dyy, dxy, only_regular=False)


def _newton(dx: Array, dy: Array, dxx: Array, dyy: Array, dxy: Array, only_regular: bool) -> Array:
    determinant = dxx * dyy - dxy * dxy
    step = np.array([dxy * dy - dyy * dx, dxy * dx - dxx * dy])
    step /= determinant
    if only_regular:
        step[:, determinant == 0] = 0
    return step


# ---- centres of gravity


def _centroid(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """Mean of the window's cells, weighted by their values; cells outside have none, or with "reflect_101" the weight
    of the mirrored cell at their own place. A sum of 0 gives what the division gives."""
    weights = windows(maps, peaks, rule.window // 2, rule.border)
    if rule.positive:
        weights = np.where(weights > 0, weights, np.float32(0))
    return _mean_place(weights)


def _soft_argmax(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """Softmax over the window, as far as it lies in the map, of beta * what was given."""
    values = windows(maps._replace(sigmoid=False), peaks, rule.window // 2, "zero", -np.inf)
    values -= values.max(axis=(0, 1))
    values *= np.float32(rule.beta)
    return _mean_place(np.exp(values, out=values))


def _mean_place(weights: Array) -> Array:
    """(s, s, n) -> (2, n): x and y of the mean from the middle; row after row, each from left to right."""
    side, _, n = weights.shape
    reach = _reach(side // 2).astype(np.float32)
    sums = [
        ordered_sum(terms.reshape(side * side, n)) for terms in (weights * reach, weights * reach[:, None], weights)
    ]
    mean: Array = np.array(sums[:2])
    mean /= sums[2]
    return mean


_STEPS = {
    "quarter": _quarter,
    "dark": _dark,
    "dark_udp": _dark_udp,
    "centroid": _centroid,
    "soft_argmax": _soft_argmax,
}
KINDS = ("none", *_STEPS)  # in the order of `enum Refine` of kernels/refine.cuh, as the next two
GUARDS = ("mmpose", "hrnet", "higherhrnet", "megvii")
BORDERS = ("zero", "reflect", "reflect_101")
MAX_WINDOW = 31
MAX_BLUR = {"dark": 27, "dark_udp": 29}  # with the cells that the step sees, at most the lanes of a warp
MAX_TAPS = 35  # of a blur that goes over the whole map


@functools.lru_cache(maxsize=256, typed=True)
def refinement(
    kind: str,
    guard: str,
    blur: int,
    blur_sigma: float | None,
    border: str,
    window: int,
    positive: bool,
    temperature: float,
) -> Refinement:
    """A rule from a caller's arguments, checked. window 0: the whole map."""
    _check.choice(guard, "guard", GUARDS[:3])
    _check.choice(border, "border", BORDERS)
    _check.odd(blur, "blur", MAX_BLUR.get(kind, MAX_TAPS))
    if blur_sigma is not None:
        _check.positive(blur_sigma, "blur_sigma")
    if window:
        _check.odd(window, "window", MAX_WINDOW)
    _check.positive(temperature, "temperature")
    taps = gaussian_taps(int(blur), None if blur_sigma is None else float(blur_sigma)) if kind in MAX_BLUR else (1.0,)
    return Refinement(kind, guard, taps, border, int(window), bool(positive), 1 / float(temperature))
