"""decode_simcc against what MMPose computed, through NumPy and kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda
from bench.tolerance import VISIBILITY_RTOL

from ..conftest import SHARED
from ..helpers import (
    equal,
)
from .common import logarithms, on_both

pytestmark = pytest.mark.usefixtures("fresh_plans")


FOLDERS = {"simcc": SHARED / "bottomup" / "simcc_mmpose", "flip": SHARED / "bottomup" / "flip_mmpose"}


CODEC = sorted(path.stem for path in FOLDERS["simcc"].glob("*.npz"))


FLIPS = sorted(path.stem for path in FOLDERS["flip"].glob("simcc_*.npz"))


TOPDOWN = sorted(path.stem for path in (SHARED / "topdown").glob("simcc_*.npz"))


def load(folder: Path, case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays, vectors as float32 (which is what the codec saw), and the codec's parameters."""
    with np.load(folder / f"{case}.npz") as stored:
        arrays = {name: stored[name] for name in stored}
    for name in arrays:
        if name.startswith("simcc"):
            arrays[name] = arrays[name].astype(np.float32)
    manifest = json.loads((SHARED / "bottomup" / "manifest.json").read_text(encoding="utf-8"))
    found = [file["params"] for file in manifest["files"] if file["file"].endswith(f"/{case}.npz")]
    return arrays, found[0] if found else {"sigma": [6.0, 6.0], "split_ratio": 1.0}


def test_the_golden_files_are_there(shared: Path) -> None:
    assert (len(CODEC), len(FLIPS), len(TOPDOWN)) == (5, 4, 2)


@pytest.mark.parametrize("case", CODEC)
def test_codec_plain_and_visibility(shared: Path, cpu_cuda: ExecutorCuda, case: str) -> None:
    golden, codec = load(FOLDERS["simcc"], case)
    options = {
        "split_ratio": codec["split_ratio"],
        "sigma": codec["sigma"],
        "visibility": True,
        "beta": codec["decode_beta"],
    }
    for got in on_both(golden["simcc_x"], golden["simcc_y"], **options):
        equal(got.keypoints, golden["plain_xy"])
        equal(got.scores, golden["scores"])
        np.testing.assert_allclose(got.visibility, golden["visibility"], rtol=VISIBILITY_RTOL)


@pytest.mark.parametrize("case", CODEC)
def test_codec_dark(shared: Path, cpu_cuda: ExecutorCuda, case: str) -> None:
    """1e-4 px, and where MMPose's own result moves further under noise of 1e-6, 4 times as far as that."""
    golden, codec = load(FOLDERS["simcc"], case)
    expected, sensitivity = golden["dark_xy"], golden["dark_sensitivity"]
    steady = np.isfinite(expected) & (sensitivity < 1)  # sensitivity may be NaN
    assert steady.mean() > 0.9
    options = {"split_ratio": codec["split_ratio"], "sigma": tuple(codec["sigma"]), "refine": "dark"}
    for got in on_both(golden["simcc_x"], golden["simcc_y"], **options):
        assert (np.abs(got.keypoints - expected)[steady] <= np.maximum(1e-4, 4 * sensitivity)[steady]).all()
        # absent: -1 with a step of 0, as in MMPose; which has NaN where all of an axis is zero, and there alone
        absent = golden["scores"] <= 0
        minus = np.float32(-1) / np.float32(codec["split_ratio"])
        assert absent.sum() == 2
        assert (got.keypoints[absent] == minus).all()
        zeros = np.stack([~golden[name].any(axis=2) for name in ("simcc_x", "simcc_y")], axis=-1)
        equal(np.isnan(expected), zeros)
        equal(expected[absent][~zeros[absent]], minus)


