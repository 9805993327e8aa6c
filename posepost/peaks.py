"""Local maxima of each map, best first, in one launch."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from . import _check, _kernels, _view, ref
from .heatmap import set_refinement
from .posenet import busy_blocks
from .ref.peaks import peak_rule, prepare
from .ref.refine import Refinement
from .types import Peaks


def find_peaks(
    heatmaps: _view.Array,
    *,
    threshold: float,
    max_peaks: int,
    window: int = 3,
    plateau: str = "all",
    refine: str = "none",
    guard: str = "mmpose",
    blur: int = 11,
    blur_sigma: float | None = None,
    border: str = "zero",
    refine_window: int = 5,
    positive: bool = False,
    temperature: float = 1.0,
    layout: str | None = None,
    activation: str | None = "sigmoid",
    quantization: dict[str, tuple[float, int]] | None = None,
    out: tuple[_view.Array, _view.Array, _view.Array] | None = None,
    stream: Any = None,
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
        Room for peaks of one map: the best are kept, `left_out` counts the others.
    window : int
        Side of the square, odd, in which a peak has no larger neighbour. It is clipped at the borders of the map.
    plateau : "all" or "none"
        Neighbours of equal value: "all": no neighbour may be larger, so every cell of a plateau is a peak. "none":
        every neighbour must be smaller.
    refine : "none", "quarter", "dark", "dark_udp", "centroid" or "soft_argmax"
        Where between the cells a peak lies, with guard, blur, blur_sigma, border, positive and temperature: as in
        `decode_heatmap`. SLEAP's integral is "centroid"; trt_pose's is that with border "reflect_101".
    refine_window : int
        Side of the square of "centroid" and "soft_argmax", odd, up to 31.
    layout : "NCHW", "NHWC" or None
        None means NCHW.
    activation : "sigmoid" or None
        "sigmoid": the maps are logits and scores go through a sigmoid. None: the maps are scores already.
    quantization : {"heatmaps": (scale, zero_point)}
        For an integer tensor; value = (q - zero_point) * scale. Peaks are compared as raw integers.
    out : Peaks or (points, scores, count)
        Where to write: C-contiguous. Then nothing is allocated but, where `out` is no Peaks, `left_out`.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the launch goes; None: the current stream of the library of `heatmaps`
        (PyTorch's for its tensors, else CuPy's). No meaning for host arrays.

    Returns
    -------
    Peaks
        points (B, K, max_peaks, 2), scores (B, K, max_peaks), count (B, K); attribute left_out (B, K).

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges and devices.

    Notes
    -----
    Order: value descending, then y, then x ascending. Values are compared as given: logits that saturate to equal
    scores are still told apart. -0 equals +0.

    Threshold: a cell passes if its value is at least the smallest float32 that is not below `threshold`, or, with
    "sigmoid", not below ln(threshold / (1 - threshold)): no exponential takes part. For integers the value is
    (q - zero_point) * scale in float32.

    A NaN cell, a cell with NaN in its window, and a cell of -inf are no peaks.
    """
    device = _view.device(heatmaps, "heatmaps")
    if device is None:
        return ref.find_peaks(
            heatmaps,
            threshold=threshold,
            max_peaks=max_peaks,
            window=window,
            plateau=plateau,
            refine=refine,
            guard=guard,
            blur=blur,
            blur_sigma=blur_sigma,
            border=border,
            refine_window=refine_window,
            positive=positive,
            temperature=temperature,
            layout=layout,
            activation=activation,
            quantization=quantization,
            out=out,
            stream=stream,
        )
    queue = _view.queue(heatmaps, device, stream)
    at = queue.pointer
    seen = _view.view(heatmaps, "heatmaps", queue)
    quantized = _check.quantization(quantization, {"heatmaps": seen.form.dtype})
    _check.activation(activation)
    _check.peaks_options(threshold, activation, max_peaks, window, plateau)
    rule = peak_rule(refine, guard, blur, blur_sigma, border, refine_window, positive, temperature)
    _check.tensor(seen.form, "heatmaps")
    _check.alignment(seen, "heatmaps")
    plan = _plan(seen.form, float(threshold), int(max_peaks), int(window), plateau, rule, layout, activation, quantized)

    B, K, M = plan.B, plan.K, int(max_peaks)
    shapes = {
        "points": ((B, K, M, 2), "float32"),
        "scores": ((B, K, M), "float32"),
        "count": ((B, K), "int32"),
        "left_out": ((B, K), "int32"),
    }
    given: list[_view.View] = []
    if out is not None:
        given = _check.outputs(out, dict(list(shapes.items())[:3]), seen.form, queue)
        if isinstance(out, Peaks) and out.left_out is not None:
            given += _check.outputs((out.left_out,), {"left_out": shapes["left_out"]}, seen.form, queue)
    arrays, addresses = list(out or ()), [view.pointer for view in given]
    if len(given) == 4:
        assert isinstance(out, Peaks)
        arrays.append(out.left_out)
    library = given[0].library if given else seen.library
    missing = list(shapes.values())[len(given) :]
    if missing:
        sizes = [int(np.prod(shape)) for shape, _ in missing]
        starts = [0]
        for size in sizes:
            starts.append(_view.start_of_section(starts[-1] + size, library))
        memory, address = _view.empty(starts[-1], device, at, library)
        for start, size, (shape, dtype) in zip(starts, sizes, missing):
            part = memory[start : start + size].reshape(shape)
            arrays.append(_view.as_int32(part, library) if dtype == "int32" else part)
            addresses.append(address + 4 * start)
    block = plan.blocks.take()
    try:
        if B:
            work = _kernels.work(B * K if plan.splits > 1 else 0, B * K * (plan.room + M), device, at, queue.holder)
            taken, tickets = work.scratch + 8 * B * K * plan.room, work.zeroed + 4 * B * K
            block.words[:9] = (seen.pointer, *addresses, work.scratch, taken, work.zeroed, tickets)
            _kernels.cuda.launch(_kernels.kernel(plan.variant), (B * K, plan.splits, 1), plan.block, block, device, at)
            _kernels.done_with(work, device, at)
    finally:
        plan.blocks.give_back(block, False)
    _view.hold_inputs((seen,), device, queue)
    points, scores, count, left_out = _view.hand_over(tuple(arrays), device, at, library)
    result = Peaks(points, scores, count)
    result.left_out, result.stream, result.holder = left_out, at, _view.written_by(queue, device)
    return result


