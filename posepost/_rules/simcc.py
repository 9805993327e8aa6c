"""Options of `decode_simcc`, and its presets."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from .. import _check
from .._view import Spec
from . import Rule, kept
from .thresholds import ABOVE_ZERO, logit, not_below

ARGUMENTS = ("simcc_x", "simcc_y", "flip.maps[0]", "flip.maps[1]")
PRESETS: dict[str, dict[str, Any]] = {
    "rtmpose": {"split_ratio": 2.0, "refine": "none", "sigma": (4.9, 5.66), "score": "min"},
    "rtmpose_rtmlib": {"split_ratio": 2.0, "refine": "none", "sigma": (4.9, 5.66), "score": "mean"},
    "simcc": {"split_ratio": 2.0, "refine": "none", "sigma": (6.0, 6.0), "score": "min"},
}
"""What a preset gives to arguments that are not given; without one they are those of "rtmpose"."""

REFINES = ("none", "dark")
SCORES = ("min", "mean")
NORMALIZES = ("clip", "sigma")
MOST_TAPS = 127
"""Longest blur of "dark"."""


@dataclasses.dataclass(frozen=True, eq=False)
class SimCC(Rule):
    split_ratio: float
    blur: tuple[int, int] | None  # bins of the blur of x and y; None without a refinement
    score: str  # of both maxima: one of SCORES
    sharpness: tuple[float, float] | None  # beta * sigma of x and y where the visibility is asked for
    least: float | None  # of the score before a sigmoid, a float32: below it a keypoint is absent; None: none is
    absent: float
    normalizer: tuple[float, float] | None  # what maxima are divided by before they are cut to 0 ... 1
    flip_pairs: tuple[int, ...] | None
    activation: str | None


@kept
def rule(
    preset: str | None,
    split_ratio: float | None,
    refine: str | None,
    sigma: Any,
    score: str | None,
    visibility: bool,
    beta: float,
    threshold: float | None,
    absent: float | None,
    normalize: str | None,
    flip_pairs: tuple[int, ...] | None,
    activation: str | None,
) -> SimCC:
    if preset is not None:
        _check.choice(preset, "preset", tuple(PRESETS))
    given = {"split_ratio": split_ratio, "refine": refine, "sigma": sigma, "score": score}
    filled = {**PRESETS[preset or "rtmpose"], **{name: value for name, value in given.items() if value is not None}}
    _check.choice(filled["refine"], "refine", REFINES)
    _check.positive(filled["split_ratio"], "split_ratio")
    sigmas = _check.sigma(filled["sigma"])
    _check.choice(filled["score"], "score", SCORES)
    _check.positive(beta, "beta")
    _check.flag(visibility, "visibility")
    if threshold is not None:
        _check.not_nan(threshold, "threshold")
    if absent is not None:
        _check.number(absent, "absent")
    _check.activation(activation)
    if filled["score"] == "mean" and activation is not None:
        raise ValueError(f'score must be "min" with activation {activation!r}, got "mean"')
    if normalize is not None:
        _check.choice(normalize, "normalize", NORMALIZES)
        if activation is not None:
            raise ValueError(f"normalize must be None with activation {activation!r}, got {normalize!r}")

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
    return SimCC(
        split_ratio=float(filled["split_ratio"]),
        blur=blur,
        score=filled["score"],
        sharpness=(beta * sigmas[0], beta * sigmas[1]) if visibility else None,
        least=None if absent is None else _least(ABOVE_ZERO if threshold is None else float(threshold), activation),
        absent=0.0 if absent is None else float(absent),
        normalizer=normalizer,
        flip_pairs=flip_pairs,
        activation=activation,
    )


def _least(threshold: float, activation: str | None) -> float | None:
    if math.isnan(threshold) or (activation is not None and threshold <= 0):
        return None
    return float(not_below(threshold if activation is None else logit(threshold)))


def blur_size(sigma: float) -> int:
    """MMPose's bins of the blur for a codec's sigma: odd; below sigma 0.8, where MMPose fails, 1: no blur."""
    size = int((sigma * 20 - 7) // 3)
    return max(1, size - (size % 2 == 0))


Strides = tuple[int, int, int]


class Vectors(NamedTuple):
    """N rows of K keypoints: vectors of W[0] bins for x and W[1] for y, with strides of (N, K, W), in elements."""

    N: int
    K: int
    W: tuple[int, int]
    strides: tuple[Strides, Strides]
    flipped_strides: tuple[Strides, Strides] | None


def shape(rule: SimCC, simcc_x: Spec, simcc_y: Spec, flipped_x: Spec | None, flipped_y: Spec | None) -> Vectors:
    """The vectors of a SimCC head, and of the same head on the mirrored image."""
    _check.elements(simcc_x, "simcc_x", (2, 3))
    x = simcc_x.shape
    for name, spec, like, like_name in (
        ("simcc_y", simcc_y, simcc_x, "simcc_x"),
        (ARGUMENTS[2], flipped_x, simcc_x, "simcc_x"),
        (ARGUMENTS[3], flipped_y, simcc_y, "simcc_y"),
    ):
        if spec is None:
            continue
        _check.same_device(simcc_x, spec, name, "simcc_x")
        _check.elements(spec, name, (2, 3))
        if spec.dtype != like.dtype:
            raise TypeError(f"{name} must have the dtype of {like_name}, got {spec.dtype} and {like.dtype}")
        if name == "simcc_y" and spec.shape[:-1] != x[:-1]:
            raise ValueError(f"simcc_y must have the rows and keypoints of simcc_x, got shapes {spec.shape} and {x}")
        if name != "simcc_y" and spec.shape != like.shape:
            raise ValueError(f"{name} must have the shape of {like_name}, got shapes {spec.shape} and {like.shape}")
    for name, spec in (("simcc_x", simcc_x), ("simcc_y", simcc_y)):
        if 0 in spec.shape[-2:]:
            raise ValueError(f"{name} must have at least one keypoint and one bin, got shape {spec.shape}")
    *rows, K, _ = x
    N = rows[0] if rows else 1
    W = x[-1], simcc_y.shape[-1]
    if max(N * K, *W) >= 2**31:
        raise ValueError(f"simcc_x must have fewer than 2**31 keypoints and bins, got {N} x {K} and {max(W)}")
    _check.partners(rule.flip_pairs, K)
    flipped_strides = None
    if flipped_x is not None and flipped_y is not None:
        flipped_strides = _row_strides(flipped_x), _row_strides(flipped_y)
    return Vectors(N, K, W, (_row_strides(simcc_x), _row_strides(simcc_y)), flipped_strides)


def _row_strides(spec: Spec) -> Strides:
    *rows, k, i = spec.strides
    return (rows[0] if rows else 0), k, i
