"""What the tests of decode_posenet share."""

from __future__ import annotations

import numpy as np

import posepost
from bench.arrays import VIEWS, quantization_for, values
from bench.cuda_cpu.seam import ExecutorCuda, to_device
from bench.tolerance import SIGMOID_ATOL, SIGMOID_RTOL

from ..helpers import equal


def check_against_twin(
    cuda: ExecutorCuda,
    view_name: str,
    dtype: str,
    kind: str,
    shape: tuple[int, int, int, int],
    *,
    seed: int,
    skip: int = 0,
    offset_dtype: str | None = None,
    **options: object,
) -> None:
    B, K, H, W = shape
    layout, view = VIEWS[view_name]
    offset_dtype = offset_dtype or dtype
    heatmaps = values(kind, dtype, shape, seed)
    offsets = values("random", offset_dtype, (B, 2 * K, H, W), seed + 1)
    options = {
        "output_stride": 16,
        "layout": layout,
        "activation": None,
        "quantization": quantization_for(dtype, offset_dtype),
        **options,
    }

    def place(array: np.ndarray) -> object:
        return to_device(array, skip=skip)

    expected = posepost.decode_posenet(view(heatmaps, np.array), view(offsets, np.array), **options)
    before = len(cuda.launches)
    got = posepost.decode_posenet(view(heatmaps, place), view(offsets, place), **options).numpy()
    assert len(cuda.launches) == before + 1
    equal(got.keypoints, expected.keypoints)
    if options["activation"] is None:
        equal(got.scores, expected.scores)
    else:
        np.testing.assert_allclose(got.scores, expected.scores, rtol=SIGMOID_RTOL, atol=SIGMOID_ATOL)
