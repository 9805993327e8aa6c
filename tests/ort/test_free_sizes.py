"""Sizes that a model leaves open, in whatever way it is written, and models of a fixed batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnx
from onnx import TensorProto, helper

from posepost import Keypoints, Poses, decode_posenet_multi, ort
from posepost.ort._graph import find_image, read_graph
from posepost.ort._shapes import shapes_at

from ..onnx_models import COCO, FOUR, build, exactly, graph, network, outputs_only, pixels, seen_network, spread_out

Sizes = list[Any]
PHOTOGRAPH = np.random.default_rng(2).integers(0, 256, (256, 192, 3), dtype=np.uint8)


def with_sizes(model: bytes, sizes: dict[str, Sizes | None]) -> onnx.ModelProto:
    """Inputs and outputs declared anew: a number, a name, or nothing at all for a size; None for no shape."""
    proto = onnx.load_from_string(model)
    for value in (*proto.graph.input, *proto.graph.output):
        if value.name not in sizes:
            continue
        kind = value.type.tensor_type
        kind.ClearField("shape")
        for size in sizes[value.name] or []:
            dim = kind.shape.dim.add()
            if isinstance(size, str):
                dim.dim_param = size
            elif size is not None:
                dim.dim_value = size
    return proto


@pytest.mark.parametrize("free", [-1, 0, "name", None], ids=str)
@pytest.mark.parametrize("on_disk", [False, True])
def test_sizes_written_as_minus_one_or_zero_are_free(free: Any, on_disk: bool, tmp_path: Any) -> None:
    proto = with_sizes(
        build(size=(None, None), batch=None),
        {"picture": [free, 3, free, free], "heatmaps": [free, 17, free, free], "offsets": [free, 34, free, free]},
    )
    spread_out(proto, tmp_path / "m.onnx")
    session = ort.PoseSession(tmp_path / "m.onnx" if on_disk else proto)
    plain = ort.PoseSession(build(size=(None, None), batch=None))
    assert session.model.inputs["picture"].shape == (None, 3, None, None)
    assert session.model.outputs["offsets"].shape[1:2] == (34,)
    assert session.model.input_size == (None, None)
    assert session.model.output_stride == 8
    images = pixels(session, batch=3)
    assert session.run(images) == plain.run(images)
    assert session.letterbox(PHOTOGRAPH)[0].shape == (1, 3, 353, 481)


@pytest.mark.parametrize("free", [0, -1])
def test_every_inference_copied_all_the_weights(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    heads, lengths = {"heatmaps": 400, "offsets": 800}, []
    model = build(heads, size=(None, None), batch=None)
    proto = with_sizes(model, {"picture": [free, 3, free, free], "heatmaps": None, "offsets": None})
    real = onnx.shape_inference.infer_shapes
    monkeypatch.setattr(
        onnx.shape_inference,
        "infer_shapes",
        lambda proto, **options: lengths.append(proto.ByteSize()) or real(proto, **options),
    )
    session, plain = ort.PoseSession(proto), ort.PoseSession(model)
    assert len(proto.SerializeToString()) > 3 * 4 * (400 + 800) > 3 * max(lengths)
    images = pixels(session, batch=2)
    assert session.run(images) == plain.run(images)  # which has the weights


@pytest.mark.parametrize("declared", [None, ["b", "K", "rows", "columns"], [-1, -1, -1, -1]], ids=str)
@pytest.mark.parametrize("hide", [False, True])
def test_a_number_of_keypoints_that_the_graph_hides_is_known_by_a_run_on_zeros(declared: Any, hide: bool) -> None:
    proto = with_sizes(network(channels=COCO, hide=hide), {"heatmaps": declared})
    model = ort.read_topdown(proto)
    assert (model.sizes, model.ratio, model.keypoint_count, model.layout) == ((12, 16), 4, 17, "NCHW")


@pytest.mark.parametrize("hide", [False, True])
def test_declared_sizes_that_contradict_the_run_lose(hide: bool) -> None:
    proto = with_sizes(network(channels=COCO, hide=hide), {"heatmaps": ["N", 21, 64, 48]})
    assert shapes_at(read_graph(proto), (48, 64)) == {"heatmaps": (1, 17, 16, 12)}
    assert ort.read_topdown(proto).keypoint_count == 17


def test_shapes_are_found_once_and_only_where_something_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    loaded = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *given, **options: loaded.append(1) or real(*given, **options)
    )
    ort.TopDownSession(network())
    assert len(loaded) == 1
    ort.TopDownSession(network(hide=True))
    assert len(loaded) == 3
    hidden = read_graph(network(hide=True))
    for _ in range(2):
        assert shapes_at(hidden, (48, 64)) == {"heatmaps": (1, 3, 16, 12)}
    assert len(loaded) == 4


def test_inputs_besides_the_image_are_zero_in_the_run_that_tells_shapes() -> None:
    model = seen_network(["b", 3, 64, 48], besides={"index": (TensorProto.INT64, ["b"]), "one": (TensorProto.BOOL, [])})
    for node in model.graph.node:
        if node.output[0] == "hm":
            node.op_type = "Reshape"
            node.input.append("sizes")
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Shape", [model.graph.node[-1].input[0]], ["s"])
    )
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Abs", ["s"], ["sizes"]))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert shapes_at(read_graph(model), (48, 64)) == {"hm": (1, 5, 16, 12)}


def test_a_model_that_cannot_be_run_for_its_shapes_says_so_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=r"^model: onnxruntime cannot load the model: .*Mystery") as caught:
        ort.recognize(outputs_only({"a": (17, None, None)}))
    assert "\n" not in str(caught.value)
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 64, 48])
    wrong = helper.make_node("Constant", [], ["n"], value_ints=[7, 7, 7, 7])
    nodes = [wrong, helper.make_node("Abs", ["n"], ["m"]), helper.make_node("Reshape", ["picture", "m"], ["y"])]
    data = graph([picture], nodes, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    with pytest.raises(RuntimeError, match=r"^model: onnxruntime cannot run the model on zeros of \(1, 3, 64, 48\), "):
        ort.recognize(data)
    assert ort.recognize(outputs_only({"a": (17, 64, 48)})).kind == "heatmap"  # what is declared is enough
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("failure", [onnx.shape_inference.InferenceError, onnx.checker.ValidationError])
def test_inference_that_fails_means_no_shapes(failure: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure("[ShapeInferenceError] no")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fail)
    assert ort.read_topdown(network(channels=COCO, hide=True)).keypoint_count == 17
    assert ort.read_model(build(FOUR, size=(None, None))).output_stride == 8


def test_a_ring_of_nodes_is_no_endless_search_for_a_scale() -> None:
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 256, 192])
    nodes = [helper.make_node("Identity", ["a"], ["hm"]), helper.make_node("Transpose", ["hm"], ["b"]),
             helper.make_node("Reshape", ["b", "picture"], ["a"])]  # fmt: skip
    data = graph([picture], nodes, [helper.make_tensor_value_info("hm", TensorProto.UINT8, [1, 17, 64, 48])])
    with pytest.raises(ValueError, match=exactly("model: cannot read the scale of the uint8 output hm")):
        ort.read_topdown(data)


@pytest.mark.parametrize(
    ("shape", "layout", "channels"),
    [
        ((None, None, None, None), "NCHW", 3),
        ((None, None, None, None), "NHWC", 3),
        ((1, None, 64, 48), "NCHW", 3),
        ((1, 64, 48, -1), "NHWC", 3),
        ((-1, 1, -1, -1), "NCHW", 1),
        ((1, 64, None, 1), "NHWC", 1),
        ((1, None, 64, 3), "NHWC", 3),
        ((1, 3, 64, 1), "NCHW", 3),
    ],
)
def test_the_channels_of_an_input_are_read_off_what_is_known(shape: Any, layout: str, channels: int) -> None:
    known = seen_network([1, 64, 48, channels] if layout == "NHWC" else [1, channels, 64, 48], layout=layout)
    proto = with_sizes(known.SerializeToString(), {"x": list(shape)})
    assert find_image(read_graph(proto)) == ("x", layout, channels)
    assert ort.read_topdown(proto).input_layout == layout if None not in shape[1:] else True


@pytest.mark.parametrize(("channels", "groups"), [(3, 3), (1, 1)])
def test_the_channels_of_a_depthwise_convolution_are_its_groups(channels: int, groups: int) -> None:
    model = seen_network([1, channels, 64, 48])
    (conv,) = (node for node in model.graph.node if node.op_type == "Conv")
    conv.attribute.append(helper.make_attribute("group", groups))
    weights = np.ones((6, channels // groups, 1, 1), np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "pick"))
    proto = with_sizes(model.SerializeToString(), {"x": [None] * 4, "hm": None})
    assert find_image(read_graph(proto)) == ("x", "NCHW", channels)


def test_an_input_whose_channels_nothing_tells_is_not_guessed() -> None:
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 17, 64, 48])]
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "C", "H", "W"])
    data = graph([picture], [helper.make_node("Mystery", ["x"], ["y"])], outputs)
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: cannot tell the channels of the input x (any, any, any, any): neither a size of 1 or 3 nor a "
            "convolution that reads it names them"
        ),
    ):
        ort.recognize(data)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 9])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_posenet_of_a_fixed_batch_takes_any_number_of_images(count: int, layout: str) -> None:
    session = ort.PoseSession(build(FOUR, batch=4, layout=layout))
    alone = ort.PoseSession(build(FOUR, batch=None, layout=layout))
    images = pixels(session, batch=count)
    transforms = np.random.default_rng(3).normal(size=(count, 2, 3)).astype(np.float32)
    for transform in (None, transforms, np.array([[2, 0, -3], [0, 4, 5]], np.float32)):
        one = session.run(images, transform=transform)
        assert one.keypoints.shape == (count, 17, 2)
        several = session.run_multi(images, transform=transform, max_poses=6, score_threshold=0.1)
        assert several.keypoints.shape == (count, 6, 17, 2)
        assert several.count.dtype == np.int32
        if not count:
            continue
        assert one == alone.run(images, transform=transform)
        assert several == alone.run_multi(images, transform=transform, max_poses=6, score_threshold=0.1)
    assert count == 0 or several.count.any()


def test_no_images_give_no_people() -> None:
    session = ort.PoseSession(build(FOUR, batch=None))
    nothing = np.zeros((0, 3, 33, 49), np.float32)
    assert session.run(nothing).keypoints.shape == (0, 17, 2)
    assert session.run_multi(nothing, max_poses=3).keypoints.shape == (0, 3, 17, 2)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_posenet_whose_exporter_lost_every_shape_is_found(layout: str) -> None:
    lost = build(FOUR, declare_maps=False, hide_maps=True, layout=layout, batch=None, size=(None, None))
    plain = build(FOUR, layout=layout, batch=None, size=(None, None))
    assert ort.recognize(lost).kind == "posenet"
    model = ort.read_model(lost)
    assert model.heads == {name: name for name in FOUR}
    assert (model.layout, model.output_stride) == (layout, 8)
    images = pixels(ort.PoseSession(plain), batch=2)
    assert ort.PoseSession(lost).run(images) == ort.PoseSession(plain).run(images)


def test_posenet_of_a_fixed_batch_takes_the_one_picture_of_letterbox() -> None:
    session = ort.PoseSession(build(batch=4))
    images, transform = session.letterbox(PHOTOGRAPH)
    assert images.shape == (1, 3, 33, 49)
    assert session.run(images, transform=transform) == ort.PoseSession(build()).run(images, transform=transform)


def test_out_is_for_one_run() -> None:
    session = ort.PoseSession(build(FOUR, batch=2))
    images = pixels(session, batch=3)
    out = Keypoints(np.zeros((3, 17, 2), np.float32), np.zeros((3, 17), np.float32))
    message = exactly("out must be None where the model takes 2 images a run, got 3 images")
    with pytest.raises(ValueError, match=message):
        session.run(images, out=out)
    poses = decode_posenet_multi(*session.forward(images[:2], heads=ort.HEADS), output_stride=8)
    with pytest.raises(ValueError, match=message):
        session.run_multi(images, out=poses)
    assert isinstance(session.run_multi(images[:2], out=poses), Poses)
    with pytest.raises(ValueError, match=exactly("images must have shape (2, 3, 33, 49), got (3, 3, 33, 49)")):
        session.forward(images)
    with pytest.raises(ValueError, match=exactly("transform must have shape (2, 3) or (3, 2, 3), got (2, 2, 3)")):
        session.run(images, transform=np.zeros((2, 2, 3), np.float32))
