"""Options of `decode_heatmap`, its presets, and what follows from the shapes of its arrays."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _check
from .._view import Spec
from . import Rule, Scale, cells, kept
from .maps import channels_first, some_cells
from .refinement import (
    REFINEMENTS,
    Centroid,
    Dark,
    DarkUDP,
    Megvii,
    Offset,
    Quarter,
    Refinement,
    SoftArgmax,
    UDPCombined,
    refinement,
)
from .thresholds import ABOVE_ZERO

ARGUMENTS = ("heatmaps", "flip.maps", "offsets", "flip.offsets")
LAYOUTS = ("NCHW", "NHWC", "NCDHW")

PRESETS: dict[str, dict[str, Any]] = {
    "mmpose_msra": {"refine": Quarter(), "absent": -1.0},
    "mmpose_dark": {"refine": Dark(), "absent": -1.0},
    "mmpose_udp": {"refine": DarkUDP(), "absent": -1.0, "scaling": "udp"},
    "mmpose_udp_combined": {"refine": UDPCombined(), "absent": -1.0, "scaling": "udp"},
    "mmpose_megvii": {"refine": Megvii(), "absent": -1.0},
    "mmpose_integral": {"refine": SoftArgmax()},
    "mmdeploy": {"refine": Quarter("hrnet"), "absent": -1.0},
    "hrnet": {"refine": Quarter("hrnet"), "absent": 0.0},
    "vitpose_hf": {
        "refine": DarkUDP(blur_sigma=0.8, border="reflect"),
        "absent": -1.0,
        "scaling": "udp",
    },
    "vitpose_rtmlib": {"refine": DarkUDP(border="reflect_101"), "absent": -1.0, "scaling": "udp"},
    "sapiens": {"refine": DarkUDP(), "absent": -1.0, "scaling": "udp"},
    "higherhrnet": {"refine": Quarter("higherhrnet"), "threshold": ABOVE_ZERO, "center_shift": 0.5},
    "trt_pose": {"refine": Centroid(border="reflect_101"), "threshold": ABOVE_ZERO, "center_shift": 0.5},
    "openpose": {"refine": Centroid(window=7, positive=True), "threshold": ABOVE_ZERO, "center_shift": 0.5},
    "sleap": {"refine": Centroid(), "threshold": 0.2, "absent": math.nan},
    "mediapipe": {"refine": Centroid(window=7), "threshold": 0.5, "activation": "sigmoid"},
    "deeplabcut": {"refine": "none", "center_shift": 0.5, "activation": "sigmoid"},
}
"""What a preset gives to arguments that are not given."""

UNITS_OF_UDP = 0.0546875
"""Of udp_combined: its offsets' unit in parts of the longer side of the map."""


@dataclasses.dataclass(frozen=True, eq=False)
class Heatmap(Rule):
    refine: Refinement
    input_size: tuple[float, ...] | None
    scaling: str
    scaling_said: bool  # by the call itself
    center_shift: float
    threshold: float | None
    absent: float | None
    flip_pairs: tuple[int, ...] | None
    flip_shift: bool
    layout: str
    activation: str | None

    @property
    def blurred(self) -> bool:
        """The maximum is that of the blurred map."""
        return isinstance(self.refine, (UDPCombined, Megvii))

    @property
    def whole_map(self) -> bool:
        """A soft-argmax of all cells."""
        return isinstance(self.refine, SoftArgmax) and self.refine.window is None


DEFAULTS: dict[str, Any] = {
    "refine": "none",
    "scaling": "msra",
    "center_shift": 0.0,
    "threshold": None,
    "absent": None,
    "activation": None,
}
"""What an argument is where neither the call nor a preset gives it."""


