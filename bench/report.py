"""Tables and one self-contained HTML page from result files.

`python -m bench.report RESULT.json [OTHER.json] [-o report.html]`. With OTHER, the page also gives RESULT's times as
ratios of OTHER's. Every figure comes from the files.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from .plots import (
    Bar,
    Dot,
    Series,
    bars,
    brief,
    duration,
    escape,
    lines,
    memory_path,
    peer_look,
    ratios,
    size,
    three_digits,
    times,
)

Result = dict[str, Any]
Row = dict[str, Any]

US = "posepost"
KINDS = {
    "blocking": "blocking call, to keypoints on the host",
    "blocking 30 Hz": "blocking call, one every 33 ms",
    "device cold": "time on the device, cold L2",
    "device warm": "time on the device, warm L2",
    "enqueue": "enqueue: the host's share of a call",
}

_MACHINE = ("device", "gpu", "driver", "cuda", "cupy", "cpu", "numpy", "posepost", "commit", "date")
_TEXT = ("case", "model", "layout", "dtype", "variant", "kind")
_COUNTS = ("B", "K", "H", "W", "heatmap_bytes", "keypoint_bytes")
_SECONDS = ("p20", "p50", "p80", "p90", "p99")
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
        fields(row, where, (*_TEXT, *_COUNTS, "sweep", *_SECONDS, *_OPTIONAL, "checked"))
        rule(row, where, _TEXT, "text", lambda v: isinstance(v, str))
        if not row["variant"].startswith("floor"):  # a floor has no result to check
            rule(row, where, ("checked",), "true", lambda v: v is True)
        rule(row, where, _COUNTS, "a positive whole number", lambda v: type(v) is int and v > 0)
        rule(row, where, ("sweep",), "a list", lambda v: isinstance(v, list))
        rule(row, where, _SECONDS, "a positive number of seconds", lambda v: _number(v) and v > 0)
        rule(row, where, _OPTIONAL, "a number or null", lambda v: v is None or (_number(v) and v >= 0))
        first = seen.setdefault(_key(row), i)
        if first != i:
            raise ValueError(f"{path}: {where} repeats benchmarks[{first}]: {', '.join(_key(row))}")
    for i, failure in enumerate(result["posepost_failures"]):
        fields(failure, f"posepost_failures[{i}]", _FAILURE)
    return result


def terminal_table(result: Result) -> str:
    """A row for each case and kind of posepost: p50, ratio to its floor, GB/s, bus bytes, speed-ups over peers."""
    rows, usual = _rows(result), usual_peer(result)
    case_width = max(len("case"), *(len(_short(row)) for row in rows))
    out = textwrap.wrap(machine_line(result), 108)
    out.append(f"speed-up over {usual} and over the best peer" if usual else "speed-up over the best peer")
    out.append("")
    out.append(
        f"{'case':{case_width}} {'kind':11} {'p50':>8} {'x floor':>7} {'GB/s':>6} {'bus':>8} {'usual':>6}  best peer"
    )
    for row in filter(_is_ours, rows):
        fastest = _fastest(_peers(_same(rows, row)))
        usual_row = next((r for r in _same(rows, row) if r["variant"] == usual), None)
        kind = row["kind"].replace("blocking 30 Hz", "30 Hz") if row["variant"] == US else row["variant"][len(US) + 2 :]
        out.append(
            f"{_short(row):{case_width}} {kind:11}"
            f" {duration(row['p50'], 'u'):>8}"
            f" {_or_dash(row['ratio_to_floor'], '{:.2f}'):>7} {gigabytes(row['gb_per_s']):>6}"
            f" {size(row['bus_bytes']) if row['bus_bytes'] is not None else '-':>8}"
            f" {times(usual_row['p50'] / row['p50']) if usual_row else '-':>6}"
            f"  {times(fastest['p50'] / row['p50']) + ' ' + _cut(fastest['variant'], 15) if fastest else '-'}"
        )
    for (status, variant, reason), failures in _failure_groups(result):
        cases = sorted({failure["case"] for failure in failures})
        what = cases[0] if len(cases) == 1 else f"{len(cases)} cases"
        out += ["", *textwrap.wrap(f"{status}: {variant} ({what}): {reason}", 108, subsequent_indent="    ")]
    return "\n".join(line.rstrip() for line in out) + "\n"


def readme_table(result: Result) -> str:
    """Markdown: where and when it was measured, then blocking p50 of the base cases against NumPy and PyTorch."""
    rows, usual = _rows(result), usual_peer(result)
    base = [row for row in _of(rows, kind="blocking") if "base" in row["sweep"]]
    out = [f"{machine_line(result)}: `make bench`", ""]
    out.append(f"| one call, p50 | posepost | {usual or 'NumPy'} | speed-up | best of PyTorch | speed-up |")
    out.append("|:--|--:|--:|--:|--:|--:|")
    for case in dict.fromkeys(row["case"] for row in base):
        here = [row for row in base if row["case"] == case]
        ours = next((row for row in here if row["variant"] == US), None)
        numpy = next((row for row in here if row["variant"] == usual), None)
        torch = _fastest([row for row in here if _is_torch(row["variant"])])
        cells = [_label(here[0])]
        cells.append(duration(ours["p50"]) if ours else _why_not(result, case, lambda v: v == US))
        for peer, named, matches in (
            (numpy, "", lambda v: v == usual),
            (torch, f" ({torch['variant']})" if torch else "", _is_torch),
        ):
            cells.append(duration(peer["p50"]) + named if peer else _why_not(result, case, matches))
            cells.append(times(peer["p50"] / ours["p50"]) if peer and ours else "")
        out.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(out) + "\n"


def machine_line(result: Result) -> str:
    """Device, versions, commit and date in one line."""
    m = result["machine_info"]["posepost"]
    where = m["gpu"] if m["device"] == "cuda" else f"CPU path on {m['cpu']}"
    parts = [where or "unknown GPU"]
    if m["device"] == "cuda":
        parts += [
            f"{name} {m[key]}" for name, key in (("driver", "driver"), ("CUDA", "cuda"), ("CuPy", "cupy")) if m[key]
        ]
        parts.append(f"on {m['cpu']}")
    return ", ".join(
        [*parts, f"NumPy {m['numpy']}", f"posepost {m['posepost']}", f"commit {_commit(m)}", m["date"][:10]]
    )


def usual_peer(result: Result) -> str | None:
    """The peer that most people run today: NumPy, after a pageable download where the maps are on the device."""
    names = [v for v in _peer_names(_rows(result)) if "numpy" in v.lower() and "mmpose" not in v.lower()]
    return min(names, key=_usual_first, default=None)


def several_people_table(result: Result) -> str:
    """Markdown for README from a result file of bench_posenet_multi.py: medians against people and map size."""
    rows: dict[tuple[int, int, int], dict[tuple[str, str], float]] = {}  # mode, posepost or a peer
    for benchmark in result["benchmarks"]:
        info = benchmark["extra_info"]
        variant = US if info["variant"].startswith(US) else info["variant"]
        found = rows.setdefault((info["H"], info["W"], info["people"]), {})
        found[info.get("mode", "tfjs"), variant] = benchmark["stats"]["median"]
    columns = dict.fromkeys(key for found in rows.values() for key in found)  # as measured: posepost's modes first
    head = ["maps", "people"]
    ours = [mode for mode, variant in columns if variant == US]
    for mode in ours:
        head.append(US if len(ours) == 1 else f"{US}, {mode}")
        head += [cell for of, peer in columns if of == mode and peer != US for cell in (peer, "speed-up")]
    lines_ = ["| " + " | ".join(head) + " |", "|:--|" + "--:|" * (len(head) - 1)]
    for (H, W, people), found in sorted(rows.items()):
        cells = [f"{H}x{W}", str(people)]
        for mode in ours:
            cells.append(duration(found[mode, US]))
            for peer in (peer for of, peer in columns if of == mode and peer != US):
                taken = found.get((mode, peer))
                cells += ["not measured", ""] if taken is None else [duration(taken), times(taken / found[mode, US])]
        lines_.append("| " + " | ".join(cells) + " |")
    return "\n".join([machine_line(result), "", *lines_])


def gpu_table(result: Result) -> str:
    """Markdown for README from a result file of bench/key_cases.py."""
    machine = result["machine"]
    lines_ = [
        f"{machine['gpu']}, driver {machine['driver']}, CuPy {machine['cupy']}, commit {machine['commit']}, "
        f"{machine['date'][:10]}: `{result['command']}`",
        "",
        "| head, layout, B x maps | on the device | plain read | ratio | enqueue | to NumPy keypoints |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for row in result["key_cases"]:
        cold, read, enqueue, blocking = (duration(row[key] * 1e-6) for key in ("cold", "read", "enqueue", "blocking"))
        ratio = f"{row['cold'] / row['read']:.2f}"
        lines_.append(f"| {row['case']} | {cold} | {read} | {ratio} | {enqueue} | {blocking} |")
    return "\n".join(lines_)


def heads_table(heatmaps: Result, simcc: Result, peaks: Result) -> str:
    """Markdown for README from result files of bench_heatmap.py, bench_simcc.py and bench_peaks.py: each head's preset,
    what pins it, its blocking p50 on the smallest call beside its peer's, and the speed-ups over all sizes."""
    found: dict[str, dict[tuple[int, ...], dict[str, float]]] = {}
    for row in _of(_rows(heatmaps), kind="blocking"):
        size = (row["B"] * row["K"] * row["H"] * row["W"], row["K"], row["H"], row["W"])
        found.setdefault(row["head"], {}).setdefault(size, {})[row["variant"]] = row["p50"]
    for row in _of(_rows(simcc), kind="blocking"):
        size = (row["N"] * row["K"] * sum(row["W"]), row["K"], *row["W"])
        variant = US if row["variant"].startswith(US) else "MMPose"
        found.setdefault(f"simcc {row['head']}", {}).setdefault(size, {})[variant] = row["p50"]
    for row in _of(_rows(peaks), kind="blocking"):
        size = (row["B"] * row["K"] * row["H"] * row["W"], row["K"], row["H"], row["W"])
        variant = US if row["variant"].startswith(US) else row["variant"]
        found.setdefault(row["head"], {}).setdefault(size, {})[variant] = row["p50"]
    lines_ = [
        "| head | preset | checked against | one call, p50 | MMPose, or as named | speed-up | all sizes |",
        "|:--|:--|:--|--:|--:|--:|--:|",
    ]
    for head, of_head in found.items():
        name, preset, pinned = HEAD_ROWS[head]
        smallest = min(of_head)
        ours = of_head[smallest][US]
        peers = {peer for times_of in of_head.values() for peer in times_of} - {US}
        for peer in sorted(peers, key=lambda one: (one != "MMPose", one)) or [""]:
            gains = [times_of[peer] / times_of[US] for times_of in of_head.values() if peer in times_of]
            if peer in of_head[smallest]:
                theirs = of_head[smallest][peer]
                others = "" if peer == "MMPose" else f" ({peer})"
                cells = [duration(theirs) + others, times(theirs / ours), _span(gains, times)]
            else:
                cells = ["no such head" if head == "centroid" else "not measured", "", ""]
            lines_.append("| " + " | ".join([name, preset, pinned, duration(ours), *cells]) + " |")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(_rows(heatmaps)[0]["peers"].items()))
    return "\n".join([f"{machine_line(heatmaps)}; {versions or 'no peer is installed'}", "", *lines_])


