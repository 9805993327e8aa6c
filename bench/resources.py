"""What NVRTC makes of each kernel, for every architecture, with CuPy's own options; no GPU and no driver needed.

`compile_for` is used by the tests; `python -m bench.counted` prints its figures.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

from posepost import _kernels


class Compiled(NamedTuple):
    registers: int
    spilled_bytes: int
    stack_bytes: int
    shared_bytes: int
    warnings: tuple[str, ...]
    cubin: bytes


def compile_for(variant: _kernels.Variant, architecture: int) -> Compiled:
    """Compile one instantiation for sm_<architecture> as RawModule would."""
    from cupy._core.core import assemble_cupy_compiler_options
    from cupy.cuda.compiler import _NVRTCProgram  # CuPy's public way asks the driver for a device first

    options = (
        *assemble_cupy_compiler_options(_kernels.OPTIONS + variant.options),
        "-ftz=true",  # RawModule adds it behind all others
        f"-arch=sm_{architecture}",
        "--device-as-default-execution-space",
        "--ptxas-options=-v",
        "--ptxas-options=--warn-on-spills",
    )
    log = io.StringIO()
    program = _NVRTCProgram(_kernels.source(variant.source), variant.source, method="cubin")
    cubin, _ = program.compile(options, log)
    text = log.getvalue()

    def number(pattern: str) -> int:
        return sum(int(found) for found in re.findall(pattern, text))

    return Compiled(
        registers=number(r"Used (\d+) registers"),
        spilled_bytes=number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
        stack_bytes=number(r"(\d+) bytes stack frame"),
        shared_bytes=number(r"(\d+) bytes smem"),
        warnings=tuple(line for line in text.splitlines() if "warning" in line.lower()),
        cubin=cubin,
    )
