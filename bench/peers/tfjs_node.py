"""tfjs PoseNet's decodeSinglePose in a node process that is kept running, on the JavaScript CPU backend.

npm: @tensorflow-models/posenet 2.2.2, tfjs 3.21.0 (node/package.json). It takes one image in NHWC and scores after a
sigmoid, which are made once in `prepare`. `timed` gives what node measures over tensors that lie in its memory; a call
through the pipe (for the check of results) takes longer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Case
from ..optional import Unsupported
from .numpy_download import sigmoid

NAME = "tfjs decodeSinglePose (node)"
DEVICES = ("cpu",)
COMPLETE = True
NODE = Path(__file__).parent / "node"
PACKAGES = ("@tensorflow-models/posenet", "@tensorflow/tfjs-core", "@tensorflow/tfjs-backend-cpu")


def missing(device: str) -> str | None:
    return missing_packages()


def missing_packages() -> str | None:
    if not shutil.which("node"):
        return "node is not installed: apt install nodejs npm"
    for package in PACKAGES:
        if not (NODE / "node_modules" / package / "package.json").is_file():
            return f"{package} is not installed: npm install --prefix bench/peers/node"
    return None


def prepare(
    case: Case, sets: list[tuple[np.ndarray, np.ndarray]], device: str
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    ask = start(case, sets)

    def call(i: int) -> tuple[np.ndarray, np.ndarray]:
        points = ask(str(i))["keypoints"]
        keypoints = [[point["position"]["x"], point["position"]["y"]] for point in points]
        return np.array([keypoints], np.float32), np.array([[point["score"] for point in points]], np.float32)

    return call


def timed(case: Case, sets: list[tuple[np.ndarray, np.ndarray]], device: str, rounds: int) -> list[float]:
    """Seconds of each of `rounds` decodes, the sets in turn, after half a second of warming up."""
    seconds: list[float] = start(case, sets)(f"time {rounds}")
    return seconds


def start(case: Case, sets: list[tuple[np.ndarray, np.ndarray]]) -> Callable[[str], dict]:
    """A node process that holds the sets, as a function from a line to its answer; it ends with that function."""
    if (case.layout, case.dtype, case.B) != ("NHWC", "float32", 1):
        raise Unsupported("tfjs decodes one image in NHWC float32")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "maps"
        file.write_bytes(b"".join(sigmoid(heatmaps).tobytes() + offsets.tobytes() for heatmaps, offsets in sets))
        numbers = map(str, (len(sets), case.H, case.W, case.K, case.output_stride))
        command = ["node", NODE / "decode.js", file, *numbers]
        process: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdout.readline() != "ready\n":
            process.kill()
            raise RuntimeError(f"node decode.js was not ready and ended with status {process.wait()}")

    def ask(line: str) -> dict:
        print(line, file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    weakref.finalize(ask, process.communicate)  # closes stdin and waits
    return ask
