"""decode_posenet in NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _view
from .._rules import Scale, described
from .._rules.maps import Maps, posenet_pair
from .._rules.posenet import ARGUMENTS, PoseNet
from .argmax import first_largest
from .values import ZERO, affine, channels_first, dequantize, sigmoid

Array = np.ndarray[Any, Any]
Reader = Callable[[Array, Array], Array]
"""Of an array and cells (y * W + x): the elements there as float32."""


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    rows: int
    find: Callable[[Array], Array]  # the first largest cell of each heatmap, (B, K)
    read_heatmaps: Reader  # at cells (B, K)
    read_offsets: Reader  # x and y at cells (B, K, 2)
    twice: Array  # (B, K, 2): indices that repeat each of (B, K) cells
    cells: Array  # (H * W, 2) float32: x and y of each cell in pixels of the input
    sigmoid: bool


@functools.lru_cache(maxsize=16)
def prepare(forms: tuple[_view.Form, ...], rule: PoseNet, quantized: _check.Quantization | None) -> Plan:
    """All checks, and what follows from the forms."""
    (heatmaps, offsets), scales = described(ARGUMENTS, forms, quantized)
    maps = posenet_pair(heatmaps, offsets, rule.layout)
    b, k = np.ogrid[: maps.B, : maps.K]
    y, x = np.indices((maps.H, maps.W), np.float32)
    pairs = np.stack([maps.K + k, k], -1)
    return Plan(
        maps.B,
        _finder(heatmaps, maps),
        _reader(heatmaps, maps.W, maps.heatmap_strides, b, k, scales.get("heatmaps")),
        _reader(offsets, maps.W, maps.offset_strides, b[..., None], pairs, scales.get("offsets")),
        np.repeat(np.arange(maps.B * maps.K), 2).reshape(maps.B, maps.K, 2),
        np.stack([x, y], axis=-1).reshape(-1, 2) * np.float32(rule.output_stride),
        rule.activation == "sigmoid",
    )


def decode(plan: Plan, matrix: Array | None, heatmaps: Array, offsets: Array) -> tuple[Array, Array]:
    """Keypoints (B, K, 2) and scores (B, K)."""
    cell = plan.find(heatmaps)
    scores = plan.read_heatmaps(heatmaps, cell)
    keypoints = plan.cells.take(cell, 0)
    np.add(keypoints, plan.read_offsets(offsets, cell.take(plan.twice)), keypoints)
    if matrix is not None:
        keypoints = affine(keypoints, matrix)
    return keypoints, sigmoid(scores) if plan.sigmoid else scores + ZERO  # -0 becomes +0


def _finder(spec: _view.Spec, maps: Maps) -> Callable[[Array], Array]:
    rows = (maps.B, maps.K, maps.H * maps.W)
    if maps.layout == "NCHW" and _view.is_contiguous(spec) and spec.itemsize != 2:
        return lambda heatmaps: heatmaps.reshape(rows).argmax(2)
    return lambda heatmaps: first_largest(channels_first(heatmaps, maps.layout))


def _reader(
    spec: _view.Spec, W: int, strides: tuple[int, int, int, int], images: Array, channels: Array, scale: Scale | None
) -> Reader:
    """Reads maps (images, channels) of an array of this form, whatever the strides, without a copy of it."""
    image, channel, row, column = strides
    first = images * image + channels * channel  # cell 0 of each map, in elements from the array's start
    contiguous = _view.is_contiguous(spec)
    span = sum((size - 1) * stride for size, stride in zip(spec.shape, spec.strides)) + 1

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

    plain = contiguous and row == W and column == 1 and spec.dtype == "float32"
    return read_planes if plain else read
