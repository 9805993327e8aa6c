"""The NumPy twin of posepost.decode_simcc."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _view
from ..types import Keypoints
from .argmax import first_largest, widen
from .posenet import affine, dequantize, sigmoid
from .refine import gaussian_taps

Array = np.ndarray[Any, Any]

PRESETS: dict[str, dict[str, Any]] = {
    "rtmpose": {"split_ratio": 2.0, "refine": "none", "sigma": (4.9, 5.66)},
    "simcc": {"split_ratio": 2.0, "refine": "none", "sigma": (6.0, 6.0)},
}
"""What a preset gives to arguments that are not given; without one they are those of "rtmpose"."""

REFINES = ("none", "dark")
NORMALIZES = ("clip", "sigma")
MOST_TAPS = 127
"""Longest blur of "dark"."""

LOWEST, HIGHEST = np.float32(1e-3), np.float32(50)
"""What the blurred vector is clipped to before its logarithm."""

HALF, QUARTER = np.float32(0.5), np.float32(0.25)
ZERO = np.float32(0)
WARP = 32


class Options(NamedTuple):
    """A call's options with presets and defaults filled in, checked. Hashable: part of a plan's key."""

    split_ratio: float
    blur: tuple[int, int] | None  # bins of the blur of x and y; None without a refinement
    sharpness: tuple[float, float] | None  # beta * sigma of x and y where the visibility is asked for
    threshold: float  # in units of scores before a sigmoid; NaN: nobody is absent
    absent: float
    normalizer: tuple[float, float] | None  # what maxima are divided by before they are cut to 0 ... 1
    flip_pairs: tuple[int, ...] | None
    activation: str | None


def options(flip_pairs: Any, sigma: Any, **given: Any) -> Options:
    """`_options` of arguments as they were given; those that cannot be hashed fail there, by name."""
    if flip_pairs is not None and not isinstance(flip_pairs, tuple):
        flip_pairs = _check.flip_pairs(flip_pairs)
    if sigma is not None and not isinstance(sigma, tuple):
        sigma = _check.sigma(sigma)
    try:
        return _options(flip_pairs, sigma, **given)
    except TypeError:
        return _options.__wrapped__(flip_pairs, sigma, **given)


@functools.lru_cache(maxsize=256)
def _options(
    flip_pairs: Any,
    sigma: Any,
    preset: str | None,
    split_ratio: float | None,
    refine: str | None,
    visibility: bool,
    beta: float,
    threshold: float,
    absent: float | None,
    normalize: str | None,
    activation: str | None,
) -> Options:
    if preset is not None:
        _check.choice(preset, "preset", tuple(PRESETS))
    filled = dict(PRESETS[preset or "rtmpose"])
    for name, value in (("split_ratio", split_ratio), ("refine", refine), ("sigma", sigma)):
        if value is not None:
            filled[name] = value
    _check.choice(filled["refine"], "refine", REFINES)
    _check.positive(filled["split_ratio"], "split_ratio")
    sigmas = _check.sigma(filled["sigma"])
    _check.positive(beta, "beta")
    _check.number(threshold, "threshold")
    if absent is not None:
        _check.number(absent, "absent")
    _check.activation(activation)
    if normalize is not None:
        _check.choice(normalize, "normalize", NORMALIZES)
        if activation is not None:
            raise ValueError(f"normalize must be None with activation {activation!r}, got {normalize!r}")
    if flip_pairs is not None:
        flip_pairs = _check.flip_pairs(flip_pairs)

    blur = None
    if filled["refine"] == "dark":
        blur = blur_size(sigmas[0]), blur_size(sigmas[1])
        if max(blur) > MOST_TAPS:
            raise ValueError(
                f"sigma must give blurs of at most {MOST_TAPS} bins, got {filled['sigma']} with {max(blur)}"
            )
    normalizer = None
    if normalize is not None:
        spread = math.sqrt(2 * math.pi)
        normalizer = (sigmas[0] * spread, sigmas[1] * spread) if normalize == "sigma" else (1.0, 1.0)
    return Options(
        split_ratio=float(filled["split_ratio"]),
        blur=blur,
        sharpness=(beta * sigmas[0], beta * sigmas[1]) if visibility else None,
        threshold=math.nan if absent is None else _before_activation(float(threshold), activation),
        absent=0.0 if absent is None else float(absent),
        normalizer=normalizer,
        flip_pairs=flip_pairs,
        activation=activation,
    )


def blur_size(sigma: float) -> int:
    """MMPose's bins of the blur for a codec's sigma: odd; below sigma 0.8, where MMPose fails, 1: no blur."""
    size = int((sigma * 20 - 7) // 3)
    return max(1, size - (size % 2 == 0))


def half_taps(size: int) -> tuple[float, ...]:
    """OpenCV's Gaussian of `size` bins, from the middle tap to the last."""
    return gaussian_taps(size)[size // 2 :]


def _before_activation(threshold: float, activation: str | None) -> float:
    """The threshold of what goes into a sigmoid, so that no exponential takes part; NaN below 0: nobody is absent."""
    if activation is None:
        return threshold
    if threshold >= 1:
        return math.inf
    if threshold <= 0:
        return -math.inf if threshold == 0 else math.nan
    return math.log(threshold / (1 - threshold))


class Plan(NamedTuple):
    """Where things are, in elements from the start of an array, and what turns elements into values."""

    vectors: _check.Vectors
    places: tuple[Array, Array]  # (N, K) bin 0 of each vector of x and of y
    merged_places: tuple[Array, Array]  # of merged vectors, which lie in a row
    scales: tuple[tuple[np.float32, np.float32] | None, ...]


ARGUMENTS = ("simcc_x", "simcc_y", "flipped_x", "flipped_y")


@functools.lru_cache(maxsize=64)
def prepare(
    simcc_x: _view.Form,
    simcc_y: _view.Form,
    flipped_x: _view.Form | None,
    flipped_y: _view.Form | None,
    flip_pairs: tuple[int, ...] | None,
    quantized: _check.Quantization | None,
) -> Plan:
    """Checks of the arrays' forms, and where things lie in them."""
    vectors = _check.simcc_vectors(simcc_x, simcc_y, flipped_x, flipped_y, flip_pairs)
    if quantized is None:
        quantized = _check.quantization(None, {"simcc_x": simcc_x.dtype, "simcc_y": simcc_y.dtype})
    scales = {name: (np.float32(scale), np.float32(zero)) for name, scale, zero in quantized}
    n, k = np.ogrid[: vectors.N, : vectors.K]
    places = [n * row + k * keypoint for row, keypoint, _ in vectors.strides]
    merged = [(n * vectors.K + k) * W for W in vectors.W]
    return Plan(vectors, (places[0], places[1]), (merged[0], merged[1]), (scales.get("simcc_x"), scales.get("simcc_y")))


def decode_simcc(
    simcc_x: _view.Array,
    simcc_y: _view.Array,
    *,
    split_ratio: float | None = None,
    refine: str | None = None,
    preset: str | None = None,
    sigma: Any = None,
    visibility: bool = False,
    beta: float = 150.0,
    threshold: float = 0.0,
    absent: float | None = -1.0,
    normalize: str | None = None,
    flipped_x: _view.Array | None = None,
    flipped_y: _view.Array | None = None,
    flip_pairs: Any = None,
    activation: str | None = None,
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: tuple[_view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Keypoints:
    """`posepost.decode_simcc` for arrays in host memory; `stream` has no meaning there."""
    given = options(
        flip_pairs,
        sigma,
        preset=preset,
        split_ratio=split_ratio,
        refine=refine,
        visibility=visibility,
        beta=beta,
        threshold=threshold,
        absent=absent,
        normalize=normalize,
        activation=activation,
    )
    x, y = _view.view(simcc_x, "simcc_x"), _view.view(simcc_y, "simcc_y")
    mirrored = [
        None if array is None else _view.view(array, name)
        for array, name in ((flipped_x, "flipped_x"), (flipped_y, "flipped_y"))
    ]
    forms = [None if one is None else one.form for one in mirrored]
    quantized: _check.Quantization | None = None
    if quantization is not None:
        quantized = _check.quantization(quantization, {"simcc_x": x.form.dtype, "simcc_y": y.form.dtype})
    plan = prepare(x.form, y.form, forms[0], forms[1], given.flip_pairs, quantized)

    with np.errstate(all="ignore"):
        axes = [
            _axis(axis, plan, given, _view.as_numpy(seen), None if one is None else _view.as_numpy(one))
            for axis, (seen, one) in enumerate(zip((x, y), mirrored))
        ]
        keypoints, scores = _join(axes, given)
        visible = None
        if given.sharpness is not None:
            visible = np.minimum(*(one.softmax_of_largest(by) for one, by in zip(axes, given.sharpness)))
        if given.activation is not None:
            scores = sigmoid(scores)
        if transform is not None:
            matrix = _check.transform(transform, x.form, plan.vectors.N, reference_name="simcc_x")
            assert isinstance(matrix, np.ndarray)  # a device array has been refused
            keypoints = affine(keypoints, matrix)

    if out is None:
        result = Keypoints(_view.from_numpy(keypoints, x.library), _view.from_numpy(scores, x.library))
        if visible is not None:
            result.visibility = _view.from_numpy(visible, x.library)
        return result
    shapes = {"keypoints": (keypoints.shape, "float32"), "scores": (scores.shape, "float32")}
    for seen, values in zip(_check.outputs(out, shapes, x.form, None, "simcc_x"), (keypoints, scores)):
        _view.as_numpy(seen)[...] = values
    result = Keypoints(*out)
    if visible is None:
        return result
    place = out.visibility if isinstance(out, Keypoints) else None
    if place is None:
        result.visibility = _view.from_numpy(visible, x.library)
        return result
    (seen,) = _check.outputs((place,), {"visibility": (visible.shape, "float32")}, x.form, None, "simcc_x")
    _view.as_numpy(seen)[...] = visible
    result.visibility = place
    return result


class Axis(NamedTuple):
    """One axis of all keypoints: its vectors, and the first largest bin of each."""

    elements: Array  # (N, K, W)
    start: Array  # (N, K) places of their bins 0
    stride: int
    scale: tuple[np.float32, np.float32] | None
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


def _axis(axis: int, plan: Plan, given: Options, elements: Array, mirrored: Array | None) -> Axis:
    start, stride = plan.places[axis], plan.vectors.strides[axis][2]
    if elements.ndim == 2:
        elements = elements[None]
    if mirrored is not None:
        if mirrored.ndim == 2:
            mirrored = mirrored[None]
        elements = merged(elements, mirrored, given.flip_pairs or (), backwards=axis == 0)
        start, stride = plan.merged_places[axis], 1
    if stride == 1 and elements.dtype.itemsize != 2:
        winner = elements.argmax(axis=2)
    else:
        winner = first_largest(elements[:, :, None])
    return Axis(elements, start, stride, plan.scales[axis], winner)


def _join(axes: list[Axis], given: Options) -> tuple[Array, Array]:
    """Points (N, K, 2) in pixels of the input, and scores (N, K) before a sigmoid."""
    x, y = axes
    tops = [x.top(), y.top()]
    points = np.empty((*x.winner.shape, 2), np.float32)
    if given.blur is not None:
        points[..., 0], points[..., 1] = dark(axes, tops, given.blur)
    else:
        points[..., 0], points[..., 1] = x.winner, y.winner
    if given.normalizer is not None:
        tops = [np.clip(top / np.float32(by), np.float32(0), np.float32(1)) for top, by in zip(tops, given.normalizer)]
    scores: Array = np.minimum(*tops) + ZERO  # -0 becomes +0
    absent = scores <= given.threshold
    if absent.any():
        points[absent] = given.absent
    points /= given.split_ratio
    return points, scores


def merged(elements: Array, mirrored: Array, flip_pairs: tuple[int, ...], *, backwards: bool) -> Array:
    """(N, K, W) means, float32, of elements and their partners, in units of the elements."""
    partners = mirrored[:, list(flip_pairs), ::-1] if backwards else mirrored[:, list(flip_pairs)]
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
