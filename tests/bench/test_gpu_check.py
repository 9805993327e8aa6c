"""bench/gpu_check.py without a GPU: its steps on the CPU executor, and steps that hang, crash, do not fit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import gpu_check, gpu_peers, key_cases
from bench.cuda_cpu import executor
from bench.gpu_check import KILLED, Step

ROOT = Path(__file__).resolve().parents[2]
HANGS = "import subprocess, sys, time; print('begun', flush=True); subprocess.run([sys.executable, '-c', {!r}])"


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def rows_of(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]


@pytest.mark.skipif(not executor.available()[0], reason=executor.available()[1])
@pytest.mark.slow
def test_every_step_runs_on_the_cpu_executor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cupy", reason="CuPy makes the device arrays: pip install posepost[cuda13]")
    assert gpu_check.main(["--fake", "-o", str(tmp_path)]) == 0
    rows = rows_of(tmp_path)
    assert [row["status"] for row in rows] == [0] * 15
    assert [row["step"] for row in rows[:4]] == [
        "first call, empty disk cache",
        "first call, filled disk cache",
        "tests on the GPU",
        "key cases",
    ]
    cases = [json.loads(line) for line in (tmp_path / "key_cases.jsonl").read_text().splitlines()]
    assert "machine" in cases[0]
    heads = {row["case"].split()[0] for row in cases[1:]}
    assert heads == {"posenet", "heatmap", "simcc", "peaks", "posenet_multi"}
    assert not any("error" in row for row in cases)
    peers = [json.loads(line) for line in (tmp_path / "peers.jsonl").read_text().splitlines()]
    assert [row["ran"][:2] for row in peers[1:]] == [["posepost", "download + NumPy"]] * 4
    assert re.search(r"[1-9]\d* passed", capsys.readouterr().out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "key_cases.jsonl",
        "log",
        "peers.jsonl",
        "results.jsonl",
    ]

    assert gpu_check.main(["--fake", "-o", str(tmp_path)]) == 0  # nothing is run again
    assert len(rows_of(tmp_path)) == len(rows)
    assert capsys.readouterr().out.count("passed before") == 15


def test_a_step_that_hangs_ends_with_its_children(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    start = time.monotonic()
    row = gpu_check.run(Step("hangs", python(HANGS.format(child)), 3), 3, tmp_path / "log")
    assert time.monotonic() - start < 20
    assert row["status"] == KILLED
    assert row["end"].startswith("begun")
    assert "ended at its limit of 3 s" in row["end"]
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or ") Z " in state.read_text():
            break
        time.sleep(0.1)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the step's child is still running")


def steps_of(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    monkeypatch.setattr(gpu_check, "steps", lambda part, directory, cache, fake: list(steps) if part == "a" else [])


def test_a_step_that_crashes_is_a_row_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = python("import os, signal; print('last words', flush=True); os.kill(os.getpid(), signal.SIGSEGV)")
    steps_of(monkeypatch, Step("crashes", crash, 30), Step("runs", python("print('well')"), 30))
    assert gpu_check.main(["-o", str(tmp_path)]) == 1
    first, second = rows_of(tmp_path)
    assert (first["status"], second["status"]) == (-signal.SIGSEGV, 0)
    assert "last words" in first["end"]
    shown = capsys.readouterr().out
    assert shown.count("last line") == 2  # a table behind each step
    assert "last words" in (tmp_path / "log").read_text()

    steps_of(monkeypatch, Step("crashes", python("print('mended')"), 30), Step("runs", python("exit(1)"), 30))
    assert gpu_check.main(["-o", str(tmp_path)]) == 0  # what has passed is not run again, what failed is
    assert [row["step"] for row in rows_of(tmp_path)] == ["crashes", "runs", "crashes"]


def test_what_no_longer_fits_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps_of(monkeypatch, Step("slow", python("import time; time.sleep(60)"), 30), Step("late", python(""), 30))
    monkeypatch.setattr(gpu_check, "LEAST_SECONDS", 1)
    assert gpu_check.main(["-o", str(tmp_path), "--seconds", "2"]) == 1
    assert [(row["step"], row["status"]) for row in rows_of(tmp_path)] == [("slow", KILLED)]
    assert "left out" in capsys.readouterr().out.splitlines()[-1]


def test_a_run_that_is_cut_keeps_what_is_over(tmp_path: Path) -> None:
    code = (
        "from bench import gpu_check; from bench.gpu_check import Step; import sys;"
        "run = lambda code: (sys.executable, '-c', code);"
        "two = Step('two', run('import time; time.sleep(99)'), 99);"
        "gpu_check.steps = lambda part, *rest: [Step('one', run('print(1)'), 9), two];"
        f"gpu_check.main(['--part', 'a', '-o', {str(tmp_path)!r}])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(200):
            if (tmp_path / "log").exists() and "== two" in (tmp_path / "log").read_text():
                break
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
        subprocess.run(["pkill", "-f", "import time; time.sleep(99)"], check=False)
    (row,) = rows_of(tmp_path)
    assert (row["step"], row["status"]) == ("one", 0)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"step": "two", "sta')  # a line that was cut off
    assert set(gpu_check.kept(tmp_path / "results.jsonl")) == {"one"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "argument --seconds: must be above 0, got 0"),
        (["--seconds", "nan"], "argument --seconds: must be above 0, got nan"),
        (["--part", "c"], "argument --part: invalid choice: 'c' (choose from"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        gpu_check.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_peer_with_another_answer_is_not_timed() -> None:
    points, scores = np.zeros((1, 2, 2), np.float32), np.ones((1, 2), np.float32)
    found = {"posepost": lambda: [points, scores], "other": lambda: [points + np.float32(0.01), scores]}
    with pytest.raises(AssertionError, match="Max absolute difference"):
        gpu_peers.measured("argmax", found, 0)
    found["other"] = lambda: [points, scores * np.float32(1.001)]
    with pytest.raises(AssertionError, match="Max relative difference"):
        gpu_peers.measured("argmax", found, 0)
    found["other"] = lambda: [points.copy(), scores.copy()]
    assert list(gpu_peers.measured("argmax", {**found, "not installed": None}, 0)) == ["posepost", "other"]


def test_ceilings_are_bytes_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that takes 1 ms for a copy and 0.25 ms for a read of half as many bytes as are copied."""
    copied, launched, took = [], [], [0.0]

    def memcpy(*arguments: int) -> None:
        copied.append(arguments)
        took[0] = 1.0

    def launch(grid: tuple[int, ...], block: tuple[int, ...], params: tuple[np.ndarray, ...]) -> None:
        launched.append((grid, block, int(params[0]["vectors"][0])))
        took[0] = 0.25

    class Array:
        def __init__(self, words: int, dtype: type) -> None:
            self.words, self.nbytes, self.data = words, 4 * words, SimpleNamespace(ptr=4096)

        def __getitem__(self, part: slice) -> Array:
            return Array(part.stop, np.uint32)

    stream = SimpleNamespace(ptr=7, synchronize=lambda: None)
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(memGetInfo=lambda: (1 << 40, 1 << 40), memcpyAsync=memcpy, memcpyDeviceToDevice=3),
        get_current_stream=lambda: stream,
        Device=lambda: SimpleNamespace(attributes={"MultiProcessorCount": 4}),
        Event=lambda: SimpleNamespace(record=lambda stream: None, synchronize=lambda: None),
        get_elapsed_time=lambda begin, end: took[0],
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, zeros=Array, empty=Array, uint32=np.uint32))
    monkeypatch.setattr(key_cases, "_spin", lambda: None)
    monkeypatch.setattr(key_cases, "floor_kernel", lambda entry: launch)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="1980, 3201\n"))
    found = key_cases.ceilings()
    assert found == {
        "copy": pytest.approx(8 * 2**30 / 1e6),
        "read": pytest.approx(8 * 2**30 / 1e6),
        "clocks": "1980, 3201",
    }
    assert set(copied) == {(4096, 4096, 4 << 30, 3, 7)}
    assert set(launched) == {((32,), (256,), (2 << 30) // 16)}
