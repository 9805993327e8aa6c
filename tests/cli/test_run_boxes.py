"""`posepost run` with boxes as users have them: bad ones among good ones, other formats, COCO's files, none at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from posepost import cli
from posepost.cli._box_files import read_box_file

from ..dots import PAIR, dots_in, photograph
from .commands import complaints, written

RULE = "must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1"
LENGTH = "must be 4 numbers, 5 with a score or 6 with a class"
CORNERS = [list(box) for box in PAIR]
XYWH = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in PAIR]
MIDDLES = [[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0] for x0, y0, x1, y1 in PAIR]
ONE_PERSON = "posepost: no boxes given: each picture is taken as one person; --box or --boxes say where people are"


def run(*arguments: str) -> int:
    return cli.main(["run", "heatmap.onnx", *arguments, "-o", "out"])


def save(document: Any, name: str = "boxes.json") -> None:
    Path(name).write_text(json.dumps(document))


@pytest.fixture
def poses(folder: Path) -> list[dict[str, Any]]:
    """Of the two people in photo.png."""
    assert run("photo.png", *(f"--box={','.join(map(str, box))}" for box in CORNERS)) == 0
    found: list[dict[str, Any]] = written(folder / "out")["poses"]
    return found


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ([10, 10, 10, 30], f"{RULE}, got (10, 10, 10, 30)"),
        ([0, 0, float("nan"), 9], f"{RULE}, got (0, 0, nan, 9)"),
        ([300, 0, 310, 9], "must meet the image of 200x160 pixels, got (300, 0, 310, 9)"),
        ([0, 0, 1e300, 1e300], "must lie within 2**24 pixels, got (0, 0, 1e+300, 1e+300)"),
        ([0, 0, 9], f"{LENGTH}, got (0, 0, 9)"),
        ([0, 0, "9", 9], f"{LENGTH}, got (0, 0, '9', 9)"),
        ([0, 0, True, 9], f"{LENGTH}, got (0, 0, True, 9)"),
    ],
)
def test_one_bad_box_costs_that_box_and_a_line_not_the_picture(
    bad: list[Any], problem: str, folder: Path, poses: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    save({"photo.png": [CORNERS[0], bad, CORNERS[1]], "other.png": [bad]})
    capsys.readouterr()
    assert run("photo.png", "other.png", "--boxes", "boxes.json") == 2
    assert complaints(capsys) == [
        f"posepost: photo.png: boxes[1] {problem}, left out",
        f"posepost: other.png: boxes[0] {problem}, left out",
    ]
    assert written(folder / "out")["poses"] == poses
    assert written(folder / "out", "other")["poses"] == []
    assert (folder / "out" / "other.overlay.png").exists()


def test_the_whole_picture_as_one_box_is_said_aloud_once_a_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("photo.png", "other.png") == 0
    assert complaints(capsys) == [ONE_PERSON]
    assert written(folder / "out")["poses"][0]["box"] == [0, 0, 200, 160]


@pytest.mark.parametrize(("box_format", "rows"), [("xywh", XYWH), ("cxcywh", MIDDLES)])
def test_boxes_of_other_formats(box_format: str, rows: list[Any], folder: Path, poses: list[Any]) -> None:
    save({"photo.png": rows})
    for arguments in (["--boxes", "boxes.json"], [f"--box={','.join(map(str, row))}" for row in rows]):
        assert run("photo.png", *arguments, "--box-format", box_format) == 0
        assert written(folder / "out")["poses"] == poses


def test_rows_of_a_detector_and_a_byte_order_mark(folder: Path, poses: list[Any]) -> None:
    """Windows' editors put a mark before UTF-8: it was no JSON."""
    for rows, scores in (
        ([[*row, 0.75] for row in CORNERS], [0.75, 0.75]),
        ([[*CORNERS[0], 0.75, 0], [*CORNERS[1], 0.5, 7]], [0.75, 0.5]),
        ([[*CORNERS[0], 0.75], CORNERS[1]], [0.75, None]),
    ):
        Path("boxes.json").write_text(json.dumps({"photo.png": rows}), encoding="utf-8-sig")
        assert run("photo.png", "--boxes", "boxes.json") == 0
        expected = [{**pose, "box_score": score} for pose, score in zip(poses, scores)]
        assert written(folder / "out")["poses"] == expected


