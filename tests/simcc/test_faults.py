# ruff: noqa: E501  (a fault is one line)
"""The proof of the proof, for SimCC: faults put into simcc.cu, one edit each, and found.

The suite is what tests/simcc/test_kernel.py compares, on few vectors; the kernel as it is passes it. Races and overruns:
test_sanitizers there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.arrays import dtype_of, values
from bench.cuda_cpu.seam import ExecutorCuda
from posepost import simcc

from ..helpers import (
    SIMCC_OPTIONS,
    VECTOR_VIEWS,
    check_fault_is_found,
    check_simcc,
    gaussian_vectors,
    simcc_quantization,
)

pytestmark = pytest.mark.usefixtures("fresh_plans")

SOURCE = "simcc.cu"

FAULTS = [
    # scanning
    ("partner of x read forwards", "v.flipped_stride = axis == 0 ? -step : step;", "v.flipped_stride = step;"),
    ("partner of x begins one bin late", "v.flipped += (v.W - 1) * step;", "v.flipped += (v.W - 2) * step;"),
    ("y read backwards too", "if (axis == 0) v.flipped += (v.W - 1) * step;\n        v.flipped_stride = axis == 0 ? -step : step;", "v.flipped += (v.W - 1) * step;\n        v.flipped_stride = -step;"),
    ("partners are not permuted", "partner = MERGED ? p.flip_pairs[k] : 0;", "partner = MERGED ? k : 0;"),
    ("sum instead of mean", "E::widen(flipped_bits)) * 0.5f", "E::widen(flipped_bits)) * 1.0f"),
    ("mean of the maxima's own bits", "return MERGED ? f32::key(", "return false ? f32::key("),
    ("backward vectors not turned round", "const u32 partner = backwards ? E::get(b, N - 1 - n) : E::get(b, n);\n                best", "const u32 partner = E::get(b, n);\n                best"),
    ("backward vectors one step off", "v.flipped - head - (N - 1)", "v.flipped - head - N"),
    ("unaligned partners in vectors", "aligned(v.flipped - head + 1)", "true"),
    ("head of the vector left out", "if (lane < head) scan.take(loose_bits, loose_flipped, loose);", ""),
    ("tail of the vector left out", "if (lane >= head && has_loose) scan.take(loose_bits, loose_flipped, loose);", ""),
    ("only the first round of vectors", "first < vectors; first += 32 * IN_FLIGHT", "first < vectors; first += 32 * 1024 * IN_FLIGHT"),
    ("vectors of a strided axis", "if (v.stride != 1) return false;", ""),
    ("last elements of a strided axis left out", "i < v.W; i += 4 * 32) {", "i + 128 <= v.W; i += 4 * 32) {"),
    ("y takes the sizes of x", "v.W = p.W[axis];", "v.W = p.W[0];"),
    ("y takes the scale of x", "v.scale = p.scale[axis];", "v.scale = p.scale[0];"),
    ("y takes the strides of x", "k * p.stride_k[axis];", "k * p.stride_k[0];"),
    ("not dequantized", "return E::INTEGER ? (number - zero) * scale : number;", "return number;"),
    # visibility
    ("the sum is not rescaled", "sum *= expf(sharpness * (top - to));", ""),
    ("nor at the end", "scan.mass.raise(top, scan.sharpness);", ""),
    ("an infinity of its own lane", "v == top ? 0.0f : v - top", "v - top"),
    ("visibility of an infinite maximum", "finite(top) ? 1.0f / warp_sum", "true ? 1.0f / warp_sum"),
    ("sharpness of x for both", "p.sharpness[axis]", "p.sharpness[0]"),
    # DARK
    ("a tap too few", "if (distance <= radius) b[t]", "if (distance < radius) b[t]"),
    ("window ends early", "u <= 2 * radius + 4; u += 32", "u <= 2 * radius + 3; u += 32"),
    ("bins beyond the end", "if (j < 0 || j > last) continue;", "if (j < 0 || j >= last) continue;"),
    ("taps of x for both", "scratch.taps + axis * MOST_TAPS", "scratch.taps"),
    ("radius of x for both", "p.radius[axis], position_of", "p.radius[0], position_of"),
    ("no continuation before the first bin", "if (i < 2) b[0] = b[1];", ""),
    ("no continuation behind the last bin", "if (i > last - 2) b[4] = b[3];", ""),
    ("the upper clip does not act", "bool clear = top <= 50.0f;", "bool clear = true;"),
    ("the lower clip does not act", "clear &= b[t] >= 1e-3f;", "clear &= true;"),
    ("not scaled to the old maximum", "clipped(b[t] * c)", "clipped(b[t])"),
    ("whole blur without its last bins", "q < (i32)v.W; q += 32) {", "q + 32 < (i32)v.W; q += 32) {"),
    ("whole blur of a lane alone", "v = fmaxf(v, __shfl_xor_sync(FULL, v, lane));", ";"),
    ("weak vectors are refined", "if (top <= 1e-3f) return (float)i;", ""),
    ("infinite maxima are refined", "if (!finite(top)) return quiet_nan();", ""),
    ("no 1e-9", "1e-9f + 0.25f", "0.25f"),
    ("second difference over one bin", "log_ratio(b[4], b[2]) + log_ratio(b[0], b[2])", "log_ratio(b[3], b[2]) + log_ratio(b[1], b[2])"),
    ("step the other way", "(float)i - dx / dxx", "(float)i + dx / dxx"),
    ("logarithm without its exponent", "return e * 0.693147182f + z", "return z"),
    # writing
    ("larger of the maxima", "b != b ? b : p < q ? a : b", "b != b ? b : p < q ? b : a"),
    ("sum of the maxima for their mean", "(of_x + of_y) * 0.5f", "(of_x + of_y)"),
    ("smaller of the maxima for their mean", "p.mean ? ", "false ? "),
    ("mean of the maxima for the smaller", "p.mean ? ", "true ? "),
    ("NaN on y alone is not seen", "a != a ? a : b != b ? b : p < q", "a != a ? a : p < q"),
    ("the threshold itself is present", "<= p.threshold_key", "< p.threshold_key"),
    ("absent points are refined", "float x = (absent ? p.absent : scratch.at[x_warp])", "float x = (scratch.at[x_warp])"),
    ("absent before the division", "/ p.split;\n    float y", ";\n    float y"),
    ("x and y swapped", "p.keypoints[2 * at] = x;", "p.keypoints[2 * at] = y;"),
    ("normalized scores are not cut", "score > 1.0f ? 1.0f : score", "score"),
    ("normalizer of x for both", "top / p.normalizer[axis]", "top / p.normalizer[0]"),
    ("matrix of the first row for all", "row * p.transform_stride", "0 * p.transform_stride"),
    ("first keypoint of a block for all", "2 * threadIdx.x, scratch);", "0, scratch);"),
    ("last block writes past the end", "threadIdx.x < of_block && first + threadIdx.x < p.total", "threadIdx.x < of_block"),
    ("no wait before writing", "warp % 2, warp, lane, scratch);\n    __syncthreads();", "warp % 2, warp, lane, scratch);"),
]  # fmt: skip


def suite(cuda: ExecutorCuda) -> None:
    """Both kinds of grid, every option, every way to read, each dtype that has code of its own."""
    for case, (N, K, Wx, Wy) in enumerate(((2, 3, 96, 40), (1, 5, 1, 7), (3, 3, 1100, 64), (2, 2, 45, 129))):
        cuda.processors = 0 if case % 2 == 0 else 128  # of 0 any number is many
        cuda.schedule = {"order": "random", "seed": case, "resident": 3, "chaos": 2}
        rows = np.random.default_rng(case).standard_normal((N, 2, 3)).astype(np.float32)
        for dtype in ("float32", "float16", "int8"):
            integers = "int" in dtype
            sets = [[gaussian_vectors((N, K, W), case + i) for i, W in enumerate((Wx, Wy, Wx, Wy))]]
            sets[0][0][0, 0] *= 90  # above 50
            sets[0][1][0, 1] *= 0.004
            sets[0][1][-1, -1] *= 0.001
            if integers:
                sets[0] = [(100 * one).clip(-100, 100) for one in sets[0]]
            sets[0] = [one.astype(dtype_of(dtype)) for one in sets[0]]
            sets += [[values(kind, dtype, one.shape, case) for one in sets[0]] for kind in ("ties", "nan")]
            for which, arrays in enumerate(sets):
                for view_name in ("dense", "slice_of_more", "every_other_bin"):
                    for merged in (False, True):
                        simcc._plan.cache_clear()
                        options: dict[str, Any] = {"quantization": simcc_quantization(dtype)}
                        for more in (*SIMCC_OPTIONS, {"transform": rows, "threshold": 0.25}):
                            check_simcc(
                                cuda, arrays if merged else arrays[:2], VECTOR_VIEWS[view_name],
                                skip=(0, 1, 3)[(case + which) % 3], **options, **more,
                            )  # fmt: skip
    nan_on_y = [np.ones((1, 1, 3), np.float32), np.full((1, 1, 2), np.nan, np.float32)]
    check_simcc(cuda, nan_on_y, VECTOR_VIEWS["dense"], visibility=True)
    infinite, lone = np.float32([[[1, -np.inf, np.inf, 3] * 20]]), np.float32([[[-np.inf] * 64 + [2.0]]])
    for vectors in ([infinite, lone], [lone, lone]):
        check_simcc(cuda, vectors, VECTOR_VIEWS["dense"], visibility=True, refine="dark")


@pytest.mark.slow
def test_the_kernel_as_it_is_passes(cpu_cuda: ExecutorCuda) -> None:
    suite(cpu_cuda)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "old", "new"), FAULTS, ids=[what for what, _, _ in FAULTS])
def test_a_fault_is_found(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, what: str, old: str, new: str
) -> None:
    check_fault_is_found(monkeypatch, SOURCE, old, new, lambda: suite(cpu_cuda), seconds=120)
