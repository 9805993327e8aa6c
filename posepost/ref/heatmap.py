"""The NumPy twin of posepost.decode_heatmap, and the options of every heatmap head."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _view
from ..types import Keypoints
from . import refine as _refine
from .argmax import first_largest, widen
from .blurred import blurred_peaks
from .posenet import affine, channels_first, dequantize
from .refine import CACHED, HALF, Maps, Peaks, Refinement

Array = np.ndarray[Any, Any]

REFINES = (
    "none",
    "quarter",
    "dark",
    "dark_udp",
    "udp_combined",
    "megvii",
    "centroid",
    "soft_argmax",
    "offset",
)
BLURRED = ("udp_combined", "megvii")
"""Heads whose maximum is that of the blurred map."""

PRESETS: dict[str, dict[str, Any]] = {
    "mmpose_msra": {"refine": "quarter", "guard": "mmpose", "absent": -1.0},
    "mmpose_dark": {"refine": "dark", "blur": 11, "absent": -1.0},
    "mmpose_udp": {"refine": "dark_udp", "blur": 11, "absent": -1.0, "scaling": "udp"},
    "mmpose_udp_combined": {"refine": "udp_combined", "blur": 11, "absent": -1.0, "scaling": "udp"},
    "mmpose_megvii": {"refine": "megvii", "blur": 11, "absent": -1.0},
    "mmpose_integral": {"refine": "soft_argmax"},
    "mmdeploy": {"refine": "quarter", "guard": "hrnet", "absent": -1.0},
    "hrnet": {"refine": "quarter", "guard": "hrnet", "absent": 0.0},
    "vitpose_hf": {
        "refine": "dark_udp",
        "blur": 11,
        "blur_sigma": 0.8,
        "border": "reflect",
        "absent": -1.0,
        "scaling": "udp",
    },
    "higherhrnet": {"refine": "quarter", "guard": "higherhrnet", "center_shift": 0.5},
    "trt_pose": {"refine": "centroid", "window": 5, "border": "reflect_101", "center_shift": 0.5},
    "openpose": {"refine": "centroid", "window": 7, "positive": True, "center_shift": 0.5},
    "sleap": {
        "refine": "centroid",
        "window": 5,
        "threshold": float(np.nextafter(np.float32(0.2), np.float32(0))),
        "absent": math.nan,
    },
    "mediapipe": {
        "refine": "centroid",
        "window": 7,
        "threshold": float(np.nextafter(np.float32(0.5), np.float32(0))),
        "activation": "sigmoid",
    },
    "deeplabcut": {"refine": "none", "center_shift": 0.5, "activation": "sigmoid"},
}
"""What a preset gives to arguments that are not given."""

RADIUS_FACTOR = 0.0546875  # of udp_combined: its offsets' unit in parts of the longer side of the map
MEGVII_SCALE = np.float32(255)


class _Options(NamedTuple):
    head: str  # one of REFINES
    rule: Refinement
    input_size: tuple[float, ...] | None
    scaling: str
    center_shift: float
    threshold: float
    absent: float | None
    offset_scale: float
    debias: bool
    flip_pairs: tuple[int, ...] | None
    flip_shift: bool
    layout: str
    activation: str | None


class Options(_Options):
    """A call's options with presets and defaults filled in, checked. `options` gives the same object for the same
    arguments, so that its identity can be part of a plan's key: quicker to look up than all of them."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


DEFAULTS: dict[str, Any] = {
    "refine": "none",
    "guard": "mmpose",
    "blur": 11,
    "blur_sigma": None,
    "border": "zero",
    "window": None,
    "positive": False,
    "temperature": 1.0,
    "debias": False,
    "scaling": "msra",
    "center_shift": 0.0,
    "threshold": 0.0,
    "absent": None,
    "offset_scale": 1.0,
    "activation": None,
}
"""What an argument is where neither the call nor a preset gives it."""

CENTROID_WINDOW = 5
MAX_BLUR = {"megvii": _refine.MAX_TAPS, "udp_combined": 17}
"""Largest blur of a head whose maximum is that of the blurred map. udp_combined's stands for 2 * blur + 1 cells."""


GIVEN = (
    "refine",
    "guard",
    "blur",
    "blur_sigma",
    "border",
    "window",
    "positive",
    "temperature",
    "debias",
    "scaling",
    "center_shift",
    "threshold",
    "absent",
    "offset_scale",
    "activation",
)
"""What `options` takes last, in this order; None where the call does not give it."""


