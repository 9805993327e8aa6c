"""What is measured: maps named by the model that makes them, in the layouts and types in which they come."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """B images of K heatmaps (H, W) and their 2K offsets."""

    model: str
    B: int
    K: int
    H: int
    W: int
    output_stride: int = 16
    layout: str = "NCHW"
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return f"{self.model}/B{self.B}/{self.layout}/{self.dtype}"

    @property
    def heatmap_bytes(self) -> int:
        return self.B * self.K * self.H * self.W * {"float32": 4, "uint8": 1}.get(self.dtype, 2)

    @property
    def keypoint_bytes(self) -> int:
        """What a decoder on the device sends over the bus: x, y, score in float32."""
        return self.B * self.K * 12

    @property
    def quantization(self) -> dict[str, tuple[float, int]] | None:
        """uint8 maps are logits of scale 1/16 around 128, offsets pixels of scale 1/4."""
        return {"heatmaps": (0.0625, 128), "offsets": (0.25, 128)} if self.dtype == "uint8" else None


POSENET = (
    Case("PoseNet 257x257/16", 1, 17, 17, 17),
    Case("PoseNet 353x481/16", 1, 17, 23, 31),
    Case("PoseNet 513x513/8", 1, 17, 65, 65, 8),
    Case("PoseNet 540p/16", 1, 17, 34, 60),
    Case("PoseNet 1080p/16", 1, 17, 68, 120),
    Case("PoseNet 540p/8", 1, 17, 68, 120, 8),
    Case("PoseNet 1080p/8", 1, 17, 135, 240, 8),
)
HRNET = tuple(Case(f"HRNet {H}x{W}", B, 17, H, W, 4) for H, W in ((64, 48), (96, 72)) for B in (1, 8, 64, 512))
WHOLEBODY = (Case("whole-body 133x96x72", 1, 133, 96, 72, 4),)

BASE = POSENET + HRNET + WHOLEBODY
FORMATS = tuple(
    case._replace(layout=layout, dtype=dtype)
    for case in (POSENET[1], POSENET[4], HRNET[2])
    for layout in ("NCHW", "NHWC")
    for dtype in ("float32", "float16", "bfloat16", "uint8")
)
BATCH_SWEEP = tuple(HRNET[0]._replace(B=B) for B in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
SIZE_SWEEP = tuple(Case(f"map {n}x{n}", 1, 17, n, n) for n in (8, 16, 32, 64, 128, 256, 512))
CASES = tuple(dict.fromkeys(BASE + FORMATS + BATCH_SWEEP + SIZE_SWEEP))


def inputs(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and offsets of people-like maps: logits with one peak a map over noise; offsets within half a stride."""
    B, K, H, W = case.B, case.K, case.H, case.W
    rng = np.random.default_rng(seed)
    heatmaps = rng.standard_normal((B, K, H, W), np.float32) - 6
    b, k = np.ogrid[:B, :K]
    heatmaps[b, k, rng.integers(0, H, (B, K)), rng.integers(0, W, (B, K))] = rng.uniform(0.5, 4, (B, K))
    offsets = rng.uniform(-0.5, 0.5, (B, 2 * K, H, W)).astype(np.float32) * case.output_stride
    arrays = []
    for name, array in (("heatmaps", heatmaps), ("offsets", offsets)):
        if case.layout == "NHWC":
            array = array.transpose(0, 2, 3, 1)
        if case.quantization:
            scale, zero = case.quantization[name]
            array = np.clip(np.rint(array / np.float32(scale)) + zero, 0, 255)
        arrays.append(np.ascontiguousarray(array).astype(_dtype(case.dtype)))
    return arrays[0], arrays[1]


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
