"""Elements as values: what every NumPy implementation does with them, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._rules import Scale
from .argmax import widen

Array = np.ndarray[Any, Any]


def channels_first(array: Array, layout: str) -> Array:
    """Any layout as a view (B, C, H, W)."""
    if array.ndim == 3:
        array = array[None]
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


def dequantize(array: Array, scale: Scale | None) -> Array:
    values = array if array.dtype == np.float32 else widen(array)
    return values if scale is None else (values - scale[1]) * scale[0]


ZERO, ONE = np.zeros((), np.float32), np.ones((), np.float32)  # arrays: NumPy converts scalars at each use


def sigmoid(values: Array) -> Array:
    """1 / (1 + exp(-values)) in float32, in new memory."""
    result: Array = np.negative(values)
    np.exp(result, result)
    np.add(result, ONE, result)
    return np.reciprocal(result, result)


def affine(points: Array, matrix: Array) -> Array:
    """(N, K, 2) points through a (2, 3) or (N, 2, 3) matrix: (m0 x + m1 y) + m2, (m3 x + m4 y) + m5, in float32."""
    m = matrix.reshape(-1, 1, 6)
    x, y = points[..., 0], points[..., 1]
    return np.stack([m[..., 0] * x + m[..., 1] * y + m[..., 2], m[..., 3] * x + m[..., 4] * y + m[..., 5]], axis=-1)


def activated(values: Array, activation: str | None) -> Array:
    """Scores from values; -0 becomes +0."""
    with np.errstate(over="ignore", invalid="ignore"):
        result: Array = sigmoid(values) if activation == "sigmoid" else values + np.float32(0)
    return result


def comparable(maps: Array) -> Array:
    """The maps in a type whose order NumPy knows: float32, uint8 and int8 as they are, halves widened."""
    return maps if maps.dtype == np.float32 or maps.dtype.kind in "iu" else widen(maps)
