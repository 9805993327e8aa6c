"""What an ONNX graph tells without being run: inputs, outputs, shapes, scales of 8-bit outputs, logits or scores."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from ._source import ModelLike, Source, is_external, load_proto, location_of, need, protobuf_error, source_of

LAYOUTS = ("NCHW", "NHWC")
IMAGE_DTYPES = ("float32", "float16", "float64", "uint8", "int8", "int32", "int64")

# What a heatmap may pass on its way to the output without becoming, or ceasing to be, a score.
_TRANSPARENT = {
    "Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat",
    "Resize", "Upsample", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
_GIVES_SCORES = {"Sigmoid", "HardSigmoid", "Softmax", "QLinearSigmoid"}
_GIVES_LOGITS = {"Conv", "ConvTranspose", "QLinearConv", "Gemm", "MatMul", "QLinearMatMul", "BatchNormalization"}
_ARITHMETIC = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract, "Div": np.divide}
_KEEPS_LOGITS = {*_ARITHMETIC}  # of one value with constants; a score does not survive these

# What an image may pass on its way to the first convolution without its channels going elsewhere.
_KEEPS_CHANNELS = {
    "Identity", "Cast", "Add", "Sub", "Mul", "Div", "Clip", "Pad", "QuantizeLinear", "DequantizeLinear",
    "BatchNormalization", "Resize", "AveragePool", "MaxPool",
}  # fmt: skip
_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # the input that has a convolution's weights
_RANKS = (3, 4)  # of what may be a head


class Tensor(NamedTuple):
    """An input or output as the graph declares it; None marks a size that is free."""

    dtype: str
    shape: tuple[int | None, ...]


class Graph(NamedTuple):
    """A parsed model and what is looked up in it."""

    name: str  # of the model, in error messages
    source: Source
    proto: Any
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    metadata: dict[str, str]
    producers: dict[str, Any]  # value -> the node that makes it
    constants: dict[str, Any]  # value -> its initializer, or the tensor of its Constant
    shapes: dict[tuple[int, ...], dict[str, tuple[int | None, ...]]]  # what `shapes_at` has found
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
    inputs, outputs = signature(proto)
    made = [(node.output[0], one.t) for node in proto.graph.node if node.op_type == "Constant"
            for one in node.attribute if one.name == "value"]  # fmt: skip
    return Graph(
        name=source.name,
        source=source,
        proto=proto,
        inputs=inputs,
        outputs=outputs,
        metadata={entry.key: entry.value for entry in proto.metadata_props},
        producers={output: node for node in proto.graph.node for output in node.output},
        constants={**dict(made), **{value.name: value for value in proto.graph.initializer}},
        shapes={},
        problems=[],
    )


def signature(proto: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs (without initializers) and outputs of a graph, in its own order. Sizes of -1 and 0 are free ones."""
    onnx = need("onnx")
    weights = {value.name for value in proto.graph.initializer}
    inputs = {value.name: _tensor(onnx, value) for value in proto.graph.input if value.name not in weights}
    outputs = {value.name: _tensor(onnx, value) for value in proto.graph.output}
    if any(None in tensor.shape[1:] or not tensor.shape for tensor in outputs.values()):
        for value in _inferred(proto, None).graph.output:
            tensor, declared = _tensor(onnx, value), outputs[value.name]
            if len(declared.shape) in (0, len(tensor.shape)):
                known = tuple(itertools.starmap(_first_known, itertools.zip_longest(declared.shape, tensor.shape)))
                outputs[value.name] = Tensor(tensor.dtype, known)
    return inputs, outputs


def find_input(graph: Graph) -> tuple[str, str]:
    """The image input and its layout; errors as for `find_image`."""
    image = find_image(graph)
    return image.name, image.layout


