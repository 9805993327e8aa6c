"""posenet-python's decode_multiple_poses, from a clone (rwightman/posenet-python, Apache-2.0; it is in no registry).

Scores after a sigmoid, one image in NHWC. Mode "pytorch" of posepost has its rules. It computes in float64.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..optional import absent
from . import Crowd, Found, no_clone

NAME = "posenet-python"
MODE = "pytorch"
VARIABLE = "POSEPOST_POSENET_PYTHON"
PARTS = ("posenet/decode_multi.py", "posenet/decode.py", "posenet/constants.py")


def missing() -> str | None:
    return no_clone(VARIABLE, "https://github.com/rwightman/posenet-python", PARTS) or absent(
        "scipy", "pip install scipy"
    )


def prepare(crowd: Crowd) -> Callable[[], Found]:
    decode = load(Path(os.environ[VARIABLE])).decode_multiple_poses
    options: dict[str, Any] = {
        "output_stride": crowd.output_stride,
        "max_pose_detections": crowd.max_poses,
        "score_threshold": crowd.score_threshold,
        "nms_radius": crowd.nms_radius,
        "min_pose_score": 0.5,
    }

    def call() -> Found:
        scores, keypoint_scores, keypoints = decode(crowd.scores, *crowd.fields, **options)
        count = np.count_nonzero(scores)
        return Found(keypoints[:count, :, ::-1], keypoint_scores[:count], scores[:count])

    return call


def load(clone: Path) -> Any:
    """The module, without what `posenet/__init__.py` imports besides: TensorFlow and OpenCV."""
    package: Any = types.ModuleType("posenet")
    package.__path__ = [str(clone / "posenet")]
    sys.modules["posenet"] = package
    return importlib.import_module("posenet.decode_multi")
