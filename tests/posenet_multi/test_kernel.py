"""decode_posenet_multi's kernels, on the CPU executor, against NumPy."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, dtype_of
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host, to_device
from bench.tolerance import SIGMOID_RTOL
from posepost import _cuda, _kernels, _skeleton, posenet_multi
from posepost.ref.values import sigmoid

from ..helpers import (
    CHANNELS,
    MATRIX,
    MODES,
    SCHEDULES,
    TFJS_CASES,
    check_poses,
    crowd,
    draw,
    figure,
    random_tree,
    scales,
)

pytestmark = pytest.mark.usefixtures("fresh_plans")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("view_name", ["nchw", "nhwc", "nchw_crop", "nhwc_channels_of_more", "nchw_every_other_column"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_equal_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str, mode: str) -> None:
    found = 0
    for seed, (B, H, W) in enumerate(((2, 7, 9), (1, 1, 1), (1, 5, 1), (3, 4, 12))):
        cpu_cuda.schedule = SCHEDULES[seed]
        tensors = crowd(dtype, B, H, W, seed)
        for threshold in (0.3, 0.6):
            options = {"mode": mode, "score_threshold": threshold, "max_poses": 6, "nms_radius": 6.0}
            got = check_poses(tensors, view_name, quantization=scales(dtype), **options)
            found += int(got.count.sum())
    assert found > 10
    assert len(cpu_cuda.launches) == 3 * 8
    assert [launched.variant.entry for launched in cpu_cuda.launches[:3]] == list(_kernels.MULTI_ENTRIES)
    assert not host(_cuda._workspaces[0, STREAM, 0]).any(), "the workspace must be left zero"


@pytest.mark.parametrize("mode", ["tfjs", "pytorch", "coral"])
@pytest.mark.parametrize("K", [1, 2, 5, 17, 31, 32])
def test_any_tree(cpu_cuda: ExecutorCuda, K: int, mode: str) -> None:
    found = 0
    for seed in range(3):
        cpu_cuda.schedule = SCHEDULES[seed]
        tensors = crowd("float32", 2, 6, 7, seed, K)
        options = {"skeleton": random_tree(K, seed), "mode": mode, "score_threshold": 0.5, "max_poses": 6}
        for view_name in ("nchw", "nhwc"):
            got = check_poses(tensors, view_name, nms_radius=6.0, **options)
            assert got.keypoints.shape == (2, 6, K, 2)
            found += int(got.count.sum())
    assert found > 10


def test_a_warp_has_a_lane_for_each_keypoint() -> None:
    params = _kernels.parameters("posenet_multi.cu")
    assert f"#define MOST_KEYPOINTS {_skeleton.MOST_KEYPOINTS} " in _kernels.source("posenet_multi.cu")
    for name in ("parent", "edge", "depth"):
        assert params[name].shape == (_skeleton.MOST_KEYPOINTS,)


@pytest.mark.parametrize("case", TFJS_CASES)
def test_golden_tensors_through_the_kernels(shared: Path, cpu_cuda: ExecutorCuda, case: str) -> None:
    """The tensors on which NumPy equals tfjs and libcoral, in both layouts: equal to NumPy."""
    with np.load(shared / "tensors" / f"{case}.npz") as stored:
        stride = int(stored["output_stride"])
        names = ("offsets", "displacement_fwd", "displacement_bwd")
        for mode, maps, activation in (("tfjs", "scores", None), ("coral", "heatmaps", "sigmoid")):
            channels_first = [stored[name].transpose(2, 0, 1)[None] for name in (maps, *names)]
            tensors = dict(zip(CHANNELS, channels_first))
            for view_name in ("nchw", "nhwc"):
                options = {"mode": mode, "activation": activation, "output_stride": stride, "score_threshold": 0.3}
                check_poses(tensors, view_name, nms_radius=10.0, **options)


def test_roots_beyond_those_whose_walks_are_kept(cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same poses whether a walk was kept or is made when its root's turn comes."""
    tensors = crowd("float32", 2, 9, 9, 5)
    for walked in (1, 8, 100):
        monkeypatch.setattr(posenet_multi, "WALKED", walked)
        posenet_multi._plan.cache_clear()
        for mode in MODES:
            check_poses(tensors, mode=mode, score_threshold=0.4, nms_radius=3.0)


