"""What a network is fed: what `inspect` prints is what goes in, whatever the dtype, the channels and their order."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from posepost import ort

from ..onnx_models import COCO, build, exactly, graph, network, seen_network

PIXELS = np.random.default_rng(6).integers(0, 256, (64, 48, 3), dtype=np.uint8)
WHOLE = (0, 0, 48, 64)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
KINDS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


def fed(session: ort.TopDownSession) -> np.ndarray[Any, Any]:
    """(H, W, C): what the network is fed for a crop that is the picture itself."""
    images, transforms = session.crop(PIXELS, WHOLE, padding=1)
    assert np.array_equal(transforms[0], [[1, 0, 0], [0, 1, 0]])
    assert images.flags.c_contiguous
    session.run(images, transform=transforms)
    return images[0] if session.model.input_layout == "NHWC" else images[0].transpose(1, 2, 0)


def printed(session: ort.TopDownSession) -> str:
    (line,) = re.findall("^input is +(.*)$", session.describe(), re.MULTILINE)
    return str(line)


def as_printed(text: str, dtype: str) -> np.ndarray[Any, Any]:
    """The numbers that the line names, computed from the picture."""
    found = re.fullmatch(
        r"\(pixel - (\S+|\(.*?\))\) / (\S+|\(.*?\))(?: / (\S+) ([+-]) (\S+?))?(, rounded)?, (RGB|BGR|gray) \(\w+\)",
        text,
    )
    assert found, text
    mean, std, scale, sign, zero, rounded, order = found.groups()
    pixels = {
        "RGB": PIXELS,
        "BGR": PIXELS[:, :, ::-1],
        "gray": np.asarray(Image.fromarray(PIXELS).convert("L"))[:, :, None],
    }[order]
    mean, std = (np.float32([float(part) for part in one.strip("()").split(", ")]) for one in (mean, std))
    values = (pixels - mean) / std
    if scale:
        values = values / np.float32(float(scale)) + np.float32(float(sign + zero))
    if rounded:
        values = np.rint(values)
    if np.dtype(dtype).kind != "f":
        assert np.array_equal(values, np.rint(values))
        limits = np.iinfo(dtype)
        values = np.clip(values, limits.min, limits.max)
    return values.astype(dtype)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", KINDS)
def test_what_is_printed_is_what_is_fed(dtype: str, channels: int, layout: str) -> None:
    shape: list[Any] = ["N", channels, 64, 48] if layout == "NCHW" else ["N", 64, 48, channels]
    model = seen_network(shape, KINDS[dtype], layout=layout)
    cases: list[dict[str, Any]] = [{}]
    if dtype.startswith("float"):
        cases += [{"mean": 127.5, "std": 128}, {"mean": 0, "std": 255}, {"mean": 0, "std": 1}, {"std": 127.25}]
        cases += [{"mean": MEAN, "std": STD}, {"mean": (1, 2.5, 3.0000002)}] if channels == 3 else []
    else:
        cases += [{"mean": 128, "std": 2}, {"mean": 100.5, "std": 1.7}] if dtype in ("int32", "int64") else []
        cases += [{"mean": 128, "std": 2}] if dtype == "int8" else []
        cases += [{"mean": 0, "std": 1}, {"mean": -0.5, "std": 1.5}] if dtype == "uint8" else []
    for options in cases:
        if options.get("mean") == -0.5:
            with pytest.raises(ValueError, match="must be in pixel values"):
                ort.TopDownSession(model, **options)
            continue
        session = ort.TopDownSession(model, **options)
        values = fed(session)
        assert values.shape == (64, 48, channels)
        assert values.dtype == dtype
        assert np.array_equal(values, as_printed(printed(session), dtype))
        seen = session.forward(session.crop(PIXELS, WHOLE, padding=1)[0])[0]
        first = values[:, :, 0].astype(np.float64).reshape(16, 4, 12, 4).mean(axis=(1, 3))
        assert np.allclose(seen[0, 0], first, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "options", "line"),
    [
        ("float32", {}, f"(pixel - {MEAN}) / {STD}, RGB (default)"),
        ("float32", {"input_channels": "BGR"}, f"(pixel - {MEAN[::-1]}) / {STD[::-1]}, BGR (default)"),
        ("float32", {"input_channels": "BGR", "mean": (1, 2, 3), "std": 5}, "(pixel - (1, 2, 3)) / 5, BGR (given)"),
        ("float64", {"mean": 0, "std": 255}, "(pixel - 0) / 255, RGB (given)"),
        ("uint8", {}, "(pixel - 0) / 1, RGB (default)"),
        ("int32", {}, "(pixel - 0) / 1, RGB (default)"),
        ("int64", {"input_channels": "BGR"}, "(pixel - 0) / 1, BGR (default)"),
        ("int8", {}, "(pixel - 128) / 1, RGB (default)"),
        ("int8", {"std": 2}, "(pixel - 128) / 2, rounded, RGB (given)"),
        ("int32", {"mean": 0.25, "std": 1}, None),
        ("int32", {"mean": 127.5, "std": 1}, "(pixel - 127.5) / 1, rounded, RGB (given)"),
    ],
)
def test_the_line_that_is_printed(dtype: str, options: dict[str, Any], line: str | None) -> None:
    model = seen_network([1, 3, 64, 48], KINDS[dtype])
    if line is None:
        with pytest.raises(
            ValueError, match=exactly("mean must be in pixel values 0..255: 63.75 is yours times 255, got 0.25")
        ):
            ort.TopDownSession(model, **options)
        return
    assert printed(ort.TopDownSession(model, **options)) == line


def test_a_uint8_model_printed_a_mean_that_it_was_not_fed() -> None:
    """It printed (pixel - 127.5) / 127.5 and was given the pixels."""
    session = ort.PoseSession(build(input_dtype="uint8", input_layout="NHWC", size=(64, 48)))
    assert "\ninput is         (pixel - 0) / 1, RGB (default)\n" in session.describe()
    assert np.array_equal(session.letterbox(PIXELS)[0][0], PIXELS)


def test_a_gray_network_of_each_kind() -> None:
    model = seen_network([1, 1, 64, 48])
    assert printed(ort.TopDownSession(model)) == "(pixel - 117.038) / 57.53, gray (default)"
    weights = np.array([0.299, 0.587, 0.114])
    assert ort.read_topdown(model).mean == np.float32(np.round(weights @ MEAN, 3))
    assert ort.read_topdown(model).std == np.float32(np.round(weights @ STD, 3))
    gray = np.asarray(Image.fromarray(PIXELS).convert("L"))
    raw = fed(ort.TopDownSession(seen_network([1, 1, 64, 48], KINDS["uint8"])))
    assert np.array_equal(raw[:, :, 0], gray)
    from_gray, _ = ort.TopDownSession(model, mean=0, std=1).crop(Image.fromarray(gray), WHOLE, padding=1)
    assert np.array_equal(from_gray[0, 0], gray)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (1, 2, 3)}, "mean must be one number for the gray input x, got (1, 2, 3)"),
        ({"std": [4, 4, 5]}, "std must be one number for the gray input x, got [4, 4, 5]"),
        ({"input_channels": "BGR"}, "input_channels must not be given for the gray input x, got 'BGR'"),
    ],
)
def test_wrong_options_of_a_gray_network(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.TopDownSession(seen_network([1, 1, 64, 48]), **options)
    assert ort.TopDownSession(seen_network([1, 1, 64, 48]), mean=(7, 7, 7)).model.mean.tolist() == [7]


def test_bgr_is_told_by_argument_or_metadata() -> None:
    plain = seen_network([1, 3, 64, 48])
    told = seen_network([1, 3, 64, 48], metadata={"posepost.channels": "BGR"})
    raw: dict[str, Any] = {"mean": 0, "std": 1}
    assert np.array_equal(fed(ort.TopDownSession(plain, **raw)), PIXELS)
    assert np.array_equal(fed(ort.TopDownSession(plain, input_channels="BGR", **raw)), PIXELS[:, :, ::-1])
    assert np.array_equal(fed(ort.TopDownSession(told, **raw)), PIXELS[:, :, ::-1])
    assert np.array_equal(fed(ort.TopDownSession(told, input_channels="RGB", **raw)), PIXELS)
    posenet = ort.PoseSession(build(size=(64, 48)), input_channels="BGR", **raw)
    assert np.array_equal(posenet.letterbox(PIXELS)[0][0].transpose(1, 2, 0), PIXELS[:, :, ::-1])
    with pytest.raises(ValueError, match=exactly('input_channels must be "RGB" or "BGR", got \'bgr\'')):
        ort.TopDownSession(plain, input_channels="bgr")
    with pytest.raises(ValueError, match=exactly('model: posepost.channels must be "RGB" or "BGR", got \'GBR\'')):
        ort.read_topdown(seen_network([1, 3, 64, 48], metadata={"posepost.channels": "GBR"}))


# ---- mean and std of pixels in 0..1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
            "mean and std must be in pixel values 0..255: (123.675, 116.28, 103.53) and (58.395, 57.12, 57.375) are "
            "yours times 255, got (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)",
        ),
        ({"mean": 0.5, "std": 0.5}, "mean and std must be in pixel values 0..255: 127.5 and 127.5 are yours times 255, "
         "got 0.5 and 0.5"),
        ({"mean": 0, "std": (0.229, 0.224, 0.225)}, "std must be in pixel values 0..255: (58.395, 57.12, 57.375) is "
         "yours times 255, got (0.229, 0.224, 0.225)"),
        ({"mean": (0.485, 0.456, 0.406)}, "mean must be in pixel values 0..255: (123.675, 116.28, 103.53) is yours "
         "times 255, got (0.485, 0.456, 0.406)"),
        ({"mean": 1, "std": 255}, "mean must be in pixel values 0..255: 255 is yours times 255, got 1"),
        ({"std": 0.25}, "std must be in pixel values 0..255: 63.75 is yours times 255, got 0.25"),
    ],
)  # fmt: skip
def test_mean_and_std_of_pixels_in_0_to_1_are_refused(options: dict[str, Any], message: str) -> None:
    """A picture of 0..255 became -2 to 1111."""
    for read, data in ((ort.read_topdown, network()), (ort.read_model, build())):
        with pytest.raises(ValueError, match=exactly(message)):
            read(data, **options)


def test_metadata_of_pixels_in_0_to_1_is_refused() -> None:
    data = network(metadata={"posepost.mean": "0.485,0.456,0.406", "posepost.std": "0.229,0.224,0.225"})
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: posepost.mean and posepost.std must be in pixel values 0..255: (123.675, 116.28, 103.53) and "
            "(58.395, 57.12, 57.375) are the model's times 255, got (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)"
        ),
    ):
        ort.TopDownSession(data)
    assert ort.read_topdown(data, mean=MEAN, std=STD).normalization_by == "given"


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (0, 255), (127.5, 127.5), ((0, 0, 0), (1, 1, 1)), (128, 1)])
def test_raw_pixels_and_plain_scales_are_no_mistake(mean: Any, std: Any) -> None:
    model = ort.read_topdown(network(), mean=mean, std=std)
    assert (model.mean == np.float32(mean)).all()
    assert (model.std == np.float32(std)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": "wide"}, "mean must be one finite number or three, got 'wide'"),
        ({"mean": [1, 2]}, "mean must be one finite number or three, got [1, 2]"),
        ({"std": (1, None, 3)}, "std must be one finite number or three, got (1, None, 3)"),
        ({"std": 1e400}, "std must be one finite number or three, got inf"),
        ({"mean": 10**400}, f"mean must be one finite number or three, got {10**400}"),
        ({"std": (1, 0, 1)}, "std must be above 0, got (1, 0, 1)"),
    ],
)
def test_what_is_no_mean_or_std(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.read_topdown(network(), **options)


# ---- integers


@pytest.mark.parametrize(
    ("dtype", "options", "message"),
    [
        ("uint8", {"mean": MEAN, "std": STD}, "model: std must be at most 2 for the uint8 input x, which gets (pixel - "
         f"mean) / std rounded to whole numbers, got mean {MEAN} and std {STD}"),
        ("uint8", {"mean": 128}, "model: mean and std must keep the uint8 input x, which gets (pixel - mean) / std "
         "rounded to whole numbers, in 0..255, got mean 128 and std 1: -128..127"),
        ("int8", {"mean": 0, "std": 1}, "model: mean and std must keep the int8 input x, which gets (pixel - mean) / "
         "std rounded to whole numbers, in -128..127, got mean 0 and std 1: 0..255"),
        ("int32", {"mean": 127.5, "std": 127.5}, "model: std must be at most 2 for the int32 input x, which gets "
         "(pixel - mean) / std rounded to whole numbers, got mean 127.5 and std 127.5"),
    ],
)  # fmt: skip
def test_a_mean_and_std_that_an_integer_cannot_hold(dtype: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.TopDownSession(seen_network([1, 3, 64, 48], KINDS[dtype]), **options)
    metadata = {f"posepost.{key}": str(value).strip("()") for key, value in options.items()}
    with pytest.raises(ValueError, match=exactly(message)):
        ort.TopDownSession(seen_network([1, 3, 64, 48], KINDS[dtype], metadata=metadata))


@pytest.mark.parametrize(
    ("dtype", "scale", "zero", "mean", "std"),
    [
        ("int8", 1 / 127.5, 0, 127.5, 127.5),
        ("int8", 0.0186, -14, MEAN, STD),
        ("int8", 1 / 255, -128, 0, 255),
        ("int8", 1.0, -128, 0, 1),
        ("uint8", 0.0186, 114, MEAN, STD),
        ("uint8", 1 / 255, 0, 0, 255),
        ("int32", 0.001, 0, MEAN, STD),
    ],
)
def test_mean_and_std_of_a_quantized_network_go_through_its_scale(
    dtype: str, scale: float, zero: int, mean: Any, std: Any
) -> None:
    """What the first operator makes of the input is (pixel - mean) / std, to half a step of the scale."""
    model = seen_network([1, 3, 64, 48], KINDS[dtype], dequantize=(scale, zero))
    session = ort.TopDownSession(model, mean=mean, std=std)
    values = fed(session)
    assert np.array_equal(values, as_printed(printed(session), dtype))
    assert printed(session).endswith(f"{'-' if zero < 0 else '+'} {abs(zero)}, rounded, RGB (given)")
    real = (PIXELS - np.float32(mean)) / np.float32(std)
    inside = np.abs(values.astype(np.float64) - np.clip(real / scale + zero, *_range(dtype)))
    assert inside.max() <= 0.5 + 1e-3
    default = ort.TopDownSession(model)
    if mean is MEAN and dtype != "int32":  # the scale is made for what is usual of such networks
        assert np.array_equal(fed(default), values)
        assert printed(default) == printed(session).replace("given", "default")
    else:
        assert np.array_equal(fed(default), PIXELS.astype(np.int16) - (128 if dtype == "int8" else 0))
        assert printed(default) == f"(pixel - {128 if dtype == 'int8' else 0}) / 1, RGB (default)"


def _range(dtype: str) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def test_a_mean_and_std_that_a_scale_does_not_fit() -> None:
    model = seen_network([1, 3, 64, 48], KINDS["int8"], dequantize=(1 / 255, -128))
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: mean and std must keep the int8 input x, which gets (pixel - mean) / std / 0.003921569 - 128 "
            "rounded to whole numbers, in -128..127, got mean 127.5 and std 127.5: -383..127"
        ),
    ):
        ort.TopDownSession(model, mean=127.5, std=127.5)


# ---- inputs besides the image

INDEX: dict[str, Any] = {"dataset_index": (TensorProto.INT64, ["b"])}


def test_an_input_besides_the_image_is_asked_for_by_name() -> None:
    """ViTPose++ has one that says which data set's experts run."""
    for dtype, sizes, said in (
        (TensorProto.INT64, ["b"], "int64 (any)"),
        (TensorProto.FLOAT, [1, 2], "float32 (1, 2)"),
    ):
        model = seen_network(["b", 3, 64, 48], besides={"dataset_index": (dtype, sizes)})
        with pytest.raises(
            ValueError,
            match=exactly(
                f"model: the input dataset_index {said} besides the image needs a value: "
                'give inputs={"dataset_index": ...}'
            ),
        ):
            ort.TopDownSession(model)
        assert ort.read_topdown(model).inputs["dataset_index"].dtype == said.split()[0]


