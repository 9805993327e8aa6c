"""bench/report on small result files made here: the page, the tables, the comparison, and what it refuses."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.report import (
    four_digits,
    load,
    main,
    readme_table,
    several_people_table,
    terminal_table,
    write_report,
)
from bench.report.plots import duration, log_ticks, size, times

VOID = {"meta", "br", "hr", "img", "input", "link"}
POSENET, HRNET = "PoseNet 353x481/16", "HRNet 64x48"


def case(
    model: str, B: int, H: int, W: int, *sweep: str, layout: str = "NCHW", dtype: str = "float32"
) -> dict[str, Any]:
    nbytes = B * 17 * H * W * {"float32": 4, "uint8": 1}.get(dtype, 2)
    return {
        "case": f"{model}/B{B}/{layout}/{dtype}",
        "model": model,
        "B": B,
        "K": 17,
        "H": H,
        "W": W,
        "layout": layout,
        "dtype": dtype,
        "heatmap_bytes": nbytes,
        "keypoint_bytes": B * 17 * 12,
        "sweep": list(sweep),
    }


def row(case: dict[str, Any], variant: str, kind: str, p50: float, **other: Any) -> dict[str, Any]:
    times = {"p20": p50 * 0.95, "p50": p50, "p80": p50 * 1.1, "p90": p50 * 1.2, "p99": p50 * 2}
    extra = {"gb_per_s": None, "bus_bytes": None, "ratio_to_floor": None, "checked": True, **other}
    info = {**copy.deepcopy(case), "variant": variant, "kind": kind, **times, **extra}
    return {
        "name": f"{case['case']}-{variant}-{kind}",
        "group": case["case"],
        "stats": {"median": p50},
        "extra_info": info,
    }


def result(device: str, benchmarks: list[dict[str, Any]], failures: list[dict[str, Any]]) -> dict[str, Any]:
    cuda = device == "cuda"
    machine = {
        "device": device,
        "gpu": "NVIDIA H200" if cuda else None,
        "driver": "580.95.05" if cuda else None,
        "cuda": "13.0" if cuda else None,
        "cupy": "14.0.1" if cuda else None,
        "cpu": "AMD EPYC",
        "numpy": "2.3.4",
        "posepost": "0.2.0",
        "commit": "879ca7d1f2a3b4c5d6e7f8091a2b3c4d5e6f7081",
        "date": "2026-11-23T08:31:00+00:00",
    }
    return {"machine_info": {"posepost": machine}, "benchmarks": benchmarks, "posepost_failures": failures}


def failure(case: dict[str, Any], variant: str, status: str, reason: str, kind: str = "blocking") -> dict[str, Any]:
    return {"case": case["case"], "variant": variant, "kind": kind, "status": status, "reason": reason}


def cpu_result() -> dict[str, Any]:
    frame, batch = case(POSENET, 1, 23, 31, "base", "format"), case(HRNET, 64, 64, 48, "base", "batch")
    rows = [
        row(frame, "posepost", "blocking", 20e-6, gb_per_s=2.4242, ratio_to_floor=1.25),
        row(frame, "floor: one read", "blocking", 16e-6, gb_per_s=3.0303),
        row(frame, "NumPy", "blocking", 41e-6),
        row(frame, "torch.compile", "blocking", 38e-6),
        row(frame, "PyTorch eager", "blocking", 64.4e-6),
        row(batch, "posepost", "blocking", 1.538e-3, gb_per_s=8.69),
        row(batch, "NumPy", "blocking", 4.25e-3),
    ]
    failures = [
        failure(batch, "torch.compile", "failed", "out of memory: 1,069,547,520 bytes"),
        failure(frame, "JAX", "skipped", "jax is not installed: pip install jax==0.8.0"),
        failure(batch, "JAX", "skipped", "jax is not installed: pip install jax==0.8.0"),
    ]
    return result("cpu", rows, failures)


def gpu_result() -> dict[str, Any]:
    frame = case(POSENET, 1, 23, 31, "base", "format")
    cases = [frame, case(POSENET, 1, 23, 31, "format", layout="NHWC", dtype="bfloat16")]
    cases += [case(HRNET, B, 64, 48, *(["base"] if B == 64 else []), "batch") for B in (1, 8, 64)]
    cases += [case(f"map {n}x{n}", 1, n, n, "size") for n in (8, 32)]
    rows = []
    for i, c in enumerate(cases):
        nbytes = c["heatmap_bytes"]
        for kind in ("device cold", "device warm"):
            read = 2e-6 + nbytes / 4e12 + i * 1e-9
            rows.append(row(c, "floor: plain read <16 B>", kind, read, gb_per_s=nbytes / read / 1e9))
            rows.append(row(c, "floor: empty kernel", kind, 1.9e-6 + i * 1e-9))
            gb = nbytes / (read * 1.125) / 1e9
            rows.append(row(c, "posepost", kind, read * 1.125, gb_per_s=gb, ratio_to_floor=1.125))
        rows.append(row(c, "posepost", "enqueue", 4.1e-6 + i * 1e-9))
        ours = {"bus_bytes": c["keypoint_bytes"], "ratio_to_floor": 1.3}
        rows.append(row(c, "floor: empty launch and read-back", "blocking", 6.2e-6 + nbytes / 4e12))
        rows.append(row(c, "posepost", "blocking", 8.1e-6 + nbytes / 4e12, **ours))
        for name, speed in (("NumPy after download (pinned)", 20e9), ("NumPy after download (pageable)", 8e9)):
            rows.append(row(c, name, "blocking", 30e-6 + 3 * nbytes / speed, bus_bytes=3 * nbytes))
        rows.append(row(c, "PyTorch eager", "blocking", 75e-6 + nbytes / 2e12, bus_bytes=c["keypoint_bytes"]))
    return result(
        "cuda", rows, [failure(frame, "tfjs & node", "skipped", "node is not installed: apt-get install nodejs")]
    )


class Page(HTMLParser):
    """Checks that tags nest, and collects text, addresses and the tables' cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.idents: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action", "data", "xlink:href")]
        self.idents += [v or "" for k, v in attrs if k == "id"]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & set(self.open):
            return
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def written(folder: Path, **results: dict[str, Any]) -> list[Path]:
    files = []
    for name, content in results.items():
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(content))
    return files


