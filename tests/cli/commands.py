"""What the tests of the commands share: pictures to run on, and what a command said and wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def picture(path: Path, size: tuple[int, int] = (60, 40), **options: Any) -> str:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def complaints(capture: pytest.CaptureFixture[str]) -> list[str]:
    return capture.readouterr().err.splitlines()


def written(folder: Path, name: str = "photo") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return document


def joints(document: dict[str, Any]) -> np.ndarray[Any, Any]:
    """(N, K, 3): x, y, score."""
    rows = [[[joint[key] for key in ("x", "y", "score")] for joint in pose["keypoints"]] for pose in document["poses"]]
    return np.array(rows, np.float32)
