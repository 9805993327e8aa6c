"""SimCC (RTMPose, RTMW): argmax of two vectors a keypoint, DARK, visibility, flip test, in one launch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import _check, _kernels, _view
from ._dynamo import untraced
from ._launch import Decoder, Plan, planned, run, set_flip_pairs
from ._rules import described
from ._rules.flip import Flip, vectors
from ._rules.refinement import gaussian_taps
from ._rules.simcc import ARGUMENTS, SimCC, rule, shape
from ._tiling import busy_blocks, vector_blocks
from .ref import simcc as ref
from .types import Keypoints


@untraced
def decode_simcc(
    simcc_x: _view.Array,
    simcc_y: _view.Array,
    *,
    split_ratio: float | None = None,
    refine: str | None = None,
    preset: str | None = None,
    sigma: Any = None,
    score: str | None = None,
    visibility: bool = False,
    beta: float = 150.0,
    threshold: float | None = None,
    absent: float | None = -1.0,
    normalize: str | None = None,
    flip: Flip | None = None,
    activation: str | None = None,
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: Keypoints | tuple[_view.Array, _view.Array] | None = None,
    stream: Any = None,
    **renamed: Any,
) -> Keypoints:
    """Decode the two vectors a keypoint of a SimCC head, as RTMPose has it, in place, in one launch.

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
    preset : "rtmpose", "rtmpose_rtmlib" or "simcc"
        Gives `split_ratio`, `refine`, `sigma` and `score` where the call does not: (2, "none", (4.9, 5.66), "min") for
        RTMPose on 192 x 256 as MMPose decodes it, the same with "mean" as rtmlib does, (2, "none", 6, "min") for SimCC.
    sigma : float or (sigma_x, sigma_y)
        Of the codec with which the network was trained, in bins: the blur of "dark", up to 127 bins (sigma 19.6), the
        visibility and `normalize` depend on it. That of "rtmpose" if not given.
    score : "min" or "mean"
        Of both axes' maxima: the smaller, as in MMPose, or half their sum, as in rtmlib, which is never smaller. It
        decides what is absent. "min" if not given; "mean" is not for logits.
    visibility : bool
        The result has `visibility` (N, K): the smaller of both axes' largest softmax(beta * sigma *
        vector), in the same pass. It is computed from what was given; MMPose with `use_dark` overwrites its input with
        logarithms first, and reports another one then.
    beta : float
        MMPose's decode_beta.
    threshold, absent : float
        Where the score is below `threshold`, both coordinates are `absent` bins (so -1 / split_ratio pixels, like
        MMPose) and nothing is refined; absent None keeps the place. NaN scores are not below. With activation "sigmoid"
        the threshold is a probability. Not given: scores of 0 and less are absent, as in MMPose.
    normalize : "clip", "sigma" or None
        Scores as the peaks of MMPose's get_simcc_normalized, which its heads show as heatmaps: the maxima cut to 0 ...
        1; "sigma": divided by sigma * sqrt(2 pi) first. Nothing but the score changes.
    flip : posepost.Flip((simcc_x, simcc_y), pairs)
        The outputs for the mirrored image, averaged with these in the same launch; x is read backwards.
    activation : "sigmoid" or None
        "sigmoid": the vectors are logits, and the score goes through a sigmoid; nothing else does. None: they are
        scores already.
    quantization : dict of argument name to (scale, zero_point)
        For integer simcc_x and simcc_y (and the mirrored ones); value = (q - zero_point) * scale. The argmax
        runs on the raw integers.
    transform : (2, 3) or (N, 2, 3), float32 on the device, or any real type on the host
        Affine map of (x, y, 1) from pixels of the input on to the image, in the same launch: see
        `posepost.crop_to_image`. Absent points go through it too.
    out : Keypoints or (keypoints, scores)
        Where to write: float32, C-contiguous, on the device of the input, overlapping neither an input nor itself; then
        nothing is allocated but, where it has no room for it, the visibility. Or the result of `posepost.pinned`.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the launch goes; None: the current stream of the library of `simcc_x` on its device (PyTorch's for its
        tensors, else CuPy's). Ignored for host arrays.

    Returns
    -------
    Keypoints
        keypoints (N, K, 2) as (x, y) and scores (N, K), the smaller or the mean of both maxima, float32, in the library
        and on the device of `simcc_x`. Enqueued, not waited for: `.numpy()` waits.

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges, names and devices. An old name of an
    argument is a TypeError that says the new one.

    Notes
    -----
    The bin is the first largest, as numpy.argmax; NaN is larger than all, and a NaN on either axis makes the score NaN
    (MMPose shows one on the x axis alone). -0 equals +0 and is written +0.

    "dark": Newton's step on the logarithm of the vector after a Gaussian blur of k bins, k = (20 sigma - 7) // 3, less
    one if even, with OpenCV's sigma for k; zeros outside, scaled to the old maximum, clipped to 1e-3 ... 50. Vectors
    are not blurred as a whole: only five bins around the peak are, but where a clip could act. A maximum of at most
    1e-3 is not refined; one of NaN or infinity gives NaN. Nothing is clamped to the vector: on plateaus and at its
    ends the step can be long. Absent points stay at `absent`. So they do in MMPose, whose -1 reads bin 0 of a vector
    continued by its ends and has a step of 0, except that it gives NaN for an axis of zeros.

    float32 arithmetic without fused multiply-add, logarithms of + - * / alone: kernel and NumPy implementation give
    the same points, bit for bit; exponentials differ by rounding. A GPU flushes means below 1.2e-38 to 0.

    Source: open-mmlab/mmpose 1.3.2 codecs/simcc_label.py, codecs/utils/post_processing.py (get_simcc_maximum,
    get_simcc_normalized, gaussian_blur1d), codecs/utils/refinement.py (refine_simcc_dark), models/utils/tta.py
    (flip_vectors). "rtmpose_rtmlib": Tau-J/rtmlib 0.0.16 tools/pose_estimation/post_processings.py (get_simcc_maximum).

    Examples
    --------
    >>> import numpy as np, posepost
    >>> simcc_x, simcc_y = np.zeros((1, 1, 384), np.float32), np.zeros((1, 1, 512), np.float32)
    >>> simcc_x[0, 0, 100], simcc_y[0, 0, 300] = 0.9, 0.8
    >>> people = posepost.decode_simcc(simcc_x, simcc_y, preset="rtmpose")
    >>> people.keypoints.tolist(), people.scores.tolist() == [[np.float32(0.8)]]
    ([[[50.0, 150.0]]], True)
    """
    if renamed:
        _check.renamed("decode_simcc", renamed, RENAMED)
    flipped_x = flipped_y = pairs = None
    if flip is not None:
        flipped_x, flipped_y, pairs = vectors(flip)
    options = (
        preset,
        split_ratio,
        refine,
        sigma,
        score,
        visibility,
        beta,
        threshold,
        absent,
        normalize,
        pairs,
        activation,
    )
    arrays = (simcc_x, simcc_y, flipped_x, flipped_y)
    found: Keypoints = run(SIMCC, arrays, options, quantization, transform, out, stream)
    return found


RENAMED = {
    "flipped_x": "flip=posepost.Flip((simcc_x, simcc_y), pairs)",
    "flipped_y": "flip=posepost.Flip((simcc_x, simcc_y), pairs)",
    "flip_pairs": "flip=posepost.Flip((simcc_x, simcc_y), pairs)",
}

TAPS = 64  # MOST_TAPS of the kernel: places for the taps of one axis
BLOCKS_OF_MULTIPROCESSOR = 2  # keep it busy with this kernel


@functools.lru_cache(maxsize=256)
def _plan(forms: tuple[_view.Form | None, ...], rule: SimCC, quantized: _check.Quantization | None) -> Plan:
    specs, scales = described(ARGUMENTS, forms, quantized, optional=2)
    found = shape(rule, *specs)
    N, K = found.N, found.K
    simcc_x = specs[0]
    params = np.zeros(1, _kernels.parameters("simcc.cu"))
    strides = {"stride": found.strides, "flipped_stride": found.flipped_strides or ()}
    for prefix, both in strides.items():
        for axis, by_dimension in enumerate(both):
            for dimension, stride in zip("nki", by_dimension):
                params[f"{prefix}_{dimension}"][0, axis] = stride
    params["total"], params["K"], params["W"] = N * K, K, found.W
    params["dark"] = rule.blur is not None
    for axis, size in enumerate(rule.blur or ()):
        taps = gaussian_taps(size)[size // 2 :]
        params["radius"][0, axis] = size // 2
        params["taps"][0, axis * TAPS : axis * TAPS + len(taps)] = taps
    params["mean"] = rule.score == "mean"
    params["sigmoid"] = rule.activation == "sigmoid"
    params["threshold_key"] = _kernels.key_below(rule.least)
    params["absent"], params["split"] = rule.absent, rule.split_ratio
    params["scale"] = [scales.get(name, (1, 0))[0] for name in ARGUMENTS[:2]]
    params["zero"] = [scales.get(name, (1, 0))[1] for name in ARGUMENTS[:2]]
    params["sharpness"], params["normalizer"] = rule.sharpness or 0, rule.normalizer or 0
    set_flip_pairs(params, rule.flip_pairs)
    blocks, threads = vector_blocks(N * K, busy_blocks(simcc_x.device, BLOCKS_OF_MULTIPROCESSOR))
    variant = _kernels.simcc(_kernels.ELEMENTS[simcc_x.dtype], specs[2] is not None)
    return planned(
        len(ARGUMENTS),
        params,
        shapes=((N, K, 2), (N, K)) if rule.sharpness is None else ((N, K, 2), (N, K), (N, K)),
        launches=((variant, (blocks, 1, 1), (threads, 1, 1)),),
        alignment=simcc_x.itemsize,
    )


SIMCC = Decoder(ARGUMENTS, rule, _plan, ref.prepare, ref.decode, Keypoints)
