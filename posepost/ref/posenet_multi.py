"""The NumPy twin of posepost.decode_posenet_multi."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _skeleton, _view
from ..types import Poses
from .peaks import activated, comparable, is_peak, least_raw
from .posenet import Scales, affine, dequantize

Array = np.ndarray[Any, Any]

REFINEMENTS = {"tfjs": 2, "pytorch": 1, "coral": 5, "edgetpu": 5}
SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal  # scores below it are 0 where a device flushes denormals
LEAST_POSE_SCORE = np.float32(0.5)  # of mode "pytorch"


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
    activation: str | None = "sigmoid",
    quantization: dict[str, tuple[float, int]] | None = None,
    transform: Any = None,
    out: tuple[_view.Array, _view.Array, _view.Array, _view.Array] | None = None,
    stream: Any = None,
) -> Poses:
    """Decode PoseNet's four outputs into everybody in each image.

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
        Which peer's rules: see Notes.
    refinement_steps : int
        How often an offset is followed after a displacement, in modes "coral" and "edgetpu"; None: 5, as Coral's
        operator. The others have a fixed number.
    skeleton : sequence of (parent, child)
        The edges, in the order of the displacement channels: a tree of at most 32 keypoints, whose root is the one
        that is no child. None: PoseNet's, of COCO's 17 keypoints from the nose. Mode "edgetpu" has no other.
    layout : "NCHW", "NHWC" or None
        None finds it: only along the channels have the offsets twice the size.
    activation : "sigmoid" or None
        "sigmoid": the maps are logits and scores go through a sigmoid. None: the maps are scores already.
        "tfjs" and "pytorch" read the maps at cells only, so that both give the same poses unless logits saturate;
        "coral" and "edgetpu" interpolate what was given, and Coral gives logits.
    quantization : dict of argument name to (scale, zero_point)
        For each integer tensor; value = (q - zero_point) * scale. Peaks are found on the raw integers.
    transform : (2, 3) or (B, 2, 3), any real type
        Affine map of (x, y, 1) from pixels of the input on to the image.
    out : Poses or (keypoints, keypoint_scores, scores, count)
        Where to write: C-contiguous. count is int32, the others float32.
    stream
        No meaning for host arrays.

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
    Roots: cells that reach the threshold and have no larger neighbour in their 3x3 window, clipped at the borders, on
    each map; equal neighbours are all roots. The comparison is that of `find_peaks`: exact, and before any
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

    Infinite and NaN displacements and offsets give what these formulas give; places in pixels ("tfjs", "pytorch") can
    then be infinite or NaN, cells never leave the map.

    Source: tensorflow/tfjs-models@18a7342 posenet/src/multi_pose; rwightman/posenet-pytorch posenet/decode_multi.py;
    google-coral/libcoral@6589d0b coral/pose_estimation/posenet_decoder.cc; google-coral/edgetpu@5020de9
    src/cpp/posenet/posenet_decoder.cc.
    """
    tensors = {
        "heatmaps": heatmaps,
        "offsets": offsets,
        "displacement_fwd": displacement_fwd,
        "displacement_bwd": displacement_bwd,
    }
    views = {name: _view.view(array, name) for name, array in tensors.items()}
    forms = tuple(view.form for view in views.values())
    quantized = _check.quantization(quantization, {name: view.form.dtype for name, view in views.items()})
    _check.output_stride(output_stride)
    edges = _check.pairs(skeleton)
    _check.posenet_multi_options(max_poses, score_threshold, nms_radius, mode, refinement_steps, edges)
    _check.activation(activation)
    with np.errstate(all="ignore"):
        numbers = (float(output_stride), float(score_threshold), float(nms_radius))
        plan = _prepare(*forms, *numbers, mode, refinement_steps, edges, layout, activation, quantized)
        B, K = plan.maps.B, plan.maps.K
        results = {
            "keypoints": ((B, max_poses, K, 2), "float32"),
            "keypoint_scores": ((B, max_poses, K), "float32"),
            "scores": ((B, max_poses), "float32"),
            "count": ((B,), "int32"),
        }
        matrix = None if transform is None else _check.transform(transform, forms[0], B)
        assert not isinstance(matrix, _view.View)  # a device array has been refused
        if out is None:
            keypoints, keypoint_scores, scores, count = arrays = [np.zeros(*result) for result in results.values()]
        else:
            arrays = [_view.as_numpy(seen) for seen in _check.outputs(out, results, forms[0])]
            keypoints, keypoint_scores, scores, count = arrays
            for array in arrays:
                array[...] = 0

        maps = [_view.as_numpy(view) for view in views.values()]
        maps = [array if array.ndim == 4 else array[None] for array in maps]
        for b in range(B):
            points, point_scores, pose_scores = _decode(plan, [image[b] for image in maps], max_poses)
            found = len(pose_scores)
            if matrix is not None:
                points = affine(points, matrix if matrix.ndim == 2 else matrix[b])
            keypoints[b, :found], keypoint_scores[b, :found], scores[b, :found] = points, point_scores, pose_scores
            count[b] = found

    if out is not None:
        return Poses(*out)
    library = views["heatmaps"].library
    return Poses(*(_view.from_numpy(array, library) for array in arrays))


class Tree(NamedTuple):
    """A skeleton's keypoints by their distance from its root: inside this file arrays of keypoints, (2, K, n) or (K, n)
    with n candidates, are in this order, so that the keypoints of one distance lie side by side, parents before
    children."""

    keypoints: Array  # in this order
    rank: Array  # of each keypoint
    depths: Array
    parents: Array  # the root's is the root
    edges: Array  # to the parent
    on_the_way_up: Array  # [keypoint, start]: on the path from the start to the root
    levels: tuple[slice, ...]  # of equal depth, from 1 on


@functools.lru_cache(maxsize=64)
def _tree(edges: _skeleton.Edges) -> Tree:
    parent, edge, depth, _ = map(np.array, _skeleton.tree(edges))
    order = np.argsort(depth, kind="stable")
    rank = np.argsort(order)
    depths, parents = depth[order], rank[parent[order]]
    on_the_way_up = np.eye(len(order), dtype=bool)
    for keypoint in range(1, len(order)):
        on_the_way_up[:, keypoint] |= on_the_way_up[:, parents[keypoint]]
    starts = np.searchsorted(depths, range(1, depths[-1] + 2))
    levels = tuple(slice(int(first), int(last)) for first, last in itertools.pairwise(starts))
    return Tree(order, rank, depths, parents, edge[order], on_the_way_up, levels)


LEFT_EYE = 1  # in either order of PoseNet's keypoints


class Channels(NamedTuple):
    """Where the y and x channels of each keypoint, or of its edge to its parent, begin; and the strides of a cell."""

    begin: Array  # (2, K, 1); heatmaps: (1, K, 1)
    levels: tuple[Array, ...]  # `begin` of the keypoints of each depth, from 1 on
    cell: Array  # (2, 1, 1): of y and of x

    def of(self, keypoints: Array) -> Array:
        """`begin` of one keypoint a candidate, (n,) -> (2, 1, n)."""
        return self.begin[:, :, 0].take(keypoints, axis=1)[:, None]


class Plan(NamedTuple):
    """All of a call that does not change from frame to frame."""

    maps: _check.Maps
    tree: Tree
    coral: bool
    mode: str
    steps: int
    activation: str | None
    least: float | int  # raw value of a root
    least_pose: np.float32
    radius: np.float32  # squared, in pixels or, for coral, in cells
    stride: np.float32
    sides: Array  # (2, 1, 1) float32: H - 1 and W - 1
    tensors: tuple[tuple[Channels, tuple[np.float32, np.float32] | None], ...]  # of the four arguments


@functools.lru_cache(maxsize=16)
def _prepare(
    heatmaps: _view.Form,
    offsets: _view.Form,
    displacement_fwd: _view.Form,
    displacement_bwd: _view.Form,
    output_stride: float,
    score_threshold: float,
    nms_radius: float,
    mode: str,
    refinement_steps: int | None,
    skeleton: _skeleton.Edges | None,
    layout: str | None,
    activation: str | None,
    quantized: _check.Quantization,
) -> Plan:
    maps, edges = _check.posenet_multi_maps(heatmaps, offsets, displacement_fwd, displacement_bwd, layout, skeleton)
    tree = _tree(edges)
    scales: Scales = {name: (np.float32(scale), np.float32(zero)) for name, scale, zero in quantized}
    coral = mode in ("coral", "edgetpu")
    _, fwd = _check.channels_first(displacement_fwd, maps.layout)
    _, bwd = _check.channels_first(displacement_bwd, maps.layout)
    margin = 1e-6 if coral and activation == "sigmoid" else 0.0
    radius = nms_radius / output_stride if coral else nms_radius
    y_channels, x_channels = tree.edges, len(edges) + tree.edges
    x_of_bwd = x_channels.copy()
    if mode == "edgetpu":
        x_of_bwd[LEFT_EYE] = 0
    return Plan(
        maps=maps,
        tree=tree,
        coral=coral,
        mode=mode,
        steps=REFINEMENTS[mode] if refinement_steps is None else int(refinement_steps),
        activation=activation,
        least=least_raw(score_threshold, activation, heatmaps.dtype, scales.get("heatmaps"), margin),
        least_pose=np.float32(score_threshold) if coral else LEAST_POSE_SCORE,
        radius=np.float32(radius) * np.float32(radius),
        stride=np.float32(output_stride),
        sides=np.array([maps.H - 1, maps.W - 1], np.float32)[:, None, None],
        tensors=(
            (_channels(tree, maps.heatmap_strides, [tree.keypoints]), scales.get("heatmaps")),
            (_channels(tree, maps.offset_strides, [tree.keypoints, maps.K + tree.keypoints]), scales.get("offsets")),
            (_channels(tree, fwd, [y_channels, x_channels]), scales.get("displacement_fwd")),
            (_channels(tree, bwd, [y_channels, x_of_bwd]), scales.get("displacement_bwd")),
        ),
    )


def _channels(tree: Tree, strides: tuple[int, int, int, int], channels: list[Array]) -> Channels:
    _, k, y, x = strides
    begin = np.array(channels)[:, :, None] * k
    return Channels(begin, tuple(begin[:, level] for level in tree.levels), np.array([y, x])[:, None, None])


class Tensor(NamedTuple):
    """One image's tensor: its elements from the first on, where its channels are, how to dequantise."""

    flat: Array
    channels: Channels
    scale: tuple[np.float32, np.float32] | None

    def read(self, place: Array) -> Array:
        values = self.flat.take(place)
        return values if self.scale is None and values.dtype == np.float32 else dequantize(values, self.scale)


