"""What can be counted of the kernels without a GPU: `python -m bench.counted`.

For each instantiation: registers and spilled bytes over all architectures (NVRTC), and, from running it on the CPU
executor on one PoseNet frame, launches, bytes of heatmap read per byte of heatmap, and the share of them read by
16-byte loads. Then the Python time of one `decode_posenet` call up to the launch. Speed on a GPU cannot be counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from posepost import _kernels, decode_posenet, posenet
from tests.cases import VIEWS, dtype_of, quantization_for
from tests.cuda_cpu.seam import ExecutorCuda, to_device

from .resources import compile_for, inner_loop

SHAPE = (1, 17, 33, 33)  # PoseNet, 513 x 513 at stride 16
VIEW_OF = {"PLANAR": "nchw", "INTERLEAVED": "nhwc", "STRIDED": "nchw_every_other_column"}


class NullCuda(ExecutorCuda):
    """Takes launches and does nothing, so that what remains is posepost's own Python."""

    def compile(self, variant: _kernels.Variant) -> Any:
        return None

    def launch(self, *arguments: Any) -> None:
        pass


def counted(dtype: str, layout: str) -> dict[str, float]:
    """Loads of one decode, on the CPU executor."""
    cuda = _kernels.cuda = ExecutorCuda()
    _kernels.kernel.cache_clear()
    B, K, H, W = SHAPE
    order, view = VIEWS[VIEW_OF[layout]]
    rng = np.random.default_rng(0)
    heatmaps = view(rng.integers(0, 100, SHAPE).astype(dtype_of(dtype)), to_device)
    offsets = view(np.zeros((B, 2 * K, H, W), np.float32), to_device)
    variant = _kernels.posenet(_kernels.ELEMENTS[dtype], layout)
    kernel = _kernels.kernel(variant)
    span = sum((n - 1) * s for n, s in zip(heatmaps.shape, heatmaps.strides)) + heatmaps.itemsize
    counts = kernel.watch(heatmaps.data.ptr, span, count=True)
    offset_span = sum((n - 1) * s for n, s in zip(offsets.shape, offsets.strides)) + offsets.itemsize
    kernel.watch(offsets.data.ptr, offset_span)
    workspace = to_device(np.zeros(4096, np.uint64))
    _kernels._workspaces.clear()
    _kernels._workspaces[0, cuda.stream(0), 0] = [workspace]
    kernel.watch(workspace.data.ptr, workspace.nbytes)
    decode_posenet(heatmaps, offsets, output_stride=16, layout=order, quantization=quantization_for(dtype, "float32"))
    (launched,) = cuda.launches
    assert launched.variant == variant
    nbytes = heatmaps.size * heatmaps.itemsize
    return {
        "launches": len(cuda.launches),
        "read": int(counts.sum()) / nbytes,
        "vector share": 16 * kernel.loads().get(16, 0) / nbytes,
    }


def host_time(*, with_out: bool, repeats: int = 20000) -> float:
    """Median microseconds of one decode_posenet call on CuPy arrays, the launch itself left out."""
    _kernels.cuda = NullCuda()
    _kernels.kernel.cache_clear()
    B, K, H, W = SHAPE
    heatmaps, offsets = to_device(np.zeros(SHAPE, np.float32)), to_device(np.zeros((B, 2 * K, H, W), np.float32))
    out = decode_posenet(heatmaps, offsets, output_stride=16) if with_out else None
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        decode_posenet(heatmaps, offsets, output_stride=16, out=out)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def table() -> None:
    archs = _kernels.ARCHITECTURES
    print(f"registers, spills: sm_{', '.join(map(str, archs))}; loads: heatmaps {SHAPE}, CPU executor")
    print(f"{'kernel':38} launches  bytes read  in 16-byte   registers  spilled  shared")
    print(f"{'':38}           per byte     loads                   bytes   bytes")
    seconds = []
    for dtype, element in _kernels.ELEMENTS.items():
        for layout in _kernels.LAYOUTS:
            variant = _kernels.posenet(element, layout)
            compiled = [compile_for(variant, arch) for arch in archs]
            seconds += [c.seconds for c in compiled]
            loads = counted(dtype, layout)
            registers = [c.registers for c in compiled]
            print(
                f"{variant!s:38} {loads['launches']:8} {loads['read']:11.2f} {loads['vector share']:11.1%}"
                f" {min(registers):7}-{max(registers):<3} {max(c.spilled_bytes for c in compiled):8}"
                f" {max(c.shared_bytes for c in compiled):7}"
            )
    posenet._plan.cache_clear()
    print(f"\nNVRTC compiles a kernel in {statistics.median(seconds):.2f} s (median), once: CuPy keeps it on disk")
    print(f"Python of one call up to the launch: {host_time(with_out=True):.1f} us (median, with out=, CuPy arrays)")


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
