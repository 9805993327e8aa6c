"""What an ONNX graph tells without being run: inputs, outputs, shapes, scales of 8-bit outputs, logits or scores."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

LAYOUTS = ("NCHW", "NHWC")

# What a heatmap may pass on its way to the output without becoming, or ceasing to be, a score.
_TRANSPARENT = {
    "Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat",
    "Resize", "Upsample", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
_GIVES_SCORES = {"Sigmoid", "HardSigmoid", "Softmax", "QLinearSigmoid"}
_GIVES_LOGITS = {"Conv", "ConvTranspose", "QLinearConv", "Gemm", "MatMul", "QLinearMatMul", "BatchNormalization"}
_KEEPS_LOGITS = {"Add", "Mul", "Sub", "Div"}  # of one value with constants; a score does not survive these


class Tensor(NamedTuple):
    """An input or output as the graph declares it; None marks a size that is free."""

    dtype: str
    shape: tuple[int | None, ...]


class Graph(NamedTuple):
    """A parsed model and what is looked up in it."""

    name: str  # of the model, in error messages
    proto: Any
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    metadata: dict[str, str]
    producers: dict[str, Any]  # value -> the node that makes it
    constants: dict[str, Any]  # value -> its initializer


def read_graph(model: str | os.PathLike[str] | bytes) -> Graph:
    """Parse a model from a file or bytes; errors as for `load_proto`."""
    proto = load_proto(model)
    inputs, outputs = signature(proto)
    return Graph(
        name=_name(model),
        proto=proto,
        inputs=inputs,
        outputs=outputs,
        metadata={entry.key: entry.value for entry in proto.metadata_props},
        producers={output: node for node in proto.graph.node for output in node.output},
        constants={value.name: value for value in proto.graph.initializer},
    )


def load_proto(model: str | os.PathLike[str] | bytes) -> Any:
    """The onnx.ModelProto of a file or of bytes, without external data; ValueError when it is none."""
    onnx = need("onnx")
    name = _name(model)
    if isinstance(model, bytes):
        data = model
    else:
        with open(name, "rb") as file:
            data = file.read()
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except decode_error as error:
        raise ValueError(f"{name}: not an ONNX model, or one that is cut short") from error
    if not proto.graph.output:
        raise ValueError(f"{name}: not an ONNX model, or one that is cut short")
    return proto


def signature(proto: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs (without initializers) and outputs of a graph, in its own order."""
    onnx = need("onnx")
    weights = {value.name for value in proto.graph.initializer}
    inputs = {value.name: _tensor(onnx, value) for value in proto.graph.input if value.name not in weights}
    outputs = {value.name: _tensor(onnx, value) for value in proto.graph.output}
    if any(None in tensor.shape[1:] or not tensor.shape for tensor in outputs.values()):
        for value in _inferred(proto, None).graph.output:
            tensor = _tensor(onnx, value)
            if len(tensor.shape) == 4 and len(outputs[value.name].shape) in (0, 4):
                outputs[value.name] = tensor
    return inputs, outputs


def find_input(graph: Graph) -> tuple[str, str]:
    """The image input and its layout."""
    name, inputs = graph.name, graph.inputs
    listing = ", ".join(f"{key} {dims(tensor.shape)}" for key, tensor in inputs.items()) or "none"
    if len(inputs) != 1:
        raise ValueError(f"{name}: the model must have one input, the image, got {listing}")
    ((key, tensor),) = inputs.items()
    layouts = [layout for layout in LAYOUTS if len(tensor.shape) == 4 and tensor.shape[channel_axis(layout)] == 3]
    if not layouts:
        raise ValueError(f"{name}: the input must be (N, 3, H, W) or (N, H, W, 3), got {listing}")
    if tensor.dtype not in ("float32", "float16", "uint8"):
        raise ValueError(f"{name}: the input must have dtype float32, float16 or uint8, got {tensor.dtype}")
    return key, layouts[0]


