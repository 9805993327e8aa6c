"""Every public name has a docstring whose example runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

import posepost

MODULES = (
    "posenet",
    "posenet_multi",
    "heatmap",
    "simcc",
    "peaks",
    "crops",
    "schemes",
    "types",
    "_cuda",
    "_rules.refinement",
    "_rules.flip",
)
PUBLIC = [getattr(posepost, name) for name in posepost.__all__]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"posepost.{name}"))
    assert tried
    assert not failed


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_public_names_are_documented_with_an_example(thing: object) -> None:
    text = inspect.getdoc(thing) or ""
    assert len(text.splitlines()[0]) > 20
    if thing not in (posepost.pinned, posepost.Poses, posepost.Peaks):  # need a GPU, or are shown by their decoder
        assert ">>> " in text
