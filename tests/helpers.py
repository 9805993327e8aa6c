"""What several test modules share: schedules, inputs, comparisons, and each decoder against NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import VIEWS, Place, dtype_of, values
from bench.cuda_cpu import executor
from bench.cuda_cpu.fork import outcome
from bench.cuda_cpu.seam import ExecutorCuda, forget_plans, to_device
from bench.tolerance import SIGMOID_ATOL, SIGMOID_RTOL, VISIBILITY_RTOL
from posepost import _cuda, _kernels
from posepost._rules.heatmap import PRESETS
from posepost._skeleton import POSENET as EDGES
from posepost._skeleton import Edges

from .conftest import SHARED

SCHEDULES = (
    {"order": "forward"},
    {"order": "reverse"},
    {"order": "random", "seed": 3, "resident": 3, "chaos": 1},
    {"order": "random", "seed": 4, "resident": 4, "chaos": 2},
)
MATRIX = np.array([[1.5, -0.25, 7], [0.125, 2, -3]], np.float32)
TFJS_CASES = sorted(path.stem for path in (SHARED / "golden_tfjs").glob("*.json"))


def equal(left: object, right: object) -> None:
    """The same bits, but that every NaN equals every NaN and -0 equals +0."""
    np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


def same_keypoints(
    got: posepost.Keypoints,
    expected: posepost.Keypoints,
    atol: float = 0.0,
    rtol: float = 0.0,
    *,
    scores: tuple[float, float] = (SIGMOID_RTOL, 0.0),
) -> None:
    """`atol` and `rtol` are of keypoints; `scores` is (rtol, atol) of the scores."""
    np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=rtol, atol=atol)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=scores[0], atol=scores[1])
    assert (got.visibility is None) == (expected.visibility is None)
    if expected.visibility is not None:
        np.testing.assert_allclose(got.visibility, expected.visibility, rtol=VISIBILITY_RTOL)


# ---- faults put into a kernel, and sanitizers


def check_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, source: str, old: str, new: str, suite: Callable[[], None], seconds: int = 60
) -> None:
    """With one edit in a kernel source the suite of launches finds a fault."""
    read, whole = _kernels.source, _kernels.source(source)
    assert whole.count(old) == 1, f"the edit must fit one place, it fits {whole.count(old)}"
    monkeypatch.setattr(_kernels, "source", lambda name: whole.replace(old, new) if name == source else read(name))
    forget_plans()
    _cuda._scratch.clear()
    found = outcome(suite, seconds)
    forget_plans()
    assert found == "found"


SANITIZED = """
import sys
from posepost import _cuda, _kernels
from bench.cuda_cpu.seam import ExecutorCuda
_cuda.cuda = cuda = ExecutorCuda(sanitize=sys.argv[1])
fault = eval(sys.argv[2])
if fault:
    read, (source, old, new) = _kernels.source, fault
    assert read(source).count(old) == 1
    _kernels.source = lambda name: read(name).replace(old, new)
