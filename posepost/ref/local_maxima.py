"""Local maxima of maps, which find_peaks and the multi-person decoders look for."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def is_peak(values: Array, y: int, x: int, radius: int, plateau: str) -> Array:
    """Whether each cell is a local maximum along the axes y and x, in a window that the borders clip."""
    if plateau == "all":
        largest = _largest(_largest(values, x, radius), y, radius)  # with the cell itself: one pass less
        equal: Array = values >= largest
        return equal
    if values.dtype.kind in "iu":
        values = values.astype(np.int16)
    beside = _largest(values, x, radius, itself=False)
    above_and_below = _largest(np.maximum(beside, values), y, radius, itself=False)
    larger: Array = values > np.maximum(beside, above_and_below)
    return larger


def _largest(values: Array, axis: int, radius: int, itself: bool = True) -> Array:
    """The largest value within `radius` cells along one axis; NaN where one of them is NaN."""
    if itself:
        largest = values.copy(order="K")
    else:
        least = -np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).min
        largest = np.full_like(values, least)
    for distance in range(1, min(radius, values.shape[axis] - 1) + 1):
        first, last = [slice(None)] * values.ndim, [slice(None)] * values.ndim
        first[axis], last[axis] = slice(None, -distance), slice(distance, None)
        for to, source in ((tuple(first), tuple(last)), (tuple(last), tuple(first))):
            np.maximum(largest[to], values[source], out=largest[to])
    return largest
