"""Top-down ONNX models: recognised, run on crops, decoded into pixels of the photograph; the session and the command.

The networks are made here and their answers are known: colours of the crop, blurred, are the heatmaps, so that a dot
drawn in the photograph has to come back where it was drawn.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from posepost import Keypoints, box_to_crop, decode_heatmap, decode_simcc

onnx = pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from PIL import Image  # noqa: E402

from posepost import _kernels, cli, ort  # noqa: E402
from posepost._image import warp  # noqa: E402
from posepost.draw import COCO_KEYPOINTS, PEOPLE, overlay  # noqa: E402

from .test_cli import complaints  # noqa: E402
from .test_ort import CPU, CUDA, FOUR, build, device, exactly, graph  # noqa: E402, F401

SIZE = (64, 48)
KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}

Channel = tuple[int, str]
"""What a keypoint looks for: a colour (0 red, 1 green, 2 blue), in all of the crop (""), its "left" or "right" half."""

DOTS: tuple[Channel, ...] = ((0, ""), (1, ""), (2, ""))
SIDES: tuple[Channel, ...] = ((0, ""), (1, "left"), (1, "right"))
COCO: tuple[Channel, ...] = tuple(
    (1, "left" if name[0] == "l" else "right") if "_" in name else (0, "") for name in COCO_KEYPOINTS
)


def network(
    kind: str = "heatmap",
    channels: Sequence[Channel] = DOTS,
    *,
    size: tuple[int | None, int | None] = SIZE,
    batch: int | None = None,
    stride: int = 4,
    split: int = 2,
    layout: str = "NCHW",
    input_layout: str = "NCHW",
    dtype: str = "float32",
    input_dtype: str = "float32",
    offsets: bool = False,
    tail: str = "",
    names: tuple[str, ...] | None = None,
    metadata: dict[str, str] | None = None,
    hide: bool = False,
) -> bytes:
    """Heatmaps, blurred by 1.5 cells, whose cell j lies on pixel j * stride of the crop; or the largest of each column
    and row of the blurred crop, `split` bins a pixel, bin b on pixel b / split. offsets: two channels of 0 behind
    each."""
    nodes: list[Any] = []
    weights: list[Any] = []
    current = "picture"

    def step(operator: str, *constants: Any, to: str = "", **attributes: Any) -> str:
        nonlocal current
        inputs = [current]
        for value in constants:
            weights.append(numpy_helper.from_array(np.asarray(value), f"c{len(weights)}"))
            inputs.append(weights[-1].name)
        current = to or f"v{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [current], **attributes))
        return current

    if input_dtype != "float32":
        nodes.append(helper.make_node("Cast", [current], ["widened"], to=TensorProto.FLOAT))
        current = "widened"
    if input_layout == "NHWC":
        step("Transpose", perm=[0, 3, 1, 2])
    if input_dtype != "uint8":  # back to pixels
        step("Mul", np.reshape(np.float32(ort.IMAGENET_STD), (3, 1, 1)))
        step("Add", np.reshape(np.float32(ort.IMAGENET_MEAN), (3, 1, 1)))
    step("Mul", np.float32(1 / 255))
    pure = np.full((3, 3, 1, 1), -1, np.float32)
    pure[[0, 1, 2], [0, 1, 2]] = 1
    step("Conv", pure)  # a grey pixel is no colour
    step("Relu")
    K, height, width = len(channels), size[0] or SIZE[0], size[1] or SIZE[1]
    pick = np.zeros((K, 3, 1, 1), np.float32)
    for k, (colour, _) in enumerate(channels):
        pick[k, colour] = 1
    step("Conv", pick)
    if any(side for _, side in channels):
        mask = np.ones((1, K, 1, width), np.float32)
        for k, (_, side) in enumerate(channels):
            mask[0, k, 0, width // 2 :] = side != "left"
            mask[0, k, 0, : width // 2] = side != "right"
        step("Mul", mask)
    cell = stride if kind == "heatmap" else 2
    reach = 4 * cell
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (1.5 * cell)) ** 2)
    blur = np.zeros((K, 1, 2 * reach + 1, 2 * reach + 1), np.float32)
    blur[:] = np.outer(bell, bell) / 20
    if kind == "heatmap":
        last = reach - stride + 1 if height % stride == 0 else reach
        step("Conv", blur, group=K, strides=[stride, stride], pads=[reach, reach, last, last])
    else:
        step("Conv", blur, group=K, pads=[reach] * 4)

    outputs = []
    names = names or (("heatmaps",) if kind == "heatmap" else ("simcc_x", "simcc_y"))
    blurred = current
    for name, axis in zip(names, (2, 3)):
        current = blurred
        if kind == "simcc":
            step("ReduceMax", axes=[axis], keepdims=0)
            pixels = (width, height)[axis - 2]
            place = np.arange(split * pixels) / split
            step("MatMul", np.maximum(0, 1 - np.abs(place - np.arange(pixels)[:, None])).astype(np.float32))
            dims: list[Any] = [batch or "N", K, split * pixels]
        else:
            dims = [batch or "N", K, *(side and -(-side // stride) for side in size)]
            if offsets:
                spread = np.zeros((3 * K, K, 1, 1), np.float32)
                spread[3 * np.arange(K), np.arange(K)] = 1
                step("Conv", spread)
                dims[1] *= 3
            if layout == "NHWC":
                step("Transpose", perm=[0, 2, 3, 1])
                dims = [dims[0], *dims[2:], dims[1]]
        for operator in tail.split():
            step(operator)
        if dtype == "float16":
            nodes.append(helper.make_node("Cast", [current], [f"{name}.half"], to=TensorProto.FLOAT16))
            current = f"{name}.half"
        if dtype == "uint8":
            step("QuantizeLinear", np.float32(1 / 200), np.uint8(0))
        if hide:  # shape inference does not see through this
            nodes.append(helper.make_node("Shape", [current], [f"{name}.shape"]))
            nodes.append(helper.make_node("Reshape", [current, f"{name}.shape"], [f"{name}.same"]))
            current = f"{name}.same"
            dims = [f"{name}{axis}" for axis in range(len(dims))]
        step("Identity", to=name)
        dims = [f"{name}{axis}" if side is None else side for axis, side in enumerate(dims)]
        outputs.append(helper.make_tensor_value_info(name, KINDS[dtype], dims))
    sides = [side or label for side, label in zip(size, ("H", "W"))]
    dims = [batch or "N", 3, *sides] if input_layout == "NCHW" else [batch or "N", *sides, 3]
    picture = helper.make_tensor_value_info("picture", KINDS[input_dtype], dims)
    made = helper.make_graph(nodes, "test", [picture], outputs, weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def photograph(
    dots: Sequence[tuple[float, float, int]], size: tuple[int, int] = (200, 160), spread: float = 2.0
) -> Image.Image:
    """Soft dots (x, y, colour) on dark grey."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 20.0)
    for dot_x, dot_y, colour in dots:
        ink = np.zeros(3)
        ink[colour] = 255
        weight = np.exp(-((x - dot_x) ** 2 + (y - dot_y) ** 2) / (2 * spread**2))[..., None]
        pixels += weight * (ink - pixels)
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


BOXES = {
    "upright": (60, 30, 110, 120),
    "wide": (40, 60, 160, 100),
    "small": (90, 70, 114, 102),
    "at the upper left corner": (-20, -10, 40, 70),
    "at the lower right corner": (150, 90, 230, 190),
    "fractions": (70.25, 40.5, 101.75, 83.125),
}


def dots_in(box: Sequence[float]) -> list[tuple[float, float, int]]:
    """One of each colour, inside the box and the photograph of 200 x 160."""
    x0, y0, x1, y1 = box
    left, top, right, bottom = max(x0, 6), max(y0, 6), min(x1, 194), min(y1, 154)
    places = ((0.3, 0.2), (0.75, 0.5), (0.35, 0.85))
    return [
        (round(left + u * (right - left)), round(top + v * (bottom - top)), colour)
        for colour, (u, v) in enumerate(places)
    ]


