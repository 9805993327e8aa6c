"""The scripts of examples/ run, each in a process of its own, and print what they should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("[!_]*.py"))
SECONDS = 120  # PyTorch's import on a busy machine
NEEDS = {
    "onnxruntime_session": ("onnx", "onnxruntime", "PIL"),
    "top_down": ("onnx", "onnxruntime", "PIL"),
    "torch_stream": ("torch",),
}


def run(name: str, folder: Path) -> list[str]:
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module, reason=f"{module} is not installed")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir()), "an example writes no files"
    return done.stdout.splitlines()


def figures(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+\.?\d*(?!\w)", line)]


def test_there_are_at_most_five_and_each_is_short_and_tested() -> None:
    assert 1 <= len(SCRIPTS) <= 5
    tests = Path(__file__).read_text(encoding="utf-8")
    for script in SCRIPTS:
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 40
        assert f'run("{script.stem}"' in tests


def test_torch_stream(tmp_path: Path) -> None:
    assert re.fullmatch(r"8 people on (cpu|cuda), of 17 keypoints", run("torch_stream", tmp_path)[-1])


def test_onnxruntime_session(tmp_path: Path) -> None:
    where, count, *people = run("onnxruntime_session", tmp_path)
    assert re.match(r"running on (cpu|cuda) \(", where)
    assert count == "5 people"
    assert len(people) == 5
    for line in people:
        score, x, y = figures(line.replace("nose", ""))
        assert 0.5 < score < 1
        assert 0 <= x < 192
        assert 0 <= y < 192


def test_top_down(tmp_path: Path) -> None:
    found = [figures(line) for line in run("top_down", tmp_path)]
    assert len(found) == 5
    assert sum(apart < 2 for _, _, apart in found) >= 4


def test_pinned_out(tmp_path: Path) -> None:
    lines = run("pinned_out", tmp_path)[-3:]
    assert [figures(line) for line in lines] == [[n, 320, 160 + 16 * n, 0.993] for n in range(3)]


def test_numpy_only(tmp_path: Path) -> None:
    lines = {line.split()[0]: figures(line.partition(" ")[2]) for line in run("numpy_only", tmp_path)}
    for preset in ("mmpose_dark", "mmpose_udp", "vitpose_hf"):
        x, y, *drawn = lines[preset]
        assert drawn == [30.25, 20.4]
        assert abs(x - 30.25) < 0.02
        assert abs(y - 20.4) < 0.02
    assert lines["mmpose_msra"][:2] == [30.25, 20.25]
    assert lines["simcc"][:2] == [120.5, 82]
    assert lines["posenet"] == [129, 193, 0.993]
    count, x, y = lines["find_peaks"]
    assert count == 1
    assert abs(x - 30.25) < 0.5
    assert abs(y - 20.4) < 0.5
