"""SimCC heads (RTMPose, RTMW, SimCC): argmax of two vectors a keypoint, DARK, visibility, flip test, in one launch."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from . import _check, _kernels, _view, ref
from .posenet import on_stream, set_transform
from .ref.simcc import ARGUMENTS, Options, half_taps, options, prepare
from .types import Keypoints, Origin, launched, on_device


def decode_simcc(
    simcc_x: _view.Array,
    simcc_y: _view.Array,
    *,
    split_ratio: float | None = None,
    refine: str | None = None,
    preset: str | None = None,
    sigma: Any = None,
    visibility: bool = False,
    beta: float = 150.0,
    threshold: float = 0.0,
    absent: float | None = -1.0,
    normalize: str | None = None,
    flipped_x: _view.Array | None = None,
    flipped_y: _view.Array | None = None,
    flip_pairs: Any = None,
    activation: str | None = None,
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: tuple[_view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Keypoints:
    """Decode the two vectors a keypoint of a SimCC head, as RTMPose has it, where the tensors lie, in one launch.

    N rows (a person or an image each), K keypoints, Wx bins along x and Wy along y: the network's input size times
    `split_ratio`.

    Parameters
    ----------
    simcc_x : (N, K, Wx), float32, float16, bfloat16, uint8 or int8
    simcc_y : (N, K, Wy), the same type
        Any strides but negative ones, no copy. Without N it is a batch of one.
    split_ratio : float
        Bins a pixel of the network's input: what places are divided by. 2 if not given.
    refine : "none" or "dark"
        Where between the bins the keypoint lies; see Notes. "none" if not given.
    preset : "rtmpose" or "simcc"
        Gives `split_ratio`, `refine` and `sigma` where the call does not: (2, "none", (4.9, 5.66)) for RTMPose on 192 x
        256, (2, "none", 6) for SimCC.
    sigma : float or (sigma_x, sigma_y)
        Of the codec with which the network was trained, in bins: the blur of "dark", up to 127 bins (sigma 19.6), the
        visibility and `normalize` depend on it. That of "rtmpose" if not given.
    visibility : bool
        The result has an attribute `visibility` (N, K): the smaller of both axes' largest softmax(beta * sigma *
        vector), in the same pass. It is computed from what was given; MMPose with `use_dark` overwrites its input with
        logarithms first, and reports another one then.
    beta : float
        MMPose's decode_beta.
    threshold, absent : float
        Where the score is not above `threshold`, both coordinates are `absent` bins (so -1 / split_ratio pixels, like
        MMPose) and nothing is refined; absent None keeps the place. NaN scores are above. With activation "sigmoid"
        the threshold is a probability.
    normalize : "clip", "sigma" or None
        Scores as the peaks of MMPose's get_simcc_normalized, which its heads show as heatmaps: the maxima cut to 0 ...
        1; "sigma": divided by sigma * sqrt(2 pi) first. Nothing but the score changes.
    flipped_x, flipped_y
        The same outputs for the mirrored image: value = (value + mirrored value) / 2, where x is read backwards.
    flip_pairs : (K,) ints
        The keypoint that stands for each one in the mirrored image: a permutation. Up to 512 keypoints on a device.
    activation : "sigmoid" or None
        "sigmoid": the vectors are logits, and the score goes through a sigmoid; nothing else does. None: they are
        scores already.
    quantization : dict of argument name to (scale, zero_point)
        For integer simcc_x and simcc_y (each with its flipped tensor); value = (q - zero_point) * scale. The argmax
        runs on the raw integers.
    transform : (2, 3) or (N, 2, 3), float32 on the device, or any real type on the host
        Affine map of (x, y, 1) from pixels of the input on to the image, in the same launch: see
        `posepost.crop_to_image`. Absent points go through it too.
    out : Keypoints or (keypoints, scores)
        Where to write: float32, C-contiguous, on the device of the input; then nothing is allocated but, where it has
        no room for it, the visibility. Or the result of `posepost.pinned`.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the launch goes; None: the current stream of the library of `simcc_x`
        (PyTorch's for its tensors, else CuPy's). No meaning for host arrays.

    Returns
    -------
    Keypoints
        keypoints (N, K, 2) as (x, y) and scores (N, K), the smaller of both maxima, float32, in the library and on the
        device of `simcc_x`. Enqueued, not waited for: `.numpy()` waits.

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges, names and devices.

    Notes
    -----
    The bin is the first largest, as numpy.argmax; NaN is larger than all, and a NaN on either axis makes the score NaN
    (MMPose shows one on the x axis alone). -0 equals +0 and is written +0.

    "dark": Newton's step on the logarithm of the vector after a Gaussian blur of k bins, k = (20 sigma - 7) // 3, less
    one if even, with OpenCV's sigma for k; zeros outside, scaled to the old maximum, clipped to 1e-3 ... 50. Vectors
    are not blurred as a whole: only five bins around the peak are, but where a clip could act. A maximum of at most
    1e-3 is not refined; one of NaN or infinity gives NaN. Nothing is clamped to the vector: on plateaus and at its
    ends the step can be long. Absent points stay at `absent`. So they do in MMPose, whose -1 reads bin 0 of a vector
    continued by its ends and has a step of 0; but that it gives NaN for an axis of zeros.

    float32 arithmetic without fused multiply-add, logarithms of + - * / alone: kernel and NumPy twin (posepost.ref)
    give the same points, bit for bit; exponentials differ by rounding. A GPU flushes means below 1.2e-38 to 0.

    Source: open-mmlab/mmpose 1.3.2 codecs/simcc_label.py, codecs/utils/post_processing.py (get_simcc_maximum,
    get_simcc_normalized, gaussian_blur1d), codecs/utils/refinement.py (refine_simcc_dark), models/utils/tta.py
    (flip_vectors).
    """
    device = _view.device(simcc_x, "simcc_x")
    if device is None:
        return ref.decode_simcc(
            simcc_x,
            simcc_y,
            split_ratio=split_ratio,
            refine=refine,
            preset=preset,
            sigma=sigma,
            visibility=visibility,
            beta=beta,
            threshold=threshold,
            absent=absent,
            normalize=normalize,
            flipped_x=flipped_x,
            flipped_y=flipped_y,
            flip_pairs=flip_pairs,
            activation=activation,
            quantization=quantization,
            transform=transform,
            out=out,
            stream=stream,
        )
    given = options(
        flip_pairs,
        sigma,
        preset=preset,
        split_ratio=split_ratio,
        refine=refine,
        visibility=visibility,
        beta=beta,
        threshold=threshold,
        absent=absent,
        normalize=normalize,
        activation=activation,
    )
    queue = _view.queue(simcc_x, device, stream)
    at = queue.pointer
    x, y = _view.view(simcc_x, "simcc_x", queue), _view.view(simcc_y, "simcc_y", queue)
    flip_x = None if flipped_x is None else _view.view(flipped_x, "flipped_x", queue)
    flip_y = None if flipped_y is None else _view.view(flipped_y, "flipped_y", queue)
    quantized: _check.Quantization | None = None
    if quantization is not None:
        quantized = _check.quantization(quantization, {"simcc_x": x.form.dtype, "simcc_y": y.form.dtype})
    forms = None if flip_x is None else flip_x.form, None if flip_y is None else flip_y.form
    plan = _plan(x.form, y.form, *forms, given, quantized)
    pointers = x.pointer, y.pointer, 0 if flip_x is None else flip_x.pointer, 0 if flip_y is None else flip_y.pointer
    if (pointers[0] | pointers[1] | pointers[2] | pointers[3]) % plan.alignment:
        for name, seen in zip(ARGUMENTS, (x, y, flip_x, flip_y)):
            if seen is not None:
                _check.alignment(seen, name)
    if out is None:
        result = _new_result(plan, device, queue, x.library)
    else:
        result = _given_result(out, plan, x.form, queue, x.library)
    origin = result.origin
    assert origin is not None

    N = plan.shape[0]
    block = plan.blocks.take()
    try:
        matrices = None if transform is None else set_transform(block.struct, transform, x.form, N, queue, "simcc_x")
        if N:
            rows, visible = matrices.pointer if matrices else 0, origin.visibility if plan.visibility else 0
            block.words[:8] = (*pointers, rows, origin.keypoints, origin.scores, visible)
            _kernels.cuda.launch(_kernels.kernel(plan.variant), plan.grid, plan.block, block, device, at)
    finally:
        plan.blocks.give_back(block, transform is not None)
    _view.hold_inputs((x, y, flip_x, flip_y, matrices), device, queue)
    result = launched(result, queue)
    if origin.library not in _view.ORDERED:
        return result
    arrays = (*result, result.visibility) if plan.visibility else tuple(result)
    handed = _view.hand_over(arrays, device, at, origin.library)
    return result if handed is arrays else _with_visibility(handed[0], handed[1], handed[2:], origin)


def _with_visibility(
    keypoints: _view.Array, scores: _view.Array, visibility: tuple[_view.Array, ...], origin: Origin
) -> Keypoints:
    result = on_device(keypoints, scores, origin)
    if visibility:
        result.visibility = visibility[0]
    return result


def _new_result(plan: Plan, device: int, queue: _view.Queue, library: str) -> Keypoints:
    N, K = plan.shape
    points, people = 2 * N * K, N * K
    first = _view.start_of_section(points, library)
    third = _view.start_of_section(first + people, library)
    size = third + people if plan.visibility else first + people
    memory, address = _view.empty(size, device, queue.pointer, library)
    seen = address + 4 * third if plan.visibility else 0
    origin = Origin(device, library, address, address + 4 * first, queue.pointer, memory, (N, K, 2), seen, queue.holder)
    visibility = (memory[third:].reshape(N, K),) if plan.visibility else ()
    scores = memory[first : first + people].reshape(N, K)
    return _with_visibility(memory[:points].reshape(N, K, 2), scores, visibility, origin)


def _given_result(
    out: tuple[_view.Array, _view.Array], plan: Plan, reference: _view.Form, queue: _view.Queue, library: str
) -> Keypoints:
    (N, K), at = plan.shape, queue.pointer
    assert reference.device is not None
    place = out.visibility if isinstance(out, Keypoints) and plan.visibility else None
    origin = out.origin if isinstance(out, Keypoints) else None
    known = origin is not None and origin.device == reference.device and origin.library != "jax"
    if origin is None or not known or out[0].shape != (N, K, 2) or (place is not None and not origin.visibility):
        keypoints, scores = _check.outputs(
            out, {"keypoints": ((N, K, 2), "float32"), "scores": ((N, K), "float32")}, reference, queue, "simcc_x"
        )
        origin = Origin(reference.device, keypoints.library, keypoints.pointer, scores.pointer, at, None, (N, K, 2))
        if place is not None:
            (seen,) = _check.outputs((place,), {"visibility": ((N, K), "float32")}, reference, queue, "simcc_x")
            origin = origin._replace(visibility=seen.pointer)
    elif (
        isinstance(out, Keypoints)
        and origin.stream == at
        and (queue.holder is None or origin.holder is not None)
        and (out.visibility is not None) == plan.visibility
    ):
        return out
    if plan.visibility and place is None:
        memory, address = _view.empty(N * K, reference.device, at, library)
        place, origin = memory.reshape(N, K), origin._replace(visibility=address)
    visibility = () if place is None else (place,)
    return _with_visibility(out[0], out[1], visibility, on_stream(origin, queue))


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    shape: tuple[int, int]  # N, K
    variant: _kernels.Variant
    grid: _kernels.Size
    block: _kernels.Size
    alignment: int  # bytes of an element
    visibility: bool
    blocks: _kernels.Blocks


MOST_PAIRS = 512  # Params.flip_pairs
TAPS = 64  # MOST_TAPS of the kernel: places for the taps of one axis
KEYPOINTS_OF_BLOCK = 4
BLOCKS_OF_MULTIPROCESSOR = 2  # keep it busy with this kernel


def choose(keypoints: int, busy: int) -> tuple[int, int]:
    """(blocks, threads of a block): two warps a keypoint; one keypoint a block while that gives the GPU more blocks."""
    of_block = KEYPOINTS_OF_BLOCK if keypoints >= KEYPOINTS_OF_BLOCK * busy else 1
    return -(-keypoints // of_block), 64 * of_block


@functools.lru_cache(maxsize=256)
def _plan(
    simcc_x: _view.Form,
    simcc_y: _view.Form,
    flipped_x: _view.Form | None,
    flipped_y: _view.Form | None,
    given: Options,
    quantized: _check.Quantization | None,
) -> Plan:
    found = prepare(simcc_x, simcc_y, flipped_x, flipped_y, given.flip_pairs, quantized)
    vectors = found.vectors
    if given.flip_pairs is not None and vectors.K > MOST_PAIRS:
        raise ValueError(f"flip_pairs must have at most {MOST_PAIRS} keypoints on a device, got {vectors.K}")
    params = np.zeros(1, _kernels.parameters("simcc.cu"))
    strides = {"stride": vectors.strides, "flipped_stride": vectors.flipped_strides or ()}
    for prefix, both in strides.items():
        for axis, by_dimension in enumerate(both):
            for dimension, stride in zip("nki", by_dimension):
                params[f"{prefix}_{dimension}"][0, axis] = stride
    params["total"], params["K"], params["W"] = vectors.N * vectors.K, vectors.K, vectors.W
    params["dark"] = given.blur is not None
    for axis, size in enumerate(given.blur or ()):
        taps = half_taps(size)
        params["radius"][0, axis] = size // 2
        params["taps"][0, axis * TAPS : axis * TAPS + len(taps)] = taps
    params["sigmoid"] = given.activation == "sigmoid"
    params["threshold_key"] = _kernels.key_of(given.threshold)
    params["absent"], params["split"] = given.absent, given.split_ratio
    params["scale"] = [1 if scale is None else scale[0] for scale in found.scales]
    params["zero"] = [0 if scale is None else scale[1] for scale in found.scales]
    params["sharpness"], params["normalizer"] = given.sharpness or 0, given.normalizer or 0
    if given.flip_pairs is not None:
        params["flip_pairs"][0, : vectors.K] = given.flip_pairs
    busy = BLOCKS_OF_MULTIPROCESSOR * _kernels.cuda.multiprocessors(simcc_x.device)
    blocks, threads = choose(vectors.N * vectors.K, busy)
    return Plan(
        shape=(vectors.N, vectors.K),
        variant=_kernels.simcc(_kernels.ELEMENTS[simcc_x.dtype], flipped_x is not None),
        grid=(blocks, 1, 1),
        block=(threads, 1, 1),
        alignment=_view.ITEMSIZE[simcc_x.dtype],
        visibility=given.sharpness is not None,
        blocks=_kernels.Blocks(params),
    )
