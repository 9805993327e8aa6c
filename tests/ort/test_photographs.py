"""Real models on photographs: sessions against stored tensors and tfjs PoseNet's own poses.

Measured with onnxruntime 1.32 on an AMD EPYC (AVX-512): stored inputs, heatmaps and offsets are met bit for bit, and so
are PoseNet's points; scores to 6e-8, one ulp. BodyPix through `letterbox`, which rounds its input otherwise: 4e-5 px
and 1e-6. The tolerances leave room for another CPU's convolutions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from posepost._image import as_image, letterbox

from ..real_models import BODYPIX, LOGITS, PIXELS, POSENET, POSENET_NCHW, SCORES, golden, names, parts, session, tensors


def nhwc(maps: np.ndarray[Any, Any], layout: str | None) -> np.ndarray[Any, Any]:
    return maps[0].transpose(1, 2, 0) if layout == "NCHW" else maps[0]


@pytest.mark.parametrize("case", [case for case in names("real_") if case == "absent" or "input_u8" in tensors(case)])
def test_letterbox_makes_the_stored_inputs_byte_for_byte(case: str, shared: Path) -> None:
    stored = tensors(case)
    _, size, photograph = parts(case)
    pixels, _ = letterbox(as_image(shared / "images" / photograph), size[::-1])
    assert np.array_equal(pixels, stored["input_u8"])


@pytest.mark.parametrize("model", [POSENET, POSENET_NCHW])
@pytest.mark.parametrize("case", names("real_posenet075_"))
def test_posenet_from_photograph_to_tfjs_pose(case: str, model: str, shared: Path) -> None:
    stored = tensors(case)
    stride, size, photograph = parts(case)
    net = session(model)
    layout = "NHWC" if model == POSENET else "NCHW"
    assert (net.model.layout, net.model.input_layout) == (layout, layout)
    assert (net.model.output_stride, net.model.activation) == (stride, "sigmoid")
    images, transform = net.letterbox(as_image(shared / "images" / photograph), size[::-1])
    heatmaps, offsets = net.forward(images)
    assert np.abs(nhwc(heatmaps, layout) - stored["heatmaps"]).max() <= LOGITS
    assert np.abs(nhwc(offsets, layout) - stored["offsets"]).max() <= PIXELS

    expected = golden(case)
    result = net.run(images)
    assert np.abs(result.keypoints[0] - expected[:, :2]).max() <= PIXELS
    assert np.abs(result.scores[0] - expected[:, 2]).max() <= SCORES
    on_image = net.run(images, transform=transform)
    mapped = expected[:, :2] * np.diag(transform[:, :2]) + transform[:, 2]
    assert np.abs(on_image.keypoints[0] - mapped).max() <= PIXELS * transform[0, 0] + 1e-3


@pytest.mark.parametrize("case", names("real_bodypix050_"))
def test_bodypix_from_photograph_to_tfjs_pose(case: str, shared: Path) -> None:
    stored = tensors(case)
    stride, size, photograph = parts(case)
    net = session(BODYPIX[stride])
    assert net.model.heads["offsets"] == "short_offsets"
    assert net.model.output_stride == stride
    pixels, _ = letterbox(as_image(shared / "images" / photograph), size[::-1])
    images = (pixels.astype(np.float32) / np.float32(127.5) - 1)[None]  # as the stored tensors were made, to the bit
    heatmaps, offsets = net.forward(images)
    assert np.abs(heatmaps[0] - stored["heatmaps"]).max() <= LOGITS
    assert np.abs(offsets[0] - stored["offsets"]).max() <= PIXELS

    expected = golden(case)
    made, _ = net.letterbox(
        as_image(shared / "images" / photograph), size[::-1]
    )  # (pixel - 127.5) / 127.5: other last bits
    for result in (net.run(images), net.run(made)):
        assert np.abs(result.keypoints[0] - expected[:, :2]).max() <= PIXELS
        assert np.abs(result.scores[0] - expected[:, 2]).max() <= SCORES