def _tensor(image: Array, channels: Channels, scale: tuple[np.float32, np.float32] | None) -> Tensor:
    if image.flags.c_contiguous:
        return Tensor(image.reshape(-1), channels, scale)
    span = sum((size - 1) * stride for size, stride in zip(image.shape, image.strides)) // image.itemsize + 1
    flat = np.lib.stride_tricks.as_strided(image, (span,), (image.itemsize,), writeable=False)
    return Tensor(flat, channels, scale)


def _decode(plan: Plan, images: list[Array], max_poses: int) -> tuple[Array, Array, Array]:
    """One image, its tensors as they lie -> (p, K, 2), (p, K) and (p,)."""
    heat = images[0] if plan.maps.layout == "NHWC" else images[0].transpose(1, 2, 0)
    values = comparable(heat)
    place = np.flatnonzero((values >= plan.least) & is_peak(values, 0, 1, 1, "all"))  # by y, then x, then k
    cell, k = np.divmod(place, plan.maps.K)
    y, x = np.divmod(cell, plan.maps.W)
    order = np.argsort(-values[y, x, k].astype(np.float32), kind="stable")
    cells = np.array([y[order], x[order]], np.float32)
    tensors = [_tensor(image, *where) for image, where in zip(images, plan.tensors)]
    return (_coral if plan.coral else _nearest)(plan, tensors, cells, k[order], max_poses)


