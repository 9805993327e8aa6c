"""find_peaks in NumPy."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _view
from .._rules import Scale, described
from .._rules.peaks import ARGUMENTS, Peaks, least, shape
from .._rules.refinement import Step, step
from . import refine
from .argmax import widen
from .local_maxima import is_peak
from .values import activated, channels_first, comparable, dequantize

Array = np.ndarray[Any, Any]


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    rows: int
    rule: Peaks
    step: Step
    shape: tuple[int, int, int, int]  # B, K, H, W
    least: float | int  # raw value that a peak has at least
    scale: Scale | None


@functools.lru_cache(maxsize=64)
def prepare(forms: tuple[_view.Form, ...], rule: Peaks, quantized: _check.Quantization | None) -> Plan:
    """All checks, and what follows from the forms."""
    (heatmaps,), scales = described(ARGUMENTS, forms, quantized)
    maps = shape(rule, heatmaps)
    scale = scales.get("heatmaps")
    return Plan(
        maps.B,
        rule,
        step(rule.refine),
        (maps.B, maps.K, maps.H, maps.W),
        least(rule, heatmaps.dtype, scale),
        scale,
    )


def decode(plan: Plan, matrix: None, heatmaps: Array) -> tuple[Array, Array, Array, Array]:
    """Points (B, K, M, 2), scores (B, K, M), count (B, K) and how many were dropped (B, K)."""
    B, K, H, W = plan.shape
    rule, most = plan.rule, plan.rule.max_peaks
    channels = channels_first(heatmaps, rule.layout)
    values = comparable(channels)
    place = np.flatnonzero((values >= plan.least) & is_peak(values, 2, 3, rule.nms_window // 2, rule.plateau))
    raw = values.reshape(-1)[place] if values.flags.c_contiguous else values[np.unravel_index(place, values.shape)]
    owner, cell = np.divmod(place, H * W)
    order = np.lexsort((-widen(raw), owner))  # stable: equal values stay in row-major order
    found = np.bincount(owner, minlength=B * K)
    rank = np.arange(len(place)) - np.repeat(np.cumsum(found) - found, found)
    kept = rank < most
    order, row, rank = order[kept], owner[kept], rank[kept]  # sorting left `owner` as it was: ascending

    points, scores = np.zeros((B, K, most, 2), np.float32), np.zeros((B, K, most), np.float32)
    y, x = np.divmod(cell[order], W)
    b, k = np.divmod(row, K)
    scores[b, k, rank] = activated(dequantize(raw[order], plan.scale), rule.activation)
    maps = refine.Maps(channels, plan.scale, rule.activation == "sigmoid")
    points[b, k, rank] = refine.refined(maps, refine.Cells(b, k, y, x, scores[b, k, rank]), plan.step)
    count = np.minimum(found, most).reshape(B, K).astype(np.int32)
    return points, scores, count, found.reshape(B, K).astype(np.int32) - count
