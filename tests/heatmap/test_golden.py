"""What real peers computed: MMPose's heatmap codecs and heads, kornia, through NumPy and through the kernels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, to_device
from bench.tolerance import SOFT_ATOL
from posepost._rules.heatmap import rule
from posepost.ref.heatmap import merged

from ..conftest import SHARED
from ..helpers import blurred, with_flip

pytestmark = pytest.mark.usefixtures("fresh_plans")

TOPDOWN = sorted(path.name for path in (SHARED / "topdown").glob("*maps_*.npz"))
FOLDERS = {
    name: sorted(path.name for path in (SHARED / "bottomup" / name).glob("*.npz"))
    for name in ("megvii_mmpose", "softargmax", "sleap_integral_from_formula", "flip_mmpose")
}
DARK_PX = 1e-4
"""Both peers and we compute in float32, in another order."""

STEADY = 1e-4
"""Stored sensitivity, in cells, up to which a keypoint counts: what 1e-6 of noise in the map moves it by."""

SOFT_CELLS = 1e-5


def both(arrays: dict[str, np.ndarray], **options: Any) -> list[posepost.Keypoints]:
    """By NumPy, and by the kernel."""
    device = {name: to_device(array) for name, array in arrays.items()}
    return [
        posepost.decode_heatmap(**with_flip(arrays, options)),
        posepost.decode_heatmap(**with_flip(device, options)).numpy(),
    ]


def load(shared: Path, *parts: str) -> dict[str, np.ndarray]:
    with np.load(shared.joinpath(*parts)) as stored:
        return {name: stored[name] for name in stored.files}


def test_the_golden_files_are_there(shared: Path) -> None:
    assert len(TOPDOWN) == 9
    assert {name: len(files) for name, files in FOLDERS.items()} == {
        "megvii_mmpose": 5,
        "softargmax": 5,
        "sleap_integral_from_formula": 5,
        "flip_mmpose": 24,
    }


@pytest.mark.parametrize("file", TOPDOWN)
def test_mmpose_argmax_and_quarter_shift(shared: Path, cpu_cuda: ExecutorCuda, file: str) -> None:
    """get_heatmap_maximum, refine_keypoints and MSRAHeatmap.decode: equal."""
    z = load(shared, "topdown", file)
    maps = {"heatmaps": z["heatmaps"]}
    for got in both(maps, absent=-1.0):
        np.testing.assert_array_equal(got.keypoints, z["argmax_xy"])
        np.testing.assert_array_equal(got.scores, z["argmax_val"])
    for got in both(maps, preset="mmpose_msra"):
        np.testing.assert_array_equal(got.keypoints, z["quarter_xy"])
    if "msra_decode_xy" in z:
        for got in both(maps, preset="mmpose_msra", input_size=input_size(z["heatmaps"])):
            np.testing.assert_array_equal(got.keypoints, z["msra_decode_xy"])


@pytest.mark.parametrize("file", TOPDOWN)
@pytest.mark.parametrize("blur", [11, 17])
def test_mmpose_dark(shared: Path, cpu_cuda: ExecutorCuda, blur: int, file: str) -> None:
    """refine_keypoints_dark and refine_keypoints_dark_udp, and the decode of their codecs."""
    z = load(shared, "topdown", file)
    maps = {"heatmaps": z["heatmaps"]}
    for name, preset, decoded in (
        ("dark", "mmpose_dark", "msra_unbiased_decode_xy"),
        ("dark_udp", "mmpose_udp", "udp_decode_xy"),
    ):
        steady = z[f"{name}_blur{blur}_sens"] < STEADY
        assert steady.mean() > 0.9
        for got in both(maps, **blurred(preset, blur), scaling="msra"):
            np.testing.assert_allclose(
                got.keypoints[steady], z[f"{name}_blur{blur}_xy"][steady], rtol=0, atol=DARK_PX, err_msg=name
            )
        if blur == 11 and decoded in z:
            for got in both(maps, preset=preset, input_size=input_size(z["heatmaps"])):
                np.testing.assert_allclose(got.keypoints[steady], z[decoded][steady], rtol=0, atol=DARK_PX)


def input_size(maps: np.ndarray) -> tuple[int, int]:
    return 4 * maps.shape[3], 4 * maps.shape[2]


def test_mmpose_udp_combined(shared: Path, cpu_cuda: ExecutorCuda) -> None:
    z = load(shared, "topdown", "udp_combined_17x64x48_seed2030.npz")
    for got in both({"heatmaps": z["encoded"]}, preset="mmpose_udp_combined", input_size=(192, 256)):
        np.testing.assert_allclose(got.keypoints, z["decoded_xy"], rtol=0, atol=DARK_PX)
        np.testing.assert_allclose(got.scores, z["scores"], rtol=2e-7)


@pytest.mark.parametrize("file", FOLDERS["megvii_mmpose"])
def test_mmpose_megvii(shared: Path, cpu_cuda: ExecutorCuda, file: str) -> None:
    """MegviiHeatmap.decode: equal, but where the peer's rounding of the blur decides between equal peaks
    (`unstable`)."""
    z = load(shared, "bottomup", "megvii_mmpose", file)
    steady = ~z["unstable"][None]
    assert steady.sum() > 10
    blur = int(file.split("_k")[1].split("_")[0])
    maps = z["heatmaps"][None]
    for got in both({"heatmaps": maps}, **blurred("mmpose_megvii", blur), input_size=input_size(maps)):
        np.testing.assert_array_equal(got.keypoints[steady], z["keypoints"][steady])
        np.testing.assert_allclose(got.scores[steady], z["scores"][steady], rtol=2e-7)


@pytest.mark.parametrize("file", FOLDERS["softargmax"])
def test_soft_argmax(shared: Path, cpu_cuda: ExecutorCuda, file: str) -> None:
    """float64 expectation, kornia's spatial_soft_argmax2d (cells and -1 ... 1) and MMPose's integral head, debiased
    too."""
    z = load(shared, "bottomup", "softargmax", file)
    maps = {"heatmaps": z["heatmaps"]}
    H, W = z["heatmaps"].shape[2:]
    for sharpness in (1, 25):
        on_host, kernel = both(maps, refine=posepost.SoftArgmax(temperature=1 / sharpness))
        exact = z[f"float64_T{sharpness}_xy"]
        np.testing.assert_allclose(on_host.keypoints, exact, rtol=0, atol=SOFT_CELLS)
        np.testing.assert_allclose(kernel.keypoints, exact, rtol=0, atol=SOFT_CELLS + SOFT_ATOL * max(W, H))
    for temperature in (1, 25):
        for got in both(maps, refine=posepost.SoftArgmax(temperature=temperature)):
            # kornia adds up the whole map in float32: its own distance to the float64 expectation is as large
            kornia = z[f"kornia_T{temperature}_norm0"]
            np.testing.assert_allclose(got.keypoints, kornia, rtol=0, atol=3e-6 * max(W, H))
            relative = got.keypoints * 2 / np.array([W - 1, H - 1]) - 1
            np.testing.assert_allclose(relative, z[f"kornia_T{temperature}_norm1"], rtol=0, atol=4e-6)
    for beta in (1, 4):
        for debias in (False, True):
            name = f"mmpose_beta{beta}_debias{int(debias)}"
            refine = posepost.SoftArgmax(temperature=1 / beta, debias=debias)
            for got in both(maps, preset="mmpose_integral", refine=refine, input_size=(1, 1)):
                np.testing.assert_allclose(got.keypoints, z[name], rtol=1e-5, atol=3e-6, err_msg=name)
    for got in both(maps, preset="mmpose_integral", input_size=input_size_of(shared, file)):
        np.testing.assert_allclose(got.keypoints, z["mmpose_decode_xy"], rtol=0, atol=3e-6 * 256)


def input_size_of(shared: Path, file: str) -> tuple[int, int]:
    files = json.loads((shared / "bottomup" / "manifest.json").read_text())["files"]
    (entry,) = (entry for entry in files if entry["file"].endswith("/" + file))
    return tuple(entry["params"]["input_size"])


@pytest.mark.parametrize("file", FOLDERS["softargmax"])
def test_temperatures_against_float64(shared: Path, file: str) -> None:
    """NumPy, at temperatures that no golden file has."""
    maps = load(shared, "bottomup", "softargmax", file)["heatmaps"]
    B, K, H, W = maps.shape
    for temperature in (0.003, 0.3, 10.0, 25.0):
        logits = maps.reshape(B, K, -1).astype(np.float64) / temperature
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        y, x = np.divmod(np.arange(H * W), W)
        got = posepost.decode_heatmap(maps, refine=posepost.SoftArgmax(temperature=temperature))
        exact = np.stack([weights @ x, weights @ y], axis=-1)
        np.testing.assert_allclose(got.keypoints, exact, rtol=0, atol=SOFT_CELLS)


@pytest.mark.parametrize("file", FOLDERS["sleap_integral_from_formula"])
def test_sleap_integral_of_the_global_peak(shared: Path, cpu_cuda: ExecutorCuda, file: str) -> None:
    z = load(shared, "bottomup", "sleap_integral_from_formula", file)
    maps = z["heatmaps"][None]
    files = json.loads((shared / "bottomup" / "manifest.json").read_text())["files"]
    (entry,) = (entry for entry in files if entry["file"].endswith("/" + file))
    stride = entry["params"]["output_stride"]
    size = (stride * maps.shape[3], stride * maps.shape[2])
    for got in both({"heatmaps": maps}, preset="sleap", input_size=size):
        known = np.isfinite(got.keypoints[0]).all(axis=1)
        assert known.sum() >= np.isfinite(z["global_xy"]).all(axis=1).sum() - 1  # one window sums to 0: inf
        np.testing.assert_allclose(got.keypoints[0][known], z["global_xy"][known], rtol=0, atol=1e-4)
        np.testing.assert_array_equal(got.scores[0], z["global_val"].astype(np.float32))
        below = z["global_val"] == 0
        assert np.isnan(got.keypoints[0][below]).all()


@pytest.mark.parametrize("file", [file for file in FOLDERS["flip_mmpose"] if file.startswith("heatmap_")])
@pytest.mark.parametrize("shift", [0, 1])
def test_mmpose_flip_test_of_heatmaps(shared: Path, cpu_cuda: ExecutorCuda, shift: int, file: str) -> None:
    """flip_heatmaps, the average of the heads and get_heatmap_maximum: equal, and the merge itself too."""
    z = load(shared, "bottomup", "flip_mmpose", file)
    arrays = {"heatmaps": z["heatmaps"], "flipped": z["heatmaps_of_flipped_image"]}
    flip = {"pairs": z["flip_indices"], "shift": bool(shift)}
    for got in both(arrays, absent=-1.0, **flip):
        np.testing.assert_array_equal(got.keypoints, z[f"argmax_shift{shift}"])
        np.testing.assert_array_equal(got.scores, z[f"max_shift{shift}"])
    pairs = tuple(z["flip_indices"].tolist())
    asked = rule(None, None, None, None, None, None, None, pairs, bool(shift), "NCHW", None)
    np.testing.assert_array_equal(merged(*arrays.values(), asked), z[f"merged_shift{shift}"])


@pytest.mark.parametrize("file", [file for file in FOLDERS["flip_mmpose"] if file.startswith("udp_combined_")])
@pytest.mark.parametrize("shift", [0, 1])
def test_mmpose_flip_test_of_udp_combined(shared: Path, cpu_cuda: ExecutorCuda, shift: int, file: str) -> None:
    """Decoding both maps gives the bits of decoding MMPose's merge: class averaged, x offset negated, y not."""
    z = load(shared, "bottomup", "flip_mmpose", file)
    arrays = {"heatmaps": z["maps"], "flipped": z["maps_of_flipped_image"]}
    flip = {"pairs": z["flip_indices"], "shift": bool(shift)}
    options = {**blurred("mmpose_udp_combined", 5), "threshold": -np.inf}
    expected = both({"heatmaps": z[f"merged_shift{shift}"]}, **options)
    for got, wanted in zip(both(arrays, **options, **flip), expected):
        np.testing.assert_array_equal(got.keypoints, wanted.keypoints)
        np.testing.assert_array_equal(got.scores, wanted.scores)


