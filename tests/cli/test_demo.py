"""`posepost demo`: what is printed and drawn is what the sessions give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost import cli, ort
from posepost._image import as_image
from posepost.cli.demo import ASSETS
from posepost.draw import PEOPLE, overlay
from posepost.ort.people import LEAST_SCORE, above


def test_demo_prints_the_keypoints_and_their_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (ASSETS / "figures.onnx").exists():
        pytest.skip("posepost/assets/figures.onnx is absent")
    assert cli.main(["demo", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    session = ort.PoseSession(ASSETS / "figures.onnx")
    images, transform = session.letterbox(as_image(ASSETS / "scene.png"))
    result = session.run(images, transform=transform).numpy()
    for name, (x, y), score in zip(session.model.keypoints, result.keypoints[0], result.scores[0]):
        assert re.search(rf"^{name} +{x:.1f} +{y:.1f} +{score:.3f}$", out, re.MULTILINE)
    maps = sum(
        np.asarray(array).nbytes
        for array in ort.PoseSession(ASSETS / "figures.onnx", providers=["CPUExecutionProvider"]).forward(images)
    )
    keypoints = result.keypoints.nbytes + result.scores.nbytes
    assert f"{keypoints} bytes of keypoints" in out
    assert f"in place of {maps} bytes of heatmaps and offsets ({maps / keypoints:.0f} times as many)" in out
    assert ("running on the GPU" if session.device == "cuda" else "running on the CPU") in out
    for name in ("overlay.png", "heatmap.png", "crowd.png"):
        with Image.open(tmp_path / name) as drawn:
            assert min(drawn.size) > 300


def test_demo_finds_all_people_in_the_crowd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "-o", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("figures.onnx on crowd.png (192x192, network input 192x192)")
    assert lines[start - 2].startswith(f"wrote {tmp_path}/overlay.png and {tmp_path}/heatmap.png ")
    assert (lines[start - 1], lines[start + 1]) == ("", "")

    session = ort.PoseSession(ASSETS / "figures.onnx")
    image = as_image(ASSETS / "crowd.png")
    images, transform = session.letterbox(image)
    poses = session.run_multi(images, transform=transform).numpy()
    found, keypoint_scores, people = above(poses, LEAST_SCORE)
    truth = json.loads((ASSETS / "crowd.json").read_text())["people"]
    assert len(found) == len(truth) > 1
    off = [[np.median(np.hypot(*(points - np.array(person["keypoints"])).T)) for points in found] for person in truth]
    assert sorted(np.argmin(off, axis=1)) == list(range(len(truth)))
    assert np.min(off, axis=1).max() < 3

    expected = [
        f"person {number:<3} score {score:.3f}, {np.sum(scores >= 0.3)} of 17 keypoints score at least 0.3"
        for number, (score, scores) in enumerate(zip(people, keypoint_scores), 1)
    ]
    crossed = "crossed" if session.device == "cuda" else "would cross"
    host = ort.PoseSession(ASSETS / "figures.onnx", providers=["CPUExecutionProvider"])
    maps = sum(array.nbytes for array in host.forward(images, heads=ort.HEADS))
    bytes_of_poses = 4 * (20 * 17 * 3 + 20 + 1)
    assert lines[start + 2 :] == [
        *expected,
        "",
        f"{bytes_of_poses} bytes of poses {crossed} the bus of a GPU, in place of {maps} bytes of the four heads "
        f"({maps / bytes_of_poses:.0f} times as many)",
        f"wrote {tmp_path}/crowd.png (one color a person)",
    ]
    drawn = np.asarray(overlay(image, found, keypoint_scores, scheme="coco", scale=4))
    with Image.open(tmp_path / "crowd.png") as written:
        assert np.array_equal(np.asarray(written), drawn)
    for color in PEOPLE[: len(truth)]:
        assert (drawn == color).all(axis=2).any()
