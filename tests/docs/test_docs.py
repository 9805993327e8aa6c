"""What README and docs/ show is what runs: snippets, tables, figures, commands, links."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bench import tolerance
from posepost import _kernels

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "posepost" / "assets"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
README = PAGES["README.md"]
BENCHMARKS = PAGES["docs/benchmarks.md"]
NUMBER = re.compile(r"-?\d+\.\d+")


class Block(NamedTuple):
    page: str
    line: int  # of its fence
    language: str
    text: str
    output: str | None  # of the block of language "text" behind a block of Python

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    text = PAGES[page]
    fences = list(re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M))
    found = []
    for fence, after in zip(fences, [*fences[1:], None]):
        shown = after is not None and after[1] == "text" and not text[fence.end() : after.start()].strip()
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, fence[1], fence[2], after[2] if after is not None and shown else None))
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
SNIPPETS = [block for block in BLOCKS if block.language == "python"]


def block_after(page: str, text: str) -> str:
    """The first fenced block behind a piece of text."""
    line = PAGES[page].count("\n", 0, PAGES[page].index(text)) + 1
    return next(block.text for block in blocks(page) if block.line > line)


def generated(page: str, start: str) -> tuple[list[dict[str, Any]], str]:
    """The result files that a generated block names behind `start`, and what stands in it."""
    found = re.search(rf"<!-- {start} (bench/results/.*?) -->\n(.*?)\n<!-- end -->", PAGES[page], re.S)
    assert found, f"{page} has no block {start!r}"
    files = re.findall(r"bench/results/\S+\.json", found[1])
    return [json.loads((ROOT / file).read_text(encoding="utf-8")) for file in files], found[2].strip()


# ---- snippets


def topdown_model() -> bytes:
    """An ONNX file of heatmaps (N, 17, 64, 48): the mean of 4x4 pixels of each crop, seventeen times."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.full((17, 3, 4, 4), 1 / 48, np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights"], ["heatmaps"], strides=[4, 4])],
        "topdown",
        [helper.make_tensor_value_info("image", kind, ["N", 3, 256, 192])],
        [helper.make_tensor_value_info("heatmaps", kind, ["N", 17, 64, 48])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def what_the_reader_has(snippet: str, folder: Path) -> dict[str, Any]:
    """Files in `folder`, and names, in the place of the reader's own."""
    names: dict[str, Any] = {}
    if "PIL" in snippet or ".jpg" in snippet:
        image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        for name, asset in (("photo.jpg", "scene.png"), ("crowd.jpg", "crowd.png")):
            image_module.open(ASSETS / asset).convert("RGB").save(folder / name)
        (folder / "posenet.onnx").write_bytes((ASSETS / "figures.onnx").read_bytes())
    if "hrnet.onnx" in snippet:
        (folder / "hrnet.onnx").write_bytes(topdown_model())
    if "network" in snippet:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        names["boxes"] = [[60, 30, 110, 120], [200, 40, 260, 180]]
        names["images"] = names["crops"] = torch.rand(2, 3, 32, 24)
        names["network"] = heads(torch) if "offsets" in snippet else lambda crops: torch.rand(2, 17, 64, 48)
    return names


def heads(torch: Any) -> Any:
    class Heads(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 17, 8, 8), torch.nn.Conv2d(3, 34, 8, 8)

        def forward(self, images: Any) -> Any:
            return self.first(images), self.second(images)

    return Heads().eval().requires_grad_(False)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_snippet_runs(
    snippet: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints what stands behind it."""
    names = what_the_reader_has(snippet.text, tmp_path)
    if "torch.onnx.export" in snippet.text:
        pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet.text, str(snippet), "exec"), names)
    printed = capsys.readouterr().out
    assert bool(printed) == ("print(" in snippet.text)
    if "keypoints, scores = " in snippet.text:
        assert names["keypoints"].shape == (*names["scores"].shape, 2)
        assert names["scores"].shape == (2 if "boxes" in names else 1, 17)
    if "PoseSession" in snippet.text and "scores" in names:
        assert names["scores"].min() > 0.3
    if "torch.onnx.export" in snippet.text:
        assert (tmp_path / "posenet.onnx").stat().st_size > 0
    if snippet.output is not None:
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", snippet.output)
        figures = [[float(n) for n in NUMBER.findall(text)] for text in (printed, snippet.output)]
        np.testing.assert_allclose(*figures, atol=0.06)


def test_every_page_is_read() -> None:
    assert [block.page for block in SNIPPETS].count("README.md") == 2
    assert {"docs/quickstart.md", "docs/models.md"} <= {block.page for block in SNIPPETS}
    assert sum(block.output is not None for block in SNIPPETS) >= 1
    assert len(README.splitlines()) <= 150


def test_numpy_s_snippets_print_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("## Top-down networks", "## NumPy, or anything else"):
        exec(compile(block_after("docs/quickstart.md", text), text, "exec"), {})
        assert len(capsys.readouterr().out.splitlines()) == 17


def test_the_demo_output_is_the_demo_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, bytes and, to a tenth of a pixel or so, places; the last digits are this machine's."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from posepost.cli import main

    assert main(["demo", "-o", str(tmp_path)]) == 0

    def read(text: str) -> tuple[list[str], list[float]]:
        rows = [line for line in text.splitlines() if NUMBER.search(line) or "bytes" in line]
        return [line.split()[0] for line in rows], [float(n) for line in rows for n in NUMBER.findall(line)]

    shown = read(block_after("docs/quickstart.md", "`make demo` prints"))
    printed = read(capsys.readouterr().out)
    assert shown[0] == printed[0]
    np.testing.assert_allclose(shown[1], printed[1], atol=0.15)


# ---- tables made from committed results


def test_the_table_of_the_cpu_is_made_from_the_committed_result() -> None:
    from bench.report import readme_table

    (result,), table = generated("docs/benchmarks.md", "made from")
    assert table == readme_table(result).strip()


def test_the_table_of_the_gpu_is_made_from_the_committed_result() -> None:
    from bench.report import gpu_table

    (result,), table = generated("docs/benchmarks.md", "on a GPU, made from")
    assert table == gpu_table(result).strip()
    host = result["host_us"]
    for name in ("blocking", "blocking pinned", "download maps"):
        assert f"{host[name]:.0f} µs" in BENCHMARKS
    assert f"{result['tests']['passed']} comparisons passed" in PAGES["docs/validation.md"].replace("\n", " ")
    assert result["tests"]["failed"] == 0


def test_the_table_of_many_people_is_made_from_the_committed_result() -> None:
    from bench.report import several_people_table

    (result,), table = generated("docs/benchmarks.md", "multi-person, made from")
    assert table == several_people_table(result).strip()


def test_the_table_of_heads_is_made_from_the_committed_results() -> None:
    from bench.report import heads_table

    results, table = generated("docs/validation.md", "heads, made from")
    assert table == heads_table(*results).strip()


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_readme_s_figures_stand_in_the_tables_of_docs() -> None:
    """A row of README names its row there by what it has in backticks."""
    known = rows(BENCHMARKS) + rows(PAGES["docs/validation.md"])
    start = README.index("## Measured")
    (_, *measured) = rows(README[start : README.index("\n## ", start + 1)])
    assert 1 <= len(measured) <= 6
    for row in measured:
        name = re.search(r"`([^`]+)`", row[0])
        assert name, row
        figures = re.findall(r"[\d.]+ [µm]s", " ".join(row[1:]))
        assert len(figures) >= 2
        if name[1].startswith("out="):
            assert all(figure in BENCHMARKS for figure in figures)
            continue
        people = re.search(r"(\d+) people", row[0])
        there = [cells for cells in known if cells[0] == name[1] and (not people or cells[1] == people[1])]
        assert any(set(figures) <= set(cells) for cells in there), (row, there)


def test_readme_s_costs_of_a_wrong_preset_are_what_the_snippet_prints() -> None:
    printed = next(block.output for block in SNIPPETS if block.output is not None and "photograph" in block.output)
    median, largest, median_there, largest_there = (float(n) for n in NUMBER.findall(printed))
    said = README[README.index("The wrong preset costs") :].replace("\n", " ")
    assert f"{median} px apart (median; {largest} px at most)" in said
    assert f"{median_there:.0f} px apart ({largest_there:.0f} px)" in said


def test_every_kernel_is_in_the_table_of_what_was_counted() -> None:
    counted = block_after("docs/kernels.md", "by `python -m bench.counted`")
    found = (re.match(r"\w+<[^>]*>", line) for line in counted.splitlines())
    assert [row[0] for row in found if row] == [str(variant) for variant in _kernels.VARIANTS]


# ---- what is said of the code


def test_faults_are_as_many_as_validation_says() -> None:
    table = [row for row in rows(PAGES["docs/validation.md"]) if len(row) == 3 and "test_faults" in row[1]]
    files = {row[1].strip("`"): int(row[2]) for row in table}
    assert set(files) == {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_faults*.py")}
    for file, count in files.items():
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        lists = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["FAULTS"]
        ]
        assert len(lists) == 1
        assert isinstance(lists[0], ast.List)
        assert len(lists[0].elts) == count, file


def test_tolerances_are_those_that_numerics_names() -> None:
    table = PAGES["docs/numerics.md"]
    names = [name for name in vars(tolerance) if name.endswith("TOL") and name != "RESULT_RTOL"]
    assert len(names) == 7
    for value in (getattr(tolerance, name) for name in names):
        short = re.sub(r"e-0*", "e-", f"{value:g}")
        assert re.search(rf"\| {re.escape(short)}\b", table), short
    assert f"plus {tolerance.RESULT_RTOL:.1e}".replace("e-07", "e-7") in table


def test_every_preset_is_in_readme_s_table() -> None:
    table = rows(PAGES["docs/presets.md"])
    presets = [row[0].strip("`") for row in table if row[0].startswith("`")]
    assert len(presets) > 15
    networks = README[README.index("## Your network") : README.index("**The wrong preset costs")]
    for preset in presets:
        assert f"`{preset}`" in networks, preset


def test_architecture_names_every_module_and_folder() -> None:
    text = PAGES["docs/architecture.md"]
    package = [path for path in (ROOT / "posepost").iterdir() if not path.name.startswith("__")]
    names = {path.stem for path in package if path.suffix == ".py" or (path.is_dir() and any(path.glob("*")))}
    names |= {path.stem for path in (ROOT / "kernels").glob("*.cu*")}
    assert len(names) >= 20
    for name in sorted(names):
        assert re.search(rf"(?<!\w){name}(?!\w)", text), name


# ---- commands, files and links


def commands() -> list[tuple[str, list[str]]]:
    """Of fenced blocks: every line that calls posepost or Python; of prose: what stands in backticks and does."""
    found = []
    for page, text in PAGES.items():
        lines = [line for block in blocks(page) if block.language == "" for line in block.text.splitlines()]
        lines += [code.replace("\n", " ") for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
        for line in lines:
            words = line.split("#")[0].strip()
            if re.match(r"(?:[A-Z_]+=\S+ )*(?:posepost [a-z]|python -m )", words):
                found.append((page, [word for word in shlex.split(words) if not re.match(r"[A-Z_]+=", word)]))
    return found


@pytest.mark.parametrize("command", sorted({(" ".join(words)) for _, words in commands()}))
def test_command_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = command.split()
    if words[0] == "python":
        assert words[1] == "-m"
        assert importlib.util.find_spec(words[2]) is not None or words[2] in ("tf2onnx.convert", "build")
        for path in (word for word in words[3:] if word.endswith(".py")):
            assert (ROOT / path).exists(), path
        return
    from posepost.cli import main

    assert main([words[1], "--help"]) == 0
    printed = capsys.readouterr().out
    for option in (word.split("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", printed), option


def test_the_commands_are_found() -> None:
    found = {words[1] if words[0] == "posepost" else words[2] for _, words in commands()}
    assert {"run", "inspect", "doctor", "warmup", "bench", "pytest", "bench.key_cases", "bench.gpu_check"} <= found


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`((?:posepost|kernels|bench|tests|examples|docs|\.github|\.ci)/[\w./-]+)`", PAGES[page])
    for path in named:
        assert (ROOT / path).exists(), path


def anchors(page: str) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.S | re.M)
    titles = re.findall(r"^#+ (.*)$", prose, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", PAGES[page])
    for target, _, anchor in (link.partition("#") for link in links if "://" not in link):
        there = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(str(there.relative_to(ROOT))), (target, anchor)


def test_readme_links_to_every_page() -> None:
    for page in PAGES:
        assert page == "README.md" or f"]({page}" in README, page


def test_only_long_tables_of_readme_are_of_networks() -> None:
    tables = re.findall(r"(?:^\|.*\n)+", README, re.M)
    assert len(tables) == 2
    for table in tables:
        assert table.startswith("| your network") or table.count("\n") <= 2 + 6
