"""decode_posenet_multi's kernels under AddressSanitizer and ThreadSanitizer."""

from __future__ import annotations

import pytest

from ..helpers import check_sanitizers

pytestmark = pytest.mark.usefixtures("fresh_plans")


SCRIPT = """
from bench.cuda_cpu.seam import to_device
from tests.helpers import crowd, random_tree
import posepost, posepost.posenet_multi as multi
for mode in ("tfjs", "coral"):
    for walked, K in ((1024, 17), (2, 17), (2, 32)):
        multi.WALKED = walked
        multi._plan.cache_clear()
        tensors = [to_device(array) for array in crowd("float32", 2, 3, 4, 1, K).values()]
        options = {"mode": mode, "max_poses": 3, "nms_radius": 3.0, "skeleton": random_tree(K, 1) if K > 17 else None}
        poses = posepost.decode_posenet_multi(*tensors, output_stride=8, activation="sigmoid", **options)
        assert poses.numpy().count.any()
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
    check_sanitizers(kind, SCRIPT, "posenet_multi.cu", fault)
