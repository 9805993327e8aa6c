"""ONNX graphs: what is read off them, the session on the CPU, and the order of the session's calls on a device."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from posepost import Keypoints, Poses, decode_posenet, decode_posenet_multi

onnx = pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from posepost import ort  # noqa: E402

Layout = str
FOUR = {"heatmaps": 17, "offsets": 34, "displacement_fwd": 32, "displacement_bwd": 32}


def build(
    heads: dict[str, int] | None = None,
    *,
    input_layout: Layout = "NCHW",
    layout: Layout = "NCHW",
    size: tuple[int | None, int | None] = (33, 49),
    batch: int | None = 1,
    stride: int = 8,
    tail: str = "",
    dtype: str = "float32",
    input_dtype: str = "float32",
    metadata: dict[str, str] | None = None,
    declare_maps: bool = True,
    hide_maps: bool = False,
) -> bytes:
    """An ONNX model: each output a 1x1 convolution of the picture with the given stride, `tail` after the heatmaps'."""
    heads = {"heatmaps": 17, "offsets": 34} if heads is None else heads
    rng = np.random.default_rng(5)
    nodes, weights, outputs = [], [], []

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    value = "picture"
    if input_layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [value], ["planar"], perm=[0, 3, 1, 2]))
        value = "planar"
    if input_dtype != "float32":
        nodes.append(helper.make_node("Cast", [value], ["widened"], to=TensorProto.FLOAT))
        value = "widened"
    for position, (name, channels) in enumerate(heads.items()):
        weight = constant(f"w{position}", rng.normal(size=(channels, 3, 1, 1)).astype(np.float32))
        steps: list[tuple[str, list[str], dict[str, Any]]] = [("Conv", [weight], {"strides": [stride, stride]})]
        if position == 0:
            table = {
                "add": ("Add", [constant("bias", np.float32(0.5))], {}),
                "quantize": ("QuantizeLinear", [constant("s", np.float32(0.1)), constant("z", np.uint8(7))], {}),
                "dequantize": ("DequantizeLinear", ["s", "z"], {}),
                "slice": ("Slice", [constant("from", np.array([0])), constant("to", np.array([99]))], {}),
            }
            steps += [table.get(step, (step, [], {})) for step in tail.split()]
        if layout == "NHWC":
            steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
        if dtype == "float16":
            steps.append(("Cast", [], {"to": TensorProto.FLOAT16}))
        if dtype == "uint8":
            extra = [
                constant(f"scale{position}", np.float32(0.05)),
                constant(f"zero{position}", np.uint8(100 + position)),
            ]
            steps.append(("QuantizeLinear", extra, {}))
        if hide_maps:  # shape inference does not see through this
            steps.append(("Reshape", [f"{name}.shape"], {}))
        current = value
        for number, (operator, extra, attributes) in enumerate(steps):
            target = name if number == len(steps) - 1 else f"{name}.{number}"
            if operator == "Reshape":
                nodes.append(helper.make_node("Shape", [current], extra))
            nodes.append(helper.make_node(operator, [current, *extra], [target], **attributes))
            current = target
        maps = ["rows", "columns"] if None in size else [-(-side // stride) for side in size]
        dims = [batch or "N", channels, *maps] if layout == "NCHW" else [batch or "N", *maps, channels]
        if hide_maps:
            dims = [f"{name}{axis}" for axis in "abcd"]
        kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}[dtype]
        outputs.append(helper.make_tensor_value_info(name, kind, dims if declare_maps else None))
    sides = [side or label for side, label in zip(size, ("H", "W"))]
    dims = [batch or "N", 3, *sides] if input_layout == "NCHW" else [batch or "N", *sides, 3]
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}[input_dtype]
    picture = helper.make_tensor_value_info("picture", kind, dims)
    graph = helper.make_graph(nodes, "test", [picture], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    if declare_maps:
        onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def exactly(message: str) -> str:
    """The pattern that matches this text and no other."""
    return rf"\A{re.escape(message)}\Z"


def tensor(*shape: int | None) -> ort.Tensor:
    return ort.Tensor("float32", shape)


def pixels(session: ort.PoseSession, size: tuple[int, int] = (33, 49), batch: int = 1) -> np.ndarray[Any, Any]:
    shape = (batch, 3, *size) if session.model.input_layout == "NCHW" else (batch, *size, 3)
    return np.random.default_rng(1).normal(size=shape).astype(session.model.inputs["picture"].dtype)


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
    assert model.input_size == size
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


def people(session: ort.PoseSession, batch: int = 1) -> np.ndarray[Any, Any]:
    """Pixels that make a few roots on the maps of `build(FOUR)`."""
    return 2 * pixels(session, batch=batch)


def same_poses(found: Poses, expected: Poses) -> None:
    assert expected.count.min() > 1
    for name, ours, theirs in zip(Poses._fields, found, expected):
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
    expected = decode_posenet_multi(*session.forward(images, heads=ort.HEADS), output_stride=8)
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
    same_poses(session.run_multi(images), decode_posenet_multi(*real, output_stride=8))
    assert session.run(images).keypoints.shape == (1, 17, 2)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (
            {"heatmaps": 17, "offsets": 34},
            "model: no displacement_fwd and displacement_bwd among the outputs, which several people need "
            "(heads= or --heads names them): heatmaps (1, 17, 5, 7), offsets (1, 34, 5, 7)",
        ),
        (
            {"heatmaps": 17, "offsets": 34, "forward": 32, "moves": 32},
            "model: no displacement_bwd among the outputs, which several people need (heads= or --heads names them): "
            "heatmaps (1, 17, 5, 7), offsets (1, 34, 5, 7), forward (1, 32, 5, 7), moves (1, 32, 5, 7)",
        ),
        (
            {"heatmaps": 5, "offsets": 10, "fwd": 8, "bwd": 8},
            "model: several people need PoseNet's 17 keypoints, got 5; skeleton= (--skeleton) joins others",
        ),
    ],
)
def test_run_multi_says_why_a_model_is_for_one_person(heads: dict[str, int], message: str) -> None:
    session = ort.PoseSession(build(heads))
    with pytest.raises(ValueError, match=exactly(message)):
        session.run_multi(pixels(session))
    assert ort.several_people_problem(session.model) == message


