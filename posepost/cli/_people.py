"""People in one image, as the commands print, write and draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from posepost import Poses

LEAST_SCORE = 0.25  # of a person, where nothing else is asked for
SHOWN = 0.3  # least score of a keypoint that is drawn


class People(NamedTuple):
    """Those found in one image: keypoints (N, K, 2), keypoint_scores (N, K), scores (N,), NumPy arrays; boxes [N][4]
    where they were given."""

    keypoints: np.ndarray[Any, Any]
    keypoint_scores: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    boxes: Sequence[Sequence[float]] | None = None


def above(poses: Poses, least: float) -> People:
    """Those in the first image that score at least so much, in their order."""
    found = slice(poses.count[0])
    points, keypoint_scores, scores = poses.keypoints[0, found], poses.keypoint_scores[0, found], poses.scores[0, found]
    kept = scores >= least
    return People(points[kept], keypoint_scores[kept], scores[kept])
