"""find_peaks' kernel, on the CPU executor, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, KINDS, VIEWS, values
from bench.cuda_cpu.seam import ExecutorCuda
from bench.tolerance import DARK_RTOL

from ..helpers import SCHEDULES, check_peaks, gaussian_maps

pytestmark = pytest.mark.usefixtures("fresh_plans")


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_equals_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """Every kind of value, both plateau rules, windows up to larger than the map."""
    found = left = 0
    for case, kind in enumerate(KINDS):
        for shape in ((2, 3, 9, 11), (1, 2, 1, 1), (1, 1, 1, 300), (1, 2, 40, 3)):
            cpu_cuda.schedule = SCHEDULES[case % 4]
            for plateau, window in (("all", 3), ("none", 3), ("all", 7), ("none", 1)):
                threshold = -2.0 if kind in ("negative", "constant") else 0.0
                options = {"plateau": plateau, "nms_window": window, "threshold": threshold}
                got = check_peaks(values(kind, dtype, shape, case), view_name, **options)
                found, left = found + int(got.count.sum()), left + int(got.dropped.sum())
    assert found > 100
    assert left > 100
    assert {launched.variant.entry for launched in cpu_cuda.launches} == {"find_peaks"}


@pytest.mark.parametrize("view_name", ["nchw", "nhwc", "nchw_every_other_column"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_refined_peaks_equal_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """Every rule, peaks at borders, more of them than warps; what + - * / alone give is equal."""
    refinements = (
        posepost.Quarter(),
        posepost.Quarter(guard="higherhrnet"),
        posepost.Centroid(window=7, border="reflect_101"),
        posepost.Centroid(positive=True),
        posepost.SoftArgmax(window=3, temperature=0.5),
        posepost.Dark(blur=5),
        posepost.DarkUDP(blur=5),
        posepost.DarkUDP(blur=11, blur_sigma=0.8, border="reflect"),
    )
    for case, refine in enumerate(refinements):
        cpu_cuda.schedule = SCHEDULES[case % 4]
        heatmaps = gaussian_maps((2, 3, 19, 22), dtype, case)
        options = {"threshold": 0.05, "max_peaks": 12, "nms_window": 5, "refine": refine}
        tolerance = 30 * DARK_RTOL if "dark" in refine.kind else 1e-6 if refine.kind == "soft_argmax" else 0
        got = check_peaks(heatmaps, view_name, tolerance, **options)
        cells = check_peaks(heatmaps, view_name, **{**options, "refine": "none"})
        np.testing.assert_array_equal(got.scores, cells.scores)
        moved = np.abs(got.points - cells.points).max(axis=-1)[got.scores > 0]
        assert (moved > 0).any()


def test_a_clip_of_dark_needs_the_whole_map(cpu_cuda: ExecutorCuda) -> None:
    """Weak peaks beside a strong one: they are looked at again with the maximum of the blurred map, the strong one is
    not."""
    heatmaps = np.max([gaussian_maps((1, 2, 24, 24), "float32", seed) for seed in range(6)], axis=0) * np.float32(2e-3)
    heatmaps[0, 0, 12, 12] = 0.5
    options = {"threshold": 2e-4, "max_peaks": 20, "nms_window": 5, "refine": posepost.DarkUDP(blur=5)}
    got = check_peaks(heatmaps, "nchw", 3e-4, **options)
    assert got.count.min() > 2
    options["refine"] = posepost.DarkUDP(blur=5, border="reflect_101")
    reflected = posepost.find_peaks(heatmaps, **options, activation=None)
    assert np.abs(reflected.points - got.points).max() > 1e-2  # that border knows no factor


def test_peaks_of_a_map_of_one_row_moved_out_of_it(cpu_cuda: ExecutorCuda) -> None:
    """The mixed derivative of DARK-UDP was rounding, over a diagonal of 1e-7: 0.16 and 1 row, in one of both."""
    rows = np.array([[0.3363445, 1.5489151, -0.69729966, 0.1], [0.3, -0.066882074, 0.18201861, 0.19164467]], np.float32)
    for maps in (rows.reshape(1, 2, 1, 4), rows.reshape(1, 2, 4, 1)):
        options = {"threshold": 1e-3, "max_peaks": 4, "nms_window": 1, "refine": posepost.DarkUDP(blur=1)}
        got = check_peaks(maps, "nchw", 1e-4, **options)
        assert got.count.tolist() == [[3, 3]]
        assert (got.points[..., 1 if maps.shape[2] == 1 else 0] == 0).all()


def test_sigmoid_and_threshold_in_probabilities(cpu_cuda: ExecutorCuda) -> None:
    heatmaps = values("random", "float32", (2, 3, 9, 11), 1) * 3
    for threshold in (0.0, 0.2, 0.5, 0.9, 1.0):
        got = check_peaks(heatmaps, "nchw", activation="sigmoid", threshold=threshold, max_peaks=50)
        assert (got.scores[got.scores > 0] >= threshold * (1 - 1e-6)).all()


def test_the_best_are_kept_and_the_others_counted(cpu_cuda: ExecutorCuda) -> None:
    heatmaps = np.zeros((1, 1, 9, 9), np.float32)
    heatmaps[0, 0, ::2, ::2] = np.arange(25).reshape(5, 5) / 25 + 0.1  # 25 peaks, the best last in raster order
    got = check_peaks(heatmaps, "nchw", threshold=0.05, max_peaks=3)
    assert got.points[0, 0].tolist() == [[8, 8], [6, 8], [4, 8]]
    assert (got.count[0, 0], got.dropped[0, 0]) == (3, 22)


@pytest.mark.parametrize("view_name", ["nchw", "nhwc"])
@pytest.mark.parametrize("max_peaks", [1, 40, 1500])
def test_more_peaks_than_shared_memory_lists(cpu_cuda: ExecutorCuda, view_name: str, max_peaks: int) -> None:
    """Levels of 40 x 60 cells are 2400 peaks; of a chequered map every other cell is one, strictly."""
    level = np.full((1, 2, 40, 60), 0.5, np.float32)
    level[0, 1] += np.arange(2400, dtype=np.float32).reshape(40, 60) % 7
    got = check_peaks(level, view_name, plateau="all", nms_window=3, threshold=0.25, max_peaks=max_peaks)
    assert got.dropped[0, 0] == 2400 - min(max_peaks, 2400)
    y, x = np.indices((70, 80))
    chequered = np.where((x % 2 == 0) & (y % 2 == 0), 1.0, 0.0).astype(np.float32)[None, None]
    got = check_peaks(chequered, view_name, plateau="none", nms_window=3, threshold=0.25, max_peaks=max_peaks)
    assert got.count[0, 0] + got.dropped[0, 0] == 35 * 40
