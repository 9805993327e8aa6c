"""All that posepost asks of a CUDA device: compile, launch, allocate, copy, order streams; and the memory that it keeps
between calls. The only file that names RawModule.

`cuda` is the one seam: everything goes through this object, so that the tests can put a CPU executor of the same
kernels in its place and run the very Python that launches on a GPU.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from . import _kernels
from ._kernels import Variant

STAGED_BYTES = 1 << 16
"""Results up to this size are downloaded through page-locked memory."""

INSTALL_CUPY = 'pip install "posepost[cuda13]" or "posepost[cuda12]"'


class NoCuPy(ImportError):
    """Something on a device was asked for, and CuPy cannot be imported."""


Size = tuple[int, int, int]
"""Of a grid in blocks or a block in threads: x, y, z."""


class Parameters:
    """The bytes of one `struct Params` and what a launch needs of them: it copies them, so they can be used again."""

    __slots__ = ("address", "pointers", "struct", "words")

    def __init__(self, template: np.ndarray[Any, Any]) -> None:
        """`template`: a structured array of one element, which is copied."""
        self.struct = np.frombuffer(bytearray(template.tobytes()), template.dtype)
        self.words: Any = self.struct.view(np.uint64)
        self.pointers = np.array([self.struct.ctypes.data], np.uint64)
        self.address = int(self.pointers.ctypes.data)
        """Of the array of one pointer that cuLaunchKernel takes."""


class _Raw(NamedTuple):
    """A stream of which only the pointer is known, as CuPy takes it."""

    pointer: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


class Kernel:
    """A compiled kernel: its function on each device, loaded when it is first launched there."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.functions: dict[int, int] = {}

    def load(self, device: int, cupy: Any) -> int:
        with cupy.cuda.Device(device):
            return self.functions.setdefault(device, self.raw.kernel.ptr)


