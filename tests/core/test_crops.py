"""Matrices from crops to images: against MMPose's warps, and what may go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posepost

from ..conftest import SHARED

FILES = sorted(path.name for path in (SHARED / "bottomup" / "affine_mmpose").glob("*.npz"))
RELATIVE = 4e-7
"""Of the largest coordinate: our matrices are float32, and MMPose's points were rounded to it first."""


def load(shared: Path, file: str) -> dict[str, np.ndarray]:
    with np.load(shared / "bottomup" / "affine_mmpose" / file) as stored:
        return {name: stored[name] for name in stored.files}


def apply(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    wide = matrices.astype(np.float64)
    return np.einsum("nij,nkj->nki", wide[:, :, :2], points.astype(np.float64)) + wide[:, None, :, 2]


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("topdown")])
def test_mmpose_top_down(shared: Path, file: str) -> None:
    z = load(shared, file)
    width, height = (int(side) for side in file.split("_")[2].split("x"))
    centers, scales = posepost.box_to_crop(z["bbox_xyxy"], (width, height))
    np.testing.assert_allclose(centers, z["center"], rtol=1e-6)
    np.testing.assert_allclose(scales, z["scale"], rtol=1e-6, atol=1e-4)
    for udp, expected in ((False, "kp_by_warp_inv"), (True, "kp_by_udp_inv")):
        matrices = posepost.crop_to_image(z["center"], z["scale"], (width, height), rotations=z["rot_deg"], udp=udp)
        assert (matrices.shape, matrices.dtype) == ((12, 2, 3), np.float32)
        allowed = RELATIVE * np.abs(z[expected]).max()
        np.testing.assert_allclose(apply(matrices, z["keypoints_input"]), z[expected], rtol=0, atol=allowed)
    upright = posepost.crop_to_image(z["center"], z["scale"], (width, height))
    allowed = RELATIVE * np.abs(z["kp_by_formula"]).max()
    np.testing.assert_allclose(apply(upright, z["keypoints_input"]), z["kp_by_formula"], rtol=0, atol=allowed)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("letterbox") and "udp" not in file])
def test_mmpose_letterbox(shared: Path, file: str) -> None:
    """BottomupResize: by its center and scale, and as a letterbox of the image's size. (With UDP MMPose's own two
    answers differ by up to hundreds of pixels: decoders.md, section 5.)"""
    z = load(shared, file)
    for i, points in enumerate(z["keypoints_input"]):
        for matrices in (
            posepost.crop_to_image(z["center"][i], z["scale"][i], z["padded"][i]),
            posepost.letterbox_to_image(z["image_wh"][i], z["padded"][i]),
        ):
            np.testing.assert_allclose(apply(matrices, points[None])[0], z["kp_formula"][i], rtol=0, atol=2e-4)


def test_a_peak_comes_back_to_its_place() -> None:
    """Boxes on an image, crops of it, a heatmap with the peak where the crop has it: points of the image, in one
    call."""
    rng = np.random.default_rng(1)
    boxes = np.concatenate([rng.uniform(0, 300, (5, 2)), rng.uniform(310, 640, (5, 2))], axis=1)
    size, stride = (192, 256), 4
    centers, scales = posepost.box_to_crop(boxes, size)
    to_image = posepost.crop_to_image(centers, scales, size)
    maps = np.zeros((5, 1, 64, 48), np.float32)
    places = rng.integers(5, 40, (5, 2))
    maps[np.arange(5), 0, places[:, 1], places[:, 0]] = 1
    keypoints, _ = posepost.decode_heatmap(maps, preset="mmpose_msra", input_size=size, transform=to_image)
    expected = places * stride / np.array(size) * scales + centers - scales / 2  # as MMPose writes it
    np.testing.assert_allclose(keypoints[:, 0], expected, rtol=0, atol=1e-3)


