"""What the keypoints of a model are: said, read from its metadata, or not known; never told by their number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from posepost import Scheme, ort
from posepost.schemes import SCHEMES, sides_of

from ..dots import found, photograph, photograph_pixels
from ..onnx_models import FOUR, Channel, build, exactly, network, outputs_only

SEVENTEEN = outputs_only({"a": (17, 64, 48)})
SIMCC = outputs_only({"x": (17, 384), "y": (17, 512)})


def channels(scheme: str) -> list[Channel]:
    return [(1, side) if side else (0, "") for side in sides_of(SCHEMES[scheme].keypoints)]


@pytest.mark.parametrize("data", [SEVENTEEN, SIMCC])
def test_seventeen_keypoints_are_not_taken_for_coco(data: bytes) -> None:
    model = ort.read_topdown(data)
    assert model.scheme is None
    assert model.keypoints == tuple(f"keypoint {k}" for k in range(17))
    assert model.keypoints_by == "unknown: 17 keypoints may be those of coco, h36m, ap10k or others; give keypoints="
    assert f"names are        {model.keypoints_by}" in ort.describe(model)


def test_a_number_of_keypoints_that_only_one_scheme_has_is_no_proof_of_it() -> None:
    for count, by in (
        (133, "unknown: 133 keypoints may be those of coco_wholebody or others; give keypoints="),
        (21, "unknown: 21 keypoints may be those of hand21, interhand, rhd or others; give keypoints="),
        (5, "unknown: no scheme has 5 keypoints; give keypoints="),
    ):
        model = ort.read_topdown(outputs_only({"a": (count, 64, 48)}))
        assert (model.scheme, model.keypoints_by, model.keypoints[-1]) == (None, by, f"keypoint {count - 1}")


def test_the_keypoints_of_posenet_are_those_of_coco() -> None:
    model = ort.read_model(build())
    assert (model.scheme, model.keypoints_by) == (SCHEMES["coco"], "coco (PoseNet's)")
    five = ort.read_model(build({"heatmaps": 5, "offsets": 10}))
    assert (five.scheme, five.keypoints[4]) == (None, "keypoint 4")
    hidden = ort.PoseSession(build(hide_maps=True))
    assert (hidden.model.scheme, hidden.keypoint_scheme(17)) == (SCHEMES["coco"], SCHEMES["coco"])
    assert hidden.keypoint_names(17)[0] == "nose"


@pytest.mark.parametrize("name", ["h36m", "ap10k", "coco"])
def test_seventeen_keypoints_have_the_names_limbs_and_partners_of_the_scheme_that_is_given(name: str) -> None:
    session = ort.TopDownSession(network(channels=channels(name)), keypoints=name)
    assert (session.model.scheme, session.model.keypoints_by) == (SCHEMES[name], f"{name} (given)")
    assert session.keypoint_names(17) == session.model.keypoints == SCHEMES[name].keypoints
    assert session.flip_pairs(17) == SCHEMES[name].flip_pairs


@pytest.mark.parametrize("kind", ["simcc", "heatmap"])
@pytest.mark.parametrize("name", ["ap10k", "h36m"])
def test_the_flip_test_of_17_keypoints_does_not_average_them_with_partners_of_coco(kind: str, name: str) -> None:
    """A left and a right dot 301 pixels apart: with COCO's partners a joint lands on that of the other side."""
    dots, box = [(300, 90, 0), (150, 200, 1), (451, 260, 1)], (0, 0, 600, 400)
    image = photograph(dots, size=(600, 400), spread=12.0)
    data = network(kind, channels(name), size=(128, 192))
    sides = sides_of(SCHEMES[name].keypoints)
    truth = np.array([dots[0] if not side else dots[1] if side == "left" else dots[2] for side in sides])[:, :2]

    def off(**arguments: Any) -> np.ndarray[Any, Any]:
        result = found(ort.TopDownSession(data, **arguments), image, box, flip=True)
        return np.abs(result.keypoints[0] - truth)[:, 0]

    assert off(keypoints=name).max() < 2 * photograph_pixels(box, (128, 192))
    assert off(flip_pairs=SCHEMES["coco"].flip_pairs).max() > 290
    with pytest.raises(ValueError, match=r"^flip_pairs must be given for a flip test"):
        off()