def page_of(files: list[Path]) -> tuple[str, Page]:
    target = files[0].parent / "report.html"
    write_report(files, target)
    page = target.read_text(encoding="utf-8")
    return page, Page(page)


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def table_with(page: Page, *heads: str) -> list[list[str]]:
    (table,) = [table for table in page.tables if set(heads) <= set(table[0])]
    return table


@pytest.mark.parametrize("make", [cpu_result, gpu_result])
def test_page_is_well_formed_and_self_contained(make: Any, tmp_path: Path) -> None:
    page, parsed = page_of(written(tmp_path, result=make()))
    assert all(address.startswith("#") and address[1:] in parsed.idents for address in parsed.addresses)
    assert parsed.addresses
    assert not re.search(r"https?:|@import|url\(|//[a-z]", page)
    assert len(page.encode()) < 1_000_000
    drawings = svgs(page)
    assert len(drawings) == page.count("<svg") >= 5
    for drawing in drawings:
        assert drawing.get("role") == "img"
        assert [child.tag for child in drawing][:2] == ["title", "desc"]
        assert drawing[0].text
        assert drawing[1].text
        assert "nan" not in ElementTree.tostring(drawing, encoding="unicode")


@pytest.mark.parametrize("make", [cpu_result, gpu_result])
def test_full_table_has_the_figures_of_the_file(make: Any, tmp_path: Path) -> None:
    _, page = page_of(written(tmp_path, result=make()))
    head, *body = table_with(page, "p99 µs")
    rows = [benchmark["extra_info"] for benchmark in make()["benchmarks"]]
    assert len(body) == len(rows)
    for cells, expected in zip(body, rows):
        assert cells[:3] == [expected["case"], expected["variant"], expected["kind"]]
        for name in ("p20", "p50", "p80", "p90", "p99"):
            assert float(cells[head.index(f"{name} µs")]) == pytest.approx(expected[name] * 1e6, rel=5.1e-4)
        bus, rate, ratio = cells[head.index("bus bytes")], cells[head.index("GB/s")], cells[head.index("x floor")]
        assert bus == ("-" if expected["bus_bytes"] is None else str(expected["bus_bytes"]))
        assert (
            rate == "-"
            if expected["gb_per_s"] is None
            else float(rate) == pytest.approx(expected["gb_per_s"], rel=5.1e-4)
        )
        assert ratio == ("-" if expected["ratio_to_floor"] is None else f"{expected['ratio_to_floor']:.3f}")


