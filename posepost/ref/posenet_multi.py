"""decode_posenet_multi in NumPy."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _skeleton, _view
from .._rules import Scale, described
from .._rules.maps import Maps, channels_first
from .._rules.posenet_multi import ARGUMENTS, PoseNetMulti, least, shape
from .local_maxima import is_peak
from .values import activated, affine, comparable, dequantize

Array = np.ndarray[Any, Any]

SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal  # scores below it are 0 where a device flushes denormals


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

    rows: int
    rule: PoseNetMulti
    maps: Maps
    tree: Tree
    least: float | int  # raw value of a root
    least_pose: np.float32
    radius: np.float32  # squared, in pixels or, for coral, in cells
    stride: np.float32
    sides: Array  # (2, 1, 1) float32: H - 1 and W - 1
    tensors: tuple[tuple[Channels, Scale | None], ...]  # of the four arguments


@functools.lru_cache(maxsize=16)
def prepare(forms: tuple[_view.Form, ...], rule: PoseNetMulti, quantized: _check.Quantization | None) -> Plan:
    """All checks, and what follows from the forms."""
    specs, scales = described(ARGUMENTS, forms, quantized)
    maps, edges = shape(rule, *specs)
    tree = _tree(edges)
    (_, fwd), (_, bwd) = (channels_first(spec, maps.layout) for spec in specs[2:])
    y_channels, x_channels = tree.edges, len(edges) + tree.edges
    x_of_bwd = x_channels.copy()
    if rule.mode == "edgetpu":
        x_of_bwd[LEFT_EYE] = 0
    return Plan(
        rows=maps.B,
        rule=rule,
        maps=maps,
        tree=tree,
        least=least(rule, specs[0].dtype, scales.get("heatmaps")),
        least_pose=rule.least_pose,
        radius=rule.squared_radius,
        stride=np.float32(rule.output_stride),
        sides=np.array([maps.H - 1, maps.W - 1], np.float32)[:, None, None],
        tensors=(
            (_channels(tree, maps.heatmap_strides, [tree.keypoints]), scales.get("heatmaps")),
            (_channels(tree, maps.offset_strides, [tree.keypoints, maps.K + tree.keypoints]), scales.get("offsets")),
            (_channels(tree, fwd, [y_channels, x_channels]), scales.get("displacement_fwd")),
            (_channels(tree, bwd, [y_channels, x_of_bwd]), scales.get("displacement_bwd")),
        ),
    )


def decode(plan: Plan, matrix: Array | None, *tensors: Array) -> tuple[Array, Array, Array, Array]:
    """Keypoints (B, P, K, 2), their scores (B, P, K), scores of poses (B, P) and their count (B,)."""
    B, K, P = plan.maps.B, plan.maps.K, plan.rule.max_poses
    keypoints, keypoint_scores = np.zeros((B, P, K, 2), np.float32), np.zeros((B, P, K), np.float32)
    scores, count = np.zeros((B, P), np.float32), np.zeros(B, np.int32)
    batches = [array if array.ndim == 4 else array[None] for array in tensors]
    for b in range(B):
        points, point_scores, pose_scores = _decode(plan, [batch[b] for batch in batches], P)
        found = len(pose_scores)
        if matrix is not None:
            points = affine(points, matrix if matrix.ndim == 2 else matrix[b])
        keypoints[b, :found], keypoint_scores[b, :found], scores[b, :found] = points, point_scores, pose_scores
        count[b] = found
    return keypoints, keypoint_scores, scores, count


def _channels(tree: Tree, strides: tuple[int, int, int, int], channels: list[Array]) -> Channels:
    _, k, y, x = strides
    begin = np.array(channels)[:, :, None] * k
    return Channels(begin, tuple(begin[:, level] for level in tree.levels), np.array([y, x])[:, None, None])


class Tensor(NamedTuple):
    """One image's tensor: its elements from the first on, where its channels are, how to dequantize."""

    flat: Array
    channels: Channels
    scale: Scale | None

    def read(self, place: Array) -> Array:
        values = self.flat.take(place)
        return values if self.scale is None and values.dtype == np.float32 else dequantize(values, self.scale)


def _tensor(image: Array, channels: Channels, scale: Scale | None) -> Tensor:
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
    return (_coral if plan.rule.coral else _nearest)(plan, tensors, cells, k[order], max_poses)


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
    stride, sides, pytorch = plan.stride, plan.sides, plan.rule.mode == "pytorch"
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
        for _ in range(plan.rule.refinement_steps):
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
        scores = activated(values, plan.rule.activation)
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
        if plan.rule.mode == "edgetpu" and source is not None:
            eye = source == LEFT_EYE
            moved[:1, :, eye] = sample(forward, state[:, :, eye], forward.channels.of(source[eye])[1:])
        points = clamp(state + moved)
        for _ in range(plan.rule.refinement_steps):
            points = clamp(points + sample(offset, points, target))
        return points

    def walk(these: Array) -> tuple[Array, Array]:
        states = _walk(plan, tensors, places[:, these], ranks[these], step)
        values = sample(heat, states, heat.channels.begin)[0]
        return states.take(rank_of, axis=1), activated(values, plan.rule.activation).take(rank_of, axis=0)

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