HEAD_ROWS = {
    "none": ("argmax", "", "MMPose get_heatmap_maximum, 9 files: equal"),
    "quarter": ("quarter shift", "`mmpose_msra`, `hrnet`, `mmdeploy`, `higherhrnet`", "MMPose, 9 files: equal; others: rules"),  # noqa: E501
    "dark": ("DARK", "`mmpose_dark`", "MMPose, 9 files: 1e-4 px"),
    "dark_udp": ("DARK-UDP", "`mmpose_udp`, `vitpose_hf`", "MMPose, 9 files: 1e-4 px; ViTPose: rules"),
    "udp_combined": ("UDP combined", "`mmpose_udp_combined`", "MMPose: 1e-4 px"),
    "megvii": ("Megvii", "`mmpose_megvii`", "MMPose, 5 files: equal"),
    "soft_argmax": ("soft-argmax", "`mmpose_integral`", "float64, MMPose, kornia, 5 files: 1e-5 cells"),
    "flip": ("flip test + argmax", "any, `flipped=`", "MMPose, 12 files: equal"),
    "centroid": ("centroid", "`sleap`, `trt_pose`, `openpose`, `mediapipe`", "trt_pose, 24 files: 1e-6; SLEAP's formula, 5 files; others: rules"),  # noqa: E501
    "peaks": ("local maxima", "`find_peaks`", "trt_pose, 24 files: equal; its rules as loops"),
    "simcc plain": ("SimCC", "`rtmpose`", "MMPose, 11 files: equal"),
    "simcc visibility": ("SimCC + visibility", "`rtmpose`, `visibility=True`", "MMPose, 5 files"),
    "simcc dark": ("SimCC DARK", "`rtmpose`, `refine=\"dark\"`", "MMPose, 7 files: 1e-4 px"),
}  # fmt: skip
"""Name, presets of decode_heatmap and decode_simcc, and what the tests hold them against."""


