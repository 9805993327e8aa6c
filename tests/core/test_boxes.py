"""Boxes as detectors and data sets hand them over; a bad one costs itself, and what is in doubt is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import posepost
from posepost._boxes import read_boxes

SIZE = (200, 160)
CORNERS = [[10.0, 20.0, 40.0, 60.0], [50.0, 5.0, 150.0, 155.5]]
XYWH = [[10.0, 20.0, 30.0, 40.0], [50.0, 5.0, 100.0, 150.5]]
MIDDLES = [[25.0, 40.0, 30.0, 40.0], [100.0, 80.25, 100.0, 150.5]]
SHAPES = "(N, 4), (N, 5) or (N, 6)"
RULE = "must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1"
LENGTH = "must be 4 numbers, 5 with a score or 6 with a class"


def exactly(message: str) -> str:
    return rf"\A{re.escape(message)}\Z"


@pytest.mark.parametrize(("box_format", "rows"), [("xyxy", CORNERS), ("xywh", XYWH), ("cxcywh", MIDDLES)])
def test_boxes_of_every_format_are_the_same_corners(box_format: str, rows: list[list[float]]) -> None:
    columns = {5: [[0.9], [0.25]], 6: [[0.9, 0], [0.25, 17]]}
    for given in (rows, np.array(rows), np.array(rows, np.float32), tuple(map(tuple, rows)), list(map(np.array, rows))):
        found = read_boxes(given, SIZE, box_format=box_format)
        assert found.corners.tolist() == CORNERS
        assert found.corners.dtype == np.float64
        assert (found.scores, found.rows.tolist(), found.problems) == (None, [0, 1], [])
    for more in columns.values():
        for given in ([[*row, *end] for row, end in zip(rows, more)], np.hstack([rows, more])):
            found = read_boxes(given, SIZE, box_format=box_format)
            assert found.corners.tolist() == CORNERS
            assert found.scores is not None
            assert found.scores.tolist() == [0.9, 0.25]
    centers, scales = posepost.box_to_crop(rows, (192, 256), box_format=box_format)
    straight = posepost.box_to_crop(CORNERS, (192, 256))
    assert np.array_equal(centers, straight[0])
    assert np.array_equal(scales, straight[1])


def test_rows_of_a_detector_in_torch() -> None:
    torch = pytest.importorskip("torch")
    rows = torch.tensor([[*row, 0.5, 0] for row in CORNERS], requires_grad=True)
    for given in (rows, rows.half(), rows.bfloat16()[:, :4], list(rows), rows.flip(0).flip(0)):
        assert read_boxes(given, SIZE).corners[0].tolist() == CORNERS[0]
    assert read_boxes(rows, SIZE).corners.tolist() == CORNERS
    assert read_boxes(rows[:0], SIZE).corners.shape == (0, 4)
    assert read_boxes(torch.tensor(CORNERS[0]).int(), SIZE).corners.tolist() == CORNERS[:1]


def test_one_box_and_none() -> None:
    for one in ((10, 20, 40, 60), [10, 20, 40, 60, 0.5], np.array([10, 20, 40, 60, 0.5, 0])):
        assert read_boxes(one, SIZE).corners.tolist() == CORNERS[:1]
    for none in ([], (), np.empty((0, 4)), np.empty((0, 6)), np.empty(0)):
        found = read_boxes(none, SIZE)
        assert (found.corners.shape, found.scores, found.rows.shape, found.problems) == ((0, 4), None, (0,), [])


def test_one_bad_box_costs_that_box_and_a_line() -> None:
    """repro 11: it cost the picture."""
    given = [
        CORNERS[0],
        [0, 0, float("nan"), 9],
        [5, 5, 5, 9, 0.5],
        [*CORNERS[1], 0.25],
        [200, 0, 210, 9],
        [0, -9.5, 10, 0],
        [1, 2, 3],
        [0, 0, "9", 9],
        [0, 0, True, 9],
        [0, 0, 10**400, 9],
        [-np.inf, 0, np.inf, 9],
        [0, 0, 1e30, 9],
        [0.25, 0.25, 0.5, 1],
        [1, 2, 3, 4, None],
    ]
    found = read_boxes(given, SIZE)
    assert found.corners.tolist() == CORNERS
    assert found.rows.tolist() == [0, 3]
    assert found.scores is not None
    np.testing.assert_array_equal(found.scores, [np.nan, 0.25])
    huge = "1" + "0" * 53
    assert found.problems == [
        f"boxes[1] {RULE}, got (0, 0, nan, 9)",
        f"boxes[2] {RULE}, got (5, 5, 5, 9, 0.5)",
        "boxes[4] must meet the image of 200x160 pixels, got (200, 0, 210, 9)",
        "boxes[5] must meet the image of 200x160 pixels, got (0, -9.5, 10, 0)",
        f"boxes[6] {LENGTH}, got (1, 2, 3)",
        f"boxes[7] {LENGTH}, got (0, 0, '9', 9)",
        f"boxes[8] {LENGTH}, got (0, 0, True, 9)",
        f"boxes[9] {LENGTH}, got (0, 0, {huge}...)",
        f"boxes[10] {RULE}, got (-inf, 0, inf, 9)",
        "boxes[11] must lie within 2**24 pixels, got (0, 0, 1e+30, 9)",
        "boxes[12] must be in pixels, not in parts of the image of 200x160 pixels, got (0.25, 0.25, 0.5, 1)",
        f"boxes[13] {LENGTH}, got (1, 2, 3, 4, None)",
    ]
    for box_format, rule in (
        ("xywh", "must be finite x, y, w, h with w and h above 0"),
        ("cxcywh", "must be finite middle x, middle y, w, h with w and h above 0"),
    ):
        assert read_boxes([[9, 9, 0, 5]], SIZE, box_format=box_format).problems == [
            f"boxes[0] {rule}, got (9, 9, 0, 5)"
        ]


def test_boxes_that_look_like_xywh_were_taken_for_corners() -> None:
    told = 'they look like xywh: give box_format="xywh"'
    for given, row in ((XYWH, None), ([[30, 10, 10, 30]], 0), ([[5, 5, 50, 60], [120, 100, 30, 50]], 1)):
        if row is None:  # every second corner is behind the first: nothing can be told
            assert len(read_boxes(given, SIZE).corners) == 2
            continue
        shown = ", ".join(map(str, given[row]))
        for options in ({}, {"image_size": SIZE}):
            with pytest.raises(ValueError, match=exactly(f"boxes[{row}] {RULE}, got ({shown}): {told}")):
                read_boxes(given, **options)
        assert len(read_boxes(given, SIZE, box_format="xywh").corners) == len(given)
    beside = [[10, 10, 50, 80], [180, 150, 60, 20]]  # as xywh the second would end outside: one is bad, no more
    found = read_boxes(beside, SIZE)
    assert found.corners.tolist() == [[10, 10, 50, 80]]
    assert found.problems == [f"boxes[1] {RULE}, got (180, 150, 60, 20)"]


@pytest.mark.parametrize(
    ("boxes", "error", "message"),
    [
        (None, TypeError, f"boxes must be numbers of shape {SHAPES}, got None"),
        ("all", TypeError, f"boxes must be numbers of shape {SHAPES}, got 'all'"),
        ({"a": 1}, TypeError, f"boxes must be numbers of shape {SHAPES}, got {{'a': 1}}"),
        ([None], TypeError, f"boxes must be numbers of shape {SHAPES}, got [None]"),
        (np.array([["1"] * 4]), TypeError, f"boxes must be numbers of shape {SHAPES}, got <U1"),
        (np.ma.array([[1, 2, 3, 4]]), TypeError, f"boxes must be numbers of shape {SHAPES}, got a masked array"),
        (np.ones((1, 4), bool), TypeError, f"boxes must be numbers of shape {SHAPES}, got bool"),
        ((1, 2, 3), ValueError, f"boxes must have shape {SHAPES}, got (3,)"),
        (np.ones((2, 7)), ValueError, f"boxes must have shape {SHAPES}, got (2, 7)"),
        (np.ones((1, 2, 4)), ValueError, f"boxes must have shape {SHAPES}, got (1, 2, 4)"),
    ],
)
def test_what_is_no_boxes_at_all(boxes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=exactly(message)):
        read_boxes(boxes, SIZE)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=exactly('box_format must be "xyxy", "xywh" or "cxcywh", got \'yolo\'')):
        read_boxes(CORNERS, SIZE, box_format="yolo")


def test_the_arrays_are_not_changed() -> None:
    rows = np.array(XYWH)
    before = rows.copy()
    read_boxes(rows, SIZE, box_format="xywh").corners[:] = 0
    read_boxes(rows, SIZE).corners[:] = 0
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("first", [0.9, 0, 17])
def test_a_score_or_a_class_before_the_box_was_taken_for_its_corner(first: float) -> None:
    rows = [[first, 60, 30, 110, 120], [first, 5, 6, 100, 90]]
    message = (
        f"boxes must have the box first and behind it a score from 0 to 1, got ({first:g}, 60, 30, 110, 120): give the "
        "four numbers of the box alone"
    )
    for boxes in (rows, np.array(rows)):
        with pytest.raises(ValueError, match=exactly(message)):
            read_boxes(boxes, (192, 192))
        with pytest.raises(ValueError, match=exactly(message)):
            posepost.box_to_crop(boxes, (192, 256))
    tracks = [[60, 30, 110, 120, 7], [5, 6, 100, 90, 1]]
    assert read_boxes(tracks, (192, 192)).rows.tolist() == [0, 1]
