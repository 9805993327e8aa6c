"""`posepost run` with PoseNet models: keypoints in image pixels, one person or all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost import Scheme, cli, ort
from posepost._image import as_image
from posepost.cli.run import people_as_json
from posepost.draw import overlay
from posepost.ort.people import LEAST_SCORE, People

from ..onnx_models import build
from .commands import complaints


def test_run_writes_keypoints_in_image_pixels_and_an_overlay(model: str, photo: str, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert cli.main(["run", model, photo, "-o", str(out), "--size", "49x33"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["photo.json", "photo.overlay.png"]
    document = json.loads((out / "photo.json").read_text())
    session = ort.PoseSession(model)
    images, transform = session.letterbox(as_image(photo), (49, 33))
    expected = session.run(images, transform=transform)
    (pose,) = document.pop("poses")
    assert document == {
        "image": photo,
        "width": 60,
        "height": 40,
        "model": "model.onnx",
        "input_size": [49, 33],
        "device": session.device,
    }
    assert [joint["name"] for joint in pose["keypoints"]] == list(session.model.keypoints)
    for axis, key in enumerate("xy"):
        values = np.array([joint[key] for joint in pose["keypoints"]], np.float32)
        assert np.array_equal(values, expected.numpy().keypoints[0, :, axis])
    scores = np.array([joint["score"] for joint in pose["keypoints"]], np.float32)
    assert np.array_equal(scores, expected.numpy().scores[0])
    assert pose["score"] == pytest.approx(scores.mean(dtype=np.float64))
    with Image.open(out / "photo.overlay.png") as overlay:
        assert overlay.size == (60, 40)


def test_run_on_a_model_with_displacement_heads_writes_all_people(
    four: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ort.PoseSession(four)
    picture_itself = as_image(photo)
    images, transform = session.letterbox(picture_itself)
    all_people = session.run_multi(images, transform=transform).numpy()
    scores = all_people.scores[0, : all_people.count[0]]
    least = float(np.median(scores[scores > LEAST_SCORE]))
    for number, (options, bound) in enumerate(
        [([], LEAST_SCORE), (["--people", "all"], LEAST_SCORE), (["--score", str(least)], least)]
    ):
        kept = np.flatnonzero(scores >= bound)
        assert 1 < len(kept) < len(scores)
        out = tmp_path / f"out{number}"
        assert cli.main(["run", four, photo, *options, "-o", str(out)]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[1] == f"{photo}: {len(kept)} people, wrote {out}/photo.json and {out}/photo.overlay.png"
        poses = json.loads((out / "photo.json").read_text())["poses"]
        assert np.array_equal(np.array([pose["score"] for pose in poses], np.float32), scores[kept])
        for pose, person in zip(poses, kept):
            assert [joint["name"] for joint in pose["keypoints"]] == list(session.model.keypoints)
            joints = np.array([[joint[key] for key in ("x", "y", "score")] for joint in pose["keypoints"]], np.float32)
            assert np.array_equal(joints[:, :2], all_people.keypoints[0, person])
            assert np.array_equal(joints[:, 2], all_people.keypoint_scores[0, person])
        points, confidence = all_people.keypoints[0, kept], all_people.keypoint_scores[0, kept]
        drawn = overlay(picture_itself, points, confidence, scheme="coco")
        with Image.open(out / "photo.overlay.png") as written:
            assert np.array_equal(np.asarray(written), np.asarray(drawn))


def test_people_one_is_what_a_model_without_displacement_heads_gives(four: str, photo: str, tmp_path: Path) -> None:
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(build(metadata={"posepost.input_size": "49,33", "posepost.std": "30"}, size=(None, None)))
    documents, pictures = [], []
    for number, arguments in enumerate([[four, "--people", "one"], [str(bare)], [str(bare), "--people", "one"]]):
        out = tmp_path / str(number)
        assert cli.main(["run", *arguments, photo, "-o", str(out)]) == 0
        documents.append(json.loads((out / "photo.json").read_text())["poses"])
        pictures.append((out / "photo.overlay.png").read_bytes())
    assert documents[0] == documents[1] == documents[2]
    assert pictures[0] == pictures[1] == pictures[2]
    assert len(documents[0]) == 1


def test_one_person_and_none(four: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = ort.PoseSession(four)
    images, _ = session.letterbox(as_image(photo))
    best = session.run_multi(images).numpy().scores.max()
    for least, words, count in ((best, "1 person", 1), (1, "0 people", 0)):
        assert cli.main(["run", four, photo, "--score", repr(float(least)), "-o", str(tmp_path)]) == 0
        assert f"{photo}: {words}, wrote" in capsys.readouterr().out
        assert len(json.loads((tmp_path / "photo.json").read_text())["poses"]) == count
    with Image.open(tmp_path / "photo.overlay.png") as written:
        assert np.array_equal(np.asarray(written), np.asarray(as_image(photo)))


def test_displacement_heads_of_another_skeleton_are_asked_about(
    photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "five.onnx"
    path.write_bytes(build({"heatmaps": 5, "offsets": 10, "fwd": 8, "bwd": 8}, size=(None, None)))
    one = ["run", str(path), photo, "--size", "49x33", "-o", str(tmp_path)]
    assert cli.main([*one, "--people", "one"]) == 0
    assert len(json.loads((tmp_path / "photo.json").read_text())["poses"][0]["keypoints"]) == 5
    remedy = "several people need PoseNet's 17 keypoints, got 5; --skeleton joins others"
    assert cli.main([*one, "--people", "all"]) == 2
    assert complaints(capsys) == [f"posepost: {path}: {remedy}"]
    assert cli.main(one) == 2
    assert complaints(capsys) == [f"posepost: {path}: {remedy}; --people one finds one"]
    command = ["run", str(path), photo, "--size", "49x33", "-o", str(tmp_path), "--score", "0"]
    assert cli.main([*command, "--skeleton", "4-0,4-1,4-2,4-3"]) == 0
    poses = json.loads((tmp_path / "photo.json").read_text())["poses"]
    assert len(poses) > 1
    assert {len(pose["keypoints"]) for pose in poses} == {5}
    assert cli.main([*command, "--skeleton", "4-0,4-1,4-2"]) == 2
    fault = "--skeleton must have one pair fewer than heatmaps have channels, got 3 and 5"
    assert complaints(capsys) == [f"posepost: {photo}: {fault}"]
    assert cli.main([*command, "--skeleton", "4,0"]) == 2
    fault = "must be PARENT-CHILD,... by number, such as 0-1,1-2, got '4,0'"
    assert complaints(capsys) == [f"posepost run: argument --skeleton: {fault}"]


@pytest.mark.parametrize("options", [["--people", "all"], ["--score", "0.5"], ["--people", "all", "--score", "0.5"]])
def test_multi_person_options_need_displacement_heads(
    options: list[str], photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.onnx"
    path.write_bytes(build())
    assert cli.main(["run", str(path), photo, *options, "-o", str(tmp_path / "out")]) == 2
    assert complaints(capsys) == [
        f"posepost: {path}: no displacement_fwd and displacement_bwd among the outputs, which several people need "
        "(--heads names them): heatmaps (1, 17, 5, 7), offsets (1, 34, 5, 7)"
    ]
    assert not (tmp_path / "out").exists()


def test_a_size_that_the_model_does_not_take(photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fixed.onnx"
    path.write_bytes(build(size=(33, 49)))
    assert cli.main(["run", str(path), photo, "-o", str(tmp_path / "out"), "--size", "50x33"]) == 2
    assert complaints(capsys) == ["posepost: --size must be what the model takes, 49x33, got 50x33"]
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_finite_are_null(model: str) -> None:
    points = np.array([[[np.nan, 1.5], [np.inf, 0.1]]], np.float32)
    scores, picture = np.array([[np.nan, 0.25]], np.float32), Image.new("RGB", (4, 3))
    poses = people_as_json(People(points, scores, np.array([np.nan], np.float32), Scheme("", ("a", "b")), picture))
    assert json.loads(json.dumps(poses, allow_nan=False)) == [
        {
            "score": None,
            "keypoints": [
                {"name": "a", "x": None, "y": 1.5, "score": None},
                {"name": "b", "x": None, "y": 0.1, "score": 0.25},
            ],
        }
    ]
