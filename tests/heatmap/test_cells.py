"""input_size against the maps: swapped, of another layout, or not divided by the network's stride."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device

from ..helpers import equal


def maps(*shape: int) -> np.ndarray:
    """0.9 in row 20 and column 30 of each map."""
    found = np.zeros(shape, np.float32)
    found[..., 20 % shape[-2], 30 % shape[-1]] = 0.9
    return found


POSE = maps(1, 17, 64, 48)
SWAPPED = (
    "input_size must be (w, h): (256, 192) has cells of 5.33 x 3 pixels on maps 48 wide and 64 high; swapped they are "
    "square, got (256, 192)"
)
IN_CELLS = "without it points are in cells, and transform= scales each axis by itself"

REFUSED: dict[str, tuple[np.ndarray, dict[str, Any], str]] = {
    "height first": (
        POSE,
        {"input_size": (256, 192)},
        SWAPPED,
    ),
    "height first, udp": (
        POSE,
        {"input_size": (256, 192), "preset": "vitpose_hf"},
        SWAPPED,
    ),
    "height first, although scaling is said": (
        POSE,
        {"input_size": (256, 192), "scaling": "msra"},
        SWAPPED,
    ),
    "height first of a volume": (
        maps(1, 17, 32, 64, 48),
        {"input_size": (256, 192, 64), "layout": "NCDHW"},
        SWAPPED,
    ),
    "channels last": (
        POSE.transpose(0, 2, 3, 1),
        {"input_size": (192, 256)},
        'layout must be that of heatmaps (1, 64, 48, 17): as "NCHW" (192, 256) has cells of 11.3 x 5.33 pixels on maps '
        '17 wide and 48 high, as "NHWC" they are square, got "NCHW"',
    ),
    "channels last without a batch": (
        POSE[0].transpose(1, 2, 0),
        {"input_size": (192, 256)},
        'layout must be that of heatmaps (64, 48, 17): as "NCHW" (192, 256) has cells of 11.3 x 5.33 pixels on maps '
        '17 wide and 48 high, as "NHWC" they are square, got "NCHW"',
    ),
    "channels first": (
        POSE,
        {"input_size": (192, 256), "layout": "NHWC"},
        'layout must be that of heatmaps (1, 17, 64, 48): as "NHWC" (192, 256) has cells of 3 x 15.1 pixels on maps '
        '64 wide and 17 high, as "NCHW" they are square, got "NHWC"',
    ),
    "another network's size": (
        POSE,
        {"input_size": (256, 256)},
        "input_size must have square cells: (256, 256) has cells of 5.33 x 4 pixels on maps 48 wide and 64 high; "
        f"{IN_CELLS}, got (256, 256)",
    ),
    "n * stride + 1": (
        maps(1, 17, 33, 33),
        {"input_size": (257, 257)},
        "input_size must be whole cells: (257, 257) has cells of 7.79 x 7.79 pixels on maps 33 wide and 33 high; if "
        'the network\'s stride is 8, give what they cover, (264, 264), or scaling="msra" for cells as they are, got '
        "(257, 257)",
    ),
    "n * stride + 1 of both sides": (
        maps(1, 17, 31, 23),
        {"input_size": (353, 481), "preset": "deeplabcut"},
        "input_size must be whole cells: (353, 481) has cells of 15.3 x 15.5 pixels on maps 23 wide and 31 high; if "
        'the network\'s stride is 16, give what they cover, (368, 496), or scaling="msra" for cells as they are, got '
        "(353, 481)",
    ),
    "rounded down": (
        maps(1, 17, 40, 32),
        {"input_size": (262, 322)},
        "input_size must be whole cells: (262, 322) has cells of 8.19 x 8.05 pixels on maps 32 wide and 40 high; if "
        'the network\'s stride is 8, give what they cover, (256, 320), or scaling="msra" for cells as they are, got '
        "(262, 322)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_cells_that_are_not_square_or_not_whole_are_refused(cpu_cuda: ExecutorCuda, kind: str) -> None:
    """Swapped sizes and NHWC maps were read as numbers, and n * stride + 1 pixels as cells of 7.79."""
    heatmaps, options, message = REFUSED[kind]
    for place in (np.asarray, to_device):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            posepost.decode_heatmap(place(heatmaps), **options)
    assert not cpu_cuda.launches


TAKEN: dict[str, tuple[tuple[int, int], dict[str, Any], tuple[float, float]]] = {
    "the network's": ((64, 48), {"input_size": (192, 256)}, (120, 80)),
    "floats": ((64, 48), {"input_size": (192.0, np.float32(256))}, (120, 80)),
    "pixels of a larger crop": ((64, 48), {"input_size": (300, 400)}, (187.5, 125)),
    "relative": ((64, 48), {"input_size": (1, 1)}, (30 / 48, 20 / 64)),
    "udp": ((64, 48), {"input_size": (192, 256), "scaling": "udp"}, (30 * 192 / 47, 20 * 256 / 63)),
    "n * stride + 1 with corners on cells": (
        (33, 33),
        {"input_size": (257, 257), "preset": "mmpose_udp", "refine": "none"},
        (30 * 257 / 32, 20 * 257 / 32),
    ),
    "what the cells cover": ((33, 33), {"input_size": (264, 264)}, (240, 160)),
    "said": ((33, 33), {"input_size": (257, 257), "scaling": "msra"}, (30 * 257 / 33, 20 * 257 / 33)),
    "said, of a size that no stride gives": (
        (64, 48),
        {"input_size": (197, 263), "scaling": "msra"},
        (30 * 197 / 48, 20 * 263 / 64),
    ),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_sizes_in_no_doubt_are_taken(kind: str) -> None:
    (H, W), options, point = TAKEN[kind]
    got = posepost.decode_heatmap(maps(1, 1, H, W), **options).keypoints[0, 0]
    np.testing.assert_allclose(got, point, rtol=1e-6)


def test_both_ways_out_of_a_rounded_size_give_cells_of_the_stride() -> None:
    heatmaps = maps(1, 2, 33, 33)
    cells = posepost.decode_heatmap(heatmaps).keypoints
    equal(posepost.decode_heatmap(heatmaps, input_size=(264, 264)).keypoints, cells * 8)


def test_anisotropic_crops_go_through_a_transform() -> None:
    """What the error says of cells that are meant not to be square."""
    cells = posepost.decode_heatmap(POSE).keypoints
    wide = posepost.decode_heatmap(POSE, transform=[[256 / 48, 0, 0], [0, 256 / 64, 0]]).keypoints
    np.testing.assert_allclose(wide, cells * np.float32([256 / 48, 4]), rtol=1e-6)


def test_what_is_checked_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plan of a form, not at each call."""
    from posepost._rules import cells
    from posepost.ref import heatmap as ref

    seen: list[Any] = []
    check = cells.check
    monkeypatch.setattr(cells, "check", lambda *given: seen.append(given) or check(*given))
    ref.prepare.cache_clear()
    for _ in range(3):
        posepost.decode_heatmap(POSE, input_size=(192, 256))
    assert len(seen) == 1
