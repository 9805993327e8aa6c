"""Result files: what they must hold, and the rows in them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
Row = dict[str, Any]

US = "posepost"
_MACHINE = ("device", "gpu", "driver", "cuda", "cupy", "cpu", "numpy", "posepost", "commit", "date")
_TEXT = ("case", "model", "layout", "dtype", "variant", "kind")
_COUNTS = ("B", "K", "H", "W", "heatmap_bytes", "keypoint_bytes")
SECONDS = ("p20", "p50", "p80", "p90", "p99")
_OPTIONAL = ("gb_per_s", "bus_bytes", "ratio_to_floor")
_FAILURE = ("case", "variant", "kind", "status", "reason")


def load(path: Path) -> Result:
    """The result file at `path`; ValueError naming file and field where something that the report needs is missing."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None

    def fields(owner: Any, where: str, names: Sequence[str]) -> None:
        if not isinstance(owner, dict):
            raise ValueError(f"{path}: {where} must be an object, got {type(owner).__name__}")
        for name in names:
            if name not in owner:
                raise ValueError(f'{path}: {where} has no "{name}"')

    def rule(owner: Row, where: str, names: Sequence[str], words: str, holds: Callable[[Any], bool]) -> None:
        for name in names:
            if not holds(owner[name]):
                raise ValueError(f'{path}: {where}["{name}"] must be {words}, got {owner[name]!r}')

    fields(result, "the file", ("machine_info", "benchmarks", "posepost_failures"))
    fields(result["machine_info"], "machine_info", ("posepost",))
    machine = result["machine_info"]["posepost"]
    fields(machine, "machine_info.posepost", _MACHINE)
    rule(machine, "machine_info.posepost", ("device",), '"cpu" or "cuda"', lambda v: v in ("cpu", "cuda"))
    rule(result, "the file", ("benchmarks", "posepost_failures"), "a list", lambda v: isinstance(v, list))
    if not result["benchmarks"]:
        raise ValueError(f"{path}: benchmarks is empty: nothing was measured")
    seen: dict[tuple[str, str, str], int] = {}
    for i, benchmark in enumerate(result["benchmarks"]):
        where = f"benchmarks[{i}]"
        fields(benchmark, where, ("extra_info",))
        row, where = benchmark["extra_info"], f"{where}.extra_info"
        fields(row, where, (*_TEXT, *_COUNTS, "sweep", *SECONDS, *_OPTIONAL, "checked"))
        rule(row, where, _TEXT, "text", lambda v: isinstance(v, str))
        if not row["variant"].startswith("floor"):  # a floor has no result to check
            rule(row, where, ("checked",), "true", lambda v: v is True)
        rule(row, where, _COUNTS, "a positive whole number", lambda v: type(v) is int and v > 0)
        rule(row, where, ("sweep",), "a list", lambda v: isinstance(v, list))
        rule(row, where, SECONDS, "a positive number of seconds", lambda v: _number(v) and v > 0)
        rule(row, where, _OPTIONAL, "a number or null", lambda v: v is None or (_number(v) and v >= 0))
        first = seen.setdefault(key_of(row), i)
        if first != i:
            raise ValueError(f"{path}: {where} repeats benchmarks[{first}]: {', '.join(key_of(row))}")
    for i, failure in enumerate(result["posepost_failures"]):
        fields(failure, f"posepost_failures[{i}]", _FAILURE)
    return result


def usual_peer(result: Result) -> str | None:
    """The peer that most people run today: NumPy, after a pageable download where the maps are on the device."""
    names = [v for v in peer_names(rows_of(result)) if "numpy" in v.lower() and "mmpose" not in v.lower()]
    return min(names, key=usual_first, default=None)


def rows_of(result: Result) -> list[Row]:
    return [benchmark["extra_info"] for benchmark in result["benchmarks"]]


def key_of(row: Row) -> tuple[str, str, str]:
    return row["case"], row["variant"], row["kind"]


def select(rows: list[Row], **wanted: str) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def same_call(rows: list[Row], row: Row) -> list[Row]:
    return select(rows, case=row["case"], kind=row["kind"])


def is_floor(row: Row) -> bool:
    return row["variant"].startswith("floor")


def is_ours(row: Row) -> bool:
    """posepost, also in another way of use: "posepost, pinned out"."""
    variant: str = row["variant"]
    return variant == US or variant.startswith(f"{US}, ")


def usual_first(variant: str) -> tuple[bool, bool, bool]:
    """Sorts NumPy before others, and of its variants the pageable download first."""
    name = variant.lower()
    return "numpy" not in name or "mmpose" in name, "pageable" not in name, "pinned" in name


def is_torch(variant: str) -> bool:
    return "torch" in variant.lower()


def peers_in(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not is_ours(row) and not is_floor(row)]


def peer_names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["variant"] for row in peers_in(rows)))


def fastest_of(rows: list[Row]) -> Row | None:
    return min(rows, key=lambda row: row["p50"], default=None)


def failure_groups(result: Result) -> list[tuple[tuple[str, str, str], list[Row]]]:
    """((status, variant, reason), failures), what failed before what was skipped."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for failure in result["posepost_failures"]:
        groups.setdefault((failure["status"], failure["variant"], failure["reason"]), []).append(failure)
    return sorted(groups.items(), key=lambda item: item[0][0] != "failed")


def why_not(result: Result, case: str, matches: Callable[[str], bool], kind: str = "blocking") -> str:
    """failed, skipped or not measured: why a case has no row of the variants."""
    found = {
        f["status"]
        for f in result["posepost_failures"]
        if f["case"] == case and f["kind"] == kind and matches(f["variant"])
    }
    return "failed" if "failed" in found else "skipped" if "skipped" in found else "not measured"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
