"""The command on models as users have them: fixed batches, gray and BGR networks, inputs besides the image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnx
from onnx import TensorProto
from PIL import Image

from posepost import cli, ort

from ..onnx_models import build, seen_network
from .commands import complaints, joints, written

INDEX: dict[str, Any] = {"dataset_index": (TensorProto.INT64, ["b"])}


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with photo.png of 48 x 64 pixels: red above, blue below."""
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((64, 48, 3), np.uint8)
    pixels[10:20, 10:20], pixels[40:50, 30:40] = (255, 128, 128), (0, 0, 255)
    Image.fromarray(pixels).save("photo.png")
    return tmp_path


def input_line(capture: pytest.CaptureFixture[str]) -> str:
    (line,) = re.findall("^input is +(.*)$", capture.readouterr().out, re.MULTILINE)
    return str(line)


def test_posenet_of_a_fixed_batch_is_run(there: Path) -> None:
    for batch in (1, 4):
        Path(f"b{batch}.onnx").write_bytes(build(batch=batch, size=(64, 48)))
        assert cli.main(["run", f"b{batch}.onnx", "photo.png", "-o", f"o{batch}"]) == 0
    assert np.array_equal(joints(written(Path("o4"))), joints(written(Path("o1"))))


def test_bgr_is_what_the_network_expects(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(seen_network([1, 3, 64, 48]), "m.onnx")
    box = ["--box", "0,0,48,64", "--padding", "1", "--mean", "0", "--std", "1"]
    for name, options in (("rgb", []), ("bgr", ["--bgr"])):
        assert cli.main(["run", "m.onnx", "photo.png", "-o", name, *box, *options]) == 0
    rgb, bgr = (joints(written(Path(name)))[0] for name in ("rgb", "bgr"))
    assert np.array_equal(rgb[0], bgr[2])  # keypoint k looks for channel k
    assert np.array_equal(rgb[2], bgr[0])
    assert rgb[0, 1] < 20 < 40 < bgr[0, 1]
    capsys.readouterr()
    assert cli.main(["inspect", "m.onnx", "--bgr"]) == 0
    assert input_line(capsys) == "(pixel - (103.53, 116.28, 123.675)) / (57.375, 57.12, 58.395), BGR (default)"
    onnx.save(seen_network([1, 1, 64, 48]), "gray.onnx")
    assert cli.main(["inspect", "gray.onnx", "--bgr"]) == 2
    assert complaints(capsys) == ["posepost: --bgr must not be given for the gray input x, got 'BGR'"]


@pytest.mark.parametrize(
    ("shape", "kind", "layout", "line"),
    [
        ([1, 1, 64, 48], TensorProto.FLOAT, "NCHW", "(pixel - 117.038) / 57.53, gray (default)"),
        ([1, 64, 48, 3], TensorProto.INT32, "NHWC", "(pixel - 0) / 1, RGB (default)"),
        ([1, 64, 48, 1], TensorProto.INT8, "NHWC", "(pixel - 128) / 1, gray (default)"),
        ([1, 3, 64, 48], TensorProto.UINT8, "NCHW", "(pixel - 0) / 1, RGB (default)"),
    ],
)
def test_gray_and_integer_networks(
    shape: Any, kind: int, layout: str, line: str, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(seen_network(shape, kind, layout=layout), "m.onnx")
    assert cli.main(["inspect", "m.onnx"]) == 0
    assert input_line(capsys) == line
    assert cli.main(["run", "m.onnx", "photo.png", "-o", "o", "--box", "0,0,48,64", "--padding", "1"]) == 0
    x, y, _ = joints(written(Path("o")))[0, 0]
    assert 10 <= x < 20
    assert 10 <= y < 20


def test_an_input_besides_the_image(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(seen_network(["b", 3, 64, 48], besides=INDEX), "moe.onnx")
    run = ["run", "moe.onnx", "photo.png", "-o", "o", "--box", "0,0,48,64"]
    assert cli.main(["inspect", "moe.onnx"]) == 0
    assert "input            dataset_index int64 (any)\n" in capsys.readouterr().out
    assert cli.main(["inspect", "moe.onnx", "--input", "dataset_index=3"]) == 0
    assert "input            dataset_index int64 (any) = 3\n" in capsys.readouterr().out
    assert cli.main(run) == 2
    message = "posepost: moe.onnx: the input dataset_index int64 (any) besides the image needs a value: give --input "
    assert complaints(capsys) == [f"{message}dataset_index=..."]
    scores = []
    for value in ("0", "2"):
        assert cli.main([*run, "--input", f"dataset_index={value}"]) == 0
        scores.append(joints(written(Path("o")))[0, :, 2])
    assert np.allclose(scores[1] - scores[0], 2, rtol=0, atol=1e-5)
    session = ort.TopDownSession("moe.onnx", inputs={"dataset_index": 2})
    images, transforms = session.crop("photo.png", (0, 0, 48, 64))
    assert np.array_equal(session.run(images, transform=transforms).scores[0], scores[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "dataset_index"], "posepost run: argument --input: must be NAME=VALUE, one number or several with "
         "commas, got 'dataset_index'"),
        (["--input", "=3"], "posepost run: argument --input: must be NAME=VALUE, one number or several with commas, "
         "got '=3'"),
        (["--input", "a=b"], "posepost run: argument --input: must be NAME=VALUE, one number or several with commas, "
         "got 'a=b'"),
        (["--input", "index=3"], "posepost: --input must have keys among dataset_index, got 'index'"),
        (["--input", "dataset_index=1.5"], "posepost: --input dataset_index must be int64, got 1.5"),
        (["--input", "dataset_index=1,2"], "posepost: --input dataset_index must have shape (any) or broadcast to it, "
         "alike for all images, got (2,)"),
        (["--input", "dataset_index=1", "--input", "dataset_index=2"],
         "posepost: --input must name each input once, got dataset_index 2 times"),
    ],
)  # fmt: skip
def test_wrong_inputs_besides_the_image(
    options: list[str], message: str, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(seen_network(["b", 3, 64, 48], besides=INDEX), "moe.onnx")
    assert cli.main(["run", "moe.onnx", "photo.png", "-o", "o", *options]) == 2
    assert [line for line in complaints(capsys) if "no boxes given" not in line] == [message]


def test_mean_and_std_of_pixels_in_0_to_1(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(seen_network([1, 3, 64, 48]), "m.onnx")
    usual = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    assert cli.main(["run", "m.onnx", "photo.png", "-o", "o", *usual]) == 2
    assert complaints(capsys)[-1] == (
        "posepost: --mean and --std must be in pixel values 0..255: (123.675, 116.28, 103.53) and (58.395, 57.12, "
        "57.375) are yours times 255, got (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)"
    )
    assert cli.main(["run", "m.onnx", "photo.png", "-o", "o", "--mean", "0", "--std", "255"]) == 0
    told = {"posepost.mean": "0.485,0.456,0.406", "posepost.std": "0.229,0.224,0.225"}
    onnx.save(seen_network([1, 3, 64, 48], metadata=told), "told.onnx")
    capsys.readouterr()
    assert cli.main(["inspect", "told.onnx"]) == 2
    assert complaints(capsys)[0].startswith(
        "posepost: told.onnx: posepost.mean and posepost.std must be in pixel values"
    )
