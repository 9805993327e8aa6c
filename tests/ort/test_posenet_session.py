"""PoseSession on the CPU, one person an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnxruntime
from onnx import TensorProto, helper

from posepost import Keypoints, decode_posenet, ort

from ..onnx_models import (
    Layout,
    build,
    exactly,
    failing_model,
    graph,
    pixels,
)


@pytest.mark.parametrize("input_layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(33, 49), (None, None)])
@pytest.mark.parametrize("joints", [1, 5, 17])
def test_session_gives_what_the_decoder_gives_on_the_models_outputs(
    input_layout: Layout, layout: Layout, size: tuple[int | None, int | None], joints: int
) -> None:
    data = build({"heatmaps": joints, "offsets": 2 * joints}, input_layout=input_layout, layout=layout, size=size)
    session = ort.PoseSession(data)
    model = session.model
    assert (model.input_layout, model.layout, model.output_stride, model.activation) == (
        input_layout,
        layout,
        8,
        "sigmoid",
    )
    assert model.input_size == size[::-1]
    images = pixels(session)
    raw = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(
        ["heatmaps", "offsets"], {"picture": images}
    )
    transform = np.array([[2, 0, -3], [0, 4, 5]], np.float32)
    result = session.run(images, transform=transform)
    expected = decode_posenet(*raw, output_stride=8, layout=layout, activation="sigmoid", transform=transform)
    assert np.array_equal(result.keypoints, expected.keypoints)
    assert np.array_equal(result.scores, expected.scores)
    assert result.keypoints.shape == (1, joints, 2)


def test_run_writes_into_out() -> None:
    session = ort.PoseSession(build())
    images = pixels(session)
    out = Keypoints(np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32))
    result = session.run(images, out=out)
    assert result.keypoints is out.keypoints
    assert np.array_equal(out.scores, session.run(images).scores)


def test_each_image_of_a_batch_gives_what_it_gives_alone() -> None:
    session = ort.PoseSession(build(batch=None))
    images = pixels(session, batch=3)
    together = session.run(images)
    for row in range(3):
        assert np.array_equal(together.keypoints[row], session.run(images[row : row + 1]).keypoints[0])


def test_forward_gives_no_head_that_is_not_there() -> None:
    session = ort.PoseSession(build())
    with pytest.raises(
        ValueError, match=exactly("heads must be among the model's heatmaps, offsets, got 'displacement_fwd'")
    ):
        session.forward(pixels(session), heads=ort.HEADS)


def test_scores_are_not_activated_twice() -> None:
    logits, scores = ort.PoseSession(build()), ort.PoseSession(build(tail="Sigmoid"))
    images = pixels(logits)
    a, b = logits.run(images), scores.run(images)
    assert np.allclose(a.scores, b.scores, rtol=0, atol=1e-6)
    assert np.array_equal(a.keypoints, b.keypoints)
    assert not np.allclose(a.scores, ort.PoseSession(build(), activation=None).run(images).scores)


def test_float16_outputs() -> None:
    data = build(dtype="float16")
    session = ort.PoseSession(data)
    images = pixels(session)
    heatmaps, offsets = session.forward(images)
    assert heatmaps.dtype == offsets.dtype == np.float16
    wide = decode_posenet(
        heatmaps.astype(np.float32), offsets.astype(np.float32), output_stride=8, activation="sigmoid"
    )
    assert np.array_equal(session.run(images).keypoints, wide.keypoints)


def test_8_bit_outputs_bring_their_scales_from_the_graph() -> None:
    session = ort.PoseSession(build(dtype="uint8"))
    assert session.model.quantization == {"heatmaps": (pytest.approx(0.05), 100), "offsets": (pytest.approx(0.05), 101)}
    assert session.model.activation == "sigmoid"
    images = pixels(session)
    raw, offsets = session.forward(images)
    assert raw.dtype == np.uint8
    scale = np.float32(0.05)
    result = session.run(images)
    real = decode_posenet(
        (raw.astype(np.float32) - 100) * scale,
        (offsets.astype(np.float32) - 101) * scale,
        output_stride=8,
        activation="sigmoid",
    )
    assert np.allclose(result.keypoints, real.keypoints, rtol=0, atol=1e-5)
    assert np.allclose(result.scores, real.scores, rtol=0, atol=1e-6)
    assert "quantized        heatmaps: scale 0.05, zero 100, offsets: scale 0.05, zero 101" in session.describe()


def test_letterbox_fits_the_models_dtype_layout_and_size() -> None:
    picture = np.arange(33 * 49 * 3, dtype=np.uint32).astype(np.uint8).reshape(33, 49, 3)
    half, _ = ort.PoseSession(build(input_dtype="float16", input_layout="NHWC")).letterbox(picture)
    assert (half.shape, half.dtype) == ((1, 33, 49, 3), np.float16)
    assert np.array_equal(half[0], ((picture.astype(np.float32) - 127.5) / 127.5).astype(np.float16))
    raw, _ = ort.PoseSession(build(input_dtype="uint8")).letterbox(picture)
    assert np.array_equal(raw[0].transpose(1, 2, 0), picture)
    with pytest.raises(ValueError, match=exactly("size must be what the model takes, 49x33, got 50x33")):
        ort.PoseSession(build()).letterbox(picture, (50, 33))


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        ([1.0], TypeError, "images must be a NumPy array, because this session runs on the CPU (R), got list"),
        (np.zeros((1, 3, 33, 49)), TypeError, "images must have the model's dtype float32, got float64"),
        (
            np.zeros((1, 33, 49, 3), np.float32),
            ValueError,
            "images must have shape (any, 3, 33, 49), got (1, 33, 49, 3)",
        ),
        (np.zeros((3, 33, 49), np.float32), ValueError, "images must have shape (any, 3, 33, 49), got (3, 33, 49)"),
    ],
)
def test_wrong_images(images: Any, kind: type[Exception], message: str) -> None:
    session = ort.PoseSession(build(), providers=["CPUExecutionProvider"])
    with pytest.raises(kind, match=exactly(message.replace("(R)", "(providers= names no CUDA provider)"))):
        session.run(images)


def test_a_model_that_fails_while_running(capfd: pytest.CaptureFixture[str]) -> None:
    heads = {"heatmaps": "h", "offsets": "o"}
    session = ort.PoseSession(failing_model(), heads=heads, activation=None, output_stride=8)
    with pytest.raises(RuntimeError, match=r"^model: the model failed while running: .*Reshape") as caught:
        session.run(np.zeros((1, 3, 33, 49), np.float32))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_onnxruntime_cannot_load(capfd: pytest.CaptureFixture[str]) -> None:
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 8, 8])
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, [1, c, 1, 1]) for o, c in (("h", 1), ("o", 2))]
    nodes = [helper.make_node("NoSuchOperator", ["picture"], ["h", "o"])]
    with pytest.raises(RuntimeError, match=r"^model: onnxruntime cannot load the model: .*NoSuchOperator"):
        ort.PoseSession(graph([picture], nodes, outputs), heads={"heatmaps": "h", "offsets": "o"}, activation=None)
    assert capfd.readouterr() == ("", "")
