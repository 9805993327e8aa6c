"""What decode_heatmap costs, head by head: `python -m pytest bench/bench_heatmap.py --benchmark-enable -o addopts=`.

Against MMPose's own functions on the same arrays, and kornia's soft-argmax (bench/peers/mmpose_heads.py): one core
against one core, in turns, each checked against NumPy before and after it is timed. `--benchmark-json=FILE` keeps
the times, the machine and the versions; bench/report makes the table in docs/validation.md of that file.

On a GPU the maps lie in its memory: the time of a launch there, and of a blocking call to NumPy keypoints; MMPose
downloads first and decodes on the host. Without a GPU decoding in NumPy is timed, and the head of the run says so.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import posepost

from . import timing
from .harness import DEVICE, FAILURES, QUICK, Failure, Replay
from .measure import Measurement
from .peers import mmpose_heads
from .peers.mmpose_heads import EDITS, KORNIA, MMPOSE, Task

US = "posepost"
POSITION_ATOL = 1e-4  # cells, for whatever the golden files pin
SCORE_ATOL = 1e-5
SETS = 4
STRIDE = 4  # pixels of the input from one cell to the next
COCO_PAIRS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


class Size(NamedTuple):
    """Maps of a model: MMPose's sigma and blur go with the resolution."""

    B: int
    K: int
    H: int
    W: int
    sigma: float
    blur: int

    @property
    def name(self) -> str:
        return f"{self.K}x{self.H}x{self.W}, B = {self.B}"


SIZES = [
    Size(1, 17, 64, 48, 2, 11),
    Size(32, 17, 64, 48, 2, 11),
    Size(1, 17, 96, 72, 3, 17),
    Size(8, 17, 96, 72, 3, 17),
    Size(1, 133, 96, 72, 3, 17),
    Size(8, 133, 96, 72, 3, 17),
]

HEADS: dict[str, dict[str, Any]] = {
    "none": {"absent": -1},
    "quarter": {"preset": "mmpose_msra"},
    "dark": {"preset": "mmpose_dark"},
    "dark_udp": {"preset": "mmpose_udp"},
    "udp_combined": {"preset": "mmpose_udp_combined"},
    "megvii": {"preset": "mmpose_megvii"},
    "soft_argmax": {"preset": "mmpose_integral"},
    "flip": {"absent": -1},
    "centroid": {"preset": "sleap"},
}
PEERS = {head: (MMPOSE,) for head in HEADS} | {"soft_argmax": (MMPOSE, KORNIA), "centroid": ()}
OURS = [(US, "blocking"), *([(US, "device warm")] if DEVICE == "cuda" else [])]


def input_size(size: Size) -> tuple[int, int]:
    return STRIDE * size.W, STRIDE * size.H


def flip_pairs(K: int) -> tuple[int, ...]:
    """COCO's; of more keypoints each two neighbors."""
    return COCO_PAIRS if K == 17 else tuple(min(k + 1 - 2 * (k % 2), K - 1) for k in range(K))


def options(head: str, size: Size) -> dict[str, Any]:
    given = {**HEADS[head], "input_size": input_size(size)}
    with_blur = {
        "dark": posepost.Dark,
        "dark_udp": posepost.DarkUDP,
        "udp_combined": posepost.UDPCombined,
        "megvii": posepost.Megvii,
    }
    if head in with_blur:
        given["refine"] = with_blur[head](blur=size.blur)
    return given


