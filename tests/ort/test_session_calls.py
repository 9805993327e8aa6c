"""A session called with a picture: read, upright, everybody or those in boxes, filtered, waited for."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

import posepost
from posepost import cli, ort
from posepost._image import as_image

from ..dots import BOXES, PAIR, dots_in, photograph
from ..onnx_models import FOUR, build, exactly, network, pixels

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
    upright = as_image(ASSETS / "scene.png")
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


def test_a_stride_that_the_maps_deny_gave_points_elsewhere(figures: ort.PoseSession) -> None:
    for stride in (7, 9, 16):
        session = ort.PoseSession(ASSETS / "figures.onnx", output_stride=stride)
        message = (
            f"output_stride must be the input pixels of a cell, of which an input of 192x192 has 24x24, got {stride}"
        )
        with pytest.raises(ValueError, match=exactly(message)):
            session(ASSETS / "scene.png")
    right = ort.PoseSession(ASSETS / "figures.onnx", output_stride=8)(ASSETS / "scene.png")
    assert np.array_equal(right.keypoints, figures(ASSETS / "scene.png").keypoints)
    metadata = {"posepost.output_stride": "16"}
    stated = ort.PoseSession(build(metadata=metadata))
    with pytest.raises(ValueError, match=r"^model: posepost\.output_stride must be .* 49x33 has 7x5, got 16$"):
        stated(np.zeros((33, 49, 3), np.uint8))


def test_a_size_by_a_slip_took_all_memory(figures: ort.PoseSession) -> None:
    with pytest.raises(ValueError, match=exactly("size must have at most 67108864 pixels, got 99999x99999")):
        figures(ASSETS / "scene.png", size=(99999, 99999))
    with pytest.raises(ValueError, match=exactly("size must have at most 67108864 pixels, got 99999x99999")):
        ort.TopDownSession(network(size=(None, None))).crop(ASSETS / "scene.png", size=(99999, 99999))


@pytest.mark.parametrize("score", [25, -1, float("nan")])
def test_a_least_score_in_percent_found_nobody(figures: ort.PoseSession, score: float) -> None:
    with pytest.raises(ValueError, match=exactly(f"score must be from 0 to 1, got {score}")):
        figures(ASSETS / "crowd.png", score=score)


def test_four_heads_without_names_made_one_person_of_a_crowd() -> None:
    """Displacements are there, and which is which decides between right poses and wrong ones."""
    data = build({"a": 17, "b": 34, "c": 32, "d": 32})
    picture = np.zeros((33, 49, 3), np.uint8)
    message = (
        'people must be "one", or heads= must name displacement_fwd and displacement_bwd: c and d of model are these, '
        "but nothing tells which is which"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        ort.PoseSession(data)(picture)
    assert len(ort.PoseSession(data)(picture, people="one")) == 1
    named = {"displacement_fwd": "c", "displacement_bwd": "d"}
    assert len(ort.PoseSession(data, heads=named)(picture, score=0)) > 1


def test_heads_that_are_no_dict_are_said_in_our_words() -> None:
    for heads in (["heatmaps"], "heatmaps"):
        message = f"heads must be a dict from heads to outputs, got {type(heads).__name__}"
        for read in (ort.PoseSession, ort.TopDownSession, ort.recognize):
            with pytest.raises(TypeError, match=exactly(message)):
                read(build(), heads=heads)  # type: ignore[operator]


def test_displacements_of_another_skeleton_made_one_person_of_a_crowd() -> None:
    data = build({"heatmaps": 5, "offsets": 10, "displacement_fwd": 8, "displacement_bwd": 8})
    picture = np.zeros((33, 49, 3), np.uint8)
    message = (
        'model: several people need PoseNet\'s 17 keypoints, got 5; skeleton= joins others; people="one" finds one'
    )
    with pytest.raises(ValueError, match=exactly(message)):
        ort.PoseSession(data)(picture)
    assert len(ort.PoseSession(data)(picture, people="one")) == 1
    assert len(ort.PoseSession(data, skeleton=[(0, 1), (1, 2), (2, 3), (3, 4)])(picture, score=0)) > 1


def test_max_poses_that_is_no_number_is_said_in_our_words() -> None:
    session = ort.PoseSession(build(FOUR, batch=3))
    with pytest.raises(TypeError, match=exactly("max_poses must be an int, got str")):
        session.run_multi(pixels(session), max_poses="many")  # type: ignore[arg-type]


def test_a_default_preset_is_said_aloud() -> None:
    message = (
        "model: no preset given: decoded by the rules of mmpose_msra, which the graph does not tell; preset= says whose"
    )
    with pytest.warns(ort.PresetWarning, match=exactly(message)):
        ort.TopDownSession(network())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ort.TopDownSession(network(), preset="mmpose_msra")


def test_people_are_shown_in_a_line(figures: ort.PoseSession) -> None:
    people = figures(ASSETS / "crowd.png", people="one")
    assert repr(people) == "<People: 1, of 17 keypoints, in a picture of 192x192 pixels>"
