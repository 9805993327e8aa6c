"""`make bench`, `posepost bench`: measure all that can be measured here, print a table, leave JSON and a report."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 0, or 1 where a variant failed (skipped ones do not count)."""
    parser = argparse.ArgumentParser(prog="posepost bench", description=__doc__)
    parser.add_argument("-o", dest="output", metavar="DIR", type=Path, default=Path("bench-results"))
    parser.add_argument("-k", dest="cases", metavar="TEXT", help="only the cases and variants that pytest -k takes")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # peers on the CPU get one core, as NumPy does
    try:
        import pytest
        import pytest_benchmark  # noqa: F401
    except ImportError:
        print('posepost bench: needs pytest-benchmark: pip install "posepost[bench]"', file=sys.stderr)
        return 2

    from .harness import DEVICE
    from .measure import PEERS
    from .report import terminal_table, write_report

    arguments.output.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    target = arguments.output / f"{DEVICE}-{stamp}.json"
    print(
        "measuring on the",
        {"cuda": "GPU", "cpu": "CPU (no CUDA device answers: decoding in NumPy)"}[DEVICE],
    )
    if not PEERS:
        print("without the reference implementations to compare with: they come with the source checkout (make bench)")
    options = [str(Path(__file__).with_name("bench_posenet.py")), f"--benchmark-json={target}"]
    options += ["--benchmark-enable", "--benchmark-quiet", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    options += ["--override-ini=addopts=", f"--rootdir={Path(__file__).parent}"]
    if arguments.cases:
        options += ["-k", arguments.cases]
    status = int(pytest.main(options))
    if not target.exists():
        print("posepost bench: nothing was measured", file=sys.stderr)
        return status or 2
    result = json.loads(target.read_text(encoding="utf-8"))
    print(terminal_table(result))
    if DEVICE == "cpu":
        count_kernels()
    report = target.with_suffix(".html")
    write_report([target], report)
    print(f"wrote {target} and {report}")
    return 0 if status == 0 else 1


def count_kernels() -> None:
    """Without a GPU: what can be counted of the kernels instead."""
    try:
        from .counted import table

        table()
        print("the inner loop of a kernel in SASS: python -m bench.counted --sass KERNEL\n")
    except (ImportError, RuntimeError) as error:
        print(f"kernels not counted ({error}): that needs the source checkout, g++ and posepost[cuda13]\n")


if __name__ == "__main__":
    sys.exit(main())