def test_headline_environment_and_failures(tmp_path: Path) -> None:
    _, page = page_of(written(tmp_path, result=cpu_result()))
    text = " ".join(page.text)
    for words in (
        "PoseNet 353x481/16 decoded in 20.0\u00a0µs on AMD EPYC",
        "CPU, no GPU used",
        "879ca7d1f2a3",
        "2026-11-23 08:31",
    ):
        assert words in text
    assert "This run had no GPU, and nothing crossed a bus." in text
    assert "1 failed, 2 skipped; alike ones share a row." in text
    head, failed, skipped = table_with(page, "status", "reason")
    assert failed[:4] == ["failed", "torch.compile", "out of memory: 1,069,547,520 bytes", "blocking"]
    assert failed[4] == f"{HRNET}/B64/NCHW/float32"
    assert skipped[:4] == ["skipped", "JAX", "jax is not installed: pip install jax==0.8.0", "blocking"]
    assert skipped[4] == f"2 cases{POSENET}/B1/NCHW/float32{HRNET}/B64/NCHW/float32"
    assert len(head) == 5


def test_bars_are_in_the_order_and_ratio_of_the_file(tmp_path: Path) -> None:
    page, _ = page_of(written(tmp_path, result=cpu_result()))
    drawing = next(d for d in svgs(page) if d[0].text == f"{POSENET}, B = 1")
    drawn = [(bar[0].text, float(bar.attrib["width"])) for bar in drawing.iter("rect") if "bar" in bar.attrib["class"]]
    assert [words for words, _ in drawn] == [
        "posepost: 20.0 µs",
        "torch.compile: 38.0 µs   1.90x",
        "NumPy: 41.0 µs   2.05x",
        "PyTorch eager: 64.4 µs   3.22x",
    ]
    widths = [width for _, width in drawn]
    assert widths == sorted(widths)
    failed = next(d for d in svgs(page) if d[0].text == f"{HRNET}, B = 64")
    assert "failed: out of memory: 1,069,547,520 bytes" in [text.text for text in failed.iter("text")]


def test_sweep_lines_join_the_measured_points(tmp_path: Path) -> None:
    page, _ = page_of(written(tmp_path, result=gpu_result()))
    drawing = next(d for d in svgs(page) if d[0].text == "blocking: time against images in the batch")
    marks = [mark[0].text for mark in drawing.iter("path") if mark.get("class") == "mark us" and len(mark)]
    expected = [8.1e-6 + B * 17 * 64 * 48 * 4 / 4e12 for B in (1, 8, 64)]
    assert [words.split(" (")[0] for words in marks] == [
        f"posepost, {B}: {duration(p50)}" for B, p50 in zip((1, 8, 64), expected)
    ]
    (line,) = [path for path in drawing.iter("path") if path.get("class") == "line us"]
    points = [tuple(map(float, point.split())) for point in line.attrib["d"][1:].split("L")]
    assert len(points) == 3
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)  # 1, 8, 64: even steps
    assert points[0][1] > points[1][1] > points[2][1]
    assert [path.get("class") for path in drawing.iter("path")].count("line floor") == 1


