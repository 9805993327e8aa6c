"""decode_posenet: out, stream, batches, results."""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.arrays import values
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host, to_device
from bench.tolerance import SIGMOID_RTOL
from posepost import _cuda

from ..helpers import MATRIX, equal


@pytest.mark.parametrize("device", [False, True])
def test_out_is_written_and_returned(cpu_cuda: ExecutorCuda, device: bool) -> None:
    place = to_device if device else np.array
    heatmaps, offsets = values("random", "float32", (2, 3, 4, 5), 1), values("random", "float32", (2, 6, 4, 5), 2)
    first = posepost.decode_posenet(place(heatmaps), place(offsets), output_stride=8, activation="sigmoid")
    out = posepost.Keypoints(place(np.zeros((2, 3, 2), np.float32)), place(np.zeros((2, 3), np.float32)))
    allocated = cpu_cuda.allocations
    again = posepost.decode_posenet(place(heatmaps), place(offsets), output_stride=8, out=out, activation="sigmoid")
    assert cpu_cuda.allocations == allocated
    assert again.keypoints is out.keypoints
    assert again.scores is out.scores
    equal(again.numpy().keypoints, first.numpy().keypoints)
    equal(again.numpy().scores, first.numpy().scores)


def test_out_in_pinned_memory(cpu_cuda: ExecutorCuda) -> None:
    """The kernel writes host memory: no download, one wait on the stream of the call."""
    heatmaps, offsets = values("random", "float32", (2, 3, 4, 5), 1), values("random", "float32", (2, 6, 4, 5), 2)
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    out = posepost.pinned(2, 3)
    assert not out.keypoints.any()
    allocated = cpu_cuda.allocations
    for stream in (55, 56):
        result = posepost.decode_posenet(
            to_device(heatmaps), to_device(offsets), output_stride=8, out=out, stream=stream, activation="sigmoid"
        )
        got = result.numpy()
        assert got.keypoints is out.keypoints
        equal(got.keypoints, expected.keypoints)
        np.testing.assert_allclose(got.scores, expected.scores, rtol=SIGMOID_RTOL)
        out.keypoints[:] = np.nan
    assert cpu_cuda.synchronized == [55, 56]
    assert cpu_cuda.allocations == allocated
    with pytest.raises(ValueError, match=r"^B must be at least 0, got -1$"):
        posepost.pinned(-1, 3)
    small = posepost.pinned(2, 2)
    with pytest.raises(ValueError, match=r"^out\.keypoints must have shape \(2, 3, 2\), got \(2, 2, 2\)$"):
        posepost.decode_posenet(
            to_device(heatmaps), to_device(offsets), output_stride=8, out=small, activation="sigmoid"
        )


def test_stream_reaches_the_launch(cpu_cuda: ExecutorCuda) -> None:
    class Stream:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 77

    heatmaps, offsets = to_device(np.zeros((1, 1, 2, 2), np.float32)), to_device(np.zeros((1, 2, 2, 2), np.float32))
    for stream in (None, 55, Stream()):
        posepost.decode_posenet(heatmaps, offsets, output_stride=8, stream=stream, activation="sigmoid")
    assert [launched.stream for launched in cpu_cuda.launches] == [STREAM, 55, 77]


def test_streams_do_not_share_a_workspace(cpu_cuda: ExecutorCuda) -> None:
    same = _cuda.work(8, 3, 0, 55)
    assert _cuda.work(8, 3, 0, 55)[:2] == same[:2]
    assert not set(_cuda.work(8, 3, 0, 56)[:2]) & set(same[:2])
    larger = _cuda.work(10**5, 3, 0, 55)
    assert larger.zeroed != same.zeroed
    assert larger.scratch == same.scratch
    assert same.arrays[0].data.ptr == same.zeroed  # whoever has the smaller one keeps it until the launch
    assert larger.arrays[0].nbytes < 8 * 1.05 * 10**5
    posepost._cuda.release_memory()
    assert not _cuda._workspaces
    assert not _cuda._scratch


def test_a_repeated_call_uses_its_plan(cpu_cuda: ExecutorCuda) -> None:
    heatmaps, offsets = to_device(np.zeros((1, 1, 2, 2), np.float32)), to_device(np.zeros((1, 2, 2, 2), np.float32))
    for _ in range(3):
        posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    assert posepost.posenet._plan.cache_info()[:2] == (2, 1)


@pytest.mark.parametrize("device", [False, True])
def test_three_dimensions_are_a_batch_of_one_and_an_empty_batch_is_empty(cpu_cuda: ExecutorCuda, device: bool) -> None:
    place = to_device if device else np.array
    heatmaps, offsets = values("random", "float32", (4, 5, 3), 1), values("random", "float32", (4, 5, 6), 2)
    one = posepost.decode_posenet(place(heatmaps), place(offsets), output_stride=8, activation="sigmoid").numpy()
    batch = posepost.decode_posenet(heatmaps[None], offsets[None], output_stride=8, layout="NHWC", activation="sigmoid")
    equal(one.keypoints, batch.keypoints)
    empty = posepost.decode_posenet(
        place(heatmaps[None][:0]), place(offsets[None][:0]), output_stride=8, activation="sigmoid"
    ).numpy()
    assert empty.keypoints.shape == (0, 3, 2)
    assert empty.scores.shape == (0, 3)


def test_inputs_are_not_written(cpu_cuda: ExecutorCuda) -> None:
    heatmaps, offsets = values("random", "float32", (2, 3, 4, 5), 1), values("random", "float32", (2, 6, 4, 5), 2)
    for place in (np.array, to_device):
        h, o = place(heatmaps), place(offsets)
        posepost.decode_posenet(h, o, output_stride=8, transform=MATRIX, activation="sigmoid")
        equal(h if place is np.array else host(h), heatmaps)
        equal(o if place is np.array else host(o), offsets)
