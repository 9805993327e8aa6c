"""decode_posenet_multi in NumPy: bad input, word for word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from posepost import decode_posenet_multi

from .shared_errors import ERRORS, MAPS

pytestmark = pytest.mark.usefixtures("warnings_are_errors")


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(("error", "message", "replaced", "options"), ERRORS, ids=[row[1][:50] for row in ERRORS])
def test_errors(error: type[Exception], message: str, replaced: dict[int, Any], options: dict[str, Any]) -> None:
    maps = [replaced.get(i, array) for i, array in enumerate(MAPS)]
    with pytest.raises(error) as caught:
        decode_posenet_multi(*maps, output_stride=16, **options, activation="sigmoid")
    assert str(caught.value) == message
