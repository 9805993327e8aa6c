"""What several people cost: `python -m pytest bench/bench_posenet_multi.py --benchmark-enable -o addopts=`.

Maps are the bundled model's own, of freshly drawn crowds, set side by side for larger maps with more people. Each peer
stands against posepost in the mode with the peer's rules; its poses are compared before anything is timed, and all
variants of a case take turns. Peers that are not here are skipped with the command that gets them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

import posepost

from . import timing
from .harness import DEVICE, FAILURES, Failure, Replay
from .peers import CROWD_PEERS, Crowd, Found

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the bundled model: pip install posepost[ort]")
pytest.importorskip("PIL", reason="Pillow draws the scenes: pip install posepost[ort]")

MODEL = Path(posepost.__file__).parent / "assets" / "figures.onnx"
HEADS = ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd")
CASES = [(people, 1) for people in (1, 2, 4, 6)] + [(6, 2), (6, 4)]  # people a scene, scenes a side
MODES = ("tfjs", "pytorch", "coral")
SECONDS = float(os.environ.get("POSEPOST_BENCH_SECONDS", "0.5"))  # of each variant
POSITION_ATOL = {"tfjs": 1e-3, "pytorch": 1e-3, "coral": 0.02}  # pixels
SCORE_ATOL = 1e-5


@functools.lru_cache(maxsize=1)
def crowd(people: int, side: int) -> Crowd:
    """The four heads of side x side scenes of `people` people each."""
    from examples.bundled_model import scenes

    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    drawn = [scenes.draw(np.random.default_rng([scenes.EVALUATE, 7, i]), people).image for i in range(side * side)]
    images = (np.stack(drawn).transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
    joined = []
    for output in session.run(list(HEADS), {"image": images}):
        rows = [np.concatenate(output[row * side : (row + 1) * side], axis=2) for row in range(side)]
        joined.append(np.ascontiguousarray(np.concatenate(rows, axis=1).transpose(1, 2, 0)))
    logits, offsets, forward, backward = joined
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    fields = (offsets, forward, backward)
    return Crowd(logits, scores, fields, output_stride=8, max_poses=100, score_threshold=0.5, nms_radius=20.0)


class Measured(NamedTuple):
    times: list[float]
    poses: int


def posepost_in(mode: str, maps: Crowd) -> Callable[[], Found]:
    """From maps in place to NumPy poses on the host; from logits for "coral" alone, as its peer."""
    arrays: list[Any] = [maps.logits if mode == "coral" else maps.scores, *maps.fields]
    options: dict[str, Any] = {
        "activation": "sigmoid" if mode == "coral" else None,
        "layout": "NHWC",
        "mode": mode,
        **{name: getattr(maps, name) for name in ("output_stride", "max_poses", "score_threshold", "nms_radius")},
    }
    expected = posepost.decode_posenet_multi(*arrays, **options)
    if DEVICE == "cuda":
        import cupy

        arrays = [cupy.asarray(array) for array in arrays]

    def call() -> Found:
        got = posepost.decode_posenet_multi(*arrays, **options).numpy()
        count = got.count[0]
        return Found(got.keypoints[0, :count], got.keypoint_scores[0, :count], got.scores[0, :count])

    check(call(), Found(*(array[0, : expected.count[0]] for array in [*expected][:3])), "tfjs")
    return call


def check(got: Found, wanted: Found, mode: str) -> None:
    """AssertionError where the people are not the same, in the same order."""
    assert len(got.scores) == len(wanted.scores)
    for name, tolerance in (
        ("keypoints", POSITION_ATOL[mode]),
        ("keypoint_scores", SCORE_ATOL),
        ("scores", SCORE_ATOL),
    ):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=0, atol=tolerance)


@functools.lru_cache(maxsize=1)  # the variants of a case follow each other
def measured(people: int, side: int) -> dict[str, Measured | Failure]:
    """What each variant took, or why it was left out."""
    maps, case = crowd(people, side), f"{people} people, {side} x {side} scenes"
    ours = {mode: posepost_in(mode, maps) for mode in MODES}
    found: dict[str, Measured | Failure] = {}
    calls: dict[str, Callable[[], Any]] = {name_of(mode): call for mode, call in ours.items()}
    poses = {name_of(mode): len(call().scores) for mode, call in ours.items()}
    own: dict[str, list[float]] = {}
    for peer in CROWD_PEERS:
        reason = peer.missing()
        if reason:
            found[peer.NAME] = Failure(case, peer.NAME, "blocking", "skipped", reason)
            continue
        try:
            call = peer.prepare(maps)
            answer = call()
            check(answer, ours[peer.MODE](), peer.MODE)
        except Exception as error:  # whatever a peer does wrong is its own failure, and the others go on
            text = str(error).strip() or type(error).__name__
            found[peer.NAME] = Failure(case, peer.NAME, "blocking", "failed", text)
            continue
        poses[peer.NAME] = len(answer.scores)
        if hasattr(call, "seconds"):
            call = functools.partial(_collect, call.seconds, own.setdefault(peer.NAME, []))
        calls[peer.NAME] = call

    def failed(name: str, error: Exception) -> None:
        found[name] = Failure(case, name, "blocking", "failed", f"while it was timed: {error or type(error).__name__}")

    timed = {name: _ignoring(call) for name, call in calls.items()}
    times = timing.interleaved(timed, 1, seconds=SECONDS, failed=failed)
    FAILURES.extend(failure for failure in found.values() if isinstance(failure, Failure))
    for name in times:
        taken = own[name][-len(times[name]) :] if name in own else times[name]
        found[name] = Measured(taken, poses[name])
    return found


def name_of(mode: str) -> str:
    return f"posepost on {DEVICE}, {mode}"


def _collect(seconds: Callable[[], float], times: list[float]) -> None:
    times.append(seconds())


def _ignoring(call: Callable[[], Any]) -> Callable[[int], Any]:
    return lambda _: call()


VARIANTS: list[tuple[str, str, ModuleType | None]] = [(name_of(mode), mode, None) for mode in MODES]
VARIANTS += [(peer.NAME, peer.MODE, peer) for peer in CROWD_PEERS]


@pytest.mark.parametrize(("variant", "mode", "peer"), VARIANTS, ids=[variant for variant, _, _ in VARIANTS])
@pytest.mark.parametrize(("people", "side"), CASES)
def test_posenet_multi(
    benchmark: Any, people: int, side: int, variant: str, mode: str, peer: ModuleType | None
) -> None:
    found = measured(people, side)[variant]
    if isinstance(found, Failure):
        report = pytest.skip if found.status == "skipped" else pytest.fail
        report(found.reason)
    H, W, _ = crowd(people, side).scores.shape
    total = people * side * side
    benchmark.group = f"{H}x{W}, {total} people"
    benchmark.extra_info.update(variant=variant, mode=mode, H=H, W=W, people=total, poses=found.poses)
    benchmark._timer = Replay(found.times)
    benchmark.pedantic(lambda: None, rounds=len(found.times), iterations=1)
