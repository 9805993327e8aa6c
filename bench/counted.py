"""What can be counted of the kernels without a GPU: `python -m bench.counted`.

For each instantiation: launches of the call it belongs to; registers and spilled bytes over all architectures (NVRTC);
and, from running it on the CPU executor on one PoseNet frame or one person of RTMPose, bytes of heatmaps or vectors
read per byte of them, altogether and by 16-byte loads. Then compile times, and the Python time of one `decode_posenet`
call with the driver left out. Speed on a GPU cannot be counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from posepost import (
    Flip,
    _cuda,
    _kernels,
    decode_heatmap,
    decode_posenet,
    decode_posenet_multi,
    decode_simcc,
    find_peaks,
)

from . import timing
from .arrays import VIEWS, dtype_of, quantization_for
from .cuda_cpu.seam import ExecutorCuda, forget_plans, to_device
from .resources import compile_for, inner_loop

SHAPE = (1, 17, 33, 33)  # PoseNet, 513 x 513 at stride 16
VIEW_OF = {"PLANAR": "nchw", "INTERLEAVED": "nhwc", "STRIDED": "nchw_every_other_column"}


class NullCuda(_cuda.Cuda):
    """posepost's launch path on a CuPy whose driver does nothing, so that all of a call but the driver remains."""

    def __init__(self) -> None:
        stream = SimpleNamespace(ptr=0x5EED)
        runtime = SimpleNamespace(getDevice=lambda: 0, streamIsCapturing=lambda stream: 0)
        driver = SimpleNamespace(launchKernel=lambda *arguments: None)
        cuda = SimpleNamespace(runtime=runtime, get_current_stream=lambda: stream, driver=driver)
        super().__init__(SimpleNamespace(cuda=cuda))

    def multiprocessors(self, device: int) -> int:
        return 132

    def empty(self, floats: int, device: int, stream: int) -> Any:
        return to_device(np.zeros(floats, np.float32))

    def zeros(self, words: int, device: int, stream: int) -> Any:
        return to_device(np.zeros(words, np.uint64))

    def compile(self, variant: _kernels.Variant) -> Any:
        kernel = _cuda.Kernel(None)
        kernel.functions[0] = 1
        return kernel


def span_of(array: Any) -> int:
    """Bytes from the first to the last element of a strided array."""
    return sum((n - 1) * s for n, s in zip(array.shape, array.strides)) + array.itemsize


def counted(variants: list[_kernels.Variant], tensors: list[Any], call: Callable[[], Any]) -> list[tuple[float, float]]:
    """What each kernel of one call reads of tensors[0], per byte of it: altogether, and by 16-byte loads."""
    cuda = _cuda.cuda = ExecutorCuda()
    forget_plans()
    memory = [to_device(np.zeros(1 << 20, np.uint64)) for _ in range(2)]
    _cuda._workspaces[0, cuda.stream(0).ptr, 0], _cuda._scratch[0, cuda.stream(0).ptr, 0] = memory
    kernels = [_cuda.kernel(variant) for variant in variants]
    counts = []
    for kernel in kernels:
        counts.append(kernel.watch(tensors[0].data.ptr, span_of(tensors[0]), count=True))
        for array in (*tensors[1:], *memory):
            kernel.watch(array.data.ptr, span_of(array))
    call()
    assert [launched.variant for launched in cuda.launches] == variants
    nbytes = tensors[0].size * tensors[0].itemsize
    return [
        (int(count.sum()) / nbytes, 16 * kernel.loads().get(16, 0) / nbytes) for kernel, count in zip(kernels, counts)
    ]


def one_person(dtype: str, layout: str) -> tuple[list[_kernels.Variant], list[tuple[float, float]]]:
    B, K, H, W = SHAPE
    order, view = VIEWS[VIEW_OF[layout]]
    heatmaps = view(np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype_of(dtype)), to_device)
    offsets = view(np.zeros((B, 2 * K, H, W), np.float32), to_device)
    variants = [_kernels.posenet(_kernels.ELEMENTS[dtype], layout)]
    options = {"output_stride": 16, "layout": order, "quantization": quantization_for(dtype, "float32")}
    return variants, counted(
        variants, [heatmaps, offsets], lambda: decode_posenet(heatmaps, offsets, **options, activation="sigmoid")
    )


