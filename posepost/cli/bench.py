"""`posepost bench`: the benchmark harness, wherever it is installed."""

from __future__ import annotations

import argparse
import importlib
import importlib.util


def bench(arguments: argparse.Namespace) -> int:
    """Run the benchmark harness, which lies in the package when installed and beside it in a checkout."""
    for name in ("posepost.bench.run", "bench.run"):
        if importlib.util.find_spec(name.partition(".run")[0]):
            status: int = importlib.import_module(name).main(["-o", arguments.output])
            return status
    raise ImportError("the benchmark harness is not installed: it comes with posepost's wheel and its source")