@kept
def rule(
    refine: Any,
    preset: str | None,
    input_size: Any,
    scaling: str | None,
    center_shift: float | None,
    threshold: float | None,
    absent: float | None,
    flip_pairs: tuple[int, ...] | None,
    flip_shift: bool,
    layout: str,
    activation: str | None,
) -> Heatmap:
    if preset is not None:
        _check.choice(preset, "preset", tuple(PRESETS))
    given = dict(
        refine=refine,
        scaling=scaling,
        center_shift=center_shift,
        threshold=threshold,
        absent=absent,
        activation=activation,
    )
    asked = {name: value for name, value in given.items() if value is not None}
    filled = {**DEFAULTS, **PRESETS.get(preset or "", {}), **asked}
    if filled["threshold"] is None and filled["absent"] is not None:
        filled["threshold"] = ABOVE_ZERO
    one = refinement(filled["refine"], tuple(REFINEMENTS))
    _check.choice(filled["scaling"], "scaling", ("msra", "udp"))
    _check.choice(layout, "layout", LAYOUTS)
    _check.activation(filled["activation"])
    _check.finite(filled["center_shift"], "center_shift")
    for name, check in (("threshold", _check.not_nan), ("absent", _check.number)):
        if filled[name] is not None:
            check(filled[name], name)
    if layout == "NCDHW" and one.kind != "none":
        raise ValueError(f'refine must be "none" for volumes (layout "NCDHW"), got {filled["refine"]!r}')
    if isinstance(one, Offset) and one.scale is not None and input_size is None:
        raise ValueError(
            "input_size must be given with a scale of offsets, whose unit is pixels of the input, got None"
        )
    return Heatmap(
        refine=one,
        input_size=None if input_size is None else _check.input_size(input_size, 3 if layout == "NCDHW" else 2),
        scaling=filled["scaling"],
        scaling_said=scaling is not None,
        center_shift=float(filled["center_shift"]),
        threshold=None if filled["threshold"] is None else float(filled["threshold"]),
        absent=None if filled["absent"] is None else float(filled["absent"]),
        flip_pairs=flip_pairs,
        flip_shift=bool(flip_shift),
        layout=layout,
        activation=filled["activation"],
    )


class Volumes(NamedTuple):
    """Sizes and strides of a call's arrays, in elements; D is 1 and has stride 0 where maps are flat."""

    B: int
    K: int
    D: int
    H: int
    W: int
    heatmaps: tuple[int, ...]  # strides of B, K, D, H, W
    flipped: tuple[int, ...]
    offsets: tuple[int, ...]  # of B, K, H, W and from x to y
    flipped_offsets: tuple[int, ...]
    cell: tuple[np.float32, ...]  # pixels of the input from one cell to the next, along x, y and z
    offset_cells: tuple[np.float32, np.float32]  # what an offset of 1 is in cells, along x and y
    axes: int  # of a point