def several_maps(dtype: str) -> Any:
    """Six peaks a map over a background below the threshold."""
    _, K, H, W = SHAPE
    rng = np.random.default_rng(0)
    heatmaps = np.full(SHAPE, 10, np.float32)
    heatmaps[0][np.arange(K)[:, None], rng.integers(0, H, (K, 6)), rng.integers(0, W, (K, 6))] = 100
    return to_device(heatmaps.astype(dtype_of(dtype)))


def background_scale(dtype: str) -> dict[str, tuple[float, int]] | None:
    return {"heatmaps": (1.0, 50)} if "int" in dtype else None


def several_people(dtype: str) -> tuple[list[_kernels.Variant], list[tuple[float, float]]]:
    B, K, H, W = SHAPE
    tensors = [several_maps(dtype)]
    tensors += [to_device(np.zeros((B, channels, H, W), np.float32)) for channels in (2 * K, 2 * K - 2, 2 * K - 2)]
    variants = [_kernels.posenet_multi(_kernels.ELEMENTS[dtype], entry) for entry in _kernels.MULTI_ENTRIES]
    options = {
        "output_stride": 16,
        "layout": "NCHW",
        "quantization": background_scale(dtype),
        "score_threshold": 0.9999999,
    }
    return variants, counted(variants, tensors, lambda: decode_posenet_multi(*tensors, **options, activation="sigmoid"))


def peaks(dtype: str) -> tuple[list[_kernels.Variant], list[tuple[float, float]]]:
    """Six peaks a map over a background below the threshold."""
    heatmaps = several_maps(dtype)
    variants = [_kernels.peaks(_kernels.ELEMENTS[dtype])]
    options = {"threshold": 0.9999999, "max_peaks": 8, "quantization": background_scale(dtype)}
    return variants, counted(variants, [heatmaps], lambda: find_peaks(heatmaps, **options, activation="sigmoid"))


REFINES = {"ARGMAX": "none", "SOFT": "soft_argmax", "BLURRED": "megvii"}
"""What is counted of each kernel of heatmap.cu; a refinement reads some cells more."""


def one_heatmap_head(dtype: str, head: str, layout: str) -> tuple[list[_kernels.Variant], list[tuple[float, float]]]:
    order, view = VIEWS["nchw" if head == "BLURRED" else VIEW_OF[layout]]
    heatmaps = view(np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype_of(dtype)), to_device)
    variants = [_kernels.heatmap(_kernels.ELEMENTS[dtype], head, layout)]
    options = {"refine": REFINES[head], "layout": order, "quantization": quantization_for(dtype, "float32")}
    return variants, counted(variants, [heatmaps], lambda: decode_heatmap(heatmaps, **options))


SIMCC = (1, 17, 384, 512)  # RTMPose, 192 x 256


def simcc(dtype: str, merged: bool) -> tuple[list[_kernels.Variant], list[tuple[float, float]]]:
    """Bins, scores and visibility; DARK would read the 41 bins of its windows again."""
    N, K, Wx, Wy = SIMCC
    rng = np.random.default_rng(0)
    whole = to_device(rng.integers(0, 100, (2 if merged else 1, N * K * (Wx + Wy))).astype(dtype_of(dtype)))
    vectors: list[Any] = []
    for row in whole:  # all in one buffer, which is what is counted
        vectors += [row[: N * K * Wx].reshape(N, K, Wx), row[N * K * Wx :].reshape(N, K, Wy)]
    options: dict[str, Any] = {"visibility": True, "flip": Flip(vectors[2:], tuple(range(K))) if merged else None}
    scale = {"simcc_x": (1.0, 0), "simcc_y": (1.0, 0)} if "int" in dtype else None
    variants = [_kernels.simcc(_kernels.ELEMENTS[dtype], merged)]
    return variants, counted(variants, [whole], lambda: decode_simcc(*vectors[:2], quantization=scale, **options))


