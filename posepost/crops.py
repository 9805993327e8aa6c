"""Matrices for `transform=`: from pixels of a network's input back to the image that its crop was taken from."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _check
from ._boxes import read_boxes

Array = np.ndarray[Any, Any]


def box_to_crop(
    boxes: Any, input_size: tuple[float, float], *, padding: float = 1.25, box_format: str = "xyxy"
) -> tuple[Array, Array]:
    """The crop that a top-down network sees of each box.

    boxes : (N, 4), (N, 5) or (N, 6)
        Lists, or an array of any library: x0, y0, x1, y1 in pixels of the image. A score and a class behind them, as
        detectors have them, are not looked at.
    input_size : (w, h)
        Pixels of the network's input.
    padding : float
        How much larger than the box the crop is.
    box_format : "xyxy", "xywh" or "cxcywh"
        Two corners; upper left corner, width and height, as COCO's; middle, width and height.

    Returns centers (N, 2) and scales (N, 2), float64: the middle, width and height of each crop in pixels of the
    image. The crop holds the padded box and has the input's aspect ratio.

    Raises TypeError for what is no numbers, ValueError for other shapes and for boxes that are empty, not finite,
    beyond 2**24 pixels, or look like xywh and are not said to be.

    Source: bbox_xyxy2cs and the aspect ratio of get_warp_matrix, open-mmlab/mmpose@759b39c
    structures/bbox/transforms.py.

    >>> import posepost
    >>> centers, scales = posepost.box_to_crop([[60, 30, 110, 120]], (192, 256))
    >>> centers.tolist(), scales.tolist()
    ([[85.0, 75.0]], [[84.375, 112.5]])
    """
    corners, _, _, problems = read_boxes(boxes, box_format=box_format)
    if problems:
        raise ValueError(problems[0])
    width, height = _check.input_size(input_size, 2)
    _check.positive(padding, "padding")
    centers = (corners[:, :2] + corners[:, 2:]) / 2
    sides = (corners[:, 2:] - corners[:, :2]) * padding
    aspect = width / height
    wide = sides[:, 0] > sides[:, 1] * aspect
    scales = np.where(
        wide[:, None],
        np.stack([sides[:, 0], sides[:, 0] / aspect], axis=-1),
        np.stack([sides[:, 1] * aspect, sides[:, 1]], axis=-1),
    )
    return centers, scales


def crop_to_image(
    centers: Any, scales: Any, input_size: tuple[float, float], *, rotations: Any = 0.0, udp: bool = False
) -> Array:
    """From pixels of the network's input to pixels of the image, for crops given by their middle and size.

    centers, scales : (N, 2)
        Middle, and width and height above 0, of each crop in pixels of the image.
    input_size : (w, h)
        Pixels of the network's input.
    rotations : float or (N,)
        Degrees by which a crop is turned, as mmpose's get_warp_matrix counts them (get_udp_warp_matrix with udp).
    udp : bool
        The crop was warped by pixel centers, width - 1 for width. Not for points of `decode_heatmap` with scaling
        "udp" and an `input_size`: MMPose maps those with udp False.

    Returns (N, 2, 3) float32.

    Raises TypeError for what is no finite numbers, ValueError for other shapes and sizes.

    Source: get_warp_matrix and get_udp_warp_matrix, open-mmlab/mmpose@759b39c structures/bbox/transforms.py, inverted.

    >>> import posepost
    >>> posepost.crop_to_image([[85, 75]], [[96, 128]], (192, 256)).tolist()  # the crop is half as large as the input
    [[[0.5, -0.0, 37.0], [0.0, 0.5, 11.0]]]
    """
    middle, size = _numbers(centers, "centers"), _numbers(scales, "scales", sizes=True)
    if len(middle) != len(size):
        raise ValueError(f"scales must have as many rows as centers, got {len(size)} and {len(middle)}")
    _check.flag(udp, "udp")
    pixels = np.array(_check.input_size(input_size, 2)) - udp
    if pixels.min() <= 0:
        raise ValueError(f"input_size must be more than one pixel with udp, got {input_size!r}")
    turn = _radians(rotations, len(middle))
    cell = size / pixels if udp else np.repeat(size[:, :1] / pixels[0], 2, axis=1)
    cosine, sine = np.cos(turn), np.sin(-turn if udp else turn)
    matrices = np.empty((len(middle), 2, 3))
    matrices[:, 0, :2] = np.stack([cosine, -sine], axis=-1) * cell
    matrices[:, 1, :2] = np.stack([sine, cosine], axis=-1) * cell
    matrices[:, :, 2] = middle - matrices[:, :, :2] @ (pixels / 2)
    return matrices.astype(np.float32)


def letterbox_to_image(image_sizes: Any, input_size: tuple[float, float]) -> Array:
    """From pixels of the network's input to pixels of images that were scaled to fit into it, with equal bars.

    image_sizes : (N, 2)
        Width and height of each image.

    Returns (N, 2, 3) float32. Raises as `crop_to_image` does.

    >>> import posepost
    >>> posepost.letterbox_to_image([[640, 480]], (320, 320)).tolist()
    [[[2.0, -0.0, 0.0], [0.0, 2.0, -80.0]]]
    """
    sizes = _numbers(image_sizes, "image_sizes", sizes=True)
    pixels = np.array(_check.input_size(input_size, 2))
    cell = (sizes / pixels).max(axis=1)
    return crop_to_image(sizes / 2, cell[:, None] * pixels, input_size)


def _numbers(value: Any, name: str, *, sizes: bool = False) -> Array:
    """(N, 2) float64, finite, above 0 where they are sizes; a single row is N = 1."""
    array = _finite(value, name, "(N, 2)")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must have shape (N, 2), got {array.shape}")
    if sizes and not (array > 0).all():
        raise ValueError(f"{name} must be above 0, got {array[(array <= 0).any(axis=1)][0].tolist()}")
    return array


def _radians(rotations: Any, count: int) -> Array:
    array = _finite(rotations, "rotations", f"() or ({count},)")
    if array.shape not in ((), (count,)):
        raise ValueError(f"rotations must be a number or have shape ({count},), got {array.shape}")
    angles: Array = np.radians(array)
    return angles


def _finite(value: Any, name: str, shape: str) -> Array:
    array: Array = _check.numbers(value, name, f"numbers of shape {shape}").astype(np.float64, copy=False)
    if not (np.abs(array) <= _check.LARGEST).all():
        raise ValueError(f"{name} must be finite, got {_check.said(value)}")
    return array
