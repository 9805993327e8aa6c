"""PoseSession on the CPU, all people in an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnx
import onnxruntime
from onnx import helper

from posepost import (
    Poses,
    decode_posenet_multi,
    ort,
)

from ..onnx_models import (
    FOUR,
    Layout,
    build,
    exactly,
    pixels,
)


def people(session: ort.PoseSession, batch: int = 1) -> np.ndarray[Any, Any]:
    """Pixels that make a few roots on the maps of `build(FOUR)`."""
    return 2 * pixels(session, batch=batch)


def same_poses(found: Poses, expected: Poses) -> None:
    assert expected.count.min() > 1
    for name, ours, theirs in zip(Poses.DTYPES, found, expected):
        assert np.array_equal(ours, theirs), name


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("mode", ["tfjs", "pytorch", "coral"])
def test_run_multi_gives_what_the_decoder_gives_on_the_models_four_outputs(layout: Layout, mode: str) -> None:
    heads = {"displacement_bwd": 32, "heatmaps": 17, "displacement_fwd": 32, "offsets": 34}  # not in decoding order
    data = build(heads, layout=layout, batch=None)
    session = ort.PoseSession(data)
    images = people(session, 2)
    raw = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(list(FOUR), {"picture": images})
    options = {
        "max_poses": 7,
        "score_threshold": 0.3,
        "nms_radius": 3.0,
        "mode": mode,
        "transform": np.array([[2, 0, -3], [0, 4, 5]], np.float32),
    }
    expected = decode_posenet_multi(*raw, output_stride=8, layout=layout, activation="sigmoid", **options)
    found = session.run_multi(images, **options)
    same_poses(found, expected)
    assert found.keypoints.shape == (2, 7, 17, 2)
    for head, array in zip(FOUR, raw):
        assert np.array_equal(session.forward(images, heads=[head])[0], array)


def test_run_multi_has_the_decoder_s_defaults_and_writes_into_out() -> None:
    session = ort.PoseSession(build(FOUR))
    images = people(session)
    expected = decode_posenet_multi(*session.forward(images, heads=ort.HEADS), output_stride=8, activation="sigmoid")
    out = Poses(*(np.full_like(array, 9) for array in expected))
    found = session.run_multi(images, out=out)
    assert found.keypoints is out.keypoints
    same_poses(out, expected)
    assert np.array_equal(session.run(images).keypoints, ort.PoseSession(build()).run(images).keypoints)


def test_run_multi_takes_the_scales_of_8_bit_heads_from_the_graph() -> None:
    session = ort.PoseSession(build(FOUR, dtype="uint8"))
    assert session.model.quantization == {head: (pytest.approx(0.05), 100 + i) for i, head in enumerate(FOUR)}
    images = people(session)
    raw = session.forward(images, heads=ort.HEADS)
    assert {array.dtype for array in raw} == {np.dtype(np.uint8)}
    real = [(array.astype(np.float32) - np.float32(100 + i)) * np.float32(0.05) for i, array in enumerate(raw)]
    same_poses(session.run_multi(images), decode_posenet_multi(*real, output_stride=8, activation="sigmoid"))
    assert session.run(images).keypoints.shape == (1, 17, 2)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (
            {"heatmaps": 17, "offsets": 34},
            "model: no displacement_fwd and displacement_bwd among the outputs, which several people need "
            "(heads= names them): heatmaps (1, 17, 5, 7), offsets (1, 34, 5, 7)",
        ),
        (
            {"heatmaps": 17, "offsets": 34, "forward": 32, "moves": 32},
            "model: no displacement_bwd among the outputs, which several people need (heads= names them): "
            "heatmaps (1, 17, 5, 7), offsets (1, 34, 5, 7), forward (1, 32, 5, 7), moves (1, 32, 5, 7)",
        ),
        (
            {"heatmaps": 5, "offsets": 10, "fwd": 8, "bwd": 8},
            "model: several people need PoseNet's 17 keypoints, got 5; skeleton= joins others",
        ),
    ],
)
def test_run_multi_says_why_a_model_is_for_one_person(heads: dict[str, int], message: str) -> None:
    session = ort.PoseSession(build(heads))
    with pytest.raises(ValueError, match=exactly(message)):
        session.run_multi(pixels(session))
    assert ort.multi_person_problem(session.model) == message


def test_run_multi_takes_another_skeleton() -> None:
    session = ort.PoseSession(
        build({"heatmaps": 4, "offsets": 8, "fwd": 6, "bwd": 6}), skeleton=[(3, 1), (1, 0), (3, 2)]
    )
    images = pixels(session)
    found = session.run_multi(images, score_threshold=0.1)
    maps = session.forward(images, heads=ort.HEADS)
    expected = decode_posenet_multi(
        *maps, output_stride=8, score_threshold=0.1, skeleton=((3, 1), (1, 0), (3, 2)), activation="sigmoid"
    )
    assert found.count[0] > 0
    same_poses(found, expected)


def test_a_displacement_whose_scale_cannot_be_read_hinders_run_multi_alone() -> None:
    proto = onnx.load_from_string(build(FOUR, dtype="uint8"))
    (node,) = (node for node in proto.graph.node if "displacement_bwd" in node.output)
    (scale,) = (value for value in proto.graph.initializer if value.name == node.input[1])
    proto.graph.node.insert(0, helper.make_node("Abs", [scale.name], ["computed"]))
    node.input[1] = "computed"
    session = ort.PoseSession(proto.SerializeToString())
    assert session.run(pixels(session)).keypoints.shape == (1, 17, 2)
    with pytest.raises(ValueError, match=exactly("model: cannot read the scale of the uint8 output displacement_bwd")):
        session.run_multi(pixels(session))


def test_displacements_may_be_named() -> None:
    heads = {"heatmaps": 17, "offsets": 34, "moves": 32, "returns": 32}
    given = {"displacement_fwd": "moves", "displacement_bwd": "returns"}
    session, plain = ort.PoseSession(build(heads), heads=given), ort.PoseSession(build(FOUR))
    same_poses(session.run_multi(people(session)), plain.run_multi(people(plain)))
