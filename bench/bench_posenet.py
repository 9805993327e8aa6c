"""The harness as pytest-benchmark sees it: `make bench`, or `python -m pytest bench/bench_posenet.py`.

All variants of a case are timed in turns by bench/measure.py; each test then hands the times of one of them to
pytest-benchmark, which makes the statistics and the JSON.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from . import launches
from .cases import BASE, CASES, FORMATS, Case
from .harness import DEVICE, FAILURES, QUICK, Replay
from .measure import EMPTY, PEERS, READ, READ_BACK, Measured, measure, peer_name, sweeps_of
from .timing import percentiles

KINDS = {
    "cpu": {"posepost": ("blocking", "blocking 30 Hz"), READ: ("blocking", "blocking 30 Hz")},
    "cuda": {
        "posepost": ("device cold", "device warm", "enqueue", "blocking", "blocking 30 Hz"),
        "posepost, pinned out": ("blocking",),
        READ: ("device cold", "device warm"),
        EMPTY: ("device cold", "device warm", "enqueue"),
        **dict.fromkeys(launches.WAYS, ("enqueue",)),
        READ_BACK: ("blocking", "blocking 30 Hz"),
    },
}[DEVICE]
VARIANTS = [(variant, kind) for variant, kinds in KINDS.items() for kind in kinds]
VARIANTS += [(peer_name(peer, DEVICE), "blocking") for peer in PEERS]


@functools.lru_cache(maxsize=1)  # the variants of a case follow each other
def measured(case: Case) -> Measured:
    result = measure(case, DEVICE, seconds=0.01 if QUICK else 0.25, with_peers=case in BASE + FORMATS)
    FAILURES.extend(result.failures)
    return result


@pytest.mark.parametrize(("variant", "kind"), VARIANTS, ids=[f"{variant}-{kind}" for variant, kind in VARIANTS])
@pytest.mark.parametrize("case", CASES[:2] if QUICK else CASES, ids=lambda case: case.name)
def test_posenet(benchmark: Any, case: Case, variant: str, kind: str) -> None:
    found = measured(case)
    result = found.results.get((variant, kind))
    if result is None:
        for failure in found.failures:
            if failure.variant == variant and failure.kind == kind:
                report = pytest.skip if failure.status == "skipped" else pytest.fail
                report(failure.reason)
        pytest.skip("not measured on this case")
    assert len(result.times) >= 2
    benchmark.group = f"{case.name} {kind}"
    quantiles = percentiles(result.times)
    floor = found.results.get((result.floor or "", kind))
    benchmark.extra_info.update(
        case=case.name,
        **{field: getattr(case, field) for field in ("model", "B", "K", "H", "W", "layout", "dtype")},
        heatmap_bytes=case.heatmap_bytes,
        keypoint_bytes=case.keypoint_bytes,
        sweep=sweeps_of(case),
        variant=variant,
        kind=kind,
        **quantiles,
        gb_per_s=case.heatmap_bytes / quantiles["p50"] / 1e9,
        bus_bytes=result.bus_bytes,
        ratio_to_floor=quantiles["p50"] / percentiles(floor.times)["p50"] if floor else None,
        checked=not variant.startswith("floor"),
    )
    benchmark._timer = Replay(result.times)
    benchmark.pedantic(lambda: None, rounds=len(result.times), iterations=1)
