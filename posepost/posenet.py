"""PoseNet for one person: per-channel argmax, offset gather, sigmoid of the winner, affine, in one launch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import _check, _kernels, _view
from ._dynamo import untraced
from ._launch import Decoder, Plan, element_number, planned, run
from ._rules import described
from ._rules.maps import posenet_pair
from ._rules.posenet import ARGUMENTS, PoseNet, rule
from ._tiling import busy_blocks, tiling
from .ref import posenet as ref
from .types import Keypoints


@untraced
def decode_posenet(
    heatmaps: _view.Array,
    offsets: _view.Array,
    *,
    output_stride: float,
    layout: str | None = None,
    activation: str | None = None,
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: Keypoints | tuple[_view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Keypoints:
    """Decode PoseNet heatmaps and offsets into one person an image, in place.

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
        None: inferred; offsets have twice the channels of heatmaps, and nothing else doubles.
    activation : "sigmoid" or None
        "sigmoid": the maps are logits, and the winner's score goes through a sigmoid. The argmax is taken on what was
        given: logits that saturate to equal scores are still told apart. None: the maps are scores already.
    quantization : dict of argument name to (scale, zero_point)
        For each integer tensor; value = (q - zero_point) * scale. The argmax runs on the raw integers.
    transform : (2, 3) or (B, 2, 3), float32 on the device, or any real type on the host
        Affine map of (x, y, 1) from pixels of the input on to the image, in the same launch. One matrix on the host
        travels with the launch; one for each image on the host is uploaded first.
    out : Keypoints or (keypoints, scores)
        Where to write: float32, C-contiguous, on the device of the input, overlapping neither an input nor itself. Then
        nothing is allocated. Or the result of `posepost.pinned`: host memory that the kernel writes itself.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the launch goes; None: the current stream of the library of `heatmaps` on its device (PyTorch's for its
        tensors, else CuPy's). Ignored for host arrays.

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
    output_stride + offset, without fused multiply-add: kernel and NumPy implementation give the same bits, but for the
    exponential in a sigmoid.

    Examples
    --------
    >>> import numpy as np, posepost
    >>> heatmaps, offsets = np.full((1, 2, 3, 3), -9, np.float32), np.zeros((1, 4, 3, 3), np.float32)
    >>> heatmaps[0, :, 1, 2] = 9
    >>> people = posepost.decode_posenet(heatmaps, offsets, output_stride=16, activation="sigmoid")
    >>> people.keypoints[0].tolist()
    [[32.0, 16.0], [32.0, 16.0]]
    """
    options = (output_stride, layout, activation)
    found: Keypoints = run(POSENET, (heatmaps, offsets), options, quantization, transform, out, stream)
    return found


@functools.lru_cache(maxsize=256)
def _plan(forms: tuple[_view.Form, ...], rule: PoseNet, quantized: _check.Quantization | None) -> Plan:
    (heatmaps, offsets), scales = described(ARGUMENTS, forms, quantized)
    maps = posenet_pair(heatmaps, offsets, rule.layout)
    B, K = maps.B, maps.K
    tiles = tiling(maps, heatmaps.dtype, busy_blocks(heatmaps.device))
    if tiles.tiles >= 2**31:
        raise ValueError(f"heatmaps must have fewer than 2**31 maps, got {B} x {K}")

    params = np.zeros(1, _kernels.parameters("posenet.cu"))
    for axis, heatmap_stride, offset_stride in zip("bkyx", maps.heatmap_strides, maps.offset_strides):
        params[f"heatmap_stride_{axis}"], params[f"offset_stride_{axis}"] = heatmap_stride, offset_stride
    params["K"], params["H"], params["W"] = K, maps.H, maps.W
    params["runs"], params["channel_lanes"] = tiles.runs, tiles.channel_lanes
    params["offset_element"] = element_number(offsets.dtype)
    params["sigmoid"] = rule.activation == "sigmoid"
    params["output_stride"] = rule.output_stride
    for name, (scale, zero) in scales.items():
        prefix = name.removesuffix("s")
        params[f"{prefix}_scale"], params[f"{prefix}_zero"] = scale, zero
    variant = _kernels.posenet(_kernels.ELEMENTS[heatmaps.dtype], tiles.layout)
    return planned(
        len(ARGUMENTS),
        params,
        shapes=((B, K, 2), (B, K)),
        launches=((variant, (tiles.tiles, tiles.splits, 1), (tiles.block, 1, 1)),),
        alignment=max(heatmaps.itemsize, offsets.itemsize),
        zeroed=tiles.workspace(B * K),
        zeroed_sections=(0, 8 * B * K),
    )


POSENET = Decoder(ARGUMENTS, rule, _plan, ref.prepare, ref.decode, Keypoints)
