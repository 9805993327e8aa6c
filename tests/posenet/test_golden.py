"""What real peers computed: tfjs PoseNet 2.2.2 on 62 tensors, through NumPy and through the kernels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device
from bench.tolerance import SIGMOID_RTOL

from ..helpers import TFJS_CASES

LAYOUTS = {"NHWC": (0, 1, 2), "NCHW": (2, 0, 1)}  # axes of the stored (H, W, C)


def load(shared: Path, case: str) -> tuple[dict, dict[str, np.ndarray]]:
    golden = json.loads((shared / "golden_tfjs" / f"{case}.json").read_text())
    with np.load(shared / "tensors" / f"{case}.npz") as tensors:
        return golden, {name: tensors[name] for name in ("scores", "heatmaps", "offsets")}


def test_the_golden_files_are_there(shared: Path) -> None:
    assert len(TFJS_CASES) == 62


@pytest.mark.parametrize("case", TFJS_CASES)
def test_tfjs_single_pose(shared: Path, cpu_cuda: ExecutorCuda, case: str) -> None:
    """Positions and scores equal tfjs's float32, from float32 and float16 tensors, in both layouts."""
    golden, tensors = load(shared, case)
    expected = np.array(golden["single"]["keypoints"], np.float32)
    stride = golden["outputStride"]
    for layout, axes in LAYOUTS.items():
        scores, offsets = (np.ascontiguousarray(tensors[name].transpose(axes)) for name in ("scores", "offsets"))
        options = {"output_stride": stride, "layout": layout, "activation": None}
        for got in (
            posepost.decode_posenet(scores, offsets, **options),
            posepost.decode_posenet(to_device(scores), to_device(offsets), **options).numpy(),
        ):
            np.testing.assert_array_equal(got.keypoints[0], expected[:, :2])
            np.testing.assert_array_equal(got.scores[0], expected[:, 2])
            assert np.isclose(got.scores.mean(dtype=np.float64), golden["single"]["score"], rtol=1e-6)


@pytest.mark.parametrize(
    "case", [case for case in TFJS_CASES if case.startswith("real_") and not case.endswith("_f16")]
)
def test_logits_of_real_models(shared: Path, cpu_cuda: ExecutorCuda, case: str) -> None:
    """From the logits, with the sigmoid on the winners alone: the same poses and, to rounding, the same scores."""
    golden, tensors = load(shared, case)
    expected = np.array(golden["single"]["keypoints"], np.float32)
    stride = golden["outputStride"]
    for got in (
        posepost.decode_posenet(tensors["heatmaps"], tensors["offsets"], output_stride=stride, activation="sigmoid"),
        posepost.decode_posenet(
            to_device(tensors["heatmaps"]), to_device(tensors["offsets"]), output_stride=stride, activation="sigmoid"
        ).numpy(),
    ):
        np.testing.assert_array_equal(got.keypoints[0], expected[:, :2])
        np.testing.assert_allclose(got.scores[0], expected[:, 2], rtol=SIGMOID_RTOL)


def test_saturated_logits_differ_from_scores_as_documented(shared: Path) -> None:
    """edge_saturated_logits: after the sigmoid cells tie and the first wins, before it they do not."""
    golden, tensors = load(shared, "edge_saturated_logits")
    from_logits = posepost.decode_posenet(
        tensors["heatmaps"], tensors["offsets"], output_stride=golden["outputStride"], activation="sigmoid"
    )
    expected = np.array(golden["single"]["keypoints"], np.float32)
    assert (from_logits.keypoints[0] != expected[:, :2]).any(axis=1).sum() == 17
    np.testing.assert_allclose(from_logits.scores[0], expected[:, 2], rtol=SIGMOID_RTOL)
