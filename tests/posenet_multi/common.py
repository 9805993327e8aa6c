"""decode_posenet_multi's rules as loops over candidates, and what its tests share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from posepost import Poses
from posepost._skeleton import POSENET as EDGES
from posepost._skeleton import Edges

POSITION, SCORE = 1e-3, 1e-5  # tfjs computes in float64: pixels, and scores


NAMES = ("offsets", "displacement_fwd", "displacement_bwd")


class Loops:
    """One image, (H, W, C) maps, decoded candidate by candidate, in float64 as tfjs or in float32 as libcoral. `queue`
    turns candidates (value, y, x, k), given by y, x, k, into the order in which a peer takes them."""

    def __init__(
        self,
        maps: list[np.ndarray],
        stride: float,
        mode: str,
        steps: int,
        radius: float,
        sigmoid: bool,
        number: type[np.floating] | None = None,
        edges: Edges = EDGES,
    ) -> None:
        self.number = number or (np.float32 if mode in ("coral", "edgetpu") else np.float64)
        self.heat, self.offset, self.forward, self.backward = (array.astype(self.number) for array in maps)
        self.H, self.W, self.K = self.heat.shape
        self.skeleton, self.E = edges, len(edges)
        self.stride, self.radius = self.number(stride), self.number(radius)
        self.mode, self.steps, self.sigmoid = mode, steps, sigmoid
        if mode in ("coral", "edgetpu"):
            self.radius = self.number(radius / stride)
            per_stride = self.number(1) / self.stride
            self.offset, self.forward, self.backward = (
                array * per_stride for array in (self.offset, self.forward, self.backward)
            )

    def candidates(self, least: float) -> list[tuple[float, int, int, int]]:
        found = []
        for y, x, k in np.argwhere(self.heat >= least):
            value = self.heat[y, x, k]
            if value >= self.heat[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2, k].max():
                found.append((value, int(y), int(x), int(k)))
        return found

    def score(self, value: float) -> float:
        return 1 / (1 + np.exp(-value)) if self.sigmoid else value

    def near(self, a: tuple[float, float], b: tuple[float, float]) -> bool:
        dy, dx = a[0] - b[0], a[1] - b[1]
        return dy * dy + dx * dx <= self.radius * self.radius

    def edges(self, root: int) -> Iterator[tuple[int, int, int, bool]]:
        """(edge, from, to, forward) in the order in which tfjs follows them."""
        known = {root}
        for forward in (False, True):
            for edge in self.order(forward, known):
                source, target = self.skeleton[edge] if forward else self.skeleton[edge][::-1]
                if source in known and target not in known:
                    known.add(target)
                    yield edge, source, target, forward

    def order(self, forward: bool, known: set[int]) -> Iterator[int]:
        """Edges in a row, backward from the last on; where that leaves keypoints unknown, as in a tree whose edges are
        in another order than PoseNet's, again."""
        before = None
        while before != len(known):
            before = len(known)
            yield from range(self.E) if forward else reversed(range(self.E))

    # tfjs, pytorch

    def cell(self, p: tuple[float, float]) -> tuple[int, int]:
        half = self.number(0.5)
        rounded = [round(v / self.stride) if self.mode == "pytorch" else math.floor(v / self.stride + half) for v in p]
        return min(max(rounded[0], 0), self.H - 1), min(max(rounded[1], 0), self.W - 1)

    def place(self, cell: tuple[int, int], k: int) -> tuple[float, float]:
        y, x = cell
        at_y, at_x = self.number(y) * self.stride, self.number(x) * self.stride
        return at_y + self.offset[y, x, k], at_x + self.offset[y, x, self.K + k]

    def nearest(self, root: tuple[float, int, int, int]) -> tuple[dict, dict]:
        value, y, x, k = root
        points, scores = {k: self.place((y, x), k)}, {k: self.score(value)}
        for edge, source, target, forward in self.edges(k):
            if source not in points or (self.mode == "pytorch" and not scores[source] > 0):
                continue
            p = points[source]
            at = self.cell(p)
            move = (self.forward if forward else self.backward)[at]
            q = p[0] + move[edge], p[1] + move[self.E + edge]
            for _ in range(self.steps):
                before = self.cell(q)
                q = self.place(before, target)
            points[target] = q
            scores[target] = self.score(self.heat[(*(before if self.mode == "pytorch" else self.cell(q)), target)])
        for other in set(range(self.K)) - set(points):
            points[other], scores[other] = (self.number(0), self.number(0)), self.number(0)
        return points, scores

    # coral, edgetpu

    def clamp(self, y: float, x: float) -> tuple[float, float]:
        return self.number(min(max(y, 0), self.H - 1)), self.number(min(max(x, 0), self.W - 1))

    def between(self, array: np.ndarray, p: tuple[float, float], channel: int) -> float:
        y, x = math.floor(p[0]), math.floor(p[1])
        fy, fx = p[0] - self.number(y), p[1] - self.number(x)

        one = self.number(1)

        def row(y: int) -> float:
            left = array[y, x, channel]
            return left if fx == 0 else left * (one - fx) + array[y, x + 1, channel] * fx

        return row(y) if fy == 0 else row(y) * (one - fy) + row(y + 1) * fy

    def interpolated(self, root: tuple[float, int, int, int]) -> tuple[dict, dict]:
        _, y, x, k = root
        points = {k: self.clamp(self.number(y) + self.offset[y, x, k], self.number(x) + self.offset[y, x, self.K + k])}
        for edge, source, target, forward in self.edges(k):
            p = points[source]
            array, channels = (self.forward if forward else self.backward), (edge, self.E + edge)
            move = [self.between(array, p, channel) for channel in channels]
            if self.mode == "edgetpu" and not forward and edge == 0:
                move = [self.between(self.forward, p, 16), self.between(self.backward, p, 0)]
            q = self.clamp(p[0] + move[0], p[1] + move[1])
            for _ in range(self.steps):
                dy, dx = (self.between(self.offset, q, channel) for channel in (target, self.K + target))
                q = self.clamp(q[0] + dy, q[1] + dx)
            points[target] = q
        return points, {k: self.score(self.between(self.heat, p, k)) for k, p in points.items()}

    # all

    def free_mean(self, pose: tuple[dict, dict], earlier: list[tuple[dict, dict]]) -> float:
        points, scores = pose
        free = [k for k in range(self.K) if not any(self.near(q[k], points[k]) for q, _ in earlier)]
        return sum((scores[k] for k in free), self.number(0)) / self.number(self.K)

    def accept(self, threshold: float, most: int, queue: Any) -> tuple[list[tuple[dict, dict]], list, list]:
        """Poses in the order of acceptance, their scores and the values of their roots."""
        coral = self.mode in ("coral", "edgetpu")
        least = threshold
        if coral and self.sigmoid:
            least = -math.log(1 / (threshold + 1e-6) - 1)
        elif self.sigmoid:
            least = -math.log(1 / threshold - 1)
        poses: list[tuple[dict, dict]] = []
        means: list[float] = []
        values: list[float] = []
        for root in queue(self.candidates(least)):
            if len(poses) == most:
                break
            value, y, x, k = root
            start = self.place((y, x), k)
            if coral:
                start = self.clamp(
                    self.number(y) + self.offset[y, x, k], self.number(x) + self.offset[y, x, self.K + k]
                )
            if any(self.near(q[k], start) for q, _ in poses):
                continue
            pose = self.interpolated(root) if coral else self.nearest(root)
            mean = self.free_mean(pose, [] if coral else poses)
            if (coral and mean < threshold) or (self.mode == "pytorch" and mean < 0.5):
                continue
            poses.append(pose)
            means.append(mean)
            values.append(value)
        return poses, means, values

    def decode(self, threshold: float, most: int, queue: Any) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """Poses (p, K, 3) as (x, y, score) in the peer's order, their scores, and the values of their roots."""
        poses, means, values = self.accept(threshold, most, queue)
        if self.mode in ("coral", "edgetpu"):
            poses = [poses[i] for i in sorted(range(len(poses)), key=lambda i: -means[i])]
            means = [self.free_mean(pose, poses[:i]) for i, pose in enumerate(poses)]
            order = [i for i in sorted(range(len(poses)), key=lambda i: -means[i]) if means[i] >= threshold]
            poses, means = [poses[i] for i in order], [means[i] for i in order]
        return self.array(poses), np.array(means), values

    def array(self, poses: list[tuple[dict, dict]]) -> np.ndarray:
        scale = self.stride if self.mode in ("coral", "edgetpu") else self.number(1)
        rows = [[(q[k][1] * scale, q[k][0] * scale, s[k]) for k in range(self.K)] for q, s in poses]
        return np.array(rows).reshape(-1, self.K, 3)


def own_order(candidates: list) -> list:
    return sorted(candidates, key=lambda candidate: -candidate[0])  # stable: y, x, k stay ascending


def same(got: Poses, points: np.ndarray, scores: np.ndarray, position: float, score: float) -> None:
    """The same number of poses in the same order; zeros after them."""
    p = int(got.count[0])
    assert p == len(points)
    np.testing.assert_allclose(got.keypoints[0, :p], points[..., :2], rtol=0, atol=position)
    np.testing.assert_allclose(got.keypoint_scores[0, :p], points[..., 2], rtol=0, atol=score)
    np.testing.assert_allclose(got.scores[0, :p], scores, rtol=0, atol=score)
    assert not any(array[0, p:].any() for array in [*got][:3])
