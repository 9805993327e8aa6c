"""Networks that are known by their outputs, and whose people posepost does not put together (yet).

Each rule looks at names, sizes and metadata and says what it saw; the source of a layout stands beside its rule.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import NamedTuple

from ._graph import LAYOUTS, channel_axis, dims, width_height

MOST_PER_CELL = 32  # input pixels from one cell of a heatmap to the next

Shapes = Mapping[str, "tuple[int | None, ...]"]
"""The outputs of a graph, by name."""


class Family(NamedTuple):
    """A kind of network, and what of it can be decoded by a preset: one output's heatmaps, with or without offsets."""

    name: str
    because: str
    preset: str | None = None
    heatmaps: str | None = None
    offsets: str | None = None


class Map(NamedTuple):
    """An output that lies on a grid of the picture."""

    channels: int
    sides: tuple[int | None, int | None]  # width, height


def family(shapes: Shapes, metadata: Mapping[str, str], size: tuple[int, int]) -> Family | None:
    """The kind of network that these outputs are known from; None for PoseNet, heatmaps alone, SimCC and the unknown.

    size: (width, height) of the input at which the outputs have these shapes.
    """
    maps = {name: one for name, shape in shapes.items() if (one := as_map(shape, size))}
    return (
        _ultralytics(shapes, metadata)
        or _one_stage(shapes, size)
        or _coordinates(shapes)
        or _openpifpaf(shapes)
        or _centernet(maps)
        or _movenet(maps)
        or _part_affinity(maps)
        or _deeplabcut(maps)
        or _associative_embedding(maps)
        or _dekr(maps)
        or _levels(maps)
        or _simcc_3d(shapes)
        or _detector(shapes)
    )


def refusal(model: str, seen: Family) -> str:
    """What to say of a network of this family."""
    text = f"{model}: this looks like {seen.name}: {seen.because}; not supported yet"
    if seen.preset and seen.heatmaps:
        outputs = f"{seen.heatmaps} and {seen.offsets}" if seen.offsets else seen.heatmaps
        return f'{text} but for one person: give preset="{seen.preset}", which decodes {outputs} alone'
    return text