class Cuda:
    """What posepost asks of a CUDA device, through CuPy. Device ordinals and stream pointers are plain integers."""

    def __init__(self, cupy: Any = None) -> None:
        """`cupy`: what stands in the place of CuPy in a test."""
        try:
            self.cupy = cupy = cupy or importlib.import_module("cupy")
        except ImportError as error:
            raise NoCuPy(f"a CUDA device needs CuPy: {INSTALL_CUPY}") from error
        self._current_device, self._current_stream = cupy.cuda.runtime.getDevice, cupy.cuda.get_current_stream
        self._launch = cupy.cuda.driver.launchKernel
        self._of_thread = threading.local()
        self._external = functools.lru_cache(maxsize=64)(self._stream_of)

    def stream(self, device: int) -> Any:
        """CuPy's current stream on the device; whoever holds the object keeps the stream."""
        if self._current_device() == device:
            return self._current_stream()
        with self.cupy.cuda.Device(device):
            return self._current_stream()

    def _stream_of(self, device: int, stream: int) -> Any:
        """The CuPy stream of a pointer. `device` must be the current one."""
        known = {0: self.cupy.cuda.Stream.null, 1: self.cupy.cuda.Stream.null, 2: self.cupy.cuda.Stream.ptds}
        return known.get(stream) or self.cupy.cuda.Stream.from_external(_Raw(stream))

    @contextlib.contextmanager
    def on(self, device: int, stream: int) -> Iterator[None]:
        """CuPy allocates and copies on this device and stream inside the block."""
        with self.cupy.cuda.Device(device):
            if stream == self.cupy.cuda.get_current_stream().ptr:
                yield
            else:
                with self._external(device, stream):
                    yield

    def empty(self, floats: int, device: int, stream: int) -> Any:
        """Uninitialised float32 memory, from CuPy's pool for that stream."""
        with self.on(device, stream):
            return self.cupy.empty(floats, self.cupy.float32)

    def zeros(self, words: int, device: int, stream: int) -> Any:
        """Zeroed uint64 memory."""
        with self.on(device, stream):
            return self.cupy.zeros(words, self.cupy.uint64)

    def is_capturing(self, stream: int) -> bool:
        """Whether what is put on the stream goes to a graph. The legacy default stream's never does."""
        return stream > 1 and bool(self.cupy.cuda.runtime.streamIsCapturing(stream))

    def allocate_in_graph(self, nbytes: int, zeroed: int, device: int, stream: int) -> int:
        """Memory of the graph that the stream captures, the first `zeroed` bytes set to zero in each of its runs."""
        with self.cupy.cuda.Device(device):
            address = int(self.cupy.cuda.runtime.mallocAsync(nbytes, stream))
            if zeroed:
                self.cupy.cuda.runtime.memsetAsync(address, 0, zeroed, stream)
        return address

    def free_in_graph(self, address: int, device: int, stream: int) -> None:
        with self.cupy.cuda.Device(device):
            self.cupy.cuda.runtime.freeAsync(address, stream)

    def pinned(self, floats: int, device: int) -> Any:
        """Room for float32 on the host, page-locked and mapped, as a buffer: a kernel may write to its address."""
        with self.cupy.cuda.Device(device):
            return self.cupy.cuda.alloc_pinned_memory(max(4 * floats, 1))

    def synchronize(self, device: int, stream: int) -> None:
        with self.cupy.cuda.Device(device):
            self._external(device, stream).synchronize()  # synchronizes

    def upload(self, values: np.ndarray[Any, Any], device: int, stream: int) -> Any:
        with self.on(device, stream):
            return self.cupy.asarray(values)

    def download(self, array: Any, device: int, stream: int) -> np.ndarray[Any, Any]:
        """Waits for the stream. Small arrays come through page-locked memory of the thread, which is much quicker."""
        host: np.ndarray[Any, Any]
        if not isinstance(array, self.cupy.ndarray) or array.nbytes > STAGED_BYTES or not array.flags.c_contiguous:
            with self.on(device, stream):
                host = self.cupy.asarray(array).get()  # synchronizes
            return host
        runtime = self.cupy.cuda.runtime
        with contextlib.nullcontext() if self._current_device() == device else self.cupy.cuda.Device(device):
            if not hasattr(self._of_thread, "staging"):
                pages = self.cupy.cuda.alloc_pinned_memory(STAGED_BYTES)
                self._of_thread.staging = pages, np.frombuffer(pages, np.uint8, STAGED_BYTES)
            pages, staging = self._of_thread.staging
            runtime.memcpyAsync(pages.ptr, array.data.ptr, array.nbytes, runtime.memcpyDeviceToHost, stream)
            runtime.streamSynchronize(stream)  # synchronizes
        host = np.empty(array.shape, array.dtype)
        host.reshape(-1).view(np.uint8)[:] = staging[: array.nbytes]
        return host

    def device_of(self, pointer: int) -> int:
        return int(self.cupy.cuda.runtime.pointerGetAttributes(pointer).device)

    def multiprocessors(self, device: int) -> int:
        count = self.cupy.cuda.runtime.cudaDevAttrMultiProcessorCount
        return int(self.cupy.cuda.runtime.deviceGetAttribute(count, device))

    def record(self, device: int, stream: int) -> Any:
        """An event behind what `stream` has been given so far; its `done` tells whether that has run."""
        with self.cupy.cuda.Device(device):
            event = self.cupy.cuda.Event(disable_timing=True)
            event.record(self._external(device, stream))
        return event

    def wait(self, device: int, stream: int, producer: int) -> None:
        """Let `stream` run after what `producer` has been given so far, without waiting on the host."""
        event = self.record(device, producer)
        with self.cupy.cuda.Device(device):
            self._external(device, stream).wait_event(event)

    def compile(self, variant: Variant) -> Kernel:
        """CuPy builds the kernel for each device and keeps it on disk."""
        # macros in the text and not in the options: for each new set of options CuPy runs the compiler, cached or not
        macros = "".join(f"#define {name} {value}\n" for name, value in variant.defines)
        module = self.cupy.RawModule(code=macros + _kernels.source(variant.source), options=_kernels.OPTIONS)
        return Kernel(module.get_function(variant.entry))

    def launch(self, kernel: Kernel, grid: Size, block: Size, params: Parameters, device: int, stream: int) -> None:
        """Enqueue. The driver copies the parameters."""
        function = kernel.functions.get(device) or kernel.load(device, self.cupy)
        if self._current_device() == device:
            self._launch(function, *grid, *block, 0, stream, params.address, 0)
        else:
            with self.cupy.cuda.Device(device):
                self._launch(function, *grid, *block, 0, stream, params.address, 0)


class _Seam:
    """Holds the one `Cuda`, made when a device array is first seen: importing posepost imports no CuPy."""

    def __getattr__(self, name: str) -> Any:
        global cuda
        cuda = Cuda()
        return getattr(cuda, name)


cuda: Any = _Seam()


@functools.cache
def kernel(variant: Variant) -> Any:
    """The compiled kernel, one for each variant."""
    return cuda.compile(variant)


