"""Matrices for `transform=`: from pixels of a network's input back to the image that its crop was taken from."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _check

Array = np.ndarray[Any, Any]


def box_to_crop(boxes: Any, input_size: tuple[float, float], *, padding: float = 1.25) -> tuple[Array, Array]:
    """The crop that a top-down network sees of each box.

    boxes : (N, 4)
        x0, y0, x1, y1 in pixels of the image.
    input_size : (w, h)
        Pixels of the network's input.
    padding : float
        How much larger than the box the crop is.

    Returns centers (N, 2) and scales (N, 2), float64: the middle, width and height of each crop in pixels of the
    image. The crop holds the padded box and has the input's aspect ratio.

    Source: bbox_xyxy2cs and the aspect ratio of get_warp_matrix, open-mmlab/mmpose@759b39c
    structures/bbox/transforms.py.

    >>> import posepost
    >>> centers, scales = posepost.box_to_crop([[60, 30, 110, 120]], (192, 256))
    >>> centers.tolist(), scales.tolist()
    ([[85.0, 75.0]], [[84.375, 112.5]])
    """
    corners = _numbers(boxes, "boxes", (4,))
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
        Middle, and width and height, of each crop in pixels of the image.
    input_size : (w, h)
        Pixels of the network's input.
    rotations : float or (N,)
        Degrees by which a crop is turned, as mmpose's get_warp_matrix counts them (get_udp_warp_matrix with udp).
    udp : bool
        The crop was warped by pixel centers, width - 1 for width. Not for points of `decode_heatmap` with scaling
        "udp" and an `input_size`: MMPose maps those with udp False.

    Returns (N, 2, 3) float32.

    Source: get_warp_matrix and get_udp_warp_matrix, open-mmlab/mmpose@759b39c structures/bbox/transforms.py, inverted.

    >>> import posepost
    >>> posepost.crop_to_image([[85, 75]], [[96, 128]], (192, 256)).tolist()  # the crop is half as large as the input
    [[[0.5, -0.0, 37.0], [0.0, 0.5, 11.0]]]
    """
    middle, size = _numbers(centers, "centers", (2,)), _numbers(scales, "scales", (2,))
    if len(middle) != len(size):
        raise ValueError(f"scales must have as many rows as centers, got {len(size)} and {len(middle)}")
    turn = np.radians(np.broadcast_to(np.asarray(rotations, np.float64), len(middle)))
    pixels = np.array(_check.input_size(input_size, 2)) - udp
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

    Returns (N, 2, 3) float32.

    >>> import posepost
    >>> posepost.letterbox_to_image([[640, 480]], (320, 320)).tolist()
    [[[2.0, -0.0, 0.0], [0.0, 2.0, -80.0]]]
    """
    sizes = _numbers(image_sizes, "image_sizes", (2,))
    pixels = np.array(_check.input_size(input_size, 2))
    cell = (sizes / pixels).max(axis=1)
    return crop_to_image(sizes / 2, cell[:, None] * pixels, input_size)


def _numbers(value: Any, name: str, row: tuple[int, ...]) -> Array:
    """(N, *row) float64; a single row is N = 1."""
    try:
        array: Array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be numbers of shape (N, {row[0]}), got {value!r}") from None
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1:] != row:
        raise ValueError(f"{name} must have shape (N, {row[0]}), got {array.shape}")
    return array
