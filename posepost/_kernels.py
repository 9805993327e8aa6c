"""Find, specialise, compile, cache and launch the kernels. The only file that names RawModule.

`cuda` is the one seam: everything posepost asks of a CUDA device goes through this object, so that the tests can put
a CPU executor of the same kernels in its place and run the very Python that launches on a GPU.
"""

from __future__ import annotations

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


Size = tuple[int, int, int]
"""Of a grid in blocks or a block in threads: x, y, z."""


class _Pointer(NamedTuple):
    """A raw stream for CuPy's launcher, which reads the attribute `ptr`."""

    ptr: int


_pointer = functools.lru_cache(maxsize=256)(_Pointer)


class Cuda:
    """What posepost asks of a CUDA device, through CuPy. Device ordinals and stream pointers are plain integers."""

    def __init__(self, cupy: Any = None) -> None:
        """`cupy`: what stands in the place of CuPy in a test."""
        self.cupy = cupy = cupy or importlib.import_module("cupy")
        self._current_device, self._current_stream = cupy.cuda.runtime.getDevice, cupy.cuda.get_current_stream

    def stream(self, device: int) -> int:
        """CuPy's current stream on the device."""
        pointer: int
        if self._current_device() == device:
            pointer = self._current_stream().ptr
            return pointer
        with self.cupy.cuda.Device(device):
            pointer = self._current_stream().ptr
            return pointer

    def _external(self, device: int, stream: int) -> Any:
        streams = {0: self.cupy.cuda.Stream.null, 2: self.cupy.cuda.Stream.ptds}
        return streams.get(stream) or self.cupy.cuda.ExternalStream(stream, device)

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

    def pinned(self, floats: int, device: int) -> np.ndarray[Any, Any]:
        """float32 on the host, page-locked and mapped: a kernel may write to its address."""
        with self.cupy.cuda.Device(device):
            memory = self.cupy.cuda.alloc_pinned_memory(max(4 * floats, 1))
        return np.frombuffer(memory, np.float32, floats)

    def synchronize(self, device: int, stream: int) -> None:
        with self.cupy.cuda.Device(device):
            self._external(device, stream).synchronize()  # synchronizes

    def upload(self, values: np.ndarray[Any, Any], device: int, stream: int) -> Any:
        with self.on(device, stream):
            return self.cupy.asarray(values)

    def download(self, array: Any, device: int, stream: int) -> np.ndarray[Any, Any]:
        with self.on(device, stream):
            host: np.ndarray[Any, Any] = self.cupy.asarray(array).get()  # synchronizes
        return host

    def device_of(self, pointer: int) -> int:
        return int(self.cupy.cuda.runtime.pointerGetAttributes(pointer).device)

    def wait(self, device: int, stream: int, producer: int) -> None:
        """Let `stream` run after what `producer` has been given so far, without waiting on the host."""
        with self.cupy.cuda.Device(device):
            event = self.cupy.cuda.Event(disable_timing=True)
            event.record(self._external(device, producer))
            self._external(device, stream).wait_event(event)

    def compile(self, variant: Variant) -> Any:
        """A callable kernel(grid, block, (params,), stream=); CuPy builds it for each device and keeps it on disk."""
        module = self.cupy.RawModule(code=source(variant.source), options=OPTIONS + variant.options)
        return module.get_function(variant.entry)

    def launch(
        self, kernel: Any, grid: Size, block: Size, params: np.ndarray[Any, Any], device: int, stream: int
    ) -> None:
        """Enqueue; `params` is a structured array of one element, which CuPy passes by value."""
        if self._current_device() == device:
            kernel(grid, block, (params,), stream=_pointer(stream))
        else:
            with self.cupy.cuda.Device(device):
                kernel(grid, block, (params,), stream=_pointer(stream))


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


_Store = dict[tuple[int, int, int], list[Any]]
_workspaces: _Store = {}
_scratch: _Store = {}
_workspaces_lock = threading.Lock()
_PER_THREAD_STREAM = 2  # CUDA's per-thread default stream: the same number is another stream in each thread


def workspace(words: int, device: int, stream: int) -> int:
    """The address of at least `words` zeroed uint64 on the device, for kernels that leave them zeroed; one a stream.

    Launches on one stream follow each other, so they share it; launches on two streams may overlap, so they must not.
    """
    return _grown(_workspaces, words, device, stream)


def renew_workspace(device: int, stream: int) -> None:
    """Put a zeroed workspace in the place of one that launches have left otherwise."""
    with _workspaces_lock:
        grown = _workspaces[_owner(device, stream)]
        grown.append(cuda.zeros(grown[-1].size, device, stream))


def scratch(words: int, device: int, stream: int) -> int:
    """The like of `workspace` for kernels that write before they read: its contents are anything."""
    return _grown(_scratch, words, device, stream)


def _grown(store: _Store, words: int, device: int, stream: int) -> int:
    owner = _owner(device, stream)
    known = store.get(owner)
    if known and known[-1].size >= words:  # grows at its end alone, so this needs no lock
        return int(known[-1].data.ptr)
    with _workspaces_lock:
        grown = store.setdefault(owner, [])  # smaller ones stay: a captured graph may hold their address
        if not grown or grown[-1].size < words:
            grown.append(cuda.zeros(max(4096, 1 << (words - 1).bit_length()), device, stream))
        return int(grown[-1].data.ptr)


def _owner(device: int, stream: int) -> tuple[int, int, int]:
    return device, stream, threading.get_ident() if stream == _PER_THREAD_STREAM else 0
