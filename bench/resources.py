"""What NVRTC makes of each kernel, for every architecture, with CuPy's own options; no GPU and no driver needed.

`compile_for` is used by the tests; `python -m bench.counted` prints its figures.
"""

from __future__ import annotations

import functools
import io
import re
import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from posepost import _kernels


class Compiled(NamedTuple):
    registers: int
    spilled_bytes: int
    stack_bytes: int
    shared_bytes: int
    warnings: tuple[str, ...]
    seconds: float
    cubin: bytes


def compile_for(variant: _kernels.Variant, architecture: int) -> Compiled:
    """Compile one instantiation for sm_<architecture> as RawModule would."""
    cubin, log, seconds = _compile(variant.source, variant.options, architecture)
    # ptxas reports function by function; a source may hold several
    functions = re.split(r"Compiling entry function '", log)
    text = next(function for function in functions if function.startswith(f"{variant.entry}'"))

    def number(pattern: str) -> int:
        return sum(int(found) for found in re.findall(pattern, text))

    return Compiled(
        registers=number(r"Used (\d+) registers"),
        spilled_bytes=number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
        stack_bytes=number(r"(\d+) bytes stack frame"),
        shared_bytes=number(r"(\d+) bytes smem"),
        warnings=tuple(line for line in log.splitlines() if "warning" in line.lower()),
        seconds=seconds,
        cubin=cubin,
    )


@functools.lru_cache(maxsize=16)  # the kernels of one source follow each other
def _compile(source: str, defines: tuple[str, ...], architecture: int) -> tuple[bytes, str, float]:
    from cupy._core.core import assemble_cupy_compiler_options
    from cupy.cuda.compiler import _NVRTCProgram  # CuPy's public way asks the driver for a device first

    options = (
        *assemble_cupy_compiler_options(_kernels.OPTIONS + defines),
        "-ftz=true",  # RawModule adds it behind all others
        f"-arch=sm_{architecture}",
        "--device-as-default-execution-space",
        "--ptxas-options=-v",
        "--ptxas-options=--warn-on-spills",
    )
    log = io.StringIO()
    program = _NVRTCProgram(_kernels.source(source), source, method="cubin")
    start = time.perf_counter()
    cubin, _ = program.compile(options, log)
    seconds = time.perf_counter() - start
    return cubin + b"\0", log.getvalue(), seconds  # CuPy drops the last byte, which the disassembler misses


def disassembler() -> str | None:
    """nvdisasm of CUDA's toolkit, or of the package nvidia-cuda-nvdisasm."""
    wheels = Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/nvdisasm")
    return shutil.which("nvdisasm") or next(map(str, wheels), None)


def disassembled(cubin: bytes) -> str:
    """SASS of a kernel file."""
    tool = disassembler()
    if tool is None:
        raise FileNotFoundError("nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True).stdout


def inner_loop(cubin: bytes) -> str:
    """SASS of the loop around the first 16-byte load, or why there is none."""
    try:
        listing = disassembled(cubin)
    except FileNotFoundError as error:
        return str(error)
    lines = [re.sub(r"\s*/\*[0-9a-f]+\*/\s*", "    ", line).rstrip() for line in listing.splitlines()]
    load = next((n for n, line in enumerate(lines) if "LDG.E.128" in line), None)
    if load is None:
        return "no 16-byte load"
    labels = {line.rstrip(":"): n for n, line in enumerate(lines) if line.endswith(":")}
    for end in range(load, len(lines)):
        back = re.search(r"BRA `\((\S+)\)", lines[end])
        if back and labels.get(back[1], end) <= load:
            return "\n".join(line for line in lines[labels[back[1]] : end + 1] if line.strip())
    return "the load stands in no loop"
