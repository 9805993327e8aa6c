"""From photograph and boxes to the network's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost import box_to_crop, ort

from ..dots import BOXES, dots_in, photograph
from ..onnx_models import exactly, network


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


def test_the_whole_image_is_the_box_when_none_is_given() -> None:
    session = ort.TopDownSession(network())
    image = photograph([(30, 40, 0), (120, 80, 1), (170, 120, 2)])
    for ours, theirs in zip(session.crop(image), session.crop(image, [(0, 0, 200, 160)])):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("boxes", "error", "message"),
    [
        ((1, 2, 3), ValueError, "boxes must have shape (N, 4), (N, 5) or (N, 6), got (3,)"),
        ("all", TypeError, "boxes must be numbers of shape (N, 4), (N, 5) or (N, 6), got 'all'"),
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
    assert (session.model.usual_size, session.model.input_size) == ((192, 256), (None, None))
    image, box = photograph(dots_in(BOXES["upright"])), BOXES["upright"]
    for size in ((48, 64), (96, 96)):
        images, transforms = session.crop(image, box, size=size)
        assert images.shape == (1, 3, *size[::-1])
        result = session.run(images, transform=transforms)
        assert np.abs(result.keypoints[0] - np.array(dots_in(box))[:, :2]).max() < 1
    stated = ort.TopDownSession(network(size=(None, None), metadata={"posepost.input_size": "72,96"}))
    assert stated.crop(image)[0].shape == (1, 3, 96, 72)
    with pytest.raises(ValueError, match=exactly("size must be what the model takes, 48x64, got 64x64")):
        ort.TopDownSession(network()).crop(image, size=(64, 64))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_size_that_the_stride_does_not_divide_has_no_cells(layout: str) -> None:
    """w / W pixels a cell put points 2 pixels off at the far end."""
    session = ort.TopDownSession(network(size=(None, None), layout=layout), preset="mmpose_dark", layout=layout)
    images, _ = session.crop(photograph([]), size=(98, 130))
    maps = session.forward(images)[0].shape
    rows, columns = maps[-2:] if layout == "NCHW" else maps[-3:-1]
    with pytest.raises(ValueError, match=r"^size must be whole cells") as caught:
        session.run(images)
    assert str(caught.value) == (
        f"size must be whole cells of the network, whose stride seems to be 4: give size=({4 * columns}, {4 * rows}), "
        f"got 98x130, of which it makes maps {columns} wide and {rows} high"
    )


def test_a_size_that_a_model_does_not_take_is_not_advised() -> None:
    session = ort.TopDownSession(network(size=(65, 49)))
    with pytest.raises(ValueError, match=r"^size must be whole cells") as caught:
        session(photograph([]), [[0, 0, 9, 9]])
    assert str(caught.value) == (
        "size must be whole cells of the network, whose stride seems to be 4: in Python, decode_heatmap decodes what "
        "forward() gives by scaling=, got 49x65, of which it makes maps 13 wide and 17 high"
    )