def test_run_multi_with_a_skeleton_of_ones_own() -> None:
    session = ort.PoseSession(
        build({"heatmaps": 4, "offsets": 8, "fwd": 6, "bwd": 6}), skeleton=[(3, 1), (1, 0), (3, 2)]
    )
    images = pixels(session)
    found = session.run_multi(images, score_threshold=0.1)
    maps = session._forward(images, ort.HEADS)
    expected = decode_posenet_multi(*maps, output_stride=8, score_threshold=0.1, skeleton=((3, 1), (1, 0), (3, 2)))
    assert found.count[0] > 0
    same_poses(found, expected)


def test_a_displacement_whose_scale_cannot_be_read_hinders_several_people_alone() -> None:
    proto = onnx.load_from_string(build(FOUR, dtype="uint8"))
    (node,) = (node for node in proto.graph.node if "displacement_bwd" in node.output)
    (scale,) = (value for value in proto.graph.initializer if value.name == node.input[1])
    proto.graph.initializer.remove(scale)
    proto.graph.node.insert(0, helper.make_node("Constant", [], [scale.name], value=scale))
    session = ort.PoseSession(proto.SerializeToString())
    assert session.run(pixels(session)).keypoints.shape == (1, 17, 2)
    with pytest.raises(ValueError, match=exactly("model: cannot read the scale of the uint8 output displacement_bwd")):
        session.run_multi(pixels(session))


def test_displacements_may_be_named() -> None:
    heads = {"heatmaps": 17, "offsets": 34, "moves": 32, "returns": 32}
    given = {"displacement_fwd": "moves", "displacement_bwd": "returns"}
    session, plain = ort.PoseSession(build(heads), heads=given), ort.PoseSession(build(FOUR))
    same_poses(session.run_multi(people(session)), plain.run_multi(people(plain)))


def test_forward_gives_no_head_that_is_not_there() -> None:
    session = ort.PoseSession(build())
    with pytest.raises(
        ValueError, match=exactly("heads must be among the model's heatmaps, offsets, got 'displacement_fwd'")
    ):
        session.forward(pixels(session), heads=ort.HEADS)


def test_run_writes_into_out() -> None:
    session = ort.PoseSession(build())
    images = pixels(session)
    out = Keypoints(np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32))
    result = session.run(images, out=out)
    assert result.keypoints is out.keypoints
    assert np.array_equal(out.scores, session.run(images).scores)


