"""decode_posenet_multi in NumPy against its rules as loops, and hard inputs."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bench.arrays import VIEWS, dtype_of
from posepost import Poses, decode_posenet_multi
from posepost._rules.posenet_multi import MODES
from posepost._skeleton import POSENET as EDGES
from posepost._skeleton import tree

from ..helpers import draw, figure, random_maps, random_tree
from .common import NAMES, SCORE, Loops, own_order, same

pytestmark = pytest.mark.usefixtures("warnings_are_errors")


@pytest.mark.parametrize("kind", ["distinct", "ties", "negative too"])
@pytest.mark.parametrize("mode", MODES)
def test_the_rules_as_loops_give_the_same_bits(mode: str, kind: str) -> None:
    """Without an exponential every position and score is the documented float32 arithmetic, operation by operation."""
    poses = 0
    for seed in range(6):
        maps = random_maps(seed, kind=kind)
        stride, radius, most, threshold = (8, 16, 12.5)[seed % 3], (20, 9, 0)[seed % 3], (20, 7)[seed % 2], 0.45
        got = decode_posenet_multi(
            *maps,
            output_stride=stride,
            max_poses=most,
            score_threshold=threshold,
            nms_radius=radius,
            mode=mode,
            activation=None,
        )
        steps = {"tfjs": 2, "pytorch": 1}.get(mode, 5)
        loops = Loops(maps, stride, mode, steps, radius, sigmoid=False, number=np.float32)
        points, scores, _ = loops.decode(threshold, most, own_order)
        same(got, points, scores, 0, 0)
        poses += len(points)
    assert poses >= 12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("K", [1, 2, 5, 17, 24, 32])
@pytest.mark.parametrize("mode", ["tfjs", "pytorch", "coral"])
def test_any_tree_as_loops(mode: str, K: int, seed: int) -> None:
    edges, poses = random_tree(K, seed), 0
    for kind in ("distinct", "negative too"):
        maps = random_maps(10 * K + seed, 6, 7, kind=kind, K=K)
        maps[0] += np.float32(0.4)
        options = {"output_stride": 8, "score_threshold": 0.55, "nms_radius": 9, "mode": mode, "activation": None}
        got = decode_posenet_multi(*maps, skeleton=edges, **options)
        steps = {"tfjs": 2, "pytorch": 1}.get(mode, 5)
        loops = Loops(maps, 8, mode, steps, 9, sigmoid=False, number=np.float32, edges=edges)
        points, scores, _ = loops.decode(0.55, 20, own_order)
        same(got, points, scores, 0, 0)
        poses += len(points)
    assert poses >= 2


def test_poses_do_not_depend_on_the_order_of_edges_and_the_default_is_posenets() -> None:
    scores, offsets, fwd, bwd = random_maps(3)
    order = np.random.default_rng(0).permutation(16)
    both = np.concatenate([order, 16 + order])
    options = {"output_stride": 8, "activation": None}
    expected = decode_posenet_multi(scores, offsets, fwd, bwd, **options)
    shuffled = [EDGES[edge] for edge in order]
    for maps, skeleton in (((fwd, bwd), np.array(EDGES)), ((fwd[..., both], bwd[..., both]), shuffled)):
        got = decode_posenet_multi(scores, offsets, *maps, skeleton=skeleton, **options)
        for a, b in zip(got, expected):
            np.testing.assert_array_equal(a, b)


def test_tables_of_a_tree() -> None:
    found = tree(((3, 1), (1, 0), (3, 2)))
    assert found == ((1, 3, 3, 3), (1, 0, 2, 0), (2, 1, 1, 0), 3)
    assert tree(()) == ((0,), (0,), (0,), 0)
    assert tree(EDGES).longest == 8  # from an ankle to the other


def test_the_edge_rule_of_edgetpu_matters() -> None:
    maps = random_maps(0)
    options = {"output_stride": 8, "activation": None, "score_threshold": 0.3, "nms_radius": 4}
    coral, edgetpu = (decode_posenet_multi(*maps, mode=mode, **options) for mode in ("coral", "edgetpu"))
    assert coral.count[0] > 0
    assert (coral.keypoints != edgetpu.keypoints).any()


@pytest.mark.parametrize("mode", MODES)
def test_two_drawn_figures(mode: str) -> None:
    people = [figure(60, 40, 5), figure(180, 50, 6)]
    got = decode_posenet_multi(*draw(people, 15, 17, 16), output_stride=16, mode=mode, activation="sigmoid")
    assert got.count.tolist() == [2]
    found = sorted(got.keypoints[0, :2], key=lambda points: points[0, 0])
    for points, truth in zip(found, people):
        np.testing.assert_allclose(points, truth, rtol=0, atol=1e-3)
    assert got.scores[0, :2].min() > 0.7
    assert not any(array[0, 2:].any() for array in [*got][:3])


@pytest.mark.parametrize("mode", MODES)
def test_keypoints_on_cells_beside_minus_infinity(mode: str) -> None:
    """Between cells -inf counts only with a weight above 0."""
    truth = figure(96, 48, 16)
    maps = draw([truth], 30, 14, 16)
    maps[0][maps[0] < 4] = -np.inf
    got = decode_posenet_multi(*maps, output_stride=16, mode=mode, activation="sigmoid")
    assert got.count.tolist() == [1]
    np.testing.assert_array_equal(got.keypoints[0, 0], truth)
    np.testing.assert_allclose(got.keypoint_scores[0, 0], 1 / (1 + np.exp(-4)), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_nobody_and_nan(mode: str) -> None:
    maps = draw([figure(60, 40, 5)], 15, 17, 16)
    for value in (-8, -np.inf, np.nan):
        empty = decode_posenet_multi(
            np.full_like(maps[0], value), *maps[1:], output_stride=16, mode=mode, activation="sigmoid"
        )
        assert empty.count.tolist() == [0]
        assert not any(array.any() for array in empty)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.001, 3.0])
def test_a_constant_map_ends_soon(mode: str, value: float) -> None:
    """Every cell is a candidate: 23 * 31 * 17. Near 0 the scores of poses just reach the threshold."""
    maps = random_maps(3, 23, 31)
    start = time.perf_counter()
    got = decode_posenet_multi(
        np.full_like(maps[0], value), *maps[1:], output_stride=16, mode=mode, activation="sigmoid"
    )
    assert time.perf_counter() - start < 5
    assert 1 <= got.count[0] <= 20
    loops = Loops([np.full_like(maps[0], value), *maps[1:]], 16, "tfjs", 2, 20, sigmoid=True, number=np.float32)
    if mode == "tfjs":
        same(got, *loops.decode(0.5, 20, own_order)[:2], 0, SCORE)


def test_max_poses_keeps_the_first() -> None:
    maps = random_maps(1)
    all_of_them = decode_posenet_multi(*maps, output_stride=8, activation=None, max_poses=1000, nms_radius=2)
    assert 20 < all_of_them.count[0] < 1000
    few = decode_posenet_multi(*maps, output_stride=8, activation=None, max_poses=11, nms_radius=2)
    assert few.count.tolist() == [11]
    for a, b in zip([*few][:3], [*all_of_them][:3]):
        np.testing.assert_array_equal(a, b[:, :11])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38, -3e38])
def test_displacements_and_offsets_without_bounds(mode: str, value: float) -> None:
    """Scores stay scores; Coral's positions stay on the map; a NaN position is cell 0."""
    rng = np.random.default_rng(4)
    maps = random_maps(2)
    for field in (1, 2, 3):
        spoilt = [array.copy() for array in maps]
        spoilt[field][rng.random(maps[field].shape) < (0.3 if field == 1 else 1)] = value
        got = decode_posenet_multi(*spoilt, output_stride=8, activation=None, mode=mode, score_threshold=0.4)
        p = int(got.count[0])
        assert p <= 20
        assert p > 0 or mode != "tfjs"  # the others want poses with a score
        assert ((got.keypoint_scores >= 0) & (got.keypoint_scores <= 1)).all()
        if mode in ("coral", "edgetpu"):
            assert (got.keypoints >= 0).all()
            assert (got.keypoints <= (11 * 8, 8 * 8)).all()


