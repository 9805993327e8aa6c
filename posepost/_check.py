"""The only wording of errors about shapes, dtypes, devices and ranges. No check reads the elements of an input."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, NamedTuple

import numpy as np

from . import _kernels, _skeleton, _view
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


def layout_name(value: str | None) -> None:
    if value not in ("NCHW", "NHWC", None):
        raise ValueError(f'layout must be "NCHW", "NHWC" or None, got {value!r}')


def some_cells(form: Form, name: str = "heatmaps") -> None:
    if 0 in form.shape[-3:]:
        raise ValueError(f"{name} must have at least one channel, row and column, got shape {form.shape}")


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
    partners(flip_pairs, K)
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
    layout_name(layout)
    tensor(heatmaps, "heatmaps")
    tensor(offsets, "offsets")
    h, o = heatmaps.shape, offsets.shape
    if len(h) != len(o):
        raise ValueError(f"offsets must have as many dimensions as heatmaps, got shapes {o} and {h}")
    some_cells(heatmaps)
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


LARGEST_SIDE = 2**24
"""From here on float32 does not hold every cell's number."""


def posenet_multi_maps(
    heatmaps: Form,
    offsets: Form,
    displacement_fwd: Form,
    displacement_bwd: Form,
    layout: str | None,
    skeleton: _skeleton.Edges | None,
) -> tuple[Maps, _skeleton.Edges]:
    """The layout of PoseNet's four outputs, all on one device, and the skeleton that they fit."""
    same_device(heatmaps, offsets, "offsets", "heatmaps")
    maps = posenet_maps(heatmaps, offsets, layout)
    if maps.K > _skeleton.MOST_KEYPOINTS:
        raise ValueError(f"heatmaps must have at most {_skeleton.MOST_KEYPOINTS} channels, got {maps.K}")
    if max(maps.H, maps.W) >= LARGEST_SIDE:
        raise ValueError(f"heatmaps must have fewer than 2**24 rows and columns, got {maps.H} x {maps.W}")
    edges = _edges(skeleton, maps.K)
    channel = len(heatmaps.shape) - (3 if maps.layout == "NCHW" else 1)
    for name, form in (("displacement_fwd", displacement_fwd), ("displacement_bwd", displacement_bwd)):
        same_device(heatmaps, form, name, "heatmaps")
        tensor(form, name)
        h, d = heatmaps.shape, form.shape
        if len(h) != len(d):
            raise ValueError(f"{name} must have as many dimensions as heatmaps, got shapes {d} and {h}")
        if d[:channel] + d[channel + 1 :] != h[:channel] + h[channel + 1 :]:
            raise ValueError(
                f"{name} must match heatmaps in all axes but the channels of {maps.layout}, got shapes {d} and {h}"
            )
        if d[channel] != 2 * len(edges):
            whose = "PoseNet's" if skeleton is None else "the"
            raise ValueError(
                f"{name} must have {2 * len(edges)} channels, two for each edge of {whose} skeleton, got {d[channel]}"
            )
    return maps, edges


def pairs(value: Any) -> _skeleton.Edges | None:
    """`skeleton` as tuples of ints; whether they make a tree, `posenet_multi_maps` says."""
    if value is None:
        return None
    try:
        found = [tuple(pair) for pair in value]
    except TypeError:
        raise TypeError(f"skeleton must be None or (parent, child) pairs of ints, got {value!r}") from None
    for pair in found:
        if len(pair) != 2 or any(isinstance(k, bool) or not isinstance(k, (int, np.integer)) for k in pair):
            raise TypeError(f"skeleton must be None or (parent, child) pairs of ints, got the pair {pair!r}")
    return tuple((int(parent), int(child)) for parent, child in found)


def _edges(skeleton: _skeleton.Edges | None, K: int) -> _skeleton.Edges:
    """The edges of a tree that joins K keypoints."""
    if skeleton is None:
        if len(_skeleton.POSENET) + 1 != K:
            raise ValueError(
                f"heatmaps must have {len(_skeleton.POSENET) + 1} channels, the keypoints of PoseNet's skeleton, "
                f"got {K}; skeleton= joins others"
            )
        return _skeleton.POSENET
    if len(skeleton) != K - 1:
        raise ValueError(f"skeleton must have one pair fewer than heatmaps have channels, got {len(skeleton)} and {K}")
    parents: dict[int, int] = {}
    for parent, child in skeleton:
        if not (0 <= parent < K and 0 <= child < K):
            raise ValueError(f"skeleton must join keypoints from 0 to {K - 1}, got {(parent, child)}")
        if parent == child:
            raise ValueError(f"skeleton must join a keypoint to another, got {(parent, child)}")
        if child in parents:
            raise ValueError(f"skeleton must give a keypoint one parent, got {parents[child]} and {parent} for {child}")
        parents[child] = parent
    for start in range(K):
        above = [start]
        while above[-1] in parents:
            above.append(parents[above[-1]])
            if above[-1] in above[:-1]:
                circle = " to ".join(map(str, above[above.index(above[-1]) :]))
                raise ValueError(f"skeleton must be one tree, got a circle from child to parent, {circle}")
    return skeleton


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