@pytest.mark.parametrize("case", TOPDOWN)
def test_functions(shared: Path, cpu_cuda: ExecutorCuda, case: str) -> None:
    """get_simcc_maximum, alone and after a softmax, and refine_simcc_dark."""
    golden, _ = load(SHARED / "topdown", case)
    x, y = golden["simcc_x"], golden["simcc_y"]
    dark = {"split_ratio": 1, "sigma": 6.0, "refine": "dark"}
    still, moved, rng = posepost.decode_simcc(x, y, **dark).keypoints, np.float32(0), np.random.default_rng(1)
    for _ in range(20):  # these files store no sensitivity: NumPy's own
        noisy = [one * (1 + 1e-6 * rng.standard_normal(one.shape)).astype(np.float32) for one in (x, y)]
        moved = np.maximum(moved, np.abs(posepost.decode_simcc(*noisy, **dark).keypoints - still))
    steady = np.isfinite(golden["dark_xy"]) & (moved < 1)
    assert steady.mean() > 0.95
    for got in on_both(x, y, split_ratio=1, sigma=1.0, beta=1.0, visibility=True):
        equal(got.keypoints, golden["xy"])
        equal(got.scores, golden["val"])
        np.testing.assert_allclose(got.visibility, golden["softmax_val"], rtol=VISIBILITY_RTOL)
    for got in on_both(x, y, **dark):
        error = np.abs(got.keypoints - golden["dark_xy"])
        assert (error[steady] <= np.maximum(1e-4, 4 * moved)[steady]).all()
        assert (error[steady] <= 1e-4).sum() >= steady.sum() - 1


@pytest.mark.parametrize("case", CODEC)
def test_visibility_after_dark_is_that_of_the_logarithms(shared: Path, case: str) -> None:
    """MMPose's use_dark overwrites its input, and the visibility is then computed from logarithms: what decode_simcc
    gives for them, and not for the vectors."""
    golden, codec = load(FOLDERS["simcc"], case)
    overwritten = [
        logarithms(golden[name], sigma).astype(np.float32)
        for name, sigma in zip(("simcc_x", "simcc_y"), codec["sigma"])
    ]
    options = {"sigma": codec["sigma"], "beta": codec["decode_beta"], "visibility": True}
    expected = golden["visibility_with_dark"]
    some = np.isfinite(expected)
    got = posepost.decode_simcc(*overwritten, **options).visibility
    np.testing.assert_allclose(got[some], expected[some], rtol=5e-3)
    assert not np.allclose(golden["visibility"], expected, rtol=0.1)


@pytest.mark.parametrize("case", CODEC)
@pytest.mark.parametrize(("normalize", "name"), [("sigma", "normalized_x"), ("clip", "normalized_none_x")])
def test_scores_are_the_peaks_of_the_normalized_vectors(
    shared: Path, cpu_cuda: ExecutorCuda, case: str, normalize: str, name: str
) -> None:
    """get_simcc_normalized of x; y is so large that it does not count."""
    golden, codec = load(FOLDERS["simcc"], case)
    x = golden["simcc_x"][:, :9]
    large = np.full((*x.shape[:2], 3), 1e6, np.float32)
    for got in on_both(x, large, sigma=codec["sigma"], normalize=normalize):
        equal(got.scores, golden[name].max(axis=2))


@pytest.mark.parametrize("case", FLIPS)
def test_flip_test(shared: Path, cpu_cuda: ExecutorCuda, case: str) -> None:
    golden, _ = load(FOLDERS["flip"], case)
    with np.load(FOLDERS["flip"] / f"{case}.npz") as stored:
        given = {name: stored[name] for name in ("simcc_x", "simcc_y", "simcc_x_flip", "simcc_y_flip")}
    for kind in (np.float16, np.float32):
        x, y, flipped_x, flipped_y = (one.astype(kind) for one in given.values())
        flip = posepost.Flip((flipped_x, flipped_y), golden["flip_indices"])
        for got in on_both(x, y, split_ratio=1, flip=flip):
            equal(got.keypoints, golden["merged_max_xy"])
            equal(got.scores, golden["merged_max_val"])
