"""Which device a session takes, and the order of its calls there: one stream, no wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnx
import onnxruntime

from posepost import ort

from ..onnx_models import (
    CPU,
    CUDA,
    FOUR,
    build,
    exactly,
    pixels,
)


@pytest.mark.parametrize(
    ("requested", "available", "problem", "device", "reason"),
    [
        (None, [CPU], None, "cpu", "this onnxruntime has no CUDA provider"),
        (None, [CUDA, CPU], None, "cuda", "onnxruntime and CuPy on one stream"),
        (None, [CUDA, CPU], "no CuPy", "cpu", "no CuPy"),
        ([CPU], [CUDA, CPU], None, "cpu", "providers= names no CUDA provider"),
        ([(CUDA, {"arena": "x"})], [CUDA, CPU], None, "cuda", "onnxruntime and CuPy on one stream"),
        ([CUDA], [CPU], None, "cpu", "this onnxruntime has no CUDA provider"),
    ],
)
def test_choice_of_device(requested: Any, available: list[str], problem: str | None, device: str, reason: str) -> None:
    assert ort.choose_device(requested, available, lambda: problem) == (device, reason)


def test_providers() -> None:
    ours = {"device_id": "1", "user_compute_stream": "4096"}
    assert ort.provider_list(None, "cpu", 0, None) == [CPU]
    assert ort.provider_list(None, "cuda", 1, 4096) == [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC", **ours}), CPU]
    rtx = ("NvTensorRTRTXExecutionProvider", {"nv_dump_subgraphs": "0"})
    asked = ["TensorrtExecutionProvider", rtx, (CUDA, {"cudnn_conv_algo_search": "DEFAULT"}), CPU]
    assert ort.provider_list(asked, "cuda", 1, 4096) == [  # all that work on the device work on our stream
        ("TensorrtExecutionProvider", ours),
        (rtx[0], {**rtx[1], **ours}),
        (CUDA, {"cudnn_conv_algo_search": "DEFAULT", **ours}),
        CPU,
    ]
    assert ort.provider_list([CPU], "cpu", 0, None) == [CPU]


@pytest.mark.parametrize(("call", "result"), [("run", "keypoints"), ("run_multi", "poses")])
def test_on_a_device_everything_goes_to_one_stream_and_nothing_waits(
    call: str, result: str, device: SimpleNamespace
) -> None:
    data = build({"extra": 3, **FOUR})
    heads = list(FOUR)[: 2 if call == "run" else 4]
    session = ort.PoseSession(data, device_id=1)
    assert device.log == [
        "device 1",
        (
            "session",
            [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "device_id": "1", "user_compute_stream": "4096"}), CPU],
            0,
        ),
    ]
    assert (session.device, session.stream.ptr) == ("cuda", 4096)
    device.log.clear()
    assert getattr(session, call)(np.zeros((1, 3, 33, 49), np.float32)) == result
    assert device.log == [
        "device 1",
        "caller records",
        "ours waits for event",
        "enter ours",
        "upload",
        ("input", "picture", "cuda", 1, np.float32, (1, 3, 33, 49)),
        *(("output", head, "cuda", 1) for head in heads),
        ("run", "1"),
        ("decode", "ours", 8, "NCHW", "sigmoid", *heads),
        "leave ours",
        "ours records",
        "caller waits for event",
    ]


def test_inputs_besides_the_image_are_bound_from_the_host(device: SimpleNamespace) -> None:
    proto = onnx.load_from_string(build(batch=2))
    for name, kind, sizes in (("index", onnx.TensorProto.INT64, ["N"]), ("scale", onnx.TensorProto.FLOAT, [])):
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, sizes))
    session = ort.PoseSession(proto, inputs={"index": 3, "scale": 0.5})
    session.run(np.zeros((2, 3, 33, 49), np.float32))
    start = next(number for number, entry in enumerate(device.log) if entry[0] == "input")
    assert device.log[start : start + 4] == [
        ("input", "picture", "cuda", 0, np.float32, (2, 3, 33, 49)),
        ("host input", "index", "int64", [3, 3]),
        ("host input", "scale", "float32", 0.5),
        ("output", "heatmaps", "cuda", 0),
    ]


def test_strided_images_on_a_device_are_refused(device: SimpleNamespace) -> None:
    session = ort.PoseSession(build())
    strided = np.zeros((1, 3, 33, 98), np.float32)[..., ::2]
    with pytest.raises(ValueError, match=exactly("images must be C-contiguous on the device; make a contiguous copy")):
        session.run(strided)


def test_a_cuda_provider_that_does_not_start_is_warned_of(device: SimpleNamespace) -> None:
    device.started = [CPU]
    with pytest.warns(RuntimeWarning) as warned:
        session = ort.PoseSession(build())
    reason = "onnxruntime could not start its CUDA provider (posepost doctor tells more)"
    assert str(warned[0].message) == f"PoseSession runs on the CPU: {reason}"
    assert (session.device, session.device_reason, session.stream) == ("cpu", reason, None)
    assert session.describe().endswith(f"\ndevice           cpu: {reason}")


@pytest.mark.gpu
def test_device_and_host_give_the_same_keypoints(gpu: Any) -> None:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider")
    data = build(size=(None, None), batch=None)
    there, here = ort.PoseSession(data), ort.PoseSession(data, providers=[CPU])
    assert there.device == "cuda"
    images = pixels(here, (257, 257), batch=4)
    expected = here.run(images)
    for source in (images, gpu.asarray(images)):
        result = there.run(source).numpy()
        assert np.allclose(result.keypoints, expected.keypoints, rtol=0, atol=1e-3)
        assert np.allclose(result.scores, expected.scores, rtol=0, atol=1e-5)