def shapes_at(graph: Graph, input_name: str, input_shape: Sequence[int]) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the outputs for an input of this shape: inferred, or else as declared."""
    inferred = _inferred_shapes(graph, input_name, input_shape)
    shapes = {}
    for name, tensor in graph.outputs.items():
        seen, declared = inferred.get(name, ()), tensor.shape
        if len(seen) == len(declared):
            seen = tuple(known if known is not None else said for known, said in zip(seen, declared))
        shapes[name] = seen or declared
    return shapes


def find_stride(
    graph: Graph, input_name: str, input_layout: str, size: tuple[int, int], output: str, layout: str | None
) -> tuple[int | None, str]:
    """Input pixels per cell of an output, for an input of (width, height) `size`, and how that is known."""
    if layout is None:
        return None, "known when it runs"
    width, height = size
    shape = (1, height, width, 3) if input_layout == "NHWC" else (1, 3, height, width)
    inferred = _inferred_shapes(graph, input_name, shape)[output]
    declared = _tensor(need("onnx"), {value.name: value for value in graph.proto.graph.output}[output]).shape
    for candidate in (inferred, declared):
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


def find_activation(producers: Mapping[str, Any], constants: set[str], output: str) -> tuple[str | None, str]:
    """Whether an output of a graph is logits ("sigmoid"), scores (None) or "unknown", and how that is known."""
    verdicts: dict[str, str | None] = {}
    waiting, seen = [(output, False)], set()
    while waiting:
        value, scaled = waiting.pop()
        if (value, scaled) in seen:
            continue
        seen.add((value, scaled))
        node = producers.get(value)
        if node is None:
            verdicts[f"comes from {value!r}, which no node makes"] = "unknown"
        elif node.op_type in _GIVES_LOGITS:
            verdicts[f"made by {node.op_type}"] = "sigmoid"
        elif node.op_type in _GIVES_SCORES:
            verdicts[f"passed {node.op_type}" + ", then arithmetic" * scaled] = "unknown" if scaled else None
        elif node.op_type in _TRANSPARENT:
            sources = node.input if node.op_type == "Concat" else node.input[:1]
            waiting.extend((source, scaled) for source in sources)
        elif node.op_type in _KEEPS_LOGITS and (operand := _only_operand(node, producers, constants)):
            waiting.append((operand, True))
        else:
            verdicts[f"made by {node.op_type}"] = "unknown"
    why = " and ".join(sorted(verdicts))
    found = set(verdicts.values())
    return (found.pop() if len(found) == 1 else "unknown"), why


def find_quantization(graph: Graph, heads: Mapping[str, str], required: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Scale and zero point of 8-bit heads, from the QuantizeLinear node that makes them.

    A head whose scale cannot be read is left out where it is not `required`.
    """
    onnx = need("onnx")
    found = {}
    for head, output in heads.items():
        dtype = graph.outputs[output].dtype
        if dtype not in ("uint8", "int8"):
            continue
        node = graph.producers.get(output)
        while node is not None and node.op_type in ("Transpose", "Identity", "Reshape"):
            node = graph.producers.get(node.input[0])
        quantizer = node if node is not None and node.op_type == "QuantizeLinear" else None
        names = [value for value in quantizer.input[1:3] if value] if quantizer else []
        constants = graph.constants
        if not names or any(value not in constants or constants[value].dims not in ([], [1]) for value in names):
            if head not in required:
                continue
            raise ValueError(f"{graph.name}: cannot read the scale of the {dtype} output {output}")
        scale, *zero = (onnx.numpy_helper.to_array(constants[value]).reshape(()) for value in names)
        found[head] = (float(scale), int(zero[0]) if zero else 0)
    return found


def need(package: str) -> Any:
    """The package, or an ImportError that says what to install."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f'running ONNX models needs {package}: pip install "posepost[ort]"') from error


def dims(shape: Sequence[int | None]) -> str:
    """A shape for people to read."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def channel_axis(layout: str | None) -> int:
    return 3 if layout == "NHWC" else 1


def width_height(shape: Sequence[Any], layout: str) -> tuple[Any, Any]:
    return (shape[2], shape[1]) if layout == "NHWC" else (shape[3], shape[2])


def _name(model: str | os.PathLike[str] | bytes) -> str:
    return "model" if isinstance(model, bytes) else os.fspath(model)


def _tensor(onnx: Any, value: Any) -> Tensor:
    kind = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    sizes = tuple(int(dim.dim_value) if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return Tensor({"float": "float32", "double": "float64"}.get(dtype, dtype), sizes)


def _inferred(proto: Any, input_shape: tuple[str, Sequence[int]] | None) -> Any:
    """A copy of the model with output shapes inferred, at the given input shape when there is one."""
    onnx = need("onnx")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if input_shape is not None:
        name, shape = input_shape
        (value,) = (value for value in copy.graph.input if value.name == name)
        for dim, size in zip(value.type.tensor_type.shape.dim, shape):
            dim.dim_value = size
        for output in copy.graph.output:
            output.type.tensor_type.ClearField("shape")
        del copy.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(copy)
    except (ValueError, RuntimeError):  # more than 2 GiB, or a node that inference does not know: no shapes then
        return copy


def _inferred_shapes(graph: Graph, input_name: str, input_shape: Sequence[int]) -> dict[str, tuple[int | None, ...]]:
    onnx = need("onnx")
    inferred = _inferred(graph.proto, (input_name, input_shape))
    return {value.name: _tensor(onnx, value).shape for value in inferred.graph.output}


def _only_operand(node: Any, producers: Mapping[str, Any], constants: set[str]) -> str | None:
    """The one operand that is not a constant; it must come first where order matters."""

    def constant(value: str) -> bool:
        return value in constants or (value in producers and producers[value].op_type == "Constant")

    values = [value for value in node.input if not constant(value)]
    in_order = node.op_type in ("Add", "Mul") or values[:1] == list(node.input[:1])
    return values[0] if len(values) == 1 and in_order else None
