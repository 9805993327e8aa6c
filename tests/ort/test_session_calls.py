"""A session called with a picture: read, upright, everybody or those in boxes, filtered, waited for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

import posepost
from posepost import cli, ort
from posepost._image import read_image

from ..dots import BOXES, PAIR, dots_in, photograph
from ..onnx_models import build, exactly, network

ASSETS = Path(posepost.__file__).parent / "assets"
NO_BOXES = "no boxes given: the whole picture is taken as one person; boxes= says where people are"


@pytest.fixture(scope="module")
def figures() -> ort.PoseSession:
    return ort.PoseSession(ASSETS / "figures.onnx")


def test_a_call_finds_everybody_that_the_command_finds(figures: ort.PoseSession, tmp_path: Path) -> None:
    people = figures(ASSETS / "crowd.png")
    truth = json.loads((ASSETS / "crowd.json").read_text())["people"]
    assert len(people) == len(truth) > 1
    assert (people.scores >= 0.25).all()
    assert people.names == figures.model.keypoints
    assert people.boxes is None
    assert cli.main(["run", str(ASSETS / "figures.onnx"), str(ASSETS / "crowd.png"), "-o", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "crowd.json").read_text())["poses"]
    for person, pose in zip(people, written, strict=True):
        assert float(str(person.score)) == pose["score"]
        points = [(float(str(x)), float(str(y))) for x, y in person.keypoints]
        assert points == [(joint["x"], joint["y"]) for joint in pose["keypoints"]]
        assert person.box is None
    drawn = Image.open(tmp_path / "crowd.overlay.png")
    assert np.array_equal(np.asarray(drawn), np.asarray(people.overlay()))


def test_a_picture_on_its_side_is_found_upright_in_python_too(figures: ort.PoseSession, tmp_path: Path) -> None:
    upright = read_image(ASSETS / "scene.png")
    exif = Image.Exif()
    exif[274] = 6
    phone = tmp_path / "phone.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(phone, exif=exif)
    right = figures(upright)
    for picture in (phone, str(phone), Image.open(phone), np.asarray(upright)):
        people = figures(picture)
        assert np.array_equal(people.keypoints, right.keypoints)
        assert people.picture.size == upright.size
    bgr = figures(np.asarray(upright)[..., ::-1], channels="BGR")
    assert np.array_equal(bgr.keypoints, right.keypoints)
    with pytest.raises(ValueError, match=r'^channels must be "RGB" but for NumPy arrays'):
        figures(phone, channels="BGR")


def test_scores_filter_people(figures: ort.PoseSession) -> None:
    everybody = figures(ASSETS / "crowd.png", score=0)
    least = float(np.median(everybody.scores))
    some = figures(ASSETS / "crowd.png", score=least)
    assert np.array_equal(some.scores, everybody.scores[everybody.scores >= least])
    assert 0 < len(some) < len(everybody)
    one = figures(ASSETS / "crowd.png", people="one")
    assert len(one) == 1
    assert np.isclose(one.scores[0], one.keypoint_scores[0].mean())
    assert len(figures(ASSETS / "crowd.png", people="one", score=1)) == 0
    with pytest.raises(ValueError, match=exactly('people must be "one" or "all", got 2')):
        figures(ASSETS / "crowd.png", people=2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=exactly("score must be a number, got str")):
        figures(ASSETS / "crowd.png", score="0.5")  # type: ignore[arg-type]


def test_a_model_without_displacements_finds_one() -> None:
    session = ort.PoseSession(build())
    picture = np.zeros((33, 49, 3), np.uint8)
    assert len(session(picture)) == 1
    with pytest.raises(ValueError, match=r"^model: no displacement_fwd and displacement_bwd among the outputs"):
        session(picture, people="all")


def test_one_bad_box_does_not_cost_the_picture() -> None:
    session = ort.TopDownSession(network())
    image = photograph(dots_in(PAIR[0]) + dots_in(PAIR[1]))
    empty = (30, 30, 30, 40)
    with pytest.warns(ort.BoxWarning, match=r"^boxes\[1\] must be finite x0, .*, got \(30, 30, 30, 40\), left out$"):
        people = session(image, [PAIR[0], empty, PAIR[1]])
    assert np.array_equal(people.boxes, [PAIR[0], PAIR[1]])
    assert len(people.left_out) == 1
    images, transforms = session.crop(image, list(PAIR))
    assert np.array_equal(people.keypoints, session.run(images, transform=transforms).keypoints)
    scored = session(image, [(*PAIR[0], 0.75, 0)])
    assert np.array_equal(scored.box_scores, [0.75])
    assert np.array_equal(scored.keypoints[0], people.keypoints[0])
    assert len(session(image, [])) == 0


def test_the_whole_picture_as_one_box_is_said_aloud() -> None:
    session = ort.TopDownSession(network())
    image = photograph(dots_in(BOXES["upright"]))
    with pytest.warns(ort.BoxWarning, match=exactly(NO_BOXES)):
        people = session(image)
    assert np.array_equal(people.boxes, [(0, 0, *image.size)])


def test_an_absent_joint_is_nan_and_null(tmp_path: Path) -> None:
    """A dead channel after a ReLU: by MMPose's rule at (-1, -1), which no transform may turn into a place."""
    data = build({"heatmaps": 3}, size=(64, 48), tail="Relu")
    session = ort.TopDownSession(data)
    black = np.zeros((48, 64, 3), np.uint8)
    people = session(black, (0, 0, 64, 48))
    dead = people.keypoint_scores <= 0
    assert dead.any()
    assert np.isnan(people.keypoints[dead]).all()
    assert np.isfinite(people.keypoints[~dead]).all()
