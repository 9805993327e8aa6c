"""Pictures in, network input out: reading, padding to the network's aspect ratio, the way back to image pixels."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _check

if TYPE_CHECKING:
    from PIL import Image as PILImage

Array = np.ndarray[Any, Any]

MOST_PIXELS = 1 << 28  # of a padded image: 768 MiB
INSTALL_PILLOW = 'reading and drawing pictures needs Pillow: pip install "posepost[ort]"'
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "ICO", "HEIF")
"""What is read of files, where this Pillow has it (HEIF with a plugin). EPS, which starts Ghostscript, is not."""
SHAPES = "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
ORIENTATION, BITS, PHOTOMETRIC = 274, 258, 262  # tags of EXIF and TIFF
WHITE_IS_ZERO = 0
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def pillow() -> Any:
    """The module PIL.Image, or an ImportError that says what to install."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(INSTALL_PILLOW) from error
    return Image


def as_image(image: Any, *, channels: str = "RGB") -> PILImage.Image:
    """Any picture as an upright 8-bit RGB image of Pillow. The one way in, for Python and the command.

    image : path (str or os.PathLike), PIL image, or NumPy array
        Files of the formats above; of an animation the first picture. PIL images of any mode, on which a file opened
        with `Image.open` is turned upright by its EXIF data just as one given by its path; EXIF that cannot be read
        turns nothing. Arrays of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
    channels : "RGB" or "BGR"
        Order of an array's channels; "BGR" is OpenCV's, and for arrays alone.

    Transparency is dropped: the color below it is what is seen. Numbers become 8 bits by these rules, for files, PIL
    images and arrays alike, and what they leave in doubt is refused:

    - bool (mode "1"): 0 and 255. uint8: as they are.
    - uint16 (modes "I;16..."): the upper 8 bits (also of a TIFF file's 12), but refused where no value is above 255 and
      one is above 0: an 8-bit picture and a nearly black one look alike.
    - Other integers: from 0 to 255. Mode "I" holds 16 bits where it comes from a PNG or PPM file or a value is above
      255; from 0 to 65535.
    - Floats (mode "F"): from 0 to 1, times 255, where none is above 1; from 0 to 255 where one is above 2. Rounded.
      Refused: nothing but 0 and 1, a largest value above 1 and at most 2, NaN, and what is outside.

    An RGB image that lies upright is given back itself. Raises OSErrors of the file system as they come, TypeError for
    objects and dtypes, and ValueError for a file that is no such picture, is cut short or too large for Pillow to open
    safely, and for shapes, values and `channels`.

    >>> import numpy as np
    >>> from posepost._image import as_image
    >>> as_image(np.full((2, 3), 0.4)).getpixel((0, 0))
    (102, 102, 102)
    """
    image_module = pillow()
    _check.choice(channels, "channels", ("RGB", "BGR"))
    if isinstance(image, np.ndarray):
        return _from_array(image, channels)
    is_path = isinstance(image, (str, os.PathLike))
    if not is_path and not isinstance(image, image_module.Image):
        raise TypeError(f"image must be a path, a PIL image or a NumPy array, got {type(image).__name__}")
    if channels != "RGB":
        what = "a path" if is_path else "a PIL image"
        raise ValueError(f'channels must be "RGB" but for NumPy arrays, got "{channels}" with {what}')
    if is_path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _from_file(os.fspath(image))
    return _upright(image, getattr(image, "filename", ""))


def _from_file(name: str) -> PILImage.Image:
    image_module = pillow()
    from PIL import UnidentifiedImageError

    image_module.init()
    formats = [one for one in FORMATS if one in image_module.OPEN]
    with open(name, "rb") as file:
        try:
            image = image_module.open(file, formats=formats)
        except UnidentifiedImageError as error:
            raise ValueError(f"{name}: not a picture of a format that is read ({', '.join(formats)})") from error
        except MemoryError:
            raise
        except Exception as error:  # what Pillow raises for broken files shares no base but Exception
            raise _unreadable(name, error) from error
        return _upright(image, name)


def _unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name or 'image'}: cannot be read as an image ({_check.one_line(error)})")


def _upright(image: PILImage.Image, name: str) -> PILImage.Image:
    """name: of the file it comes from, or empty."""
    image_module = pillow()
    if 0 in image.size:
        raise ValueError(f"{_subject(name)} must have at least one pixel, got {image.width}x{image.height}")
    try:
        image.load()
        turn = _turn(image)
        turned = image if turn is None else image.transpose(image_module.Transpose[turn])
        if turned.mode == "La":
            turned = turned.convert("LA")
        elif turned.mode == "P":  # straight to RGB Pillow warns of transparency
            turned = turned.convert("RGBA")
        deep = turned.mode == "F" or turned.mode.partition(";")[0] == "I"
        rgb = turned if deep or turned.mode == "RGB" else turned.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # as in _from_file
        raise _unreadable(name, error) from error
    if deep:
        values = np.asarray(turned)
        tags = getattr(image, "tag_v2", {})
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow turns 8 bits round, and no others
            raise ValueError(f"{_subject(name)} of more than 8 bits must not have 0 for white, got it so")
        if turned.mode == "I":
            values = _sixteen_bits(values, image.format, name)
        elif tags.get(BITS) == (12,):
            values = values << 4
        rgb = image_module.fromarray(_eight_bits(values, name)).convert("RGB")
    if rgb is not image:
        rgb.info = {}  # with the orientation, which is no longer true
    return rgb