@pytest.mark.parametrize("batch", ["b", 2, 5])
@pytest.mark.parametrize("value", [3, [3], np.int32(3), np.array([[3]])[0], 3.0])
def test_a_value_goes_to_every_image_of_a_batch(batch: Any, value: Any) -> None:
    model = seen_network([batch, 3, 64, 48], besides={"dataset_index": (TensorProto.INT64, [batch])})
    session = ort.TopDownSession(model, inputs={"dataset_index": value})
    without = ort.TopDownSession(seen_network([batch, 3, 64, 48]))
    images, _ = session.crop(PIXELS, [WHOLE] * 5, padding=1)
    there = slice(0, 5 if batch == "b" else batch)
    assert np.array_equal(session.forward(images[there])[0], without.forward(images[there])[0] + 3)
    assert np.array_equal(session.run(images).keypoints, without.run(images).keypoints)


@pytest.mark.parametrize(
    ("dtype", "sizes", "value", "added"),
    [
        (TensorProto.FLOAT, [], 0.5, 0.5),
        (TensorProto.FLOAT, [1, 1], [[0.5]], 0.5),
        (TensorProto.BOOL, ["b"], True, 1),
        (TensorProto.UINT8, ["b", 1], 200, 200),
        (TensorProto.FLOAT16, ["b"], 0.25, 0.25),
        (TensorProto.DOUBLE, [-1], 2, 2),
        (TensorProto.INT32, [0], -2, -2),
    ],
)
def test_values_in_the_dtype_and_shape_that_is_declared(dtype: int, sizes: Any, value: Any, added: float) -> None:
    session = ort.TopDownSession(seen_network(["b", 3, 64, 48], besides={"v": (dtype, sizes)}), inputs={"v": value})
    without = ort.TopDownSession(seen_network(["b", 3, 64, 48]))
    images, _ = session.crop(PIXELS, WHOLE, padding=1)
    assert np.array_equal(session.forward(images)[0], without.forward(images)[0] + np.float32(added))


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (0.5, ValueError, "inputs['dataset_index'] must be int64, got 0.5"),
        (np.nan, ValueError, "inputs['dataset_index'] must be int64, got nan"),
        ("zero", TypeError, "inputs['dataset_index'] must be numbers, got 'zero'"),
        (10**400, TypeError, f"inputs['dataset_index'] must be numbers, got {10**400}"),
        (None, TypeError, "inputs['dataset_index'] must be numbers, got None"),
        ([1, 2], ValueError, "inputs['dataset_index'] must have shape (any) or broadcast to it, alike for all images, "
         "got (2,)"),
        ([[1]], ValueError, "inputs['dataset_index'] must have shape (any) or broadcast to it, alike for all images, "
         "got (1, 1)"),
    ],
)  # fmt: skip
def test_wrong_values_of_an_input(value: Any, kind: type[Exception], message: str) -> None:
    model = seen_network(["b", 3, 64, 48], besides=INDEX)
    for read in (ort.read_topdown, ort.TopDownSession):
        with pytest.raises(kind, match=exactly(message)):
            read(model, inputs={"dataset_index": value})


