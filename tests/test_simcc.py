"""decode_simcc: what MMPose computed, the twin against the definition, kernels on the CPU executor against the twin."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, KINDS, dtype_of, values
from bench.cuda_cpu import executor
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host, to_device
from bench.tolerance import SIGMOID_RTOL, VISIBILITY_RTOL
from posepost import _cuda, _kernels, simcc
from posepost._tiling import vector_blocks
from posepost.ref import simcc as ref

from .conftest import SHARED
from .helpers import (
    MATRIX,
    SCHEDULES,
    SIMCC_OPTIONS,
    VECTOR_VIEWS,
    check_simcc,
    equal,
    gaussian_vectors,
    simcc_quantization,
)

pytestmark = pytest.mark.usefixtures("fresh_plans")

# ---- what MMPose computed

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


def on_both(x: np.ndarray, y: np.ndarray, **options: Any) -> list[posepost.Keypoints]:
    """Of the twin and of the kernel."""
    placed = dict(options)
    if "flip" in options:
        flip = options["flip"]
        placed["flip"] = posepost.Flip([to_device(one) for one in flip.maps], flip.pairs)
    got = posepost.decode_simcc(to_device(x), to_device(y), **placed).numpy()
    return [posepost.decode_simcc(x, y, **options), got]


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
    for _ in range(20):  # these files store no sensitivity: the twin's own
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
def test_scores_are_the_peaks_of_the_normalised_vectors(
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


# ---- the twin against the definition


def logarithms(vectors: np.ndarray, sigma: float) -> np.ndarray:
    """MMPose's blurred, scaled and clipped vectors (N, K, W) as logarithms, in float64 by whole convolutions."""
    size = int((sigma * 20 - 7) // 3)
    size -= size % 2 == 0
    spread = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * spread**2))
    if size <= 9:  # OpenCV's tables
        half = {3: (1, 2), 5: (1, 4, 6), 7: (2, 7, 14, 18), 9: (4, 13, 30, 51, 60)}[size]
        taps = np.array([*half, *half[-2::-1]], np.float64)
    taps /= taps.sum()
    result = np.empty(vectors.shape)
    for index in np.ndindex(vectors.shape[:2]):
        one = vectors[index].astype(np.float64)
        blurred = np.convolve(np.pad(one, size // 2), taps, "valid")
        with np.errstate(all="ignore"):
            result[index] = np.log(np.clip(blurred * (one.max() / blurred.max()), 1e-3, 50))
    return result


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
def test_twin_follows_the_definition(dtype: str, kind: str) -> None:
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
def test_dark_of_the_twin_follows_the_definition(sigma: float) -> None:
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
def test_visibility_of_the_twin(dtype: str) -> None:
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


def test_zeros_negatives_nan_and_plateaus(cpu_cuda: ExecutorCuda) -> None:
    """What the documentation promises, without a NumPy warning, of kernel and twin."""
    inf, nan = math.inf, math.nan
    x = np.zeros((1, 9, 40), np.float32)
    y = np.tile(gaussian_vectors((1, 1, 30), 3), (1, 9, 1)) * np.float32(5)
    top = y[0, 0].argmax(), y[0, 0].max()
    x[0, 1] = -1
    x[0, 2, 5:9] = nan
    x[0, 3] = 0.25  # a plateau
    x[0, 4, 7] = inf
    x[0, 5] = -inf
    x[0, 6, [3, 11]] = 0.5  # a tie
    x[0, 7] = 1e-3
    x[0, 8, 20] = 0.75
    x[0, 8, [18, 39]] = -inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for got in on_both(x, y, split_ratio=1):
            assert got.keypoints[0, :, 0].tolist() == [-1, -1, 5, 0, 7, -1, 3, 0, 20]
            assert got.keypoints[0, 2:5, 1].tolist() == [top[0]] * 3
            equal(got.scores[0], np.float32([0, -1, nan, 0.25, top[1], -inf, 0.5, 1e-3, 0.75]))
        for got in on_both(x, y, split_ratio=1, absent=None):
            assert got.keypoints[0, :, 0].tolist() == [0, 0, 5, 0, 7, 0, 3, 0, 20]
        darks = on_both(x, y, split_ratio=1, refine="dark", absent=-7.5)
        equal(darks[0].keypoints, darks[1].keypoints)
        found = darks[0].keypoints[0]
        assert found[[0, 1, 5]].tolist() == [[-7.5, -7.5]] * 3
        assert np.isnan(found[[2, 4], 0]).all()
        assert np.isfinite(found[[3, 6, 7, 8]]).all()
        assert found[7, 0] == 0
        kept = on_both(x, y, split_ratio=1, refine="dark", absent=None)
        equal(kept[0].keypoints, kept[1].keypoints)
        assert kept[0].keypoints[0, :2, 0].tolist() == [0, 0]
        seen = on_both(x, y, visibility=True)
        np.testing.assert_allclose(seen[1].visibility, seen[0].visibility, rtol=VISIBILITY_RTOL)
        assert np.isnan(seen[0].visibility[0, [2, 4, 5]]).all()
        assert seen[0].visibility[0, 0] == np.float32(1 / 40)
        nan_y = on_both(np.ones((1, 1, 3), np.float32), np.float32([[[1, nan]]]))
        for got in nan_y:
            assert np.isnan(got.scores).all()
            assert got.keypoints.tolist() == [[[0, 0.5]]]


def test_threshold_and_sigmoid(cpu_cuda: ExecutorCuda) -> None:
    """Below is absent; compared as float32; in probabilities with a sigmoid."""
    logits = np.float32([-3, 0, np.log(3), 2]).reshape(1, 4, 1)
    x, y = np.concatenate([logits - 9, logits], axis=2), np.concatenate([logits + 1, logits - 1], axis=2)
    for threshold, absent in ((0.0, 0), (0.5, 1), (0.75, 2), (1.0, 4), (-1.0, 0)):
        for got in on_both(x, y, activation="sigmoid", threshold=threshold):
            assert (got.keypoints[0, :, 0] == -0.5).tolist() == [i < absent for i in range(4)]
            np.testing.assert_allclose(got.scores[0], 1 / (1 + np.exp(-logits[0, :, 0])), rtol=SIGMOID_RTOL)
    third = np.full((1, 1, 2), 1 / 3, np.float32)
    for got in on_both(third, third, threshold=float(np.float32(1 / 3))):
        assert got.keypoints[0, 0].tolist() == [0, 0]
    for got in on_both(third, third, threshold=float(np.nextafter(np.float32(1 / 3), np.float32(1)))):
        assert got.keypoints[0, 0].tolist() == [-0.5, -0.5]
    tiny = np.full((1, 1, 2), 1e-45, np.float32)  # a denormal is above 0
    for got in on_both(tiny, tiny):
        assert got.keypoints[0, 0].tolist() == [0, 0]
        assert got.scores[0, 0] == np.float32(1e-45)


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


# ---- the kernels against the twin


SHAPES = ((1, 17, 96, 128), (3, 5, 40, 33), (2, 1, 1, 1), (1, 3, 2, 7), (2, 2, 515, 260), (1, 300, 5, 9))


@pytest.mark.parametrize("view_name", VECTOR_VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_equals_twin(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """Every kind of value, every shape, alone and merged, schedules in turn, starts on and off the 16-byte grid."""
    case = 0
    for N, K, Wx, Wy in SHAPES:
        for kind in (*KINDS, "peaks") if N > 1 else ("random", "ties", "nan", "peaks"):
            sizes, scales = (Wx, Wy, Wx, Wy), simcc_quantization(dtype)
            if kind == "peaks":
                arrays = [gaussian_vectors((N, K, W), case + i) for i, W in enumerate(sizes)]
                arrays = [(one * 100 if scales else one).astype(dtype_of(dtype)) for one in arrays]
            else:
                arrays = [values(kind, dtype, (N, K, W), case + i) for i, W in enumerate(sizes)]
            for merged in (False, True):
                if merged and kind == "denormal":
                    continue  # a GPU flushes their means, as documented: no promise to test
                cpu_cuda.schedule = SCHEDULES[case % 4]
                options = {**SIMCC_OPTIONS[case % len(SIMCC_OPTIONS)], "quantization": scales}
                given = arrays if merged else arrays[:2]
                check_simcc(cpu_cuda, given, VECTOR_VIEWS[view_name], skip=(0, 1, 3, 8)[case // 4 % 4], **options)
                case += 1
    variants = {launched.variant for launched in cpu_cuda.launches}
    assert variants == {_kernels.simcc(_kernels.ELEMENTS[dtype], merged) for merged in (False, True)}


@pytest.mark.parametrize("transform", [MATRIX, "rows"])
def test_transform(cpu_cuda: ExecutorCuda, transform: Any) -> None:
    if isinstance(transform, str):
        transform = np.random.default_rng(5).standard_normal((3, 2, 3)).astype(np.float32)
    arrays = [gaussian_vectors((3, 5, W), W) for W in (40, 33)]
    check_simcc(cpu_cuda, arrays, VECTOR_VIEWS["dense"], transform=transform, refine="dark")
    on_device = posepost.decode_simcc(*map(to_device, arrays), transform=to_device(transform), refine="dark").numpy()
    equal(on_device.keypoints, posepost.decode_simcc(*arrays, transform=transform, refine="dark").keypoints)
    x, y = (np.full((1, 1, 2), -1, np.float32),) * 2
    for got in on_both(x, y, transform=MATRIX):  # absent points too
        equal(got.keypoints[0, 0], [1.5 * -0.5 - 0.25 * -0.5 + 7, 0.125 * -0.5 + 2 * -0.5 - 3])


def test_same_bits_whatever_the_batch_and_the_blocks(cpu_cuda: ExecutorCuda) -> None:
    """One row, the same row in a batch, one or four keypoints a block, any schedule."""
    x, y = gaussian_vectors((4, 5, 90), 1), gaussian_vectors((4, 5, 70), 2)
    whole = posepost.decode_simcc(x, y, refine="dark")
    for processors in (0, 128):  # of 0 any number is many
        cpu_cuda.processors = processors
        for seed in range(3):
            simcc._plan.cache_clear()
            cpu_cuda.schedule = {"order": "random", "seed": seed, "resident": 1 + 2 * seed, "chaos": 2}
            for rows in (slice(0, 4), slice(2, 3)):
                got = posepost.decode_simcc(to_device(x[rows]), to_device(y[rows]), refine="dark").numpy()
                equal(got.keypoints, whole.keypoints[rows])
    assert {launched.block for launched in cpu_cuda.launches} == {(64, 1, 1), (256, 1, 1)}


@pytest.mark.parametrize(
    ("N", "K", "blocks", "threads"),
    [(1, 17, 17, 64), (1, 133, 133, 64), (7, 133, 931, 64), (64, 17, 272, 256), (64, 133, 2128, 256), (1, 1, 1, 64)],
)
def test_choice_of_the_grid(N: int, K: int, blocks: int, threads: int) -> None:
    assert vector_blocks(N * K, 256) == (blocks, threads)


# ---- how the kernels read


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(("view_name", "vector_share"), [("dense", 1.0), ("slice_of_more", 0.7), ("keypoints_last", 0)])
def test_each_element_is_read_once(
    cpu_cuda: ExecutorCuda, dtype: str, merged: bool, view_name: str, vector_share: float
) -> None:
    """Every byte once, in 16-byte loads where the layout allows, and nothing between or outside."""
    shapes = [(2, 5, W) for W in (384, 512, 384, 512)][: 4 if merged else 2]
    tensors = [VECTOR_VIEWS[view_name](values("random", dtype, shape, 1), to_device) for shape in shapes]
    kernel = _cuda.kernel(_kernels.simcc(_kernels.ELEMENTS[dtype], merged))
    itemsize = tensors[0].dtype.itemsize
    spans = [sum((n - 1) * s for n, s in zip(one.shape, one.strides)) + itemsize for one in tensors]
    counts = [kernel.watch(one.data.ptr, span, count=True) for one, span in zip(tensors, spans)]
    flip = posepost.Flip(tensors[2:], [1, 0, 2, 4, 3]) if merged else None
    posepost.decode_simcc(*tensors[:2], flip=flip, visibility=True, quantization=simcc_quantization(dtype))
    for one, count in zip(tensors, counts):
        seen = np.lib.stride_tricks.as_strided(count, (*one.shape, itemsize), (*one.strides, 1))
        assert seen.min() == seen.max() == 1
        assert count.sum() == one.size * itemsize
    vectors, nbytes = kernel.loads().get(16, 0), sum(one.size for one in tensors) * itemsize
    if merged and view_name == "slice_of_more":
        return  # partners may not meet on the 16-byte grid: element by element, side by side
    assert vectors * 16 >= vector_share * nbytes
    if not vector_share:
        assert not vectors
    if vector_share == 1:
        _, lanes, sectors = (sum(each) for each in zip(*kernel.requests().values()))
        assert lanes == vectors
        assert sectors == nbytes / 32  # a warp's loads lie side by side


def test_dark_reads_the_window_alone_again(cpu_cuda: ExecutorCuda) -> None:
    x, y = gaussian_vectors((1, 6, 400), 1), gaussian_vectors((1, 6, 300), 2)
    x[0, :, 100], y[0, :, 100] = 2, 2
    x[0, 0] *= 40  # above 50: the whole vector is blurred
    tensors = [to_device(x), to_device(y)]
    kernel = _cuda.kernel(_kernels.simcc("f32", False))
    counts = [kernel.watch(one.data.ptr, one.nbytes, count=True).reshape(6, -1, 4) for one in tensors]
    posepost.decode_simcc(*tensors, refine="dark", sigma=6.0)
    for axis, count in enumerate(counts):
        expected = np.ones(count.shape[1:])
        expected[100 - 20 : 100 + 21] = 2  # 37 taps and 2 bins to either side
        equal(count[1 - axis :], np.broadcast_to(expected, count[1 - axis :].shape))
    assert counts[0][0].min() > 10


def test_vectors_past_2_to_the_31_elements(cpu_cuda: ExecutorCuda) -> None:
    """Addresses of 64 bits: rows that lie more than 2^31 elements apart, in a file of holes."""
    W, gap = 37, 2**31 + 4096
    memory = np.zeros(gap * 2 + 4 * W, np.uint8)  # untouched pages cost nothing
    for n in range(2):
        memory[gap * (n + 1) - gap :][: 2 * W] = values("random", "uint8", (2 * W,), seed=n)
    import cupy
    from cupy.cuda import memory as cupy_memory

    owned = cupy_memory.UnownedMemory(memory.ctypes.data, memory.nbytes, memory, 0)
    pointer = cupy_memory.MemoryPointer(owned, 0)
    scales = {"simcc_x": (1, 0), "simcc_y": (1, 0)}
    for strides in ((gap, W, 1), (W, gap, 1)):
        x = cupy.ndarray((2, 2, W), np.uint8, pointer, strides=strides)
        there = host(x)
        options = {"split_ratio": 1, "quantization": scales, "refine": "dark"}
        for flip, hosted in ((None, None), (posepost.Flip((x, x), (1, 0)), posepost.Flip((there, there), (1, 0)))):
            got = posepost.decode_simcc(x, x, flip=flip, **options).numpy()
            expected = posepost.decode_simcc(there.copy(), there.copy(), flip=hosted, **options)
            equal(got.keypoints, expected.keypoints)
            equal(got.scores, expected.scores)


# ---- out, stream, results


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("visibility", [False, True])
def test_out_is_written_and_returned(cpu_cuda: ExecutorCuda, device: bool, visibility: bool) -> None:
    place = to_device if device else np.array
    x, y = place(gaussian_vectors((2, 3, 40), 1)), place(gaussian_vectors((2, 3, 30), 2))
    options = {"visibility": visibility, "refine": "dark"}
    first = posepost.decode_simcc(x, y, **options)
    expected = first.numpy()
    wanted = [*expected, expected.visibility] if visibility else [*expected]
    shapes = ((2, 3, 2), (2, 3), (2, 3))[: 3 if visibility else 2]
    out = posepost.Keypoints(*(place(np.zeros(shape, np.float32)) for shape in shapes))
    for target in (out, first):
        arrays = [*target, target.visibility] if visibility else [*target]
        for array in arrays:
            (host(array) if device else array)[...] = 77
        allocated = cpu_cuda.allocations
        again = posepost.decode_simcc(x, y, **options, out=target)
        assert cpu_cuda.allocations == allocated
        got = [*again, again.visibility] if visibility else [*again]
        assert all(a is b for a, b in zip(got, arrays))
        for one, values_wanted in zip([*again.numpy(), again.numpy().visibility], wanted):
            equal(one, values_wanted)
    pair = posepost.decode_simcc(x, y, **options, out=tuple(out))
    assert pair.keypoints is out.keypoints
    if visibility:  # a pair has no room for it: the one thing that is allocated
        assert cpu_cuda.allocations == allocated + device
        equal(pair.numpy().visibility, wanted[2])
    without = posepost.decode_simcc(x, y, out=first)
    assert without.visibility is None
    assert without.numpy().visibility is None


def test_out_in_pinned_memory(cpu_cuda: ExecutorCuda) -> None:
    x, y = gaussian_vectors((2, 3, 40), 1), gaussian_vectors((2, 3, 30), 2)
    expected = posepost.decode_simcc(x, y, visibility=True)
    out = posepost.pinned(2, 3, visibility=True)
    allocated = cpu_cuda.allocations
    got = posepost.decode_simcc(to_device(x), to_device(y), visibility=True, out=out, stream=55).numpy()
    assert cpu_cuda.synchronized == [55]
    assert cpu_cuda.allocations == allocated + 2 - 2
    assert got.keypoints is out.keypoints
    equal(got.keypoints, expected.keypoints)
    np.testing.assert_allclose(got.visibility, expected.visibility, rtol=VISIBILITY_RTOL)
    assert np.shares_memory(got.visibility, out.visibility)
    small = posepost.pinned(2, 2)
    with pytest.raises(ValueError, match=r"^out\.keypoints must have shape \(2, 3, 2\), got \(2, 2, 2\)$"):
        posepost.decode_simcc(to_device(x), to_device(y), out=small)


def test_stream_reaches_the_launch_and_a_repeated_call_uses_its_plan(cpu_cuda: ExecutorCuda) -> None:
    x, y = to_device(np.ones((1, 1, 2), np.float32)), to_device(np.ones((1, 1, 3), np.float32))
    for stream in (None, 55):
        posepost.decode_simcc(x, y, stream=stream)
    assert [launched.stream for launched in cpu_cuda.launches] == [STREAM, 55]
    assert simcc._plan.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("device", [False, True])
def test_two_dimensions_are_a_batch_of_one_and_an_empty_batch_is_empty(cpu_cuda: ExecutorCuda, device: bool) -> None:
    place = to_device if device else np.array
    x, y = gaussian_vectors((1, 3, 40), 1), gaussian_vectors((1, 3, 30), 2)
    pairs = (1, 0, 2)
    for options in ({"refine": "dark"}, {"visibility": True, "activation": "sigmoid"}):
        batch = posepost.decode_simcc(x, y, **options, flip=posepost.Flip((x, y), pairs))
        flat = posepost.Flip((place(x[0]), place(y[0])), np.array(pairs))
        equal(posepost.decode_simcc(place(x[0]), place(y[0]), **options, flip=flat).numpy().keypoints, batch.keypoints)
        empty = posepost.decode_simcc(place(x[:0]), place(y[:0]), **options).numpy()
        assert (empty.keypoints.shape, empty.scores.shape) == ((0, 3, 2), (0, 3))
        assert empty.visibility is None or empty.visibility.shape == (0, 3)


def test_inputs_are_not_written(cpu_cuda: ExecutorCuda) -> None:
    arrays = [gaussian_vectors((2, 3, W), W) for W in (40, 30, 40, 30)]
    arrays[0][0, 0] *= 90
    for place in (np.array, to_device):
        x, y, flipped_x, flipped_y = placed = [place(array) for array in arrays]
        flip = posepost.Flip((flipped_x, flipped_y), (1, 0, 2))
        posepost.decode_simcc(x, y, refine="dark", visibility=True, flip=flip)
        posepost.decode_simcc(x, y, refine="dark", visibility=True)
        for one, array in zip(placed, arrays):
            equal(one if place is np.array else host(one), array)


def test_torch_tensors_on_the_host() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, y = gaussian_vectors((1, 3, 40), 1), gaussian_vectors((1, 3, 30), 2)
    got = posepost.decode_simcc(torch.from_numpy(x), torch.from_numpy(y), visibility=True)
    assert isinstance(got.visibility, torch.Tensor)
    equal(got.numpy().keypoints, posepost.decode_simcc(x, y).keypoints)
    half = posepost.decode_simcc(torch.from_numpy(x).bfloat16(), torch.from_numpy(y).bfloat16()).numpy()
    widened = (torch.from_numpy(one).bfloat16().float().numpy() for one in (x, y))
    equal(half.keypoints, posepost.decode_simcc(*widened).keypoints)


# ---- bad input, word for word


def _two(x: tuple[int, ...] = (1, 3, 8), y: tuple[int, ...] = (1, 3, 6), dtype: Any = np.float32) -> dict[str, Any]:
    return {"simcc_x": np.zeros(x, dtype), "simcc_y": np.zeros(y, dtype)}


def _flip(pairs: Any = (1, 0, 2), y: tuple[int, ...] = (1, 3, 6), dtype: Any = np.float32) -> posepost.Flip:
    return posepost.Flip((np.zeros((1, 3, 8), dtype), np.zeros(y, np.float32)), pairs)


BAD = [
    (
        {**_two(), "simcc_x": [[1.0]]},
        TypeError,
        "simcc_x must be a NumPy, CuPy, PyTorch or JAX array, an onnxruntime.OrtValue, or have __dlpack__ or "
        "__cuda_array_interface__, got list",
    ),
    (_two(dtype=np.float64), TypeError, "simcc_x must be float32, float16, bfloat16, uint8 or int8, got float64"),
    (
        {**_two(), "simcc_y": np.zeros((1, 3, 6), np.float16)},
        TypeError,
        "simcc_y must have the dtype of simcc_x, got float16 and float32",
    ),
    (_two((1, 1, 3, 8)), ValueError, "simcc_x must have 2 or 3 dimensions, got shape (1, 1, 3, 8)"),
    (_two(y=(6,)), ValueError, "simcc_y must have 2 or 3 dimensions, got shape (6,)"),
    (
        _two(y=(3, 6)),
        ValueError,
        "simcc_y must have the rows and keypoints of simcc_x, got shapes (3, 6) and (1, 3, 8)",
    ),
    (
        _two(y=(1, 4, 6)),
        ValueError,
        "simcc_y must have the rows and keypoints of simcc_x, got shapes (1, 4, 6) and (1, 3, 8)",
    ),
    (_two((1, 3, 0)), ValueError, "simcc_x must have at least one keypoint and one bin, got shape (1, 3, 0)"),
    (_two(y=(1, 3, 0)), ValueError, "simcc_y must have at least one keypoint and one bin, got shape (1, 3, 0)"),
    (
        _two((1, 0, 8), (1, 0, 6)),
        ValueError,
        "simcc_x must have at least one keypoint and one bin, got shape (1, 0, 8)",
    ),
    ({**_two(), "refine": "taylor"}, ValueError, 'refine must be "none" or "dark", got \'taylor\''),
    ({**_two(), "preset": "rtmo"}, ValueError, 'preset must be "rtmpose" or "simcc", got \'rtmo\''),
    ({**_two(), "normalize": "max"}, ValueError, 'normalize must be "clip" or "sigma", got \'max\''),
    ({**_two(), "activation": "softmax"}, ValueError, "activation must be \"sigmoid\" or None, got 'softmax'"),
    (
        {**_two(), "normalize": "clip", "activation": "sigmoid"},
        ValueError,
        "normalize must be None with activation 'sigmoid', got 'clip'",
    ),
    ({**_two(), "sigma": 0}, ValueError, "sigma must be finite and above 0, got 0"),
    ({**_two(), "sigma": (6.0, -1.0)}, ValueError, "sigma must be finite and above 0, got -1.0"),
    ({**_two(), "sigma": math.nan}, ValueError, "sigma must be finite and above 0, got nan"),
    ({**_two(), "sigma": "6"}, TypeError, "sigma must be a number, got str"),
    ({**_two(), "sigma": (6, 6, 6)}, ValueError, "sigma must be a number or (sigma_x, sigma_y), got (6, 6, 6)"),
    (
        {**_two(), "sigma": (6.0, 20.0), "refine": "dark"},
        ValueError,
        "sigma must give blurs of at most 127 bins, got (6.0, 20.0) with 131",
    ),
    ({**_two(), "split_ratio": 0}, ValueError, "split_ratio must be finite and above 0, got 0"),
    ({**_two(), "split_ratio": "2"}, TypeError, "split_ratio must be a number, got str"),
    ({**_two(), "split_ratio": [2]}, TypeError, "split_ratio must be a number, got list"),
    ({**_two(), "beta": -1.0}, ValueError, "beta must be finite and above 0, got -1.0"),
    ({**_two(), "threshold": "low"}, TypeError, "threshold must be a number, got str"),
    ({**_two(), "absent": "none"}, TypeError, "absent must be a number, got str"),
    (
        {**_two(), "flip_pairs": (0, 1, 2)},
        TypeError,
        "decode_simcc() has no argument 'flip_pairs': it is flip=posepost.Flip((simcc_x, simcc_y), pairs) now",
    ),
    ({**_two(), "flip": (0, 1, 2)}, TypeError, "flip must be None or posepost.Flip(maps, pairs), got tuple"),
    (
        {**_two(), "flip": posepost.Flip(np.zeros((1, 3, 8), np.float32), (0, 1, 2))},
        TypeError,
        "flip.maps must be (simcc_x, simcc_y) of the mirrored image, got ndarray",
    ),
    (
        {**_two(), "flip": posepost.Flip((np.zeros((1, 3, 8), np.float32),) * 2, (0, 1, 2), shift=True)},
        ValueError,
        "flip must have neither offsets nor shift in decode_simcc",
    ),
    ({**_two(), "flip": _flip((1, 0))}, ValueError, "flip.pairs must name the partner of each of 3 keypoints, got 2"),
    (
        {**_two(), "flip": _flip(y=(1, 3, 7))},
        ValueError,
        "flip.maps[1] must have the shape of simcc_y, got shapes (1, 3, 7) and (1, 3, 6)",
    ),
    (
        {**_two(), "flip": _flip(dtype=np.float16)},
        TypeError,
        "flip.maps[0] must have the dtype of simcc_x, got float16 and float32",
    ),
    ({**_two(), "transform": np.eye(3)}, ValueError, "transform must have shape (2, 3) or (1, 2, 3), got (3, 3)"),
    (
        _two(dtype=np.uint8),
        ValueError,
        "quantization must give (scale, zero_point) of simcc_x, which is uint8, got None",
    ),
    (
        {**_two(dtype=np.int8), "quantization": {"simcc_x": (1, 0)}},
        ValueError,
        "quantization must give (scale, zero_point) of simcc_y, which is int8, got {'simcc_x': (1, 0)}",
    ),
    (
        {**_two(dtype=np.int8), "quantization": {"heatmaps": (1, 0)}},
        ValueError,
        "quantization must name simcc_x or simcc_y, got 'heatmaps'",
    ),
    (
        {**_two(), "out": np.zeros((1, 3, 3), np.float32)},
        TypeError,
        "out must be a result of the same call or a tuple (keypoints, scores), got ndarray",
    ),
    (
        {**_two(), "out": (np.zeros((1, 3, 3), np.float32), np.zeros((1, 3), np.float32))},
        ValueError,
        "out.keypoints must have shape (1, 3, 2), got (1, 3, 3)",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[message[:60] for _, _, message in BAD])
def test_bad_input(cpu_cuda: ExecutorCuda, arguments: dict[str, Any], error: type, message: str) -> None:
    """The same words on the host and on a device, and nothing is launched."""

    def placed(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.shape != (3, 3):
            return to_device(value)
        if isinstance(value, posepost.Flip):
            return posepost.Flip(placed(value.maps), value.pairs, shift=value.shift)
        return tuple(map(placed, value)) if isinstance(value, tuple) else value

    for given in (arguments, {name: placed(value) for name, value in arguments.items()}):
        with pytest.raises(error) as caught:
            posepost.decode_simcc(**given)
        assert str(caught.value) == message
    assert not cpu_cuda.launches


def test_bad_strides_devices_and_alignment(cpu_cuda: ExecutorCuda) -> None:
    two = _two()
    with pytest.raises(ValueError, match=r"^simcc_x must not have negative strides, got \(24, 8, -1\); pass a cont"):
        posepost.decode_simcc(two["simcc_x"][:, :, ::-1], two["simcc_y"])
    for name, here, there in (("simcc_x", "cpu", "cuda:0"), ("simcc_y", "cuda:0", "cpu")):
        with pytest.raises(
            ValueError, match=f"^simcc_y must be on the same device as simcc_x, got {here} and {there}$"
        ):
            posepost.decode_simcc(**{**two, name: to_device(two[name])})
    on_device = {name: to_device(array) for name, array in two.items()}
    out = (np.zeros((1, 3, 2), np.float32), np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match=r"^out\.keypoints must be on the same device as simcc_x, got cpu and cuda:0$"):
        posepost.decode_simcc(**on_device, out=out)
    with pytest.raises(ValueError, match=r"^transform must be on the same device as simcc_x, got cuda:0 and cpu$"):
        posepost.decode_simcc(**two, transform=to_device(MATRIX))
    with pytest.raises(TypeError, match=r"^stream must be None, a pointer, a CuPy or PyTorch stream or have __cuda_st"):
        posepost.decode_simcc(**on_device, stream="main")
    import cupy

    crooked = cupy.ndarray((1, 3, 6), np.float32, to_device(np.zeros(99, np.float32)).data + 2)
    with pytest.raises(ValueError, match=r"^simcc_y must start at a multiple of its 4-byte elements, got address 0x"):
        posepost.decode_simcc(on_device["simcc_x"], crooked)
    many = np.zeros((1, 513, 1), np.float32)
    flip = posepost.Flip((many, many), range(513))
    assert posepost.decode_simcc(many, many, flip=flip).scores.shape == (1, 513)
    flip = posepost.Flip((to_device(many), to_device(many)), range(513))
    with pytest.raises(ValueError, match=r"^flip\.pairs must have at most 512 keypoints on a device, got 513$"):
        posepost.decode_simcc(to_device(many), to_device(many), flip=flip)
    assert not cpu_cuda.launches


# ---- sanitizers

SANITIZED = """
import sys
from posepost import _cuda, _kernels
from bench.cuda_cpu.seam import ExecutorCuda
from tests.test_simcc import sanitized_suite
_cuda.cuda = cuda = ExecutorCuda(sanitize=sys.argv[1])
if sys.argv[2] != "none":
    read, (old, new) = _kernels.source, eval(sys.argv[2])
    assert read("simcc.cu").count(old) == 1
    _kernels.source = lambda name: read(name).replace(old, new)
sanitized_suite(cuda, sys.argv[3])
print("clean")
"""


def exact_place(array: np.ndarray, skip: int) -> Any:
    """On the "device" without a byte to spare behind it."""
    from bench.cuda_cpu.probe import _array, _Heap

    block = _Heap((array.size + skip) * array.itemsize, 0)
    start = block.address + skip * array.itemsize
    placed = _array(start, array.nbytes, block, array.shape, array.dtype)
    host(placed)[...] = array
    return placed


def sanitized_suite(cuda: ExecutorCuda, dtype: str) -> None:
    """Few bins and many, starts off the grid, blocks of one and of four keypoints, with DARK in every way."""
    scales = simcc_quantization(dtype)
    for case, (N, K, Wx, Wy) in enumerate(((2, 3, 96, 40), (1, 5, 7, 1), (2, 2, 37, 150))):
        cuda.processors = 0 if case % 2 == 0 else 128  # of 0 any number is many
        simcc._plan.cache_clear()
        arrays = [gaussian_vectors((N, K, W), case + W) * 40 for W in (Wx, Wy, Wx, Wy)]
        arrays[0][-1, -1] *= 60 / arrays[0][-1, -1].max()  # above 50
        arrays = [one.clip(0, 120).astype(dtype_of(dtype)) if scales else one.astype(dtype_of(dtype)) for one in arrays]
        for merged in (False, True):
            cuda.schedule = {"order": "random", "seed": case, "resident": 3, "chaos": 2}
            x, y, flipped_x, flipped_y = (exact_place(one, case) for one in arrays)
            flip = posepost.Flip((flipped_x, flipped_y), range(K)) if merged else None
            result = posepost.decode_simcc(
                x, y, refine="dark", visibility=True, transform=MATRIX, quantization=scales, flip=flip,
                out=tuple(exact_place(np.zeros(shape, np.float32), 0) for shape in ((N, K, 2), (N, K))),
            )  # fmt: skip
            assert np.isfinite(result.numpy().keypoints).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "dtype", "fault"),
    [
        *((kind, dtype, None) for kind in ("address", "thread") for dtype in DTYPES),
        ("address", "float32", ("p.scores[at] = score;", "p.scores[at + 1] = score;")),
        ("address", "float32", ("if (at < vectors) {", "if (at <= vectors) {")),
        ("address", "float32", ("j <= min((i32)v.W - 1, q + radius)", "j <= q + radius")),
        ("address", "float32", ("threadIdx.x; t < 2 * MOST_TAPS;", "threadIdx.x; t < 3 * MOST_TAPS;")),
        ("thread", "float32", ("lane, scratch);\n    __syncthreads();", "lane, scratch);")),
        ("thread", "float32", ("= p.taps[t];\n        __syncthreads();", "= p.taps[t];")),
    ],
)  # fmt: skip
def test_sanitizers(kind: str, dtype: str, fault: tuple[str, str] | None) -> None:
    """Nothing is found in the kernel, and the same run reports a seeded race or overrun."""
    able, reason = executor.available()
    if not able:
        pytest.skip(reason)
    edit = "none" if fault is None else repr(fault)
    done = executor.run_sanitized(kind, ["-c", SANITIZED, kind, edit, dtype], timeout=600)
    assert ("clean" in done.stdout) == (fault is None), done.stderr[-3000:]
    if fault is not None:
        assert any(word in done.stderr for word in ("ERROR: Address", "WARNING: Thread", "runtime error")), done.stderr
