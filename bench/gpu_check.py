"""Everything that only a GPU can tell, in one go: `python -m bench.gpu_check [-o DIR]` on a bare machine with a GPU.

Runs the tests with POSEPOST_REQUIRE_GPU=1, compute-sanitizer (where it is installed) on a small subset, the time of the
first call, and the benchmark; prints a short table last and writes gpu_check.json besides the benchmark's own files.
Exit status 0 only if everything that could run has passed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUBSET = (
    "test_sigmoid_transform_and_offsets_of_another_type or test_workspace_is_left_zero or test_out_on_the_gpu or "
    "test_heatmap_flip_test_and_clips or test_refined_peaks"
)
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")

FIRST_CALL = """
import time, cupy, posepost
heatmaps, offsets = cupy.zeros((1, 17, 33, 33), cupy.float32), cupy.zeros((1, 34, 33, 33), cupy.float32)
start = time.perf_counter()
posepost.decode_posenet(heatmaps, offsets, output_stride=16).numpy()
print(time.perf_counter() - start)
"""


def step(name: str, command: list[str], timeout: float, **environment: str) -> dict[str, Any]:
    """Run a command in the checkout; its output goes through, its end is kept."""
    print(f"\n== {name}: {' '.join(command)}", flush=True)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        status, output = 124, f"{error.stdout or ''}\nran past {timeout:.0f} s"
    print(output, flush=True)
    return {"step": name, "status": status, "seconds": time.perf_counter() - start, "end": output[-2000:]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="output", metavar="DIR", type=Path, default=Path("bench-results"))
    parser.add_argument("--quick", action="store_true", help="two benchmark cases instead of all")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    steps = [step("tests on the GPU", [*pytest, "tests/test_gpu.py", "-rs"], 300, POSEPOST_REQUIRE_GPU="1")]
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    for tool in TOOLS if sanitizer else ():
        command = [str(sanitizer), f"--tool={tool}", "--error-exitcode=9", *pytest, "tests/test_gpu.py", "-k", SUBSET]
        steps.append(step(f"compute-sanitizer {tool}", command, 300, POSEPOST_REQUIRE_GPU="1"))
    with tempfile.TemporaryDirectory() as empty:
        for name in ("first call, empty disk cache", "first call, filled disk cache"):
            steps.append(step(name, [sys.executable, "-c", FIRST_CALL], 120, CUPY_CACHE_DIR=empty))
    quick = {"POSEPOST_BENCH_QUICK": "1"} if arguments.quick else {}
    bench = [sys.executable, "-m", "bench.run", "-o", str(arguments.output)]
    steps.append(step("benchmark", bench, 600, **quick))
    for name in ("heatmap", "simcc", "peaks", "posenet_multi"):
        command = [
            *pytest,
            f"bench/bench_{name}.py",
            "--benchmark-enable",
            "--benchmark-quiet",
            "-o",
            "addopts=",
            "-rs",
        ]
        command.append(f"--benchmark-json={arguments.output / name}.json")
        steps.append(step(f"benchmark of {name}", command, 600, **quick))

    from .bench_posenet import describe_machine

    (arguments.output / "gpu_check.json").write_text(
        json.dumps({"machine": describe_machine(), "steps": steps}, indent=1) + "\n", encoding="utf-8"
    )
    print(f"\n{'step':36}{'status':>8}{'seconds':>9}  last line")
    for done in steps:
        last = next((line for line in reversed(done["end"].splitlines()) if line.strip()), "")
        print(f"{done['step']:36}{done['status']:8}{done['seconds']:9.1f}  {last[:60]}")
    if not sanitizer:
        print("compute-sanitizer is not installed: not run")
    return 0 if all(done["status"] == 0 for done in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
