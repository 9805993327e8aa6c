"""Errors of the command speak of its options, not of Python's arguments."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import posepost
from posepost import cli, ort
from posepost.cli._output import in_options

PYTHON_ALONE = {"boxes", "images", "model", "out", "providers", "transform"}
"""Arguments that no option gives."""


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("give output_stride=", "give --stride"),
        ('give activation="sigmoid" or activation=None', "give --activation sigmoid or --activation none"),
        ('if so, give heads={"heatmaps": "a/b:0", "offsets": "c"}; '
         'else', "if so, give --heads heatmaps=a/b:0,offsets=c; else"),
        ('inputs={"dataset_index": ...}', "--input dataset_index=..."),
        ("mean and std must be in pixels", "--mean and --std must be in pixels"),
        ("m.onnx: flip_pairs must be given", "m.onnx: --flip-pairs must be given"),
        ("heads['offsets'] must be one of a, b", "--heads offsets must be one of a, b"),
        ("inputs['dataset_index'] must be int64", "--input dataset_index must be int64"),
        ("give size=(260, 264), got 257x257", "give --size 260x264, got 257x257"),
        ('people must be "one"', '--people must be "one"'),
        ("inputs must have keys among a", "--input must have keys among a"),
        ("m.onnx: input_channels must not be given", "m.onnx: --bgr must not be given"),
        ("the size must fit, the layout of heatmaps too", "the size must fit, the layout of heatmaps too"),
        ('keypoints="a.json": flip_pairs must be mutual', "--keypoints a.json: flip_pairs must be mutual"),
        ("out/keypoints=3.onnx: No such file", "out/keypoints=3.onnx: No such file"),
    ],
)  # fmt: skip
def test_arguments_are_said_as_options(said: str, wanted: str) -> None:
    assert in_options(said) == wanted


def texts(path: Path) -> Iterator[str]:
    """What a module says: its strings but for docstrings, X for what is put in."""
    tree, inside = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            inside.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            inside.update(node.values)
    for node in ast.walk(tree):
        if node in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(one.value if isinstance(one, ast.Constant) else "X" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_error_of_a_session_speaks_of_options_in_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    calls = [getattr(kind, name) for kind in (ort.PoseSession, ort.TopDownSession) for name in ("__init__", "__call__")]
    calls += [ort.PoseSession.run, ort.TopDownSession.run]
    arguments = {name for call in calls for name in inspect.signature(call).parameters} - {"self"}
    spoken = re.compile(rf"(?<![\w.-])({'|'.join(arguments)})(?:(?:\[X\])?=|(?:\[X\])? must )")
    root = Path(posepost.__file__).parent
    said = [text for path in [*(root / "ort").glob("*.py"), root / "schemes.py"] for text in texts(path)]
    assert {name for text in said for name in spoken.findall(text)} > {"heads", "output_stride", "preset", "size"}
    translated = [in_options(text.replace("[X]", "['X']")) for text in said]
    assert {name for text in translated for name in spoken.findall(text)} <= PYTHON_ALONE
    assert cli.main(["run", "--help"]) == 0
    options = {*re.findall(r"--[a-z-]+", capsys.readouterr().out)}
    assert {option for text in translated for option in re.findall(r"(?<!\w)--[a-z][a-z-]*", text)} <= options
