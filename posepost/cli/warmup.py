"""`posepost warmup`: compiles the kernels ahead of the first call."""

from __future__ import annotations

import argparse
import time

from posepost import _cuda, _kernels
from posepost.ort import cupy_problem, recognize

KERNELS = {  # sources, by what `recognize` finds
    "posenet": ("posenet.cu", "posenet_multi.cu", "peaks.cu"),
    "heatmap": ("heatmap.cu", "peaks.cu"),
    "simcc": ("simcc.cu",),
}


def warmup(arguments: argparse.Namespace) -> int:
    """Compile the kernels that a model needs, or all, so that the first call finds them in CuPy's disk cache."""
    variants = _kernels.VARIANTS
    if arguments.model is not None:
        head = recognize(arguments.model)
        element = ("ELEMENT", _kernels.ELEMENTS[head.dtype])
        variants = tuple(
            variant for variant in variants if variant.source in KERNELS[head.kind] and element in variant.defines
        )
    problem = cupy_problem()
    if problem:
        print(f"nothing to compile: {problem}; the NumPy implementation needs no compiling")
        return 0
    for variant in variants:
        start = time.perf_counter()
        _cuda.kernel(variant)
        print(f"{variant!s:<40}{time.perf_counter() - start:6.2f} s")
    return 0
