"""The command line: what it writes, what it says, and how it takes bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost import _kernels, cli, ort
from posepost._image import read_image
from posepost.draw import PEOPLE, overlay

from .test_ort import FOUR, build, failing_model

TRUNCATED = "not an ONNX model, or one that is cut short"


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.onnx"
    path.write_bytes(build(size=(None, None)))
    return str(path)


@pytest.fixture
def four(tmp_path: Path) -> str:
    """A model with displacement heads that sees people in noise."""
    path = tmp_path / "four.onnx"
    path.write_bytes(build(FOUR, metadata={"posepost.input_size": "33,49", "posepost.std": "30"}, size=(None, None)))
    return str(path)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    return picture(tmp_path / "photo.png")


def picture(path: Path, size: tuple[int, int] = (60, 40), **options: Any) -> str:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def complaints(capture: pytest.CaptureFixture[str]) -> list[str]:
    return capture.readouterr().err.splitlines()


def test_run_writes_keypoints_in_image_pixels_and_an_overlay(model: str, photo: str, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert cli.main(["run", model, photo, "-o", str(out), "--size", "33x49"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["photo.json", "photo.overlay.png"]
    document = json.loads((out / "photo.json").read_text())
    session = ort.PoseSession(model)
    images, transform = session.letterbox(read_image(photo), (33, 49))
    expected = session.run(images, transform=transform)
    (pose,) = document.pop("poses")
    assert document == {
        "image": photo,
        "width": 60,
        "height": 40,
        "model": "model.onnx",
        "input_size": [33, 49],
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


def test_run_on_a_model_with_displacement_heads_writes_everybody(
    four: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ort.PoseSession(four)
    picture_itself = read_image(photo)
    images, transform = session.letterbox(picture_itself)
    everybody = session.run_multi(images, transform=transform).numpy()
    scores = everybody.scores[0, : everybody.count[0]]
    least = float(np.median(scores[scores > cli.LEAST_SCORE]))
    for number, (options, bound) in enumerate(
        [([], cli.LEAST_SCORE), (["--people", "all"], cli.LEAST_SCORE), (["--score", str(least)], least)]
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
            assert np.array_equal(joints[:, :2], everybody.keypoints[0, person])
            assert np.array_equal(joints[:, 2], everybody.keypoint_scores[0, person])
        drawn = overlay(picture_itself, everybody.keypoints[0, kept], everybody.keypoint_scores[0, kept])
        with Image.open(out / "photo.overlay.png") as written:
            assert np.array_equal(np.asarray(written), np.asarray(drawn))


def test_people_one_is_what_a_model_without_displacement_heads_gives(four: str, photo: str, tmp_path: Path) -> None:
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(build(metadata={"posepost.input_size": "33,49", "posepost.std": "30"}, size=(None, None)))
    documents, pictures = [], []
    for number, arguments in enumerate([[four, "--people", "one"], [str(bare)], [str(bare), "--people", "one"]]):
        out = tmp_path / str(number)
        assert cli.main(["run", *arguments, photo, "-o", str(out)]) == 0
        documents.append(json.loads((out / "photo.json").read_text())["poses"])
        pictures.append((out / "photo.overlay.png").read_bytes())
    assert documents[0] == documents[1] == documents[2]
    assert pictures[0] == pictures[1] == pictures[2]
    assert len(documents[0]) == 1


def test_one_person_and_nobody(four: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = ort.PoseSession(four)
    images, _ = session.letterbox(read_image(photo))
    best = session.run_multi(images).numpy().scores.max()
    for least, words, count in ((best, "1 person", 1), (1, "0 people", 0)):
        assert cli.main(["run", four, photo, "--score", repr(float(least)), "-o", str(tmp_path)]) == 0
        assert f"{photo}: {words}, wrote" in capsys.readouterr().out
        assert len(json.loads((tmp_path / "photo.json").read_text())["poses"]) == count
    with Image.open(tmp_path / "photo.overlay.png") as written:
        assert np.array_equal(np.asarray(written), np.asarray(read_image(photo)))


def test_displacement_heads_of_another_skeleton_are_left_alone(
    photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "five.onnx"
    path.write_bytes(build({"heatmaps": 5, "offsets": 10, "fwd": 8, "bwd": 8}, size=(None, None)))
    assert cli.main(["run", str(path), photo, "--size", "33x49", "-o", str(tmp_path)]) == 0
    assert len(json.loads((tmp_path / "photo.json").read_text())["poses"][0]["keypoints"]) == 5
    assert cli.main(["run", str(path), photo, "--people", "all", "-o", str(tmp_path)]) == 2
    remedy = "several people need PoseNet's 17 keypoints, got 5; skeleton= (--skeleton) joins others"
    assert complaints(capsys) == [f"posepost: {path}: {remedy}"]
    command = ["run", str(path), photo, "--size", "33x49", "-o", str(tmp_path), "--score", "0"]
    assert cli.main([*command, "--skeleton", "4-0,4-1,4-2,4-3"]) == 0
    poses = json.loads((tmp_path / "photo.json").read_text())["poses"]
    assert len(poses) > 1
    assert {len(pose["keypoints"]) for pose in poses} == {5}
    assert cli.main([*command, "--skeleton", "4-0,4-1,4-2"]) == 2
    fault = "skeleton must have one pair fewer than heatmaps have channels, got 3 and 5"
    assert complaints(capsys) == [f"posepost: {photo}: {fault}"]
    assert cli.main([*command, "--skeleton", "4,0"]) == 2
    fault = "must be PARENT-CHILD,... by number, such as 0-1,1-2, got '4,0'"
    assert complaints(capsys) == [f"posepost run: argument --skeleton: {fault}"]


@pytest.mark.parametrize("options", [["--people", "all"], ["--score", "0.5"], ["--people", "all", "--score", "0.5"]])
def test_several_people_from_a_model_for_one(
    options: list[str], photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.onnx"
    path.write_bytes(build())
    assert cli.main(["run", str(path), photo, *options, "-o", str(tmp_path / "out")]) == 2
    assert complaints(capsys) == [
        f"posepost: {path}: no displacement_fwd and displacement_bwd among the outputs, which several people need "
        "(heads= or --heads names them): heatmaps (1, 17, 5, 7), offsets (1, 34, 5, 7)"
    ]
    assert not (tmp_path / "out").exists()


def test_equal_stems_do_not_meet(model: str, tmp_path: Path) -> None:
    images = [
        picture(tmp_path / "x" / "a.png"),
        picture(tmp_path / "x" / "A.bmp", (30, 50)),
        picture(tmp_path / "y" / "a.png", (20, 20)),
        picture(tmp_path / "y" / "a-2.png", (44, 44)),
    ]
    out = tmp_path / "out"
    assert cli.main(["run", model, *images, "-o", str(out)]) == 0
    sizes = {path.stem: json.loads(path.read_text())["width"] for path in out.glob("*.json")}
    assert sorted(sizes.values()) == [20, 30, 44, 60]
    assert len(list(out.iterdir())) == 8


def test_output_names_differ_in_more_than_case(tmp_path: Path) -> None:
    names = cli.output_names(["x/a.png", "x/A.jpg", "y/a.bmp", "a-2.png", "b.tar.png", ".hidden"], tmp_path)
    assert names == ["a", "A-2", "a-3", "a-2-2", "b.tar", ".hidden"]


def test_an_input_is_never_overwritten(model: str, tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "a.overlay.png")
    before = Path(second).read_bytes()
    assert cli.main(["run", model, first, second, "-o", str(tmp_path)]) == 0
    assert Path(second).read_bytes() == before
    assert (tmp_path / "a-2.overlay.png").exists()


def test_a_second_run_replaces_the_first(model: str, photo: str, tmp_path: Path) -> None:
    for size in ("33x49", "65x97"):
        assert cli.main(["run", model, photo, "-o", str(tmp_path / "out"), "--size", size]) == 0
    assert json.loads((tmp_path / "out" / "photo.json").read_text())["input_size"] == [65, 97]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_bad_images_are_said_and_the_others_are_done(
    model: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, cut, empty = tmp_path / "notes.txt", tmp_path / "cut.png", tmp_path / "empty.jpg"
    text.write_text("not a picture")
    cut.write_bytes(Path(photo).read_bytes()[:3000])
    empty.touch()
    jpeg = Path(picture(tmp_path / "whole.jpg", (300, 200)))
    cut_jpeg = tmp_path / "cut.jpg"
    cut_jpeg.write_bytes(jpeg.read_bytes()[:-5000])
    absent = tmp_path / "absent.png"
    bad = [str(path) for path in (text, cut, empty, cut_jpeg, absent, tmp_path)]
    out = tmp_path / "out"
    assert cli.main(["run", model, *bad[:3], photo, *bad[3:], "-o", str(out)]) == 2
    lines = complaints(capsys)
    assert lines[0] == f"posepost: {text}: not an image that Pillow can read"
    assert re.fullmatch(rf"posepost: {re.escape(str(cut))}: cannot be read as an image \(.+\)", lines[1])
    assert lines[2] == f"posepost: {empty}: not an image that Pillow can read"
    assert re.fullmatch(rf"posepost: {re.escape(str(cut_jpeg))}: cannot be read as an image \(.+\)", lines[3])
    assert lines[4] == f"posepost: {absent}: No such file or directory"
    assert lines[5] == f"posepost: {tmp_path}: Is a directory"
    assert len(lines) == 6
    assert sorted(path.name for path in out.iterdir()) == ["photo.json", "photo.overlay.png"]


def test_a_model_that_fails_while_running_is_one_line_an_image(
    photo: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failing.onnx"
    path.write_bytes(failing_model())
    other = picture(tmp_path / "other.png")
    out = tmp_path / "out"
    options = ["--activation", "none", "--stride", "8", "-o", str(out)]
    assert cli.main(["run", str(path), photo, other, *options]) == 2
    lines = complaints(capfd)  # of the process, so that onnxruntime's own log would be seen
    assert len(lines) == 2
    for line, image in zip(lines, (photo, other)):
        assert line.startswith(f"posepost: {image}: {path}: the model failed while running: ")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_bad_models(
    command: str,
    photo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path, rest = tmp_path / "bad.onnx", [photo] if command == "run" else []

    def said(data: bytes) -> list[str]:
        path.write_bytes(data)
        assert cli.main([command, str(path), *rest]) == 2
        return complaints(capsys)

    assert said(b"") == [f"posepost: {path}: {TRUNCATED}"]
    assert said(build()[:-100]) == [f"posepost: {path}: {TRUNCATED}"]
    assert said(Path(photo).read_bytes()) == [f"posepost: {path}: {TRUNCATED}"]
    assert said(build({"boxes": 4, "classes": 3})) == [
        f"posepost: {path}: several outputs may be the heads, name them with heads= (--heads), heatmaps or simcc_x and "
        "simcc_y: boxes (1, 4, 5, 7), classes (1, 3, 5, 7)"
    ]
    path.unlink()
    assert cli.main([command, str(path), *rest]) == 2
    assert complaints(capsys) == [f"posepost: {path}: No such file or directory"]
    assert cli.main([command, str(tmp_path), *rest]) == 2
    assert complaints(capsys) == [f"posepost: {tmp_path}: Is a directory"]
    assert not Path("posepost-out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "posepost: give a command: demo, inspect, run, warmup, bench or doctor (posepost --help tells more)"),
        (["run", "MODEL"], "posepost run: the following arguments are required: IMAGE"),
        (["run", "MODEL", "x.png", "-o", ""], "posepost: -o must name a directory, got ''"),
        (["demo", "-o", ""], "posepost: -o must name a directory, got ''"),
        (["run", "MODEL", "x.png", "-o", "MODEL"], "posepost: -o must name a directory, MODEL is a file"),
        (["run", "MODEL", "x.png", "-o", "MODEL/deeper"], "posepost: MODEL/deeper: Not a directory"),
        (
            ["run", "MODEL", "x.png", "--size", "big"],
            "posepost run: argument --size: must be HEIGHTxWIDTH in pixels, such as 353x481, got 'big'",
        ),
        (
            ["run", "MODEL", "x.png", "--size", "0x5"],
            "posepost run: argument --size: must be HEIGHTxWIDTH in pixels, such as 353x481, got '0x5'",
        ),
        (
            ["run", "MODEL", "x.png", "--score", "nan"],
            "posepost run: argument --score: must be a number from 0 to 1, got 'nan'",
        ),
        (
            ["run", "MODEL", "x.png", "--score", "1.5"],
            "posepost run: argument --score: must be a number from 0 to 1, got '1.5'",
        ),
        (
            ["run", "MODEL", "x.png", "--score", "good"],
            "posepost run: argument --score: must be a number from 0 to 1, got 'good'",
        ),
        (
            ["run", "MODEL", "x.png", "--people", "one", "--score", "0.5"],
            "posepost: --score is for --people all, got --people one",
        ),
        (
            ["inspect", "MODEL", "--mean", "1,2"],
            "posepost inspect: argument --mean: must be one number or three with commas, got '1,2'",
        ),
        (
            ["inspect", "MODEL", "--std", "wide"],
            "posepost inspect: argument --std: must be one number or three with commas, got 'wide'",
        ),
        (["inspect", "MODEL", "--std", "0"], "posepost: std must not be zero, got [0.0]"),
        (
            ["inspect", "MODEL", "--heads", "heatmaps"],
            "posepost inspect: argument --heads: must be HEAD=OUTPUT,..., got 'heatmaps'",
        ),
        (
            ["inspect", "MODEL", "--heads", "heatmaps=x"],
            "posepost: heads['heatmaps'] must be one of the outputs heatmaps, offsets, got 'x'",
        ),
        (
            ["inspect", "MODEL", "--stride", "0"],
            "posepost inspect: argument --stride: must be a positive integer, got '0'",
        ),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([argument.replace("MODEL", model) for argument in arguments]) == 2
    assert complaints(capsys) == [message.replace("MODEL", model)]


def test_a_size_that_the_model_does_not_take(photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fixed.onnx"
    path.write_bytes(build(size=(33, 49)))
    assert cli.main(["run", str(path), photo, "-o", str(tmp_path / "out"), "--size", "33x50"]) == 2
    assert complaints(capsys) == ["posepost: size must be what the model takes, 33x49, got 33x50"]
    assert not (tmp_path / "out").exists()


def test_help_and_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "COMMAND" in capsys.readouterr().out
    assert cli.main(["fly"]) == 2
    (line,) = complaints(capsys)
    assert line.startswith("posepost: argument COMMAND: invalid choice: 'fly'")


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("PIL", 'reading and drawing pictures needs Pillow: pip install "posepost[ort]"'),
        ("onnxruntime", 'running ONNX models needs onnxruntime: pip install "posepost[ort]"'),
        ("onnx", 'running ONNX models needs onnx: pip install "posepost[ort]"'),
    ],
)
def test_missing_packages(
    package: str,
    message: str,
    model: str,
    photo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["run", model, photo, "-o", str(tmp_path / "out")]) == 2
    of_image = f"{photo}: " if package == "PIL" else ""
    assert complaints(capsys) == [f"posepost: {of_image}{message}"]


def test_outputs_appear_whole_or_not_at_all(
    model: str, photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, out = Path.write_bytes, tmp_path / "out"

    def full(path: Path, data: bytes) -> int:
        if path.name.endswith(".part") and b"PNG" in data[:8]:
            real(path, data[:100])
            raise OSError(28, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cli.main(["run", model, photo, "-o", str(out)]) == 2
    (line,) = complaints(capsys)
    assert line.startswith(f"posepost: {photo}: ")
    assert line.endswith(": No space left on device")
    assert list(out.iterdir()) == []


def test_numbers_that_are_not_finite_are_null(model: str) -> None:
    points = np.array([[[np.nan, 1.5], [np.inf, 0.1]]], np.float32)
    people = cli.People(points, np.array([[np.nan, 0.25]], np.float32), np.array([np.nan], np.float32))
    poses = cli._poses(["a", "b"], people)
    assert json.loads(json.dumps(poses, allow_nan=False)) == [
        {
            "score": None,
            "keypoints": [
                {"name": "a", "x": None, "y": 1.5, "score": None},
                {"name": "b", "x": None, "y": 0.1, "score": 0.25},
            ],
        }
    ]


def test_pictures_are_read_upright_and_in_any_mode(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    assert read_image(picture(tmp_path / "turned.jpg", (60, 40), exif=exif)).size == (40, 60)
    for mode in ("L", "LA", "P", "RGBA", "1"):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (5, 4)).save(path)
        assert read_image(path).mode == "RGB"
    deep = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 256, 65535]], np.uint16)).save(deep)
    assert np.asarray(read_image(deep))[0, :, 0].tolist() == [0, 1, 255]


def test_inspect(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", model, "--mean", "128", "--std", "1,2,3"]) == 0
    assert capsys.readouterr().out == (
        f"model            {model}\n"
        "input            picture float32 (1, 3, any, any)\n"
        "output           heatmaps float32 (1, 17, any, any)\n"
        "output           offsets float32 (1, 34, any, any)\n"
        "heatmaps         heatmaps\n"
        "offsets          offsets\n"
        "displacement_fwd not recognised (not needed for one person)\n"
        "displacement_bwd not recognised (not needed for one person)\n"
        "found            by shape\n"
        "layout           input NCHW, outputs NCHW\n"
        "size             any x any (height x width), usually 353 x 481\n"
        "stride           8 (353x481 becomes 45x61)\n"
        "heatmaps are     logits (made by Conv)\n"
        "input is         (pixel - 128) / (1, 2, 3), RGB (given)\n"
        "keypoints        17: nose, left_eye, right_eye, left_ear, right_ear, left_shoulder, right_shoulder, "
        "left_elbow, right_elbow, left_wrist, right_wrist, left_hip, right_hip, left_knee, right_knee, "
        "left_ankle, right_ankle\n"
    )


def test_inspect_needs_no_onnxruntime_and_takes_models_that_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failing.onnx"
    path.write_bytes(failing_model())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert cli.main(["inspect", str(path)]) == 0
    assert "heatmaps are     unknown (comes from 'picture', which no node makes)" in capsys.readouterr().out


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (cli.ASSETS / "figures.onnx").exists():
        pytest.skip("posepost/assets/figures.onnx is absent")
    assert cli.main(["demo", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    session = ort.PoseSession(cli.ASSETS / "figures.onnx")
    images, transform = session.letterbox(read_image(cli.ASSETS / "scene.png"))
    result = session.run(images, transform=transform).numpy()
    for name, (x, y), score in zip(session.model.keypoints, result.keypoints[0], result.scores[0]):
        assert re.search(rf"^{name} +{x:.1f} +{y:.1f} +{score:.3f}$", out, re.MULTILINE)
    maps = sum(
        np.asarray(array).nbytes
        for array in ort.PoseSession(cli.ASSETS / "figures.onnx", providers=["CPUExecutionProvider"]).forward(images)
    )
    keypoints = result.keypoints.nbytes + result.scores.nbytes
    assert f"{keypoints} bytes of keypoints" in out
    assert f"in place of {maps} bytes of heatmaps and offsets ({maps / keypoints:.0f} times as many)" in out
    assert ("running on the GPU" if session.device == "cuda" else "running on the CPU") in out
    for name in ("overlay.png", "heatmap.png", "crowd.png"):
        with Image.open(tmp_path / name) as drawn:
            assert min(drawn.size) > 300


def test_demo_finds_everybody_in_the_crowd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "-o", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("figures.onnx on crowd.png (192x192, network input 192x192)")
    assert lines[start - 2].startswith(f"wrote {tmp_path}/overlay.png and {tmp_path}/heatmap.png ")
    assert (lines[start - 1], lines[start + 1]) == ("", "")

    session = ort.PoseSession(cli.ASSETS / "figures.onnx")
    image = read_image(cli.ASSETS / "crowd.png")
    images, transform = session.letterbox(image)
    poses = session.run_multi(images, transform=transform).numpy()
    found = cli._above(poses, cli.LEAST_SCORE)
    truth = json.loads((cli.ASSETS / "crowd.json").read_text())["people"]
    assert len(found.scores) == len(truth) > 1
    off = [
        [np.median(np.hypot(*(points - np.array(person["keypoints"])).T)) for points in found.keypoints]
        for person in truth
    ]
    assert sorted(np.argmin(off, axis=1)) == list(range(len(truth)))
    assert np.min(off, axis=1).max() < 3

    expected = [
        f"person {number:<3} score {score:.3f}, {np.sum(scores >= 0.3)} of 17 keypoints score at least 0.3"
        for number, (score, scores) in enumerate(zip(found.scores, found.keypoint_scores), 1)
    ]
    crossed = "crossed" if session.device == "cuda" else "would cross"
    host = ort.PoseSession(cli.ASSETS / "figures.onnx", providers=["CPUExecutionProvider"])
    maps = sum(array.nbytes for array in host.forward(images, heads=ort.HEADS))
    bytes_of_poses = 4 * (20 * 17 * 3 + 20 + 1)
    assert lines[start + 2 :] == [
        *expected,
        "",
        f"{bytes_of_poses} bytes of poses {crossed} the bus of a GPU, in place of {maps} bytes of the four heads "
        f"({maps / bytes_of_poses:.0f} times as many)",
        f"wrote {tmp_path}/crowd.png (one colour a person)",
    ]
    drawn = np.asarray(overlay(image, found.keypoints, found.keypoint_scores, scale=4))
    with Image.open(tmp_path / "crowd.png") as written:
        assert np.array_equal(np.asarray(written), drawn)
    for colour in PEOPLE[: len(truth)]:
        assert (drawn == colour).all(axis=2).any()


def machine(**changes: Any) -> cli.Machine:
    everything = cli.Machine(
        driver="570.86",
        cuda=(12, 8),
        gpus=("NVIDIA L4",),
        packages={"numpy": "2.1", "cupy": "13.6", "onnxruntime": "1.23", "onnx": "1.19", "PIL": "11.0"},
        cupy_problem=None,
        nvrtc="12.8",
        nvrtc_problem=None,
        providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
    )
    return everything._replace(**changes)


def without(*names: str) -> dict[str, str | None]:
    return {name: None if name in names else version for name, version in machine().packages.items()}


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (machine(), ["Nothing is missing: models and decoding run on the GPU."]),
        (
            machine(cuda=None, driver=None, gpus=()),
            ["No NVIDIA GPU answers: decoding runs on the CPU (NumPy), with the same results."],
        ),
        (
            machine(cuda=None, driver=None, gpus=(), packages=without("onnx")),
            [
                "No NVIDIA GPU answers: decoding runs on the CPU (NumPy), with the same results.",
                'For running ONNX models and drawing: pip install "posepost[ort]"',
            ],
        ),
        (machine(packages=without("cupy")), ['For decoding on the GPU: pip install "posepost[cuda12]"']),
        (machine(cuda=(13, 0), nvrtc=None), ['For decoding on the GPU: pip install "posepost[cuda13]"']),
        (machine(cuda=(11, 4)), ["The NVIDIA driver is too old: install one that runs CUDA 12 or newer."]),
        (machine(cupy_problem="no device"), ["CuPy is installed and cannot use the GPU: no device"]),
        (
            machine(packages=without("PIL", "onnxruntime")),
            ['For running ONNX models and drawing: pip install "posepost[ort-gpu]"'],
        ),
        (
            machine(providers=("CPUExecutionProvider",)),
            [
                "This onnxruntime runs on the CPU only; for the GPU: "
                'pip uninstall onnxruntime, then pip install "posepost[ort-gpu]"'
            ],
        ),
    ],
)
def test_doctor_advises(found: cli.Machine, lines: list[str]) -> None:
    assert cli.advice(found) == lines


def test_doctor_reports() -> None:
    assert cli.report(machine()) == (
        "GPU          NVIDIA L4\n"
        "driver       570.86, runs CUDA up to 12.8\n"
        "CuPy         13.6\n"
        "NVRTC        12.8\n"
        "onnxruntime  1.23: CUDAExecutionProvider, CPUExecutionProvider\n"
        "onnx         1.19\n"
        "Pillow       11.0\n"
        "NumPy        2.1\n"
        "\n"
        "Nothing is missing: models and decoding run on the GPU."
    )
    bare = machine(cuda=None, driver=None, gpus=(), packages=without("cupy", "onnxruntime", "onnx", "PIL"), nvrtc=None)
    assert "CuPy         not installed\nNVRTC        not installed\nonnxruntime  not installed" in cli.report(bare)


def test_doctor_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    assert cli.main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"onnxruntime  {onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}\n" in out
    assert f"NumPy        {np.__version__}\n" in out


def test_doctor_without_any_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cupy", "onnxruntime", "onnx", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.count("not installed") == 5


def test_as_a_module_and_into_a_closed_pipe(model: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "posepost", "inspect", model], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("model ")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "posepost", "inspect", model],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_warmup_compiles_what_a_model_needs(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All kernels for its heads in the heatmaps' type, or, without a model, all; nothing where no GPU answers."""
    asked: list[_kernels.Variant] = []
    monkeypatch.setattr(_kernels, "kernel", asked.append)
    monkeypatch.setattr(ort, "cupy_problem", lambda: None)
    assert cli.main(["warmup", model]) == 0
    sources = ("posenet.cu", "posenet_multi.cu", "peaks.cu")
    assert asked == [v for v in _kernels.VARIANTS if v.source in sources and ("ELEMENT", "f32") in v.defines]
    assert len(capsys.readouterr().out.splitlines()) == len(asked) == 7
    of_type = len(asked)
    assert cli.main(["warmup"]) == 0
    assert tuple(asked[of_type:]) == _kernels.VARIANTS
    monkeypatch.setattr(ort, "cupy_problem", lambda: "CuPy sees no CUDA device")
    capsys.readouterr()
    assert cli.main(["warmup"]) == 0
    words = "nothing to compile: CuPy sees no CUDA device; the NumPy twin needs no compiling\n"
    assert capsys.readouterr().out == words
    assert len(asked) == of_type + len(_kernels.VARIANTS)