"""
REPORTS = ("ERROR: AddressSanitizer", "WARNING: ThreadSanitizer")


def check_sanitizers(
    kind: str,
    script: str,
    source: str,
    fault: tuple[str, str] | None,
    *arguments: str,
    reports: tuple[str, ...] = REPORTS,
    timeout: float = 300,
) -> None:
    """Nothing is found while `script` launches a kernel, whose `cuda` is the executor and whose own arguments come from
    sys.argv[3] on; and a fault seeded in its source is reported."""
    able, reason = executor.available()
    if not able:
        pytest.skip(reason)
    edit = repr(fault and (source, *fault))
    code = SANITIZED + script + 'print("clean")'
    done = executor.run_sanitized(kind, ["-c", code, kind, edit, *arguments], timeout=timeout)
    assert ("clean" in done.stdout) == (fault is None), done.stderr[-3000:]
    if fault is not None:
        assert any(report in done.stderr for report in reports), done.stderr


# ---- heatmaps and peaks


def blurred(preset: str, size: int, **fields: Any) -> dict[str, Any]:
    """Options of decode_heatmap: a preset, its refinement with a blur of `size`, where it has one."""
    refine = PRESETS[preset]["refine"]
    if hasattr(refine, "blur"):
        refine = dataclasses.replace(refine, blur=size, **fields)
    return {"preset": preset, "refine": refine}


def uneven_size(preset: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """An `input_size` whose cells are a little wider than high, so that axes that are mixed up are noticed; it is taken
    where scaling is said."""
    H, W = shape[-2:]
    return {"input_size": (10 * W + 3, 10 * H - 2), "scaling": PRESETS[preset].get("scaling", "msra")}


def with_flip(arrays: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of decode_heatmap: "flipped", "flipped_offsets", "pairs" and "shift" become one Flip."""
    given = {**arrays, **options}
    flipped, offsets = given.pop("flipped", None), given.pop("flipped_offsets", None)
    pairs, shift = given.pop("pairs", None), given.pop("shift", False)
    return given if flipped is None else {**given, "flip": posepost.Flip(flipped, pairs, offsets, shift)}