def write_report(files: list[Path], target: Path) -> None:
    """Write the page for one result file, or for one compared to a second; ValueError as in `load`."""
    if len(files) not in (1, 2):
        raise ValueError(f"a report takes one or two result files, got {len(files)}")
    results = [load(path) for path in files]
    result = results[0]
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        names = [str(path) for path in files]
    sections = [
        ("at-a-glance", "At a glance", _glance(result)),
        ("peers", "Against other ways to decode", _against_peers(result)),
        ("batch", "Time against batch", _sweep(result, "batch")),
        ("size", "Time against map size", _sweep(result, "size")),
        ("bandwidth", "How close to the memory's limit", _bandwidth(result)),
        ("formats", "Layouts and types", _formats(result)),
        ("memory", "The path of the bytes", _memory(result)),
        ("failed", "Failed and skipped", _failures(result)),
        ("rows", "Every row", _full_table(result)),
    ]
    if len(results) == 2:
        sections.insert(0, ("comparison", f"{names[0]} against {names[1]}", _comparison(results[0], results[1], names)))
    nav = "".join(f'<a href="#{ident}">{escape(title)}</a>' for ident, title, _ in sections)
    body = "".join(
        f'<section id="{ident}"><h2>{escape(title)}</h2>{content}</section>' for ident, title, content in sections
    )
    environments = "".join(_environment(r, name if len(results) == 2 else "") for r, name in zip(results, names))
    m = result["machine_info"]["posepost"]
    place = m["gpu"] or "unknown GPU" if m["device"] == "cuda" else m["cpu"]
    target.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>posepost on {escape(place)}</title><style>{_STYLE}</style></head><body>"
        f"<header><p class=over>posepost benchmark</p><h1>{escape(_headline(result, place))}</h1>{environments}"
        f"<nav aria-label=Sections>{nav}</nav></header><main>{body}</main>"
        "<footer>p50 is the median, p20 to p80 the middle 60 % of the calls. Every row but the floors was "
        "checked against the twin before it was timed. Made by <code>make "
        f"bench</code>.</footer><script>{_SCRIPT}</script></body></html>\n",
        encoding="utf-8",
    )


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


def _headline(result: Result, place: str) -> str:
    rows = _rows(result)
    first = next((row for row in _of(rows, variant=US, kind="blocking") if "base" in row["sweep"]), None)
    if first is None:
        return f"Pose decoding on {place}"
    what = first["model"] if first["B"] == 1 else _label(first)
    return f"{what} decoded in {duration(first['p50'])} on {place}".replace(" µs", "\u00a0µs")


def _environment(result: Result, name: str) -> str:
    m = result["machine_info"]["posepost"]
    path = "device (CUDA)" if m["device"] == "cuda" else "CPU, no GPU used"
    pairs = [("Result file", name), ("Path", path), ("GPU", m["gpu"]), ("Driver", m["driver"]), ("CUDA", m["cuda"])]
    pairs += [("CuPy", m["cupy"]), ("CPU", m["cpu"]), ("NumPy", m["numpy"]), ("posepost", m["posepost"])]
    pairs += [("Commit", _commit(m)), ("Date", m["date"].replace("T", " ")[:16])]
    return f"<dl class=env>{''.join(f'<div><dt>{k}</dt><dd>{escape(v)}</dd></div>' for k, v in pairs if v)}</dl>"


def _glance(result: Result) -> str:
    rows, usual = _rows(result), usual_peer(result)
    base = [row for row in _of(rows, variant=US) if "base" in row["sweep"]]
    if not base:
        return "<p class=none>This file has no base case of posepost.</p>"
    tiles = []
    blocking = _of(base, kind="blocking")
    if usual:
        gains = [r["p50"] / row["p50"] for row in blocking for r in _same(rows, row) if r["variant"] == usual]
        if gains:
            tiles.append((_span(gains, times), f"speed-up over {usual}, blocking, over {len(gains)} base cases"))
    gains = [peer["p50"] / row["p50"] for row in blocking if (peer := _fastest(_peers(_same(rows, row))))]
    if gains:
        tiles.append((_span(gains, times), "speed-up over the best peer of each case"))
    for kind in dict.fromkeys((_main_kind(rows), "blocking")):
        floors = [row["ratio_to_floor"] for row in _of(base, kind=kind) if row["ratio_to_floor"]]
        if floors:
            tiles.append((_span(floors, lambda ratio: f"{ratio:.2f}x"), f"of its floor, {kind}"))
    pairs = _bus_pairs(rows)
    if pairs:
        ours, theirs = pairs[-1]
        tiles.append((size(ours["bus_bytes"]), f"over the bus rather than {size(theirs['bus_bytes'])}: {_label(ours)}"))
    cards = "".join(f"<div class=tile><b>{escape(v)}</b><span>{escape(what)}</span></div>" for v, what in tiles)
    kinds = _kinds(base)
    head = ["case", *kinds, "GB/s", "bus", "usual", "best", "best peer"]
    body = []
    for case in dict.fromkeys(row["case"] for row in base):
        here = {row["kind"]: row for row in _of(base, case=case)}
        row = here.get("blocking") or next(iter(here.values()))
        rate = here.get(_main_kind(rows), row)["gb_per_s"]
        fastest = _fastest(_peers(_same(rows, row)))
        usual_row = next((r for r in _same(rows, row) if r["variant"] == usual), None)
        cells = [_label(row)]
        for kind in kinds:
            if kind in here:
                floor = here[kind]["ratio_to_floor"]
                cells.append(duration(here[kind]["p50"]) + (f" · {floor:.2f}x" if floor is not None else ""))
            else:
                cells.append(_why_not(result, case, lambda v: v == US, kind))
        cells += [gigabytes(rate), size(row["bus_bytes"]) if row["bus_bytes"] is not None else "-"]
        cells += [
            times(usual_row["p50"] / row["p50"]) if usual_row else "-",
            times(fastest["p50"] / row["p50"]) if fastest else "-",
        ]
        body.append([*cells, fastest["variant"] if fastest else "-"])
    table = _table(head, body, 1, "posepost on the base cases")
    words = f"usual is {usual}, best the fastest peer" if usual else "best is the fastest peer"
    return (
        f"<div class=tiles>{cards}</div><p>posepost's medians on the base cases, each with how many times its floor it "
        "is. "
        f"GB/s: heatmap bytes over the {_main_kind(rows)} time. The last columns are speed-ups of blocking calls: "
        f"{escape(words)}.</p>{table}"
    )


