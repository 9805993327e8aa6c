"""Thresholds as the values and keys with which elements are compared, so that no exponential takes part."""

from __future__ import annotations

import math

import numpy as np

from .. import _check
from . import Scale

ABOVE_ZERO = 2.0**-149
"""The smallest float32 above 0: the threshold of reference implementations that want scores above 0."""

LOWEST = float(np.finfo(np.float32).min)


def logit(probability: float) -> float:
    """What a sigmoid turns into `probability`; infinite from 0 down and from 1 up."""
    if probability <= 0:
        return -math.inf
    return math.inf if probability >= 1 else -math.log(1 / probability - 1)


def not_below(exact: float) -> np.float32:
    """The smallest float32 that is not below `exact`."""
    with np.errstate(over="ignore"):
        least = np.float32(exact)
        return np.nextafter(least, np.float32(np.inf)) if float(least) < exact else least


def least_element(
    threshold: float, activation: str | None, dtype: str, scale: Scale | None, margin: float = 0.0
) -> float | int:
    """What an element is compared with: the smallest float32, or raw integer, whose score reaches the threshold.

    margin : added to the threshold before it becomes a logit, as libcoral does.
    """
    exact = float(threshold)
    lowest = max(float(not_below(logit(exact + margin) if activation == "sigmoid" else exact)), LOWEST)
    if dtype not in _check.INTEGER_RANGE:
        return lowest
    low, high = _check.INTEGER_RANGE[dtype]
    values = np.arange(low, high + 1).astype(np.float32)
    with np.errstate(over="ignore"):
        if scale is not None:
            values = (values - scale[1]) * scale[0]
        enough = values >= np.float32(lowest)
    return low + int(enough.argmax()) if enough.any() else high + 1
