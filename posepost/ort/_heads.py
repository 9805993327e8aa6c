"""Which outputs of a graph are the heads of a pose network, and what speaks for that and against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ._families import Family, family, refusal
from ._graph import Graph, read_graph
from ._posenet_heads import HEADS, Evidence, doubt, find_heads, posenet_pairs, weigh
from ._shapes import shapes_at, usual_size
from ._source import ModelLike
from ._tensors import Shapes, dims
from ._topdown_heads import TOPDOWN_HEADS, find_topdown

TOPDOWN_SIZE = (192, 256)


class Recognized(NamedTuple):
    """Which head a model has: "posenet", "heatmap" or "simcc"."""

    kind: str
    heads: dict[str, str]  # head -> output
    by: str
    layout: str | None
    evidence: Evidence
    dtype: str  # of the first head
    shapes: Shapes  # of all outputs, for an input of `size`
    size: tuple[int, int]  # width, height


def recognize(
    model: ModelLike,
    *,
    heads: Mapping[str, str] | None = None,
    layout: str | None = None,
    preset: str | None = None,
) -> Recognized:
    """Which head an ONNX model has: PoseNet's heatmaps with offsets, heatmaps alone, or SimCC's two vectors.

    Names, sizes, metadata and outputs that would be left over are weighed. `heads` or `preset`, as for `PoseSession`
    and `TopDownSession`, settle a doubt. Raises OSError (file) and ValueError: not ONNX, no head, a head that is in
    doubt, or a kind of network that is known and not supported; RuntimeError where only a run would tell the shapes of
    the outputs, and onnxruntime cannot run the model.
    """
    return recognize_graph(read_graph(model), heads, layout, preset)


def recognize_graph(
    graph: Graph, heads: Mapping[str, str] | None, layout: str | None, preset: str | None, kind: str | None = None
) -> Recognized:
    """`recognize` of a graph. kind: "posenet" or "topdown" where the caller has settled that."""
    if heads is not None and not isinstance(heads, Mapping):
        raise TypeError(f"heads must be a dict from heads to outputs, got {type(heads).__name__}")
    given = dict(heads or {})
    if kind == "topdown":
        known = ["heatmaps", *["offsets"] * (preset == "deeplabcut"), *TOPDOWN_HEADS["simcc"]]
    else:
        known = [*HEADS, *TOPDOWN_HEADS["simcc"]] if kind is None else [*HEADS]
    check_given(graph, given, known)
    size = usual_size(graph, TOPDOWN_SIZE)
    shapes = shapes_at(graph, size)
    seen = family(shapes, graph.metadata, size)
    if graph.problems and seen is None and not given:
        raise RuntimeError(graph.problems[0])
    if kind == "posenet" or (kind is None and _is_posenet(graph, shapes, given, layout, preset, seen)):
        if seen is not None and not {"heatmaps", "offsets"} <= {*given}:
            raise ValueError(refusal(graph.name, seen))
        found, by, found_layout, evidence = find_heads(graph.name, shapes, graph.metadata, given, layout)
        dtype = graph.outputs[found["heatmaps"]].dtype
        return Recognized("posenet", found, by, found_layout, evidence, dtype, shapes, size)
    if seen is not None and not given:
        if preset is None or seen.heatmaps is None:
            raise ValueError(refusal(graph.name, seen))
        given = {"heatmaps": seen.heatmaps}
        if preset == "deeplabcut" and seen.offsets:
            given["offsets"] = seen.offsets
    found, by, found_layout, evidence = find_topdown(graph.name, shapes, size, given, layout, preset)
    kind = "simcc" if "simcc_x" in found else "heatmap"
    dtype = graph.outputs[found[TOPDOWN_HEADS[kind][0]]].dtype
    return Recognized(kind, found, by, found_layout, evidence, dtype, shapes, size)


def _is_posenet(
    graph: Graph, shapes: Shapes, given: Mapping[str, str], layout: str | None, preset: str | None, seen: Family | None
) -> bool:
    """Whether the outputs are PoseNet's; ValueError where they may be and nothing but sizes says so."""
    if {*given} & {*HEADS[1:]} and preset is None:
        return True
    if (preset is not None and given) or {*given} & {*TOPDOWN_HEADS["simcc"]} or seen is not None:
        return False
    pairs = posenet_pairs(shapes, given, layout)
    sure = [pair for pair in pairs if weigh(shapes, graph.metadata, pair).sure]
    if pairs and not sure and not given and preset is None:
        raise ValueError(doubt(graph.name, shapes, graph.metadata, pairs[0]))
    return bool(sure)


def check_given(graph: Graph, given: Mapping[str, str], heads: Sequence[str]) -> None:
    """The caller names outputs that exist, for heads that exist, and that may be such heads."""
    for head, output in given.items():
        if head not in heads:
            raise ValueError(f"heads must have keys among {', '.join(heads)}, got {head!r}")
        if output not in graph.outputs:
            raise ValueError(f"heads[{head!r}] must be one of the outputs {', '.join(graph.outputs)}, got {output!r}")
        rank, shape = (3 if head.startswith("simcc") else 4), graph.outputs[output].shape
        if shape and len(shape) != rank:
            form = "(N, K, bins)" if rank == 3 else "(N, K, H, W) or (N, H, W, K)"
            raise ValueError(f"heads[{head!r}] must name an output of shape {form}, got {output} {dims(shape)}")