def test_batches() -> None:
    session = ort.PoseSession(build(batch=None))
    images = pixels(session, batch=3)
    together = session.run(images)
    for row in range(3):
        assert np.array_equal(together.keypoints[row], session.run(images[row : row + 1]).keypoints[0])


@pytest.mark.parametrize(
    ("tail", "activation", "how"),
    [
        ("", "sigmoid", "made by Conv"),
        ("Sigmoid", None, "passed Sigmoid"),
        ("Sigmoid Identity slice", None, "passed Sigmoid"),
        ("Identity slice", "sigmoid", "made by Conv"),
        ("add", "sigmoid", "made by Conv"),
        ("add Sigmoid", None, "passed Sigmoid"),
        ("quantize dequantize", "sigmoid", "made by Conv"),
        ("Sigmoid quantize dequantize Identity", None, "passed Sigmoid"),
        ("Relu", "unknown", "made by Relu"),
        ("Sigmoid add", "unknown", "passed Sigmoid, then arithmetic"),
        ("Sigmoid Relu", "unknown", "made by Relu"),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_activation_is_read_off_the_graph(tail: str, activation: str | None, how: str, layout: Layout) -> None:
    model = ort.read_model(build(tail=tail, layout=layout))
    assert (model.activation, model.activation_by) == (activation, how)


def test_activation_through_concat_is_certain_only_when_all_parts_agree() -> None:
    def verdict(first: str, second: str) -> tuple[str | None, str]:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node(first, ["a"], ["b"]),
            helper.make_node(second, ["a"], ["c"]),
            helper.make_node("Concat", ["b", "c"], ["d"], axis=1),
            helper.make_node("Split", ["d"], ["e", "heatmaps"], axis=1),
        ]
        return ort.find_activation({name: node for node in nodes for name in node.output}, {"w"}, "heatmaps")

    assert verdict("Sigmoid", "Sigmoid") == (None, "passed Sigmoid")
    assert verdict("Identity", "Cast") == ("sigmoid", "made by Conv")
    assert verdict("Sigmoid", "Identity") == ("unknown", "made by Conv and passed Sigmoid")


def test_scores_are_not_activated_twice() -> None:
    logits, scores = ort.PoseSession(build()), ort.PoseSession(build(tail="Sigmoid"))
    images = pixels(logits)
    a, b = logits.run(images), scores.run(images)
    assert np.allclose(a.scores, b.scores, rtol=0, atol=1e-6)
    assert np.array_equal(a.keypoints, b.keypoints)
    assert not np.allclose(a.scores, ort.PoseSession(build(), activation=None).run(images).scores)


def test_unknown_activation_asks() -> None:
    data = build(tail="Relu")
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: cannot tell whether heatmaps are logits or scores (made by Relu); "
            'give activation="sigmoid" for logits or activation=None for scores'
        ),
    ):
        ort.PoseSession(data)
    assert ort.PoseSession(data, activation=None).model.activation is None


def test_float16_outputs() -> None:
    data = build(dtype="float16")
    session = ort.PoseSession(data)
    images = pixels(session)
    heatmaps, offsets = session.forward(images)
    assert heatmaps.dtype == offsets.dtype == np.float16
    wide = decode_posenet(heatmaps.astype(np.float32), offsets.astype(np.float32), output_stride=8)
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
        (raw.astype(np.float32) - 100) * scale, (offsets.astype(np.float32) - 101) * scale, output_stride=8
    )
    assert np.allclose(result.keypoints, real.keypoints, rtol=0, atol=1e-5)
    assert np.allclose(result.scores, real.scores, rtol=0, atol=1e-6)
    assert "quantised        heatmaps: scale 0.05, zero 100, offsets: scale 0.05, zero 101" in session.describe()


def test_extra_outputs_do_not_confuse() -> None:
    heads = {"displacement_bwd": 32, "displacement_fwd": 32, "heatmaps": 17, "long_offsets": 34, "part_heatmaps": 24}
    data = build({**heads, "part_offsets": 48, "segments": 1, "short_offsets": 34}, layout="NHWC")
    model = ort.read_model(data)
    assert model.heads == {
        "heatmaps": "heatmaps",
        "offsets": "short_offsets",
        "displacement_fwd": "displacement_fwd",
        "displacement_bwd": "displacement_bwd",
    }
    assert model.heads_by == "by shape and name"


