"""MMPose's get_heatmap_maximum, the first step of its heatmap codecs: cell and value of each maximum, no offsets.

mmpose 1.3.2, codecs/utils/post_processing.py, loaded as one file: importing the package would need mmcv. On a GPU the
maps are downloaded first, as `head.decode` does; a whole batch goes through one call, which is better for MMPose than
its own loop over images. Points are cells times the output stride. It gives -1 where the maximum is not above 0: the
maps here have positive peaks.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Case
from ..optional import Unsupported, absent
from . import no_gpu
from .numpy_download import sigmoid

NAME = "MMPose get_heatmap_maximum"
DEVICES = ("cuda", "cpu")
COMPLETE = False


def missing(device: str) -> str | None:
    return (
        absent("mmpose", "pip install --no-deps mmpose==1.3.2")
        or absent("cv2", "pip install opencv-python-headless")
        or absent("torch", "pip install torch==2.13.0")
        or (no_gpu() if device == "cuda" else None)
    )


def prepare(case: Case, sets: list[tuple[Any, Any]], device: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    if case.layout != "NCHW":
        raise Unsupported("MMPose takes NCHW maps alone")
    if case.dtype not in ("float32", "float16"):
        raise Unsupported(f"MMPose takes no {case.dtype} maps")
    get_heatmap_maximum = load().get_heatmap_maximum
    stride = np.float32(case.output_stride)

    def call(i: int) -> tuple[np.ndarray, np.ndarray]:
        heatmaps = sets[i][0]
        cells, logits = get_heatmap_maximum(heatmaps if device == "cpu" else heatmaps.get())
        return cells * stride, sigmoid(logits.astype(np.float32))

    return call


def load() -> Any:
    package: Any = importlib.util.find_spec("mmpose")
    path = Path(package.origin).parent / "codecs" / "utils" / "post_processing.py"
    spec: Any = importlib.util.spec_from_file_location("mmpose_post_processing", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
