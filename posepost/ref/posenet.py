"""The NumPy twin of posepost.decode_posenet."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _view
from ..types import Keypoints
from .argmax import first_largest, widen

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
    quantized: _check.Quantization | None = None
    if quantization is not None:
        quantized = _check.quantization(quantization, {"heatmaps": h.form.dtype, "offsets": o.form.dtype})
    try:
        maps, places, scales = _prepare(h.form, o.form, layout, output_stride, activation, quantized)
    except TypeError:
        _check.output_stride(output_stride)  # a list cannot be looked up, and so was not checked there
        raise
    heat, fields = _view.as_numpy(h), _view.as_numpy(o)

    cell = first_largest(channels_first(heat, maps.layout))
    offset = at(fields, places.offsets, maps.offset_strides, maps.W, cell[..., None])
    scores = dequantize(at(heat, places.heatmaps, maps.heatmap_strides, maps.W, cell), scales.get("heatmaps"))
    with np.errstate(invalid="ignore", over="ignore"):
        keypoints = places.cells[cell] + dequantize(offset, scales.get("offsets"))
        scores = sigmoid(scores) if activation == "sigmoid" else scores + np.float32(0)  # -0 becomes +0
        if transform is not None:
            matrix = _check.transform(transform, h.form, maps.B)
            assert isinstance(matrix, np.ndarray)  # a device array has been refused
            keypoints = affine(keypoints, matrix)

    if out is None:
        return Keypoints(_view.from_numpy(keypoints, h.library), _view.from_numpy(scores, h.library))
    results = {"keypoints": (keypoints.shape, "float32"), "scores": (scores.shape, "float32")}
    for seen, values in zip(_check.outputs(out, results, h.form), (keypoints, scores)):
        _view.as_numpy(seen)[...] = values
    return Keypoints(*out)


def channels_first(array: Array, layout: str) -> Array:
    """Any layout as a view (B, C, H, W)."""
    if array.ndim == 3:
        array = array[None]
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


class Places(NamedTuple):
    """Where things are, in elements from the start of an array, and in pixels."""

    heatmaps: Array  # (B, K) cell 0 of each heatmap
    offsets: Array  # (B, K, 2) cell 0 of the x and of the y offsets
    cells: Array  # (H * W, 2) float32: x and y of each cell in pixels of the input


Scales = dict[str, tuple[np.float32, np.float32]]
"""(scale, zero) of each quantised argument."""


@functools.lru_cache(maxsize=16)
def _prepare(
    heatmaps: _view.Form,
    offsets: _view.Form,
    layout: str | None,
    output_stride: float,
    activation: str | None,
    quantized: _check.Quantization | None,
) -> tuple[_check.Maps, Places, Scales]:
    """All checks, and all of a call that does not change from frame to frame."""
    _check.same_device(heatmaps, offsets, "offsets", "heatmaps")
    maps = _check.posenet_maps(heatmaps, offsets, layout)
    _check.output_stride(output_stride)
    if quantized is None:
        quantized = _check.quantization(None, {"heatmaps": heatmaps.dtype, "offsets": offsets.dtype})
    _check.activation(activation)
    scales = {name: (np.float32(scale), np.float32(zero)) for name, scale, zero in quantized}
    return maps, _places(maps, output_stride), scales


def _places(maps: _check.Maps, output_stride: float) -> Places:
    b, k = np.ogrid[: maps.B, : maps.K]
    channel = np.stack([maps.K + k, k], axis=-1)
    image_stride, channel_stride, _, _ = maps.heatmap_strides
    offset_image_stride, offset_channel_stride, _, _ = maps.offset_strides
    y, x = np.indices((maps.H, maps.W), np.float32)
    return Places(
        b * image_stride + k * channel_stride,
        b[..., None] * offset_image_stride + channel * offset_channel_stride,
        np.stack([x, y], axis=-1).reshape(-1, 2) * np.float32(output_stride),
    )


def at(array: Array, start: Array, strides: tuple[int, int, int, int], W: int, cell: Array) -> Array:
    """Elements at cells (y * W + x) of the maps that begin at `start`, whatever the strides, without a copy."""
    _, _, stride_y, stride_x = strides
    if stride_y == W * stride_x:
        place = start + (cell if stride_x == 1 else cell * stride_x)
    else:
        y, x = np.divmod(cell, W)
        place = start + y * stride_y + x * stride_x
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
    else:
        span = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides)) // array.itemsize + 1
        flat = np.lib.stride_tricks.as_strided(array, (span,), (array.itemsize,), writeable=False)
    elements: Array = flat[place]
    return elements


def dequantize(array: Array, scale_and_zero: tuple[np.float32, np.float32] | None) -> Array:
    values = array if array.dtype == np.float32 else widen(array)
    return values if scale_and_zero is None else (values - scale_and_zero[1]) * scale_and_zero[0]


ONE = np.float32(1)


def sigmoid(values: Array) -> Array:
    """1 / (1 + exp(-values)) in float32, in new memory."""
    result: Array = np.negative(values)
    np.exp(result, out=result)
    result += ONE
    return np.divide(ONE, result, out=result)


def affine(points: Array, matrix: Array) -> Array:
    """(N, K, 2) points through a (2, 3) or (N, 2, 3) matrix: (m0 x + m1 y) + m2, (m3 x + m4 y) + m5, in float32."""
    m = matrix.reshape(-1, 1, 6)
    x, y = points[..., 0], points[..., 1]
    return np.stack([m[..., 0] * x + m[..., 1] * y + m[..., 2], m[..., 3] * x + m[..., 4] * y + m[..., 5]], axis=-1)
