"""decode_posenet: bad input, word for word, on host and device."""

from __future__ import annotations

import math

import numpy as np
import pytest

import posepost
from bench.arrays import values
from bench.cuda_cpu.seam import ExecutorCuda, to_device

from ..helpers import MATRIX, equal

F32 = np.float32


def _maps(h: tuple[int, ...] = (1, 17, 4, 5), o: tuple[int, ...] = (1, 34, 4, 5), dtype: object = F32) -> dict:
    return {"heatmaps": np.zeros(h, dtype), "offsets": np.zeros(o, dtype), "output_stride": 8}


BAD = [
    (
        {**_maps(), "heatmaps": [[1.0]]},
        TypeError,
        "heatmaps must be a NumPy, CuPy, PyTorch or JAX array, an onnxruntime.OrtValue, or have __dlpack__ or "
        "__cuda_array_interface__, got list",
    ),
    (
        {**_maps(), "offsets": None},
        TypeError,
        "offsets must be a NumPy, CuPy, PyTorch or JAX array, an onnxruntime.OrtValue, or have __dlpack__ or "
        "__cuda_array_interface__, got NoneType",
    ),
    (_maps(dtype=np.float64), TypeError, "heatmaps must be float32, float16, bfloat16, uint8 or int8, got float64"),
    (
        {**_maps(), "offsets": np.zeros((1, 34, 4, 5), ">f4")},
        TypeError,
        "offsets must be float32, float16, bfloat16, uint8 or int8, got >f4",
    ),
    (_maps((17, 4)), ValueError, "heatmaps must have 3 or 4 dimensions, got shape (17, 4)"),
    (
        _maps((17, 4, 5)),
        ValueError,
        "offsets must have as many dimensions as heatmaps, got shapes (1, 34, 4, 5) and (17, 4, 5)",
    ),
    (_maps(o=(1, 32, 4, 5)), ValueError, "offsets must have twice the channels of heatmaps, got 32 and 17"),
    (
        _maps(o=(1, 34, 4, 6)),
        ValueError,
        "offsets must match heatmaps in all axes but the channels, got shapes (1, 34, 4, 6) and (1, 17, 4, 5)",
    ),
    (
        {**_maps(o=(1, 34, 4, 6)), "layout": "NCHW"},
        ValueError,
        "offsets must match heatmaps in all axes but the channels of NCHW, got shapes (1, 34, 4, 6) and (1, 17, 4, 5)",
    ),
    (
        _maps(o=(1, 17, 4, 5)),
        ValueError,
        "offsets must have twice the channels of heatmaps, got the shape (1, 17, 4, 5) for both",
    ),
    (
        _maps((2, 17, 0, 5), (2, 34, 0, 5)),
        ValueError,
        "heatmaps must have at least one channel, row and column, got shape (2, 17, 0, 5)",
    ),
    ({**_maps(), "layout": "HWC"}, ValueError, 'layout must be "NCHW", "NHWC" or None, got \'HWC\''),
    ({**_maps(), "activation": "softmax"}, ValueError, "activation must be \"sigmoid\" or None, got 'softmax'"),
    ({**_maps(), "output_stride": 0}, ValueError, "output_stride must be finite and above 0, got 0"),
    ({**_maps(), "output_stride": math.nan}, ValueError, "output_stride must be finite and above 0, got nan"),
    ({**_maps(), "output_stride": "16"}, TypeError, "output_stride must be a number, got str"),
    ({**_maps(), "output_stride": [16]}, TypeError, "output_stride must be a number, got list"),
    ({**_maps(), "transform": np.eye(3)}, ValueError, "transform must have shape (2, 3) or (1, 2, 3), got (3, 3)"),
    (
        {**_maps(), "transform": [["a", 0, 0], [0, 0, 0]]},
        TypeError,
        "transform must be numbers of shape (2, 3) or (1, 2, 3), got [['a', 0, 0], [0, 0, 0]]",
    ),
    (
        _maps(dtype=np.uint8),
        ValueError,
        "quantization must give (scale, zero_point) of heatmaps, which is uint8, got None",
    ),
    (
        {**_maps(), "quantization": {"heatmaps": (1, 0)}},
        ValueError,
        "quantization must name integer tensors alone, got 'heatmaps', which is float32",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": {"maps": (1, 0)}},
        ValueError,
        "quantization must name heatmaps or offsets, got 'maps'",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": (1, 0)},
        TypeError,
        "quantization must be a dict of argument name to (scale, zero_point), got tuple",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": {"heatmaps": 1}},
        TypeError,
        "quantization['heatmaps'] must be (scale, zero_point), got 1",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": {"heatmaps": (-1, 0)}},
        ValueError,
        "quantization['heatmaps'] must have a finite scale above 0, got -1",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": {"heatmaps": (1, 128)}},
        ValueError,
        "quantization['heatmaps'] must have a whole zero_point from -128 to 127, got 128",
    ),
    (
        {**_maps(), "out": np.zeros((1, 17, 3), F32)},
        TypeError,
        "out must be a result of the same call or a tuple (keypoints, scores), got ndarray",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 2), F32),)},
        TypeError,
        "out must be a result of the same call or a tuple (keypoints, scores), got 1 arrays",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 3), F32), np.zeros((1, 17), F32))},
        ValueError,
        "out.keypoints must have shape (1, 17, 2), got (1, 17, 3)",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 2)), np.zeros((1, 17), F32))},
        TypeError,
        "out.keypoints must be float32, got float64",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 2), F32), np.zeros((1, 34), F32)[:, ::2])},
        ValueError,
        "out.scores must be C-contiguous, got strides (34, 2)",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 2), F32), np.broadcast_to(F32(0), (1, 17)))},
        ValueError,
        "out.scores must be C-contiguous, got strides (0, 0)",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[message[:60] for _, _, message in BAD])
