"""Heatmaps alone and SimCC's vectors among the outputs of a graph."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ._families import Shapes, ratios, said
from ._graph import LAYOUTS, channel_axis, width_height
from ._posenet_heads import Evidence, listing

TOPDOWN_HEADS = {"heatmap": ("heatmaps",), "simcc": ("simcc_x", "simcc_y")}

TWO_IN_ONE = {
    28: "14 heatmaps and 14 tags (associative embedding)",
    34: "17 heatmaps and 17 tags (associative embedding)",
    57: "19 heatmaps and 38 part affinity fields (OpenPose)",
    78: "26 heatmaps and 52 part affinity fields (OpenPose)",
    266: "133 heatmaps and 133 tags (associative embedding)",
}
"""Channels of one output that is two heads behind each other in known networks."""


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
        raise ValueError(
            f"{name}: several outputs may be the heads, name them with heads=, heatmaps or simcc_x and simcc_y: "
            f"{listing(shapes)}"
        )
    if len(heatmaps) > 1:
        raise ValueError(
            f'{name}: cannot tell the layout of the heatmaps, give layout="NCHW" or layout="NHWC": {listing(shapes)}'
        )
    if heatmaps:
        ((output, found_layout),) = heatmaps
        channels = shapes[output][channel_axis(found_layout)]
        if not given and preset is None and channels in TWO_IN_ONE:
            raise ValueError(
                f"{name}: {said(shapes, output)} may be {channels} heatmaps, or {TWO_IN_ONE[channels]}, which are not "
                f'supported yet; give preset= or heads={{"heatmaps": "{output}"}} for {channels} heatmaps'
            )
        found, favor = {**given, "heatmaps": output}, _ratio_in_words(shapes, output, found_layout, size)
    else:
        (pair,) = vectors
        found, found_layout = dict(zip(TOPDOWN_HEADS["simcc"], pair)), None
        favor = f"{' and '.join(pair)} have as many bins a pixel in width and height"
    left = _left_over(shapes, found)
    if left and not given:
        example = ", ".join(f'"{head}": "{output}"' for head, output in found.items())
        raise ValueError(
            f"{name}: {said(shapes, *found.values())} may be the head ({favor}), but {said(shapes, *left)} would be "
            f"left over: give heads={{{example}}} to decode without"
        )
    evidence = ("named by the caller",) if given else (favor,)
    return found, by, found_layout, Evidence(evidence, tuple(f"{output} is left over" for output in left))


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
