"""The NumPy twin of every decoder: the specification, and what runs on a machine without a GPU."""

from .heatmap import decode_heatmap
from .peaks import find_peaks
from .posenet import decode_posenet
from .posenet_multi import decode_posenet_multi
from .simcc import decode_simcc

__all__ = ["decode_heatmap", "decode_posenet", "decode_posenet_multi", "decode_simcc", "find_peaks"]
