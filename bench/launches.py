"""The ways to enqueue one decode whose arguments are packed already: what a call costs with none of posepost's Python.

Each takes the launch that `decode_posenet` itself makes (kernel, grid, parameters, stream) and repeats it: a RawKernel
call, `cuLaunchKernel` of cuda.bindings on CuPy's function handle, and a graph of the one launch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from posepost import _cuda

from .optional import Unsupported, absent


class Stream(NamedTuple):
    """A raw stream for CuPy's launcher, which reads the attribute `ptr`."""

    ptr: int


RAW_KERNEL = "floor: launch by RawKernel"


class Launch(NamedTuple):
    """The arguments of `_cuda.Cuda.launch`."""

    kernel: Any
    grid: _cuda.Size
    block: _cuda.Size
    params: np.ndarray
    device: int
    stream: int


def recorded(call: Callable[[], Any]) -> Launch:
    """The one launch that `call` makes, which it makes indeed."""
    (launch,) = all_recorded(call)
    return launch


def repeated(call: Callable[[], Any]) -> Callable[[int], None]:
    """What puts the launches of `call` on a stream again, in whatever memory they had: without the memory of its own
    that a call gets in a graph."""
    launches = [(_cuda.Kernel(one.kernel), one, _cuda.Parameters(one.params)) for one in all_recorded(call)]

    def again(stream: int) -> None:
        for kernel, one, params in launches:
            _cuda.cuda.launch(kernel, one.grid, one.block, params, one.device, stream)

    return again


def all_recorded(call: Callable[[], Any]) -> list[Launch]:
    """The launches that `call` makes, which it makes indeed."""
    cuda, launches = _cuda.cuda, []

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            return getattr(cuda, name)

        def launch(self, kernel: Any, grid: Any, block: Any, params: Any, device: int, stream: int) -> None:
            launches.append(Launch(kernel.raw, grid, block, params.struct.copy(), device, stream))
            cuda.launch(kernel, grid, block, params, device, stream)

    _cuda.cuda = Recorder()
    try:
        call()
    finally:
        _cuda.cuda = cuda
    return launches


def raw_kernel(launch: Launch) -> Callable[[int], Any]:
    stream, arguments = Stream(launch.stream), (launch.params,)
    return lambda i: launch.kernel(launch.grid, launch.block, arguments, stream=stream)


def cuda_bindings(launch: Launch) -> Callable[[int], Any]:
    reason = absent("cuda.bindings", "pip install cuda-bindings")
    if reason:
        raise Unsupported(reason)
    driver = importlib.import_module("cuda.bindings.driver")
    function, stream = driver.CUfunction(launch.kernel.kernel.ptr), driver.CUstream(launch.stream)
    arguments = np.array([launch.params.ctypes.data], np.uint64)  # void**, one pointer
    fixed = (function, *launch.grid, *launch.block, 0, stream, arguments.ctypes.data, 0)

    def call(i: int, keep: Any = (launch.params, arguments)) -> None:
        (status,) = driver.cuLaunchKernel(*fixed)
        if status != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"cuLaunchKernel: {status}")

    return call


def graph(launch: Launch) -> Callable[[int], Any]:
    """Its pointers are frozen: for buffers that stay where they are."""
    cupy = importlib.import_module("cupy")
    capturing = cupy.cuda.Stream(non_blocking=True)
    with capturing:
        capturing.begin_capture()
        launch.kernel(launch.grid, launch.block, (launch.params,), stream=capturing)
        made = capturing.end_capture()
    stream = Stream(launch.stream)
    return lambda i: made.launch(stream)


WAYS = {RAW_KERNEL: raw_kernel, "floor: launch by cuda.bindings": cuda_bindings, "floor: launch of a graph": graph}
