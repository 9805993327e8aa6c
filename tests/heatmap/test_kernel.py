"""decode_heatmap's kernels, on the CPU executor, against NumPy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, KINDS, VIEWS, values
from bench.cuda_cpu.seam import ExecutorCuda, host, to_device
from bench.tolerance import BLURRED_SIGMOID_RTOL, CENTROID_ATOL, DARK_RTOL, EXACT_HEADS, RESULT_RTOL, SOFT_ATOL
from posepost import _cuda
from posepost._rules.heatmap import PRESETS
from posepost._rules.refinement import gaussian_taps

from ..helpers import SCHEDULES, blurred, gaussian_maps, same_keypoints, uneven_size, with_flip

pytestmark = pytest.mark.usefixtures("fresh_plans")


QUANTIZATION = {"heatmaps": (0.0375, 11)}


def run_both(arrays: dict[str, Any], view_name: str = "nchw", **options: Any) -> tuple[Any, Any]:
    """NumPy and kernel on views of the same values: arrays by argument name, as (B, C, H, W)."""
    layout, view = VIEWS[view_name]
    if arrays["heatmaps"].dtype.kind in "iu":
        options["quantization"] = QUANTIZATION
    on_host = {name: view(array, np.array) for name, array in arrays.items()}
    on_device = {name: view(array, to_device) for name, array in arrays.items()}
    before = {name: host(array).tobytes() for name, array in on_device.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = posepost.decode_heatmap(**with_flip(on_host, options), layout=layout)
        got = posepost.decode_heatmap(**with_flip(on_device, options), layout=layout).numpy()
    assert {name: host(array).tobytes() for name, array in on_device.items()} == before
    return got, expected


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_argmax_heads_equal_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """Every kind of value, every head that uses + - * / alone: equal, whatever the schedule."""
    for case, kind in enumerate(KINDS):
        for shape in ((2, 3, 9, 11), (1, 2, 1, 1), (1, 1, 1, 40), (1, 2, 40, 3)):
            cpu_cuda.schedule = SCHEDULES[case % 4]
            for head in EXACT_HEADS:
                maps = values(kind, dtype, shape, case)
                got, expected = run_both({"heatmaps": maps}, view_name, preset=head, **uneven_size(head, shape))
                same_keypoints(got, expected)
    assert {launched.variant.entry for launched in cpu_cuda.launches} == {"decode_heatmap"}


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dark_equals_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """Logarithms differ in their last bit: within the table on peaks, at borders too and with windows beyond the
    map."""
    moved = 0.0
    for case, (shape, blur) in enumerate(
        (((2, 5, 24, 20), 11), ((1, 4, 9, 11), 17), ((2, 2, 33, 7), 3), ((1, 1, 2, 2), 5))
    ):
        cpu_cuda.schedule = SCHEDULES[case % 4]
        maps = gaussian_maps(shape, dtype, case)
        for preset in ("mmpose_dark", "mmpose_udp", "vitpose_hf", "vitpose_rtmlib"):
            if preset == "vitpose_rtmlib" and shape[2:] == (2, 2):
                continue  # the mirrored map blurs to a flat one, whose logarithms differ by their rounding alone
            got, expected = run_both({"heatmaps": maps}, view_name, **blurred(preset, blur))
            plain, _ = run_both({"heatmaps": maps}, view_name)
            step = np.abs(expected.keypoints - plain.keypoints)
            assert (np.abs(got.keypoints - expected.keypoints) <= DARK_RTOL * (1 + step)).all()
            np.testing.assert_array_equal(got.scores, expected.scores)
            moved = max(moved, float(step.max()))
    assert moved > 0.2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", ["mmpose_dark", "mmpose_udp", "vitpose_hf", "vitpose_rtmlib"])
def test_dark_of_any_values(cpu_cuda: ExecutorCuda, preset: str, kind: str) -> None:
    """NaN where NumPy has NaN, unmoved where it is, close where a step is small; no warning, no cell outside
    read."""
    for seed, shape in enumerate(((2, 4, 9, 11), (1, 2, 1, 1), (1, 2, 3, 40))):
        maps = values(kind, "float32", shape, seed)
        got, expected = run_both({"heatmaps": maps}, preset=preset)
        np.testing.assert_array_equal(np.isnan(got.keypoints), np.isnan(expected.keypoints))
        cells, _ = run_both({"heatmaps": maps}, absent=PRESETS[preset]["absent"])
        small = np.abs(expected.keypoints - cells.keypoints) < 1
        np.testing.assert_allclose(got.keypoints[small], expected.keypoints[small], rtol=0, atol=1e-3)
        np.testing.assert_array_equal(got.scores, expected.scores)


@pytest.mark.parametrize("preset", ["mmpose_dark", "mmpose_udp"])
def test_where_a_clip_acts_the_whole_map_is_blurred(cpu_cuda: ExecutorCuda, preset: str) -> None:
    """Weak maps (1e-3), negative surroundings, values above 50: the factor to the old maximum matters, and is right."""
    for case, maps in enumerate(
        (
            gaussian_maps((1, 3, 20, 24), "float32", 1) * np.float32(2e-3),
            gaussian_maps((1, 3, 20, 24), "float32", 2) * np.float32(1e-9),
            gaussian_maps((1, 3, 20, 24), "float32", 3) * np.float32(90),
            gaussian_maps((1, 3, 20, 24), "float32", 4) - np.float32(0.2),
            np.pad(np.ones((1, 1, 1, 1), np.float32), ((0, 0), (0, 0), (9, 9), (9, 9)), constant_values=-1e-3),
        )
    ):
        got, expected = run_both({"heatmaps": maps}, preset=preset)
        by_hand = np.stack([whole_map_rule(m, preset) for m in maps[0]])
        usual = np.abs(by_hand - np.round(by_hand)) < 50
        np.testing.assert_allclose(expected.keypoints[0][usual], by_hand[usual], rtol=0, atol=2e-4, err_msg=str(case))
        np.testing.assert_allclose(got.keypoints[0][usual], expected.keypoints[0][usual], rtol=0, atol=2e-4)


def test_dark_uses_a_blur_factor_of_zero(cpu_cuda: ExecutorCuda) -> None:
    """Maxima up to 0 that the threshold lets pass: max(map) / max(blurred map) is 0 or negative, and used."""
    maps = -np.abs(values("random", "float32", (1, 4, 12, 12), 1))
    maps[0, 0, 5, 6] = 0
    maps[0, 1] = 0
    maps[0, 2, 4:8, 4:8] = 0
    for preset in ("mmpose_dark", "mmpose_udp"):
        got, expected = run_both({"heatmaps": maps}, **blurred(preset, 3), threshold=-np.inf)
        np.testing.assert_array_equal(np.isnan(got.keypoints), np.isnan(expected.keypoints))
        np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=1e-3)
        np.testing.assert_array_equal(got.scores, expected.scores)


@pytest.mark.parametrize("preset", ["mmpose_dark", "mmpose_udp"])
def test_nan_came_out_of_a_map_of_zeros(cpu_cuda: ExecutorCuda, preset: str) -> None:
    """Its maximum over that of its blur is 0 / 0: it is not scaled."""
    for maps in (np.zeros((1, 2, 9, 11), np.float32), np.full((1, 1, 9, 11), 3, np.uint8)):
        options = {"quantization": {"heatmaps": (0.5, 3)}} if maps.dtype == np.uint8 else {}
        refine = PRESETS[preset]["refine"]
        for place in (np.array, to_device):
            got = posepost.decode_heatmap(place(maps), refine=refine, **options).numpy()
            np.testing.assert_array_equal(got.keypoints, np.zeros((1, maps.shape[1], 2)))


def test_a_step_led_further_than_the_map_is_long(cpu_cuda: ExecutorCuda) -> None:
    """Along a ridge, whose Hessian is all but singular: 50 cells in a map of 12. The peak stays in its cell; a step of
    2.5 cells is taken."""
    for height, steps in ((0.98, (-2.487489, -2.462363)), (0.999, (-49.987, -49.962))):
        sides = np.exp([-0.9, -1.1, -1, -1])  # left, right, above, below
        around = np.array([[height, sides[2], 0.02], [sides[0], 1, sides[1]], [0.02, sides[3], height]])
        L = np.log(around)
        dxx, dyy = L[1, 2] - 2 * L[1, 1] + L[1, 0], L[2, 1] - 2 * L[1, 1] + L[0, 1]
        dxy = (L[2, 2] + L[0, 0] - L[1, 2] - L[1, 0] - L[2, 1] - L[0, 1] + 2 * L[1, 1]) / 2
        exact = -np.linalg.solve([[dxx, dxy], [dxy, dyy]], [(L[1, 2] - L[1, 0]) / 2, (L[2, 1] - L[0, 1]) / 2])
        np.testing.assert_allclose(exact, steps, rtol=1e-4)
        maps = np.full((1, 1, 12, 12), 1e-3, np.float32)
        maps[0, 0, 4:7, 4:7] = around
        got, expected = run_both({"heatmaps": maps}, refine=posepost.DarkUDP(blur=1))
        right = 5 + exact if height == 0.98 else [5, 5]
        np.testing.assert_allclose(expected.keypoints[0, 0], right, rtol=0, atol=1e-4)
        np.testing.assert_allclose(got.keypoints[0, 0], right, rtol=0, atol=1e-4)


def test_a_singular_hessian_of_dark_udp_gave_nan_or_infinity(cpu_cuda: ExecutorCuda) -> None:
    """A column of saturated scores, whose logarithms are all but equal: NaN in NumPy, the cell in the kernel."""
    maps = np.array([4, 5, 4], np.uint8).reshape(1, 1, 3, 1)
    options = {"preset": "vitpose_hf", "activation": "sigmoid", "quantization": {"heatmaps": (3.7, 0)}}
    for place in (np.array, to_device):
        got = posepost.decode_heatmap(place(maps), **options).numpy()
        np.testing.assert_array_equal(got.keypoints[0, 0], [0, 1])


@pytest.mark.parametrize("flipped_axes", [False, True])
def test_a_map_of_one_column_moved_sideways(cpu_cuda: ExecutorCuda, flipped_axes: bool) -> None:
    """Its mixed derivative was rounding, over a diagonal of 1e-7: 0.024 cells in NumPy, 0 in the kernel."""
    column = np.array([0.05313, 0.132, 0.3413, 0.5986, 0.813, 0.8413, 0.644, 0.3655, 0.1649], np.float32)
    maps = column.reshape((1, 1, 1, 9) if flipped_axes else (1, 1, 9, 1))
    for refine in (posepost.DarkUDP(blur_sigma=0.3, border="reflect"), posepost.DarkUDP(blur=1)):
        got, expected = run_both({"heatmaps": maps}, refine=refine)
        along, across = (0, 1) if flipped_axes else (1, 0)
        assert got.keypoints[0, 0, across] == expected.keypoints[0, 0, across] == 0
        log = np.log(column[3:8].astype(np.float64))
        step = (log[3] - log[1]) / 2 / (2 * log[2] - log[1] - log[3])
        if refine.blur == 1:
            np.testing.assert_allclose(expected.keypoints[0, 0, along], 5 + step, rtol=0, atol=2e-5)
        np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=2e-5)


def test_points_of_flat_surroundings_were_infinite(cpu_cuda: ExecutorCuda) -> None:
    """Two columns that a wide blur makes equal but for rounding, which kernel and NumPy do not share (-inf and 0.2):
    whatever the rounding, the point is in the map's reach."""
    maps = np.array(
        [[[20, 24], [32, 38], [22, 24], [6, 6], [2, 1], [1, 1], [2, 0], [2, 1], [2, 1]],
         [[2, 0], [0, 1], [2, 2], [0, 0], [2, 0], [2, 4], [15, 21], [44, 65], [54, 76]]], np.int8
    )[None]  # fmt: skip
    refine = posepost.DarkUDP(blur=27, blur_sigma=2.0, border="reflect_101")
    cells = posepost.decode_heatmap(maps, quantization={"heatmaps": (0.001, -128)}).keypoints
    for place in (np.array, to_device):
        got = posepost.decode_heatmap(place(maps), refine=refine, quantization={"heatmaps": (0.001, -128)}).numpy()
        assert (np.abs(got.keypoints - cells) < [2, 9]).all()


