"""decode_heatmap in NumPy against the rules of reference implementations as plain loops, where no golden file has them,
and its geometry."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

import posepost
from posepost._rules.heatmap import PRESETS
from posepost._rules.refinement import gaussian_taps
from posepost._rules.simcc import PRESETS as SIMCC_PRESETS
from posepost._rules.thresholds import ABOVE_ZERO
from posepost.ref import refine

RNG = np.random.default_rng(7)


def maps_with_borders() -> np.ndarray:
    """Peaks in every corner, on every side, one cell from them and inside; ties of neighbors; all below 0; zeros."""
    H, W = 9, 8
    maps = RNG.uniform(0, 0.3, (1, 40, H, W)).astype(np.float32)
    places = [(y, x) for y in (0, 1, 4, H - 2, H - 1) for x in (0, 1, 3, W - 2, W - 1)]
    for k, (y, x) in enumerate(places):
        maps[0, k, y, x] = 1
    maps[0, 30] = 0.25  # a plateau
    maps[0, 31] -= 1
    maps[0, 32] = 0
    maps[0, 33, 4, 3:6] = 0.9
    return maps


def decoded(preset: str, **options: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    maps = maps_with_borders()
    got = posepost.decode_heatmap(maps, preset=preset, **options)  # type: ignore[arg-type]
    return maps[0], got.keypoints[0], got.scores[0]


def first_largest(m: np.ndarray) -> tuple[int, int]:
    return tuple(int(i) for i in np.unravel_index(m.argmax(), m.shape))


def sign(v: float) -> float:
    return float(v > 0) - float(v < 0)


@pytest.mark.parametrize(("preset", "absent"), [("hrnet", 0.0), ("mmdeploy", -1.0)])
def test_hrnet_and_mmdeploy(preset: str, absent: float) -> None:
    """HRNet get_final_preds; mmdeploy the same with -1 for what is not there."""
    for m, point, score in zip(*decoded(preset)):
        y, x = first_largest(m)
        assert score == m[y, x]
        H, W = m.shape
        if m[y, x] <= 0:
            assert point.tolist() == [absent, absent]
            continue
        px, py = math.floor(x + 0.5), math.floor(y + 0.5)
        expected = [float(x), float(y)]
        if 1 < px < W - 1 and 1 < py < H - 1:
            expected[0] += 0.25 * sign(m[py, px + 1] - m[py, px - 1])
            expected[1] += 0.25 * sign(m[py + 1, px] - m[py - 1, px])
        assert point.tolist() == expected


def test_higherhrnet() -> None:
    """adjust: neighbors clamped, a tie goes back, half a cell more."""
    for m, point, _ in zip(*decoded("higherhrnet", threshold=-math.inf)):
        y, x = first_largest(m)
        H, W = m.shape
        expected = [
            x + (0.25 if m[y, min(x + 1, W - 1)] > m[y, max(x - 1, 0)] else -0.25) + 0.5,
            y + (0.25 if m[min(y + 1, H - 1), x] > m[max(y - 1, 0), x] else -0.25) + 0.5,
        ]
        assert point.tolist() == expected


def test_trt_pose() -> None:
    """refine_peaks: weights of mirrored cells at their own coordinates, (p + 0.5) / size."""

    def mirror(i: int, size: int) -> int:
        return -i if i < 0 else size - (i - size) - 2 if i >= size else i

    for m, point, score in zip(*decoded("trt_pose", input_size=(1, 1))):
        y, x = first_largest(m)
        H, W = m.shape
        if score <= 0:
            continue
        window = [(i, j) for i in range(y - 2, y + 3) for j in range(x - 2, x + 3)]
        weights = np.array([m[mirror(i, H), mirror(j, W)] for i, j in window], np.float64)
        center = weights @ np.array(window) / weights.sum()
        np.testing.assert_allclose(point[::-1], (center + 0.5) / [H, W], rtol=0, atol=1e-6)


def test_openpose() -> None:
    """7x7 inside the map, values above 0 alone, half a cell more."""
    for m, point, score in zip(*decoded("openpose")):
        y, x = first_largest(m)
        if score <= 0:
            continue
        H, W = m.shape
        window = [(i, j) for i in range(max(y - 3, 0), min(y + 4, H)) for j in range(max(x - 3, 0), min(x + 4, W))]
        weights = np.array([max(float(m[i, j]), 0) for i, j in window])
        center = weights @ np.array(window) / weights.sum()
        np.testing.assert_allclose(point[::-1], center + 0.5, rtol=0, atol=2e-6)


def test_mediapipe() -> None:
    """Weights are sigmoids of logits, the window is clipped, no half cell; around the maximum."""
    for m, point, score in zip(*decoded("mediapipe", input_size=(1, 1))):
        y, x = first_largest(m)
        H, W = m.shape
        window = [(i, j) for i in range(max(y - 3, 0), min(y + 4, H)) for j in range(max(x - 3, 0), min(x + 4, W))]
        weights = np.array([1 / (1 + math.exp(-float(m[i, j]))) for i, j in window])
        center = weights @ np.array(window) / weights.sum()
        if score >= 0.5:
            np.testing.assert_allclose(point[::-1], center / [H, W], rtol=0, atol=1e-6)
        else:
            np.testing.assert_allclose(point[::-1], np.array([y, x]) / [H, W], rtol=0, atol=1e-6)
        np.testing.assert_allclose(score, 1 / (1 + math.exp(-float(m[y, x]))), rtol=1e-6)


def test_vitpose_of_hugging_face() -> None:
    """scipy's gaussian_filter (sigma 0.8, radius 5, reflect), clip to 0.001 ... 50, Taylor step on edge-padded
    logarithms."""
    taps = np.exp(-0.5 / 0.64 * np.arange(-5, 6) ** 2)
    taps /= taps.sum()
    for m, point, score in zip(*decoded("vitpose_hf", scaling="msra")):
        y, x = first_largest(m)
        if score <= 0:
            assert point.tolist() == [-1, -1]
            continue
        H, W = m.shape
        padded = np.pad(m.astype(np.float64), 5, mode="symmetric")
        blurred = sum(t * padded[:, i : i + W] for i, t in enumerate(taps))
        blurred = sum(t * blurred[i : i + H] for i, t in enumerate(taps))
        L = np.pad(np.log(np.clip(blurred, 0.001, 50)), 1, mode="edge")[y : y + 3, x : x + 3]
        d = np.array([L[1, 2] - L[1, 0], L[2, 1] - L[0, 1]]) / 2
        cross = (L[2, 2] - L[1, 2] - L[2, 1] + 2 * L[1, 1] - L[1, 0] - L[0, 1] + L[0, 0]) / 2
        hessian = np.array(
            [[L[1, 2] - 2 * L[1, 1] + L[1, 0], cross], [cross, L[2, 1] - 2 * L[1, 1] + L[0, 1]]]
        ) + np.finfo(np.float32).eps * np.eye(2)
        step = np.linalg.solve(hessian, d)
        if abs(step).max() < 5:
            np.testing.assert_allclose(point, [x, y] - step, rtol=0, atol=2e-4)


def test_opencv_gaussians() -> None:
    """OpenCV's sigma for a size, its fixed small kernels, and that all sum to 1 (decoders.md 2.6)."""
    assert gaussian_taps(3) == (0.25, 0.5, 0.25)
    assert gaussian_taps(5) == (0.0625, 0.25, 0.375, 0.25, 0.0625)
    for size, sigma in ((11, 2.0), (17, 2.9), (23, 3.8)):
        taps = np.array(gaussian_taps(size))
        np.testing.assert_allclose(taps[0] / taps[size // 2], math.exp(-((size // 2) ** 2) / (2 * sigma**2)), rtol=1e-6)
    for size in range(1, 36, 2):
        assert abs(sum(gaussian_taps(size)) - 1) < 1e-6


@pytest.mark.parametrize("border", ["reflect", "reflect_101"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_mirrored_borders_are_numpys(border: str, size: int) -> None:
    at = np.arange(-17, size + 17)
    mode = {"reflect": "symmetric", "reflect_101": "reflect"}[border]
    assert refine.inside(at, size, border).tolist() == np.pad(np.arange(size), 17, mode=mode).tolist()


def test_input_arrays_are_not_written() -> None:
    maps = maps_with_borders()
    before = maps.tobytes()
    for preset in PRESETS:
        if preset != "mmpose_udp_combined":
            maps.flags.writeable = False
            posepost.decode_heatmap(maps, preset=preset)
    posepost.decode_heatmap(maps[:, :39], preset="mmpose_udp_combined")
    assert maps.tobytes() == before


def test_plateaus_zeros_and_negatives_are_as_documented() -> None:
    maps = maps_with_borders()[:, 30:33]  # a plateau, all negative, zeros
    keypoints, scores = posepost.decode_heatmap(maps)
    assert keypoints[0, 0].tolist() == [0, 0]
    assert keypoints[0, 2].tolist() == [0, 0]
    assert (scores[0] <= [0.25, 0, 0]).all()
    keypoints, scores = posepost.decode_heatmap(maps, preset="sleap")
    assert np.isnan(keypoints[0, 1:]).all()
    assert scores[0, 1:].tolist() == [0, 0]
    negative = posepost.decode_heatmap(maps[:, 1:2], refine="dark", threshold=0.0, absent=-1.0)
    assert negative.keypoints[0, 0].tolist() == [-1, -1]
    assert negative.scores[0, 0] == maps[0, 1].max()
    kept = posepost.decode_heatmap(maps[:, 1:2], refine="quarter", threshold=ABOVE_ZERO)
    y, x = first_largest(maps[0, 1])
    assert kept.keypoints[0, 0].tolist() == [x, y]  # below the threshold: not refined, but kept
    refined = posepost.decode_heatmap(maps[:, 1:2], refine=posepost.Quarter("higherhrnet"))
    assert (np.abs(refined.keypoints[0, 0] - [x, y]) == 0.25).all()


def test_udp_scaling_of_a_single_column_is_the_formula() -> None:
    """p / (W - 1) with W = 1 is 0 / 0."""
    keypoints, _ = posepost.decode_heatmap(np.ones((1, 1, 4, 1), np.float32), scaling="udp", input_size=(2, 8))
    assert np.isnan(keypoints[0, 0, 0])
    assert keypoints[0, 0, 1] == 0


def test_the_table_of_presets_is_the_code_s() -> None:
    text = (Path(__file__).parents[2] / "docs" / "presets.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| `([^`]*)` \|", text, re.M)
    names = {**vars(posepost), "nan": math.nan, "ABOVE_ZERO": ABOVE_ZERO}
    documented = {name: eval(f"dict({arguments})", names) for name, arguments in rows}
    presets = {**PRESETS, **SIMCC_PRESETS}
    assert list(documented) == list(presets)
    assert repr(documented) == repr(presets)