@pytest.mark.parametrize("mode", MODES)
def test_maps_that_are_hard(cpu_cuda: ExecutorCuda, mode: str) -> None:
    """Constant maps (every cell a root), nobody, all NaN, NaN and infinity here and there."""
    options = {"mode": mode, "activation": None, "score_threshold": 0.5}
    plain = crowd("float32", 1, 9, 11, 1)
    for fill, count in ((0.75, None), (0.25, 0), (np.nan, 0), (-np.inf, 0)):
        got = check_poses({**plain, "heatmaps": np.full_like(plain["heatmaps"], fill)}, **options)
        assert count is None or got.count[0] == count
    rng = np.random.default_rng(0)
    for name in CHANNELS:
        for bad in (np.nan, np.inf, -np.inf):
            spoilt = {key: array.copy() for key, array in plain.items()}
            spoilt[name][rng.random(spoilt[name].shape) < 0.1] = bad
            check_poses(spoilt, **options)


@pytest.mark.parametrize("mode", ["pytorch", "coral", "edgetpu"])
def test_thousands_of_roots_whose_poses_are_all_rejected(cpu_cuda: ExecutorCuda, mode: str) -> None:
    """Eight of 17 maps are constant, so that every cell of theirs is a root, and no mean reaches the threshold: they
    are struck out in parallel, and accept_poses, which looks at all of the list for each root, has nothing to do."""
    tensors = crowd("float32", 1, 16, 24, 2)
    tensors["heatmaps"][:] = 0
    tensors["heatmaps"][:, ::2][:, :8] = 1
    in_the_list, launch = [], cpu_cuda.launch

    def launch_and_count(*arguments: Any) -> None:
        launch(*arguments)
        found = host(_cuda._workspaces[0, STREAM, 0]).view(np.uint32)[0]
        in_the_list.append(int((host(_cuda._scratch[0, STREAM, 0]).view(np.uint64)[:found] != 0).sum()))

    cpu_cuda.launch = launch_and_count
    assert check_poses(tensors, mode=mode, activation=None).count[0] == 0
    assert in_the_list[:2] == [8 * 16 * 24, 0]


@pytest.mark.parametrize("bad", [-3e4, np.nan])
def test_a_root_is_not_struck_out_for_a_score_that_may_not_count(cpu_cuda: ExecutorCuda, bad: float) -> None:
    """Mode "pytorch": a pose with a keypoint below 0, or NaN, is one once an earlier pose has that keypoint."""
    tensors = {name: np.zeros((1, channels, 9, 30), np.float32) for name, channels in CHANNELS.items()}
    wrist, to_wrist = 9, 16 + 6  # the left one, behind which there is nothing; x of the edge to it
    heatmaps, forward = tensors["heatmaps"], tensors["displacement_fwd"]
    heatmaps[0, :, 4, 4], heatmaps[0, :, 4, 20] = 0.9, 0.8
    heatmaps[0, wrist, 4, [4, 20, 22, 24]] = 0, 0, bad, 0.4
    tensors["offsets"][0, 17 + wrist, 4, 24] = -16
    forward[0, to_wrist, 4, 20] = 16  # the second pose's wrist lies in cell 22, the first one's in cell 4
    options = {"mode": "pytorch", "activation": None, "nms_radius": 4.0}
    assert check_poses(tensors, **options).count[0] == 1
    forward[0, to_wrist, 4, 4] = 160  # and now in cell 24, whose offset leads to the same place
    assert check_poses(tensors, **options).count[0] == 2


def test_equal_scores_go_by_y_then_x_then_k(cpu_cuda: ExecutorCuda) -> None:
    tensors = {name: np.zeros((1, channels, 6, 40), np.float32) for name, channels in CHANNELS.items()}
    for y, x, k in ((4, 3, 2), (1, 30, 5), (1, 30, 1), (1, 10, 16)):
        tensors["heatmaps"][0, k, y, x] = 0.75
    got = check_poses(tensors, activation=None, nms_radius=2.0)
    roots = [np.argmax(row) for row in got.keypoint_scores[0, : got.count[0]]]
    assert roots == [16, 1, 2]  # (1, 30, 5) lies where the pose of (1, 30, 1) has its keypoint 5: suppressed


def test_max_poses_and_padding(cpu_cuda: ExecutorCuda) -> None:
    tensors = crowd("float32", 2, 12, 12, 3)
    for max_poses in (1, 3, 300):
        got = check_poses(tensors, max_poses=max_poses, nms_radius=0.0, score_threshold=0.7)
        assert got.keypoints.shape == (2, max_poses, 17, 2)
        assert (got.count <= max_poses).all()
        for b, count in enumerate(got.count):
            assert not got.keypoints[b, count:].any()
            assert not got.scores[b, count:].any()


