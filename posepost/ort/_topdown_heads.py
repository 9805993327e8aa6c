"""Heatmaps alone and SimCC's vectors among the outputs of a graph."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ._families import ratios
from ._posenet_heads import Evidence, as_argument
from ._tensors import LAYOUTS, Shapes, channel_axis, listing, said, width_height

TOPDOWN_HEADS = {"heatmap": ("heatmaps",), "simcc": ("simcc_x", "simcc_y")}

TWO_IN_ONE = {
    28: "14 heatmaps and 14 tags (associative embedding)",
    34: "17 heatmaps and 17 tags (associative embedding)",
    57: "19 heatmaps and 38 part affinity fields (OpenPose)",
    78: "26 heatmaps and 52 part affinity fields (OpenPose)",
    266: "133 heatmaps and 133 tags (associative embedding)",
}
"""Channels of one output that is two heads behind each other in known networks."""

NOT_POSE = "masks?|seg|segmentation|logits?|depth|disparity|alpha|matte|normals?|density|embeddings?|features?|feats?"
"""In names of what segments, measures or describes."""

WITH_BACKGROUND = {19: "18 of a body", 22: "21 of a hand", 71: "70 of a face"}
"""Channels of OpenPose's heatmaps alone, the background's last."""

MOST_KEYPOINTS = 308  # of the schemes that are in use: Goliath, of Sapiens


def find_topdown(
    name: str, shapes: Shapes, size: tuple[int, int], given: Mapping[str, str], layout: str | None, preset: str | None
) -> tuple[dict[str, str], str, str | None, Evidence]:
    """Heatmaps alone or SimCC's two vectors, how they were found, the layout of heatmaps, and the evidence.

    shapes: of the outputs for an input of `size`, (width, height). Raises ValueError where nothing fits, several do, an
    output is left over, or the channels may be two heads in one.
    """
    heatmaps = [] if {*given} & {*TOPDOWN_HEADS["simcc"]} else _heatmap_candidates(shapes, given, layout, size)
    vectors = [] if "heatmaps" in given else _simcc_candidates(shapes, given, size)
    by_name = [pair for pair in vectors if _has_letter(pair[0], "x") and _has_letter(pair[1], "y")]
    by = "named by the caller" if given else "by shape"
    if len(vectors) > 1 and by_name:
        vectors, by = by_name, "by shape and name"
    if not heatmaps and not vectors:
        raise ValueError(
            f"{name}: no pose head among the outputs for an input of {size[0]}x{size[1]} pixels: heatmaps of K "
            "channels with offsets of 2K (PoseNet), heatmaps alone that are smaller by a whole number, or two (N, K, "
            f"bins) with as many bins a pixel in width and height (SimCC): {listing(shapes)}"
        )
    if len({output for output, _ in heatmaps}) + len(vectors) > 1:
        alike = not vectors and len({(shapes[output], re.sub(r"\d+", "", output)) for output, _ in heatmaps}) == 1
        example = dict(zip(TOPDOWN_HEADS["simcc"], vectors[0])) if vectors else {"heatmaps": heatmaps[-1][0]}
        raise ValueError(
            f"{name}: several outputs may be the heads, name them, such as {as_argument(example)}"
            f"{' (of the stages of one network, the last)' if alike else ''}: {listing(shapes)}"
        )
    if len(heatmaps) > 1:
        raise ValueError(
            f'{name}: cannot tell the layout of the heatmaps, give layout="NCHW" or layout="NHWC": {listing(shapes)}'
        )
    if heatmaps:
        ((output, found_layout),) = heatmaps
        channels = shapes[output][channel_axis(found_layout)]
        other = _not_keypoints(output, channels, width_height(shapes[output], found_layout), size)
        if not given and preset is None and other:
            alone = "one heatmap" if channels == 1 else f"{channels} heatmaps"
            raise ValueError(
                f"{name}: {said(shapes, output)} may be {alone}, or {other}; give preset= or "
                f"{as_argument({'heatmaps': output})} for {alone}"
            )
        found, favor = {**given, "heatmaps": output}, _ratio_in_words(shapes, output, found_layout, size)
    else:
        (pair,) = vectors
        found, found_layout = dict(zip(TOPDOWN_HEADS["simcc"], pair)), None
        favor = f"{' and '.join(pair)} have as many bins a pixel in width and height"
    left = _left_over(shapes, found)
    if left and not given:
        raise ValueError(
            f"{name}: {said(shapes, *found.values())} may be the head ({favor}), but {said(shapes, *left)} would be "
            f"left over: give {as_argument(found)} to decode without"
        )
    evidence = ("named by the caller",) if given else (favor,)
    return found, by, found_layout, Evidence(evidence, tuple(f"{output} is left over" for output in left))


def _not_keypoints(
    output: str, channels: int | None, sides: tuple[int | None, int | None], size: tuple[int, int]
) -> str | None:
    """What an output of so many channels on a grid of these sides may be instead of one keypoint each, in words."""
    if channels is not None and channels > MOST_KEYPOINTS:
        # ibaiGorordo/ONNX-Mobile-Human-Pose-3D@28316c0 mobileHumanPose/mobileHumanPose.py: as many depths as columns
        depths = sides[0] or 1
        if depths > 31 and channels % depths == 0:
            return f"{channels // depths} keypoints with {depths} depths each (3-D), which are not supported yet"
        return "features"
    if re.search(rf"(^|[^a-z])({NOT_POSE})([^a-z]|$)", output, re.IGNORECASE):
        return "something else of each pixel, as the name says"
    if channels == 3 and sides == size:
        return "a picture"
    if channels in WITH_BACKGROUND:
        return f"{WITH_BACKGROUND[channels]} and the background (OpenPose), which would be the last keypoint"
    two = TWO_IN_ONE.get(channels or 0)
    return two and f"{two}, which are not supported yet"


def _left_over(shapes: Shapes, found: Mapping[str, str]) -> list[str]:
    """Other outputs that look like part of a pose head: maps, and with vectors those of as many keypoints."""
    left = []
    for output, shape in shapes.items():
        if output in found.values():
            continue
        vector = "simcc_x" in found and len(shape) == 3 and shape[1] == shapes[found["simcc_x"]][1]
        if len(shape) == 4 or vector:
            left.append(output)
    return left


def _ratio_in_words(shapes: Shapes, output: str, layout: str, size: tuple[int, int]) -> str:
    sides = width_height(shapes[output], layout)
    ratio = next(iter(ratios(size, sides)), None)
    return f"{output} is smaller than the input by {ratio}" if ratio else f"{output} has four dimensions"


def _heatmap_candidates(
    shapes: Shapes, given: Mapping[str, str], layout: str | None, size: tuple[int, int]
) -> list[tuple[str, str]]:
    """Outputs that may be heatmaps, with their layouts. One that the caller names need not fit."""
    named = given.get("heatmaps")
    four = [output for output, shape in shapes.items() if len(shape) == 4 and named in (None, output)]
    layouts = [layout] if layout else LAYOUTS
    fitting = [(o, one) for o in four for one in layouts if ratios(size, width_height(shapes[o], one))]
    return fitting or [(output, one) for output in four for one in layouts if named]


def _simcc_candidates(shapes: Shapes, given: Mapping[str, str], size: tuple[int, int]) -> list[tuple[str, str]]:
    """Pairs of outputs with as many bins a pixel. Those that the caller names need not fit before they run."""
    width, height = size
    three = [output for output, shape in shapes.items() if len(shape) == 3]
    pairs = [
        (x, y)
        for x in three
        for y in three
        if x != y and given.get("simcc_x", x) == x and given.get("simcc_y", y) == y and shapes[x][1] == shapes[y][1]
    ]
    fitting = []
    for x, y in pairs:
        bins_x, bins_y = shapes[x][2], shapes[y][2]
        if bins_x and bins_y and bins_x * height == bins_y * width and bins_x >= width:
            fitting.append((x, y))
    return fitting or (pairs if len(given) == 2 else [])


def _has_letter(name: str, axis: str) -> bool:
    """Whether a name, such as simcc_x, has this letter by itself."""
    return re.search(rf"(^|[^a-z]){axis}($|[^a-z])", name.lower()) is not None
