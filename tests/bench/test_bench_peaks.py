"""bench/bench_peaks.py: what its peers find is what NumPy finds, and what is not is told before it is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import bench_peaks as bench

CASE = (2, 3, 24, 21, 4)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Any:
    interleaved = bench.timing.interleaved
    monkeypatch.setattr(bench.timing, "interleaved", lambda *a, **k: interleaved(*a, **{**k, "seconds": 0.01}))
    bench.measured.cache_clear()
    yield
    bench.measured.cache_clear()


@pytest.mark.parametrize(("name", "peer"), [(bench.TORCH, bench.by_torch), (bench.SCIPY, bench.by_scipy)])
def test_a_peer_finds_what_the_twin_finds(name: str, peer: Any) -> None:
    if bench.MISSING[name]:
        pytest.skip(bench.MISSING[name])
    for seed in range(3):
        for got, wanted in zip(peer(bench.maps_of(CASE, seed)), bench.ours(bench.maps_of(CASE, seed))):
            np.testing.assert_array_equal(got, wanted)


def test_what_is_not_the_twin_s_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    times = bench.measured(CASE)
    assert all(len(times[bench.US, "blocking"]) > 4 and min(taken) > 0 for taken in times.values())
    bench.measured.cache_clear()
    right = bench.ours
    monkeypatch.setattr(bench, "ours", lambda maps: (right(maps)[0] + 1, right(maps)[1]))
    with pytest.raises(AssertionError):
        bench.measured(CASE)
