"""find_peaks' kernel under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

import pytest

from bench.cuda_cpu import executor

pytestmark = pytest.mark.usefixtures("fresh_plans")


SANITIZED = """
import sys
from posepost import _cuda, _kernels
from bench.arrays import values
from bench.cuda_cpu.seam import ExecutorCuda, to_device
import posepost
_cuda.cuda = ExecutorCuda(sanitize=sys.argv[1])
if sys.argv[2] != "none":
    read, (old, new) = _kernels.source, eval(sys.argv[2])
    assert old in read("peaks.cu")
    _kernels.source = lambda name: read(name).replace(old, new)
for window in (1, 3):
    heatmaps = to_device(values("random", "float16", (1, 2, 5, 7), 1))
    assert posepost.find_peaks(heatmaps, threshold=0.5, max_peaks=4, nms_window=window).numpy().count.any()
print("clean")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("address", None),
        ("thread", None),
        ("thread", ("atomicAdd(&s.found, 1u)", "s.found++")),
        ("thread", ("    __syncthreads();\n    const u32 found", "    const u32 found")),
        ("address", ("p.left_out[row] =", "p.left_out[row + 4096] =")),
    ],
)
def test_sanitizers(kind: str, fault: tuple[str, str] | None) -> None:
    """Nothing is found in the kernel, and the same run reports a seeded race or overrun."""
    able, reason = executor.available()
    if not able:
        pytest.skip(reason)
    done = executor.run_sanitized(kind, ["-c", SANITIZED, kind, "none" if fault is None else repr(fault)], timeout=300)
    assert ("clean" in done.stdout) == (fault is None), done.stderr[-3000:]
    if fault is not None:
        assert "ERROR: AddressSanitizer" in done.stderr or "WARNING: ThreadSanitizer" in done.stderr
