"""The only wording of errors about shapes, dtypes, devices and ranges. No check reads the elements of an input."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, NamedTuple

import numpy as np

from . import _kernels, _view
from ._view import Form

INTEGER_RANGE = {"uint8": (0, 255), "int8": (-128, 127)}


def _ordinal(device: int | None) -> str:
    return "cpu" if device is None else f"cuda:{device}"


def same_device(reference: Form, other: Form, name: str, reference_name: str) -> None:
    if other.device != reference.device:
        raise ValueError(
            f"{name} must be on the same device as {reference_name}, "
            f"got {_ordinal(other.device)} and {_ordinal(reference.device)}"
        )


def tensor(form: Form, name: str, volumes: bool = False) -> None:
    """Rank, dtype and strides of a map, or of a volume."""
    _elements(form, name, (4, 5) if volumes else (3, 4))


def _elements(form: Form, name: str, ranks: tuple[int, int]) -> None:
    if form.dtype not in _kernels.ELEMENTS:
        *most, last = _kernels.ELEMENTS
        raise TypeError(f"{name} must be {', '.join(most)} or {last}, got {form.dtype}")
    if len(form.shape) not in ranks:
        raise ValueError(f"{name} must have {ranks[0]} or {ranks[1]} dimensions, got shape {form.shape}")
    if any(stride < 0 for stride in form.strides):
        raise ValueError(f"{name} must not have negative strides, got {form.strides}; pass a contiguous copy")


Strides = tuple[int, int, int]


class Vectors(NamedTuple):
    """N rows of K keypoints: vectors of W[0] bins for x and W[1] for y, with strides of (N, K, W), in elements."""

    N: int
    K: int
    W: tuple[int, int]
    strides: tuple[Strides, Strides]
    flipped_strides: tuple[Strides, Strides] | None


def simcc_vectors(
    simcc_x: Form, simcc_y: Form, flipped_x: Form | None, flipped_y: Form | None, flip_pairs: tuple[int, ...] | None
) -> Vectors:
    """The vectors of a SimCC head, and of the same head on the mirrored image."""
    flips = {"flipped_x": flipped_x, "flipped_y": flipped_y, "flip_pairs": flip_pairs}
    found = [name for name, one in flips.items() if one is not None]
    if len(found) in (1, 2):
        raise ValueError(f"flipped_x, flipped_y and flip_pairs must be given together, got {' and '.join(found)} alone")
    _elements(simcc_x, "simcc_x", (2, 3))
    x = simcc_x.shape
    for name, form, like, like_name in (
        ("simcc_y", simcc_y, simcc_x, "simcc_x"),
        ("flipped_x", flipped_x, simcc_x, "simcc_x"),
        ("flipped_y", flipped_y, simcc_y, "simcc_y"),
    ):
        if form is None:
            continue
        same_device(simcc_x, form, name, "simcc_x")
        _elements(form, name, (2, 3))
        if form.dtype != like.dtype:
            raise TypeError(f"{name} must have the dtype of {like_name}, got {form.dtype} and {like.dtype}")
        if name == "simcc_y" and form.shape[:-1] != x[:-1]:
            raise ValueError(f"simcc_y must have the rows and keypoints of simcc_x, got shapes {form.shape} and {x}")
        if name != "simcc_y" and form.shape != like.shape:
            raise ValueError(f"{name} must have the shape of {like_name}, got shapes {form.shape} and {like.shape}")
    for name, form in (("simcc_x", simcc_x), ("simcc_y", simcc_y)):
        if 0 in form.shape[-2:]:
            raise ValueError(f"{name} must have at least one keypoint and one bin, got shape {form.shape}")
    *rows, K, _ = x
    N = rows[0] if rows else 1
    W = x[-1], simcc_y.shape[-1]
    if max(N * K, *W) >= 2**31:
        raise ValueError(f"simcc_x must have fewer than 2**31 keypoints and bins, got {N} x {K} and {max(W)}")
    if flip_pairs is not None and len(flip_pairs) != K:
        raise ValueError(f"flip_pairs must name the partner of each of {K} keypoints, got {len(flip_pairs)}")
    flipped_strides = None
    if flipped_x is not None and flipped_y is not None:
        flipped_strides = _row_strides(flipped_x), _row_strides(flipped_y)
    return Vectors(N, K, W, (_row_strides(simcc_x), _row_strides(simcc_y)), flipped_strides)


def _row_strides(form: Form) -> Strides:
    *rows, k, i = form.strides
    return (rows[0] if rows else 0), k, i


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
    itemsize = _view.ITEMSIZE[seen.form.dtype]
    if seen.pointer % itemsize:
        raise ValueError(
            f"{name} must start at a multiple of its {itemsize}-byte elements, got address {seen.pointer:#x}"
        )


class Maps(NamedTuple):
    """Heatmaps (B, K, H, W) and offsets (B, 2K, H, W) with their strides in that order of axes, in elements."""

    layout: str  # "NCHW" or "NHWC", as given or found
    B: int
    K: int
    H: int
    W: int
    heatmap_strides: tuple[int, int, int, int]
    offset_strides: tuple[int, int, int, int]


@functools.lru_cache(maxsize=256)
def posenet_maps(heatmaps: Form, offsets: Form, layout: str | None) -> Maps:
    """The layout of a PoseNet pair, given or found: offsets have twice the channels of heatmaps."""
    if layout not in ("NCHW", "NHWC", None):
        raise ValueError(f'layout must be "NCHW", "NHWC" or None, got {layout!r}')
    tensor(heatmaps, "heatmaps")
    tensor(offsets, "offsets")
    h, o = heatmaps.shape, offsets.shape
    if len(h) != len(o):
        raise ValueError(f"offsets must have as many dimensions as heatmaps, got shapes {o} and {h}")
    if 0 in h[-3:]:
        raise ValueError(f"heatmaps must have at least one channel, row and column, got shape {h}")
    if layout is None:
        layout = _find_layout(h, o)
    channel = len(h) - (3 if layout == "NCHW" else 1)
    if h[:channel] + h[channel + 1 :] != o[:channel] + o[channel + 1 :]:
        raise ValueError(
            f"offsets must match heatmaps in all axes but the channels of {layout}, got shapes {o} and {h}"
        )
    if o[channel] != 2 * h[channel]:
        raise ValueError(f"offsets must have twice the channels of heatmaps, got {o[channel]} and {h[channel]}")
    (B, K, H, W), heatmap_strides = channels_first(heatmaps, layout)
    _, offset_strides = channels_first(offsets, layout)
    if H * W >= 2**32:
        raise ValueError(f"heatmaps must have fewer than 2**32 cells a map, got {H} x {W}")
    return Maps(layout, B, K, H, W, heatmap_strides, offset_strides)


def _find_layout(h: tuple[int, ...], o: tuple[int, ...]) -> str:
    planar, interleaved = h[-2:] == o[-2:], h[-3:-1] == o[-3:-1]
    if planar and interleaved:  # the same shape twice: no axis is doubled
        raise ValueError(f"offsets must have twice the channels of heatmaps, got the shape {o} for both")
    if planar or interleaved:
        return "NCHW" if planar else "NHWC"
    raise ValueError(f"offsets must match heatmaps in all axes but the channels, got shapes {o} and {h}")


def channels_first(form: Form, layout: str) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    shape, strides = form.shape, form.strides
    if len(shape) == 3:
        shape, strides = (1, *shape), (0, *strides)
    b, k, y, x = (0, 1, 2, 3) if layout == "NCHW" else (0, 3, 1, 2)
    return (shape[b], shape[k], shape[y], shape[x]), (strides[b], strides[k], strides[y], strides[x])


def activation(value: str | None) -> None:
    if value not in ("sigmoid", None):
        raise ValueError(f'activation must be "sigmoid" or None, got {value!r}')


def choice(value: Any, name: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        *most, last = (f'"{one}"' for one in choices)
        raise ValueError(f"{name} must be {', '.join(most)} or {last}, got {value!r}")


def number(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def positive(value: Any, name: str) -> None:
    number(value, name)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and above 0, got {value}")


def odd(value: Any, name: str, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
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


def flip_pairs(value: Any) -> tuple[int, ...]:
    """A permutation: the keypoint that stands for each one in the mirrored image."""
    try:
        pairs = tuple(operator.index(one) for one in value)
    except TypeError:
        raise TypeError(f"flip_pairs must be a sequence of ints, got {value!r}") from None
    if sorted(pairs) != list(range(len(pairs))):
        raise ValueError(f"flip_pairs must hold each of 0 to K - 1 once, got {list(pairs)}")
    return pairs


def output_stride(value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"output_stride must be a number, got {type(value).__name__}")
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
    value: Any, reference: Form, rows: int, stream: int | None = None, reference_name: str = "heatmaps"
) -> np.ndarray[Any, Any] | _view.View:
    """A (2, 3) matrix or (rows, 2, 3) of them: float32 on the host, or the view of them on the reference's device."""
    if not isinstance(value, (list, tuple)):
        seen = _view.view(value, "transform", stream)
        if seen.form.device is not None:
            same_device(reference, seen.form, "transform", reference_name)
            return _device_transform(seen, rows)
        value = _view.as_numpy(seen)
    try:
        matrix: np.ndarray[Any, Any] = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"transform must be numbers of shape (2, 3) or ({rows}, 2, 3), got {value!r}") from None
    _transform_shape(matrix.shape, rows)
    return matrix


