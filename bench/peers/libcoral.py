"""libcoral's DecodeAllPoses, C++ from a clone (google-coral/libcoral, Apache-2.0; it is in no registry).

libcoral.cpp is compiled with g++ -O2, as Bazel's -c opt does. Logits, and offsets in cells, one image in NHWC; making
them so is done once, before it is timed. Mode "coral" of posepost has its rules.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import Crowd, Found, no_clone

NAME = "libcoral (C++)"
MODE = "coral"
VARIABLE = "POSEPOST_LIBCORAL"
PARTS = ("coral/pose_estimation/posenet_decoder.cc", "coral/pose_estimation/posenet_decoder.h")
STEPS = 5  # refinements, as Coral's operator


def missing() -> str | None:
    if not shutil.which("g++"):
        return "g++ is not installed: apt install g++"
    return no_clone(VARIABLE, "https://github.com/google-coral/libcoral", PARTS)


def prepare(crowd: Crowd) -> Callable[[], Found]:
    decode = load(Path(os.environ[VARIABLE]))
    H, W, K = crowd.logits.shape
    short, forward, backward = (field / np.float32(crowd.output_stride) for field in crowd.fields)
    maps = [np.ascontiguousarray(array) for array in (crowd.logits, short, np.concatenate([forward, backward], axis=2))]
    most = crowd.max_poses
    keypoints, keypoint_scores = np.empty((most, K, 2), np.float32), np.empty((most, K), np.float32)
    scores = np.empty(most, np.float32)
    at = [array.ctypes.data_as(ctypes.c_void_p) for array in (*maps, keypoints, keypoint_scores, scores)]
    threshold, radius = ctypes.c_float(crowd.score_threshold), ctypes.c_float(crowd.nms_radius / crowd.output_stride)
    numbers = (H, W, most, threshold, STEPS, radius, int(crowd.output_stride))
    held = (*maps, keypoints, keypoint_scores, scores)  # the addresses are theirs

    def call() -> Found:
        count = decode(*at[:3], *numbers, *at[3:])
        return Found(held[3][:count, :, ::-1], held[4][:count], held[5][:count])

    return call


def load(clone: Path) -> Any:
    """The compiled decoder as a function of pointers and numbers."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libcoral.so"
        source = Path(__file__).with_name("libcoral.cpp")
        command = ["g++", "-O2", "-std=c++17", "-w", "-shared", "-fPIC", f"-I{clone}", str(source), "-o", str(library)]
        subprocess.run(command, check=True)
        decode = ctypes.CDLL(str(library)).decode_all_poses
    decode.restype = ctypes.c_int
    return decode
