"""decode_heatmap: what options mean, and which kernel and grid they choose."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda
from posepost import _kernels, _tiling, heatmap
from posepost._rules.heatmap import DEFAULTS, PRESETS, rule
from posepost._rules.maps import Maps
from posepost._rules.refinement import REFINEMENTS

from ..helpers import gaussian_maps

pytestmark = pytest.mark.usefixtures("fresh_plans")


def test_documentation_names_every_preset_and_head() -> None:
    text = inspect.getdoc(posepost.decode_heatmap) or ""
    assert all(f'"{name}"' in text for name in (*PRESETS, *REFINEMENTS))
    arguments = set(inspect.signature(posepost.decode_heatmap).parameters)
    assert all(set(preset) <= arguments for preset in (*PRESETS.values(), DEFAULTS))


def test_the_choice_of_kernel() -> None:
    """A function of head, strides, dtype and flip alone."""

    def chosen(refine: Any, strides: tuple[int, ...], shape: tuple[int, ...] = (2, 17, 64, 48)) -> Any:
        asked = rule(refine, None, None, None, None, None, None, None, False, "NCHW", None)
        kernel, tiles = heatmap.choose(asked, Maps("NCHW", *shape, strides), "float32", False, True, 528)
        return kernel, tiles.layout, tiles.tiles, tiles.splits

    nchw, nhwc = (52224, 3072, 48, 1), (52224, 1, 816, 17)
    assert chosen("none", nchw) == ("ARGMAX", "PLANAR", 34, 1)
    assert chosen("dark", nhwc)[:3] == ("ARGMAX", "INTERLEAVED", 2)
    assert chosen("quarter", (104448, 6144, 96, 2))[:2] == ("ARGMAX", "STRIDED")
    assert chosen("soft_argmax", nchw) == ("SOFT", "PLANAR", 34, 1)
    assert chosen("soft_argmax", nhwc) == ("SOFT", "STRIDED", 2, 1)
    assert chosen(posepost.SoftArgmax(window=5), nchw)[:2] == ("ARGMAX", "PLANAR")
    assert chosen("megvii", nchw) == ("BLURRED", "STRIDED", 34, 1)
    for element in _kernels.ELEMENTS.values():
        for head, layouts in _kernels.HEADS.items():
            assert all(_kernels.heatmap(element, head, layout) in _kernels.VARIANTS for layout in layouts)


def test_a_string_is_the_value_with_defaults(cpu_cuda: ExecutorCuda) -> None:
    maps = gaussian_maps((1, 6, 12, 9), "float32", 1)
    for kind, value in REFINEMENTS.items():
        if kind != "offset":
            assert posepost.decode_heatmap(maps, refine=kind) == posepost.decode_heatmap(maps, refine=value())


def test_a_map_is_blurred_in_as_few_equal_rectangles_as_shared_memory_allows() -> None:
    define = re.search(r"#define TILE_FLOATS (\d+)", _kernels.source("heatmap.cu"))
    assert define is not None
    assert int(define[1]) == _tiling.TILE_FLOATS
    for blur in (1, 11, 35):
        for H, W in ((1, 1), (64, 48), (96, 72), (135, 240), (5, 4000), (4000, 5)):
            high, wide = _tiling.blur_tile(H, W, blur)
            rows = high + blur - 1
            assert high % 4 == wide % 4 == 0 < high * wide
            assert rows * ((wide + blur - 1 | 1) + (wide | 1)) <= _tiling.TILE_FLOATS
            for length, part in ((H, high), (W, wide)):
                parts = -(-length // part)
                assert parts * part < length + 4 * parts
    assert _tiling.blur_tile(64, 48, 11) == (64, 48)
    assert _tiling.blur_tile(96, 72, 17) == (48, 36)