def _turn(image: PILImage.Image) -> str | None:
    """How a loaded image is to be transposed to stand upright."""
    if image.format == "TIFF":  # Pillow turns those as it loads them, and 10.0 keeps the tag
        return None
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # of broken EXIF, as in _from_file: documented to turn nothing
        return None


def _sixteen_bits(values: Array, file_format: str | None, name: str) -> Array:
    """Mode "I" as uint16 where it holds 16 bits."""
    low, high = values.min(), values.max()
    if file_format not in ("PNG", "PPM") and 0 <= low and high <= 255:
        return values
    if low < 0 or high > 65535:
        raise ValueError(f'{_subject(name)} of mode "I" must have values from 0 to 65535, got from {low} to {high}')
    return values.astype(np.uint16)


def _from_array(image: Array, channels: str) -> PILImage.Image:
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError("image must not be a masked array, got MaskedArray")
    shape = image.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        hint = ""
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            hint = ": channels come last"
        elif len(shape) == 4:
            hint = ": one picture, not a batch"
        raise ValueError(f"image must have shape {SHAPES}, got {shape}{hint}")
    if 0 in shape:
        raise ValueError(f"image must have at least one pixel, got shape {shape}")
    if image.ndim == 3:
        image = image[..., 0] if shape[2] == 1 else image[..., :3]
    levels = _eight_bits(image, "")
    if channels == "BGR" and levels.ndim == 3:
        levels = levels[..., ::-1]
    made: PILImage.Image = pillow().fromarray(np.ascontiguousarray(levels))
    return made.convert("RGB") if made.mode == "L" else made


def _eight_bits(values: Array, name: str) -> Array:
    """The same picture in uint8; see `as_image`."""
    dtype = values.dtype
    if dtype == np.uint8:
        return values
    if dtype.kind == "b":
        return np.where(values, np.uint8(255), np.uint8(0))
    if dtype.kind not in "uif":
        raise TypeError(f"image must be bool, integers or floats, got {dtype}")
    low, high = values.min(), values.max()
    subject, seen = f"{_subject(name)} of {dtype}", f"from {low} to {high}"
    if dtype.kind == "f":
        if np.isnan(low):
            raise ValueError(f"{subject} must hold no NaN, got some")
        if low < 0 or high > 255:
            raise ValueError(f"{subject} must have values from 0 to 1 or from 0 to 255, got {seen}")
        doubt = f"{subject} must not leave in doubt whether white is 1 or 255"
        if 1 < high <= 2:
            raise ValueError(f"{doubt}, got {seen}; clip it to 0..1")
        if high == 1 and bool(((values == 0) | (values == 1)).all()):
            raise ValueError(f"{doubt}, got nothing but 0 and 1; make it bool or uint8")
        wide = values.astype(np.promote_types(dtype, np.float32))
        values = np.rint(wide * 255 if high <= 1 else wide)
    elif dtype.kind == "u" and dtype.itemsize == 2:
        if 0 < high <= 255:
            raise ValueError(
                f"{subject} must not leave in doubt whether it has 16 bits or 8, got values {seen}; make it uint8"
            )
        values = values >> 8
    elif low < 0 or high > 255:
        raise ValueError(f"{subject} must have values from 0 to 255, got {seen}")
    levels: Array = values.astype(np.uint8)
    return levels


def _subject(name: str) -> str:
    return f"{name}: image" if name else "image"


def letterbox(image: Any, size: tuple[int, int], *, channels: str = "RGB") -> tuple[Array, Array]:
    """Pad an image with black to the aspect ratio of `size`, then reduce or enlarge it to `size`, bilinear.

    image, channels: what `as_image` takes.
    size: (width, height) of the network's input.
    Returns the (height, width, 3) uint8 picture and the (2, 3) float32 affine that takes a point (x, y) in pixels of
    that picture to pixels of the image: x_image = x * (image width + padding) / width - padding on the left, y
    likewise, as in tfjs PoseNet (util.ts). The padding is rounded to whole pixels; half of it, rounded down, goes to
    the left or the top.
    """
    picture = as_image(image, channels=channels)
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


def warp(picture: PILImage.Image, matrix: Array, size: tuple[int, int]) -> Array:
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