def _against_peers(result: Result) -> str:
    rows = _rows(result)
    looks = _looks(rows)
    base = [row for row in _of(rows, kind="blocking") if "base" in row["sweep"]]
    if not base:
        return "<p class=none>This file has no blocking row of a base case.</p>"
    shown = [row["p50"] for row in base if not _is_floor(row)] or [row["p50"] for row in base]
    log = max(shown) > 12 * min(shown)
    domain = (min(row["p50"] for row in base) / 2, max(shown) * 1.05) if log else (0.0, max(shown) * 1.05)
    figures = []
    for case in dict.fromkeys(row["case"] for row in base):
        here = [row for row in base if row["case"] == case]
        ours = next((row for row in here if row["variant"] == US), None)
        floor = _floor(here, ours)
        entries = []
        for row in sorted((r for r in here if not _is_floor(r)), key=lambda r: r["p50"]):
            gain = f"   {times(row['p50'] / ours['p50'])}" if ours and row is not ours else ""
            entries.append(
                Bar(
                    row["variant"],
                    row["p50"],
                    duration(row["p50"]) + gain,
                    looks[row["variant"]],
                    floor if row is ours else None,
                )
            )
        for failure in _failed(result, case, "blocking"):
            entries.append(Bar(failure["variant"], None, f"failed: {failure['reason']}", "gone"))
        desc = "; ".join(f"{entry.label}: {entry.note}" for entry in entries)
        figures.append(bars(_label(here[0]), desc, entries, domain=domain, log=log))
    lead = (
        "From outputs on the device to NumPy keypoints on the host, median, same maps and same checked result."
        if result["machine_info"]["posepost"]["device"] == "cuda"
        else "From maps in memory to NumPy keypoints, median, same maps and same checked result."
    )
    scale = " The scale is logarithmic and the same in all panels." if log else " The scale is the same in all panels."
    return (
        f"<p>{lead}{scale} Beside each time: how many times posepost's it is. The upright mark on posepost's bar is "
        "its "
        f"floor.</p>{_grid(figures)}"
    )


def _sweep(result: Result, sweep: str) -> str:
    """Time against B or against the side of the map, a panel for each kind."""
    rows = [row for row in _rows(result) if sweep in row["sweep"]]
    looks = _looks(_rows(result))
    figures = []
    key = "B" if sweep == "batch" else "H"
    for kind in _kinds(_of(rows, variant=US)):
        here = _of(rows, kind=kind)
        if len({row[key] for row in _of(here, variant=US)}) < 2:
            continue
        series = []
        for variant in dict.fromkeys(row["variant"] for row in here):
            points = [
                (row[key], row["p50"], row["p20"], row["p80"]) if variant == US else (row[key], row["p50"])
                for row in _of(here, variant=variant)
            ]
            series.append(Series(variant, points, looks[variant]))
        ticks = sorted({row[key] for row in here})
        named = [(n, str(n) if sweep == "batch" else f"{n}²") for n in ticks]
        span = f"{duration(_ends(here, key)[0])} at {named[0][1]}, {duration(_ends(here, key)[1])} at {named[-1][1]}"
        x_name = "images in the batch" if sweep == "batch" else "cells of a map"
        figures.append(
            _figure(
                KINDS.get(kind, kind),
                lines(
                    f"{kind}: time against {x_name}",
                    f"posepost's median: {span}. Other lines: "
                    f"{', '.join(s.label for s in series if s.label != US) or 'none'}.",
                    series,
                    x_name=x_name,
                    y_name="time of one call",
                    x_ticks=named,
                ),
            )
        )
    if not figures:
        return f"<p class=none>This file has fewer than two points of the {sweep} sweep.</p>"
    first = next(row for row in rows if row["variant"] == US)
    what = (
        f"{first['model']}, {first['K']} maps an image" if sweep == "batch" else f"B = {first['B']}, {first['K']} maps"
    )
    return (
        f"<p>{escape(what)}, {first['layout']}, {first['dtype']}. Both axes are logarithmic; the band around "
        "posepost's "
        f"median is p20 to p80; dashed lines are floors.</p>{_grid(figures)}"
    )


def _bandwidth(result: Result) -> str:
    plain = [r for r in _rows(result) if r["gb_per_s"] and (r["layout"], r["dtype"]) == ("NCHW", "float32")]
    kinds = [kind for kind in _kinds(_of(plain, variant=US)) if kind.startswith("device")] or ["blocking"]
    figures = []
    for kind in kinds:
        here = [r for r in _of(plain, kind=kind) if r["variant"] == US or _is_floor(r)]
        batch = [r for r in here if "batch" in r["sweep"]]
        if len(_of(batch, variant=US)) < 2:
            continue
        series = []
        for variant in dict.fromkeys(r["variant"] for r in batch):
            points = [(r["heatmap_bytes"], r["gb_per_s"]) for r in _of(batch, variant=variant)]
            series.append(Series(variant, points, _looks(here)[variant]))
        dots = [
            (
                r["heatmap_bytes"],
                r["gb_per_s"],
                _looks(here)[r["variant"]],
                f"{_label(r)}, {r['variant']}: {gigabytes(r['gb_per_s'])} GB/s",
            )
            for r in here
            if r not in batch
        ]
        best = max(_of(batch, variant=US), key=lambda r: r["gb_per_s"])
        others = "; ".join(
            f"{r['variant']} {gigabytes(r['gb_per_s'])} GB/s"
            for r in here
            if _is_floor(r) and r["case"] == best["case"]
        )
        figures.append(
            _figure(
                KINDS[kind],
                lines(
                    f"{kind}: effective GB/s against bytes of heatmap",
                    f"posepost's best is {gigabytes(best['gb_per_s'])} GB/s at {size(best['heatmap_bytes'])}; there "
                    f"{others or 'no floor was measured'}.",
                    series,
                    x_name="bytes of heatmap in one call",
                    y_name="GB/s",
                    x_ticks=[(float(f"1e{d}"), brief(size(10**d))) for d in range(3, 11) if _between(here, 10**d)],
                    x_format=size,
                    y_format=lambda v: f"{v:.4g}",
                    y_log=False,
                    dots=dots,
                ),
            )
        )
    if not figures:
        return "<p class=none>This file has fewer than two GB/s figures of the batch sweep.</p>"
    return (
        "<p>Bytes of heatmap divided by the median time. The dashed line is a plain read of the same bytes in the same "
        "run: the limit that a decoder cannot pass. Lines: the batch sweep. Dots: the other NCHW float32 "
        f"cases.</p>{_grid(figures)}"
    )


