"""The people in one picture, as the call of a session gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from posepost import Poses
from posepost.draw import overlay
from posepost.schemes import Scheme

from ._metadata import numbered

if TYPE_CHECKING:
    from PIL import Image as PILImage

Array = np.ndarray[Any, Any]

LEAST_SCORE = 0.25
"""Of a person among several, where nothing else is asked for."""
SHOWN = 0.3
"""Least score of a keypoint that is drawn."""


class BoxWarning(UserWarning):
    """A box was left out, or none was given."""


class PresetWarning(UserWarning):
    """No preset was given, and the graph does not tell whose rules decode."""


class Person(NamedTuple):
    """One of `People`."""

    keypoints: Array  # (K, 2)
    keypoint_scores: Array  # (K,)
    score: Any  # a NumPy number
    box: Array | None  # (4,)


@dataclass(frozen=True, eq=False, repr=False)
class People:
    """Those found in one picture, N of them with K keypoints each: NumPy arrays, nothing left to wait for.

    keypoints : (N, K, 2) float32
        (x, y) in pixels of the picture turned upright; NaN where a keypoint is absent.
    keypoint_scores : (N, K) float32
    scores : (N,) float64
        Of each person: of several, as `decode_posenet_multi` has it; else the mean of the keypoints' scores.
    scheme : what the keypoints are, or None where that is not known.
    picture : PIL image, RGB, upright.
    boxes : (N, 4) float64
        x0, y0, x1, y1 of the boxes that were looked into; None for models that see the whole picture.
    box_scores : (N,) float64
        Those of the detector, NaN for a box that came without; None where none was given.
    left_out : what is wrong with boxes that were not, in words.

    `len(people)`, and `for person in people` with person.keypoints, .keypoint_scores, .score and .box.
    """

    keypoints: Array
    keypoint_scores: Array
    scores: Array
    scheme: Scheme | None
    picture: PILImage.Image
    boxes: Array | None = None
    box_scores: Array | None = None
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        N, K = self.keypoint_scores.shape
        return f"<People: {N}, of {K} keypoints, in a picture of {self.picture.width}x{self.picture.height} pixels>"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the K keypoints; "keypoint 0", ... where they are not known."""
        return numbered(self.keypoint_scores.shape[1]) if self.scheme is None else self.scheme.keypoints

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Person]:
        boxes = [None] * len(self) if self.boxes is None else self.boxes
        for points, keypoint_scores, score, box in zip(self.keypoints, self.keypoint_scores, self.scores, boxes):
            yield Person(points, keypoint_scores, score, box)

    def overlay(self, *, min_score: float = SHOWN, scale: int = 1) -> PILImage.Image:
        """The picture with everybody drawn on it, as `posepost.draw.overlay` does."""
        return overlay(
            self.picture, self.keypoints, self.keypoint_scores, scheme=self.scheme, min_score=min_score, scale=scale
        )


def above(poses: Poses, least: float) -> tuple[Array, Array, Array]:
    """keypoints, keypoint_scores and scores of those in the first image that score at least so much."""
    found = slice(poses.count[0])
    points, keypoint_scores, scores = poses.keypoints[0, found], poses.keypoint_scores[0, found], poses.scores[0, found]
    kept = scores >= least
    return points[kept], keypoint_scores[kept], scores[kept]
