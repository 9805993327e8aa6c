"""What MMPose does with the vectors of a SimCC head, on the host: its own functions, in the order of SimCCLabel.decode.

mmpose 1.3.2, codecs/utils/post_processing.py and refinement.py, loaded as two files: importing the package would need
mmcv. A whole batch goes through one call, which is better for MMPose than its own loop over images. On a GPU the
vectors are downloaded first, as `head.decode` does. refine_simcc_dark overwrites what it gets, so it gets copies; they
are a hundredth of its time.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from ..optional import absent
from . import no_gpu

NAMES = {
    "plain": "MMPose get_simcc_maximum",
    "visibility": "MMPose get_simcc_maximum, and once more with softmax",
    "dark": "MMPose get_simcc_maximum and refine_simcc_dark",
}


def missing(device: str) -> str | None:
    return (
        absent("mmpose", "pip install --no-deps mmpose==1.3.2")
        or absent("cv2", "pip install opencv-python-headless")
        or absent("torch", "pip install torch==2.13.0")
        or (no_gpu() if device == "cuda" else None)
    )


@functools.cache
def load() -> tuple[Any, Any]:
    """The modules post_processing and refinement; the second imports from the first, as from its package."""
    found: Any = importlib.util.find_spec("mmpose")
    folder = Path(found.origin).parent / "codecs" / "utils"
    package = types.ModuleType("mmpose_codec_utils")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return (
        importlib.import_module(f"{package.__name__}.post_processing"),
        importlib.import_module(f"{package.__name__}.refinement"),
    )


def decode(
    x: np.ndarray, y: np.ndarray, head: str, *, sigma: tuple[float, float], split_ratio: float, beta: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Keypoints, scores and, for head "visibility", the visibility."""
    post_processing, refinement = load()
    keypoints, scores = post_processing.get_simcc_maximum(x, y)
    if head == "dark":
        for axis, (vectors, one) in enumerate(((x, sigma[0]), (y, sigma[1]))):
            size = int((one * 20 - 7) // 3)
            size -= int(size % 2 == 0)
            keypoints[:, :, axis] = refinement.refine_simcc_dark(keypoints[:, :, axis], vectors.copy(), size)
    keypoints /= split_ratio
    if head != "visibility":
        return keypoints, scores, None
    sigmas = np.array(sigma)  # as the codec holds them: NumPy 2 goes on in float64
    _, visibility = post_processing.get_simcc_maximum(x * beta * sigmas[0], y * beta * sigmas[1], apply_softmax=True)
    return keypoints, scores, visibility
