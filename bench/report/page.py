"""One self-contained HTML page of a result, or of two compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from statistics import geometric_mean

from .load import (
    SECONDS,
    US,
    Result,
    Row,
    failure_groups,
    fastest_of,
    is_floor,
    is_ours,
    key_of,
    load,
    peer_names,
    peers_in,
    rows_of,
    same_call,
    select,
    usual_first,
    usual_peer,
    why_not,
)
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
    times,
)
from .tables import commit_of, cut, form_of, gigabytes, label_of, or_dash, span_of

KINDS = {
    "blocking": "blocking call, to keypoints on the host",
    "blocking 30 Hz": "blocking call, one every 33 ms",
    "device cold": "time on the device, cold L2",
    "device warm": "time on the device, warm L2",
    "enqueue": "enqueue: the host's share of a call",
}


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
    style, script = _file("page.css"), _file("page.js")
    target.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>posepost on {escape(place)}</title><style>\n{style}</style></head><body>"
        f"<header><p class=over>posepost benchmark</p><h1>{escape(_headline(result, place))}</h1>{environments}"
        f"<nav aria-label=Sections>{nav}</nav></header><main>{body}</main>"
        "<footer>p50 is the median, p20 to p80 the middle 60 % of the calls. Every row but the floors was "
        "checked against NumPy before it was timed. Made by <code>make "
        f"bench</code>.</footer><script>\n{script}</script></body></html>\n",
        encoding="utf-8",
    )


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _headline(result: Result, place: str) -> str:
    rows = rows_of(result)
    first = next((row for row in select(rows, variant=US, kind="blocking") if "base" in row["sweep"]), None)
    if first is None:
        return f"Pose decoding on {place}"
    what = first["model"] if first["B"] == 1 else label_of(first)
    return f"{what} decoded in {duration(first['p50'])} on {place}".replace(" µs", "\u00a0µs")


def _environment(result: Result, name: str) -> str:
    m = result["machine_info"]["posepost"]
    path = "device (CUDA)" if m["device"] == "cuda" else "CPU, no GPU used"
    pairs = [("Result file", name), ("Path", path), ("GPU", m["gpu"]), ("Driver", m["driver"]), ("CUDA", m["cuda"])]
    pairs += [("CuPy", m["cupy"]), ("CPU", m["cpu"]), ("NumPy", m["numpy"]), ("posepost", m["posepost"])]
    pairs += [("Commit", commit_of(m)), ("Date", m["date"].replace("T", " ")[:16])]
    return f"<dl class=env>{''.join(f'<div><dt>{k}</dt><dd>{escape(v)}</dd></div>' for k, v in pairs if v)}</dl>"


def _glance(result: Result) -> str:
    rows, usual = rows_of(result), usual_peer(result)
    base = [row for row in select(rows, variant=US) if "base" in row["sweep"]]
    if not base:
        return "<p class=none>This file has no base case of posepost.</p>"
    tiles = []
    blocking = select(base, kind="blocking")
    if usual:
        gains = [r["p50"] / row["p50"] for row in blocking for r in same_call(rows, row) if r["variant"] == usual]
        if gains:
            tiles.append((span_of(gains, times), f"speed-up over {usual}, blocking, over {len(gains)} base cases"))
    gains = [peer["p50"] / row["p50"] for row in blocking if (peer := fastest_of(peers_in(same_call(rows, row))))]
    if gains:
        tiles.append((span_of(gains, times), "speed-up over the best peer of each case"))
    for kind in dict.fromkeys((_main_kind(rows), "blocking")):
        floors = [row["ratio_to_floor"] for row in select(base, kind=kind) if row["ratio_to_floor"]]
        if floors:
            tiles.append((span_of(floors, lambda ratio: f"{ratio:.2f}x"), f"of its floor, {kind}"))
    pairs = _bus_pairs(rows)
    if pairs:
        ours, theirs = pairs[-1]
        tiles.append(
            (size(ours["bus_bytes"]), f"over the bus rather than {size(theirs['bus_bytes'])}: {label_of(ours)}")
        )
    cards = "".join(f"<div class=tile><b>{escape(v)}</b><span>{escape(what)}</span></div>" for v, what in tiles)
    kinds = _kinds(base)
    head = ["case", *kinds, "GB/s", "bus", "usual", "best", "best peer"]
    body = []
    for case in dict.fromkeys(row["case"] for row in base):
        here = {row["kind"]: row for row in select(base, case=case)}
        row = here.get("blocking") or next(iter(here.values()))
        rate = here.get(_main_kind(rows), row)["gb_per_s"]
        fastest = fastest_of(peers_in(same_call(rows, row)))
        usual_row = next((r for r in same_call(rows, row) if r["variant"] == usual), None)
        cells = [label_of(row)]
        for kind in kinds:
            if kind in here:
                floor = here[kind]["ratio_to_floor"]
                cells.append(duration(here[kind]["p50"]) + (f" · {floor:.2f}x" if floor is not None else ""))
            else:
                cells.append(why_not(result, case, lambda v: v == US, kind))
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
    rows = rows_of(result)
    looks = _looks(rows)
    base = [row for row in select(rows, kind="blocking") if "base" in row["sweep"]]
    if not base:
        return "<p class=none>This file has no blocking row of a base case.</p>"
    shown = [row["p50"] for row in base if not is_floor(row)] or [row["p50"] for row in base]
    log = max(shown) > 12 * min(shown)
    domain = (min(row["p50"] for row in base) / 2, max(shown) * 1.05) if log else (0.0, max(shown) * 1.05)
    figures = []
    for case in dict.fromkeys(row["case"] for row in base):
        here = [row for row in base if row["case"] == case]
        ours = next((row for row in here if row["variant"] == US), None)
        floor = _floor(here, ours)
        entries = []
        for row in sorted((r for r in here if not is_floor(r)), key=lambda r: r["p50"]):
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
        figures.append(bars(label_of(here[0]), desc, entries, domain=domain, log=log))
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
    rows = [row for row in rows_of(result) if sweep in row["sweep"]]
    looks = _looks(rows_of(result))
    figures = []
    key = "B" if sweep == "batch" else "H"
    for kind in _kinds(select(rows, variant=US)):
        here = select(rows, kind=kind)
        if len({row[key] for row in select(here, variant=US)}) < 2:
            continue
        series = []
        for variant in dict.fromkeys(row["variant"] for row in here):
            points = [
                (row[key], row["p50"], row["p20"], row["p80"]) if variant == US else (row[key], row["p50"])
                for row in select(here, variant=variant)
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
    plain = [r for r in rows_of(result) if r["gb_per_s"] and (r["layout"], r["dtype"]) == ("NCHW", "float32")]
    kinds = [kind for kind in _kinds(select(plain, variant=US)) if kind.startswith("device")] or ["blocking"]
    figures = []
    for kind in kinds:
        here = [r for r in select(plain, kind=kind) if r["variant"] == US or is_floor(r)]
        batch = [r for r in here if "batch" in r["sweep"]]
        if len(select(batch, variant=US)) < 2:
            continue
        series = []
        for variant in dict.fromkeys(r["variant"] for r in batch):
            points = [(r["heatmap_bytes"], r["gb_per_s"]) for r in select(batch, variant=variant)]
            series.append(Series(variant, points, _looks(here)[variant]))
        dots = [
            (
                r["heatmap_bytes"],
                r["gb_per_s"],
                _looks(here)[r["variant"]],
                f"{label_of(r)}, {r['variant']}: {gigabytes(r['gb_per_s'])} GB/s",
            )
            for r in here
            if r not in batch
        ]
        best = max(select(batch, variant=US), key=lambda r: r["gb_per_s"])
        others = "; ".join(
            f"{r['variant']} {gigabytes(r['gb_per_s'])} GB/s" for r in here if is_floor(r) and r["case"] == best["case"]
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
    rows = [row for row in rows_of(result) if "format" in row["sweep"]]
    figures = []
    for kind in dict.fromkeys((_main_kind(rows), "blocking")):
        ours = select(rows, variant=US, kind=kind)
        for model in dict.fromkeys((row["model"], row["B"]) for row in ours):
            here = [row for row in ours if (row["model"], row["B"]) == model]
            entries = []
            for row in here:
                note = duration(row["p50"]) + (f"   {gigabytes(row['gb_per_s'])} GB/s" if row["gb_per_s"] else "")
                look = "f0" if row["layout"] == "NCHW" else "f1"
                entries.append(
                    Bar(f"{row['layout']} {row['dtype']}", row["p50"], note, look, _floor(same_call(rows, row), row))
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
    rows = rows_of(result)

    def pair(row: Row, lanes: Sequence[tuple[str, int, str]]) -> str:
        """The lanes of a case, (who, bytes that cross, remark); the first decodes on the device."""
        maps = 3 * row["heatmap_bytes"]
        full = max(maps, *(lane[1] for lane in lanes))
        out = []
        for i, (who, crossing, remark) in enumerate(lanes):
            caption, desc = f"{who}: {label_of(row)}", f"{size(crossing)} cross the bus; {remark}."
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
        base = [row for row in select(rows, variant=US) if "base" in row["sweep"]]
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
    groups = failure_groups(result)
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
    rows = rows_of(result)
    head = ("case", "variant", "kind", "p20 µs", "p50 µs", "p80 µs", "p90 µs", "p99 µs", "GB/s", "bus bytes", "x floor")
    body = [
        [
            *key_of(row),
            *(micro(row[name]) for name in SECONDS),
            four_digits(row["gb_per_s"]) if row["gb_per_s"] else "-",
            or_dash(row["bus_bytes"], "{:.0f}"),
            or_dash(row["ratio_to_floor"], "{:.3f}"),
        ]
        for row in rows
    ]
    table = _table(head, body, 3, "Every measured row", "big")
    summary = f"All {len(rows)} rows: times, GB/s, bus bytes and ratio to the floor"
    return f"<details><summary>{summary}</summary>{table}</details>"


def _comparison(result: Result, other: Result, names: Sequence[str]) -> str:
    """RESULT's p50 divided by OTHER's: by variant, then posepost's cases one by one, then all rows."""
    ours = {key_of(row): row for row in rows_of(result)}
    theirs = {key_of(row): row for row in rows_of(other)}
    both = [key for key in ours if key in theirs]
    if not both:
        return "<p class=none>The two files have no row of the same case, variant and kind.</p>"
    warning = machines_differ(result, other)
    ratio = {key: ours[key]["p50"] / theirs[key]["p50"] for key in both}
    noise = {key: ours[key]["p20"] <= theirs[key]["p80"] and theirs[key]["p20"] <= ours[key]["p80"] for key in both}
    sides = (f"{cut(names[0], 20)} faster", "slower")
    kinds = _kinds([ours[key] for key in both])

    def dots(keys: list[tuple[str, str, str]], kind: str) -> str:
        models = [ours[key]["model"] for key in keys]
        entries = []
        for key, model in zip(keys, models):
            label, group = (form_of(ours[key]), model) if models.count(model) > 1 else (model, "")
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