def test_wrong_names_of_inputs() -> None:
    model = seen_network(["b", 3, 64, 48], besides=INDEX)
    with pytest.raises(ValueError, match=exactly("inputs must have keys among dataset_index, got 'index'")):
        ort.TopDownSession(model, inputs={"index": 0})
    with pytest.raises(ValueError, match=exactly("inputs must have keys among dataset_index, got 'x'")):
        ort.TopDownSession(model, inputs={"x": 0})
    with pytest.raises(
        ValueError, match=exactly("inputs must be empty for a model whose one input is the image, got 'index'")
    ):
        ort.PoseSession(build(), inputs={"index": 0})
    with pytest.raises(TypeError, match=exactly("inputs must be a dict of names and values, got list")):
        ort.PoseSession(build(), inputs=[("index", 0)])


def test_an_input_that_no_number_can_be_given() -> None:
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 256, 192]),
              helper.make_tensor_value_info("words", TensorProto.STRING, [1])]  # fmt: skip
    outputs = [helper.make_tensor_value_info("hm", TensorProto.FLOAT, [1, 17, 64, 48])]
    data = graph(values, [helper.make_node("Mystery", ["x", "words"], ["hm"])], outputs)
    with pytest.raises(
        ValueError, match=exactly("model: the input words string (1) besides the image cannot be given a value")
    ):
        ort.TopDownSession(data)
    with pytest.raises(ValueError, match=exactly("inputs['words'] cannot be given: its dtype is string")):
        ort.TopDownSession(data, inputs={"words": "a"})


