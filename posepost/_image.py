"""Photographs in, network input out: reading, padding to the network's aspect ratio, the way back to image pixels."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image as PILImage

MOST_PIXELS = 1 << 28  # of a padded image: 768 MiB
INSTALL_PILLOW = 'reading and drawing pictures needs Pillow: pip install "posepost[ort]"'


def pillow() -> Any:
    """The module PIL.Image, or an ImportError that says what to install."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(INSTALL_PILLOW) from error
    return Image


def read_image(path: str | os.PathLike[str]) -> PILImage.Image:
    """Read a picture file as 8-bit RGB, turned upright when its EXIF data says so.

    16-bit greys keep their upper 8 bits; transparency is dropped; of an animation the first picture is taken.
    Raises FileNotFoundError and other OSErrors of the file system as they come, and ValueError for a file that is not a
    picture, is cut short, or is too large for Pillow to open safely.
    """
    image_module = pillow()
    from PIL import ImageOps, UnidentifiedImageError

    name = os.fspath(path)
    with open(name, "rb") as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = image_module.open(file)
                image.load()
        except UnidentifiedImageError as error:
            raise ValueError(f"{name}: not an image that Pillow can read") from error
        except (OSError, ValueError, SyntaxError, EOFError, image_module.DecompressionBombError) as error:
            raise ValueError(f"{name}: cannot be read as an image ({' '.join(str(error).split())})") from error
    if image.mode.startswith("I;16"):
        image = image_module.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    upright: PILImage.Image = ImageOps.exif_transpose(image).convert("RGB")
    return upright


def as_image(image: Any) -> PILImage.Image:
    """A PIL image in RGB from a PIL image or an (H, W, 3) uint8 array."""
    image_module = pillow()
    if isinstance(image, image_module.Image):
        rgb: PILImage.Image = image.convert("RGB")
        return rgb
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a PIL image or a NumPy array, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise TypeError(f"image must have dtype uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must have shape (H, W, 3), got {image.shape}")
    made: PILImage.Image = image_module.fromarray(np.ascontiguousarray(image))
    return made


def letterbox(image: Any, size: tuple[int, int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pad an image with black to the aspect ratio of `size`, then reduce or enlarge it to `size`, bilinear.

    image: PIL image or (H, W, 3) uint8 array, RGB.
    size: (width, height) of the network's input.
    Returns the (height, width, 3) uint8 picture and the (2, 3) float32 affine that takes a point (x, y) in pixels of
    that picture to pixels of the image: x_image = x * (image width + padding) / width - padding on the left, y
    likewise, as in tfjs PoseNet (util.ts). The padding is rounded to whole pixels; half of it, rounded down, goes to
    the left or the top.
    """
    picture = as_image(image)
    width, height = size
    image_width, image_height = picture.size
    pad_x = pad_y = 0
    if image_height * width < image_width * height:
        pad_y = round(image_width * height / width - image_height)
    else:
        pad_x = round(image_height * width / height - image_width)
    padded_width, padded_height = image_width + pad_x, image_height + pad_y
    left, top = pad_x // 2, pad_y // 2
    image_module = pillow()
    if padded_width * padded_height > MOST_PIXELS:
        raise ValueError(
            f"image of {image_width}x{image_height} pixels is too far from the network's shape: "
            f"padded it would have {padded_width}x{padded_height}"
        )
    if pad_x or pad_y:
        padded = image_module.new("RGB", (padded_width, padded_height))
        padded.paste(picture, (left, top))
        picture = padded
    resized = np.asarray(picture.resize((width, height), image_module.Resampling.BILINEAR))
    transform = np.array(
        [[padded_width / width, 0.0, -left], [0.0, padded_height / height, -top]],
        np.float32,
    )
    return resized, transform


def warp(picture: PILImage.Image, matrix: np.ndarray[Any, Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Sample an RGB picture into `size`, bilinear, black outside of it.

    matrix: (2, 3), takes a point (x, y) of the result to the picture; whole numbers are pixel centers in both.
    size: (width, height). Returns (height, width, 3) uint8.
    """
    image_module = pillow()
    width, height = size
    affine = np.array(matrix, np.float64)
    affine[:, 2] += 0.5 - affine[:, :2].sum(axis=1) / 2  # Pillow puts whole numbers at the corners of pixels
    coefficients = tuple(affine.reshape(6).tolist())
    warped = picture.transform(
        (width, height), image_module.Transform.AFFINE, coefficients, image_module.Resampling.BILINEAR
    )
    return np.asarray(warped)
