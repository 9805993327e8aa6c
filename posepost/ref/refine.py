"""Where between the cells a peak lies: the rules that heatmap heads and `find_peaks` share, for many peaks at once.

Everything is float32, each operation rounded, in the order written: kernels/refine.cuh does the same.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .._rules import Scale
from .._rules.refinement import Step
from .values import ONE, dequantize, sigmoid

Array = np.ndarray[Any, Any]

LOWEST_DARK = np.float32(1e-10)  # of a blurred map before its logarithm
LOWEST_UDP, HIGHEST_UDP = np.float32(1e-3), np.float32(50)
EPSILON = np.finfo(np.float32).eps  # what DARK-UDP adds to the diagonal of its Hessian
QUARTER, HALF = np.float32(0.25), np.float32(0.5)


class Maps(NamedTuple):
    """Maps (B, K, H, W) as given, or as merged, and what turns an element into the value that is refined."""

    elements: Array
    scale: Scale | None = None
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


class Cells(NamedTuple):
    """n cells to start from: whose map, which cell, and the value there, activated."""

    b: Array
    k: Array
    y: Array
    x: Array
    value: Array


CACHED = 1 << 16  # elements that are worked on at a time: what stays in a core's cache


def refined(maps: Maps, peaks: Cells, step: Step) -> Array:
    """(n, 2) float32: x and y of each peak in cells."""
    n = len(peaks.x)
    points = np.empty((n, 2), np.float32)
    points[:, 0], points[:, 1] = peaks.x, peaks.y
    if step.kind == "none" or not n:
        return points
    find = _blurred_quarter if step.guard == "megvii" else _STEPS[step.kind]
    side = max(step.window, len(step.taps) + 4)
    many = max(1, 2 * CACHED // side**2)
    with np.errstate(all="ignore"):
        if n <= many:
            points += find(maps, peaks, step).T
        else:
            for first in range(0, n, many):
                some = slice(first, first + many)
                points[some] += find(maps, Cells(*(field[some] for field in peaks)), step).T
    return points


# Steps are (2, n), x and y. Windows and whatever is made of them are (rows, columns, n), the peaks side by side.


# ---- a quarter of a cell towards the larger neighbor


def _quarter(maps: Maps, peaks: Cells, step: Step) -> Array:
    """0.25 * sign of the difference of the neighbors, on what was given: a sigmoid would not change the sign.

    guard "mmpose": along x where 1 < x < W - 1 and 0 < y, along y where 1 < y < H - 1 and 0 < x; "hrnet": both where
    1 < x < W - 1 and 1 < y < H - 1; "higherhrnet": everywhere, neighbors clamped to the map, and a tie counts as
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
    return _quarter_step(values[:2] - values[2:], peaks, step.guard, H, W)


def _quarter_step(difference: Array, peaks: Cells, guard: str, H: int, W: int) -> Array:
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


