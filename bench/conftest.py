"""What pytest-benchmark's JSON says besides: the machine, and the variants that failed or were skipped."""

from __future__ import annotations

import os
import sys
from typing import Any

if "numpy" not in sys.modules:  # one core against one core: BLAS reads it when NumPy is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    from .harness import describe_machine

    for private_or_long in ("node", "cpu", "processor"):
        machine_info.pop(private_or_long, None)
    machine_info["posepost"] = describe_machine()


def pytest_benchmark_update_json(config: Any, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    from .harness import FAILURES

    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)  # thousands of numbers; the percentiles stand in extra_info
        benchmark["options"].pop("timer", None)
        benchmark["params"] = None  # extra_info says the same, without the paths of modules
    output_json["posepost_failures"] = [failure._asdict() for failure in FAILURES]
