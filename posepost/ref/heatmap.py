"""decode_heatmap in NumPy."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _view
from .._rules import Scale, described
from .._rules.heatmap import ARGUMENTS, Heatmap, Volumes, scales_of, shape
from .._rules.refinement import Megvii, SoftArgmax, Step, UDPCombined, step
from . import refine
from .argmax import first_largest, widen
from .blurred import blurred_peaks
from .refine import CACHED, HALF, Cells, Maps
from .values import affine, channels_first, dequantize

Array = np.ndarray[Any, Any]

MEGVII_SCALE = np.float32(255)
SMALL = 1 << 14  # cells of maps whose coordinates are kept as a table


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    rows: int
    rule: Heatmap
    step: Step
    volumes: Volumes
    scales: dict[str, Scale]
    b: Array  # (B * K,)
    k: Array
    cell: Array  # as Volumes.cell, one for each axis of a point
    in_cells: bool  # all of them are 1
    start: Array  # (B * K,) cell 0 of each map, of maps that follow each other
    points: Array | None  # (H * W, 2) float32: x and y of each cell in pixels of the input, for small maps


@functools.lru_cache(maxsize=64)
def prepare(forms: tuple[_view.Form | None, ...], rule: Heatmap, quantized: _check.Quantization | None) -> Plan:
    """All checks, and what follows from the forms."""
    specs, scales = described(ARGUMENTS, forms, quantized, optional=3)
    volumes = shape(rule, *specs)
    B, K, D, H, W = volumes[:5]
    index, cell = np.arange(B * K), np.array(volumes.cell[: volumes.axes])
    b, k = np.divmod(index, K)
    points = None
    if volumes.axes == 2 and H * W <= SMALL:
        y, x = np.indices((H, W), np.float32)
        with np.errstate(all="ignore"):
            points = (np.stack([x, y], axis=-1).reshape(-1, 2) + np.float32(rule.center_shift)) * cell
    return Plan(
        B,
        rule,
        step(rule.refine),
        volumes,
        scales_of(rule, scales),
        b,
        k,
        cell,
        bool((cell == 1).all()),
        index * (D * H * W),
        points,
    )


def decode(
    plan: Plan,
    matrix: Array | None,
    heatmaps: Array,
    flipped: Array | None,
    offsets: Array | None,
    flipped_offsets: Array | None,
) -> tuple[Array, Array]:
    """Keypoints (B, K, 2), or (B, K, 3) of volumes, and scores (B, K)."""
    rule = plan.rule
    maps, flipped_maps, fields, flipped_fields = (
        None if array is None else maps_of(array, rule.layout)
        for array in (heatmaps, flipped, offsets, flipped_offsets)
    )
    elements, pair = _split(rule, maps, fields)
    flipped_maps, flipped_pair = _split(rule, flipped_maps, flipped_fields)
    if flipped_maps is not None:
        elements = merged(elements, flipped_maps, rule)
    values = Maps(elements, plan.scales.get("heatmaps"), rule.activation == "sigmoid")
    points, scores = _decode(plan, values, pair, flipped_pair)
    return points if matrix is None else affine(points, matrix), scores


def merged(given: Array, flipped: Array, rule: Heatmap) -> Array:
    """(B, C, H, W) maps averaged with those of the mirrored image, as float32, in units of the elements."""
    result = np.empty(given.shape, np.float32)
    B, C, H, W = given.shape
    partners, many = np.array(rule.flip_pairs), max(1, CACHED // (H * W))
    for b in range(B):
        for first in range(0, C, many):
            some = slice(first, first + many)
            _merge(given[b, some], flipped[b, partners[some]], rule.flip_shift, result[b, some])
    return result


def _merge(given: Array, other: Array, shift: bool, result: Array) -> None:
    """Into `result`; other: the partners' maps, as they lie."""
    given, other = (maps if maps.dtype == np.float32 else widen(maps) for maps in (given, other[..., ::-1]))
    if shift:
        np.add(given[..., 1:], other[..., :-1], out=result[..., 1:])
        np.add(given[..., 0], other[..., 0], out=result[..., 0])
    else:
        np.add(given, other, out=result)
    result *= HALF


def mirrored_columns(W: int, shift: bool) -> Array:
    """The column of the mirrored map that belongs to each column. shift: MMPose's `shift_heatmap`, one cell to the
    right, column 0 kept."""
    x = np.arange(W)
    columns: Array = W - 1 - x + ((x > 0) if shift else 0)
    return columns


def maps_of(array: Array, layout: str) -> Array:
    """Any layout as a view (B, C, H, W); the slices of a volume follow each other as rows."""
    if layout == "NCDHW":
        array = array if array.ndim == 5 else array[None]
        B, K, D, H, W = array.shape
        return array.reshape(B, K, D * H, W)
    return channels_first(array, layout)


Fields = tuple[Array, Array] | None
"""Offsets (B, K, H, W) along x and along y."""


def _split(rule: Heatmap, maps: Array | None, offsets: Array | None) -> tuple[Any, Fields]:
    """Heatmaps and the two offset fields, wherever a network keeps them."""
    if maps is not None and isinstance(rule.refine, UDPCombined):
        return maps[:, 0::3], (maps[:, 1::3], maps[:, 2::3])
    return maps, None if offsets is None else (offsets[:, 0::2], offsets[:, 1::2])