def pixel(box: Sequence[float], size: tuple[int, int] = SIZE) -> float:
    """How many pixels of the photograph a pixel of the crop is."""
    _, scales = box_to_crop(box, (size[1], size[0]))
    return float(scales[0, 0]) / size[1]


def found(session: ort.TopDownSession, image: Image.Image, boxes: Any, **options: Any) -> Keypoints:
    images, transforms = session.crop(image, boxes)
    return session.run(images, transform=transforms, **options).numpy()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize(
    ("kind", "preset", "size", "within"),
    [
        ("heatmap", "mmpose_dark", (128, 96), 0.25),
        ("heatmap", "mmpose_udp", (129, 97), 0.25),  # cell j on pixel 4 j from the first to the last
        ("heatmap", None, (64, 48), 1.5),  # "quarter": cells of 4 pixels
        ("heatmap", None, (48, 64), 1.5),
        ("heatmap", "hrnet", (64, 64), 1.5),
        ("simcc", None, (64, 48), 0.75),  # the largest pixel, not a bin between two
        ("simcc", None, (48, 64), 0.75),
        ("simcc", "simcc", (64, 64), 0.75),
    ],
)
def test_a_dot_in_the_photograph_comes_back_where_it_was_drawn(
    kind: str, preset: str | None, size: tuple[int, int], within: float, box: tuple[float, ...], flip: bool
) -> None:
    """within: pixels of the crop; the whole pixel that a drawn dot may be off is one of the photograph."""
    dots = dots_in(box)
    names = ("simcc_x", "simcc_y") if kind == "simcc" else ("heatmaps",)
    session = ort.TopDownSession(network(kind, size=size, names=names), preset=preset, flip_pairs=(0, 1, 2))
    result = found(session, photograph(dots, spread=1.5 * max(1, pixel(box, size))), [box], flip=flip)
    shifted = 0.5 * flip  # mirrored cells and bins lie a fraction beside the others, by design of the peers
    allowed = (within + shifted) * pixel(box, size) + 0.25
    off = np.hypot(*(result.keypoints[0] - np.array([dot[:2] for dot in dots])).T)
    assert off.max() < allowed
    assert result.scores.min() > 0.1
    if preset in ("mmpose_dark", "mmpose_udp") and not flip:
        assert off.max() < 1


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("options", [
    {"batch": None},
    {"batch": 1},
    {"batch": 2},
    {"batch": 4},
    {"batch": 7},
    {"dtype": "float16"},
    {"dtype": "float16", "input_dtype": "float16", "batch": 3},
    {"dtype": "uint8"},
    {"input_dtype": "uint8", "input_layout": "NHWC"},
    {"input_layout": "NHWC", "batch": 2},
    {"layout": "NHWC"},
], ids=str)  # fmt: skip
def test_several_people_of_one_photograph(kind: str, flip: bool, options: dict[str, Any]) -> None:
    """Whatever the batch, the types and the layouts."""
    boxes = [(10, 10, 40, 60), (150, 20, 180, 60), (20, 100, 60, 150), (140, 110, 190, 140)]
    dots = [dots_in(box) for box in boxes]
    image = photograph([dot for person in dots for dot in person])
    session = ort.TopDownSession(network(kind, **options), flip_pairs=[0, 1, 2])
    result = found(session, image, boxes, flip=flip)
    assert result.keypoints.shape == (4, 3, 2)
    assert result.scores.shape == (4, 3)
    off = np.hypot(*np.moveaxis(result.keypoints - np.array(dots)[:, :, :2], 2, 0))
    assert off.max() < 2.2 * max(pixel(box) for box in boxes)
    for row, box in enumerate(boxes):
        alone = found(session, image, box, flip=flip)
        assert np.allclose(alone.keypoints[0], result.keypoints[row], rtol=0, atol=1e-3)
        assert np.allclose(alone.scores[0], result.scores[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("split", [1, 3, 4])
def test_the_split_ratio_is_that_of_the_sizes_and_not_of_the_preset(split: int) -> None:
    session = ort.TopDownSession(network("simcc", split=split), flip_pairs=(0, 1, 2))
    assert session.model.ratio == split
    box = BOXES["upright"]
    for flip in (False, True):
        off = found(session, photograph(dots_in(box)), box, flip=flip).keypoints[0] - np.array(dots_in(box))[:, :2]
        assert np.abs(off).max() < 1.1 * pixel(box)


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
@pytest.mark.parametrize("batch", [None, 2])
def test_session_gives_what_the_decoder_gives_on_the_models_outputs(kind: str, batch: int | None) -> None:
    data = network(kind, batch=batch)
    session = ort.TopDownSession(data, flip_pairs=(0, 2, 1))
    images, transforms = session.crop(photograph(dots_in(BOXES["upright"])), [BOXES["upright"], BOXES["wide"]])
    raw = onnxruntime.InferenceSession(data, providers=[CPU])
    names = ["simcc_x", "simcc_y"] if kind == "simcc" else ["heatmaps"]
    maps = raw.run(names, {"picture": images})
    mirrored = raw.run(names, {"picture": np.ascontiguousarray(images[..., ::-1])})
    for theirs, ours in zip(maps, session.forward(images)):
        assert np.array_equal(theirs, ours)
    for flip in (False, True):
        pairs = {"flip_pairs": (0, 2, 1)} if flip else {}
        if kind == "simcc":
            other = {"flipped_x": mirrored[0], "flipped_y": mirrored[1]} if flip else {}
            expected = decode_simcc(*maps, preset="rtmpose", transform=transforms, **other, **pairs)
        else:
            other = {"flipped": mirrored[0], "flip_shift": True} if flip else {}
            expected = decode_heatmap(
                *maps, preset="mmpose_msra", input_size=(48, 64), transform=transforms, **other, **pairs
            )
        out = Keypoints(np.zeros((2, 3, 2), np.float32), np.zeros((2, 3), np.float32))
        result = session.run(images, transform=transforms, flip=flip, out=out)
        assert result.keypoints is out.keypoints
        assert np.array_equal(out.keypoints, expected.keypoints)
        assert np.array_equal(out.scores, expected.scores)
    assert np.array_equal(
        session.run(images, transform=transforms[0]).keypoints[0],
        session.run(images, transform=transforms).keypoints[0],
    )


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
def test_the_flip_test_swaps_left_and_right(kind: str) -> None:
    """A keypoint of the crop's left half is, in the mirrored crop, that of its right half: swapped, both agree."""
    dots = [(85, 60, 0), (70, 90, 1), (100, 70, 1)]
    image, box = photograph(dots), BOXES["upright"]
    good = ort.TopDownSession(network(kind, SIDES), flip_pairs=(0, 2, 1))
    bad = ort.TopDownSession(network(kind, SIDES), flip_pairs=(0, 1, 2))
    truth = np.array([dot[:2] for dot in dots])
    for flip in (False, True):
        result = found(good, image, box, flip=flip)
        assert np.abs(result.keypoints[0] - truth).max() < 2 * pixel(box)
    alone = found(good, image, box)
    assert found(good, image, box, flip=True).scores.min() > 0.8 * alone.scores.min()
    assert found(bad, image, box, flip=True).scores[0, 1] < 0.75 * alone.scores[0, 1]


def test_flip_pairs_of_coco_are_known_by_name() -> None:
    session = ort.TopDownSession(network(channels=COCO))
    pairs = session.flip_pairs(17)
    assert pairs == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    dots = [(85, 60, 0), (70, 90, 1), (100, 70, 1)]
    result = found(session, photograph(dots), BOXES["upright"], flip=True)
    truth = [dots[0] if not side else dots[1] if side == "left" else dots[2] for _, side in COCO]
    assert np.abs(result.keypoints[0] - np.array(truth)[:, :2]).max() < 2 * pixel(BOXES["upright"])


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        ("nose,left_eye,right_eye", (0, 2, 1)),
        ("Right ankle,head,Left ankle", (2, 1, 0)),
        ("eye_left,tail,eye_right,chin", (2, 1, 0, 3)),
        ("left_eye,nose", None),
        ("a,b,c", None),
        ("left_eye,right_eye,left_eye", None),
        ("", None),
    ],
)
def test_left_for_right(names: str, pairs: tuple[int, ...] | None) -> None:
    assert ort.left_for_right(names.split(",")) == pairs