def test_the_image_is_the_input_of_four_dimensions_with_1_or_3_channels() -> None:
    besides = {"a": (TensorProto.FLOAT, [1, 17, 64, 48]), "n": (TensorProto.INT64, [])}
    model = seen_network([1, 3, 64, 48], besides={"n": besides["n"]})
    model.graph.input.insert(0, helper.make_tensor_value_info("a", *besides["a"]))
    model.graph.node.append(helper.make_node("Identity", ["a"], ["unused"]))
    session = ort.TopDownSession(model, inputs={"n": 1, "a": 0.0})
    assert session.model.input_name == "x"
    assert fed(session).shape == (64, 48, 3)


def test_names_of_keypoints_do_not_hang_on_the_input() -> None:
    assert ort.read_topdown(network(channels=COCO, input_dtype="uint8")).keypoint_count == 17


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (256, "size must be two whole numbers, width and height, got 256"),
        ((256,), "size must be two whole numbers, width and height, got (256,)"),
        ((48.5, 64), "size must be two whole numbers, width and height, got (48.5, 64)"),
        ("48x64", "size must be two whole numbers, width and height, got '48x64'"),
    ],
)
def test_what_is_no_size(size: Any, message: str) -> None:
    with pytest.raises(TypeError, match=exactly(message)):
        ort.TopDownSession(network(size=(None, None))).crop(PIXELS, WHOLE, size=size)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((("Sub", 127.5), ("Div", 127.5)), "Sub and Div, which makes -1.02 to -0.979"),
        ((("Mul", 1 / 255), ("Sub", 0.5)), "Mul and Sub, which makes -0.508 to -0.49"),
        ((("Mul", 2.0), ("Sub", 1.0)), "Mul and Sub, which makes -5.24 to 4.28"),  # quic/ai-hub-models: of 0..1
    ],
)
def test_pixels_were_normalized_once_by_us_and_once_by_the_graph(steps: Any, said: str) -> None:
    model = seen_network(["N", 3, 64, 48])
    current, nodes = "x", list(model.graph.node)
    for number, (operator, value) in enumerate(steps):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), f"own{number}"))
        made = helper.make_node(operator, [current, f"own{number}"], [f"own{number}.done"])
        nodes.insert(number, made)
        current = f"own{number}.done"
    nodes[len(steps)].input[0] = current
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    session = ort.TopDownSession(model)
    message = (
        f"model: mean= and std= must be given, because the graph itself begins with {said} of the default, (123.675, "
        "116.28, 103.53) and (58.395, 57.12, 57.375): mean=0 and std=1 are for pixels from 0 to 255, mean=0 and "
        "std=255 for 0 to 1"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        session.crop(PIXELS, WHOLE)
    assert ort.TopDownSession(model, mean=0, std=1).crop(PIXELS, WHOLE)[0].max() > 1