@pytest.mark.parametrize("file", [file for file in FOLDERS["flip_mmpose"] if file.startswith("offset_")])
@pytest.mark.parametrize("shift", [0, 1])
def test_mmpose_flip_test_of_offsets(shared: Path, cpu_cuda: ExecutorCuda, shift: int, file: str) -> None:
    """flip_heatmaps(mode offset): every cell's offsets, read by putting the maximum there."""
    z = load(shared, "bottomup", "flip_mmpose", file)
    fields, mirrored, of_mirrored = z["maps"], z["maps_of_flipped_image"], z[f"flipped_shift{shift}"].astype(np.float32)
    B, channels, H, W = fields.shape
    flip = {"pairs": z["flip_indices"], "shift": bool(shift)}
    average = (fields.astype(np.float32) + of_mirrored) * np.float32(0.5)
    nothing = np.zeros((B, channels // 2, H, W), np.float32)
    for y, x in ((0, 0), (0, W - 1), (H - 1, 1), (H // 2, W // 2)):
        maps = nothing.copy()
        maps[:, :, y, x] = 10
        arrays = {"heatmaps": maps, "offsets": fields, "flipped": nothing, "flipped_offsets": mirrored}
        for got in both(arrays, refine="offset", **flip):
            expected = np.array([x, y], np.float32) + average[:, :, y, x].reshape(B, -1, 2)
            np.testing.assert_array_equal(got.keypoints, expected)