def find_image(graph: Graph) -> Image:
    """The one input of four dimensions that has 1 or 3 channels.

    A channel size that is free is read off the first convolution that the input reaches. Raises ValueError where there
    is no image or more than one, where nothing tells its channels, and for dtypes that pixels are not made.
    """
    name, inputs = graph.name, graph.inputs
    listing = ", ".join(f"{key} {dims(tensor.shape)}" for key, tensor in inputs.items()) or "none"
    four = {key: tensor for key, tensor in inputs.items() if len(tensor.shape) == 4}
    images = [image for key in four if (image := _as_image(graph, key)) is not None]
    if len(images) > 1:
        raise ValueError(f"{name}: the model must have one input that is an image, got {listing}")
    if not images:
        open_ones = [key for key, tensor in four.items() if None in (tensor.shape[1], tensor.shape[3])]
        if open_ones:
            raise ValueError(
                f"{name}: cannot tell the channels of the input {open_ones[0]} {dims(four[open_ones[0]].shape)}: "
                "neither a size of 1 or 3 nor a convolution that reads it names them"
            )
        raise ValueError(
            f"{name}: the model must have an image input, (N, C, H, W) or (N, H, W, C) with C = 3 or 1, got {listing}"
        )
    (image,) = images
    dtype = inputs[image.name].dtype
    if dtype not in IMAGE_DTYPES:
        *most, last = IMAGE_DTYPES
        raise ValueError(f"{name}: the input must have dtype {', '.join(most)} or {last}, got {dtype}")
    return image


