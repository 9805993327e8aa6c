"""The only wording of errors about shapes, dtypes, devices and ranges. No check reads the elements of an input."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

from . import _kernels, _view
from ._view import Form, Spec

INTEGER_RANGE = {"uint8": (0, 255), "int8": (-128, 127)}


def _ordinal(device: int | None) -> str:
    return "cpu" if device is None else f"cuda:{device}"


def same_device(reference: Spec, other: Spec, name: str, reference_name: str) -> None:
    _on_device(other.device, reference.device, name, reference_name)


def _on_device(device: int | None, wanted: int | None, name: str, reference_name: str) -> None:
    if device != wanted:
        raise ValueError(
            f"{name} must be on the same device as {reference_name}, got {_ordinal(device)} and {_ordinal(wanted)}"
        )


def elements(form: Spec, name: str, ranks: tuple[int, int]) -> None:
    """Rank, dtype and strides of a map or vector."""
    if form.dtype not in _kernels.ELEMENTS:
        *most, last = _kernels.ELEMENTS
        raise TypeError(f"{name} must be {', '.join(most)} or {last}, got {form.dtype}")
    if len(form.shape) not in ranks:
        raise ValueError(f"{name} must have {ranks[0]} or {ranks[1]} dimensions, got shape {form.shape}")
    if any(stride < 0 for stride in form.strides):
        raise ValueError(f"{name} must not have negative strides, got {form.strides}; pass a contiguous copy")


def layout(value: str | None) -> None:
    if value not in ("NCHW", "NHWC", None):
        raise ValueError(f'layout must be "NCHW", "NHWC" or None, got {value!r}')


def sigma(value: Any) -> tuple[float, float]:
    """One for both axes, or (sigma_x, sigma_y)."""
    pair = value if isinstance(value, (tuple, list, np.ndarray)) and np.ndim(value) == 1 else (value, value)
    if len(pair) != 2:
        raise ValueError(f"sigma must be a number or (sigma_x, sigma_y), got {value!r}")
    for one in pair:
        positive(one, "sigma")
    return float(pair[0]), float(pair[1])


def alignment(seen: _view.View, name: str) -> None:
    """A device cannot load elements that lie across their own size."""
    itemsize = _view.spec(seen.form, name).itemsize
    if seen.pointer % itemsize:
        raise ValueError(
            f"{name} must start at a multiple of its {itemsize}-byte elements, got address {seen.pointer:#x}"
        )


def activation(value: str | None) -> None:
    if value not in ("sigmoid", None):
        raise ValueError(f'activation must be "sigmoid" or None, got {value!r}')


def choice(value: Any, name: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        *most, last = (f'"{one}"' for one in choices)
        raise ValueError(f"{name} must be {', '.join(most)} or {last}, got {value!r}")


def positive(value: Any, name: str) -> None:
    number(value, name)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and above 0, got {value}")


def odd(value: Any, name: str, largest: int) -> None:
    count(value, name)
    if value % 2 == 0 or not 1 <= value <= largest:
        raise ValueError(f"{name} must be odd and from 1 to {largest}, got {value}")


def input_size(value: Any, axes: int) -> tuple[float, ...]:
    """(w, h), or for volumes (w, h) or (w, h, d)."""
    names = "(w, h)" if axes == 2 else "(w, h) or (w, h, d)"
    try:
        sizes = tuple(float(size) for size in value)
    except (TypeError, ValueError):
        raise TypeError(f"input_size must be {names}, got {value!r}") from None
    if len(sizes) not in (2, axes):
        raise ValueError(f"input_size must be {names}, got {value!r}")
    for size in sizes:
        if not (math.isfinite(size) and size > 0):
            raise ValueError(f"input_size must be finite and above 0, got {value!r}")
    return sizes


def flip_pairs(value: Any, name: str = "flip_pairs") -> tuple[int, ...]:
    """A permutation: the keypoint that stands for each one in the mirrored image."""
    try:
        pairs = tuple(operator.index(one) for one in value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of ints, got {value!r}") from None
    if sorted(pairs) != list(range(len(pairs))):
        raise ValueError(f"{name} must hold each of 0 to K - 1 once, got {list(pairs)}")
    return pairs


def number(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def flag(value: Any, name: str) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")


def count(value: int, name: str, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if value >= 2**31:
        raise ValueError(f"{name} must be less than 2**31, got {value}")


def threshold(value: float, name: str, probability: bool) -> None:
    number(value, name)
    if probability and not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def partners(flip_pairs: tuple[int, ...] | None, K: int) -> None:
    if flip_pairs is not None and len(flip_pairs) != K:
        raise ValueError(f"flip.pairs must name the partner of each of {K} keypoints, got {len(flip_pairs)}")


def output_stride(value: float) -> None:
    number(value, "output_stride")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"output_stride must be finite and above 0, got {value}")


Quantization = tuple[tuple[str, float, int], ...]
"""(argument, scale, zero point) of each integer tensor: hashable, so that it can be part of a plan's key."""


