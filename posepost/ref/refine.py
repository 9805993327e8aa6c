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
    guard: str = "mmpose"  # quarter: "mmpose", "hrnet", "higherhrnet", "megvii"
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

    def read(self, *place: Array) -> Array:
        """Values at [b, k, y, x], as float32."""
        values = dequantize(self.elements[place], self.scale)
        return sigmoid(values) if self.sigmoid else values


class Peaks(NamedTuple):
    """n peaks: whose map, which cell, and the value there, activated."""

    b: Array
    k: Array
    y: Array
    x: Array
    value: Array


def refined(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """(n, 2) float32: x and y of each peak in cells."""
    points = np.stack([peaks.x, peaks.y], axis=-1).astype(np.float32)
    if rule.kind != "none" and len(points):
        with np.errstate(all="ignore"):
            points += _STEPS[rule.kind](maps, peaks, rule)
    return points


# ---- a quarter of a cell towards the larger neighbour


def _quarter(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """0.25 * sign of the difference of the neighbours, on what was given: a sigmoid would not change the sign.

    guard "mmpose": along x where 1 < x < W - 1 and 0 < y, along y where 1 < y < H - 1 and 0 < x; "hrnet": both where
    1 < x < W - 1 and 1 < y < H - 1; "higherhrnet": everywhere, neighbours clamped to the map, and a tie counts as
    -0.25.
    """
    raw = maps._replace(sigmoid=False)
    b, k, y, x, _ = peaks
    H, W = maps.elements.shape[2:]
    left, right = np.maximum(x - 1, 0), np.minimum(x + 1, W - 1)
    above, below = np.maximum(y - 1, 0), np.minimum(y + 1, H - 1)
    dx = raw.read(b, k, y, right) - raw.read(b, k, y, left)
    dy = raw.read(b, k, below, x) - raw.read(b, k, above, x)
    step = np.stack([dx, dy], axis=-1)
    if rule.guard == "higherhrnet":
        return np.where(step > 0, QUARTER, -QUARTER)
    across, along = (x > 1) & (x < W - 1), (y > 1) & (y < H - 1)
    both = across & along
    inside = np.stack([across & (y > 0), along & (x > 0)] if rule.guard == "mmpose" else [both, both], axis=-1)
    more = HALF if rule.guard == "megvii" else np.float32(0)
    return np.where(inside, QUARTER * np.sign(step) + more, np.float32(0))


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
        return np.clip(at, 0, size - 1)
    if border == "reflect":  # c b a | a b c d | d c b
        at = np.mod(at, 2 * size)
        return np.where(at < size, at, 2 * size - 1 - at)
    if size == 1:
        return np.zeros_like(at)
    at = np.mod(at, 2 * size - 2)  # reflect_101: c b | a b c d | c b
    return np.where(at < size, at, 2 * size - 2 - at)


def windows(maps: Maps, peaks: Peaks, radius: int, border: str) -> Array:
    """(n, 2 radius + 1, 2 radius + 1) values around each peak."""
    H, W = maps.elements.shape[2:]
    reach = np.arange(-radius, radius + 1)
    y, x = peaks.y[:, None] + reach, peaks.x[:, None] + reach
    rows, columns = inside(y, H, border), inside(x, W, border)
    values = maps.read(peaks.b[:, None, None], peaks.k[:, None, None], rows[:, :, None], columns[:, None, :])
    if border == "zero":
        values[(rows != y)[:, :, None] | (columns != x)[:, None, :]] = 0
    return values


def blur(values: Array, taps: tuple[float, ...]) -> Array:
    """(n, h, w) -> (n, h - size + 1, w - size + 1): along x, then along y, taps in ascending order."""
    for axis in (2, 1):
        room = values.shape[axis] - len(taps) + 1
        total = None
        for i, tap in enumerate(taps):
            part = (values[:, :, i : i + room] if axis == 2 else values[:, i : i + room]) * np.float32(tap)
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        values = total
    return values


CACHED = 1 << 16  # elements that are blurred at a time: what stays in a core's cache


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
        result[first : first + many] = blur(padded, taps)
    return result


def _log_stencil(maps: Maps, peaks: Peaks, rule: Refinement, reach: int, lowest: np.float32, highest: float) -> Array:
    """(n, 2 reach + 1, 2 reach + 1): logarithm of the blurred map around each peak, clipped to lowest ... highest.

    border "zero": the peers scale the blurred map by c = max(map) / max(blurred map). Differences of logarithms do
    not see c, and c is at least 1, so that it is needed only where a clip could act: there the whole map is blurred.
    """
    around = blur(windows(maps, peaks, reach + len(rule.taps) // 2, rule.border), rule.taps)
    if rule.border != "zero":
        return np.log(_clip(around, lowest, highest))
    clear = (around >= lowest).all(axis=(1, 2)) & ~(peaks.value > highest)
    if not clear.all():
        (these,) = np.nonzero(~clear)
        whole = peaks_maps(maps, peaks, these)
        largest = blurred_maps(whole, rule.taps, "zero").max(axis=(1, 2))
        factor = whole.max(axis=(1, 2)) / largest
        around[these] = _clip(around[these] * factor[:, None, None], lowest, highest)
    return np.log(around)


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
    step = np.zeros((len(peaks.x), 2), np.float32)
    (these,) = np.nonzero((peaks.x > 1) & (peaks.x < W - 2) & (peaks.y > 1) & (peaks.y < H - 2))
    if not len(these):
        return step
    L = _log_stencil(maps, Peaks(*(field[these] for field in peaks)), rule, 2, LOWEST_DARK, np.inf)
    two = np.float32(2)
    dx, dy = HALF * (L[:, 2, 3] - L[:, 2, 1]), HALF * (L[:, 3, 2] - L[:, 1, 2])
    dxx = QUARTER * (L[:, 2, 4] - two * L[:, 2, 2] + L[:, 2, 0])
    dyy = QUARTER * (L[:, 4, 2] - two * L[:, 2, 2] + L[:, 0, 2])
    dxy = QUARTER * (L[:, 3, 3] - L[:, 1, 3] - L[:, 3, 1] + L[:, 1, 1])
    step[these] = _newton(dx, dy, dxx, dyy, dxy, only_regular=True)
    return step


def _dark_udp(maps: Maps, peaks: Peaks, rule: Refinement) -> Array:
    """DARK of unbiased data processing: differences over one cell, the blurred map continued by its border cells, no
    guard.
    Source: Huang et al., arXiv:1911.07524; mmpose 1.3.2 refine_keypoints_dark_udp."""
    H, W = maps.elements.shape[2:]
    L = _log_stencil(maps, peaks, rule, 1, LOWEST_UDP, float(HIGHEST_UDP))
    n = np.arange(len(L))
    columns = np.array([1 - (peaks.x > 0), np.ones_like(n), 1 + (peaks.x < W - 1)])
    rows = np.array([1 - (peaks.y > 0), np.ones_like(n), 1 + (peaks.y < H - 1)])
    L = L[n, rows[:, None], columns[None]]  # (3, 3, n)
    two = np.float32(2)
    dx, dy = HALF * (L[1, 2] - L[1, 0]), HALF * (L[2, 1] - L[0, 1])
    dxx = L[1, 2] - two * L[1, 1] + L[1, 0] + EPSILON
    dyy = L[2, 1] - two * L[1, 1] + L[0, 1] + EPSILON
    dxy = HALF * (L[2, 2] - L[1, 2] - L[2, 1] + two * L[1, 1] - L[1, 0] - L[0, 1] + L[0, 0])
    return _newton(dx, dy, dxx, dyy, dxy, only_regular=False)


def _newton(dx: Array, dy: Array, dxx: Array, dyy: Array, dxy: Array, only_regular: bool) -> Array:
    determinant = dxx * dyy - dxy * dxy
    step: Array = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1) / determinant[:, None]
    if only_regular:
        step[determinant == 0] = 0
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
    values = windows(maps._replace(sigmoid=False), peaks, rule.window // 2, "zero")
    values[~_in_map(maps, peaks, rule.window // 2)] = -np.inf
    largest = values.max(axis=(1, 2), keepdims=True)
    return _mean_place(np.exp((values - largest) * np.float32(rule.beta)))


def _in_map(maps: Maps, peaks: Peaks, radius: int) -> Array:
    H, W = maps.elements.shape[2:]
    reach = np.arange(-radius, radius + 1)
    y, x = peaks.y[:, None] + reach, peaks.x[:, None] + reach
    in_map: Array = ((y >= 0) & (y < H))[:, :, None] & ((x >= 0) & (x < W))[:, None, :]
    return in_map


def _mean_place(weights: Array) -> Array:
    """(n, s, s) -> (n, 2): x and y of the mean from the middle; row after row, each from left to right."""
    n, side, _ = weights.shape
    reach = np.arange(-(side // 2), side // 2 + 1, dtype=np.float32)
    flat = weights.reshape(n, -1)
    x, y = np.tile(reach, side), np.repeat(reach, side)
    sums = [np.cumsum(values, axis=1, dtype=np.float32)[:, -1] for values in (flat * x, flat * y, flat)]
    mean: Array = np.stack(sums[:2], axis=-1) / sums[2][:, None]
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
