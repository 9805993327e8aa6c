"""The CPU executor in the place of `posepost._cuda.cuda`: the Python that launches on a GPU launches here instead.

"Device" arrays are real CuPy arrays whose memory is host memory and which claim to be on CUDA device 0. Every method of
`posepost._cuda.Cuda` stands here too (a test compares them).
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, NamedTuple

import numpy as np

from posepost import _cuda, _kernels, heatmap, peaks, posenet, posenet_multi, simcc

from . import executor

STREAM = 0x5EED


def forget_plans() -> None:
    """A plan holds kernels and knows how large a device is."""
    _cuda.kernel.cache_clear()
    for decoder in (heatmap, peaks, posenet, posenet_multi, simcc):
        decoder._plan.cache_clear()


def _host_memory(nbytes: int) -> Any:
    from cupy.cuda import memory

    block = ctypes.create_string_buffer(b"\xa5" * (nbytes + 512))  # poisoned: nothing may rely on zeroed memory
    address = -(-ctypes.addressof(block) // 512) * 512
    return memory.MemoryPointer(memory.UnownedMemory(address, nbytes, block, 0), 0)


def to_device(values: np.ndarray, *, skip: int = 0) -> Any:
    """A "device" copy of a NumPy array with the same shape; it starts `skip` elements past a 512-byte boundary."""
    import cupy

    values = np.asarray(values)
    memory = _host_memory((values.size + skip) * values.itemsize)
    array = cupy.ndarray(values.shape, values.dtype, memory + skip * values.itemsize)
    host(array)[...] = values
    return array


def host(array: Any) -> np.ndarray:
    """The memory of a "device" array as a NumPy array."""
    span = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides)) + array.itemsize
    memory = (ctypes.c_char * (span if array.size else 0)).from_address(array.data.ptr)
    memory.owner = array
    return np.ndarray(array.shape, array.dtype, memory, strides=array.strides)


class Launched(NamedTuple):
    variant: _kernels.Variant
    grid: _cuda.Size
    block: _cuda.Size
    stream: int


class Stream(NamedTuple):
    ptr: int


class Event:
    """Of a stream; `done` is set by the test."""

    def __init__(self, stream: int) -> None:
        self.stream, self.done, self.synchronized = stream, False, 0

    def synchronize(self) -> None:
        self.synchronized += 1


class ExecutorCuda:
    """`_cuda.Cuda` on the CPU. `launches` and `waits` tell what was asked of it."""

    def __init__(self, sanitize: str = "") -> None:
        self.sanitize = sanitize
        self.launches: list[Launched] = []
        self.waits: list[tuple[int, int]] = []
        self.kernels: dict[_kernels.Variant, executor.Kernel] = {}
        self.schedule: dict[str, Any] = {}
        self.synchronized: list[int] = []
        self.allocations = 0
        self.processors = 132
        self.capturing: set[int] = set()
        self.in_graphs: dict[int, Any] = {}
        self.freed: list[int] = []
        self.events: list[Event] = []

    def stream(self, device: int) -> Any:
        return Stream(STREAM)

    def is_capturing(self, stream: int) -> bool:
        return stream in self.capturing

    def allocate_in_graph(self, nbytes: int, zeroed: int, device: int, stream: int) -> int:
        memory = to_device(np.full(nbytes, 0xA5, np.uint8))
        host(memory)[:zeroed] = 0
        self.in_graphs[memory.data.ptr] = memory
        return int(memory.data.ptr)

    def free_in_graph(self, address: int, device: int, stream: int) -> None:
        self.freed.append(address)
        del self.in_graphs[address]

    def record(self, device: int, stream: int) -> Any:
        event = Event(stream)
        self.events.append(event)
        return event

    def on(self, device: int, stream: int) -> Any:
        return contextlib.nullcontext()

    def empty(self, floats: int, device: int, stream: int) -> Any:
        self.allocations += 1
        return to_device(np.full(floats, np.nan, np.float32))

    def zeros(self, words: int, device: int, stream: int) -> Any:
        self.allocations += 1
        return to_device(np.zeros(words, np.uint64))

    def pinned(self, floats: int, device: int) -> Any:
        return np.full(max(floats, 1), np.nan, np.float32)

    def synchronize(self, device: int, stream: int) -> None:
        self.synchronized.append(stream)

    def upload(self, values: np.ndarray, device: int, stream: int) -> Any:
        self.allocations += 1
        return to_device(values)

    def download(self, array: Any, device: int, stream: int) -> np.ndarray:
        return host(array).copy()

    def multiprocessors(self, device: int) -> int:
        return self.processors

    def device_of(self, pointer: int) -> int:
        return 0

    def wait(self, device: int, stream: int, producer: int) -> None:
        self.waits.append((stream, producer))

    def compile(self, variant: _kernels.Variant) -> executor.Kernel:
        kernel = executor.build(_kernels.source(variant.source), variant.entry, variant.options, sanitize=self.sanitize)
        self.kernels[variant] = kernel
        return kernel

    def launch(
        self,
        kernel: executor.Kernel,
        grid: _cuda.Size,
        block: _cuda.Size,
        params: _cuda.Parameters,
        device: int,
        stream: int,
    ) -> None:
        variant = next(v for v, k in self.kernels.items() if k is kernel)
        self.launches.append(Launched(variant, grid, block, stream))
        kernel.schedule(**self.schedule)
        kernel.launch(grid, block, params.struct.tobytes())
