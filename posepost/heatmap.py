"""Heatmaps of single-person and top-down networks: argmax, refinement, flip test, scaling, in one launch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import _check, _kernels, _view
from ._dynamo import untraced
from ._launch import Decoder, Plan, element_number, planned, run, set_flip_pairs, set_step
from ._rules import described
from ._rules.flip import Flip, parts
from ._rules.heatmap import ARGUMENTS, Heatmap, rule, scales_of, shape
from ._rules.maps import Maps
from ._rules.refinement import Dark, DarkUDP, Megvii, Refinement, SoftArgmax, UDPCombined, step
from ._tiling import MANY, Tiling, blur_tile, busy_blocks, element_by_element, split_element_by_element, tiling
from .ref import heatmap as ref
from .types import Keypoints


@untraced
def decode_heatmap(
    heatmaps: _view.Array,
    offsets: _view.Array | None = None,
    *,
    refine: str | Refinement | None = None,
    preset: str | None = None,
    input_size: tuple[float, ...] | None = None,
    scaling: str | None = None,
    center_shift: float | None = None,
    threshold: float | None = None,
    absent: float | None = None,
    flip: Flip | None = None,
    layout: str = "NCHW",
    activation: str | None = None,
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: Keypoints | tuple[_view.Array, _view.Array] | None = None,
    stream: Any = None,
    **renamed: Any,
) -> Keypoints:
    """Decode the heatmaps of single-person and top-down networks, in place, in one launch.

    B rows (a person or an image each), K keypoints, maps of H rows and W columns. Axes in the order of `layout`.

    Parameters
    ----------
    heatmaps : (B, K, H, W), (B, H, W, K) or (B, K, D, H, W), float32, float16, bfloat16, uint8 or int8
        Confidence maps. Any strides but negative ones, no copy. Without B it is a batch of one. "udp_combined": 3K
        channels, (class, x offset, y offset) of each keypoint.
    offsets : (B, 2K, H, W) or (B, H, W, 2K), any of the same types
        For refine "offset": (x, y) of each keypoint, to be multiplied by `offset_scale`.
    refine : str, or one of posepost.Quarter, Dark, DarkUDP, UDPCombined, Megvii, Centroid, SoftArgmax, Offset
        Where between the cells the keypoint lies: "none", "quarter", "dark", "dark_udp", "udp_combined", "megvii",
        "centroid", "soft_argmax", "offset", or a value with options, such as Dark(blur=17). "none" if not given.
    preset : str
        Named defaults matching a reference implementation: gives every argument from here to `absent`, and `refine` and
        `activation`, that the call does not. "mmpose_msra", "mmpose_dark", "mmpose_udp", "mmpose_udp_combined",
        "mmpose_megvii", "mmpose_integral", "mmdeploy", "hrnet", "vitpose_hf", "vitpose_rtmlib", "sapiens",
        "higherhrnet", "trt_pose", "openpose", "sleap", "mediapipe" or "deeplabcut".
    input_size : (w, h)
        Pixels of the network's input, into which points are scaled; for volumes also (w, h, d). None: points stay in
        cells of the heatmap. (1, 1) gives points relative to the input. Cells must be square, which swapped sizes and
        a wrong `layout` are not; of a size that the network's stride does not divide, give the pixels that the cells
        cover, (W * stride, H * stride), or say `scaling`.
    scaling : "msra" or "udp"
        What `input_size` is divided by: the size of the map, or that less one. "msra" if not given.
    center_shift : float
        Cells to add to every point: 0.5 where a cell's place is its middle. 0 if not given.
    threshold, absent : float
        A keypoint whose score is below `threshold` is not refined, and both its coordinates become `absent` cells where
        given; absent NaN also makes its score 0. NaN scores are not below. With `absent` alone the threshold is the
        smallest number above 0; without both every keypoint is refined.
    flip : posepost.Flip(maps, pairs)
        The outputs for the mirrored image, averaged with these in the same launch.
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
        Where to write: float32, C-contiguous, on the device of the input, or the result of `posepost.pinned`. It
        overlaps neither an input nor itself.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the launch goes; None: the current stream of the library of `heatmaps` on its device (PyTorch's for its
        tensors, else CuPy's). Ignored for host arrays.

    Returns
    -------
    Keypoints
        keypoints (B, K, 2), for volumes (B, K, 3), as (x, y(, z)) and scores (B, K), float32, in the library and on
        the device of `heatmaps`. Enqueued, not waited for: `.numpy()` waits.

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges, names and devices. An old name of an
    argument is a TypeError that says the new one.

    Notes
    -----
    The cell is the first largest in row-major order, as numpy.argmax; NaN is larger than all, -0 equals +0 and is
    written +0. A cell with NaN or infinity in its neighborhood gives the formula's IEEE result; no cell outside the
    map is read.

    Formulas, borders and ties of the refinements: `help(posepost.Dark)` and so on. "dark" and "dark_udp" blur only what
    their step sees; the whole blurred map's maximum is looked for only where a clip could act. Finite maps give finite
    points; but where the blurred map is flat or clipped the step is rounding divided by rounding, of any length below
    the map's: see `help(posepost.DarkUDP)`. Equal reference implementations can part ways in the blur's rounding. The
    score of "soft_argmax" is the maximum; MMPose itself reports 1 for every keypoint. "offset": the cell, then +
    center_shift, then + offset.

    float32 arithmetic without fused multiply-add, so that kernel and NumPy implementation give the same bits but
    for exponentials and logarithms, and the order of sums of a global soft-argmax.

    Source: open-mmlab/mmpose 1.3.2 codecs/utils (get_heatmap_maximum, refine_keypoints, refine_keypoints_dark,
    refine_keypoints_dark_udp), codecs/udp_heatmap.py, codecs/megvii_heatmap.py, models/utils/tta.py; HRNet
    get_final_preds; HigherHRNet core/group.py adjust; huggingface/transformers image_processing_vitpose.py; kornia
    spatial_soft_argmax2d; trt_pose refine_peaks; google-ai-edge/mediapipe@7248ac6
    refine_landmarks_from_heatmap_calculator.cc, whose window lies around its regressed landmark and ours around the
    maximum; Tau-J/rtmlib 0.0.16 tools/pose_estimation/vitpose.py and post_processings.py (post_dark_udp); SLEAP and
    OpenPose from the mathematics of their centroids; "sapiens" from what transformers 5.24.0 gives for Sapiens2.

    Examples
    --------
    >>> import numpy as np, posepost
    >>> y, x = np.mgrid[:64, :48]
    >>> heatmaps = np.exp(-((x - 20.3) ** 2 + (y - 30.8) ** 2) / 8).astype(np.float32)[None, None]
    >>> people = posepost.decode_heatmap(heatmaps, preset="mmpose_dark", input_size=(192, 256))
    >>> np.allclose(people.keypoints, [81.2, 123.2], atol=0.01)  # 4 pixels of the input a cell
    True
    >>> cells = posepost.decode_heatmap(heatmaps, refine=posepost.Dark(blur=17)).keypoints
    >>> np.allclose(cells, [20.3, 30.8], atol=0.01)
    True
    """
    if renamed:
        _check.renamed("decode_heatmap", renamed, RENAMED)
    flipped = flipped_offsets = pairs = None
    shift = False
    if flip is not None:
        flipped, pairs, flipped_offsets, shift = parts(flip)
    options = (
        refine,
        preset,
        input_size,
        scaling,
        center_shift,
        threshold,
        absent,
        pairs,
        shift,
        layout,
        activation,
    )
    if transform is not None and layout == "NCDHW":
        raise ValueError("transform must be None for volumes, whose points have three coordinates")
    arrays = (heatmaps, flipped, offsets, flipped_offsets)
    found: Keypoints = run(HEATMAP, arrays, options, quantization, transform, out, stream)
    return found


RENAMED = {
    "guard": "refine=posepost.Quarter(guard=...)",
    "blur": "refine=posepost.Dark(blur=...), or DarkUDP, UDPCombined, Megvii",
    "blur_sigma": "refine=posepost.Dark(blur_sigma=...), or DarkUDP, UDPCombined, Megvii",
    "border": "border= of posepost.Dark, DarkUDP or Centroid in refine",
    "window": "window= of posepost.Centroid or SoftArgmax in refine",
    "positive": "refine=posepost.Centroid(positive=...)",
    "temperature": "refine=posepost.SoftArgmax(temperature=...)",
    "debias": "refine=posepost.SoftArgmax(debias=...)",
    "offset_scale": "refine=posepost.Offset(scale=...)",
    "flipped": "flip=posepost.Flip(maps, pairs)",
    "flipped_offsets": "flip=posepost.Flip(maps, pairs, offsets)",
    "flip_pairs": "flip=posepost.Flip(maps, pairs)",
    "flip_shift": "flip=posepost.Flip(maps, pairs, shift=True)",
}


def choose(rule: Heatmap, maps: Maps, dtype: str, flipped: bool, whole: bool, busy: int) -> tuple[str, Tiling]:
    """Which kernel of heatmap.cu, and its grid. whole: the slices of volumes follow each other like rows."""
    tiles, scalar = tiling(maps, dtype, busy), element_by_element(maps)
    if rule.blurred:
        return "BLURRED", scalar._replace(channel_lanes=1, tiles=maps.B * maps.K)
    if rule.whole_map:
        planar = tiles.layout == "PLANAR" and tiles.runs == 1 and not flipped
        return "SOFT", tiles._replace(splits=1, block=_kernels.THREADS) if planar else scalar
    if flipped or not whole:
        return "ARGMAX", split_element_by_element(maps, busy)
    if isinstance(rule.refine, (Dark, DarkUDP)) and tiles.layout == "PLANAR" and tiles.tiles >= MANY * busy:
        tiles = tiles._replace(block=32)  # one warp takes the step: no other waits for it
    return "ARGMAX", tiles


@functools.lru_cache(maxsize=256)
def _plan(forms: tuple[_view.Form | None, ...], rule: Heatmap, quantized: _check.Quantization | None) -> Plan:
    specs, scales = described(ARGUMENTS, forms, quantized, optional=3)
    heatmaps, flipped, offsets, _ = specs
    found = shape(rule, *specs)
    B, K, D, H, W = found[:5]
    b, k, z, y, x = found.heatmaps
    whole = D == 1 or z == H * y
    maps = Maps(rule.layout, B, K, D * H, W, (b, k, y, x))
    kernel, tiles = choose(rule, maps, heatmaps.dtype, flipped is not None, whole, busy_blocks(heatmaps.device))
    if tiles.tiles >= 2**31:
        raise ValueError(f"heatmaps must have fewer than 2**31 maps, got {B} x {K}")

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
    params["runs"], params["channel_lanes"] = tiles.runs, tiles.channel_lanes
    params["axes"], params["flip_shift"] = found.axes, rule.flip_shift
    combined = isinstance(rule.refine, UDPCombined)
    fields = heatmaps if combined else offsets
    if fields is not None:
        params["offset_element"] = element_number(fields.dtype)
    params["sigmoid"] = rule.activation == "sigmoid"
    moves = step(rule.refine)
    set_step(params, moves)
    params["tile_h"], params["tile_w"] = blur_tile(D * H, W, len(moves.taps))
    params["megvii"] = isinstance(rule.refine, Megvii)
    params["debias"] = isinstance(rule.refine, SoftArgmax) and rule.refine.debias
    params["has_absent"], params["absent"] = rule.absent is not None, rule.absent or 0.0
    params["threshold_key"], params["center_shift"] = _kernels.key_below(rule.threshold), rule.center_shift
    params["cell"], params["offset_cells"] = found.cell, found.offset_cells
    params["heatmap_scale"], params["offset_scale"] = 1, 1
    for name, (scale, zero) in scales_of(rule, scales).items():
        prefix = name.removesuffix("s")
        params[f"{prefix}_scale"], params[f"{prefix}_zero"] = scale, zero
    set_flip_pairs(params, rule.flip_pairs)
    variant = _kernels.heatmap(_kernels.ELEMENTS[heatmaps.dtype], kernel, tiles.layout)
    itemsize = heatmaps.itemsize
    return planned(
        len(ARGUMENTS),
        params,
        shapes=((B, K, found.axes), (B, K)),
        launches=((variant, (tiles.tiles, tiles.splits, 1), (tiles.block, 1, 1)),),
        alignment=max(itemsize, 1 if offsets is None else offsets.itemsize),
        inside=(((2, 0, found.offsets[4] * itemsize), (3, 1, found.flipped_offsets[4] * itemsize)) if combined else ()),
        zeroed=tiles.workspace(B * K),
        zeroed_sections=(0, 8 * B * K),
    )


HEATMAP = Decoder(ARGUMENTS, rule, _plan, ref.prepare, ref.decode, Keypoints)