def _formats(result: Result) -> str:
    rows = [row for row in _rows(result) if "format" in row["sweep"]]
    figures = []
    for kind in dict.fromkeys((_main_kind(rows), "blocking")):
        ours = _of(rows, variant=US, kind=kind)
        for model in dict.fromkeys((row["model"], row["B"]) for row in ours):
            here = [row for row in ours if (row["model"], row["B"]) == model]
            entries = []
            for row in here:
                note = duration(row["p50"]) + (f"   {gigabytes(row['gb_per_s'])} GB/s" if row["gb_per_s"] else "")
                look = "f0" if row["layout"] == "NCHW" else "f1"
                entries.append(
                    Bar(f"{row['layout']} {row['dtype']}", row["p50"], note, look, _floor(_same(rows, row), row))
                )
            high = max(row["p50"] for row in here) * 1.05
            desc = "; ".join(f"{entry.label}: {entry.note}" for entry in entries)
            figures.append(bars(f"{model[0]}, B = {model[1]}, {kind}", desc, entries, domain=(0.0, high), log=False))
    if not figures:
        return "<p class=none>This file has no row of the format cases.</p>"
    return (
        "<p>posepost's median for each layout and type; the upright mark is the floor. Scales differ between panels "
        "and "
        f"begin at zero.</p>{_grid(figures)}"
    )


def _memory(result: Result) -> str:
    rows = _rows(result)

    def pair(row: Row, lanes: Sequence[tuple[str, int, str]]) -> str:
        """The lanes of a case, (who, bytes that cross, remark); the first decodes on the device."""
        maps = 3 * row["heatmap_bytes"]
        full = max(maps, *(lane[1] for lane in lanes))
        out = []
        for i, (who, crossing, remark) in enumerate(lanes):
            caption, desc = f"{who}: {_label(row)}", f"{size(crossing)} cross the bus; {remark}."
            sizes = {"maps": maps, "crossing": crossing, "full": full}
            out.append(_figure(caption, memory_path(caption, desc, **sizes, decoded_here=i == 0)))
        return "".join(out)

    pairs = _bus_pairs(rows)
    if pairs:
        ratio = max(theirs["bus_bytes"] / ours["bus_bytes"] for ours, theirs in pairs)
        text = (
            f"Bytes that crossed the bus in one call, areas to scale within a case. Up to {ratio:.0f} times fewer "
            "cross "
            "when the maps stay where the network wrote them."
        )
        drawn = [
            pair(both[0], [(r["variant"], r["bus_bytes"], f"the call takes {duration(r['p50'])}") for r in both])
            for both in pairs
        ]
    else:
        base = [row for row in _of(rows, variant=US) if "base" in row["sweep"]]
        if result["machine_info"]["posepost"]["device"] == "cuda" or not base:
            return "<p class=none>This file has no pair of posepost and a peer with their bus bytes.</p>"
        text = (
            "<strong>This run had no GPU, and nothing crossed a bus.</strong> By the sizes of its maps, this is what "
            "would: "
            "the keypoints alone, or the maps. Areas are to scale within a case."
        )
        cases = {row["case"]: row for row in (base[0], max(base, key=lambda row: row["heatmap_bytes"]))}
        words = "by size, not measured"
        drawn = [
            pair(row, [("on a GPU", row["keypoint_bytes"], words), ("downloaded", 3 * row["heatmap_bytes"], words)])
            for row in cases.values()
        ]
    return f"<p>{text}</p>" + "".join(f"<div class=pair>{figures}</div>" for figures in drawn)


def _failures(result: Result) -> str:
    groups = _failure_groups(result)
    if not groups:
        return "<p class=none>Nothing failed, nothing was skipped.</p>"
    body = []
    for (status, variant, reason), failures in groups:
        cases = list(dict.fromkeys(failure["case"] for failure in failures))
        kinds = list(dict.fromkeys(str(failure["kind"]) for failure in failures))
        body.append([status, variant, reason, ", ".join(kinds), cases])
    cells = "".join(
        f"<tr class={'failed' if status == 'failed' else 'skipped'}><td>{escape(status)}</td><td>{escape(variant)}</td>"
        f"<td class=wrap>{escape(reason)}</td><td>{escape(kinds)}</td><td>{_cases(cases)}</td></tr>"
        for status, variant, reason, kinds, cases in body
    )
    head = "".join(f"<th scope=col>{name}</th>" for name in ("status", "variant", "reason", "kind", "cases"))
    failed = sum(failure["status"] == "failed" for failure in result["posepost_failures"])
    skipped = len(result["posepost_failures"]) - failed
    return (
        f"<p>{failed or 'None'} failed, {skipped or 'none'} skipped; alike ones share a row.</p>"
        "<div class=box tabindex=0 role=region aria-label='Failed and skipped'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table></div>"
    )


def _full_table(result: Result) -> str:
    rows = _rows(result)
    head = ("case", "variant", "kind", "p20 µs", "p50 µs", "p80 µs", "p90 µs", "p99 µs", "GB/s", "bus bytes", "x floor")
    body = [
        [
            *_key(row),
            *(micro(row[name]) for name in _SECONDS),
            four_digits(row["gb_per_s"]) if row["gb_per_s"] else "-",
            _or_dash(row["bus_bytes"], "{:.0f}"),
            _or_dash(row["ratio_to_floor"], "{:.3f}"),
        ]
        for row in rows
    ]
    table = _table(head, body, 3, "Every measured row", "big")
    summary = f"All {len(rows)} rows: times, GB/s, bus bytes and ratio to the floor"
    return f"<details><summary>{summary}</summary>{table}</details>"


