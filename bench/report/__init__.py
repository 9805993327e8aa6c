"""Tables and one self-contained HTML page from result files.

`python -m bench.report RESULT.json [OTHER.json] [-o report.html]`. With OTHER, the page also gives RESULT's times as
ratios of OTHER's. Every figure comes from the files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .load import load, usual_peer
from .page import four_digits, machines_differ, write_report
from .tables import gpu_table, heads_table, machine_line, readme_table, several_people_table, terminal_table

__all__ = [
    "four_digits", "gpu_table", "heads_table", "load", "machine_line", "machines_differ", "main", "readme_table",
    "several_people_table", "terminal_table", "usual_peer", "write_report",
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="result file of `make bench`")
    parser.add_argument("other", type=Path, nargs="?", help="a second one, to which the first is compared")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"))
    given = parser.parse_args(arguments)
    try:
        write_report([path for path in (given.result, given.other) if path], given.output)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(given.output)
    return 0
