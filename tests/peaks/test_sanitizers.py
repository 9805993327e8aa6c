"""find_peaks' kernel under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

import pytest

from ..helpers import check_sanitizers

pytestmark = pytest.mark.usefixtures("fresh_plans")


SCRIPT = """
from bench.arrays import values
from bench.cuda_cpu.seam import to_device
import posepost
for window in (1, 3):
    heatmaps = to_device(values("random", "float16", (1, 2, 5, 7), 1))
    options = {"threshold": 0.5, "max_peaks": 4, "nms_window": window, "activation": "sigmoid"}
    assert posepost.find_peaks(heatmaps, **options).numpy().count.any()
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
    check_sanitizers(kind, SCRIPT, "peaks.cu", fault)
