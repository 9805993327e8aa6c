"""Photographs with colored dots, which the top-down networks of `onnx_models` have to find again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from posepost import Keypoints, box_to_crop, ort

from .onnx_models import SIZE


def photograph(
    dots: Sequence[tuple[float, float, int]], size: tuple[int, int] = (200, 160), spread: float = 2.0
) -> Image.Image:
    """Soft dots (x, y, color) on dark gray."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 20.0)
    for dot_x, dot_y, color in dots:
        ink = np.zeros(3)
        ink[color] = 255
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
PAIR = [(10.0, 10.0, 50.0, 80.0), (120.5, 70.0, 180.0, 140.0)]


def dots_in(box: Sequence[float]) -> list[tuple[float, float, int]]:
    """One of each color, inside the box and the photograph of 200 x 160."""
    x0, y0, x1, y1 = box
    left, top, right, bottom = max(x0, 6), max(y0, 6), min(x1, 194), min(y1, 154)
    places = ((0.3, 0.2), (0.75, 0.5), (0.35, 0.85))
    return [
        (round(left + u * (right - left)), round(top + v * (bottom - top)), color)
        for color, (u, v) in enumerate(places)
    ]


def photograph_pixels(box: Sequence[float], size: tuple[int, int] = SIZE) -> float:
    """How many pixels of the photograph a pixel of the crop is."""
    _, scales = box_to_crop(box, (size[1], size[0]))
    return float(scales[0, 0]) / size[1]


def found(session: ort.TopDownSession, image: Image.Image, boxes: Any, **options: Any) -> Keypoints:
    images, transforms = session.crop(image, boxes)
    return session.run(images, transform=transforms, **options).numpy()
