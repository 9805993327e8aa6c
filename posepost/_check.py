"""The only wording of errors about shapes, dtypes, devices and ranges. No check reads the elements of an input."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import _kernels, _view
from ._view import Form, Spec

INTEGER_RANGE = {"uint8": (0, 255), "int8": (-128, 127)}
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
"""Of float32, in which everything is computed; what is below the smallest a GPU takes for 0."""
FLOAT32 = np.dtype(np.float32)


def said(value: Any) -> str:
    """A value in an error: short, and whatever it is."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"an int of {value.bit_length()} bits"
    try:
        text = repr(value)
    except Exception:  # of an object that cannot say what it is
        return f"a {type(value).__name__}"
    return text if len(text) <= 1000 else f"{text[:1000]}..."


def _ordinal(device: int | None) -> str:
    return "cpu" if device is None else f"cuda:{device}"


def same_device(reference: Spec, other: Spec, name: str, reference_name: str) -> None:
    _on_device(other.device, reference.device, name, reference_name)


def _on_device(device: int | None, wanted: int | None, name: str, reference_name: str) -> None:
    if device != wanted:
        raise ValueError(
            f"{name} must be on the same device as {reference_name}, got {_ordinal(device)} and {_ordinal(wanted)}"
        )


def one_line(error: BaseException) -> str:
    """What an error says; its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def either(words: Iterable[str]) -> str:
    """a, b or c."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def elements(form: Spec, name: str, ranks: tuple[int, int]) -> None:
    """Rank, dtype and strides of a map or vector."""
    if form.dtype not in _kernels.ELEMENTS:
        raise TypeError(f"{name} must be {either(_kernels.ELEMENTS)}, got {form.dtype}")
    if len(form.shape) not in ranks:
        raise ValueError(f"{name} must have {ranks[0]} or {ranks[1]} dimensions, got shape {form.shape}")
    if any(stride < 0 for stride in form.strides):
        raise ValueError(f"{name} must not have negative strides, got {form.strides}; pass a contiguous copy")


def layout(value: str | None) -> None:
    if value is not None and not _is_one(value, ("NCHW", "NHWC")):
        raise ValueError(f'layout must be "NCHW", "NHWC" or None, got {said(value)}')


def _is_one(value: Any, choices: tuple[str, ...]) -> bool:
    """Whatever `value` is: arrays compare element by element."""
    return isinstance(value, str) and value in choices


def sigma(value: Any) -> tuple[float, float]:
    """One for both axes, or (sigma_x, sigma_y)."""
    pair = value if _is_sequence(value) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"sigma must be a number or (sigma_x, sigma_y), got {said(value)}")
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
    if value is not None and not _is_one(value, ("sigmoid",)):
        raise ValueError(f'activation must be "sigmoid" or None, got {said(value)}')


def choice(value: Any, name: str, choices: tuple[str, ...]) -> None:
    if not _is_one(value, choices):
        named = either(f'"{one}"' for one in choices)
        raise ValueError(f"{name} must be {named}, got {said(value)}")


def positive(value: Any, name: str) -> float:
    as_float = number(value, name)
    if not (math.isfinite(as_float) and as_float > 0):
        raise ValueError(f"{name} must be finite and above 0, got {value}")
    if as_float < SMALLEST:
        raise ValueError(f"{name} must be at least 1.2e-38, the smallest that float32 holds well, got {value}")
    return as_float


def odd(value: Any, name: str, largest: int) -> None:
    count(value, name)
    if value % 2 == 0 or not 1 <= value <= largest:
        raise ValueError(f"{name} must be odd and from 1 to {largest}, got {value}")


