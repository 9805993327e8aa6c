"""Which kernel reads maps of given strides, and on how many blocks: functions of shapes, strides and the GPU's size."""

from __future__ import annotations

from typing import NamedTuple

from . import _cuda
from ._kernels import THREADS
from ._rules.maps import Maps
from ._view import ITEMSIZE

VECTOR_BYTES = 16
LOADS_IN_FLIGHT = 4  # 16-byte loads that a thread issues before it looks at the first
BLOCKS_OF_MULTIPROCESSOR = 4  # keep it busy: with fewer tiles than that on a GPU, several blocks share one
MANY = 2  # times as many maps: a small block each, so that many maps wait for their last loads side by side
LOADS_OF_MANY = 12  # 16-byte loads of a thread there


class Tiling(NamedTuple):
    """Which kernel runs a pair of maps, and on how many blocks."""

    layout: str
    runs: int
    channel_lanes: int
    tiles: int
    splits: int  # blocks that share a tile
    block: int

    def workspace(self, maps: int) -> int:
        """Zeroed words of 8 bytes with which blocks that share a tile agree: the best of each map, then tickets."""
        return 0 if self.splits == 1 else maps + -(-self.tiles // 2)


def busy_blocks(device: int | None, blocks_of_multiprocessor: int = BLOCKS_OF_MULTIPROCESSOR) -> int:
    """As many blocks as keep the device busy."""
    return int(blocks_of_multiprocessor * _cuda.cuda.multiprocessors(device))


def tiling(maps: Maps, dtype: str, busy: int) -> Tiling:
    """The kernel and grid for heatmaps of these strides, on a GPU that `busy` blocks keep busy."""
    B, K, H, W = maps.B, maps.K, maps.H, maps.W
    _, stride_k, stride_y, stride_x = maps.heatmap_strides
    per_vector = VECTOR_BYTES // ITEMSIZE[dtype]
    columns_touch, rows_touch = W == 1 or stride_x == 1, H == 1 or stride_y == W
    if columns_touch and (rows_touch or W >= 2 * per_vector):
        runs = 1 if rows_touch else H
        vectors = -(-H * W // per_vector)
        tiles = B * K
        loads = LOADS_OF_MANY if tiles >= MANY * busy else LOADS_IN_FLIGHT
        block = min(THREADS, max(32, _power_of_two(-(-vectors // loads))))
        return Tiling("PLANAR", runs, 1, tiles, _splits(tiles, vectors, block, busy), block)

    dense = (K == 1 or stride_k == 1) and (W == 1 or stride_x == K) and (H == 1 or stride_y == W * K)
    if dense and K <= THREADS and H * W * K < 2**32:
        vectors = -(-H * W * K // per_vector)
        return Tiling("INTERLEAVED", 1, 1, B, _splits(B, vectors, THREADS // K * K, busy), THREADS)

    return split_element_by_element(maps, busy)


def split_element_by_element(maps: Maps, busy: int) -> Tiling:
    """The kernel for any strides, several blocks at a tile where that pays."""
    scalar = element_by_element(maps)
    cells, threads = maps.H * maps.W, scalar.block // scalar.channel_lanes
    return scalar._replace(splits=_splits(scalar.tiles, cells, threads, busy))


def element_by_element(maps: Maps) -> Tiling:
    """The kernel for any strides, no two blocks at one tile."""
    _, stride_k, _, stride_x = maps.heatmap_strides
    lanes = min(32, _power_of_two(maps.K)) if stride_k < stride_x else 1
    return Tiling("STRIDED", 1, lanes, maps.B * -(-maps.K // lanes), 1, THREADS)


def _splits(tiles: int, loads: int, threads: int, busy: int) -> int:
    """Blocks that share a tile: more than one only while the GPU has room and each thread still fills its loads."""
    wanted = -(-loads // (threads * LOADS_IN_FLIGHT))
    return max(1, min(wanted, busy // tiles if tiles else 1, 65535))


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


# ---- maps that are blurred as a whole

TILE_FLOATS = 8192  # of the kernel: shared memory for a rectangle of a map and the same blurred along x
WIDEST_TILE = 64


def blur_tile(H: int, W: int, blur: int) -> tuple[int, int]:
    """Rows and columns, multiples of 4, of the equal rectangles in which a map is blurred."""
    wide = _share(W, WIDEST_TILE)
    around = blur - 1
    most = TILE_FLOATS // ((wide + around | 1) + (wide | 1)) - around
    return _share(H, most // 4 * 4), wide


def _share(length: int, most: int) -> int:
    """The smallest multiple of 4 with which as few parts as possible cover `length`."""
    parts = -(-length // most)
    return -(-length // (4 * parts)) * 4


# ---- vectors

KEYPOINTS_OF_BLOCK = 4


def vector_blocks(keypoints: int, busy: int) -> tuple[int, int]:
    """(blocks, threads of a block): two warps a keypoint; one keypoint a block while that gives the GPU more blocks."""
    of_block = KEYPOINTS_OF_BLOCK if keypoints >= KEYPOINTS_OF_BLOCK * busy else 1
    return -(-keypoints // of_block), 64 * of_block


# ---- local maxima

LARGE_MAP = 2048  # cells from which on a block has twice the threads
CELLS_IN_FLIGHT = 4  # that a thread loads before it looks at the first
FEWEST_BLOCKS = 4  # worth their tickets: with less to share, one block takes the map


def map_blocks(maps: int, cells: int, busy: int) -> tuple[int, int]:
    """(blocks that share a map, threads of a block)."""
    threads = 2 * THREADS if cells >= LARGE_MAP else THREADS
    splits = min(-(-cells // (threads * CELLS_IN_FLIGHT)), busy // max(maps, 1))
    return splits if splits >= FEWEST_BLOCKS else 1, threads
