"""What a graph declares of its inputs and outputs, and what onnx infers of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ._source import need, protobuf_error

LAYOUTS = ("NCHW", "NHWC")

Shapes = Mapping[str, "tuple[int | None, ...]"]
"""Of inputs or outputs, by name; None marks a size that is free."""


class Tensor(NamedTuple):
    """An input or output as the graph declares it; None marks a size that is free."""

    dtype: str
    shape: tuple[int | None, ...]


def tensor_of(value: Any) -> Tensor:
    """An input or output as it is declared. Sizes of -1 and 0 are free ones."""
    kind = value.type.tensor_type
    try:
        dtype = need("onnx").TensorProto.DataType.Name(kind.elem_type).lower()
    except ValueError:
        dtype = f"type {kind.elem_type}"
    sizes = tuple(int(dim.dim_value) if dim.dim_value > 0 else None for dim in kind.shape.dim)
    return Tensor({"float": "float32", "double": "float64"}.get(dtype, dtype), sizes)


def inferred(proto: Any, input_shape: tuple[str, Sequence[int]] | None) -> Any:
    """A copy of the model with output shapes inferred, at the given input shape when there is one."""
    onnx = need("onnx")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    free_sizes(copy.graph)
    if input_shape is not None:
        name, shape = input_shape
        for value in copy.graph.input:
            for dim, size in zip(value.type.tensor_type.shape.dim, shape if value.name == name else ()):
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


def free_sizes(graph: Any) -> None:
    """Make sizes that are written as -1 or 0 free ones."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.Clear()


def first_known(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


def dims(shape: Sequence[int | None]) -> str:
    """A shape for people to read."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def said(shapes: Shapes, *names: str) -> str:
    """Inputs or outputs with their shapes, for people to read."""
    return " and ".join(f"{name} {dims(shapes[name])}" for name in names)


def listing(shapes: Shapes) -> str:
    return ", ".join(said(shapes, name) for name in shapes)


def channel_axis(layout: str | None) -> int:
    return 3 if layout == "NHWC" else 1


def width_height(shape: Sequence[Any], layout: str) -> tuple[Any, Any]:
    return (shape[2], shape[1]) if layout == "NHWC" else (shape[3], shape[2])
