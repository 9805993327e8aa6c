"""PoseNet single-pose decoding: per-channel argmax, offset gather, sigmoid of the winner, affine, in one launch."""

from __future__ import annotations

import functools
import struct
from typing import Any, NamedTuple

import numpy as np

from . import _check, _kernels, _view, ref
from .types import PINNED, Keypoints, Origin, Writer, launched, on_device


def decode_posenet(
    heatmaps: _view.Array,
    offsets: _view.Array,
    *,
    output_stride: float,
    layout: str | None = None,
    activation: str | None = "sigmoid",
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: tuple[_view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Keypoints:
    """Decode PoseNet heatmaps and offsets into one person an image, where the tensors lie.

    B images, K keypoints (17 for COCO), maps of H rows and W columns. Axes in the order of `layout`.

    Parameters
    ----------
    heatmaps : (B, K, H, W) or (B, H, W, K), float32, float16, bfloat16, uint8 or int8
        Confidence maps. Any strides but negative ones, no copy. Without B it is a batch of one.
    offsets : (B, 2K, H, W) or (B, H, W, 2K), any of the same types
        Pixels of the network's input to add to a cell's place: all y channels, then all x channels.
    output_stride : float
        Pixels of the network's input from one cell to the next: 8, 16, 32.
    layout : "NCHW", "NHWC" or None
        None finds it: only along the channels have the offsets twice the size.
    activation : "sigmoid" or None
        "sigmoid": the maps are logits, and the winner's score goes through a sigmoid. The argmax is taken on what was
        given: logits that saturate to equal scores are still told apart. None: the maps are scores already.
    quantization : dict of argument name to (scale, zero_point)
        For each integer tensor; value = (q - zero_point) * scale. The argmax runs on the raw integers.
    transform : (2, 3) or (B, 2, 3), float32 on the device, or any real type on the host
        Affine map of (x, y, 1) from pixels of the input on to the image, in the same launch. One matrix on the host
        travels with the launch; one for each image on the host is uploaded first.
    out : Keypoints or (keypoints, scores)
        Where to write: float32, C-contiguous, on the device of the input. Then nothing is allocated. Or the result of
        `posepost.pinned`: host memory that the kernel writes itself.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the launch goes; None: the current stream of the library of `heatmaps` on its device (PyTorch's for its
        tensors, else CuPy's). No meaning for host arrays.

    Returns
    -------
    Keypoints
        keypoints (B, K, 2) float32 as (x, y) and scores (B, K) float32, in the library and on the device of
        `heatmaps` (for an OrtValue: CuPy on a device, NumPy on the host). Enqueued, not waited for: `.numpy()` waits.

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges and devices. Each names the argument, the rule and
    what it got.

    Notes
    -----
    Ties, NaN, infinities: the first largest cell in row-major order, as numpy.argmax. NaN is larger than all: the first
    NaN wins and is the score. -0 equals +0 and is written +0. A map of -inf gives cell 0. Offsets of inf or NaN give
    the formula's IEEE result. Nothing is clamped to the image.

    Source: decodeSinglePose, tensorflow/tfjs-models@18a7342, posenet/src/single_pose. Arithmetic in float32, x *
    output_stride + offset, without fused multiply-add: kernel and NumPy twin (posepost.ref) give the same bits, but for
    the exponential in a sigmoid.
    """
    pair = _view.glance(heatmaps, offsets) if quantization is None else None
    device = _view.device(heatmaps, "heatmaps") if pair is None else pair[1][3]
    if device is None:
        return ref.decode_posenet(
            heatmaps,
            offsets,
            output_stride=output_stride,
            layout=layout,
            activation=activation,
            quantization=quantization,
            transform=transform,
            out=out,
            stream=stream,
        )
    queue = _view.cupys_queue(device) if pair is not None and stream is None else _view.queue(heatmaps, device, stream)
    views: tuple[_view.View, ...] = ()
    try:
        if pair is not None:
            start, heatmap_facts, offset_start, offset_facts = pair
            plan, library = _plan(heatmap_facts, offset_facts, output_stride, layout, activation, None), "cupy"
        else:
            h = _view.view(heatmaps, "heatmaps", queue)
            views = h, (o := _view.view(offsets, "offsets", queue))
            library, start, offset_start = h.library, h.pointer, o.pointer
            quantized: _check.Quantization | None = None
            if quantization is not None:
                quantized = _check.quantization(quantization, {"heatmaps": h.form.dtype, "offsets": o.form.dtype})
            plan = _plan(h.form, o.form, output_stride, layout, activation, quantized)
    except TypeError:
        _check.output_stride(output_stride)  # a list cannot be looked up, and so was not checked there
        raise
    if (start | offset_start) % plan.alignment:
        for array, name in ((heatmaps, "heatmaps"), (offsets, "offsets")):
            _check.alignment(_view.view(array, name), name)
    if out is None:
        result = new_result(plan.shape, device, queue, library)
    else:
        result = given_result(out, plan.shape, plan.form, device, queue)
    origin = result.origin
    assert origin is not None

    B, K, _ = plan.shape
    block = plan.blocks.take()
    try:
        matrices = None if transform is None else set_transform(block.struct, transform, plan.form, B, queue)
        if B:
            work = _kernels.NO_WORK
            if plan.workspace:
                work = _kernels.work(plan.workspace, 0, device, queue.pointer, queue.holder)
            rows = matrices.pointer if matrices else 0
            tickets = work.zeroed + 8 * B * K
            put_addresses(
                block.words, 0, start, offset_start, rows, origin.keypoints, origin.scores, work.zeroed, tickets
            )
            kernel = _kernels.kernel(plan.variant)
            _kernels.cuda.launch(kernel, plan.grid, plan.block, block, device, queue.pointer)
            if work.captured:
                _kernels.done_with(work, device, queue.pointer)
    finally:
        plan.blocks.give_back(block, transform is not None)
    if views or matrices:
        _view.hold_inputs((*views, matrices), device, queue)
    elif stream is not None:
        _kernels.hold(device, queue.pointer, (heatmaps, offsets))
    if origin.library == PINNED or queue.pointer == _kernels.PER_THREAD_STREAM:
        result = launched(result, queue)
    if origin.library not in _view.ORDERED:
        return result
    keypoints, scores = _view.hand_over(result, device, queue.pointer, origin.library)
    return result if keypoints is result.keypoints else on_device(keypoints, scores, origin)


Shape = tuple[int, int, int]
"""Of keypoints: rows, keypoints, coordinates."""


def new_result(shape: Shape, device: int, queue: _view.Queue, library: str) -> Keypoints:
    """Keypoints, and their scores behind them in the same memory."""
    B, K, axes = shape
    points = B * K * axes
    first = _view.start_of_section(points, library)
    memory, address = _view.empty(first + B * K, device, queue.pointer, library)
    origin = Origin(device, library, address, address + 4 * first, queue.pointer, memory, shape, holder=queue.holder)
    return on_device(memory[:points].reshape(shape), memory[first:].reshape(B, K), origin)


def given_result(
    out: tuple[_view.Array, _view.Array], shape: Shape, reference: _view.Form, device: int, queue: _view.Queue
) -> Keypoints:
    """`out` with its addresses, checked where it is no result of such a call."""
    origin = out.origin if isinstance(out, Keypoints) else None
    if origin is None or origin.device != device or origin.shape != shape or origin.library == "jax":
        shapes = {"keypoints": (shape, "float32"), "scores": (shape[:2], "float32")}
        keypoints, scores = _check.outputs(out, shapes, reference, queue)
        origin = Origin(
            device,
            keypoints.library,
            keypoints.pointer,
            scores.pointer,
            queue.pointer,
            None,
            shape,
            holder=queue.holder,
        )
    elif (
        isinstance(out, Keypoints)
        and origin.stream == queue.pointer
        and (queue.holder is None or origin.holder is not None)
    ):
        return out
    return on_device(*out, on_stream(origin, queue))


def on_stream(origin: Origin, queue: _view.Queue) -> Origin:
    holder = origin.holder if isinstance(origin.holder, Writer) else queue.holder
    return origin._replace(stream=queue.pointer, holder=holder)


def set_transform(
    params: Any,
    transform: Any,
    reference: _view.Form,
    rows: int,
    queue: _view.Queue,
    reference_name: str = "heatmaps",
) -> _view.View | None:
    """Put one host matrix into the parameter block, or return the rows on the device, to be held until the launch."""
    found = _check.transform(transform, reference, rows, queue, reference_name)
    if isinstance(found, np.ndarray):
        if found.ndim == 2:
            params["affine"], params["matrix"] = BY_VALUE, found.ravel()
            return None
        assert reference.device is not None
        found = _view.view(_kernels.cuda.upload(found, reference.device, queue.pointer), "transform")
    params["affine"] = BY_POINTER
    params["transform_stride"] = found.form.strides[0] if len(found.form.shape) == 3 else 0
    return found


put_addresses = struct.Struct("7Q").pack_into  # at the head of Params
NO_MATRIX, BY_VALUE, BY_POINTER = 0, 1, 2  # Params.affine


class Launch(NamedTuple):
    """Which kernel runs a pair of maps, and on how many blocks: a function of their forms alone."""

    layout: str
    runs: int
    channel_lanes: int
    tiles: int
    splits: int
    block: int


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    form: _view.Form  # of the heatmaps
    shape: Shape
    variant: _kernels.Variant
    grid: _kernels.Size
    block: _kernels.Size
    alignment: int  # bytes: the larger element
    workspace: int  # words of 8 bytes; 0: no two blocks share a tile
    blocks: _kernels.Blocks


VECTOR_BYTES = 16
LOADS_IN_FLIGHT = 4  # 16-byte loads that a thread issues before it looks at the first
BLOCKS_OF_MULTIPROCESSOR = 4  # keep it busy: with fewer tiles than that on a GPU, several blocks share one
MANY = 2  # times as many maps: a small block each, so that many maps wait for their last loads side by side
LOADS_OF_MANY = 12  # 16-byte loads of a thread there


def busy_blocks(device: int | None) -> int:
    """As many blocks as keep the device busy."""
    return int(BLOCKS_OF_MULTIPROCESSOR * _kernels.cuda.multiprocessors(device))


def choose(maps: _check.Maps, dtype: str, busy: int) -> Launch:
    """The kernel and grid for heatmaps of these strides, on a GPU that `busy` blocks keep busy."""
    B, K, H, W = maps.B, maps.K, maps.H, maps.W
    _, stride_k, stride_y, stride_x = maps.heatmap_strides
    per_vector = VECTOR_BYTES // _view.ITEMSIZE[dtype]
    columns_touch, rows_touch = W == 1 or stride_x == 1, H == 1 or stride_y == W
    if columns_touch and (rows_touch or W >= 2 * per_vector):
        runs = 1 if rows_touch else H
        vectors = -(-H * W // per_vector)
        tiles = B * K
        loads = LOADS_OF_MANY if tiles >= MANY * busy else LOADS_IN_FLIGHT
        block = min(_kernels.THREADS, max(32, _power_of_two(-(-vectors // loads))))
        return Launch("PLANAR", runs, 1, tiles, _splits(tiles, vectors, block, busy), block)

    block = _kernels.THREADS
    dense = (K == 1 or stride_k == 1) and (W == 1 or stride_x == K) and (H == 1 or stride_y == W * K)
    if dense and K <= block and H * W * K < 2**32:
        vectors = -(-H * W * K // per_vector)
        return Launch("INTERLEAVED", 1, 1, B, _splits(B, vectors, block // K * K, busy), block)

    return split_element_by_element(maps, busy)


def split_element_by_element(maps: _check.Maps, busy: int) -> Launch:
    """The kernel for any strides, several blocks at a tile where that pays."""
    scalar = element_by_element(maps)
    cells, threads = maps.H * maps.W, scalar.block // scalar.channel_lanes
    return scalar._replace(splits=_splits(scalar.tiles, cells, threads, busy))


def element_by_element(maps: _check.Maps) -> Launch:
    """The kernel for any strides, no two blocks at one tile."""
    _, stride_k, _, stride_x = maps.heatmap_strides
    lanes = min(32, _power_of_two(maps.K)) if stride_k < stride_x else 1
    return Launch("STRIDED", 1, lanes, maps.B * -(-maps.K // lanes), 1, _kernels.THREADS)


def _splits(tiles: int, loads: int, threads: int, busy: int) -> int:
    """Blocks that share a tile: more than one only while the GPU has room and each thread still fills its loads."""
    wanted = -(-loads // (threads * LOADS_IN_FLIGHT))
    return max(1, min(wanted, busy // tiles if tiles else 1, 65535))


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


@functools.lru_cache(maxsize=256)
def _plan(
    heatmaps: _view.Form | _view.Facts,
    offsets: _view.Form | _view.Facts,
    output_stride: float,
    layout: str | None,
    activation: str | None,
    quantized: _check.Quantization | None,
) -> Plan:
    heatmaps, offsets = _view.as_form(heatmaps, "heatmaps"), _view.as_form(offsets, "offsets")
    _check.same_device(heatmaps, offsets, "offsets", "heatmaps")
    maps = _check.posenet_maps(heatmaps, offsets, layout)
    _check.output_stride(output_stride)
    _check.activation(activation)
    if quantized is None:
        quantized = _check.quantization(None, {"heatmaps": heatmaps.dtype, "offsets": offsets.dtype})
    launch = choose(maps, heatmaps.dtype, busy_blocks(heatmaps.device))
    if launch.tiles >= 2**31:
        raise ValueError(f"heatmaps must have fewer than 2**31 maps, got {maps.B} x {maps.K}")

    params = np.zeros(1, _kernels.parameters("posenet.cu"))
    for axis, heatmap_stride, offset_stride in zip("bkyx", maps.heatmap_strides, maps.offset_strides):
        params[f"heatmap_stride_{axis}"], params[f"offset_stride_{axis}"] = heatmap_stride, offset_stride
    params["K"], params["H"], params["W"] = maps.K, maps.H, maps.W
    params["runs"], params["channel_lanes"] = launch.runs, launch.channel_lanes
    params["offset_element"] = list(_kernels.ELEMENTS).index(offsets.dtype)
    params["sigmoid"] = activation == "sigmoid"
    params["output_stride"] = output_stride
    for name, scale, zero in quantized:
        prefix = name.removesuffix("s")
        params[f"{prefix}_scale"], params[f"{prefix}_zero"] = scale, zero
    return Plan(
        form=heatmaps,
        shape=(maps.B, maps.K, 2),
        variant=_kernels.posenet(_kernels.ELEMENTS[heatmaps.dtype], launch.layout),
        grid=(launch.tiles, launch.splits, 1),
        block=(launch.block, 1, 1),
        alignment=max(_view.ITEMSIZE[heatmaps.dtype], _view.ITEMSIZE[offsets.dtype]),
        workspace=0 if launch.splits == 1 else maps.B * maps.K + -(-launch.tiles // 2),
        blocks=_kernels.Blocks(params),
    )
