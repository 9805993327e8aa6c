"""The largest cell of a blurred map without blurring all of it: the same cell and the same bits, sooner.

What "udp_combined" and "megvii" ask for is `refine.blurred_maps(...)` and its first largest cell. Two matrix products
blur a map much faster than sums over taps do, but round otherwise. A bound on that rounding leaves few cells, most
often one, that can be the largest, and those are blurred by `refine.blur`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .._rules.refinement import Step
from .refine import CACHED, Maps, blurred, blurred_maps, inside

Array = np.ndarray[Any, Any]

ROUNDING = np.float32(8.4 * 2**-24)  # of sums in two orders and for two cells, per tap and largest magnitude
TINY = np.float32(1e-35)  # above what denormals lose
HUGE = np.float32(1e30)  # below what overflows
CANDIDATES = 16
WIDE = 512  # cells of a map's side from which a product with a matrix is slower than a sum over taps
BLOCK, PATCH = 3, 16  # cells along a side


def blurred_peaks(maps: Maps, taps: tuple[float, ...], border: str) -> tuple[Array, Array]:
    """(B * K,) each: the first largest cell of the blurred map, and the largest value of the map before.

    Matrix products blur many times as fast, but round otherwise. They leave the few cells, most often one, that can be
    the largest; where there are several, those are blurred as `blur` does it. Maps with too many, such as plateaus, and
    maps that are not finite are blurred as a whole.
    """
    B, K, H, W = maps.elements.shape
    elements = maps.elements.reshape(B * K, H, W)
    cells, largest = np.empty(B * K, np.int64), np.empty(B * K, np.float32)
    many = max(1, 2 * CACHED // (H * W))
    for first in range(0, B * K, many):
        values = maps.values(elements[first : first + many])
        flat = values.reshape(len(values), H * W)
        top = largest[first : first + many] = flat.max(axis=1)
        bound = np.maximum(top, -flat.min(axis=1))
        left = np.arange(len(values))  # maps whose cell is not known yet
        for find in (_in_patches, _in_maps):
            if len(left):
                some = values if len(left) == len(values) else values[left]
                of, cell, clear = find(some, bound[left], taps, border)
                if len(of) != np.count_nonzero(clear):
                    of, cell = _best_candidates(maps, first + left[of], cell, taps, border)
                    cells[of] = cell
                else:
                    cells[first + left[of]] = cell
                left = left[~clear]
        if len(left):
            cells[first + left] = blurred_maps(values[left], taps, border).reshape(len(left), H * W).argmax(axis=1)
    return cells, largest


Candidates = tuple[Array, Array, Array]
"""Map and cell of every candidate, in ascending order, of the maps that are clear; and which these are."""


def _in_maps(values: Array, bound: Array, taps: tuple[float, ...], border: str) -> Candidates:
    n, H, W = values.shape
    if max(H, W) >= WIDE:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(n, bool)
    down, across = _blur_matrix(taps, border, H), _blur_matrix(taps, border, W)
    return _candidates(np.matmul(down, np.matmul(values, across.T)).reshape(n, H * W), bound, len(taps))


def _candidates(rough: Array, bound: Array, size: int) -> Candidates:
    n, cells = rough.shape
    least = rough.max(axis=1) - (ROUNDING * np.float32(size + 4) * bound + TINY)
    near = rough >= least[:, None]
    if np.count_nonzero(near) == n:  # one each, most often: a map has none only where its bound is NaN
        cell, clear = near.argmax(axis=1), bound < HUGE
        if clear.all():
            return np.arange(n), cell, clear
    of, cell = np.divmod(np.flatnonzero(near), cells)
    count = np.bincount(of, minlength=n)
    clear = (count > 0) & (count <= CANDIDATES) & (bound < HUGE)
    if not clear.all():
        some = clear[of]
        of, cell = of[some], cell[some]
    return of, cell, clear


def _in_patches(values: Array, bound: Array, taps: tuple[float, ...], border: str) -> Candidates:
    """The same with a fifth of the work, for maps with one peak: no cell of a block of cells is larger than the map's
    positive part blurred by the largest of the block's weights. The patch around the largest of these is blurred, and
    is all that counts where the blocks outside stay below it."""
    n, H, W = values.shape
    if min(H, W) < 2 * PATCH or max(H, W) >= WIDE:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(n, bool)
    (down, _, gain_y), (_, across, gain_x) = _block_matrix(taps, border, H), _block_matrix(taps, border, W)
    wide = across.shape[1]
    highest = np.matmul(np.maximum(values, np.float32(0)).reshape(n * H, W), across).reshape(n, H, -1)
    highest = np.matmul(down, highest).reshape(n, len(down) * wide)
    row, column = np.divmod(highest.argmax(axis=1), wide)
    y = np.minimum(np.maximum(row * BLOCK - (PATCH - BLOCK) // 2, 0), H - PATCH)
    x = np.minimum(np.maximum(column * BLOCK - (PATCH - BLOCK) // 2, 0), W - PATCH)
    reach = np.arange(PATCH)
    rows = _blur_matrix(taps, border, H).take(y[:, None] + reach, axis=0)
    columns = _blur_matrix(taps, border, W).take(x[:, None] + reach, axis=0)
    patch = np.matmul(rows, np.matmul(values, columns.transpose(0, 2, 1))).reshape(n, PATCH * PATCH)
    of, cell, clear = _candidates(patch, bound, len(taps))

    least = patch.max(axis=1) - (
        ROUNDING * np.float32(len(taps) + 8) * max(np.float32(1), gain_y * gain_x) * bound + TINY
    )
    rival, block = np.divmod(np.flatnonzero(highest >= least[:, None]), len(down) * wide)
    row, column = np.divmod(block, wide)
    outside = (row * BLOCK < y[rival]) | (np.minimum(row * BLOCK + BLOCK, H) > y[rival] + PATCH)
    outside |= (column * BLOCK < x[rival]) | (np.minimum(column * BLOCK + BLOCK, W) > x[rival] + PATCH)
    if np.count_nonzero(outside):
        clear[rival[outside]] = False
        some = clear[of]
        of, cell = of[some], cell[some]
    return of, (y[of] + cell // PATCH) * W + x[of] + cell % PATCH, clear


@functools.lru_cache(maxsize=64)
def _block_matrix(taps: tuple[float, ...], border: str, size: int) -> tuple[Array, Array, np.float32]:
    """(blocks, size): the most that a blurred cell of each block takes of each cell of an axis; its transpose; the most
    that a block takes in all."""
    most = np.maximum.reduceat(_blur_matrix(taps, border, size), np.arange(0, size, BLOCK), axis=0)
    return most, np.ascontiguousarray(most.T), most.sum(axis=1).max()


@functools.lru_cache(maxsize=64)
def _blur_matrix(taps: tuple[float, ...], border: str, size: int) -> Array:
    """(size, size): what a blurred cell takes of each cell of an axis."""
    matrix, at = np.zeros((size, size)), np.arange(size)
    for i, tap in enumerate(taps):
        moved = at + i - len(taps) // 2
        cell = inside(moved, size, border)
        matrix[at, cell] += np.where(cell == moved, tap, 0) if border == "zero" else tap
    return matrix.astype(np.float32)


def _best_candidates(maps: Maps, of: Array, cell: Array, taps: tuple[float, ...], border: str) -> tuple[Array, Array]:
    """Map and cell, in ascending order, of each map's first largest candidate."""
    _, K, _, W = maps.elements.shape
    value = blurred(maps, *np.divmod(of, K), *np.divmod(cell, W), Step(taps=taps, border=border))
    order = np.lexsort((cell, -value, of))
    best = order[np.unique(of[order], return_index=True)[1]]
    return of[best], cell[best]
