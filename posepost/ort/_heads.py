"""Which outputs of a graph are the heads of a pose network, by their shapes and, where those leave a doubt, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ._graph import (
    LAYOUTS,
    Graph,
    Tensor,
    channel_axis,
    dims,
    find_input,
    image_shape,
    read_graph,
    shapes_at,
    width_height,
)
from ._metadata import preferred_size
from ._source import ModelLike

HEADS = ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd")
TOPDOWN_HEADS = {"heatmap": ("heatmaps",), "simcc": ("simcc_x", "simcc_y")}
TOPDOWN_SIZE = (192, 256)
MOST_PER_CELL = 32  # input pixels from one cell of a heatmap to the next


class Recognized(NamedTuple):
    """Which head a model has: "posenet", "heatmap" or "simcc"."""

    kind: str
    heads: dict[str, str]  # head -> output
    by: str
    layout: str | None
    dtype: str  # of the first head


def recognize(model: ModelLike, *, heads: Mapping[str, str] | None = None, layout: str | None = None) -> Recognized:
    """Which head an ONNX model has: heatmaps with offsets are "posenet", heatmaps alone "heatmap", two vectors "simcc".

    Arguments as for `PoseSession` and `TopDownSession`. Raises OSError (file), ValueError (not ONNX, no head or several
    among the outputs).
    """
    graph = read_graph(model)
    given = dict(heads or {})
    check_given(graph.outputs, given, (*HEADS, *TOPDOWN_HEADS["simcc"]))
    if set(given) & {*HEADS[1:]} or _posenet_pairs(graph.outputs, given, layout)[1]:
        found, how, found_layout = find_heads(graph.name, graph.outputs, given, layout)
        return Recognized("posenet", found, how, found_layout, graph.outputs[found["heatmaps"]].dtype)
    return find_topdown(graph, given, layout)[0]


def check_given(outputs: Mapping[str, Tensor], given: Mapping[str, str], heads: Sequence[str]) -> None:
    """The caller names outputs that exist, for heads that exist."""
    for head, output in given.items():
        if head not in heads:
            raise ValueError(f"heads must have keys among {', '.join(heads)}, got {head!r}")
        if output not in outputs:
            raise ValueError(f"heads[{head!r}] must be one of the outputs {', '.join(outputs)}, got {output!r}")


def find_heads(
    name: str, outputs: Mapping[str, Tensor], given: dict[str, str], layout: str | None = None
) -> tuple[dict[str, str], str, str | None]:
    """Which outputs are heatmaps (K channels), offsets (2 K) and displacements (2 (K - 1) each).

    Shapes come first: offsets have twice the channels of heatmaps on the same grid. Names decide between what is left:
    "part", "long", "segment" or "disp" in a name speak against it, "heat" and "offset" for it. `given` names are taken
    as they are.
    Returns (head -> output, how it was found, layout or None).
    """
    check_given(outputs, given, HEADS)
    named = [outputs[given[head]].shape for head in HEADS[:2] if head in given]
    if len(named) == 2 and any(len(shape) != 4 or (shape[1] is None and shape[3] is None) for shape in named):
        return given, "named by the caller", layout
    by_shape, pairs = _posenet_pairs(outputs, given, layout)
    how = "by shape" if len(pairs) == len(by_shape) else "by shape and name"
    if len(named) == 2:
        how = "named by the caller"
        if not pairs:
            both = [f"{given[head]} {dims(outputs[given[head]].shape)}" for head in HEADS[:2]]
            raise ValueError(
                f"{name}: heads do not fit: offsets must have twice the channels of heatmaps, got {' and '.join(both)}"
            )
    for head, index in (("heatmaps", 0), ("offsets", 1)):
        if len(pairs) > 1 and head not in given:
            likely = [pair for pair in pairs if ("heat" if head == "heatmaps" else "offset") in pair[index].lower()]
            if likely and len(likely) < len(pairs):
                pairs, how = likely, "by shape and name"
    if not pairs:
        listing = ", ".join(f"{output} {dims(tensor.shape)}" for output, tensor in outputs.items())
        raise ValueError(
            f"{name}: no heatmaps and offsets among the outputs "
            f"(offsets must have twice the channels of heatmaps; heads= or --heads names them): {listing}"
        )
    if len(pairs) > 1:
        listing = " or ".join(
            f"{heatmaps} {dims(outputs[heatmaps].shape)} with {offsets} {dims(outputs[offsets].shape)}"
            for heatmaps, offsets, _ in pairs
        )
        raise ValueError(f"{name}: several outputs may be the heads, name them with heads= (--heads): {listing}")
    heatmaps, offsets, found_layout = pairs[0]
    found = {**given, "heatmaps": heatmaps, "offsets": offsets}
    axis = channel_axis(found_layout)
    channels = outputs[heatmaps].shape[axis]
    if channels is not None:
        for head, words in (("displacement_fwd", ("fwd", "forward")), ("displacement_bwd", ("bwd", "backward"))):
            matching = [
                output
                for output, tensor in outputs.items()
                if len(tensor.shape) == 4
                and tensor.shape[axis] == 2 * (channels - 1)
                and any(word in output.lower() for word in words)
            ]
            if head not in found and len(matching) == 1:
                found[head] = matching[0]
    return {head: found[head] for head in HEADS if head in found}, how, found_layout


def _posenet_pairs(
    outputs: Mapping[str, Tensor], given: Mapping[str, str], layout: str | None
) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(heatmaps, offsets, layout) of all outputs whose shapes fit, and of those whose names do not speak against it."""
    by_shape = [
        (heatmaps, offsets, candidate)
        for candidate in ([layout] if layout else LAYOUTS)
        for heatmaps in outputs
        for offsets in outputs
        if given.get("heatmaps", heatmaps) == heatmaps
        and given.get("offsets", offsets) == offsets
        and fits(outputs[heatmaps].shape, outputs[offsets].shape, candidate)
    ]
    pairs = [
        pair
        for pair in by_shape
        if ("heatmaps" in given or not _speaks_against("heatmaps", pair[0]))
        and ("offsets" in given or not _speaks_against("offsets", pair[1]))
    ]
    return by_shape, pairs


