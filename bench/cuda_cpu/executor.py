"""Build a CUDA kernel for the CPU and launch it: the same .cu source, no GPU, no CUDA.

`build` compiles one self-contained source string with g++ behind cuda_cpu.h and links it to runtime.cpp, the fiber
scheduler (compiled once).  `Kernel.launch` takes what a GPU launch takes: grid, block and the bytes of the kernel's one
parameter struct.  Anything the scheduler finds wrong is a KernelFault.

    kernel = build(source, "posenet", ("-DNCHW",))
    counts = kernel.watch(maps.ctypes.data, maps.nbytes, count=True)     # __ldg and atomics elsewhere become faults
    kernel.schedule("random", seed=7, resident=3, chaos=1)
    kernel.launch((1, 17, 2), 256, bytes(params))
    assert counts.min() == counts.max() == 1                             # every byte loaded exactly once

Plain loads and stores are seen by the sanitizers only: sanitize="address" (AddressSanitizer and UBSan) or "thread".
Such kernels run in a process of their own, started by `run_sanitized`, which the first finding ends.

Compiled files are kept by content under the user's cache directory; deleting them costs a second each.
"""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ORDERS = ("forward", "reverse", "random")
# -ffp-contract=off: + and * round one by one, as NVRTC does with -fmad=false.
COMMON = (
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fno-fast-math",
    "-Wall",
    "-Wno-unknown-pragmas",
    f"-I{HERE}",
)
KERNEL_FLAGS = {
    "": ("-O1",),
    "address": (
        "-O1",
        "-g",
        "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined,float-cast-overflow",
        "-fno-sanitize-recover=all",
    ),
    "thread": ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=thread"),
}
RUNTIME_FLAGS = {"": (), "address": ("-DCUDA_CPU_ADDRESS",), "thread": ("-DCUDA_CPU_THREAD",)}
SANITIZER_LIBRARY = {"address": "libasan.so", "thread": "libtsan.so"}
SANITIZER_OPTIONS = {
    "address": {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1", "PYTHONMALLOC": "malloc"},
    "thread": {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1"},
}


class KernelFault(Exception):
    """What the executor found wrong with a launch: what, then block, thread and line of the source."""


class _Watch(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_size_t), ("end", ctypes.c_size_t), ("counts", ctypes.c_void_p)]


class _LineCount(ctypes.Structure):
    _fields_ = [
        ("file", ctypes.c_char_p),
        ("line", ctypes.c_int),
        ("requests", ctypes.c_uint64),
        ("lanes", ctypes.c_uint64),
        ("sectors", ctypes.c_uint64),
    ]


class _Launch(ctypes.Structure):  # struct Launch of cuda_cpu.h
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("params", ctypes.c_void_p),
        ("order", ctypes.c_int),
        ("seed", ctypes.c_uint),
        ("resident", ctypes.c_int),
        ("chaos", ctypes.c_int),
        ("watches", ctypes.POINTER(_Watch)),
        ("watch_count", ctypes.c_size_t),
        ("loads", ctypes.c_uint64 * 5),
        ("lines", ctypes.POINTER(_LineCount)),
        ("line_count", ctypes.c_size_t),
    ]


