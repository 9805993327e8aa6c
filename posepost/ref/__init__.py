"""The NumPy twin of every decoder: the specification, and what runs on a machine without a GPU."""

from .posenet import decode_posenet

__all__ = ["decode_posenet"]
