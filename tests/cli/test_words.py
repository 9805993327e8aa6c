"""Errors of the command speak of its options, not of Python's arguments."""

from __future__ import annotations

import pytest

from posepost.cli._output import in_options


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
        ('the network wants input_channels="BGR"', "the network wants --bgr"),
        ("the size must fit, the layout of heatmaps too", "the size must fit, the layout of heatmaps too"),
        ("out/keypoints=3.onnx: No such file", "out/keypoints=3.onnx: No such file"),
    ],
)  # fmt: skip
def test_arguments_are_said_as_options(said: str, wanted: str) -> None:
    assert in_options(said) == wanted
