"""bench/bench_heatmap.py and its peers: MMPose's functions and kornia decode as NumPy, and what does not is told."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import posepost
from bench import bench_heatmap as bench
from bench import timing
from bench.peers import mmpose_heads

SMALL = [bench.Size(1, 17, 24, 19, 2, 11), bench.Size(3, 5, 33, 40, 2, 7)]
RUNS = [(head, peer) for head, peers in bench.PEERS.items() for peer in peers]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(bench, "QUICK", True)
    bench.measured.cache_clear()
    yield
    bench.measured.cache_clear()


def skip_if_missing(peer: str) -> None:
    reason = mmpose_heads.missing(peer)
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("size", SMALL, ids=lambda size: size.name)
@pytest.mark.parametrize(("head", "peer"), RUNS)
def test_peer_decodes_as_the_twin(head: str, peer: str, size: bench.Size) -> None:
    skip_if_missing(peer)
    task = mmpose_heads.Task(*size[:4], size.blur, bench.flip_pairs(size.K), bench.input_size(size))
    decode = mmpose_heads.prepare(peer, head, task)
    for seed in range(3):
        arrays = bench.draw(head, size, seed)
        want = posepost.decode_heatmap(arrays[0], **bench.options(head, size), **bench._flip(arrays))
        keypoints, scores = decode(*(array.copy() for array in arrays))
        assert keypoints.shape == (size.B, size.K, 2)
        assert (scores is None) == (head == "soft_argmax")
        bench.check((keypoints, scores), want)
        with pytest.raises(AssertionError):
            bench.check((keypoints + bench.STRIDE * 2e-4, scores), want)


@pytest.mark.parametrize("head", bench.HEADS)
def test_drawn_positions_are_found(head: str) -> None:
    """It is the peaks that are decoded, not the noise. (The blur of "udp_combined" moves those near a border.)"""
    size = SMALL[0]
    rng = np.random.default_rng([0, size.B, size.K, size.H])
    x, y = rng.uniform(4, size.W - 5, (size.B, size.K)), rng.uniform(4, size.H - 5, (size.B, size.K))
    arrays = bench.draw(head, size, 0)
    found = posepost.decode_heatmap(arrays[0], **bench.options(head, size), **bench._flip(arrays)).keypoints
    error = np.abs(found / bench.STRIDE - np.stack([x, y], axis=-1))
    assert np.median(error) < 0.6
    assert error.max() < 4


@pytest.mark.parametrize("head", bench.HEADS)
def test_all_variants_of_a_head_are_measured(head: str) -> None:
    found = bench.measured(head, SMALL[0])
    absent = {peer for peer in bench.PEERS[head] if mmpose_heads.missing(peer)}
    assert set(found.results) == {(name, "blocking") for name in {bench.US, *bench.PEERS[head]} - absent}
    assert {(failure.variant, failure.status) for failure in found.failures} == {(name, "skipped") for name in absent}
    assert all(len(result.times) >= 5 for result in found.results.values())


def test_a_peer_that_is_wrong_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmpose_heads, "missing", lambda name: None)

    def prepare(name: str, head: str, task: Any) -> Any:
        return lambda maps: (np.zeros((task.B, task.K, 2), np.float32), None)

    monkeypatch.setattr(mmpose_heads, "prepare", prepare)
    found = bench.measured("quarter", SMALL[0])
    assert set(found.results) == {(bench.US, "blocking")}
    assert {(failure.variant, failure.status) for failure in found.failures} == {("MMPose", "failed")}
    assert all("Not equal to tolerance" in failure.reason for failure in found.failures)


def test_a_peer_that_becomes_wrong_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmpose_heads, "missing", lambda name: None)
    calls = []

    def prepare(name: str, head: str, task: Any) -> Any:
        def decode(maps: np.ndarray) -> Any:
            calls.append(len(calls))
            want = posepost.decode_heatmap(maps, **bench.options(head, SMALL[0]))
            return want.keypoints + (len(calls) > bench.SETS), want.scores

        return decode

    monkeypatch.setattr(mmpose_heads, "prepare", prepare)
    found = bench.measured("quarter", SMALL[0])
    assert len(calls) > bench.SETS
    assert set(found.results) == {(bench.US, "blocking")}
    assert [failure.status for failure in found.failures] == ["failed"]


def test_maps_that_a_peer_edits_are_copied_outside_the_clock() -> None:
    """DARK leaves logarithms in what it is given; every turn begins with the maps again."""
    skip_if_missing("MMPose")
    size = SMALL[0]
    placed = [bench.draw("dark", size, seed) for seed in range(2)]
    kept = [arrays[0].copy() for arrays in placed]
    task = mmpose_heads.Task(*size[:4], size.blur, bench.flip_pairs(size.K), bench.input_size(size))
    call, before = bench._theirs(mmpose_heads.prepare("MMPose", "dark", task), "dark", placed)
    assert before is not None
    for i in (0, 1, 0):
        before(i)
        keypoints, _ = call(i)
        want = posepost.decode_heatmap(kept[i], **bench.options("dark", size))
        np.testing.assert_allclose(keypoints, want.keypoints, rtol=0, atol=4e-4)
        assert all(np.array_equal(arrays[0], values) for arrays, values in zip(placed, kept))


def test_before_runs_first_and_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    seen = []

    def before(i: int) -> None:
        clock[0] += 100
        seen.append(("before", i))

    def failed(name: str, error: Exception) -> None:
        raise error

    def call(i: int) -> None:
        clock[0] += 1
        seen.append(("call", i))

    times = timing.interleaved({"a": call}, 2, seconds=3, failed=failed, before={"a": before})
    assert set(times["a"]) == {1.0}
    assert seen[::2] == [("before", i) for _, i in seen[1::2]]


def test_on_a_gpu_maps_are_downloaded_with_numpy_in_the_place_of_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnDevice(np.ndarray):
        downloads = 0

        def get(self) -> np.ndarray:
            OnDevice.downloads += 1
            return np.array(self)

    def device_times(enqueue: Any, sets: int) -> list[float]:
        for i in range(sets):
            enqueue(i)
        return [1e-6] * sets

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(asarray=lambda array: array.view(OnDevice)))
    monkeypatch.setattr(bench, "DEVICE", "cuda")
    monkeypatch.setattr(timing, "device_times", device_times)
    for head in bench.HEADS:
        OnDevice.downloads = 0
        found = bench.measured(head, SMALL[0])
        assert {(bench.US, "blocking"), (bench.US, "device warm")} <= set(found.results)
        assert [failure for failure in found.failures if failure.status == "failed"] == []
        assert (OnDevice.downloads > 0) == any(name != bench.US for name, _ in found.results)


def test_missing_packages_are_named_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    command = re.compile(r": pip install \S")
    found = importlib.util.find_spec

    def all_but(package: str, name: str) -> Any:
        return None if name == package else found(name)

    for peer in ("MMPose", "kornia"):
        assert mmpose_heads.missing(peer) is None or command.search(mmpose_heads.missing(peer) or "")
    monkeypatch.setattr(importlib.util, "find_spec", functools.partial(all_but, "torch"))
    for peer in ("MMPose", "kornia"):
        assert mmpose_heads.missing(peer) == "torch is not installed: pip install torch==2.13.0"


def test_reading_mmpose_leaves_no_module_behind() -> None:
    skip_if_missing("MMPose")
    names = ("mmpose", "mmcv", "mmengine")
    mmpose_heads.load.cache_clear()
    mmpose_heads.load()
    assert [name for name in sys.modules if name.partition(".")[0] in names] == []


def test_importing_the_peers_imports_none_of_their_packages() -> None:
    heavy = ("torch", "mmpose", "cv2", "kornia")
    code = f"import sys, bench.peers.mmpose_heads; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