def find_topdown(
    graph: Graph, given: Mapping[str, str], layout: str | None
) -> tuple[Recognized, dict[str, tuple[int | None, ...]], tuple[int, int]]:
    """Heatmaps alone or SimCC, the outputs' shapes for an input of the model's usual size, and that size."""
    name, outputs = graph.name, graph.outputs
    input_name, input_layout = find_input(graph)
    declared = graph.inputs[input_name].shape
    sides = width_height(declared, input_layout)
    preferred = preferred_size(name, graph.metadata, TOPDOWN_SIZE)
    usual = (sides[0] or preferred[0], sides[1] or preferred[1])
    width, height = usual
    shapes = shapes_at(graph, input_name, image_shape(graph, usual))

    heatmaps = [] if {*given} & {*TOPDOWN_HEADS["simcc"]} else _heatmap_candidates(shapes, given, layout, usual)
    vectors = [] if "heatmaps" in given else _simcc_candidates(shapes, given, usual)
    by_name = [pair for pair in vectors if _has_letter(pair[0], "x") and _has_letter(pair[1], "y")]
    how = "named by the caller" if given else "by shape"
    if len(vectors) > 1 and by_name:
        vectors, how = by_name, "by shape and name"
    listing = ", ".join(f"{output} {dims(shapes[output])}" for output in outputs)
    if not heatmaps and not vectors:
        raise ValueError(
            f"{name}: no pose head among the outputs for an input of {width}x{height} pixels: heatmaps of K "
            "channels with offsets of 2K (PoseNet), heatmaps alone that are smaller by a whole number, or two (N, K, "
            f"bins) with as many bins a pixel in width and height (SimCC); heads= or --heads names them: {listing}"
        )
    if len({output for output, _ in heatmaps}) + len(vectors) > 1:
        raise ValueError(
            f"{name}: several outputs may be the heads, name them with heads= (--heads), heatmaps or simcc_x and "
            f"simcc_y: {listing}"
        )
    if len(heatmaps) > 1:
        raise ValueError(
            f"{name}: cannot tell the layout of the heatmaps, give layout= (--layout), NCHW or NHWC: {listing}"
        )
    if heatmaps:
        ((output, found_layout),) = heatmaps
        return Recognized("heatmap", {"heatmaps": output}, how, found_layout, outputs[output].dtype), shapes, usual
    ((x, y),) = vectors
    return Recognized("simcc", {"simcc_x": x, "simcc_y": y}, how, None, outputs[x].dtype), shapes, usual


def _heatmap_candidates(
    shapes: Mapping[str, tuple[int | None, ...]],
    given: Mapping[str, str],
    layout: str | None,
    size: tuple[int, int],
) -> list[tuple[str, str]]:
    """Outputs that may be heatmaps, with their layouts. One that the caller names need not fit."""
    named = given.get("heatmaps")
    four = [output for output, shape in shapes.items() if len(shape) == 4 and named in (None, output)]
    layouts = [layout] if layout else LAYOUTS
    fitting = [(o, one) for o in four for one in layouts if ratios(size, width_height(shapes[o], one))]
    return fitting or [(output, one) for output in four for one in layouts if named]


def ratios(size: tuple[int, int], maps: tuple[int | None, int | None]) -> list[int]:
    """The whole numbers that make maps of these sizes from an input, both rounded up or both down."""
    return [
        ratio
        for ratio in range(1, MOST_PER_CELL + 1)
        if maps in (tuple(side // ratio for side in size), tuple(-(-side // ratio) for side in size))
    ]


def _simcc_candidates(
    shapes: Mapping[str, tuple[int | None, ...]], given: Mapping[str, str], size: tuple[int, int]
) -> list[tuple[str, str]]:
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


def fits(heatmaps: Sequence[int | None], offsets: Sequence[int | None], layout: str) -> bool:
    if len(heatmaps) != 4 or len(offsets) != 4:
        return False
    axis = channel_axis(layout)
    channels = heatmaps[axis]
    same_grid = all(h is None or o is None or h == o for a, (h, o) in enumerate(zip(heatmaps, offsets)) if a != axis)
    return channels is not None and offsets[axis] == 2 * channels and same_grid


def _speaks_against(head: str, output: str) -> bool:
    other = "offset" if head == "heatmaps" else "heat"
    return any(word in output.lower() for word in ("part", "long", "segment", "disp", other))