def ratios(size: tuple[int, int], maps: tuple[int | None, int | None]) -> list[int]:
    """The whole numbers that make maps of these sizes from an input, both rounded up or both down."""
    return [
        ratio
        for ratio in range(1, MOST_PER_CELL + 1)
        if maps in (tuple(side // ratio for side in size), tuple(-(-side // ratio) for side in size))
    ]


def as_map(shape: tuple[int | None, ...], size: tuple[int, int]) -> Map | None:
    """Channels and sides of an output of four dimensions that fits the input, NCHW where both layouts do."""
    if len(shape) != 4:
        return None
    for layout in LAYOUTS:
        channels, sides = shape[channel_axis(layout)], width_height(shape, layout)
        if channels is not None and (sides == (None, None) or ratios(size, sides)):
            return Map(channels, sides)
    return None


def said(shapes: Shapes, *names: str) -> str:
    """Outputs with their shapes, for people to read."""
    return " and ".join(f"{name} {dims(shapes[name])}" for name in names)


def _named(names: Mapping[str, object], pattern: str) -> list[str]:
    return [name for name in names if re.search(pattern, name, re.IGNORECASE)]


def _ultralytics(shapes: Shapes, metadata: Mapping[str, str]) -> Family | None:
    """The exporter's metadata: task, kpt_shape."""
    task = metadata.get("task")
    if task is None or not ("names" in metadata or "kpt_shape" in metadata):
        return None
    name = "YOLO-pose" if task == "pose" else f"an Ultralytics model for the task {task}"
    return Family(name, f"its metadata says so, and the output is {said(shapes, next(iter(shapes)))}")


def _one_stage(shapes: Shapes, size: tuple[int, int]) -> Family | None:
    """(N, 4 + C + 3K, anchors) or its transpose; lists of boxes beside lists of keypoints, as mmdeploy exports RTMO."""
    width, height = size
    cells = {stride: (width // stride) * (height // stride) for stride in (4, 8, 16, 32, 64)}
    anchors = {
        sum(cells[stride] for stride in strides)
        for strides in ((8, 16, 32), (16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32, 64))
    }
    for name, shape in shapes.items():
        if len(shape) != 3 or None in shape[1:]:
            continue
        rows, numbers = max(shape[1:]), min(shape[1:])  # type: ignore[type-var]
        if rows in anchors or (len(shapes) == 1 and numbers in (56, 57)):  # 17 keypoints of three numbers
            known = {56: "YOLO-pose", 57: "YOLO-pose"}.get(numbers or 0, "a one-stage network")
            return Family(known, f"{said(shapes, name)} is a list of {rows} candidates of {numbers} numbers")
    for name, shape in shapes.items():
        beside = [other for other, theirs in shapes.items() if len(theirs) == 3 and theirs[-1] in (4, 5, 6)]
        if len(shape) == 4 and shape[-1] in (2, 3) and (shape[2] or 0) > 4 and beside:
            kind = "RTMO or YOLOX-Pose as mmdeploy exports them" if "dets" in shapes else "a one-stage network"
            return Family(kind, f"{said(shapes, *beside, name)} are lists of boxes and of their keypoints")
    return None


def _coordinates(shapes: Shapes) -> Family | None:
    """Networks that give points themselves."""
    if len(shapes) == 1:
        ((name, shape),) = shapes.items()
        if len(shape) == 4 and shape[1] == 1 and shape[3] == 3:
            return Family("MoveNet", f"{said(shapes, name)} is one person's keypoints, y, x and score")
        if len(shape) == 3 and shape[1:] == (6, 56):
            return Family("MoveNet MultiPose", f"{said(shapes, name)} is six people's keypoints and boxes")
    if _named(shapes, "box") and (found := _named(shapes, "keypoint")):
        return Family("Keypoint R-CNN", f"{said(shapes, *found)} beside boxes are people already found")
    if any(len(shape) == 2 and shape[1] == 195 for shape in shapes.values()):
        return Family("MediaPipe's BlazePose", "one output is 39 landmarks of five numbers (195)")
    points = [name for name, shape in shapes.items() if len(shape) == 3 and shape[2] in (2, 3) and (shape[1] or 0) > 4]
    if points and all(len(shape) < 4 and (not shape or (shape[-1] or 0) < 8) for shape in shapes.values()):
        return Family("a network that regresses coordinates", f"{said(shapes, *points)} are points, not heatmaps")
    return None


def _openpifpaf(shapes: Shapes) -> Family | None:
    """Composite fields of five dimensions."""
    five = [name for name, shape in shapes.items() if len(shape) == 5]
    if len(five) == 2 or _named(shapes, r"(^|[^a-z])(cif|caf)([^a-z]|$)"):
        return Family("OpenPifPaf", f"{said(shapes, *(five or shapes))} are composite fields")
    return None


def _centernet(maps: Mapping[str, Map]) -> Family | None:
    """xingyizhou/CenterNet src/lib/opts.py, task multi_pose: hm, wh, hps, reg, hm_hp, hp_offset."""
    own = [name for name in ("hm", "wh", "hps", "reg", "hm_hp", "hp_offset") if name in maps]
    if len(own) >= 3:
        return Family("CenterNet", f"the outputs {', '.join(own)} are its centers, sizes, displacements and offsets")
    channels = [one.channels for one in maps.values()]
    for K in channels:
        if len(maps) >= 4 and K > 2 and 2 * K in channels and 1 in channels and channels.count(2) >= 2:
            outputs = f"outputs of 1, 2, 2, {K} and {2 * K} channels"
            return Family("CenterNet", f"{outputs} are its centers, sizes and offsets")
    return None


def _movenet(maps: Mapping[str, Map]) -> Family | None:
    """fire717/movenet.pytorch lib/models/movenet_mobilenetv2.py: heatmaps, center, regs, offsets."""
    channels = [one.channels for one in maps.values()]
    for K in channels:
        if len(maps) == 4 and K > 1 and sorted(channels) == [1, K, 2 * K, 2 * K]:
            return Family(
                "MoveNet before its decoding",
                f"outputs of 1, {K}, {2 * K} and {2 * K} channels are a center, heatmaps, regressions and offsets",
            )
    return None


PART_AFFINITY = {(19, 38): "OpenPose (COCO)", (26, 52): "OpenPose (BODY_25)", (16, 28): "OpenPose (MPII)",
                 (18, 42): "trt_pose"}  # fmt: skip
"""Channels of heatmaps, the background's included, and of part affinity fields."""


def _part_affinity(maps: Mapping[str, Map]) -> Family | None:
    fields = _named(maps, r"paf|affinit|_L1$")
    for heatmaps, ours in reversed(list(maps.items())):  # the last stage first
        for other, theirs in maps.items():
            known = PART_AFFINITY.get((ours.channels, theirs.channels))
            if known and ours.sides == theirs.sides and (not fields or other in fields):
                because = (
                    f"{heatmaps} and {other} have {ours.channels} and {theirs.channels} channels, as its heatmaps and "
                    "part affinity fields have"
                )
                return Family(known, because, "trt_pose" if known == "trt_pose" else "openpose", heatmaps)
    if not fields:
        return None
    rest = [name for name in maps if name not in fields and name not in _named(maps, "offset|refine")]
    sleap = _named(maps, "confmaps")
    preset = "sleap" if sleap else "openpose"
    known = "SLEAP's bottom-up models" if sleap else "OpenPose or another network with part affinity fields"
    return Family(known, f"{' and '.join(fields)} is named so", preset, rest[0] if len(rest) == 1 else None)


def _deeplabcut(maps: Mapping[str, Map]) -> Family | None:
    """Score maps and location refinement: `heatmap` and `locref` (deeplabcut 3), `part_pred` and `locref_pred`."""
    refinements = _named(maps, "locref|loc_ref")
    for offsets in refinements:
        for heatmaps, one in maps.items():
            if 2 * one.channels == maps[offsets].channels and one.sides == maps[offsets].sides:
                because = f"{offsets} is named so, the location refinement of {heatmaps}"
                return Family("DeepLabCut", because, "deeplabcut", heatmaps, offsets)
    return None


def _associative_embedding(maps: Mapping[str, Map]) -> Family | None:
    """HigherHRNet: heatmaps with tags behind, 2K channels, and heatmaps on a grid twice as fine."""
    tags = _named(maps, r"(^|[^a-z])(tags?|embeddings?|ae)([^a-z]|$)")
    if tags:
        rest = [name for name in maps if name not in tags]
        alone = rest[0] if len(rest) == 1 else None
        return Family("associative embedding", f"{' and '.join(tags)} is named so", "higherhrnet", alone)
    for coarse, ours in maps.items():
        for fine, theirs in maps.items():
            if None in ours.sides or ours.channels != 2 * theirs.channels or theirs.channels < 4:
                continue
            if theirs.sides == tuple(2 * side for side in ours.sides if side):
                because = (
                    f"{coarse} has {ours.channels} channels, heatmaps and tags, and {fine} {theirs.channels} on a grid "
                    "twice as fine"
                )
                return Family("HigherHRNet", because, "higherhrnet", fine)
    return None


def _dekr(maps: Mapping[str, Map]) -> Family | None:
    """HRNet/DEKR: K heatmaps with the center's behind, and 2K offsets from the center."""
    for heatmaps, ours in maps.items():
        for offsets, theirs in maps.items():
            if len(maps) == 2 and ours.sides == theirs.sides and theirs.channels == 2 * (ours.channels - 1) > 4:
                because = f"{heatmaps} and {offsets} have {ours.channels} and {theirs.channels} channels, K + 1 and 2K"
                return Family("DEKR", because)
    return None


def _levels(maps: Mapping[str, Map]) -> Family | None:
    """The same channels on three grids, each half as fine: a one-stage network before its decoding."""
    sides = sorted((one.sides for one in maps.values() if None not in one.sides), reverse=True)
    halved = all(fine == tuple(2 * (side or 0) for side in coarse) for fine, coarse in itertools.pairwise(sides))
    if len({one.channels for one in maps.values()}) == 1 and len(sides) >= 3 and halved:
        return Family("a one-stage network", f"{', '.join(maps)} are the same numbers on grids ever coarser")
    return None


def _vectors(shapes: Shapes) -> list[str]:
    """Outputs named as SimCC's are."""
    return [name for name in _named(shapes, r"simcc|(^|[^a-z])[xyz]([^a-z]|$)") if len(shapes[name]) == 3]


def _simcc_3d(shapes: Shapes) -> Family | None:
    """RTMW3D (mmpose projects/rtmpose3d): a third vector along z."""
    vectors = _vectors(shapes)
    if len(vectors) == 3 and len({shapes[name][1] for name in vectors}) == 1:
        return Family("RTMW3D or another SimCC with depth", f"{', '.join(vectors)} are vectors along x, y and z")
    return None


def _detector(shapes: Shapes) -> Family | None:
    boxes = [name for name, shape in shapes.items() if len(shape) in (2, 3) and shape[-1] in (4, 5)]
    if boxes and _named(shapes, "label|score|logit|class"):
        return Family("a detector of boxes", f"{said(shapes, *shapes)}, and no pose head")
    return None