def test_flip_pairs_that_nobody_knows() -> None:
    session = ort.TopDownSession(network())
    images, _ = session.crop(photograph([]))
    message = (
        "flip_pairs must be given for a flip test (--flip-pairs), because the names of the 3 keypoints of model "
        "do not tell left from right, got None"
    )
    with pytest.raises(ValueError, match=exactly(message)):
        session.run(images, flip=True)
    with pytest.raises(ValueError, match=exactly("flip_pairs must name the partner of each of 3 keypoints, got 2")):
        ort.TopDownSession(network(), flip_pairs=(1, 0))
    with pytest.raises(ValueError, match=exactly("flip_pairs must hold each of 0 to K - 1 once, got [0, 0, 1]")):
        ort.TopDownSession(network(), flip_pairs=(0, 0, 1))
    with pytest.raises(ValueError, match=exactly("flip_shift is for heatmaps, got it for the SimCC model model")):
        ort.TopDownSession(network("simcc"), flip_shift=True)


def test_nobody_and_more_people_than_one_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort.topdown, "MOST_CROPS", 3)
    session = ort.TopDownSession(network())
    image, boxes = photograph(dots_in(BOXES["upright"])), [BOXES["upright"]] * 8
    ran: list[int] = []
    real = session._infer
    monkeypatch.setattr(session, "_infer", lambda array, heads: ran.append(len(array)) or real(array, heads))
    result = found(session, image, boxes)
    assert ran == [3, 3, 3]
    assert (result.keypoints == result.keypoints[0]).all()
    images, transforms = session.crop(image, [])
    assert (images.shape, transforms.shape) == ((0, 3, 64, 48), (0, 2, 3))
    nobody = session.run(images, transform=transforms)
    assert (nobody.keypoints.shape, nobody.scores.shape) == ((0, 3, 2), (0, 3))
    assert ran == [3, 3, 3]
    images, transforms = session.crop(image, boxes)
    with pytest.raises(ValueError, match=exactly("out must be None where the model takes 3 crops a run, got 8 crops")):
        session.run(images, out=result)
    with pytest.raises(ValueError, match=exactly("transform must have shape (2, 3) or (8, 2, 3), got (7, 2, 3)")):
        session.run(images, transform=transforms[1:])
    with pytest.raises(
        TypeError, match=exactly("transform must be numbers of shape (2, 3) or (8, 2, 3), got [[1, 2], [3]]")
    ):
        session.run(images, transform=[[1, 2], [3]])


def test_crop_is_the_padded_box_in_the_models_dtype_and_layout() -> None:
    """Checked where it can be computed by hand: a crop of the photograph's own resolution, and one twice as coarse."""
    pixels = np.random.default_rng(4).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    raw = ort.TopDownSession(network(input_dtype="uint8", input_layout="NHWC"))
    images, transforms = raw.crop(pixels, [(50, 40, 98, 104), (20, 0, 116, 128)], padding=1)
    assert np.array_equal(transforms[0], [[1, 0, 50], [0, 1, 40]])
    assert np.array_equal(images[0], pixels[40:104, 50:98])
    assert np.array_equal(images[1], pixels[0:128:2, 20:116:2])
    planar, same = ort.TopDownSession(network(dtype="float16", input_dtype="float16")).crop(
        Image.fromarray(pixels), (50, 40, 98, 104), padding=1
    )
    mean, std = np.float32(ort.IMAGENET_MEAN), np.float32(ort.IMAGENET_STD)
    expected = ((images[0] - mean) / std).astype(np.float16).transpose(2, 0, 1)
    assert np.array_equal(planar[0], expected)
    assert np.array_equal(same, transforms[:1])
    _, scales = box_to_crop((50, 40, 98, 104), (48, 64))
    assert raw.crop(pixels, (50, 40, 98, 104))[1][0, 0, 0] == np.float32(scales[0, 0] / 48)
    own = ort.TopDownSession(network(), mean=10, std=(1, 2, 4)).crop(pixels, (50, 40, 98, 104), padding=1)[0]
    assert np.array_equal(own[0], ((images[0] - np.float32(10)) / np.float32([1, 2, 4])).transpose(2, 0, 1))


def test_warp_turns_and_fills_with_black() -> None:
    pixels = np.random.default_rng(4).integers(1, 256, (20, 30, 3), dtype=np.uint8)
    turned = warp(Image.fromarray(pixels), np.array([[0, 1, 0], [-1, 0, 19]]), (30, 20))
    assert np.array_equal(turned, np.rot90(pixels, -1))
    beside = warp(Image.fromarray(pixels), np.array([[1, 0, -5], [0, 1, 12]]), (20, 30))
    assert np.array_equal(beside[:8, 5:], pixels[12:, :25])
    assert not beside[8:].any()
    assert not beside[:, :5].any()
    between = warp(Image.fromarray(pixels), np.array([[1, 0, 0.5], [0, 1, 0]]), (20, 20))
    mean = (pixels[:, :20].astype(int) + pixels[:, 1:21]) / 2
    assert np.abs(between - mean).max() <= 0.5


def test_the_whole_image_is_the_box_when_none_is_given() -> None:
    session = ort.TopDownSession(network())
    image = photograph([(30, 40, 0), (120, 80, 1), (170, 120, 2)])
    for ours, theirs in zip(session.crop(image), session.crop(image, [(0, 0, 200, 160)])):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("boxes", "error", "message"),
    [
        ((1, 2, 3), ValueError, "boxes must have shape (N, 4), got (1, 3)"),
        ("all", TypeError, "boxes must be numbers of shape (N, 4), got 'all'"),
        ([(0, 0, 9, 9), (5, 5, 5, 9)], ValueError, "boxes[1] RULE, got (5, 5, 5, 9)"),
        ([(0, 9, 9, 0)], ValueError, "boxes[0] RULE, got (0, 9, 9, 0)"),
        ([(0, 0, np.nan, 9)], ValueError, "boxes[0] RULE, got (0, 0, nan, 9)"),
        ([(-np.inf, 0, np.inf, 9)], ValueError, "boxes[0] RULE, got (-inf, 0, inf, 9)"),
        ([(200, 0, 210, 9)], ValueError, "boxes[0] must meet the image of 200x160 pixels, got (200, 0, 210, 9)"),
        ([(0, -9.5, 10, 0)], ValueError, "boxes[0] must meet the image of 200x160 pixels, got (0, -9.5, 10, 0)"),
    ],
)
def test_wrong_boxes(boxes: Any, error: type[Exception], message: str) -> None:
    session = ort.TopDownSession(network())
    rule = "must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1"
    with pytest.raises(error, match=exactly(message.replace("RULE", rule))):
        session.crop(photograph([]), boxes)


def test_a_model_that_takes_any_size() -> None:
    session = ort.TopDownSession(network(size=(None, None)), preset="mmpose_dark")
    assert (session.model.usual_size, session.model.input_size) == ((256, 192), (None, None))
    image, box = photograph(dots_in(BOXES["upright"])), BOXES["upright"]
    for size in ((64, 48), (96, 96)):
        images, transforms = session.crop(image, box, size=size)
        assert images.shape == (1, 3, *size)
        result = session.run(images, transform=transforms)
        assert np.abs(result.keypoints[0] - np.array(dots_in(box))[:, :2]).max() < 1
    stated = ort.TopDownSession(network(size=(None, None), metadata={"posepost.input_size": "96,72"}))
    assert stated.crop(image)[0].shape == (1, 3, 96, 72)
    with pytest.raises(ValueError, match=exactly("size must be what the model takes, 64x48, got 64x64")):
        ort.TopDownSession(network()).crop(image, size=(64, 64))


