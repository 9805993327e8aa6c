"""decode_posenet_multi: bad input, word for word, on host and device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device

from ..helpers import (
    CHANNELS,
)
from .shared_errors import ERRORS, MAPS

pytestmark = pytest.mark.usefixtures("fresh_plans")


def _tensors(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: np.zeros(shapes.get(name, (1, channels, 4, 5)), np.float32) for name, channels in CHANNELS.items()}


BAD = [
    (
        {**_tensors(displacement_fwd=(1, 34, 4, 5))},
        ValueError,
        "displacement_fwd must have 32 channels, two for each edge of PoseNet's skeleton, got 34",
    ),
    (
        {**_tensors(displacement_bwd=(1, 32, 5, 4))},
        ValueError,
        "displacement_bwd must match heatmaps in all axes but the channels of NCHW, got shapes (1, 32, 5, 4) and "
        "(1, 17, 4, 5)",
    ),
    (
        {**_tensors(heatmaps=(1, 18, 4, 5), offsets=(1, 36, 4, 5))},
        ValueError,
        "heatmaps must have 17 channels, the keypoints of PoseNet's skeleton, got 18; skeleton= joins others",
    ),
    ({**_tensors(), "max_poses": 0}, ValueError, "max_poses must be at least 1, got 0"),
    ({**_tensors(), "max_poses": 2.0}, TypeError, "max_poses must be an int, got float"),
    ({**_tensors(), "score_threshold": 1.5}, ValueError, "score_threshold must be from 0 to 1, got 1.5"),
    ({**_tensors(), "score_threshold": math.nan}, ValueError, "score_threshold must be from 0 to 1, got nan"),
    ({**_tensors(), "nms_radius": -1}, ValueError, "nms_radius must be finite and not negative, got -1"),
    (
        {**_tensors(), "mode": "openpose"},
        ValueError,
        'mode must be "tfjs", "pytorch", "coral" or "edgetpu", got \'openpose\'',
    ),
    (
        {**_tensors(), "refinement_steps": 3},
        ValueError,
        'refinement_steps must be None but in modes "coral" and "edgetpu", got 3',
    ),
    ({**_tensors(), "output_stride": -8}, ValueError, "output_stride must be finite and above 0, got -8"),
    ({**_tensors(), "activation": "relu"}, ValueError, "activation must be \"sigmoid\" or None, got 'relu'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[message[:50] for _, _, message in BAD])
def test_bad_input(cpu_cuda: ExecutorCuda, arguments: dict, error: type, message: str) -> None:
    for place in (np.asarray, to_device):
        placed = {k: place(v) if k in CHANNELS else v for k, v in arguments.items()}
        with pytest.raises(error) as caught:
            posepost.decode_posenet_multi(**{"output_stride": 8, "activation": "sigmoid", **placed})
        assert str(caught.value) == message
    assert not cpu_cuda.launches


@pytest.mark.parametrize(("error", "message", "replaced", "options"), ERRORS, ids=[row[1][:50] for row in ERRORS])
def test_errors_of_the_twin_on_the_device(
    cpu_cuda: ExecutorCuda, error: type[Exception], message: str, replaced: dict[int, Any], options: dict[str, Any]
) -> None:
    options = {
        key: tuple(map(to_device, value)) if key == "out" and len(value) == 4 else value
        for key, value in options.items()
    }
    with pytest.raises(error) as caught:
        posepost.decode_posenet_multi(
            *(to_device(replaced.get(i, array)) for i, array in enumerate(MAPS)),
            output_stride=16,
            **options,
            activation="sigmoid",
        )
    assert str(caught.value) == message
    assert not cpu_cuda.launches