def test_names_decide_between_outputs_of_one_shape() -> None:
    model = ort.read_model(build({"visibility": 17, "heatmaps": 17, "vectors": 34, "offsets": 34}))
    assert model.heads == {"heatmaps": "heatmaps", "offsets": "offsets"}
    assert model.heads_by == "by shape and name"


def test_names_that_say_nothing() -> None:
    model = ort.read_model(build({"out0": 5, "out1": 10, "out2": 8, "out3": 8}))
    assert model.heads == {"heatmaps": "out0", "offsets": "out1"}
    assert model.heads_by == "by shape"
    assert "displacement_fwd not recognised (not needed for one person)" in ort.describe(model)


def test_two_channels_where_displacements_look_like_heatmaps() -> None:
    names = {"float_heatmaps": 2, "displacement_forward": 2, "displacement_backward": 2, "float_short_offsets": 4}
    assert list(ort.read_model(build(names)).heads.values()) == [
        "float_heatmaps",
        "float_short_offsets",
        "displacement_forward",
        "displacement_backward",
    ]


def test_ambiguous_heads_name_the_candidates() -> None:
    data = build({"a": 17, "b": 34, "c": 34})
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: several outputs may be the heads, name them with heads= (--heads): "
            "a (1, 17, 5, 7) with b (1, 34, 5, 7) or a (1, 17, 5, 7) with c (1, 34, 5, 7)"
        ),
    ):
        ort.PoseSession(data)
    session = ort.PoseSession(data, heads={"offsets": "c"})
    assert session.model.heads == {"heatmaps": "a", "offsets": "c"}
    images = pixels(session)
    assert not np.array_equal(
        session.run(images).keypoints, ort.PoseSession(data, heads={"offsets": "b"}).run(images).keypoints
    )


def test_a_model_without_the_heads() -> None:
    data = build({"boxes": 6, "heatmaps": 17})
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: no heatmaps and offsets among the outputs (offsets must have twice the channels of heatmaps; "
            "heads= or --heads names them): boxes (1, 6, 5, 7), heatmaps (1, 17, 5, 7)"
        ),
    ):
        ort.PoseSession(data)


def test_part_heads_are_no_substitute_but_may_be_named() -> None:
    data = build({"part_heatmaps": 24, "part_offsets": 48})
    with pytest.raises(ValueError, match=r"^model: no heatmaps and offsets among the outputs"):
        ort.read_model(data)
    named = ort.read_model(data, heads={"heatmaps": "part_heatmaps", "offsets": "part_offsets"})
    assert (named.heads_by, named.layout) == ("named by the caller", "NCHW")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (
            {"joints": "heatmaps"},
            "heads must have keys among heatmaps, offsets, displacement_fwd, displacement_bwd, got 'joints'",
        ),
        ({"heatmaps": "x"}, "heads['heatmaps'] must be one of the outputs heatmaps, offsets, got 'x'"),
        (
            {"heatmaps": "offsets", "offsets": "heatmaps"},
            "model: heads do not fit: offsets must have twice the channels of heatmaps, "
            "got offsets (1, 34, 5, 7) and heatmaps (1, 17, 5, 7)",
        ),
    ],
)
def test_wrong_heads(heads: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.read_model(build(), heads=heads)


def test_shapes_that_the_graph_leaves_out_are_inferred() -> None:
    model = ort.read_model(build(declare_maps=False, size=(None, None)))
    assert model.outputs["offsets"].shape[1] == 34
    assert (model.layout, model.output_stride) == ("NCHW", 8)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_named_heads_of_unknown_shape_are_sorted_out_when_they_run(layout: Layout) -> None:
    data = build({"heatmaps": 5, "offsets": 10}, layout=layout, hide_maps=True)
    with pytest.raises(ValueError, match=r"^model: no heatmaps and offsets among the outputs"):
        ort.PoseSession(data)
    session = ort.PoseSession(data, heads={"heatmaps": "heatmaps", "offsets": "offsets"})
    assert (session.model.layout, session.model.output_stride, session.model.keypoints) == (None, None, ())
    images = pixels(session)
    plain = ort.PoseSession(build({"heatmaps": 5, "offsets": 10}, layout=layout)).run(images)
    assert np.array_equal(session.run(images).keypoints, plain.keypoints)


def test_layout_argument_decides_where_the_graph_does_not() -> None:
    outputs = {"h": tensor(None, None, None, None), "o": tensor(None, None, None, None)}
    heads = {"heatmaps": "h", "offsets": "o"}
    assert ort.find_heads("m", outputs, heads) == (heads, "named by the caller", None)
    assert ort.find_heads("m", outputs, heads, "NHWC")[2] == "NHWC"


@pytest.mark.parametrize(
    ("image", "maps", "stride"),
    [
        ((257, 257), (17, 17), 16),
        ((192, 192), (24, 24), 8),
        ((353, 481), (23, 31), 16),
        ((353, 481), (45, 61), 8),
        ((721, 1281), (46, 81), 16),
        ((256, 256), (64, 64), 4),
        ((100, 100), (34, 34), None),
        ((257, 257), (17, 33), None),
        ((8, 8), (1, 1), None),
        ((None, 257), (17, 17), None),
        ((9, 257), (1, 17), 16),
    ],
)
def test_stride_of(image: tuple[int | None, int], maps: tuple[int, int], stride: int | None) -> None:
    assert ort.stride_of(image, maps) == stride


def test_a_stride_that_is_no_power_of_two_must_be_given() -> None:
    data = build(stride=6)
    session = ort.PoseSession(data)
    assert session.model.output_stride is None
    images = pixels(session)
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: cannot tell the output stride from an input of (1, 3, 33, 49) and heatmaps of (1, 17, 6, 9); "
            "give output_stride="
        ),
    ):
        session.run(images)
    given = ort.PoseSession(data, output_stride=6).run(images)
    stated = ort.PoseSession(build(stride=6, metadata={"posepost.output_stride": "6"}))
    assert (stated.model.output_stride, stated.model.output_stride_by) == (6, "metadata")
    assert np.array_equal(given.keypoints, stated.run(images).keypoints)


