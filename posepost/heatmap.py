"""Heatmap heads of single-person and top-down networks: argmax, refinement, flip test, scaling, in one launch."""

from __future__ import annotations

import functools
import struct
from typing import Any, NamedTuple

import numpy as np

from . import _check, _kernels, _view, ref
from .posenet import (
    MANY,
    Launch,
    Shape,
    busy_blocks,
    choose,
    element_by_element,
    given_result,
    new_result,
    set_transform,
    split_element_by_element,
)
from .ref.heatmap import ARGUMENTS, BLURRED, Options, options, prepare, quantized
from .ref.refine import BORDERS, GUARDS, KINDS, Refinement
from .types import Keypoints, launched, on_device

MOST_PAIRS = 512  # Params.flip_pairs
put_addresses = struct.Struct("9Q").pack_into  # at the head of Params


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
    """Decode the heatmaps of single-person and top-down networks, where the tensors lie, in one launch.

    B rows (a person or an image each), K keypoints, maps of H rows and W columns. Axes in the order of `layout`.

    Parameters
    ----------
    heatmaps : (B, K, H, W), (B, H, W, K) or (B, K, D, H, W), float32, float16, bfloat16, uint8 or int8
        Confidence maps. Any strides but negative ones, no copy. Without B it is a batch of one. "udp_combined": 3K
        channels, (class, x offset, y offset) of each keypoint.
    offsets : (B, 2K, H, W) or (B, H, W, 2K), any of the same types
        For refine "offset": (x, y) of each keypoint, to be multiplied by `offset_scale`.
    refine : str
        Where between the cells the keypoint lies; see Notes. "none", "quarter", "dark", "dark_udp", "udp_combined",
        "megvii", "centroid", "soft_argmax" or "offset".
    preset : str
        A peer's rules by name: gives every argument from here to `offset_scale`, and `activation`, that the call does
        not. "mmpose_msra", "mmpose_dark", "mmpose_udp", "mmpose_udp_combined", "mmpose_megvii", "mmpose_integral",
        "mmdeploy", "hrnet", "vitpose_hf", "higherhrnet", "trt_pose", "openpose", "sleap", "mediapipe" or "deeplabcut".
    input_size : (w, h)
        Pixels of the network's input, into which points are scaled; for volumes also (w, h, d). None: points stay in
        cells of the heatmap. (1, 1) gives points relative to the input.
    guard : "mmpose", "hrnet" or "higherhrnet"
        Where "quarter" acts near borders; "mmpose" if not given.
    blur : int
        Side of the Gaussian of "dark", "dark_udp" and "megvii", odd, up to 27, 29 and 35; "udp_combined" blurs with
        2 * blur + 1 cells as MMPose does, up to 17. 11 if not given.
    blur_sigma : float
        Of that Gaussian, in cells; OpenCV's for its size if not given.
    border : "zero", "reflect" or "reflect_101"
        What lies outside the map for a blur or a centroid: nothing; c b a | a b c; c b | a b c. With "zero", which is
        the default, a blurred map is scaled to the old maximum, as MMPose does.
    window : int
        Side of the square of "centroid" (5 if not given) or "soft_argmax" (the whole map if not given), odd, up to 31.
    positive : bool
        "centroid": only values above 0 have weight.
    temperature : float
        "soft_argmax": weights are exp(value / temperature), as kornia has it; 1 / MMPose's beta. 1 if not given.
    debias : bool
        "soft_argmax" of the whole map: MMPose's correction for the mass of an exponential that no map can avoid.
    scaling : "msra" or "udp"
        What `input_size` is divided by: the size of the map, or that less one. "msra" if not given.
    center_shift : float
        Cells to add to every point: 0.5 where a cell's place is its middle. 0 if not given.
    threshold, absent : float
        A keypoint whose score is not above `threshold` (0 if not given) is not refined, and both its coordinates become
        `absent` cells where given; absent NaN also makes its score 0. NaN scores are above.
    offset_scale : float
        Pixels of the input that an offset of 1 stands for; needs `input_size`. DeepLabCut: 7.2801. Not given: offsets
        are cells.
    flipped, flipped_offsets
        The same outputs for the mirrored image: value = (value + mirrored value) / 2, x offsets change sign.
    flip_pairs : (K,) ints
        The keypoint that stands for each one in the mirrored image: a permutation. Up to 512 keypoints.
    flip_shift : bool
        MMPose's `shift_heatmap`: the mirrored map moved one cell to the right, its column 0 kept.
    layout : "NCHW", "NHWC" or "NCDHW"
        "NCDHW": volumes, whose points have a third coordinate z in slices; refine "none" alone.
    activation : "sigmoid" or None
        "sigmoid": the maps are logits; scores, thresholds and what blurs and centroids see go through a sigmoid. The
        argmax, "quarter" and "soft_argmax" take what was given. None: the maps are scores already.
    quantization : dict of argument name to (scale, zero_point)
        For integer heatmaps (with flipped) and offsets; value = (q - zero_point) * scale. The argmax runs on raw
        integers.
    transform : (2, 3) or (B, 2, 3), float32 on the device, or any real type on the host
        Affine map of (x, y, 1) on to the image, in the same launch: see `posepost.crop_to_image`.
    out : Keypoints or (keypoints, scores)
        Where to write: float32, C-contiguous, on the device of the input, or the result of `posepost.pinned`.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the launch goes; None: the current stream of the library of `heatmaps`
        (PyTorch's for its tensors, else CuPy's). No meaning for host arrays.

    Returns
    -------
    Keypoints
        keypoints (B, K, 2), for volumes (B, K, 3), as (x, y(, z)) and scores (B, K), float32, in the library and on
        the device of `heatmaps`. Enqueued, not waited for: `.numpy()` waits.

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges, names and devices.

    Notes
    -----
    The cell is the first largest in row-major order, as numpy.argmax; NaN is larger than all, -0 equals +0 and is
    written +0. A cell with NaN or infinity in its neighbourhood gives the formula's IEEE result; no cell outside the
    map is read.

    "quarter": 0.25 of the sign of the difference of the neighbours. guard "mmpose": x where 1 < x < W - 1 and 0 < y,
    y where 1 < y < H - 1 and 0 < x; "hrnet": both where 1 < x < W - 1 and 1 < y < H - 1; "higherhrnet": everywhere,
    neighbours clamped, a tie counts as -0.25.
    "dark": Newton's step on the logarithm of the blurred map, clipped from below to 1e-10, where 1 < x < W - 2 and
    1 < y < H - 2.
    "dark_udp": the same on differences over one cell, clipped to 1e-3 ... 50, everywhere. The map itself is not
    blurred: only what the step sees is, and the whole blurred map's maximum is looked for only where a clip could act.
    "udp_combined": cell and score from the blurred class map, offsets * 0.0546875 * max(W, H) cells.
    "megvii": cell and quarter step (with 0.5 more, inside the guard of "hrnet") from the blurred map; score / 255 +
    0.5. Equal peaks can part ways in the blur's rounding.
    "centroid": mean of the window's cells weighted by their values. A sum of 0 gives what the division gives.
    "soft_argmax": mean cell under softmax(value / temperature). NaN, +inf, or -inf alone give NaN. The score is the
    maximum; MMPose itself reports 1 for every keypoint.
    "offset": the cell, then + center_shift, then + offset.

    float32 arithmetic without fused multiply-add, so that kernel and NumPy twin (posepost.ref) give the same bits but
    for exponentials and logarithms, and the order of sums of a global soft-argmax.

    Source: open-mmlab/mmpose 1.3.2 codecs/utils (get_heatmap_maximum, refine_keypoints, refine_keypoints_dark,
    refine_keypoints_dark_udp), codecs/udp_heatmap.py, codecs/megvii_heatmap.py, models/utils/tta.py; HRNet
    get_final_preds; HigherHRNet core/group.py adjust; huggingface/transformers image_processing_vitpose.py; kornia
    spatial_soft_argmax2d; trt_pose refine_peaks; google-ai-edge/mediapipe@7248ac6
    refine_landmarks_from_heatmap_calculator.cc, whose window lies around its regressed landmark and ours around the
    maximum; SLEAP and OpenPose from the mathematics of their centroids.
    """
    device = _view.device(heatmaps, "heatmaps")
    if device is None:
        return ref.decode_heatmap(
            heatmaps,
            offsets,
            refine=refine,
            preset=preset,
            input_size=input_size,
            guard=guard,
            blur=blur,
            blur_sigma=blur_sigma,
            border=border,
            window=window,
            positive=positive,
            temperature=temperature,
            debias=debias,
            scaling=scaling,
            center_shift=center_shift,
            threshold=threshold,
            absent=absent,
            offset_scale=offset_scale,
            flipped=flipped,
            flipped_offsets=flipped_offsets,
            flip_pairs=flip_pairs,
            flip_shift=flip_shift,
            layout=layout,
            activation=activation,
            quantization=quantization,
            transform=transform,
            out=out,
            stream=stream,
        )
    given = options(
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
    queue = _view.queue(heatmaps, device, stream)
    views = [
        None if array is None else _view.view(array, name, queue)
        for array, name in zip((heatmaps, offsets, flipped, flipped_offsets), ARGUMENTS)
    ]
    forms = [None if seen is None else seen.form for seen in views]
    seen = views[0]
    assert seen is not None
    plan = _plan(*forms, given, None if quantization is None else quantized(quantization, forms))
    addresses = [0 if one is None else one.pointer for one in views]
    if (addresses[0] | addresses[1] | addresses[2] | addresses[3]) % plan.alignment:
        for one, name in zip(views, ARGUMENTS):
            if one is not None:
                _check.alignment(one, name)
    B, K, axes = plan.shape
    if axes == 3 and transform is not None:
        raise ValueError("transform must be None for volumes, whose points have three coordinates")
    if out is None:
        result = new_result(plan.shape, device, queue, seen.library)
    else:
        result = given_result(out, plan.shape, seen.form, device, queue)
    origin = result.origin
    assert origin is not None

    block = plan.blocks.take()
    try:
        matrices = None if transform is None else set_transform(block.struct, transform, seen.form, B, queue)
        if B:
            work = _kernels.NO_WORK
            if plan.workspace:
                work = _kernels.work(plan.workspace, 0, device, queue.pointer, queue.holder)
            rows, tickets = matrices.pointer if matrices else 0, work.zeroed + 8 * B * K
            start, fields, mirrored, mirrored_fields = addresses
            if plan.first_fields is not None:
                fields = start + plan.first_fields[0]
                mirrored_fields = mirrored and mirrored + plan.first_fields[1]
            tensors = start, mirrored, fields, mirrored_fields
            put_addresses(block.words, 0, *tensors, rows, origin.keypoints, origin.scores, work.zeroed, tickets)
            kernel = _kernels.kernel(plan.variant)
            _kernels.cuda.launch(kernel, plan.grid, plan.block, block, device, queue.pointer)
            if work.captured:
                _kernels.done_with(work, device, queue.pointer)
    finally:
        plan.blocks.give_back(block, transform is not None)
    _view.hold_inputs((*views, matrices), device, queue)
    result = launched(result, queue)
    if origin.library not in _view.ORDERED:
        return result
    keypoints, scores = _view.hand_over(result, device, queue.pointer, origin.library)
    return result if keypoints is result.keypoints else on_device(keypoints, scores, origin)


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    shape: Shape
    variant: _kernels.Variant
    grid: _kernels.Size
    block: _kernels.Size
    workspace: int  # words of 8 bytes; 0: no two blocks share a tile
    alignment: int  # bytes: the larger element
    first_fields: tuple[int, int] | None  # udp_combined: bytes from a map to its offsets, and in the mirrored ones
    blocks: _kernels.Blocks


def set_refinement(params: Any, rule: Refinement) -> None:
    """What kernels/refine.cuh asks of a kernel's parameters."""
    params["refine"], params["guard"] = KINDS.index(rule.kind), GUARDS.index(rule.guard)
    params["border"], params["reach"] = BORDERS.index(rule.border), rule.window // 2
    params["positive"], params["blur"], params["beta"] = rule.positive, len(rule.taps), rule.beta
    params["taps"][0, : len(rule.taps)] = rule.taps


def choose_head(
    given: Options, maps: _check.Maps, dtype: str, flipped: bool, whole: bool, busy: int
) -> tuple[str, Launch]:
    """Head and grid. whole: the slices of volumes follow each other like rows."""
    launch, scalar = choose(maps, dtype, busy), element_by_element(maps)
    if given.head in BLURRED:
        return "BLURRED", scalar._replace(channel_lanes=1, tiles=maps.B * maps.K)
    if given.head == "soft_argmax" and not given.rule.window:
        planar = launch.layout == "PLANAR" and launch.runs == 1 and not flipped
        return "SOFT", launch._replace(splits=1, block=_kernels.THREADS) if planar else scalar
    if flipped or not whole:
        return "ARGMAX", split_element_by_element(maps, busy)
    if given.rule.kind in ("dark", "dark_udp") and launch.layout == "PLANAR" and launch.tiles >= MANY * busy:
        launch = launch._replace(block=32)  # one warp takes the step: no other waits for it
    return "ARGMAX", launch


TILE_FLOATS = 8192  # of the kernel: shared memory for a rectangle of a map and the same blurred along x
WIDEST_TILE = 64


def blur_tile(H: int, W: int, blur: int) -> tuple[int, int]:
    """Rows and columns, multiples of 4, of the equal rectangles in which a map is blurred."""
    wide = _share(W, WIDEST_TILE)
    around = blur - 1
    most = TILE_FLOATS // ((wide + around | 1) + (wide | 1)) - around
    return _share(H, most // 4 * 4), wide


def _share(length: int, most: int) -> int:
    """The smallest multiple of 4 with which as few parts as possible cover `length`."""
    parts = -(-length // most)
    return -(-length // (4 * parts)) * 4


@functools.lru_cache(maxsize=256)
def _plan(
    heatmaps: _view.Form,
    offsets: _view.Form | None,
    flipped: _view.Form | None,
    flipped_offsets: _view.Form | None,
    given: Options,
    quantization: _check.Quantization | None,
) -> Plan:
    if quantization is None:
        quantization = quantized(None, [heatmaps, offsets])
    found = prepare(heatmaps, offsets, flipped, flipped_offsets, given, quantization)
    B, K, D, H, W = found.shape
    b, k, z, y, x = found.heatmaps
    whole = D == 1 or z == H * y
    maps = _check.Maps(given.layout, B, K, D * H, W, (b, k, y, x), (0, 0, 0, 0))
    busy = busy_blocks(heatmaps.device)
    head, launch = choose_head(given, maps, heatmaps.dtype, flipped is not None, whole, busy)
    if launch.tiles >= 2**31:
        raise ValueError(f"heatmaps must have fewer than 2**31 maps, got {B} x {K}")
    if given.flip_pairs is not None and K > MOST_PAIRS:
        raise ValueError(f"flip_pairs must have at most {MOST_PAIRS} keypoints on a device, got {K}")

    params = np.zeros(1, _kernels.parameters("heatmap.cu"))
    for name, strides, axes in (
        ("heatmap", found.heatmaps, "bkzyx"),
        ("flipped", found.flipped, "bkzyx"),
        ("offset", found.offsets, ("b", "k", "y", "x", "xy")),
        ("flipped_offset", found.flipped_offsets, ("b", "k", "y", "x", "xy")),
    ):
        for axis, stride in zip(axes, strides):
            params[f"{name}_stride_{axis}"] = stride
    params["K"], params["H"], params["W"], params["slice_rows"] = K, D * H, W, H
    params["runs"], params["channel_lanes"] = launch.runs, launch.channel_lanes
    params["axes"], params["flip_shift"] = found.axes, given.flip_shift
    fields = heatmaps if given.head == "udp_combined" else offsets
    if fields is not None:
        params["offset_element"] = list(_kernels.ELEMENTS).index(fields.dtype)
    params["sigmoid"] = given.activation == "sigmoid"
    set_refinement(params, given.rule)
    params["tile_h"], params["tile_w"] = blur_tile(D * H, W, len(given.rule.taps))
    params["megvii"], params["debias"] = given.head == "megvii", given.debias
    params["has_absent"], params["absent"] = given.absent is not None, given.absent or 0.0
    params["threshold_key"], params["center_shift"] = _kernels.key_of(given.threshold), given.center_shift
    params["cell"], params["offset_cells"] = found.cell, found.offset_cells
    params["heatmap_scale"], params["offset_scale"] = 1, 1
    scales = dict(found.scales)
    if given.head == "udp_combined" and "heatmaps" in scales:
        scales["offsets"] = scales["heatmaps"]
    for name, (scale, zero) in scales.items():
        prefix = name.removesuffix("s")
        params[f"{prefix}_scale"], params[f"{prefix}_zero"] = scale, zero
    if given.flip_pairs is not None:
        params["flip_pairs"][0, :K] = given.flip_pairs
    itemsize, in_maps = _view.ITEMSIZE[heatmaps.dtype], given.head == "udp_combined"
    return Plan(
        shape=(B, K, found.axes),
        variant=_kernels.heatmap(_kernels.ELEMENTS[heatmaps.dtype], head, launch.layout),
        grid=(launch.tiles, launch.splits, 1),
        block=(launch.block, 1, 1),
        workspace=0 if launch.splits == 1 else B * K + -(-launch.tiles // 2),
        alignment=max(itemsize, 1 if offsets is None else _view.ITEMSIZE[offsets.dtype]),
        first_fields=(found.offsets[4] * itemsize, found.flipped_offsets[4] * itemsize) if in_maps else None,
        blocks=_kernels.Blocks(params),
    )
