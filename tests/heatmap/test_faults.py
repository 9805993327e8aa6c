# ruff: noqa: E501  (a fault is one line)
"""The proof of the proof, for heatmap heads: faults put into heatmap.cu and refine.cuh, one edit each, and found.

A suite of launches for each head of the kernel serves all its faults; the kernels as they are pass it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import VIEWS
from bench.cuda_cpu.seam import ExecutorCuda, to_device
from bench.tolerance import DARK_RTOL, SOFT_ATOL

from ..helpers import blurred as blurred_by
from ..helpers import check_fault_is_found, check_sanitizers, gaussian_maps, uneven_size, with_flip

pytestmark = pytest.mark.usefixtures("fresh_plans")

FAULTS = [
    # a quarter of a cell
    ("quarter", "mmpose: the first row moves too", "across && y > 0", "across"),
    ("quarter", "hrnet: one axis alone", "across && y > 0 : across && along", "across && y > 0 : across"),
    ("quarter", "guard one cell wider", "across = x > 1 && x + 1 < p.W", "across = x > 0 && x + 1 < p.W"),
    ("quarter", "guard one cell narrower", "along = y > 1 && y + 1 < p.H", "along = y > 1 && y + 2 < p.H"),
    ("quarter", "a tie goes forward", "dx > 0.0f ? 0.25f", "dx >= 0.0f ? 0.25f"),
    ("quarter", "neighbor outside the map", "x = column - (column > 0);", "x = column - 1;"),
    ("quarter", "a NaN difference is no step", "v < 0.0f ? -1.0f : v; }", "v < 0.0f ? -1.0f : 0.0f; }"),
    ("quarter", "left and right swapped", "__shfl_sync(FULL, value, 1) - __shfl_sync(FULL, value, 0)", "__shfl_sync(FULL, value, 0) - __shfl_sync(FULL, value, 1)"),
    # from cells to keypoints
    ("quarter", "shifted after scaling", "x = (x + p.center_shift) * p.cell[0];", "x = x * p.cell[0] + p.center_shift;"),
    ("quarter", "the threshold itself is above", "<= p.threshold_key", "< p.threshold_key"),
    ("quarter", "absent in pixels", "x = p.absent * p.cell[0];", "x = p.absent;"),
    ("quarter", "what is absent keeps its score", "if (p.absent != p.absent) score = 0.0f;", ""),
    ("quarter", "what is absent is refined", "if (!is_absent(p, value)) {\n        const auto raw", "if (true) {\n        const auto raw"),
    ("quarter", "one matrix for all rows", "p.transforms + row * p.transform_stride + i", "p.transforms + i"),
    ("quarter", "refined at the integers", "(value - p.heatmap_zero) * p.heatmap_scale", "value * p.heatmap_scale"),
    # flip test
    ("flip", "the shift moves column 0", "(p.flip_shift && x > 0)", "p.flip_shift"),
    ("flip", "keypoints not exchanged", "p.flip_pairs[k] * p.flipped_stride_k", "k * p.flipped_stride_k"),
    ("flip", "a sum, no average", "return (E::widen(a) + E::widen(b)) * 0.5f;", "return E::widen(a) + E::widen(b);"),
    ("flip", "not mirrored", "        x = flipped_column(p, x);\n", ""),
    ("flip", "x offset keeps its sign", "(dx - offset_at", "(dx + offset_at"),
    ("flip", "offsets of the keypoint itself", "p.flip_pairs[map.k] * p.flipped_offset_stride_k", "map.k * p.flipped_offset_stride_k"),
    ("flip", "offsets not mirrored", "flipped_column(p, x) * p.flipped_offset_stride_x;", "x * p.flipped_offset_stride_x;"),
    ("flip", "y offset from the x channel", "own + p.offset_stride_xy)", "own)"),
    ("flip", "offsets in another unit along y", "dy * p.offset_cells[1]", "dy * p.offset_cells[0]"),
    # DARK
    ("dark", "outside is the border cell", "if (border == ZERO) return -1;", "if (border == ZERO) return at < 0 ? 0 : size - 1;"),
    ("dark", "mirrored about the cell", "border == REFLECT ? 2 * size : 2 * size - 2;", "2 * size - 2;"),
    ("dark", "rows one cell off", "const i32 row = y - REACH - radius + lane;", "const i32 row = y - REACH - radius + lane + 1;"),
    ("dark", "last tap left out", "i >= c && i - c < (i32)p.blur)", "i >= c && i - c + 1 < (i32)p.blur)"),
    ("dark", "columns summed a row too low", "rows[c], (lane + j) % 32)", "rows[c], (lane + j + 1) % 32)"),
    ("dark", "the clip is forgotten", "clear &= columns[i] >= lowest;", ""),
    ("dark", "values above 50 are clear", "bool clear = !(peak > highest);", "bool clear = true;"),
    ("dark", "maps are not scaled", "if (p.border == ZERO && scale.known) v *= scale.c;", ""),
    ("dark", "clipped from above only", "v = v < lowest ? lowest : v > highest", "v = v > highest"),
    ("dark", "no second look", "if (known || p.border != ZERO || (p.refine != DARK", "if (true || (p.refine != DARK"),
    ("dark", "guard one cell narrower", "x + 2 < p.W && y > 1", "x + 3 < p.W && y > 1"),
    ("dark", "mixed derivative of another sign", "(L[3][3] - L[1][3]) - (L[3][1] - L[1][1])", "(L[3][3] - L[1][3]) + (L[3][1] - L[1][1])"),
    ("dark", "a singular Hessian is solved", "if (determinant == 0.0f || whole", "if (whole"),
    ("dark", "a step of any length", " || whole(x) >= p.W || whole(y) >= p.H", ""),
    ("dark", "a map of zeros is scaled", "blurred == 0.0f ? 1.0f : blurred", "blurred"),
    ("dark", "UDP: nothing continues the left border", "if (x == 0) columns[0] = columns[1];", ""),
    ("dark", "UDP: nothing continues the right border", "if (x + 1 == p.W) columns[2] = columns[1];", ""),
    ("dark", "UDP: nothing continues the upper border", "j == 0 ? (y > 0 ? 0 : 1)", "j == 0 ? 0"),
    ("dark", "UDP: no epsilon", "epsilon = 1.1920928955078125e-7f", "epsilon = 0.0f"),
    ("dark", "the maximum of the blurred map is that of a warp", "of_block = larger(of_block, parts[w]);", "of_block = parts[0];"),
    # centers of gravity
    ("window", "cells from 32 on at the places of the first", "(float)((base + j) % side - reach)", "(float)(j % side - reach)"),
    ("window", "negative weights", "p.positive && !(w > 0.0f) ? 0.0f : w", "w"),
    ("window", "mirrored weights at mirrored places", "around(p, read, (i32)y + dy, (i32)x + dx)", "around(p, read, (i32)y + dy, (i32)x - dx)"),
    ("window", "softmax without a temperature", "- largest) * p.beta) : 0.0f;", "- largest)) : 0.0f;"),
    ("window", "softmax outside the map", "(i32)x + dx >= 0 && (i32)x + dx < (i32)p.W", "(i32)x + dx >= 0"),
    # the whole map
    ("soft", "rescaled without the temperature", "expf((maximum - m) * p.beta)", "expf(maximum - m)"),
    ("soft", "x is not rescaled", "        x *= factor;\n", ""),
    ("soft", "mass not merged", "        mass += other.mass;\n", ""),
    ("soft", "rows do not end", "if (++x == p.W) {", "if (++x == p.W + 1) {"),
    ("soft", "-inf weighs", "const bool nothing = value == minus_infinity();", "const bool nothing = false;"),
    ("soft", "half of the threads", "half >= lanes; half /= 2) {  // t and t + half hold the same map", "half > lanes; half /= 2) {  // t and t + half hold the same map"),
    ("soft", "x from the left", "x = soft.x / soft.sum + (float)(p.W - 1) * 0.5f", "x = soft.x / soft.sum + (float)p.W * 0.5f"),
    ("soft", "mass at the maximum's scale", "soft.mass * expf(soft.maximum)", "soft.mass"),
    ("soft", "the score of the first cell", "of_vectors.take<E>(loaded[i], first);", "if (first == 0) of_vectors.take<E>(loaded[i], 0);"),
    ("soft", "a vector in the place of its first element", "behind_first += weight * (float)n;", ""),
    ("soft", "vectors do not end with their row", "if (x + N <= p.W) {", "if (true) {"),
    ("soft", "the cells behind the last vector left out", "for (u32 cell = first; cell < cells; ++cell) {  // fewer", "for (u32 cell = cells; cell < cells; ++cell) {  // fewer"),
    # the blurred map
    ("blurred", "cells in the rows of their blur", "y * p.W + x));\n        }\n    }\n    __syncthreads();\n}", "(y + p.blur / 2) * p.W + x));\n        }\n    }\n    __syncthreads();\n}"),
    ("blurred", "three of four rows", "(rows + 3) / 4 * columns", "rows / 4 * columns"),
    ("blurred", "tiles without what lies around", "inside(y0 + (i32)(4 * group + n - radius)", "inside(y0 + (i32)(4 * group + n)"),
    ("blurred", "the window does not slide", "seen[n] = seen[n + 1];", "seen[n] = seen[n];"),
    ("blurred", "the blur of one column less", "for (u32 i = 0; i < p.blur; ++i) {", "for (u32 i = 0; i + 1 < p.blur; ++i) {"),
    ("blurred", "the highest of mirrored cells and none", "in_map = x >= 0 && x == x0 + (i32)(column - radius) && y >= 0 && y < (i32)p.H;", "in_map = true;"),
    ("blurred", "columns beyond the map", "if (x < p.W && y < p.H) best", "if (y < p.H) best"),
    ("blurred", "rows beyond the map", "if (x < p.W && y < p.H) best", "if (x < p.W) best"),
    ("blurred", "rows of another pitch", "along_x = cells + rows * wide", "along_x = cells + (rows - 4) * wide"),
    ("blurred", "neighbors of the map itself", "quarter_of_blurred(p, read, y, x)", "quarter(p, read, y, x)"),
    ("blurred", "the first rows of a wide blur twice", "const i32 j = base + lane, row", "const i32 j = lane, row"),
    ("blurred", "megvii of another scale", "score / 255.0f + 0.5f", "score / 256.0f + 0.5f"),
    ("blurred", "megvii without its half cell", "p.guard == MEGVII ? 0.5f : 0.0f", "0.0f"),
    ("blurred", "offsets of the class map's stride", "map.k * p.offset_stride_k + y", "map.k + y"),
    # volumes
    ("volume", "one slice for all", "map + z * p.heatmap_stride_z + row", "map + row"),
    ("volume", "y through all slices", "(float)(y - z * p.slice_rows) + step.y", "(float)y + step.y"),
]  # fmt: skip


def check(arrays: dict[str, np.ndarray], view_name: str = "nchw", atol: float = 0.0, **options: Any) -> None:
    layout, view = VIEWS.get(view_name, (view_name, lambda array, place: place(array)))
    on_host, on_device = ({k: view(v, place) for k, v in arrays.items()} for place in (np.array, to_device))
    expected = posepost.decode_heatmap(**with_flip(on_host, options), layout=layout)
    got = posepost.decode_heatmap(**with_flip(on_device, options), layout=layout).numpy()
    np.testing.assert_array_equal(np.isnan(got.keypoints), np.isnan(expected.keypoints))
    np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=atol)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=4e-7)


def edges(B: int = 1, H: int = 9, W: int = 8) -> np.ndarray:
    """A peak in every cell near the borders, random surroundings, ties beside some, a block of NaN, nothing, -inf."""
    rng = np.random.default_rng(3)
    places = [(y, x) for y in (0, 1, 2, 4, H - 3, H - 2, H - 1) for x in (0, 1, 2, 3, W - 3, W - 2, W - 1)]
    maps = rng.uniform(-0.1, 0.4, (B, len(places) + 5, H, W)).astype(np.float32)
    for k, (y, x) in enumerate(places):
        maps[:, k, y, x] = 1
    maps[:, len(places) // 2] = np.round(maps[:, len(places) // 2] * 4) / 4
    maps[:, -5, 3:6, 3:6] = np.nan
    maps[:, -4] = 0
    maps[:, -3] = -np.inf
    maps[:, -2] = 0.25
    maps[:, -1] -= 1
    return maps


def quarter() -> None:
    maps, matrices = edges(2), np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    for preset in ("mmpose_msra", "hrnet", "higherhrnet", "sleap"):
        check({"heatmaps": maps}, preset=preset, **uneven_size(preset, maps.shape))
    check({"heatmaps": maps}, preset="mmpose_msra", transform=matrices)
    check({"heatmaps": maps}, refine="quarter", absent=-1.0, threshold=0.25)
    whole = (np.nan_to_num(maps[:, :20], neginf=-1) * 50).astype(np.int8)
    check({"heatmaps": whole}, "nhwc", refine="centroid", quantization={"heatmaps": (0.5, 3)}, threshold=-np.inf)


def flip() -> None:
    maps, fields = edges(2)[:, :12], np.random.default_rng(1).uniform(-1, 1, (2, 24, 9, 8)).astype(np.float32)
    pairs = [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]
    arrays = {"heatmaps": maps, "flipped": maps[::-1, ::-1], "offsets": fields, "flipped_offsets": fields[::-1, ::-1]}
    for shift in (False, True):
        for view_name in ("nchw", "nhwc"):
            options = {"pairs": pairs, "shift": shift, "input_size": (80, 96), "scaling": "msra"}
            check(
                {name: np.ascontiguousarray(array) for name, array in arrays.items()},
                view_name,
                refine=posepost.Offset(scale=7.0),
                **options,
            )


def dark() -> None:
    small, wide = gaussian_maps((1, 40, 9, 8), "float32", 5), gaussian_maps((1, 6, 24, 20), "float32", 6)
    for preset in ("mmpose_dark", "mmpose_udp", "vitpose_hf"):
        for maps in (small, wide):
            check({"heatmaps": maps}, atol=10 * DARK_RTOL, **blurred_by(preset, 5), scaling="msra")
        check({"heatmaps": np.full((1, 1, 9, 9), 0.5, np.float32)}, **blurred_by(preset, 3), scaling="msra")
    check({"heatmaps": np.zeros((1, 1, 9, 9), np.float32)}, refine="dark_udp")
    ridge = np.full((1, 1, 9, 9), 1e-3, np.float32)
    ridge[0, 0, 3:6, 3:6] = [[0.999, 0.37, 0.02], [0.41, 1, 0.33], [0.02, 0.37, 0.999]]
    check({"heatmaps": ridge}, refine=posepost.DarkUDP(blur=1))
    for scale in (2e-3, 1e-9, 1e-12, 90):
        for preset in ("mmpose_dark", "mmpose_udp"):
            for view_name in ("nchw", "nhwc"):  # one warp a block, and eight
                maps = wide * np.float32(scale)
                check({"heatmaps": maps}, view_name, atol=3e-4, **blurred_by(preset, 5), scaling="msra")


def window() -> None:
    maps = edges(1)
    for preset in ("trt_pose", "openpose", "sleap"):
        check({"heatmaps": maps}, preset=preset)
    check({"heatmaps": maps}, refine=posepost.SoftArgmax(7, temperature=0.25), atol=SOFT_ATOL * 9)


def soft() -> None:
    maps = np.random.default_rng(2).standard_normal((2, 3, 17, 19)).astype(np.float32) * 2
    maps[0, 0, :8] = -np.inf
    for view_name in ("nchw", "nhwc"):
        check({"heatmaps": maps}, view_name, refine=posepost.SoftArgmax(temperature=0.5), atol=SOFT_ATOL * 19)
        check(
            {"heatmaps": maps[1:] - 5},
            view_name,
            refine=posepost.SoftArgmax(debias=True, temperature=2.0),
            atol=SOFT_ATOL * 40,
        )


def blurred() -> None:
    for maps in (gaussian_maps((1, 6, 20, 70), "float32", 1), gaussian_maps((2, 6, 9, 8), "float32", 2)):
        for preset in ("mmpose_megvii", "mmpose_udp_combined"):
            check({"heatmaps": maps}, **blurred_by(preset, 5))
        check({"heatmaps": maps - 2}, **blurred_by("mmpose_megvii", 35), threshold=-np.inf)
        check({"heatmaps": maps}, **blurred_by("mmpose_megvii", 7))
    tall = np.random.default_rng(8).random((1, 24, 44, 12), np.float32)
    check({"heatmaps": tall}, **blurred_by("mmpose_megvii", 35, blur_sigma=60))
    band = (
        np.random.default_rng(8).random((1, 2, 200, 60), np.float32) / 64
    )  # the largest cells at the end of a rectangle
    band[:, :, 48:55] += 1
    check({"heatmaps": band}, **blurred_by("mmpose_megvii", 7, blur_sigma=60))


def volume() -> None:
    maps = np.random.default_rng(4).standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    check({"heatmaps": maps}, "NCDHW")
    whole = to_device(maps)
    got = posepost.decode_heatmap(whole[:, :, :, 1:4], layout="NCDHW").numpy()
    np.testing.assert_array_equal(got.keypoints, posepost.decode_heatmap(maps[:, :, :, 1:4], layout="NCDHW").keypoints)


SUITES: dict[str, Callable[[], None]] = {
    suite.__name__: suite for suite in (quarter, flip, dark, window, soft, blurred, volume)
}


@pytest.mark.parametrize("suite", SUITES)
def test_the_kernels_as_they_are_pass(cpu_cuda: ExecutorCuda, suite: str) -> None:
    SUITES[suite]()


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "what", "old", "new"), FAULTS, ids=[what for _, what, _, _ in FAULTS])
def test_a_fault_is_found(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, suite: str, what: str, old: str, new: str
) -> None:
    check_fault_is_found(monkeypatch, "heatmap.cu", old, new, SUITES[suite])


SANITIZED = """
from tests.heatmap import test_faults as suites
suites.SUITES[sys.argv[3]]()
"""

RACES = {
    "quarter": ("address", "p.scores[row] = score;", "p.scores[row + 4096] = score;"),
    "flip": ("address", "p.scores[row] = score;", "p.scores[row + 4096] = score;"),
    "dark": ("thread", "#pragma unroll 1\n    for (u32 known", "#define __syncthreads() 0\n    for (u32 known"),
    "soft": ("thread", "hold the same map\n        __syncthreads();", "hold the same map"),
    "blurred": ("thread", "    __syncthreads();\n    for (u32 i = t; i < rows * (p.tile_w / 4)", "    for (u32 i = t; i < rows * (p.tile_w / 4)"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["address", "thread"])
@pytest.mark.parametrize("suite", ["quarter", "flip", "dark", "window", "soft", "blurred", "volume"])
def test_sanitizers_find_nothing(kind: str, suite: str) -> None:
    check_sanitizers(kind, SANITIZED, "heatmap.cu", None, suite, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize("suite", RACES)
def test_sanitizers_find_a_race_or_an_overrun(suite: str) -> None:
    kind, old, new = RACES[suite]
    check_sanitizers(kind, SANITIZED, "heatmap.cu", (old, new), suite, timeout=600)