def flip_pairs(value: Any) -> tuple[int, ...]:
    """A permutation: the keypoint that stands for each one in the mirrored image."""
    try:
        pairs = tuple(operator.index(one) for one in value)
    except TypeError:
        raise TypeError(f"flip_pairs must be a sequence of ints, got {value!r}") from None
    if sorted(pairs) != list(range(len(pairs))):
        raise ValueError(f"flip_pairs must hold each of 0 to K - 1 once, got {list(pairs)}")
    return pairs


def number(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


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
        raise ValueError(f"flip_pairs must name the partner of each of {K} keypoints, got {len(flip_pairs)}")


def output_stride(value: float) -> None:
    number(value, "output_stride")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"output_stride must be finite and above 0, got {value}")


def peaks_options(least: float, activation: str | None, max_peaks: int, window: int, plateau: str) -> None:
    threshold(least, "threshold", activation == "sigmoid")
    count(max_peaks, "max_peaks")
    count(window, "window")
    if window % 2 == 0:
        raise ValueError(f"window must be odd, got {window}")
    if plateau not in ("all", "none"):
        raise ValueError(f'plateau must be "all" or "none", got {plateau!r}')


POSENET_MODES = ("tfjs", "pytorch", "coral", "edgetpu")
"""In the order of `enum Mode` of kernels/posenet_multi.cu."""


def posenet_multi_options(
    max_poses: int,
    score_threshold: float,
    nms_radius: float,
    mode: str,
    refinement_steps: int | None,
    skeleton: _skeleton.Edges | None,
) -> None:
    count(max_poses, "max_poses")
    threshold(score_threshold, "score_threshold", True)
    number(nms_radius, "nms_radius")
    if not (math.isfinite(nms_radius) and nms_radius >= 0):
        raise ValueError(f"nms_radius must be finite and not negative, got {nms_radius}")
    if mode not in POSENET_MODES:
        raise ValueError(f'mode must be "tfjs", "pytorch", "coral" or "edgetpu", got {mode!r}')
    if mode == "edgetpu" and skeleton not in (None, _skeleton.POSENET):
        raise ValueError(f'skeleton must be None in mode "edgetpu", got {skeleton}')
    if refinement_steps is None:
        return
    count(refinement_steps, "refinement_steps", 0)
    if mode not in ("coral", "edgetpu"):
        raise ValueError(f'refinement_steps must be None but in modes "coral" and "edgetpu", got {refinement_steps}')


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
    value: Any, reference: Form, rows: int, queue: _view.Queue | None = None, reference_name: str = "heatmaps"
) -> np.ndarray[Any, Any] | _view.View:
    """A (2, 3) matrix or (rows, 2, 3) of them: float32 on the host, or the view of them on the reference's device."""
    if not isinstance(value, (list, tuple)):
        seen = _view.view(value, "transform", queue)
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
    results: dict[str, tuple[tuple[int, ...], str]],
    reference: Form,
    queue: _view.Queue | None = None,
    reference_name: str = "heatmaps",
) -> list[_view.View]:
    """The arrays of `out`, one for each of `results` (name -> shape, dtype): C-contiguous, writable, on the input's
    device."""
    if not isinstance(out, tuple) or len(out) != len(results):
        names = ", ".join(results)
        got = f"{len(out)} arrays" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(f"out must be a result of the same call or a tuple ({names}), got {got}")
    views = []
    for array, (name, (shape, dtype)) in zip(out, results.items()):
        seen = _view.view(array, f"out.{name}", queue)
        _output(seen.form, f"out.{name}", shape, dtype, reference.device, reference_name)
        if seen.readonly:
            raise ValueError(f"out.{name} must be writable, got a read-only {seen.library} array")
        views.append(seen)
    return views


@functools.lru_cache(maxsize=256)
def _output(form: Form, name: str, shape: tuple[int, ...], dtype: str, device: int | None, reference_name: str) -> None:
    if form.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {form.dtype}")
    if form.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {form.shape}")
    if not _view.is_contiguous(form):
        raise ValueError(f"{name} must be C-contiguous, got strides {form.strides}")
    same_device(form._replace(device=device), form, name, reference_name)
