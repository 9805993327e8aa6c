"""Options of `find_peaks`."""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import _check
from .._view import Spec
from . import Rule, Scale, kept
from .maps import Maps, channels_first, some_cells
from .refinement import STEPS, Refinement, SoftArgmax, refinement
from .thresholds import least_element

ARGUMENTS = ("heatmaps",)


@dataclasses.dataclass(frozen=True, eq=False)
class Peaks(Rule):
    threshold: float
    max_peaks: int
    nms_window: int
    plateau: str
    refine: Refinement
    layout: str
    activation: str | None


@kept
def rule(
    threshold: float,
    max_peaks: int,
    nms_window: int,
    plateau: str,
    refine: Any,
    layout: str,
    activation: str | None,
) -> Peaks:
    _check.activation(activation)
    _check.threshold(threshold, "threshold", activation == "sigmoid")
    _check.count(max_peaks, "max_peaks")
    _check.count(nms_window, "nms_window")
    if nms_window % 2 == 0:
        raise ValueError(f"nms_window must be odd, got {nms_window}")
    _check.choice(plateau, "plateau", ("all", "none"))
    given = refinement(refine, STEPS)
    if isinstance(given, SoftArgmax) and given.window is None:
        if refine is given:
            raise ValueError(f"refine must have a window in find_peaks, got {given!r}")
        given = SoftArgmax(window=5)
    _check.choice(layout, "layout", ("NCHW", "NHWC"))
    return Peaks(float(threshold), int(max_peaks), int(nms_window), plateau, given, layout, activation)


def shape(rule: Peaks, heatmaps: Spec) -> Maps:
    _check.elements(heatmaps, "heatmaps", (3, 4))
    some_cells(heatmaps)
    (B, K, H, W), strides = channels_first(heatmaps, rule.layout)
    return Maps(rule.layout, B, K, H, W, strides)


def least(rule: Peaks, dtype: str, scale: Scale | None) -> float | int:
    """What a cell must reach, as `thresholds.least_element`."""
    return least_element(rule.threshold, rule.activation, dtype, scale)