def input_size(value: Any, axes: int) -> tuple[float, ...]:
    """(w, h), or for volumes (w, h) or (w, h, d)."""
    names = "(w, h)" if axes == 2 else "(w, h) or (w, h, d)"
    if not _is_sequence(value) or not all(map(is_number, value)):
        raise TypeError(f"input_size must be {names}, got {said(value)}")
    if len(value) not in (2, axes):
        raise ValueError(f"input_size must be {names}, got {said(value)}")
    if not all(map(_in_range, value)):
        raise ValueError(f"input_size must be finite and above 0, got {said(value)}")
    return tuple(map(float, value))


def flip_pairs(value: Any, name: str = "flip_pairs") -> tuple[int, ...]:
    """The keypoint that stands for each one in the mirrored image: a permutation that is its own inverse."""
    try:
        pairs = tuple(operator.index(one) for one in value)
    except (TypeError, RuntimeError):  # RuntimeError: of tensors that have no values
        raise TypeError(f"{name} must be a sequence of ints, got {said(value)}") from None
    if sorted(pairs) != list(range(len(pairs))):
        raise ValueError(f"{name} must hold each of 0 to K - 1 once, got {list(pairs)}")
    for k, partner in enumerate(pairs):
        if pairs[partner] != k:
            raise ValueError(f"{name} must be mutual, got {partner} for {k} and {pairs[partner]} for {partner}")
    return pairs


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def number(value: Any, name: str) -> float:
    """As float. Infinities and NaN are numbers; finite ones that float32 does not hold are none here."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if LARGEST < abs(_exact(value)) < math.inf:
        raise ValueError(f"{name} must be in the range of float32, up to 3.4e38, got {said(value)}")
    return float(value)


def _exact(value: Any) -> int | float:
    """A number for comparisons: ints may be beyond float, and NumPy's small types beyond little."""
    return value if isinstance(value, int) else float(value)


def _in_range(value: Any) -> bool:
    """Above 0 and a float32."""
    return SMALLEST <= _exact(value) <= LARGEST


def _is_sequence(value: Any) -> bool:
    """In order and of a length: no set, no dict, no text."""
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def finite(value: Any, name: str) -> float:
    as_float = number(value, name)
    if not math.isfinite(as_float):
        raise ValueError(f"{name} must be finite, got {value}")
    return as_float


def not_nan(value: Any, name: str) -> float:
    as_float = number(value, name)
    if math.isnan(as_float):
        raise ValueError(f"{name} must be a number, got nan")
    return as_float


def flag(value: Any, name: str) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")


