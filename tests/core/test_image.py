"""Pictures as users have them: one way in for files, PIL images and arrays, and what is refused rather than guessed."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image, ImageOps

from posepost._image import as_image, letterbox, warp

RAMP = np.array([[0, 1, 2], [100, 254, 255]], np.uint8)
COLORS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)


def exactly(message: str) -> str:
    return rf"\A{re.escape(message)}\Z"


def pixels(image: Any, **options: Any) -> list[Any]:
    made = as_image(image, **options)
    assert made.mode == "RGB"
    return np.asarray(made).tolist()


def grey(levels: Any) -> list[Any]:
    return np.repeat(np.asarray(levels)[..., None], 3, axis=2).tolist()


def of_mode(mode: str, *values: Any) -> Image.Image:
    """One row of pixels."""
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return image


def deep(mode: str, *values: int) -> Image.Image:
    """One row of a 16-bit mode."""
    big = mode == "I;16B" or (mode == "I;16N" and sys.byteorder == "big")
    image = Image.new(mode, (len(values), 1))
    image.frombytes(np.array(values, ">u2" if big else "<u2").tobytes())
    return image


def palette() -> Image.Image:
    """Two colors, the first of them transparent."""
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.info["transparency"] = bytes([0, 255])
    return image


RED, DUN = [200, 100, 50], [10, 20, 30]
MODES = {
    "1": (lambda: of_mode("1", 0, 255), [[0] * 3, [255] * 3]),
    "L": (lambda: of_mode("L", 7, 200), [[7] * 3, [200] * 3]),
    "LA": (lambda: of_mode("LA", (7, 0), (200, 9)), [[7] * 3, [200] * 3]),
    "La": (lambda: of_mode("La", (0, 0), (100, 128)), [[0] * 3, [199] * 3]),
    "P": (palette, [DUN, RED]),
    "PA": (lambda: palette().convert("PA"), [DUN, RED]),
    "RGB": (lambda: of_mode("RGB", (200, 100, 50)), [RED]),
    "RGBA": (lambda: of_mode("RGBA", (200, 100, 50, 0)), [RED]),
    "RGBa": (lambda: of_mode("RGBa", (100, 50, 25, 128)), [[199, 99, 49]]),
    "RGBX": (lambda: of_mode("RGBX", (200, 100, 50, 0)), [RED]),
    "CMYK": (lambda: of_mode("CMYK", (0, 255, 0, 0), (0, 0, 0, 0)), [[255, 0, 255], [255] * 3]),
    "YCbCr": (lambda: of_mode("YCbCr", (128, 128, 128), (76, 85, 255)), [[128] * 3, [254, 0, 0]]),
    "LAB": (
        lambda: of_mode("LAB", (0, 128, 128), (255, 128, 128)),
        [[1, 0, 1], [254, 255, 254]],
    ),  # as LittleCMS rounds
    "HSV": (lambda: of_mode("HSV", (0, 255, 255), (85, 255, 255)), [[255, 0, 0], [0, 255, 0]]),
    "I of 8 bits": (lambda: of_mode("I", 0, 7, 255), [[0] * 3, [7] * 3, [255] * 3]),
    "I of 16 bits": (lambda: of_mode("I", 0, 256, 65535), [[0] * 3, [1] * 3, [255] * 3]),
    "F to 1": (lambda: of_mode("F", 0.0, 0.4, 1.0), [[0] * 3, [102] * 3, [255] * 3]),
    "F to 255": (lambda: of_mode("F", 0.0, 0.75, 254.75), [[0] * 3, [1] * 3, [255] * 3]),
    **{
        mode: (lambda mode=mode: deep(mode, 0, 511, 512, 65535), [[0] * 3, [1] * 3, [2] * 3, [255] * 3])
        for mode in ("I;16", "I;16B", "I;16L", "I;16N")
    },
}


@pytest.mark.usefixtures("warnings_are_errors")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_gives_its_own_pixels(mode: str) -> None:
    make, expected = MODES[mode]
    image = make()
    assert image.mode == mode.split()[0]
    before = image.tobytes()
    assert pixels(image) == [expected]
    assert image.tobytes() == before


def test_a_picture_of_16_bits_or_floats_was_white_or_black(tmp_path: Path) -> None:
    """Read from files, the same as PIL image and by path."""
    for name, levels in (
        ("g16.png", RAMP.astype(np.uint16) * 257),
        ("g16.tif", RAMP.astype(np.uint16) * 257),
        ("i32.tif", RAMP.astype(np.int32) * 257),
        ("i8.tif", RAMP.astype(np.int32)),
        ("f1.tif", RAMP / np.float32(255)),
        ("f255.tif", RAMP.astype(np.float32)),
    ):
        Image.fromarray(levels).save(tmp_path / name)
        assert pixels(str(tmp_path / name)) == grey(RAMP), name
        with Image.open(tmp_path / name) as image:
            assert pixels(image) == grey(RAMP), name
    for name, most in (("g16.pgm", 65535), ("g12.pgm", 4095)):
        (tmp_path / name).write_bytes(b"P5 3 1 %d\n" % most + np.array([0, most // 5, most], ">u2").tobytes())
        assert pixels(tmp_path / name) == grey([[0, 51, 255]]), name


def tiff(path: Path, row: bytes, width: int, bits: int, photometric: int) -> Path:
    """One row of grey, as Pillow itself does not write it."""
    tags = {
        256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(row)
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, n) for tag, n in tags.items())
    row += b"\0" * (len(row) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(row))
    path.write_bytes(head + row + struct.pack("<H", len(tags)) + entries + b"\0" * 4)
    return path


def test_a_tiff_of_12_bits_was_almost_black(tmp_path: Path) -> None:
    row = int("".join(f"{value:012b}" for value in (0, 16, 2048, 4095)), 2).to_bytes(6, "big")
    assert pixels(tiff(tmp_path / "a.tif", row, 4, 12, 1)) == grey([[0, 1, 128, 255]])


def test_a_tiff_of_16_bits_with_0_for_white_was_a_negative(tmp_path: Path) -> None:
    assert pixels(tiff(tmp_path / "b.tif", bytes([0, 255, 127]), 3, 8, 0)) == grey([[255, 0, 128]])
    path = tiff(tmp_path / "a.tif", np.array([0, 65535], "<u2").tobytes(), 2, 16, 0)
    message = f"{path}: image of more than 8 bits must not have 0 for white, got it so"
    with pytest.raises(ValueError, match=exactly(message)):
        as_image(path)


def test_files_are_read_in_any_mode(tmp_path: Path) -> None:
    for mode in ("L", "LA", "P", "RGBA", "1"):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (5, 4)).save(path)
        assert as_image(path).mode == "RGB"


UPRIGHT = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
LYING = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


def saved(path: Path, turn: int) -> Path:
    exif = Image.Exif()
    exif[274] = turn
    Image.fromarray(np.ascontiguousarray(LYING[turn])).save(path, exif=exif)
    return path


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("turn", LYING)
def test_a_picture_of_image_open_lay_on_its_side(turn: int, kind: str, tmp_path: Path) -> None:
    """repro 2: only a path was turned upright. Once, whatever was asked of the image before, and not again."""
    path = saved(tmp_path / f"a.{kind}", turn)
    upright = as_image(path)
    assert np.array_equal(np.asarray(upright), UPRIGHT)
    assert np.array_equal(np.asarray(as_image(upright)), UPRIGHT)
    assert np.array_equal(np.asarray(as_image(Image.open(path))), UPRIGHT)
    asked = Image.open(path)
    asked.getexif()
    asked.load()
    assert np.array_equal(np.asarray(as_image(asked)), UPRIGHT)
    by_hand = ImageOps.exif_transpose(Image.open(path))
    if kind == "png":  # of TIFF Pillow 10.0 turns twice itself
        assert np.array_equal(np.asarray(as_image(by_hand)), UPRIGHT)
        assert np.array_equal(np.asarray(as_image(Image.open(path).convert("RGBA"))), UPRIGHT)


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_phone_photographs_are_turned(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    assert as_image(path).size == as_image(Image.open(path)).size == (40, 60)


def test_the_caller_s_image_is_not_changed(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", 6)
    image = Image.open(path)
    as_image(image)
    assert image.getexif()[274] == 6
    assert image.size == (2, 3)
    plain = Image.fromarray(UPRIGHT)
    assert as_image(plain) is plain


BROKEN_EXIF = {
    "no TIFF": b"Exif\0\0not tiff!",
    "cut short": b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01",
    "orientation of text": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4s", 274, 2, 4, b"abc\0") + b"\0" * 4,
    "orientation 9": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 1, 9) + b"\0" * 4,
}


@pytest.mark.parametrize("what", BROKEN_EXIF)
def test_exif_that_pillow_cannot_read_ended_the_run(what: str, tmp_path: Path) -> None:
    for name in ("a.webp", "a.jpg"):
        Image.new("RGB", (40, 30)).save(tmp_path / name, exif=BROKEN_EXIF[what])
        assert as_image(tmp_path / name).size == (40, 30)


def test_a_good_orientation_beside_a_tag_of_an_odd_type_counts(tmp_path: Path) -> None:
    """exif_transpose writes all tags anew and fails there."""
    entries = struct.pack("<HHII", 274, 3, 1, 6) + struct.pack("<HHII", 305, 4, 1, 7)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + b"\0" * 4
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert as_image(tmp_path / "a.jpg").size == (40, 60)


def test_content_of_eps_never_starts_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called, stand_in, photo = tmp_path / "called", tmp_path / "gs", tmp_path / "photo.jpg"
    stand_in.write_text(f"#!/bin/sh\ntouch {called}\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    photo.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(ValueError, match=rf"\A{re.escape(str(photo))}: not a picture of a format that is read"):
        as_image(photo)
    assert not called.exists()


def test_any_failure_of_pillow_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(whole, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(whole.getvalue()[:3000])
    for given in (path, Image.open(path)):
        with pytest.raises(ValueError, match=rf"\A{re.escape(str(path))}: cannot be read as an image \(.+\)\Z"):
            as_image(given)
    path.write_bytes(whole.getvalue())
    for error in (TypeError("odd"), AttributeError("odd"), struct.error("odd"), SyntaxError("odd"), KeyError("odd")):

        def fails(image: Any, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("PIL.ImageFile.ImageFile.load", fails)
            patch.setattr("PIL.PngImagePlugin.PngImageFile.load", fails)
            message = f"{path}: cannot be read as an image ({error!s})"
            with pytest.raises(ValueError, match=exactly(message)):
                as_image(path)
    closed = Image.open(path)
    closed.close()
    with pytest.raises(ValueError, match=rf"\A{re.escape(str(path))}: cannot be read as an image"):
        as_image(closed)
    with pytest.raises(FileNotFoundError):
        as_image(tmp_path / "absent.png")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RAMP, grey(RAMP)),
        (RAMP[..., None], grey(RAMP)),
        (COLORS, COLORS.tolist()),
        (COLORS[:, ::-1], COLORS[:, ::-1].tolist()),
        (np.dstack([COLORS, RAMP]), COLORS.tolist()),
        (RAMP > 50, grey([[0] * 3, [255] * 3])),
        (RAMP.astype(np.uint16) * 257, grey(RAMP)),
        (RAMP.astype(">u2") * 257, grey(RAMP)),
        (np.array([[0, 511, 65535]], np.uint16), grey([[0, 1, 255]])),
        (np.zeros((1, 2), np.uint16), grey([[0, 0]])),
        (RAMP.astype(np.int64), grey(RAMP)),
        (COLORS.astype(np.int16), COLORS.tolist()),
        (COLORS.astype(np.float64), COLORS.tolist()),
        (COLORS / 255, COLORS.tolist()),
        (COLORS.astype(np.float32) / 255, COLORS.tolist()),
        ((COLORS / 255).astype(np.float16), COLORS.tolist()),
        (np.array([[0.0, 0.1, 0.5]]), grey([[0, 26, 128]])),
        (np.array([[0.4, 0.75, 254.75]]), grey([[0, 1, 255]])),
        (np.zeros((1, 2)), grey([[0, 0]])),
    ],
)  # fmt: skip
def test_arrays_of_every_kind_give_their_own_pixels(array: np.ndarray, expected: list[Any]) -> None:
    before = array.copy()
    assert pixels(array) == expected
    assert np.array_equal(array, before)


def test_an_array_of_opencv_had_red_for_blue() -> None:
    for array in (COLORS, np.dstack([COLORS, RAMP]), COLORS / 255):
        assert pixels(array[..., [2, 1, 0, *range(3, array.shape[2])]], channels="BGR") == COLORS.tolist()
    assert pixels(RAMP, channels="BGR") == grey(RAMP)
    straight, _ = letterbox(COLORS, (3, 2))
    assert np.array_equal(letterbox(COLORS[..., ::-1], (3, 2), channels="BGR")[0], straight)


SHAPES = "image must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got"
FLOATS = "must have values from 0 to 1 or from 0 to 255, got"
BITS = "image of uint16 must not leave in doubt whether it has 16 bits or 8, got values"
WHITE = "must not leave in doubt whether white is 1 or 255, got"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([[0, 1]], TypeError, "image must be a path, a PIL image or a NumPy array, got list"),
        (b"a.png", TypeError, "image must be a path, a PIL image or a NumPy array, got bytes"),
        (np.ma.masked_array(RAMP, RAMP > 9), TypeError, "image must not be a masked array, got MaskedArray"),
        (RAMP * 1j, TypeError, "image must be bool, integers or floats, got complex128"),
        (RAMP.astype(object), TypeError, "image must be bool, integers or floats, got object"),
        (np.zeros((3, 480, 640), np.uint8), ValueError, f"{SHAPES} (3, 480, 640): channels come last"),
        (np.zeros((1, 480, 640), np.uint8), ValueError, f"{SHAPES} (1, 480, 640): channels come last"),
        (np.zeros((1, 4, 6, 3), np.uint8), ValueError, f"{SHAPES} (1, 4, 6, 3): one picture, not a batch"),
        (np.zeros((5, 4, 2), np.uint8), ValueError, f"{SHAPES} (5, 4, 2)"),
        (np.zeros(5, np.uint8), ValueError, f"{SHAPES} (5,)"),
        (np.zeros((0, 5, 3), np.uint8), ValueError, "image must have at least one pixel, got shape (0, 5, 3)"),
        (Image.new("RGB", (0, 5)), ValueError, "image must have at least one pixel, got 0x5"),
        (np.array([[0.5, np.nan]]), ValueError, "image of float64 must hold no NaN, got some"),
        (np.array([[0.5, np.inf]]), ValueError, f"image of float64 {FLOATS} from 0.5 to inf"),
        (np.array([[-0.5, 1.0]]), ValueError, f"image of float64 {FLOATS} from -0.5 to 1.0"),
        (np.array([[0, 256]], np.float32), ValueError, f"image of float32 {FLOATS} from 0.0 to 256.0"),
        (np.array([[0, 1.5]]), ValueError, f"image of float64 {WHITE} from 0.0 to 1.5; clip it to 0..1"),
        (np.array([[0, 1.0]]), ValueError, f"image of float64 {WHITE} nothing but 0 and 1; make it bool or uint8"),
        (of_mode("F", -1.0, 0.5), ValueError, f"image of float32 {FLOATS} from -1.0 to 0.5"),
        (np.array([[-1, 9]]), ValueError, "image of int64 must have values from 0 to 255, got from -1 to 9"),
        (np.array([[0, 300]], np.int32), ValueError,
         "image of int32 must have values from 0 to 255, got from 0 to 300"),
        (of_mode("I", 0, 65536), ValueError,
         'image of mode "I" must have values from 0 to 65535, got from 0 to 65536'),
        (of_mode("I", -1, 7), ValueError, 'image of mode "I" must have values from 0 to 65535, got from -1 to 7'),
        (np.array([[0, 255]], np.uint16), ValueError,
         f"{BITS} from 0 to 255; make it uint8"),
        (deep("I;16", 3, 250), ValueError,
         f"{BITS} from 3 to 250; make it uint8"),
    ],
)  # fmt: skip
def test_what_is_in_doubt_is_no_picture(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=exactly(message)):
        as_image(given)


def test_a_dark_16_bit_file_is_refused_by_name_in_every_pillow(tmp_path: Path) -> None:
    path = tmp_path / "dark.png"
    Image.fromarray(np.array([[0, 200]], np.uint16)).save(path)
    message = f"{path}: {BITS} from 0 to 200; make it uint8"
    for given in (path, Image.open(path)):
        with pytest.raises(ValueError, match=exactly(message)):
            as_image(given)


def test_channels_are_a_matter_of_arrays() -> None:
    image = Image.fromarray(COLORS)
    with pytest.raises(ValueError, match=exactly('channels must be "RGB" or "BGR", got \'bgr\'')):
        as_image(COLORS, channels="bgr")
    for given, what in ((image, "a PIL image"), ("a.png", "a path")):
        with pytest.raises(
            ValueError, match=exactly(f'channels must be "RGB" but for NumPy arrays, got "BGR" with {what}')
        ):
            as_image(given, channels="BGR")


def test_warp_turns_and_fills_with_black() -> None:
    pixels = np.random.default_rng(4).integers(1, 256, (20, 30, 3), dtype=np.uint8)
    turned = warp(Image.fromarray(pixels), np.array([[0, 1, 0], [-1, 0, 19]]), (20, 30))
    assert np.array_equal(turned, np.rot90(pixels, -1))
    beside = warp(Image.fromarray(pixels), np.array([[1, 0, -5], [0, 1, 12]]), (30, 20))
    assert np.array_equal(beside[:8, 5:], pixels[12:, :25])
    assert not beside[8:].any()
    assert not beside[:, :5].any()
    between = warp(Image.fromarray(pixels), np.array([[1, 0, 0.5], [0, 1, 0]]), (20, 20))
    mean = (pixels[:, :20].astype(int) + pixels[:, 1:21]) / 2
    assert np.abs(between - mean).max() <= 0.5