def gaussian_maps(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Gaussian peaks all over the map, some at its borders, with a little noise: positions are well conditioned."""
    rng = np.random.default_rng(seed)
    B, K, H, W = shape
    y, x = np.mgrid[:H, :W]
    center = rng.uniform(-0.5, 0.5, (B, K, 2)) + np.stack([rng.integers(0, W, (B, K)), rng.integers(0, H, (B, K))], -1)
    apart = (x - center[..., 0, None, None]) ** 2 + (y - center[..., 1, None, None]) ** 2
    maps = rng.uniform(0.3, 1, (B, K, 1, 1)) * np.exp(-apart / 8) + rng.uniform(0, 0.02, shape)
    if "int" in dtype:
        return (maps * 100).astype(dtype)
    return maps.astype(np.float32).astype(dtype_of(dtype))


def check_peaks(heatmaps: np.ndarray, view_name: str, tolerance: float = 0.0, **options: Any) -> posepost.Peaks:
    layout, view = VIEWS[view_name]
    options = {"layout": layout, "activation": None, "max_peaks": 4, **options}
    if heatmaps.dtype.kind in "iu":
        options["quantization"] = {"heatmaps": (0.25, 3)}
    expected = posepost.find_peaks(view(heatmaps, np.array), **options)
    got = posepost.find_peaks(view(heatmaps, to_device), **options).numpy()
    np.testing.assert_array_equal(got.count, expected.count)
    np.testing.assert_allclose(got.points, expected.points, rtol=0, atol=tolerance)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=SIGMOID_RTOL, atol=0)
    np.testing.assert_array_equal(got.dropped, expected.dropped)
    assert got.count.dtype == got.dropped.dtype == np.int32
    return got


# ---- PoseNet's multi-person heads

MODES = ("tfjs", "pytorch", "coral", "edgetpu")
CHANNELS = {"heatmaps": 17, "offsets": 34, "displacement_fwd": 32, "displacement_bwd": 32}


def crowd(dtype: str, B: int, H: int, W: int, seed: int, K: int = 17) -> dict[str, np.ndarray]:
    """Four tensors of noise, channels first: many roots, short displacements, offsets within a cell or two."""
    spread = {"heatmaps": 2.0, "offsets": 9.0, "displacement_fwd": 20.0, "displacement_bwd": 20.0}
    tensors = {}
    for i, (name, channels) in enumerate(zip(CHANNELS, (K, 2 * K, 2 * K - 2, 2 * K - 2))):
        noise = values("random", "float32", (B, channels, H, W), 10 * seed + i) * spread[name]
        if "int" in dtype:
            noise = np.clip(
                np.rint(noise) + (20 if dtype == "int8" else 128), *(np.iinfo(dtype).min, np.iinfo(dtype).max)
            )
        tensors[name] = noise.astype(dtype_of(dtype))
    return tensors


def scales(dtype: str) -> dict[str, tuple[float, int]] | None:
    if "int" not in dtype:
        return None
    zero = 20 if dtype == "int8" else 128
    return {
        "heatmaps": (0.125, zero),
        "offsets": (0.5, zero),
        "displacement_fwd": (1, zero),
        "displacement_bwd": (1, zero),
    }


def random_maps(seed: int, H: int = 9, W: int = 12, kind: str = "distinct", K: int = 17) -> list[np.ndarray]:
    """Scores, offsets and displacements (H, W, C) of a crowd that makes no sense: every rule comes into play."""
    rng = np.random.default_rng(seed)
    scores = rng.random((H, W, K), np.float32)
    if kind == "ties":
        scores = np.round(scores * 8) / 8
    if kind == "negative too":
        scores = 3 * scores - 1
    fields = [rng.normal(0, size, (H, W, 2 * n)).astype(np.float32) for size, n in ((6, K), (40, K - 1), (40, K - 1))]
    return [scores, *fields]


def random_tree(K: int, seed: int) -> Edges:
    """Any keypoint may be the root, edges in any order; seed 0: a chain."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(K)
    parents = [child - 1 if seed == 0 else rng.integers(child) for child in range(1, K)]
    edges = [(int(names[parent]), int(names[child])) for child, parent in enumerate(parents, 1)]
    return tuple(edges[i] for i in rng.permutation(K - 1))


def figure(x: float, y: float, size: float) -> np.ndarray:
    """(17, 2) as (x, y): a standing person."""
    unit = [(0, 0), (1, -1), (-1, -1), (2, 0), (-2, 0), (3, 4), (-3, 4), (5, 8), (-5, 8), (5, 12), (-5, 12)]
    unit += [(2, 12), (-2, 12), (2, 18), (-2, 18), (2, 24), (-2, 24)]
    return np.array(unit, np.float32) * size + (x, y)


def draw(people: list[np.ndarray], H: int, W: int, stride: int) -> list[np.ndarray]:
    """Logits, offsets and displacements (H, W, C) that a perfect network gives: the nearest person's within 2 cells."""
    y, x = np.mgrid[:H, :W].astype(np.float32) * stride
    logits = np.full((H, W, 17), -8, np.float32)
    offsets, fwd, bwd = (np.zeros((H, W, 2 * n), np.float32) for n in (17, 16, 16))
    for k in range(17):
        distance = np.stack([np.hypot(x - person[k, 0], y - person[k, 1]) for person in people])
        nearest = distance.argmin(axis=0)
        at = np.stack(people)[nearest]  # (H, W, 17, 2)
        logits[..., k] = np.maximum(4 - 5 * distance.min(axis=0) / stride, -8)
        offsets[..., k], offsets[..., 17 + k] = at[..., k, 1] - y, at[..., k, 0] - x
        for e, (parent, child) in enumerate(EDGES):
            for field, source, target in ((fwd, parent, child), (bwd, child, parent)):
                if source == k:
                    field[..., e], field[..., 16 + e] = np.moveaxis(at[..., target, ::-1] - at[..., k, ::-1], -1, 0)
    return [logits, offsets, fwd, bwd]


def check_poses(tensors: dict[str, np.ndarray], view_name: str = "nchw", **options: Any) -> posepost.Poses:
    layout, view = VIEWS[view_name]
    options = {"output_stride": 8, "layout": layout, "activation": "sigmoid", **options}
    placed = [view(array, np.array) for array in tensors.values()]
    expected = posepost.decode_posenet_multi(*placed, **options)
    got = posepost.decode_posenet_multi(*(view(array, to_device) for array in tensors.values()), **options).numpy()
    assert [array.dtype.name for array in got] == ["float32", "float32", "float32", "int32"]
    np.testing.assert_array_equal(got.count, expected.count)
    np.testing.assert_array_equal(got.keypoints, expected.keypoints)
    np.testing.assert_allclose(got.keypoint_scores, expected.keypoint_scores, rtol=SIGMOID_RTOL, atol=1e-37)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=2 * SIGMOID_RTOL, atol=1e-37)
    return got


