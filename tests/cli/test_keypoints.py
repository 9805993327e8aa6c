"""--keypoints: a scheme's name, or a file of names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost import cli, ort
from posepost.draw import overlay
from posepost.ort.people import SHOWN
from posepost.schemes import SCHEMES

from ..dots import BOXES, found
from ..onnx_models import COCO, network
from .commands import complaints, written

BOX = ["--box", "60,30,110,120", "-o", "out"]


def names(document: dict[str, list[dict[str, list[dict[str, str]]]]]) -> list[str]:
    return [joint["name"] for joint in document["poses"][0]["keypoints"]]


def test_seventeen_keypoints_have_no_names_until_they_are_given(folder: Path) -> None:
    session = ort.TopDownSession("coco.onnx")
    image = Image.open("photo.png")
    points = found(session, image, BOXES["upright"])
    for options, labels, scheme in (
        ([], [f"keypoint {k}" for k in range(17)], None),
        (["--keypoints", "H36M"], list(SCHEMES["h36m"].keypoints), "h36m"),
        (["--keypoints", "coco"], list(SCHEMES["coco"].keypoints), "coco"),
    ):
        assert cli.main(["run", "coco.onnx", "photo.png", *options, *BOX]) == 0
        assert names(written(folder / "out")) == labels
        drawn = overlay(image, points.keypoints, points.scores, scheme=scheme, min_score=SHOWN)
        with Image.open("out/photo.overlay.png") as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(drawn))


def test_flip_of_seventeen_unnamed_keypoints_is_refused_before_it_starts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "coco.onnx", "photo.png", "--flip", *BOX]) == 2
    (line,) = complaints(capsys)
    assert line.startswith("posepost: --flip-pairs must be given for a flip test, or --keypoints with names ")
    assert line.endswith(
        "because the names of the 17 keypoints of coco.onnx are not known (17 keypoints may be those of coco, h36m, "
        "ap10k or others), got None"
    )
    assert not (folder / "out").exists()
    for scheme in ("ap10k", "h36m"):
        assert cli.main(["run", "coco.onnx", "photo.png", "--flip", "--keypoints", scheme, *BOX]) == 0
        session = ort.TopDownSession("coco.onnx", flip_pairs=SCHEMES[scheme].flip_pairs)
        expected = found(session, Image.open("photo.png"), BOXES["upright"], flip=True)
        joints = written(folder / "out")["poses"][0]["keypoints"]
        points = np.float32([[joint["x"], joint["y"]] for joint in joints])
        assert np.array_equal(points, expected.numpy(absent=np.nan).keypoints[0], equal_nan=True)


def test_names_in_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("three.txt").write_text("nose\neye_l\neye_r\n")
    Path("three.json").write_text(json.dumps({"keypoints": ["nose", "eye_l", "eye_r"], "limbs": [[0, 1]]}))
    for file in ("three.txt", "three.json"):
        assert cli.main(["run", "heatmap.onnx", "photo.png", "--flip", "--keypoints", file, *BOX]) == 0
        assert names(written(folder / "out")) == ["nose", "eye_l", "eye_r"]
        capsys.readouterr()
        assert cli.main(["inspect", "heatmap.onnx", "--keypoints", file]) == 0
        out = capsys.readouterr().out
        assert "keypoints        3: nose, eye_l, eye_r\nnames are        given\n" in out


def test_keypoints_of_posenet_and_of_a_model_that_hides_their_number(folder: Path) -> None:
    assert cli.main(["run", "posenet.onnx", "photo.png", "--keypoints", "ap10k", "-o", "out"]) == 0
    assert names(written(folder / "out")) == list(SCHEMES["ap10k"].keypoints)
    Path("hidden.onnx").write_bytes(network(channels=COCO, hide=True))
    Path("none.json").write_text('{"photo.png": []}')
    options = ["--heads", "heatmaps=heatmaps", "--layout", "NCHW", "--keypoints", "coco", "--boxes", "none.json"]
    assert cli.main(["run", "hidden.onnx", "photo.png", *options, "-o", "out"]) == 0
    assert written(folder / "out")["poses"] == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cooc", "posepost: --keypoints must be coco, halpe26, coco_wholebody, h36m, ap10k, mpii, body25, openpose18, "
         "hand21, interhand, rhd, crowdpose, aic, face68 or lapa, a file or a list of names, got 'cooc'; did you mean "
         "coco?"),
        ("halpe26", "posepost: --keypoints must name the 17 keypoints of coco.onnx, got 26 (halpe26)"),
        ("absent.json", "posepost: absent.json: No such file or directory"),
        ("bad.json", "posepost: --keypoints bad.json: Expecting value: line 1 column 1 (char 0)"),
        (".", "posepost: .: Is a directory"),
    ],
)  # fmt: skip
def test_wrong_keypoints(value: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_text("nose")
    for command in (["run", "coco.onnx", "photo.png", "-o", "out"], ["inspect", "coco.onnx"]):
        assert cli.main([*command, "--keypoints", value]) == 2
        assert complaints(capsys) == [message]
    assert not (folder / "out").exists()
