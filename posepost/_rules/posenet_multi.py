"""Options of `decode_posenet_multi`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from .. import _check, _skeleton
from .._view import Spec
from . import Rule, Scale, kept
from .maps import LARGEST_SIDE, Maps, posenet_pair
from .thresholds import least_element

ARGUMENTS = ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd")
MODES = ("tfjs", "pytorch", "coral", "edgetpu")
"""In the order of `enum Mode` of kernels/posenet_multi.cu."""

REFINEMENT_STEPS = {"tfjs": 2, "pytorch": 1, "coral": 5, "edgetpu": 5}
LEAST_POSE_SCORE = np.float32(0.5)
"""Of modes "tfjs" and "pytorch"; the others take `score_threshold`."""


@dataclasses.dataclass(frozen=True, eq=False)
class PoseNetMulti(Rule):
    output_stride: float
    max_poses: int
    score_threshold: float
    nms_radius: float
    mode: str
    refinement_steps: int
    skeleton: _skeleton.Edges | None
    layout: str | None
    activation: str | None

    @property
    def coral(self) -> bool:
        """Places in cells and maps read between them."""
        return self.mode in ("coral", "edgetpu")

    @property
    def least_pose(self) -> np.float32:
        return np.float32(self.score_threshold) if self.coral else LEAST_POSE_SCORE

    @property
    def squared_radius(self) -> np.float32:
        """In pixels, or in cells for the modes that count in them."""
        with np.errstate(over="ignore"):
            radius = np.float32(self.nms_radius / self.output_stride if self.coral else self.nms_radius)
            return radius * radius


@kept
def rule(
    output_stride: float,
    max_poses: int,
    score_threshold: float,
    nms_radius: float,
    mode: str,
    refinement_steps: int | None,
    skeleton: Any,
    layout: str | None,
    activation: str | None,
) -> PoseNetMulti:
    edges = pairs(skeleton)
    _check.positive(output_stride, "output_stride")
    _check.count(max_poses, "max_poses")
    _check.threshold(score_threshold, "score_threshold", True)
    if not (math.isfinite(_check.number(nms_radius, "nms_radius")) and nms_radius >= 0):
        raise ValueError(f"nms_radius must be finite and not negative, got {nms_radius}")
    _check.choice(mode, "mode", MODES)
    if mode == "edgetpu" and edges not in (None, _skeleton.POSENET):
        raise ValueError(f'skeleton must be None in mode "edgetpu", got {edges}')
    if refinement_steps is not None:
        _check.count(refinement_steps, "refinement_steps", 0)
        if mode not in ("coral", "edgetpu"):
            raise ValueError(
                f'refinement_steps must be None but in modes "coral" and "edgetpu", got {refinement_steps}'
            )
    _check.layout(layout)
    _check.activation(activation)
    return PoseNetMulti(
        float(output_stride),
        int(max_poses),
        float(score_threshold),
        float(nms_radius),
        mode,
        REFINEMENT_STEPS[mode] if refinement_steps is None else int(refinement_steps),
        edges,
        layout,
        activation,
    )


def least(rule: PoseNetMulti, dtype: str, scale: Scale | None) -> float | int:
    """What a root must reach, as `thresholds.least_element`."""
    margin = 1e-6 if rule.coral and rule.activation == "sigmoid" else 0.0
    return least_element(rule.score_threshold, rule.activation, dtype, scale, margin)


def pairs(value: Any) -> _skeleton.Edges | None:
    """`skeleton` as tuples of ints; whether they make a tree, `shape` says."""
    if value is None:
        return None
    try:
        found = [tuple(pair) for pair in value]
    except (TypeError, RuntimeError):  # RuntimeError: of tensors that have no values
        raise TypeError(f"skeleton must be None or (parent, child) pairs of ints, got {_check.said(value)}") from None
    for pair in found:
        if len(pair) != 2 or any(isinstance(k, bool) or not isinstance(k, (int, np.integer)) for k in pair):
            raise TypeError(f"skeleton must be None or (parent, child) pairs of ints, got the pair {_check.said(pair)}")
    return tuple((int(parent), int(child)) for parent, child in found)


def shape(
    rule: PoseNetMulti, heatmaps: Spec, offsets: Spec, displacement_fwd: Spec, displacement_bwd: Spec
) -> tuple[Maps, _skeleton.Edges]:
    """The layout of PoseNet's four outputs, all on one device, and the skeleton that they fit."""
    maps = posenet_pair(heatmaps, offsets, rule.layout)
    if maps.K > _skeleton.MOST_KEYPOINTS:
        raise ValueError(f"heatmaps must have at most {_skeleton.MOST_KEYPOINTS} channels, got {maps.K}")
    if max(maps.H, maps.W) >= LARGEST_SIDE:
        raise ValueError(f"heatmaps must have fewer than 2**24 rows and columns, got {maps.H} x {maps.W}")
    edges = _edges(rule.skeleton, maps.K)
    channel = len(heatmaps.shape) - (3 if maps.layout == "NCHW" else 1)
    for name, spec in (("displacement_fwd", displacement_fwd), ("displacement_bwd", displacement_bwd)):
        _check.same_device(heatmaps, spec, name, "heatmaps")
        _check.elements(spec, name, (3, 4))
        h, d = heatmaps.shape, spec.shape
        if len(h) != len(d):
            raise ValueError(f"{name} must have as many dimensions as heatmaps, got shapes {d} and {h}")
        if d[:channel] + d[channel + 1 :] != h[:channel] + h[channel + 1 :]:
            raise ValueError(
                f"{name} must match heatmaps in all axes but the channels of {maps.layout}, got shapes {d} and {h}"
            )
        if d[channel] != 2 * len(edges):
            whose = "PoseNet's" if rule.skeleton is None else "the"
            raise ValueError(
                f"{name} must have {2 * len(edges)} channels, two for each edge of {whose} skeleton, got {d[channel]}"
            )
    return maps, edges


def _edges(skeleton: _skeleton.Edges | None, K: int) -> _skeleton.Edges:
    """The edges of a tree that joins K keypoints."""
    if skeleton is None:
        if len(_skeleton.POSENET) + 1 != K:
            raise ValueError(
                f"heatmaps must have {len(_skeleton.POSENET) + 1} channels, the keypoints of PoseNet's skeleton, "
                f"got {K}; skeleton= joins others"
            )
        return _skeleton.POSENET
    if len(skeleton) != K - 1:
        raise ValueError(f"skeleton must have one pair fewer than heatmaps have channels, got {len(skeleton)} and {K}")
    parents: dict[int, int] = {}
    for parent, child in skeleton:
        if not (0 <= parent < K and 0 <= child < K):
            raise ValueError(f"skeleton must join keypoints from 0 to {K - 1}, got {(parent, child)}")
        if parent == child:
            raise ValueError(f"skeleton must join a keypoint to another, got {(parent, child)}")
        if child in parents:
            raise ValueError(f"skeleton must give a keypoint one parent, got {parents[child]} and {parent} for {child}")
        parents[child] = parent
    for start in range(K):
        above = [start]
        while above[-1] in parents:
            above.append(parents[above[-1]])
            if above[-1] in above[:-1]:
                circle = " to ".join(map(str, above[above.index(above[-1]) :]))
                raise ValueError(f"skeleton must be one tree, got a circle from child to parent, {circle}")
    return skeleton
