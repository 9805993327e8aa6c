"""`posepost doctor`: what this machine has, and what to install for what is missing."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posepost.ort import cupy_problem

from ._output import message


def doctor(arguments: argparse.Namespace) -> int:
    """Print what this machine has and what to install for what is missing."""
    machine = look_around()
    print(report(machine))
    return 0


class Machine(NamedTuple):
    """What `look_around` found; None where there is none, a text in `*_problem` where it is there and does not work."""

    driver: str | None  # release of the NVIDIA driver
    cuda: tuple[int, int] | None  # newest CUDA version the driver runs
    gpus: tuple[str, ...]
    packages: Mapping[str, str | None]  # version by import name
    cupy_problem: str | None
    nvrtc: str | None
    nvrtc_problem: str | None
    providers: tuple[str, ...]


def look_around() -> Machine:
    """Ask the driver and the installed packages; nothing is changed and nothing is downloaded."""
    driver, cuda, gpus = _driver()
    packages = {"numpy": np.__version__, **{name: _version(name) for name in ("cupy", "onnxruntime", "onnx", "PIL")}}
    problem = nvrtc = nvrtc_problem = None
    if packages["cupy"] is not None:
        problem = cupy_problem()
        try:
            nvrtc = ".".join(str(part) for part in importlib.import_module("cupy").cuda.nvrtc.getVersion())
        except (ImportError, RuntimeError, OSError) as error:
            nvrtc_problem = message(error)
    providers: tuple[str, ...] = ()
    if packages["onnxruntime"] is not None:
        providers = tuple(importlib.import_module("onnxruntime").get_available_providers())
    return Machine(driver, cuda, gpus, packages, problem, nvrtc, nvrtc_problem, providers)


def report(machine: Machine) -> str:
    """What was found, a line each, then what to do about what is missing."""
    have = machine.packages
    cuda = "" if machine.cuda is None else f", runs CUDA up to {machine.cuda[0]}.{machine.cuda[1]}"
    nvrtc = machine.nvrtc or (f"does not load ({machine.nvrtc_problem})" if machine.nvrtc_problem else None)
    cupy = f"{have['cupy']} ({machine.cupy_problem})" if machine.cupy_problem else have["cupy"]
    lines = [
        ("GPU", ", ".join(machine.gpus) or "none"),
        ("driver", f"{machine.driver or 'NVIDIA'}{cuda}" if machine.cuda else "none"),
        ("CuPy", cupy),
        ("NVRTC", nvrtc),
        ("onnxruntime", f"{have['onnxruntime']}: {', '.join(machine.providers)}" if have["onnxruntime"] else None),
        ("onnx", have["onnx"]),
        ("Pillow", have["PIL"]),
        ("NumPy", have["numpy"]),
    ]
    text = [f"{what:<13}{value or 'not installed'}" for what, value in lines]
    return "\n".join([*text, "", *advice(machine)])


def advice(machine: Machine) -> list[str]:
    """What to install or change, most important first; never empty."""
    have = machine.packages
    gpu = bool(machine.gpus)
    lines = []
    if not gpu:
        lines.append("No NVIDIA GPU answers: decoding runs on the CPU (NumPy), with the same results.")
    elif machine.cuda is not None and machine.cuda < (12, 0):
        lines.append("The NVIDIA driver is too old: install one that runs CUDA 12 or newer.")
    elif have["cupy"] is None or machine.nvrtc is None:
        extra = "cuda13" if machine.cuda and machine.cuda >= (13, 0) else "cuda12"
        lines.append(f'For decoding on the GPU: pip install "posepost[{extra}]"')
    elif machine.cupy_problem:
        lines.append(f"CuPy is installed and cannot use the GPU: {machine.cupy_problem}")
    if have["onnxruntime"] is None or have["onnx"] is None or have["PIL"] is None:
        lines.append(f'For running ONNX models and drawing: pip install "posepost[{"ort-gpu" if gpu else "ort"}]"')
    elif gpu and "CUDAExecutionProvider" not in machine.providers:
        lines.append(
            "This onnxruntime runs on the CPU only; for the GPU: "
            'pip uninstall onnxruntime, then pip install "posepost[ort-gpu]"'
        )
    if not lines:
        lines.append("Nothing is missing: models and decoding run on the GPU.")
    return lines


def _version(package: str) -> str | None:
    try:
        module = importlib.import_module(package)
    except ImportError:
        return None
    return str(getattr(module, "__version__", "unknown version"))


def _driver() -> tuple[str | None, tuple[int, int] | None, tuple[str, ...]]:
    """(driver release, newest CUDA version, GPUs), asked of the CUDA driver library."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None, None, ()
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = divmod(version.value, 1000)[0], version.value % 1000 // 10
    gpus = []
    if library.cuInit(0) == 0 and library.cuDeviceGetCount(ctypes.byref(count)) == 0:
        for ordinal in range(count.value):
            name = ctypes.create_string_buffer(256)
            library.cuDeviceGet(ctypes.byref(device), ordinal)
            library.cuDeviceGetName(name, len(name), device)
            gpus.append(name.value.decode(errors="replace"))
    release = None
    with contextlib.suppress(OSError):
        found = re.search(r"Kernel Module.*?(\d+\.\d+[.\d]*)", Path("/proc/driver/nvidia/version").read_text())
        release = found and found.group(1)
    return release, cuda, tuple(gpus)