def _comparison(result: Result, other: Result, names: Sequence[str]) -> str:
    """RESULT's p50 divided by OTHER's: by variant, then posepost's cases one by one, then all rows."""
    ours = {_key(row): row for row in _rows(result)}
    theirs = {_key(row): row for row in _rows(other)}
    both = [key for key in ours if key in theirs]
    if not both:
        return "<p class=none>The two files have no row of the same case, variant and kind.</p>"
    warning = machines_differ(result, other)
    ratio = {key: ours[key]["p50"] / theirs[key]["p50"] for key in both}
    noise = {key: ours[key]["p20"] <= theirs[key]["p80"] and theirs[key]["p20"] <= ours[key]["p80"] for key in both}
    sides = (f"{_cut(names[0], 20)} faster", "slower")
    kinds = _kinds([ours[key] for key in both])

    def dots(keys: list[tuple[str, str, str]], kind: str) -> str:
        models = [ours[key]["model"] for key in keys]
        entries = []
        for key, model in zip(keys, models):
            label, group = (_form(ours[key]), model) if models.count(model) > 1 else (model, "")
            note = times(ratio[key]) + (", within the noise" if noise[key] else "")
            entries.append(Dot(label, ratio[key], note, noise[key], group))
        desc = warning + " " + "; ".join(f"{entry.group} {entry.label}: {entry.note}" for entry in entries)
        return ratios(f"posepost, {kind}: a case a dot", desc.strip(), entries, warning, sides)

    variants = []
    for kind in kinds:
        groups = {
            v: [ratio[key] for key in both if key[1:] == (v, kind)]
            for v in sorted(dict.fromkeys(key[1] for key in both), key=lambda v: (v != US, v.startswith("floor")))
        }
        entries = [
            Dot(v, geometric_mean(values), f"{times(geometric_mean(values))}, mean of {len(values)}")
            for v, values in groups.items()
            if values
        ]
        desc = warning + " " + "; ".join(f"{entry.label}: {entry.note}" for entry in entries)
        variants.append(ratios(f"{kind}: mean of each variant", desc.strip(), entries, warning, sides))
    cases = [dots(keys, kind) for kind in kinds if (keys := [key for key in both if key[1:] == (US, kind)])]

    head = ("case", "variant", "kind", f"{names[0]} µs", f"{names[1]} µs", "ratio", "p20 to p80")
    body = [
        [
            *key,
            micro(ours[key]["p50"]),
            micro(theirs[key]["p50"]),
            f"{ratio[key]:.3f}",
            "overlap" if noise[key] else "apart",
        ]
        for key in both
    ]
    table = _table(head, body, 3, f"p50 of {names[0]} divided by p50 of {names[1]}", "big")
    text = [
        f"<p>Ratio: median time in <b>{escape(names[0])}</b> divided by that in <b>{escape(names[1])}</b>; below 1 the "
        "first is faster. Hollow dots are within the noise: their ranges from p20 to p80 overlap. Means are "
        "geometric.</p>"
    ]
    if warning:
        text.insert(0, f"<p class=warn>{escape(warning)}</p>")
    changed = [
        f"{title} {a} against {b}"
        for key, title in (
            ("driver", "driver"),
            ("cuda", "CUDA"),
            ("cupy", "CuPy"),
            ("numpy", "NumPy"),
            ("posepost", "posepost"),
        )
        if (a := result["machine_info"]["posepost"][key]) != (b := other["machine_info"]["posepost"][key])
    ]
    if changed:
        text.append(f"<p>Versions that differ: {escape('; '.join(changed))}.</p>")
    for name, mine, yours in ((names[0], ours, theirs), (names[1], theirs, ours)):
        alone = [key for key in mine if key not in yours]
        if alone:
            listed = "".join(f"<li>{escape(', '.join(key))}</li>" for key in alone)
            text.append(
                f"<details><summary>{len(alone)} rows only in {escape(name)}</summary><ul>{listed}</ul></details>"
            )
    return (
        "".join(text)
        + _grid(variants)
        + _grid(cases)
        + f"<details><summary>All {len(both)} rows in both files</summary>{table}</details>"
    )


def machines_differ(result: Result, other: Result) -> str:
    """One sentence when the files come from different machines, else nothing."""
    a, b = result["machine_info"]["posepost"], other["machine_info"]["posepost"]
    parts = [
        f"{title} {a[key] or 'none'} against {b[key] or 'none'}"
        for key, title in (("device", "path"), ("gpu", "GPU"), ("cpu", "CPU"))
        if a[key] != b[key]
    ]
    return (
        f"Different machines: {', '.join(parts)}. The ratios compare machines, not versions of the code."
        if parts
        else ""
    )


def four_digits(value: float) -> str:
    """Four significant digits, never an exponent."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:.{max(0, 3 - math.floor(math.log10(rounded)))}f}"


def micro(seconds: float) -> str:
    return four_digits(seconds * 1e6)


def gigabytes(rate: float | None) -> str:
    return three_digits(rate, ((1, ""),)) if rate else "-"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _rows(result: Result) -> list[Row]:
    return [benchmark["extra_info"] for benchmark in result["benchmarks"]]


def _key(row: Row) -> tuple[str, str, str]:
    return row["case"], row["variant"], row["kind"]


def _of(rows: list[Row], **wanted: str) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def _same(rows: list[Row], row: Row) -> list[Row]:
    return _of(rows, case=row["case"], kind=row["kind"])


def _is_floor(row: Row) -> bool:
    return row["variant"].startswith("floor")


def _is_ours(row: Row) -> bool:
    """posepost, also in another way of use: "posepost, pinned out"."""
    variant: str = row["variant"]
    return variant == US or variant.startswith(f"{US}, ")


def _usual_first(variant: str) -> tuple[bool, bool, bool]:
    """Sorts NumPy before others, and of its variants the pageable download first."""
    name = variant.lower()
    return "numpy" not in name or "mmpose" in name, "pageable" not in name, "pinned" in name


def _is_torch(variant: str) -> bool:
    return "torch" in variant.lower()


def _peers(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not _is_ours(row) and not _is_floor(row)]


def _peer_names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["variant"] for row in _peers(rows)))


def _fastest(rows: list[Row]) -> Row | None:
    return min(rows, key=lambda row: row["p50"], default=None)


def _floor(rows: list[Row], ours: Row | None) -> float | None:
    """The floor that posepost's ratio was taken to."""
    return ours["p50"] / ours["ratio_to_floor"] if ours and ours["ratio_to_floor"] else None


