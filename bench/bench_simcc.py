"""What SimCC heads cost: `python -m pytest bench/bench_simcc.py --benchmark-enable -o addopts=`.

Vectors like those of RTMPose and RTMW: a Gaussian a keypoint over a little noise. posepost and MMPose's own functions
work on the same arrays, in turns, each checked first: posepost against NumPy, MMPose against posepost. On a GPU
times run from vectors on the device to NumPy keypoints on the host, and of posepost's kernel alone as well.
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
from .measure import L2_BYTES
from .peers import mmpose_simcc

CASES = (  # model, rows, keypoints, bins of x and y, sigma
    ("RTMPose 192x256", 1, 17, 384, 512, (4.9, 5.66)),
    ("RTMPose 192x256", 4, 17, 384, 512, (4.9, 5.66)),
    ("RTMPose 192x256", 64, 17, 384, 512, (4.9, 5.66)),
    ("RTMW 288x384", 1, 133, 576, 768, (6.0, 6.93)),
    ("RTMW 288x384", 64, 133, 576, 768, (6.0, 6.93)),
)
HEADS = ("plain", "visibility", "dark")
SPLIT_RATIO, BETA = 2.0, 150.0
SETS = 4


def vectors(N: int, K: int, W: int, sigma: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    center, height = rng.uniform(10, W - 10, (N, K, 1)), rng.uniform(0.3, 1, (N, K, 1))
    bell = height * np.exp(-((np.arange(W) - center) ** 2) / (2 * sigma**2))
    return (bell + 0.003 * rng.standard_normal((N, K, W))).astype(np.float32)


def options(case: tuple[Any, ...], head: str) -> dict[str, Any]:
    refine = "dark" if head == "dark" else "none"
    return {"sigma": case[5], "split_ratio": SPLIT_RATIO, "refine": refine, "visibility": head == "visibility"}


@functools.lru_cache(maxsize=1)
def measured(case: tuple[Any, ...], head: str) -> dict[tuple[str, str], list[float]]:
    """Seconds by variant and kind; a variant that cannot run here is not in it."""
    _, N, K, Wx, Wy, sigma = case
    sets = [(vectors(N, K, Wx, sigma[0], 2 * seed), vectors(N, K, Wy, sigma[1], 2 * seed + 1)) for seed in range(SETS)]
    given = options(case, head)
    placed: list[Any] = sets
    if DEVICE == "cuda":
        import cupy

        placed = [tuple(cupy.asarray(array) for array in pair) for pair in sets]
    outs = [posepost.decode_simcc(*pair, **given) for pair in placed]

    def decode(i: int) -> posepost.Keypoints:
        if DEVICE == "cpu":  # the result is NumPy arrays as it is
            return posepost.decode_simcc(*placed[i], **given)
        return posepost.decode_simcc(*placed[i], **given, out=outs[i]).numpy()

    calls: dict[str, Callable[[int], Any]] = {f"posepost on {DEVICE}": decode}
    if mmpose_simcc.missing(DEVICE) is None:

        def mmpose(i: int) -> Any:
            pair = [array.get() for array in placed[i]] if DEVICE == "cuda" else sets[i]
            return mmpose_simcc.decode(*pair, head, sigma=sigma, split_ratio=SPLIT_RATIO, beta=BETA)

        calls[mmpose_simcc.NAMES[head]] = mmpose
    for i, pair in enumerate(sets):
        expected = posepost.decode_simcc(*pair, **given)
        got = decode(i)
        np.testing.assert_array_equal(got.keypoints, expected.keypoints)
        np.testing.assert_array_equal(got.scores, expected.scores)
        if expected.visibility is not None:
            np.testing.assert_allclose(got.visibility, expected.visibility, rtol=1e-5)
        for name in list(calls)[1:]:
            keypoints, scores, visibility = calls[name](i)
            np.testing.assert_allclose(expected.keypoints, keypoints, rtol=0, atol=1e-4 if head == "dark" else 0)
            np.testing.assert_array_equal(expected.scores, scores)
            if visibility is not None:  # MMPose rounds exponents of several hundred before it takes differences
                np.testing.assert_allclose(expected.visibility, visibility, rtol=2e-4)

    def failed(name: str, error: Exception) -> None:
        FAILURES.append(Failure(f"{case[0]}, {head}", name, "blocking", "failed", f"while it was timed: {error}"))

    timed = timing.interleaved(calls, SETS, seconds=0.5, failed=failed)
    results = {(name, "blocking"): times for name, times in timed.items()}
    if DEVICE == "cuda":
        nbytes = sum(array.nbytes for array in sets[0])
        for kind in ("device warm", "device cold"):
            count = 1 if kind == "device warm" else max(2, min(4096, -(-L2_BYTES // nbytes)))
            copies = [tuple(array.copy() for array in placed[i % SETS]) for i in range(count)]
            results[f"posepost on {DEVICE}", kind] = timing.device_times(
                lambda i, copies=copies: posepost.decode_simcc(*copies[i], **given, out=outs[i % SETS]), count
            )
    return results


VARIANTS = [(f"posepost on {DEVICE}", "blocking"), ("MMPose", "blocking")]
if DEVICE == "cuda":
    VARIANTS[1:1] = [(f"posepost on {DEVICE}", "device warm"), (f"posepost on {DEVICE}", "device cold")]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: ", ".join(variant))
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}x{case[2]}")
def test_simcc(benchmark: Any, case: tuple[Any, ...], head: str, variant: tuple[str, str]) -> None:
    name, kind = variant
    if name == "MMPose":
        reason = mmpose_simcc.missing(DEVICE)
        if reason:
            pytest.skip(reason)
        name = mmpose_simcc.NAMES[head]
    times = measured(case, head).get((name, kind))
    if times is None:
        pytest.fail(FAILURES[-1].reason)
    benchmark.group = f"{case[0]}, {case[1]} x {case[2]} keypoints, {head}"
    benchmark.extra_info.update(variant=name, kind=kind, head=head, model=case[0], N=case[1], K=case[2], W=case[3:5])
    benchmark.extra_info.update(timing.percentiles(times))
    benchmark._timer = Replay(times)
    benchmark.pedantic(lambda: None, rounds=len(times), iterations=1)
