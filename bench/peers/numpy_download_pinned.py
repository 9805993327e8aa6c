"""The NumPy decoder of numpy_download behind the fastest download that CuPy documents.

One asynchronous copy for each tensor into pinned host memory that was allocated before, and one wait:
`ndarray.get(out=, blocking=False)` into `cupyx.empty_pinned`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case
from . import no_gpu
from .numpy_download import decoder

NAME = "NumPy after pinned download"
DEVICES = ("cuda",)
COMPLETE = True


def missing(device: str) -> str | None:
    return no_gpu()


def prepare(case: Case, sets: list[tuple[Any, Any]], device: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    import cupy
    import cupyx

    decode = decoder(case)
    host = [cupyx.empty_pinned(array.shape, array.dtype) for array in sets[0]]

    def call(i: int) -> tuple[np.ndarray, np.ndarray]:
        stream = cupy.cuda.get_current_stream()
        for array, pinned in zip(sets[i], host):
            array.get(stream=stream, out=pinned, blocking=False)
        stream.synchronize()
        return decode(*host)

    return call
