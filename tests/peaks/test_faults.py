# ruff: noqa: E501  (a fault is one line)
"""The proof of the proof, for find_peaks: faults put into peaks.cu, one edit each, and found.

One suite of launches serves all faults; the kernels as they are pass it. Races and overruns: test_sanitizers.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.arrays import values
from bench.cuda_cpu.seam import ExecutorCuda

from ..helpers import check_fault_is_found, check_peaks, gaussian_maps

pytestmark = pytest.mark.usefixtures("fresh_plans")

SOURCE = "peaks.cu"

FAULTS = [
    ("peaks are refined at another map's scale", "E::INTEGER ? (value - p.zero) * p.scale : value", "value * 0.5f"),
    ("weak peaks are not looked at again", "if (again || !s.unclear) break;", "break;"),
    ("the factor is that of the last warp", "for (u32 w = 0; w < warps; ++w) of_block = larger(of_block, parts[w]);", "of_block = parts[warps - 1];"),
    ("the step is not taken", "(float)y + step.y;", "(float)y;"),
    ("the rest is left as it was", "p.points[2 * (first + m) + 1] = p.scores[first + m] = 0.0f;", "p.scores[first + m] = 0.0f;"),
    ("a plateau has no peak", "p.strict ? other >= key : other > key", "other >= key"),
    ("a plateau is all peaks", "p.strict ? other >= key : other > key", "other > key"),
    ("window one cell short below", "min(p.H - 1, y + p.radius)", "min(p.H - 1, y + p.radius - 1)"),
    ("window one cell short to the left", "u = x - min(x, p.radius)", "u = x - min(x, p.radius - 1)"),
    ("x and y swapped", "p.points[2 * to] = (float)x + step.x", "p.points[2 * to] = (float)y + step.x"),
    ("found twice", "            *from = 0;\n", ""),
    ("the list in shared memory is too short", "#define LISTED 1024", "#define LISTED 4"),
    ("equal places in the order", "s.list[j] > s.list[i]", "s.list[j] >= s.list[i]"),
    ("the longer list begins where the shorter one does", "behind + (i - LISTED)", "behind + i"),
    ("lines are not stepped", "                ++y;\n", ""),
    ("blocks of a map look at the same cells", "blockIdx.y * blockDim.x + threadIdx.x, y", "threadIdx.x, y"),
    ("the first block goes on", "atomicInc(ticket, gridDim.y - 1) == gridDim.y - 1", "atomicInc(ticket, gridDim.y - 1) == 0"),
    ("the shared list is not emptied", "atomicExch(p.found + blockIdx.x, 0u)", "p.found[blockIdx.x]"),
    ("what lies behind the shared list is taken from its head", "    behind += LISTED;\n", ""),
    ("nothing is left out", "p.left_out[row] = found - count", "p.left_out[row] = 0"),
    ("more than there is room for", "min(found, p.max_peaks)", "found"),
]  # fmt: skip


def suite() -> None:
    """What the tests of the kernel check, on few maps."""
    for case, kind in enumerate(("random", "ties", "constant", "nan")):
        for plateau, nms_window in (("all", 3), ("none", 5)):
            options = {"plateau": plateau, "nms_window": nms_window, "threshold": -2.0}
            check_peaks(values(kind, "float32", (2, 3, 9, 11), case), "nchw", **options)
    full = np.full((1, 2, 40, 30), 0.5, np.float32)
    full[0, 1] += np.arange(1200, dtype=np.float32).reshape(40, 30) % 7
    check_peaks(full, "nchw", plateau="all", nms_window=3, threshold=-2.0)
    cells = np.arange(4800, dtype=np.float32).reshape(80, 60)
    rising = np.zeros((1, 1, 80, 60), np.float32)  # 1200 peaks, the best of them those of the last threads
    rising[0, 0, ::2, ::2] = (cells % 512 + cells / 5000 + 1)[::2, ::2]
    check_peaks(rising, "nchw", plateau="all", nms_window=3, threshold=-2.0)
    few_large = np.zeros((1, 2, 97, 90), np.float32)  # several blocks a map; one list fits shared memory, one does not
    few_large[0, :, ::2, ::2] = np.random.default_rng(5).permutation(49 * 45).reshape(49, 45) + 1
    few_large[0, 1, :, 40:] = 0
    for _ in range(2):
        check_peaks(few_large, "nchw", plateau="all", nms_window=3, threshold=0.5)
    weak = gaussian_maps((2, 3, 19, 22), "float32", 1) * np.float32(2e-3)
    options = {"threshold": 5e-4, "max_peaks": 12, "nms_window": 5, "refine": posepost.DarkUDP(blur=5)}
    check_peaks(weak, "nchw", 1e-3, **options)


def test_the_kernels_as_they_are_pass(cpu_cuda: ExecutorCuda) -> None:
    suite()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "old", "new"), FAULTS, ids=[what for what, _, _ in FAULTS])
def test_a_fault_is_found(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, what: str, old: str, new: str
) -> None:
    check_fault_is_found(monkeypatch, SOURCE, old, new, suite)