def _looks(rows: list[Row]) -> dict[str, str]:
    looks = {name: peer_look(i) for i, name in enumerate(_peer_names(rows))}
    floors = dict.fromkeys(row["variant"] for row in rows if _is_floor(row))
    ours = dict.fromkeys((US, *(row["variant"] for row in rows if _is_ours(row))), "us")
    return {**ours, **looks, **dict.fromkeys(floors, "floor")}


def _kinds(rows: list[Row]) -> list[str]:
    present = dict.fromkeys(row["kind"] for row in rows)
    return [kind for kind in KINDS if kind in present] + [kind for kind in present if kind not in KINDS]


def _main_kind(rows: list[Row]) -> str:
    return next((kind for kind in ("device cold", "device warm") if _of(rows, variant=US, kind=kind)), "blocking")


def _label(row: Row) -> str:
    return f"{row['model']}, {_form(row)}"


def _form(row: Row) -> str:
    form = "" if (row["layout"], row["dtype"]) == ("NCHW", "float32") else f", {row['layout']} {row['dtype']}"
    return f"B = {row['B']}{form}"


def _short(row: Row) -> str:
    """The case's name with the dtype as fp32, fp16, bf16 or uint8."""
    return row["case"].replace("bfloat", "bf").replace("float", "fp")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 2] + ".."


def _commit(machine: Row) -> str:
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", str(machine["commit"]))


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _span(values: list[float], form: Callable[[float], str]) -> str:
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


def _ends(rows: list[Row], key: str) -> tuple[float, float]:
    ours = sorted(_of(rows, variant=US), key=lambda row: row[key])
    return ours[0]["p50"], ours[-1]["p50"]


def _between(rows: list[Row], count: int) -> bool:
    counts = [row["heatmap_bytes"] for row in rows]
    return min(counts) * 0.9 <= count <= max(counts) * 1.1


def _bus_pairs(rows: list[Row]) -> list[tuple[Row, Row]]:
    """(posepost, the usual kind of download) for the first and the largest base case that have both."""
    pairs = []
    for row in _of(rows, variant=US, kind="blocking"):
        if "base" in row["sweep"] and row["bus_bytes"]:
            copying = [p for p in _peers(_same(rows, row)) if (p["bus_bytes"] or 0) > row["bus_bytes"]]
            if copying:
                pairs.append((row, min(copying, key=lambda p: (_usual_first(p["variant"]), p["p50"]))))
    if not pairs:
        return []
    largest = max(pairs, key=lambda pair: pair[0]["heatmap_bytes"])
    return [pairs[0]] if largest is pairs[0] else [pairs[0], largest]


def _failed(result: Result, case: str, kind: str) -> list[Row]:
    return [f for f in result["posepost_failures"] if (f["case"], f["kind"], f["status"]) == (case, kind, "failed")]


