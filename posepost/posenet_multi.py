"""PoseNet for all people in an image: local maxima, walks along the skeleton, acceptance, in three launches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _check, _kernels, _skeleton, _view
from ._dynamo import untraced
from ._launch import Decoder, Plan, element_number, planned, run
from ._rules import described
from ._rules.maps import channels_first
from ._rules.posenet_multi import ARGUMENTS, MODES, PoseNetMulti, least, rule, shape
from .ref import posenet_multi as ref
from .types import Poses


@untraced
def decode_posenet_multi(
    heatmaps: _view.Array,
    offsets: _view.Array,
    displacement_fwd: _view.Array,
    displacement_bwd: _view.Array,
    *,
    output_stride: float,
    max_poses: int = 20,
    score_threshold: float = 0.5,
    nms_radius: float = 20.0,
    mode: str = "tfjs",
    refinement_steps: int | None = None,
    skeleton: Sequence[tuple[int, int]] | None = None,
    layout: str | None = None,
    activation: str | None = None,
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: Poses | tuple[_view.Array, _view.Array, _view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Poses:
    """Decode PoseNet's four outputs into all people in each image.

    B images, K keypoints, E = K - 1 edges of the skeleton, maps of H rows and W columns, P = `max_poses`.

    Parameters
    ----------
    heatmaps : (B, K, H, W) or (B, H, W, K), float32, float16, bfloat16, uint8 or int8
        Confidence maps. Any strides but negative ones, no copy. Without B it is a batch of one.
    offsets : (B, 2K, H, W) or (B, H, W, 2K), any of the same types
        Pixels of the network's input to add to a cell's place: all y channels, then all x channels.
    displacement_fwd, displacement_bwd : (B, 2E, H, W) or (B, H, W, 2E), any of the same types
        Pixels from the parent of each edge to its child, and from the child to its parent: y channels, then x.
    output_stride : float
        Pixels of the network's input from one cell to the next: 8, 16, 32.
    max_poses : int
        Poses an image, at most.
    score_threshold : float
        Least score of a root, from 0 to 1. In modes "coral" and "edgetpu" also of a pose.
    nms_radius : float
        Pixels of the network's input. A root so near to the same keypoint of an accepted pose starts none.
    mode : "tfjs", "pytorch", "coral" or "edgetpu"
        Which reference implementation's rules: see Notes.
    refinement_steps : int
        How often an offset is followed after a displacement, in modes "coral" and "edgetpu"; None: 5, as Coral's
        operator. The others have a fixed number.
    skeleton : sequence of (parent, child)
        The edges, in the order of the displacement channels: a tree of at most 32 keypoints, whose root is the one
        that is no child. None: PoseNet's, of COCO's 17 keypoints from the nose. Mode "edgetpu" has no other.
    layout : "NCHW", "NHWC" or None
        None: inferred; offsets have twice the channels of heatmaps, and nothing else doubles.
    activation : "sigmoid" or None
        "sigmoid": the maps are logits and scores go through a sigmoid. None: the maps are scores already.
        "tfjs" and "pytorch" read the maps at cells only, so that both give the same poses unless logits saturate;
        "coral" and "edgetpu" interpolate what was given, and Coral gives logits.
    quantization : dict of argument name to (scale, zero_point)
        For each integer tensor; value = (q - zero_point) * scale. Peaks are found on the raw integers.
    transform : (2, 3) or (B, 2, 3), float32 on the device, or any real type on the host
        Affine map of (x, y, 1) from pixels of the input on to the image.
    out : Poses or (keypoints, keypoint_scores, scores, count)
        Where to write: C-contiguous, overlapping neither an input nor itself. count is int32, the others float32.
    stream : CuPy or PyTorch stream, anything with `__cuda_stream__`, or a pointer
        Where the three launches go; None: the current stream of the library of `heatmaps` on its device (PyTorch's for
        its tensors, else CuPy's). Ignored for host arrays.

    Returns
    -------
    Poses
        keypoints (B, P, K, 2) as (x, y), keypoint_scores (B, P, K), scores (B, P), count (B,), zero from count on.
        In order of acceptance for "tfjs" and "pytorch", by falling score for "coral" and "edgetpu".

    Raises
    ------
    TypeError for objects and dtypes, ValueError for shapes, ranges and devices. Each names the argument, the rule and
    what it got.

    Notes
    -----
    Roots: cells that reach the threshold and have no larger neighbor in their 3x3 window, clipped at the borders, on
    each map; equal neighbors are all roots. The comparison is that of `find_peaks`: exact, and before any
    exponential. Roots are taken in order of value as given, largest first; equal values by y, then x, then k.
    A NaN cell, a cell beside NaN and a cell of -inf are no roots. There is room for every root: none is left out.

    Suppression: root r of keypoint k starts no pose if an accepted pose q has dy * dy + dx * dx <= radius * radius,
    dy and dx from q's keypoint k to r. NaN is never near.

    Walk: from the keypoint that starts a pose up to the skeleton's root, then down every edge that leads to a keypoint
    not yet known. A keypoint's place depends on its path from the start alone, never on accepted poses.

    float32 arithmetic, each operation rounded, in the order written; s = output_stride, (y, x) pairs alike.
    cell(p) = floor(min(max(p / s + 0.5, 0), size - 1)); max and min as fmaxf and fminf, so that NaN becomes cell 0 and
    infinity the last cell. place(c, k) = c * s + offset[k, c].

    "tfjs": root place(c, k), score of its cell c. A step from p to keypoint t: q = p + D[cell(p)]; twice q =
    place(cell(q), t); score of cell(q).
    "pytorch": cell(p) rounds half to even, rint(min(max(p / s, 0), size - 1)); one refinement q = place(c, t) with c =
    cell(q), score of that c. Behind a keypoint whose score is not above 0 (denormals are not) keypoints and scores are
    0. A pose is accepted if its score is at least 0.5; one that is not neither counts nor suppresses.
    Score of a pose in both: (((s_0 + s_1) + ...) + s_(K-1)) / K where s_k counts as 0 if an earlier accepted pose has
    its keypoint k within the radius.

    "coral": in cells, i.e. offsets and displacements times 1 / s, radius / s. clamp(p) = min(max(p, 0), size - 1) as
    above. Root clamp(c + offset[k, c]); a step: q = clamp(p + D(p)), then `refinement_steps` times q = clamp(q +
    offset(q)[t]); score of t, and of the root, at the final q. Maps are read between cells: with i = floor(q), f = q -
    i, g = 1 - f: rows first, a * g + b * f along x, then along y; where f = 0 the result is a, whatever b is. The
    threshold gets 1e-6 added before it becomes a logit. A pose is accepted if the mean of its K scores is at least
    `score_threshold`; one that is not neither counts nor suppresses. At the end poses are sorted by that mean, a
    keypoint near the same keypoint of a better one counts 0 in a second mean as above, poses are sorted by that and
    those below the threshold dropped; both sorts keep the order of equal means. Pixels = cells * s.
    "edgetpu": as "coral", but the displacement from the left eye to the nose is read from channels 16 (forward, x of
    edge 0) and 0 (backward, y of edge 0) of the displacements, as edgetpu does in error.

    With "sigmoid" scores are rounded exponentials, which differ by up to 2 ulp between machines: a mean that is so near
    to 0.5 ("pytorch"), to `score_threshold` or to another pose's mean ("coral", "edgetpu") can fall on the other side
    of it. With scores and None the poses are the same bits everywhere.

    Infinite and NaN displacements and offsets give what these formulas give; places in pixels ("tfjs", "pytorch") can
    then be infinite or NaN, cells never leave the map.

    Source: tensorflow/tfjs-models@18a7342 posenet/src/multi_pose; rwightman/posenet-pytorch posenet/decode_multi.py;
    google-coral/libcoral@6589d0b coral/pose_estimation/posenet_decoder.cc; google-coral/edgetpu@5020de9
    src/cpp/posenet/posenet_decoder.cc.

    Examples
    --------
    >>> import numpy as np, posepost
    >>> heatmaps, offsets = np.full((17, 9, 9), -9, np.float32), np.zeros((34, 9, 9), np.float32)
    >>> heatmaps[:, 4, 4] = 9  # one person, all keypoints in one cell
    >>> steps = np.zeros((32, 9, 9), np.float32)
    >>> poses = posepost.decode_posenet_multi(heatmaps, offsets, steps, steps, output_stride=16, activation="sigmoid")
    >>> poses.count.tolist(), poses.keypoints[0, 0, 0].tolist()
    ([1], [64.0, 64.0])
    """
    options = (
        output_stride,
        max_poses,
        score_threshold,
        nms_radius,
        mode,
        refinement_steps,
        skeleton,
        layout,
        activation,
    )
    tensors = (heatmaps, offsets, displacement_fwd, displacement_bwd)
    found: Poses = run(POSENET_MULTI, tensors, options, quantization, transform, out, stream)
    return found


WALKED = 1024  # roots of an image whose walks are kept; those behind are walked when their turn comes


@functools.lru_cache(maxsize=256)
def _plan(forms: tuple[_view.Form, ...], rule: PoseNetMulti, quantized: _check.Quantization | None) -> Plan:
    specs, scales = described(ARGUMENTS, forms, quantized)
    heatmaps = specs[0]
    maps, edges = shape(rule, *specs)
    B, K, P = maps.B, maps.K, rule.max_poses
    room = K * maps.H * maps.W
    if room >= 2**31:
        raise ValueError(f"heatmaps must have fewer than 2**31 elements an image, got {room}")
    if B > 65535:
        raise ValueError(f"heatmaps must have at most 65535 images, got {B}")
    walked = min(room, WALKED)

    params = np.zeros(1, _kernels.parameters("posenet_multi.cu"))
    strides = [maps.heatmap_strides, maps.offset_strides]
    strides += [channels_first(spec, maps.layout)[1] for spec in specs[2:]]
    params["strides"] = np.ravel(strides)
    params["element"] = [element_number(spec.dtype) for spec in specs]
    params["scale"] = [scales.get(name, (1, 0))[0] for name in ARGUMENTS]
    params["zero"] = [scales.get(name, (1, 0))[1] for name in ARGUMENTS]
    params["K"], params["H"], params["W"], params["room"], params["walked"] = K, maps.H, maps.W, room, walked
    tree = _skeleton.tree(edges)
    for name in ("parent", "edge", "depth"):
        params[name][0, :K] = getattr(tree, name)
    params["longest"] = tree.longest
    least_element = least(rule, heatmaps.dtype, scales.get("heatmaps"))
    params["max_poses"], params["least_key"] = P, _kernels.least_key(least_element, heatmaps.dtype)
    params["mode"], params["refinements"] = MODES.index(rule.mode), rule.refinement_steps
    params["sigmoid"] = rule.activation == "sigmoid"
    params["channels_fastest"] = maps.heatmap_strides[1] < maps.heatmap_strides[3]
    params["output_stride"], params["radius"] = rule.output_stride, rule.squared_radius
    params["least_pose"] = rule.least_pose
    point = 3 * K
    grids = {
        "find_roots": (min(-(-room // (4 * _kernels.THREADS)), 4096), B, 1),
        "walk_roots": (-(-walked // (_kernels.THREADS // 32)), B, 1),  # a warp a kept walk; later roots in turn
        "accept_poses": (B, 1, 1),
    }
    element = _kernels.ELEMENTS[heatmaps.dtype]
    return planned(
        len(ARGUMENTS),
        params,
        shapes=((B, P, K, 2), (B, P, K), (B, P), (B,)),
        launches=tuple(
            (_kernels.posenet_multi(element, entry), grid, (_kernels.THREADS, 1, 1)) for entry, grid in grids.items()
        ),
        alignment=max(spec.itemsize for spec in specs),
        scratch=(
            B * room,  # roots
            B * room,  # their places
            -(-B * walked * point // 2),  # walks
            -(-B * P * point // 2),  # accepted poses
            -(-B * P // 2),  # their means
        ),
        zeroed=-(-B // 2),
        zeroed_sections=(0,),
    )


POSENET_MULTI = Decoder(ARGUMENTS, rule, _plan, ref.prepare, ref.decode, Poses)
