"""What find_peaks costs: `python -m pytest bench/bench_peaks.py --benchmark-enable -o addopts=`.

Maps with several Gaussian peaks each, as bottom-up networks give them. The peers are what their users write: PyTorch's
max_pool2d beside the map and topk (HigherHRNet, MMPose's associative embedding, DeepLabCut), and SciPy's
maximum_filter and a sort (posenet-python). All work on the same arrays, in turns, each checked against NumPy before
it is timed. On a GPU times run from maps on the device to NumPy peaks on the host, and of posepost's kernel alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import posepost

from . import timing
from .harness import DEVICE, FAILURES, Failure, Replay
from .optional import absent

CASES = ((1, 17, 64, 64, 3), (1, 18, 96, 88, 12), (8, 17, 128, 128, 12), (1, 17, 256, 256, 30))  # B, K, H, W, people
OPTIONS: dict[str, Any] = {"threshold": 0.1, "max_peaks": 30, "activation": None}
US = f"posepost on {DEVICE}"
TORCH, SCIPY = "PyTorch max_pool2d + topk", "SciPy maximum_filter"
MISSING = {
    TORCH: absent("torch", "pip install torch==2.13.0"),
    SCIPY: absent("scipy", "pip install scipy"),
}
SETS = 4

Found = tuple[np.ndarray, np.ndarray]
"""Peaks (B, K, M) as y * W + x and their scores, best first, -1 and 0 from the last on."""


def maps_of(case: tuple[int, ...], seed: int) -> np.ndarray:
    B, K, H, W, people = case
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:H, :W]
    maps = rng.uniform(0, 0.05, (B, K, H, W))
    for _ in range(people):
        at = rng.uniform(0, 1, (B, K, 2, 1, 1)) * [[[H]], [[W]]]
        apart = (y - at[:, :, 0]) ** 2 + (x - at[:, :, 1]) ** 2
        np.maximum(maps, rng.uniform(0.2, 1, (B, K, 1, 1)) * np.exp(-apart / 8), out=maps)
    return maps.astype(np.float32)


def ours(maps: Any) -> Found:
    found = posepost.find_peaks(maps, **OPTIONS).numpy()
    W = maps.shape[3]
    cells = (found.points[..., 1] * W + found.points[..., 0]).astype(np.int64)
    cells[np.arange(OPTIONS["max_peaks"]) >= found.count[..., None]] = -1
    return cells, found.scores


def by_torch(maps: Any) -> Found:
    import torch

    heat = torch.as_tensor(maps)
    B, K, _, _ = heat.shape
    kept = heat * (heat == torch.nn.functional.max_pool2d(heat, 3, 1, 1))
    scores, cells = kept.view(B, K, -1).topk(OPTIONS["max_peaks"])
    below = scores < OPTIONS["threshold"]
    return cells.masked_fill(below, -1).cpu().numpy(), scores.masked_fill(below, 0).cpu().numpy()


def by_scipy(maps: Any) -> Found:
    from scipy import ndimage

    heat = maps if isinstance(maps, np.ndarray) else maps.get()
    B, K, _, _ = heat.shape
    cells, scores = np.full((B, K, OPTIONS["max_peaks"]), -1), np.zeros((B, K, OPTIONS["max_peaks"]), np.float32)
    for b in range(B):
        for k in range(K):
            one = heat[b, k]
            peak = (one == ndimage.maximum_filter(one, 3, mode="constant", cval=-np.inf)) & (
                one >= OPTIONS["threshold"]
            )
            place = np.flatnonzero(peak)
            best = place[np.argsort(-one.reshape(-1)[place], kind="stable")][: OPTIONS["max_peaks"]]
            cells[b, k, : len(best)], scores[b, k, : len(best)] = best, one.reshape(-1)[best]
    return cells, scores


@functools.lru_cache(maxsize=1)
def measured(case: tuple[int, ...]) -> dict[tuple[str, str], list[float]]:
    """Seconds by variant and kind; a variant that cannot run here is not in it."""
    sets = [maps_of(case, seed) for seed in range(SETS)]
    placed: list[Any] = sets
    if DEVICE == "cuda":
        import cupy

        placed = [cupy.asarray(maps) for maps in sets]
    calls: dict[str, Callable[[int], Any]] = {US: lambda i: ours(placed[i])}
    for name, call in ((TORCH, by_torch), (SCIPY, by_scipy)):
        if MISSING[name] is None:
            calls[name] = lambda i, call=call: call(placed[i])
    for i, maps in enumerate(sets):
        expected = posepost.find_peaks(maps, **OPTIONS)
        cells = (expected.points[..., 1] * maps.shape[3] + expected.points[..., 0]).astype(np.int64)
        cells[np.arange(OPTIONS["max_peaks"]) >= expected.count[..., None]] = -1
        for call in calls.values():
            points, scores = call(i)
            np.testing.assert_array_equal(points, cells)
            np.testing.assert_array_equal(scores, expected.scores)

    def failed(name: str, error: Exception) -> None:
        FAILURES.append(Failure(f"peaks {case}", name, "blocking", "failed", f"while it was timed: {error}"))

    timed = timing.interleaved(calls, SETS, seconds=0.5, failed=failed)
    results = {(name, "blocking"): times for name, times in timed.items()}
    if DEVICE == "cuda":
        outs = [posepost.find_peaks(maps, **OPTIONS) for maps in placed]
        results[US, "device warm"] = timing.device_times(
            lambda i: posepost.find_peaks(placed[i], **OPTIONS, out=outs[i]), SETS
        )
    return results


VARIANTS = [(name, "blocking") for name in (US, TORCH, SCIPY)]
if DEVICE == "cuda":
    VARIANTS.insert(1, (US, "device warm"))


@pytest.mark.parametrize(("name", "kind"), VARIANTS, ids=[", ".join(variant) for variant in VARIANTS])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "{}x{}x{}x{}, {} people".format(*case))
def test_peaks(benchmark: Any, case: tuple[int, ...], name: str, kind: str) -> None:
    if MISSING.get(name):
        pytest.skip(MISSING[name])
    times = measured(case).get((name, kind))
    if times is None:
        pytest.fail(FAILURES[-1].reason)
    B, K, H, W, people = case
    benchmark.group = f"{B} x {K} maps of {H}x{W}, {people} people"
    benchmark.extra_info.update(variant=name, kind=kind, head="peaks", B=B, K=K, H=H, W=W, people=people)
    benchmark.extra_info.update(timing.percentiles(times))
    benchmark._timer = Replay(times)
    benchmark.pedantic(lambda: None, rounds=len(times), iterations=1)
