"""Models and photographs on disk for the commands; what needs onnx or Pillow is imported when it is used."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def model(tmp_path: Path) -> str:
    from ..onnx_models import build

    path = tmp_path / "model.onnx"
    path.write_bytes(build(size=(None, None)))
    return str(path)


@pytest.fixture
def four(tmp_path: Path) -> str:
    """A model with displacement heads that sees people in noise."""
    from ..onnx_models import FOUR, build

    path = tmp_path / "four.onnx"
    path.write_bytes(build(FOUR, metadata={"posepost.input_size": "49,33", "posepost.std": "30"}, size=(None, None)))
    return str(path)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    from .commands import picture

    return picture(tmp_path / "photo.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in: heatmap.onnx, simcc.onnx, coco.onnx, posenet.onnx, photo.png and other.png."""
    from ..dots import BOXES, PAIR, dots_in, photograph
    from ..onnx_models import COCO, build, network

    monkeypatch.chdir(tmp_path)
    for kind in ("heatmap", "simcc"):
        (tmp_path / f"{kind}.onnx").write_bytes(network(kind))
    (tmp_path / "coco.onnx").write_bytes(network(channels=COCO))
    (tmp_path / "posenet.onnx").write_bytes(build())
    photograph(dots_in(PAIR[0]) + dots_in(PAIR[1])).save("photo.png")
    photograph(dots_in(BOXES["wide"]), spread=4).save("other.png")
    return tmp_path
