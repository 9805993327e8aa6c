"""PoseNet for several people: the twin against real peers' results, and against the rules written as plain loops."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.arrays import VIEWS, dtype_of
from posepost import Poses, decode_posenet_multi
from posepost._rules.posenet_multi import MODES
from posepost._skeleton import POSENET as EDGES
from posepost._skeleton import Edges, tree

from .helpers import TFJS_CASES, draw, figure, random_maps, random_tree
from .multi_errors import ERRORS, MAPS

pytestmark = pytest.mark.usefixtures("warnings_are_errors")

POSITION, SCORE = 1e-3, 1e-5  # tfjs computes in float64: pixels, and scores
CORAL_POSITION, CORAL_SCORE = 0.02, 1e-5
LAYOUTS = {"NHWC": (0, 1, 2), "NCHW": (2, 0, 1)}  # axes of the stored (H, W, C)
NAMES = ("offsets", "displacement_fwd", "displacement_bwd")


# ---- the rules as loops over candidates


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


def tfjs_order(candidates: list) -> Iterator:
    """A binary heap at 0, children of i at 2i and 2i + 1."""
    heap: list = []
    for candidate in candidates:
        heap.append(candidate)
        i = len(heap) - 1
        while i > 0 and heap[i // 2][0] < heap[i][0]:
            heap[i // 2], heap[i] = heap[i], heap[i // 2]
            i //= 2
    while heap:
        heap[0], heap[-1] = heap[-1], heap[0]
        yield heap.pop()
        i, last = 0, len(heap) - 1
        while 2 * i <= last:
            child = 2 * i
            if child < last and heap[child][0] < heap[child + 1][0]:
                child += 1
            if not heap[i][0] < heap[child][0]:
                break
            heap[i], heap[child] = heap[child], heap[i]
            i = child


def libstdcxx_order(candidates: list) -> Iterator:
    """std::priority_queue of GNU's library: a pop moves the hole down to a leaf, then the last element up from it."""

    def push(hole: int, item: tuple) -> None:
        while hole > 0 and heap[(hole - 1) // 2][0] < item[0]:
            heap[hole] = heap[(hole - 1) // 2]
            hole = (hole - 1) // 2
        heap[hole] = item

    heap: list = []
    for candidate in candidates:
        heap.append(candidate)
        push(len(heap) - 1, candidate)
    while heap:
        yield heap[0]
        item = heap.pop()
        if not heap:
            return
        hole = 0
        while 2 * hole + 2 < len(heap):
            child = 2 * hole + 2
            if heap[child][0] < heap[child - 1][0]:
                child -= 1
            heap[hole] = heap[child]
            hole = child
        if 2 * hole + 1 < len(heap):
            heap[hole] = heap[2 * hole + 1]
            hole = 2 * hole + 1
        push(hole, item)


# ---- real peers


def load(shared: Path, peer: str, case: str) -> tuple[dict, dict[str, np.ndarray]]:
    golden = json.loads((shared / f"golden_{peer}" / f"{case}.json").read_text())
    with np.load(shared / "tensors" / f"{case}.npz") as tensors:
        return golden, {name: tensors[name] for name in ("scores", "heatmaps", *NAMES)}


def expected_of(entry: dict) -> tuple[np.ndarray, np.ndarray]:
    poses = entry["poses"]
    points = np.array([pose["keypoints"] for pose in poses], np.float64).reshape(-1, 17, 3)
    return points, np.array([pose["score"] for pose in poses], np.float64)


def same(got: Poses, points: np.ndarray, scores: np.ndarray, position: float, score: float) -> None:
    """The same number of poses in the same order; zeros after them."""
    p = int(got.count[0])
    assert p == len(points)
    np.testing.assert_allclose(got.keypoints[0, :p], points[..., :2], rtol=0, atol=position)
    np.testing.assert_allclose(got.keypoint_scores[0, :p], points[..., 2], rtol=0, atol=score)
    np.testing.assert_allclose(got.scores[0, :p], scores, rtol=0, atol=score)
    assert not any(array[0, p:].any() for array in [*got][:3])


def tfjs_options(params: dict) -> dict[str, Any]:
    return {
        "max_poses": params["maxPoseDetections"],
        "score_threshold": params["scoreThreshold"],
        "nms_radius": params["nmsRadius"],
    }


def coral_options(params: dict) -> dict[str, Any]:
    return {
        "max_poses": params["max_detections"],
        "score_threshold": params["score_threshold"],
        "nms_radius": params["nms_radius_px"],
        "refinement_steps": params["mid_short_offset_refinement_steps"],
        "mode": "coral",
    }


@pytest.fixture(scope="module")
def manifest(shared: Path) -> dict[str, dict]:
    return {entry["file"]: entry for entry in json.loads((shared / "manifest.json").read_text())["files"]}


def test_the_golden_files_are_there(shared: Path, manifest: dict[str, dict]) -> None:
    assert len(TFJS_CASES) == 62
    assert sorted(path.stem for path in (shared / "golden_coral").glob("*.json")) == TFJS_CASES
    ties = "scoreThresholds_whose_poses_depend_on_tie_order"
    assert sum(len(manifest[f"golden_tfjs/{case}.json"][ties]) for case in TFJS_CASES) == 40
    float64 = "scoreThresholds_where_float32_arithmetic_differs"
    assert not any(manifest[f"golden_tfjs/{case}.json"][float64] for case in TFJS_CASES)


@pytest.mark.parametrize("case", TFJS_CASES)
def test_tfjs(shared: Path, manifest: dict[str, dict], case: str) -> None:
    """tfjs's own poses. Where it decides between equal scores by the order of its heap: the rules as loops give tfjs's
    poses with that heap and the twin's with the documented order, and all poses before the first tie are tfjs's."""
    golden, tensors = load(shared, "tfjs", case)
    stride = golden["outputStride"]
    ties = manifest[f"golden_tfjs/{case}.json"]["scoreThresholds_whose_poses_depend_on_tie_order"]
    for entry in golden["multi"]:
        options = tfjs_options(entry["params"])
        points, scores = expected_of(entry)
        threshold, most = options["score_threshold"], options["max_poses"]
        settled = None
        if threshold in ties:
            maps = [tensors[name] for name in ("scores", *NAMES)]
            loops = Loops(maps, stride, "tfjs", 2, options["nms_radius"], sigmoid=False)
            heap_points, heap_scores, roots = loops.decode(threshold, most, tfjs_order)
            np.testing.assert_allclose(heap_points, points, rtol=0, atol=1e-6)
            np.testing.assert_allclose(heap_scores, scores, rtol=0, atol=1e-6)
            values = [candidate[0] for candidate in loops.candidates(threshold)]
            settled = next((i for i, root in enumerate(roots) if values.count(root) > 1), len(roots))
            first = points[:settled], scores[:settled]
            points, scores, _ = loops.decode(threshold, most, own_order)
            np.testing.assert_allclose(points[:settled], first[0], rtol=0, atol=1e-6)
            np.testing.assert_allclose(scores[:settled], first[1], rtol=0, atol=1e-6)
        for layout, axes in LAYOUTS.items():
            maps = [np.ascontiguousarray(tensors[name].transpose(axes)) for name in ("scores", *NAMES)]
            got = decode_posenet_multi(*maps, output_stride=stride, activation=None, layout=layout, **options)
            same(got, points, scores, POSITION, SCORE)


@pytest.mark.parametrize(
    "case", [case for case in TFJS_CASES if case.startswith("real_") and not case.endswith("_f16")]
)
def test_tfjs_from_logits(shared: Path, manifest: dict[str, dict], case: str) -> None:
    """From the logits, found by the layout's own search: the same poses and, to rounding, the same scores."""
    golden, tensors = load(shared, "tfjs", case)
    ties = manifest[f"golden_tfjs/{case}.json"]["scoreThresholds_whose_poses_depend_on_tie_order"]
    for entry in golden["multi"]:
        if entry["params"]["scoreThreshold"] not in ties:
            maps = [tensors[name] for name in ("heatmaps", *NAMES)]
            got = decode_posenet_multi(
                *maps, output_stride=golden["outputStride"], **tfjs_options(entry["params"]), activation="sigmoid"
            )
            same(got, *expected_of(entry), POSITION, SCORE)


@pytest.mark.parametrize("case", TFJS_CASES)
def test_libcoral(shared: Path, case: str) -> None:
    """libcoral's own poses. Where its priority queue decides between equal logits: the rules as loops give libcoral's
    poses with that queue, and the twin's with the documented order. On the constant map the poses' mean scores are
    equal as well, and std::sort decides which keypoints count: there the accepted poses are libcoral's, unordered."""
    golden, tensors = load(shared, "coral", case)
    stride = golden["outputStride"]
    for entry in golden["multi"]:
        options = coral_options(entry["params"])
        points, scores = expected_of(entry)
        maps = [tensors[name] for name in ("heatmaps", *NAMES)]
        if case in CORAL_TIES:
            loops = Loops(maps, stride, "coral", options["refinement_steps"], options["nms_radius"], sigmoid=True)
            limits = options["score_threshold"], options["max_poses"]
            if case == "edge_constant_heatmap":
                accepted = loops.array(loops.accept(*limits, libstdcxx_order)[0])
                order, golden_order = (np.lexsort(array[..., 0].T) for array in (accepted, points))
                np.testing.assert_allclose(accepted[order], points[golden_order], rtol=0, atol=CORAL_POSITION)
            else:
                queue_points, queue_scores, _ = loops.decode(*limits, libstdcxx_order)
                np.testing.assert_allclose(queue_points[..., :2], points[..., :2], rtol=0, atol=CORAL_POSITION)
                np.testing.assert_allclose(queue_scores, scores, rtol=0, atol=CORAL_SCORE)
            points, scores, _ = loops.decode(*limits, own_order)
        for layout, axes in LAYOUTS.items():
            got = decode_posenet_multi(
                *(np.ascontiguousarray(array.transpose(axes)) for array in maps),
                output_stride=stride,
                layout=layout,
                **options,
                activation="sigmoid",
            )
            same(got, points, scores, CORAL_POSITION, CORAL_SCORE)


CORAL_TIES = {
    "edge_constant_heatmap",
    "edge_ties_integer_logits",
    "real_posenet075quant_s16_353x481_group5",
    "real_posenet075quant_s16_353x481_skier",
    "real_posenet075quant_s16_353x481_three",
}
"""Cases in which the order of equal logits changes libcoral's poses."""


@pytest.mark.parametrize("case", [case for case in TFJS_CASES if case.startswith("coralref_")])
def test_corals_reference_csv(shared: Path, manifest: dict[str, dict], case: str) -> None:
    """End to end as its authors test it: pose and keypoint scores within 0.1, keypoints with a score above 0.7 within
    0.04 of the image's side. `manifest.json` gives the options."""
    _, tensors = load(shared, "coral", case)
    height, width = manifest[f"tensors/{case}.npz"]["params"]["input_hw"]
    got = decode_posenet_multi(
        *(tensors[name] for name in ("heatmaps", *NAMES)),
        output_stride=16,
        max_poses=20,
        score_threshold=0.2,
        nms_radius=10,
        mode="coral",
        activation="sigmoid",
    )
    with (shared / "coral_reference" / f"{case}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(got.count[0]) == 1 + max(int(row["pose_id"]) for row in rows)
    compared = 0
    for row in rows:
        pose, keypoint = int(row["pose_id"]), int(row["keypoint_id"])
        assert abs(got.scores[0, pose] - float(row["pose_score"])) <= 0.1
        assert abs(got.keypoint_scores[0, pose, keypoint] - float(row["keypoint_score"])) <= 0.1
        if float(row["keypoint_score"]) > 0.7:
            x, y = got.keypoints[0, pose, keypoint] / (width, height)
            assert max(abs(x - float(row["keypoint_x"])), abs(y - float(row["keypoint_y"]))) <= 0.04
            compared += 1
    assert compared >= 20


@pytest.mark.parametrize("mode", ["pytorch", "edgetpu"])
@pytest.mark.parametrize("case", ["real_posenet075_s16_353x481_group5", "edge_neg_inf_channel", "edge_5x1"])
def test_modes_without_golden_files(shared: Path, case: str, mode: str) -> None:
    golden, tensors = load(shared, "coral", case)
    stride = golden["outputStride"]
    maps = [tensors[name] for name in ("heatmaps", *NAMES)]
    got = decode_posenet_multi(*maps, output_stride=stride, score_threshold=0.3, mode=mode, activation="sigmoid")
    loops = Loops(maps, stride, mode, 1 if mode == "pytorch" else 5, 20, sigmoid=True)
    same(got, *loops.decode(0.3, 20, own_order)[:2], CORAL_POSITION, SCORE)


# ---- without golden data


@pytest.mark.parametrize("kind", ["distinct", "ties", "negative too"])
@pytest.mark.parametrize("mode", MODES)
def test_the_rules_as_loops_give_the_same_bits(mode: str, kind: str) -> None:
    """Without an exponential every position and score is the documented float32 arithmetic, operation by operation."""
    poses = 0
    for seed in range(6):
        maps = random_maps(seed, kind=kind)
        stride, radius, most, threshold = (8, 16, 12.5)[seed % 3], (20, 9, 0)[seed % 3], (20, 7)[seed % 2], 0.45
        got = decode_posenet_multi(
            *maps,
            output_stride=stride,
            max_poses=most,
            score_threshold=threshold,
            nms_radius=radius,
            mode=mode,
            activation=None,
        )
        steps = {"tfjs": 2, "pytorch": 1}.get(mode, 5)
        loops = Loops(maps, stride, mode, steps, radius, sigmoid=False, number=np.float32)
        points, scores, _ = loops.decode(threshold, most, own_order)
        same(got, points, scores, 0, 0)
        poses += len(points)
    assert poses >= 12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("K", [1, 2, 5, 17, 24, 32])
@pytest.mark.parametrize("mode", ["tfjs", "pytorch", "coral"])
def test_any_tree_as_loops(mode: str, K: int, seed: int) -> None:
    edges, poses = random_tree(K, seed), 0
    for kind in ("distinct", "negative too"):
        maps = random_maps(10 * K + seed, 6, 7, kind=kind, K=K)
        maps[0] += np.float32(0.4)
        options = {"output_stride": 8, "score_threshold": 0.55, "nms_radius": 9, "mode": mode, "activation": None}
        got = decode_posenet_multi(*maps, skeleton=edges, **options)
        steps = {"tfjs": 2, "pytorch": 1}.get(mode, 5)
        loops = Loops(maps, 8, mode, steps, 9, sigmoid=False, number=np.float32, edges=edges)
        points, scores, _ = loops.decode(0.55, 20, own_order)
        same(got, points, scores, 0, 0)
        poses += len(points)
    assert poses >= 2


def test_poses_do_not_depend_on_the_order_of_edges_and_the_default_is_posenets() -> None:
    scores, offsets, fwd, bwd = random_maps(3)
    order = np.random.default_rng(0).permutation(16)
    both = np.concatenate([order, 16 + order])
    options = {"output_stride": 8, "activation": None}
    expected = decode_posenet_multi(scores, offsets, fwd, bwd, **options)
    shuffled = [EDGES[edge] for edge in order]
    for maps, skeleton in (((fwd, bwd), np.array(EDGES)), ((fwd[..., both], bwd[..., both]), shuffled)):
        got = decode_posenet_multi(scores, offsets, *maps, skeleton=skeleton, **options)
        for a, b in zip(got, expected):
            np.testing.assert_array_equal(a, b)


def test_tables_of_a_tree() -> None:
    found = tree(((3, 1), (1, 0), (3, 2)))
    assert found == ((1, 3, 3, 3), (1, 0, 2, 0), (2, 1, 1, 0), 3)
    assert tree(()) == ((0,), (0,), (0,), 0)
    assert tree(EDGES).longest == 8  # from an ankle to the other


def test_the_edge_rule_of_edgetpu_matters() -> None:
    maps = random_maps(0)
    options = {"output_stride": 8, "activation": None, "score_threshold": 0.3, "nms_radius": 4}
    coral, edgetpu = (decode_posenet_multi(*maps, mode=mode, **options) for mode in ("coral", "edgetpu"))
    assert coral.count[0] > 0
    assert (coral.keypoints != edgetpu.keypoints).any()


@pytest.mark.parametrize("mode", MODES)
def test_two_drawn_figures(mode: str) -> None:
    people = [figure(60, 40, 5), figure(180, 50, 6)]
    got = decode_posenet_multi(*draw(people, 15, 17, 16), output_stride=16, mode=mode, activation="sigmoid")
    assert got.count.tolist() == [2]
    found = sorted(got.keypoints[0, :2], key=lambda points: points[0, 0])
    for points, truth in zip(found, people):
        np.testing.assert_allclose(points, truth, rtol=0, atol=1e-3)
    assert got.scores[0, :2].min() > 0.7
    assert not any(array[0, 2:].any() for array in [*got][:3])


@pytest.mark.parametrize("mode", MODES)
def test_keypoints_on_cells_beside_minus_infinity(mode: str) -> None:
    """Between cells -inf counts only with a weight above 0."""
    truth = figure(96, 48, 16)
    maps = draw([truth], 30, 14, 16)
    maps[0][maps[0] < 4] = -np.inf
    got = decode_posenet_multi(*maps, output_stride=16, mode=mode, activation="sigmoid")
    assert got.count.tolist() == [1]
    np.testing.assert_array_equal(got.keypoints[0, 0], truth)
    np.testing.assert_allclose(got.keypoint_scores[0, 0], 1 / (1 + np.exp(-4)), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_nobody_and_nan(mode: str) -> None:
    maps = draw([figure(60, 40, 5)], 15, 17, 16)
    for value in (-8, -np.inf, np.nan):
        empty = decode_posenet_multi(
            np.full_like(maps[0], value), *maps[1:], output_stride=16, mode=mode, activation="sigmoid"
        )
        assert empty.count.tolist() == [0]
        assert not any(array.any() for array in empty)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.001, 3.0])
def test_a_constant_map_ends_soon(mode: str, value: float) -> None:
    """Every cell is a candidate: 23 * 31 * 17. Near 0 the scores of poses just reach the threshold."""
    maps = random_maps(3, 23, 31)
    start = time.perf_counter()
    got = decode_posenet_multi(
        np.full_like(maps[0], value), *maps[1:], output_stride=16, mode=mode, activation="sigmoid"
    )
    assert time.perf_counter() - start < 5
    assert 1 <= got.count[0] <= 20
    loops = Loops([np.full_like(maps[0], value), *maps[1:]], 16, "tfjs", 2, 20, sigmoid=True, number=np.float32)
    if mode == "tfjs":
        same(got, *loops.decode(0.5, 20, own_order)[:2], 0, SCORE)


def test_max_poses_keeps_the_first() -> None:
    maps = random_maps(1)
    all_of_them = decode_posenet_multi(*maps, output_stride=8, activation=None, max_poses=1000, nms_radius=2)
    assert 20 < all_of_them.count[0] < 1000
    few = decode_posenet_multi(*maps, output_stride=8, activation=None, max_poses=11, nms_radius=2)
    assert few.count.tolist() == [11]
    for a, b in zip([*few][:3], [*all_of_them][:3]):
        np.testing.assert_array_equal(a, b[:, :11])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38, -3e38])