# ---- recognition


def heads(shapes: dict[str, tuple[Any, ...]], size: tuple[Any, Any] = (256, 192), dtype: str = "float32") -> bytes:
    """A graph with these outputs, which nothing makes: enough to be read."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["N", 3, *size])
    kind = {**KINDS, "float64": TensorProto.DOUBLE}[dtype]
    outputs = [helper.make_tensor_value_info(name, kind, ["N", *shape]) for name, shape in shapes.items()]
    return graph([picture], [helper.make_node("Mystery", ["picture"], list(shapes))], outputs)


@pytest.mark.parametrize(
    ("shapes", "kind", "facts"),
    [
        ({"output": (17, 64, 48)}, "heatmap", ("by shape", "NCHW", (64, 48), 4, 17)),
        ({"output": (17, 128, 96)}, "heatmap", ("by shape", "NCHW", (128, 96), 2, 17)),
        ({"output": (17, 32, 24)}, "heatmap", ("by shape", "NCHW", (32, 24), 8, 17)),
        ({"output": (21, 256, 192)}, "heatmap", ("by shape", "NCHW", (256, 192), 1, 21)),
        ({"output": (64, 48, 17)}, "heatmap", ("by shape", "NHWC", (64, 48), 4, 17)),
        ({"output": (17, 43, 32)}, "heatmap", ("by shape", "NCHW", (43, 32), 6, 17)),
        ({"output": (17, 51, 38)}, "heatmap", ("by shape", "NCHW", (51, 38), 5, 17)),
        ({"output": (17, 64, 48), "features": (256,)}, "heatmap", ("by shape", "NCHW", (64, 48), 4, 17)),
        ({"simcc_x": (17, 384), "simcc_y": (17, 512)}, "simcc", ("by shape", None, (384, 512), 2, 17)),
        ({"a": (133, 512), "b": (133, 384)}, "simcc", ("by shape", None, (384, 512), 2, 133)),
        ({"a": (17, 576), "b": (17, 768)}, "simcc", ("by shape", None, (576, 768), 3, 17)),
        ({"a": (17, 288), "b": (17, 384), "z": (17, 3)}, "simcc", ("by shape", None, (288, 384), 1.5, 17)),
    ],
)  # fmt: skip
def test_recognition_by_shape(shapes: dict[str, tuple[int, ...]], kind: str, facts: tuple[Any, ...]) -> None:
    data = heads(shapes)
    assert ort.recognise(data).kind == kind
    model = ort.read_topdown(data)
    assert (model.heads_by, model.layout, model.sizes, model.ratio, model.keypoint_count) == facts
    assert (model.kind, model.preset, model.activation) == (kind, ort.DEFAULT_PRESETS[kind], None)
    if kind == "simcc":
        x, y = (shapes[model.heads[head]][1] for head in ("simcc_x", "simcc_y"))
        assert x < y


def test_heatmaps_with_offsets_are_posenet() -> None:
    assert ort.recognise(build()).kind == "posenet"
    assert ort.recognise(build(FOUR, layout="NHWC")).heads == {name: name for name in FOUR}
    assert ort.recognise(build(hide_maps=True), heads={"heatmaps": "heatmaps", "offsets": "offsets"}).kind == "posenet"


def test_names_decide_between_vectors_of_a_square_input() -> None:
    for names in (("simcc_x", "simcc_y"), ("X", "Y"), ("pred.x", "pred.y")):
        shapes = {names[1]: (21, 512), names[0]: (21, 512)}
        model = ort.read_topdown(heads(shapes, (256, 256)))
        assert model.heads == {"simcc_x": names[0], "simcc_y": names[1]}
        assert model.heads_by == "by shape and name"
    three = {"simcc_x": (17, 576), "simcc_y": (17, 768), "simcc_z": (17, 576)}
    assert ort.read_topdown(heads(three, (384, 288))).heads == {"simcc_x": "simcc_x", "simcc_y": "simcc_y"}


NONE = (
    "model: no pose head among the outputs for an input of 192x256 pixels: heatmaps of K channels with offsets of 2K "
    "(PoseNet), heatmaps alone that are smaller by a whole number, or two (N, K, bins) with as many bins a pixel in "
    "width and height (SimCC); heads= or --heads names them: "
)
SEVERAL = "model: several outputs may be the heads, name them with heads= (--heads), heatmaps or simcc_x and simcc_y: "


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"boxes": (100, 4), "labels": (100,)}, NONE + "boxes (1, 100, 4), labels (1, 100)"),
        ({"output": (17, 42, 33)}, NONE + "output (1, 17, 42, 33)"),  # 256 / 6 rounded down, 192 / 6 up
        ({"output": (17, 64, 64)}, NONE + "output (1, 17, 64, 64)"),
        ({"a": (17, 384), "b": (17, 500)}, NONE + "a (1, 17, 384), b (1, 17, 500)"),
        ({"a": (17, 384), "b": (18, 512)}, NONE + "a (1, 17, 384), b (1, 18, 512)"),
        ({"a": (17, 24), "b": (17, 32)}, NONE + "a (1, 17, 24), b (1, 17, 32)"),
        ({"a": (17, None, None)}, NONE + "a (1, 17, any, any)"),
        ({"a": (17, 64, 48), "b": (17, 64, 48)}, SEVERAL + "a (1, 17, 64, 48), b (1, 17, 64, 48)"),
        ({"a": (17, 64, 48), "b": (17, 384), "c": (17, 512)},
         SEVERAL + "a (1, 17, 64, 48), b (1, 17, 384), c (1, 17, 512)"),
    ],
)  # fmt: skip
def test_outputs_that_are_no_head_or_may_be_several(shapes: dict[str, tuple[Any, ...]], message: str) -> None:
    for read in (ort.recognise, ort.read_topdown):
        with pytest.raises(ValueError, match=exactly(message.replace("(1, ", "(any, "))):
            read(heads(shapes))


def test_a_layout_that_nobody_can_tell_must_be_given() -> None:
    data = heads({"a": (64, 64, 64)}, (256, 256))
    message = "cannot tell the layout of the heatmaps, give layout= (--layout), NCHW or NHWC: a (any, 64, 64, 64)"
    with pytest.raises(ValueError, match=exactly(f"model: {message}")):
        ort.recognise(data)
    for layout in ("NCHW", "NHWC"):
        assert ort.read_topdown(data, layout=layout).layout == ort.recognise(data, layout=layout).layout == layout


def test_a_square_simcc_whose_names_say_nothing_must_be_named() -> None:
    data = heads({"a": (21, 512), "b": (21, 512)}, (256, 256))
    with pytest.raises(ValueError, match=r"^" + re.escape(SEVERAL)):
        ort.recognise(data)
    named = ort.read_topdown(data, heads={"simcc_x": "b"})
    assert (named.heads, named.heads_by) == ({"simcc_x": "b", "simcc_y": "a"}, "named by the caller")


def test_named_heads() -> None:
    data = heads({"a": (17, 64, 48), "b": (17, 64, 48)})
    assert ort.recognise(data, heads={"heatmaps": "b"}).heads == {"heatmaps": "b"}
    assert ort.read_topdown(data, heads={"heatmaps": "b"}).heads_by == "named by the caller"
    odd = ort.read_topdown(heads({"a": (17, 64, 64)}), heads={"heatmaps": "a"}, layout="NCHW")
    assert (odd.sizes, odd.ratio) == ((64, 64), None)
    with pytest.raises(
        ValueError, match=exactly("heads must have keys among heatmaps, simcc_x, simcc_y, got 'offsets'")
    ):
        ort.read_topdown(data, heads={"offsets": "b"})
    with pytest.raises(ValueError, match=exactly("heads['heatmaps'] must be one of the outputs a, b, got 'c'")):
        ort.recognise(data, heads={"heatmaps": "c"})
    with pytest.raises(
        ValueError,
        match=exactly(
            "heads must have keys among heatmaps, offsets, displacement_fwd, displacement_bwd, simcc_x, simcc_y, "
            "got 'joints'"
        ),
    ):
        ort.recognise(data, heads={"joints": "a"})


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
def test_shapes_that_the_graph_hides_are_known_when_it_runs(kind: str) -> None:
    names = {"heatmaps": "heatmaps"} if kind == "heatmap" else {"simcc_x": "simcc_x", "simcc_y": "simcc_y"}
    plain = ort.TopDownSession(network(kind, COCO))
    session = ort.TopDownSession(network(kind, COCO, hide=True), heads=names, layout="NCHW")
    assert (session.model.keypoint_count, session.model.ratio, session.model.keypoints) == (None, None, ())
    image = photograph([(85, 60, 0), (70, 90, 1), (100, 70, 1)])
    for flip in (False, True):
        for ours, theirs in zip(*(found(s, image, BOXES["upright"], flip=flip) for s in (session, plain))):
            assert np.array_equal(ours, theirs)
    assert "keypoints        unknown until it runs" in session.describe()
    other = ort.TopDownSession(network(kind, hide=True), heads=names, layout="NCHW")
    with pytest.raises(ValueError, match=r"^flip_pairs must be given for a flip test"):
        found(other, image, BOXES["upright"], flip=True)


def test_named_vectors_that_do_not_fit_the_input() -> None:
    data = network("simcc", size=(64, 48), names=("a", "b"))
    session = ort.TopDownSession(data, heads={"simcc_x": "b", "simcc_y": "a"})
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: simcc_x and simcc_y must have as many bins a pixel of the input, which is 48 wide and 64 high, "
            "got 128 and 96"
        ),
    ):
        found(session, photograph([]), None)


def test_udp_combined_is_never_guessed() -> None:
    data = network(channels=COCO, size=(257, 193), offsets=True)
    with pytest.raises(
        ValueError,
        match=exactly(
            'model: 51 channels may be 51 keypoints or 17 with offsets; give preset="mmpose_udp_combined" '
            "(--preset mmpose_udp_combined) for offsets, or another preset for 51 keypoints"
        ),
    ):
        ort.TopDownSession(data)
    assert ort.read_topdown(data, preset="mmpose_dark").keypoint_count == 51
    session = ort.TopDownSession(data, preset="mmpose_udp_combined")
    assert (session.model.keypoint_count, session.model.keypoints) == (17, COCO_KEYPOINTS)
    dots, box = [(85, 60, 0), (70, 90, 1), (100, 70, 1)], BOXES["upright"]
    truth = np.array([dots[0] if not side else dots[1] if side == "left" else dots[2] for _, side in COCO])[:, :2]
    for flip in (False, True):
        off = found(session, photograph(dots), box, flip=flip).keypoints[0] - truth
        assert np.abs(off).max() < 2.5 * pixel(box, (257, 193))
    assert ort.read_topdown(heads({"a": (63, 64, 48)})).keypoint_count == 63  # not asked where nobody would think so
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: heatmaps must have three channels a keypoint (class, x, y) for mmpose_udp_combined, got 17"
        ),
    ):
        ort.read_topdown(heads({"a": (17, 64, 48)}), preset="mmpose_udp_combined")


def test_what_the_graph_and_the_metadata_tell() -> None:
    data = network(metadata={
        "posepost.mean": "1,2,3", "posepost.std": "4", "posepost.keypoints": "nose,left_eye,right_eye",
    })  # fmt: skip
    model = ort.read_topdown(data)
    assert (model.keypoints, model.normalisation_by) == (("nose", "left_eye", "right_eye"), "metadata")
    assert (model.mean.tolist(), model.std.tolist()) == ([1, 2, 3], [4, 4, 4])
    assert ort.TopDownSession(data).flip_pairs(3) == (0, 2, 1)
    default = ort.read_topdown(network())
    assert np.allclose(default.mean, (123.675, 116.28, 103.53))
    assert np.allclose(default.std, (58.395, 57.12, 57.375))
    assert ort.read_topdown(network(), mean=5).normalisation_by == "given"
    quantised = ort.read_topdown(network("simcc", dtype="uint8"))
    assert quantised.quantization == {head: (pytest.approx(1 / 200), 0) for head in ("simcc_x", "simcc_y")}


def test_a_presets_sigmoid_is_not_applied_twice() -> None:
    """mediapipe's heatmaps are logits: those that passed a Sigmoid in the graph are not."""
    logits, scores = network(), network(tail="Sigmoid")
    assert ort.read_topdown(logits).activation is None
    assert ort.read_topdown(scores).activation is None
    a, b = (ort.TopDownSession(data, preset="mediapipe") for data in (logits, scores))
    assert (a.model.activation, a.model.activation_by) == ("sigmoid", "preset mediapipe")
    assert (b.model.activation, b.model.activation_by) == (None, "passed Sigmoid")
    image, box = photograph(dots_in(BOXES["upright"])), BOXES["upright"]
    one, other = (found(session, image, box) for session in (a, b))
    assert np.allclose(one.scores, other.scores, rtol=0, atol=1e-6)
    assert np.allclose(one.keypoints, other.keypoints, rtol=0, atol=1e-2)
    plain = ort.TopDownSession(logits, preset="mediapipe", activation=None)
    assert plain.model.activation_by == "given"
    raw = plain.forward(plain.crop(image, box)[0])[0]
    assert np.allclose(found(plain, image, box).scores[0], raw[0].max(axis=(1, 2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (heads({"a": (17, 64, 48)}), {"preset": "rtmpose"},
         'preset must be "mmpose_msra", "mmpose_dark", "mmpose_udp", "mmpose_udp_combined", "mmpose_megvii", '
         '"mmpose_integral", "mmdeploy", "hrnet", "vitpose_hf", "higherhrnet", "trt_pose", "openpose", "sleap", '
         '"mediapipe" or "deeplabcut", got \'rtmpose\''),
        (heads({"a": (17, 384), "b": (17, 512)}), {"preset": "hrnet"},
         'preset must be "rtmpose" or "simcc", got \'hrnet\''),
        (heads({"a": (17, 64, 48)}), {"layout": "CHW"}, 'layout must be "NCHW", "NHWC" or None, got \'CHW\''),
        (heads({"a": (17, 64, 48)}), {"activation": "relu"},
         'activation must be "auto", "sigmoid" or None, got \'relu\''),
        (heads({"a": (17, 64, 48)}), {"std": 0}, "std must not be zero, got 0"),
        (heads({"a": (17, 64, 48)}, dtype="float64"), {},
         "model: the output a must be float32, float16, bfloat16, uint8 or int8, got float64"),
        (heads({"a": (17, 64, 48)}, dtype="uint8"), {}, "model: cannot read the scale of the uint8 output a"),
    ],
)  # fmt: skip
def test_wrong_arguments(data: bytes, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.TopDownSession(data, **arguments)


def test_vectors_of_two_dtypes() -> None:
    proto = onnx.load_from_string(heads({"a": (17, 384), "b": (17, 512)}))
    proto.graph.output[1].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(
        ValueError, match=exactly("model: simcc_x and simcc_y must have one dtype, got float32 and float16")
    ):
        ort.read_topdown(proto.SerializeToString())


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        ([1.0], TypeError, "images must be a NumPy array, because this session runs on the CPU (R), got list"),
        (np.zeros((5, 3, 64, 48)), TypeError, "images must have the model's dtype float32, got float64"),
        (
            np.zeros((5, 3, 48, 64), np.float32),
            ValueError,
            "images must have shape (any, 3, 64, 48), got (5, 3, 48, 64)",
        ),
    ],
)
def test_wrong_images(images: Any, kind: type[Exception], message: str) -> None:
    session = ort.TopDownSession(network(batch=2), providers=[CPU])
    with pytest.raises(kind, match=exactly(message.replace("(R)", "(providers= names no CUDA provider)"))):
        session.run(images)


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
@pytest.mark.parametrize("flip", [False, True])
def test_on_a_device_everything_goes_to_one_stream_and_nothing_waits(
    kind: str,
    flip: bool,
    device: SimpleNamespace,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = device.log
    shapes = {"heatmaps": [2, 3, 16, 12], "simcc_x": [2, 3, 96], "simcc_y": [2, 3, 128]}

    def decode(*maps: Any, **options: Any) -> str:
        flipped = [options[key].name for key in ("flipped", "flipped_x", "flipped_y") if key in options]
        log.append(("decode", options["stream"].name, [one.name for one in maps], flipped))
        return "keypoints"

    def get_outputs(binding: Any) -> list[Any]:
        run = max(i for i, entry in enumerate(log[:-1]) if entry[0] == "input")
        bound = [entry[1] for entry in log[run:] if entry[0] == "output"]
        return [SimpleNamespace(name=name, shape=lambda name=name: shapes[name]) for name in bound]

    monkeypatch.setattr(ort.topdown, "decode_heatmap", decode)
    monkeypatch.setattr(ort.topdown, "decode_simcc", decode)
    session = ort.TopDownSession(network(kind, batch=2), device_id=1, flip_pairs=(0, 2, 1))
    monkeypatch.setattr(type(session._session.io_binding()), "get_outputs", get_outputs)
    mirror_log: list[Any] = []

    class Mirrorable:
        def __init__(self, array: Any) -> None:
            self.dtype, self.shape, self.flags = array.dtype, array.shape, SimpleNamespace(c_contiguous=True)
            self.data = SimpleNamespace(ptr=array.ctypes.data)

        def __len__(self) -> int:
            return self.shape[0]

        def __getitem__(self, key: Any) -> Any:
            mirror_log.append(key)
            return self

    def asarray(array: Any) -> Any:
        log.append("upload")
        return Mirrorable(array)

    monkeypatch.setattr(sys.modules["cupy"], "asarray", asarray)
    monkeypatch.setattr(
        sys.modules["cupy"], "ascontiguousarray", lambda array: log.append("mirror") or array, raising=False
    )
    log.clear()
    assert session.run(np.zeros((2, 3, 64, 48), np.float32), flip=flip) == "keypoints"
    names = ["heatmaps"] if kind == "heatmap" else ["simcc_x", "simcc_y"]
    forward = [
        ("input", "picture", "cuda", 1, np.float32, (2, 3, 64, 48)),
        *(("output", name, "cuda", 1) for name in names),
        ("run", "1"),
    ]
    assert log == [
        "device 1",
        "caller records",
        "ours waits for event",
        "enter ours",
        "upload",
        *forward,
        *(["mirror", *forward] if flip else []),
        ("decode", "ours", names, names if flip else []),
        "leave ours",
        "ours records",
        "caller waits for event",
    ]
    assert mirror_log == ([(..., slice(None, None, -1))] if flip else [])


class OnDevice(np.ndarray):  # type: ignore[type-arg]
    """A NumPy array that passes for CuPy's."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


@pytest.mark.parametrize("several", [False, True])
def test_on_a_device_many_crops_are_written_into_one_result(
    several: bool,
    device: SimpleNamespace,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five crops, two a run: the last has a black crop beside it, and nothing is copied out of the parts' results."""
    calls: list[tuple[Any, ...]] = []

    def decode(maps: Any, **options: Any) -> None:
        points, scores = options["out"]
        points[...], scores[...] = len(calls), 10 + len(calls)
        calls.append((options["transform"], options["stream"].name, points.shape))

    def get_outputs(binding: Any) -> list[Any]:
        return [SimpleNamespace(shape=lambda: [2, 3, 16, 12])]

    cupy = sys.modules["cupy"]
    for name in ("asarray", "empty", "zeros"):
        real = getattr(np, name)
        made = lambda *arguments, real=real: real(*arguments).view(OnDevice)  # noqa: E731
        monkeypatch.setattr(cupy, name, made, raising=False)
    monkeypatch.setattr(ort.topdown, "decode_heatmap", decode)
    session = ort.TopDownSession(network(batch=2), device_id=1)
    monkeypatch.setattr(type(session._session.io_binding()), "get_outputs", get_outputs)
    transforms = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    device.log.clear()
    images = np.arange(1, 6, dtype=np.float32)[:, None, None, None] + np.zeros((1, 3, 64, 48), np.float32)
    result = session.run(images, transform=transforms if several else transforms[0])
    assert [entry[5] for entry in device.log if entry[0] == "input"] == [(2, 3, 64, 48)] * 3
    assert device.log[:4] == ["device 1", "caller records", "ours waits for event", "enter ours"]
    assert device.log[-3:] == ["leave ours", "ours records", "caller waits for event"]
    assert [call[1:] for call in calls] == [("ours", (2, 3, 2))] * 3
    if several:
        assert np.array_equal(np.concatenate([call[0] for call in calls])[:5], transforms)
        assert not calls[2][0][1].any()
    else:
        assert all(np.array_equal(call[0], transforms[0]) for call in calls)
    assert (result.keypoints.shape, result.scores.shape) == ((5, 3, 2), (5, 3))
    assert result.keypoints[:, 0, 0].tolist() == [0, 0, 1, 1, 2]
    assert result.scores[:, 2].tolist() == [10, 10, 11, 11, 12]
    assert result.origin is not None
    assert result.origin[:5] == (
        1,
        "cupy",
        result.keypoints.ctypes.data,
        result.scores.ctypes.data,
        session.stream.ptr,
    )


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_device_and_host_give_the_same_keypoints(kind: str, batch: int | None, gpu: Any) -> None:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider")
    data = network(kind, batch=batch)
    there, here = (
        ort.TopDownSession(data, flip_pairs=(0, 2, 1)),
        ort.TopDownSession(data, flip_pairs=(0, 2, 1), providers=[CPU]),
    )
    assert there.device == "cuda"
    image = photograph(dots_in(BOXES["upright"]))
    images, transforms = here.crop(image, [BOXES["upright"]] * 4)
    for flip in (False, True):
        expected = here.run(images, transform=transforms, flip=flip)
        for source in (images, gpu.asarray(images)):
            result = there.run(source, transform=transforms, flip=flip).numpy()
            assert np.allclose(result.keypoints, expected.keypoints, rtol=0, atol=1e-3)
            assert np.allclose(result.scores, expected.scores, rtol=0, atol=1e-5)


# ---- the command


def written(folder: Path, name: str = "photo") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return document


def joints(document: dict[str, Any]) -> np.ndarray[Any, Any]:
    """(N, K, 3): x, y, score."""
    rows = [[[joint[key] for key in ("x", "y", "score")] for joint in pose["keypoints"]] for pose in document["poses"]]
    return np.array(rows, np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in: heatmap.onnx, simcc.onnx, coco.onnx, posenet.onnx, photo.png and other.png."""
    monkeypatch.chdir(tmp_path)
    for kind in ("heatmap", "simcc"):
        (tmp_path / f"{kind}.onnx").write_bytes(network(kind))
    (tmp_path / "coco.onnx").write_bytes(network(channels=COCO))
    (tmp_path / "posenet.onnx").write_bytes(build())
    photograph(dots_in(PAIR[0]) + dots_in(PAIR[1])).save("photo.png")
    photograph(dots_in(BOXES["wide"]), spread=4).save("other.png")
    return tmp_path


PAIR = [(10.0, 10.0, 50.0, 80.0), (120.5, 70.0, 180.0, 140.0)]
TWO = ["--box", "10,10,50,80", "--box", "120.5,70,180,140"]


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
def test_run_writes_one_person_a_box(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", f"{kind}.onnx", "photo.png", *TWO, "-o", "out"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1] == "photo.png: 2 people, wrote out/photo.json and out/photo.overlay.png"
    session = ort.TopDownSession(f"{kind}.onnx")
    image = Image.open("photo.png")
    expected = found(session, image, PAIR)
    document = written(folder / "out")
    assert np.array_equal(joints(document), np.concatenate([expected.keypoints, expected.scores[..., None]], axis=2))
    for pose, box, scores in zip(document["poses"], PAIR, expected.scores):
        assert pose["box"] == list(box)
        assert pose["score"] == pytest.approx(scores.mean(dtype=np.float64))
        assert [joint["name"] for joint in pose["keypoints"]] == ["keypoint 0", "keypoint 1", "keypoint 2"]
        off = joints(document)[document["poses"].index(pose), :, :2] - np.array(dots_in(box))[:, :2]
        assert np.abs(off).max() < 1.5 * pixel(box)
    del document["poses"]
    assert document == {
        "image": "photo.png", "width": 200, "height": 160, "model": f"{kind}.onnx", "input_size": [64, 48],
        "device": session.device,
    }  # fmt: skip
    drawn = np.asarray(overlay(image, expected.keypoints, expected.scores, min_score=cli.SHOWN))
    with Image.open("out/photo.overlay.png") as picture:
        assert np.array_equal(np.asarray(picture), drawn)
    for colour in PEOPLE[:2]:
        assert (drawn == colour).all(axis=2).any()


def test_boxes_of_many_images_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "deep").mkdir()
    photograph([]).save("deep/empty.png")
    boxes = {"photo.png": PAIR, "./other.png": [[40, 60, 160, 100]], "other.png": [], "empty.png": [], "more.png": "?"}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    images = ["photo.png", "./other.png", "deep/empty.png"]
    assert cli.main(["run", "heatmap.onnx", *images, "--boxes", "boxes.json", "-o", "out"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == [
        "photo.png: 2 people", "./other.png: 1 person", "deep/empty.png: 0 people",
    ]  # fmt: skip
    assert cli.main(["run", "heatmap.onnx", "photo.png", *TWO, "-o", "again"]) == 0
    assert written(folder / "out") == written(folder / "again")
    (other,) = written(folder / "out", "other")["poses"]
    assert other["box"] == [40, 60, 160, 100]
    off = joints(written(folder / "out", "other"))[0, :, :2] - np.array(dots_in(BOXES["wide"]))[:, :2]
    assert np.abs(off).max() < 1.5 * pixel(BOXES["wide"])
    assert written(folder / "out", "empty")["poses"] == []
    with Image.open("out/empty.overlay.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(photograph([])))


def test_options_reach_the_session(folder: Path) -> None:
    """Each option gives what the session gives with the argument of that name, and something else than without it."""
    image = Image.open("photo.png")

    def run(*options: str, model: str = "heatmap.onnx") -> np.ndarray[Any, Any]:
        assert cli.main(["run", model, "photo.png", *options, "-o", "out"]) == 0
        return joints(written(folder / "out"))

    def direct(boxes: Any = None, flip: bool = False, padding: float = 1.25, **arguments: Any) -> np.ndarray[Any, Any]:
        session = ort.TopDownSession("heatmap.onnx", **arguments)
        images, transforms = session.crop(image, boxes, padding=padding)
        result = session.run(images, transform=transforms, flip=flip)
        return np.concatenate([result.keypoints, result.scores[..., None]], axis=2)

    plain = run()
    assert np.array_equal(plain, direct())
    assert written(folder / "out")["poses"][0]["box"] == [0, 0, 200, 160]
    for options, arguments in (
        (["--preset", "mmpose_udp"], {"preset": "mmpose_udp"}),
        (["--padding", "1.5"], {"padding": 1.5}),
        (["--mean", "100", "--std", "50,60,70"], {"mean": 100, "std": (50, 60, 70)}),
        (["--flip", "--flip-pairs", "0,2,1"], {"flip": True, "flip_pairs": (0, 2, 1)}),
        (["--flip-pairs", "0,2,1"], {"flip": True, "flip_pairs": (0, 2, 1)}),
        (["--activation", "sigmoid"], {"activation": "sigmoid"}),
        (["--heads", "heatmaps=heatmaps", "--box=-10,0,80,90"], {"boxes": [(-10, 0, 80, 90)]}),
        (["--layout", "NCHW", "--box", "1e1,0,80,90.5"], {"boxes": [(10, 0, 80, 90.5)]}),
    ):
        ours = run(*options)
        assert np.array_equal(ours, direct(**arguments)), options
        assert not np.array_equal(ours, plain), options
    (folder / "free.onnx").write_bytes(network(size=(None, None)))
    run("--size", "96x72", model="free.onnx")
    assert written(folder / "out")["input_size"] == [96, 72]


def test_flip_with_the_names_of_coco(folder: Path) -> None:
    dots = [(85, 60, 0), (70, 90, 1), (100, 70, 1)]
    photograph(dots).save("one.png")
    session = ort.TopDownSession("coco.onnx")
    for options, flip in (([], False), (["--flip"], True)):
        assert cli.main(["run", "coco.onnx", "one.png", "--box", "60,30,110,120", *options, "-o", "out"]) == 0
        expected = found(session, Image.open("one.png"), BOXES["upright"], flip=flip)
        document = written(folder / "out", "one")
        assert np.array_equal(joints(document)[..., :2], expected.keypoints)
        assert [joint["name"] for joint in document["poses"][0]["keypoints"]] == list(COCO_KEYPOINTS)
    hidden = network(channels=COCO, hide=True)
    Path("hidden.onnx").write_bytes(hidden)
    named = ["--heads", "heatmaps=heatmaps", "--layout", "NCHW", "--flip", "--box", "60,30,110,120"]
    assert cli.main(["run", "hidden.onnx", "one.png", *named, "-o", "hidden"]) == 0
    assert written(folder / "hidden", "one")["poses"] == document["poses"]


RULE = "boxes[0] must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box", "1,2,3"], "posepost run: argument --box: must be x0,y0,x1,y1 in pixels of the image, got '1,2,3'"),
        (["--box", "a,b,c,d"],
         "posepost run: argument --box: must be x0,y0,x1,y1 in pixels of the image, got 'a,b,c,d'"),
        (["--box", "10,10,10,30"], f"posepost: photo.png: {RULE}, got (10, 10, 10, 30)"),
        (["--box", "30,10,10,30"], f"posepost: photo.png: {RULE}, got (30, 10, 10, 30)"),
        (["--box", "0,0,nan,9"], f"posepost: photo.png: {RULE}, got (0, 0, nan, 9)"),
        (["--box", "0,0,9,9", "--box", "300,0,310,9"],
         "posepost: photo.png: boxes[1] must meet the image of 200x160 pixels, got (300, 0, 310, 9)"),
        (["other.png", "--box", "0,0,9,9"],
         "posepost: --box is for one image, got 2; --boxes names a file for many"),
        (["--box", "0,0,9,9", "--boxes", "boxes.json"],
         "posepost: --box and --boxes must not be given together, got both"),
        (["--boxes", "absent.json"], "posepost: absent.json: No such file or directory"),
        (["--boxes", "photo.png"], "posepost: --boxes photo.png must be a JSON file, got "),
        (["--boxes", "text.json"],
         "posepost: --boxes text.json must be a JSON file, got Expecting value: line 1 column 1 (char 0)"),
        (["--boxes", "list.json"],
         'posepost: --boxes list.json must hold {"IMAGE": [[x0, y0, x1, y1], ...], ...}, got [[0, 0, 9, 9]]'),
        (["--boxes", "boxes.json"],
         "posepost: --boxes boxes.json must hold [[x0, y0, x1, y1], ...] for photo.png, got [0, 0, 9, 9]"),
        (["--boxes", "short.json"],
         "posepost: --boxes short.json must hold [[x0, y0, x1, y1], ...] for photo.png, got [[0, 0, 9, 9], [0, 0, 9]]"),
        (["--boxes", "words.json"],
         'posepost: --boxes words.json must hold [[x0, y0, x1, y1], ...] for photo.png, got [[0, 0, "9", 9]]'),
        (["--boxes", "true.json"],
         "posepost: --boxes true.json must hold [[x0, y0, x1, y1], ...] for photo.png, got [[0, 0, true, 9]]"),
        (["--boxes", "other.json"],
         "posepost: --boxes other.json must have the boxes of each image, got none for photo.png"),
        (["--boxes", "flat.json"], f"posepost: photo.png: {RULE}, got (5, 5, 5, 9)"),
        (["--padding", "0"], "posepost run: argument --padding: must be a number above 0, got '0'"),
        (["--padding", "inf"], "posepost run: argument --padding: must be a number above 0, got 'inf'"),
        (["--flip-pairs", "0,b"],
         "posepost run: argument --flip-pairs: must be whole numbers with commas, such as 0,2,1, got '0,b'"),
        (["--flip-pairs", "0,1"], "posepost: flip_pairs must name the partner of each of 3 keypoints, got 2"),
        (["--flip-pairs", "0,1,1"], "posepost: flip_pairs must hold each of 0 to K - 1 once, got [0, 1, 1]"),
        (["--flip"],
         "posepost: flip_pairs must be given for a flip test (--flip-pairs), because the names of the 3 keypoints of "
         "heatmap.onnx do not tell left from right, got None"),
        (["--preset", "best"],
         'posepost: preset must be "mmpose_msra", "mmpose_dark", "mmpose_udp", "mmpose_udp_combined", '
         '"mmpose_megvii", "mmpose_integral", "mmdeploy", "hrnet", "vitpose_hf", "higherhrnet", "trt_pose", '
         '"openpose", "sleap", "mediapipe" or "deeplabcut", got \'best\''),
        (["--size", "64x64"], "posepost: size must be what the model takes, 64x48, got 64x64"),
        *(
            ([*option, *value],
             f"posepost: {option[0]} is for models with PoseNet heads, got heatmap.onnx with heatmaps alone")
            for option, value in ((["--stride"], ["4"]), (["--people"], ["one"]), (["--score"], ["0.5"]))
        ),
    ],
)  # fmt: skip
def test_wrong_options(arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (
        ("text", "boxes"), ("list", "[[0, 0, 9, 9]]"), ("boxes", '{"photo.png": [0, 0, 9, 9]}'),
        ("short", '{"photo.png": [[0, 0, 9, 9], [0, 0, 9]]}'), ("words", '{"photo.png": [[0, 0, "9", 9]]}'),
        ("true", '{"photo.png": [[0, 0, true, 9]]}'), ("other", '{"other.png": [[0, 0, 9, 9]]}'),
        ("flat", '{"photo.png": [[5, 5, 5, 9]]}'),
    ):  # fmt: skip
        (folder / f"{name}.json").write_text(content)
    assert cli.main(["run", "heatmap.onnx", "photo.png", *arguments, "-o", "out"]) == 2
    (line,) = complaints(capsys)
    assert line.startswith(message) if message.endswith("got ") else line == message
    assert not list(folder.glob("out/*"))


@pytest.mark.parametrize("options", [
    ["--preset", "hrnet"], ["--box", "0,0,9,9"], ["--boxes", "boxes.json"], ["--padding", "1"], ["--flip"],
    ["--flip-pairs", "0,1"],
], ids=" ".join)  # fmt: skip
def test_boxes_and_their_options_are_not_for_posenet(
    options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "posenet.onnx", "photo.png", *options, "-o", "out"]) == 2
    assert complaints(capsys) == [
        f"posepost: {options[0]} is for models with heatmaps alone or SimCC heads, got posenet.onnx with PoseNet heads"
    ]
    assert not (folder / "out").exists()


def test_one_bad_box_does_not_keep_other_images_from_being_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "boxes.json").write_text(json.dumps({"photo.png": [[0, 0, 0, 0]], "other.png": [[40, 60, 160, 100]]}))
    assert cli.main(["run", "simcc.onnx", "photo.png", "other.png", "--boxes", "boxes.json", "-o", "out"]) == 2
    assert complaints(capsys) == [f"posepost: photo.png: {RULE}, got (0, 0, 0, 0)"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["other.json", "other.overlay.png"]


def test_inspect_says_what_it_recognised(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "heatmap.onnx", "--preset", "mmpose_dark"]) == 0
    assert capsys.readouterr().out == (
        "model            heatmap.onnx\n"
        "input            picture float32 (any, 3, 64, 48)\n"
        "output           heatmaps float32 (any, 3, 16, 12)\n"
        "head             heatmaps, one person a crop\n"
        "heatmaps         heatmaps\n"
        "found            by shape\n"
        "layout           input NCHW, outputs NCHW\n"
        "size             64 x 48 (height x width)\n"
        "maps             16 x 12 (height x width), input pixels a cell: 4\n"
        "preset           mmpose_dark (given)\n"
        "outputs are      scores (preset mmpose_dark)\n"
        "input is         (pixel - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375), RGB (default)\n"
        "keypoints        3: keypoint 0, keypoint 1, keypoint 2\n"
    )
    assert cli.main(["inspect", "simcc.onnx", "--mean", "0", "--std", "1"]) == 0
    assert capsys.readouterr().out == (
        "model            simcc.onnx\n"
        "input            picture float32 (any, 3, 64, 48)\n"
        "output           simcc_x float32 (any, 3, 96)\n"
        "output           simcc_y float32 (any, 3, 128)\n"
        "head             SimCC, one person a crop\n"
        "simcc_x          simcc_x\n"
        "simcc_y          simcc_y\n"
        "found            by shape\n"
        "layout           input NCHW\n"
        "size             64 x 48 (height x width)\n"
        "bins             96 along x, 128 along y, split ratio: 2\n"
        "preset           rtmpose (default)\n"
        "outputs are      scores (preset rtmpose)\n"
        "input is         (pixel - 0) / 1, RGB (given)\n"
        "keypoints        3: keypoint 0, keypoint 1, keypoint 2\n"
    )
    assert cli.main(["inspect", "posenet.onnx", "--preset", "hrnet"]) == 2
    assert complaints(capsys) == [
        "posepost: --preset is for models with heatmaps alone or SimCC heads, got posenet.onnx with PoseNet heads"
    ]
    assert cli.main(["inspect", "simcc.onnx", "--stride", "4"]) == 2
    assert complaints(capsys) == [
        "posepost: --stride is for models with PoseNet heads, got simcc.onnx with SimCC heads"
    ]


def test_inspect_of_free_sizes_and_8_bits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "free.onnx").write_bytes(network(size=(None, None), dtype="uint8"))
    assert cli.main(["inspect", "free.onnx"]) == 0
    out = capsys.readouterr().out
    assert "size             any x any (height x width), usually 256 x 192\n" in out
    assert "maps             64 x 48 (height x width), input pixels a cell: 4\n" in out
    assert "quantised        heatmaps: scale 0.005, zero 0\n" in out


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(("kind", "sources"), [("heatmap", {"heatmap.cu", "peaks.cu"}), ("simcc", {"simcc.cu"})])
def test_warmup_compiles_what_a_session_launches(
    kind: str, sources: set[str], dtype: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[_kernels.Variant] = []
    monkeypatch.setattr(_kernels, "kernel", asked.append)
    monkeypatch.setattr(ort, "cupy_problem", lambda: None)
    (folder / "model.onnx").write_bytes(network(kind, dtype=dtype))
    assert cli.main(["warmup", "model.onnx"]) == 0
    element = ("ELEMENT", _kernels.ELEMENTS[dtype])
    assert asked == [one for one in _kernels.VARIANTS if one.source in sources and element in one.defines]
    assert {one.source for one in asked} == sources
    assert len(capsys.readouterr().out.splitlines()) == len(asked)
