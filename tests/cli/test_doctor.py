"""`posepost doctor`: what it reports of a machine and what it advises."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')

import onnxruntime

from posepost import cli
from posepost.cli import doctor


def machine(**changes: Any) -> doctor.Machine:
    everything = doctor.Machine(
        driver="570.86",
        cuda=(12, 8),
        gpus=("NVIDIA L4",),
        packages={"numpy": "2.1", "cupy": "13.6", "onnxruntime": "1.23", "onnx": "1.19", "PIL": "11.0"},
        cupy_problem=None,
        nvrtc="12.8",
        nvrtc_problem=None,
        providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
    )
    return everything._replace(**changes)


def without(*names: str) -> dict[str, str | None]:
    return {name: None if name in names else version for name, version in machine().packages.items()}


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (machine(), ["Nothing is missing: models and decoding run on the GPU."]),
        (
            machine(cuda=None, driver=None, gpus=()),
            ["No NVIDIA GPU answers: decoding runs on the CPU (NumPy), with the same results."],
        ),
        (
            machine(cuda=None, driver=None, gpus=(), packages=without("onnx")),
            [
                "No NVIDIA GPU answers: decoding runs on the CPU (NumPy), with the same results.",
                'For running ONNX models and drawing: pip install "posepost[ort]"',
            ],
        ),
        (machine(packages=without("cupy")), ['For decoding on the GPU: pip install "posepost[cuda12]"']),
        (machine(cuda=(13, 0), nvrtc=None), ['For decoding on the GPU: pip install "posepost[cuda13]"']),
        (machine(cuda=(11, 4)), ["The NVIDIA driver is too old: install one that runs CUDA 12 or newer."]),
        (machine(cupy_problem="no device"), ["CuPy is installed and cannot use the GPU: no device"]),
        (
            machine(packages=without("PIL", "onnxruntime")),
            ['For running ONNX models and drawing: pip install "posepost[ort-gpu]"'],
        ),
        (
            machine(providers=("CPUExecutionProvider",)),
            [
                "This onnxruntime runs on the CPU only; for the GPU: "
                'pip uninstall onnxruntime, then pip install "posepost[ort-gpu]"'
            ],
        ),
    ],
)
def test_doctor_advises(found: doctor.Machine, lines: list[str]) -> None:
    assert doctor.advice(found) == lines


def test_doctor_reports() -> None:
    assert doctor.report(machine()) == (
        "GPU          NVIDIA L4\n"
        "driver       570.86, runs CUDA up to 12.8\n"
        "CuPy         13.6\n"
        "NVRTC        12.8\n"
        "onnxruntime  1.23: CUDAExecutionProvider, CPUExecutionProvider\n"
        "onnx         1.19\n"
        "Pillow       11.0\n"
        "NumPy        2.1\n"
        "\n"
        "Nothing is missing: models and decoding run on the GPU."
    )
    bare = machine(cuda=None, driver=None, gpus=(), packages=without("cupy", "onnxruntime", "onnx", "PIL"), nvrtc=None)
    assert "CuPy         not installed\nNVRTC        not installed\nonnxruntime  not installed" in doctor.report(bare)


def test_doctor_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:

    assert cli.main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"onnxruntime  {onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}\n" in out
    assert f"NumPy        {np.__version__}\n" in out


def test_doctor_without_any_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cupy", "onnxruntime", "onnx", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.count("not installed") == 5
