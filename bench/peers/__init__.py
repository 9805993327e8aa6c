"""The peers: other ways to decode the same maps, one small file each. No file imports its package before it is asked.

NAME, DEVICES, COMPLETE: label, where it can run ("cuda": the maps are CuPy arrays, "cpu": NumPy arrays), and whether
it gives positions with offsets or the cell of the maximum alone. missing(device): why it cannot run here, with the
command that adds it, or None. prepare(case, sets, device): all that is done once; returns call(i), which decodes set i
and blocks until keypoints (B, K, 2) and scores (B, K) are NumPy arrays on the host. A peer that measures itself has
timed(case, sets, device, rounds) as well: seconds of each decode.

CROWD_PEERS decode one image of several people on the host: NAME, MODE (posepost's mode with the same rules), missing()
and prepare(crowd), which returns call(): the people found. call.seconds(), where there is one, decodes once and gives
the seconds that the peer measures itself. Peers that are in no registry come from a clone that an environment variable
names; their code stays out of this repository.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..cases import Case


def no_clone(variable: str, address: str, parts: tuple[str, ...]) -> str | None:
    """Why the clone of a repository is not at hand, and the commands that get it."""
    name = address.rpartition("/")[2]
    commands = f"git clone {address} && export {variable}=$PWD/{name}"
    clone = os.environ.get(variable)
    if not clone:
        return f"{variable} names no clone of {name}: {commands}"
    lacking = [part for part in parts if not (Path(clone) / part).is_file()]
    return f"{variable}={clone} has no {' and '.join(lacking)}: {commands}" if lacking else None


def no_gpu() -> str | None:
    """Why CuPy has no device here."""
    command = "with an NVIDIA driver: pip install posepost[cuda13]"
    try:
        import cupy

        return None if cupy.cuda.is_available() else f"no CUDA device answers; {command}"
    except Exception as error:  # a broken CUDA library raises anything
        return f"CuPy cannot be imported ({error}); {command}"


class Places(NamedTuple):
    """Where a cell lies in flattened maps: element = first + step * cell."""

    grid: np.ndarray  # (H * W, 2) float32: x and y of each cell in pixels of the input
    heatmap_first: np.ndarray  # (B, K) int64
    heatmap_step: int
    offset_first: np.ndarray  # (B, K, 2) int64: of the x and of the y offset
    offset_step: int


def places(case: Case) -> Places:
    B, K, H, W = case.B, case.K, case.H, case.W
    y, x = np.divmod(np.arange(H * W), W)
    grid = (np.stack([x, y], axis=1) * case.output_stride).astype(np.float32)
    b, k = np.ogrid[:B, :K]
    channels = np.stack([K + k, k], axis=-1)
    if case.layout == "NCHW":
        return Places(grid, (b * K + k) * H * W, 1, (b[..., None] * 2 * K + channels) * H * W, 1)
    return Places(grid, b * H * W * K + k, K, b[..., None] * H * W * 2 * K + channels, 2 * K)


class Crowd(NamedTuple):
    """PoseNet's outputs of one image of several people, (H, W, C) float32, C-contiguous, and how to decode them."""

    logits: np.ndarray
    scores: np.ndarray  # the logits after a sigmoid
    fields: tuple[np.ndarray, np.ndarray, np.ndarray]  # offsets, displacements forward and backward, in pixels
    output_stride: int
    max_poses: int
    score_threshold: float
    nms_radius: float


class Found(NamedTuple):
    """People in the order of the peer."""

    keypoints: np.ndarray  # (p, K, 2) as (x, y), pixels
    keypoint_scores: np.ndarray  # (p, K)
    scores: np.ndarray  # (p,)


PEERS = tuple(
    importlib.import_module(f".{name}", __name__)
    for name in (
        "numpy_download",
        "numpy_download_pinned",
        "cupy_ops",
        "torch_eager",
        "torch_compile",
        "jax_jit",
        "ort_graph",
        "mmpose_codec",
        "tfjs_node",
    )
)

CROWD_PEERS = tuple(
    importlib.import_module(f".{name}", __name__) for name in ("tfjs_multi", "posenet_python", "libcoral")
)