def test_displacements_and_offsets_without_bounds(mode: str, value: float) -> None:
    """Scores stay scores; Coral's positions stay on the map; a NaN position is cell 0."""
    rng = np.random.default_rng(4)
    maps = random_maps(2)
    for field in (1, 2, 3):
        spoilt = [array.copy() for array in maps]
        spoilt[field][rng.random(maps[field].shape) < (0.3 if field == 1 else 1)] = value
        got = decode_posenet_multi(*spoilt, output_stride=8, activation=None, mode=mode, score_threshold=0.4)
        p = int(got.count[0])
        assert p <= 20
        assert p > 0 or mode != "tfjs"  # the others want poses with a score
        assert ((got.keypoint_scores >= 0) & (got.keypoint_scores <= 1)).all()
        if mode in ("coral", "edgetpu"):
            assert (got.keypoints >= 0).all()
            assert (got.keypoints <= (11 * 8, 8 * 8)).all()


def test_infinite_displacements_read_the_last_cell_and_nan_the_first() -> None:
    scores, offsets, fwd, bwd = random_maps(5)
    for value, cell in ((np.inf, (8, 11)), (-np.inf, (0, 0)), (np.nan, (0, 0))):
        got = decode_posenet_multi(
            scores, offsets * 0, np.full_like(fwd, value), np.full_like(bwd, value), output_stride=8, activation=None
        )
        root = got.keypoint_scores[0, 0].argmax()
        others = [k for k in range(17) if k != root]
        np.testing.assert_array_equal(got.keypoints[0, 0, others], np.tile(np.float32(cell)[::-1] * 8, (16, 1)))
        np.testing.assert_array_equal(got.keypoint_scores[0, 0, others], scores[(*cell, others)])


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_gives_what_its_images_give(mode: str) -> None:
    images = [random_maps(seed) for seed in range(3)]
    images[1][0][:] = 0  # nobody
    batch = [np.stack(arrays) for arrays in zip(*images)]
    options = {"output_stride": 8, "activation": None, "mode": mode, "score_threshold": 0.4, "nms_radius": 8}
    got = decode_posenet_multi(*batch, **options)
    assert got.keypoints.shape == (3, 20, 17, 2)
    assert got.count[1] == 0
    assert len(set(got.count.tolist())) >= 2
    for b, image in enumerate(images):
        single = decode_posenet_multi(*image, **options)
        assert single.keypoints.shape == (1, 20, 17, 2)
        for a, one in zip(got, single):
            np.testing.assert_array_equal(a[b], one[0])
    empty = decode_posenet_multi(*(array[:0] for array in batch), **options)
    assert [array.shape for array in empty] == [(0, 20, 17, 2), (0, 20, 17), (0, 20), (0,)]


