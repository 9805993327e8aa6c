"""DLPack: what a producer of arrays tells of one. https://dmlc.github.io/dlpack/latest/c_api.html"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
CODES = ("int", "uint", "float", "opaque", "bfloat", "complex", "bool")


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Versioned(ctypes.Structure):
    """DLManagedTensorVersioned, of DLPack 1.0: what a producer gives that is asked for it."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
capsule_pointer.restype = ctypes.c_void_p
capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Tensor(NamedTuple):
    capsule: Any  # holds the memory until it goes
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None  # in elements; None: contiguous in C order
    dtype: str


def device(array: Any, name: str) -> int | None:
    """The CUDA ordinal, None for host memory. `name` is the argument's in errors."""
    try:
        kind, ordinal = map(int, array.__dlpack_device__())
    except Exception as error:
        raise TypeError(f"{name} must say by DLPack where it lies, got {said_by(error)}") from error
    if kind in (CPU, CUDA_HOST):
        return None
    if kind in (CUDA, CUDA_MANAGED):
        return ordinal
    raise TypeError(f"{name} must be on the CPU or a CUDA device, got DLPack device type {kind}")


def tensor(array: Any, name: str, **order: Any) -> Tensor:
    """order: stream, the consumer's, where the array is on a device."""
    try:
        capsule, found = _exported(array, **order)
    except Exception as error:
        raise TypeError(f"{name} must give its memory by DLPack, got {said_by(error)}") from error
    shape = tuple(found.shape[: found.ndim])
    strides = tuple(found.strides[: found.ndim]) if found.strides else None
    return Tensor(capsule, (found.data or 0) + found.byte_offset, shape, strides, _dtype(found))


def said_by(error: Exception) -> str:
    """What a producer said, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _exported(array: Any, **order: Any) -> tuple[Any, DLTensor]:
    """Read-only arrays come by DLPack 1.0 alone, which not all can speak.

    The capsule is never renamed to "used_...": it stays the owner and frees the tensor when it goes.
    """
    try:
        capsule = array.__dlpack__(**order)
    except BufferError as refused:
        try:
            capsule = array.__dlpack__(max_version=(1, 0), **order)
        except TypeError:  # a producer from before DLPack 1.0
            raise refused from None
    try:
        return capsule, DLTensor.from_address(capsule_pointer(capsule, b"dltensor"))
    except ValueError:
        versioned = Versioned.from_address(capsule_pointer(capsule, b"dltensor_versioned"))
    if versioned.major != 1:
        raise BufferError(f"a capsule of DLPack {versioned.major}.{versioned.minor}")
    return capsule, versioned.tensor


def _dtype(found: DLTensor) -> str:
    code = CODES[found.code] if found.code < len(CODES) else f"code {found.code} "
    return f"{code}{found.bits}" + (f"x{found.lanes}" if found.lanes != 1 else "")
