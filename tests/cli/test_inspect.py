"""`posepost inspect`, line by line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')


from posepost import cli

from ..onnx_models import failing_model, network
from .commands import complaints


def test_inspect_of_a_posenet_model(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", model, "--mean", "128", "--std", "1,2,3"]) == 0
    assert capsys.readouterr().out == (
        f"model            {model}\n"
        "input            picture float32 (1, 3, any, any)\n"
        "output           heatmaps float32 (1, 17, any, any)\n"
        "output           offsets float32 (1, 34, any, any)\n"
        "heatmaps         heatmaps\n"
        "offsets          offsets\n"
        "displacement_fwd not recognized (not needed for one person)\n"
        "displacement_bwd not recognized (not needed for one person)\n"
        "found            by shape\n"
        "for              offsets has twice the channels of heatmaps on the same grid\n"
        "for              heatmaps and offsets are named so\n"
        "layout           input NCHW, outputs NCHW\n"
        "size             any x any (width x height), usually 481 x 353\n"
        "stride           8 (481x353 becomes 61x45)\n"
        "heatmaps are     logits (made by Conv)\n"
        "input is         (pixel - 128) / (1, 2, 3), RGB (given)\n"
        "keypoints        17: nose, left_eye, right_eye, left_ear, right_ear, left_shoulder, right_shoulder, "
        "left_elbow, right_elbow, left_wrist, right_wrist, left_hip, right_hip, left_knee, right_knee, "
        "left_ankle, right_ankle\n"
        "names are        coco (PoseNet's)\n"
    )


def test_inspect_needs_no_onnxruntime_and_takes_models_that_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failing.onnx"
    path.write_bytes(failing_model())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert cli.main(["inspect", str(path), "--heads", "heatmaps=h,offsets=o"]) == 0
    assert "heatmaps are     unknown (comes from 'picture', which no node makes)" in capsys.readouterr().out


def test_inspect_of_heatmaps_and_simcc(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "heatmap.onnx", "--preset", "mmpose_dark"]) == 0
    assert capsys.readouterr().out == (
        "model            heatmap.onnx\n"
        "input            picture float32 (any, 3, 64, 48)\n"
        "output           heatmaps float32 (any, 3, 16, 12)\n"
        "head             heatmaps, one person a crop\n"
        "heatmaps         heatmaps\n"
        "found            by shape\n"
        "for              heatmaps is smaller than the input by 4\n"
        "layout           input NCHW, outputs NCHW\n"
        "size             48 x 64 (width x height)\n"
        "maps             12 x 16 (width x height), input pixels a cell: 4\n"
        "preset           mmpose_dark (given)\n"
        "outputs are      scores (preset mmpose_dark)\n"
        "input is         (pixel - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375), RGB (default, but the graph "
        "itself begins with Mul and Add of the pixels)\n"
        "keypoints        3\n"
        "names are        unknown: no scheme has 3 keypoints; give --keypoints\n"
    )
    assert cli.main(["inspect", "simcc.onnx", "--mean", "0", "--std", "1"]) == 0
    assert capsys.readouterr().out == (
        "model            simcc.onnx\n"
        "input            picture float32 (any, 3, 64, 48)\n"
        "output           simcc_x float32 (any, 3, 96)\n"
        "output           simcc_y float32 (any, 3, 128)\n"
        "head             SimCC, one person a crop\n"
        "simcc_x          simcc_x\n"
        "simcc_y          simcc_y\n"
        "found            by shape\n"
        "for              simcc_x and simcc_y have as many bins a pixel in width and height\n"
        "layout           input NCHW\n"
        "size             48 x 64 (width x height)\n"
        "bins             96 along x, 128 along y, split ratio: 2\n"
        "preset           rtmpose (default)\n"
        "outputs are      scores (preset rtmpose)\n"
        "input is         (pixel - 0) / 1, RGB (given)\n"
        "keypoints        3\n"
        "names are        unknown: no scheme has 3 keypoints; give --keypoints\n"
    )
    assert cli.main(["inspect", "posenet.onnx", "--preset", "hrnet"]) == 2
    assert complaints(capsys) == [
        "posepost: --preset is for models with heatmaps alone or SimCC heads, got posenet.onnx with PoseNet heads"
    ]
    assert cli.main(["inspect", "simcc.onnx", "--stride", "4"]) == 2
    assert complaints(capsys) == [
        "posepost: --stride is for models with PoseNet heads, got simcc.onnx with SimCC heads"
    ]


def test_inspect_of_free_sizes_and_8_bits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "free.onnx").write_bytes(network(size=(None, None), dtype="uint8"))
    assert cli.main(["inspect", "free.onnx"]) == 0
    out = capsys.readouterr().out
    assert "size             any x any (width x height), usually 192 x 256\n" in out
    assert "maps             48 x 64 (width x height), input pixels a cell: 4\n" in out
    assert "quantized        heatmaps: scale 0.005, zero 0\n" in out