def test_bandwidth_is_drawn_beside_the_plain_read(tmp_path: Path) -> None:
    page, _ = page_of(written(tmp_path, result=gpu_result()))
    (drawing,) = [d for d in svgs(page) if d[0].text == "device cold: effective GB/s against bytes of heatmap"]
    marks = [
        mark[0].text for mark in drawing.iter("path") if (mark.get("class") or "").startswith("mark") and len(mark)
    ]
    rows = [b["extra_info"] for b in gpu_result()["benchmarks"] if b["extra_info"]["kind"] == "device cold"]
    for wanted in rows:
        if "batch" in wanted["sweep"] and wanted["gb_per_s"]:
            value = f"{wanted['gb_per_s']:.4g}"
            assert f"{wanted['variant']}, {size(wanted['heatmap_bytes'])}: {value}" in marks


def test_memory_path_is_to_scale(tmp_path: Path) -> None:
    page, parsed = page_of(written(tmp_path, result=gpu_result()))
    maps = 3 * 64 * 17 * 64 * 48 * 4
    areas = {}
    for who in ("posepost", "NumPy after download (pageable)"):
        (drawing,) = [d for d in svgs(page) if d[0].text == f"{who}: {HRNET}, B = 64"]
        areas[who] = {r.attrib["class"]: float(r.attrib["width"]) ** 2 for r in drawing.iter("rect")}
    ours, theirs = areas["posepost"], areas["NumPy after download (pageable)"]
    assert ours["maps"] == theirs["maps"] == theirs["arrived"]
    assert ours["maps"] / ours["arrived"] == pytest.approx(maps / (64 * 17 * 12), rel=0.02)
    assert f"Up to {maps / (64 * 17 * 12):.0f} times fewer cross" in " ".join(parsed.text)


def test_text_of_the_file_is_escaped(tmp_path: Path) -> None:
    broken = cpu_result()
    broken["posepost_failures"][0]["reason"] = "<script>alert('&')</script>\x1b[0m"
    broken["benchmarks"][2]["extra_info"]["variant"] = 'NumPy <b>"&'
    page, parsed = page_of(written(tmp_path, result=broken))
    assert page.count("<script") == 1
    assert svgs(page)
    assert "<script>alert('&')</script>\ufffd[0m" in parsed.text
    assert 'NumPy <b>"&' in parsed.text


def test_a_file_of_one_row_makes_a_page(tmp_path: Path) -> None:
    for kind in ("blocking", "device warm"):
        only = cpu_result()
        only["benchmarks"] = [row(case(POSENET, 1, 23, 31), "posepost", kind, 1e-6)]
        only["posepost_failures"] = []
        _, parsed = page_of(written(tmp_path, result=only))
        text = " ".join(parsed.text)
        assert "This file has fewer than two points of the batch sweep." in text
        assert "Nothing failed, nothing was skipped." in text
        assert table_with(parsed, "p50 µs")[1][4] == "1.000"


def test_comparison(tmp_path: Path) -> None:
    new, old = gpu_result(), gpu_result()
    for benchmark in old["benchmarks"]:
        for name in ("p20", "p50", "p80", "p90", "p99"):
            benchmark["extra_info"][name] *= 2
    old["benchmarks"][0]["extra_info"]["variant"] = "floor: renamed"
    old["machine_info"]["posepost"]["cupy"] = "13.6.0"
    page, parsed = page_of(written(tmp_path, new=new, old=old))
    text = " ".join(parsed.text)
    assert "Different machines" not in page
    assert "Versions that differ: CuPy 14.0.1 against 13.6.0." in text
    assert "1 rows only in new.json" in text
    assert "1 rows only in old.json" in text
    assert f"{POSENET}/B1/NCHW/float32, floor: renamed, device cold" in parsed.text
    _, *body = table_with(parsed, "new.json µs", "old.json µs", "ratio")
    expected = [b["extra_info"] for b in new["benchmarks"][1:]]
    assert [cells[:3] for cells in body] == [[e["case"], e["variant"], e["kind"]] for e in expected]
    assert {cells[5] for cells in body} == {"0.500"}
    assert [float(cells[4]) for cells in body] == pytest.approx([e["p50"] * 2e6 for e in expected], rel=5.1e-4)
    drawing = next(d for d in svgs(page) if d[0].text == "posepost, blocking: a case a dot")
    assert len(list(drawing.iter("circle"))) == 7
    assert all(circle.attrib["class"] == "dot us" for circle in drawing.iter("circle"))


