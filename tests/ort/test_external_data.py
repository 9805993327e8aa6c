"""Where a model comes from: a path, bytes, files, onnx's own, and external data beside it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnx
from onnx import helper, numpy_helper

from posepost import cli, ort
from posepost.ort import _source
from posepost.ort._graph import read_graph

from ..onnx_models import CPU, build, exactly, network, pixels, spread_out

SCALES = {"heatmaps": (pytest.approx(0.05), 100), "offsets": (pytest.approx(0.05), 101)}


@pytest.fixture
def quantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """models/q.onnx of 8-bit heads, all its constants in models/w.bin, from the directory above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    spread_out(onnx.load_from_string(build(dtype="uint8")), "models/q.onnx")
    return "models/q.onnx"


def test_the_scale_of_external_data_is_read_beside_the_model_wherever_the_command_runs(
    quantized: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the same name in the current directory was read."""
    Path("w.bin").write_bytes(b"\0\0\0\x40" * 5000)
    images = pixels(ort.PoseSession(build(dtype="uint8")))
    plain = ort.PoseSession(build(dtype="uint8")).run(images)
    for path in (quantized, Path(quantized), os.path.abspath(quantized)):
        session = ort.PoseSession(path)
        assert session.model.quantization == SCALES
        assert session.run(images) == plain
    monkeypatch.chdir("models")
    assert ort.read_model("q.onnx").quantization == SCALES


def test_external_data_of_a_model_whose_sizes_are_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the model goes to onnxruntime as bytes, which by themselves have no folder."""
    proto = onnx.load_from_string(build())
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    spread_out(proto, tmp_path / "m.onnx")
    monkeypatch.chdir("/")
    session = ort.PoseSession(tmp_path / "m.onnx")
    assert session.run(pixels(session, batch=2)).keypoints.shape == (2, 17, 2)


def test_a_missing_file_of_external_data_is_named(quantized: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("models/w.bin").rename("w.bin")
    message = "models/q.onnx: its external data file models/w.bin is missing"
    for read in (ort.recognize, ort.read_model, ort.read_topdown, ort.PoseSession, ort.TopDownSession):
        with pytest.raises(FileNotFoundError, match=exactly(message)):
            read(quantized)
    assert cli.main(["inspect", quantized]) == 2
    assert capsys.readouterr().err == f"posepost: {message}\n"


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "sub/../../w.bin", ""])
def test_external_data_that_leaves_the_folder_is_refused(quantized: str, location: str) -> None:
    proto = onnx.load(quantized, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    Path(quantized).write_bytes(proto.SerializeToString())
    Path("w.bin").write_bytes(bytes(5000))
    message = f"models/q.onnx: its external data file must lie in the model's folder, got {location!r}"
    with pytest.raises(ValueError, match=exactly(message)):
        ort.read_model(quantized)


def test_a_scale_beyond_the_end_of_its_file_is_one_line(quantized: str) -> None:
    Path("models/w.bin").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"\Amodels/q\.onnx: cannot read scale0 from the external data file w\.bin: "
    ) as caught:
        ort.read_model(quantized)
    assert "\n" not in str(caught.value)


def test_external_data_in_attributes_and_subgraphs_is_looked_for(tmp_path: Path) -> None:
    hidden = numpy_helper.from_array(np.zeros(3, np.float32), "c")
    onnx.external_data_helper.set_external_data(hidden, "deep.bin")
    hidden.ClearField("raw_data")
    hidden.data_location = onnx.TensorProto.EXTERNAL
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=hidden)], "b", [], [])
    proto = onnx.load_from_string(build())
    proto.graph.node.append(helper.make_node("If", ["unknown"], ["unused"], then_branch=branch, else_branch=branch))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    message = f"{path}: its external data file {tmp_path / 'deep.bin'} is missing"
    with pytest.raises(FileNotFoundError, match=exactly(message)):
        ort.read_model(path)


