"""decode_simcc's kernel under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, dtype_of
from bench.cuda_cpu.seam import ExecutorCuda, host
from posepost import simcc

from ..helpers import (
    MATRIX,
    check_sanitizers,
    gaussian_vectors,
    simcc_quantization,
)

pytestmark = pytest.mark.usefixtures("fresh_plans")


SCRIPT = """
from tests.simcc.test_sanitizers import sanitized_suite
sanitized_suite(cuda, sys.argv[3])
"""
REPORTS = ("ERROR: Address", "WARNING: Thread", "runtime error")


def exact_place(array: np.ndarray, skip: int) -> Any:
    """On the "device" without a byte to spare behind it."""
    from bench.cuda_cpu.probe import _array, _Heap

    block = _Heap((array.size + skip) * array.itemsize, 0)
    start = block.address + skip * array.itemsize
    placed = _array(start, array.nbytes, block, array.shape, array.dtype)
    host(placed)[...] = array
    return placed


def sanitized_suite(cuda: ExecutorCuda, dtype: str) -> None:
    """Few bins and many, starts off the grid, blocks of one and of four keypoints, with DARK in every way."""
    scales = simcc_quantization(dtype)
    for case, (N, K, Wx, Wy) in enumerate(((2, 3, 96, 40), (1, 5, 7, 1), (2, 2, 37, 150))):
        cuda.processors = 0 if case % 2 == 0 else 128  # of 0 any number is many
        simcc._plan.cache_clear()
        arrays = [gaussian_vectors((N, K, W), case + W) * 40 for W in (Wx, Wy, Wx, Wy)]
        arrays[0][-1, -1] *= 60 / arrays[0][-1, -1].max()  # above 50
        arrays = [one.clip(0, 120).astype(dtype_of(dtype)) if scales else one.astype(dtype_of(dtype)) for one in arrays]
        for merged in (False, True):
            cuda.schedule = {"order": "random", "seed": case, "resident": 3, "chaos": 2}
            x, y, flipped_x, flipped_y = (exact_place(one, case) for one in arrays)
            flip = posepost.Flip((flipped_x, flipped_y), range(K)) if merged else None
            result = posepost.decode_simcc(
                x, y, refine="dark", visibility=True, transform=MATRIX, quantization=scales, flip=flip,
                out=tuple(exact_place(np.zeros(shape, np.float32), 0) for shape in ((N, K, 2), (N, K))),
            )  # fmt: skip
            assert np.isfinite(result.numpy().keypoints).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "dtype", "fault"),
    [
        *((kind, dtype, None) for kind in ("address", "thread") for dtype in DTYPES),
        ("address", "float32", ("p.scores[at] = score;", "p.scores[at + 1] = score;")),
        ("address", "float32", ("if (at < vectors) {", "if (at <= vectors) {")),
        ("address", "float32", ("j <= min((i32)v.W - 1, q + radius)", "j <= q + radius")),
        ("address", "float32", ("threadIdx.x; t < 2 * MOST_TAPS;", "threadIdx.x; t < 3 * MOST_TAPS;")),
        ("thread", "float32", ("lane, scratch);\n    __syncthreads();", "lane, scratch);")),
        ("thread", "float32", ("= p.taps[t];\n        __syncthreads();", "= p.taps[t];")),
    ],
)  # fmt: skip
def test_sanitizers(kind: str, dtype: str, fault: tuple[str, str] | None) -> None:
    """Nothing is found in the kernel, and the same run reports a seeded race or overrun."""
    check_sanitizers(kind, SCRIPT, "simcc.cu", fault, dtype, reports=REPORTS, timeout=600)
