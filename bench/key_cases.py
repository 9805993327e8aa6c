"""Key cases of every head: device time beside a plain read of the same bytes, host time of a call, time to keypoints.

`python -m bench.key_cases [-o FILE] [-k TEXT]` on a machine with a GPU prints a row as each is measured, and appends it
to FILE as a line of JSON, behind the machine with its ceilings. All times are medians in microseconds:

warm, cold   a call on the device, from replays of a CUDA graph over one set of inputs, and over sets past the L2 cache
read         a plain read of the same bytes, cold
enqueue      the host's share of a call with `out=`
blocking     from the call to keypoints in NumPy
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import posepost
from posepost._skeleton import POSENET

from . import launches, timing
from .floors import floor_kernel, floor_params
from .gpu_check import keep

COLD_BYTES = 256 << 20  # of input sets: several times the L2 cache of today's GPUs
MOST_SETS = 2048
FAKE_BYTES = 280_000  # of maps, where the CPU executor takes the place of the GPU
SPIN_SECONDS = 0.1  # of work before the first replay counts: clocks rise from idle


class KeyCase(NamedTuple):
    """One call: `arrays(seed)` on the host, `decode(*device_arrays, out=)`."""

    name: str
    arrays: Callable[[int], list[np.ndarray]]
    decode: Callable[..., Any]
    read_bytes: int


def _random(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "uint8":
        return rng.integers(0, 200, shape).astype(np.uint8)
    return rng.standard_normal(shape, np.float32).astype(dtype)


def _peaks(shape: tuple[int, ...], seed: int, peaks: int = 1) -> np.ndarray:
    """Gaussians of sigma 2 over noise of 0.01."""
    B, K, H, W = shape
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal(shape, np.float32) * np.float32(0.01)
    for _ in range(peaks):
        x, y = rng.uniform(4, W - 5, (B, K)), rng.uniform(4, H - 5, (B, K))
        across = np.exp(-((np.arange(W) - x[..., None]) ** 2) / 8)
        along = np.exp(-((np.arange(H) - y[..., None]) ** 2) / 8)
        maps += (along[..., :, None] * across[..., None, :] * rng.uniform(0.5, 1, (B, K, 1, 1))).astype(np.float32)
    return maps


def _bells(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Gaussians of sigma 6 over noise of 0.003."""
    B, K, W = shape
    rng = np.random.default_rng(seed)
    center, height = rng.uniform(10, W - 10, (B, K, 1)), rng.uniform(0.3, 1, (B, K, 1))
    bells = height * np.exp(-((np.arange(W) - center) ** 2) / 72)
    return np.asarray(bells + 0.003 * rng.standard_normal(shape), np.float32)


STRIDE = 8  # of several people's maps
EDGES = np.array(POSENET)


