"""The NumPy twin of posepost.decode_posenet."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import _check, _view
from ..types import Keypoints
from .argmax import at, first_largest, widen

Array = np.ndarray[Any, Any]


def decode_posenet(
    heatmaps: _view.Array,
    offsets: _view.Array,
    *,
    output_stride: float,
    layout: str | None = None,
    activation: str | None = "sigmoid",
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: tuple[_view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Keypoints:
    """`posepost.decode_posenet` for arrays in host memory; `stream` has no meaning there."""
    h, o = _view.view(heatmaps, "heatmaps"), _view.view(offsets, "offsets")
    _check.same_device(h.form, o.form, "offsets", "heatmaps")
    layout, B, K, H, W, _, _ = _check.posenet_maps(h.form, o.form, layout)
    _check.output_stride(output_stride)
    _check.activation(activation)
    scales = {
        name: (np.float32(scale), np.float32(zero))
        for name, scale, zero in _check.quantization(quantization, {"heatmaps": h.form.dtype, "offsets": o.form.dtype})
    }
    maps, fields = channels_first(_view.as_numpy(h), layout), channels_first(_view.as_numpy(o), layout)

    cell = first_largest(maps)
    b, k, channel_xy = _indices(B, K)
    with np.errstate(invalid="ignore", over="ignore"):
        offset = dequantize(at(fields, b[..., None], channel_xy, cell[..., None]), scales.get("offsets"))
        keypoints = _cell_positions(H, W, float(output_stride))[cell] + offset
        scores = dequantize(at(maps, b, k, cell), scales.get("heatmaps")) + np.float32(0)  # -0 becomes +0
        if activation == "sigmoid":
            scores = sigmoid(scores)
        if transform is not None:
            matrix = _check.transform(transform, h.form, B)
            assert isinstance(matrix, np.ndarray)  # a device array has been refused
            keypoints = affine(keypoints, matrix)

    if out is None:
        return Keypoints(_view.from_numpy(keypoints, h.library), _view.from_numpy(scores, h.library))
    shapes = {"keypoints": keypoints.shape, "scores": scores.shape}
    for seen, values in zip(_check.outputs(out, shapes, h.form), (keypoints, scores)):
        _view.as_numpy(seen)[...] = values
    return Keypoints(*out)


def channels_first(array: Array, layout: str) -> Array:
    """Any layout as a view (B, C, H, W)."""
    if array.ndim == 3:
        array = array[None]
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


@functools.lru_cache(maxsize=64)
def _indices(B: int, K: int) -> tuple[Array, Array, Array]:
    """Index arrays: image (B, 1), heatmap channel (1, K), offset channels (1, K, 2) of x and y."""
    k = np.arange(K)
    return np.arange(B)[:, None], k[None], np.stack([K + k, k], axis=-1)[None]


@functools.lru_cache(maxsize=16)
def _cell_positions(H: int, W: int, output_stride: float) -> Array:
    """(H * W, 2) float32: x and y of each cell in pixels of the input."""
    y, x = np.indices((H, W), np.float32)
    return np.stack([x, y], axis=-1).reshape(-1, 2) * np.float32(output_stride)


def dequantize(array: Array, scale_and_zero: tuple[np.float32, np.float32] | None) -> Array:
    values = array if array.dtype == np.float32 else widen(array)
    return values if scale_and_zero is None else (values - scale_and_zero[1]) * scale_and_zero[0]


def sigmoid(values: Array) -> Array:
    one = np.float32(1)
    result: Array = one / (one + np.exp(-values))
    return result


def affine(points: Array, matrix: Array) -> Array:
    """(N, K, 2) points through a (2, 3) or (N, 2, 3) matrix: (m0 x + m1 y) + m2, (m3 x + m4 y) + m5, in float32."""
    m = matrix.reshape(-1, 1, 6)
    x, y = points[..., 0], points[..., 1]
    return np.stack([m[..., 0] * x + m[..., 1] * y + m[..., 2], m[..., 3] * x + m[..., 4] * y + m[..., 5]], axis=-1)
