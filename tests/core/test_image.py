"""Photographs read from files, and sampled into crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost._image import read_image, warp


def test_pictures_are_read_upright_and_in_any_mode(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = tmp_path / "turned.jpg"
    Image.new("RGB", (60, 40)).save(turned, exif=exif)
    assert read_image(turned).size == (40, 60)
    for mode in ("L", "LA", "P", "RGBA", "1"):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (5, 4)).save(path)
        assert read_image(path).mode == "RGB"
    deep = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 256, 65535]], np.uint16)).save(deep)
    assert np.asarray(read_image(deep))[0, :, 0].tolist() == [0, 1, 255]


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
