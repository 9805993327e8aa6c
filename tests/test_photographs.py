"""Real models on photographs, from the file to keypoints, against stored tensors and tfjs PoseNet's own poses.

Measured with onnxruntime 1.32 on an AMD EPYC (AVX-512): stored inputs, heatmaps and offsets are met bit for bit, and so
are PoseNet's points; scores to 6e-8, one ulp. BodyPix through `letterbox`, which rounds its input otherwise: 4e-5 px
and 1e-6. The tolerances leave room for another CPU's convolutions.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from posepost import cli, ort
from posepost._image import letterbox, read_image

from .conftest import SHARED

PHOTOGRAPHS = {
    "couple": "coral_posenet_test_image.png",
    "group5": "pexels-fauxels-3184419.jpg",
    "skier": "coco_000000000785.jpg",
    "squat": "coral_squat.png",
    "three": "tfjs_three_people.jpg",
}
POSENET = "posenet_mobilenet_v1_075_s16_float_nhwc.onnx"
POSENET_NCHW = "posenet_mobilenet_v1_075_s16_float_nchw.onnx"
BODYPIX = {16: "bodypix_mobilenet_v1_050_stride16.onnx", 8: "bodypix_mobilenet_v1_050_stride8_ortfix.onnx"}
LOGITS, PIXELS, SCORES = 1e-4, 1e-3, 1e-5


def names(start: str) -> list[str]:
    """Stored cases of real models by name; one name that skips where the data is absent."""
    found = sorted(path.stem for path in (SHARED / "tensors").glob(f"{start}*.npz") if not path.stem.endswith("_f16"))
    return found or ["absent"]


def tensors(case: str) -> Any:
    return np.load(SHARED / "tensors" / f"{case}.npz")


def parts(case: str) -> tuple[int, tuple[int, int], str]:
    _, _, stride, size, photograph = case.split("_")
    height, width = size.split("x")
    return int(stride[1:]), (int(height), int(width)), PHOTOGRAPHS[photograph]


@functools.cache
def session(model: str) -> ort.PoseSession:
    # The PoseNet files were made for (pixel - 128) / 128.
    number = 128 if model.startswith("posenet") else None
    return ort.PoseSession(SHARED / "models" / model, mean=number, std=number, providers=["CPUExecutionProvider"])


def golden(case: str) -> np.ndarray[Any, Any]:
    """(17, 3): x, y in pixels of the input, score."""
    return np.array(json.loads((SHARED / "golden_tfjs" / f"{case}.json").read_text())["single"]["keypoints"])


def nhwc(maps: np.ndarray[Any, Any], layout: str | None) -> np.ndarray[Any, Any]:
    return maps[0].transpose(1, 2, 0) if layout == "NCHW" else maps[0]


@pytest.mark.parametrize("case", [case for case in names("real_") if case == "absent" or "input_u8" in tensors(case)])
def test_letterbox_makes_the_stored_inputs_byte_for_byte(case: str, shared: Path) -> None:
    stored = tensors(case)
    _, size, photograph = parts(case)
    pixels, _ = letterbox(read_image(shared / "images" / photograph), size)
    assert np.array_equal(pixels, stored["input_u8"])


@pytest.mark.parametrize("model", [POSENET, POSENET_NCHW])
@pytest.mark.parametrize("case", names("real_posenet075_"))
def test_posenet_from_photograph_to_tfjs_pose(case: str, model: str, shared: Path) -> None:
    stored = tensors(case)
    stride, size, photograph = parts(case)
    net = session(model)
    layout = "NHWC" if model == POSENET else "NCHW"
    assert (net.model.layout, net.model.input_layout) == (layout, layout)
    assert (net.model.output_stride, net.model.activation) == (stride, "sigmoid")
    images, transform = net.letterbox(read_image(shared / "images" / photograph), size)
    heatmaps, offsets = net.forward(images)
    assert np.abs(nhwc(heatmaps, layout) - stored["heatmaps"]).max() <= LOGITS
    assert np.abs(nhwc(offsets, layout) - stored["offsets"]).max() <= PIXELS

    expected = golden(case)
    result = net.run(images)
    assert np.abs(result.keypoints[0] - expected[:, :2]).max() <= PIXELS
    assert np.abs(result.scores[0] - expected[:, 2]).max() <= SCORES
    on_image = net.run(images, transform=transform)
    mapped = expected[:, :2] * np.diag(transform[:, :2]) + transform[:, 2]
    assert np.abs(on_image.keypoints[0] - mapped).max() <= PIXELS * transform[0, 0] + 1e-3


@pytest.mark.parametrize("case", names("real_bodypix050_"))
def test_bodypix_from_photograph_to_tfjs_pose(case: str, shared: Path) -> None:
    stored = tensors(case)
    stride, size, photograph = parts(case)
    net = session(BODYPIX[stride])
    assert net.model.heads["offsets"] == "short_offsets"
    assert net.model.output_stride == stride
    pixels, _ = letterbox(read_image(shared / "images" / photograph), size)
    images = (pixels.astype(np.float32) / np.float32(127.5) - 1)[None]  # as the stored tensors were made, to the bit
    heatmaps, offsets = net.forward(images)
    assert np.abs(heatmaps[0] - stored["heatmaps"]).max() <= LOGITS
    assert np.abs(offsets[0] - stored["offsets"]).max() <= PIXELS

    expected = golden(case)
    made, _ = net.letterbox(
        read_image(shared / "images" / photograph), size
    )  # (pixel - 127.5) / 127.5: other last bits
    for result in (net.run(images), net.run(made)):
        assert np.abs(result.keypoints[0] - expected[:, :2]).max() <= PIXELS
        assert np.abs(result.scores[0] - expected[:, 2]).max() <= SCORES


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
        _, transform = letterbox(read_image(shared / "images" / name), (353, 481))
        joints = [(joint["x"], joint["y"], joint["score"]) for joint in document["poses"][0]["keypoints"]]
        found = np.array(joints)
        mapped = expected[:, :2] * np.diag(transform[:, :2]) + transform[:, 2]
        assert np.abs(found[:, :2] - mapped).max() <= PIXELS * transform[0, 0] + 1e-3
        assert np.abs(found[:, 2] - expected[:, 2]).max() <= SCORES
        assert document["poses"][0]["score"] == pytest.approx(expected[:, 2].mean(), abs=SCORES)
        assert (tmp_path / f"{Path(name).stem}.overlay.png").exists()


@pytest.mark.parametrize("model", [POSENET, POSENET_NCHW])
def test_run_on_the_group_gives_the_golden_poses_of_everybody(model: str, shared: Path, tmp_path: Path) -> None:
    """tfjs's own poses, with the parameters that are `run_multi`'s but for the number of poses."""
    case, name = "real_posenet075_s16_353x481_group5", PHOTOGRAPHS["group5"]
    for entry in json.loads((shared / "golden_tfjs" / f"{case}.json").read_text())["multi"]:
        if (entry["params"]["scoreThreshold"], entry["params"]["nmsRadius"]) == (0.5, 20):
            expected = entry["poses"]
    arguments = ["run", str(shared / "models" / model), str(shared / "images" / name), "-o", str(tmp_path)]
    assert cli.main([*arguments, "--mean", "128", "--std", "128"]) == 0
    _, transform = letterbox(read_image(shared / "images" / name), (353, 481))
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
    assert "stride           8 (353x481 becomes 45x61)" in capfd.readouterr().out