# ---- SimCC


def _vectors_of_more(x: np.ndarray, place: Place) -> Any:
    """The values as a slice of a larger array, which holds the type's largest value everywhere else."""
    largest = np.iinfo(x.dtype).max if x.dtype.kind in "iu" else np.inf
    N, K, W = x.shape
    whole = np.full((N + 2, K + 3, W + 9), largest).astype(x.dtype)
    whole[1 : N + 1, 2 : K + 2, 3 : W + 3] = x
    return place(whole)[1 : N + 1, 2 : K + 2, 3 : W + 3]


VECTOR_VIEWS: dict[str, Callable[[np.ndarray, Place], Any]] = {
    "dense": lambda x, place: place(np.ascontiguousarray(x)),
    "slice_of_more": _vectors_of_more,
    "every_other_bin": lambda x, place: place(np.repeat(np.ascontiguousarray(x), 2, axis=2))[:, :, ::2],
    "keypoints_last": lambda x, place: place(np.ascontiguousarray(x.swapaxes(1, 2))).swapaxes(1, 2),
    "rows_last": lambda x, place: place(np.ascontiguousarray(x.transpose(2, 1, 0))).transpose(2, 1, 0),
}


def simcc_quantization(dtype: str) -> dict[str, tuple[float, int]] | None:
    return {"simcc_x": (0.0375, 11), "simcc_y": (0.0625, 7)} if "int" in dtype else None


SIMCC_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"refine": "dark"},
    {"refine": "dark", "sigma": (1.3, 19.6), "absent": None, "visibility": True, "beta": 0.5},
    {"visibility": True, "threshold": 0.4, "beta": 3.0},
    {"normalize": "sigma", "refine": "dark", "sigma": (1.0, 0.4)},
    {"score": "mean", "threshold": 0.4},
    {"activation": "sigmoid", "threshold": 0.6, "absent": -3.25},
)


def gaussian_vectors(shape: tuple[int, ...], seed: int, sigma: float = 6.0, noise: float = 0.01) -> np.ndarray:
    """Vectors (N, K, W) such as networks give: a Gaussian anywhere, weak or strong, over a little noise."""
    rng = np.random.default_rng(seed)
    center, height = rng.uniform(-1, shape[2], (*shape[:2], 1)), rng.uniform(0.05, 1.2, (*shape[:2], 1))
    bell = height * np.exp(-((np.arange(shape[2]) - center) ** 2) / (2 * sigma**2))
    return (bell + noise * rng.standard_normal(shape)).astype(np.float32)


def random_pairs(K: int, seed: int) -> list[int]:
    """Partners of K keypoints for a flip test; one of them has none where K is odd."""
    shuffled, pairs = np.random.default_rng(seed).permutation(K), list(range(K))
    for a, b in zip(shuffled[::2].tolist(), shuffled[1::2].tolist()):
        pairs[a], pairs[b] = b, a
    return pairs


def check_simcc(
    cuda: ExecutorCuda,
    arrays: list[np.ndarray],
    view: Callable[[np.ndarray, Place], Any],
    skip: int = 0,
    **options: Any,
) -> None:
    """arrays: simcc_x, simcc_y and, for a flip test, the same of the mirrored image."""
    pairs = random_pairs(arrays[0].shape[1], 2)

    def call(decode: Callable[..., posepost.Keypoints], place: Place) -> posepost.Keypoints:
        x, y, *flipped = (view(array, place) for array in arrays)
        return decode(x, y, flip=posepost.Flip(flipped, pairs) if flipped else None, **options)

    expected = call(posepost.decode_simcc, np.array)
    before = len(cuda.launches)
    got = call(posepost.decode_simcc, lambda array: to_device(array, skip=skip)).numpy()
    assert len(cuda.launches) == before + 1
    same_keypoints(got, expected, scores=(SIGMOID_RTOL, SIGMOID_ATOL) if options.get("activation") else (0, 0))
