"""decode_posenet's kernel, on the CPU executor, against NumPy: values, choice of kernel, how it reads."""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, VIEWS, dtype_of, quantization_for, values
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host, to_device
from bench.tolerance import SIGMOID_ATOL, SIGMOID_RTOL
from posepost import _cuda, _kernels, _view
from posepost._rules.maps import Maps, posenet_pair
from posepost._tiling import tiling

from ..helpers import MATRIX, equal
from .common import check_against_twin


@pytest.mark.parametrize("options", [{"activation": "sigmoid"}, {"transform": MATRIX}, {"transform": "rows"}])
@pytest.mark.parametrize("view_name", ["nchw", "nhwc", "nchw_every_other_column"])
def test_activation_and_transform(cpu_cuda: ExecutorCuda, view_name: str, options: dict) -> None:
    if isinstance(options.get("transform"), str):
        options = {"transform": np.random.default_rng(5).standard_normal((3, 2, 3)).astype(np.float32)}
    check_against_twin(cpu_cuda, view_name, "float32", "random", (3, 5, 9, 40), seed=9, **options)


def test_sigmoid_over_its_whole_range(cpu_cuda: ExecutorCuda) -> None:
    logits = np.linspace(-110, 110, 441, dtype=np.float32).reshape(441, 1, 1, 1)
    offsets = np.zeros((441, 2, 1, 1), np.float32)
    got = posepost.decode_posenet(
        to_device(logits), to_device(offsets), output_stride=8, layout="NCHW", activation="sigmoid"
    ).numpy()
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(got.scores[:, 0], expected[:, 0, 0, 0], rtol=SIGMOID_RTOL, atol=SIGMOID_ATOL)


@pytest.mark.parametrize("offset_dtype", DTYPES)
def test_offsets_of_another_type(cpu_cuda: ExecutorCuda, offset_dtype: str) -> None:
    for dtype in ("float16", "uint8"):
        check_against_twin(
            cpu_cuda, "nhwc", dtype, "random", (2, 17, 9, 7), seed=4, offset_dtype=offset_dtype, activation="sigmoid"
        )


def test_every_bit_pattern_of_16_bit_floats(cpu_cuda: ExecutorCuda) -> None:
    """65536 maps of one cell: key and back gives the value itself; sorted pairs: the larger one wins."""
    bits = np.arange(65536, dtype=np.uint16)
    for dtype in ("float16", "bfloat16"):
        one = bits.view(dtype_of(dtype)).reshape(-1, 1, 1, 1)
        offsets = np.zeros((65536, 2, 1, 1), np.float32)
        got = posepost.decode_posenet(
            to_device(one), to_device(offsets), output_stride=8, layout="NCHW", activation=None
        )
        equal(got.numpy().scores.ravel(), one.ravel().astype(np.float32))
        pairs = np.stack([bits[:-1], bits[1:]], axis=1)[np.random.default_rng(0).permutation(65535)[:4000]]
        heatmaps = pairs.view(dtype_of(dtype)).reshape(-1, 1, 1, 2)
        offsets = np.zeros((4000, 2, 1, 2), np.float32)
        got = posepost.decode_posenet(
            to_device(heatmaps), to_device(offsets), output_stride=1, layout="NCHW", activation=None
        )
        equal(got.numpy().keypoints[:, 0, 0], heatmaps.astype(np.float32).reshape(-1, 2).argmax(axis=1))


def test_offsets_of_inf_and_nan(cpu_cuda: ExecutorCuda) -> None:
    heatmaps = np.zeros((1, 3, 2, 2), np.float32)
    offsets = np.zeros((1, 6, 2, 2), np.float32)
    offsets[0, :, 0, 0] = [np.inf, -np.inf, np.nan, 1, np.nan, np.inf]
    got = posepost.decode_posenet(
        to_device(heatmaps), to_device(offsets), output_stride=8, activation="sigmoid"
    ).numpy()
    equal(got.keypoints[0], [[1, np.inf], [np.nan, -np.inf], [np.inf, np.nan]])
    equal(posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid").keypoints, got.keypoints)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("view_name", "shape", "vector_share"),
    [
        ("nchw", (1, 17, 33, 33), 0.97),
        ("nchw", (1, 3, 70, 120), 0.99),  # blocks share a map
        ("nchw_crop", (1, 3, 20, 80), 0.6),
        ("nhwc", (1, 17, 33, 33), 0.99),  # blocks share an image
        ("nhwc", (5, 17, 9, 11), 0.9),
        ("nhwc_channels_of_more", (2, 17, 9, 11), 0),
        ("nchw_columns_and_rows_swapped", (2, 3, 9, 11), 0),
    ],
)
def test_each_element_is_read_once(
    cpu_cuda: ExecutorCuda, dtype: str, view_name: str, shape: tuple[int, int, int, int], vector_share: float
) -> None:
    """Of the heatmaps every byte once, of the offsets 2 elements a keypoint; 16-byte loads where the layout allows."""
    B, K, H, W = shape
    layout, view = VIEWS[view_name]
    heatmaps = view(values("random", dtype, shape, 1), lambda array: to_device(array, skip=1))
    offsets = to_device(np.zeros((B, 2 * K, H, W) if layout == "NCHW" else (B, H, W, 2 * K), np.float32))
    pair = [_view.spec(_view.view(array, "").form, "") for array in (heatmaps, offsets)]
    maps = posenet_pair(*pair, layout)
    kernel = _cuda.kernel(_kernels.posenet(_kernels.ELEMENTS[dtype], tiling(maps, dtype, 528).layout))
    itemsize = heatmaps.dtype.itemsize
    span = sum((size - 1) * stride for size, stride in zip(heatmaps.shape, heatmaps.strides)) + itemsize
    counts = kernel.watch(heatmaps.data.ptr, span, count=True)
    offset_counts = kernel.watch(offsets.data.ptr, offsets.nbytes, count=True)
    workspace = to_device(np.zeros(4096, np.uint64))
    _cuda._workspaces[0, STREAM, 0] = workspace
    kernel.watch(workspace.data.ptr, workspace.nbytes)

    posepost.decode_posenet(
        heatmaps,
        offsets,
        output_stride=8,
        layout=layout,
        quantization=quantization_for(dtype, "float32"),
        activation="sigmoid",
    )

    seen = np.lib.stride_tricks.as_strided(counts, (*heatmaps.shape, itemsize), (*heatmaps.strides, 1))
    assert seen.min() == seen.max() == 1
    assert counts.sum() == heatmaps.size * itemsize  # nothing between the elements of a view either
    assert offset_counts.sum() == 2 * B * K * 4
    vectors = kernel.loads().get(16, 0)
    assert vectors * 16 >= vector_share * heatmaps.size * itemsize
    if not vector_share:
        assert not vectors
    assert not host(workspace).any(), "the workspace must be left zero"
    if vectors and view_name != "nchw_crop":
        requests, lanes, touched = max(kernel.requests().values(), key=lambda counted: counted[1])
        assert lanes == vectors
        assert (
            touched <= lanes * 16 / 32 * 1.1 + 2 * requests
        )  # a warp's loads lie side by side: 16 sectors for 512 bytes