def note(image: Any, box: Any, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, **more}


def test_coco_annotations(folder: Path, poses: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "images": [
            {"id": 7, "file_name": "train/photo.png"},
            {"id": 9, "file_name": "other.png"},
            {"id": 3, "file_name": "val/more.png"},
        ],
        "annotations": [
            note(7, XYWH[0], 2), note(9, XYWH[0], 5), note(7, XYWH[1], 2, iscrowd=0), note(7, XYWH[1], 5),
            note(3, XYWH[0], 2), note(7, [0, 0, 200, 160], 2, iscrowd=1),
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "Person"}],
    }  # fmt: skip
    save(document)
    capsys.readouterr()
    assert run("photo.png", "other.png", "--boxes", "boxes.json") == 0
    assert complaints(capsys) == []
    assert written(folder / "out")["poses"] == poses
    assert written(folder / "out", "other")["poses"] == []
    document["annotations"][0] = note(7, [10, 10, 0, 70], 2)
    save(document)
    assert run("photo.png", "--boxes", "boxes.json") == 2
    assert complaints(capsys) == [
        "posepost: photo.png: boxes[0] must be finite x, y, w, h with w and h above 0, got (10, 10, 0, 70), left out"
    ]


def test_coco_detection_results(folder: Path, poses: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    photograph(dots_in(PAIR[0]) + dots_in(PAIR[1])).save("000000000139.png")
    for image, name in (("photo", "photo.png"), ("photo.png", "photo.png"), (139, "000000000139.png")):
        mine = [note(image, box, score=score) for box, score in zip(XYWH, (0.5, 0.25))]
        save([note("x", XYWH[0]), *mine, note(image, [], 3)])
        capsys.readouterr()
        assert run(name, "other.png", "--boxes", "boxes.json") == 0
        assert complaints(capsys) == ["posepost: other.png: no boxes in boxes.json, so nobody is looked for"]
        expected = [{**pose, "box_score": score} for pose, score in zip(poses, (0.5, 0.25))]
        assert written(folder / "out", Path(name).stem)["poses"] == expected
        assert written(folder / "out", "other")["poses"] == []


def test_images_of_coco_are_found_by_the_most_of_their_path(tmp_path: Path) -> None:
    names = ("a/x.png", "b/x.png", "y.png")
    document = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [note(number, [number, 0, 1, 1]) for number in range(3)],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document))
    images = ["a/x.png", "data/b/x.png", "elsewhere/y.png"]
    assert read_box_file(str(path), images).rows == {one: [[i, 0, 1, 1]] for i, one in enumerate(images)}
    path.write_text(json.dumps([note(42, [1, 2, 3, 4])]))
    for name in ("42.jpg", "COCO_val2014_000000000042.jpg"):
        assert read_box_file(str(path), [name]).rows == {name: [[1, 2, 3, 4]]}


def test_people_of_a_detector_of_people_alone(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    for category in (0, 1, "1"):
        path.write_text(json.dumps([note("a", [1, 2, 3, 4], category)]))
        assert read_box_file(str(path), ["a.jpg"]).rows == {"a.jpg": [[1, 2, 3, 4]]}
    path.write_text(json.dumps([{"image_id": "a", "bbox": [1, 2, 3, 4]}]))
    assert read_box_file(str(path), ["a.jpg"]).rows == {"a.jpg": [[1, 2, 3, 4]]}


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"a.jpg": []}, "a.jpg"),
        ([note("a", [1, 2, 3, 4])], "a"),
        ({"images": [{"id": 5, "file_name": "a.jpg"}], "annotations": []}, "5"),
    ],
)
def test_two_pictures_got_the_boxes_of_one(document: Any, key: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document))
    read_box_file(str(path), ["x/a.jpg", "x/a.jpg"])
    with pytest.raises(ValueError, match=rf"must tell images apart, got {key} for x/a\.jpg and y/a\.jpg\Z"):
        read_box_file(str(path), ["x/a.jpg", "y/a.jpg"])


