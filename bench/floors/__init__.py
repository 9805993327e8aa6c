"""Kernels that no decoder can beat: a plain read of the same bytes, and nothing at all."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import numpy as np

from posepost import _kernels


@functools.cache
def floor_kernel(entry: str) -> Any:
    import cupy

    source = resources.files(__package__).joinpath("floors.cu").read_text(encoding="utf-8")
    return cupy.RawModule(code=source, options=_kernels.OPTIONS).get_function(entry)


def floor_params(data: Any, out: Any) -> np.ndarray:
    params = np.zeros(1, np.dtype([("data", "u8"), ("out", "u8"), ("vectors", "u8")]))
    params["data"], params["out"], params["vectors"] = data.data.ptr, out.data.ptr, data.nbytes // 16
    return params