def options(flip_pairs: Any, *arguments: Any) -> Options:
    """`_options` of arguments as they were given; those that cannot be hashed fail there, by name."""
    if flip_pairs is not None and not isinstance(flip_pairs, tuple):
        flip_pairs = _check.flip_pairs(flip_pairs)
    try:
        return _options(flip_pairs, *arguments)
    except TypeError:
        return _options.__wrapped__(flip_pairs, *arguments)


@functools.lru_cache(maxsize=256, typed=True)  # 11.0 is no size though it equals 11
def _options(
    flip_pairs: Any, preset: str | None, layout: str, flip_shift: bool, input_size: Any, *arguments: Any
) -> Options:
    given = dict(zip(GIVEN, arguments))
    if preset is not None:
        _check.choice(preset, "preset", tuple(PRESETS))
    filled = {**DEFAULTS, **PRESETS.get(preset or "", {}), **{k: v for k, v in given.items() if v is not None}}
    head = filled["refine"]
    _check.choice(head, "refine", REFINES)
    _check.choice(filled["scaling"], "scaling", ("msra", "udp"))
    _check.choice(layout, "layout", ("NCHW", "NHWC", "NCDHW"))
    _check.activation(filled["activation"])
    for name in ("center_shift", "threshold", "offset_scale", "absent"):
        if filled[name] is not None:
            _check.number(filled[name], name)
    if filled["window"] == 0:
        _check.odd(0, "window", _refine.MAX_WINDOW)
    rule = _refine.refinement(
        head if head in _refine.KINDS else "none",
        filled["guard"],
        filled["blur"],
        filled["blur_sigma"],
        filled["border"],
        filled["window"] or (CENTROID_WINDOW if head == "centroid" else 0),
        filled["positive"],
        filled["temperature"],
    )
    if head in BLURRED:
        _check.odd(filled["blur"], "blur", MAX_BLUR[head])
        size = filled["blur"] if head == "megvii" else 2 * filled["blur"] + 1
        rule = rule._replace(
            kind="quarter" if head == "megvii" else "none",
            guard="megvii",
            taps=_refine.gaussian_taps(int(size), filled["blur_sigma"]),
            border="zero" if head == "megvii" else "reflect_101",
        )
    if layout == "NCDHW" and head != "none":
        raise ValueError(f'refine must be "none" for volumes (layout "NCDHW"), got {head!r}')
    if given.get("offset_scale") is not None and input_size is None:
        raise ValueError("input_size must be given with offset_scale, whose unit is pixels of the input, got None")
    return Options(
        head=head,
        rule=rule,
        input_size=None if input_size is None else _check.input_size(input_size, 3 if layout == "NCDHW" else 2),
        scaling=filled["scaling"],
        center_shift=float(filled["center_shift"]),
        threshold=float(filled["threshold"]),
        absent=None if filled["absent"] is None else float(filled["absent"]),
        offset_scale=float(filled["offset_scale"]),
        debias=bool(filled["debias"]),
        flip_pairs=None if flip_pairs is None else _check.flip_pairs(flip_pairs),
        flip_shift=bool(flip_shift),
        layout=layout,
        activation=filled["activation"],
    )


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    options: Options
    shape: tuple[int, int, int, int, int]  # B, K, D, H, W
    heatmaps: tuple[int, ...]  # strides in elements of B, K, D, H, W
    flipped: tuple[int, ...]
    offsets: tuple[int, ...]  # of B, K, H, W and from x to y
    flipped_offsets: tuple[int, ...]
    scales: dict[str, tuple[np.float32, np.float32]]
    cell: tuple[np.float32, ...]  # pixels of the input from one cell to the next, along x, y and z
    offset_cells: tuple[np.float32, np.float32]  # what an offset of 1 is in cells, along x and y

    @property
    def axes(self) -> int:
        return 3 if self.options.layout == "NCDHW" else 2


ARGUMENTS = ("heatmaps", "offsets", "flipped", "flipped_offsets")


