"""Boxes of people, as detectors and data sets hand them over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _check

Array = np.ndarray[Any, Any]

FORMATS = {
    "xyxy": "finite x0, y0, x1, y1 with x0 < x1 and y0 < y1",
    "xywh": "finite x, y, w, h with w and h above 0",
    "cxcywh": "finite middle x, middle y, w, h with w and h above 0",
}
"""What the four numbers of a box are, and what they must be."""
SHAPES = "(N, 4), (N, 5) or (N, 6)"
FURTHEST = 2.0**24
"""Of a corner: pixels up to which float32 holds whole numbers."""


class Boxes(NamedTuple):
    """The boxes that can be used, N of them, in their order.

    corners : (N, 4) float64, x0, y0, x1, y1 in pixels of the image
    scores : (N,) float64, NaN for a box that came without one; None where all did
    rows : (N,) int64, which of the given rows each one is
    problems : what is wrong with each of the others, in words: "boxes[1] must ..., got ..."
    """

    corners: Array
    scores: Array | None
    rows: Array
    problems: list[str]


def read_boxes(boxes: Any, image_size: tuple[int, int] | None = None, *, box_format: str = "xyxy") -> Boxes:
    """People's boxes in one picture; a box that cannot be used is left out, and said in `problems`.

    boxes : (N, 4), (N, 5) or (N, 6), or one box alone
        Lists, or an array of any library, on any device. Four numbers as `box_format` says, in pixels of the image;
        behind them a score; behind that a class, which is not looked at: every row is taken for a person, whatever its
        score and class. Choose the rows beforehand.
    image_size : (width, height); None: not known
    box_format : "xyxy" (two corners), "xywh" (upper left corner and size, as COCO's) or "cxcywh" (middle and size)

    A box cannot be used if its numbers are not finite or beyond 2**24, if it is empty, does not meet the image, or lies
    in 0..1 of a larger one (parts of the image, not pixels). Raises TypeError and ValueError for what is wrong with
    all of them: not numbers, another shape, boxes that look like xywh but were not said to be (one has its second
    corner before its first, and as xywh all lie inside the image), and rows that look as if a score or a class stood
    before the box (each has a fifth number above 1, and is a box inside the image from its second number on).

    >>> from posepost._boxes import read_boxes
    >>> found = read_boxes([[10, 20, 30, 40, 0.9], [5, 5, 0, 0, 0.8]], (640, 480), box_format="xywh")
    >>> found.corners.tolist(), found.scores.tolist(), found.rows.tolist()
    ([[10.0, 20.0, 40.0, 60.0]], [0.9], [0])
    >>> found.problems
    ['boxes[1] must be finite x, y, w, h with w and h above 0, got (5, 5, 0, 0, 0.8)']
    """
    _check.choice(box_format, "box_format", tuple(FORMATS))
    given = _as_rows(boxes)
    numbers, scores = _numbers(given)
    _not_behind(numbers, scores, image_size, box_format)
    if box_format == "xyxy":
        _not_xywh(numbers, image_size)
    corners = _corners(numbers, box_format)
    whole = np.isfinite(corners).all(axis=1) & (corners[:, :2] < corners[:, 2:]).all(axis=1)
    usable = whole & (np.abs(corners) <= FURTHEST).all(axis=1)
    if image_size is not None:
        usable &= (corners[:, 2:] > 0).all(axis=1) & (corners[:, :2] < image_size).all(axis=1)
        if max(image_size) > 1:
            usable &= ((corners < 0) | (corners > 1)).any(axis=1)
    return Boxes(
        corners[usable],
        None if np.isnan(scores).all() else scores[usable],
        np.flatnonzero(usable),
        [
            f"boxes[{row}] {_problem(given[row], corners[row], image_size, box_format)}"
            for row in np.flatnonzero(~usable)
        ],
    )


def _as_rows(boxes: Any) -> Array | list[list[Any]]:
    """(N, 4), (N, 5) or (N, 6) of real numbers, or lists of whatever length with whatever in them."""
    wanted = f"boxes must be numbers of shape {SHAPES}"
    if not isinstance(boxes, (list, tuple)):
        if not hasattr(boxes, "tolist"):
            raise TypeError(f"{wanted}, got {_check.said(boxes)}")
        if isinstance(boxes, np.ma.MaskedArray):
            raise TypeError(f"{wanted}, got a masked array")
        if not isinstance(boxes, np.ndarray):
            try:
                boxes = np.asarray(boxes.tolist())  # synchronizes
            except RuntimeError as error:  # of PyTorch, for tensors that have no values of their own
                raise TypeError(f"{wanted}, got a {type(boxes).__name__} without values") from error
        if boxes.dtype.kind not in "uif":
            raise TypeError(f"{wanted}, got {boxes.dtype}")
        shape = boxes.shape
        if boxes.ndim in (1, 2) and len(boxes) == 0:
            return np.empty((0, 4))
        if boxes.ndim not in (1, 2) or shape[-1] not in (4, 5, 6):
            raise ValueError(f"boxes must have shape {SHAPES}, got {shape}")
        array: Array = boxes.reshape(-1, shape[-1])
        return array
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in boxes]
    if rows and all(_is_number(row) for row in rows):
        if len(rows) not in (4, 5, 6):
            raise ValueError(f"boxes must have shape {SHAPES}, got ({len(rows)},)")
        return [rows]
    for row in rows:
        if not isinstance(row, (list, tuple)):
            raise TypeError(f"{wanted}, got {boxes!r}")
    return [list(row) for row in rows]


def _numbers(rows: Array | list[list[Any]]) -> tuple[Array, Array]:
    """(N, 4) and (N,) float64: NaN for a row that is none and for a score that is not there."""
    if isinstance(rows, np.ndarray):
        wide = rows.astype(np.float64)
        return wide[:, :4], wide[:, 4] if wide.shape[1] > 4 else np.full(len(wide), np.nan)
    read = [row if _is_row(row) else [np.nan] * 4 for row in rows]
    numbers = np.array([row[:4] for row in read], np.float64).reshape(-1, 4)
    return numbers, np.array([row[4] if len(row) > 4 else np.nan for row in read], np.float64)


def _corners(numbers: Array, box_format: str) -> Array:
    first, second = numbers[:, :2], numbers[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        if box_format == "xywh":
            return np.concatenate([first, first + second], axis=1)
        if box_format == "cxcywh":
            return np.concatenate([first - second / 2, first + second / 2], axis=1)
    return numbers


def _not_xywh(numbers: Array, image_size: tuple[int, int] | None) -> None:
    turned = (numbers[:, 2:] < numbers[:, :2]).any(axis=1)
    if not turned.any():
        return
    finite = np.isfinite(numbers).all(axis=1)
    turned &= finite
    whole = numbers[finite]
    last = np.inf if image_size is None else np.array(image_size)
    if turned.any() and ((whole[:, :2] >= 0) & (whole[:, 2:] > 0) & (whole[:, :2] + whole[:, 2:] <= last)).all():
        row = int(np.argmax(turned))
        raise ValueError(
            f"boxes[{row}] must be {FORMATS['xyxy']}, got {_shown(numbers[row].tolist())}: "
            'they look like xywh: give box_format="xywh"'
        )


def _not_behind(numbers: Array, scores: Array, image_size: tuple[int, int] | None, box_format: str) -> None:
    corners = _corners(np.concatenate([numbers[:, 1:], scores[:, None]], axis=1), box_format)
    last = np.inf if image_size is None else np.array(image_size)
    boxes = (corners[:, :2] >= 0).all(axis=1) & (corners[:, :2] < corners[:, 2:]).all(axis=1)
    boxes &= (corners[:, 2:] <= last).all(axis=1) & (scores > 1)
    if len(boxes) and boxes.all():
        row = _shown([*numbers[0].tolist(), float(scores[0])])
        raise ValueError(
            f"boxes must have the box first and behind it a score from 0 to 1, got {row}: give the four numbers of the "
            "box alone"
        )


def _problem(row: Any, corners: Array, image_size: tuple[int, int] | None, box_format: str) -> str:
    row = list(row)
    got = f"got {_shown(row)}"
    if not _is_row(row):
        return f"must be 4 numbers, 5 with a score or 6 with a class, {got}"
    if not (np.isfinite(corners).all() and (corners[:2] < corners[2:]).all()):
        return f"must be {FORMATS[box_format]}, {got}"
    if (np.abs(corners) > FURTHEST).any():
        return f"must lie within 2**24 pixels, {got}"
    width, height = image_size or (0, 0)
    if (corners[2:] > 0).all() and corners[0] < width and corners[1] < height:
        return f"must be in pixels, not in parts of the image of {width}x{height} pixels, {got}"
    return f"must meet the image of {width}x{height} pixels, {got}"


def _is_row(row: Sequence[Any]) -> bool:
    return len(row) in (4, 5, 6) and all(map(_is_number, row[:5]))


def _is_number(value: Any) -> bool:
    """That float64 holds."""
    return _check.is_number(value) and not (isinstance(value, int) and abs(value) >= 10**300)


def _shown(row: Sequence[Any]) -> str:
    text = ", ".join(f"{value:g}" if _is_number(value) else repr(value) for value in row)
    return f"({text})" if len(text) <= 60 else f"({text[:60]}...)"
