"""What the tests of decode_simcc share."""

from __future__ import annotations

from typing import Any

import numpy as np

import posepost
from bench.cuda_cpu.seam import to_device


def on_both(x: np.ndarray, y: np.ndarray, **options: Any) -> list[posepost.Keypoints]:
    """Of NumPy and of the kernel."""
    placed = dict(options)
    if "flip" in options:
        flip = options["flip"]
        placed["flip"] = posepost.Flip([to_device(one) for one in flip.maps], flip.pairs)
    got = posepost.decode_simcc(to_device(x), to_device(y), **placed).numpy()
    return [posepost.decode_simcc(x, y, **options), got]


def logarithms(vectors: np.ndarray, sigma: float) -> np.ndarray:
    """MMPose's blurred, scaled and clipped vectors (N, K, W) as logarithms, in float64 by whole convolutions."""
    size = int((sigma * 20 - 7) // 3)
    size -= size % 2 == 0
    spread = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * spread**2))
    if size <= 9:  # OpenCV's tables
        half = {3: (1, 2), 5: (1, 4, 6), 7: (2, 7, 14, 18), 9: (4, 13, 30, 51, 60)}[size]
        taps = np.array([*half, *half[-2::-1]], np.float64)
    taps /= taps.sum()
    result = np.empty(vectors.shape)
    for index in np.ndindex(vectors.shape[:2]):
        one = vectors[index].astype(np.float64)
        blurred = np.convolve(np.pad(one, size // 2), taps, "valid")
        with np.errstate(all="ignore"):
            result[index] = np.log(np.clip(blurred * (one.max() / blurred.max()), 1e-3, 50))
    return result
