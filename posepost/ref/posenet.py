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
        plan = _prepare(h.form, o.form, layout, output_stride, activation, quantized)
    except TypeError:
        _check.output_stride(output_stride)  # a list cannot be looked up, and so was not checked there
        raise
    heat, fields = _view.as_numpy(h), _view.as_numpy(o)

    cell = first_largest(channels_first(heat, plan.layout))
    with np.errstate(invalid="ignore", over="ignore"):
        scores = dequantize(at(heat, plan.heatmaps, cell), plan.heatmap_scale)
        offset = dequantize(at(fields, plan.offsets, cell.repeat(2, 1)), plan.offset_scale)
        keypoints = plan.cells.take(cell, 0)
        np.add(keypoints, offset.reshape(keypoints.shape), keypoints)
        scores = sigmoid(scores) if activation == "sigmoid" else scores + ZERO  # -0 becomes +0
        if transform is not None:
            matrix = _check.transform(transform, h.form, len(cell))
            assert isinstance(matrix, np.ndarray)  # a device array has been refused
            keypoints = affine(keypoints, matrix)

    if out is None:
        if h.library == "numpy":
            return Keypoints(keypoints, scores)
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


class Places(NamedTuple):
    """Where the cells of some maps lie in an array, in elements."""

    first: Array  # (B, N) cell 0 of each map
    row: int  # from a row to the next
    column: int
    columns: int  # of a map; 0: a row begins one column past the end of the one above


Scale = tuple[np.float32, np.float32]
"""(scale, zero) of a quantised argument."""
Scales = dict[str, Scale]


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    layout: str
    heatmaps: Places
    offsets: Places  # N = 2K: x and y of keypoint 0, of keypoint 1, ...
    cells: Array  # (H * W, 2) float32: x and y of each cell in pixels of the input
    heatmap_scale: Scale | None
    offset_scale: Scale | None


@functools.lru_cache(maxsize=16)
def _prepare(
    heatmaps: _view.Form,
    offsets: _view.Form,
    layout: str | None,
    output_stride: float,
    activation: str | None,
    quantized: _check.Quantization | None,
) -> Plan:
    """All checks, and what follows from the forms."""
    _check.same_device(heatmaps, offsets, "offsets", "heatmaps")
    maps = _check.posenet_maps(heatmaps, offsets, layout)
    _check.output_stride(output_stride)
    if quantized is None:
        quantized = _check.quantization(None, {"heatmaps": heatmaps.dtype, "offsets": offsets.dtype})
    _check.activation(activation)
    scales = {name: (np.float32(scale), np.float32(zero)) for name, scale, zero in quantized}
    k = np.arange(maps.K)
    y, x = np.indices((maps.H, maps.W), np.float32)
    return Plan(
        maps.layout,
        _places(maps, maps.heatmap_strides, k),
        _places(maps, maps.offset_strides, np.stack([maps.K + k, k], axis=1).ravel()),
        np.stack([x, y], axis=-1).reshape(-1, 2) * np.float32(output_stride),
        scales.get("heatmaps"),
        scales.get("offsets"),
    )


def _places(maps: _check.Maps, strides: tuple[int, int, int, int], channels: Array) -> Places:
    image, channel, row, column = strides
    first = np.arange(maps.B)[:, None] * image + channels * channel
    return Places(first, row, column, 0 if row == maps.W * column else maps.W)


def at(array: Array, places: Places, cell: Array) -> Array:
    """Elements at cells (y * W + x) of the maps at `places`, whatever the strides, without a copy."""
    first, row, column, columns = places
    if columns:
        y, x = np.divmod(cell, columns)
        place = first + y * row + x * column
    else:
        place = first + (cell if column == 1 else cell * column)
    if not array.flags.c_contiguous:
        span = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides)) // array.itemsize + 1
        array = np.lib.stride_tricks.as_strided(array, (span,), (array.itemsize,), writeable=False)
    elements: Array = array.take(place)
    return elements


def dequantize(array: Array, scale_and_zero: Scale | None) -> Array:
    values = array if array.dtype == np.float32 else widen(array)
    return values if scale_and_zero is None else (values - scale_and_zero[1]) * scale_and_zero[0]


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