def quantization(value: dict[str, tuple[float, int]] | None, dtypes: dict[str, str]) -> Quantization:
    """Each integer tensor of `dtypes` (argument -> dtype) has a (scale, zero_point), and nothing else has one."""
    given = {} if value is None else value
    if not isinstance(given, dict):
        raise TypeError(
            f"quantization must be a dict of argument name to (scale, zero_point), got {type(given).__name__}"
        )
    for name in given:
        if name not in dtypes:
            raise ValueError(f"quantization must name {' or '.join(dtypes)}, got {name!r}")
        if dtypes[name] not in INTEGER_RANGE:
            raise ValueError(f"quantization must name integer tensors alone, got {name!r}, which is {dtypes[name]}")
    found = []
    for name, dtype in dtypes.items():
        if dtype not in INTEGER_RANGE:
            continue
        if name not in given:
            raise ValueError(f"quantization must give (scale, zero_point) of {name}, which is {dtype}, got {value!r}")
        try:
            scale, zero = given[name]
            scale, zero_point = float(scale), int(zero)
        except (TypeError, ValueError):
            raise TypeError(f"quantization[{name!r}] must be (scale, zero_point), got {given[name]!r}") from None
        low, high = INTEGER_RANGE[dtype]
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"quantization[{name!r}] must have a finite scale above 0, got {scale}")
        if zero_point != zero or not low <= zero_point <= high:
            raise ValueError(f"quantization[{name!r}] must have a whole zero_point from {low} to {high}, got {zero}")
        found.append((name, scale, zero_point))
    return tuple(found)


def transform(
    value: Any, device: int | None, rows: int, reference_name: str, queue: _view.Queue | None = None
) -> np.ndarray[Any, Any] | _view.View:
    """A (2, 3) matrix or (rows, 2, 3) of them: float32 on the host, or the view of them on the input's device."""
    if not isinstance(value, (list, tuple)):
        seen = _view.view(value, "transform", queue)
        if seen.form[3] is not None:
            _on_device(seen.form[3], device, "transform", reference_name)
            return _device_transform(seen, rows)
        value = _view.as_numpy(seen)
    try:
        matrix: np.ndarray[Any, Any] = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"transform must be numbers of shape (2, 3) or ({rows}, 2, 3), got {value!r}") from None
    _transform_shape(matrix.shape, rows)
    return matrix


def _device_transform(seen: _view.View, rows: int) -> _view.View:
    spec = _view.spec(seen.form, "transform")
    if spec.dtype != "float32":
        raise TypeError(f"transform on a device must be float32, got {spec.dtype}")
    _transform_shape(spec.shape, rows)
    if spec.strides[-2:] != (3, 1) or min(spec.strides) < 0:
        raise ValueError(f"transform on a device must have C-contiguous matrices, got strides {spec.strides}")
    alignment(seen, "transform")
    return seen


def _transform_shape(shape: tuple[int, ...], rows: int) -> None:
    if shape not in ((2, 3), (rows, 2, 3)):
        raise ValueError(f"transform must have shape (2, 3) or ({rows}, 2, 3), got {shape}")


Results = dict[str, tuple[tuple[int, ...], str]]
"""Name -> shape and dtype of the arrays of a result."""


def outputs(
    arrays: tuple[Any, ...], results: Results, device: int | None, reference_name: str, queue: _view.Queue | None = None
) -> list[_view.View]:
    """The arrays of `out`, one for each of `results`: C-contiguous, writable, on the input's device."""
    views = []
    for array, (name, (shape, dtype)) in zip(arrays, results.items()):
        seen = _view.view(array, f"out.{name}", queue)
        _output(seen.form, f"out.{name}", shape, dtype, device, reference_name)
        if _view.is_readonly(seen):
            raise ValueError(f"out.{name} must be writable, got a read-only {seen.library} array")
        views.append(seen)
    return views


@functools.lru_cache(maxsize=256)
def _output(form: Form, name: str, shape: tuple[int, ...], dtype: str, device: int | None, reference_name: str) -> None:
    spec = _view.spec(form, name)
    if spec.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {spec.dtype}")
    if spec.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {spec.shape}")
    if not _view.is_contiguous(spec):
        raise ValueError(f"{name} must be C-contiguous, got strides {spec.strides}")
    _on_device(spec.device, device, name, reference_name)


def renamed(function: str, given: dict[str, Any], names: dict[str, str]) -> None:
    """The error for arguments that a function does not have; `names`: what stands in the place of old ones."""
    for name in given:
        if name in names:
            raise TypeError(f"{function}() has no argument {name!r}: it is now {names[name]}")
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