_Store = dict[tuple[int, int, int], Any]
_workspaces: _Store = {}
_scratch: _Store = {}
_streams: dict[tuple[int, int, int], Any] = {}  # objects that keep the streams of both: no other gets their address
_workspaces_lock = threading.Lock()
MOST_STREAMS = 64  # whose memory is kept: the one that came first goes first
PER_THREAD_STREAM = 2  # CUDA's per-thread default stream: the same number is another stream in each thread


class Work(NamedTuple):
    """Addresses of a call's memory on the device beside its arguments; 0 where it needs none."""

    zeroed: int  # uint64 words that are zero, for kernels that leave them zero
    scratch: int  # words that hold anything, for kernels that write before they read
    captured: int = 0  # for `done_with`
    arrays: tuple[Any, ...] = ()  # keep the memory until the launch, should another thread put larger in its place


NO_WORK = Work(0, 0)


def work(zeroed: int, scratch: int, device: int, stream: int, holder: Any = None) -> Work:
    """At least so many words of both kinds, 8-byte aligned. `holder`: the object of the stream, where there is one.

    Launches on one stream follow each other, so they share their memory; launches on two streams may overlap, so they
    do not. Nor does a graph share it, which may be run anywhere: memory of a captured call belongs to its graph.
    """
    if cuda.is_capturing(stream):
        start = cuda.allocate_in_graph(8 * (zeroed + scratch), 8 * zeroed, device, stream)
        return Work(start, start + 8 * zeroed, start)
    words = _grown(_workspaces, zeroed, device, stream, holder)
    anything = _grown(_scratch, scratch, device, stream, holder)
    return Work(words.data.ptr if zeroed else 0, anything.data.ptr if scratch else 0, arrays=(words, anything))


def done_with(memory: Work, device: int, stream: int) -> None:
    """To be called behind the launches that use it."""
    if memory.captured:
        cuda.free_in_graph(memory.captured, device, stream)


def renew_workspace(device: int, stream: int) -> None:
    """Put a zeroed workspace in the place of one that launches have left otherwise."""
    with _workspaces_lock:
        old = _workspaces.get(_owner(device, stream))
        if old is not None:
            _workspaces[_owner(device, stream)] = cuda.zeros(old.nbytes // 8, device, stream)


def release_memory() -> None:
    """Give the device memory that decoders keep between calls, beside inputs and results, back to CuPy's pool.

    Takes and returns nothing, raises nothing and waits for nothing: memory goes back in the order of the stream that
    used it. The next call that needs some allocates it again. `cupy.get_default_memory_pool().free_all_blocks()`
    returns it from there to the device.

    >>> import posepost
    >>> posepost.release_memory()
    """
    with _workspaces_lock:
        _workspaces.clear()
        _scratch.clear()
        _streams.clear()


def _grown(store: _Store, words: int, device: int, stream: int, holder: Any) -> Any:
    if not words:
        return None
    owner = _owner(device, stream)
    known = store.get(owner)
    if known is None or known.nbytes < 8 * words:
        with _workspaces_lock:
            known = store.get(owner)
            if known is None or known.nbytes < 8 * words:
                rounded = -(-words // 4096) * 4096
                # what it replaces was allocated on this stream: CuPy gives it only to work behind ours
                make = cuda.zeros if store is _workspaces else _empty_words
                known = make(rounded, device, stream)
                if owner not in _streams and len(_streams) >= MOST_STREAMS:
                    first = next(iter(_streams))
                    _workspaces.pop(first, None)
                    _scratch.pop(first, None)
                    del _streams[first]
                _streams[owner] = holder
                store[owner] = known
    return known


def _empty_words(words: int, device: int, stream: int) -> Any:
    return cuda.empty(2 * words, device, stream)


def _owner(device: int, stream: int) -> tuple[int, int, int]:
    return device, stream, threading.get_ident() if stream == PER_THREAD_STREAM else 0


_held: dict[tuple[int, int], collections.deque[tuple[Any, Any]]] = {}
_held_lock = threading.Lock()


def hold(device: int, stream: int, objects: Any) -> None:
    """Keep `objects` until `stream` has done what it has been given so far. Each call lets go of what is done.

    Objects of a call in a graph are the caller's to keep, as the graph may run again.
    """
    if cuda.is_capturing(stream):
        return
    event = cuda.record(device, stream)
    with _held_lock:
        _held.setdefault((device, stream), collections.deque()).append((event, objects))
        for owner, waiting in list(_held.items()):
            while waiting and waiting[0][0].done:
                waiting.popleft()
            if not waiting:
                del _held[owner]