@functools.cache
def _compiler() -> tuple[str, str]:
    """Path of g++ and what it says of its version; RuntimeError where it cannot be used."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise RuntimeError(f"needs x86-64 Linux, this is {platform.machine()} {sys.platform}")
    path = shutil.which("g++")
    if path is None:
        raise RuntimeError("g++ not found: install it (Debian, Ubuntu: apt install g++)")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, env=_plain_environment())
    if done.returncode:
        raise RuntimeError(f"g++ --version failed: {done.stderr.strip()}")
    return path, done.stdout.splitlines()[0]


def available() -> tuple[bool, str]:
    """Whether kernels can be built here, and the reason where not."""
    try:
        return True, _compiler()[1]
    except RuntimeError as error:
        return False, str(error)


@functools.cache
def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (home / "posepost-cuda-cpu", Path(tempfile.gettempdir()) / f"posepost-cuda-cpu-{os.getuid()}"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise RuntimeError(f"no writable cache directory: neither {home} nor {tempfile.gettempdir()}")


def _plain_environment() -> dict[str, str]:
    """The environment without the sanitizer that `run_sanitized` preloads: g++ must not run under it."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def _compile(stem: str, flags: tuple[str, ...], source: str, *objects: Path) -> Path:
    """Compile to a shared object in the cache, unless the same text was compiled before with the same flags."""
    gxx, version = _compiler()
    headers = (HERE / "cuda_cpu.h").read_text() + "".join(path.name for path in objects)
    digest = hashlib.sha256("\0".join((version, *flags, headers, source)).encode()).hexdigest()[:20]
    target = _cache() / f"{stem}-{digest}.so"
    if target.exists():
        return target
    handle, part = tempfile.mkstemp(prefix=stem, suffix=".part", dir=_cache())
    os.close(handle)
    try:
        command = [
            gxx,
            *COMMON,
            *flags,
            "-x",
            "c++",
            "-",
            "-x",
            "none",
            *map(str, objects),
            "-o",
            part,
            f"-Wl,-soname,{target.name}",
        ]
        environment = {**_plain_environment(), "LC_ALL": "C"}
        done = subprocess.run(command, input=source, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"g++ cannot compile {stem}:\n{done.stderr}")
        if done.stderr:
            warnings.warn(f"g++ on {stem}:\n{done.stderr}", stacklevel=3)
        os.replace(part, target)
    finally:
        Path(part).unlink(missing_ok=True)
    return target


@functools.cache
def _runtime(sanitize: str) -> ctypes.CDLL:
    """The scheduler, one for all kernels of a process, so that they share its stacks."""
    source = '#line 1 "runtime.cpp"\n' + (HERE / "runtime.cpp").read_text()
    path = _compile(f"runtime{sanitize}", ("-O2", "-g", *RUNTIME_FLAGS[sanitize]), source)
    if sanitize and SANITIZER_LIBRARY[sanitize] not in os.environ.get("LD_PRELOAD", ""):
        raise RuntimeError(f"sanitize={sanitize!r} works only in a process started by run_sanitized({sanitize!r}, ...)")
    library = ctypes.PyDLL(str(path))  # keeps Python's lock: the scheduler is for one thread at a time
    library.cuda_cpu_launch.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Launch)]
    library.cuda_cpu_launch.restype = ctypes.c_char_p
    return library


def _launch_bound(source: str, entry: str, defines: tuple[str, ...]) -> str:
    """The arguments of the entry's __launch_bounds__, as C++ text: the compiler evaluates them behind the source."""
    names = {entry, *(define[2:].partition("=")[0] for define in defines if define.endswith("=" + entry))}
    pattern = r"__launch_bounds__\s*\(((?:[^()]|\([^()]*\))*)\)\s*(?:void\s+)?(?:%s)\s*\("
    found = re.findall(pattern % "|".join(map(re.escape, sorted(names))), source)
    return found[-1] if found else "1024"


def build(source: str, entry: str, defines: tuple[str, ...] = (), *, sanitize: str = "") -> "Kernel":
    """Compile the kernel `entry` of a self-contained CUDA source; RuntimeError with g++'s message where it cannot.

    defines: -D options.  sanitize: "", "address" or "thread".
    """
    if sanitize not in KERNEL_FLAGS:
        raise ValueError(f"sanitize must be one of {', '.join(map(repr, KERNEL_FLAGS))}, got {sanitize!r}")
    runtime = _runtime(sanitize)
    text = (
        f'#include "cuda_cpu.h"\n#line 1 "kernel.cu"\n{source}\n#line 1 "entry of {entry}"\n'
        f"CUDA_CPU_ENTRY({entry}, {_launch_bound(source, entry, defines)})\n"
    )
    path = _compile(entry, (*KERNEL_FLAGS[sanitize], *defines), text, Path(runtime._name))
    return Kernel(runtime, ctypes.PyDLL(str(path)))