def maps_of(shape: tuple[int, int, int, int], layout: str) -> Maps:
    _, K, H, W = shape
    strides = (H * W * K, 1, W * K, K) if layout == "NHWC" else (K * H * W, H * W, W, 1)
    return Maps(layout, *shape, strides, strides)


@pytest.mark.parametrize(
    ("shape", "layout", "dtype", "expected"),
    [
        ((1, 17, 33, 33), "NCHW", "float32", ("PLANAR", 17, 1, 128)),
        ((1, 17, 135, 240), "NCHW", "float32", ("PLANAR", 17, 8, 256)),
        ((60, 17, 64, 48), "NCHW", "float32", ("PLANAR", 1020, 1, 256)),
        ((64, 17, 64, 48), "NCHW", "float32", ("PLANAR", 1088, 1, 64)),
        ((64, 17, 64, 48), "NCHW", "uint8", ("PLANAR", 1088, 1, 32)),
        ((1, 17, 33, 33), "NHWC", "float32", ("INTERLEAVED", 1, 5, 256)),
        ((512, 17, 64, 48), "NHWC", "float16", ("INTERLEAVED", 512, 1, 256)),
        ((1, 300, 8, 8), "NHWC", "float32", ("STRIDED", 10, 2, 256)),
        ((1, 1, 8, 8), "NHWC", "float32", ("PLANAR", 1, 1, 32)),
    ],
)
def test_choice_of_kernel(shape: tuple[int, int, int, int], layout: str, dtype: str, expected: tuple) -> None:
    launch = tiling(maps_of(shape, layout), dtype, 528)
    assert (launch.layout, launch.tiles, launch.splits, launch.block) == expected


@pytest.mark.parametrize("view_name", ["nchw", "nhwc", "nhwc_channels_of_more"])
def test_same_bits_whatever_the_number_of_blocks(cpu_cuda: ExecutorCuda, view_name: str) -> None:
    """One image, the same image in a batch, one block or many, any schedule, twice: the same keypoints."""
    layout, view = VIEWS[view_name]
    heatmaps, offsets = values("ties", "float32", (4, 3, 90, 100), 1), values("random", "float32", (4, 6, 90, 100), 2)
    whole = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    for processors in (1, 2, 25, 1000):
        cpu_cuda.processors = processors
        for seed in range(3):
            posepost.posenet._plan.cache_clear()
            cpu_cuda.schedule = {"order": "random", "seed": seed, "resident": 1 + 2 * seed, "chaos": 2}
            for images in (slice(0, 4), slice(2, 3)):
                h, o = view(heatmaps[images], to_device), view(offsets[images], to_device)
                got = posepost.decode_posenet(h, o, output_stride=8, layout=layout, activation="sigmoid").numpy()
                equal(got.keypoints, whole.keypoints[images])
    assert len({launched.grid for launched in cpu_cuda.launches}) >= 4


def test_tensors_past_2_to_the_31_elements(cpu_cuda: ExecutorCuda) -> None:
    """Addresses of 64 bits: maps that lie more than 2^31 elements apart, in a file of holes."""
    H, W, gap = 5, 6, 2**31 + 4096
    memory = np.zeros(gap * 2 + H * W, np.uint8)  # untouched pages cost nothing
    for b in range(2):
        memory[gap * (b + 1) :][: H * W] = values("random", "uint8", (H * W,), seed=b)
    import cupy
    from cupy.cuda import memory as cupy_memory

    owned = cupy_memory.UnownedMemory(memory.ctypes.data, memory.nbytes, memory, 0)
    for view_strides, channels in (((gap, 1, W, 1), 1), ((gap, gap, W, 1), 1)):
        heatmaps = cupy.ndarray(
            (2, channels, H, W), np.uint8, cupy_memory.MemoryPointer(owned, gap), strides=view_strides
        )
        offsets = to_device(np.zeros((2, 2, H, W), np.float32))
        got = posepost.decode_posenet(
            heatmaps, offsets, output_stride=1, layout="NCHW", quantization={"heatmaps": (1, 0)}, activation=None
        ).numpy()
        for b in range(2):
            block = memory[gap * (b + 1) :][: H * W].reshape(H, W)
            assert got.scores[b, 0] == block.max()
            assert tuple(got.keypoints[b, 0]) == np.unravel_index(block.argmax(), block.shape)[::-1]
