"""Shapes of a graph's outputs for an input of some size: inferred, or those of a run on zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ._graph import Graph, find_image
from ._metadata import preferred_size
from ._runtime import run_on_zeros
from ._tensors import Shapes, first_known, inferred, tensor_of, width_height

_RANKS = (3, 4)  # of what may be a head


def shapes_at(graph: Graph, size: tuple[int, int]) -> Shapes:
    """Shapes of the outputs for pictures of (width, height) `size`: inferred, or else those of a run on zeros.

    The model is run where inference leaves open a size of what may be a head. Shapes that the model declares are taken
    only where neither says anything. Where onnxruntime cannot run the model, sizes that stay open are None, and where
    no output that may be a head is known, its words are added to the graph's `problems`.
    """
    if size not in graph.shapes:
        graph.shapes[size] = _shapes_at(graph, size)
    return graph.shapes[size]


def usual_size(graph: Graph, default: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that the model is best run at: its own, else the metadata's, else the default."""
    image = find_image(graph)
    width, height = width_height(graph.inputs[image.name].shape, image.layout)
    preferred = preferred_size(graph.name, graph.metadata, default)
    return width or preferred[0], height or preferred[1]


def find_stride(graph: Graph, size: tuple[int, int], output: str, layout: str | None) -> tuple[int | None, str]:
    """Input pixels per cell of an output, for an input of (width, height) `size`, and how that is known."""
    if layout is None:
        return None, "known when it runs"
    width, height = size
    declared = tensor_of({value.name: value for value in graph.proto.graph.output}[output]).shape
    for candidate in (shapes_at(graph, size)[output], declared):
        if len(candidate) == 4:
            columns, rows = width_height(candidate, layout)
            stride = stride_of(size, (columns, rows))
            if stride is not None:
                return stride, f"{width}x{height} becomes {columns}x{rows}"
    return None, "known when it runs"


def stride_of(input_size: Sequence[int | None], map_size: Sequence[int | None]) -> int | None:
    """The one power of two s with ceil(input / s) == map in both axes, or None."""
    sizes = [*input_size, *map_size]
    if any(not size for size in sizes):
        return None
    width, height, columns, rows = cast("list[int]", sizes)
    fitting = [s for s in (1 << n for n in range(12)) if -(-height // s) == rows and -(-width // s) == columns]
    return fitting[0] if len(fitting) == 1 else None


def _shapes_at(graph: Graph, size: tuple[int, int]) -> Shapes:
    image, image_shape = find_image(graph).name, _image_shape(graph, size)
    shapes: dict[str, tuple[int | None, ...]] = {}
    in_doubt = False
    for value in inferred(graph.proto, (image, image_shape)).graph.output:
        declared = graph.outputs[value.name].shape
        seen = tensor_of(value).shape if value.type.tensor_type.HasField("shape") else None
        in_doubt |= seen is None or _is_open(seen)
        if seen is not None and len(seen) == len(declared):
            seen = tuple(map(first_known, seen, declared))
        shapes[value.name] = declared if seen is None else seen
    if in_doubt:
        try:
            return run_on_zeros(graph, image, image_shape)
        except RuntimeError as error:
            if all(len(shape) not in _RANKS or _is_open(shape) for shape in shapes.values()):
                graph.problems.append(str(error))
    return shapes


def _image_shape(graph: Graph, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The shape of the image input for pictures of (width, height) `size`, in the model's batch or else one of 1."""
    image = find_image(graph)
    batch, (width, height) = graph.inputs[image.name].shape[0] or 1, size
    if image.layout == "NHWC":
        return batch, height, width, image.channels
    return batch, image.channels, height, width


def _is_open(shape: Sequence[int | None]) -> bool:
    """Whether a size is not known, beside the batch, of what may be a head."""
    return len(shape) in _RANKS and None in shape[1:]