LISTED = 1024  # of the kernel: peaks of a map that need no workspace
LARGE_MAP = 2048  # cells from which on a block has twice the threads
CELLS_IN_FLIGHT = 4  # that a thread loads before it looks at the first
FEWEST_BLOCKS = 4  # worth their tickets: with less to share, one block takes the map


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    B: int
    K: int
    room: int  # in the workspace, of one map's list
    splits: int  # blocks that share a map
    block: _kernels.Size
    variant: _kernels.Variant
    blocks: _kernels.Blocks


@functools.lru_cache(maxsize=256)
def _plan(
    heatmaps: _view.Form,
    threshold: float,
    max_peaks: int,
    window: int,
    plateau: str,
    rule: Refinement,
    layout: str | None,
    activation: str | None,
    quantized: _check.Quantization,
) -> Plan:
    found = prepare(heatmaps, threshold, layout, activation, quantized)
    B, K, H, W = found.shape
    if H * W >= 2**31 or B * K >= 2**31:
        raise ValueError(
            f"heatmaps must have fewer than 2**31 maps of fewer than 2**31 cells, got {B * K} of {H} x {W}"
        )
    params = np.zeros(1, _kernels.parameters("peaks.cu"))
    _, strides = _check.channels_first(heatmaps, found.layout)
    for axis, stride in zip("bkyx", strides):
        params[f"stride_{axis}"] = stride
    params["K"], params["H"], params["W"], params["max_peaks"] = K, H, W, max_peaks
    side = window // 2 + 1  # strict peaks are more than window // 2 apart along an axis: each block of cells has one
    most = -(-H // side) * -(-W // side) if plateau == "none" else H * W
    threads = 2 * _kernels.THREADS if H * W >= LARGE_MAP else _kernels.THREADS
    splits = min(-(-H * W // (threads * CELLS_IN_FLIGHT)), busy_blocks(heatmaps.device) // max(B * K, 1))
    splits = splits if splits >= FEWEST_BLOCKS else 1
    params["room"] = room = most if splits > 1 else max(0, most - LISTED)
    params["least_key"], params["radius"] = _kernels.least_key(found.least, heatmaps.dtype), window // 2
    params["strict"], params["sigmoid"] = plateau == "none", activation == "sigmoid"
    set_refinement(params, rule)
    for _, scale, zero in quantized:
        params["scale"], params["zero"] = scale, zero
    variant = _kernels.peaks(_kernels.ELEMENTS[heatmaps.dtype])
    return Plan(B, K, room, splits, (threads, 1, 1), variant, _kernels.Blocks(params))
