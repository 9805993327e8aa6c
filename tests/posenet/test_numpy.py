"""decode_posenet in NumPy against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, KINDS, VIEWS, dtype_of, quantization_for, values
from bench.cuda_cpu.seam import ExecutorCuda
from bench.tolerance import SIGMOID_RTOL
from posepost import _kernels
from posepost.ref import argmax
from posepost.ref.argmax import first_largest

from ..helpers import MATRIX, equal
from .common import check_against_twin


def by_hand(heatmaps: np.ndarray, offsets: np.ndarray, stride: float, scales: dict | None) -> tuple[list, list]:
    """(B, K, H, W) and (B, 2K, H, W), float arrays already widened."""
    points, scores = [], []
    for image, fields in zip(heatmaps.tolist(), offsets.tolist()):
        for k, rows in enumerate(image):
            best = None
            for y, row in enumerate(rows):
                for x, value in enumerate(row):
                    if best is None or (math.isnan(value) and not math.isnan(best[0])) or value > best[0]:
                        best = (value, y, x)
            value, y, x = best
            oy, ox = fields[k][y][x], fields[len(image) + k][y][x]
            if scales and "heatmaps" in scales:
                value = np.float32(value - scales["heatmaps"][1]) * np.float32(scales["heatmaps"][0])
            if scales and "offsets" in scales:
                oy = np.float32(oy - scales["offsets"][1]) * np.float32(scales["offsets"][0])
                ox = np.float32(ox - scales["offsets"][1]) * np.float32(scales["offsets"][0])
            points.append((np.float32(x * stride) + np.float32(ox), np.float32(y * stride) + np.float32(oy)))
            scores.append(value)
    return points, scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_follows_the_definition(dtype: str, kind: str) -> None:
    shape = (2, 3, 7, 5)
    heatmaps = values(kind, dtype, shape, seed=1)
    offsets = values("random", dtype, (2, 6, 7, 5), seed=2)
    scales = quantization_for(dtype, dtype)
    points, scores = by_hand(heatmaps.astype(np.float32), offsets.astype(np.float32), 16, scales)
    for layout, view in VIEWS.values():
        got = posepost.decode_posenet(
            view(heatmaps, np.array),
            view(offsets, np.array),
            output_stride=16,
            layout=layout,
            activation=None,
            quantization=scales,
        )
        equal(got.keypoints.reshape(-1, 2), np.array(points, np.float32))
        equal(got.scores.ravel(), np.array(scores, np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_of_large_maps(dtype: str, kind: str) -> None:
    """Its quick ways (folded channels-last maps, float16 as integers) give what numpy.argmax of float32 gives."""
    for seed, (H, W) in enumerate(((50, 43), (32, 64), (1, 2049), (3, 5), (1, 2049 * 2), (90, 61))):
        maps = values(kind, dtype, (3, 5, H, W), seed)
        wide = maps.astype(np.float32).reshape(3, 5, -1)
        for _, view in VIEWS.values():
            placed = view(maps, np.array)
            layout = placed if placed.shape == maps.shape else placed.transpose(0, 3, 1, 2)
            equal(first_largest(layout), wide.argmax(axis=2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_compared_as_integers(monkeypatch: pytest.MonkeyPatch, dtype: str, kind: str) -> None:
    """Whatever the signs of the winners, of zeros and of NaN, also where maps of several kinds lie side by side."""
    monkeypatch.setattr(argmax, "MANY_FLOAT16", 0)
    monkeypatch.setattr(argmax, "MANY_BFLOAT16", 0)
    for seed in range(40):
        maps = values(kind, dtype, (2, 6, 5, 4), seed)
        maps[1, ::2] = values("negative", dtype, (3, 5, 4), seed)
        maps[:, 1] = values("zeros", dtype, (2, 5, 4), seed)
        maps[0, 2, seed % 5, 3] = np.nan
        if seed % 3:
            maps.view(np.uint16)[1, 3, seed % 5, :2] = 0xFFC1  # NaN of negative sign
        expected = maps.astype(np.float32).reshape(2, 6, -1).argmax(axis=2)
        for _, view in VIEWS.values():
            placed = view(maps, np.array)
            equal(first_largest(placed if placed.shape == maps.shape else placed.transpose(0, 3, 1, 2)), expected)


def test_sigmoid_and_affine_in_numpy() -> None:
    heatmaps = np.array([-3.0, 2.0, 0.5, -200.0], np.float32).reshape(1, 2, 1, 2)
    offsets = np.arange(8, dtype=np.float32).reshape(1, 4, 1, 2)
    got = posepost.decode_posenet(heatmaps, offsets, output_stride=8, transform=MATRIX, activation="sigmoid")
    # keypoint 0: cell x = 1, offset (x 5, y 1) -> (13, 1); keypoint 1: cell x = 0, offset (x 6, y 2) -> (6, 2)
    equal(got.keypoints[0], [[1.5 * 13 - 0.25 * 1 + 7, 0.125 * 13 + 2 * 1 - 3], [9 - 0.5 + 7, 0.75 + 4 - 3]])
    np.testing.assert_allclose(got.scores[0], [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-0.5))], rtol=SIGMOID_RTOL)


def test_sigmoid_of_the_twin_is_a_division() -> None:
    """Bit for bit 1 / (1 + exp(-x)) in float32, whatever instruction NumPy divides by."""
    logits = np.random.default_rng(0).uniform(-120, 120, (1, 20000, 1, 1)).astype(np.float32)
    got = posepost.decode_posenet(
        logits, np.zeros((1, 40000, 1, 1), np.float32), output_stride=8, layout="NCHW", activation="sigmoid"
    )
    with np.errstate(over="ignore"):
        equal(got.scores[0], np.float32(1) / (np.float32(1) + np.exp(-logits[0, :, 0, 0])))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.filterwarnings("error")
def test_numpy_warns_of_nothing(dtype: str, layout: str) -> None:
    """Overflow in the sigmoid, infinities that cancel, NaN, also those that signal."""
    heatmaps = np.array([-300, np.nan, -np.inf, np.inf, 200], np.float32).astype(dtype_of(dtype)).reshape(1, 5, 1, 1)
    offsets = np.array([np.inf, -np.inf, np.nan, 1, 0] * 2, np.float32).astype(dtype_of(dtype)).reshape(1, 10, 1, 1)
    signals = {"float32": 0x7FA00000, "float16": 0x7D00, "bfloat16": 0x7FA0}[dtype]
    for array, channel in ((heatmaps, 1), (offsets, 2)):
        array.view(np.uint32 if dtype == "float32" else np.uint16)[0, channel] = signals
    if layout == "NHWC":
        heatmaps, offsets = heatmaps.reshape(1, 1, 1, 5), offsets.reshape(1, 1, 1, 10)
    matrix = np.array([[1, -1, 0], [np.inf, 0, 1]], np.float32)
    for transform in (None, matrix):
        got = posepost.decode_posenet(
            heatmaps, offsets, output_stride=8, layout=layout, transform=transform, activation="sigmoid"
        )
        assert np.isnan(got.keypoints[0, 2]).any()
        equal(got.scores[0], [0, np.nan, 0, 1, 1])


def test_saturated_logits_are_told_apart() -> None:
    heatmaps = np.array([40.0, 50.0], np.float32).reshape(1, 1, 1, 2)  # both 1 after a sigmoid in float32
    got = posepost.decode_posenet(heatmaps, np.zeros((1, 2, 1, 2), np.float32), output_stride=8, activation="sigmoid")
    assert got.keypoints[0, 0, 0] == 8
    assert got.scores[0, 0] == 1


SHAPES = ((1, 17, 33, 33), (3, 5, 9, 40), (2, 1, 1, 1), (1, 3, 1, 70), (2, 17, 3, 1), (1, 130, 4, 5))


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_equals_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """Every kind of value, every shape, schedules of threads in turn, starts on and off the 16-byte grid."""
    schedules = (
        {"order": "forward"},
        {"order": "reverse"},
        {"order": "random", "seed": 3, "resident": 3, "chaos": 1},
        {"order": "random", "seed": 4, "resident": 4, "chaos": 2},
    )
    case = 0
    for shape in SHAPES:
        for kind in KINDS if shape[0] > 1 else ("random", "ties", "nan"):
            cpu_cuda.schedule = schedules[case % 4]
            check_against_twin(cpu_cuda, view_name, dtype, kind, shape, seed=case, skip=(0, 1, 3, 8)[case // 4 % 4])
            case += 1
    assert {launched.variant.defines[0][1] for launched in cpu_cuda.launches} == {_kernels.ELEMENTS[dtype]}