BOX = [[0, 0, 10, 20]]
NAN = float("nan")
BAD = [
    (posepost.box_to_crop, (BOX, (192,)), {}, ValueError, "input_size must be (w, h), got (192,)"),
    (posepost.box_to_crop, ([[0, 0, 1]], (1, 1)), {}, ValueError, "boxes[0] must be 4 numbers, 5 with a score or 6 with a class, got (0, 0, 1)"),  # noqa: E501
    (posepost.box_to_crop, ("box", (1, 1)), {}, TypeError, "boxes must be numbers of shape (N, 4), (N, 5) or (N, 6), got 'box'"),  # noqa: E501
    (posepost.box_to_crop, (BOX, (1, 1)), {"padding": 0}, ValueError, "padding must be finite and above 0, got 0"),
    (posepost.crop_to_image, ([[1, 2]], [[3, 4]] * 2, (1, 1)), {}, ValueError, "scales must have as many rows as centers, got 2 and 1"),  # noqa: E501
    (posepost.letterbox_to_image, ([[1, 2, 3]], (1, 1)), {}, ValueError, "image_sizes must have shape (N, 2), got (1, 3)"),  # noqa: E501
    (posepost.box_to_crop, ([[0, 0, NAN, 9]], (1, 1)), {}, ValueError, "boxes[0] must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1, got (0, 0, nan, 9)"),  # noqa: E501
    (posepost.box_to_crop, ([[9, 9, 0, 0]], (1, 1)), {}, ValueError, "boxes[0] must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1, got (9, 9, 0, 0)"),  # noqa: E501
    (posepost.box_to_crop, ([[9, 9, 5, 5]], (1, 1)), {}, ValueError, "boxes[0] must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1, got (9, 9, 5, 5): they look like xywh: give box_format=\"xywh\""),  # noqa: E501
    (posepost.box_to_crop, (None, (1, 1)), {}, TypeError, "boxes must be numbers of shape (N, 4), (N, 5) or (N, 6), got None"),  # noqa: E501
    (posepost.box_to_crop, (np.array(BOX) * 1j, (1, 1)), {}, TypeError, "boxes must be numbers of shape (N, 4), (N, 5) or (N, 6), got complex128"),  # noqa: E501
    (posepost.box_to_crop, (BOX, (1, 1)), {"box_format": "yolo"}, ValueError, "box_format must be \"xyxy\", \"xywh\" or \"cxcywh\", got 'yolo'"),  # noqa: E501
    (posepost.crop_to_image, ([[1, NAN]], [[3, 4]], (1, 1)), {}, ValueError, "centers must be finite, got [[1, nan]]"),
    (posepost.crop_to_image, ([[1, 2]], [[-3, 4]], (1, 1)), {}, ValueError, "scales must be above 0, got [-3.0, 4.0]"),
    (posepost.crop_to_image, ([[1, 2]], [[3, 4]], (1, 1)), {"rotations": NAN}, ValueError, "rotations must be finite, got nan"),  # noqa: E501
    (posepost.crop_to_image, ([[1, 2]], [[3, 4]], (1, 1)), {"rotations": [1, 2]}, ValueError, "rotations must be a number or have shape (1,), got (2,)"),  # noqa: E501
    (posepost.crop_to_image, ([[1, 2]], [[3, 4]], (1, 1)), {"udp": 2}, TypeError, "udp must be a bool, got int"),
    (posepost.crop_to_image, ([[1, 2]], [[3, 4]], (1, 5)), {"udp": True}, ValueError, "input_size must be more than one pixel with udp, got (1, 5)"),  # noqa: E501
    (posepost.crop_to_image, ([[1, 2], [3]], [[3, 4]], (1, 1)), {}, TypeError, "centers must be numbers of shape (N, 2), got [[1, 2], [3]]"),  # noqa: E501
    (posepost.letterbox_to_image, ([[0, 5]], (1, 1)), {}, ValueError, "image_sizes must be above 0, got [0.0, 5.0]"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "given", "options", "error", "message"), BAD)
def test_bad_input(function: Any, given: tuple, options: dict, error: type, message: str) -> None:
    with pytest.raises(error) as caught:
        function(*given, **options)
    assert str(caught.value) == message
