"""Tables of a result: one for the terminal, the others as Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

from .load import (
    US,
    Result,
    Row,
    failure_groups,
    fastest_of,
    is_ours,
    is_torch,
    peers_in,
    rows_of,
    same_call,
    select,
    usual_peer,
    why_not,
)
from .plots import duration, size, three_digits, times


def terminal_table(result: Result) -> str:
    """A row for each case and kind of posepost: p50, ratio to its floor, GB/s, bus bytes, speed-ups over peers."""
    rows, usual = rows_of(result), usual_peer(result)
    case_width = max(len("case"), *(len(_short(row)) for row in rows))
    out = textwrap.wrap(machine_line(result), 108)
    out.append(f"speed-up over {usual} and over the best peer" if usual else "speed-up over the best peer")
    out.append("")
    out.append(
        f"{'case':{case_width}} {'kind':11} {'p50':>8} {'x floor':>7} {'GB/s':>6} {'bus':>8} {'usual':>6}  best peer"
    )
    for row in filter(is_ours, rows):
        fastest = fastest_of(peers_in(same_call(rows, row)))
        usual_row = next((r for r in same_call(rows, row) if r["variant"] == usual), None)
        kind = row["kind"].replace("blocking 30 Hz", "30 Hz") if row["variant"] == US else row["variant"][len(US) + 2 :]
        out.append(
            f"{_short(row):{case_width}} {kind:11}"
            f" {duration(row['p50'], 'u'):>8}"
            f" {or_dash(row['ratio_to_floor'], '{:.2f}'):>7} {gigabytes(row['gb_per_s']):>6}"
            f" {size(row['bus_bytes']) if row['bus_bytes'] is not None else '-':>8}"
            f" {times(usual_row['p50'] / row['p50']) if usual_row else '-':>6}"
            f"  {times(fastest['p50'] / row['p50']) + ' ' + cut(fastest['variant'], 15) if fastest else '-'}"
        )
    for (status, variant, reason), failures in failure_groups(result):
        cases = sorted({failure["case"] for failure in failures})
        what = cases[0] if len(cases) == 1 else f"{len(cases)} cases"
        out += ["", *textwrap.wrap(f"{status}: {variant} ({what}): {reason}", 108, subsequent_indent="    ")]
    return "\n".join(line.rstrip() for line in out) + "\n"


def readme_table(result: Result) -> str:
    """Markdown: where and when it was measured, then blocking p50 of the base cases against NumPy and PyTorch."""
    rows, usual = rows_of(result), usual_peer(result)
    base = [row for row in select(rows, kind="blocking") if "base" in row["sweep"]]
    out = [f"{machine_line(result)}: `make bench`", ""]
    out.append(f"| one call, p50 | posepost | {usual or 'NumPy'} | speed-up | best of PyTorch | speed-up |")
    out.append("|:--|--:|--:|--:|--:|--:|")
    for case in dict.fromkeys(row["case"] for row in base):
        here = [row for row in base if row["case"] == case]
        ours = next((row for row in here if row["variant"] == US), None)
        numpy = next((row for row in here if row["variant"] == usual), None)
        torch = fastest_of([row for row in here if is_torch(row["variant"])])
        cells = [label_of(here[0])]
        cells.append(duration(ours["p50"]) if ours else why_not(result, case, lambda v: v == US))
        for peer, named, matches in (
            (numpy, "", lambda v: v == usual),
            (torch, f" ({torch['variant']})" if torch else "", is_torch),
        ):
            cells.append(duration(peer["p50"]) + named if peer else why_not(result, case, matches))
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
        [*parts, f"NumPy {m['numpy']}", f"posepost {m['posepost']}", f"commit {commit_of(m)}", m["date"][:10]]
    )


def several_people_table(result: Result) -> str:
    """Markdown for docs/ from a result file of bench_posenet_multi.py: medians against people and map size."""
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
    """Markdown for docs/ from a result file of bench/key_cases.py."""
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
    """Markdown for docs/ from result files of bench_heatmap.py, bench_simcc.py and bench_peaks.py: each head's preset,
    what pins it, its blocking p50 on the smallest call beside its peer's, and the speed-ups over all sizes."""
    found: dict[str, dict[tuple[int, ...], dict[str, float]]] = {}
    for row in select(rows_of(heatmaps), kind="blocking"):
        size = (row["B"] * row["K"] * row["H"] * row["W"], row["K"], row["H"], row["W"])
        found.setdefault(row["head"], {}).setdefault(size, {})[row["variant"]] = row["p50"]
    for row in select(rows_of(simcc), kind="blocking"):
        size = (row["N"] * row["K"] * sum(row["W"]), row["K"], *row["W"])
        variant = US if row["variant"].startswith(US) else "MMPose"
        found.setdefault(f"simcc {row['head']}", {}).setdefault(size, {})[variant] = row["p50"]
    for row in select(rows_of(peaks), kind="blocking"):
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
                cells = [duration(theirs) + others, times(theirs / ours), span_of(gains, times)]
            else:
                cells = ["no such head" if head == "centroid" else "not measured", "", ""]
            lines_.append("| " + " | ".join([name, preset, pinned, duration(ours), *cells]) + " |")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(rows_of(heatmaps)[0]["peers"].items()))
    return "\n".join([f"{machine_line(heatmaps)}; {versions or 'no peer is installed'}", "", *lines_])


