"""The first largest cell of each map, as numpy.argmax finds it, and faster where NumPy has no quick way of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _view

Array = Any  # numpy.ndarray

FOLD = 64  # cells that a folded map keeps side by side
FOLDED_CELLS = 2048  # from which folding is faster than numpy.argmax across rows

MANY_HALVES = 16_000  # elements from which float16 is faster compared as integers than widened

HALF_INFINITY = 0x7C00


def first_largest(maps: Array) -> Array:
    """(B, K, H, W) -> (B, K) int64: the first largest cell in row-major order, NaN above all, -0 equal to +0."""
    B, K, H, W = maps.shape
    if maps.itemsize == 2 and maps.dtype.kind != "i":
        if maps.dtype == np.float16 and maps.size >= MANY_HALVES:
            return _of_half(maps)
        maps = widen(maps)
    if maps.strides[1] >= maps.strides[3] or K == 1:
        return maps.reshape(B, K, H * W).argmax(axis=2)
    images = maps.transpose(0, 2, 3, 1).reshape(B, H * W, K)  # channels last: as they lie
    return _of_folded(images) if H * W >= FOLDED_CELLS else images.argmax(axis=1)


def _of_folded(images: Array) -> Array:
    """(B, cells, K) -> (B, K). An image is folded to rows of FOLD cells, whose maximum is taken row by row in whole
    vectors; only the columns that hold a channel's maximum are searched for its first place."""
    B, cells, K = images.shape
    rows = cells // FOLD
    body, tail = images[:, : rows * FOLD].reshape(B, rows, FOLD * K), images[:, rows * FOLD :]
    columns = body.max(axis=1).reshape(B, FOLD, K)
    largest = columns.max(axis=1)
    if cells % FOLD:
        largest = np.maximum(largest, tail.max(axis=1))
    if largest.dtype.kind == "f" and np.isnan(largest).any():
        return images.argmax(axis=1)
    b, column, k = np.nonzero(columns == largest[:, None])
    row = (body[b, :, column * K + k] == largest[b, k, None]).argmax(axis=1)
    first = np.full((B, K), cells)
    np.minimum.at(first, (b, k), row * FOLD + column)
    b, k = np.nonzero(first == cells)  # the largest lies in the tail alone
    if len(b):
        first[b, k] = rows * FOLD + (tail[b, :, k] == largest[b, k, None]).argmax(axis=1)
    return first


def _of_half(maps: Array) -> Array:
    """float16 compared as integers that order as the numbers do: NumPy has vector code for those alone.

    The integers tell -0 from +0 and put negative NaN below -inf: maps where that could matter are looked at again as
    float32.
    """
    bits = maps.view(np.int16)
    keys = bits ^ (bits >> 15 & 0x7FFF)
    first = first_largest(keys)
    b, k = np.ogrid[: first.shape[0], : first.shape[1]]
    y, x = np.divmod(first, maps.shape[3])
    winner = keys[b, k, y, x]
    doubtful = (winner > HALF_INFINITY) | (winner == 0) | (winner == -1)
    if keys.size and keys.min() < ~HALF_INFINITY:
        doubtful |= (keys < ~HALF_INFINITY).any(axis=(2, 3))
    if doubtful.any():
        again = maps[doubtful].astype(np.float32)
        first[doubtful] = again.reshape(len(again), -1).argmax(axis=1)
    return first


def is_bfloat16(array: Array) -> bool:
    return bool(array.dtype.kind == "V")  # ml_dtypes.bfloat16 or _view.BFLOAT16


def widen(array: Array) -> Array:
    """Any element type as float32, exactly."""
    if array.dtype == _view.BFLOAT16:
        return np.left_shift(array["bfloat16"], 16, dtype=np.uint32).view(np.float32)
    return array.astype(np.float32)
