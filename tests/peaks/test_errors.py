"""find_peaks: bad input, word for word, on host and device."""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device

pytestmark = pytest.mark.usefixtures("fresh_plans")


BAD = [
    ({"threshold": 1.5}, ValueError, "threshold must be from 0 to 1, got 1.5"),
    ({"threshold": "high"}, TypeError, "threshold must be a number, got str"),
    ({"max_peaks": 0}, ValueError, "max_peaks must be at least 1, got 0"),
    ({"nms_window": 4}, ValueError, "nms_window must be odd, got 4"),
    ({"plateau": "some"}, ValueError, 'plateau must be "all" or "none", got \'some\''),
    ({"layout": "CHW"}, ValueError, 'layout must be "NCHW" or "NHWC", got \'CHW\''),
    ({"activation": "relu"}, ValueError, "activation must be \"sigmoid\" or None, got 'relu'"),
    (
        {"refine": "taylor"},
        ValueError,
        'refine must be "none", "quarter", "dark", "dark_udp", "centroid" or "soft_argmax", got \'taylor\'',
    ),
    (
        {"refine": posepost.Megvii()},
        ValueError,
        "refine must be Quarter, Dark, DarkUDP, Centroid or SoftArgmax, got Megvii(blur=11, blur_sigma=None)",
    ),
    (
        {"refine": posepost.SoftArgmax()},
        ValueError,
        "refine must have a window in find_peaks, got SoftArgmax(window=None, temperature=1.0, debias=False)",
    ),
    ({"window": 3}, TypeError, "find_peaks() has no argument 'window': it is now nms_window"),
    ({"out": ()}, TypeError, "out must be a result of the same call or a tuple (points, scores, count), got 0 arrays"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input(cpu_cuda: ExecutorCuda, options: dict, error: type, message: str) -> None:
    for place in (np.asarray, to_device):
        with pytest.raises(error) as caught:
            posepost.find_peaks(
                place(np.zeros((1, 2, 3, 4), np.float32)),
                **{"threshold": 0.5, "max_peaks": 3, "activation": "sigmoid", **options},
            )
        assert str(caught.value) == message
    assert not cpu_cuda.launches
