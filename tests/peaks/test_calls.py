"""find_peaks: out, stream, batches, memory."""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.arrays import values
from bench.cuda_cpu.seam import ExecutorCuda, host, to_device
from posepost import _cuda, peaks

pytestmark = pytest.mark.usefixtures("fresh_plans")


def test_one_launch_out_and_stream(cpu_cuda: ExecutorCuda) -> None:
    heatmaps = to_device(values("random", "float32", (2, 3, 9, 11), 1))
    first = posepost.find_peaks(heatmaps, threshold=0.6, max_peaks=5, stream=55, activation="sigmoid")
    assert [launched.stream for launched in cpu_cuda.launches] == [55]
    expected = first.numpy()
    for array in (*first, first.dropped):
        host(array)[...] = 77
    before = cpu_cuda.allocations
    again = posepost.find_peaks(heatmaps, threshold=0.6, max_peaks=5, out=first, stream=55, activation="sigmoid")
    assert cpu_cuda.allocations == before
    assert all(a is b for a, b in zip((*again, again.dropped), (*first, first.dropped)))
    for got, wanted in zip((*again.numpy(), again.numpy().dropped), (*expected, expected.dropped)):
        np.testing.assert_array_equal(got, wanted)
    pair = posepost.find_peaks(heatmaps, threshold=0.6, max_peaks=5, out=tuple(first), stream=55, activation="sigmoid")
    np.testing.assert_array_equal(pair.numpy().dropped, expected.dropped)


def test_empty_batch_and_three_dimensions(cpu_cuda: ExecutorCuda) -> None:
    heatmaps = values("random", "float32", (3, 9, 11), 1)
    one = posepost.find_peaks(to_device(heatmaps), threshold=0.6, max_peaks=5, activation="sigmoid").numpy()
    batch = posepost.find_peaks(heatmaps[None], threshold=0.6, max_peaks=5, activation="sigmoid")
    np.testing.assert_array_equal(one.points, batch.points)
    empty = posepost.find_peaks(to_device(heatmaps[None][:0]), threshold=0.6, max_peaks=5, activation="sigmoid").numpy()
    assert [array.shape for array in (*empty, empty.dropped)] == [(0, 3, 5, 2), (0, 3, 5), (0, 3), (0, 3)]


def test_the_workspace_holds_what_can_be_a_peak_and_no_more(cpu_cuda: ExecutorCuda) -> None:
    """Strict peaks are more than half a window apart; the first 1024 need no room, but where blocks share a map."""
    heatmaps = to_device(np.zeros((2, 3, 256, 256), np.float32))
    for plateau, window, most, processors in (
        ("all", 3, 256 * 256, 132),
        ("none", 3, 128 * 128, 132),
        ("all", 3, 256 * 256, 2),
        ("none", 3, 128 * 128, 2),
        ("none", 9, 52 * 52, 2),
        ("none", 17, 29 * 29, 2),
    ):
        cpu_cuda.processors = processors
        peaks._plan.cache_clear()
        _cuda.release_memory()
        posepost.find_peaks(
            heatmaps, threshold=0.5, max_peaks=30, nms_window=window, plateau=plateau, activation=None, layout="NCHW"
        )
        words = 2 * 3 * ((most if processors == 132 else max(0, most - 1024)) + 30)
        (scratch,) = _cuda._scratch.values()
        assert 8 * words <= scratch.nbytes < 8 * (words + 4096)
