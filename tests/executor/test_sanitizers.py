"""The kernels under AddressSanitizer and UBSan, and under ThreadSanitizer, and that each of these would have spoken.

The suites are those of bench/cuda_cpu/probe.py: several blocks a tile, starts off the 16-byte grid, crops, channels
last, buffers without a byte to spare. Every run is a process of its own.
"""

from __future__ import annotations

import itertools

import pytest

from bench.cuda_cpu import executor, probe
from posepost import _kernels

ABLE, REASON = executor.available()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not ABLE, reason=REASON)]
pytest.importorskip("cupy", reason="CuPy makes the device arrays: pip install posepost[cuda13]")

WRITE = "p.scores[row] = score;"
HALVING = "half /= 2) {  // t and t + half hold the same channel\n        __syncthreads();"
FAULTS = {  # sanitizer -> a fault for each layout, and what the report must say
    "address": {
        "PLANAR": ((WRITE, "p.scores[row + 1] = score;", 1), "address", "heap-buffer-overflow"),
        "INTERLEAVED": (("vector + v)", "vector + v + active)", 1), "address", "heap-buffer-overflow"),
        "STRIDED": (("scratch.part[t + half]", "scratch.part[t + half + 64]", 1), "undefined", "out of bounds"),
    },
    "thread": {
        "PLANAR": (("of_warp;\n    __syncthreads();", "of_warp;", 1), "thread", "data race"),
        "INTERLEAVED": (("scratch.best[c]) atomicMax(best + c, scratch.best[c]);", "scratch.best[c] > best[c]) best[c] = scratch.best[c];", 1), "thread", "data race"),  # noqa: E501
        "STRIDED": ((HALVING, HALVING.replace("__syncthreads();", ""), 1), "thread", "data race"),
    },
}  # fmt: skip


RUNS = list(itertools.product(FAULTS, _kernels.LAYOUTS))


@pytest.mark.parametrize(("sanitizer", "layout"), RUNS)
def test_nothing_is_found_in_the_kernels(sanitizer: str, layout: str) -> None:
    variants = [
        variant
        for variant in _kernels.VARIANTS
        if variant == _kernels.posenet(dict(variant.defines)["ELEMENT"], layout)
    ]
    assert len(variants) == 5
    jobs = [(layout, dict(variant.defines)["ELEMENT"], None) for variant in variants]
    assert probe.judge_sanitized(sanitizer, jobs) == {}


@pytest.mark.parametrize(("sanitizer", "layout"), RUNS)
def test_the_same_run_reports_a_fault(sanitizer: str, layout: str) -> None:
    edit, check, words = FAULTS[sanitizer][layout]
    for element in ("f32", "u8"):
        found = probe.judge_sanitized(sanitizer, [(layout, element, edit)])
        assert list(found) == [check]
        assert words in found[check]