def test_comparison_with_the_same_file_is_within_the_noise(tmp_path: Path) -> None:
    page, parsed = page_of(written(tmp_path, a=cpu_result(), b=cpu_result()))
    _, *body = table_with(parsed, "ratio")
    assert {(cells[5], cells[6]) for cells in body} == {("1.000", "overlap")}
    drawing = next(d for d in svgs(page) if d[0].text == "posepost, blocking: a case a dot")
    assert {circle.attrib["class"] for circle in drawing.iter("circle")} == {"hollow us"}


def test_comparison_of_different_machines_says_so_on_each_plot(tmp_path: Path) -> None:
    new, old = gpu_result(), gpu_result()
    old["machine_info"]["posepost"].update(gpu="NVIDIA A100", cpu="Intel Xeon")
    page, _ = page_of(written(tmp_path, new=new, old=old))
    words = (
        "Different machines: GPU NVIDIA H200 against NVIDIA A100, CPU AMD EPYC against Intel Xeon. "
        "The ratios compare machines, not versions of the code."
    )
    assert report.machines_differ(new, old) == words
    plots = [d for d in svgs(page) if re.search("mean of each variant|a case a dot", d[0].text or "")]
    assert len(plots) == 8
    for plot in plots:
        assert " ".join(text.text or "" for text in plot.iter("text") if text.get("class") == "warning") == words
        assert (plot[1].text or "").startswith(words)


@pytest.mark.parametrize(
    ("names", "usual"),
    [
        (["CuPy ops", "NumPy after a pinned download", "NumPy after download"], "NumPy after download"),
        (["NumPy", "A NumPy download (pinned)", "NumPy after download (pageable)"], "NumPy after download (pageable)"),
        (["MMPose codecs in NumPy", "PyTorch eager"], None),
    ],
)
def test_usual_peer(names: list[str], usual: str | None) -> None:
    frame = case(POSENET, 1, 23, 31, "base")
    assert report.usual_peer(result("cpu", [row(frame, name, "blocking", 1e-5) for name in names], [])) == usual


def test_terminal_table_word_for_word() -> None:
    assert (
        terminal_table(cpu_result())
        == """\
CPU path on AMD EPYC, NumPy 2.3.4, posepost 0.2.0, commit 879ca7d1f2a3, 2026-11-23
speed-up over NumPy and over the best peer

case                            kind             p50 x floor   GB/s      bus  usual  best peer
PoseNet 353x481/16/B1/NCHW/fp32 blocking     20.0 us    1.25   2.42        -  2.05x  1.90x torch.compile
HRNet 64x48/B64/NCHW/fp32       blocking     1.54 ms       -   8.69        -  2.76x  2.76x NumPy

failed: torch.compile (HRNet 64x48/B64/NCHW/float32): out of memory: 1,069,547,520 bytes

skipped: JAX (2 cases): jax is not installed: pip install jax==0.8.0
"""
    )


def test_terminal_table_is_narrow_and_ascii() -> None:
    wide = gpu_result()
    for benchmark in wide["benchmarks"]:
        info = benchmark["extra_info"]
        if info["B"] == 64:
            info["case"] = "whole-body 133x96x72/B512/NHWC/bfloat16"
    table = terminal_table(wide)
    assert max(map(len, table.splitlines())) <= 110
    assert table.isascii()
    assert "speed-up over NumPy after download (pageable) and over the best peer" in table


