"""MMPose's own decoding of the heads of `decode_heatmap`, and kornia's soft-argmax: what bench_heatmap.py times.

mmpose 1.3.2, loaded file by file, since importing the package would need mmcv: codecs/utils (get_heatmap_maximum,
refine_keypoints, refine_keypoints_dark, refine_keypoints_dark_udp), UDPHeatmap.decode, MegviiHeatmap.decode,
IntegralRegressionHead.forward and flip_heatmaps, as they stand. What those files import besides (a registry, base
classes, mmcv) decoding does not use; empty classes take its place while they are read.

A whole batch goes through one call, as if it were one image of B * K keypoints, which spares MMPose its loop over
images. Points are scaled to pixels of the input as its codecs do it. One core: cv2.setNumThreads(1),
torch.set_num_threads(1). refine_keypoints_dark and refine_keypoints_dark_udp write into the maps: `EDITS` names the
heads that get a copy of them for each call, made outside the clock.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..optional import absent

MMPOSE, KORNIA = "MMPose", "kornia"
EDITS = ("dark", "dark_udp")
PACKAGES = ("codecs", "models", "models.utils", "models.heads", "models.heads.regression_heads")
UNUSED = (
    "mmcv",
    "mmcv.cnn",
    "mmengine",
    "mmengine.structures",
    "mmpose.registry",
    "mmpose.codecs.base",
    "mmpose.evaluation",
    "mmpose.evaluation.functional",
    "mmpose.models.heads.base_head",
    "mmpose.utils",
    "mmpose.utils.tensor_utils",
    "mmpose.utils.typing",
)

Decode = Callable[..., tuple[np.ndarray, np.ndarray | None]]
"""Maps, for "flip" also those of the mirrored image -> points (B, K, 2) in pixels, and scores or None."""


class Task(NamedTuple):
    """What a peer is told of a case."""

    B: int
    K: int
    H: int
    W: int
    blur: int
    flip_pairs: tuple[int, ...]
    input_size: tuple[int, int]  # (w, h)


def missing(name: str) -> str | None:
    """Why a peer cannot run here, with the command that adds it."""
    reason = absent("torch", "pip install torch==2.13.0")
    if name == KORNIA:
        return (
            reason
            or absent("kornia", "pip install --no-deps kornia kornia_rs")
            or absent("kornia_rs", "pip install --no-deps kornia_rs")
        )
    return (
        reason
        or absent("mmpose", "pip install --no-deps mmpose==1.3.2")
        or absent("cv2", "pip install opencv-python-headless")
    )


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("mmpose", "opencv-python-headless", "opencv-python", "torch", "kornia"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class _Unused:
    """In the place of whatever decoding does not use: a base class, an annotation, a registry."""

    @staticmethod
    def register_module() -> Callable[[Any], Any]:
        return lambda given: given


class _UnusedModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unused


@functools.cache
def load() -> SimpleNamespace:
    """MMPose's functions and classes. sys.modules is afterwards as it was before."""
    package: Any = importlib.util.find_spec("mmpose")
    root = Path(package.origin).parent

    def ours(name: str) -> bool:
        return name.partition(".")[0] in ("mmpose", "mmcv", "mmengine")

    before = {name: sys.modules.pop(name) for name in list(sys.modules) if ours(name)}
    try:
        for name in ("", *PACKAGES):
            module = _UnusedModule(f"mmpose.{name}".rstrip("."))
            module.__path__ = [str(root.joinpath(*name.split(".")))]
            sys.modules[module.__name__] = module
        for name in UNUSED:
            sys.modules[name] = _UnusedModule(name)
        read = importlib.import_module
        maximum, refinement = read("mmpose.codecs.utils.post_processing"), read("mmpose.codecs.utils.refinement")
        return SimpleNamespace(
            get_heatmap_maximum=maximum.get_heatmap_maximum,
            refine_keypoints=refinement.refine_keypoints,
            refine_keypoints_dark=refinement.refine_keypoints_dark,
            refine_keypoints_dark_udp=refinement.refine_keypoints_dark_udp,
            UDPHeatmap=read("mmpose.codecs.udp_heatmap").UDPHeatmap,
            MegviiHeatmap=read("mmpose.codecs.megvii_heatmap").MegviiHeatmap,
            IntegralRegressionHead=read(
                "mmpose.models.heads.regression_heads.integral_regression_head"
            ).IntegralRegressionHead,
            flip_heatmaps=read("mmpose.models.utils.tta").flip_heatmaps,
        )
    finally:
        for name in [name for name in sys.modules if ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def prepare(name: str, head: str, task: Task) -> Decode:
    """`name`'s decoding of a head; all that can be done once is done."""
    import torch

    torch.set_num_threads(1)
    if name == KORNIA:
        return _kornia(task)
    import cv2

    cv2.setNumThreads(1)
    return {
        "none": _plain,
        "quarter": _refined,
        "dark": _refined,
        "dark_udp": _refined,
        "udp_combined": _udp_combined,
        "megvii": _megvii,
        "soft_argmax": _integral,
        "flip": _flip,
    }[head](head, task)


def _scale(task: Task, udp: bool = False) -> np.ndarray:
    size = np.array([task.W, task.H]) - (1 if udp else 0)
    return (np.array(task.input_size) / size).astype(np.float32)


def _plain(head: str, task: Task) -> Decode:
    get_heatmap_maximum, scale = load().get_heatmap_maximum, _scale(task)

    def decode(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, scores = get_heatmap_maximum(maps)
        return points * scale, scores

    return decode


def _refined(head: str, task: Task) -> Decode:
    mmpose, scale = load(), _scale(task, head == "dark_udp")
    refine = {
        "quarter": mmpose.refine_keypoints,
        "dark": functools.partial(mmpose.refine_keypoints_dark, blur_kernel_size=task.blur),
        "dark_udp": functools.partial(mmpose.refine_keypoints_dark_udp, blur_kernel_size=task.blur),
    }[head]
    get_heatmap_maximum, (B, K, H, W) = mmpose.get_heatmap_maximum, task[:4]

    def decode(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        maps = maps.reshape(B * K, H, W)
        points, scores = get_heatmap_maximum(maps)
        return (refine(points[None], maps) * scale).reshape(B, K, 2), scores.reshape(B, K)

    return decode


def _codec(codec: Any, channels: int, task: Task) -> Decode:
    B, K, H, W = task[:4]

    def decode(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, scores = codec.decode(maps.reshape(B * channels, H, W))
        return points.reshape(B, K, 2), scores.reshape(B, K)

    return decode


def _udp_combined(head: str, task: Task) -> Decode:
    size = (task.W, task.H)
    codec = load().UDPHeatmap(task.input_size, size, heatmap_type="combined", blur_kernel_size=task.blur)
    return _codec(codec, 3 * task.K, task)


def _megvii(head: str, task: Task) -> Decode:
    return _codec(load().MegviiHeatmap(task.input_size, (task.W, task.H), task.blur), task.K, task)


def _integral(head: str, task: Task) -> Decode:
    import torch

    head_class, (_, _, H, W) = load().IntegralRegressionHead, task[:4]
    network = head_class.__new__(head_class)  # without layers: maps in, coordinates out
    network.__dict__.update(simplebaseline_head=None, final_layer=None, beta=1.0, debias=False)
    network.linspace_x = torch.arange(0.0, 1.0 * W, 1).reshape(1, 1, 1, W) / W
    network.linspace_y = torch.arange(0.0, 1.0 * H, 1).reshape(1, 1, H, 1) / H
    size = np.array(task.input_size, np.float32)

    def decode(maps: np.ndarray) -> tuple[np.ndarray, None]:
        with torch.no_grad():
            coordinates, _ = network.forward((torch.from_numpy(maps),))
        return coordinates.numpy() * size, None

    return decode


def _flip(head: str, task: Task) -> Decode:
    import torch

    flip_heatmaps, plain, pairs = load().flip_heatmaps, _plain(head, task), list(task.flip_pairs)

    def decode(maps: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        with torch.no_grad():
            other = flip_heatmaps(torch.from_numpy(mirrored), flip_indices=pairs, shift_heatmap=True)
            merged = (torch.from_numpy(maps) + other) * 0.5
        return plain(merged.numpy())

    return decode


def _kornia(task: Task) -> Decode:
    import torch
    from kornia.geometry.subpix import spatial_soft_argmax2d

    scale = _scale(task)

    def decode(maps: np.ndarray) -> tuple[np.ndarray, None]:
        with torch.no_grad():
            points = spatial_soft_argmax2d(torch.from_numpy(maps), normalized_coordinates=False)
        return points.numpy() * scale, None

    return decode