def _failure_groups(result: Result) -> list[tuple[tuple[str, str, str], list[Row]]]:
    """((status, variant, reason), failures), what failed before what was skipped."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for failure in result["posepost_failures"]:
        groups.setdefault((failure["status"], failure["variant"], failure["reason"]), []).append(failure)
    return sorted(groups.items(), key=lambda item: item[0][0] != "failed")


def _why_not(result: Result, case: str, matches: Callable[[str], bool], kind: str = "blocking") -> str:
    """failed, skipped or not measured: why a case has no row of the variants."""
    found = {
        f["status"]
        for f in result["posepost_failures"]
        if f["case"] == case and f["kind"] == kind and matches(f["variant"])
    }
    return "failed" if "failed" in found else "skipped" if "skipped" in found else "not measured"


def _cases(cases: list[str]) -> str:
    if len(cases) == 1:
        return escape(cases[0])
    items = "".join(f"<li>{escape(case)}</li>" for case in cases)
    return f"<details><summary>{len(cases)} cases</summary><ul>{items}</ul></details>"


def _grid(figures: Sequence[str]) -> str:
    return "<div class=grid>" + "".join(f if f.startswith("<figure") else _figure("", f) for f in figures) + "</div>"


def _figure(caption: str, svg: str) -> str:
    return f"<figure>{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}{svg}</figure>"


def _table(head: Sequence[str], body: Sequence[Sequence[str]], words: int, caption: str, look: str = "") -> str:
    """The first `words` columns are text, the others numbers."""
    heads = "".join(
        f"<th scope=col{' class=n' if i >= words else ''}>{escape(name)}</th>" for i, name in enumerate(head)
    )
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return (
        f'<div class="box words{words} {look}" tabindex=0 role=region aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--card:#f6f7f9;--ink:#16202c;--soft:#566375;
--line:#dfe4ea;--us:#0a5fc2;--second:#5191dd;--floor:#16202c;--warn:#8f2d00;
--warnbg:#fff1e8;--p0:#bf6b12;--p1:#3d918c;--p2:#6a2f78;--p3:#564704;--p4:#434141}
@media(prefers-color-scheme:dark){:root{--bg:#0e131a;--card:#171e28;--ink:#e8edf3;--soft:#a3b0bf;--line:#2c3644;
--us:#58a8ff;--second:#2f6db5;--floor:#e8edf3;--warn:#ffb691;--warnbg:#37200f;
--p0:#bd571e;--p1:#07b077;--p2:#986492;--p3:#ceb507;--p4:#f3e5e5}}@media print{
:root{color-scheme:light}body{font-size:10pt}nav,.filter{display:none!important}figure,.tile,tr{break-inside:avoid}
h2{break-after:avoid}.box{overflow:visible!important;max-height:none!important}thead{display:table-header-group}
.grid,.pair{grid-template-columns:1fr 1fr!important}table{font-size:7pt!important}td,th{padding:2px 5px!important}
td,th{white-space:normal!important}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
*{box-sizing:border-box}html{scroll-behavior:smooth}@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}
}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
overflow-wrap:anywhere}header,main,footer{max-width:1480px;margin:0 auto;padding:0 clamp(14px,3vw,44px)}
header{padding-top:clamp(20px,4vw,52px)}.over{margin:0;color:var(--us);font-weight:650;letter-spacing:.02em}
h1{margin:.15em 0 .6em;font-size:clamp(1.5rem,3.6vw,2.5rem);line-height:1.15;
letter-spacing:-.02em;max-width:28em;text-wrap:balance}h2{margin:0 0 .4em;font-size:1.35rem;letter-spacing:-.01em}
section{padding:34px 0 0;scroll-margin-top:8px}p{max-width:72ch;margin:.3em 0 1.1em;color:var(--soft)}
p b,p strong{color:var(--ink)}.env{display:flex;flex-wrap:wrap;gap:10px 30px;margin:0 0 14px}.env div{min-width:0}
.env dt{font-size:.75rem;color:var(--soft)}.env dd{margin:0;font-size:.92rem}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;padding:12px 0;border:solid var(--line);
border-width:1px 0;font-size:.92rem}a{color:var(--us);text-underline-offset:3px}
a:focus-visible,summary:focus-visible,.box:focus-visible{outline:2px solid var(--us);outline-offset:2px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,210px),1fr));gap:14px;margin:0 0 20px}
.tile{background:var(--card);border-radius:12px;padding:14px 18px}
.tile b{display:block;font-size:1.45rem;letter-spacing:-.01em;line-height:1.3}
.tile span{font-size:.86rem;color:var(--soft);line-height:1.35;display:block}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));
gap:16px;align-items:start;margin-bottom:16px}
figure{margin:0;background:var(--card);border-radius:12px;padding:14px 14px 10px;min-width:0}
figcaption{font-size:.9rem;font-weight:600;margin:0 0 8px 2px}
svg{display:block;width:100%;max-width:560px;height:auto}
.box{overflow-x:auto;border:1px solid var(--line);border-radius:12px;overscroll-behavior-x:contain}
.box.big{max-height:80vh;overflow-y:auto}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{padding:5px 12px;text-align:left;white-space:nowrap;vertical-align:top}
tbody td:first-child{position:sticky;left:0;background:var(--bg)}thead th:first-child{left:0;z-index:2}
thead th{z-index:1;position:sticky;top:0;background:var(--card);border-bottom:1px solid var(--line);font-weight:600}
tbody tr+tr td{border-top:1px solid var(--line)}
.n,.words1 td:nth-child(n+2),.words3 td:nth-child(n+4){text-align:right}.wrap{white-space:normal;min-width:280px}
tr.failed td:first-child{color:var(--warn);font-weight:650}th[aria-sort]{cursor:pointer}
th[aria-sort=ascending]::after{content:" ▴"}th[aria-sort=descending]::after{content:" ▾"}
summary{cursor:pointer;padding:6px 0}td summary{padding:0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));
gap:16px;margin-bottom:16px;max-width:1000px}ul{margin:.2em 0;padding-left:1.2em}.none{font-style:italic}
.warn{background:var(--warnbg);color:var(--warn);padding:10px 16px;border-radius:10px;font-weight:600}
.filter{font:inherit;width:min(100%,420px);margin:6px 0 10px;padding:7px 12px;
border:1px solid var(--soft);border-radius:9px;background:var(--bg);color:inherit}
footer{padding-top:40px;padding-bottom:40px;color:var(--soft);font-size:.86rem}svg{--c:var(--soft)}
.us{--c:var(--us)}.f0{--c:var(--us)}.f1{--c:var(--second)}.floor{--c:var(--floor)}.p0{--c:var(--p0)}
.p1{--c:var(--p1)}.p2{--c:var(--p2)}.p3{--c:var(--p3)}.p4{--c:var(--p4)}
text{fill:var(--ink);font-size:11.5px}.heading{font-weight:600;font-size:13.5px}
text.tick,text.axis{fill:var(--soft);font-size:11px}text.name.us{font-weight:700;fill:var(--us)}
text.name.gone{fill:var(--soft)}text.value{font-variant-numeric:tabular-nums;white-space:pre}
text.warning{fill:var(--warn);font-weight:600;font-size:11.5px}text.big{font-size:15px;font-weight:700}
.halo{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.grid path.grid,path.grid{stroke:var(--line);fill:none}
.line{stroke:var(--c);fill:none;stroke-width:1.3;stroke-linejoin:round}.line.us{stroke-width:3}
.line.floor{stroke-dasharray:5 4;stroke-width:1.6}.line.one{stroke:var(--soft);stroke-width:1.2}
.band{fill:var(--c);opacity:.2}.mark{fill:var(--c);stroke:var(--c);stroke-width:1.2}
.leader{stroke:var(--c);fill:none;stroke-width:.8;opacity:.55}.dot{fill:var(--c)}
.dot.floor{fill:none;stroke:var(--c)}.hollow{fill:var(--card);stroke:var(--c);stroke-width:1.8}
.stem{stroke:var(--c);stroke-width:1.6}.bar{fill:var(--c)}.limit{stroke:var(--ink);stroke-width:2;fill:none}
.place{fill:none;stroke:var(--line);stroke-width:1.5}.maps{fill:var(--us);opacity:.85}.arrived{fill:var(--p0)}
.flow{stroke:var(--p0);opacity:.4;fill:none}.tip{fill:var(--p0)}
.bus{stroke:var(--soft);stroke-dasharray:4 4;fill:none}
"""

_SCRIPT = """
for (const box of document.querySelectorAll('.box.big')) {
  const table = box.querySelector('table'), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const input = document.createElement('input');
  input.className = 'filter'; input.type = 'search'; input.placeholder = 'filter, e.g. HRNet posepost blocking';
  input.setAttribute('aria-label', 'Filter the rows');
  input.oninput = () => {
    const words = input.value.toLowerCase().split(/\\s+/);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  };
  box.before(input);
  heads.forEach((head, i) => {
    const sort = () => {
      const up = head.getAttribute('aria-sort') !== 'ascending', sign = up ? 1 : -1;
      heads.forEach(other => other.setAttribute('aria-sort', 'none'));
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const text = row => row.cells[i].textContent;
      const number = row => isNaN(parseFloat(text(row))) ? sign * Infinity : parseFloat(text(row));
      const numeric = head.classList.contains('n');
      const order = (a, b) => !numeric ? text(a).localeCompare(text(b))
        : (number(a) > number(b)) - (number(a) < number(b));
      body.append(...[...body.rows].sort((a, b) => sign * order(a, b)));
    };
    head.setAttribute('aria-sort', 'none'); head.tabIndex = 0; head.onclick = sort;
    head.onkeydown = event => { if (event.key === 'Enter') sort(); };
  });
}
"""

if __name__ == "__main__":
    sys.exit(main())
