"""Graphs that break the rules of ONNX: one line each, in our words, where some were tracebacks or Python's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from posepost import cli

from ..onnx_models import build
from .commands import complaints

DTYPES = "float32, float16, float64, uint8, int8, int32 or int64"


def constant_of_nothing(graph: onnx.GraphProto) -> None:
    """IndexError."""
    graph.node.append(helper.make_node("Constant", [], [], value=numpy_helper.from_array(np.zeros(1))))
    graph.input[0].type.tensor_type.elem_type = TensorProto.BOOL


def convolutions_without_weights(graph: onnx.GraphProto) -> None:
    """IndexError."""
    graph.input[0].type.tensor_type.shape.dim[1].Clear()
    for node in graph.node:
        del node.input[1:]


def transpose_to_nothing(graph: onnx.GraphProto) -> None:
    """IndexError."""
    graph.input[0].type.tensor_type.shape.dim[1].Clear()
    del graph.node[:]
    graph.node.append(helper.make_node("Transpose", ["picture"], [], perm=[0, 3, 1, 2]))


def no_such_dtype(graph: onnx.GraphProto) -> None:
    """Enum DataType has no name defined."""
    graph.input[0].type.tensor_type.elem_type = 99


def scale_of_no_dtype(graph: onnx.GraphProto) -> None:
    """KeyError."""
    next(one for one in graph.initializer if one.name == "scale0").data_type = 99


def endless_scale(graph: onnx.GraphProto) -> None:
    """Taken as it was."""
    next(one for one in graph.initializer if one.name == "scale0").raw_data = b"\0\0\x80\x7f"


def quantized_out_of_nothing(graph: onnx.GraphProto) -> None:
    """IndexError."""
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            node.op_type = "Reshape"
            del node.input[:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (constant_of_nothing, f"the input must have dtype {DTYPES}, got bool"),
        (convolutions_without_weights, "cannot tell the channels of the input picture (1, any, 33, 49): neither a size "
         "of 1 or 3 nor a convolution that reads it names them"),
        (transpose_to_nothing, "cannot tell the channels of the input picture (1, any, 33, 49): neither a size of 1 or "
         "3 nor a convolution that reads it names them"),
        (no_such_dtype, f"the input must have dtype {DTYPES}, got type 99"),
        (scale_of_no_dtype, "cannot read scale0: 99"),
        (endless_scale, "cannot read scale0: it is inf"),
        (quantized_out_of_nothing, "cannot read the scale of the uint8 output heatmaps"),
    ],
)  # fmt: skip
def test_a_broken_graph_is_one_line(
    damage: Callable[[onnx.GraphProto], None],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    proto = onnx.load_from_string(build(dtype="uint8"))
    damage(proto.graph)
    Path("m.onnx").write_bytes(proto.SerializeToString())
    assert cli.main(["inspect", "m.onnx"]) == 2
    assert complaints(capsys) == [f"posepost: m.onnx: {message}"]


@pytest.mark.parametrize("text", [b"heatmaps", b"posepost.mean", b"127.5"])
def test_text_that_is_no_utf_8_is_no_model(text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build(metadata={"posepost.mean": "127.5"})
    (tmp_path / "m.onnx").write_bytes(model.replace(text, b"\xff" + text[1:]))
    assert cli.main(["inspect", str(tmp_path / "m.onnx")]) == 2
    message = "not an ONNX model, or one that is cut short"
    assert complaints(capsys) == [f"posepost: {tmp_path / 'm.onnx'}: {message}"]


def test_two_inputs_of_one_name_were_too_many_values_to_unpack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load_from_string(build(size=(None, None)))
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert cli.main(["run", str(path), "none.png", "-o", str(tmp_path / "o")]) == 2
    (line,) = complaints(capsys)
    assert line.startswith(f"posepost: {path}: onnxruntime cannot load the model: ")