def test_a_flip_test_of_names_that_do_not_tell() -> None:
    session = ort.TopDownSession(network(), keypoints=["tip", "middle", "tail"])
    message = (
        "flip_pairs must be given for a flip test, or keypoints= with names that tell left from right, because the "
        "names of the 3 keypoints of model do not tell, got None"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        session.flip_pairs(3)
    given = ort.TopDownSession(network(), keypoints=["tip", "middle", "tail"], flip_pairs=(2, 1, 0))
    assert given.flip_pairs(3) == (2, 1, 0)
    bar = Scheme("bar", ("one end", "middle", "other end"), (), (2, 1, 0))
    assert ort.TopDownSession(network(), keypoints=bar).flip_pairs(3) == (2, 1, 0)
    assert ort.TopDownSession(network(), keypoints=bar, flip_pairs=(0, 1, 2)).flip_pairs(3) == (0, 1, 2)


def test_hands_are_flipped_without_left_and_right() -> None:
    hand = outputs_only({"a": (21, 64, 48)})
    model = ort.read_topdown(hand, keypoints="hand21")
    assert model.scheme is not None
    assert model.scheme.flip_pairs == tuple(range(21))


@pytest.mark.parametrize(
    ("metadata", "scheme", "by"),
    [
        ({"posepost.keypoints": "h36m"}, "h36m", "h36m (metadata)"),
        ({"posepost.keypoints": "AP-10K"}, "ap10k", "ap10k (metadata)"),
        ({"posepost.keypoints": ",".join(SCHEMES["h36m"].keypoints)}, "h36m", "h36m (metadata)"),
        ({"posepost.keypoints": str(list(SCHEMES["ap10k"].keypoints))}, "ap10k", "ap10k (metadata)"),
        ({"keypoint_names": str(list(SCHEMES["coco"].keypoints))}, "coco", "coco (metadata, keypoint_names)"),
        ({"kpt_names": str({0: list(SCHEMES["coco"].keypoints)})}, "coco", "coco (metadata, kpt_names)"),
        ({"posepost.keypoints": "h36m", "kpt_names": str({0: list(SCHEMES["coco"].keypoints)})}, "h36m",
         "h36m (metadata)"),
        ({"kpt_names": "{0: ['nose'], 1: ['tail']}"}, None, None),
        ({"kpt_names": "{0: ['nose', 'tail']}"}, None, None),
        ({"kpt_names": "{0: [" + "'a'," * 17 + "]}"}, None, None),
        ({"kpt_names": "("}, None, None),
    ],
)  # fmt: skip
def test_keypoints_from_metadata(metadata: dict[str, str], scheme: str | None, by: str | None) -> None:
    model = ort.read_topdown(network(channels=channels("coco"), metadata=metadata))
    assert model.scheme == (None if scheme is None else SCHEMES[scheme])
    assert by is None or model.keypoints_by == by
    given = ort.read_topdown(network(channels=channels("coco"), metadata=metadata), keypoints="h36m")
    assert given.keypoints_by == "h36m (given)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b", "model: posepost.keypoints must name 17 keypoints, got 2"),
        ("halpe26", "model: posepost.keypoints must name 17 keypoints, got 26"),
        ("cocoo", "model: posepost.keypoints must be 17 names with commas between them or coco, halpe26, "
         "coco_wholebody, h36m, ap10k, mpii, body25, openpose18, hand21, interhand, rhd, crowdpose, aic, face68 or "
         "lapa, got 'cocoo'"),
        (",".join("abcdefghijklmnopa"),
         "model: posepost.keypoints must be different names, got 'a' at 0 and 16"),
    ],
)  # fmt: skip
def test_wrong_metadata(text: str, message: str) -> None:
    data = network(channels=channels("coco"), metadata={"posepost.keypoints": text})
    with pytest.raises(ValueError, match=exactly(message)):
        ort.read_topdown(data)
    assert ort.read_topdown(data, keypoints="ap10k").scheme == SCHEMES["ap10k"]


def test_given_keypoints_must_be_as_many_as_the_model_has() -> None:
    for read, data in ((ort.read_topdown, SEVENTEEN), (ort.read_model, build())):
        with pytest.raises(
            ValueError, match=exactly("keypoints must name the 17 keypoints of model, got 26 (halpe26)")
        ):
            read(data, keypoints="halpe26")
        with pytest.raises(ValueError, match=exactly("keypoints must name the 17 keypoints of model, got 2")):
            read(data, keypoints=["a", "b"])


def test_keypoints_of_a_model_that_hides_their_number_are_counted_by_a_run_on_zeros() -> None:
    data = build(hide_maps=True)
    message = "keypoints must name the 17 keypoints of model, got 26 (halpe26)"
    with pytest.raises(ValueError, match=exactly(message)):
        ort.PoseSession(data, keypoints="halpe26")
    right = ort.PoseSession(data, keypoints="coco")
    assert right.run(np.zeros((1, 3, 33, 49), np.float32)).keypoints.shape == (1, 17, 2)


def test_posenets_skeleton_does_not_join_other_keypoints() -> None:
    model = ort.read_model(build(FOUR), keypoints="h36m")
    assert ort.multi_person_problem(model) == (
        "model: several people need PoseNet's keypoints, which are COCO's, got h36m's; skeleton= joins others"
    )
    assert ort.multi_person_problem(model, [(0, 1)]) is None
    assert ort.multi_person_problem(ort.read_model(build(FOUR))) is None
    assert ort.multi_person_problem(ort.read_model(build(FOUR), keypoints=[f"Punkt {k}" for k in range(17)])) is None
