"""Packages that are not there: imports need NumPy alone, and a session says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')


from posepost import ort

from ..onnx_models import build, exactly


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_packages(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=exactly(f'running ONNX models needs {package}: pip install "posepost[ort]"')):
        ort.PoseSession(data)


def test_importing_needs_numpy_alone() -> None:
    code = (
        "import sys, posepost.ort, posepost.draw, posepost.cli; "
        "print(sorted({'onnx', 'onnxruntime', 'PIL', 'cupy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