def test_the_pinned_way_is_posepost_s_own_and_no_peer(tmp_path: Path) -> None:
    frame = case(POSENET, 1, 23, 31, "base")
    rows = [
        row(frame, "posepost", "blocking", 20e-6, ratio_to_floor=1.5),
        row(frame, "posepost, pinned out", "blocking", 10e-6, ratio_to_floor=0.75),
        row(frame, "floor: empty kernel and read-back", "blocking", 40e-6 / 3),
        row(frame, "NumPy", "blocking", 30e-6),
    ]
    measured = result("cpu", rows, [])
    _, _, _, _, first, second = terminal_table(measured).splitlines()
    assert first.split()[2:] == ["blocking", "20.0", "us", "1.50", "-", "-", "1.50x", "1.50x", "NumPy"]
    assert second.split()[2:] == ["pinned", "out", "10.0", "us", "0.75", "-", "-", "3.00x", "3.00x", "NumPy"]
    page, _ = page_of(written(tmp_path, result=measured))
    drawing = next(d for d in svgs(page) if d[0].text == f"{POSENET}, B = 1")
    bars = {bar[0].text: bar.attrib["class"] for bar in drawing.iter("rect") if "bar" in bar.attrib["class"]}
    assert bars == {
        "posepost, pinned out: 10.0 µs   0.500x": "bar us",
        "posepost: 20.0 µs": "bar us",
        "NumPy: 30.0 µs   1.50x": "bar p0 m0",
    }


def test_readme_table_word_for_word() -> None:
    assert (
        readme_table(cpu_result())
        == """\
CPU path on AMD EPYC, NumPy 2.3.4, posepost 0.2.0, commit 879ca7d1f2a3, 2026-11-23: `make bench`

| one call, p50 | posepost | NumPy | speed-up | best of PyTorch | speed-up |
|:--|--:|--:|--:|--:|--:|
| PoseNet 353x481/16, B = 1 | 20.0 µs | 41.0 µs | 2.05x | 38.0 µs (torch.compile) | 1.90x |
| HRNet 64x48, B = 64 | 1.54 ms | 4.25 ms | 2.76x | failed |  |
"""
    )
    first, _, head, *_ = readme_table(gpu_result()).splitlines()
    assert first == (
        "NVIDIA H200, driver 580.95.05, CUDA 13.0, CuPy 14.0.1, on AMD EPYC, NumPy 2.3.4, posepost 0.2.0, "
        "commit 879ca7d1f2a3, 2026-11-23: `make bench`"
    )
    assert head.startswith("| one call, p50 | posepost | NumPy after download (pageable) | speed-up |")


REFUSED = [
    (lambda r: r["benchmarks"][3]["extra_info"].pop("p50"), 'benchmarks[3].extra_info has no "p50"'),
    (lambda r: r["benchmarks"][0].pop("extra_info"), 'benchmarks[0] has no "extra_info"'),
    (lambda r: r["machine_info"].pop("posepost"), 'machine_info has no "posepost"'),
    (lambda r: r["machine_info"]["posepost"].pop("gpu"), 'machine_info.posepost has no "gpu"'),
    (lambda r: r.pop("posepost_failures"), 'the file has no "posepost_failures"'),
    (lambda r: r["posepost_failures"][1].pop("reason"), 'posepost_failures[1] has no "reason"'),
    (lambda r: r["benchmarks"].clear(), "benchmarks is empty: nothing was measured"),
    (lambda r: r.update(benchmarks={}), 'the file["benchmarks"] must be a list, got {}'),
    (
        lambda r: r["benchmarks"][1]["extra_info"].update(p80=0),
        'benchmarks[1].extra_info["p80"] must be a positive number of seconds, got 0',
    ),
    (
        lambda r: r["benchmarks"][1]["extra_info"].update(p50=float("nan")),
        'benchmarks[1].extra_info["p50"] must be a positive number of seconds, got nan',
    ),
    (
        lambda r: r["benchmarks"][1]["extra_info"].update(gb_per_s=float("inf")),
        'benchmarks[1].extra_info["gb_per_s"] must be a number or null, got inf',
    ),
    (
        lambda r: r["benchmarks"][1]["extra_info"].update(bus_bytes="204 B"),
        "benchmarks[1].extra_info[\"bus_bytes\"] must be a number or null, got '204 B'",
    ),
    (
        lambda r: r["benchmarks"][0]["extra_info"].update(checked=False),
        'benchmarks[0].extra_info["checked"] must be true, got False',
    ),
    (
        lambda r: r["benchmarks"].append(r["benchmarks"][2]),
        f"benchmarks[7].extra_info repeats benchmarks[2]: {POSENET}/B1/NCHW/float32, NumPy, blocking",
    ),
]


