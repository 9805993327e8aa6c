"""CuPy's own operations on the device: argmax, take at flat indices, sigmoid, and one download of (x, y, score).

The tables that turn a cell into flat indices and pixels are uploaded once, so that a call launches few kernels.
cupy.argmax gives the first largest cell; it takes no bfloat16 (CuPy 14).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case
from ..optional import Unsupported
from . import no_gpu, places

NAME = "CuPy operations"
DEVICES = ("cuda",)
COMPLETE = True


def missing(device: str) -> str | None:
    return no_gpu()


def prepare(case: Case, sets: list[tuple[Any, Any]], device: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    if case.dtype == "bfloat16":
        raise Unsupported("cupy.argmax takes no bfloat16")
    import cupy

    B, K, cells_of_map = case.B, case.K, case.H * case.W
    where = places(case)
    grid, heatmap_first, offset_first = map(cupy.asarray, (where.grid, where.heatmap_first, where.offset_first))
    shape, axis = ((B, K, cells_of_map), 2) if case.layout == "NCHW" else ((B, cells_of_map, K), 1)

    def values(array: Any, name: str) -> Any:
        array = array.astype(cupy.float32, copy=False)
        if case.quantization:
            scale, zero = case.quantization[name]
            array = (array - np.float32(zero)) * np.float32(scale)
        return array

    def call(i: int) -> tuple[np.ndarray, np.ndarray]:
        heatmaps, offsets = sets[i]
        cells = heatmaps.reshape(shape).argmax(axis=axis)
        logits = values(heatmaps.ravel().take(heatmap_first + cells * where.heatmap_step), "heatmaps")
        moves = values(offsets.ravel().take(offset_first + (cells * where.offset_step)[..., None]), "offsets")
        scores = 1 / (1 + cupy.exp(-logits))
        result = cupy.concatenate([grid.take(cells, axis=0) + moves, scores[..., None]], axis=2).get()
        return result[..., :2], result[..., 2]

    return call
