"""The first largest cell of each map, as numpy.argmax finds it, and faster where NumPy has no quick way of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _view

Array = Any  # numpy.ndarray

FOLD = 64  # cells that a folded map keeps side by side
FOLDED_CELLS = 2048  # from which folding is faster than numpy.argmax across rows

MANY_FLOAT16, MANY_BFLOAT16 = 6_000, 80_000  # elements from which they are faster compared as integers than widened


def first_largest(maps: Array) -> Array:
    """(B, K, H, W) -> (B, K) int64: the first largest cell in row-major order, NaN above all, -0 equal to +0."""
    B, K, H, W = maps.shape
    if maps.itemsize == 2 and maps.dtype.kind != "i":
        if maps.size >= (MANY_FLOAT16 if maps.dtype == np.float16 else MANY_BFLOAT16):
            return _of_halves(maps)
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


def _of_halves(maps: Array) -> Array:
    """float16 and bfloat16 compared by their bits: NumPy has vector code for integers alone.

    As int16, numbers above 0 keep their order, with NaN above them. As uint16, those below 0 have the opposite order,
    with NaN of negative sign above all. So a map whose winner is not above 0 is looked at again: as uint16 where it is
    below, as float32 where it is 0, which may be a -0 further ahead, or NaN.
    """
    infinity = 0x7C00 if maps.dtype == np.float16 else 0x7F80
    bits = maps.view(np.int16)
    if bits.size and bits.view(np.uint16).max() > 0x8000 | infinity:
        return first_largest(widen(maps))
    first = first_largest(bits)
    B, K, _, W = bits.shape
    y, x = np.divmod(first, W)
    winner = bits[np.arange(B)[:, None], np.arange(K), y, x]
    if ((winner > 0) & (winner <= infinity)).all():
        return first
    below = winner < 0
    if below.any():
        again = bits[below].view(np.uint16)
        first[below] = again.reshape(len(again), -1).argmin(axis=1)
    doubtful = (winner == 0) | (winner > infinity)
    if doubtful.any():
        again = widen(maps[doubtful])
        first[doubtful] = again.reshape(len(again), -1).argmax(axis=1)
    return first


def widen(array: Array) -> Array:
    """Any element type as float32, exactly."""
    if array.dtype == _view.BFLOAT16:
        return np.left_shift(array["bfloat16"], 16, dtype=np.uint32).view(np.float32)
    return array.astype(np.float32)
