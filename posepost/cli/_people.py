"""People in one image, as the commands print, write and draw them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from posepost import Poses
from posepost._boxes import Boxes
from posepost.types import present

LEAST_SCORE = 0.25  # of a person, where nothing else is asked for
SHOWN = 0.3  # least score of a keypoint that is drawn


class People(NamedTuple):
    """Those found in one image: keypoints (N, K, 2), keypoint_scores (N, K), scores (N,), NumPy arrays; boxes where
    they were given.

    scored : whether a keypoint's score says that it is there. Not so after a soft-argmax, whose scores are the maxima
    of whatever the network puts out.
    """

    keypoints: np.ndarray[Any, Any]
    keypoint_scores: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    boxes: Boxes | None = None
    scored: bool = True

    @property
    def absent(self) -> np.ndarray[Any, Any]:
        """(N, K) bool: keypoints that are nowhere."""
        scores = self.keypoint_scores if self.scored else np.ones_like(self.keypoint_scores)
        return ~present(self.keypoints, scores)


def above(poses: Poses, least: float) -> People:
    """Those in the first image that score at least so much, in their order."""
    found = slice(poses.count[0])
    points, keypoint_scores, scores = poses.keypoints[0, found], poses.keypoint_scores[0, found], poses.scores[0, found]
    kept = scores >= least
    return People(points[kept], keypoint_scores[kept], scores[kept])