def test_metadata() -> None:
    data = build(
        {"heatmaps": 2, "offsets": 4},
        size=(None, None),
        metadata={
            "posepost.mean": "10, 20, 30",
            "posepost.std": "50",
            "posepost.keypoints": "tip,tail",
            "posepost.input_size": "40,56",
        },
    )
    session = ort.PoseSession(data)
    assert session.model.keypoints == ("tip", "tail")
    assert session.model.normalisation_by == "metadata"
    images, transform = session.letterbox(np.full((80, 112, 3), 60, np.uint8))
    assert (images.shape, images.dtype) == ((1, 3, 40, 56), np.float32)
    assert np.allclose(images[0, :, 3, 3], [1.0, 0.8, 0.6])
    assert transform.tolist() == [[2, 0, 0], [0, 2, 0]]
    assert session.letterbox(np.zeros((8, 8, 3), np.uint8), (16, 24))[0].shape == (1, 3, 16, 24)
    given = ort.PoseSession(data, mean=60, std=(1, 2, 3))
    assert given.model.normalisation_by == "given"
    assert not given.letterbox(np.full((80, 112, 3), 60, np.uint8))[0].any()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("output_stride", "eight", "model: posepost.output_stride must be a positive integer, got 'eight'"),
        ("input_size", "192", "model: posepost.input_size must be height,width, got '192'"),
        ("keypoints", "a,b", "model: posepost.keypoints must name 17 keypoints, got 2"),
        ("mean", "grey", "posepost.mean must be one number or three, got 'grey'"),
        ("std", "1,0,1", "std must not be zero, got [1.0, 0.0, 1.0]"),
    ],
)
def test_wrong_metadata(key: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.read_model(build(metadata={f"posepost.{key}": value}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "CHW"}, 'layout must be "NCHW", "NHWC" or None, got \'CHW\''),
        ({"activation": "relu"}, 'activation must be "auto", "sigmoid" or None, got \'relu\''),
        ({"mean": (1, 2)}, "mean must be one finite number or three, got (1, 2)"),
        ({"mean": float("nan")}, "mean must be one finite number or three, got nan"),
        ({"std": 0}, "std must not be zero, got 0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.PoseSession(build(), **arguments)


def test_letterbox_fits_the_models_dtype_layout_and_size() -> None:
    picture = np.arange(33 * 49 * 3, dtype=np.uint32).astype(np.uint8).reshape(33, 49, 3)
    half, _ = ort.PoseSession(build(input_dtype="float16", input_layout="NHWC")).letterbox(picture)
    assert (half.shape, half.dtype) == ((1, 33, 49, 3), np.float16)
    assert np.array_equal(half[0], ((picture.astype(np.float32) - 127.5) / 127.5).astype(np.float16))
    raw, _ = ort.PoseSession(build(input_dtype="uint8")).letterbox(picture)
    assert np.array_equal(raw[0].transpose(1, 2, 0), picture)
    with pytest.raises(ValueError, match=exactly("size must be what the model takes, 33x49, got 33x50")):
        ort.PoseSession(build()).letterbox(picture, (33, 50))


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        ([1.0], TypeError, "images must be a NumPy array, because this session runs on the CPU (R), got list"),
        (np.zeros((1, 3, 33, 49)), TypeError, "images must have the model's dtype float32, got float64"),
        (np.zeros((1, 33, 49, 3), np.float32), ValueError, "images must have shape (1, 3, 33, 49), got (1, 33, 49, 3)"),
        (np.zeros((3, 33, 49), np.float32), ValueError, "images must have shape (1, 3, 33, 49), got (3, 33, 49)"),
    ],
)
def test_wrong_images(images: Any, kind: type[Exception], message: str) -> None:
    session = ort.PoseSession(build(), providers=["CPUExecutionProvider"])
    with pytest.raises(kind, match=exactly(message.replace("(R)", "(providers= names no CUDA provider)"))):
        session.run(images)