def test_infinite_displacements_read_the_last_cell_and_nan_the_first() -> None:
    scores, offsets, fwd, bwd = random_maps(5)
    for value, cell in ((np.inf, (8, 11)), (-np.inf, (0, 0)), (np.nan, (0, 0))):
        got = decode_posenet_multi(
            scores, offsets * 0, np.full_like(fwd, value), np.full_like(bwd, value), output_stride=8, activation=None
        )
        root = got.keypoint_scores[0, 0].argmax()
        others = [k for k in range(17) if k != root]
        np.testing.assert_array_equal(got.keypoints[0, 0, others], np.tile(np.float32(cell)[::-1] * 8, (16, 1)))
        np.testing.assert_array_equal(got.keypoint_scores[0, 0, others], scores[(*cell, others)])


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_gives_what_its_images_give(mode: str) -> None:
    images = [random_maps(seed) for seed in range(3)]
    images[1][0][:] = 0  # nobody
    batch = [np.stack(arrays) for arrays in zip(*images)]
    options = {"output_stride": 8, "activation": None, "mode": mode, "score_threshold": 0.4, "nms_radius": 8}
    got = decode_posenet_multi(*batch, **options)
    assert got.keypoints.shape == (3, 20, 17, 2)
    assert got.count[1] == 0
    assert len(set(got.count.tolist())) >= 2
    for b, image in enumerate(images):
        single = decode_posenet_multi(*image, **options)
        assert single.keypoints.shape == (1, 20, 17, 2)
        for a, one in zip(got, single):
            np.testing.assert_array_equal(a[b], one[0])
    empty = decode_posenet_multi(*(array[:0] for array in batch), **options)
    assert [array.shape for array in empty] == [(0, 20, 17, 2), (0, 20, 17), (0, 20), (0,)]