Walk = Callable[[Array], tuple[Array, Array]]
"""Candidates (n,) -> all their keypoints (2, K, n) as (y, x) and scores (K, n), in the order of the heatmaps."""

CHUNK = 128  # candidates that are walked at a time: bounds the memory, and walks few that an accepted pose suppresses


def _accept(
    plan: Plan, places: Array, k: Array, max_poses: int, walk: Walk, mean_of_all: bool, mean_of_free: bool
) -> tuple[Array, Array]:
    """Candidates in their order, roots at `places` (2, N) -> accepted poses (2, K, p) and scores (K, p).

    mean_of_all, mean_of_free : whether the mean score of a pose, of all its keypoints or of those that are near to no
    accepted pose, has to reach `plan.least_pose`.
    """
    points, scores = np.empty((2, plan.maps.K, 0), np.float32), np.empty((plan.maps.K, 0), np.float32)
    rest = np.arange(len(k))
    while len(rest) and points.shape[2] < max_poses:
        now, rest = rest[:CHUNK], rest[CHUNK:]
        walked, walked_scores = walk(now)
        roots, of = places[:, now], k[now]
        passed = np.zeros(len(now), bool)
        if mean_of_all:
            passed = ~(_mean(walked_scores) >= plan.least_pose)
        if mean_of_free:
            taken = _near_any(points, walked, plan.radius)
        accepted: list[int] = []
        while points.shape[2] + len(accepted) < max_poses:
            blocked = passed
            if mean_of_free:
                blocked = passed | ~(_mean(np.where(taken, np.float32(0), walked_scores)) >= plan.least_pose)
            best = int(blocked.argmin())
            if blocked[best]:
                break
            accepted.append(best)
            passed |= _near(walked[:, of, best], roots, plan.radius)
            passed[: best + 1] = True
            if mean_of_free:
                taken |= _near(walked[:, :, best, None], walked, plan.radius)
        points = np.concatenate([points, walked[:, :, accepted]], axis=2)
        scores = np.concatenate([scores, walked_scores[:, accepted]], axis=1)
        for best in accepted if len(rest) else []:
            rest = rest[~_near(walked[:, k[rest], best], places[:, rest], plan.radius)]
    return points, scores


