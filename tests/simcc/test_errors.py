"""decode_simcc: bad input, word for word, on host and device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device

from ..helpers import (
    MATRIX,
)

pytestmark = pytest.mark.usefixtures("fresh_plans")


def _two(x: tuple[int, ...] = (1, 3, 8), y: tuple[int, ...] = (1, 3, 6), dtype: Any = np.float32) -> dict[str, Any]:
    return {"simcc_x": np.zeros(x, dtype), "simcc_y": np.zeros(y, dtype)}


def _flip(pairs: Any = (1, 0, 2), y: tuple[int, ...] = (1, 3, 6), dtype: Any = np.float32) -> posepost.Flip:
    return posepost.Flip((np.zeros((1, 3, 8), dtype), np.zeros(y, np.float32)), pairs)


BAD = [
    (
        {**_two(), "simcc_x": [[1.0]]},
        TypeError,
        "simcc_x must be a NumPy, CuPy, PyTorch or JAX array, an onnxruntime.OrtValue, or have __dlpack__ or "
        "__cuda_array_interface__, got list",
    ),
    (_two(dtype=np.float64), TypeError, "simcc_x must be float32, float16, bfloat16, uint8 or int8, got float64"),
    (
        {**_two(), "simcc_y": np.zeros((1, 3, 6), np.float16)},
        TypeError,
        "simcc_y must have the dtype of simcc_x, got float16 and float32",
    ),
    (_two((1, 1, 3, 8)), ValueError, "simcc_x must have 2 or 3 dimensions, got shape (1, 1, 3, 8)"),
    (_two(y=(6,)), ValueError, "simcc_y must have 2 or 3 dimensions, got shape (6,)"),
    (
        _two(y=(3, 6)),
        ValueError,
        "simcc_y must have the rows and keypoints of simcc_x, got shapes (3, 6) and (1, 3, 8)",
    ),
    (
        _two(y=(1, 4, 6)),
        ValueError,
        "simcc_y must have the rows and keypoints of simcc_x, got shapes (1, 4, 6) and (1, 3, 8)",
    ),
    (_two((1, 3, 0)), ValueError, "simcc_x must have at least one keypoint and one bin, got shape (1, 3, 0)"),
    (_two(y=(1, 3, 0)), ValueError, "simcc_y must have at least one keypoint and one bin, got shape (1, 3, 0)"),
    (
        _two((1, 0, 8), (1, 0, 6)),
        ValueError,
        "simcc_x must have at least one keypoint and one bin, got shape (1, 0, 8)",
    ),
    ({**_two(), "refine": "taylor"}, ValueError, 'refine must be "none" or "dark", got \'taylor\''),
    ({**_two(), "preset": "rtmo"}, ValueError, 'preset must be "rtmpose", "rtmpose_rtmlib" or "simcc", got \'rtmo\''),
    ({**_two(), "score": "max"}, ValueError, 'score must be "min" or "mean", got \'max\''),
    (
        {**_two(), "preset": "rtmpose_rtmlib", "activation": "sigmoid"},
        ValueError,
        'score must be "min" with activation \'sigmoid\', got "mean"',
    ),
    ({**_two(), "normalize": "max"}, ValueError, 'normalize must be "clip" or "sigma", got \'max\''),
    ({**_two(), "activation": "softmax"}, ValueError, "activation must be \"sigmoid\" or None, got 'softmax'"),
    (
        {**_two(), "normalize": "clip", "activation": "sigmoid"},
        ValueError,
        "normalize must be None with activation 'sigmoid', got 'clip'",
    ),
    ({**_two(), "sigma": 0}, ValueError, "sigma must be finite and above 0, got 0"),
    ({**_two(), "sigma": (6.0, -1.0)}, ValueError, "sigma must be finite and above 0, got -1.0"),
    ({**_two(), "sigma": math.nan}, ValueError, "sigma must be finite and above 0, got nan"),
    ({**_two(), "sigma": "6"}, TypeError, "sigma must be a number, got str"),
    ({**_two(), "sigma": (6, 6, 6)}, ValueError, "sigma must be a number or (sigma_x, sigma_y), got (6, 6, 6)"),
    (
        {**_two(), "sigma": (6.0, 20.0), "refine": "dark"},
        ValueError,
        "sigma must give blurs of at most 127 bins, got (6.0, 20.0) with 131",
    ),
    ({**_two(), "split_ratio": 0}, ValueError, "split_ratio must be finite and above 0, got 0"),
    ({**_two(), "split_ratio": "2"}, TypeError, "split_ratio must be a number, got str"),
    ({**_two(), "split_ratio": [2]}, TypeError, "split_ratio must be a number, got list"),
    ({**_two(), "beta": -1.0}, ValueError, "beta must be finite and above 0, got -1.0"),
    ({**_two(), "threshold": "low"}, TypeError, "threshold must be a number, got str"),
    ({**_two(), "absent": "none"}, TypeError, "absent must be a number, got str"),
    (
        {**_two(), "flip_pairs": (0, 1, 2)},
        TypeError,
        "decode_simcc() has no argument 'flip_pairs': it is now flip=posepost.Flip((simcc_x, simcc_y), pairs)",
    ),
    ({**_two(), "flip": (0, 1, 2)}, TypeError, "flip must be None or posepost.Flip(maps, pairs), got tuple"),
    (
        {**_two(), "flip": posepost.Flip(np.zeros((1, 3, 8), np.float32), (0, 1, 2))},
        TypeError,
        "flip.maps must be (simcc_x, simcc_y) of the mirrored image, got ndarray",
    ),
    (
        {**_two(), "flip": posepost.Flip((np.zeros((1, 3, 8), np.float32),) * 2, (0, 1, 2), shift=True)},
        ValueError,
        "flip must have neither offsets nor shift in decode_simcc",
    ),
    ({**_two(), "flip": _flip((1, 0))}, ValueError, "flip.pairs must name the partner of each of 3 keypoints, got 2"),
    (
        {**_two(), "flip": _flip(y=(1, 3, 7))},
        ValueError,
        "flip.maps[1] must have the shape of simcc_y, got shapes (1, 3, 7) and (1, 3, 6)",
    ),
    (
        {**_two(), "flip": _flip(dtype=np.float16)},
        TypeError,
        "flip.maps[0] must have the dtype of simcc_x, got float16 and float32",
    ),
    ({**_two(), "transform": np.eye(3)}, ValueError, "transform must have shape (2, 3) or (1, 2, 3), got (3, 3)"),
    (
        _two(dtype=np.uint8),
        ValueError,
        "quantization must give (scale, zero_point) of simcc_x, which is uint8, got None",
    ),
    (
        {**_two(dtype=np.int8), "quantization": {"simcc_x": (1, 0)}},
        ValueError,
        "quantization must give (scale, zero_point) of simcc_y, which is int8, got {'simcc_x': (1, 0)}",
    ),
    (
        {**_two(dtype=np.int8), "quantization": {"heatmaps": (1, 0)}},
        ValueError,
        "quantization must name simcc_x or simcc_y, got 'heatmaps'",
    ),
    (
        {**_two(), "out": np.zeros((1, 3, 3), np.float32)},
        TypeError,
        "out must be a result of the same call or a tuple (keypoints, scores), got ndarray",
    ),
    (
        {**_two(), "out": (np.zeros((1, 3, 3), np.float32), np.zeros((1, 3), np.float32))},
        ValueError,
        "out.keypoints must have shape (1, 3, 2), got (1, 3, 3)",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[message[:60] for _, _, message in BAD])
def test_bad_input(cpu_cuda: ExecutorCuda, arguments: dict[str, Any], error: type, message: str) -> None:
    """The same words on the host and on a device, and nothing is launched."""

    def placed(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.shape != (3, 3):
            return to_device(value)
        if isinstance(value, posepost.Flip):
            return posepost.Flip(placed(value.maps), value.pairs, shift=value.shift)
        return tuple(map(placed, value)) if isinstance(value, tuple) else value

    for given in (arguments, {name: placed(value) for name, value in arguments.items()}):
        with pytest.raises(error) as caught:
            posepost.decode_simcc(**given)
        assert str(caught.value) == message
    assert not cpu_cuda.launches


def test_bad_strides_devices_and_alignment(cpu_cuda: ExecutorCuda) -> None:
    two = _two()
    with pytest.raises(ValueError, match=r"^simcc_x must not have negative strides, got \(24, 8, -1\); pass a cont"):
        posepost.decode_simcc(two["simcc_x"][:, :, ::-1], two["simcc_y"])
    for name, here, there in (("simcc_x", "cpu", "cuda:0"), ("simcc_y", "cuda:0", "cpu")):
        with pytest.raises(
            ValueError, match=f"^simcc_y must be on the same device as simcc_x, got {here} and {there}$"
        ):
            posepost.decode_simcc(**{**two, name: to_device(two[name])})
    on_device = {name: to_device(array) for name, array in two.items()}
    out = (np.zeros((1, 3, 2), np.float32), np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match=r"^out\.keypoints must be on the same device as simcc_x, got cpu and cuda:0$"):
        posepost.decode_simcc(**on_device, out=out)
    with pytest.raises(ValueError, match=r"^transform must be on the same device as simcc_x, got cuda:0 and cpu$"):
        posepost.decode_simcc(**two, transform=to_device(MATRIX))
    with pytest.raises(TypeError, match=r"^stream must be None, a pointer, a CuPy or PyTorch stream or have __cuda_st"):
        posepost.decode_simcc(**on_device, stream="main")
    import cupy

    crooked = cupy.ndarray((1, 3, 6), np.float32, to_device(np.zeros(99, np.float32)).data + 2)
    with pytest.raises(ValueError, match=r"^simcc_y must start at a multiple of its 4-byte elements, got address 0x"):
        posepost.decode_simcc(on_device["simcc_x"], crooked)
    many = np.zeros((1, 513, 1), np.float32)
    flip = posepost.Flip((many, many), range(513))
    assert posepost.decode_simcc(many, many, flip=flip).scores.shape == (1, 513)
    flip = posepost.Flip((to_device(many), to_device(many)), range(513))
    with pytest.raises(ValueError, match=r"^flip\.pairs must have at most 512 keypoints on a device, got 513$"):
        posepost.decode_simcc(to_device(many), to_device(many), flip=flip)
    assert not cpu_cuda.launches