@pytest.mark.parametrize("data", [b"", b"plain text, no model", build()[:-200], bytes(64)])
def test_not_a_model(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=exactly("model: not an ONNX model, or one that is cut short")):
        ort.PoseSession(data)
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=exactly(f"{path}: not an ONNX model, or one that is cut short")):
        ort.read_model(path)


def graph(inputs: list[Any], nodes: list[Any], outputs: list[Any]) -> bytes:
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    data: bytes = model.SerializeToString()
    return data


def failing_model() -> bytes:
    """Loads, and fails while running: a Reshape to a size that is not there."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, "H", "W"])
    value = helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, 17, 5, 7])))
    wide = helper.make_node("Constant", [], ["wide"], value=numpy_helper.from_array(np.array([1, 34, 5, 7])))
    nodes = [
        value,
        wide,
        *(helper.make_node("Reshape", ["picture", s], [o]) for s, o in (("shape", "h"), ("wide", "o"))),
    ]
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, [1, c, 5, 7]) for o, c in (("h", 17), ("o", 34))]
    return graph([picture], nodes, outputs)


def test_a_model_that_fails_while_running(capfd: pytest.CaptureFixture[str]) -> None:
    session = ort.PoseSession(failing_model(), activation=None, output_stride=8)
    with pytest.raises(RuntimeError, match=r"^model: the model failed while running: .*Reshape") as caught:
        session.run(np.zeros((1, 3, 33, 49), np.float32))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_onnxruntime_cannot_load(capfd: pytest.CaptureFixture[str]) -> None:
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 8, 8])
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, [1, c, 1, 1]) for o, c in (("h", 1), ("o", 2))]
    nodes = [helper.make_node("NoSuchOperator", ["picture"], ["h", "o"])]
    with pytest.raises(RuntimeError, match=r"^model: onnxruntime cannot load the model: .*NoSuchOperator"):
        ort.PoseSession(graph([picture], nodes, outputs), activation=None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ([1, 4, 8, 8], TensorProto.FLOAT, "model: the input must be (N, 3, H, W) or (N, H, W, 3), got x (1, 4, 8, 8)"),
        ([1, 3, 8, 8], TensorProto.INT64, "model: the input must have dtype float32, float16 or uint8, got int64"),
    ],
)
def test_wrong_input(shape: list[int], dtype: int, message: str) -> None:
    outputs = [helper.make_tensor_value_info("y", dtype, shape)]
    data = graph(
        [helper.make_tensor_value_info("x", dtype, shape)], [helper.make_node("Identity", ["x"], ["y"])], outputs
    )
    with pytest.raises(ValueError, match=exactly(message)):
        ort.read_model(data)


def test_two_inputs() -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "z")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])]
    with pytest.raises(
        ValueError, match=exactly("model: the model must have one input, the image, got x (1, 3, 8, 8), z (1, 3, 8, 8)")
    ):
        ort.read_model(graph(inputs, [helper.make_node("Add", ["x", "z"], ["y"])], outputs))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_packages(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=exactly(f'running ONNX models needs {package}: pip install "posepost[ort]"')):
        ort.PoseSession(data)


def test_importing_needs_numpy_alone() -> None:
    code = (
        "import sys, posepost.ort, posepost.draw, posepost.cli; "
        "print(sorted({'onnx', 'onnxruntime', 'PIL', 'cupy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


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


class FakeStream:
    def __init__(self, log: list[Any], name: str, ptr: int) -> None:
        self.log, self.name, self.ptr = log, name, ptr

    def __enter__(self) -> None:
        self.log.append(f"enter {self.name}")

    def __exit__(self, *_: object) -> None:
        self.log.append(f"leave {self.name}")

    def record(self, event: object) -> None:
        self.log.append(f"{self.name} records")

    def wait_event(self, event: object) -> None:
        self.log.append(f"{self.name} waits for event")

    def synchronize(self) -> None:
        raise AssertionError("the session must not wait")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """CuPy and onnxruntime's CUDA provider replaced by records of their calls: `log`, in order."""
    found = SimpleNamespace(log=[], started=[CUDA, CPU])
    log: list[Any] = found.log
    caller = FakeStream(log, "caller", 7)

    class Device:
        def __init__(self, number: int) -> None:
            log.append(f"device {number}")

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    def asarray(array: Any) -> Any:
        log.append("upload")
        flags = SimpleNamespace(c_contiguous=array.flags.c_contiguous)
        return SimpleNamespace(
            dtype=array.dtype, shape=array.shape, flags=flags, data=SimpleNamespace(ptr=array.ctypes.data)
        )

    cuda = SimpleNamespace(
        Device=Device,
        Stream=lambda non_blocking: FakeStream(log, "ours", 4096),
        Event=lambda disable_timing: object(),
        get_current_stream=lambda: caller,
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, asarray=asarray))

    class Binding:
        def bind_input(self, name: str, kind: str, number: int, dtype: Any, shape: Any, pointer: int) -> None:
            log.append(("input", name, kind, number, dtype, tuple(shape)))

        def bind_output(self, name: str, kind: str, number: int) -> None:
            log.append(("output", name, kind, number))

        def get_outputs(self) -> list[Any]:
            # As OrtValue has it: shape is a method.
            bound = [entry[1] for entry in log if entry[0] == "output"]
            return [SimpleNamespace(name=name, shape=lambda name=name: [1, FOUR[name], 5, 7]) for name in bound]

    class Session:
        def __init__(self, model: Any, options: Any, providers: Any, enable_fallback: int) -> None:
            self.providers = providers
            log.append(("session", providers, enable_fallback))

        def get_providers(self) -> list[str]:
            return found.started

        def io_binding(self) -> Binding:
            return Binding()

        def run_with_iobinding(self, binding: Binding, options: Any) -> None:
            entry = options.get_run_config_entry("disable_synchronize_execution_providers")
            log.append(("run", entry))

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)

    def decoder(result: str) -> Any:
        def decode(*maps: Any, **options: Any) -> str:
            facts = [options[key] for key in ("output_stride", "layout", "activation")]
            log.append(("decode", options["stream"].name, *facts, *(array.name for array in maps)))
            return result

        return decode

    monkeypatch.setattr(ort.posenet, "decode_posenet", decoder("keypoints"))
    monkeypatch.setattr(ort.posenet, "decode_posenet_multi", decoder("poses"))
    return found


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
        "leave ours",
        ("decode", "ours", 8, "NCHW", "sigmoid", *heads),
        "ours records",
        "caller waits for event",
    ]


def test_strided_images_on_a_device_are_refused(device: SimpleNamespace) -> None:
    session = ort.PoseSession(build())
    strided = np.zeros((1, 3, 33, 98), np.float32)[..., ::2]
    with pytest.raises(ValueError, match=exactly("images must be C-contiguous on the device; make a contiguous copy")):
        session.run(strided)


def test_a_cuda_provider_that_does_not_start_is_said(device: SimpleNamespace) -> None:
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
