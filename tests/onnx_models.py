"""ONNX models made by the tests: PoseNet heads, top-down networks whose answers are known, graphs that fail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from posepost import ort
from posepost.schemes import SCHEMES

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
Layout = str
FOUR = {"heatmaps": 17, "offsets": 34, "displacement_fwd": 32, "displacement_bwd": 32}
SIZE = (64, 48)
KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
Channel = tuple[int, str]
"""What a keypoint looks for: a color (0 red, 1 green, 2 blue), in all of the crop (""), its "left" or "right" half."""

DOTS: tuple[Channel, ...] = ((0, ""), (1, ""), (2, ""))
SIDES: tuple[Channel, ...] = ((0, ""), (1, "left"), (1, "right"))
COCO: tuple[Channel, ...] = tuple(
    (1, "left" if name[0] == "l" else "right") if "_" in name else (0, "") for name in SCHEMES["coco"].keypoints
)


def build(
    heads: dict[str, int] | None = None,
    *,
    input_layout: Layout = "NCHW",
    layout: Layout = "NCHW",
    size: tuple[int | None, int | None] = (33, 49),
    batch: int | None = 1,
    stride: int = 8,
    tail: str = "",
    dtype: str = "float32",
    input_dtype: str = "float32",
    metadata: dict[str, str] | None = None,
    declare_maps: bool = True,
    hide_maps: bool = False,
) -> bytes:
    """An ONNX model: each output a 1x1 convolution of the picture with the given stride, `tail` after the heatmaps'."""
    heads = {"heatmaps": 17, "offsets": 34} if heads is None else heads
    rng = np.random.default_rng(5)
    nodes, weights, outputs = [], [], []

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    value = "picture"
    if input_layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [value], ["planar"], perm=[0, 3, 1, 2]))
        value = "planar"
    if input_dtype != "float32":
        nodes.append(helper.make_node("Cast", [value], ["widened"], to=TensorProto.FLOAT))
        value = "widened"
    for position, (name, channels) in enumerate(heads.items()):
        weight = constant(f"w{position}", rng.normal(size=(channels, 3, 1, 1)).astype(np.float32))
        steps: list[tuple[str, list[str], dict[str, Any]]] = [("Conv", [weight], {"strides": [stride, stride]})]
        if position == 0:
            table = {
                "add": ("Add", [constant("bias", np.float32(0.5))], {}),
                "quantize": ("QuantizeLinear", [constant("s", np.float32(0.1)), constant("z", np.uint8(7))], {}),
                "dequantize": ("DequantizeLinear", ["s", "z"], {}),
                "slice": ("Slice", [constant("from", np.array([0])), constant("to", np.array([99]))], {}),
            }
            steps += [table.get(step, (step, [], {})) for step in tail.split()]
        if layout == "NHWC":
            steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
        if dtype == "float16":
            steps.append(("Cast", [], {"to": TensorProto.FLOAT16}))
        if dtype == "uint8":
            extra = [
                constant(f"scale{position}", np.float32(0.05)),
                constant(f"zero{position}", np.uint8(100 + position)),
            ]
            steps.append(("QuantizeLinear", extra, {}))
        if hide_maps:  # shape inference does not see through this
            steps.append(("Reshape", [f"{name}.shape"], {}))
        current = value
        for number, (operator, extra, attributes) in enumerate(steps):
            target = name if number == len(steps) - 1 else f"{name}.{number}"
            if operator == "Reshape":
                nodes.append(helper.make_node("Shape", [current], [f"{extra[0]}.seen"]))
                nodes.append(helper.make_node("Abs", [f"{extra[0]}.seen"], extra))
            nodes.append(helper.make_node(operator, [current, *extra], [target], **attributes))
            current = target
        maps = ["rows", "columns"] if None in size else [-(-side // stride) for side in size]
        dims = [batch or "N", channels, *maps] if layout == "NCHW" else [batch or "N", *maps, channels]
        if hide_maps:
            dims = [f"{name}{axis}" for axis in "abcd"]
        kind = KINDS[dtype]
        outputs.append(helper.make_tensor_value_info(name, kind, dims if declare_maps else None))
    sides = [side or label for side, label in zip(size, ("H", "W"))]
    dims = [batch or "N", 3, *sides] if input_layout == "NCHW" else [batch or "N", *sides, 3]
    kind = KINDS[input_dtype]
    picture = helper.make_tensor_value_info("picture", kind, dims)
    graph = helper.make_graph(nodes, "test", [picture], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    if declare_maps:
        onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def pixels(session: ort.PoseSession, size: tuple[int, int] = (33, 49), batch: int = 1) -> np.ndarray[Any, Any]:
    shape = (batch, 3, *size) if session.model.input_layout == "NCHW" else (batch, *size, 3)
    return np.random.default_rng(1).normal(size=shape).astype(session.model.inputs["picture"].dtype)


def network(
    kind: str = "heatmap",
    channels: Sequence[Channel] = DOTS,
    *,
    size: tuple[int | None, int | None] = SIZE,
    batch: int | None = None,
    stride: int = 4,
    split: int = 2,
    layout: str = "NCHW",
    input_layout: str = "NCHW",
    dtype: str = "float32",
    input_dtype: str = "float32",
    offsets: bool = False,
    tail: str = "",
    names: tuple[str, ...] | None = None,
    metadata: dict[str, str] | None = None,
    hide: bool = False,
) -> bytes:
    """Heatmaps, blurred by 1.5 cells, whose cell j lies on pixel j * stride of the crop; or the largest of each column
    and row of the blurred crop, `split` bins a pixel, bin b on pixel b / split. offsets: two channels of 0 behind
    each."""
    nodes: list[Any] = []
    weights: list[Any] = []
    current = "picture"

    def step(operator: str, *constants: Any, to: str = "", **attributes: Any) -> str:
        nonlocal current
        inputs = [current]
        for value in constants:
            weights.append(numpy_helper.from_array(np.asarray(value), f"c{len(weights)}"))
            inputs.append(weights[-1].name)
        current = to or f"v{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [current], **attributes))
        return current

    if input_dtype != "float32":
        nodes.append(helper.make_node("Cast", [current], ["widened"], to=TensorProto.FLOAT))
        current = "widened"
    if input_layout == "NHWC":
        step("Transpose", perm=[0, 3, 1, 2])
    if input_dtype != "uint8":  # back to pixels
        step("Mul", np.reshape(np.float32(ort.IMAGENET_STD), (3, 1, 1)))
        step("Add", np.reshape(np.float32(ort.IMAGENET_MEAN), (3, 1, 1)))
    step("Mul", np.float32(1 / 255))
    pure = np.full((3, 3, 1, 1), -1, np.float32)
    pure[[0, 1, 2], [0, 1, 2]] = 1
    step("Conv", pure)  # a gray pixel is no color
    step("Relu")
    K, height, width = len(channels), size[0] or SIZE[0], size[1] or SIZE[1]
    pick = np.zeros((K, 3, 1, 1), np.float32)
    for k, (color, _) in enumerate(channels):
        pick[k, color] = 1
    step("Conv", pick)
    if any(side for _, side in channels):
        mask = np.ones((1, K, 1, width), np.float32)
        for k, (_, side) in enumerate(channels):
            mask[0, k, 0, width // 2 :] = side != "left"
            mask[0, k, 0, : width // 2] = side != "right"
        step("Mul", mask)
    cell = stride if kind == "heatmap" else 2
    reach = 4 * cell
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (1.5 * cell)) ** 2)
    blur = np.zeros((K, 1, 2 * reach + 1, 2 * reach + 1), np.float32)
    blur[:] = np.outer(bell, bell) / 20
    if kind == "heatmap":
        last = reach - stride + 1 if height % stride == 0 else reach
        step("Conv", blur, group=K, strides=[stride, stride], pads=[reach, reach, last, last])
    else:
        step("Conv", blur, group=K, pads=[reach] * 4)

    outputs = []
    names = names or (("heatmaps",) if kind == "heatmap" else ("simcc_x", "simcc_y"))
    blurred = current
    for name, axis in zip(names, (2, 3)):
        current = blurred
        if kind == "simcc":
            step("ReduceMax", axes=[axis], keepdims=0)
            pixels = (width, height)[axis - 2]
            place = np.arange(split * pixels) / split
            step("MatMul", np.maximum(0, 1 - np.abs(place - np.arange(pixels)[:, None])).astype(np.float32))
            dims: list[Any] = [batch or "N", K, split * pixels]
        else:
            dims = [batch or "N", K, *(side and -(-side // stride) for side in size)]
            if offsets:
                spread = np.zeros((3 * K, K, 1, 1), np.float32)
                spread[3 * np.arange(K), np.arange(K)] = 1
                step("Conv", spread)
                dims[1] *= 3
            if layout == "NHWC":
                step("Transpose", perm=[0, 2, 3, 1])
                dims = [dims[0], *dims[2:], dims[1]]
        for operator in tail.split():
            step(operator)
        if dtype == "float16":
            nodes.append(helper.make_node("Cast", [current], [f"{name}.half"], to=TensorProto.FLOAT16))
            current = f"{name}.half"
        if dtype == "uint8":
            step("QuantizeLinear", np.float32(1 / 200), np.uint8(0))
        if hide:  # shape inference does not see through this
            nodes.append(helper.make_node("Shape", [current], [f"{name}.seen"]))
            nodes.append(helper.make_node("Abs", [f"{name}.seen"], [f"{name}.shape"]))
            nodes.append(helper.make_node("Reshape", [current, f"{name}.shape"], [f"{name}.same"]))
            current = f"{name}.same"
            dims = [f"{name}{axis}" for axis in range(len(dims))]
        step("Identity", to=name)
        dims = [f"{name}{axis}" if side is None else side for axis, side in enumerate(dims)]
        outputs.append(helper.make_tensor_value_info(name, KINDS[dtype], dims))
    sides = [side or label for side, label in zip(size, ("H", "W"))]
    dims = [batch or "N", 3, *sides] if input_layout == "NCHW" else [batch or "N", *sides, 3]
    picture = helper.make_tensor_value_info("picture", KINDS[input_dtype], dims)
    made = helper.make_graph(nodes, "test", [picture], outputs, weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def outputs_only(
    shapes: dict[str, tuple[Any, ...]],
    size: tuple[Any, Any] = (256, 192),
    dtype: str = "float32",
    metadata: dict[str, str] | None = None,
) -> bytes:
    """A graph with these outputs, which nothing makes: enough to be read."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["N", 3, *size])
    kind = {**KINDS, "float64": TensorProto.DOUBLE}[dtype]
    outputs = [helper.make_tensor_value_info(name, kind, ["N", *shape]) for name, shape in shapes.items()]
    return graph([picture], [helper.make_node("Mystery", ["picture"], list(shapes))], outputs, metadata)


def graph(inputs: list[Any], nodes: list[Any], outputs: list[Any], metadata: dict[str, str] | None = None) -> bytes:
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    helper.set_model_props(model, metadata or {})
    data: bytes = model.SerializeToString()
    return data


def failing_model() -> bytes:
    """Loads, and fails while running: a Reshape to a size that is not there."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, "H", "W"])
    value = helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, 17, 5, 7])))
    wide = helper.make_node("Constant", [], ["wide"], value=numpy_helper.from_array(np.array([1, 34, 5, 7])))
    nodes = [
        value,
        wide,
        *(helper.make_node("Reshape", ["picture", s], [o]) for s, o in (("shape", "h"), ("wide", "o"))),
    ]
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, [1, c, 5, 7]) for o, c in (("h", 17), ("o", 34))]
    return graph([picture], nodes, outputs)


def exactly(message: str) -> str:
    """The pattern that matches this text and no other."""
    return rf"\A{re.escape(message)}\Z"


def seen_network(
    shape: Sequence[int | str],
    kind: int = TensorProto.FLOAT,
    *,
    layout: Layout = "NCHW",
    dequantize: tuple[float, int] | None = None,
    metadata: dict[str, str] | None = None,
    besides: dict[str, tuple[int, list[int | str]]] | None = None,
    joints: int = 5,
) -> onnx.ModelProto:
    """Heatmaps a quarter of the size of the input: keypoint k is channel k modulo the channels, averaged over each
    cell, and each input besides the image is added to them. What the network is fed can be read off its heatmaps."""
    nhwc = layout == "NHWC"
    channels = shape[3 if nhwc else 1]
    count = channels if isinstance(channels, int) and channels > 0 else 3
    pick = np.zeros((joints, count, 1, 1), np.float32)
    pick[np.arange(joints), np.arange(joints) % count] = 1
    weights, nodes, current = [numpy_helper.from_array(pick, "pick")], [], "x"

    def step(operator: str, *inputs: str, **attributes: Any) -> None:
        nonlocal current
        nodes.append(helper.make_node(operator, [current, *inputs], [f"v{len(nodes)}"], **attributes))
        current = f"v{len(nodes) - 1}"

    if dequantize is not None:
        zero = np.asarray(dequantize[1], helper.tensor_dtype_to_np_dtype(kind))
        weights += [numpy_helper.from_array(np.float32(dequantize[0]), "s"), numpy_helper.from_array(zero, "z")]
        step("DequantizeLinear", "s", "z")
    elif kind != TensorProto.FLOAT:
        step("Cast", to=TensorProto.FLOAT)
    if nhwc:
        step("Transpose", perm=[0, 3, 1, 2])
    step("AveragePool", kernel_shape=[4, 4], strides=[4, 4])
    step("Conv", "pick")
    values = [helper.make_tensor_value_info("x", kind, list(shape))]
    for name, (other, sizes) in (besides or {}).items():
        values.append(helper.make_tensor_value_info(name, other, sizes))
        nodes.append(helper.make_node("Cast", [name], [f"{name}.real"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Reshape", [f"{name}.real", "column"], [f"{name}.column"]))
        step("Add", f"{name}.column")
    if besides:
        weights.append(numpy_helper.from_array(np.array([-1, 1, 1, 1]), "column"))
    sides = list(shape[1:3] if nhwc else shape[2:])
    maps = [side // 4 if isinstance(side, int) and side > 0 else f"{number}" for number, side in enumerate(sides)]
    step("Identity")
    nodes[-1].output[0] = "hm"
    output = helper.make_tensor_value_info("hm", TensorProto.FLOAT, [shape[0], joints, *maps])
    made = helper.make_graph(nodes, "seen", values, [output], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    return model


def spread_out(model: onnx.ModelProto, path: Any, location: str = "w.bin") -> None:
    """Save a model with all its constants in external data."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, path, save_as_external_data=True, location=location, size_threshold=0)
