"""The short ways of NumPy give the bits of the long ones: order of sums, blurred maximum, any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import KINDS, values
from posepost._rules.refinement import Step, gaussian_taps
from posepost.ref import blurred, refine
from posepost.ref.refine import Cells, Maps

SHAPES = [(1, 1, 1), (3, 4, 9), (2, 33, 47), (17, 64, 48), (5, 96, 72), (2, 530, 12)]
RULES = [(11, "zero"), (17, "zero"), (23, "reflect_101"), (35, "reflect_101"), (5, "reflect"), (1, "zero")]


def bumps(shape: tuple[int, int, int], seed: int, *more: tuple[float, float, float]) -> np.ndarray:
    """A peak in each map, and more of them at parts of its sides, with their heights."""
    n, H, W = shape
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:H, :W]
    maps = rng.standard_normal(shape) * 0.01
    maps += np.exp(-((y - H * rng.random((n, 1, 1))) ** 2 + (x - W * rng.random((n, 1, 1))) ** 2) / 12)
    for at_y, at_x, height in more:
        maps += height * np.exp(-((y - H * at_y) ** 2 + (x - W * at_x) ** 2) / 12)
    return maps.astype(np.float32)


def by_loops(maps: np.ndarray, taps: tuple[float, ...], border: str) -> np.ndarray:
    """Along x, then along y, tap after tap."""
    _, H, W = maps.shape
    r = len(taps) // 2
    mode = {"zero": "constant", "reflect": "symmetric", "reflect_101": "reflect"}[border]
    padded = np.pad(maps, ((0, 0), (r, r), (r, r)), mode=mode)
    for axis, size in ((2, W), (1, H)):
        terms = [np.take(padded, range(i, i + size), axis) * np.float32(tap) for i, tap in enumerate(taps)]
        padded = terms[0]
        for term in terms[1:]:
            padded = padded + term
    return padded


def same(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype == np.float32
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("size", "border"), RULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_window_is_blurred_as_the_map_is(shape: tuple[int, int, int], size: int, border: str) -> None:
    """In every cell of every map, alone and many at a time: NumPy's own sums have another order for one peak."""
    maps, taps = bumps(shape, 1), gaussian_taps(size)
    want = by_loops(maps, taps, border)
    step = Step(taps=taps, border=border)
    k, y, x = (index.reshape(-1)[:: max(1, maps.size // 999)] for index in np.indices(shape))
    got = refine.blurred(Maps(maps[None]), 0 * k, k, y, x, step)
    same(got, want[k, y, x])
    for i in (0, len(k) // 2):
        one = [np.array([index[i]]) for index in (0 * k, k, y, x)]
        same(refine.blurred(Maps(maps[None]), *one, step), want[k[i : i + 1], y[i : i + 1], x[i : i + 1]])


@pytest.mark.parametrize(("size", "border"), RULES)
@pytest.mark.parametrize("kind", ["one peak", "two peaks", "equal peaks", "huge", *KINDS])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_blurred_maximum(shape: tuple[int, int, int], kind: str, size: int, border: str) -> None:
    n, H, W = shape
    taps = gaussian_taps(size)
    if kind in KINDS:
        maps = values(kind, "float32", shape, 2)
    else:
        others = {"two peaks": [(0.1, 0.1, 0.97), (0.9, 0.9, 0.98)], "equal peaks": [(0.2, 0.2, 2), (0.8, 0.8, 2)]}
        maps = bumps(shape, 3, *others.get(kind, []))
        if kind == "equal peaks":
            maps = np.round(maps, 1)
        if kind == "huge":
            maps *= np.float32(1e38)
    with np.errstate(all="ignore"):
        cells, largest = blurred.blurred_peaks(Maps(maps[None]), taps, border)
        want = by_loops(maps, taps, border).reshape(n, H * W).argmax(axis=1)
    np.testing.assert_array_equal(cells, want)
    np.testing.assert_array_equal(largest, maps.max(axis=(1, 2)))


def test_one_peak_is_found_in_a_patch_and_rivals_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    taps, bound = gaussian_taps(11), np.ones(9, np.float32)
    cell = blurred._in_patches(bumps((9, 64, 48), 4), bound, taps, "zero")
    assert cell[2].all()
    rivals = bumps((9, 64, 48), 4, (0.1, 0.1, 1.5), (0.9, 0.9, 1.5))
    assert not blurred._in_patches(rivals, 2 * bound, taps, "zero")[2].any()
    assert blurred._in_maps(rivals, 2 * bound, taps, "zero")[2].all()
    constant = np.ones((2, 64, 48), np.float32)
    assert not blurred._in_maps(constant, bound[:2], taps, "reflect")[2].any()

    def refused(*arguments: Any) -> None:
        raise AssertionError("blurred as a whole")

    monkeypatch.setattr(blurred, "blurred_maps", refused)
    blurred.blurred_peaks(Maps(rivals[None]), taps, "zero")
    with pytest.raises(AssertionError, match="blurred as a whole"):
        blurred.blurred_peaks(Maps(constant[None]), taps, "reflect")


@pytest.mark.parametrize("head", ["dark", "dark_udp", "megvii", "udp_combined", "centroid", "soft_argmax", "quarter"])
@pytest.mark.parametrize("scale", [1.0, 20.0, 1e-4])
def test_a_result_does_not_depend_on_the_batch(head: str, scale: float) -> None:
    """More maps than are worked on at a time, against each row and each keypoint alone."""
    maps = bumps((90, 64, 48), 5, (0.3, 0.3, 0.2)).reshape(6, 15, 64, 48) * np.float32(scale)
    channels = 3 if head == "udp_combined" else 1
    temperature = 0.5 if scale == 20 else 1.0
    options = {"refine": posepost.SoftArgmax(temperature=temperature) if head == "soft_argmax" else head}
    keypoints, scores = posepost.decode_heatmap(maps, **options)
    for b in range(6):
        row = posepost.decode_heatmap(maps[b : b + 1], **options)
        same(row.keypoints[0], keypoints[b])
        same(row.scores[0], scores[b])
    for k in range(15 // channels):
        one = posepost.decode_heatmap(maps[:1, channels * k : channels * (k + 1)], **options)
        same(one.keypoints[0, 0], keypoints[0, k])


@pytest.mark.parametrize("n", [1, 2, 300])
def test_sums_are_taken_in_order(n: int) -> None:
    """1e8 swallows what comes after it one by one, and not what is added up first."""
    terms = np.ones((40, n), np.float32)
    terms[0] = 1e8
    same(refine.ordered_sum(terms), np.full(n, 1e8, np.float32))


def test_views_are_read_without_a_copy() -> None:
    rng = np.random.default_rng(6)
    whole = rng.random((2, 8, 9, 12), np.float32)
    index = np.array([0, 1, 1]), np.array([0, 2, 1]), np.array([3, 0, 8]), np.array([1, 0, 3])
    for view in (whole[:, ::3], whole[:, :3, :, ::3], whole.transpose(0, 3, 1, 2)[:, :3, :8], whole[:, 2:5, :, 3:]):
        inside = tuple(np.minimum(at, size - 1) for at, size in zip(index, view.shape))
        same(Maps(view).read(*inside), view[inside])
        assert np.shares_memory(refine.flattened(view)[0], whole)
    peaks = Cells(*(np.zeros(1, np.int64) for _ in range(4)), np.zeros(1, np.float32))
    assert refine.windows(Maps(whole), peaks, 1, "zero")[0].tolist() == [[0], [0], [0]]
