"""The harness as pytest-benchmark sees it: `make bench`, or `python -m pytest bench/bench_posenet.py`.

All variants of a case are timed in turns by bench/measure.py; each test then hands the times of one of them to
pytest-benchmark, which makes the statistics and the JSON.
"""

from __future__ import annotations

import datetime
import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posepost

from . import launches
from .cases import BASE, CASES, FORMATS, Case
from .measure import EMPTY, READ, READ_BACK, Failure, Measured, device_here, measure, peer_name, sweeps_of
from .peers import PEERS
from .timing import percentiles

DEVICE = device_here()
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
FAILURES: list[Failure] = []
QUICK = os.environ.get("POSEPOST_BENCH_QUICK") == "1"  # the test of the harness: two cases, few rounds


@functools.lru_cache(maxsize=1)  # the variants of a case follow each other
def measured(case: Case) -> Measured:
    result = measure(case, DEVICE, seconds=0.01 if QUICK else 0.25, with_peers=case in BASE + FORMATS)
    FAILURES.extend(result.failures)
    return result


class Replay:
    """A clock for pytest-benchmark that ticks the times already taken."""

    def __init__(self, times: list[float]) -> None:
        self.ticks = iter([tick for duration in times for tick in (0.0, duration)])

    def __call__(self) -> float:
        return next(self.ticks)


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


# ---- what stands in the result file besides


def describe_machine() -> dict[str, Any]:
    """machine_info["posepost"]: which hardware and versions a figure belongs to."""
    info: dict[str, Any] = {
        "device": DEVICE,
        "gpu": None,
        "driver": None,
        "cuda": None,
        "cupy": None,
        "cpu": _cpu_name(),
        "numpy": np.__version__,
        "posepost": posepost.__version__,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    try:
        import cupy
    except ImportError:
        return info
    info["cupy"] = cupy.__version__
    if DEVICE == "cuda":
        runtime = cupy.cuda.runtime
        info["gpu"] = runtime.getDeviceProperties(0)["name"].decode()
        info["cuda"] = str(runtime.runtimeGetVersion())
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        try:
            info["driver"] = subprocess.run(asked, capture_output=True, text=True).stdout.strip() or None
        except OSError:  # the driver can be there without its tools
            info["driver"] = None
    return info


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} threads)" if names else platform.processor()


def _commit() -> str:
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "unknown"
