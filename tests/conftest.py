"""Fixtures: the CPU executor as a CUDA device, a real GPU, the shared golden data."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cuda_cpu import executor
from bench.cuda_cpu.seam import ExecutorCuda, forget_plans
from posepost import _cuda

pytest.register_assert_rewrite("tests.helpers")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def cpu_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExecutorCuda]:
    """`_cuda.cuda` replaced by the CPU executor; plans and workspaces of other devices are out of sight."""
    able, reason = executor.available()
    if not able:
        pytest.skip(reason)
    pytest.importorskip("cupy", reason="CuPy makes the device arrays: pip install posepost[cuda13]")
    cuda = ExecutorCuda()
    monkeypatch.setattr(_cuda, "cuda", cuda)
    monkeypatch.setattr(_cuda, "_workspaces", {})
    monkeypatch.setattr(_cuda, "_scratch", {})
    monkeypatch.setattr(_cuda, "_streams", {})
    monkeypatch.setattr(_cuda, "_held", {})
    forget_plans()
    yield cuda
    forget_plans()


@pytest.fixture
def fresh_plans() -> None:
    """No plan and no scratch memory of an earlier test."""
    forget_plans()
    _cuda._scratch.clear()


@pytest.fixture
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="session")
def gpu() -> object:
    """CuPy on a CUDA device. Without one the test is skipped, or fails where POSEPOST_REQUIRE_GPU=1."""
    try:
        import cupy

        reason = "" if cupy.cuda.is_available() else "no CUDA device answers"
    except ImportError as error:
        reason = f"CuPy cannot be imported: {error}"
    if not reason:
        if os.environ.get("POSEPOST_NO_POOL") == "1":  # a sanitizer sees no overrun inside a pool's block
            cupy.cuda.set_allocator(None)
            cupy.cuda.set_pinned_memory_allocator(None)
        return cupy
    if os.environ.get("POSEPOST_REQUIRE_GPU") == "1":
        pytest.fail(f"POSEPOST_REQUIRE_GPU=1, but {reason}")
    return pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden data; absent outside the project's own machines."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED
