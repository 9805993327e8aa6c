"""Everything that only a GPU can tell: `python -m bench.gpu_check [-o DIR] [--part a|b] [--seconds N]`.

Part a (400 s at most): the first call with an empty and a filled disk cache, the tests on the GPU, device, enqueue and
blocking times of the key cases of every head. Part b (300 s at most): PyTorch, JAX and a download to NumPy beside
posepost on six cases, compute-sanitizer's four tools on a few tests, without CuPy's memory pool, and Nsight Compute on
six kernels. Steps come in the order of their worth.

Each step is a process group of its own, ended at its limit. Its result is a line of DIR/results.jsonl as soon as it is
over, its output goes to DIR/log and to the terminal as it comes, and a table stands behind each step: a run may be cut
at any time. The next run with the same DIR leaves out the steps that have passed. --seconds bounds the whole: a step
that no longer fits is left out and says so.

--fake runs the same steps on the CPU executor, small, to try this program itself; nothing is timed.

Exit status 0 if each step has passed, now or before; 1 if one failed, was ended at its limit or did not fit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LEAST_SECONDS = 10  # a step is not begun with less left
KILLED = 124

SUBSET = (
    "test_workspace_is_left_zero or test_out_on_the_gpu or test_heatmap_flip_test_and_clips or test_refined_peaks or "
    "test_denormals or test_simcc_in_a_graph or test_several_people_in_a_graph"
)
PROFILED = (
    "posenet NCHW float32 512",
    "heatmap dark 512",
    "heatmap megvii 64",
    "heatmap soft 512",
    "simcc plain 64",
    "peaks plain 8",
)
METRICS = (
    "gpu__time_duration.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "launch__registers_per_thread",
)
FIRST_CALL = """
import time, cupy, posepost
heatmaps, offsets = cupy.zeros((1, 17, 33, 33), cupy.float32), cupy.zeros((1, 34, 33, 33), cupy.float32)
start = time.perf_counter()
posepost.decode_posenet(heatmaps, offsets, output_stride=16, activation="sigmoid").numpy()
print(f"{time.perf_counter() - start:.3f} s")
"""


class Step(NamedTuple):
    name: str
    command: tuple[str, ...]
    limit: float  # seconds
    environment: dict[str, str] = {}  # noqa: RUF012  (never changed)


def steps(part: str, directory: Path, cache: Path, fake: bool) -> list[Step]:
    """What a part runs."""
    python, pytest = sys.executable, (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    on_gpu = {"POSEPOST_REQUIRE_GPU": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    key_cases = (python, "-m", "bench.key_cases", *(("--fake",) if fake else ()))
    tests = ("tests/core/test_calls.py",) if fake else ("tests/test_gpu.py", "-rs")
    if part == "a":
        first = (python, "-c", "print('left out: a GPU\\'s')" if fake else FIRST_CALL)
        return [
            Step("first call, empty disk cache", first, 60, {"CUPY_CACHE_DIR": str(cache)}),
            Step("first call, filled disk cache", first, 60, {"CUPY_CACHE_DIR": str(cache)}),
            Step("tests on the GPU", (*pytest, *tests, "-n", "6"), 150, {} if fake else on_gpu),
            Step("key cases", (*key_cases, "-o", str(directory / "key_cases.jsonl")), 130),
        ]
    sanitizer, profiler = tool("compute-sanitizer"), tool("ncu")

    def checked(name: str, limit: float) -> Step:
        command = (*pytest, *tests, "-k", "captured" if fake else SUBSET)
        if not fake:
            command = (sanitizer, f"--tool={name}", "--error-exitcode=9", *command)
        missing = (python, "-c", "raise SystemExit('compute-sanitizer is not installed')")
        environment = {} if fake else {**on_gpu, "POSEPOST_NO_POOL": "1"}
        run = command if fake or sanitizer else missing
        return Step(f"compute-sanitizer {name}", run, limit, environment)

    def profiled(text: str) -> Step:
        command = (*key_cases, "--once", "-k", text)
        if not fake:
            chosen = ("--kernel-name", "regex:decode_|find_peaks", "--launch-skip", "2", "--launch-count", "1")
            asked = ("--clock-control", "none", "--csv", *chosen, "--metrics", ",".join(METRICS))
            command = (profiler, *asked, *command)
        missing = (python, "-c", "raise SystemExit('ncu is not installed')")
        return Step(f"ncu {text}", command if fake or profiler else missing, 25)

    peers = (python, "-m", "bench.gpu_peers", *(("--fake",) if fake else ()), "-o", str(directory / "peers.jsonl"))
    first = [Step("peers", peers, 60, on_gpu), checked("memcheck", 120), checked("racecheck", 120)]
    return [*first, *map(profiled, PROFILED), checked("initcheck", 60), checked("synccheck", 60)]


def tool(name: str) -> str:
    return shutil.which(name) or shutil.which(f"/usr/local/cuda/bin/{name}") or ""


def run(step: Step, limit: float, log: Path) -> dict[str, Any]:
    """One step in a process group of its own; its output goes to the log and the terminal as it comes."""
    start = time.monotonic()
    with log.open("a+b") as file:
        file.write(f"\n== {step.name}: {' '.join(step.command)}\n".encode())
        file.flush()
        began = file.tell()
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **step.environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        shown = began
        while True:
            over = process.poll() is not None or time.monotonic() - start > limit
            if over and process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            file.flush()
            with log.open("rb") as written:
                written.seek(shown)
                text = written.read()
            shown += len(text)
            sys.stdout.write(text.decode(errors="replace"))
            sys.stdout.flush()
            if over:
                break
            time.sleep(0.1)
        ended = time.monotonic() - start > limit and process.returncode == -signal.SIGKILL
        with log.open("rb") as written:
            written.seek(began)
            output = written.read().decode(errors="replace")
    if ended:
        output += f"\nended at its limit of {limit:.0f} s\n"
    status = KILLED if ended else process.returncode
    return {"step": step.name, "status": status, "seconds": round(time.monotonic() - start, 1), "end": output[-2000:]}


def keep(row: dict[str, Any], results: Path | None) -> None:
    """Append the row to a file, where there is one, so that it stays whatever comes next."""
    if results is None:
        return
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def kept(results: Path) -> dict[str, dict[str, Any]]:
    """The last result of each step; a line that was cut off is none."""
    rows: dict[str, dict[str, Any]] = {}
    for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["step"]] = row
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'step':40}{'status':>8}{'seconds':>9}  last line"]
    for row in rows:
        last = next((line for line in reversed(row["end"].splitlines()) if line.strip()), "")
        lines.append(f"{row['step']:40}{row['status']!s:>8}{row['seconds']:9.1f}  {last.strip()[:90]}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", dest="output", metavar="DIR", type=Path, default=Path("bench-results/gpu_check"))
    parser.add_argument("--part", choices=("a", "b"), help="one of the two; without it both")
    parser.add_argument("--seconds", type=float, metavar="N", help="for the whole; default 400 for a and 300 for b")
    parser.add_argument("--fake", action="store_true", help="on the CPU executor, to try this program")
    arguments = parser.parse_args(argv)
    if arguments.seconds is not None and not arguments.seconds > 0:
        parser.error(f"argument --seconds: must be above 0, got {arguments.seconds:g}")
    parts = (arguments.part,) if arguments.part else ("a", "b")
    seconds = arguments.seconds or sum({"a": 400, "b": 300}[part] for part in parts)
    until = time.monotonic() + seconds
    arguments.output.mkdir(parents=True, exist_ok=True)
    results, log = arguments.output / "results.jsonl", arguments.output / "log"
    before, rows = kept(results), []
    with tempfile.TemporaryDirectory() as cache:
        for step in [
            step for part in parts for step in steps(part, arguments.output.resolve(), Path(cache), arguments.fake)
        ]:
            left = until - time.monotonic()
            if before.get(step.name, {}).get("status") == 0:
                row = before[step.name]
                print(f"== {step.name}: passed before")
            elif left < LEAST_SECONDS:
                row = {
                    "step": step.name,
                    "status": "left out",
                    "seconds": 0.0,
                    "end": f"{max(left, 0):.0f} s were left",
                }
            else:
                row = run(step, min(step.limit, left), log)
                keep(row, results)
            rows.append(row)
            print(table(rows), flush=True)
    return 0 if all(row["status"] == 0 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
