"""tfjs PoseNet's decodeMultiplePoses in a node process that is kept running: packages as in tfjs_node.py.

Scores after a sigmoid, one image in NHWC. `seconds` gives what node measures, without the pipe.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from . import Crowd, Found
from .tfjs_node import NODE, missing_packages

NAME = "tfjs decodeMultiplePoses (node)"
MODE = "tfjs"


def missing() -> str | None:
    return missing_packages()


def prepare(crowd: Crowd) -> Callable[[], Found]:
    ask = start(crowd)

    def call() -> Found:
        poses = ask("poses")
        points = [[[p["position"]["x"], p["position"]["y"]] for p in pose["keypoints"]] for pose in poses]
        scores = [[p["score"] for p in pose["keypoints"]] for pose in poses]
        return Found(np.array(points), np.array(scores), np.array([pose["score"] for pose in poses]))

    def seconds() -> float:
        taken: float = ask("time")
        return taken

    call.seconds = seconds  # type: ignore[attr-defined]
    return call


def start(crowd: Crowd) -> Callable[[str], Any]:
    """A node process that holds the maps, as a function from a line to its answer; it ends with that function."""
    H, W, _ = crowd.scores.shape
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(array.tobytes() for array in (crowd.scores, *crowd.fields)))
        file.flush()
        options = (crowd.output_stride, crowd.max_poses, crowd.score_threshold, crowd.nms_radius)
        command = ["node", NODE / "decode_multi.js", file.name, *map(str, (H, W, *options))]
        process: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdout.readline() != "ready\n":
            process.kill()
            raise RuntimeError(f"node decode_multi.js was not ready and ended with status {process.wait()}")

    def ask(line: str) -> Any:
        print(line, file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    weakref.finalize(ask, process.communicate)  # closes stdin and waits
    return ask