CATEGORIES = "must have COCO's category_id, 1 for a person, or people alone, all 0, got"
PLACE = [{"id": 1, "file_name": "photo.png"}]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"images": PLACE, "annotations": [], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]},
         'must have a category named "person", got "cat", "dog"'),
        ({"images": [{"id": 1, "file_name": "z.png"}], "annotations": []},
         "must have the boxes of each image, got none for photo.png"),
        ({"images": [*PLACE, {"id": 2, "file_name": "photo.png"}], "annotations": []},
         "must have one image of the name photo.png, got 2"),
        ({"images": PLACE, "annotations": [{"id": 1}]},
         'must have image_id and bbox in each annotation, got [{"id": 1}]'),
        ([note("z", XYWH[0])], "must have the boxes of the images, got none for photo.png"),
        ([note("photo", XYWH[0], 0), note("photo", XYWH[0], 1)], f"{CATEGORIES} 0, 1"),
        ([note("photo", XYWH[0], 15), note("photo", XYWH[0], 7)], f"{CATEGORIES} 7, 15"),
        ([note("photo", XYWH[0], [])], f"{CATEGORIES} []"),
        ({"photo.png": "?"}, 'must hold [[x0, y0, x1, y1], ...] for photo.png, got "?"'),
    ],
)  # fmt: skip
def test_a_file_that_leaves_a_doubt_is_refused(
    document: Any, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(document)
    assert run("photo.png", "--boxes", "boxes.json") == 2
    assert complaints(capsys) == [f"posepost: --boxes boxes.json {message}"]
    assert not (folder / "out").exists()


def test_a_file_too_deep_or_with_too_long_a_number_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("[" * 100_000, f'{{"photo.png": [[0, 0, 9, {"9" * 5000}]]}}'):
        Path("boxes.json").write_text(text)
        assert run("photo.png", "--boxes", "boxes.json") == 2
        (line,) = complaints(capsys)
        assert line.startswith("posepost: --boxes boxes.json must be a JSON file, got ")


def test_a_format_without_boxes_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("photo.png", "--box-format", "xywh") == 2
    assert complaints(capsys) == ["posepost: --box-format is for --box and --boxes, got xywh without them"]


def test_a_joint_that_is_nowhere_was_a_number(folder: Path) -> None:
    """repro 11: a map of zeros, after a ReLU, is (-1, -1) cells by MMPose's rule, which a transform makes any place."""
    photograph([dot for dot in dots_in(PAIR[0]) if dot[2] != 1]).save("two.png")
    for preset in ("mmpose_msra", "hrnet", "mmpose_udp", "openpose", "sleap", "higherhrnet", "trt_pose"):
        assert run("two.png", "--box", "10,10,50,80", "--preset", preset) == 0
        (pose,) = written(folder / "out", "two")["poses"]
        assert [joint["x"] is None for joint in pose["keypoints"]] == [False, True, False], preset
        assert pose["keypoints"][1] == {"name": "keypoint 1", "x": None, "y": None, "score": 0.0}
        assert np.isfinite([pose["keypoints"][k][axis] for k in (0, 2) for axis in "xy"]).all()


def test_a_soft_argmax_keeps_joints_whose_score_is_no_measure(folder: Path) -> None:
    """Its scores are maxima of whatever the network puts out, below 0 too."""
    photograph([dot for dot in dots_in(PAIR[0]) if dot[2] != 1]).save("two.png")
    assert run("two.png", "--box", "10,10,50,80", "--preset", "mmpose_integral") == 0
    (pose,) = written(folder / "out", "two")["poses"]
    assert pose["keypoints"][1]["score"] == 0
    assert [joint["x"] is None for joint in pose["keypoints"]] == [False] * 3
