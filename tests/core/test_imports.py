"""Which way imports go: downward in posepost, no decoder from a decoder, bench not from tests, no test from a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def modules(folder: str) -> dict[str, Path]:
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / folder).rglob("*.py")}


def imported(name: str, path: Path) -> Iterator[str]:
    """Full names of what a file imports, and of what the scripts in its strings import."""
    trees = [ast.parse(path.read_text(encoding="utf-8"))]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                module = ".".join([*above, *([node.module] if node.module else [])])
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import" in node.value:
                trees += script(node.value)


def script(text: str) -> list[ast.Module]:
    try:
        return [ast.parse(text)]
    except SyntaxError:  # words, or a piece of C++
        return []


def test_the_reader_sees_every_kind_of_import(tmp_path: Path) -> None:
    lines = ["import a.b", "def f():", "    from .c import d", "    from . import e", "    from ..g import h"]
    text = "\n".join([*lines, "SCRIPT = 'from k import l'"])
    (tmp_path / "m.py").write_text(text)
    found = {"a.b", "p.q.c", "p.q.c.d", "p.q", "p.q.e", "p.g", "p.g.h", "k", "k.l"}
    assert set(imported("p.q.m", tmp_path / "m.py")) == found


def test_bench_imports_nothing_from_tests() -> None:
    found = [(name, other) for name, path in modules("bench").items() for other in imported(name, path)]
    assert len(found) > 100
    assert not [pair for pair in found if pair[1].partition(".")[0] == "tests"]


DECODERS = ("posenet", "posenet_multi", "heatmap", "simcc", "peaks")
FLOORS = (  # each imports from those before it alone
    {"_kernels", "_skeleton", "_dlpack", "_dynamo"},
    {"_cuda"},
    {"_view"},
    {"_check"},
    {"_rules", "_boxes"},
    {"types", "_tiling", "ref"},
    {"_launch"},
    {*DECODERS, "crops", "schemes"},
    {""},  # posepost itself, as `import posepost` gives it
    {"_image"},
    {"draw"},
    {"ort"},
    {"cli"},
)


def part_of(name: str) -> str:
    """posepost.ref.heatmap -> ref."""
    return [*name.split("."), ""][1].removesuffix("__init__")


def test_imports_go_downward() -> None:
    floor = {part: number for number, parts in enumerate(FLOORS) for part in parts}
    every, seen = modules("posepost"), 0
    for name, path in every.items():
        mine = part_of(name)
        if mine == "__main__":
            continue
        for other in imported(name, path):
            if other.partition(".")[0] != "posepost":
                continue
            theirs = part_of(other)
            if theirs not in floor:  # a name of posepost itself
                theirs = ""
            if theirs == "" and other == "posepost" and mine != "":
                continue  # `from . import x` names x too
            seen += 1
            assert theirs == mine or floor[theirs] < floor[mine], f"{name} imports {other}"
    assert seen > 100


@pytest.mark.parametrize("folder", ["posepost", "posepost.ref", "posepost._rules"])
def test_no_decoder_imports_a_decoder(folder: str) -> None:
    every = modules("posepost")
    for decoder in DECODERS:
        name = f"{folder}.{decoder}"
        found = set(imported(name, every[name]))
        assert not {other for other in DECODERS if f"{folder}.{other}" in found} - {decoder}
        assert found


def is_test(name: str) -> bool:
    return name.startswith("tests.") and name.rpartition(".")[2].startswith("test_")


@pytest.mark.parametrize("name", [name for name in modules("tests") if is_test(name)])
def test_no_test_module_imports_another(name: str) -> None:
    every = modules("tests")
    assert not {other for other in imported(name, every[name]) if other in every and is_test(other)} - {name}