@pytest.mark.parametrize("mode", ["tfjs", "coral"])
@pytest.mark.parametrize("view", VIEWS)
def test_views(view: str, mode: str) -> None:
    images = [np.stack(arrays).transpose(0, 3, 1, 2) for arrays in zip(random_maps(6), random_maps(7))]
    layout, make = VIEWS[view]
    options = {"output_stride": 8, "activation": None, "mode": mode, "score_threshold": 0.4}
    expected = decode_posenet_multi(*(np.ascontiguousarray(array) for array in images), **options)
    got = decode_posenet_multi(*(make(array, lambda a: a) for array in images), layout=layout, **options)
    assert expected.count.all()
    for a, b in zip(got, expected):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8", "int8"])
def test_types(dtype: str, mode: str) -> None:
    """Narrow types give exactly what their values give as float32."""
    scores, *fields = random_maps(8)
    if "int" in dtype:
        low = np.iinfo(dtype).min
        names = ("heatmaps", *NAMES)
        scales = dict(zip(names, ((1 / 255, low), (0.25, low + 128), (1.5, low + 128), (1.5, low + 128))))
        stored = [
            np.clip(np.round(array / scales[name][0]) + scales[name][1], low, low + 255).astype(dtype)
            for name, array in zip(names, (scores, *fields))
        ]
        wide = [
            (array.astype(np.float32) - np.float32(scales[name][1])) * np.float32(scales[name][0])
            for name, array in zip(names, stored)
        ]
    else:
        scales = None
        stored = [array.astype(dtype_of(dtype)) for array in (scores, *fields)]
        wide = [array.astype(np.float32) for array in stored]
    options = {"output_stride": 8, "activation": None, "mode": mode, "score_threshold": 0.4}
    got = decode_posenet_multi(*stored, quantization=scales, **options)
    expected = decode_posenet_multi(*wide, **options)
    assert expected.count.all()
    for a, b in zip(got, expected):
        np.testing.assert_array_equal(a, b)