@pytest.mark.parametrize(("damage", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_refused_by_name(damage: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = cpu_result()
    damage(broken)
    (file,) = written(tmp_path, broken=broken)
    with pytest.raises(ValueError, match="^" + re.escape(f"{file}: {words}") + "$"):
        load(file)
    assert main([str(file), "-o", str(tmp_path / "report.html")]) == 2
    assert capsys.readouterr().err == f"{file}: {words}\n"
    assert not (tmp_path / "report.html").exists()


def test_refused_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    for content, words in (
        (None, "No such file or directory"),
        (b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "the file must be an object, got list"),
        (b"\xff\xfe", "not JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ):
        if content is not None:
            file.write_bytes(content)
        assert main([str(file)]) == 2
        assert capsys.readouterr().err == f"{file}: {words}\n"
    with pytest.raises(ValueError, match=r"^a report takes one or two result files, got 3$"):
        write_report([file] * 3, tmp_path / "report.html")


def test_main_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = written(tmp_path, a=cpu_result(), b=gpu_result())
    target = tmp_path / "page.html"
    assert main([*map(str, files), "-o", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert "path cpu against cuda" in target.read_text(encoding="utf-8")


def test_figures_are_rounded_not_cut() -> None:
    assert [duration(s) for s in (4.56e-7, 9.996e-7, 1e-6, 9.994e-4, 9.996e-4, 0.01234, 61.5)] == [
        "456 ns", "1.00 µs", "1.00 µs", "999 µs", "1.00 ms", "12.3 ms", "61.5 s",
    ]  # fmt: skip
    assert [size(n) for n in (204, 999, 1000, 13056, 106954752)] == ["204 B", "999 B", "1.00 kB", "13.1 kB", "107 MB"]
    assert [times(r) for r in (0.0345, 0.9996, 1.005, 42.35, 999.4, 1964.3)] == [
        "0.0345x", "1.00x", "1.00x", "42.4x", "999x", "1964x",
    ]  # fmt: skip
    assert [four_digits(v) for v in (0.01234, 9.9996, 12.345, 123456)] == ["0.01234", "10.00", "12.35", "123500"]
    assert log_ticks(8e-7, 3e-5) == [1e-6, 2e-6, 5e-6, 1e-5, 2e-5]


def test_table_of_several_people() -> None:
    """A row a crowd, a column for each mode, its peers beside it; what was not measured is said."""
    result = cpu_result()
    result["benchmarks"] = [
        {
            "extra_info": {"variant": variant, "mode": mode, "H": 24, "W": 24, "people": people},
            "stats": {"median": median},
        }
        for people, variant, mode, median in (
            (2, "posepost on cpu, tfjs", "tfjs", 1e-3),
            (2, "posepost on cpu, coral", "coral", 2e-3),
            (2, "tfjs", "tfjs", 3e-3),
            (2, "libcoral", "coral", 1e-3),
            (1, "posepost on cpu, tfjs", "tfjs", 1e-3),
            (1, "posepost on cpu, coral", "coral", 1e-3),
            (1, "tfjs", "tfjs", 2e-3),
        )
    ]
    assert several_people_table(result).splitlines()[2:] == [
        "| maps | people | posepost, tfjs | tfjs | speed-up | posepost, coral | libcoral | speed-up |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
        "| 24x24 | 1 | 1.00 ms | 2.00 ms | 2.00x | 1.00 ms | not measured |  |",
        "| 24x24 | 2 | 1.00 ms | 3.00 ms | 3.00x | 2.00 ms | 1.00 ms | 0.500x |",
    ]


def head_row(head: str, K: int, B: int, variant: str, p50: float, kind: str = "blocking") -> dict[str, Any]:
    info = {"head": head, "B": B, "K": K, "H": 64, "W": 48, "variant": variant, "kind": kind, "p50": p50}
    return {"extra_info": {**info, "peers": {"torch": "2.13.0", "mmpose": "1.3.2"}}}


def simcc_row(head: str, N: int, variant: str, p50: float) -> dict[str, Any]:
    return {
        "extra_info": {
            "head": head,
            "N": N,
            "K": 17,
            "W": [384, 512],
            "variant": variant,
            "kind": "blocking",
            "p50": p50,
        }
    }


def test_heads_table() -> None:
    """A row a head and peer; the smallest call, and the range over all sizes."""
    rows = [
        head_row("none", 17, 1, "posepost", 20e-6),
        head_row("none", 17, 1, "MMPose", 30e-6),
        head_row("none", 133, 8, "posepost", 1e-3),
        head_row("none", 133, 8, "MMPose", 5e-3),
        head_row("soft_argmax", 133, 8, "posepost", 2e-3),
        head_row("soft_argmax", 133, 8, "MMPose", 3e-3),
        head_row("soft_argmax", 17, 1, "posepost", 100e-6),
        head_row("soft_argmax", 17, 1, "posepost", 1e-6, "device warm"),
        head_row("soft_argmax", 17, 1, "MMPose", 90e-6),
        head_row("soft_argmax", 17, 1, "kornia", 200e-6),
        head_row("centroid", 17, 1, "posepost", 50e-6),
    ]
    simcc = [
        simcc_row("dark", 1, "posepost on cpu", 1e-4),
        simcc_row("dark", 1, "MMPose refine_simcc_dark", 2e-3),
        simcc_row("dark", 64, "posepost on cpu", 1e-3),
        simcc_row("dark", 64, "MMPose refine_simcc_dark", 3e-2),
    ]
    peaks = [
        {
            "extra_info": {
                "head": "peaks",
                "B": 1,
                "K": 17,
                "H": 9,
                "W": 9,
                "variant": name,
                "kind": "blocking",
                "p50": p50,
            }
        }
        for name, p50 in (("posepost on cpu", 1e-4), ("PyTorch max_pool2d + topk", 1e-3))
    ]
    made = report.heads_table(*(result("cpu", found, []) for found in (rows, simcc, peaks)))
    assert made.splitlines()[0].startswith("CPU path on AMD EPYC")
    assert made.splitlines()[0].endswith("; mmpose 1.3.2, torch 2.13.0")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in made.splitlines()[4:]]
    assert [row[:1] + row[3:] for row in cells] == [
        ["argmax", "20.0 µs", "30.0 µs", "1.50x", "1.50x to 5.00x"],
        ["soft-argmax", "100 µs", "90.0 µs", "0.900x", "0.900x to 1.50x"],
        ["soft-argmax", "100 µs", "200 µs (kornia)", "2.00x", "2.00x"],
        ["centroid", "50.0 µs", "no such head", "", ""],
        ["SimCC DARK", "100 µs", "2.00 ms", "20.0x", "20.0x to 30.0x"],
        ["local maxima", "100 µs", "1.00 ms (PyTorch max_pool2d + topk)", "10.0x", "10.0x"],
    ]
    assert cells[4][1] == '`rtmpose`, `refine="dark"`'


def test_heads_table_without_peers() -> None:
    row = head_row("dark", 17, 1, "posepost", 50e-6)
    row["extra_info"]["peers"] = {}
    made = report.heads_table(*(result("cpu", found, []) for found in ([row], [], [])))
    assert made.splitlines()[0].endswith("; no peer is installed")
    assert made.splitlines()[-1].endswith("| 50.0 µs | not measured |  |  |")