class Kernel:
    """A built kernel with its own schedule, watched buffers and counters."""

    def __init__(self, runtime: ctypes.CDLL, library: ctypes.CDLL) -> None:
        self._run = runtime.cuda_cpu_launch
        self._library = library
        self._entry = ctypes.addressof(ctypes.c_char.in_dll(library, "cuda_cpu_entry"))
        self._params_bytes = ctypes.c_size_t.in_dll(library, "cuda_cpu_entry").value
        self.schedule()
        self.reset()

    def schedule(self, order: str = "forward", seed: int = 1, resident: int = 1, chaos: int = 0) -> None:
        """How the next launches run.

        order: threads and blocks "forward", "reverse" or "random" (by seed).  resident: blocks in progress at once.
        chaos: 1 lets other threads in at atomics and fences, at random; 2 also makes a quarter of all threads lag.
        """
        if order not in ORDERS or resident < 1 or chaos not in (0, 1, 2):
            raise ValueError(f"no such schedule: order={order!r}, resident={resident}, chaos={chaos}")
        self._schedule = (ORDERS.index(order), seed & 0xFFFFFFFF, resident, chaos)

    def watch(self, address: int, nbytes: int, *, count: bool = False) -> np.ndarray | None:
        """Register a buffer; from then on __ldg and global atomics outside every registered buffer are faults.

        count: return (nbytes,) uint8, updated by each launch: how often __ldg read each byte, at most 255.
        """
        counts = np.zeros(nbytes, np.uint8) if count else None
        self._watches.append((address, address + nbytes, counts))
        entries = [_Watch(begin, end, c.ctypes.data if c is not None else None) for begin, end, c in self._watches]
        self._watch_array = (_Watch * len(entries))(*entries)
        return counts

    def reset(self) -> None:
        """Forget all watched buffers and counts."""
        self._watches: list[tuple[int, int, np.ndarray | None]] = []
        self._watch_array = (_Watch * 0)()
        self._loads = [0] * 5
        self._requests: dict[tuple[str, int], tuple[int, int, int]] = {}

    def loads(self) -> dict[int, int]:
        """Number of __ldg by size in bytes, since the last reset."""
        return {1 << i: n for i, n in enumerate(self._loads) if n}

    def requests(self) -> dict[tuple[str, int], tuple[int, int, int]]:
        """(warp requests, lane accesses, 32-byte sectors) of the counted buffers, by (file, line) of the __ldg.

        A warp request is the n-th time that the lanes of one warp pass the line, whenever each of them does.
        """
        return dict(self._requests)

    def launch(self, grid: int | tuple[int, ...], block: int | tuple[int, ...], params: bytes) -> None:
        """Run the kernel to its end; KernelFault on any finding."""
        if len(params) != self._params_bytes:
            raise ValueError(f"params must be the {self._params_bytes} bytes of the kernel's struct, got {len(params)}")
        shape = [(tuple(n) if isinstance(n, tuple) else (n,)) + (1, 1) for n in (grid, block)]
        aligned = ctypes.create_string_buffer(len(params) + 64)
        address = -(-ctypes.addressof(aligned) // 64) * 64
        ctypes.memmove(address, params, len(params))
        launch = _Launch(shape[0][:3], shape[1][:3], address, *self._schedule, self._watch_array, len(self._watches))
        report = self._run(self._entry, launch)
        self._loads = [a + b for a, b in zip(self._loads, launch.loads, strict=True)]
        for line in launch.lines[: launch.line_count]:
            key = (line.file.decode(), line.line)
            old = self._requests.get(key, (0, 0, 0))
            self._requests[key] = (old[0] + line.requests, old[1] + line.lanes, old[2] + line.sectors)
        if report:
            raise KernelFault(report.decode())


def run_sanitized(kind: str, argv: list[str], *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run this Python with argv under a sanitizer, "address" or "thread"; a finding ends it with status != 0."""
    gxx, _ = _compiler()
    name = SANITIZER_LIBRARY[kind]
    library = subprocess.run([gxx, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    if not Path(library).is_absolute():
        raise RuntimeError(f"{name} not found: g++ here has no {kind} sanitizer")
    environment = {**_plain_environment(), "LD_PRELOAD": library, **SANITIZER_OPTIONS[kind]}
    command = [sys.executable, *argv]
    random_bits = Path("/proc/sys/vm/mmap_rnd_bits")
    if kind == "thread" and shutil.which("setarch") and random_bits.exists() and int(random_bits.read_text()) > 28:
        command = ["setarch", "-R", *command]  # libtsan of g++ up to 13 expects less address randomisation
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
