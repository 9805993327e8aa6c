"""The NumPy twin of posepost.decode_posenet."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    try:
        if type(heatmaps) is np.ndarray and type(offsets) is np.ndarray and quantization is None:
            heat, fields, library = heatmaps, offsets, "numpy"
            heat_facts = (heat.shape, heat.strides, heat.dtype, None)
            fields_facts = (fields.shape, fields.strides, fields.dtype, None)
            plan = _plan(heat_facts, fields_facts, layout, output_stride, activation, None)
        else:
            h, o = _view.view(heatmaps, "heatmaps"), _view.view(offsets, "offsets")
            quantized = None
            if quantization is not None:
                quantized = _check.quantization(quantization, {"heatmaps": h.form.dtype, "offsets": o.form.dtype})
            plan = _plan(h.form, o.form, layout, output_stride, activation, quantized)
            heat, fields, library = _view.as_numpy(h), _view.as_numpy(o), h.library
    except TypeError:
        _check.output_stride(output_stride)  # a list cannot be looked up, and so was not checked there
        raise

    cell = plan.find(heat)
    with np.errstate(invalid="ignore", over="ignore"):
        scores = plan.read_heatmaps(heat, cell)
        keypoints = plan.cells.take(cell, 0)
        np.add(keypoints, plan.read_offsets(fields, cell.take(plan.twice)), keypoints)
        scores = sigmoid(scores) if activation == "sigmoid" else scores + ZERO  # -0 becomes +0
        if transform is not None:
            matrix = _check.transform(transform, plan.form, len(cell))
            assert isinstance(matrix, np.ndarray)  # a device array has been refused
            keypoints = affine(keypoints, matrix)

    if out is not None:
        shapes = {"keypoints": (keypoints.shape, "float32"), "scores": (scores.shape, "float32")}
        for seen, values in zip(_check.outputs(out, shapes, plan.form), (keypoints, scores)):
            _view.as_numpy(seen)[...] = values
        return Keypoints(*out)
    if library != "numpy":
        return Keypoints(_view.from_numpy(keypoints, library), _view.from_numpy(scores, library))
    return Keypoints(keypoints, scores)


Scale = tuple[np.float32, np.float32]
"""(scale, zero) of a quantised argument."""
Scales = dict[str, Scale]
Reader = Callable[[Array, Array], Array]
"""Of an array and cells (y * W + x): the elements there as float32."""


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    form: _view.Form  # of the heatmaps
    find: Callable[[Array], Array]  # the first largest cell of each heatmap, (B, K)
    read_heatmaps: Reader  # at cells (B, K)
    read_offsets: Reader  # x and y at cells (B, K, 2)
    twice: Array  # (B, K, 2): indices that repeat each of (B, K) cells
    cells: Array  # (H * W, 2) float32: x and y of each cell in pixels of the input


@functools.lru_cache(maxsize=16)
def _plan(
    heatmaps: _view.Form | _view.Facts,
    offsets: _view.Form | _view.Facts,
    layout: str | None,
    output_stride: float,
    activation: str | None,
    quantized: _check.Quantization | None,
) -> Plan:
    """All checks, and what follows from the forms."""
    heatmaps, offsets = _view.as_form(heatmaps, "heatmaps"), _view.as_form(offsets, "offsets")
    _check.same_device(heatmaps, offsets, "offsets", "heatmaps")
    maps = _check.posenet_maps(heatmaps, offsets, layout)
    _check.output_stride(output_stride)
    if quantized is None:
        quantized = _check.quantization(None, {"heatmaps": heatmaps.dtype, "offsets": offsets.dtype})
    _check.activation(activation)
    scales = {name: (np.float32(scale), np.float32(zero)) for name, scale, zero in quantized}
    b, k = np.ogrid[: maps.B, : maps.K]
    y, x = np.indices((maps.H, maps.W), np.float32)
    return Plan(
        heatmaps,
        _finder(heatmaps, maps),
        _reader(heatmaps, maps.W, maps.heatmap_strides, b, k, scales.get("heatmaps")),
        _reader(
            offsets, maps.W, maps.offset_strides, b[..., None], np.stack([maps.K + k, k], -1), scales.get("offsets")
        ),
        np.repeat(np.arange(maps.B * maps.K), 2).reshape(maps.B, maps.K, 2),
        np.stack([x, y], axis=-1).reshape(-1, 2) * np.float32(output_stride),
    )


def _finder(form: _view.Form, maps: _check.Maps) -> Callable[[Array], Array]:
    rows = (maps.B, maps.K, maps.H * maps.W)
    if maps.layout == "NCHW" and _view.is_contiguous(form) and _view.ITEMSIZE[form.dtype] != 2:
        return lambda heatmaps: heatmaps.reshape(rows).argmax(2)
    return lambda heatmaps: first_largest(channels_first(heatmaps, maps.layout))


def channels_first(array: Array, layout: str) -> Array:
    """Any layout as a view (B, C, H, W)."""
    if array.ndim == 3:
        array = array[None]
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


def _reader(
    form: _view.Form, W: int, strides: tuple[int, int, int, int], images: Array, channels: Array, scale: Scale | None
) -> Reader:
    """Reads maps (images, channels) of an array of this form, whatever the strides, without a copy of it."""
    image, channel, row, column = strides
    first = images * image + channels * channel  # cell 0 of each map, in elements from the array's start
    contiguous = _view.is_contiguous(form)
    span = sum((size - 1) * stride for size, stride in zip(form.shape, form.strides)) + 1

    def read(array: Array, cell: Array) -> Array:
        if row == W * column:
            place = first + (cell if column == 1 else cell * column)
        else:
            y, x = np.divmod(cell, W)
            place = first + y * row + x * column
        if not contiguous:
            array = np.lib.stride_tricks.as_strided(array, (span,), (array.itemsize,), writeable=False)
        return dequantize(array.take(place), scale)

    def read_planes(array: Array, cell: Array) -> Array:
        elements: Array = array.take(first + cell)
        return elements

    plain = contiguous and row == W and column == 1 and form.dtype == "float32"
    return read_planes if plain else read


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