def _near(a: Array, b: Array, radius: np.float32) -> Array:
    """(2, ...) -> (...): dy * dy + dx * dx <= radius, the square of nms_radius."""
    apart = a - b
    apart *= apart
    near: Array = apart[0] + apart[1] <= radius
    return near


def _near_any(points: Array, walked: Array, radius: np.float32) -> Array:
    """(2, K, p) and (2, K, n) -> (K, n): whether a keypoint is near the same keypoint of one of p poses."""
    near = np.zeros(walked.shape[1:], bool)
    for first in range(0, points.shape[2], 64):  # bounds the memory
        near |= _near(points[:, :, first : first + 64, None], walked[:, :, None], radius).any(axis=1)
    return near


def _mean(scores: Array) -> Array:
    """(K, n) -> (n,): added up in order, then divided."""
    mean: Array = np.cumsum(scores, axis=0, dtype=np.float32)[-1] / np.float32(len(scores))
    return mean


def _free_mean(points: Array, scores: Array, radius: np.float32) -> Array:
    """(2, K, p) and (K, p) -> (p,): mean score where keypoints near the same one of an earlier pose count as 0."""
    free = scores.copy()
    p = scores.shape[1]
    for first in range(0, p, 64):  # bounds the memory
        last = min(first + 64, p)
        near = _near(points[:, :, first:last, None], points[:, :, None, :last], radius)
        near &= np.arange(first, last)[:, None] > np.arange(last)
        free[:, first:last][near.any(axis=2)] = 0
    return _mean(free)