def test_scores_of_a_blurred_sigmoid_are_sums(cpu_cuda: ExecutorCuda) -> None:
    """23 x 23 times one sigmoid, of which each rounds: 6.2e-7 apart where one alone may be 4e-7."""
    maps = np.full((1, 3, 1, 1), 0.42163086, np.float32)
    got, expected = run_both({"heatmaps": maps}, refine=posepost.UDPCombined(blur_sigma=100.0), activation="sigmoid")
    exact = 1 / (1 + np.exp(-np.float64(np.float32(0.42163086))))
    for one in (got, expected):
        np.testing.assert_allclose(one.scores, exact, rtol=BLURRED_SIGMOID_RTOL)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=BLURRED_SIGMOID_RTOL)


@pytest.mark.parametrize("border", ["zero", "reflect_101"])
@pytest.mark.parametrize("window", [3, 7, 31])
def test_centroids_of_a_sigmoid_equal_numpy(cpu_cuda: ExecutorCuda, window: int, border: str) -> None:
    for seed, (size, shift) in enumerate(((0.5, 0), (2, 3), (8, -6))):
        maps = np.float32(size) * values("random", "float32", (1, 8, 12, 14), seed) + np.float32(shift)
        refine = posepost.Centroid(window=window, border=border)
        got, expected = run_both({"heatmaps": maps}, refine=refine, activation="sigmoid")
        same_keypoints(got, expected, atol=CENTROID_ATOL * (window // 2), rtol=RESULT_RTOL)


def test_a_large_shift_rounds_the_result_once_more(cpu_cuda: ExecutorCuda) -> None:
    """10000.498 and 10000.499 are neighbors in float32, whatever the cells differ by."""
    maps = np.array([0.7578125, 0.69921875, 0.5703125], np.float32).reshape(1, 1, 3, 1)
    refine = posepost.SoftArgmax(window=3, temperature=10)
    got, expected = run_both({"heatmaps": maps}, refine=refine, center_shift=1e4)
    same_keypoints(got, expected, atol=SOFT_ATOL * 3, rtol=RESULT_RTOL)


def whole_map_rule(map_: np.ndarray, preset: str) -> np.ndarray:
    """DARK and DARK-UDP as their peers write them: blur all, scale all, clip all, take logarithms of all; in
    float64."""
    H, W = map_.shape
    taps = np.array(gaussian_taps(11))
    padded = np.pad(map_.astype(np.float64), 5)
    blurred = sum(t * padded[:, i : i + W] for i, t in enumerate(taps))
    blurred = sum(t * blurred[i : i + H] for i, t in enumerate(taps))
    blurred *= map_.max() / blurred.max()
    y, x = np.unravel_index(map_.argmax(), map_.shape)
    if map_.max() <= 0:
        return np.array([-1.0, -1.0])
    if preset == "mmpose_dark":
        if not (1 < x < W - 2 and 1 < y < H - 2):
            return np.array([x, y], np.float64)
        L = np.log(np.maximum(blurred, 1e-10))[y - 2 : y + 3, x - 2 : x + 3]
        dx, dy = (L[2, 3] - L[2, 1]) / 2, (L[3, 2] - L[1, 2]) / 2
        dxx, dyy = (L[2, 4] - 2 * L[2, 2] + L[2, 0]) / 4, (L[4, 2] - 2 * L[2, 2] + L[0, 2]) / 4
        dxy = (L[3, 3] - L[1, 3] - L[3, 1] + L[1, 1]) / 4
    else:
        L = np.pad(np.log(np.clip(blurred, 1e-3, 50)), 1, mode="edge")[y : y + 3, x : x + 3]
        dx, dy = (L[1, 2] - L[1, 0]) / 2, (L[2, 1] - L[0, 1]) / 2
        dxx, dyy = L[1, 2] - 2 * L[1, 1] + L[1, 0], L[2, 1] - 2 * L[1, 1] + L[0, 1]
        dxx, dyy = dxx + np.finfo(np.float32).eps, dyy + np.finfo(np.float32).eps
        dxy = (L[2, 2] - L[1, 2] - L[2, 1] + 2 * L[1, 1] - L[1, 0] - L[0, 1] + L[0, 0]) / 2
    hessian = np.array([[dxx, dxy], [dxy, dyy]])
    if np.linalg.det(hessian) == 0:
        return np.array([x, y], np.float64)
    return np.array([x, y]) - np.linalg.solve(hessian, [dx, dy])


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_soft_argmax_equals_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    for case, shape in enumerate(((2, 5, 24, 20), (1, 4, 9, 11), (3, 40, 2, 3), (1, 1, 1, 1), (1, 2, 1, 300))):
        cpu_cuda.schedule = SCHEDULES[case % 4]
        maps = values("random", dtype, shape, case)
        for refine in (
            posepost.SoftArgmax(),
            posepost.SoftArgmax(temperature=0.25, debias=True),
            posepost.SoftArgmax(window=5, temperature=0.5),
        ):
            got, expected = run_both({"heatmaps": maps}, view_name, refine=refine)
            # debias divides by a mass that on maps of few cells is close to 1
            same_keypoints(got, expected, atol=SOFT_ATOL * max(shape[2:]), rtol=2e-6 if refine.debias else 0)


@pytest.mark.parametrize("kind", ["nan", "infinite", "neginf", "constant", "zeros", "denormal"])
def test_soft_argmax_of_any_values(cpu_cuda: ExecutorCuda, kind: str) -> None:
    """NaN, +inf, or -inf alone give NaN; -inf among others weighs nothing."""
    maps = values(kind, "float32", (2, 3, 17, 19), 5)
    maps[0, 0] = -np.inf
    maps[0, 0, 3, 4], maps[0, 0, 5, 4] = 2, 2
    for window in (None, 3):
        got, expected = run_both({"heatmaps": maps}, refine=posepost.SoftArgmax(window=window))
        same_keypoints(got, expected, atol=SOFT_ATOL * 19)
        if window is None:
            np.testing.assert_allclose(got.keypoints[0, 0], [4, 4], atol=1e-5)
            assert np.isnan(got.keypoints[0, 1]).all() == (kind in ("nan", "infinite", "neginf"))


def test_soft_argmax_has_the_same_bits_everywhere(cpu_cuda: ExecutorCuda) -> None:
    """Whatever the place in the batch, where 16-byte loads fit and where not, and whatever the schedule."""
    one = values("random", "float32", (1, 2, 9, 11), 1)
    first = posepost.decode_heatmap(to_device(one), refine="soft_argmax").numpy()
    batch = np.concatenate([values("random", "float32", (3, 2, 9, 11), 2), one])
    for schedule in SCHEDULES:
        cpu_cuda.schedule = schedule
        for skip in range(4):
            got = posepost.decode_heatmap(to_device(batch, skip=skip), refine="soft_argmax").numpy()
            np.testing.assert_array_equal(got.keypoints[3], first.keypoints[0])


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_blurred_heads_equal_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """The maximum of the blurred map: equal, as blurring is + and * in one order; wider than a warp, higher than a
    band."""
    for case, (shape, blur) in enumerate(
        (((1, 6, 20, 70), 11), ((2, 3, 9, 11), 5), ((1, 3, 40, 3), 3), ((1, 3, 1, 1), 7))
    ):
        cpu_cuda.schedule = SCHEDULES[case % 4]
        maps = gaussian_maps(shape, dtype, case)
        for preset in ("mmpose_udp_combined", "mmpose_megvii"):
            got, expected = run_both(
                {"heatmaps": maps}, view_name, **blurred(preset, blur), **uneven_size(preset, shape)
            )
            same_keypoints(got, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_blurred_heads_of_any_values(cpu_cuda: ExecutorCuda, kind: str) -> None:
    for seed, shape in enumerate(((2, 3, 9, 11), (1, 3, 1, 5))):
        maps = values(kind, "float32", shape, seed)
        for preset in ("mmpose_udp_combined", "mmpose_megvii"):
            same_keypoints(*run_both({"heatmaps": maps}, **blurred(preset, 3)))


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [False, True])
def test_flip_test_is_merged_in_the_same_launch(
    cpu_cuda: ExecutorCuda, shift: bool, dtype: str, view_name: str
) -> None:
    shape, pairs = (2, 6, 12, 9), [0, 2, 1, 4, 3, 5]
    for case, preset in enumerate(
        ("mmpose_msra", "mmpose_dark", "mmpose_integral", "mmpose_megvii", "mmpose_udp_combined")
    ):
        cpu_cuda.schedule = SCHEDULES[case % 4]
        arrays = {"heatmaps": gaussian_maps(shape, dtype, case), "flipped": gaussian_maps(shape, dtype, 50 + case)}
        flip = {"pairs": pairs if preset != "mmpose_udp_combined" else [1, 0], "shift": shift}
        got, expected = run_both(arrays, view_name, **blurred(preset, 5), **flip)
        same_keypoints(
            got, expected, atol={"mmpose_dark": 3 * DARK_RTOL, "mmpose_integral": SOFT_ATOL * 12}.get(preset, 0)
        )
        assert len(cpu_cuda.launches) == case + 1
        alone, _ = run_both({"heatmaps": arrays["heatmaps"]}, view_name, **blurred(preset, 5))
        assert (alone.keypoints != got.keypoints).any()
        cpu_cuda.launches.pop()


@pytest.mark.parametrize("offset_dtype", DTYPES)
def test_offsets_as_deeplabcut_has_them(cpu_cuda: ExecutorCuda, offset_dtype: str) -> None:
    """Place = cell * stride + stride / 2 + 7.2801 * (x, y) there; with a flip test x changes its sign."""
    logits = values("random", "float32", (2, 3, 8, 6), 1)
    fields = values("random", offset_dtype, (2, 6, 8, 6), 2)
    quantization = {"offsets": (0.01, 3)} if "int" in offset_dtype else None
    options = {"preset": "deeplabcut", "refine": posepost.Offset(scale=7.2801), "input_size": (48, 64)}
    expected = posepost.decode_heatmap(logits, fields, quantization=quantization, **options)
    got = posepost.decode_heatmap(to_device(logits), to_device(fields), quantization=quantization, **options).numpy()
    same_keypoints(got, expected)
    wide = fields.astype(np.float64)
    if quantization:
        wide = (wide - 3) * 0.01
    for b in range(2):
        for k in range(3):
            y, x = np.unravel_index(logits[b, k].argmax(), (8, 6))
            place = np.array([x, y]) * 8 + 4 + 7.2801 * wide[b, 2 * k : 2 * k + 2, y, x]
            np.testing.assert_allclose(got.keypoints[b, k], place, rtol=1e-6, atol=1e-5)
            np.testing.assert_allclose(got.scores[b, k], 1 / (1 + np.exp(-np.float64(logits[b, k, y, x]))), rtol=1e-6)

    mirrored, mirrored_fields = (
        values("random", "float32", (2, 3, 8, 6), 3),
        values("random", offset_dtype, (2, 6, 8, 6), 4),
    )
    options["quantization"] = quantization
    flip = posepost.Flip(mirrored, (1, 0, 2), mirrored_fields, shift=True)
    expected = posepost.decode_heatmap(logits, fields, flip=flip, **options)
    flip = posepost.Flip(to_device(mirrored), (1, 0, 2), to_device(mirrored_fields), shift=True)
    got = posepost.decode_heatmap(*map(to_device, (logits, fields)), flip=flip, **options).numpy()
    same_keypoints(got, expected)


def test_volumes(cpu_cuda: ExecutorCuda) -> None:
    """(B, K, D, H, W): x, y and z of the first largest element; slices of larger volumes too."""
    whole = values("ties", "float16", (3, 4, 5, 6, 7), 1)
    for maps in (whole, whole[1], whole[:, 1:3, 1:4], whole[:, :, :, 1:5, 2:6], whole[:, :, ::2]):
        device = to_device(whole)
        offset = maps.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        import cupy

        view = cupy.ndarray(maps.shape, maps.dtype, device.data + offset, strides=maps.strides)
        shape = maps.shape[-3:]
        options = {"layout": "NCDHW", "input_size": (10 * shape[2], 10 * shape[1], 2 * shape[0])}
        expected = posepost.decode_heatmap(maps, **options)
        got = posepost.decode_heatmap(view, **options).numpy()
        same_keypoints(got, expected)
        flat = maps.reshape(-1, maps.shape[-4], np.prod(shape)).astype(np.float32)
        z, y, x = np.unravel_index(flat.argmax(axis=2), shape)
        np.testing.assert_array_equal(got.keypoints, np.stack([10 * x, 10 * y, 2 * z], axis=-1))
        np.testing.assert_array_equal(got.scores, flat.max(axis=2))


def test_many_keypoints_and_none(cpu_cuda: ExecutorCuda) -> None:
    for layout, view_name in (("NCHW", "nchw"), ("NHWC", "nhwc")):
        for K in (1, 133, 300):
            got, expected = run_both({"heatmaps": gaussian_maps((1, K, 6, 7), "float32", K)}, view_name, preset="hrnet")
            same_keypoints(got, expected)
        shape = (0, 3, 4, 5) if layout == "NCHW" else (0, 4, 5, 3)
        empty = posepost.decode_heatmap(to_device(np.zeros(shape, np.float32)), layout=layout).numpy()
        assert (empty.keypoints.shape, empty.scores.shape) == ((0, 3, 2), (0, 3))


def test_maps_that_several_blocks_share(cpu_cuda: ExecutorCuda) -> None:
    maps = gaussian_maps((1, 2, 90, 120), "float16", 1)
    for view_name in ("nchw", "nhwc", "nchw_every_other_column"):
        for schedule in SCHEDULES:
            cpu_cuda.schedule = schedule
            got, expected = run_both({"heatmaps": maps}, view_name, preset="sleap")
            same_keypoints(got, expected)
        assert cpu_cuda.launches[-1].grid[1] > 1


def test_transform_out_stream_and_one_launch(cpu_cuda: ExecutorCuda) -> None:
    maps = to_device(gaussian_maps((2, 3, 9, 11), "float32", 1))
    matrices = np.array([[[2, 0.5, 3], [0, 1.5, -4]], [[1, 0, 0], [0, 1, 0]]], np.float32)
    options = {"preset": "mmpose_msra", "input_size": (44, 36), "stream": 55}
    plain = posepost.decode_heatmap(maps, **options).numpy()
    for transform in (matrices, to_device(matrices), matrices[0]):
        first = posepost.decode_heatmap(maps, transform=transform, **options)
        on_host = matrices if getattr(transform, "ndim", 2) == 3 else np.broadcast_to(matrices[0], (2, 2, 3))
        x, y = plain.keypoints[..., 0], plain.keypoints[..., 1]
        m = on_host[:, :, None]
        by_hand = np.stack([m[:, i, :, 0] * x + m[:, i, :, 1] * y + m[:, i, :, 2] for i in range(2)], axis=-1)
        np.testing.assert_array_equal(first.numpy().keypoints, by_hand)
    assert [launched.stream for launched in cpu_cuda.launches] == [55] * 4

    for array in first:
        host(array)[...] = 77
    before = cpu_cuda.allocations
    again = posepost.decode_heatmap(maps, transform=matrices[0], out=first, **options)
    assert cpu_cuda.allocations == before
    np.testing.assert_array_equal(again.numpy().keypoints, by_hand)
    pinned = posepost.pinned(2, 3)
    kept = posepost.decode_heatmap(maps, out=pinned, **options)
    assert kept.numpy().keypoints.ctypes.data == pinned.keypoints.ctypes.data
    np.testing.assert_array_equal(kept.numpy().keypoints, plain.keypoints)
    assert posepost.decode_heatmap(maps, **options).numpy().keypoints.tobytes() == plain.keypoints.tobytes()


def test_every_map_element_is_read_once(cpu_cuda: ExecutorCuda) -> None:
    """ARGMAX and SOFT: each byte of the map by one load, but for the cells around the winner."""
    for dtype in ("float32", "float16", "uint8"):
        for view_name in ("nchw", "nhwc", "nchw_every_other_column"):
            layout, view = VIEWS[view_name]
            maps = view(values("random", dtype, (1, 4, 33, 35), 1), to_device)
            options = {"quantization": QUANTIZATION} if dtype == "uint8" else {}
            for refine in ("none", "soft_argmax"):
                posepost.decode_heatmap(maps, refine=refine, layout=layout, **options)
                kernel = cpu_cuda.kernels[cpu_cuda.launches[-1].variant]
                span = sum((size - 1) * stride for size, stride in zip(maps.shape, maps.strides)) + maps.itemsize
                counts = kernel.watch(maps.data.ptr, span, count=True)
                for workspace in _cuda._workspaces.values():
                    kernel.watch(workspace.data.ptr, workspace.nbytes)
                posepost.decode_heatmap(maps, refine=refine, layout=layout, **options)
                kernel.reset()
                assert counts is not None
                assert counts.max() == 1
                assert counts.sum() == maps.nbytes


@pytest.mark.parametrize("view_name", ["nchw", "nhwc"])
def test_blocks_share_maps_with_their_mirrored_partners(cpu_cuda: ExecutorCuda, view_name: str) -> None:
    arrays = {
        name: values("ties", "float32", (1, 4, 70, 60), seed) for seed, name in enumerate(("heatmaps", "flipped"))
    }
    for schedule in SCHEDULES:
        cpu_cuda.schedule = schedule
        same_keypoints(*run_both(arrays, view_name, refine="quarter", pairs=[1, 0, 3, 2], shift=True))
        assert cpu_cuda.launches[-1].grid[1] > 1
