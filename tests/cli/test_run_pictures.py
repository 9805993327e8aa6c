"""`posepost run` and a session in Python see the same picture: upright, in any mode, whatever its EXIF data holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

from PIL import Image

from posepost import cli, ort
from posepost.cli.demo import ASSETS

from .commands import joints, picture, written


def test_broken_exif_does_not_keep_the_others_from_being_done(model: str, photo: str, tmp_path: Path) -> None:
    """A SyntaxError's traceback, exit status 1 and no second picture."""
    odd, out = tmp_path / "odd.webp", tmp_path / "out"
    Image.new("RGB", (40, 30)).save(odd, exif=b"Exif\0\0not tiff!")
    assert cli.main(["run", model, str(odd), photo, "-o", str(out)]) == 0
    assert json.loads((out / "odd.json").read_text())["width"] == 40
    assert (out / "photo.overlay.png").exists()


def test_python_and_the_command_see_the_same_picture(folder: Path) -> None:
    """repro 2 and 3: a phone's photograph lay on its side in Python, and 16-bit and float greys were white or black."""
    exif = Image.Exif()
    exif[274] = 6
    upright = Image.open("photo.png")
    upright.transpose(Image.Transpose.ROTATE_90).save("phone.png", exif=exif)
    grey = np.asarray(upright.convert("L"))
    Image.fromarray(grey).save("g8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save("g16.png")
    Image.fromarray(grey.astype(np.int32) * 257).save("i32.tif")
    Image.fromarray(grey / np.float32(255)).save("f32.tif")
    session = ort.TopDownSession("heatmap.onnx")

    def seen(image: object) -> np.ndarray:
        images, transforms = session.crop(image)
        result = session.run(images, transform=transforms).numpy(absent=np.nan)
        return np.concatenate([result.keypoints, result.scores[..., None]], axis=2)

    assert np.array_equal(seen(Image.open("phone.png")), seen(upright))
    for name, expected in (
        ("photo.png", seen(upright)),
        ("phone.png", seen(upright)),
        *((name, seen(grey)) for name in ("g8.png", "g16.png", "i32.tif", "f32.tif")),
    ):
        assert cli.main(["run", "heatmap.onnx", name, "-o", "out"]) == 0
        assert np.array_equal(joints(written(folder / "out", Path(name).stem)), expected, equal_nan=True), name
        for given in (name, Path(name), Image.open(name)):
            assert np.array_equal(seen(given), expected, equal_nan=True), name


def test_the_bundled_scene_as_a_phone_has_it_scored_less_in_python(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(ASSETS / "scene.png") as scene:
        scene.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    session = ort.PoseSession(ASSETS / "figures.onnx")

    def found(image: object) -> tuple[list, float]:
        images, transform = session.letterbox(image)
        people = session.run(images, transform=transform).numpy()
        return people.keypoints.tolist(), float(people.scores.mean())

    right, lying = found(ASSETS / "scene.png"), found(np.asarray(Image.open(tmp_path / "phone.png")))
    assert found(tmp_path / "phone.png") == found(Image.open(tmp_path / "phone.png")) == right
    assert lying[1] < right[1] - 0.1


def test_a_session_takes_a_path_and_arrays_of_opencv(model: str, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    session = ort.PoseSession(model)
    images, transform = session.letterbox(path, (33, 49))
    pixels = np.asarray(Image.open(path))
    for given in (session.letterbox(pixels, (33, 49)), session.letterbox(pixels[..., ::-1], (33, 49), channels="BGR")):
        assert np.array_equal(given[0], images)
        assert np.array_equal(given[1], transform)
