"""Inputs that break argmax kernels: values by kind, and views by memory layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

DTYPES = ("float32", "float16", "bfloat16", "uint8", "int8")
KINDS = ("random", "ties", "constant", "neginf", "zeros", "infinite", "nan", "denormal", "negative")
QUANTIZATION = {"heatmaps": (0.0375, 11), "offsets": (0.25, -3)}


def quantization_for(heatmap_dtype: str, offset_dtype: str) -> dict[str, tuple[float, int]] | None:
    """Scales for the integer tensors among the two; zero points that both integer types can hold."""
    found = {}
    if "int" in heatmap_dtype:
        found["heatmaps"] = (0.0375, 11)
    if "int" in offset_dtype:
        found["offsets"] = (0.25, 3)
    return found or None


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def values(kind: str, dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """An array of the dtype; kinds that integers do not have give the nearest thing they do."""
    rng = np.random.default_rng(seed)
    if "int" in dtype:
        info = np.iinfo(dtype)
        low, high = {"ties": (3, 6), "constant": (7, 8), "neginf": (info.min, info.min + 1)}.get(
            kind, (info.min, info.max + 1)
        )
        return rng.integers(low, high, shape).astype(dtype)
    x = rng.standard_normal(shape).astype(np.float32)
    if kind == "ties":
        x = rng.integers(-2, 3, shape).astype(np.float32)
    elif kind == "constant":
        x[:] = -1.5
    elif kind == "neginf":
        x[:] = -np.inf
    elif kind == "zeros":
        x = np.where(rng.random(shape) < 0.5, np.float32(0), np.float32(-0.0)).astype(np.float32)
    elif kind == "infinite":
        x[rng.random(shape) < 0.01] = np.inf
        x[rng.random(shape) < 0.01] = -np.inf
    elif kind == "nan":
        x[rng.random(shape) < 0.01] = np.inf
        x[rng.random(shape) < 0.004] = np.nan
        x.view(np.uint32)[rng.random(shape) < 0.004] = 0xFFC00123  # a negative NaN with a payload
    elif kind == "denormal":
        smallest = {"float32": 1e-45, "float16": 6e-8, "bfloat16": 9.2e-41}[dtype]
        x = (rng.integers(-5, 6, shape) * np.float64(smallest)).astype(np.float32)
    elif kind == "negative":
        x = -np.abs(x) - 1
    return x.astype(dtype_of(dtype))


# Views. Each takes the values of an array (B, C, H, W) and a function that places an array in memory (on the "device"
# or not), and returns a view of placed memory that holds them.

Place = Callable[[np.ndarray], Any]


def _nchw(x: np.ndarray, place: Place) -> Any:
    return place(np.ascontiguousarray(x))


def _nhwc(x: np.ndarray, place: Place) -> Any:
    return place(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))


def _around(x: np.ndarray, place: Place, before: tuple[int, ...], after: tuple[int, ...], nhwc: bool = False) -> Any:
    """The values as a slice of a larger array, which holds the type's largest value everywhere else."""
    if nhwc:
        x = x.transpose(0, 2, 3, 1)
    largest = np.iinfo(x.dtype).max if x.dtype.kind in "iu" else np.inf
    whole = np.full([b + n + a for b, n, a in zip(before, x.shape, after)], largest).astype(x.dtype)
    inside = tuple(slice(b, b + n) for b, n in zip(before, x.shape))
    whole[inside] = x
    return place(whole)[inside]


def _every_other_column(x: np.ndarray, place: Place) -> Any:
    return place(np.repeat(np.ascontiguousarray(x), 2, axis=3))[:, :, :, ::2]


VIEWS: dict[str, tuple[str, Callable[[np.ndarray, Place], Any]]] = {
    "nchw": ("NCHW", _nchw),
    "nchw_batch_and_channels_of_more": ("NCHW", lambda x, place: _around(x, place, (1, 3, 0, 0), (1, 2, 0, 0))),
    "nchw_crop": ("NCHW", lambda x, place: _around(x, place, (0, 0, 2, 3), (0, 0, 1, 5))),
    "nchw_columns_and_rows_swapped": (
        "NCHW",
        lambda x, place: place(np.ascontiguousarray(x.swapaxes(2, 3))).swapaxes(2, 3),
    ),
    "nchw_every_other_column": ("NCHW", _every_other_column),
    "nhwc": ("NHWC", _nhwc),
    "nhwc_channels_of_more": ("NHWC", lambda x, place: _around(x, place, (0, 0, 0, 2), (0, 0, 0, 3), True)),
    "nhwc_crop": ("NHWC", lambda x, place: _around(x, place, (0, 2, 3, 0), (0, 1, 5, 0), True)),
}
