"""`posepost warmup` compiles the kernels that a model needs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')


from posepost import _cuda, _kernels, cli
from posepost.cli import warmup

from ..onnx_models import network


def test_warmup_compiles_what_a_model_needs(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All kernels for its heads in the heatmaps' type, or, without a model, all; nothing where no GPU answers."""
    asked: list[_kernels.Variant] = []
    monkeypatch.setattr(_cuda, "kernel", asked.append)
    monkeypatch.setattr(warmup, "cupy_problem", lambda: None)
    assert cli.main(["warmup", model]) == 0
    sources = ("posenet.cu", "posenet_multi.cu", "peaks.cu")
    assert asked == [v for v in _kernels.VARIANTS if v.source in sources and ("ELEMENT", "f32") in v.defines]
    assert len(capsys.readouterr().out.splitlines()) == len(asked) == 7
    of_type = len(asked)
    assert cli.main(["warmup"]) == 0
    assert tuple(asked[of_type:]) == _kernels.VARIANTS
    monkeypatch.setattr(warmup, "cupy_problem", lambda: "CuPy sees no CUDA device")
    capsys.readouterr()
    assert cli.main(["warmup"]) == 0
    words = "nothing to compile: CuPy sees no CUDA device; the NumPy implementation needs no compiling\n"
    assert capsys.readouterr().out == words
    assert len(asked) == of_type + len(_kernels.VARIANTS)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(("kind", "sources"), [("heatmap", {"heatmap.cu", "peaks.cu"}), ("simcc", {"simcc.cu"})])
def test_warmup_compiles_what_a_topdown_session_launches(
    kind: str, sources: set[str], dtype: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[_kernels.Variant] = []
    monkeypatch.setattr(_cuda, "kernel", asked.append)
    monkeypatch.setattr(warmup, "cupy_problem", lambda: None)
    (folder / "model.onnx").write_bytes(network(kind, dtype=dtype))
    assert cli.main(["warmup", "model.onnx"]) == 0
    element = ("ELEMENT", _kernels.ELEMENTS[dtype])
    assert asked == [one for one in _kernels.VARIANTS if one.source in sources and element in one.defines]
    assert {one.source for one in asked} == sources
    assert len(capsys.readouterr().out.splitlines()) == len(asked)
