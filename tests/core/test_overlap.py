"""`out` that overlaps an input or itself: what is written first would be read, or overwritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import values
from bench.cuda_cpu.seam import ExecutorCuda, host, to_device

pytestmark = pytest.mark.usefixtures("fresh_plans")

Place = Callable[[np.ndarray], Any]
PLACES: list[Place] = [np.array, to_device]
H = values("random", "float32", (1, 3, 12, 15), 1)


def heatmap(maps: Any, **options: Any) -> Any:
    return posepost.decode_heatmap(maps, **options)


def peaks(maps: Any, **options: Any) -> Any:
    return posepost.find_peaks(maps, threshold=0.5, max_peaks=5, refine="centroid", **options)


def multi(maps: Any, **options: Any) -> Any:
    place = np.array if isinstance(maps, np.ndarray) else to_device
    fields = [place(np.zeros((1, n, 12, 15), np.float32)) for n in (6, 4, 4)]
    return posepost.decode_posenet_multi(
        maps, *fields, output_stride=8, max_poses=5, skeleton=((0, 1), (1, 2)), **options
    )


@pytest.mark.parametrize("place", PLACES)
def test_out_over_an_input_gave_other_poses_and_peaks(cpu_cuda: ExecutorCuda, place: Place) -> None:
    """The beginning of the maps was cleared before it was read: a second pose scored 0.64 where it scores 0.55."""
    memory = place(np.concatenate([H.ravel(), np.zeros(60, np.float32)]))
    maps, inside, behind = memory[: H.size].reshape(H.shape), memory[500:], memory[H.size :]
    points, scores = inside[:30].reshape(1, 3, 5, 2), place(np.zeros((1, 3, 5), np.float32))
    count = place(np.zeros((1, 3), np.int32))
    with pytest.raises(ValueError, match=r"^out\.points must not overlap heatmaps, got arrays that share memory$"):
        peaks(maps, out=(points, scores, count))
    keypoints, keypoint_scores = inside[:30].reshape(1, 5, 3, 2), place(np.zeros((1, 5, 3), np.float32))
    scores, count = place(np.zeros((1, 5), np.float32)), place(np.zeros(1, np.int32))
    with pytest.raises(ValueError, match=r"^out\.keypoints must not overlap heatmaps, got arrays that share memory$"):
        multi(maps, out=(keypoints, keypoint_scores, scores, count))
    keypoints, scores = place(np.zeros((1, 3, 2), np.float32)), inside[1:4].reshape(1, 3)
    with pytest.raises(ValueError, match=r"^out\.scores must not overlap heatmaps, got arrays that share memory$"):
        heatmap(maps, out=(keypoints, scores))
    beside = heatmap(maps, out=(behind[:6].reshape(1, 3, 2), behind[6:9].reshape(1, 3)))
    for got, expected in zip(beside.numpy(), heatmap(H)):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("place", PLACES)
def test_keypoints_were_overwritten_by_scores(cpu_cuda: ExecutorCuda, place: Place) -> None:
    memory = place(np.zeros(9, np.float32))
    out = memory[:6].reshape(1, 3, 2), memory[5:8].reshape(1, 3)
    with pytest.raises(
        ValueError, match=r"^out\.scores must not overlap out\.keypoints, got arrays that share memory$"
    ):
        heatmap(place(H), out=out)
    assert not np.asarray(memory if place is np.array else host(memory)).any()
    heatmap(place(H), out=(memory[:6].reshape(1, 3, 2), memory[6:].reshape(1, 3)))


@pytest.mark.parametrize("place", PLACES)
def test_maps_of_the_mirrored_image_are_inputs_too(cpu_cuda: ExecutorCuda, place: Place) -> None:
    mirrored = place(H[..., ::-1].copy())
    out = place(np.zeros((1, 3, 2), np.float32)), mirrored[0, 0, 0, :3].reshape(1, 3)
    with pytest.raises(ValueError, match=r"^out\.scores must not overlap flip\.maps, got arrays that share memory$"):
        heatmap(place(H), flip=posepost.Flip(mirrored, (0, 2, 1)), out=out)


def test_a_result_in_the_caller_s_memory_was_not_looked_at_again(cpu_cuda: ExecutorCuda) -> None:
    """The first call's inputs lay elsewhere, and the second call takes the short way."""
    memory = to_device(np.zeros(H.size + 9, np.float32))
    out = heatmap(to_device(H), out=(memory[:6].reshape(1, 3, 2), memory[6:9].reshape(1, 3)))
    with pytest.raises(ValueError, match=r"^out\.keypoints must not overlap heatmaps, got arrays that share memory$"):
        heatmap(memory[: H.size].reshape(H.shape), out=out)
    assert heatmap(memory[9:].reshape(H.shape), out=out).keypoints is out.keypoints


@pytest.mark.parametrize("place", PLACES)
def test_no_rows_overlap_nothing(cpu_cuda: ExecutorCuda, place: Place) -> None:
    memory = place(np.zeros(8, np.float32))
    out = memory[:0].reshape(0, 3, 2), memory[:0].reshape(0, 3)
    assert heatmap(memory[:0].reshape(0, 3, 4, 5), out=out).keypoints.shape == (0, 3, 2)
