"""decode_simcc in NumPy."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _view
from .._rules import Scale, described
from .._rules.refinement import gaussian_taps
from .._rules.simcc import ARGUMENTS, SimCC, Vectors, shape
from .argmax import first_largest, widen
from .values import ZERO, affine, dequantize, sigmoid

Array = np.ndarray[Any, Any]

LOWEST, HIGHEST = np.float32(1e-3), np.float32(50)
"""What the blurred vector is clipped to before its logarithm."""

HALF, QUARTER = np.float32(0.5), np.float32(0.25)
WARP = 32


class Plan(NamedTuple):
    """Where things are, in elements from the start of an array, and what turns elements into values."""

    rows: int
    rule: SimCC
    vectors: Vectors
    places: tuple[Array, Array]  # (N, K) bin 0 of each vector of x and of y
    merged_places: tuple[Array, Array]  # of merged vectors, which lie in a row
    scales: tuple[Scale | None, ...]


@functools.lru_cache(maxsize=64)
def prepare(forms: tuple[_view.Form | None, ...], rule: SimCC, quantized: _check.Quantization | None) -> Plan:
    """All checks, and where things lie in the arrays."""
    specs, scales = described(ARGUMENTS, forms, quantized, optional=2)
    vectors = shape(rule, *specs)
    n, k = np.ogrid[: vectors.N, : vectors.K]
    places = [n * row + k * keypoint for row, keypoint, _ in vectors.strides]
    merged = [(n * vectors.K + k) * W for W in vectors.W]
    return Plan(
        vectors.N,
        rule,
        vectors,
        (places[0], places[1]),
        (merged[0], merged[1]),
        (scales.get("simcc_x"), scales.get("simcc_y")),
    )


def decode(
    plan: Plan, matrix: Array | None, x: Array, y: Array, flipped_x: Array | None, flipped_y: Array | None
) -> tuple[Array, ...]:
    """Keypoints (N, K, 2), scores (N, K) and, where they were asked for, visibilities (N, K)."""
    rule = plan.rule
    axes = [_axis(axis, plan, *pair) for axis, pair in enumerate(((x, flipped_x), (y, flipped_y)))]
    keypoints, scores = _join(axes, rule)
    if rule.activation is not None:
        scores = sigmoid(scores)
    if matrix is not None:
        keypoints = affine(keypoints, matrix)
    if rule.sharpness is None:
        return keypoints, scores
    visible = np.minimum(*(one.softmax_of_largest(by) for one, by in zip(axes, rule.sharpness)))
    return keypoints, scores, visible


class Axis(NamedTuple):
    """One axis of all keypoints: its vectors, and the first largest bin of each."""

    elements: Array  # (N, K, W)
    start: Array  # (N, K) places of their bins 0
    stride: int
    scale: Scale | None
    winner: Array  # (N, K)

    def read(self, bins: Array, start: Array) -> Array:
        """Values of bins, float32, of the vectors that begin at `start`."""
        array = self.elements
        if not array.flags.c_contiguous:
            span = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides)) // array.itemsize + 1
            array = np.lib.stride_tricks.as_strided(array, (span,), (array.itemsize,), writeable=False)
        return dequantize(array.take(start + bins * self.stride), self.scale)

    @property
    def W(self) -> int:
        return int(self.elements.shape[2])

    def top(self) -> Array:
        return self.read(self.winner, self.start)

    def softmax_of_largest(self, sharpness: float) -> Array:
        """The largest of softmax(sharpness * values); NaN where the largest value is not finite."""
        weights = dequantize(self.elements, self.scale) - self.top()[..., None]
        weights *= np.float32(sharpness)
        np.exp(weights, out=weights)
        visible: Array = (1 / weights.sum(axis=-1, dtype=np.float64)).astype(np.float32)
        return visible


def _axis(axis: int, plan: Plan, elements: Array, flipped: Array | None) -> Axis:
    start, stride = plan.places[axis], plan.vectors.strides[axis][2]
    if elements.ndim == 2:
        elements = elements[None]
    if flipped is not None:
        if flipped.ndim == 2:
            flipped = flipped[None]
        elements = merged(elements, flipped, plan.rule.flip_pairs or (), backwards=axis == 0)
        start, stride = plan.merged_places[axis], 1
    if stride == 1 and elements.dtype.itemsize != 2:
        winner = elements.argmax(axis=2)
    else:
        winner = first_largest(elements[:, :, None])
    return Axis(elements, start, stride, plan.scales[axis], winner)


def _join(axes: list[Axis], rule: SimCC) -> tuple[Array, Array]:
    """Points (N, K, 2) in pixels of the input, and scores (N, K) before a sigmoid."""
    x, y = axes
    tops = [x.top(), y.top()]
    points = np.empty((*x.winner.shape, 2), np.float32)
    if rule.blur is not None:
        points[..., 0], points[..., 1] = dark(axes, tops, rule.blur)
    else:
        points[..., 0], points[..., 1] = x.winner, y.winner
    if rule.normalizer is not None:
        tops = [np.clip(top / np.float32(by), np.float32(0), np.float32(1)) for top, by in zip(tops, rule.normalizer)]
    scores: Array = (tops[0] + tops[1]) * HALF if rule.score == "mean" else np.minimum(*tops)
    scores += ZERO  # -0 becomes +0
    if rule.least is not None:
        absent = scores < np.float32(rule.least)
        if absent.any():
            points[absent] = rule.absent
    points /= rule.split_ratio
    return points, scores


def merged(elements: Array, flipped: Array, flip_pairs: tuple[int, ...], *, backwards: bool) -> Array:
    """(N, K, W) means, float32, of elements and their partners, in units of the elements."""
    partners = flipped[:, list(flip_pairs), ::-1] if backwards else flipped[:, list(flip_pairs)]
    result = widen(elements)
    result += widen(partners)
    result *= HALF
    dense: Array = np.ascontiguousarray(result)  # `widen` keeps the order of the axes in memory
    return dense


# ---- DARK


def dark(axes: list[Axis], tops: list[Array], blur: tuple[int, int]) -> Array:
    """(2, N, K): Newton's step on the logarithm of the blurred vector from its largest bin, for both axes at once.

    MMPose blurs the vector, scales it by c = max(vector) / max(blurred vector), clips it to 1e-3 ... 50 and continues
    its logarithm L beyond its ends by its last bins: dx = (L[i + 1] - L[i - 1]) / 2, dxx = 1e-9 + (L[i + 2] - 2 L[i] +
    L[i - 2]) / 4, i - dx / dxx. Only bins i - 2 ... i + 2 of the blurred vector are made here. Differences of
    logarithms do not see c, and c is at least 1, so that it is needed only where a clip could act: a bin below 1e-3 or
    a maximum above 50. Where the maximum is at most 1e-3 all is clipped to 1e-3, and there is no step.
    """
    weights, reach = _weights(blur)
    i, top = np.empty((2, axes[0].winner.size), np.int64), np.empty((2, axes[0].winner.size), np.float32)
    values = np.empty((2, reach.shape[1], i.shape[1]), np.float32)
    starts = [axis.start.reshape(-1) for axis in axes]
    for a, axis in enumerate(axes):
        i[a], top[a] = axis.winner.reshape(-1), tops[a].reshape(-1)
        near = i[a] + reach[a]
        outside = (near < 0) | (near >= axis.W)
        near[outside] = 0
        values[a] = axis.read(near, starts[a])
        values[a][outside] = 0
    products = values[:, None] * weights
    if not np.isfinite(values).all():
        products = np.where(weights != 0, products, np.float32(0))  # 0 * inf is no part of a sum
    blurred = _warp_sum(products)
    last = np.array([[axis.W - 1] for axis in axes])
    if (i < 2).any() or (i > last - 2).any():
        inside = np.clip(i[:, None] + np.arange(-2, 3)[:, None], 0, last[:, None]) - i[:, None] + 2
        blurred = np.take_along_axis(blurred, inside, axis=1)

    if not (blurred.min(initial=np.inf) >= LOWEST and top.max(initial=0) <= HIGHEST):  # NaN among them or not
        unclear = ((blurred < LOWEST).any(axis=1) | (top > HIGHEST)) & (top > LOWEST)
        for axis, start, size, mine, largest, these in zip(axes, starts, blur, blurred, top, unclear):
            if these.any():
                whole = _largest_blurred(axis.read(np.arange(axis.W), start[these, None]), half_taps(size))
                mine[:, these] = np.clip(mine[:, these] * (largest[these] / whole), LOWEST, HIGHEST)
    step = log_ratio(blurred[:, (3, 0, 4)], blurred[:, (1, 2, 2)])
    curvature = (step[:, 1] + step[:, 2]) * QUARTER
    curvature += np.float32(1e-9)
    offset = step[:, 0] * HALF
    offset /= curvature
    at_bins = i.astype(np.float32)
    found = np.where(top > LOWEST, at_bins - offset, at_bins)
    found[~np.isfinite(top)] = np.nan
    return found.reshape(2, *axes[0].winner.shape)


@functools.lru_cache(maxsize=32)
def _weights(blur: tuple[int, int]) -> tuple[Array, Array]:
    """(2, 5, n, 1): the taps of blurred bins i - 2 ... i + 2 of both axes on the n bins around i, and (2, n, 1): where
    those bins lie, from -2 - radius on; n is at least a warp."""
    n = max(WARP, *(size + 4 for size in blur))
    weights, reach = np.zeros((2, 5, n, 1), np.float32), np.empty((2, n, 1), np.int64)
    for axis, size in enumerate(blur):
        reach[axis, :, 0] = np.arange(n) - size // 2 - 2
        for t in range(5):
            weights[axis, t, t : t + size, 0] = gaussian_taps(size)
    return weights, reach


def half_taps(size: int) -> tuple[float, ...]:
    """OpenCV's Gaussian of `size` bins, from the middle tap to the last."""
    return gaussian_taps(size)[size // 2 :]


def _warp_sum(products: Array) -> Array:
    """(..., n, m) -> (..., m): sums in the order of a warp: each lane its own terms, then halves added to halves."""
    total = products[..., :WARP, :]
    for first in range(WARP, products.shape[-2], WARP):
        more = products[..., first : first + WARP, :]
        total[..., : more.shape[-2], :] += more
    while total.shape[-2] > 1:
        half = total.shape[-2] // 2
        total = total[..., :half, :] + total[..., half:, :]
    summed: Array = total[..., 0, :]
    return summed


def _largest_blurred(values: Array, half: tuple[float, ...]) -> Array:
    """(n, W) -> (n,): the largest bin of each blurred vector, outside which there is 0; taps in ascending order."""
    W, radius = values.shape[1], len(half) - 1
    blurred = np.zeros_like(values)
    for shift in range(-min(radius, W - 1), min(radius, W - 1) + 1):
        low, high = max(0, -shift), min(W, W - shift)
        blurred[:, low:high] += np.float32(half[abs(shift)]) * values[:, low + shift : high + shift]
    largest: Array = blurred.max(axis=1)
    return largest


ROOT_OF_HALF = np.uint32(0x3F3504F3)
"""The bits of sqrt(1/2)."""


def log_ratio(a: Array, b: Array) -> Array:
    """ln(a / b) of + - * / alone, so that every machine gives the same bits; for normal quotients.

    a / b = m * 2^e with m from sqrt(1/2) to sqrt(2), and ln m = 2 artanh((m - 1) / (m + 1)), whose series is cut behind
    the ninth power: less than 1e-8 is left out.
    """
    bits = np.divide(a, b).view(np.uint32)
    bits -= ROOT_OF_HALF
    exponent = (bits.view(np.int32) >> 23).astype(np.float32)
    bits &= MANTISSA
    bits += ROOT_OF_HALF
    m = bits.view(np.float32)
    z = (m - 1) / (m + 1)
    s = z * z
    series = s * SERIES[0]
    for term in SERIES[1:]:
        series += term
        series *= s
    series += 2
    series *= z
    exponent *= LOG_2
    exponent += series
    return exponent


SERIES = tuple(np.float32(2 / n) for n in (9, 7, 5, 3))
LOG_2 = np.float32(0.693147182)
MANTISSA = np.uint32(0x7FFFFF)
