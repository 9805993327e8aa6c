"""Copy heatmaps and offsets to the host, then argmax, offset and sigmoid in NumPy: what most people do today.

The copy is CuPy's `.get()` into pageable memory, as PyTorch's `.cpu().numpy()`. For maps that are on the host already
it is plain NumPy. Half types are widened first: NumPy's argmax has no vector code for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case
from ..optional import Unsupported
from . import no_gpu

NAME = "NumPy after download"
CPU_NAME = "plain NumPy"  # its label where nothing is downloaded
DEVICES = ("cuda", "cpu")
COMPLETE = True


def missing(device: str) -> str | None:
    return no_gpu() if device == "cuda" else None


def prepare(case: Case, sets: list[tuple[Any, Any]], device: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    decode = decoder(case)
    if device == "cpu":
        return lambda i: decode(*sets[i])
    return lambda i: decode(sets[i][0].get(), sets[i][1].get())


def decoder(case: Case) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    B, K, H, W, stride = case.B, case.K, case.H, case.W, case.output_stride
    b, k = np.ogrid[:B, :K]
    bfloat16 = bfloat16_type() if case.dtype == "bfloat16" else None

    def decode(heatmaps: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if bfloat16:
            heatmaps, offsets = heatmaps.view(bfloat16), offsets.view(bfloat16)
        maps = heatmaps.astype(np.float32) if heatmaps.itemsize == 2 else heatmaps
        if case.layout == "NCHW":
            y, x = np.divmod(maps.reshape(B, K, H * W).argmax(axis=2), W)
            logits, dy, dx = maps[b, k, y, x], offsets[b, k, y, x], offsets[b, K + k, y, x]
        else:
            y, x = np.divmod(maps.reshape(B, H * W, K).argmax(axis=1), W)
            logits, dy, dx = maps[b, y, x, k], offsets[b, y, x, k], offsets[b, y, x, K + k]
        dy, dx = dy.astype(np.float32), dx.astype(np.float32)
        if case.quantization:
            logits = dequantize(logits, *case.quantization["heatmaps"])
            dy, dx = (dequantize(d, *case.quantization["offsets"]) for d in (dy, dx))
        keypoints = np.empty((B, K, 2), np.float32)
        keypoints[..., 0] = x * stride + dx
        keypoints[..., 1] = y * stride + dy
        return keypoints, sigmoid(logits)

    return decode


def dequantize(values: np.ndarray, scale: float, zero: int) -> np.ndarray:
    return (values.astype(np.float32) - zero) * np.float32(scale)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def bfloat16_type() -> np.dtype:
    try:
        import ml_dtypes
    except ImportError:
        raise Unsupported("NumPy has bfloat16 only with ml_dtypes: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)
