"""decode_posenet_multi's kernels under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

import pytest

from bench.cuda_cpu import executor

pytestmark = pytest.mark.usefixtures("fresh_plans")


SANITIZED = """
import sys
from posepost import _cuda, _kernels
from bench.cuda_cpu.seam import ExecutorCuda, to_device
from tests.helpers import crowd, random_tree
import posepost, posepost.posenet_multi as multi
_cuda.cuda = ExecutorCuda(sanitize=sys.argv[1])
if sys.argv[2] != "none":
    read, (old, new) = _kernels.source, eval(sys.argv[2])
    assert old in read("posenet_multi.cu")
    _kernels.source = lambda name: read(name).replace(old, new)
for mode in ("tfjs", "coral"):
    for walked, K in ((1024, 17), (2, 17), (2, 32)):
        multi.WALKED = walked
        multi._plan.cache_clear()
        tensors = [to_device(array) for array in crowd("float32", 2, 3, 4, 1, K).values()]
        options = {"mode": mode, "max_poses": 3, "nms_radius": 3.0, "skeleton": random_tree(K, 1) if K > 17 else None}
        poses = posepost.decode_posenet_multi(*tensors, output_stride=8, **options)
        assert poses.numpy().count.any()
print("clean")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("address", None),
        ("thread", None),
        ("thread", ("atomicAdd(p.found + image, 1u)", "p.found[image]++")),
        ("thread", ("        __syncthreads();\n        if (s.accept) {", "        if (s.accept) {")),
        (
            "address",
            ("p.keypoints[first * p.K * 2 + i] = 0.0f", "p.keypoints[first * p.K * 4 + i + 4096] = 0.0f"),
        ),
    ],
)
def test_sanitizers(kind: str, fault: tuple[str, str] | None) -> None:
    """Nothing is found in the kernels, and the same run reports a seeded race or overrun."""
    able, reason = executor.available()
    if not able:
        pytest.skip(reason)
    done = executor.run_sanitized(kind, ["-c", SANITIZED, kind, "none" if fault is None else repr(fault)], timeout=300)
    assert ("clean" in done.stdout) == (fault is None), done.stderr[-3000:]
    if fault is not None:
        assert "ERROR: AddressSanitizer" in done.stderr or "WARNING: ThreadSanitizer" in done.stderr