def test_bad_input(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error) as caught:
        posepost.decode_posenet(**{"activation": "sigmoid", **arguments})
    assert str(caught.value) == message


NOT_ON_A_DEVICE = ("got >f4", "got strides (0, 0)")  # what CuPy does not have, what to_device does not place


def test_bad_input_on_a_device(cpu_cuda: ExecutorCuda) -> None:
    """The same words as on the host, and nothing is launched."""
    for arguments, error, message in BAD:
        if message.endswith(NOT_ON_A_DEVICE):
            continue

        def place(value: object) -> object:
            if isinstance(value, np.ndarray):
                whole = value.base if value.base is not None else value
                return to_device(whole)[:, ::2] if whole.shape != value.shape else to_device(value)
            return tuple(map(place, value)) if isinstance(value, tuple) else value

        placed = {k: place(v) if k in ("heatmaps", "offsets", "out") else v for k, v in arguments.items()}
        with pytest.raises(error) as caught:
            posepost.decode_posenet(**{"activation": "sigmoid", **placed})
        assert str(caught.value) == message
    assert not cpu_cuda.launches


def test_bad_strides_and_read_only_out() -> None:
    maps = _maps()
    maps["heatmaps"] = maps["heatmaps"][:, :, ::-1]
    with pytest.raises(
        ValueError, match=r"^heatmaps must not have negative strides, got \(340, 20, -5, 1\); pass a con"
    ):
        posepost.decode_posenet(**maps, activation="sigmoid")
    odd = np.zeros((1, 17, 4, 5), np.dtype([("value", "f4"), ("flag", "u1")]))["value"]
    with pytest.raises(
        ValueError, match=r"^heatmaps must have strides that are multiples of its 4-byte elements, got "
    ):
        posepost.decode_posenet(**{**_maps(), "heatmaps": odd}, activation="sigmoid")
    scores = np.zeros((1, 17), np.float32)
    scores.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out\.scores must be writable, got a read-only numpy array$"):
        posepost.decode_posenet(**_maps(), out=(np.zeros((1, 17, 2), np.float32), scores), activation="sigmoid")


def test_mixed_devices(cpu_cuda: ExecutorCuda) -> None:
    maps = _maps()
    for name, here, there in (("heatmaps", "cpu", "cuda:0"), ("offsets", "cuda:0", "cpu")):
        mixed = {**maps, name: to_device(maps[name])}
        with pytest.raises(
            ValueError, match=f"^offsets must be on the same device as heatmaps, got {here} and {there}$"
        ):
            posepost.decode_posenet(**mixed, activation="sigmoid")
    device = {name: to_device(maps[name]) for name in ("heatmaps", "offsets")}
    out = (np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32))
    with pytest.raises(
        ValueError, match=r"^out\.keypoints must be on the same device as heatmaps, got cpu and cuda:0$"
    ):
        posepost.decode_posenet(**device, output_stride=8, out=out, activation="sigmoid")
    with pytest.raises(ValueError, match=r"^transform must be on the same device as heatmaps, got cuda:0 and cpu$"):
        posepost.decode_posenet(**maps, transform=to_device(MATRIX), activation="sigmoid")
    with pytest.raises(TypeError, match=r"^transform on a device must be float32, got float16$"):
        posepost.decode_posenet(
            **device, output_stride=8, transform=to_device(MATRIX.astype(np.float16)), activation="sigmoid"
        )
    with pytest.raises(ValueError, match=r"^transform must have shape \(2, 3\) or \(1, 2, 3\), got \(3, 3\)$"):
        posepost.decode_posenet(
            **device, output_stride=8, transform=to_device(np.eye(3, dtype=np.float32)), activation="sigmoid"
        )
    with pytest.raises(TypeError, match=r"^stream must be None, a pointer, a CuPy or PyTorch stream or have __cuda_st"):
        posepost.decode_posenet(**device, output_stride=8, stream="main", activation="sigmoid")


def test_device_transform_and_misaligned_device_memory(cpu_cuda: ExecutorCuda) -> None:
    heatmaps, offsets = values("random", "float32", (2, 3, 4, 5), 1), values("random", "float32", (2, 6, 4, 5), 2)
    rows = np.stack([MATRIX, 2 * MATRIX])
    for matrix in (MATRIX, rows):
        got = posepost.decode_posenet(
            to_device(heatmaps), to_device(offsets), output_stride=8, transform=to_device(matrix), activation="sigmoid"
        ).numpy()
        equal(
            got.keypoints,
            posepost.decode_posenet(
                heatmaps, offsets, output_stride=8, transform=matrix, activation="sigmoid"
            ).keypoints,
        )
    import cupy

    off = to_device(np.zeros(200, np.float32))
    crooked = cupy.ndarray((1, 3, 4, 5), np.float32, off.data + 2)
    with pytest.raises(ValueError, match=r"^heatmaps must start at a multiple of its 4-byte elements, got address 0x"):
        posepost.decode_posenet(crooked, to_device(offsets[:1]), output_stride=8, activation="sigmoid")
