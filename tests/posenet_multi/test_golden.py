"""decode_posenet_multi in NumPy against tfjs, libcoral and posenet-pytorch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posepost import decode_posenet_multi

from ..helpers import TFJS_CASES
from .common import NAMES, POSITION, SCORE, Loops, own_order, same

pytestmark = pytest.mark.usefixtures("warnings_are_errors")


CORAL_POSITION, CORAL_SCORE = 0.02, 1e-5


LAYOUTS = {"NHWC": (0, 1, 2), "NCHW": (2, 0, 1)}  # axes of the stored (H, W, C)


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


def load(shared: Path, peer: str, case: str) -> tuple[dict, dict[str, np.ndarray]]:
    golden = json.loads((shared / f"golden_{peer}" / f"{case}.json").read_text())
    with np.load(shared / "tensors" / f"{case}.npz") as tensors:
        return golden, {name: tensors[name] for name in ("scores", "heatmaps", *NAMES)}


def expected_of(entry: dict) -> tuple[np.ndarray, np.ndarray]:
    poses = entry["poses"]
    points = np.array([pose["keypoints"] for pose in poses], np.float64).reshape(-1, 17, 3)
    return points, np.array([pose["score"] for pose in poses], np.float64)


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
    poses with that heap and NumPy's with the documented order, and all poses before the first tie are tfjs's."""
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
    poses with that queue, and NumPy's with the documented order. On the constant map the poses' mean scores are
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
