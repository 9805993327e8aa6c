"""Options of `decode_posenet`."""

from __future__ import annotations

import dataclasses

from .. import _check
from . import Rule, kept

ARGUMENTS = ("heatmaps", "offsets")


@dataclasses.dataclass(frozen=True, eq=False)
class PoseNet(Rule):
    output_stride: float
    layout: str | None
    activation: str | None


@kept
def rule(output_stride: float, layout: str | None, activation: str | None) -> PoseNet:
    _check.positive(output_stride, "output_stride")
    _check.layout(layout)
    _check.activation(activation)
    return PoseNet(float(output_stride), layout, activation)
