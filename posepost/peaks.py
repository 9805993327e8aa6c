"""Local maxima of each map, best first, in one launch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import _check, _kernels, _view
from ._dynamo import untraced
from ._launch import Decoder, Plan, planned, run, set_step
from ._rules import described
from ._rules.peaks import ARGUMENTS, least, rule, shape
from ._rules.peaks import Peaks as PeaksRule
from ._rules.refinement import Refinement, step
from ._tiling import busy_blocks, map_blocks
from .ref import peaks as ref
from .types import Peaks


@untraced
def find_peaks(
    heatmaps: _view.Array,
    *,
    threshold: float,
    max_peaks: int,
    nms_window: int = 3,
    plateau: str = "all",
    refine: str | Refinement = "none",
    layout: str = "NCHW",
    activation: str | None = None,
    quantization: dict[str, tuple[float, int]] | None = None,
    out: Peaks | tuple[_view.Array, _view.Array, _view.Array] | None = None,
    stream: Any = None,
    **renamed: Any,
) -> Peaks:
    """The local maxima of each map, best first.

    B images, K maps an image, of H rows and W columns. Axes in the order of `layout`.

    Parameters
    ----------
    heatmaps : (B, K, H, W) or (B, H, W, K), float32, float16, bfloat16, uint8 or int8
        Any strides but negative ones, no copy. Without B it is a batch of one.
    threshold : float
        The least score of a peak, from 0 to 1 with activation "sigmoid"; any finite number with None.
    max_peaks : int
        Room for peaks of one map: the best are kept, `dropped` counts the others.
    nms_window : int
        Side of the square, odd, in which a peak has no larger neighbor. It is clipped at the borders of the map.
    plateau : "all" or "none"
        Neighbors of equal value: "all": no neighbor may be larger, so every cell of a plateau is a peak. "none":
        every neighbor must be smaller.
    refine : str, or one of posepost.Quarter, Dark, DarkUDP, Centroid, SoftArgmax
        Where between the cells a peak lies: "none", "quarter", "dark", "dark_udp", "centroid", "soft_argmax" (in a
        window of 5 cells) or a value with options, as in `decode_heatmap`. SLEAP's integral is Centroid();
        trt_pose's is Centroid(border="reflect_101").
    layout : "NCHW" or "NHWC"
    activation : "sigmoid" or None
        "sigmoid": the maps are logits and scores go through a sigmoid. None: the maps are scores already.
    quantization : {"heatmaps": (scale, zero_point)}
        For an integer tensor; value = (q - zero_point) * scale. Peaks are compared as raw integers.
    out : Peaks or (points, scores, count)
        Where to write: C-contiguous, overlapping neither an input nor itself. Then nothing is allocated but, where
        `out` is no Peaks, `dropped`.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the launch goes; None: the current stream of the library of `heatmaps` on its device (PyTorch's for its
        tensors, else CuPy's). Ignored for host arrays.

    Returns
    -------
    Peaks
        points (B, K, max_peaks, 2), scores (B, K, max_peaks), count (B, K); dropped (B, K).

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges and devices. An old name of an
    argument is a TypeError that says the new one.

    Notes
    -----
    Order: value descending, then y, then x ascending. Values are compared as given: logits that saturate to equal
    scores are still told apart. -0 equals +0.

    Threshold: a cell passes if its value is at least the smallest float32 that is not below `threshold`, or, with
    "sigmoid", not below ln(threshold / (1 - threshold)): no exponential takes part. For integers the value is
    (q - zero_point) * scale in float32.

    A NaN cell, a cell with NaN in its window, and a cell of -inf are no peaks.

    Where the blurred map is flat or clipped, as it is around weak peaks, the step of "dark" and "dark_udp" is rounding
    divided by rounding, of any length below the map's: see `help(posepost.DarkUDP)`.

    Source: NVIDIA-AI-IOT/trt_pose find_peaks, refine_peaks; SLEAP's local peaks from their mathematics.

    Examples
    --------
    >>> import numpy as np, posepost
    >>> heatmaps = np.zeros((1, 1, 8, 8), np.float32)
    >>> heatmaps[0, 0, 2, 3], heatmaps[0, 0, 6, 5] = 0.7, 0.9
    >>> peaks = posepost.find_peaks(heatmaps, threshold=0.5, max_peaks=4, activation=None)
    >>> peaks.points[0, 0, :2].tolist(), peaks.count.tolist()
    ([[5.0, 6.0], [3.0, 2.0]], [[2]])
    """
    if renamed:
        _check.renamed("find_peaks", renamed, RENAMED)
    options = (threshold, max_peaks, nms_window, plateau, refine, layout, activation)
    found: Peaks = run(PEAKS, (heatmaps,), options, quantization, None, out, stream)
    return found


RENAMED = {
    "window": "nms_window",
    "guard": "refine=posepost.Quarter(guard=...)",
    "blur": "refine=posepost.Dark(blur=...)",
    "blur_sigma": "refine=posepost.Dark(blur_sigma=...)",
    "border": "border= of posepost.Dark or posepost.Centroid in refine",
    "refine_window": "window= of posepost.Centroid or posepost.SoftArgmax in refine",
    "positive": "refine=posepost.Centroid(positive=...)",
    "temperature": "refine=posepost.SoftArgmax(temperature=...)",
}

LISTED = 1024  # of the kernel: peaks of a map that need no workspace


@functools.lru_cache(maxsize=256)
def _plan(forms: tuple[_view.Form, ...], rule: PeaksRule, quantized: _check.Quantization | None) -> Plan:
    (heatmaps,), scales = described(ARGUMENTS, forms, quantized)
    maps = shape(rule, heatmaps)
    B, K, H, W, M = maps.B, maps.K, maps.H, maps.W, rule.max_peaks
    if H * W >= 2**31 or B * K >= 2**31:
        raise ValueError(
            f"heatmaps must have fewer than 2**31 maps of fewer than 2**31 cells, got {B * K} of {H} x {W}"
        )
    params = np.zeros(1, _kernels.parameters("peaks.cu"))
    for axis, stride in zip("bkyx", maps.heatmap_strides):
        params[f"stride_{axis}"] = stride
    params["K"], params["H"], params["W"], params["max_peaks"] = K, H, W, M
    reach = rule.nms_window // 2
    side = reach + 1  # strict peaks are more than `reach` apart along an axis: each block of cells has one
    most = -(-H // side) * -(-W // side) if rule.plateau == "none" else H * W
    splits, threads = map_blocks(B * K, H * W, busy_blocks(heatmaps.device))
    params["room"] = room = most if splits > 1 else max(0, most - LISTED)
    scale = scales.get("heatmaps")
    params["least_key"] = _kernels.least_key(least(rule, heatmaps.dtype, scale), heatmaps.dtype)
    params["radius"], params["strict"] = reach, rule.plateau == "none"
    params["sigmoid"] = rule.activation == "sigmoid"
    set_step(params, step(rule.refine))
    if scale is not None:
        params["scale"], params["zero"] = scale
    variant = _kernels.peaks(_kernels.ELEMENTS[heatmaps.dtype])
    return planned(
        len(ARGUMENTS),
        params,
        shapes=((B, K, M, 2), (B, K, M), (B, K), (B, K)),
        launches=((variant, (B * K, splits, 1), (threads, 1, 1)),),
        alignment=heatmaps.itemsize,
        takes_transform=False,
        scratch=(B * K * room, B * K * M),
        zeroed=B * K if splits > 1 else 0,
        zeroed_sections=(0, 4 * B * K),
    )


PEAKS = Decoder(ARGUMENTS, rule, _plan, ref.prepare, ref.decode, Peaks)