HEAD_ROWS = {
    "none": ("argmax", "", "MMPose get_heatmap_maximum, 9 files: equal"),
    "quarter": ("quarter shift", "`mmpose_msra`, `hrnet`, `mmdeploy`, `higherhrnet`", "MMPose, 9 files, MMDeploy, MMPose 0.29: equal"),  # noqa: E501
    "dark": ("DARK", "`mmpose_dark`", "MMPose, 9 files: 1e-4 px"),
    "dark_udp": ("DARK-UDP", "`mmpose_udp`, `vitpose_hf`, `vitpose_rtmlib`, `sapiens`", "MMPose, 9 files, transformers: 1e-4 px; rtmlib: 2e-4 px"),  # noqa: E501
    "udp_combined": ("UDP combined", "`mmpose_udp_combined`", "MMPose: 1e-4 px"),
    "megvii": ("Megvii", "`mmpose_megvii`", "MMPose, 5 files: equal"),
    "soft_argmax": ("soft-argmax", "`mmpose_integral`", "float64, MMPose, kornia, 5 files: 1e-5 cells"),
    "flip": ("flip test + argmax", "any, `flip=`", "MMPose, 12 files: equal"),
    "centroid": ("centroid", "`sleap`, `trt_pose`, `openpose`, `mediapipe`", "trt_pose, 24 files: 1e-6; sleap-nn, its formula, 5 files: 1e-4 px; others: rules"),  # noqa: E501
    "peaks": ("local maxima", "`find_peaks`", "trt_pose, 24 files: equal; its rules as loops"),
    "simcc plain": ("SimCC", "`rtmpose`, `rtmpose_rtmlib`", "MMPose, 11 files, rtmlib: equal"),
    "simcc visibility": ("SimCC + visibility", "`rtmpose`, `visibility=True`", "MMPose, 5 files"),
    "simcc dark": ("SimCC DARK", "`rtmpose`, `refine=\"dark\"`", "MMPose, 7 files: 1e-4 px"),
}  # fmt: skip
"""Name, presets of decode_heatmap and decode_simcc, and what the tests hold them against."""


def gigabytes(rate: float | None) -> str:
    return three_digits(rate, ((1, ""),)) if rate else "-"


def label_of(row: Row) -> str:
    return f"{row['model']}, {form_of(row)}"


def form_of(row: Row) -> str:
    form = "" if (row["layout"], row["dtype"]) == ("NCHW", "float32") else f", {row['layout']} {row['dtype']}"
    return f"B = {row['B']}{form}"


def _short(row: Row) -> str:
    """The case's name with the dtype as fp32, fp16, bf16 or uint8."""
    return row["case"].replace("bfloat", "bf").replace("float", "fp")


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 2] + ".."


def commit_of(machine: Row) -> str:
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", str(machine["commit"]))


def or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def span_of(values: list[float], form: Callable[[float], str]) -> str:
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"
