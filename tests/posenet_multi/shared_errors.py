"""Bad input of decode_posenet_multi and the words it is refused with, on the host and on a device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


MAPS = [zeros(17, 4, 5), zeros(34, 4, 5), zeros(32, 4, 5), zeros(32, 4, 5)]
FOUR = {0: zeros(4, 4, 5), 1: zeros(8, 4, 5), 2: zeros(6, 4, 5), 3: zeros(6, 4, 5)}
PAIRS = "skeleton must be None or (parent, child) pairs of ints, got "
ERRORS: list[tuple[type[Exception], str, dict[int, Any], dict[str, Any]]] = [
    (ValueError, "heatmaps must have 17 channels, the keypoints of PoseNet's skeleton, got 5; skeleton= joins others",
     {0: zeros(5, 4, 6), 1: zeros(10, 4, 6)}, {}),
    (ValueError, "displacement_fwd must have 32 channels, two for each edge of PoseNet's skeleton, got 30",
     {2: zeros(30, 4, 5)}, {}),
    (ValueError, "displacement_bwd must have 32 channels, two for each edge of PoseNet's skeleton, got 34",
     {3: zeros(34, 4, 5)}, {}),
    (ValueError, "displacement_bwd must match heatmaps in all axes but the channels of NCHW, "
     "got shapes (32, 4, 6) and (17, 4, 5)", {3: zeros(32, 4, 6)}, {}),
    (ValueError, "displacement_fwd must have as many dimensions as heatmaps, got shapes (1, 32, 4, 5) and (17, 4, 5)",
     {2: zeros(1, 32, 4, 5)}, {}),
    (TypeError, "displacement_fwd must be float32, float16, bfloat16, uint8 or int8, got float64",
     {2: np.zeros((32, 4, 5), np.float64)}, {}),
    (ValueError, "heatmaps must have at most 32 channels, got 33", {0: zeros(33, 4, 5), 1: zeros(66, 4, 5)}, {}),
    (ValueError, "displacement_bwd must have 6 channels, two for each edge of the skeleton, got 32",
     {**FOUR, 3: zeros(32, 4, 5)}, {"skeleton": [(0, 1), (1, 2), (1, 3)]}),
    (ValueError, "skeleton must have one pair fewer than heatmaps have channels, got 3 and 17", {},
     {"skeleton": [(0, 1), (1, 2), (1, 3)]}),
    (TypeError, PAIRS + "7", FOUR, {"skeleton": 7}),
    (TypeError, PAIRS + "[0, 1, 2]", FOUR, {"skeleton": [0, 1, 2]}),
    (TypeError, PAIRS + "the pair (0, 1, 2)", FOUR, {"skeleton": [(0, 1, 2)]}),
    (TypeError, PAIRS + "the pair (0, 1.0)", FOUR, {"skeleton": [(0, 1.0), (1, 2), (1, 3)]}),
    (TypeError, PAIRS + "the pair (False, 1)", FOUR, {"skeleton": [(False, 1), (1, 2), (1, 3)]}),
    (ValueError, "skeleton must join keypoints from 0 to 3, got (1, 4)", FOUR, {"skeleton": [(0, 1), (1, 4), (1, 3)]}),
    (ValueError, "skeleton must join keypoints from 0 to 3, got (-1, 2)", FOUR,
     {"skeleton": [(0, 1), (-1, 2), (1, 3)]}),
    (ValueError, "skeleton must join a keypoint to another, got (2, 2)", FOUR, {"skeleton": [(0, 1), (2, 2), (1, 3)]}),
    (ValueError, "skeleton must give a keypoint one parent, got 1 and 0 for 2", FOUR,
     {"skeleton": [(0, 1), (1, 2), (0, 2)]}),
    (ValueError, "skeleton must be one tree, got a circle from child to parent, 1 to 3 to 2 to 1", FOUR,
     {"skeleton": [(2, 3), (1, 2), (3, 1)]}),
    (ValueError, 'skeleton must be None in mode "edgetpu", got ((0, 1), (1, 2), (1, 3))', FOUR,
     {"skeleton": [(0, 1), (1, 2), (1, 3)], "mode": "edgetpu"}),
    (ValueError, "max_poses must be at least 1, got 0", {}, {"max_poses": 0}),
    (ValueError, "max_poses must be less than 2**31, got 2147483648", {}, {"max_poses": 2**31}),
    (TypeError, "max_poses must be an int, got float", {}, {"max_poses": 5.0}),
    (ValueError, "score_threshold must be from 0 to 1, got 1.5", {}, {"score_threshold": 1.5}),
    (ValueError, "score_threshold must be from 0 to 1, got nan", {}, {"score_threshold": math.nan}),
    (TypeError, "score_threshold must be a number, got str", {}, {"score_threshold": "0.5"}),
    (ValueError, "nms_radius must be finite and not negative, got -1", {}, {"nms_radius": -1}),
    (ValueError, "nms_radius must be finite and not negative, got inf", {}, {"nms_radius": math.inf}),
    (ValueError, 'mode must be "tfjs", "pytorch", "coral" or "edgetpu", got \'torch\'', {}, {"mode": "torch"}),
    (ValueError, "refinement_steps must be at least 0, got -1", {}, {"mode": "coral", "refinement_steps": -1}),
    (ValueError, 'refinement_steps must be None but in modes "coral" and "edgetpu", got 3', {},
     {"refinement_steps": 3}),
    (TypeError, "out must be a result of the same call or a tuple (keypoints, keypoint_scores, scores, count), "
     "got 2 arrays", {}, {"out": (1, 2)}),
    (TypeError, "out.count must be int32, got int64", {},
     {"out": (zeros(1, 20, 17, 2), zeros(1, 20, 17), zeros(1, 20),
              np.zeros(1, np.int64))}),
    (ValueError, "out.scores must have shape (1, 20), got (1, 19)", {},
     {"out": (zeros(1, 20, 17, 2), zeros(1, 20, 17), zeros(1, 19),
              np.zeros(1, np.int32))}),
]  # fmt: skip
