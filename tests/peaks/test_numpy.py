"""find_peaks: NumPy against its rules written as plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bench.arrays import DTYPES, KINDS, VIEWS, quantization_for, values
from bench.tolerance import SIGMOID_RTOL
from posepost import Peaks, find_peaks

pytestmark = pytest.mark.usefixtures("warnings_are_errors")


def loops(maps: np.ndarray, threshold: float, most: int, window: int, plateau: str, activation: str | None) -> Peaks:
    """(B, K, H, W) float32, cell by cell."""
    B, K, H, W = maps.shape
    points, scores = np.zeros((B, K, most, 2), np.float32), np.zeros((B, K, most), np.float32)
    count, dropped = np.zeros((B, K), np.int32), np.zeros((B, K), np.int32)
    reach = window // 2
    least = threshold
    if activation == "sigmoid":
        least = -math.inf if threshold == 0 else math.inf if threshold == 1 else -math.log(1 / threshold - 1)
    for b, k in np.ndindex(B, K):
        found = []
        for y, x in np.ndindex(H, W):
            value = float(maps[b, k, y, x])
            around = [
                float(maps[b, k, v, u])
                for v in range(max(y - reach, 0), min(y + reach + 1, H))
                for u in range(max(x - reach, 0), min(x + reach + 1, W))
                if (v, u) != (y, x)
            ]
            beaten = all(other <= value for other in around) if plateau == "all" else all(o < value for o in around)
            if beaten and value >= least and value > -math.inf:
                found.append((-value, y, x))
        found.sort()
        count[b, k], dropped[b, k] = min(len(found), most), max(len(found) - most, 0)
        for i, (value, y, x) in enumerate(found[:most]):
            points[b, k, i] = x, y
            scores[b, k, i] = 1 / (1 + math.exp(min(value, 700))) if activation == "sigmoid" else -value + 0.0
    return Peaks(points, scores, count, dropped)


def same(got: Peaks, expected: Peaks) -> None:
    np.testing.assert_array_equal(got.points, expected.points)
    np.testing.assert_array_equal(got.count, expected.count)
    np.testing.assert_array_equal(got.dropped, expected.dropped)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=SIGMOID_RTOL, atol=1.2e-38)
    assert [array.dtype for array in (*got, got.dropped)] == [np.float32, np.float32, np.int32, np.int32]


def dequantized(maps: np.ndarray, quantization: dict[str, tuple[float, int]] | None) -> np.ndarray:
    wide = maps.astype(np.float32)
    if quantization is None:
        return wide
    scale, zero = quantization["heatmaps"]
    return (wide - np.float32(zero)) * np.float32(scale)


@pytest.mark.parametrize("activation", ["sigmoid", None])
@pytest.mark.parametrize("plateau", ["all", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_values(kind: str, dtype: str, plateau: str, activation: str | None) -> None:
    maps = values(kind, dtype, (2, 3, 7, 9), 5)
    quantization = quantization_for(dtype, "float32")
    wide = dequantized(maps, quantization)
    for threshold in (0.0, 0.3, 0.5):
        got = find_peaks(
            maps,
            threshold=threshold,
            max_peaks=4,
            plateau=plateau,
            activation=activation,
            quantization=quantization,
        )
        same(got, loops(wide, threshold, 4, 3, plateau, activation))


@pytest.mark.parametrize("plateau", ["all", "none"])
@pytest.mark.parametrize("window", [1, 3, 5, 9, 31])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (6, 8), (17, 3)])
def test_windows_and_sizes(shape: tuple[int, int], window: int, plateau: str) -> None:
    for dtype in ("float32", "uint8"):
        maps = values("ties", dtype, (2, 2, *shape), 6)
        quantization = quantization_for(dtype, "float32")
        options = {"threshold": -3, "max_peaks": 200, "nms_window": window, "plateau": plateau, "activation": None}
        got = find_peaks(maps, quantization=quantization, **options)
        same(got, loops(dequantized(maps, quantization), -3, 200, window, plateau, None))
        if window == 1:
            assert (got.count == maps[0, 0].size).all()


@pytest.mark.parametrize("view", VIEWS)
def test_views(view: str) -> None:
    layout, make = VIEWS[view]
    maps = values("random", "float32", (2, 5, 6, 7), 7)
    got = find_peaks(make(maps, lambda array: array), threshold=0.4, max_peaks=3, layout=layout, activation="sigmoid")
    same(got, loops(maps, 0.4, 3, 3, "all", "sigmoid"))


def test_the_best_are_kept_not_the_first() -> None:
    maps = np.zeros((1, 1, 5, 9), np.float32)
    maps[0, 0, [0, 0, 4, 4, 4], [0, 4, 0, 4, 8]] = 0.3, 0.9, 0.5, 0.9, 0.7
    got = find_peaks(maps, threshold=0.2, max_peaks=3, activation=None)
    assert got.points[0, 0].tolist() == [[4, 0], [4, 4], [8, 4]]
    np.testing.assert_array_equal(got.scores[0, 0], np.float32([0.9, 0.9, 0.7]))
    assert (got.count.tolist(), got.dropped.tolist()) == ([[3]], [[2]])


def test_a_plateau() -> None:
    maps = np.zeros((1, 3, 4), np.float32)
    maps[0, 1, 1:3] = 1
    both = find_peaks(maps, threshold=0.5, max_peaks=5, activation=None)
    assert both.points[0, 0, :3].tolist() == [[1, 1], [2, 1], [0, 0]]
    assert both.count.tolist() == [[2]]
    assert find_peaks(maps, threshold=0.5, max_peaks=5, plateau="none", activation=None).count.tolist() == [[0]]


def test_a_lonely_cell_is_a_peak_whatever_its_value() -> None:
    for dtype, lowest in (("uint8", 0), ("int8", -128)):
        maps = np.full((1, 1, 1), lowest, dtype)
        options = {"threshold": -1000, "max_peaks": 1, "activation": None, "quantization": {"heatmaps": (1, 0)}}
        assert find_peaks(maps, plateau="none", **options).count.tolist() == [[1]]


def test_nan_hides_its_neighbors() -> None:
    maps = np.zeros((1, 5, 5), np.float32)
    maps[0, 2, 2], maps[0, 2, 3], maps[0, 2, 0] = np.nan, 9, 3
    got = find_peaks(maps, threshold=1, max_peaks=5, activation=None)
    assert got.points[0, 0, : got.count[0, 0]].tolist() == [[0, 2]]
    assert find_peaks(maps * np.nan, threshold=0, max_peaks=5, activation="sigmoid").count.tolist() == [[0]]


def test_the_threshold_is_compared_exactly() -> None:
    """float32(0.7) lies below 0.7 and does not reach it; a logit of 0 is 0.5, and 0.5 is reached."""
    maps = np.full((1, 1, 1), np.float32(0.7))
    assert find_peaks(maps, threshold=0.7, max_peaks=1, activation=None).count.tolist() == [[0]]
    assert find_peaks(maps, threshold=float(np.float32(0.7)), max_peaks=1, activation=None).count.tolist() == [[1]]
    assert find_peaks(maps * 0, threshold=0.5, max_peaks=1, activation="sigmoid").count.tolist() == [[1]]
    below = np.nextafter(maps * 0, np.float32(-1))
    assert find_peaks(below, threshold=0.5, max_peaks=1, activation="sigmoid").count.tolist() == [[0]]


def test_saturated_logits_are_told_apart() -> None:
    maps = np.full((1, 1, 7), -1, np.float32)
    maps[0, 0, [1, 5]] = 30, 40
    got = find_peaks(maps, threshold=0.5, max_peaks=2, activation="sigmoid")
    assert got.points[0, 0, :, 0].tolist() == [5, 1]
    assert got.scores[0, 0].tolist() == [1, 1]


def test_out() -> None:
    maps = values("random", "float32", (2, 3, 8, 9), 8)
    options = {"threshold": 0.2, "max_peaks": 2}
    expected = find_peaks(maps, **options, activation="sigmoid")
    assert expected.dropped.any()
    given = Peaks(*(np.full_like(array, 9) for array in (*expected, expected.dropped)))
    got = find_peaks(maps, out=given, **options, activation="sigmoid")
    assert all(a is b for a, b in zip((*got, got.dropped), (*given, given.dropped)))
    same(got, expected)
    plain = tuple(np.full_like(array, 9) for array in expected)
    same(find_peaks(maps, out=plain, **options, activation="sigmoid"), expected)


def test_nothing_in_nothing_out() -> None:
    got = find_peaks(np.zeros((0, 3, 4, 5), np.float32), threshold=0.5, max_peaks=2, activation="sigmoid")
    assert [array.shape for array in (*got, got.dropped)] == [(0, 3, 2, 2), (0, 3, 2), (0, 3), (0, 3)]


ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (ValueError, "threshold must be from 0 to 1, got 1.01", {"threshold": 1.01}),
    (ValueError, "threshold must be finite, got inf", {"threshold": math.inf, "activation": None}),
    (TypeError, "threshold must be a number, got bool", {"threshold": True}),
    (ValueError, "max_peaks must be at least 1, got 0", {"max_peaks": 0}),
    (TypeError, "max_peaks must be an int, got float", {"max_peaks": 2.0}),
    (ValueError, "nms_window must be odd, got 4", {"nms_window": 4}),
    (ValueError, "nms_window must be at least 1, got -3", {"nms_window": -3}),
    (ValueError, "plateau must be \"all\" or \"none\", got 'first'", {"plateau": "first"}),
    (ValueError, "layout must be \"NCHW\" or \"NHWC\", got 'HWC'", {"layout": "HWC"}),
    (ValueError, "activation must be \"sigmoid\" or None, got 'softmax'", {"activation": "softmax"}),
    (ValueError, "heatmaps must have 3 or 4 dimensions, got shape (4, 5)", {"heatmaps": np.zeros((4, 5), np.float32)}),
    (ValueError, "heatmaps must have at least one channel, row and column, got shape (3, 0, 5)",
     {"heatmaps": np.zeros((3, 0, 5), np.float32)}),
    (ValueError, "quantization must give (scale, zero_point) of heatmaps, which is uint8, got None",
     {"heatmaps": np.zeros((3, 4, 5), np.uint8)}),
    (TypeError, "out must be a result of the same call or a tuple (points, scores, count), got list", {"out": []}),
    (TypeError, "out.count must be int32, got float32",
     {"out": tuple(np.zeros(shape, np.float32) for shape in ((1, 3, 2, 2), (1, 3, 2), (1, 3)))}),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "options"), ERRORS, ids=[row[1][:50] for row in ERRORS])
def test_errors(error: type[Exception], message: str, options: dict[str, Any]) -> None:
    given = {"heatmaps": np.zeros((3, 4, 5), np.float32), "threshold": 0.5, "max_peaks": 2} | options
    with pytest.raises(error) as caught:
        find_peaks(given.pop("heatmaps"), **{"activation": "sigmoid", **given})
    assert str(caught.value) == message