def count(value: int, name: str, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {said(int(value))}")
    if value >= 2**31:
        raise ValueError(f"{name} must be less than 2**31, got {said(int(value))}")


def threshold(value: float, name: str, probability: bool) -> None:
    if is_number(value) and probability and not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {said(value)}")
    finite(value, name)


def partners(flip_pairs: tuple[int, ...] | None, K: int) -> None:
    if flip_pairs is not None and len(flip_pairs) != K:
        raise ValueError(f"flip.pairs must name the partner of each of {K} keypoints, got {len(flip_pairs)}")


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
            raise ValueError(f"quantization must name {' or '.join(dtypes)}, got {said(name)}")
        if dtypes[name] not in INTEGER_RANGE:
            raise ValueError(f"quantization must name integer tensors alone, got {name!r}, which is {dtypes[name]}")
    found = []
    for name, dtype in dtypes.items():
        if dtype not in INTEGER_RANGE:
            continue
        if name not in given:
            raise ValueError(
                f"quantization must give (scale, zero_point) of {name}, which is {dtype}, got {said(value)}"
            )
        pair = given[name]
        if not _is_sequence(pair) or len(pair) != 2 or not all(map(is_number, pair)):
            raise TypeError(f"quantization[{name!r}] must be (scale, zero_point), got {said(pair)}")
        scale, zero = pair
        low, high = INTEGER_RANGE[dtype]
        if not _in_range(scale):
            raise ValueError(f"quantization[{name!r}] must have a finite scale above 0, got {said(scale)}")
        if not low <= _exact(zero) <= high or zero != int(zero):
            raise ValueError(
                f"quantization[{name!r}] must have a whole zero_point from {low} to {high}, got {said(zero)}"
            )
        found.append((name, float(scale), int(zero)))
    return tuple(found)


def transform(
    value: Any, device: int | None, rows: int, reference_name: str, queue: _view.Queue | None = None
) -> np.ndarray[Any, Any] | _view.View:
    """A (2, 3) matrix or (rows, 2, 3) of them: float32 on the host, or the view of them on the input's device."""
    if type(value) is np.ndarray and value.dtype is FLOAT32:
        _transform_shape(value.shape, rows)
        return value
    if not isinstance(value, (list, tuple)):
        seen = _view.view(value, "transform", queue)
        if seen.form[3] is not None:
            _on_device(seen.form[3], device, "transform", reference_name)
            return _device_transform(seen, rows)
    matrix = numbers(value, "transform", f"numbers of shape (2, 3) or ({rows}, 2, 3)")
    _transform_shape(matrix.shape, rows)
    return matrix if matrix.dtype == FLOAT32 else _as_float32(matrix)


def _as_float32(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if matrix.ndim == 2 and sum(map(abs, matrix.ravel().tolist())) <= LARGEST:  # in a third of errstate's time
        return matrix.astype(np.float32)
    try:
        with np.errstate(over="raise"):
            return matrix.astype(np.float32)
    except FloatingPointError:
        raise ValueError("transform must be in the range of float32, up to 3.4e38, got numbers beyond") from None


def numbers(value: Any, name: str, wanted: str) -> np.ndarray[Any, Any]:
    """Real numbers on the host, of any type: lists of them, an array of any library, or what NumPy takes for one."""
    seen = array = None
    if type(value) is np.ndarray:
        array = value
    elif not isinstance(value, (list, tuple)) and _view.is_array(value):
        seen = _view.view(value, name)
        if seen.form[3] is not None:
            raise ValueError(f"{name} must be on the host, got it on {_ordinal(seen.form[3])}")
        array = _view.as_numpy(seen) if _view.is_known(seen.form) else None
    else:
        try:
            array = np.asarray(value)
        except Exception:  # of ragged lists, and whatever else a foreign object thinks of
            array = None
    if array is not None:
        if array.dtype.kind in "fiu":
            return array
        if array.dtype == _view.BFLOAT16:
            return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
        if array.dtype.kind == "V" and array.dtype.type is not np.void:  # a type of ml_dtypes
            return array
    if seen is None:
        got = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else said(value)
    else:
        got = f"dtype {seen.form[2]}"
    raise TypeError(f"{name} must be {wanted}, got {got}")


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
        argument = f"out.{name}"
        seen = _view.view(array, argument, queue)
        _output(seen.form, argument, shape, dtype, device, reference_name)
        if _view.requires_grad(seen):
            raise ValueError(f"{argument} must not require grad: autograd would not notice that it is written")
        if _view.is_readonly(seen):
            raise ValueError(f"{argument} must be writable, got a read-only {seen.library} array")
        views.append(seen)
    return views


Extent = tuple[int, int]
"""The addresses from which and up to which an array lies."""


def share(one: Extent, other: Extent) -> bool:
    """Whether there are addresses of both; an empty extent has none."""
    return one[0] < other[1] and other[0] < one[1] and one[0] < one[1] and other[0] < other[1]


def apart(
    outputs: list[Any], names: Iterable[str], inputs: list[Any], input_names: Iterable[str], share: Callable[..., bool]
) -> None:
    """No array of `out` overlaps an input, which would be read after it is written, or another one. What is missing is
    None."""
    for i, output in enumerate(outputs):
        for j, other in enumerate((*inputs, *outputs[:i])):
            if other is not None and share(output, other):
                results = [f"out.{name}" for name in names]
                also = [*input_names, *results][j]
                raise ValueError(f"{results[i]} must not overlap {also}, got arrays that share memory")


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
