"""Real models and the photographs they were run on, with the stored tensors and the poses of tfjs."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np

from posepost import ort

from .conftest import SHARED

PHOTOGRAPHS = {
    "couple": "coral_posenet_test_image.png",
    "group5": "pexels-fauxels-3184419.jpg",
    "skier": "coco_000000000785.jpg",
    "squat": "coral_squat.png",
    "three": "tfjs_three_people.jpg",
}
POSENET = "posenet_mobilenet_v1_075_s16_float_nhwc.onnx"
POSENET_NCHW = "posenet_mobilenet_v1_075_s16_float_nchw.onnx"
BODYPIX = {16: "bodypix_mobilenet_v1_050_stride16.onnx", 8: "bodypix_mobilenet_v1_050_stride8_ortfix.onnx"}
LOGITS, PIXELS, SCORES = 1e-4, 1e-3, 1e-5


def names(start: str) -> list[str]:
    """Stored cases of real models by name; one name that skips where the data is absent."""
    found = sorted(path.stem for path in (SHARED / "tensors").glob(f"{start}*.npz") if not path.stem.endswith("_f16"))
    return found or ["absent"]


def tensors(case: str) -> Any:
    return np.load(SHARED / "tensors" / f"{case}.npz")


def parts(case: str) -> tuple[int, tuple[int, int], str]:
    _, _, stride, size, photograph = case.split("_")
    height, width = size.split("x")
    return int(stride[1:]), (int(height), int(width)), PHOTOGRAPHS[photograph]


@functools.cache
def session(model: str) -> ort.PoseSession:
    # The PoseNet files were made for (pixel - 128) / 128.
    number = 128 if model.startswith("posenet") else None
    return ort.PoseSession(SHARED / "models" / model, mean=number, std=number, providers=["CPUExecutionProvider"])


def golden(case: str) -> np.ndarray[Any, Any]:
    """(17, 3): x, y in pixels of the input, score."""
    return np.array(json.loads((SHARED / "golden_tfjs" / f"{case}.json").read_text())["single"]["keypoints"])