def peaks(rng: np.random.Generator, size: Size, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(B, K, H, W): a Gaussian at each (x, y) of 0.5 to 1, and normal noise of 0.01."""
    B, K, H, W, sigma, _ = size
    across = np.exp(-((np.arange(W) - x[..., None]) ** 2) / (2 * sigma**2))
    along = np.exp(-((np.arange(H) - y[..., None]) ** 2) / (2 * sigma**2))
    maps = rng.standard_normal((B, K, H, W), np.float32) * np.float32(0.01)
    maps += (along[..., :, None] * across[..., None, :] * rng.uniform(0.5, 1, (B, K, 1, 1))).astype(np.float32)
    return maps


def draw(head: str, size: Size, seed: int) -> list[np.ndarray]:
    """The arrays of a call: maps, and for "flip" those of the mirrored image."""
    rng = np.random.default_rng([seed, size.B, size.K, size.H])
    x, y = rng.uniform(4, size.W - 5, (size.B, size.K)), rng.uniform(4, size.H - 5, (size.B, size.K))
    maps = peaks(rng, size, x, y)
    if head == "flip":  # one cell off, as the network of a stride of 4 sees it
        pairs = list(flip_pairs(size.K))
        return [maps, peaks(rng, size, (size.W - x)[:, pairs], y[:, pairs])]
    if head == "soft_argmax":
        return [maps * np.float32(10)]  # logits
    if head == "udp_combined":
        fields = rng.uniform(-0.2, 0.2, (2, *maps.shape)).astype(np.float32)
        return [np.stack([maps, *fields], axis=2).reshape(size.B, 3 * size.K, size.H, size.W)]
    return [maps]


def check(got: Any, answer: tuple[np.ndarray, np.ndarray]) -> None:
    """AssertionError where points and, if the peer has them, scores are not NumPy's."""
    (points, scores), (right_points, right_scores) = got, answer
    np.testing.assert_allclose(points, right_points, rtol=0, atol=POSITION_ATOL * STRIDE)
    if scores is not None:
        np.testing.assert_allclose(scores, right_scores, rtol=0, atol=SCORE_ATOL)


class Found(NamedTuple):
    results: dict[tuple[str, str], Measurement]
    failures: list[Failure]


@functools.lru_cache(maxsize=1)  # the variants of a case follow each other
def measured(head: str, size: Size) -> Found:
    host = [draw(head, size, seed) for seed in range(SETS)]
    given = options(head, size)
    answers = [tuple(posepost.decode_heatmap(*_arguments(arrays), **given, **_flip(arrays))) for arrays in host]
    placed: list[list[Any]] = host
    if DEVICE == "cuda":
        import cupy

        placed = [[cupy.asarray(array) for array in arrays] for arrays in host]
    calls: dict[str, Callable[[int], Any]] = {US: _ours(given, placed)}
    before: dict[str, Callable[[int], Any]] = {}
    failures = []
    task = Task(size.B, size.K, size.H, size.W, size.blur, flip_pairs(size.K), input_size(size))
    for peer in PEERS[head]:
        reason = mmpose_heads.missing(peer)
        if reason:
            failures.append(Failure(_case(head, size), peer, "blocking", "skipped", reason))
            continue
        calls[peer], ready = _theirs(mmpose_heads.prepare(peer, head, task), head, placed)
        if ready:
            before[peer] = ready

    def right(name: str, i: int) -> bool:
        if name in before:
            before[name](i)
        try:
            check(calls[name](i), answers[i])
        except AssertionError as error:
            reason = " ".join(str(error).split())[:300]
            failures.append(Failure(_case(head, size), name, "blocking", "failed", reason))
        return not failures or failures[-1].variant != name

    calls = {name: call for name, call in calls.items() if all(right(name, i) for i in range(SETS))}

    def failed(name: str, error: Exception) -> None:
        reason = f"while it was timed: {error or type(error).__name__}"
        failures.append(Failure(_case(head, size), name, "blocking", "failed", reason))

    times = timing.interleaved(calls, SETS, seconds=0.01 if QUICK else 0.2, failed=failed, before=before)
    results = {(name, "blocking"): Measurement(times[name]) for name in times if right(name, 0)}
    if DEVICE == "cuda" and (US, "blocking") in results:
        results[US, "device warm"] = Measurement(_device_times(given, placed, answers))
    return Found(results, failures)


def _case(head: str, size: Size) -> str:
    return f"{head}, {size.name}"


def _arguments(arrays: list[Any]) -> list[Any]:
    return arrays[:1]


def _flip(arrays: list[Any]) -> dict[str, Any]:
    if len(arrays) == 1:
        return {}
    return {"flip": posepost.Flip(arrays[1], flip_pairs(arrays[1].shape[1]), shift=True)}


def _ours(given: dict[str, Any], placed: list[list[Any]]) -> Callable[[int], Any]:
    def call(i: int) -> Any:
        people = posepost.decode_heatmap(*_arguments(placed[i]), **given, **_flip(placed[i]))
        return people if isinstance(people.keypoints, np.ndarray) else people.numpy()

    return call


def _theirs(
    decode: Any, head: str, placed: list[list[Any]]
) -> tuple[Callable[[int], Any], Callable[[int], Any] | None]:
    """A peer's call, and what must come before it outside the clock."""
    if DEVICE == "cuda":  # a download is a copy already
        return lambda i: decode(*(array.get() for array in placed[i])), None
    if head not in EDITS:
        return lambda i: decode(*placed[i]), None
    copies = [array.copy() for array in placed[0]]

    def copy(i: int) -> None:
        for kept, array in zip(copies, placed[i]):
            np.copyto(kept, array)

    return lambda i: decode(*copies), copy


def _device_times(given: dict[str, Any], placed: list[list[Any]], answers: list[Any]) -> list[float]:
    outs = [posepost.decode_heatmap(*_arguments(arrays), **given, **_flip(arrays)) for arrays in placed]
    for out in outs:  # poisoned: a launch that writes nothing must not pass the check
        out.keypoints.fill(np.nan)
        out.scores.fill(np.nan)

    def enqueue(i: int) -> None:
        posepost.decode_heatmap(*_arguments(placed[i]), **given, **_flip(placed[i]), out=outs[i])

    times = timing.device_times(enqueue, SETS)
    for out, answer in zip(outs, answers):
        check(out.numpy(), answer)
    return times


@pytest.fixture(scope="module", autouse=True)
def one_core() -> Any:
    """BLAS as it was started: with more than one thread the comparison would not be of one core with one core."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        pytest.fail(
            "OMP_NUM_THREADS must be 1 before NumPy is imported: bench/conftest.py sets it if nothing else does"
        )
    if DEVICE == "cpu":
        print("no CUDA device answers: this is the NumPy implementation", file=sys.stderr)


RUNS = [
    pytest.param(head, size, variant, kind, id=f"{head}-{size.name}-{variant}-{kind}")
    for head in HEADS
    for size in (SIZES[:1] if QUICK else SIZES)
    for variant, kind in [*OURS, *((peer, "blocking") for peer in PEERS[head])]
]


@pytest.mark.parametrize(("head", "size", "variant", "kind"), RUNS)
def test_heatmap(benchmark: Any, head: str, size: Size, variant: str, kind: str) -> None:
    found = measured(head, size)
    result = found.results.get((variant, kind))
    if result is None:
        (failure,) = [failure for failure in found.failures if failure.variant == variant]
        FAILURES.append(failure)
        (pytest.skip if failure.status == "skipped" else pytest.fail)(failure.reason)
    benchmark.group = f"{_case(head, size)} {kind}"
    benchmark.extra_info.update(
        case=_case(head, size),
        head=head,
        **{field: getattr(size, field) for field in ("B", "K", "H", "W")},
        blur=size.blur,
        variant=variant,
        kind=kind,
        **timing.percentiles(result.times),
        checked=True,
        peers=mmpose_heads.versions(),
    )
    benchmark._timer = Replay(result.times)
    benchmark.pedantic(lambda: None, rounds=len(result.times), iterations=1)
