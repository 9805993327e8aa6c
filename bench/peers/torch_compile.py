"""The function of torch_eager through torch.compile, for the case's own shapes alone (dynamic=False, fullgraph=True).

On a GPU both the default mode and "reduce-overhead" are compiled and the faster is kept: a CUDA graph saves launches,
but copies the maps into its own memory first. On the CPU it is compiled for one thread and for torch's default number,
likewise. `torch.compiler.reset` keeps one case from counting as a recompilation of another, of which torch allows
eight; calls that were prepared before it compile again.
"""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Case
from ..optional import absent
from . import torch_eager

NAME = "torch.compile"
DEVICES = ("cuda", "cpu")
COMPLETE = True


def missing(device: str) -> str | None:
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "torch.compile needs a C++ compiler: apt install g++"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "torch.compile needs Python.h: apt install python3-dev"
    reason = torch_eager.missing(device)
    return reason or (absent("triton", "pip install triton") if device == "cuda" else None)


def prepare(case: Case, sets: list[tuple[Any, Any]], device: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    import torch

    torch.compiler.reset()
    decode = torch_eager.decoder(case, device)
    calls: list[Callable] = []
    for mode in ("default", "reduce-overhead") if device == "cuda" else ("default",):
        compiled = torch.compile(decode, mode=mode, dynamic=False, fullgraph=True)
        calls += torch_eager.callers(compiled, case, sets, device)
    return torch_eager.fastest(calls, len(sets))
