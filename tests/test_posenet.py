"""decode_posenet: the twin against plain loops, the kernels (on the CPU executor) against the twin, and bad input."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, KINDS, VIEWS, dtype_of, quantization_for, values
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host, to_device
from bench.tolerance import SIGMOID_ATOL, SIGMOID_RTOL
from posepost import _cuda, _kernels, _view
from posepost._rules.maps import Maps, posenet_pair
from posepost._tiling import tiling
from posepost.ref import argmax
from posepost.ref.argmax import first_largest

from .helpers import MATRIX, equal

# ---- the twin against the definition, written as loops over single elements


def by_hand(heatmaps: np.ndarray, offsets: np.ndarray, stride: float, scales: dict | None) -> tuple[list, list]:
    """(B, K, H, W) and (B, 2K, H, W), float arrays already widened."""
    points, scores = [], []
    for image, fields in zip(heatmaps.tolist(), offsets.tolist()):
        for k, rows in enumerate(image):
            best = None
            for y, row in enumerate(rows):
                for x, value in enumerate(row):
                    if best is None or (math.isnan(value) and not math.isnan(best[0])) or value > best[0]:
                        best = (value, y, x)
            value, y, x = best
            oy, ox = fields[k][y][x], fields[len(image) + k][y][x]
            if scales and "heatmaps" in scales:
                value = np.float32(value - scales["heatmaps"][1]) * np.float32(scales["heatmaps"][0])
            if scales and "offsets" in scales:
                oy = np.float32(oy - scales["offsets"][1]) * np.float32(scales["offsets"][0])
                ox = np.float32(ox - scales["offsets"][1]) * np.float32(scales["offsets"][0])
            points.append((np.float32(x * stride) + np.float32(ox), np.float32(y * stride) + np.float32(oy)))
            scores.append(value)
    return points, scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_twin_follows_the_definition(dtype: str, kind: str) -> None:
    shape = (2, 3, 7, 5)
    heatmaps = values(kind, dtype, shape, seed=1)
    offsets = values("random", dtype, (2, 6, 7, 5), seed=2)
    scales = quantization_for(dtype, dtype)
    points, scores = by_hand(heatmaps.astype(np.float32), offsets.astype(np.float32), 16, scales)
    for layout, view in VIEWS.values():
        got = posepost.decode_posenet(
            view(heatmaps, np.array),
            view(offsets, np.array),
            output_stride=16,
            layout=layout,
            activation=None,
            quantization=scales,
        )
        equal(got.keypoints.reshape(-1, 2), np.array(points, np.float32))
        equal(got.scores.ravel(), np.array(scores, np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_twin_of_large_maps(dtype: str, kind: str) -> None:
    """Its quick ways (folded channels-last maps, float16 as integers) give what numpy.argmax of float32 gives."""
    for seed, (H, W) in enumerate(((50, 43), (32, 64), (1, 2049), (3, 5), (1, 2049 * 2), (90, 61))):
        maps = values(kind, dtype, (3, 5, H, W), seed)
        wide = maps.astype(np.float32).reshape(3, 5, -1)
        for _, view in VIEWS.values():
            placed = view(maps, np.array)
            layout = placed if placed.shape == maps.shape else placed.transpose(0, 3, 1, 2)
            equal(first_largest(layout), wide.argmax(axis=2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_compared_as_integers(monkeypatch: pytest.MonkeyPatch, dtype: str, kind: str) -> None:
    """Whatever the signs of the winners, of zeros and of NaN, also where maps of several kinds lie side by side."""
    monkeypatch.setattr(argmax, "MANY_FLOAT16", 0)
    monkeypatch.setattr(argmax, "MANY_BFLOAT16", 0)
    for seed in range(40):
        maps = values(kind, dtype, (2, 6, 5, 4), seed)
        maps[1, ::2] = values("negative", dtype, (3, 5, 4), seed)
        maps[:, 1] = values("zeros", dtype, (2, 5, 4), seed)
        maps[0, 2, seed % 5, 3] = np.nan
        if seed % 3:
            maps.view(np.uint16)[1, 3, seed % 5, :2] = 0xFFC1  # NaN of negative sign
        expected = maps.astype(np.float32).reshape(2, 6, -1).argmax(axis=2)
        for _, view in VIEWS.values():
            placed = view(maps, np.array)
            equal(first_largest(placed if placed.shape == maps.shape else placed.transpose(0, 3, 1, 2)), expected)


def test_sigmoid_and_affine_of_the_twin() -> None:
    heatmaps = np.array([-3.0, 2.0, 0.5, -200.0], np.float32).reshape(1, 2, 1, 2)
    offsets = np.arange(8, dtype=np.float32).reshape(1, 4, 1, 2)
    got = posepost.decode_posenet(heatmaps, offsets, output_stride=8, transform=MATRIX, activation="sigmoid")
    # keypoint 0: cell x = 1, offset (x 5, y 1) -> (13, 1); keypoint 1: cell x = 0, offset (x 6, y 2) -> (6, 2)
    equal(got.keypoints[0], [[1.5 * 13 - 0.25 * 1 + 7, 0.125 * 13 + 2 * 1 - 3], [9 - 0.5 + 7, 0.75 + 4 - 3]])
    np.testing.assert_allclose(got.scores[0], [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-0.5))], rtol=SIGMOID_RTOL)


def test_sigmoid_of_the_twin_is_a_division() -> None:
    """Bit for bit 1 / (1 + exp(-x)) in float32, whatever instruction NumPy divides by."""
    logits = np.random.default_rng(0).uniform(-120, 120, (1, 20000, 1, 1)).astype(np.float32)
    got = posepost.decode_posenet(
        logits, np.zeros((1, 40000, 1, 1), np.float32), output_stride=8, layout="NCHW", activation="sigmoid"
    )
    with np.errstate(over="ignore"):
        equal(got.scores[0], np.float32(1) / (np.float32(1) + np.exp(-logits[0, :, 0, 0])))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.filterwarnings("error")
def test_twin_warns_of_nothing(dtype: str, layout: str) -> None:
    """Overflow in the sigmoid, infinities that cancel, NaN, also those that signal."""
    heatmaps = np.array([-300, np.nan, -np.inf, np.inf, 200], np.float32).astype(dtype_of(dtype)).reshape(1, 5, 1, 1)
    offsets = np.array([np.inf, -np.inf, np.nan, 1, 0] * 2, np.float32).astype(dtype_of(dtype)).reshape(1, 10, 1, 1)
    signals = {"float32": 0x7FA00000, "float16": 0x7D00, "bfloat16": 0x7FA0}[dtype]
    for array, channel in ((heatmaps, 1), (offsets, 2)):
        array.view(np.uint32 if dtype == "float32" else np.uint16)[0, channel] = signals
    if layout == "NHWC":
        heatmaps, offsets = heatmaps.reshape(1, 1, 1, 5), offsets.reshape(1, 1, 1, 10)
    matrix = np.array([[1, -1, 0], [np.inf, 0, 1]], np.float32)
    for transform in (None, matrix):
        got = posepost.decode_posenet(
            heatmaps, offsets, output_stride=8, layout=layout, transform=transform, activation="sigmoid"
        )
        assert np.isnan(got.keypoints[0, 2]).any()
        equal(got.scores[0], [0, np.nan, 0, 1, 1])


def test_saturated_logits_are_told_apart() -> None:
    heatmaps = np.array([40.0, 50.0], np.float32).reshape(1, 1, 1, 2)  # both 1 after a sigmoid in float32
    got = posepost.decode_posenet(heatmaps, np.zeros((1, 2, 1, 2), np.float32), output_stride=8, activation="sigmoid")
    assert got.keypoints[0, 0, 0] == 8
    assert got.scores[0, 0] == 1


def test_signatures_of_function_and_twin_are_equal() -> None:
    assert inspect.signature(posepost.decode_posenet) == inspect.signature(posepost.decode_posenet)


# ---- the kernels against the twin


SHAPES = ((1, 17, 33, 33), (3, 5, 9, 40), (2, 1, 1, 1), (1, 3, 1, 70), (2, 17, 3, 1), (1, 130, 4, 5))


def check_against_twin(
    cuda: ExecutorCuda,
    view_name: str,
    dtype: str,
    kind: str,
    shape: tuple[int, int, int, int],
    *,
    seed: int,
    skip: int = 0,
    offset_dtype: str | None = None,
    **options: object,
) -> None:
    B, K, H, W = shape
    layout, view = VIEWS[view_name]
    offset_dtype = offset_dtype or dtype
    heatmaps = values(kind, dtype, shape, seed)
    offsets = values("random", offset_dtype, (B, 2 * K, H, W), seed + 1)
    options = {
        "output_stride": 16,
        "layout": layout,
        "activation": None,
        "quantization": quantization_for(dtype, offset_dtype),
        **options,
    }

    def place(array: np.ndarray) -> object:
        return to_device(array, skip=skip)

    expected = posepost.decode_posenet(view(heatmaps, np.array), view(offsets, np.array), **options)
    before = len(cuda.launches)
    got = posepost.decode_posenet(view(heatmaps, place), view(offsets, place), **options).numpy()
    assert len(cuda.launches) == before + 1
    equal(got.keypoints, expected.keypoints)
    if options["activation"] is None:
        equal(got.scores, expected.scores)
    else:
        np.testing.assert_allclose(got.scores, expected.scores, rtol=SIGMOID_RTOL, atol=SIGMOID_ATOL)


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_equals_twin(cpu_cuda: ExecutorCuda, dtype: str, view_name: str) -> None:
    """Every kind of value, every shape, schedules of threads in turn, starts on and off the 16-byte grid."""
    schedules = (
        {"order": "forward"},
        {"order": "reverse"},
        {"order": "random", "seed": 3, "resident": 3, "chaos": 1},
        {"order": "random", "seed": 4, "resident": 4, "chaos": 2},
    )
    case = 0
    for shape in SHAPES:
        for kind in KINDS if shape[0] > 1 else ("random", "ties", "nan"):
            cpu_cuda.schedule = schedules[case % 4]
            check_against_twin(cpu_cuda, view_name, dtype, kind, shape, seed=case, skip=(0, 1, 3, 8)[case // 4 % 4])
            case += 1
    assert {launched.variant.defines[0][1] for launched in cpu_cuda.launches} == {_kernels.ELEMENTS[dtype]}


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


# ---- how the kernels read, and on how many blocks


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


# ---- out, stream, results


@pytest.mark.parametrize("device", [False, True])
def test_out_is_written_and_returned(cpu_cuda: ExecutorCuda, device: bool) -> None:
    place = to_device if device else np.array
    heatmaps, offsets = values("random", "float32", (2, 3, 4, 5), 1), values("random", "float32", (2, 6, 4, 5), 2)
    first = posepost.decode_posenet(place(heatmaps), place(offsets), output_stride=8, activation="sigmoid")
    out = posepost.Keypoints(place(np.zeros((2, 3, 2), np.float32)), place(np.zeros((2, 3), np.float32)))
    allocated = cpu_cuda.allocations
    again = posepost.decode_posenet(place(heatmaps), place(offsets), output_stride=8, out=out, activation="sigmoid")
    assert cpu_cuda.allocations == allocated
    assert again.keypoints is out.keypoints
    assert again.scores is out.scores
    equal(again.numpy().keypoints, first.numpy().keypoints)
    equal(again.numpy().scores, first.numpy().scores)


def test_out_in_pinned_memory(cpu_cuda: ExecutorCuda) -> None:
    """The kernel writes host memory: no download, one wait on the stream of the call."""
    heatmaps, offsets = values("random", "float32", (2, 3, 4, 5), 1), values("random", "float32", (2, 6, 4, 5), 2)
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    out = posepost.pinned(2, 3)
    assert not out.keypoints.any()
    allocated = cpu_cuda.allocations
    for stream in (55, 56):
        result = posepost.decode_posenet(
            to_device(heatmaps), to_device(offsets), output_stride=8, out=out, stream=stream, activation="sigmoid"
        )
        got = result.numpy()
        assert got.keypoints is out.keypoints
        equal(got.keypoints, expected.keypoints)
        np.testing.assert_allclose(got.scores, expected.scores, rtol=SIGMOID_RTOL)
        out.keypoints[:] = np.nan
    assert cpu_cuda.synchronized == [55, 56]
    assert cpu_cuda.allocations == allocated
    with pytest.raises(ValueError, match=r"^B and K must not be negative, got -1 and 3$"):
        posepost.pinned(-1, 3)
    small = posepost.pinned(2, 2)
    with pytest.raises(ValueError, match=r"^out\.keypoints must have shape \(2, 3, 2\), got \(2, 2, 2\)$"):
        posepost.decode_posenet(
            to_device(heatmaps), to_device(offsets), output_stride=8, out=small, activation="sigmoid"
        )


def test_stream_reaches_the_launch(cpu_cuda: ExecutorCuda) -> None:
    class Stream:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 77

    heatmaps, offsets = to_device(np.zeros((1, 1, 2, 2), np.float32)), to_device(np.zeros((1, 2, 2, 2), np.float32))
    for stream in (None, 55, Stream()):
        posepost.decode_posenet(heatmaps, offsets, output_stride=8, stream=stream, activation="sigmoid")
    assert [launched.stream for launched in cpu_cuda.launches] == [STREAM, 55, 77]


def test_streams_do_not_share_a_workspace(cpu_cuda: ExecutorCuda) -> None:
    same = _cuda.work(8, 3, 0, 55)
    assert _cuda.work(8, 3, 0, 55)[:2] == same[:2]
    assert not set(_cuda.work(8, 3, 0, 56)[:2]) & set(same[:2])
    larger = _cuda.work(10**5, 3, 0, 55)
    assert larger.zeroed != same.zeroed
    assert larger.scratch == same.scratch
    assert same.arrays[0].data.ptr == same.zeroed  # whoever has the smaller one keeps it until the launch
    assert larger.arrays[0].nbytes < 8 * 1.05 * 10**5
    posepost._cuda.release_memory()
    assert not _cuda._workspaces
    assert not _cuda._scratch


def test_a_repeated_call_uses_its_plan(cpu_cuda: ExecutorCuda) -> None:
    heatmaps, offsets = to_device(np.zeros((1, 1, 2, 2), np.float32)), to_device(np.zeros((1, 2, 2, 2), np.float32))
    for _ in range(3):
        posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    assert posepost.posenet._plan.cache_info()[:2] == (2, 1)


@pytest.mark.parametrize("device", [False, True])
def test_three_dimensions_are_a_batch_of_one_and_an_empty_batch_is_empty(cpu_cuda: ExecutorCuda, device: bool) -> None:
    place = to_device if device else np.array
    heatmaps, offsets = values("random", "float32", (4, 5, 3), 1), values("random", "float32", (4, 5, 6), 2)
    one = posepost.decode_posenet(place(heatmaps), place(offsets), output_stride=8, activation="sigmoid").numpy()
    batch = posepost.decode_posenet(heatmaps[None], offsets[None], output_stride=8, layout="NHWC", activation="sigmoid")
    equal(one.keypoints, batch.keypoints)
    empty = posepost.decode_posenet(
        place(heatmaps[None][:0]), place(offsets[None][:0]), output_stride=8, activation="sigmoid"
    ).numpy()
    assert empty.keypoints.shape == (0, 3, 2)
    assert empty.scores.shape == (0, 3)


def test_inputs_are_not_written(cpu_cuda: ExecutorCuda) -> None:
    heatmaps, offsets = values("random", "float32", (2, 3, 4, 5), 1), values("random", "float32", (2, 6, 4, 5), 2)
    for place in (np.array, to_device):
        h, o = place(heatmaps), place(offsets)
        posepost.decode_posenet(h, o, output_stride=8, transform=MATRIX, activation="sigmoid")
        equal(h if place is np.array else host(h), heatmaps)
        equal(o if place is np.array else host(o), offsets)


# ---- bad input, word for word

F32 = np.float32


def _maps(h: tuple[int, ...] = (1, 17, 4, 5), o: tuple[int, ...] = (1, 34, 4, 5), dtype: object = F32) -> dict:
    return {"heatmaps": np.zeros(h, dtype), "offsets": np.zeros(o, dtype), "output_stride": 8}


BAD = [
    (
        {**_maps(), "heatmaps": [[1.0]]},
        TypeError,
        "heatmaps must be a NumPy, CuPy, PyTorch or JAX array, an onnxruntime.OrtValue, or have __dlpack__ or "
        "__cuda_array_interface__, got list",
    ),
    (
        {**_maps(), "offsets": None},
        TypeError,
        "offsets must be a NumPy, CuPy, PyTorch or JAX array, an onnxruntime.OrtValue, or have __dlpack__ or "
        "__cuda_array_interface__, got NoneType",
    ),
    (_maps(dtype=np.float64), TypeError, "heatmaps must be float32, float16, bfloat16, uint8 or int8, got float64"),
    (
        {**_maps(), "offsets": np.zeros((1, 34, 4, 5), ">f4")},
        TypeError,
        "offsets must be float32, float16, bfloat16, uint8 or int8, got >f4",
    ),
    (_maps((17, 4)), ValueError, "heatmaps must have 3 or 4 dimensions, got shape (17, 4)"),
    (
        _maps((17, 4, 5)),
        ValueError,
        "offsets must have as many dimensions as heatmaps, got shapes (1, 34, 4, 5) and (17, 4, 5)",
    ),
    (_maps(o=(1, 32, 4, 5)), ValueError, "offsets must have twice the channels of heatmaps, got 32 and 17"),
    (
        _maps(o=(1, 34, 4, 6)),
        ValueError,
        "offsets must match heatmaps in all axes but the channels, got shapes (1, 34, 4, 6) and (1, 17, 4, 5)",
    ),
    (
        {**_maps(o=(1, 34, 4, 6)), "layout": "NCHW"},
        ValueError,
        "offsets must match heatmaps in all axes but the channels of NCHW, got shapes (1, 34, 4, 6) and (1, 17, 4, 5)",
    ),
    (
        _maps(o=(1, 17, 4, 5)),
        ValueError,
        "offsets must have twice the channels of heatmaps, got the shape (1, 17, 4, 5) for both",
    ),
    (
        _maps((2, 17, 0, 5), (2, 34, 0, 5)),
        ValueError,
        "heatmaps must have at least one channel, row and column, got shape (2, 17, 0, 5)",
    ),
    ({**_maps(), "layout": "HWC"}, ValueError, 'layout must be "NCHW", "NHWC" or None, got \'HWC\''),
    ({**_maps(), "activation": "softmax"}, ValueError, "activation must be \"sigmoid\" or None, got 'softmax'"),
    ({**_maps(), "output_stride": 0}, ValueError, "output_stride must be finite and above 0, got 0"),
    ({**_maps(), "output_stride": math.nan}, ValueError, "output_stride must be finite and above 0, got nan"),
    ({**_maps(), "output_stride": "16"}, TypeError, "output_stride must be a number, got str"),
    ({**_maps(), "output_stride": [16]}, TypeError, "output_stride must be a number, got list"),
    ({**_maps(), "transform": np.eye(3)}, ValueError, "transform must have shape (2, 3) or (1, 2, 3), got (3, 3)"),
    (
        {**_maps(), "transform": [["a", 0, 0], [0, 0, 0]]},
        TypeError,
        "transform must be numbers of shape (2, 3) or (1, 2, 3), got [['a', 0, 0], [0, 0, 0]]",
    ),
    (
        _maps(dtype=np.uint8),
        ValueError,
        "quantization must give (scale, zero_point) of heatmaps, which is uint8, got None",
    ),
    (
        {**_maps(), "quantization": {"heatmaps": (1, 0)}},
        ValueError,
        "quantization must name integer tensors alone, got 'heatmaps', which is float32",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": {"maps": (1, 0)}},
        ValueError,
        "quantization must name heatmaps or offsets, got 'maps'",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": (1, 0)},
        TypeError,
        "quantization must be a dict of argument name to (scale, zero_point), got tuple",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": {"heatmaps": 1}},
        TypeError,
        "quantization['heatmaps'] must be (scale, zero_point), got 1",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": {"heatmaps": (-1, 0)}},
        ValueError,
        "quantization['heatmaps'] must have a finite scale above 0, got -1.0",
    ),
    (
        {**_maps(dtype=np.int8), "quantization": {"heatmaps": (1, 128)}},
        ValueError,
        "quantization['heatmaps'] must have a whole zero_point from -128 to 127, got 128",
    ),
    (
        {**_maps(), "out": np.zeros((1, 17, 3), F32)},
        TypeError,
        "out must be a result of the same call or a tuple (keypoints, scores), got ndarray",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 2), F32),)},
        TypeError,
        "out must be a result of the same call or a tuple (keypoints, scores), got 1 arrays",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 3), F32), np.zeros((1, 17), F32))},
        ValueError,
        "out.keypoints must have shape (1, 17, 2), got (1, 17, 3)",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 2)), np.zeros((1, 17), F32))},
        TypeError,
        "out.keypoints must be float32, got float64",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 2), F32), np.zeros((1, 34), F32)[:, ::2])},
        ValueError,
        "out.scores must be C-contiguous, got strides (34, 2)",
    ),
    (
        {**_maps(), "out": (np.zeros((1, 17, 2), F32), np.broadcast_to(F32(0), (1, 17)))},
        ValueError,
        "out.scores must be C-contiguous, got strides (0, 0)",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[message[:60] for _, _, message in BAD])
def test_bad_input(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error) as caught:
        posepost.decode_posenet(**{"activation": "sigmoid", **arguments})
    assert str(caught.value) == message


NOT_ON_A_DEVICE = ("got >f4", "got strides (0, 0)")  # what CuPy does not have, what to_device does not place


def test_bad_input_on_a_device(cpu_cuda: ExecutorCuda) -> None:
    """The same words as on the host, and nothing is launched."""
    for arguments, error, message in BAD:
        if message.endswith(NOT_ON_A_DEVICE):
            continue

        def place(value: object) -> object:
            if isinstance(value, np.ndarray):
                whole = value.base if value.base is not None else value
                return to_device(whole)[:, ::2] if whole.shape != value.shape else to_device(value)
            return tuple(map(place, value)) if isinstance(value, tuple) else value

        placed = {k: place(v) if k in ("heatmaps", "offsets", "out") else v for k, v in arguments.items()}
        with pytest.raises(error) as caught:
            posepost.decode_posenet(**{"activation": "sigmoid", **placed})
        assert str(caught.value) == message
    assert not cpu_cuda.launches


def test_bad_strides_and_read_only_out() -> None:
    maps = _maps()
    maps["heatmaps"] = maps["heatmaps"][:, :, ::-1]
    with pytest.raises(
        ValueError, match=r"^heatmaps must not have negative strides, got \(340, 20, -5, 1\); pass a con"
    ):
        posepost.decode_posenet(**maps, activation="sigmoid")
    odd = np.zeros((1, 17, 4, 5), np.dtype([("value", "f4"), ("flag", "u1")]))["value"]
    with pytest.raises(
        ValueError, match=r"^heatmaps must have strides that are multiples of its 4-byte elements, got "
    ):
        posepost.decode_posenet(**{**_maps(), "heatmaps": odd}, activation="sigmoid")
    scores = np.zeros((1, 17), np.float32)
    scores.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out\.scores must be writable, got a read-only numpy array$"):
        posepost.decode_posenet(**_maps(), out=(np.zeros((1, 17, 2), np.float32), scores), activation="sigmoid")


def test_mixed_devices(cpu_cuda: ExecutorCuda) -> None:
    maps = _maps()
    for name, here, there in (("heatmaps", "cpu", "cuda:0"), ("offsets", "cuda:0", "cpu")):
        mixed = {**maps, name: to_device(maps[name])}
        with pytest.raises(
            ValueError, match=f"^offsets must be on the same device as heatmaps, got {here} and {there}$"
        ):
            posepost.decode_posenet(**mixed, activation="sigmoid")
    device = {name: to_device(maps[name]) for name in ("heatmaps", "offsets")}
    out = (np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32))
    with pytest.raises(
        ValueError, match=r"^out\.keypoints must be on the same device as heatmaps, got cpu and cuda:0$"
    ):
        posepost.decode_posenet(**device, output_stride=8, out=out, activation="sigmoid")
    with pytest.raises(ValueError, match=r"^transform must be on the same device as heatmaps, got cuda:0 and cpu$"):
        posepost.decode_posenet(**maps, transform=to_device(MATRIX), activation="sigmoid")
    with pytest.raises(TypeError, match=r"^transform on a device must be float32, got float16$"):
        posepost.decode_posenet(
            **device, output_stride=8, transform=to_device(MATRIX.astype(np.float16)), activation="sigmoid"
        )
    with pytest.raises(ValueError, match=r"^transform must have shape \(2, 3\) or \(1, 2, 3\), got \(3, 3\)$"):
        posepost.decode_posenet(
            **device, output_stride=8, transform=to_device(np.eye(3, dtype=np.float32)), activation="sigmoid"
        )
    with pytest.raises(TypeError, match=r"^stream must be None, a pointer, a CuPy or PyTorch stream or have __cuda_st"):
        posepost.decode_posenet(**device, output_stride=8, stream="main", activation="sigmoid")


def test_device_transform_and_misaligned_device_memory(cpu_cuda: ExecutorCuda) -> None:
    heatmaps, offsets = values("random", "float32", (2, 3, 4, 5), 1), values("random", "float32", (2, 6, 4, 5), 2)
    rows = np.stack([MATRIX, 2 * MATRIX])
    for matrix in (MATRIX, rows):
        got = posepost.decode_posenet(
            to_device(heatmaps), to_device(offsets), output_stride=8, transform=to_device(matrix), activation="sigmoid"
        ).numpy()
        equal(
            got.keypoints,
            posepost.decode_posenet(
                heatmaps, offsets, output_stride=8, transform=matrix, activation="sigmoid"
            ).keypoints,
        )
    import cupy

    off = to_device(np.zeros(200, np.float32))
    crooked = cupy.ndarray((1, 3, 4, 5), np.float32, off.data + 2)
    with pytest.raises(ValueError, match=r"^heatmaps must start at a multiple of its 4-byte elements, got address 0x"):
        posepost.decode_posenet(crooked, to_device(offsets[:1]), output_stride=8, activation="sigmoid")