def _decode(plan: Plan, maps: Maps, fields: Fields, flipped_fields: Fields) -> tuple[Array, Array]:
    """Points (B, K, 2 or 3) in pixels of the input, and scores (B, K)."""
    rule = plan.rule
    B, K, _, H, W = plan.volumes[:5]
    n, kind = B * K, plan.step.kind
    b, k = plan.b, plan.k
    highest: Array | None = None
    if rule.blurred:
        cell, highest = blurred_peaks(maps, plan.step.taps, plan.step.border)
    else:
        cell = first_largest(maps.elements).reshape(n)
    soft = rule.whole_map
    plain = kind == "none" and fields is None and not soft and plan.points is not None
    if not (plain or soft):
        y = cell // W
        x = cell - y * W
    if isinstance(rule.refine, Megvii):
        assert highest is not None
        value = highest
    elif isinstance(rule.refine, UDPCombined):
        value = refine.blurred(maps, b, k, y, x, plan.step)
    elif maps.elements.flags.c_contiguous:
        value = maps.values(maps.elements.reshape(-1).take(plan.start + cell))
    else:
        value = maps.read(b, k, cell // W, cell % W)
    missing = 0
    if rule.threshold is not None:
        absent = value < np.float32(rule.threshold)
        missing = int(np.count_nonzero(absent))

    if plain:
        assert plan.points is not None
        points = plan.points.take(cell, axis=0)
    else:
        if soft:
            raw = maps._replace(sigmoid=False).read(b, k, cell // W, cell % W) if maps.sigmoid else value
            points = soft_argmax(maps, plan, raw)
        else:
            points = np.empty((n, plan.volumes.axes), np.float32)
            points[:, 0], points[:, 1] = x, y
        if plan.volumes.axes == 3:
            points[:, 2], points[:, 1] = np.divmod(y, H)
        elif fields is not None or (kind != "none" and not soft):
            these = np.flatnonzero(~absent) if missing else ...
            if fields is not None:
                points[these] += offsets_at(plan, fields, flipped_fields, b, k, y, x)[these]
            else:
                cells = Cells(b[these], k[these], y[these], x[these], value[these])
                points[these] = refine.refined(maps, cells, plan.step)
        if rule.center_shift:
            points += np.float32(rule.center_shift)
        if not plan.in_cells:
            points *= plan.cell
    scores = value + np.float32(0)  # -0 becomes +0
    if rule.absent is not None and missing:
        points[absent] = np.float32(rule.absent) * plan.cell
        if math.isnan(rule.absent):
            scores[absent] = 0
    if isinstance(rule.refine, Megvii):
        scores = scores / MEGVII_SCALE + np.float32(0.5)
    return points.reshape(B, K, plan.volumes.axes), scores.reshape(B, K)


def offsets_at(plan: Plan, fields: Fields, flipped_fields: Fields, b: Array, k: Array, y: Array, x: Array) -> Array:
    """(B * K, 2): offsets of the winners, x and y, in cells."""
    scale = plan.scales.get("offsets")
    found = []
    for axis, field in enumerate(fields or ()):
        offset = dequantize(field[b, k, y, x], scale)
        if flipped_fields is not None:
            column = mirrored_columns(plan.volumes.W, plan.rule.flip_shift)[x]
            other = dequantize(flipped_fields[axis][b, np.array(plan.rule.flip_pairs)[k], y, column], scale)
            offset = (offset - other if axis == 0 else offset + other) * np.float32(0.5)
        found.append(offset * plan.volumes.offset_cells[axis])
    return np.stack(found, axis=-1)


SAFE = np.float32(40)  # exp of a maximum up to this neither overflows in a sum nor loses the map to denormals


def soft_argmax(maps: Maps, plan: Plan, largest: Array) -> Array:
    """(B * K, 2): the mean cell under a softmax of beta * what was given, over the whole map; `largest` of which is
    taken off first, unless beta is 1 and nothing is gained by it. A map's result does not depend on the others."""
    B, K, _, H, W = plan.volumes[:5]
    elements = maps.elements.reshape(B * K, H, W)
    points, many = np.empty((B * K, 2), np.float32), max(1, CACHED // (H * W))
    beta = np.float32(plan.step.beta)
    debias = isinstance(plan.rule.refine, SoftArgmax) and plan.rule.refine.debias
    safe = np.abs(largest) <= SAFE if beta == 1 else np.zeros(B * K, bool)
    for first in range(0, B * K, many):
        some = slice(first, first + many)
        values = weights = dequantize(elements[some], maps.scale)
        if not safe[some].all():
            weights = weights - np.where(safe[some], np.float32(0), largest[some])[:, None, None]
        if beta != 1:
            weights = weights * beta
        weights = np.exp(weights)
        x = _mean(np.matmul(_line(H).T, weights))
        y = _mean(np.matmul(weights, _line(W)).transpose(0, 2, 1))
        if debias:
            mass = np.exp(values).sum(axis=(1, 2), dtype=np.float32)
            x, y = (mass / (mass - 1) * (place - size / (2 * mass)) for place, size in ((x, W), (y, H)))
        points[some, 0], points[some, 1] = x, y
    return points


def _mean(weights: Array) -> Array:
    """(n, 1, size) float32 -> (n,) float64: the mean place along the axis."""
    sums = np.matmul(weights.astype(np.float64), _places_and_ones(weights.shape[2]))
    mean: Array = sums[:, 0, 0] / sums[:, 0, 1]
    return mean


@functools.lru_cache(maxsize=64)
def _places_and_ones(size: int) -> Array:
    return np.stack([np.arange(size), np.ones(size)], axis=-1)


@functools.lru_cache(maxsize=64)
def _line(size: int) -> Array:
    return np.ones((size, 1), np.float32)