@pytest.mark.parametrize("mode", ["tfjs", "coral"])
@pytest.mark.parametrize("view", VIEWS)
def test_views(view: str, mode: str) -> None:
    images = [np.stack(arrays).transpose(0, 3, 1, 2) for arrays in zip(random_maps(6), random_maps(7))]
    layout, make = VIEWS[view]
    options = {"output_stride": 8, "activation": None, "mode": mode, "score_threshold": 0.4}
    expected = decode_posenet_multi(*(np.ascontiguousarray(array) for array in images), **options)
    got = decode_posenet_multi(*(make(array, lambda a: a) for array in images), layout=layout, **options)
    assert expected.count.all()
    for a, b in zip(got, expected):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8", "int8"])
def test_types(dtype: str, mode: str) -> None:
    """Narrow types give exactly what their values give as float32."""
    scores, *fields = random_maps(8)
    if "int" in dtype:
        low = np.iinfo(dtype).min
        names = ("heatmaps", *NAMES)
        scales = dict(zip(names, ((1 / 255, low), (0.25, low + 128), (1.5, low + 128), (1.5, low + 128))))
        stored = [
            np.clip(np.round(array / scales[name][0]) + scales[name][1], low, low + 255).astype(dtype)
            for name, array in zip(names, (scores, *fields))
        ]
        wide = [
            (array.astype(np.float32) - np.float32(scales[name][1])) * np.float32(scales[name][0])
            for name, array in zip(names, stored)
        ]
    else:
        scales = None
        stored = [array.astype(dtype_of(dtype)) for array in (scores, *fields)]
        wide = [array.astype(np.float32) for array in stored]
    options = {"output_stride": 8, "activation": None, "mode": mode, "score_threshold": 0.4}
    got = decode_posenet_multi(*stored, quantization=scales, **options)
    expected = decode_posenet_multi(*wide, **options)
    assert expected.count.all()
    for a, b in zip(got, expected):
        np.testing.assert_array_equal(a, b)


def test_out_and_transform() -> None:
    batch = [np.stack(arrays) for arrays in zip(random_maps(9), random_maps(10))]
    options = {"output_stride": 8, "activation": None, "max_poses": 300}
    plain = decode_posenet_multi(*batch, **options)
    assert (plain.count < 300).all()
    out = Poses(*(np.full_like(array, 7) for array in plain))
    got = decode_posenet_multi(*batch, out=out, **options)
    assert all(a is b for a, b in zip(got, out))
    for a, b in zip(got.numpy(), plain):
        np.testing.assert_array_equal(a, b)
    matrices = np.array([[[2, 0, 3], [0, 4, 5]], [[0, 1, 1], [1, 0, 0]]], np.float32)
    moved = decode_posenet_multi(*batch, transform=matrices, **options)
    for b in range(2):
        p = plain.count[b]
        expected = plain.keypoints[b, :p] @ matrices[b, :, :2].T + matrices[b, :, 2]
        np.testing.assert_allclose(moved.keypoints[b, :p], expected, rtol=1e-6)
        assert not moved.keypoints[b, p:].any()


@pytest.mark.parametrize("score", [0, 1e-40])
def test_pytorch_stops_behind_a_score_of_zero(score: float) -> None:
    maps = draw([figure(60, 40, 5)], 15, 17, 16)
    maps[0] = 1 / (1 + np.exp(-maps[0]))
    maps[0][..., 7] = score  # the left elbow, before the wrist; a denormal may be 0 on a device
    got = decode_posenet_multi(*maps, output_stride=16, mode="pytorch", activation=None)
    assert got.count.tolist() == [1]
    assert got.keypoint_scores[0, 0, [7, 9]].tolist() == [np.float32(score), 0]
    assert got.keypoints[0, 0, 9].tolist() == [0, 0]
    np.testing.assert_allclose(got.keypoints[0, 0, 7], figure(60, 40, 5)[7], atol=1e-3)


def test_the_threshold_is_not_rounded() -> None:
    """float32(0.7) is below 0.7: as in tfjs, a score of float32(0.7) does not reach it."""
    maps = random_maps(11)
    maps[0][:] = 0
    maps[0][4, 5, 0] = 0.7
    for threshold, count in ((0.7, 0), (0.6999, 1)):
        got = decode_posenet_multi(*maps, output_stride=8, activation=None, score_threshold=threshold)
        assert got.count.tolist() == [count]
