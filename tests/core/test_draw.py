"""Pictures: what is drawn where, and what is left alone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost import Scheme, draw
from posepost._image import letterbox

GREY = np.full((120, 160, 3), 90, np.uint8)


def person(left: float = 20, top: float = 20) -> np.ndarray[Any, Any]:
    """17 joints that stand well apart: odd (left) ones in one column, even (right) ones in another."""
    k = np.arange(17)
    return np.stack([left + 60 * (k % 2 == 0), top + 5 * k], axis=1).astype(np.float32)


def color_at(picture: Image.Image, point: Any) -> tuple[int, ...]:
    return tuple(np.asarray(picture)[round(float(point[1])), round(float(point[0]))].tolist())


def test_joints_have_the_color_of_their_side_and_limbs_join_them() -> None:
    points = person()
    picture = draw.overlay(GREY, points[None], np.ones((1, 17)), scheme="coco")
    assert picture.size == (160, 120)
    assert color_at(picture, points[9]) == draw.LEFT
    assert color_at(picture, points[10]) == draw.RIGHT
    assert color_at(picture, points[0]) == draw.MIDDLE
    assert color_at(picture, (points[7] + points[9]) / 2) == draw.LEFT
    assert color_at(picture, (points[8] + points[10]) / 2) == draw.RIGHT
    assert (GREY == 90).all()


def test_shapes_of_one_person_and_of_a_batch_of_one_are_the_same_picture() -> None:
    one = draw.overlay(GREY, person(), np.ones(17), scheme="coco")
    batch = draw.overlay(GREY, person()[None], np.ones((1, 17)), scheme="coco")
    assert np.array_equal(np.asarray(one), np.asarray(batch))


def test_several_people_have_a_color_each() -> None:
    points = np.stack([person(10), person(85)])
    picture = draw.overlay(Image.fromarray(GREY), points, np.ones((2, 17)), scheme="coco")
    for k in (9, 10):
        assert color_at(picture, points[0, k]) == draw.PEOPLE[0]
        assert color_at(picture, points[1, k]) == draw.PEOPLE[1]


def test_weak_and_broken_joints_are_left_out_with_their_limbs() -> None:
    points, scores = person(), np.ones(17)
    assert np.array_equal(np.asarray(draw.overlay(GREY, points, np.zeros(17))), GREY)
    assert np.array_equal(np.asarray(draw.overlay(GREY, np.full((17, 2), np.nan), scores)), GREY)
    alone = np.zeros(17)
    alone[9] = 1
    changed = (np.asarray(draw.overlay(GREY, points, alone)) != GREY).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert abs(rows - points[9, 1]).max() < 8
    assert abs(columns - points[9, 0]).max() < 8
    assert np.array_equal(np.asarray(draw.overlay(GREY, points, np.full(17, 0.4), min_score=0.41)), GREY)
    broken, weak = points.copy(), scores.copy()
    broken[9, 0], broken[12, 1], weak[[9, 12]] = np.nan, np.inf, 0
    expected = draw.overlay(GREY, points, weak, scheme="coco")
    assert np.array_equal(np.asarray(draw.overlay(GREY, broken, scores, scheme="coco")), np.asarray(expected))


def test_the_picture_beside_the_lines_is_as_it_was() -> None:
    picture = np.random.default_rng(2).integers(0, 256, GREY.shape, dtype=np.uint8)
    drawn = np.asarray(draw.overlay(picture, person(), np.ones(17), scheme="coco"))
    assert np.array_equal(drawn[:, 100:], picture[:, 100:])
    assert np.array_equal(drawn[110:], picture[110:])


def test_joints_far_outside_do_no_harm() -> None:
    points = person()
    points[9] = 3e38, -3e38
    points[10] = -400, 50
    picture = draw.overlay(GREY, points, np.ones(17), scheme="coco")
    assert color_at(picture, points[7]) == draw.LEFT
    outside = draw.overlay(GREY, points + 1e6, np.ones(17))
    assert np.array_equal(np.asarray(outside), GREY)


def test_edges_are_smooth() -> None:
    points = np.array([[20.3, 20.6]])
    row = np.asarray(draw.overlay(GREY, points, [1.0])).astype(int).sum(axis=2)[21]
    assert len(set(row[10:32].tolist())) > 4


def test_joints_without_a_scheme_have_no_limbs() -> None:
    points = np.array([[20.0, 20.0], [140.0, 100.0]])
    picture = np.asarray(draw.overlay(GREY, points, np.ones(2)))
    assert tuple(picture[20, 20]) == draw.MIDDLE
    assert tuple(picture[60, 80]) == (90, 90, 90)


def test_seventeen_joints_are_not_drawn_as_cocos() -> None:
    """Joints alone, in one color, unless it is said what they are."""
    points = person()
    picture = draw.overlay(GREY, points, np.ones(17))
    assert {color_at(picture, point) for point in points} == {draw.MIDDLE}
    assert color_at(picture, (points[7] + points[9]) / 2 + [2, 0]) == (90, 90, 90)
    h36m = draw.overlay(GREY, points, np.ones(17), scheme="h36m")
    assert [color_at(h36m, points[k]) for k in (0, 4, 1)] == [draw.MIDDLE, draw.LEFT, draw.RIGHT]


def test_limbs_and_sides_are_those_of_the_scheme() -> None:
    points = np.array([[20.0, 20.0], [20.0, 100.0], [140.0, 20.0], [140.0, 100.0]])
    scheme = Scheme("", ("wingL1", "wingL2", "wingR1", "wingR2"), ((0, 1), (2, 3), (0, 2)))
    for given in (scheme, list(scheme.keypoints)):
        picture = draw.overlay(GREY, points, np.ones(4), scheme=given)
        middles = [color_at(picture, point) for point in ([20, 60], [140, 60], [80, 20], [80, 100])]
        grey = (90, 90, 90)
        if given is scheme:
            assert middles == [draw.LEFT, draw.RIGHT, draw.MIDDLE, grey]
        else:
            assert middles == [grey] * 4
        assert [color_at(picture, point) for point in points] == [draw.LEFT] * 2 + [draw.RIGHT] * 2


def test_dots_of_face_and_hands_are_small_beside_the_body() -> None:
    """133 dots of one size would be one blot."""
    picture = np.full((480, 640, 3), 90, np.uint8)
    points = np.full((133, 2), np.nan)
    points[[9, 30, 100, 0]] = (60, 60), (200, 60), (340, 60), (560, 400)  # a wrist, the face, a finger, the nose
    drawn = np.asarray(draw.overlay(picture, points, np.ones(133), scheme="coco_wholebody"))
    wide = [(drawn[60, x - 30 : x + 31] != 90).any(axis=1).sum() for x in (60, 200, 340)]
    assert wide[0] > 1.7 * wide[1]
    assert wide[1] == wide[2] > 3
    face = np.asarray(draw.overlay(picture, points[23:91], np.ones(68), scheme="face68"))
    assert (face[60, 170:231] != 90).any(axis=1).sum() > 3


def test_a_scheme_of_other_keypoints_is_refused() -> None:
    message = "scheme must have as many keypoints as keypoints has, 17, got 26"
    with pytest.raises(ValueError, match=rf"\A{message}\Z"):
        draw.overlay(GREY, person(), np.ones(17), scheme="halpe26")


def test_scale_enlarges_the_picture_and_moves_the_joints_with_it() -> None:
    picture = draw.overlay(GREY, person(), np.ones(17), scheme="coco", scale=3)
    assert picture.size == (480, 360)
    assert color_at(picture, (person()[9] + 0.5) * 3 - 0.5) == draw.LEFT


@pytest.mark.parametrize(
    ("image", "points", "scores", "kind", "message"),
    [
        (
            GREY,
            np.zeros((17, 3)),
            np.zeros(17),
            ValueError,
            "keypoints must have shape (N, K, 2) or (K, 2), got (17, 3)",
        ),
        (
            GREY,
            np.zeros((17, 2)),
            np.zeros(16),
            ValueError,
            "scores must have shape (1, 17) to fit keypoints, got (1, 16)",
        ),
        ([[0]], person(), np.ones(17), TypeError, "image must be a path, a PIL image or a NumPy array, got list"),
    ],
)
def test_wrong_arguments(image: Any, points: Any, scores: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=rf"\A{re.escape(message)}\Z"):
        draw.overlay(image, points, scores)


def test_heatmap_is_enlarged_from_dark_to_light_with_its_peak_ringed() -> None:
    heatmap = np.zeros((24, 32), np.float32)
    heatmap[4, 25] = 2
    heatmap[20, 3] = 1
    picture = np.asarray(draw.heatmap_picture(heatmap)).astype(int)
    assert picture.shape == (480, 640, 3)
    brightness = picture.sum(axis=2)
    center = {name: brightness[20 * y + 10, 20 * x + 10] for name, (x, y) in (("peak", (25, 4)), ("half", (3, 20)))}
    assert center["peak"] > center["half"] > brightness[300, 300]
    white = np.argwhere((picture == 255).all(axis=2))
    assert len(white) > 20
    distance = np.hypot(white[:, 1] - (25.5 * 20 - 0.5), white[:, 0] - (4.5 * 20 - 0.5))
    assert abs(distance - 15).max() < 2


def test_heatmap_point_is_in_cells() -> None:
    picture = np.asarray(draw.heatmap_picture(np.zeros((10, 10)), (2.25, 7.0)))
    rows, columns = np.nonzero((picture == 255).all(axis=2))
    assert rows.mean() == pytest.approx(7.5 * 64 - 0.5, abs=0.6)
    assert columns.mean() == pytest.approx(2.75 * 64 - 0.5, abs=0.6)


@pytest.mark.parametrize(
    "heatmap",
    [np.full((5, 7), -3.0), np.full((5, 7), np.nan), np.array([[-np.inf, 1.0], [np.inf, np.nan]]), np.zeros((1, 1))],
)
def test_odd_heatmaps_are_drawn(heatmap: Any) -> None:
    picture = draw.heatmap_picture(heatmap)
    assert picture.width == heatmap.shape[1] * (640 // max(heatmap.shape))


def test_large_heatmaps_keep_their_size() -> None:
    assert draw.heatmap_picture(np.random.default_rng(0).normal(size=(700, 900))).size == (900, 700)


def test_wrong_heatmap() -> None:
    with pytest.raises(ValueError, match=r"\Aheatmap must have shape \(H, W\), got \(2, 3, 4\)\Z"):
        draw.heatmap_picture(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("image", "size", "padding"),
    [((640, 480), (257, 257), (0, 160)), ((480, 640), (257, 257), (160, 0)), ((100, 50), (100, 50), (0, 0))],
)
def test_letterbox_puts_a_point_where_the_transform_takes_it_from(
    image: tuple[int, int], size: tuple[int, int], padding: tuple[int, int]
) -> None:
    width, height = image
    picture = np.zeros((height, width, 3), np.uint8)
    picture[height // 2 - 5 : height // 2 + 5, 30:40] = 255
    pixels, transform = letterbox(picture, size)
    assert pixels.shape == (*size[::-1], 3)
    rows, columns = np.nonzero(pixels[..., 0] > 100)
    x, y = transform @ np.array([columns.mean() + 0.5, rows.mean() + 0.5, 1])
    assert x == pytest.approx(35, abs=1)
    assert y == pytest.approx(height / 2, abs=1)
    assert transform[0, 0] == pytest.approx((width + padding[0]) / size[0])
    assert transform[1, 1] == pytest.approx((height + padding[1]) / size[1])
    assert (transform[0, 2], transform[1, 2]) == (-(padding[0] // 2), -(padding[1] // 2))


def test_letterbox_refuses_what_would_fill_the_memory() -> None:
    message = "image of 60000x1 pixels is too far from the network's shape: padded it would have 60000x60000"
    with pytest.raises(ValueError, match=rf"\A{re.escape(message)}\Z"):
        letterbox(np.zeros((1, 60000, 3), np.uint8), (257, 257))


PEOPLE_17 = np.zeros((1, 17, 2))
NO_DRAWING = [
    ({"keypoints": "abc"}, TypeError, "keypoints must be numbers of shape (N, K, 2) or (K, 2), got 'abc'"),
    ({"keypoints": PEOPLE_17 + 1j}, TypeError, "keypoints must be numbers of shape (N, K, 2) or (K, 2), got dtype complex128"),  # noqa: E501
    ({"scores": [[10**400]]}, TypeError, f"scores must be numbers of shape (N, K) or (K,), got [[{10**400}]]"),
    ({"min_score": "0.3"}, TypeError, "min_score must be a number, got str"),
    ({"scale": 1.5}, TypeError, "scale must be an int, got float"),
    ({"scale": 0}, ValueError, "scale must be at least 1, got 0"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(NO_DRAWING)))
def test_an_overlay_of_what_is_no_number_is_refused_by_name(case: int) -> None:
    changed, error, message = NO_DRAWING[case]
    with pytest.raises(error) as caught:
        draw.overlay(**{"image": GREY, "keypoints": PEOPLE_17, "scores": np.ones((1, 17)), **changed})
    assert str(caught.value) == message


def test_a_point_to_ring_is_two_numbers() -> None:
    for point, error, message in (
        (5, ValueError, "point must have shape (2,), got ()"),
        ([1, 2, 3], ValueError, "point must have shape (2,), got (3,)"),
        (("1", "2"), TypeError, "point must be numbers (x, y), got ('1', '2')"),
    ):
        with pytest.raises(error) as caught:
            draw.heatmap_picture(np.zeros((4, 5)), point)
        assert str(caught.value) == message
