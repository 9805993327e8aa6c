"""One suite of launches for each layout, through posepost.decode_posenet, that names all it finds wrong with a kernel.

The same suite judges the kernels as they are (they must pass) and with a fault in their source (it must be found).
Buffers have exactly the size of their contents, so that a sanitizer sees the first byte beyond.

What can be found:
    result      keypoints or scores differ from NumPy's
    reads       a heatmap byte not read exactly once, or more of the offsets than two elements a keypoint
    vectors     fewer 16-byte loads than the addresses allow
    sectors     a warp's loads do not lie side by side: more 32-byte sectors than bytes / 32 and two a request
    workspace   not left zero
    executor    the executor's own finding: KernelFault
and in a process of its own, which ends there: address, undefined, thread, by the sanitizer that reports it.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import mmap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import posepost
from posepost import _cuda, _kernels, posenet

from ..arrays import DTYPES, KINDS, VIEWS, quantization_for, values
from ..tolerance import SIGMOID_ATOL, SIGMOID_RTOL
from . import executor
from .seam import ExecutorCuda, host

DTYPE = {element: dtype for dtype, element in _kernels.ELEMENTS.items()}
REPORTS = {"ERROR: AddressSanitizer": "address", "runtime error:": "undefined", "WARNING: ThreadSanitizer": "thread"}
ROOT = Path(__file__).resolve().parents[2]

# ---- memory

_libc = ctypes.CDLL(None)  # malloc as the sanitizer has it, where there is one
_libc.free.argtypes = [ctypes.c_void_p]
SPARE = 65536  # bytes beyond a buffer, in which a kernel that writes too far does no harm; none under a sanitizer


class _Heap:
    """A block that ends where its contents end, filled with 0xA5."""

    def __init__(self, nbytes: int, spare: int) -> None:
        pointer = ctypes.c_void_p()
        if _libc.posix_memalign(ctypes.byref(pointer), 512, ctypes.c_size_t(nbytes + spare)):
            raise MemoryError(nbytes)
        self.address = pointer.value
        ctypes.memset(self.address, 0xA5, nbytes + spare)

    def __del__(self) -> None:
        _libc.free(self.address)


def _array(address: int, nbytes: int, owner: object, shape: tuple, dtype: Any, strides: tuple | None = None) -> Any:
    import cupy
    from cupy.cuda import memory

    block = memory.MemoryPointer(memory.UnownedMemory(address, nbytes, owner, 0), 0)
    return cupy.ndarray(shape, dtype, block, strides=strides)


def _far(content: np.ndarray, strides: tuple[int, ...], layout: str) -> Any:
    """(B, C, H, W) values at strides given in elements, of memory that is nearly all holes."""
    span = (sum((n - 1) * s for n, s in zip(content.shape, strides)) + 1) * content.itemsize
    holes = mmap.mmap(-1, span, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
    address = np.frombuffer(holes, np.uint8).ctypes.data
    nbytes = tuple(stride * content.itemsize for stride in strides)
    array = _array(address, span, holes, content.shape, content.dtype, nbytes)
    host(array)[...] = content
    return array.transpose(0, 2, 3, 1) if layout == "NHWC" else array


# ---- launches


class Case(NamedTuple):
    view: str
    shape: tuple[int, int, int, int]
    skip: int = 0  # elements past a 512-byte boundary
    processors: int = 132
    far: bool = False  # strides beyond 2^32


SUITES = {
    "PLANAR": (
        Case("nchw", (2, 5, 33, 31), 1),
        Case("nchw", (1, 2, 130, 140), 3),  # blocks share a map
        Case("nchw", (1, 2, 130, 140), 2, processors=0),  # threads go several rounds
        Case("nchw", (3, 4, 7, 5)),
        Case("nchw", (2, 3, 1, 1), 3),
        Case("nchw_crop", (2, 3, 9, 40), 1),
        Case("nchw_crop", (1, 2, 100, 190)),  # blocks share the lines of a map
        Case("nchw_batch_and_channels_of_more", (2, 3, 15, 22), 5),
    ),
    "INTERLEAVED": (
        Case("nhwc", (2, 17, 33, 31), 1),  # blocks share an image
        Case("nhwc", (2, 17, 33, 31), 2, processors=0),
        Case("nhwc", (5, 17, 9, 11)),
        Case("nhwc", (3, 5, 2, 3), 3),
        Case("nhwc", (1, 130, 6, 5), 5),
        Case("nhwc", (2, 3, 90, 110), 3),
    ),
    "STRIDED": (
        Case("nhwc_channels_of_more", (2, 17, 9, 11), 1),  # blocks share a tile
        Case("nhwc_channels_of_more", (2, 17, 9, 11), 2, processors=0),
        Case("nhwc_every_other_channel", (2, 5, 14, 9)),
        Case("nhwc_crop", (2, 35, 4, 3), 3),
        Case("nchw_every_other_column", (2, 3, 35, 33), 1),
        Case("nchw_columns_and_rows_swapped", (3, 2, 9, 7)),
    ),
}
FAR = {
    "PLANAR": Case("nchw", (2, 2, 3, 33), far=True),
    "INTERLEAVED": Case("nhwc", (2, 5, 3, 4), far=True),
    "STRIDED": Case("nchw", (2, 2, 3, 5), far=True),
}
SMALL = {  # each thread of these is a fiber of ThreadSanitizer's, which takes its time
    "PLANAR": (Case("nchw", (1, 1, 129, 131), 1), Case("nchw_crop", (1, 1, 9, 40), 1)),
    "INTERLEAVED": (Case("nhwc", (1, 17, 33, 31), 1),),
    "STRIDED": (Case("nhwc_channels_of_more", (1, 17, 9, 11)), Case("nchw_every_other_column", (1, 1, 35, 33), 1)),
}
SHARED = {  # several blocks a tile, several channels a block where the layout has them
    "PLANAR": Case("nchw", (1, 1, 130, 140), 3),
    "INTERLEAVED": Case("nhwc", (1, 17, 24, 24), 1),
    "STRIDED": Case("nhwc_channels_of_more", (2, 17, 9, 11), 1),
}
EVERY_OTHER_CHANNEL = ("NHWC", lambda x, place: place(np.repeat(x.transpose(0, 2, 3, 1), 2, axis=3))[..., ::2])
ALL_VIEWS = {**VIEWS, "nhwc_every_other_channel": EVERY_OTHER_CHANNEL}
SCHEDULES: tuple[dict[str, Any], ...] = (
    {"order": "forward"},
    {"order": "reverse", "resident": 2},
    {"order": "random", "seed": 3, "resident": 3, "chaos": 1},
    {"order": "random", "seed": 4, "resident": 4, "chaos": 2},
)
RACES = 64  # more schedules for the blocks that share a tile
MATRIX = np.array([[1.5, -0.25, 7], [0.125, 2, -3]], np.float32)


class Suite:
    def __init__(self, layout: str, element: str, sanitize: str = "") -> None:
        self.layout, self.element, self.sanitize = layout, element, sanitize
        self.cuda = ExecutorCuda(sanitize)
        self.found: dict[str, str] = {}  # check -> the first case that failed it

    def place(self, content: np.ndarray, skip: int = 0) -> Any:
        nbytes = (content.size + skip) * content.itemsize
        heap = _Heap(nbytes, 0 if self.sanitize else SPARE)
        array = _array(heap.address + skip * content.itemsize, nbytes, heap, content.shape, content.dtype)
        host(array)[...] = content
        return array

    def work(self, zeroed: int, scratch: int, device: int, stream: int, holder: Any = None) -> _cuda.Work:
        """In the place of `_cuda.work`: of exactly the size asked for."""
        assert not scratch
        self.words = self.place(np.zeros(zeroed, np.uint64))
        self.watch(self.words)
        return _cuda.Work(self.words.data.ptr, 0)

    def watch(self, array: Any, count: bool = False) -> np.ndarray | None:
        """Sanitizers see what is not watched, the executor what is."""
        if self.sanitize:
            return None
        span = sum((size - 1) * stride for size, stride in zip(array.shape, array.strides)) + array.itemsize
        return self.kernel.watch(array.data.ptr, span, count=count)

    def check(self, name: str, right: bool, of: str) -> None:
        if not right:
            self.found.setdefault(name, of)

    def run(self) -> dict[str, str]:
        kept = _cuda.cuda, _cuda.work
        _cuda.cuda, _cuda.work = self.cuda, self.work
        _cuda.kernel.cache_clear()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r"(?s)g\+\+ on")  # what it says of a fault
                self.kernel = _cuda.kernel(_kernels.posenet(self.element, self.layout))
            for number, (case, kind, schedule) in enumerate(self.cases()):
                if self.cuda.processors != case.processors:
                    self.cuda.processors = case.processors
                    posenet._plan.cache_clear()
                self.cuda.schedule = schedule
                self.launch(number, case, kind)
        finally:
            _cuda.cuda, _cuda.work = kept
            _cuda.kernel.cache_clear()
        ran = {launched.variant.defines for launched in self.cuda.launches}
        assert ran == {(("ELEMENT", self.element), ("LAYOUT", self.layout))}
        return self.found

    def cases(self) -> Iterator[tuple[Case, str, dict[str, Any]]]:
        if self.sanitize == "thread":
            yield from ((case, "random", SCHEDULES[2]) for case in SMALL[self.layout])
            return
        for number, (case, kind) in enumerate(itertools.product(SUITES[self.layout], KINDS)):
            yield case, kind, SCHEDULES[number % len(SCHEDULES)]
        yield FAR[self.layout], "random", SCHEDULES[0]
        for seed in range(0 if self.sanitize else RACES):
            yield SHARED[self.layout], "random", {"order": "random", "seed": seed, "resident": 8, "chaos": 2}

    def launch(self, number: int, case: Case, kind: str) -> None:
        B, K, H, W = case.shape
        of = f"case {number}: {case} {kind}"
        dtype, offset_dtype = DTYPE[self.element], DTYPES[number % 5]
        heatmaps = values(kind, dtype, case.shape, number)
        offsets = values("denormal" if number % 7 == 0 else "random", offset_dtype, (B, 2 * K, H, W), number + 1)
        layout, view = ALL_VIEWS[case.view]
        if case.far:
            gap = 2**32 + 512
            strides = {"PLANAR": (9 * gap, 4 * gap, gap, 1), "STRIDED": (9 * gap, 4 * gap, gap, 2)}
            h = _far(heatmaps, strides.get(self.layout, (gap, 1, K * W, K)), layout)
            o = _far(offsets, (9 * gap, 2 * gap, gap // 2 + 8, 3), layout)
        else:
            h, o = (view(content, lambda array: self.place(array, case.skip)) for content in (heatmaps, offsets))
        matrices = np.random.default_rng(number).standard_normal((B, 2, 3)).astype(np.float32)
        transform = (None, MATRIX, matrices)[number // 2 % 3]
        options: dict[str, Any] = {
            "output_stride": (8, 16, 32)[number % 3],
            "layout": layout,
            "activation": "sigmoid" if number % 4 == 3 else None,
            "quantization": quantization_for(dtype, offset_dtype),
        }
        expected = posepost.decode_posenet(host(h), host(o), transform=transform, **options)

        self.kernel.reset()
        counts, offset_counts = self.watch(h, not case.far), self.watch(o, not case.far)
        if transform is matrices:
            transform = self.place(matrices)
            self.watch(transform)
        out = [self.place(np.full(shape, np.nan, np.float32)) for shape in ((B, K, 2), (B, K))]
        self.words = self.place(np.zeros(1, np.uint64))
        try:
            posepost.decode_posenet(h, o, transform=transform, out=tuple(out), **options)
        except executor.KernelFault as fault:
            self.found.setdefault("executor", f"{of}: {fault}")
            return

        keypoints, scores = map(host, out)
        self.check("result", np.array_equal(keypoints, expected.keypoints, equal_nan=True), of)
        if options["activation"]:
            same = np.allclose(scores, expected.scores, SIGMOID_RTOL, SIGMOID_ATOL, equal_nan=True)
        else:
            same = np.array_equal(scores, expected.scores, equal_nan=True)
            same = same and not np.signbit(scores[scores == 0]).any()
        self.check("result", bool(same), of)
        self.check("workspace", not host(self.words).any(), of)
        if counts is None or offset_counts is None:
            return

        seen = np.lib.stride_tricks.as_strided(counts, (*h.shape, h.itemsize), (*h.strides, 1))
        once = seen.min() == seen.max() == 1 and int(counts.sum()) == h.nbytes
        self.check("reads", once and int(offset_counts.sum()) == 2 * B * K * o.itemsize, of)
        self.check("vectors", self.kernel.loads().get(16, 0) >= self.possible_vectors(h, layout), of)
        requests, _, sectors = map(sum, zip(*self.kernel.requests().values()))
        self.check("sectors", sectors <= counts.size / 32 * 1.1 + 2 * requests + 2 * B * K, of)

    def possible_vectors(self, heatmaps: Any, layout: str) -> int:
        """How many whole 16-byte words lie in the parts of the maps that are consecutive in memory."""
        if self.layout == "STRIDED":
            return 0
        if self.layout == "INTERLEAVED":
            starts, length = heatmaps.strides[:1], heatmaps[0].nbytes
        else:
            dense = heatmaps.strides[2] == heatmaps.shape[3] * heatmaps.itemsize
            starts = heatmaps.strides[: 2 if dense else 3]
            length = heatmaps[0, 0].nbytes if dense else heatmaps[0, 0, 0].nbytes
        indices = np.indices(heatmaps.shape[: len(starts)]).reshape(len(starts), -1)
        begin = heatmaps.data.ptr + (np.array(starts)[:, None] * indices).sum(axis=0)
        return int(np.maximum((begin + length) // 16 - -(-begin // 16), 0).sum())


# ---- a kernel with a fault


def faulty(source: str, old: str, new: str, times: int = 1) -> str:
    """The pasted source with one text in the place of another, which must stand there `times` times."""
    if source.count(old) != times:
        raise ValueError(f"{old!r} must stand in the source {times} times, not {source.count(old)}")
    return source.replace(old, new)


def judge(layout: str, element: str, edit: tuple | None = None, sanitize: str = "") -> dict[str, str]:
    """What the suite finds in this process: check -> where."""
    kept = _kernels.source
    if edit:
        text = faulty(kept("posenet.cu"), *edit)
        _kernels.parameters("posenet.cu")
        _kernels.source = lambda name: text
    posenet._plan.cache_clear()
    try:
        return Suite(layout, element, sanitize).run()
    finally:
        _kernels.source = kept
        posenet._plan.cache_clear()


def judge_sanitized(kind: str, jobs: list[tuple[str, str, tuple | None]], timeout: float = 120) -> dict[str, str]:
    """What the suites find under the sanitizer `kind`, in a process of their own; the sanitizer's report ends it."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom bench.cuda_cpu import probe\nprobe.main(*sys.argv[1:])"
    done = executor.run_sanitized(kind, ["-c", code, kind, json.dumps(jobs)], timeout=timeout)
    if done.returncode == 0:
        found: dict[str, str] = json.loads(done.stdout)
        return found
    for mark, name in REPORTS.items():
        if mark in done.stderr and ("posenet.cu:" in done.stderr or "argmax.cuh:" in done.stderr):
            return {name: done.stderr}
    raise RuntimeError(f"ended with status {done.returncode} and no report on a kernel:\n{done.stdout}{done.stderr}")


def main(sanitize: str, jobs: str) -> None:
    found: dict[str, str] = {}
    for layout, element, edit in json.loads(jobs):
        found.update(judge(layout, element, edit, sanitize))
    print(json.dumps(found))