def _floor(rows: list[Row], ours: Row | None) -> float | None:
    """The floor that posepost's ratio was taken to."""
    return ours["p50"] / ours["ratio_to_floor"] if ours and ours["ratio_to_floor"] else None


def _looks(rows: list[Row]) -> dict[str, str]:
    looks = {name: peer_look(i) for i, name in enumerate(peer_names(rows))}
    floors = dict.fromkeys(row["variant"] for row in rows if is_floor(row))
    ours = dict.fromkeys((US, *(row["variant"] for row in rows if is_ours(row))), "us")
    return {**ours, **looks, **dict.fromkeys(floors, "floor")}


def _kinds(rows: list[Row]) -> list[str]:
    present = dict.fromkeys(row["kind"] for row in rows)
    return [kind for kind in KINDS if kind in present] + [kind for kind in present if kind not in KINDS]


def _main_kind(rows: list[Row]) -> str:
    return next((kind for kind in ("device cold", "device warm") if select(rows, variant=US, kind=kind)), "blocking")


def _ends(rows: list[Row], key: str) -> tuple[float, float]:
    ours = sorted(select(rows, variant=US), key=lambda row: row[key])
    return ours[0]["p50"], ours[-1]["p50"]


def _between(rows: list[Row], count: int) -> bool:
    counts = [row["heatmap_bytes"] for row in rows]
    return min(counts) * 0.9 <= count <= max(counts) * 1.1


def _bus_pairs(rows: list[Row]) -> list[tuple[Row, Row]]:
    """(posepost, the usual kind of download) for the first and the largest base case that have both."""
    pairs = []
    for row in select(rows, variant=US, kind="blocking"):
        if "base" in row["sweep"] and row["bus_bytes"]:
            copying = [p for p in peers_in(same_call(rows, row)) if (p["bus_bytes"] or 0) > row["bus_bytes"]]
            if copying:
                pairs.append((row, min(copying, key=lambda p: (usual_first(p["variant"]), p["p50"]))))
    if not pairs:
        return []
    largest = max(pairs, key=lambda pair: pair[0]["heatmap_bytes"])
    return [pairs[0]] if largest is pairs[0] else [pairs[0], largest]


def _failed(result: Result, case: str, kind: str) -> list[Row]:
    return [f for f in result["posepost_failures"] if (f["case"], f["kind"], f["status"]) == (case, kind, "failed")]


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
