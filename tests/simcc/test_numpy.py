"""decode_simcc in NumPy against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, KINDS, dtype_of, values
from posepost.ref import simcc as ref

from ..helpers import (
    VECTOR_VIEWS,
    equal,
    gaussian_vectors,
    simcc_quantization,
)
from .common import logarithms

pytestmark = pytest.mark.usefixtures("fresh_plans")


def dark_by_hand(vectors: np.ndarray, sigma: float) -> np.ndarray:
    """(N, K) places in bins."""
    result = np.empty(vectors.shape[:2])
    logs = logarithms(vectors, sigma)
    for index in np.ndindex(result.shape):
        i = int(vectors[index].argmax())
        L = np.pad(logs[index], 2, "edge")[i : i + 5]
        result[index] = i - 0.5 * (L[3] - L[1]) / (1e-9 + 0.25 * (L[4] - 2 * L[2] + L[0]))
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_follows_the_definition(dtype: str, kind: str) -> None:
    """Bin and score by loops over single elements, for every view, alone and merged with a mirrored image."""
    shape, pairs = (2, 5, 23), (1, 0, 2, 4, 3)
    arrays = [values(kind, dtype, (*shape[:2], W), seed) for seed, W in enumerate((23, 9, 23, 9))]
    scales = simcc_quantization(dtype)
    for flipped in (False, True):
        points, scores = [], []
        for n, k in np.ndindex(shape[:2]):
            tops = []
            for axis in (0, 1):
                vector = arrays[axis][n, k].astype(np.float32).tolist()
                if flipped:
                    partner = arrays[axis + 2][n, pairs[k]].astype(np.float32).tolist()
                    partner = partner[::-1] if axis == 0 else partner
                    with np.errstate(invalid="ignore"):
                        vector = [(np.float32(a) + np.float32(b)) * np.float32(0.5) for a, b in zip(vector, partner)]
                best = 0
                for i, value in enumerate(vector):
                    if (math.isnan(value) and not math.isnan(vector[best])) or value > vector[best]:
                        best = i
                points.append(np.float32(best))
                scale, zero = (scales or {}).get(("simcc_x", "simcc_y")[axis], (1, 0))
                tops.append(np.float32(np.float32(vector[best]) - np.float32(zero)) * np.float32(scale))
            scores.append(np.nan if np.isnan(tops).any() else min(tops))
        for name, view in VECTOR_VIEWS.items():
            x, y, flipped_x, flipped_y = (view(array, np.array) for array in arrays)
            flip = posepost.Flip((flipped_x, flipped_y), pairs) if flipped else None
            got = posepost.decode_simcc(x, y, split_ratio=1, absent=None, quantization=scales, flip=flip)
            equal(got.keypoints.ravel(), points), name
            equal(got.scores.ravel(), np.array(scores, np.float32))


@pytest.mark.parametrize("sigma", [0.9, 1.3, 1.8, 2.5, 4.9, 6.0, 12.0, 19.6])
def test_dark_in_numpy_follows_the_definition(sigma: float) -> None:
    """Every length of blur, against whole convolutions in float64; weak, strong and border peaks, vectors shorter than
    the blur. Where the parabola is flat, rounding is multiplied: in proportion to the step."""
    for seed, W in enumerate((384, 200, 40, 9, 3)):
        x, y = gaussian_vectors((2, 40, W), seed, sigma), gaussian_vectors((2, 40, 3 * W), seed + 9, sigma)
        x[0, :4] *= np.float32([[60], [1e-3], [5e-3], [2e-2]])  # the clips act
        got = posepost.decode_simcc(x, y, refine="dark", sigma=sigma, split_ratio=1, absent=None)
        for axis, vectors in enumerate((x, y)):
            expected = dark_by_hand(vectors, sigma)
            step = np.abs(expected - vectors.argmax(axis=2))
            steady = (step < 3) & (vectors.max(axis=2) > 1.1e-3)
            assert steady.mean() > 0.25
            error = np.abs(got.keypoints[..., axis] - expected)
            assert (error <= 1e-4 * (1 + step**2))[steady].all(), error[steady].max()


def test_where_a_clip_acts_the_whole_vector_is_blurred(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    whole = ref._largest_blurred

    def spy(vectors: np.ndarray, taps: tuple[float, ...]) -> np.ndarray:
        asked.append(len(vectors))
        return whole(vectors, taps)

    monkeypatch.setattr(ref, "_largest_blurred", spy)
    x = gaussian_vectors((1, 5, 100), 1, noise=0)
    x *= np.float32(1) / x.max(axis=2, keepdims=True)
    x *= np.float32([[1], [60], [1.05e-3], [0.5], [1e-3]])
    got = posepost.decode_simcc(x, np.ones_like(x), refine="dark", sigma=1.3, split_ratio=1)
    expected = dark_by_hand(x, 1.3)
    assert asked == [2]  # 60 is above 50; beside 1.05e-3 lie bins below 1e-3; 1e-3 itself needs no blur
    np.testing.assert_allclose(got.keypoints[0, :4, 0], expected[0, :4], rtol=0, atol=1e-4)
    assert got.keypoints[0, 4, 0] == x[0, 4].argmax()


def test_logarithm_of_a_quotient() -> None:
    rng = np.random.default_rng(0)
    a, b = np.exp(rng.uniform(-7, 4, (2, 100000))).astype(np.float32)
    exact = np.log(a.astype(np.float64) / b)
    np.testing.assert_allclose(ref.log_ratio(a, b), exact, rtol=2e-7, atol=1e-7)
    equal(ref.log_ratio(a, a), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_visibility_in_numpy(dtype: str) -> None:
    x, y = (gaussian_vectors((2, 7, W), W) for W in (90, 70))
    scales = simcc_quantization(dtype)
    if scales:
        x, y = x * 100, y * 100
    x, y = x.astype(dtype_of(dtype)), y.astype(dtype_of(dtype))
    for beta, sigma in ((150.0, (4.9, 5.66)), (10.0, (6.0, 6.0)), (0.5, (1.0, 2.0))):
        got = posepost.decode_simcc(x, y, visibility=True, beta=beta, sigma=sigma, quantization=scales)
        largest = []
        for name, vectors, one in zip(("simcc_x", "simcc_y"), (x, y), sigma):
            scale, zero = (scales or {}).get(name, (1, 0))
            logits = (vectors.astype(np.float64) - zero) * scale * beta * one
            weights = np.exp(logits - logits.max(axis=2, keepdims=True))
            largest.append((weights / weights.sum(axis=2, keepdims=True)).max(axis=2))
        np.testing.assert_allclose(got.visibility, np.minimum(*largest), rtol=2e-5)
        assert got.visibility.dtype == np.float32
    assert posepost.decode_simcc(x, y, quantization=scales).visibility is None


def test_presets() -> None:
    x, y = gaussian_vectors((1, 3, 40), 1), gaussian_vectors((1, 3, 30), 2)
    plain = posepost.decode_simcc(x, y, visibility=True)
    named = posepost.decode_simcc(x, y, preset="rtmpose", visibility=True)
    spelt = posepost.decode_simcc(x, y, split_ratio=2.0, refine="none", sigma=(4.9, 5.66), visibility=True)
    for got in (named, spelt):
        equal(got.keypoints, plain.keypoints)
        equal(got.visibility, plain.visibility)
    six = posepost.decode_simcc(x, y, preset="simcc", visibility=True)
    equal(six.visibility, posepost.decode_simcc(x, y, sigma=6.0, visibility=True).visibility)
    assert (six.visibility != plain.visibility).any()
    other = posepost.decode_simcc(x, y, preset="rtmpose", split_ratio=1.0, refine="dark", sigma=6.0)
    equal(other.keypoints, posepost.decode_simcc(x, y, split_ratio=1, refine="dark", sigma=[6, 6]).keypoints)