Step = Callable[[Array, Tensor, Array, Array, "Array | None"], Array]
"""States (S, E, n) at the starts of edges, the displacements to follow, where their channels and those of the targets'
offsets begin, (2, E, 1) or (2, 1, n), and on the way up the starts (n,) -> states at the targets. The first two rows of
a state are y and x."""


def _walk(plan: Plan, tensors: list[Tensor], start: Array, k: Array, step: Step) -> Array:
    """States (S, n) of roots k, in the tree's order -> states (S, K, n) of all keypoints."""
    _, offset, forward, backward = tensors
    tree, n = plan.tree, len(k)
    candidate = np.arange(n)
    states = np.empty((len(start), plan.maps.K, n), np.float32)
    flat = states.reshape(len(start), -1)
    flat[:, k * n + candidate] = start
    reached = k.copy()
    for depth in range(tree.depths[-1], 0, -1):
        (these,) = np.nonzero(tree.depths[reached] == depth)
        if len(these):
            source = reached.take(these)
            target = reached[these] = tree.parents.take(source)
            start = flat.take(source * n + these, axis=1)[:, None]
            to = step(start, backward, backward.channels.of(source), offset.channels.of(target), source)
            flat[:, target * n + these] = to[:, 0]
    unknown = ~tree.on_the_way_up[:, k]
    for level, edges, targets in zip(tree.levels, forward.channels.levels, offset.channels.levels):
        to = step(states.take(tree.parents[level], axis=1), forward, edges, targets, None)
        np.copyto(states[:, level], to, where=unknown[level])
    return states


def _nearest(plan: Plan, tensors: list[Tensor], cells: Array, k: Array, max_poses: int) -> tuple[Array, Array, Array]:
    """Modes "tfjs" and "pytorch". A state: y, x; their cell; the cell that gives the score."""
    heat, offset, _, _ = tensors
    stride, sides, pytorch = plan.stride, plan.sides, plan.mode == "pytorch"
    rank_of = plan.tree.rank
    ranks, zero, half = rank_of.take(k), np.float32(0), np.float32(0.5)

    def cell(points: Array, out: Array | None = None) -> Array:
        at = np.divide(points, stride, out=out)
        if not pytorch:
            at += half
        np.fmax(at, zero, out=at)
        np.minimum(at, sides, out=at)
        return np.rint(at, out=at) if pytorch else np.floor(at, out=at)

    def place(at: Array, target: Array, out: Array | None = None) -> Array:
        points = np.multiply(at, stride, out=out)
        points += offset.read(_index(at, offset.channels) + target)
        return points

    def step(state: Array, displacement: Tensor, edge: Array, target: Array, source: Array | None) -> Array:
        to = np.empty_like(state)
        points, now = to[:2], to[2:4]
        np.add(state[:2], displacement.read(_index(state[2:4], displacement.channels) + edge), out=points)
        for _ in range(plan.steps):
            at = cell(points, out=to[4:] if pytorch else now)
            place(at, target, out=points)
        cell(points, out=now)
        return to

    def walk(these: Array) -> tuple[Array, Array]:
        n, own, rank = len(these), cells[:, these], ranks[these]
        start = places[:, these]
        at = cell(start[:, None])[:, 0]
        states = _walk(plan, tensors, np.concatenate([start, at, own] if pytorch else [start, at]), rank, step)
        seen = states[-2:]
        seen.reshape(2, -1)[:, rank * n + np.arange(n)] = own
        values = heat.read(_index(seen, heat.channels) + heat.channels.begin[0])
        scores = activated(values, plan.activation)
        points = states[:2]
        if pytorch and not (scores >= SMALLEST_NORMAL).all():
            known = _known(plan.tree, scores, rank)
            scores, points = np.where(known, scores, zero), np.where(known, points, zero)
        return points.take(rank_of, axis=1), scores.take(rank_of, axis=0)

    places = place(cells[:, None], offset.channels.of(ranks))[:, 0]
    points, scores = _accept(plan, places, k, max_poses, walk, mean_of_all=False, mean_of_free=pytorch)
    return points[::-1].T, scores.T, _free_mean(points, scores, plan.radius)