@functools.lru_cache(maxsize=256)
def prepare(
    heatmaps: _view.Form,
    offsets: _view.Form | None,
    flipped: _view.Form | None,
    flipped_offsets: _view.Form | None,
    given: Options,
    quantized: _check.Quantization,
) -> Plan:
    """Checks of the arrays' forms, and where things lie in them."""
    head, layout = given.head, given.layout
    shape, strides = volumes(heatmaps, "heatmaps", layout)
    B, C, D, H, W = shape
    if head == "udp_combined":
        if C % 3:
            raise ValueError(f"heatmaps must have three channels a keypoint (class, x, y) for udp_combined, got {C}")
        K = C // 3
    else:
        K = C
    if (offsets is not None) != (head == "offset"):
        rule = 'must be given with refine="offset"' if offsets is None else 'must be given with refine="offset" alone'
        raise ValueError(f"offsets {rule}, got {'None' if offsets is None else f'refine={head!r}'}")
    if (flipped is None) != (given.flip_pairs is None):
        raise ValueError(
            "flipped and flip_pairs must be given together, got "
            + ("flip_pairs alone" if flipped is None else "flipped alone")
        )
    if (flipped_offsets is not None) != (flipped is not None and offsets is not None):
        raise ValueError(
            "flipped_offsets must be given where flipped and offsets are, got "
            + ("None" if flipped_offsets is None else "it without them")
        )
    _check.partners(given.flip_pairs, K)

    where: dict[str, tuple[int, ...]] = {"heatmaps": strides}
    for name, form, like in (
        ("flipped", flipped, shape),
        ("offsets", offsets, (B, 2 * K, D, H, W)),
        ("flipped_offsets", flipped_offsets, (B, 2 * K, D, H, W)),
    ):
        if form is None:
            where[name] = (0, 0, 0, 0, 0)
            continue
        _check.same_device(heatmaps, form, name, "heatmaps")
        found, where[name] = volumes(form, name, layout)
        if found != like:
            wanted = "the shape of heatmaps" if name == "flipped" else "two channels a keypoint (x, y) on the same maps"
            raise ValueError(f"{name} must have {wanted}, got shapes {form.shape} and {heatmaps.shape}")
    if flipped is not None and flipped.dtype != heatmaps.dtype:
        raise TypeError(f"flipped must have the dtype of heatmaps, got {flipped.dtype} and {heatmaps.dtype}")
    if offsets is not None and flipped_offsets is not None and flipped_offsets.dtype != offsets.dtype:
        raise TypeError(
            f"flipped_offsets must have the dtype of offsets, got {flipped_offsets.dtype} and {offsets.dtype}"
        )
    if D * H * W >= 2**32:
        raise ValueError(f"heatmaps must have fewer than 2**32 cells a map, got {D} x {H} x {W}")

    def every(strides: tuple[int, ...]) -> tuple[int, ...]:
        b, k, z, y, x = strides
        return (b, C // K * k, z, y, x)

    def pair(strides: tuple[int, ...], step: int) -> tuple[int, ...]:
        b, k, _, y, x = strides
        return (b, step * k, y, x, k)

    if head == "udp_combined":
        offset_strides = pair(strides, 3), pair(where["flipped"], 3)
    else:
        offset_strides = pair(where["offsets"], 2), pair(where["flipped_offsets"], 2)
    cell = [1.0, 1.0, 1.0]
    for axis, pixels in enumerate(given.input_size or ()):
        cells = (W, H, D)[axis] - (given.scaling == "udp")
        cell[axis] = pixels / cells if cells else math.inf
    if head == "udp_combined":
        radius = RADIUS_FACTOR * max(W, H)
        offset_cells = (radius, radius)
    else:
        offset_cells = (given.offset_scale / cell[0], given.offset_scale / cell[1])
    return Plan(
        options=given,
        shape=(B, K, D, H, W),
        heatmaps=every(strides),
        flipped=every(where["flipped"]),
        offsets=offset_strides[0],
        flipped_offsets=offset_strides[1],
        scales={name: (np.float32(scale), np.float32(zero)) for name, scale, zero in quantized},
        cell=tuple(np.float32(pixels) for pixels in cell),
        offset_cells=(np.float32(offset_cells[0]), np.float32(offset_cells[1])),
    )


def volumes(form: _view.Form, name: str, layout: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides in the order B, K, D, H, W; D is 1 and has stride 0 where maps are flat."""
    _check.tensor(form, name, volumes=layout == "NCDHW")
    _check.some_cells(form, name)
    if layout == "NCDHW":
        shape, strides = form.shape, form.strides
        if len(shape) == 4:
            shape, strides = (1, *shape), (0, *strides)
        if 0 in shape[1:]:
            raise ValueError(f"{name} must have at least one channel, slice, row and column, got shape {form.shape}")
        return shape, strides
    (B, K, H, W), (b, k, y, x) = _check.channels_first(form, layout)
    return (B, K, 1, H, W), (b, k, 0, y, x)


def merged(given: Array, mirrored: Array, options: Options) -> Array:
    """(B, C, H, W) maps averaged with those of the mirrored image, as float32, in units of the elements."""
    result = np.empty(given.shape, np.float32)
    B, C, H, W = given.shape
    partners, many = np.array(options.flip_pairs), max(1, CACHED // (H * W))
    for b in range(B):
        for first in range(0, C, many):
            some = slice(first, first + many)
            _merge(given[b, some], mirrored[b, partners[some]], options.flip_shift, result[b, some])
    return result


def _merge(given: Array, other: Array, shift: bool, result: Array) -> None:
    """Into `result`; other: the partners' maps, as they lie."""
    given, other = (maps if maps.dtype == np.float32 else widen(maps) for maps in (given, other[..., ::-1]))
    if shift:
        np.add(given[..., 1:], other[..., :-1], out=result[..., 1:])
        np.add(given[..., 0], other[..., 0], out=result[..., 0])
    else:
        np.add(given, other, out=result)
    result *= HALF


def mirrored_columns(W: int, shift: bool) -> Array:
    """The column of the mirrored map that belongs to each column. shift: MMPose's `shift_heatmap`, one cell to the
    right, column 0 kept."""
    x = np.arange(W)
    columns: Array = W - 1 - x + ((x > 0) if shift else 0)
    return columns


def decode_heatmap(
    heatmaps: _view.Array,
    offsets: _view.Array | None = None,
    *,
    refine: str | None = None,
    preset: str | None = None,
    input_size: tuple[float, float] | None = None,
    guard: str | None = None,
    blur: int | None = None,
    blur_sigma: float | None = None,
    border: str | None = None,
    window: int | None = None,
    positive: bool | None = None,
    temperature: float | None = None,
    debias: bool | None = None,
    scaling: str | None = None,
    center_shift: float | None = None,
    threshold: float | None = None,
    absent: float | None = None,
    offset_scale: float | None = None,
    flipped: _view.Array | None = None,
    flipped_offsets: _view.Array | None = None,
    flip_pairs: Any = None,
    flip_shift: bool = False,
    layout: str = "NCHW",
    activation: str | None = None,
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: tuple[_view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Keypoints:
    """`posepost.decode_heatmap` for arrays in host memory; `stream` has no meaning there."""
    if flip_pairs is not None and not isinstance(flip_pairs, tuple):
        flip_pairs = _check.flip_pairs(flip_pairs)
    first = _view.view(heatmaps, "heatmaps")
    views = [first, None, None, None]
    if offsets is not None or flipped is not None or flipped_offsets is not None:
        for i, array in ((1, offsets), (2, flipped), (3, flipped_offsets)):
            views[i] = None if array is None else _view.view(array, ARGUMENTS[i])
    asked = (
        *(None if seen is None else seen.form for seen in views),
        quantization,
        flip_pairs,
        preset,
        layout,
        flip_shift,
        input_size,
        refine,
        guard,
        blur,
        blur_sigma,
        border,
        window,
        positive,
        temperature,
        debias,
        scaling,
        center_shift,
        threshold,
        absent,
        offset_scale,
        activation,
    )
    try:
        plan, places = _planned(*asked)
    except TypeError:  # what cannot be looked up, or is of a wrong type, which is said there
        plan, places = _planned.__wrapped__(*asked)
    given = plan.options
    if plan.axes == 3 and transform is not None:
        raise ValueError("transform must be None for volumes, whose points have three coordinates")
    heat, offset, mirrored, mirrored_offset = (
        None if seen is None else maps_of(_view.as_numpy(seen), layout) for seen in views
    )
    heat, fields = split(given.head, heat, offset)
    mirrored, mirrored_fields = split(given.head, mirrored, mirrored_offset)
    with np.errstate(all="ignore"):
        elements = heat if mirrored is None else merged(heat, mirrored, given)
        maps = Maps(elements, plan.scales.get("heatmaps"), given.activation == "sigmoid")
        points, scores = _decode(plan, places, maps, fields, mirrored_fields)
        if transform is not None:
            matrix = _check.transform(transform, first.form, plan.shape[0])
            assert isinstance(matrix, np.ndarray)  # a device array has been refused
            points = affine(points, matrix)
    if out is None:
        return Keypoints(_view.from_numpy(points, first.library), _view.from_numpy(scores, first.library))
    shapes = {"keypoints": (points.shape, "float32"), "scores": (scores.shape, "float32")}
    for seen, values in zip(_check.outputs(out, shapes, first.form), (points, scores)):
        _view.as_numpy(seen)[...] = values
    return Keypoints(*out)


class Places(NamedTuple):
    """Index tables of a call."""

    b: Array  # (B * K,)
    k: Array
    cell: Array  # as Plan.cell, one for each axis of a point
    in_cells: bool  # all of them are 1
    start: Array  # (B * K,) cell 0 of each map, of maps that follow each other
    points: Array | None  # (H * W, 2) float32: x and y of each cell in pixels of the input, for small maps


@functools.lru_cache(maxsize=64, typed=True)
def _planned(
    heatmaps: _view.Form,
    offsets: _view.Form | None,
    flipped: _view.Form | None,
    flipped_offsets: _view.Form | None,
    quantization: Any,
    flip_pairs: Any,
    *asked: Any,
) -> tuple[Plan, Places]:
    given = options(flip_pairs, *asked)
    forms = [heatmaps, offsets, flipped, flipped_offsets]
    plan = prepare(heatmaps, offsets, flipped, flipped_offsets, given, quantized(quantization, forms))
    B, K, D, H, W = plan.shape
    index, cell = np.arange(B * K), np.array(plan.cell[: plan.axes])
    b, k = np.divmod(index, K)
    points = None
    if plan.axes == 2 and H * W <= SMALL:
        y, x = np.indices((H, W), np.float32)
        with np.errstate(all="ignore"):
            points = (np.stack([x, y], axis=-1).reshape(-1, 2) + np.float32(given.center_shift)) * cell
    return plan, Places(b, k, cell, bool((cell == 1).all()), index * (D * H * W), points)


SMALL = 1 << 14  # cells of maps whose coordinates are kept as a table


def quantized(value: dict[str, tuple[float, int]] | None, forms: list[Any]) -> _check.Quantization:
    dtypes = {name: form.dtype for name, form in zip(("heatmaps", "offsets"), forms) if form is not None}
    return _check.quantization(value, dtypes)


def maps_of(array: Array, layout: str) -> Array:
    """Any layout as a view (B, C, H, W); the slices of a volume follow each other as rows."""
    if layout == "NCDHW":
        array = array if array.ndim == 5 else array[None]
        B, K, D, H, W = array.shape
        return array.reshape(B, K, D * H, W)
    return channels_first(array, layout)


Fields = tuple[Array, Array] | None
"""Offsets (B, K, H, W) along x and along y."""


def split(head: str, maps: Array | None, offsets: Array | None) -> tuple[Any, Fields]:
    """Heatmaps and the two offset fields, wherever a head keeps them."""
    if maps is not None and head == "udp_combined":
        return maps[:, 0::3], (maps[:, 1::3], maps[:, 2::3])
    return maps, None if offsets is None else (offsets[:, 0::2], offsets[:, 1::2])


def _decode(plan: Plan, places: Places, maps: Maps, fields: Fields, mirrored_fields: Fields) -> tuple[Array, Array]:
    """Points (B, K, 2 or 3) in pixels of the input, and scores (B, K)."""
    given = plan.options
    B, K, _, H, W = plan.shape
    n, kind = B * K, given.rule.kind
    b, k = places.b, places.k
    highest: Array | None = None
    if given.head in BLURRED:
        cell, highest = blurred_peaks(maps, given.rule.taps, given.rule.border)
    else:
        cell = first_largest(maps.elements).reshape(n)
    soft = given.head == "soft_argmax" and not given.rule.window
    plain = kind == "none" and fields is None and not soft and places.points is not None
    if not (plain or soft):
        y = cell // W
        x = cell - y * W
    if given.head == "megvii":
        assert highest is not None
        value = highest
    elif given.head == "udp_combined":
        value = _refine.blurred(maps, b, k, y, x, given.rule)
    elif maps.elements.flags.c_contiguous:
        value = maps.values(maps.elements.reshape(-1).take(places.start + cell))
    else:
        value = maps.read(b, k, cell // W, cell % W)
    absent = value <= np.float32(given.threshold)
    missing = np.count_nonzero(absent)

    if plain:
        assert places.points is not None
        points = places.points.take(cell, axis=0)
    else:
        if soft:
            raw = maps._replace(sigmoid=False).read(b, k, cell // W, cell % W) if maps.sigmoid else value
            points = soft_argmax(maps, plan, raw)
        else:
            points = np.empty((n, plan.axes), np.float32)
            points[:, 0], points[:, 1] = x, y
        if plan.axes == 3:
            points[:, 2], points[:, 1] = np.divmod(y, H)
        elif fields is not None or (kind != "none" and not soft):
            these = np.flatnonzero(~absent) if missing else ...
            if fields is not None:
                points[these] += offsets_at(plan, fields, mirrored_fields, b, k, y, x)[these]
            else:
                peaks = Peaks(b[these], k[these], y[these], x[these], value[these])
                points[these] = _refine.refined(maps, peaks, given.rule)
        if given.center_shift:
            points += np.float32(given.center_shift)
        if not places.in_cells:
            points *= places.cell
    scores = value + np.float32(0)  # -0 becomes +0
    if given.absent is not None and missing:
        points[absent] = np.float32(given.absent) * places.cell
        if math.isnan(given.absent):
            scores[absent] = 0
    if given.head == "megvii":
        scores = scores / MEGVII_SCALE + np.float32(0.5)
    return points.reshape(B, K, plan.axes), scores.reshape(B, K)


def offsets_at(plan: Plan, fields: Fields, mirrored_fields: Fields, b: Array, k: Array, y: Array, x: Array) -> Array:
    """(B * K, 2): offsets of the winners, x and y, in cells."""
    given = plan.options
    scale = plan.scales.get("heatmaps" if given.head == "udp_combined" else "offsets")
    found = []
    for axis, field in enumerate(fields or ()):
        offset = dequantize(field[b, k, y, x], scale)
        if mirrored_fields is not None:
            column = mirrored_columns(plan.shape[4], given.flip_shift)[x]
            other = dequantize(mirrored_fields[axis][b, np.array(given.flip_pairs)[k], y, column], scale)
            offset = (offset - other if axis == 0 else offset + other) * np.float32(0.5)
        found.append(offset * plan.offset_cells[axis])
    return np.stack(found, axis=-1)


SAFE = np.float32(40)  # exp of a maximum up to this neither overflows in a sum nor loses the map to denormals


def soft_argmax(maps: Maps, plan: Plan, largest: Array) -> Array:
    """(B * K, 2): the mean cell under a softmax of beta * what was given, over the whole map; `largest` of which is
    taken off first, unless beta is 1 and nothing is gained by it. A map's result does not depend on the others."""
    B, K, _, H, W = plan.shape
    elements = maps.elements.reshape(B * K, H, W)
    points, many = np.empty((B * K, 2), np.float32), max(1, CACHED // (H * W))
    beta = np.float32(plan.options.rule.beta)
    safe = np.abs(largest) <= SAFE if beta == 1 else np.zeros(B * K, bool)
    for first in range(0, B * K, many):
        some = slice(first, first + many)
        values = weights = dequantize(elements[some], maps.scale)
        if not safe[some].all():
            weights = weights - np.where(safe[some], np.float32(0), largest[some])[:, None, None]
        if beta != 1:
            weights = weights * beta
        weights = np.exp(weights)
        x = _mean(np.matmul(_line(H).T, weights))
        y = _mean(np.matmul(weights, _line(W)).transpose(0, 2, 1))
        if plan.options.debias:
            mass = np.exp(values).sum(axis=(1, 2), dtype=np.float32)
            x, y = (mass / (mass - 1) * (place - size / (2 * mass)) for place, size in ((x, W), (y, H)))
        points[some, 0], points[some, 1] = x, y
    return points


def _mean(weights: Array) -> Array:
    """(n, 1, size) float32 -> (n,) float64: the mean place along the axis."""
    sums = np.matmul(weights.astype(np.float64), _places_and_ones(weights.shape[2]))
    mean: Array = sums[:, 0, 0] / sums[:, 0, 1]
    return mean


@functools.lru_cache(maxsize=64)
def _places_and_ones(size: int) -> Array:
    return np.stack([np.arange(size), np.ones(size)], axis=-1)


@functools.lru_cache(maxsize=64)
def _line(size: int) -> Array:
    return np.ones((size, 1), np.float32)
