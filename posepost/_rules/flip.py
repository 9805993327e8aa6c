"""The flip test: the network's outputs for the mirrored image, averaged with those for the image."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from .. import _check, _view


@dataclasses.dataclass(frozen=True, eq=False)
class Flip:
    """The outputs for the mirrored image, as they are: value = (value + mirrored value) / 2.

    maps : array, or (simcc_x, simcc_y)
        Of the shape and type of the decoder's own heatmaps or vectors.
    pairs : (K,) ints
        The keypoint that stands for each one in the mirrored image, each other's partner or its own. Up to 512
        keypoints on a device.
    offsets : array
        Where the decoder is given offsets: those of the mirrored image. x offsets change sign.
    shift : bool
        MMPose's `shift_heatmap`: the mirrored map moved one cell to the right, its column 0 kept. Heatmaps alone.

    >>> import numpy as np, posepost
    >>> maps = np.zeros((1, 3, 8, 6), np.float32)
    >>> flip = posepost.Flip(maps[..., ::-1].copy(), [0, 2, 1])
    >>> posepost.decode_heatmap(maps, flip=flip).scores.shape
    (1, 3)
    """

    maps: Any
    pairs: tuple[int, ...]
    offsets: Any = None
    shift: bool = False

    def __post_init__(self) -> None:
        if type(self.shift) is not bool:
            _check.flag(self.shift, "shift")
        pairs = self.pairs
        try:
            known = _known(*pairs) if type(pairs) is tuple else None
        except TypeError:  # of what cannot be hashed, or is no int: said below
            known = None
        object.__setattr__(self, "pairs", _check.flip_pairs(pairs, "pairs") if known is None else known)


@functools.lru_cache(maxsize=64, typed=True)  # typed: 1.0 names no keypoint though it equals 1
def _known(*pairs: int) -> tuple[int, ...]:
    return _check.flip_pairs(pairs, "pairs")


def parts(flip: Any) -> tuple[Any, tuple[int, ...], Any, bool]:
    """maps, pairs, offsets and shift of a call's `flip`."""
    if not isinstance(flip, Flip):
        raise TypeError(f"flip must be None or posepost.Flip(maps, pairs), got {type(flip).__name__}")
    if flip.maps is None:
        _view.view(None, "flip.maps")  # raises
    return flip.maps, flip.pairs, flip.offsets, flip.shift


def vectors(flip: Any) -> tuple[Any, Any, tuple[int, ...]]:
    """Both vectors and pairs of a call's `flip`."""
    maps, pairs, offsets, shift = parts(flip)
    if not isinstance(maps, (tuple, list)) or len(maps) != 2:
        raise TypeError(f"flip.maps must be (simcc_x, simcc_y) of the mirrored image, got {type(maps).__name__}")
    for array, name in zip(maps, ("flip.maps[0]", "flip.maps[1]")):
        if array is None:
            _view.view(None, name)  # raises
    if offsets is not None or shift:
        raise ValueError("flip must have neither offsets nor shift in decode_simcc")
    return maps[0], maps[1], pairs
