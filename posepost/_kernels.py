"""Find, specialise, compile, cache and launch the kernels. The only file that names RawModule.

`cuda` is the one seam: everything posepost asks of a CUDA device goes through this object, so that the tests can put
a CPU executor of the same kernels in its place and run the very Python that launches on a GPU.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import importlib
import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ELEMENTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "uint8": "u8", "int8": "i8"}
"""Element type of a map -> its struct in kernels/argmax.cuh."""

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
OPTIONS = ("--std=c++17", "-fmad=false")
THREADS = 256
"""Threads of a block, as THREADS in the kernel sources."""
BLOCK = (THREADS, 1, 1)
STAGED_BYTES = 1 << 16
"""Results up to this size are downloaded through page-locked memory."""


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: its hash is part of every call
class Variant:
    """One instantiation of a kernel: source file, entry and the macros that specialise it; one object of each."""

    source: str
    entry: str
    defines: tuple[tuple[str, str], ...]

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(f"-D{name}={value}" for name, value in self.defines)

    def __str__(self) -> str:
        return f"{self.entry}<{', '.join(value for _, value in self.defines)}>"


LAYOUTS = ("PLANAR", "INTERLEAVED", "STRIDED")


@functools.cache
def posenet(element: str, layout: str) -> Variant:
    return Variant("posenet.cu", "decode_posenet", (("ELEMENT", element), ("LAYOUT", layout)))


HEADS = {"ARGMAX": LAYOUTS, "SOFT": ("PLANAR", "STRIDED"), "BLURRED": ("STRIDED",)}
"""Kernels of heatmap.cu, and the layouts of each."""


@functools.cache
def heatmap(element: str, head: str, layout: str) -> Variant:
    return Variant("heatmap.cu", "decode_heatmap", (("ELEMENT", element), ("HEAD", head), ("LAYOUT", layout)))


MULTI_ENTRIES = ("find_roots", "walk_roots", "accept_poses")


@functools.cache
def posenet_multi(element: str, entry: str) -> Variant:
    return Variant("posenet_multi.cu", entry, (("ELEMENT", element),))


@functools.cache
def peaks(element: str) -> Variant:
    return Variant("peaks.cu", "find_peaks", (("ELEMENT", element),))


@functools.cache
def simcc(element: str, merged: bool) -> Variant:
    """merged: with the outputs on the mirrored image."""
    return Variant("simcc.cu", "decode_simcc", (("ELEMENT", element), ("MERGED", str(int(merged)))))


VARIANTS = (
    *(posenet(element, layout) for element, layout in itertools.product(ELEMENTS.values(), LAYOUTS)),
    *(posenet_multi(element, entry) for element, entry in itertools.product(ELEMENTS.values(), MULTI_ENTRIES)),
    *(peaks(element) for element in ELEMENTS.values()),
    *(heatmap(element, head, layout) for element in ELEMENTS.values() for head in HEADS for layout in HEADS[head]),
    *(simcc(element, merged) for element in ELEMENTS.values() for merged in (False, True)),
)
"""Every instantiation there is: what the compile tests and `posepost warmup` go through."""


def directory() -> Path:
    """Where the .cu files lie: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    for candidate in (package / "kernels", package.parent / "kernels"):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"posepost's kernels must be in {package} or beside it: the installation is incomplete")


@functools.cache
def source(name: str) -> str:
    """The source of a kernel file with its local includes pasted in.

    CuPy's disk cache sees the text it is given and not what that includes, so a changed header must change this text.
    """
    pasted: set[str] = set()

    def paste(name: str) -> str:
        pasted.add(name)
        lines = [f'#line 1 "{name}"']
        for number, line in enumerate((directory() / name).read_text(encoding="utf-8").splitlines(), start=1):
            include = re.match(r'#include "(\w+\.cuh)"', line)
            if include is None:
                lines.append(line)
            elif include[1] not in pasted:
                lines += [paste(include[1]), f'#line {number + 1} "{name}"']
        return "\n".join(lines)

    return paste(name) + "\n"


_C_TYPES = {"u8_t": np.uint8, "u16_t": np.uint16, "u32": np.uint32, "i64": np.int64, "float": np.float32}


@functools.cache
def parameters(name: str) -> np.dtype[Any]:
    """The kernel's `struct Params` as a NumPy dtype, read from the source so that it stands once."""
    body = re.search(r"struct Params \{(.*?)\n\};", source(name), re.S)
    if body is None:
        raise ValueError(f"{name} has no struct Params")
    fields: list[tuple[Any, ...]] = []
    for declaration in re.sub(r"//.*", "", body[1]).split(";"):
        if not declaration.strip():
            continue
        match = re.fullmatch(r"(?:const )?(\w+)(\*?) (.+)", declaration.strip())
        if match is None:
            raise ValueError(f"{name}: cannot read the field {declaration.strip()!r} of struct Params")
        c_type, pointer, names = match.groups()
        dtype = np.uint64 if pointer else _C_TYPES[c_type]
        for field in names.split(", "):
            array = re.fullmatch(r"(\w+)\[(\d+)\]", field)
            fields.append((array[1], dtype, (int(array[2]),)) if array else (field, dtype))
    return np.dtype(fields, align=True)


def least_key(least: float, dtype: str) -> int:
    """The key, as kernels/argmax.cuh makes it, of the smallest value of a type that is not below `least`."""
    if dtype == "uint8":
        return int(least) + 1
    if dtype == "int8":
        return int(least) + 129
    value = np.float32(least)
    if dtype == "float32":
        bits, sign = int(value.view(np.uint32).item()), 1 << 31
    elif dtype == "float16":
        with np.errstate(over="ignore"):
            half = np.float16(value)
            if np.float32(half) < value:
                half = np.nextafter(half, np.float16(np.inf))
        bits, sign = int(half.view(np.uint16).item()), 1 << 15
    else:  # bfloat16: the upper half, which for positive numbers may lie below
        whole = int(value.view(np.uint32).item())
        bits, sign = whole >> 16, 1 << 15
        bits += int(bool(value > 0) and whole & 0xFFFF != 0)
    return sign - (bits & (sign - 1)) if bits & sign else sign + bits


def key_of(limit: float) -> int:
    """The key of a float32 that scores are compared with, 0 for NaN: no score is at most NaN."""
    value = np.float32(limit)
    return 0 if np.isnan(value) else least_key(float(value), "float32")


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


class Blocks:
    """Parameter blocks of a plan, one for each call in progress: a thread takes one, fills it in and gives it back.

    List operations are atomic, so this needs no lock.
    """

    def __init__(self, template: np.ndarray[Any, Any]) -> None:
        self.template = template.copy()
        self.free = [Parameters(self.template)]

    def take(self) -> Parameters:
        try:
            return self.free.pop()
        except IndexError:
            return Parameters(self.template)

    def give_back(self, block: Parameters, changed: bool) -> None:
        """changed: more than addresses were filled in, which no other call may see."""
        if changed:
            block.words[:] = self.template.view(np.uint64)
        self.free.append(block)


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
        self.cupy = cupy = cupy or importlib.import_module("cupy")
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
        module = self.cupy.RawModule(code=macros + source(variant.source), options=OPTIONS)
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
