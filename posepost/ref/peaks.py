"""The NumPy twin of posepost.find_peaks, and the peak test that the multi-person heads share."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _view
from ..types import Peaks
from . import refine as _refine
from .argmax import widen
from .posenet import Scales, channels_first, dequantize, sigmoid

Array = np.ndarray[Any, Any]


def find_peaks(
    heatmaps: _view.Array,
    *,
    threshold: float,
    max_peaks: int,
    window: int = 3,
    plateau: str = "all",
    refine: str = "none",
    guard: str = "mmpose",
    blur: int = 11,
    blur_sigma: float | None = None,
    border: str = "zero",
    refine_window: int = 5,
    positive: bool = False,
    temperature: float = 1.0,
    layout: str | None = None,
    activation: str | None = "sigmoid",
    quantization: dict[str, tuple[float, int]] | None = None,
    out: tuple[_view.Array, _view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Peaks:
    """The local maxima of each map, best first.

    B images, K maps an image, of H rows and W columns. Axes in the order of `layout`.

    Parameters
    ----------
    heatmaps : (B, K, H, W) or (B, H, W, K), float32, float16, bfloat16, uint8 or int8
        Any strides but negative ones, no copy. Without B it is a batch of one.
    threshold : float
        The least score of a peak, from 0 to 1 with activation "sigmoid"; any finite number with None.
    max_peaks : int
        Room for peaks of one map: the best are kept, `left_out` counts the others.
    window : int
        Side of the square, odd, in which a peak has no larger neighbour. It is clipped at the borders of the map.
    plateau : "all" or "none"
        Neighbours of equal value: "all": no neighbour may be larger, so every cell of a plateau is a peak. "none":
        every neighbour must be smaller.
    refine : "none", "quarter", "dark", "dark_udp", "centroid" or "soft_argmax"
        Where between the cells a peak lies, with guard, blur, blur_sigma, border, positive and temperature: as in
        `decode_heatmap`. SLEAP's integral is "centroid"; trt_pose's is that with border "reflect_101".
    refine_window : int
        Side of the square of "centroid" and "soft_argmax", odd, up to 31.
    layout : "NCHW", "NHWC" or None
        None means NCHW.
    activation : "sigmoid" or None
        "sigmoid": the maps are logits and scores go through a sigmoid. None: the maps are scores already.
    quantization : {"heatmaps": (scale, zero_point)}
        For an integer tensor; value = (q - zero_point) * scale. Peaks are compared as raw integers.
    out : Peaks or (points, scores, count)
        Where to write: C-contiguous. Then nothing is allocated but, where `out` is no Peaks, `left_out`.
    stream
        No meaning for host arrays.

    Returns
    -------
    Peaks
        points (B, K, max_peaks, 2), scores (B, K, max_peaks), count (B, K); attribute left_out (B, K).

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges and devices.

    Notes
    -----
    Order: value descending, then y, then x ascending. Values are compared as given: logits that saturate to equal
    scores are still told apart. -0 equals +0.

    Threshold: a cell passes if its value is at least the smallest float32 that is not below `threshold`, or, with
    "sigmoid", not below ln(threshold / (1 - threshold)): no exponential takes part. For integers the value is
    (q - zero_point) * scale in float32.

    A NaN cell, a cell with NaN in its window, and a cell of -inf are no peaks.
    """
    seen = _view.view(heatmaps, "heatmaps")
    quantized = _check.quantization(quantization, {"heatmaps": seen.form.dtype})
    _check.activation(activation)
    _check.peaks_options(threshold, activation, max_peaks, window, plateau)
    rule = peak_rule(refine, guard, blur, blur_sigma, border, refine_window, positive, temperature)
    plan = prepare(seen.form, threshold, layout, activation, quantized)
    B, K, H, W = plan.shape
    results = {
        "points": ((B, K, max_peaks, 2), "float32"),
        "scores": ((B, K, max_peaks), "float32"),
        "count": ((B, K), "int32"),
    }
    given = None if out is None else [_view.as_numpy(one) for one in _check.outputs(out, results, seen.form)]
    left = np.zeros((B, K), np.int32)

    channels = channels_first(_view.as_numpy(seen), plan.layout)
    values = comparable(channels)
    place = np.flatnonzero((values >= plan.least) & is_peak(values, 2, 3, window // 2, plateau))
    raw = values.reshape(-1)[place] if values.flags.c_contiguous else values[np.unravel_index(place, values.shape)]
    owner, cell = np.divmod(place, H * W)
    order = np.lexsort((-widen(raw), owner))  # stable: equal values stay in row-major order
    found = np.bincount(owner, minlength=B * K)
    rank = np.arange(len(place)) - np.repeat(np.cumsum(found) - found, found)
    kept = rank < max_peaks
    order, row, rank = order[kept], owner[kept], rank[kept]  # sorting left `owner` as it was: ascending

    points, scores, count = given or [np.empty(shape, dtype) for shape, dtype in results.values()]
    points[...], scores[...] = 0, 0
    y, x = np.divmod(cell[order], W)
    b, k = np.divmod(row, K)
    scores[b, k, rank] = activated(dequantize(raw[order], plan.scales.get("heatmaps")), activation)
    maps = _refine.Maps(channels, plan.scales.get("heatmaps"), activation == "sigmoid")
    points[b, k, rank] = _refine.refined(maps, _refine.Peaks(b, k, y, x, scores[b, k, rank]), rule)
    count[...] = np.minimum(found, max_peaks).reshape(B, K)
    left[...] = (found - np.minimum(found, max_peaks)).reshape(B, K)

    if out is None:
        result = Peaks(*(_view.from_numpy(array, seen.library) for array in (points, scores, count)))
    else:
        result = Peaks(*out)
    if isinstance(out, Peaks) and out.left_out is not None:
        (view,) = _check.outputs((out.left_out,), {"left_out": ((B, K), "int32")}, seen.form)
        _view.as_numpy(view)[...] = left
        result.left_out = out.left_out
    else:
        result.left_out = _view.from_numpy(left, seen.library)
    return result


def peak_rule(
    refine: str,
    guard: str,
    blur: int,
    blur_sigma: float | None,
    border: str,
    refine_window: int,
    positive: bool,
    temperature: float,
) -> _refine.Refinement:
    """The refinement of a call, checked."""
    _check.choice(refine, "refine", _refine.KINDS)
    _check.odd(refine_window, "refine_window", _refine.MAX_WINDOW)
    return _refine.refinement(refine, guard, blur, blur_sigma, border, refine_window, positive, temperature)


class _Plan(NamedTuple):
    shape: tuple[int, int, int, int]  # B, K, H, W
    layout: str
    least: float | int  # raw value that a peak has at least
    scales: Scales


@functools.lru_cache(maxsize=64)
def prepare(
    heatmaps: _view.Form,
    threshold: float,
    layout: str | None,
    activation: str | None,
    quantized: _check.Quantization,
) -> _Plan:
    _check.layout_name(layout)
    layout = layout or "NCHW"
    _check.tensor(heatmaps, "heatmaps")
    _check.some_cells(heatmaps)
    shape, _ = _check.channels_first(heatmaps, layout)
    scales = {name: (np.float32(scale), np.float32(zero)) for name, scale, zero in quantized}
    return _Plan(shape, layout, least_raw(threshold, activation, heatmaps.dtype, scales.get("heatmaps")), scales)


LOWEST = float(np.finfo(np.float32).min)


def least_raw(
    threshold: float,
    activation: str | None,
    dtype: str,
    scale_and_zero: tuple[np.float32, np.float32] | None,
    margin: float = 0.0,
) -> float | int:
    """What a value is compared with: the smallest float32, or raw integer, that a peak may have.

    margin : added to the threshold before it becomes a logit, as libcoral does.
    """
    exact = float(threshold)
    if activation == "sigmoid":
        t = exact + margin
        exact = -math.inf if t <= 0 else math.inf if t >= 1 else -math.log(1 / t - 1)
    with np.errstate(over="ignore"):
        least = np.float32(exact)
        if float(least) < exact:
            least = np.nextafter(least, np.float32(np.inf))
    lowest = max(float(least), LOWEST)
    if dtype not in _check.INTEGER_RANGE:
        return lowest
    low, high = _check.INTEGER_RANGE[dtype]
    integers = np.arange(low, high + 1, dtype=np.int16)
    with np.errstate(over="ignore"):
        enough = dequantize(integers, scale_and_zero) >= np.float32(lowest)
    return int(integers[enough.argmax()]) if enough.any() else high + 1


def comparable(maps: Array) -> Array:
    """The maps in a type whose order NumPy knows: float32, uint8 and int8 as they are, halves widened."""
    return maps if maps.dtype == np.float32 or maps.dtype.kind in "iu" else widen(maps)


def is_peak(values: Array, y: int, x: int, radius: int, plateau: str) -> Array:
    """Whether each cell is a local maximum along the axes y and x, in a window that the borders clip."""
    if plateau == "all":
        largest = _largest(_largest(values, x, radius), y, radius)  # with the cell itself: one pass less
        equal: Array = values >= largest
        return equal
    if values.dtype.kind in "iu":
        values = values.astype(np.int16)
    beside = _largest(values, x, radius, itself=False)
    above_and_below = _largest(np.maximum(beside, values), y, radius, itself=False)
    larger: Array = values > np.maximum(beside, above_and_below)
    return larger


def _largest(values: Array, axis: int, radius: int, itself: bool = True) -> Array:
    """The largest value within `radius` cells along one axis; NaN where one of them is NaN."""
    if itself:
        largest = values.copy(order="K")
    else:
        least = -np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).min
        largest = np.full_like(values, least)
    for distance in range(1, min(radius, values.shape[axis] - 1) + 1):
        first, last = [slice(None)] * values.ndim, [slice(None)] * values.ndim
        first[axis], last[axis] = slice(None, -distance), slice(distance, None)
        for to, source in ((tuple(first), tuple(last)), (tuple(last), tuple(first))):
            np.maximum(largest[to], values[source], out=largest[to])
    return largest


def activated(values: Array, activation: str | None) -> Array:
    """Scores from values; -0 becomes +0."""
    with np.errstate(over="ignore", invalid="ignore"):
        result: Array = sigmoid(values) if activation == "sigmoid" else values + np.float32(0)
    return result
