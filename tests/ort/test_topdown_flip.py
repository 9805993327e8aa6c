"""The flip test: mirrored crops, and the keypoint that stands for each one there."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')


from posepost import Flip, ort

from ..dots import BOXES, found, photograph, photograph_pixels
from ..onnx_models import COCO, SIDES, exactly, network


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
def test_the_flip_test_swaps_left_and_right(kind: str) -> None:
    """A keypoint of the crop's left half is, in the mirrored crop, that of its right half: swapped, both agree."""
    dots = [(85, 60, 0), (70, 90, 1), (100, 70, 1)]
    image, box = photograph(dots), BOXES["upright"]
    good = ort.TopDownSession(network(kind, SIDES), flip_pairs=(0, 2, 1))
    bad = ort.TopDownSession(network(kind, SIDES), flip_pairs=(0, 1, 2))
    truth = np.array([dot[:2] for dot in dots])
    for flip in (False, True):
        result = found(good, image, box, flip=flip)
        assert np.abs(result.keypoints[0] - truth).max() < 2 * photograph_pixels(box)
    alone = found(good, image, box)
    assert found(good, image, box, flip=True).scores.min() > 0.8 * alone.scores.min()
    assert found(bad, image, box, flip=True).scores[0, 1] < 0.75 * alone.scores[0, 1]


def test_flip_pairs_of_coco_are_known_by_name() -> None:
    session = ort.TopDownSession(network(channels=COCO), keypoints="coco")
    pairs = session.flip_pairs(17)
    assert pairs == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    dots = [(85, 60, 0), (70, 90, 1), (100, 70, 1)]
    result = found(session, photograph(dots), BOXES["upright"], flip=True)
    truth = [dots[0] if not side else dots[1] if side == "left" else dots[2] for _, side in COCO]
    assert np.abs(result.keypoints[0] - np.array(truth)[:, :2]).max() < 2 * photograph_pixels(BOXES["upright"])


def test_flip_pairs_that_the_names_do_not_tell_must_be_given() -> None:
    session = ort.TopDownSession(network())
    images, _ = session.crop(photograph([]))
    message = (
        "flip_pairs must be given for a flip test, or keypoints= with names that tell left from right, because the "
        "names of the 3 keypoints of model are not known (no scheme has 3 keypoints), got None"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        session.run(images, flip=True)
    with pytest.raises(ValueError, match=exactly("flip_pairs must name the partner of each of 3 keypoints, got 2")):
        ort.TopDownSession(network(), flip_pairs=(1, 0))
    with pytest.raises(ValueError, match=exactly("flip_pairs must hold each of 0 to K - 1 once, got [0, 0, 1]")):
        ort.TopDownSession(network(), flip_pairs=(0, 0, 1))
    with pytest.raises(ValueError, match=exactly("flip_shift is for heatmaps, got it for the SimCC model model")):
        ort.TopDownSession(network("simcc"), flip_shift=True)


@pytest.mark.parametrize(
    ("preset", "shift"),
    [
        ("mmpose_msra", True),
        ("mmpose_dark", True),
        ("hrnet", True),
        ("mmpose_megvii", False),  # adds half a cell; was shifted
        ("mmpose_udp", False),
        ("vitpose_rtmlib", False),
        ("higherhrnet", False),
    ],
)
def test_mirrored_maps_are_shifted_where_cells_count_from_their_corner(preset: str, shift: bool) -> None:
    image = photograph([(85, 60, 0), (70, 90, 1), (100, 70, 1)])
    options = {"preset": preset, "flip_pairs": (0, 2, 1), "activation": None}
    data = network("heatmap", SIDES)
    default, same, other = (
        found(ort.TopDownSession(data, **options, **shifted), image, BOXES["upright"], flip=True)
        for shifted in ({}, {"flip_shift": shift}, {"flip_shift": not shift})
    )
    assert default == same
    assert not np.array_equal(default.scores, other.scores)


def test_partners_in_a_circle_were_averaged_with_others() -> None:
    message = "flip_pairs must be mutual, got 1 for 0 and 2 for 1"
    with pytest.raises(ValueError, match=exactly(message)):
        ort.TopDownSession(network(), flip_pairs=(1, 2, 0))
    maps = np.zeros((1, 3, 8, 6), np.float32)
    with pytest.raises(ValueError, match=exactly(message.replace("flip_pairs", "pairs"))):
        Flip(maps, (1, 2, 0))


def test_a_flip_of_no_is_not_yes() -> None:
    session = ort.TopDownSession(network(), flip_pairs=(0, 2, 1))
    with pytest.raises(TypeError, match=exactly("flip must be a bool, got str")):
        session(photograph([]), [[0, 0, 9, 9]], flip="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=exactly("flip_shift must be a bool, got int")):
        ort.TopDownSession(network(), flip_shift=1)  # type: ignore[arg-type]
