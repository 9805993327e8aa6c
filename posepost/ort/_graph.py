"""An ONNX graph, parsed: its inputs and outputs, and which of the inputs is the image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from posepost import _check

from ._source import ModelLike, Source, load_proto, need, source_of
from ._tensors import LAYOUTS, Shapes, Tensor, channel_axis, dims, first_known, inferred, listing, tensor_of

IMAGE_DTYPES = ("float32", "float16", "float64", "uint8", "int8", "int32", "int64")
MOST_KEPT = 4096  # bytes of a constant: sizes, axes, scales
NUMBERS = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")

# What an image may pass on its way to the first convolution without its channels going elsewhere.
_KEEPS_CHANNELS = {
    "Identity", "Cast", "Add", "Sub", "Mul", "Div", "Clip", "Pad", "QuantizeLinear", "DequantizeLinear",
    "BatchNormalization", "Resize", "AveragePool", "MaxPool",
}  # fmt: skip
_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # the input that has a convolution's weights


class Graph(NamedTuple):
    """A parsed model and what is looked up in it."""

    name: str  # of the model, in error messages
    source: Source
    proto: Any  # without the numbers of its weights
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    metadata: dict[str, str]
    producers: dict[str, Any]  # value -> the node that makes it
    constants: dict[str, Any]  # value -> its initializer, or the tensor of its Constant
    shapes: dict[tuple[int, int], Shapes]  # what `shapes_at` has found
    problems: list[str]  # why it could not find more


class Image(NamedTuple):
    """The input that is a picture."""

    name: str
    layout: str
    channels: int  # 3, or 1: gray


def read_graph(model: ModelLike | Graph) -> Graph:
    """Parse a model; errors as for `load_proto`. A graph that was read is taken as it is."""
    if isinstance(model, Graph):
        return model
    source = source_of(model)
    proto = load_proto(source)
    bare = _without_weights(proto)
    inputs, outputs = signature(bare)
    return Graph(
        name=source.name,
        source=source,
        proto=bare,
        inputs=inputs,
        outputs=outputs,
        metadata={entry.key: entry.value for entry in bare.metadata_props},
        producers={output: node for node in bare.graph.node for output in node.output},
        constants=_constants(proto),
        shapes={},
        problems=[],
    )


def _constants(proto: Any) -> dict[str, Any]:
    return {
        output: one.t
        for node in proto.graph.node if node.op_type == "Constant"
        for output in node.output for one in node.attribute if one.name == "value"
    } | {value.name: value for value in proto.graph.initializer}  # fmt: skip


def _without_weights(proto: Any) -> Any:
    """A copy whose large constants have no numbers: inference copies all that is there, each time."""
    bare = need("onnx").ModelProto()
    bare.CopyFrom(proto)
    for tensor in _constants(bare).values():
        if tensor.ByteSize() > MOST_KEPT:
            for field in NUMBERS:
                tensor.ClearField(field)
    return bare


def signature(proto: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs (without initializers) and outputs of a graph, in its own order."""
    weights = {value.name for value in proto.graph.initializer}
    inputs = {value.name: tensor_of(value) for value in proto.graph.input if value.name not in weights}
    outputs = {value.name: tensor_of(value) for value in proto.graph.output}
    if any(None in tensor.shape[1:] or not tensor.shape for tensor in outputs.values()):
        for value in inferred(proto, None).graph.output:
            tensor, declared = tensor_of(value), outputs[value.name]
            if len(declared.shape) in (0, len(tensor.shape)):
                known = tuple(itertools.starmap(first_known, itertools.zip_longest(declared.shape, tensor.shape)))
                outputs[value.name] = Tensor(tensor.dtype, known)
    return inputs, outputs


def find_image(graph: Graph) -> Image:
    """The one input of four dimensions that has 1 or 3 channels.

    A channel size that is free is read off the first convolution that the input reaches. Raises ValueError where there
    is no image or more than one, where nothing tells its channels, and for dtypes that pixels are not made.
    """
    name, inputs = graph.name, graph.inputs
    got = listing({key: tensor.shape for key, tensor in inputs.items()}) or "none"
    four = {key: tensor for key, tensor in inputs.items() if len(tensor.shape) == 4}
    images = [image for key in four if (image := _as_image(graph, key)) is not None]
    if len(images) > 1:
        raise ValueError(f"{name}: the model must have one input that is an image, got {got}")
    if not images:
        open_ones = [key for key, tensor in four.items() if None in (tensor.shape[1], tensor.shape[3])]
        if open_ones:
            raise ValueError(
                f"{name}: cannot tell the channels of the input {open_ones[0]} {dims(four[open_ones[0]].shape)}: "
                "neither a size of 1 or 3 nor a convolution that reads it names them"
            )
        raise ValueError(
            f"{name}: the model must have an image input, (N, C, H, W) or (N, H, W, C) with C = 3 or 1, got {got}"
        )
    (image,) = images
    dtype = inputs[image.name].dtype
    if dtype not in IMAGE_DTYPES:
        raise ValueError(f"{name}: the input must have dtype {_check.either(IMAGE_DTYPES)}, got {dtype}")
    return image


def _as_image(graph: Graph, name: str) -> Image | None:
    """An input of four dimensions as an image, where it is one as far as can be told."""
    shape = graph.inputs[name].shape
    layouts = [layout for layout in LAYOUTS if shape[channel_axis(layout)] in (1, 3)]
    if len({shape[channel_axis(layout)] for layout in layouts}) == 2:  # a side of 1 pixel beside three channels
        layouts = [layout for layout in layouts if shape[channel_axis(layout)] == 3]
    if not layouts or (len(layouts) == 2 and None in shape[1:]):
        layout, channels = _read_as(graph, name)
        if layout is not None and channels in (1, 3) and shape[channel_axis(layout)] in (None, channels):
            return Image(name, layout, channels)
    return Image(name, layouts[0], cast(int, shape[channel_axis(layouts[0])])) if layouts else None


def _read_as(graph: Graph, name: str) -> tuple[str | None, int | None]:
    """The layout in which an input reaches its first convolution, and how many channels that takes."""
    waiting, seen = [(name, False)], set()
    while waiting:
        value, moved = waiting.pop(0)
        if value in seen:
            continue
        seen.add(value)
        for node in graph.proto.graph.node:
            if value not in node.input:
                continue
            if node.op_type in _WEIGHTS and node.input[0] == value:
                weights = _nth(node.input, _WEIGHTS[node.op_type])
                maker = graph.producers.get(weights)
                if maker is not None and maker.op_type == "DequantizeLinear":
                    weights = _nth(maker.input, 0)
                if weights in graph.constants and len(graph.constants[weights].dims) == 4:
                    groups = next((one.i for one in node.attribute if one.name == "group"), 1)
                    return "NHWC" if moved else "NCHW", int(graph.constants[weights].dims[1]) * groups
            elif node.op_type in _KEEPS_CHANNELS:
                waiting.extend((output, moved) for output in node.output[:1])
            elif node.op_type == "Transpose" and not moved:
                order = next((list(one.ints) for one in node.attribute if one.name == "perm"), [])
                if order == [0, 3, 1, 2]:
                    waiting.extend((output, True) for output in node.output[:1])
    return None, None


def _nth(values: Sequence[str], number: int) -> str:
    return values[number] if number < len(values) else ""