def test_out_and_transform() -> None:
    batch = [np.stack(arrays) for arrays in zip(random_maps(9), random_maps(10))]
    options = {"output_stride": 8, "activation": None, "max_poses": 300}
    plain = decode_posenet_multi(*batch, **options)
    assert (plain.count < 300).all()
    out = Poses(*(np.full_like(array, 7) for array in plain))
    got = decode_posenet_multi(*batch, out=out, **options)
    assert all(a is b for a, b in zip(got, out))
    for a, b in zip(got.numpy(), plain):
        np.testing.assert_array_equal(a, b)
    matrices = np.array([[[2, 0, 3], [0, 4, 5]], [[0, 1, 1], [1, 0, 0]]], np.float32)
    moved = decode_posenet_multi(*batch, transform=matrices, **options)
    for b in range(2):
        p = plain.count[b]
        expected = plain.keypoints[b, :p] @ matrices[b, :, :2].T + matrices[b, :, 2]
        np.testing.assert_allclose(moved.keypoints[b, :p], expected, rtol=1e-6)
        assert not moved.keypoints[b, p:].any()


@pytest.mark.parametrize("score", [0, 1e-40])
def test_pytorch_stops_behind_a_score_of_zero(score: float) -> None:
    maps = draw([figure(60, 40, 5)], 15, 17, 16)
    maps[0] = 1 / (1 + np.exp(-maps[0]))
    maps[0][..., 7] = score  # the left elbow, before the wrist; a denormal may be 0 on a device
    got = decode_posenet_multi(*maps, output_stride=16, mode="pytorch", activation=None)
    assert got.count.tolist() == [1]
    assert got.keypoint_scores[0, 0, [7, 9]].tolist() == [np.float32(score), 0]
    assert got.keypoints[0, 0, 9].tolist() == [0, 0]
    np.testing.assert_allclose(got.keypoints[0, 0, 7], figure(60, 40, 5)[7], atol=1e-3)


def test_the_threshold_is_not_rounded() -> None:
    """float32(0.7) is below 0.7: as in tfjs, a score of float32(0.7) does not reach it."""
    maps = random_maps(11)
    maps[0][:] = 0
    maps[0][4, 5, 0] = 0.7
    for threshold, count in ((0.7, 0), (0.6999, 1)):
        got = decode_posenet_multi(*maps, output_stride=8, activation=None, score_threshold=threshold)
        assert got.count.tolist() == [count]


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(("error", "message", "replaced", "options"), ERRORS, ids=[row[1][:50] for row in ERRORS])
def test_errors(error: type[Exception], message: str, replaced: dict[int, Any], options: dict[str, Any]) -> None:
    maps = [replaced.get(i, array) for i, array in enumerate(MAPS)]
    with pytest.raises(error) as caught:
        decode_posenet_multi(*maps, output_stride=16, **options, activation="sigmoid")
    assert str(caught.value) == message