def shape(
    rule: Heatmap, heatmaps: Spec, flipped: Spec | None, offsets: Spec | None, flipped_offsets: Spec | None
) -> Volumes:
    combined = isinstance(rule.refine, UDPCombined)
    sizes, strides = _volumes(heatmaps, "heatmaps", rule.layout)
    B, C, D, H, W = sizes
    if combined and C % 3:
        raise ValueError(f"heatmaps must have three channels a keypoint (class, x, y) for udp_combined, got {C}")
    K = C // 3 if combined else C
    if (offsets is not None) != isinstance(rule.refine, Offset):
        expected = 'must be given with refine="offset"'
        raise ValueError(
            f"offsets {expected}, got None"
            if offsets is None
            else f"offsets {expected} alone, got refine={rule.refine.kind!r}"
        )
    if (flipped_offsets is not None) != (flipped is not None and offsets is not None):
        got = "None" if flipped_offsets is None else "it without offsets"
        raise ValueError(f"flip.offsets must be given where flip and offsets are, got {got}")
    _check.partners(rule.flip_pairs, K)

    where: dict[str, tuple[int, ...]] = {}
    for name, spec, like in (
        (ARGUMENTS[1], flipped, sizes),
        (ARGUMENTS[2], offsets, (B, 2 * K, D, H, W)),
        (ARGUMENTS[3], flipped_offsets, (B, 2 * K, D, H, W)),
    ):
        if spec is None:
            where[name] = (0, 0, 0, 0, 0)
            continue
        _check.same_device(heatmaps, spec, name, "heatmaps")
        found, where[name] = _volumes(spec, name, rule.layout)
        if found != like:
            wanted = "the shape of heatmaps" if spec is flipped else "two channels a keypoint (x, y) on the same maps"
            raise ValueError(f"{name} must have {wanted}, got shapes {spec.shape} and {heatmaps.shape}")
    for name, spec, like_spec, like_name in (
        (ARGUMENTS[1], flipped, heatmaps, "heatmaps"),
        (ARGUMENTS[3], flipped_offsets, offsets, "offsets"),
    ):
        if spec is not None and like_spec is not None and spec.dtype != like_spec.dtype:
            raise TypeError(f"{name} must have the dtype of {like_name}, got {spec.dtype} and {like_spec.dtype}")
    if D * H * W >= 2**32:
        raise ValueError(f"heatmaps must have fewer than 2**32 cells a map, got {D} x {H} x {W}")

    def every(strides: tuple[int, ...]) -> tuple[int, ...]:
        b, k, z, y, x = strides
        return (b, C // K * k, z, y, x)

    def pair(strides: tuple[int, ...], step: int) -> tuple[int, ...]:
        b, k, _, y, x = strides
        return (b, step * k, y, x, k)

    flips = where[ARGUMENTS[1]]
    if combined:
        offset_strides = pair(strides, 3), pair(flips, 3)
    else:
        offset_strides = pair(where[ARGUMENTS[2]], 2), pair(where[ARGUMENTS[3]], 2)
    if rule.input_size is not None:
        size = rule.input_size[0], rule.input_size[1]
        cells.check(size, heatmaps.shape, W, H, rule.layout, rule.scaling, rule.scaling_said)
    cell = [1.0, 1.0, 1.0]
    for axis, pixels in enumerate(rule.input_size or ()):
        sides = (W, H, D)[axis] - (rule.scaling == "udp")
        cell[axis] = pixels / sides if sides else math.inf
    unit = rule.refine.scale if isinstance(rule.refine, Offset) and rule.refine.scale is not None else 1.0
    offset_cells = [UNITS_OF_UDP * max(W, H)] * 2 if combined else [unit / cell[0], unit / cell[1]]
    return Volumes(
        *(B, K, D, H, W),
        heatmaps=every(strides),
        flipped=every(flips),
        offsets=offset_strides[0],
        flipped_offsets=offset_strides[1],
        cell=tuple(np.float32(pixels) for pixels in cell),
        offset_cells=(np.float32(offset_cells[0]), np.float32(offset_cells[1])),
        axes=3 if rule.layout == "NCDHW" else 2,
    )


def scales_of(rule: Heatmap, scales: dict[str, Scale]) -> dict[str, Scale]:
    """Those of heatmaps and offsets, which lie in the heatmaps for udp_combined."""
    if isinstance(rule.refine, UDPCombined) and "heatmaps" in scales:
        return {**scales, "offsets": scales["heatmaps"]}
    return scales


def _volumes(spec: Spec, name: str, layout: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides in the order B, K, D, H, W."""
    _check.elements(spec, name, (4, 5) if layout == "NCDHW" else (3, 4))
    some_cells(spec, name)
    if layout == "NCDHW":
        shape, strides = spec.shape, spec.strides
        if len(shape) == 4:
            shape, strides = (1, *shape), (0, *strides)
        if 0 in shape[1:]:
            raise ValueError(f"{name} must have at least one channel, slice, row and column, got shape {spec.shape}")
        return shape, strides
    (B, K, H, W), (b, k, y, x) = channels_first(spec, layout)
    return (B, K, 1, H, W), (b, k, 0, y, x)