@pytest.mark.parametrize("mode", ["tfjs", "coral"])
def test_transform(cpu_cuda: ExecutorCuda, mode: str) -> None:
    tensors = crowd("float32", 3, 5, 6, 4)
    rows = np.stack([MATRIX, 2 * MATRIX, -MATRIX])
    for matrix in (MATRIX, rows):
        check_poses(tensors, mode=mode, transform=matrix)
    got = posepost.decode_posenet_multi(
        *map(to_device, tensors.values()), output_stride=8, mode=mode, transform=to_device(rows), activation="sigmoid"
    ).numpy()
    expected = posepost.decode_posenet_multi(
        *tensors.values(), output_stride=8, mode=mode, transform=rows, activation="sigmoid"
    )
    np.testing.assert_array_equal(got.keypoints, expected.keypoints)


@pytest.mark.parametrize("mode", MODES)
def test_two_hundred_people(cpu_cuda: ExecutorCuda, mode: str) -> None:
    people = [figure(x, y, 2) for y in range(16, 660, 66) for x in range(16, 660, 33)]
    assert len(people) == 200
    maps = draw(people, 84, 84, 8)
    maps[0] = 1 / (1 + np.exp(-maps[0]))  # equal poses have equal scores, whichever exponential
    tensors = {name: array.transpose(2, 0, 1)[None] for name, array in zip(CHANNELS, maps)}
    got = check_poses(tensors, mode=mode, max_poses=200, nms_radius=5.0, activation=None)
    assert got.count[0] == 200
    found = got.keypoints[0][np.lexsort((got.keypoints[0, :, 0, 0].round(), got.keypoints[0, :, 0, 1].round()))]
    np.testing.assert_allclose(found, people, rtol=0, atol=1e-3)


def test_a_radius_whose_square_is_beyond_float32_leaves_one_pose(cpu_cuda: ExecutorCuda) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for radius in (1e30, 3e38):  # whose squares float32 has not
            got = check_poses(crowd("float32", 1, 6, 7, 1), nms_radius=radius)
            assert got.count[0] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_keys_order_as_the_values_do(dtype: str) -> None:
    """least_key: values of the type that are not below `least`, and no others, have at least that key."""
    if "int" in dtype:
        info = np.iinfo(dtype)
        for least in (info.min, -1, 0, 5, info.max):
            if least >= info.min:
                assert _kernels.least_key(least, dtype) == least - info.min + 1
        return
    if dtype == "float32":
        bits = np.concatenate([np.arange(0, 2**32, 65537, dtype=np.uint32), np.arange(40, dtype=np.uint32)])
        every, width = bits.view(np.float32), 31
    else:
        bits = np.arange(65536, dtype=np.uint16)
        every, width = bits.view(dtype_of(dtype)).astype(np.float32), 15
    whole = bits.astype(np.int64)
    magnitude = whole & (1 << width) - 1
    keys = np.where(whole >> width, (1 << width) - magnitude, (1 << width) + magnitude)  # as argmax.cuh, NaN aside
    ordinary = ~np.isnan(every)
    for least in (-3e38, -1.0, -0.0, 0.0, 1e-45, 6e-8, 0.30000001, 0.5, 1.0009, 65519.0, 3e38):
        wanted = every[ordinary] >= np.float32(least)
        np.testing.assert_array_equal(keys[ordinary] >= _kernels.least_key(least, dtype), wanted)


@pytest.mark.parametrize("mode", ["pytorch", "coral"])
def test_poses_of_equal_means_were_told_apart_by_an_exponential(cpu_cuda: ExecutorCuda, mode: str) -> None:
    """Logits of 1e-7, whose sigmoids are 0.5 and its neighbors: means that an ulp of `exp` lifts over 0.5 or over each
    other. Kernel and NumPy each keep their rule; on scores they give the same poses."""
    tensors = crowd("float32", 1, 9, 11, 3)
    logits = np.random.default_rng(4).uniform(-4e-7, 4e-7, tensors["heatmaps"].shape).astype(np.float32)
    options: dict[str, Any] = {"mode": mode, "output_stride": 8, "max_poses": 40, "score_threshold": 0.1}
    for place in (np.array, to_device):
        arrays = [place(array) for array in {**tensors, "heatmaps": logits}.values()]
        poses = posepost.decode_posenet_multi(*arrays, **options, activation="sigmoid").numpy()
        found = poses.scores[0, : poses.count[0]]
        assert poses.count[0] > 2
        np.testing.assert_allclose(poses.keypoint_scores[0, : poses.count[0]], 0.5, rtol=2 * SIGMOID_RTOL)
        if mode == "pytorch":
            assert (found >= 0.5).all()
        else:
            assert (np.diff(found) <= 0).all()
    check_poses({**tensors, "heatmaps": sigmoid(logits)}, **{**options, "activation": None})
