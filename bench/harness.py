"""What every benchmark needs: the device, the failures that stand in the result file, and the machine's description."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import posepost


class Failure(NamedTuple):
    case: str
    variant: str
    kind: str
    status: str  # "failed" or "skipped"
    reason: str


def device_here() -> str:
    """ "cuda" where CuPy finds a device, else "cpu"."""
    try:
        import cupy
    except ImportError:
        return "cpu"
    return "cuda" if cupy.cuda.is_available() else "cpu"


DEVICE = device_here()
FAILURES: list[Failure] = []
QUICK = os.environ.get("POSEPOST_BENCH_QUICK") == "1"  # for tests: two cases, few rounds


class Replay:
    """A clock for pytest-benchmark that ticks the times already taken."""

    def __init__(self, times: list[float]) -> None:
        self.ticks = iter([tick for duration in times for tick in (0.0, duration)])

    def __call__(self) -> float:
        return next(self.ticks)


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