def _known(tree: Tree, scores: Array, rank: Array) -> Array:
    """(K, n): which keypoints mode "pytorch" reaches: none lies behind one whose score is not above 0."""
    n = np.arange(len(rank))
    known, passable = np.zeros(scores.shape, bool), scores >= SMALLEST_NORMAL
    known[rank, n] = True
    reached = rank
    for _ in range(tree.depths[-1]):
        before, reached = reached, tree.parents[reached]
        known[reached, n] |= known[before, n] & passable[before, n]
    for level in tree.levels:
        parent = tree.parents[level]
        known[level] |= known[parent] & passable[parent] & ~tree.on_the_way_up[level][:, rank]
    return known


def _index(at: Array, channels: Channels) -> Array:
    """Cells (2, E, n), as float32 -> places of their elements (E, n) from the beginning of a channel."""
    place = at.astype(np.intp)
    place *= channels.cell
    index: Array = place[0] + place[1]
    return index


def _coral(plan: Plan, tensors: list[Tensor], cells: Array, k: Array, max_poses: int) -> tuple[Array, Array, Array]:
    """Modes "coral" and "edgetpu". A state: y and x, in cells."""
    heat, offset, forward, _ = tensors
    sides, per_stride, rank_of = plan.sides, np.float32(1) / plan.stride, plan.tree.rank
    ranks, zero, one = rank_of.take(k), np.float32(0), np.float32(1)

    def clamp(points: Array) -> Array:
        np.fmax(points, zero, out=points)
        return np.minimum(points, sides, out=points)

    def sample(tensor: Tensor, points: Array, begin: Array) -> Array:
        """Points (2, E, n) and the beginnings of channels, (c, E, 1) or (c, 1, n) -> (c, E, n)."""
        low = np.floor(points)
        f = points - low
        corners = np.empty((2, *points.shape), np.intp)
        corners[0] = low
        np.minimum(low + one, sides, out=low)
        corners[1] = low
        corners *= tensor.channels.cell
        index = corners[:, None, 0] + corners[None, :, 1]  # (2, 2, E, n): upper and lower, left and right
        values = tensor.read(index + begin[:, None, None])
        if tensor is not heat:
            values *= per_stride
        rows = _between(values[:, :, 0], values[:, :, 1], f[1])
        return _between(rows[:, 0], rows[:, 1], f[0])

    def step(state: Array, displacement: Tensor, edge: Array, target: Array, source: Array | None) -> Array:
        moved = sample(displacement, state, edge)
        if plan.mode == "edgetpu" and source is not None:
            eye = source == LEFT_EYE
            moved[:1, :, eye] = sample(forward, state[:, :, eye], forward.channels.of(source[eye])[1:])
        points = clamp(state + moved)
        for _ in range(plan.steps):
            points = clamp(points + sample(offset, points, target))
        return points

    def walk(these: Array) -> tuple[Array, Array]:
        states = _walk(plan, tensors, places[:, these], ranks[these], step)
        values = sample(heat, states, heat.channels.begin)[0]
        return states.take(rank_of, axis=1), activated(values, plan.activation).take(rank_of, axis=0)

    shift = offset.read(_index(cells[:, None], offset.channels) + offset.channels.of(ranks)) * per_stride
    places = clamp(cells[:, None] + shift)[:, 0]
    points, scores = _accept(plan, places, k, max_poses, walk, mean_of_all=True, mean_of_free=False)
    order = np.argsort(-_mean(scores), kind="stable")
    points, scores = points[:, :, order], scores[:, order]
    means = _free_mean(points, scores, plan.radius)
    order = np.argsort(-means, kind="stable")
    order = order[means[order] >= plan.least_pose]
    points *= plan.stride
    return points[::-1, :, order].T, scores[:, order].T, means[order]


def _between(a: Array, b: Array, f: Array) -> Array:
    """a * (1 - f) + b * f, and a where f is 0, even beside infinity."""
    mixed: Array = a * (np.float32(1) - f) + b * f
    return mixed if np.isfinite(mixed).all() else np.where(f == 0, a, mixed)