def _blurred_quarter(maps: Maps, peaks: Cells, step: Step) -> Array:
    """The same on the blurred map."""
    around = blur(windows(maps, peaks, 1 + len(step.taps) // 2, step.border), step.taps)
    difference = np.array([around[1, 2] - around[1, 0], around[2, 1] - around[0, 1]])
    return _quarter_step(difference, peaks, step.guard, *maps.elements.shape[2:])


# ---- the blurred map around a peak


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


def windows(maps: Maps, peaks: Cells, radius: int, border: str, outside: float = 0) -> Array:
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


def blurred(maps: Maps, b: Array, k: Array, y: Array, x: Array, step: Step) -> Array:
    """(n,) values of the blurred map at [b, k, y, x]."""
    size = len(step.taps)
    result, many = np.empty(len(b), np.float32), max(1, CACHED // size**2)
    for first in range(0, len(b), many):
        some = slice(first, first + many)
        around = windows(maps, Cells(b[some], k[some], y[some], x[some], y[some]), size // 2, step.border)
        result[some] = blur(around, step.taps)[0, 0]
    return result


def _log_stencil(maps: Maps, peaks: Cells, step: Step, reach: int, lowest: np.float32, highest: float) -> Array:
    """(n, 2 reach + 1, 2 reach + 1): logarithm of the blurred map around each peak, clipped to lowest ... highest.

    border "zero": the reference implementations scale the blurred map by c = max(map) / max(blurred map). Differences
    of logarithms do not see c, and c is at least 1, so that it is needed only where a clip could act: there the whole
    map is blurred.
    """
    around = blur(windows(maps, peaks, reach + len(step.taps) // 2, step.border), step.taps)
    if step.border != "zero":
        return np.log(_clip(around, lowest, highest))
    if not around.min() >= lowest or (highest < np.inf and not peaks.value.max() <= highest):
        clear = (around >= lowest).all(axis=(0, 1)) & ~(peaks.value > highest)
        (these,) = np.nonzero(~clear)
        many = max(1, CACHED // maps.elements[0, 0].size)
        for some in (these[first : first + many] for first in range(0, len(these), many)):
            whole = peaks_maps(maps, peaks, some)
            largest = blurred_maps(whole, step.taps, "zero").max(axis=(1, 2))
            factor = whole.max(axis=(1, 2)) / np.where(largest == 0, ONE, largest)
            around[:, :, some] = _clip(around[:, :, some] * factor, lowest, highest)
    return np.log(around, out=around)


def peaks_maps(maps: Maps, peaks: Cells, these: Array) -> Array:
    H, W = maps.elements.shape[2:]
    y, x = np.ogrid[:H, :W]
    return maps.read(peaks.b[these, None, None], peaks.k[these, None, None], y, x)


def _clip(values: Array, lowest: np.float32, highest: float) -> Array:
    """NaN stays NaN."""
    clipped: Array = np.clip(values, lowest, np.float32(highest))
    return clipped


def _dark(maps: Maps, peaks: Cells, step: Step) -> Array:
    """Distribution-aware decoding: the maximum of the parabola through the logarithm of the blurred map; where 1 < x
    < W - 2, 1 < y < H - 2 and the Hessian is not singular. Source: Zhang et al., arXiv:1910.06278; mmpose 1.3.2
    refine_keypoints_dark."""
    H, W = maps.elements.shape[2:]
    guarded = (peaks.x > 1) & (peaks.x < W - 2) & (peaks.y > 1) & (peaks.y < H - 2)
    if not guarded.all():
        moved = np.zeros((2, len(peaks.x)), np.float32)
        (these,) = np.nonzero(guarded)
        if len(these):
            moved[:, these] = _dark(maps, Cells(*(field[these] for field in peaks)), step)
        return moved
    L = _log_stencil(maps, peaks, step, 2, LOWEST_DARK, np.inf)
    dx, dy = HALF * (L[2, 3] - L[2, 1]), HALF * (L[3, 2] - L[1, 2])
    dxx = QUARTER * ((L[2, 4] - L[2, 2]) - (L[2, 2] - L[2, 0]))
    dyy = QUARTER * ((L[4, 2] - L[2, 2]) - (L[2, 2] - L[0, 2]))
    dxy = QUARTER * ((L[3, 3] - L[1, 3]) - (L[3, 1] - L[1, 1]))
    return _newton(dx, dy, dxx, dyy, dxy, H, W)


def _dark_udp(maps: Maps, peaks: Cells, step: Step) -> Array:
    """DARK of unbiased data processing: differences over one cell, the blurred map continued by its border cells, no
    guard.
    Source: Huang et al., arXiv:1911.07524; mmpose 1.3.2 refine_keypoints_dark_udp."""
    H, W = maps.elements.shape[2:]
    L = _log_stencil(maps, peaks, step, 1, LOWEST_UDP, float(HIGHEST_UDP))
    x, y = peaks.x, peaks.y
    if not (x.min() > 0 and x.max() < W - 1 and y.min() > 0 and y.max() < H - 1):
        for edge, inner, where in (
            (L[:, 0], L[:, 1], x == 0),
            (L[:, 2], L[:, 1], x == W - 1),
            (L[0], L[1], y == 0),
            (L[2], L[1], y == H - 1),
        ):
            np.copyto(edge, inner, where=where)
    left, right = L[1, 1] - L[1, 0], L[1, 2] - L[1, 1]
    above, below = L[1, 1] - L[0, 1], L[2, 1] - L[1, 1]
    dx, dy = HALF * (L[1, 2] - L[1, 0]), HALF * (L[2, 1] - L[0, 1])
    dxx, dyy = right - left + EPSILON, below - above + EPSILON
    dxy = HALF * (((L[2, 2] - L[1, 2]) - below) + (left - (L[0, 1] - L[0, 0])))
    return _newton(dx, dy, dxx, dyy, dxy, H, W)


def _newton(dx: Array, dy: Array, dxx: Array, dyy: Array, dxy: Array, H: int, W: int) -> Array:
    """To the maximum of the parabola. None from a singular Hessian, and none that leads a map's length or more away,
    which only the rounding of flat surroundings does; NaN stays. Second differences are differences of first ones:
    where a map does not change along an axis they are 0, not rounding."""
    determinant = dxx * dyy - dxy * dxy
    step = np.array([dxy * dy - dyy * dx, dxy * dx - dxx * dy])
    step /= determinant
    apart = np.abs(step)
    if not apart.max() < min(H, W):  # NaN too
        step[:, (determinant == 0) | (apart[0] >= W) | (apart[1] >= H)] = 0
    return step


# ---- centers of gravity


def _centroid(maps: Maps, peaks: Cells, step: Step) -> Array:
    """Mean of the window's cells, weighted by their values; cells outside have none, or with "reflect_101" the weight
    of the mirrored cell at their own place. A sum of 0 gives what the division gives."""
    weights = windows(maps, peaks, step.window // 2, step.border)
    if step.positive:
        weights = np.where(weights > 0, weights, np.float32(0))
    return _mean_place(weights)


def _soft_argmax(maps: Maps, peaks: Cells, step: Step) -> Array:
    """Softmax over the window, as far as it lies in the map, of beta * what was given."""
    values = windows(maps._replace(sigmoid=False), peaks, step.window // 2, "zero", -np.inf)
    values -= values.max(axis=(0, 1))
    values *= np.float32(step.beta)
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
