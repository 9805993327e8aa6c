"""decode_simcc's kernel, on the CPU executor, against NumPy: values, rules, how it reads."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, KINDS, dtype_of, values
from bench.cuda_cpu.seam import ExecutorCuda, host, to_device
from bench.tolerance import SIGMOID_RTOL, VISIBILITY_RTOL
from posepost import _cuda, _kernels, simcc
from posepost._tiling import vector_blocks

from ..helpers import (
    MATRIX,
    SCHEDULES,
    SIMCC_OPTIONS,
    VECTOR_VIEWS,
    check_simcc,
    equal,
    gaussian_vectors,
    simcc_quantization,
)
from .common import on_both

pytestmark = pytest.mark.usefixtures("fresh_plans")


def test_zeros_negatives_nan_and_plateaus(cpu_cuda: ExecutorCuda) -> None:
    """What the documentation promises, without a NumPy warning, of kernel and NumPy."""
    inf, nan = math.inf, math.nan
    x = np.zeros((1, 9, 40), np.float32)
    y = np.tile(gaussian_vectors((1, 1, 30), 3), (1, 9, 1)) * np.float32(5)
    top = y[0, 0].argmax(), y[0, 0].max()
    x[0, 1] = -1
    x[0, 2, 5:9] = nan
    x[0, 3] = 0.25  # a plateau
    x[0, 4, 7] = inf
    x[0, 5] = -inf
    x[0, 6, [3, 11]] = 0.5  # a tie
    x[0, 7] = 1e-3
    x[0, 8, 20] = 0.75
    x[0, 8, [18, 39]] = -inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for got in on_both(x, y, split_ratio=1):
            assert got.keypoints[0, :, 0].tolist() == [-1, -1, 5, 0, 7, -1, 3, 0, 20]
            assert got.keypoints[0, 2:5, 1].tolist() == [top[0]] * 3
            equal(got.scores[0], np.float32([0, -1, nan, 0.25, top[1], -inf, 0.5, 1e-3, 0.75]))
        for got in on_both(x, y, split_ratio=1, absent=None):
            assert got.keypoints[0, :, 0].tolist() == [0, 0, 5, 0, 7, 0, 3, 0, 20]
        darks = on_both(x, y, split_ratio=1, refine="dark", absent=-7.5)
        equal(darks[0].keypoints, darks[1].keypoints)
        found = darks[0].keypoints[0]
        assert found[[0, 1, 5]].tolist() == [[-7.5, -7.5]] * 3
        assert np.isnan(found[[2, 4], 0]).all()
        assert np.isfinite(found[[3, 6, 7, 8]]).all()
        assert found[7, 0] == 0
        kept = on_both(x, y, split_ratio=1, refine="dark", absent=None)
        equal(kept[0].keypoints, kept[1].keypoints)
        assert kept[0].keypoints[0, :2, 0].tolist() == [0, 0]
        seen = on_both(x, y, visibility=True)
        np.testing.assert_allclose(seen[1].visibility, seen[0].visibility, rtol=VISIBILITY_RTOL)
        assert np.isnan(seen[0].visibility[0, [2, 4, 5]]).all()
        assert seen[0].visibility[0, 0] == np.float32(1 / 40)
        nan_y = on_both(np.ones((1, 1, 3), np.float32), np.float32([[[1, nan]]]))
        for got in nan_y:
            assert np.isnan(got.scores).all()
            assert got.keypoints.tolist() == [[[0, 0.5]]]


def test_threshold_and_sigmoid(cpu_cuda: ExecutorCuda) -> None:
    """Below is absent; compared as float32; in probabilities with a sigmoid."""
    logits = np.float32([-3, 0, np.log(3), 2]).reshape(1, 4, 1)
    x, y = np.concatenate([logits - 9, logits], axis=2), np.concatenate([logits + 1, logits - 1], axis=2)
    for threshold, absent in ((0.0, 0), (0.5, 1), (0.75, 2), (1.0, 4), (-1.0, 0)):
        for got in on_both(x, y, activation="sigmoid", threshold=threshold):
            assert (got.keypoints[0, :, 0] == -0.5).tolist() == [i < absent for i in range(4)]
            np.testing.assert_allclose(got.scores[0], 1 / (1 + np.exp(-logits[0, :, 0])), rtol=SIGMOID_RTOL)
    third = np.full((1, 1, 2), 1 / 3, np.float32)
    for got in on_both(third, third, threshold=float(np.float32(1 / 3))):
        assert got.keypoints[0, 0].tolist() == [0, 0]
    for got in on_both(third, third, threshold=float(np.nextafter(np.float32(1 / 3), np.float32(1)))):
        assert got.keypoints[0, 0].tolist() == [-0.5, -0.5]
    tiny = np.full((1, 1, 2), 1e-45, np.float32)  # a denormal is above 0
    for got in on_both(tiny, tiny):
        assert got.keypoints[0, 0].tolist() == [0, 0]
        assert got.scores[0, 0] == np.float32(1e-45)


def test_the_score_is_the_mean_of_both_maxima(cpu_cuda: ExecutorCuda) -> None:
    """It decides what is absent, is taken behind `normalize`, and is NaN where either maximum is."""
    x = np.float32([[0.5, 0], [-1, -0.5], [0.25, -1], [math.nan, 0], [math.inf, 0], [2, 0]])[None]
    y = np.float32([[0, 0.25], [0, 0.25], [-0.5, -0.25], [0, 1], [-math.inf, -math.inf], [0, 3]])[None]
    for got in on_both(x, y, split_ratio=1, score="mean"):
        equal(got.scores[0], np.float32([0.375, -0.125, 0, math.nan, math.nan, 2.5]))
        assert got.keypoints[0].tolist() == [[0, 1], [-1, -1], [-1, -1], [0, 1], [0, 0], [0, 1]]
    for got in on_both(x, y, split_ratio=1, score="mean", normalize="clip", threshold=0.375):
        equal(got.scores[0], np.float32([0.375, 0.125, 0.125, math.nan, 0.5, 1]))
        assert got.keypoints[0].tolist() == [[0, 1], [-1, -1], [-1, -1], [0, 1], [0, 0], [0, 1]]
    scales = {"simcc_x": (0.5, 1), "simcc_y": (0.25, -3)}
    for got in on_both(np.int8([[[1, 4]]]), np.int8([[[2, 1]]]), score="mean", quantization=scales):
        assert got.scores.tolist() == [[(1.5 + 1.25) / 2]]


SHAPES = ((1, 17, 96, 128), (3, 5, 40, 33), (2, 1, 1, 1), (1, 3, 2, 7), (2, 2, 515, 260), (1, 300, 5, 9))


@pytest.mark.parametrize("view_name", VECTOR_VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_equals_numpy(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """Every kind of value, every shape, alone and merged, schedules in turn, starts on and off the 16-byte grid."""
    case = 0
    for N, K, Wx, Wy in SHAPES:
        for kind in (*KINDS, "peaks") if N > 1 else ("random", "ties", "nan", "peaks"):
            sizes, scales = (Wx, Wy, Wx, Wy), simcc_quantization(dtype)
            if kind == "peaks":
                arrays = [gaussian_vectors((N, K, W), case + i) for i, W in enumerate(sizes)]
                arrays = [(one * 100 if scales else one).astype(dtype_of(dtype)) for one in arrays]
            else:
                arrays = [values(kind, dtype, (N, K, W), case + i) for i, W in enumerate(sizes)]
            for merged in (False, True):
                if merged and kind == "denormal":
                    continue  # a GPU flushes their means, as documented: no promise to test
                cpu_cuda.schedule = SCHEDULES[case % 4]
                options = {**SIMCC_OPTIONS[case % len(SIMCC_OPTIONS)], "quantization": scales}
                given = arrays if merged else arrays[:2]
                check_simcc(cpu_cuda, given, VECTOR_VIEWS[view_name], skip=(0, 1, 3, 8)[case // 4 % 4], **options)
                case += 1
    variants = {launched.variant for launched in cpu_cuda.launches}
    assert variants == {_kernels.simcc(_kernels.ELEMENTS[dtype], merged) for merged in (False, True)}


@pytest.mark.parametrize("transform", [MATRIX, "rows"])
def test_transform(cpu_cuda: ExecutorCuda, transform: Any) -> None:
    if isinstance(transform, str):
        transform = np.random.default_rng(5).standard_normal((3, 2, 3)).astype(np.float32)
    arrays = [gaussian_vectors((3, 5, W), W) for W in (40, 33)]
    check_simcc(cpu_cuda, arrays, VECTOR_VIEWS["dense"], transform=transform, refine="dark")
    on_device = posepost.decode_simcc(*map(to_device, arrays), transform=to_device(transform), refine="dark").numpy()
    equal(on_device.keypoints, posepost.decode_simcc(*arrays, transform=transform, refine="dark").keypoints)
    x, y = (np.full((1, 1, 2), -1, np.float32),) * 2
    for got in on_both(x, y, transform=MATRIX):  # absent points too
        equal(got.keypoints[0, 0], [1.5 * -0.5 - 0.25 * -0.5 + 7, 0.125 * -0.5 + 2 * -0.5 - 3])


def test_same_bits_whatever_the_batch_and_the_blocks(cpu_cuda: ExecutorCuda) -> None:
    """One row, the same row in a batch, one or four keypoints a block, any schedule."""
    x, y = gaussian_vectors((4, 5, 90), 1), gaussian_vectors((4, 5, 70), 2)
    whole = posepost.decode_simcc(x, y, refine="dark")
    for processors in (0, 128):  # of 0 any number is many
        cpu_cuda.processors = processors
        for seed in range(3):
            simcc._plan.cache_clear()
            cpu_cuda.schedule = {"order": "random", "seed": seed, "resident": 1 + 2 * seed, "chaos": 2}
            for rows in (slice(0, 4), slice(2, 3)):
                got = posepost.decode_simcc(to_device(x[rows]), to_device(y[rows]), refine="dark").numpy()
                equal(got.keypoints, whole.keypoints[rows])
    assert {launched.block for launched in cpu_cuda.launches} == {(64, 1, 1), (256, 1, 1)}


@pytest.mark.parametrize(
    ("N", "K", "blocks", "threads"),
    [(1, 17, 17, 64), (1, 133, 133, 64), (7, 133, 931, 64), (64, 17, 272, 256), (64, 133, 2128, 256), (1, 1, 1, 64)],
)
def test_choice_of_the_grid(N: int, K: int, blocks: int, threads: int) -> None:
    assert vector_blocks(N * K, 256) == (blocks, threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(("view_name", "vector_share"), [("dense", 1.0), ("slice_of_more", 0.7), ("keypoints_last", 0)])
def test_each_element_is_read_once(
    cpu_cuda: ExecutorCuda, dtype: str, merged: bool, view_name: str, vector_share: float
) -> None:
    """Every byte once, in 16-byte loads where the layout allows, and nothing between or outside."""
    shapes = [(2, 5, W) for W in (384, 512, 384, 512)][: 4 if merged else 2]
    tensors = [VECTOR_VIEWS[view_name](values("random", dtype, shape, 1), to_device) for shape in shapes]
    kernel = _cuda.kernel(_kernels.simcc(_kernels.ELEMENTS[dtype], merged))
    itemsize = tensors[0].dtype.itemsize
    spans = [sum((n - 1) * s for n, s in zip(one.shape, one.strides)) + itemsize for one in tensors]
    counts = [kernel.watch(one.data.ptr, span, count=True) for one, span in zip(tensors, spans)]
    flip = posepost.Flip(tensors[2:], [1, 0, 2, 4, 3]) if merged else None
    posepost.decode_simcc(*tensors[:2], flip=flip, visibility=True, quantization=simcc_quantization(dtype))
    for one, count in zip(tensors, counts):
        seen = np.lib.stride_tricks.as_strided(count, (*one.shape, itemsize), (*one.strides, 1))
        assert seen.min() == seen.max() == 1
        assert count.sum() == one.size * itemsize
    vectors, nbytes = kernel.loads().get(16, 0), sum(one.size for one in tensors) * itemsize
    if merged and view_name == "slice_of_more":
        return  # partners may not meet on the 16-byte grid: element by element, side by side
    assert vectors * 16 >= vector_share * nbytes
    if not vector_share:
        assert not vectors
    if vector_share == 1:
        _, lanes, sectors = (sum(each) for each in zip(*kernel.requests().values()))
        assert lanes == vectors
        assert sectors == nbytes / 32  # a warp's loads lie side by side


def test_dark_reads_the_window_alone_again(cpu_cuda: ExecutorCuda) -> None:
    x, y = gaussian_vectors((1, 6, 400), 1), gaussian_vectors((1, 6, 300), 2)
    x[0, :, 100], y[0, :, 100] = 2, 2
    x[0, 0] *= 40  # above 50: the whole vector is blurred
    tensors = [to_device(x), to_device(y)]
    kernel = _cuda.kernel(_kernels.simcc("f32", False))
    counts = [kernel.watch(one.data.ptr, one.nbytes, count=True).reshape(6, -1, 4) for one in tensors]
    posepost.decode_simcc(*tensors, refine="dark", sigma=6.0)
    for axis, count in enumerate(counts):
        expected = np.ones(count.shape[1:])
        expected[100 - 20 : 100 + 21] = 2  # 37 taps and 2 bins to either side
        equal(count[1 - axis :], np.broadcast_to(expected, count[1 - axis :].shape))
    assert counts[0][0].min() > 10


def test_vectors_past_2_to_the_31_elements(cpu_cuda: ExecutorCuda) -> None:
    """Addresses of 64 bits: rows that lie more than 2^31 elements apart, in a file of holes."""
    W, gap = 37, 2**31 + 4096
    memory = np.zeros(gap * 2 + 4 * W, np.uint8)  # untouched pages cost nothing
    for n in range(2):
        memory[gap * (n + 1) - gap :][: 2 * W] = values("random", "uint8", (2 * W,), seed=n)
    import cupy
    from cupy.cuda import memory as cupy_memory

    owned = cupy_memory.UnownedMemory(memory.ctypes.data, memory.nbytes, memory, 0)
    pointer = cupy_memory.MemoryPointer(owned, 0)
    scales = {"simcc_x": (1, 0), "simcc_y": (1, 0)}
    for strides in ((gap, W, 1), (W, gap, 1)):
        x = cupy.ndarray((2, 2, W), np.uint8, pointer, strides=strides)
        there = host(x)
        options = {"split_ratio": 1, "quantization": scales, "refine": "dark"}
        for flip, hosted in ((None, None), (posepost.Flip((x, x), (1, 0)), posepost.Flip((there, there), (1, 0)))):
            got = posepost.decode_simcc(x, x, flip=flip, **options).numpy()
            expected = posepost.decode_simcc(there.copy(), there.copy(), flip=hosted, **options)
            equal(got.keypoints, expected.keypoints)
            equal(got.scores, expected.scores)