def _device_transform(seen: _view.View, rows: int) -> _view.View:
    if seen.form.dtype != "float32":
        raise TypeError(f"transform on a device must be float32, got {seen.form.dtype}")
    _transform_shape(seen.form.shape, rows)
    if seen.form.strides[-2:] != (3, 1) or min(seen.form.strides) < 0:
        raise ValueError(f"transform on a device must have C-contiguous matrices, got strides {seen.form.strides}")
    alignment(seen, "transform")
    return seen


def _transform_shape(shape: tuple[int, ...], rows: int) -> None:
    if shape not in ((2, 3), (rows, 2, 3)):
        raise ValueError(f"transform must have shape (2, 3) or ({rows}, 2, 3), got {shape}")


def outputs(
    out: Any,
    shapes: dict[str, tuple[int, ...]],
    reference: Form,
    stream: int | None = None,
    reference_name: str = "heatmaps",
) -> list[_view.View]:
    """The arrays of `out`, one for each of `shapes`: float32, C-contiguous, writable, on the input's device."""
    if not isinstance(out, tuple) or len(out) != len(shapes):
        names = ", ".join(shapes)
        got = f"{len(out)} arrays" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(f"out must be a result of the same call or a tuple ({names}), got {got}")
    views = []
    for array, (name, shape) in zip(out, shapes.items()):
        seen = _view.view(array, f"out.{name}", stream)
        _output(seen.form, f"out.{name}", shape, reference.device, reference_name)
        if seen.readonly:
            raise ValueError(f"out.{name} must be writable, got a read-only {seen.library} array")
        views.append(seen)
    return views


@functools.lru_cache(maxsize=256)
def _output(
    form: Form, name: str, shape: tuple[int, ...], device: int | None, reference_name: str = "heatmaps"
) -> None:
    if form.dtype != "float32":
        raise TypeError(f"{name} must be float32, got {form.dtype}")
    if form.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {form.shape}")
    expected = _view.contiguous_strides(shape)
    if 0 not in shape and any(n > 1 and s != e for n, s, e in zip(shape, form.strides, expected)):
        raise ValueError(f"{name} must be C-contiguous, got strides {form.strides}")
    same_device(form._replace(device=device), form, name, reference_name)


def stream_pointer(stream: Any) -> int:
    """The raw pointer of an int, a CuPy or PyTorch stream, or anything with `__cuda_stream__`."""
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for attribute in ("ptr", "cuda_stream"):  # CuPy and PyTorch before they had __cuda_stream__
        if hasattr(stream, attribute):
            return int(getattr(stream, attribute))
    raise TypeError(
        f"stream must be None, a pointer, a CuPy or PyTorch stream or have __cuda_stream__, got {type(stream).__name__}"
    )
