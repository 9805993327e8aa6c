"""One case measured: posepost, its floors and its peers, on the same arrays, each checked before it is timed."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import posepost
from posepost import decode_posenet, pinned

from . import launches, timing
from .cases import BASE, BATCH_SWEEP, FORMATS, POSENET, SIZE_SWEEP, Case, inputs
from .floors import floor_kernel, floor_params
from .harness import Failure
from .optional import Unsupported

try:
    from .peers import PEERS
except ModuleNotFoundError as error:  # the wheel leaves them out
    if error.name != f"{__package__}.peers":
        raise
    PEERS = ()

POSITION_ATOL = 1e-3  # pixels; peers may round a product and a sum at once
SCORE_ATOL = 1e-5
L2_BYTES = 128 << 20  # input sets past this much lie in no cache of today's GPUs
HOST_BYTES = 1 << 30  # at most, of input sets
ENQUEUED = 2000  # calls of each way, for the host's share

READ, EMPTY, READ_BACK = "floor: plain read", "floor: empty kernel", "floor: empty kernel and read-back"
SLOW_TO_PREPARE = {"torch.compile": {POSENET[1].name, POSENET[4].name, "HRNet 64x48/B64/NCHW/float32"}}


class Measurement(NamedTuple):
    """Times of one variant in seconds, and what it moved."""

    times: list[float]
    bus_bytes: int | None = None
    floor: str | None = None  # the variant of the same kind that it is compared to


class Measured(NamedTuple):
    results: dict[tuple[str, str], Measurement]  # (variant, kind)
    failures: list[Failure]


class Variants:
    """What takes part in the timing of one case: every variant is checked on every set before and on one after."""

    def __init__(self, case: Case, sets: list[tuple[np.ndarray, np.ndarray]]) -> None:
        complete = [tuple(posepost.decode_posenet(*pair, **_options(case), activation="sigmoid")) for pair in sets]
        cells = [(_cells(case, pair), scores) for pair, (_, scores) in zip(sets, complete)]
        self.case, self.answers = case, {True: complete, False: cells}
        self.calls: dict[str, Callable[[int], Any]] = {}
        self.complete: dict[str, bool] = {}
        self.failures: list[Failure] = []

    def fail(self, name: str, kind: str, status: str, reason: str) -> None:
        self.failures.append(Failure(self.case.name, name, kind, status, reason))

    def failed(self, name: str, kind: str, error: Exception, when: str = "") -> None:
        self.fail(name, kind, "failed", when + reason_of(error, self.case))

    def add(self, name: str, prepare: Callable[[], Callable[[int], Any]], complete: bool = True) -> None:
        try:
            call = prepare()
            for i, answer in enumerate(self.answers[complete]):
                check(call(i), answer)
        except Unsupported as reason:
            self.fail(name, "blocking", "skipped", str(reason))
        except Exception as error:  # whatever a variant does wrong is a line in the report, and the others go on
            self.failed(name, "blocking", error)
        else:
            self.calls[name], self.complete[name] = call, complete

    def still_right(self, name: str) -> bool:
        if name not in self.complete:  # a floor has no answer
            return True
        try:
            check(self.calls[name](0), self.answers[self.complete[name]][0])
        except Exception as error:
            self.failed(name, "blocking", error, "wrong after timing: ")
            return False
        return True


def check(got: tuple[Any, Any], answer: tuple[np.ndarray, np.ndarray]) -> None:
    """AssertionError where keypoints and scores are not those of NumPy."""
    for values, wanted, tolerance in zip(got, answer, (POSITION_ATOL, SCORE_ATOL)):
        np.testing.assert_allclose(np.asarray(values, np.float32), wanted, rtol=0, atol=tolerance)


def measure(case: Case, device: str, *, seconds: float = 0.25, with_peers: bool = True) -> Measured:
    """All variants of a case on one device. A variant that fails is reported, and the others go on."""
    try:
        return _measure(case, device, seconds, with_peers)
    except Exception as error:  # such as maps for which there is no memory
        return Measured({}, [Failure(case.name, "posepost", "blocking", "failed", reason_of(error, case))])


def _measure(case: Case, device: str, seconds: float, with_peers: bool) -> Measured:
    copies = 2 if 6 * case.heatmap_bytes > HOST_BYTES // 4 else 4
    sets = [inputs(case, seed) for seed in range(copies)]
    variants = Variants(case, sets)
    results: dict[tuple[str, str], Measurement] = {}

    placed: list[tuple[Any, Any]] = sets
    if device == "cuda":
        placed = _on_device(sets)
        variants.add("posepost", lambda: _blocking(case, placed, memory=None))
        variants.add("posepost, pinned out", lambda: _blocking(case, placed, memory=pinned(case.B, case.K)))
        floor = READ_BACK
        variants.calls[floor] = _read_back(case)
    else:
        variants.add("posepost", lambda: lambda i: decode_posenet(*sets[i], **_options(case), activation="sigmoid"))
        floor = READ
        variants.calls[floor] = _read_on_host(sets)
    for peer in PEERS if with_peers else ():
        name = peer_name(peer, device)
        reason = _not_here(peer, case, device)
        if reason:
            variants.fail(name, "blocking", "skipped", reason)
            continue
        variants.add(name, functools.partial(peer.prepare, case, placed, device), peer.COMPLETE)
        if hasattr(peer, "timed") and variants.calls.pop(name, None):  # it has a clock of its own
            results[name, "blocking"] = Measurement(peer.timed(case, sets, device, 50), None, floor)

    def failed(name: str, error: Exception) -> None:
        variants.failed(name, "blocking", error, "while it was timed: ")

    for name, times in timing.interleaved(variants.calls, copies, seconds=seconds, failed=failed).items():
        if variants.still_right(name):
            results[name, "blocking"] = Measurement(times, _bus_bytes(name, case, sets[0], device), floor)
    if ("posepost", "blocking") in results and case == POSENET[1]:
        for name in ("posepost", floor):
            times = timing.paced(variants.calls[name], copies, hertz=30, count=60)
            moved = _bus_bytes(name, case, sets[0], device)
            results[name, "blocking 30 Hz"] = Measurement(times, moved, floor if name == "posepost" else None)
    for kind in ("device warm", "device cold", "enqueue") if device == "cuda" else ():
        measured = _enqueue if kind == "enqueue" else functools.partial(_device_times, kind)
        try:
            results.update(measured(case, variants))
        except Exception as error:
            variants.failed("posepost", kind, error)
    return Measured(results, variants.failures)


def _options(case: Case) -> dict[str, Any]:
    return {"output_stride": case.output_stride, "layout": case.layout, "quantization": case.quantization}


def _cells(case: Case, pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    heatmaps = pair[0]
    channels = 1 if case.layout == "NCHW" else 3
    zeros = np.zeros([2 * n if axis == channels else n for axis, n in enumerate(heatmaps.shape)], np.float32)
    scales = {"heatmaps": case.quantization["heatmaps"]} if case.quantization else None
    options = {**_options(case), "quantization": scales}
    return posepost.decode_posenet(heatmaps, zeros, **options, activation="sigmoid").keypoints


def peer_name(peer: Any, device: str) -> str:
    """Label of a peer, which may be another where there is nothing to download."""
    name: str = getattr(peer, "CPU_NAME", peer.NAME) if device == "cpu" else peer.NAME
    return name


def _not_here(peer: Any, case: Case, device: str) -> str | None:
    if device not in peer.DEVICES:
        return f"runs on {' and '.join(peer.DEVICES)}, not on {device}"
    if peer.NAME in SLOW_TO_PREPARE and case.name not in SLOW_TO_PREPARE[peer.NAME]:
        return "compiles for many seconds: measured on " + ", ".join(sorted(SLOW_TO_PREPARE[peer.NAME]))
    reason: str | None = peer.missing(device)
    return reason


def _bus_bytes(name: str, case: Case, pair: tuple[np.ndarray, np.ndarray], device: str) -> int | None:
    """What crosses the bus from maps on the device to keypoints on the host; None where there is no bus."""
    if device == "cpu":
        return None
    downloads = "download" in name.lower() or "mmpose" in name.lower()
    return pair[0].nbytes + pair[1].nbytes if downloads else case.keypoint_bytes


def _read_on_host(sets: list[tuple[np.ndarray, np.ndarray]]) -> Callable[[int], Any]:
    """The heatmaps' bytes summed as words, by NumPy's vectorised reduction: about what reading them once costs."""
    flat = [np.ascontiguousarray(heatmaps).reshape(-1).view(np.uint8) for heatmaps, _ in sets]
    words = [bytes_[: bytes_.size // 8 * 8].view(np.uint64) for bytes_ in flat]
    return lambda i: np.add.reduce(words[i])


# ---- on a device


def _on_device(sets: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[Any, Any]]:
    import cupy

    return [tuple(cupy.asarray(array) for array in pair) for pair in sets]


def _blocking(case: Case, sets: list[tuple[Any, Any]], memory: Any) -> Callable[[int], Any]:
    outs = [memory or decode_posenet(*pair, **_options(case), activation="sigmoid") for pair in sets]
    for out in outs:
        _poison(out)

    def call(i: int) -> Any:
        return decode_posenet(*sets[i], **_options(case), out=outs[i], activation="sigmoid").numpy()

    return call


def _poison(out: Any) -> None:
    """A launch that writes nothing must not pass the check."""
    out.keypoints.fill(np.nan)
    out.scores.fill(np.nan)


def _grid(case: Case) -> tuple[tuple[int, int], int]:
    """Grid and block of the decoder on this case."""
    B, K, H, W = case.B, case.K, case.H, case.W
    strides = (K * H * W, H * W, W, 1) if case.layout == "NCHW" else (H * W * K, 1, W * K, K)
    from posepost._rules.maps import Maps
    from posepost._tiling import busy_blocks, tiling

    launch = tiling(Maps(case.layout, B, K, H, W, strides), case.dtype, busy_blocks(0))
    return (launch.tiles, launch.splits), launch.block


def _read_back(case: Case) -> Callable[[int], Any]:
    import cupy

    grid, block = _grid(case)
    result = cupy.zeros(3 * case.B * case.K, cupy.float32)
    params = floor_params(result, result)
    kernel = floor_kernel("empty")

    def call(i: int) -> Any:
        kernel((*grid, 1), (block, 1, 1), (params,))
        return result.get()

    return call


def _device_times(kind: str, case: Case, variants: Variants) -> dict[tuple[str, str], Measurement]:
    """Device time warm or cold, with its floors."""
    import cupy

    grid, block = _grid(case)
    sink = cupy.zeros(1, cupy.uint32)
    count = 1 if kind == "device warm" else max(2, min(4096, -(-L2_BYTES // case.heatmap_bytes)))
    sets = _on_device([inputs(case, 0)] * count)
    outs = [decode_posenet(*pair, **_options(case), activation="sigmoid") for pair in sets]
    params = [floor_params(pair[0], sink) for pair in sets]
    sms = cupy.cuda.Device().attributes["MultiProcessorCount"]

    def decode(i: int) -> None:
        decode_posenet(*sets[i], **_options(case), out=outs[i], activation="sigmoid")

    def read(i: int) -> None:
        blocks = max(1, min(8 * sms, case.heatmap_bytes // 16 // 1024))  # four loads a thread, or more
        floor_kernel("read")((blocks,), (256,), (params[i],))

    def empty(i: int) -> None:
        floor_kernel("empty")((*grid, 1), (block, 1, 1), (params[i],))

    def poison() -> None:
        for i in (0, -1):
            _poison(outs[i])

    times = timing.device_times(decode, count, poison)
    for i in (0, -1):  # what the replays have written
        check(outs[i].numpy(), variants.answers[True][0])
    return {
        ("posepost", kind): Measurement(times, 0, READ),
        (READ, kind): Measurement(timing.device_times(read, count), 0),
        (EMPTY, kind): Measurement(timing.device_times(empty, count), 0),
    }


def _enqueue(case: Case, variants: Variants) -> dict[tuple[str, str], Measurement]:
    """The host's share of a call, an empty kernel's, and that of each way to launch the decoder's packed arguments."""
    import cupy

    ((heatmaps, offsets),) = _on_device([inputs(case, 0)])
    out = decode_posenet(heatmaps, offsets, **_options(case), activation="sigmoid")
    grid, block = _grid(case)
    params = floor_params(heatmaps, cupy.zeros(1, cupy.uint32))
    calls: dict[str, Callable[[int], Any]] = {
        "posepost": lambda i: decode_posenet(heatmaps, offsets, **_options(case), out=out, activation="sigmoid"),
        EMPTY: lambda i: floor_kernel("empty")((*grid, 1), (block, 1, 1), (params,)),
    }
    calls["posepost"](0)  # only now is the kernel compiled and the workspace there
    launch = launches.recorded(lambda: calls["posepost"](0))
    for name, prepare in launches.WAYS.items():
        try:
            call = prepare(launch)
            _poison(out)
            call(0)
            check(out.numpy(), variants.answers[True][0])
        except Unsupported as reason:
            variants.fail(name, "enqueue", "skipped", str(reason))
        except Exception as error:
            variants.failed(name, "enqueue", error)
        else:
            calls[name] = call

    times: dict[str, list[float]] = {name: [] for name in calls}
    order, names = random.Random(0), list(calls)
    with timing.quiet():
        for turn in range(ENQUEUED):
            if turn % 40 == 0:  # drained outside the clock, before the queue fills
                cupy.cuda.get_current_stream().synchronize()
            order.shuffle(names)
            for name in names:
                start = time.perf_counter()
                calls[name](0)
                times[name].append(time.perf_counter() - start)
    floor = {"posepost": launches.RAW_KERNEL if launches.RAW_KERNEL in calls else EMPTY}
    return {(name, "enqueue"): Measurement(taken, 0, floor.get(name)) for name, taken in times.items()}


def reason_of(error: Exception, case: Case) -> str:
    """One line; running out of memory is named, with the size of the case."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = f"{type(error).__name__}: {' '.join(lines[:3])[:300]}"
    memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "RESOURCE_EXHAUSTED" in words
    return f"out of memory with {case.heatmap_bytes:,} bytes of heatmaps: {words}" if memory else words


def sweeps_of(case: Case) -> list[str]:
    lists = {"base": BASE, "format": FORMATS, "batch": BATCH_SWEEP, "size": SIZE_SWEEP}
    return [name for name, cases in lists.items() if case in cases]