def host_times(repeats: int = 20000) -> dict[str, float]:
    """Median microseconds of one call of each decoder with `out=` on CuPy arrays, all but the driver; the clock left
    out."""
    _cuda.cuda = NullCuda()
    forget_plans()
    B, K, H, W = SHAPE
    heatmaps, offsets, field = (to_device(np.zeros((B, n, H, W), np.float32)) for n in (K, 2 * K, 2 * K - 2))
    vectors = [to_device(np.zeros((SIMCC[0], SIMCC[1], bins), np.float32)) for bins in SIMCC[2:]]
    calls: dict[str, Callable[[Any], Any]] = {
        "decode_posenet": lambda out: decode_posenet(
            heatmaps, offsets, output_stride=16, out=out, activation="sigmoid"
        ),
        "decode_heatmap": lambda out: decode_heatmap(heatmaps, preset="mmpose_dark", input_size=(132, 132), out=out),
        "decode_simcc": lambda out: decode_simcc(*vectors, preset="rtmpose", out=out),
        "find_peaks": lambda out: find_peaks(heatmaps, threshold=0.5, max_peaks=20, out=out, activation="sigmoid"),
        "decode_posenet_multi": lambda out: decode_posenet_multi(
            heatmaps, offsets, field, field, output_stride=16, out=out, activation="sigmoid"
        ),
    }
    return {name: _median(call, repeats) for name, call in calls.items()}


def _median(call: Callable[[Any], Any], repeats: int) -> float:
    out, times, clock = call(None), [], []
    with timing.quiet():
        for _ in range(repeats):
            start = time.perf_counter_ns()
            call(out)
            times.append(time.perf_counter_ns() - start)
            start = time.perf_counter_ns()
            clock.append(time.perf_counter_ns() - start)
    return (statistics.median(times) - statistics.median(clock)) / 1000


def table() -> None:
    archs = _kernels.ARCHITECTURES
    print(f"registers, spills: sm_{', '.join(map(str, archs))}; loads: heatmaps {SHAPE}, vectors {SIMCC}, CPU executor")
    print(f"{'kernel':41} launches  bytes read  in 16-byte   registers  spilled  shared")
    print(f"{'':41}           per byte     loads                   bytes   bytes")
    seconds: dict[str, list[float]] = {}
    calls = [one_person(dtype, layout) for dtype in _kernels.ELEMENTS for layout in _kernels.LAYOUTS]
    calls += [several_people(dtype) for dtype in _kernels.ELEMENTS]
    calls += [peaks(dtype) for dtype in _kernels.ELEMENTS]
    calls += [
        one_heatmap_head(dtype, head, layout)
        for dtype in _kernels.ELEMENTS
        for head, layouts in _kernels.HEADS.items()
        for layout in layouts
    ]
    calls += [simcc(dtype, merged) for dtype in _kernels.ELEMENTS for merged in (False, True)]
    for variants, reads in calls:
        for variant, (read, by_vectors) in zip(variants, reads):
            compiled = [compile_for(variant, arch) for arch in archs]
            seconds.setdefault(variant.source, []).extend(c.seconds for c in compiled)
            registers = [c.registers for c in compiled]
            print(
                f"{variant!s:41} {len(variants):8} {read:11.2f} {by_vectors:11.1%}"
                f" {min(registers):7}-{max(registers):<3} {max(c.spilled_bytes for c in compiled):8}"
                f" {max(c.shared_bytes for c in compiled):7}"
            )
    medians = ", ".join(f"{name} in {statistics.median(times):.2f} s" for name, times in seconds.items())
    print(f"\nNVRTC compiles {medians} (medians), once: CuPy keeps the result on disk")
    times = ", ".join(f"{name} {microseconds:.1f}" for name, microseconds in host_times().items())
    print(f"One call with all but the driver (median us, with out=, CuPy arrays): {times}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {str(variant): variant for variant in _kernels.VARIANTS}
    parser.add_argument("--sass", choices=names, metavar="KERNEL", help="its inner loop for sm_90: " + "; ".join(names))
    arguments = parser.parse_args()
    if arguments.sass:
        print(inner_loop(compile_for(names[arguments.sass], 90).cubin))
    else:
        table()


if __name__ == "__main__":
    main()
