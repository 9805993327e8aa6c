"""Files that `posepost run` reads and writes: names, bad images, bad models, whole or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')


from posepost import cli
from posepost.cli.run import output_names

from ..onnx_models import build, failing_model
from .commands import complaints, picture

TRUNCATED = "not an ONNX model, or one that is cut short"


def test_equal_stems_do_not_meet(model: str, tmp_path: Path) -> None:
    images = [
        picture(tmp_path / "x" / "a.png"),
        picture(tmp_path / "x" / "A.bmp", (30, 50)),
        picture(tmp_path / "y" / "a.png", (20, 20)),
        picture(tmp_path / "y" / "a-2.png", (44, 44)),
    ]
    out = tmp_path / "out"
    assert cli.main(["run", model, *images, "-o", str(out)]) == 0
    sizes = {path.stem: json.loads(path.read_text())["width"] for path in out.glob("*.json")}
    assert sorted(sizes.values()) == [20, 30, 44, 60]
    assert len(list(out.iterdir())) == 8


def test_output_names_differ_in_more_than_case(tmp_path: Path) -> None:
    names = output_names(["x/a.png", "x/A.jpg", "y/a.bmp", "a-2.png", "b.tar.png", ".hidden"], tmp_path)
    assert names == ["a", "A-2", "a-3", "a-2-2", "b.tar", ".hidden"]


def test_an_input_is_never_overwritten(model: str, tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "a.overlay.png")
    before = Path(second).read_bytes()
    assert cli.main(["run", model, first, second, "-o", str(tmp_path)]) == 0
    assert Path(second).read_bytes() == before
    assert (tmp_path / "a-2.overlay.png").exists()


def test_a_second_run_replaces_the_first(model: str, photo: str, tmp_path: Path) -> None:
    for size in ("33x49", "65x97"):
        assert cli.main(["run", model, photo, "-o", str(tmp_path / "out"), "--size", size]) == 0
    assert json.loads((tmp_path / "out" / "photo.json").read_text())["input_size"] == [65, 97]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_bad_images_are_reported_and_the_others_are_done(
    model: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, cut, empty = tmp_path / "notes.txt", tmp_path / "cut.png", tmp_path / "empty.jpg"
    text.write_text("not a picture")
    cut.write_bytes(Path(photo).read_bytes()[:3000])
    empty.touch()
    jpeg = Path(picture(tmp_path / "whole.jpg", (300, 200)))
    cut_jpeg = tmp_path / "cut.jpg"
    cut_jpeg.write_bytes(jpeg.read_bytes()[:-5000])
    absent = tmp_path / "absent.png"
    bad = [str(path) for path in (text, cut, empty, cut_jpeg, absent, tmp_path)]
    out = tmp_path / "out"
    assert cli.main(["run", model, *bad[:3], photo, *bad[3:], "-o", str(out)]) == 2
    lines = complaints(capsys)
    unread = r"not a picture of a format that is read \(JPEG, PNG, .+\)"
    assert re.fullmatch(f"posepost: {re.escape(str(text))}: {unread}", lines[0])
    assert re.fullmatch(rf"posepost: {re.escape(str(cut))}: cannot be read as an image \(.+\)", lines[1])
    assert re.fullmatch(f"posepost: {re.escape(str(empty))}: {unread}", lines[2])
    assert re.fullmatch(rf"posepost: {re.escape(str(cut_jpeg))}: cannot be read as an image \(.+\)", lines[3])
    assert lines[4] == f"posepost: {absent}: No such file or directory"
    assert lines[5] == f"posepost: {tmp_path}: Is a directory"
    assert len(lines) == 6
    assert sorted(path.name for path in out.iterdir()) == ["photo.json", "photo.overlay.png"]


def test_a_model_that_fails_while_running_is_one_line_an_image(
    photo: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failing.onnx"
    path.write_bytes(failing_model())
    other = picture(tmp_path / "other.png")
    out = tmp_path / "out"
    options = ["--activation", "none", "--stride", "8", "--heads", "heatmaps=h,offsets=o", "-o", str(out)]
    assert cli.main(["run", str(path), photo, other, *options]) == 2
    lines = complaints(capfd)  # of the process, so that onnxruntime's own log would be seen
    assert len(lines) == 2
    for line, image in zip(lines, (photo, other)):
        assert line.startswith(f"posepost: {image}: {path}: the model failed while running: ")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_bad_models(
    command: str,
    photo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path, rest = tmp_path / "bad.onnx", [photo] if command == "run" else []

    def said(data: bytes) -> list[str]:
        path.write_bytes(data)
        assert cli.main([command, str(path), *rest]) == 2
        return complaints(capsys)

    assert said(b"") == [f"posepost: {path}: {TRUNCATED}"]
    assert said(build()[:-100]) == [f"posepost: {path}: {TRUNCATED}"]
    assert said(Path(photo).read_bytes()) == [f"posepost: {path}: {TRUNCATED}"]
    assert said(build({"boxes": 4, "classes": 3})) == [
        f"posepost: {path}: several outputs may be the heads, name them, such as --heads heatmaps=classes: "
        "boxes (1, 4, 5, 7), classes (1, 3, 5, 7)"
    ]
    path.unlink()
    assert cli.main([command, str(path), *rest]) == 2
    assert complaints(capsys) == [f"posepost: {path}: No such file or directory"]
    assert cli.main([command, str(tmp_path), *rest]) == 2
    assert complaints(capsys) == [f"posepost: {tmp_path}: Is a directory"]
    assert not Path("posepost-out").exists()


def test_outputs_appear_whole_or_not_at_all(
    model: str, photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, out = Path.write_bytes, tmp_path / "out"

    def full(path: Path, data: bytes) -> int:
        if path.name.endswith(".part") and b"PNG" in data[:8]:
            real(path, data[:100])
            raise OSError(28, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cli.main(["run", model, photo, "-o", str(out)]) == 2
    (line,) = complaints(capsys)
    assert line.startswith(f"posepost: {photo}: ")
    assert line.endswith(": No space left on device")
    assert list(out.iterdir()) == []


def test_an_empty_name_is_said_to_be_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "", "photo.png"]) == 2
    assert complaints(capsys) == ["posepost: '': No such file or directory"]
    assert cli.main(["run", "posenet.onnx", "", "-o", "out"]) == 2
    assert complaints(capsys) == ["posepost: '': No such file or directory"]
