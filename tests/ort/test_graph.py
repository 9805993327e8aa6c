"""What is read off an ONNX graph whatever its heads: that it is one, its input, shapes, stride, logits or scores."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from onnx import TensorProto, helper

from posepost import ort

from ..onnx_models import Layout, build, exactly, graph


@pytest.mark.parametrize("data", [b"", b"plain text, no model", build()[:-200], bytes(64)])
def test_not_a_model(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=exactly("model: not an ONNX model, or one that is cut short")):
        ort.PoseSession(data)
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=exactly(f"{path}: not an ONNX model, or one that is cut short")):
        ort.read_model(path)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        (
            [1, 4, 8, 8],
            TensorProto.FLOAT,
            "model: the model must have an image input, (N, C, H, W) or (N, H, W, C) with C = 3 or 1, "
            "got x (1, 4, 8, 8)",
        ),
        (
            [1, 3, 8, 8],
            TensorProto.BOOL,
            "model: the input must have dtype float32, float16, float64, uint8, int8, int32 or int64, got bool",
        ),
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
        ValueError,
        match=exactly("model: the model must have one input that is an image, got x (1, 3, 8, 8), z (1, 3, 8, 8)"),
    ):
        ort.read_model(graph(inputs, [helper.make_node("Add", ["x", "z"], ["y"])], outputs))


def test_shapes_that_the_graph_leaves_out_are_inferred() -> None:
    model = ort.read_model(build(declare_maps=False, size=(None, None)))
    assert model.outputs["offsets"].shape[1] == 34
    assert (model.layout, model.output_stride) == ("NCHW", 8)


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