def _crowd(B: int, H: int, W: int, people: int, seed: int) -> list[np.ndarray]:
    """Heatmaps, offsets and displacements of people in random poses: logits of a Gaussian around each keypoint, and
    fields that lead from every cell to the nearest person's keypoints."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0.1, 0.9, (B, people, 1, 2)) * (H, W)
    places = (middle + rng.standard_normal((B, people, 17, 2)) * 3).astype(np.float32)  # y, x in cells
    cells = np.stack(np.mgrid[:H, :W], axis=-1).astype(np.float32)
    away = places[:, :, :, None, None] - cells  # (B, people, 17, H, W, 2)
    squared = (away**2).sum(-1)
    owner = squared.argmin(axis=1)  # (B, 17, H, W)
    noise = rng.standard_normal(owner.shape, np.float32) * np.float32(0.2)
    heatmaps = 8 * np.exp(-squared.min(axis=1) / 2) - 4 + noise

    def field(start: Any, end: Any) -> np.ndarray:
        """From each cell, by the person that owns it on the maps of `start`, to the keypoints `end`: all y, then x."""
        image, channel = np.arange(B)[:, None, None, None], np.asarray(end)[None, :, None, None]
        to = places[image, owner[:, start], channel] - cells
        return np.ascontiguousarray(np.concatenate([to[..., 0], to[..., 1]], axis=1) * np.float32(STRIDE))

    every, (parents, children) = np.arange(17), EDGES.T
    return [heatmaps.astype(np.float32), field(every, every), field(parents, children), field(children, parents)]


def posenet(B: int, K: int, H: int, W: int, dtype: str = "float32", layout: str = "NCHW") -> KeyCase:
    def arrays(seed: int) -> list[np.ndarray]:
        made = [_random((B, channels, H, W), dtype, seed + channels) for channels in (K, 2 * K)]
        if layout == "NHWC":
            made = [np.ascontiguousarray(array.transpose(0, 2, 3, 1)) for array in made]
        if layout == "cropped":  # every second channel of twice as many: nothing to load by 16 bytes
            made = [np.ascontiguousarray(np.repeat(array, 2, 1).transpose(0, 2, 3, 1)) for array in made]
        return made

    scales = {"heatmaps": (0.0625, 128), "offsets": (0.25, 128)} if dtype == "uint8" else None

    def decode(heatmaps: Any, offsets: Any, out: Any = None) -> Any:
        if layout == "cropped":
            heatmaps, offsets = heatmaps[..., ::2], offsets[..., ::2]
        return posepost.decode_posenet(
            heatmaps, offsets, output_stride=8, layout="NCHW" if layout == "NCHW" else "NHWC",
            quantization=scales, out=out, activation="sigmoid",
        )  # fmt: skip

    name = f"posenet {layout} {dtype} {B}x{K}x{H}x{W}"
    return KeyCase(name, arrays, decode, B * K * H * W * np.dtype(dtype).itemsize)


def heatmap(B: int, label: str, K: int = 17, H: int = 64, W: int = 48, **options: Any) -> KeyCase:
    flip = options.pop("flip", False)

    def arrays(seed: int) -> list[np.ndarray]:
        return [_peaks((B, K, H, W), seed + i) for i in range(1 + flip)]

    def decode(heatmaps: Any, flipped: Any = None, out: Any = None) -> Any:
        if flipped is None:
            return posepost.decode_heatmap(heatmaps, **options, out=out)
        pairs = tuple(range(K))
        return posepost.decode_heatmap(heatmaps, flip=posepost.Flip(flipped, pairs, shift=True), **options, out=out)

    return KeyCase(f"heatmap {label} {B}x{K}x{H}x{W}", arrays, decode, (1 + flip) * B * K * H * W * 4)


def simcc(
    B: int, label: str, K: int = 133, Wx: int = 576, Wy: int = 768, noise: bool = False, **options: Any
) -> KeyCase:
    """noise: about a quarter of the vectors ask DARK for the maximum of the whole blurred vector."""

    def arrays(seed: int) -> list[np.ndarray]:
        shapes = [(B, K, W) for W in (Wx, Wy)]
        return [_random(s, "float32", seed + s[2]) if noise else _bells(s, seed + s[2]) for s in shapes]

    def decode(x: Any, y: Any, out: Any = None) -> Any:
        return posepost.decode_simcc(x, y, **options, out=out)

    return KeyCase(f"simcc {label} {B}x{K}x({Wx}+{Wy})", arrays, decode, B * K * (Wx + Wy) * 4)


def peaks(B: int, K: int, H: int, W: int, **options: Any) -> KeyCase:
    def arrays(seed: int) -> list[np.ndarray]:
        return [_peaks((B, K, H, W), seed, 10)]

    def decode(heatmaps: Any, out: Any = None) -> Any:
        return posepost.find_peaks(heatmaps, threshold=0.1, max_peaks=30, layout="NCHW",
                                   **options, out=out)  # fmt: skip

    label = options.get("refine") or "plain"
    return KeyCase(f"peaks {label} {B}x{K}x{H}x{W}", arrays, decode, B * K * H * W * 4)


def multi(B: int, H: int, W: int, people: int | None = None) -> KeyCase:
    """Without people noise, which is the worst case: very many roots, all of them walked."""
    spread = {17: 2.0, 34: 9.0, 32: 20.0}

    def arrays(seed: int) -> list[np.ndarray]:
        if people is not None:
            return _crowd(B, H, W, people, seed)
        rng = np.random.default_rng(seed)
        shapes = [(B, channels, H, W) for channels in (17, 34, 32, 32)]
        return [rng.standard_normal(shape, np.float32) * np.float32(spread[shape[1]]) for shape in shapes]

    def decode(*tensors: Any, out: Any = None) -> Any:
        return posepost.decode_posenet_multi(
            *tensors, output_stride=STRIDE, layout="NCHW", out=out, activation="sigmoid"
        )

    label = "noise" if people is None else f"{people} people"
    return KeyCase(f"posenet_multi {label} {B}x17x{H}x{W}", arrays, decode, B * 17 * H * W * 4)


def key_cases() -> list[KeyCase]:
    return [
        posenet(1, 17, 23, 31),
        posenet(1, 17, 68, 120),
        posenet(1, 17, 135, 240),
        posenet(1, 17, 512, 512),
        posenet(64, 17, 64, 48),
        posenet(512, 17, 64, 48),
        posenet(512, 17, 64, 48, "float16"),
        posenet(512, 17, 64, 48, "uint8"),
        posenet(64, 17, 64, 48, layout="NHWC"),
        posenet(512, 17, 64, 48, layout="NHWC"),
        posenet(512, 17, 64, 48, "float16", "NHWC"),
        posenet(512, 17, 64, 48, layout="cropped"),
        *(
            heatmap(B, label, **options)
            for label, options in (
                ("none", {}),
                ("quarter", {"preset": "mmpose_msra"}),
                ("dark", {"preset": "mmpose_dark"}),
                ("dark_udp", {"preset": "mmpose_udp"}),
                ("megvii", {"preset": "mmpose_megvii"}),
                ("soft", {"preset": "mmpose_integral"}),
                ("flip", {"flip": True}),
            )
            for B in (1, 64, 512)
        ),
        *(
            simcc(64, label, **options)
            for label, options in (
                ("plain", {}),
                ("visibility", {"visibility": True}),
                ("dark", {"refine": "dark"}),
                ("dark of noise", {"refine": "dark", "noise": True}),
            )
        ),
        simcc(1, "plain", 17, 384, 512),
        peaks(1, 17, 256, 256),
        peaks(8, 17, 128, 128),
        peaks(1, 17, 64, 64),
        peaks(8, 17, 128, 128, refine="dark"),
        multi(1, 33, 33, 6),
        multi(1, 48, 48, 24),
        multi(8, 48, 48, 24),
        multi(1, 33, 33),
        multi(1, 48, 48),
        multi(1, 135, 240),
        multi(8, 48, 48),
    ]


def _spin() -> None:
    """The GPU at work until its clocks are those of work."""
    import cupy

    busy = cupy.ones((4096, 4096), cupy.float32)
    until = time.perf_counter() + SPIN_SECONDS
    while time.perf_counter() < until:
        busy = busy @ busy * cupy.float32(1e-4)
        cupy.cuda.get_current_stream().synchronize()


def _poisoned(result: Any) -> Any:
    for array in result:
        array.fill(np.nan if array.dtype.kind == "f" else -7)
    return result


def measure(case: KeyCase) -> dict[str, Any]:
    import cupy

    row: dict[str, Any] = {"case": case.name, "bytes": case.read_bytes}
    host = case.arrays(0)
    one = [cupy.asarray(array) for array in host]
    whole = sum(array.nbytes for array in host)
    count = max(2, min(MOST_SETS, -(-COLD_BYTES // case.read_bytes), (16 << 30) // whole))
    sets = [one, *([array.copy() for array in one] for _ in range(count - 1))]
    outs = [case.decode(*arrays) for arrays in sets]
    expected = [array.copy() for array in outs[0]]
    _spin()

    def decode(i: int) -> None:
        case.decode(*sets[i], out=outs[i])

    again = [launches.repeated(functools.partial(decode, i)) for i in range(count)]
    cupy.cuda.Device().synchronize()  # the launches again take the memory of these, on another stream
    for out in outs:
        _poisoned(out)
    cupy.cuda.Device().synchronize()

    def relaunch(i: int) -> None:
        again[i](cupy.cuda.get_current_stream().ptr)

    for kind, sets_used in (("warm", 1), ("cold", count)):
        row[kind] = statistics.median(timing.device_times(relaunch, sets_used)) * 1e6
    for out in (outs[0], outs[-1]):
        for got, wanted in zip(out, expected):
            cupy.testing.assert_array_equal(got, wanted)

    sms = cupy.cuda.Device().attributes["MultiProcessorCount"]
    sink = cupy.zeros(1, cupy.uint32)
    bytes_read = cupy.resize(one[0].reshape(-1).view(cupy.uint8), case.read_bytes)
    copies = [bytes_read.copy() for _ in range(count)]
    params = [floor_params(copy, sink) for copy in copies]
    blocks = max(1, min(8 * sms, case.read_bytes // 16 // 1024))

    def read(i: int) -> None:
        floor_kernel("read")((blocks,), (256,), (params[i],))

    row["read"] = statistics.median(timing.device_times(read, count)) * 1e6

    times, clock = [], time.perf_counter
    with timing.quiet():
        for i in range(600):
            if i % 40 == 0:
                cupy.cuda.get_current_stream().synchronize()
            start = clock()
            decode(0)
            times.append(clock() - start)
    row["enqueue"] = statistics.median(times[100:]) * 1e6
    times = []
    with timing.quiet():
        for _ in range(300):
            start = clock()
            case.decode(*one, out=outs[0]).numpy()
            times.append(clock() - start)
    row["blocking"] = statistics.median(times[50:]) * 1e6
    return row


def ceilings() -> dict[str, Any]:
    """GB a second of a large copy (read and written) and of a large read, and the clocks in MHz while they run."""
    import cupy

    runtime, stream = cupy.cuda.runtime, cupy.cuda.get_current_stream()
    words = min(1 << 30, runtime.memGetInfo()[0] // 16)
    source, target, sink = cupy.zeros(words, cupy.uint32), cupy.empty(words, cupy.uint32), cupy.zeros(1, cupy.uint32)
    params = floor_params(source[: words // 2], sink)
    sms = cupy.cuda.Device().attributes["MultiProcessorCount"]

    def copy() -> None:
        runtime.memcpyAsync(target.data.ptr, source.data.ptr, 4 * words, runtime.memcpyDeviceToDevice, stream.ptr)

    def read() -> None:
        floor_kernel("read")((8 * sms,), (256,), (params,))

    def seconds(enqueue: Callable[[], None]) -> float:
        times = []
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        for _ in range(12):
            begin.record(stream)
            enqueue()
            end.record(stream)
            end.synchronize()
            times.append(cupy.cuda.get_elapsed_time(begin, end) / 1000)
        return statistics.median(times[2:])

    _spin()
    found = {"copy": 8 * words / seconds(copy) / 1e9, "read": 2 * words / seconds(read) / 1e9}
    asked = ["nvidia-smi", "--query-gpu=clocks.sm,clocks.mem", "--format=csv,noheader,nounits", "--id=0"]
    for _ in range(40):
        copy()
    clocks = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    stream.synchronize()
    return {**found, "clocks": clocks}


HEAD = f"{'case':44}{'bytes':>12}{'warm':>9}{'cold':>9}{'read':>9}{'ratio':>7}{'enqueue':>9}{'blocking':>9}"


def machine() -> dict[str, Any]:
    from .harness import describe_machine

    return {"machine": describe_machine()}


def once(case: KeyCase, put: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """A few launches, for a profiler, or to see that they run."""
    arrays = [put(array) for array in case.arrays(0)]
    for _ in range(4):
        result = case.decode(*arrays)
    result.numpy()
    return {"case": case.name, "bytes": case.read_bytes}


def fake() -> Callable[[np.ndarray], Any]:
    """The CPU executor in the place of the device; what puts an array there."""
    from posepost import _cuda

    from .cuda_cpu.seam import ExecutorCuda, to_device

    _cuda.cuda = ExecutorCuda()
    return to_device


def line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['case']:44}{row['error'][:100]}"
    if "warm" not in row:
        return f"{row['case']:44}{row['bytes']:12,}  ran"
    return (
        f"{row['case']:44}{row['bytes']:12,}{row['warm']:9.1f}{row['cold']:9.1f}{row['read']:9.1f}"
        f"{row['cold'] / row['read']:7.2f}{row['enqueue']:9.1f}{row['blocking']:9.1f}"
    )


def rows(text: str, measured: Callable[[KeyCase], dict[str, Any]], most_bytes: float) -> Iterator[dict[str, Any]]:
    for case in key_cases():
        if text in case.name and case.read_bytes <= most_bytes:
            try:
                yield measured(case)
            except Exception as error:  # a case that fails is a row, and the others go on
                yield {"case": case.name, "error": f"{type(error).__name__}: {error}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", dest="output", metavar="FILE", type=Path, help="append the machine and the rows, as JSON lines"
    )
    parser.add_argument("-k", dest="text", metavar="TEXT", default="", help="only cases whose name holds TEXT")
    parser.add_argument("--once", action="store_true", help="a few launches of each, for a profiler: nothing is timed")
    parser.add_argument("--fake", action="store_true", help="small cases on the CPU executor: nothing is timed")
    arguments = parser.parse_args()

    measured: Callable[[KeyCase], dict[str, Any]] = measure
    if arguments.fake:
        put = fake()
        measured = lambda case: once(case, put)  # noqa: E731
    elif arguments.once:
        import cupy

        measured = lambda case: once(case, cupy.asarray)  # noqa: E731
    row = machine()
    if measured is measure:
        try:
            row["ceilings"] = ceilings()
        except Exception as error:  # the cases go on
            row["ceilings"] = {"error": f"{type(error).__name__}: {error}"}
        print("ceilings, GB/s:", row["ceilings"], flush=True)
    keep(row, arguments.output)
    print(HEAD, flush=True)
    failed = 0
    for row in rows(arguments.text, measured, FAKE_BYTES if arguments.fake else float("inf")):
        print(line(row), flush=True)
        failed += "error" in row
        keep(row, arguments.output)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
