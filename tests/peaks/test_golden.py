"""What real peers computed: trt_pose's find_peaks and refine_peaks, SLEAP's local peaks, through NumPy and kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device

from ..conftest import SHARED

pytestmark = pytest.mark.usefixtures("fresh_plans")

TRT_POSE = sorted(
    path.name for path in (SHARED / "bottomup" / "trt_pose").glob("*.npz") if "assignment" not in path.name
)
SLEAP = sorted(path.name for path in (SHARED / "bottomup" / "sleap_integral_from_formula").glob("*.npz"))


def both(maps: np.ndarray, **options: Any) -> list[posepost.Peaks]:
    """By NumPy, and by the kernel."""
    return [
        posepost.find_peaks(maps, **options),
        posepost.find_peaks(to_device(maps), **options).numpy(),
    ]


def parameters(shared: Path, name: str) -> dict[str, Any]:
    files = json.loads((shared / "bottomup" / "manifest.json").read_text())["files"]
    (entry,) = (entry for entry in files if entry["file"] == name)
    return entry["params"]


def test_the_golden_files_are_there(shared: Path) -> None:
    assert (len(TRT_POSE), len(SLEAP)) == (24, 5)


@pytest.mark.parametrize("file", TRT_POSE)
def test_trt_pose(shared: Path, cpu_cuda: ExecutorCuda, file: str) -> None:
    """Peaks equal; their centroids within 1e-6 of the map's size. trt_pose keeps the first M of a map in raster
    order, we the best: both are compared where there is room for all."""
    given = parameters(shared, f"trt_pose/{file}")
    with np.load(shared / "bottomup" / "trt_pose" / file) as z:
        maps, counts, cells, points = (z[name] for name in ("cmap", "counts", "peaks", "refined_peaks"))
    _, _, H, W = maps.shape
    options = {
        "threshold": given["cmap_threshold"],
        "max_peaks": 150,
        "nms_window": given["cmap_window"],
        "activation": None,
    }
    plain = both(maps, **options)
    fine = both(maps, **options, refine=posepost.Centroid(given["cmap_window"], border="reflect_101"))
    compared = 0
    for found, refined in zip(plain, fine):
        assert not found.dropped.any()
        np.testing.assert_array_equal(found.scores, refined.scores)
        for n, k in np.ndindex(*counts.shape):
            mine, between = found.points[n, k, : found.count[n, k]], refined.points[n, k, : found.count[n, k]]
            raster = np.lexsort((mine[:, 0], mine[:, 1]))[: given["M"]]
            assert len(raster) == counts[n, k]
            np.testing.assert_array_equal(mine[raster, ::-1], cells[n, k, : counts[n, k]])
            relative = (between[raster, ::-1] + 0.5) / [H, W]
            np.testing.assert_allclose(relative, points[n, k, : counts[n, k]], rtol=0, atol=1e-6)
            compared += len(raster)
    assert compared == 2 * counts.sum()


@pytest.mark.parametrize("file", SLEAP)
def test_sleap_local_peaks(shared: Path, cpu_cuda: ExecutorCuda, file: str) -> None:
    """Strictly above all eight neighbors and above 0.2, refined by the integral of a 5x5 window."""
    stride = parameters(shared, f"sleap_integral_from_formula/{file}")["output_stride"]
    with np.load(shared / "bottomup" / "sleap_integral_from_formula" / file) as z:
        maps, counts, points, values = (z[name] for name in ("heatmaps", "counts", "local_xy", "local_val"))
    options = {"threshold": 0.2, "max_peaks": 30, "plateau": "none", "activation": None, "refine": "centroid"}
    for found in both(maps, **options):
        np.testing.assert_array_equal(found.count[0], counts)
        for k, count in enumerate(counts):
            got, score = found.points[0, k, :count] * stride, found.scores[0, k, :count]
            best_first = np.lexsort((np.arange(count), -values[k, :count]))
            np.testing.assert_array_equal(score, values[k, best_first].astype(np.float32))
            expected = points[k, best_first]
            known = np.isfinite(expected).all(axis=1) & (np.abs(expected) < 1e4).all(axis=1)  # a window may sum to 0
            assert known.sum() >= count - 1
            np.testing.assert_allclose(got[known], expected[known], rtol=0, atol=2e-4)
