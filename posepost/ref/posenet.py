"""The NumPy twin of posepost.decode_posenet."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _check, _view
from ..types import Keypoints

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
    maps = _check.posenet_maps(h.form, o.form, layout)
    _check.output_stride(output_stride)
    _check.activation(activation)
    scales = {
        name: (np.float32(scale), np.float32(zero))
        for name, scale, zero in _check.quantization(quantization, {"heatmaps": h.form.dtype, "offsets": o.form.dtype})
    }
    B, K, H, W = maps.B, maps.K, maps.H, maps.W
    maps4d = _channels_first(h, maps.heatmap_strides, (B, K, H, W))
    fields = _channels_first(o, maps.offset_strides, (B, 2 * K, H, W))

    cell = first_largest(maps4d)
    y, x = np.divmod(cell, W)
    b, k = np.ogrid[:B, :K]
    step = np.float32(output_stride)
    keypoints = np.empty((B, K, 2), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        keypoints[..., 0] = x.astype(np.float32) * step + dequantize(fields[b, K + k, y, x], scales.get("offsets"))
        keypoints[..., 1] = y.astype(np.float32) * step + dequantize(fields[b, k, y, x], scales.get("offsets"))
        scores = dequantize(maps4d[b, k, y, x], scales.get("heatmaps")) + np.float32(0)  # -0 becomes +0
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


def _channels_first(seen: _view.View, strides: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    array = _view.as_numpy(seen)
    nbytes = [stride * array.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(array, shape, nbytes, writeable=False)


def first_largest(maps: Array) -> Array:
    """(B, K, H, W) -> (B, K): the first largest cell of each map in row-major order, NaN above all, as numpy.argmax."""
    B, K, H, W = maps.shape
    comparable = widen(maps) if is_bfloat16(maps) else maps
    if comparable.strides[1] < comparable.strides[3]:  # channels last: argmax along the cells as they lie
        cells: Array = comparable.transpose(0, 2, 3, 1).reshape(B, H * W, K).argmax(axis=1)
    else:
        cells = comparable.reshape(B, K, H * W).argmax(axis=2)
    return cells


def is_bfloat16(array: Array) -> bool:
    return bool(array.dtype == _view.BFLOAT16 or array.dtype.name == "bfloat16")


def widen(array: Array) -> Array:
    """Any element type as float32, exactly."""
    if is_bfloat16(array):
        bits = array["bfloat16"] if array.dtype == _view.BFLOAT16 else array.view(np.uint16)
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def dequantize(array: Array, scale_and_zero: tuple[np.float32, np.float32] | None) -> Array:
    values = widen(array)
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
