"""Arguments that a command refuses, help, missing packages, and the command as a module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')


from posepost import cli

from .commands import complaints


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "posepost: give a command: demo, inspect, run, warmup, bench or doctor (posepost --help tells more)"),
        (["run", "MODEL"], "posepost run: the following arguments are required: IMAGE"),
        (["run", "MODEL", "x.png", "-o", ""], "posepost: -o must name a directory, got ''"),
        (["demo", "-o", ""], "posepost: -o must name a directory, got ''"),
        (["run", "MODEL", "x.png", "-o", "MODEL"], "posepost: -o must name a directory, MODEL is a file"),
        (["run", "MODEL", "x.png", "-o", "MODEL/deeper"], "posepost: MODEL/deeper: Not a directory"),
        (
            ["run", "MODEL", "x.png", "--size", "big"],
            "posepost run: argument --size: must be WIDTHxHEIGHT in pixels, such as 481x353, got 'big'",
        ),
        (
            ["run", "MODEL", "x.png", "--size", "0x5"],
            "posepost run: argument --size: must be WIDTHxHEIGHT in pixels, such as 481x353, got '0x5'",
        ),
        (
            ["run", "MODEL", "x.png", "--score", "nan"],
            "posepost run: argument --score: must be a number from 0 to 1, got 'nan'",
        ),
        (
            ["run", "MODEL", "x.png", "--score", "1.5"],
            "posepost run: argument --score: must be a number from 0 to 1, got '1.5'",
        ),
        (
            ["run", "MODEL", "x.png", "--score", "good"],
            "posepost run: argument --score: must be a number from 0 to 1, got 'good'",
        ),
        (
            ["run", "MODEL", "x.png", "--people", "one", "--score", "0.5"],
            "posepost: --score is for --people all, got --people one",
        ),
        (
            ["inspect", "MODEL", "--mean", "1,2"],
            "posepost inspect: argument --mean: must be one number or three with commas, got '1,2'",
        ),
        (
            ["inspect", "MODEL", "--std", "wide"],
            "posepost inspect: argument --std: must be one number or three with commas, got 'wide'",
        ),
        (["inspect", "MODEL", "--std", "0"], "posepost: --std must be above 0, got [0.0]"),
        (
            ["inspect", "MODEL", "--heads", "heatmaps"],
            "posepost inspect: argument --heads: must be HEAD=OUTPUT,..., got 'heatmaps'",
        ),
        (
            ["inspect", "MODEL", "--heads", "heatmaps=a,heatmaps=b"],
            "posepost inspect: argument --heads: must name each head once, got 'heatmaps=a,heatmaps=b'",
        ),
        (
            ["inspect", "MODEL", "--heads", "heatmaps=x"],
            "posepost: --heads heatmaps must be one of the outputs heatmaps, offsets, got 'x'",
        ),
        (
            ["inspect", "MODEL", "--stride", "0"],
            "posepost inspect: argument --stride: must be a positive integer, got '0'",
        ),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([argument.replace("MODEL", model) for argument in arguments]) == 2
    assert complaints(capsys) == [message.replace("MODEL", model)]


def test_help_and_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "COMMAND" in capsys.readouterr().out
    assert cli.main(["fly"]) == 2
    (line,) = complaints(capsys)
    assert line.startswith("posepost: argument COMMAND: invalid choice: 'fly'")


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("PIL", 'reading and drawing pictures needs Pillow: pip install "posepost[ort]"'),
        ("onnxruntime", 'running ONNX models needs onnxruntime: pip install "posepost[ort]"'),
        ("onnx", 'running ONNX models needs onnx: pip install "posepost[ort]"'),
    ],
)
def test_missing_packages(
    package: str,
    message: str,
    model: str,
    photo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["run", model, photo, "-o", str(tmp_path / "out")]) == 2
    of_image = f"{photo}: " if package == "PIL" else ""
    assert complaints(capsys) == [f"posepost: {of_image}{message}"]


def test_as_a_module_and_into_a_closed_pipe(model: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "posepost", "inspect", model], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("model ")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "posepost", "inspect", model],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
