"""Inputs besides the image, such as an index of a data set: values for them, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._graph import Graph, find_image
from ._tensors import Tensor, dims

DTYPES = (
    "float32", "float16", "float64", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "bool",
)  # fmt: skip


def extra_inputs(graph: Graph, given: Mapping[str, Any] | None) -> dict[str, npt.NDArray[Any]]:
    """Values for inputs besides the image, in their dtypes, checked."""
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise TypeError(f"inputs must be a dict of names and values, got {type(given).__name__}")
    image = find_image(graph).name
    others = [name for name in graph.inputs if name != image]
    found = {}
    for name, value in given.items():
        if name not in others:
            rule = (
                f"have keys among {', '.join(others)}"
                if others
                else "be empty for a model whose one input is the image"
            )
            raise ValueError(f"inputs must {rule}, got {name!r}")
        found[name] = _value(name, graph.inputs[name], value)
    return found


def check_extra_inputs(name: str, inputs: Mapping[str, Tensor], image: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError for an input besides the image that has no value."""
    for other, tensor in inputs.items():
        if other == image or other in given:
            continue
        said = f"{name}: the input {other} {tensor.dtype} {dims(tensor.shape)} besides the image"
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{said} cannot be given a value")
        raise ValueError(f'{said} needs a value: give inputs={{"{other}": ...}}')


def in_batch(value: npt.NDArray[Any], shape: Sequence[int | None], count: int) -> npt.NDArray[Any]:
    """A value in the declared shape: `count` rows where the first size is free, the value's own sizes for others."""
    if not shape:
        return value
    own = (1,) * (len(shape) - value.ndim) + value.shape
    sizes = [size or (own[axis] if axis else count) for axis, size in enumerate(shape)]
    return np.ascontiguousarray(np.broadcast_to(value, sizes))


def _value(name: str, tensor: Tensor, value: Any) -> npt.NDArray[Any]:
    what = f"inputs[{name!r}]"
    if tensor.dtype not in DTYPES:
        raise ValueError(f"{what} cannot be given: its dtype is {tensor.dtype}")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must be numbers, got {value!r}")
    dtype = np.dtype(tensor.dtype)
    with np.errstate(all="ignore"):
        found = array.astype(dtype)
    exact = np.array_equal(found, array) if dtype.kind != "f" else np.array_equal(np.isinf(found), np.isinf(array))
    if not exact:
        raise ValueError(f"{what} must be {tensor.dtype}, got {value!r}")
    shape = tensor.shape
    try:
        one = in_batch(found, shape, 1)
    except ValueError:
        one = None
    if one is None:
        raise ValueError(
            f"{what} must have shape {dims(shape)} or broadcast to it, alike for all images, got {found.shape}"
        )
    return found
