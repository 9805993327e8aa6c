"""`posepost run` with real models on photographs writes tfjs PoseNet's own poses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from posepost import cli
from posepost._image import as_image, letterbox

from ..real_models import (
    PHOTOGRAPHS,
    PIXELS,
    POSENET,
    POSENET_NCHW,
    SCORES,
    golden,
)


@pytest.mark.parametrize("model", [POSENET, POSENET_NCHW])
def test_run_on_every_photograph_gives_the_golden_poses(
    model: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [str(shared / "images" / name) for name in PHOTOGRAPHS.values()]
    arguments = ["run", str(shared / "models" / model), *images, "--mean", "128", "--std", "128", "-o", str(tmp_path)]
    assert cli.main([*arguments, "--people", "one"]) == 0
    assert capsys.readouterr().err == ""
    for photograph, name in PHOTOGRAPHS.items():
        document = json.loads((tmp_path / f"{Path(name).stem}.json").read_text())
        expected = golden(f"real_posenet075_s16_353x481_{photograph}")
        _, transform = letterbox(as_image(shared / "images" / name), (481, 353))
        joints = [(joint["x"], joint["y"], joint["score"]) for joint in document["poses"][0]["keypoints"]]
        found = np.array(joints)
        mapped = expected[:, :2] * np.diag(transform[:, :2]) + transform[:, 2]
        assert np.abs(found[:, :2] - mapped).max() <= PIXELS * transform[0, 0] + 1e-3
        assert np.abs(found[:, 2] - expected[:, 2]).max() <= SCORES
        assert document["poses"][0]["score"] == pytest.approx(expected[:, 2].mean(), abs=SCORES)
        assert (tmp_path / f"{Path(name).stem}.overlay.png").exists()


@pytest.mark.parametrize("model", [POSENET, POSENET_NCHW])
def test_run_on_the_group_gives_the_golden_poses_of_all_people(model: str, shared: Path, tmp_path: Path) -> None:
    """tfjs's own poses, with the parameters that are `run_multi`'s but for the number of poses."""
    case, name = "real_posenet075_s16_353x481_group5", PHOTOGRAPHS["group5"]
    for entry in json.loads((shared / "golden_tfjs" / f"{case}.json").read_text())["multi"]:
        if (entry["params"]["scoreThreshold"], entry["params"]["nmsRadius"]) == (0.5, 20):
            expected = entry["poses"]
    arguments = ["run", str(shared / "models" / model), str(shared / "images" / name), "-o", str(tmp_path)]
    assert cli.main([*arguments, "--mean", "128", "--std", "128"]) == 0
    _, transform = letterbox(as_image(shared / "images" / name), (481, 353))
    poses = json.loads((tmp_path / f"{Path(name).stem}.json").read_text())["poses"]
    assert len(poses) == len(expected) == 5
    for found, golden_pose in zip(poses, expected):
        joints = np.array([(joint["x"], joint["y"], joint["score"]) for joint in found["keypoints"]])
        points = np.array(golden_pose["keypoints"])
        mapped = points[:, :2] * np.diag(transform[:, :2]) + transform[:, 2]
        assert np.abs(joints[:, :2] - mapped).max() <= PIXELS * transform[0, 0] + 1e-3
        assert np.abs(joints[:, 2] - points[:, 2]).max() <= SCORES
        assert found["score"] == pytest.approx(golden_pose["score"], abs=SCORES)


def test_the_model_that_fails_while_running_is_one_line(
    shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = shared / "models" / "bodypix_mobilenet_v1_050_stride8.onnx"
    image = shared / "images" / PHOTOGRAPHS["squat"]
    assert cli.main(["run", str(model), str(image), "-o", str(tmp_path / "out")]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"posepost: {image}: {model}: the model failed while running: ")
    assert line.endswith("Dilation not supported for AutoPadType::SAME_UPPER or AutoPadType::SAME_LOWER.")
    assert list((tmp_path / "out").iterdir()) == []
    assert cli.main(["inspect", str(model)]) == 0
    assert "stride           8 (481x353 becomes 61x45)" in capfd.readouterr().out