def image_shape(graph: Graph, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The shape of the image input for pictures of (width, height) `size`, in the model's batch or else one of 1."""
    image = find_image(graph)
    batch, (width, height) = graph.inputs[image.name].shape[0] or 1, size
    if image.layout == "NHWC":
        return batch, height, width, image.channels
    return batch, image.channels, height, width


def shapes_at(graph: Graph, input_name: str, input_shape: Sequence[int]) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the outputs for an input of this shape: inferred, or else those of a run on zeros.

    The model is run where inference leaves open a size of what may be a head. Shapes that the model declares are taken
    only where neither says anything. Where onnxruntime cannot run the model, sizes that stay open are None, and where
    no output that may be a head is known, its words are added to the graph's `problems`.
    """
    wanted = tuple(input_shape)
    if wanted not in graph.shapes:
        graph.shapes[wanted] = _shapes_at(graph, input_name, wanted)
    return dict(graph.shapes[wanted])


def _shapes_at(graph: Graph, input_name: str, input_shape: tuple[int, ...]) -> dict[str, tuple[int | None, ...]]:
    inferred = _inferred_shapes(graph, input_name, input_shape)
    shapes: dict[str, tuple[int | None, ...]] = {}
    in_doubt = False
    for name, tensor in graph.outputs.items():
        seen, declared = inferred.get(name), tensor.shape
        in_doubt |= seen is None or _is_open(seen)
        if seen is not None and len(seen) == len(declared):
            seen = tuple(map(_first_known, seen, declared))
        shapes[name] = declared if seen is None else seen
    if in_doubt:
        try:
            return _shapes_of_a_run(graph, input_name, input_shape)
        except RuntimeError as error:
            if all(len(shape) not in _RANKS or _is_open(shape) for shape in shapes.values()):
                graph.problems.append(str(error))
    return shapes


def _shapes_of_a_run(graph: Graph, input_name: str, input_shape: tuple[int, ...]) -> dict[str, tuple[int | None, ...]]:
    onnxruntime = need("onnxruntime")
    options, run_options = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
    options.log_severity_level = run_options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # one run is not worth it
    session = open_session(graph, options, ["CPUExecutionProvider"])
    feeds = {}
    if not all(_element_type(graph, name) for name in graph.inputs):
        raise RuntimeError(f"{graph.name}: the model has an input that is no tensor")
    for name, tensor in graph.inputs.items():
        sizes = [size or (1 if axis else input_shape[0]) for axis, size in enumerate(tensor.shape)]
        dtype = need("onnx").helper.tensor_dtype_to_np_dtype(_element_type(graph, name))
        feeds[name] = np.zeros(input_shape if name == input_name else sizes, dtype)
    try:
        results = session.run(list(graph.outputs), feeds, run_options)
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise RuntimeError(
            f"{graph.name}: onnxruntime cannot run the model on zeros of {dims(input_shape)}, which would tell the "
            f"sizes of its outputs: {one_line(error)}"
        ) from error
    return {name: tuple(getattr(result, "shape", ())) for name, result in zip(graph.outputs, results)}


def open_session(graph: Graph, options: Any, providers: Sequence[Any]) -> Any:
    """The model in onnxruntime. RuntimeError, in its words and on one line, where it cannot load it."""
    onnxruntime = need("onnxruntime")
    model = graph.source.data
    zeros = [value for value in (*graph.proto.graph.input, *graph.proto.graph.output) if _has_zero_size(value)]
    if zeros:  # onnxruntime takes a size of 0 at its word
        model = _without_zero_sizes(graph.proto)
        if graph.source.folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", graph.source.folder
            )
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise RuntimeError(f"{graph.name}: onnxruntime cannot load the model: {one_line(error)}") from error


def find_stride(
    graph: Graph, input_name: str, input_layout: str, size: tuple[int, int], output: str, layout: str | None
) -> tuple[int | None, str]:
    """Input pixels per cell of an output, for an input of (width, height) `size`, and how that is known."""
    if layout is None:
        return None, "known when it runs"
    width, height = size
    found = shapes_at(graph, input_name, image_shape(graph, size))[output]
    declared = _tensor(need("onnx"), {value.name: value for value in graph.proto.graph.output}[output]).shape
    for candidate in (found, declared):
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


def arithmetic_on_pixels(graph: Graph, input_name: str) -> list[Any]:
    """Nodes of arithmetic on its input, before the first layer, of a graph; it may normalize the pixels itself."""
    reached, found = {input_name}, []
    for node in graph.proto.graph.node:
        if not reached & {*node.input}:
            continue
        if node.op_type in (*_KEEPS_LOGITS, "BatchNormalization"):
            found.append(node)
        elif node.op_type not in (*_TRANSPARENT, "Gather"):
            break
        reached |= {*node.output}
    return found


def through_arithmetic(graph: Graph, nodes: Sequence[Any], values: Any) -> Any | None:
    """What (n, channels) values of the input become in such nodes; None where that is not known, as of what normalizes
    whatever it gets (BatchNormalization)."""
    for node in nodes:
        names = [name for name in node.input if name in graph.constants]
        constants = [_array(graph, name).astype(np.float64).reshape(-1) for name in names]
        if any(constant.size not in (1, values.shape[1]) for constant in constants):
            return None
        if len(constants) == 1 and node.op_type in _ARITHMETIC:
            pair = [constants[0] if name == names[0] else values for name in node.input]
            with np.errstate(all="ignore"):
                values = _ARITHMETIC[node.op_type](*pair)
        else:
            return None
    return values


def find_quantization(graph: Graph, heads: Mapping[str, str], required: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Scale and zero point of 8-bit heads, from the QuantizeLinear node that makes them.

    A head whose scale cannot be read is left out where it is not `required`.
    """
    found = {}
    for head, output in heads.items():
        dtype = graph.outputs[output].dtype
        if dtype not in ("uint8", "int8"):
            continue
        node, passed = graph.producers.get(output), {output}
        while node is not None and node.op_type in ("Transpose", "Identity", "Reshape"):
            node = None if node.input[0] in passed else graph.producers.get(node.input[0])
            passed.update(node.output if node is not None else ())
        scale = _scale(graph, node) if node is not None and node.op_type == "QuantizeLinear" else None
        if scale is not None:
            found[head] = scale
        elif head in required:
            raise ValueError(f"{graph.name}: cannot read the scale of the {dtype} output {output}")
    return found


def input_scale(graph: Graph, name: str) -> tuple[float, int] | None:
    """Scale and zero point of the DequantizeLinear that an input goes to; None where it goes elsewhere."""
    readers = [node for node in graph.proto.graph.node if name in node.input]
    found = {_scale(graph, node) if node.op_type == "DequantizeLinear" else None for node in readers}
    return found.pop() if len(found) == 1 else None


def _scale(graph: Graph, node: Any) -> tuple[float, int] | None:
    """Scale and zero point of a node that quantizes or dequantizes a whole tensor by constants."""
    names = [value for value in node.input[1:3] if value]
    constants = graph.constants
    if not names or any(value not in constants or list(constants[value].dims) not in ([], [1]) for value in names):
        return None
    scale, *zero = (_array(graph, value).reshape(()) for value in names)
    return float(scale), int(zero[0]) if zero else 0


def _array(graph: Graph, value: str) -> Any:
    """A constant of the graph, out of external data where it lies there."""
    onnx = need("onnx")
    tensor = graph.constants[value]
    if not is_external(tensor):
        return onnx.numpy_helper.to_array(tensor)
    try:
        return onnx.numpy_helper.to_array(tensor, graph.source.folder or "")
    except (onnx.checker.ValidationError, ValueError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{graph.name}: cannot read {value} from the external data file {location_of(tensor)}: {one_line(error)}"
        ) from error


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def dims(shape: Sequence[int | None]) -> str:
    """A shape for people to read."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def channel_axis(layout: str | None) -> int:
    return 3 if layout == "NHWC" else 1


def width_height(shape: Sequence[Any], layout: str) -> tuple[Any, Any]:
    return (shape[2], shape[1]) if layout == "NHWC" else (shape[3], shape[2])


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
                weights = node.input[_WEIGHTS[node.op_type]]
                maker = graph.producers.get(weights)
                if maker is not None and maker.op_type == "DequantizeLinear":
                    weights = maker.input[0]
                if weights in graph.constants and len(graph.constants[weights].dims) == 4:
                    groups = next((one.i for one in node.attribute if one.name == "group"), 1)
                    return "NHWC" if moved else "NCHW", int(graph.constants[weights].dims[1]) * groups
            elif node.op_type in _KEEPS_CHANNELS:
                waiting.append((node.output[0], moved))
            elif node.op_type == "Transpose" and not moved:
                order = next((list(one.ints) for one in node.attribute if one.name == "perm"), [])
                if order == [0, 3, 1, 2]:
                    waiting.append((node.output[0], True))
    return None, None


def _tensor(onnx: Any, value: Any) -> Tensor:
    kind = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    sizes = tuple(int(dim.dim_value) if dim.dim_value > 0 else None for dim in kind.shape.dim)
    return Tensor({"float": "float32", "double": "float64"}.get(dtype, dtype), sizes)


def _element_type(graph: Graph, name: str) -> int:
    return next(int(value.type.tensor_type.elem_type) for value in graph.proto.graph.input if value.name == name)


def _first_known(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


def _is_open(shape: Sequence[int | None]) -> bool:
    """Whether a size is not known, beside the batch, of what may be a head."""
    return len(shape) in _RANKS and None in shape[1:]


def _has_zero_size(value: Any) -> bool:
    return any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in value.type.tensor_type.shape.dim)


def _without_zero_sizes(proto: Any) -> bytes:
    copy = need("onnx").ModelProto()
    copy.CopyFrom(proto)
    _free(copy.graph)
    data: bytes = copy.SerializeToString()
    return data


def _free(graph: Any) -> None:
    """Make sizes that are written as -1 or 0 free ones."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.Clear()


def _inferred(proto: Any, input_shape: tuple[str, Sequence[int]] | None) -> Any:
    """A copy of the model with output shapes inferred, at the given input shape when there is one."""
    onnx = need("onnx")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    _free(copy.graph)
    if input_shape is not None:
        name, shape = input_shape
        (value,) = (value for value in copy.graph.input if value.name == name)
        for dim, size in zip(value.type.tensor_type.shape.dim, shape):
            dim.dim_value = size
        for output in copy.graph.output:
            output.type.tensor_type.ClearField("shape")
        del copy.graph.value_info[:]
    no_shapes = (  # a node that inference does not know or finds wrong, or more than 2 GB
        onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError,
        protobuf_error("EncodeError"),
    )  # fmt: skip
    try:
        return onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except no_shapes:
        return copy


def _inferred_shapes(
    graph: Graph, input_name: str, input_shape: Sequence[int]
) -> dict[str, tuple[int | None, ...] | None]:
    """None for an output of which not even the rank is known."""
    onnx = need("onnx")
    inferred = _inferred(graph.proto, (input_name, input_shape))
    return {
        value.name: _tensor(onnx, value).shape if value.type.tensor_type.HasField("shape") else None
        for value in inferred.graph.output
    }


def _only_operand(node: Any, producers: Mapping[str, Any], constants: set[str]) -> str | None:
    """The one operand that is not a constant; it must come first where order matters."""

    def constant(value: str) -> bool:
        return value in constants or (value in producers and producers[value].op_type == "Constant")

    values = [value for value in node.input if not constant(value)]
    in_order = node.op_type in ("Add", "Mul") or values[:1] == list(node.input[:1])
    return values[0] if len(values) == 1 and in_order else None