@pytest.mark.parametrize("how", ["bytes", "proto", "file"])
def test_a_model_in_memory_with_external_data_asks_for_the_path(quantized: str, how: str) -> None:
    data = Path(quantized).read_bytes()
    given: Any = {"bytes": data, "proto": onnx.load_from_string(data), "file": io.BytesIO(data)}[how]
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: its external data file w.bin is looked for beside the model's file: give the path of the model"
        ),
    ):
        ort.PoseSession(given)
    assert ort.PoseSession(onnx.load(quantized)).model.quantization == SCALES  # with the data in it


@pytest.mark.parametrize("session", [ort.PoseSession, ort.TopDownSession])
def test_models_are_taken_however_they_are_had(session: Any, tmp_path: Path) -> None:
    data = build() if session is ort.PoseSession else network()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    proto = onnx.load_from_string(data)
    before = proto.SerializeToString(deterministic=True)
    expected = session(data)
    images = np.random.default_rng(1).normal(size=(1, 3, 64, 48)).astype(np.float32)
    if session is ort.PoseSession:
        images = pixels(expected)
    result = expected.run(images)
    with open(path, "rb") as file:
        for model in (str(path), path, bytearray(data), memoryview(data), io.BytesIO(data), proto, file):
            made = session(model)
            assert made.run(images) == result
            assert made.model.name == (str(path) if model in (str(path), path) else "model")
            assert ort.recognize(model).heads == expected.model.heads
            read = ort.read_model if session is ort.PoseSession else ort.read_topdown
            assert read(model).heads == expected.model.heads
    assert proto.SerializeToString(deterministic=True) == before


def test_a_file_is_read_from_where_it_stands_and_left_there() -> None:
    data = build()
    behind = io.BytesIO(b"header" + data)
    behind.seek(6)
    for _ in range(2):
        assert ort.read_model(behind).keypoints
        assert behind.tell() == 6
    written = io.BytesIO()
    written.write(data)  # it stands at its end, as after torch.onnx.export
    assert ort.read_model(written).keypoints
    assert written.tell() == len(data)

    class Pipe(io.RawIOBase):
        def read(self, *_: Any) -> bytes:
            return data

    assert ort.read_model(Pipe()).keypoints


@pytest.mark.parametrize(
    ("model", "got"),
    [(7, "int"), (None, "NoneType"), ([b"x"], "list"), (io.StringIO("text"), "StringIO"), ({}, "dict")],
)
def test_what_is_no_model(model: Any, got: str) -> None:
    for read in (ort.PoseSession, ort.TopDownSession, ort.recognize, ort.read_model, ort.read_topdown, ort.load_proto):
        with pytest.raises(
            TypeError, match=exactly(f"model must be a path, bytes, a binary file or an onnx.ModelProto, got {got}")
        ):
            read(model)


@pytest.mark.parametrize("how", ["bytes", "proto", "path"])
def test_a_model_above_2_gb_says_what_to_do(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    monkeypatch.setattr(_source, "MOST_BYTES", len(data) - 1)
    given: Any = {"bytes": data, "proto": onnx.load_from_string(data), "path": path}[how]
    with pytest.raises(
        ValueError,
        match=exactly(
            f"{path if how == 'path' else 'model'}: a model above 2 GB must have its weights in external data: save it "
            "with onnx.save_model(..., save_as_external_data=True) and give the path"
        ),
    ):
        ort.PoseSession(given)


def test_a_session_parses_its_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    real = _source.load_proto
    monkeypatch.setattr("posepost.ort._graph.load_proto", lambda model: parsed.append(1) or real(model))
    ort.TopDownSession(network(hide=True), providers=[CPU])
    ort.PoseSession(build())
    assert len(parsed) == 2
    once = read_graph(network())
    assert ort.recognize(once).kind == ort.TopDownSession(once).model.kind == "heatmap"
    assert len(parsed) == 3
