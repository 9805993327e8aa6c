"""The same on a real CUDA device: kernels equal NumPy, streams are honored, nothing waits, graphs capture.

Skipped with a reason where there is none; POSEPOST_REQUIRE_GPU=1 turns that into a failure.
"""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import DTYPES, KINDS, VIEWS, dtype_of, quantization_for, values
from bench.tolerance import DARK_RTOL, SIGMOID_ATOL, SIGMOID_RTOL, SOFT_ATOL
from posepost import _cuda
from posepost._rules.heatmap import PRESETS

from .helpers import (
    SIMCC_OPTIONS,
    VECTOR_VIEWS,
    crowd,
    gaussian_maps,
    gaussian_vectors,
    random_pairs,
    random_tree,
    same_keypoints,
    scales,
    simcc_quantization,
)

pytestmark = pytest.mark.gpu

SHAPES = (
    (1, 17, 33, 33),
    (3, 5, 9, 40),
    (2, 1, 1, 1),
    (2, 17, 3, 1),
    (1, 130, 4, 5),
    (64, 17, 64, 48),
    (1, 17, 270, 480),
)


def placed(cupy: Any, array: np.ndarray, skip: int = 0) -> Any:
    """On the device, `skip` elements past an aligned start."""
    memory = cupy.cuda.alloc((array.size + skip) * array.itemsize)
    result = cupy.ndarray(array.shape, array.dtype, memory + skip * array.itemsize)
    whole = np.ascontiguousarray(array)
    result.data.copy_from_host(whole.ctypes.data, whole.nbytes)
    return result


def example(shape: tuple[int, int, int, int] = (4, 17, 64, 48), seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    B, K, H, W = shape
    return values("random", "float32", shape, seed), values("random", "float32", (B, 2 * K, H, W), seed + 1)


def assert_same(got: posepost.Keypoints, expected: posepost.Keypoints) -> None:
    same_keypoints(got, expected, scores=(SIGMOID_RTOL, SIGMOID_ATOL))


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_equals_twin_on_the_gpu(gpu: Any, dtype: str, view_name: str) -> None:
    layout, view = VIEWS[view_name]
    scales = quantization_for(dtype, dtype)
    for case, (shape, kind) in enumerate((shape, kind) for shape in SHAPES for kind in KINDS):
        B, K, H, W = shape
        heatmaps = values(kind, dtype, shape, case)
        offsets = values("random", dtype, (B, 2 * K, H, W), case + 1)
        options = {"output_stride": 16, "layout": layout, "activation": None, "quantization": scales}
        expected = posepost.decode_posenet(view(heatmaps, np.array), view(offsets, np.array), **options)
        on_device = [view(array, lambda x, skip=case % 9: placed(gpu, x, skip)) for array in (heatmaps, offsets)]
        for _ in range(2):
            got = posepost.decode_posenet(*on_device, **options).numpy()
            np.testing.assert_array_equal(got.keypoints, expected.keypoints)
            np.testing.assert_array_equal(got.scores, expected.scores)


def test_sigmoid_transform_and_offsets_of_another_type_on_the_gpu(gpu: Any) -> None:
    heatmaps, offsets = example()
    heatmaps *= 40
    rows = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    for matrix in (rows, rows[0]):
        for put in (np.asarray, gpu.asarray):
            half = offsets.astype(np.float16)
            expected = posepost.decode_posenet(heatmaps, half, output_stride=8, transform=matrix, activation="sigmoid")
            got = posepost.decode_posenet(
                gpu.asarray(heatmaps), gpu.asarray(half), output_stride=8, transform=put(matrix), activation="sigmoid"
            )
            assert_same(got.numpy(), expected)


def test_numbers_past_2_to_the_31_elements_on_the_gpu(gpu: Any) -> None:
    if gpu.cuda.runtime.memGetInfo()[0] < 12 << 30:
        pytest.skip("needs 12 GiB of free device memory")
    B, K, H, W = 2**17, 17, 32, 32  # 2.28e9 elements of one byte
    heatmaps = gpu.zeros((B, K, H, W), gpu.uint8)
    offsets = gpu.zeros((1, 2 * K, H, W), gpu.uint8)
    spread = gpu.ndarray((B, 2 * K, H, W), gpu.uint8, offsets.data, strides=(0, *offsets.strides[1:]))
    heatmaps[-1, -1, 30, 31] = 7
    scales = {"heatmaps": (1, 0), "offsets": (1, 0)}
    got = posepost.decode_posenet(
        heatmaps, spread, output_stride=1, layout="NCHW", activation=None, quantization=scales
    ).numpy()
    assert got.keypoints[-1, -1].tolist() == [31, 30]
    assert got.scores[-1, -1] == 7
    assert not got.keypoints[:-1].any()


@pytest.mark.parametrize("kind", ["null", "non-blocking", "per-thread", "pointer"])
def test_streams(gpu: Any, kind: str) -> None:
    """The launch is ordered behind what is on the stream, and .numpy() waits for it."""
    heatmaps, offsets = example()
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    streams = {"null": gpu.cuda.Stream.null, "per-thread": gpu.cuda.Stream.ptds}
    stream = streams.get(kind) or gpu.cuda.Stream(non_blocking=True)
    with stream:
        busy = gpu.ones((4096, 4096), gpu.float32)
        h, o = gpu.zeros(heatmaps.shape, gpu.float32), gpu.asarray(offsets)
        source = gpu.asarray(heatmaps)
        for _ in range(20):
            busy = busy @ busy * gpu.float32(1e-4)
        h[...] = source  # only now are the maps what they should be
    got = posepost.decode_posenet(
        h, o, output_stride=8, stream=stream.ptr if kind == "pointer" else stream, activation="sigmoid"
    )
    assert_same(got.numpy(), expected)


def test_the_call_does_not_wait(gpu: Any) -> None:
    heatmaps, offsets = map(gpu.asarray, example())
    posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid").numpy()
    stream = gpu.cuda.Stream(non_blocking=True)
    with stream:
        busy = gpu.ones((8192, 8192), gpu.float32)
        for _ in range(30):
            busy = busy @ busy * gpu.float32(1e-4)
        result = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
        assert not stream.done, "the stream was drained before decode_posenet returned"
    result.numpy()


def test_cuda_graph_replays_on_new_contents(gpu: Any) -> None:
    """Both with one block a tile and with several, which use the workspace."""
    for shape in ((4, 17, 64, 48), (1, 3, 300, 400)):
        first, second = example(shape, 1), example(shape, 5)
        heatmaps, offsets = map(gpu.asarray, first)
        stream = gpu.cuda.Stream(non_blocking=True)
        with stream:
            out = posepost.decode_posenet(
                heatmaps, offsets, output_stride=8, activation="sigmoid"
            )  # compiles, makes the workspace
            stream.synchronize()
            stream.begin_capture()
            posepost.decode_posenet(heatmaps, offsets, output_stride=8, out=out, activation="sigmoid")
            graph = stream.end_capture()
            for h, o in (first, second, first):
                heatmaps.set(h)
                offsets.set(o)
                graph.launch()
                stream.synchronize()
                assert_same(out.numpy(), posepost.decode_posenet(h, o, output_stride=8, activation="sigmoid"))


def test_threads_and_streams_at_once(gpu: Any) -> None:
    """Eight threads, each with its stream, on maps that several blocks share."""
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            h, o = example((1, 3, 300, 400), seed)
            expected = posepost.decode_posenet(h, o, output_stride=8, activation="sigmoid")
            with gpu.cuda.Stream(non_blocking=True):
                heatmaps, offsets = gpu.asarray(h), gpu.asarray(o)
                for _ in range(50):
                    assert_same(
                        posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid").numpy(),
                        expected,
                    )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_torch_in_torch_out(gpu: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    heatmaps, offsets = example()
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    h, o = torch.from_numpy(heatmaps).cuda(), torch.from_numpy(offsets).cuda()
    got = posepost.decode_posenet(h, o, output_stride=8, activation="sigmoid")
    assert got.keypoints.is_cuda
    assert_same(got.numpy(), expected)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # torch works on a stream of its own, posepost on CuPy's
        late = torch.zeros_like(h)
        for _ in range(20):
            torch.randn(4096, 4096, device="cuda") @ torch.randn(4096, 4096, device="cuda")
        late.copy_(h)
        got = posepost.decode_posenet(late, o, output_stride=8, activation="sigmoid")
        assert_same(posepost.Keypoints(got.keypoints.cpu(), got.scores.cpu()).numpy(), expected)
        got = posepost.decode_posenet(late, o, output_stride=8, stream=side, activation="sigmoid")
        assert_same(got.numpy(), expected)
    bf16 = h.to(torch.bfloat16)
    expected = posepost.decode_posenet(bf16.cpu(), offsets, output_stride=8, activation="sigmoid")
    assert_same(posepost.decode_posenet(bf16, o, output_stride=8, activation="sigmoid").numpy(), expected.numpy())


def test_jax_in_jax_out(gpu: Any) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    if jax.default_backend() != "gpu":
        pytest.skip("this JAX has no GPU")
    heatmaps, offsets = example()
    got = posepost.decode_posenet(
        jax.numpy.asarray(heatmaps), jax.numpy.asarray(offsets), output_stride=8, activation="sigmoid"
    )
    assert isinstance(got.keypoints, jax.Array)
    assert_same(got.numpy(), posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid"))


def test_every_device_of_several(gpu: Any) -> None:
    heatmaps, offsets = example()
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    for device in range(gpu.cuda.runtime.getDeviceCount()):
        with gpu.cuda.Device(device):
            h, o = gpu.asarray(heatmaps), gpu.asarray(offsets)
        got = posepost.decode_posenet(h, o, output_stride=8, activation="sigmoid")
        assert got.keypoints.device.id == device
        assert_same(got.numpy(), expected)


def test_out_on_the_gpu_allocates_nothing(gpu: Any) -> None:
    heatmaps, offsets = map(gpu.asarray, example())
    out = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    pool = gpu.get_default_memory_pool()
    before = pool.used_bytes(), pool.total_bytes()
    again = posepost.decode_posenet(heatmaps, offsets, output_stride=8, out=out, activation="sigmoid")
    assert (pool.used_bytes(), pool.total_bytes()) == before
    assert again.keypoints is out.keypoints


def test_workspace_is_left_zero_on_the_gpu(gpu: Any) -> None:
    h, o = map(gpu.asarray, example((1, 3, 300, 400)))
    posepost.decode_posenet(h, o, output_stride=8, activation="sigmoid").numpy()
    buffers = list(_cuda._workspaces.values())
    assert buffers
    assert not any(memory.any() for memory in buffers)


@pytest.mark.parametrize("mode", ["tfjs", "pytorch", "coral", "edgetpu"])
@pytest.mark.parametrize("view_name", ["nchw", "nhwc", "nchw_crop"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_several_people_on_the_gpu(gpu: Any, dtype: str, view_name: str, mode: str) -> None:
    """Equal to NumPy, twice the same, in three launches that a graph can hold."""
    layout, view = VIEWS[view_name]
    for seed, shape in enumerate(((2, 7, 9), (1, 1, 1), (3, 40, 60))):
        tensors = crowd(dtype, *shape, seed)
        options = {"output_stride": 8, "layout": layout, "mode": mode, "quantization": scales(dtype), "nms_radius": 6.0}
        expected = posepost.decode_posenet_multi(
            *(view(array, np.array) for array in tensors.values()), **options, activation="sigmoid"
        )
        on_device = [view(array, lambda x: placed(gpu, x)) for array in tensors.values()]
        for _ in range(2):
            got = posepost.decode_posenet_multi(*on_device, **options, activation="sigmoid").numpy()
            np.testing.assert_array_equal(got.count, expected.count)
            np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=1e-4)
            np.testing.assert_allclose(got.keypoint_scores, expected.keypoint_scores, rtol=1e-6, atol=1e-37)
            np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("K", [1, 5, 32])
def test_a_skeleton_of_ones_own_on_the_gpu(gpu: Any, K: int) -> None:
    for seed, mode in enumerate(("tfjs", "pytorch", "coral")):
        tensors = list(crowd("float32", 2, 20, 30, seed, K).values())
        options = {"output_stride": 8, "mode": mode, "skeleton": random_tree(K, seed), "activation": None}
        expected = posepost.decode_posenet_multi(*tensors, **options)
        got = posepost.decode_posenet_multi(*map(gpu.asarray, tensors), **options).numpy()
        np.testing.assert_array_equal(got.count, expected.count)
        np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=1e-4)
        np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-6, atol=1e-37)


def test_several_people_in_a_graph(gpu: Any) -> None:
    first, second = (list(crowd("float32", 2, 33, 33, seed).values()) for seed in (1, 2))
    tensors = [gpu.asarray(array) for array in first]
    stream = gpu.cuda.Stream(non_blocking=True)
    with stream:
        out = posepost.decode_posenet_multi(*tensors, output_stride=8, activation="sigmoid")
        stream.synchronize()
        stream.begin_capture()
        posepost.decode_posenet_multi(*tensors, output_stride=8, out=out, activation="sigmoid")
        graph = stream.end_capture()
        for arrays in (first, second, first):
            for tensor, array in zip(tensors, arrays):
                tensor.set(array)
            graph.launch()
            stream.synchronize()
            expected = posepost.decode_posenet_multi(*arrays, output_stride=8, activation="sigmoid")
            np.testing.assert_array_equal(out.numpy().count, expected.count)
            np.testing.assert_allclose(out.numpy().keypoints, expected.keypoints, rtol=0, atol=1e-4)


@pytest.mark.parametrize("view_name", ["nchw", "nhwc", "nchw_crop"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_peaks_on_the_gpu(gpu: Any, dtype: str, view_name: str) -> None:
    layout, view = VIEWS[view_name]
    scale = {"heatmaps": (0.25, 3)} if "int" in dtype else None
    for case, kind in enumerate(KINDS):
        heatmaps = values(kind, dtype, (2, 3, 40, 60), case)
        for plateau in ("all", "none"):
            options = {"layout": layout, "activation": None, "threshold": 0.0, "max_peaks": 30, "plateau": plateau}
            expected = posepost.find_peaks(view(heatmaps, np.array), **options, quantization=scale)
            on_device = view(heatmaps, lambda x: placed(gpu, x))
            got = posepost.find_peaks(on_device, **options, quantization=scale).numpy()
            for name in ("points", "scores", "count", "dropped"):
                np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))


def test_blocks_share_large_maps_on_the_gpu(gpu: Any) -> None:
    """Local maxima and the flip test: the same whichever block comes last, and the workspace is left zero for it."""
    maps, mirrored = (values("ties", "float32", (1, 3, 300, 280), seed) for seed in (1, 2))
    peaks_of = {"threshold": -1.0, "max_peaks": 200, "layout": "NCHW", "activation": None}
    pairs = (1, 0, 2)
    best = posepost.find_peaks(maps, **peaks_of)
    merged = posepost.decode_heatmap(maps, refine="quarter", flip=posepost.Flip(mirrored, pairs))
    on_device, flip = placed(gpu, maps), posepost.Flip(placed(gpu, mirrored), pairs)
    for _ in range(20):
        got = posepost.find_peaks(on_device, **peaks_of).numpy()
        for name in ("points", "scores", "count", "dropped"):
            np.testing.assert_array_equal(getattr(got, name), getattr(best, name))
        points = posepost.decode_heatmap(on_device, refine="quarter", flip=flip).numpy()
        np.testing.assert_array_equal(points.keypoints, merged.keypoints)
        np.testing.assert_array_equal(points.scores, merged.scores)


def test_more_roots_than_shared_memory_holds_on_the_gpu(gpu: Any) -> None:
    tensors = list(crowd("float32", 2, 60, 70, 3).values())
    options = {"output_stride": 8, "score_threshold": 0.05, "nms_radius": 1.0, "max_poses": 300, "activation": None}
    expected = posepost.decode_posenet_multi(*tensors, **options)
    for _ in range(3):
        got = posepost.decode_posenet_multi(*map(gpu.asarray, tensors), **options).numpy()
        np.testing.assert_array_equal(got.count, expected.count)
        np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=1e-4)


@pytest.mark.parametrize("view_name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_heatmap_heads_on_the_gpu(gpu: Any, dtype: str, view_name: str) -> None:
    """Every preset on peaks of several shapes: equal, or within the table where logarithms and exponentials take
    part."""
    layout, view = VIEWS[view_name]
    scale = {"quantization": {"heatmaps": (0.0375, 11)}} if "int" in dtype else {}
    for case, shape in enumerate(((2, 6, 64, 48), (1, 15, 9, 11), (3, 3, 1, 1), (1, 6, 96, 130), (64, 18, 64, 48))):
        maps = gaussian_maps(shape, dtype, case)
        for preset in PRESETS:
            options = {"layout": layout, "preset": preset, **scale}
            expected = posepost.decode_heatmap(view(maps, np.array), **options)
            got = posepost.decode_heatmap(view(maps, lambda array: placed(gpu, array)), **options).numpy()
            inexact = {"mmpose_dark": 10 * DARK_RTOL, "mmpose_udp": 10 * DARK_RTOL, "vitpose_hf": 10 * DARK_RTOL}
            inexact |= {"vitpose_rtmlib": 10 * DARK_RTOL, "sapiens": 10 * DARK_RTOL}
            inexact |= {"mmpose_integral": SOFT_ATOL * max(shape[2:]), "mediapipe": 2e-5}
            np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=inexact.get(preset, 0))
            np.testing.assert_allclose(got.scores, expected.scores, rtol=SIGMOID_RTOL, atol=SIGMOID_ATOL)


def test_heatmap_flip_test_and_clips_on_the_gpu(gpu: Any) -> None:
    maps, mirrored = gaussian_maps((4, 17, 64, 48), "float16", 1), gaussian_maps((4, 17, 64, 48), "float16", 2)
    pairs = tuple(range(16, -1, -1))
    flip, flip_there = (posepost.Flip(one, pairs, shift=True) for one in (mirrored, placed(gpu, mirrored)))
    for preset in ("mmpose_msra", "mmpose_udp", "mmpose_megvii", "mmpose_integral"):
        expected = posepost.decode_heatmap(maps, preset=preset, flip=flip)
        got = posepost.decode_heatmap(placed(gpu, maps), preset=preset, flip=flip_there).numpy()
        np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=SOFT_ATOL * 64)
    weak = gaussian_maps((2, 17, 64, 48), "float32", 3) * np.float32(2e-3)  # the whole map is blurred for its maximum
    expected = posepost.decode_heatmap(weak, preset="mmpose_udp", scaling="msra")
    got = posepost.decode_heatmap(placed(gpu, weak), preset="mmpose_udp", scaling="msra").numpy()
    np.testing.assert_allclose(got.keypoints, expected.keypoints, rtol=0, atol=3e-4)


@pytest.mark.parametrize("preset", ["mmpose_dark", "mmpose_integral", "mmpose_megvii"])
def test_heatmap_heads_in_a_graph(gpu: Any, preset: str) -> None:
    """Captured once, replayed on other maps."""
    first, second = (gaussian_maps((2, 17, 64, 48), "float32", seed) for seed in (1, 2))
    maps, stream = placed(gpu, first), gpu.cuda.Stream(non_blocking=True)
    with stream:
        out = posepost.decode_heatmap(maps, preset=preset)
        stream.synchronize()
        stream.begin_capture()
        posepost.decode_heatmap(maps, preset=preset, out=out)
        graph = stream.end_capture()
        maps.set(second)
        graph.launch(stream)
        stream.synchronize()
    expected = posepost.decode_heatmap(second, preset=preset)
    np.testing.assert_allclose(out.numpy().keypoints, expected.keypoints, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "refine", ["quarter", posepost.Dark(5), posepost.DarkUDP(5), "centroid", "soft_argmax"], ids=str
)
def test_refined_peaks_on_the_gpu(gpu: Any, refine: Any) -> None:
    maps = np.max([gaussian_maps((2, 5, 48, 64), "float32", seed) for seed in range(6)], axis=0)
    options = {"threshold": 0.2, "max_peaks": 12, "nms_window": 5, "refine": refine, "activation": None}
    expected, got = (
        posepost.find_peaks(maps, **options),
        posepost.find_peaks(placed(gpu, maps), **options).numpy(),
    )
    np.testing.assert_array_equal(got.count, expected.count)
    np.testing.assert_allclose(got.points, expected.points, rtol=0, atol=10 * DARK_RTOL)


def assert_same_simcc(got: posepost.Keypoints, expected: posepost.Keypoints, activation: str | None = None) -> None:
    same_keypoints(got, expected, scores=(SIGMOID_RTOL, SIGMOID_ATOL) if activation else (0, 0))


@pytest.mark.parametrize("view_name", VECTOR_VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_simcc_on_the_gpu(gpu: Any, dtype: str, view_name: str) -> None:
    """Equal to NumPy, bit for bit but for exponentials, alone and with a mirrored image, twice the same."""
    view, scale = VECTOR_VIEWS[view_name], simcc_quantization(dtype)
    shapes = ((1, 17, 384, 512), (64, 133, 192, 256), (3, 5, 40, 33), (2, 1, 1, 1), (1, 3, 2, 7), (1, 300, 5, 9))
    kinds = (*(kind for kind in KINDS if kind != "denormal"), "peaks", "peaks")  # means of denormals are flushed
    for case, (shape, kind) in enumerate((shape, kind) for shape in shapes for kind in kinds):
        N, K, Wx, Wy = shape
        if kind == "peaks":
            arrays = [gaussian_vectors((N, K, W), case + i) for i, W in enumerate((Wx, Wy, Wx, Wy))]
            arrays = [(one * 100 if scale else one).astype(dtype_of(dtype)) for one in arrays]
        else:
            arrays = [values(kind, dtype, (N, K, W), case + i) for i, W in enumerate((Wx, Wy, Wx, Wy))]
        options = {**SIMCC_OPTIONS[case % len(SIMCC_OPTIONS)], "quantization": scale}
        for merged in (False, True):
            pairs = tuple(random_pairs(K, case))
            on_host = [view(array, np.array) for array in arrays]
            on_device = [view(array, lambda x, skip=case % 9: placed(gpu, x, skip)) for array in arrays]
            flip, flip_there = (
                posepost.Flip(vectors[2:], pairs) if merged else None for vectors in (on_host, on_device)
            )
            expected = posepost.decode_simcc(*on_host[:2], flip=flip, **options)
            for _ in range(2):
                got = posepost.decode_simcc(*on_device[:2], flip=flip_there, **options).numpy()
                assert_same_simcc(got, expected, options.get("activation"))


def test_denormals_of_simcc_on_the_gpu(gpu: Any) -> None:
    """Compared as integers: flush to zero does not touch bins, scores or thresholds."""
    for dtype in ("float32", "float16", "bfloat16"):
        x, y = values("denormal", dtype, (3, 5, 40), 1), values("denormal", dtype, (3, 5, 33), 2)
        expected = posepost.decode_simcc(x, y)
        assert_same_simcc(posepost.decode_simcc(placed(gpu, x), placed(gpu, y)).numpy(), expected)


def test_simcc_in_a_graph_without_a_wait_or_an_allocation(gpu: Any) -> None:
    options = {"refine": "dark", "visibility": True, "activation": "sigmoid"}
    sets = [[gaussian_vectors((4, 17, W), seed) for W in (384, 512)] for seed in (1, 2)]
    x, y = map(gpu.asarray, sets[0])
    stream = gpu.cuda.Stream(non_blocking=True)
    with stream:
        out = posepost.decode_simcc(x, y, **options)
        stream.synchronize()
        busy = gpu.ones((8192, 8192), gpu.float32)
        for _ in range(30):
            busy = busy @ busy * gpu.float32(1e-4)
        pool = gpu.get_default_memory_pool()
        before = pool.used_bytes(), pool.total_bytes()
        again = posepost.decode_simcc(x, y, **options, out=out)
        assert not stream.done, "the stream was drained before decode_simcc returned"
        assert (pool.used_bytes(), pool.total_bytes()) == before
        assert again.visibility is out.visibility
        stream.synchronize()
        stream.begin_capture()
        posepost.decode_simcc(x, y, **options, out=out)
        graph = stream.end_capture()
        for arrays in (*sets, sets[0]):
            x.set(arrays[0])
            y.set(arrays[1])
            graph.launch()
            stream.synchronize()
            assert_same_simcc(out.numpy(), posepost.decode_simcc(*arrays, **options), "sigmoid")


def test_simcc_of_torch_on_the_gpu(gpu: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    arrays = [gaussian_vectors((4, 17, W), W) for W in (384, 512)]
    x, y = (torch.from_numpy(array).cuda() for array in arrays)
    got = posepost.decode_simcc(x, y, refine="dark", visibility=True)
    assert got.keypoints.is_cuda
    assert got.visibility.is_cuda
    assert_same_simcc(got.numpy(), posepost.decode_simcc(*arrays, refine="dark", visibility=True))
    pinned = posepost.pinned(4, 17, visibility=True)
    got = posepost.decode_simcc(x, y, visibility=True, out=pinned).numpy()
    assert got.keypoints is pinned.keypoints
    assert_same_simcc(got, posepost.decode_simcc(*arrays, visibility=True))


# ---- streams, threads, graphs, lifetimes


def cuda_torch() -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return torch


def keep_busy(torch: Any) -> None:
    """Some milliseconds of work on torch's current stream."""
    busy = torch.ones(8192, 8192, device="cuda")
    for _ in range(8):
        busy = busy @ busy * 1e-4


def test_threads_with_and_without_a_transform(gpu: Any) -> None:
    """A host matrix travels with its own call alone."""
    h, o = example((1, 17, 33, 33))
    matrix = np.array([[2, 0, 1000], [0, 2, 1000]], np.float32)
    heatmaps, offsets = gpu.asarray(h), gpu.asarray(o)
    gpu.cuda.get_current_stream().synchronize()
    expected = {
        moved: posepost.decode_posenet(h, o, output_stride=8, transform=m, activation="sigmoid")
        for moved, m in ((0, None), (1, matrix))
    }
    wrong: list[Any] = []

    def work(moved: int) -> None:
        try:
            with gpu.cuda.Stream(non_blocking=True):
                for _ in range(300):
                    got = posepost.decode_posenet(
                        heatmaps, offsets, output_stride=8, transform=matrix if moved else None, activation="sigmoid"
                    )
                    assert_same(got.numpy(), expected[moved])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


def test_numpy_waits_for_torchs_side_stream(gpu: Any) -> None:
    """Read behind the block, from torch's default stream and from another thread."""
    torch = cuda_torch()
    heatmaps, offsets = example()
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    h, o = torch.from_numpy(heatmaps).cuda(), torch.from_numpy(offsets).cuda()
    posepost.decode_posenet(h, o, output_stride=8, activation="sigmoid")
    for explicit in (False, True):
        side = torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            keep_busy(torch)
            got = posepost.decode_posenet(
                h, o, output_stride=8, stream=side if explicit else None, activation="sigmoid"
            )
        assert got._memory is not None
        assert got._memory.stream == side.cuda_stream
        assert not side.query(), "the side stream was drained"
        if explicit:
            with concurrent.futures.ThreadPoolExecutor(1) as reader:
                assert_same(reader.submit(got.numpy).result(), expected)
        else:
            assert_same(got.numpy(), expected)


def test_results_outlive_their_stream(gpu: Any) -> None:
    heatmaps, offsets = example()
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")

    def decoded() -> posepost.Keypoints:
        with gpu.cuda.Stream(non_blocking=True):
            return posepost.decode_posenet(
                gpu.asarray(heatmaps), gpu.asarray(offsets), output_stride=8, activation="sigmoid"
            )

    for result in [decoded() for _ in range(20)]:
        assert_same(result.numpy(), expected)


def test_pinned_out_of_torch_on_a_side_stream(gpu: Any) -> None:
    torch = cuda_torch()
    heatmaps, offsets = example()
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    out, side = posepost.pinned(4, 17), torch.cuda.Stream()
    with torch.cuda.stream(side):
        keep_busy(torch)
        late = torch.from_numpy(heatmaps).cuda(non_blocking=True)
        got = posepost.decode_posenet(
            late, torch.from_numpy(offsets).cuda(), output_stride=8, out=out, activation="sigmoid"
        )
        del late
        for _ in range(4):  # memory of the input, were it given away too soon
            torch.full(heatmaps.shape, 7.0, device="cuda")
    assert_same(got.numpy(), expected)
    with torch.cuda.stream(side):  # on the null stream, asked for by its pointer
        late = torch.from_numpy(heatmaps).cuda()
        got = posepost.decode_posenet(
            late, torch.from_numpy(offsets).cuda(), output_stride=8, out=out, stream=0, activation="sigmoid"
        )
        del late
        torch.full(heatmaps.shape, 7.0, device="cuda")
    assert_same(got.numpy(), expected)


def test_dropped_pinned_memory_is_not_given_away_while_it_is_written(gpu: Any) -> None:
    heatmaps, offsets = map(gpu.asarray, example())
    posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid").numpy()
    stream = gpu.cuda.Stream(non_blocking=True)
    with stream:
        busy = gpu.ones((8192, 8192), gpu.float32)
        for _ in range(10):
            busy = busy @ busy * gpu.float32(1e-4)
        out = posepost.pinned(4, 17)
        address = out._memory.addresses[0]
        posepost.decode_posenet(heatmaps, offsets, output_stride=8, out=out, activation="sigmoid")
        del out
        assert not stream.done
        assert posepost.pinned(4, 17)._memory.addresses[0] != address
        stream.synchronize()


@pytest.mark.parametrize("shape", [(4, 17, 64, 48), (1, 3, 300, 400)], ids=["a block a map", "blocks share maps"])
def test_torchs_graph_on_first_use(gpu: Any, shape: tuple[int, int, int, int]) -> None:
    """Captured in torch's strictest mode, by a plan and a kernel that capture alone has used; replayed on another
    stream beside eager calls."""
    torch = cuda_torch()
    first, second = example(shape, 1), example(shape, 5)
    h, o = (torch.from_numpy(array).cuda() for array in first)
    posepost.posenet._plan.cache_clear()
    _cuda.release_memory()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = posepost.decode_posenet(h, o, output_stride=8, activation="sigmoid")
    side = torch.cuda.Stream()
    for arrays in (first, second, first):
        h.copy_(torch.from_numpy(arrays[0]))
        o.copy_(torch.from_numpy(arrays[1]))
        torch.cuda.synchronize()
        expected = posepost.decode_posenet(*arrays, output_stride=8, activation="sigmoid")
        with torch.cuda.stream(side):
            for _ in range(20):
                graph.replay()
        for _ in range(20):
            eager = posepost.decode_posenet(h, o, output_stride=8, activation="sigmoid")
        torch.cuda.synchronize()
        assert_same(posepost.Keypoints(out.keypoints, out.scores).numpy(), expected)
        assert_same(eager.numpy(), expected)


def test_cupys_graph_on_first_use_beside_eager_calls(gpu: Any) -> None:
    """Three decoders in one graph, replayed on another stream than it was captured on."""
    h, o = example((1, 3, 300, 400))
    crowded = [gpu.asarray(array) for array in crowd("float32", 1, 33, 33, 1).values()]
    heatmaps, offsets = gpu.asarray(h), gpu.asarray(o)

    def decode() -> list[Any]:
        return [
            posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid"),
            posepost.decode_posenet_multi(*crowded, output_stride=8, activation="sigmoid"),
            posepost.find_peaks(heatmaps, threshold=2.5, max_peaks=20, activation=None, layout="NCHW"),
        ]

    expected = [result.numpy() for result in decode()]
    _cuda.release_memory()
    stream, other = gpu.cuda.Stream(non_blocking=True), gpu.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        captured = decode()
        graph = stream.end_capture()
        for _ in range(20):
            eager = decode()  # before the first replay
            graph.launch(other)
        stream.synchronize()
        other.synchronize()
        for results in (eager, captured):
            for got, wanted in zip(results, expected):
                for ours, theirs in zip(got.numpy(), wanted):
                    np.testing.assert_array_equal(ours, theirs)
    assert not any(memory.any() for memory in _cuda._workspaces.values())


def test_one_person_of_jax_takes_part_in_arithmetic(gpu: Any) -> None:
    """Its scores begin where XLA lets an array begin."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    if jax.default_backend() != "gpu":
        pytest.skip("this JAX has no GPU")
    heatmaps, offsets = example((1, 17, 33, 33))
    expected = posepost.decode_posenet(heatmaps, offsets, output_stride=8, activation="sigmoid")
    for _ in range(10):  # whose inputs are dropped while the kernel reads them
        got = posepost.decode_posenet(
            jax.numpy.asarray(heatmaps), jax.numpy.asarray(offsets), output_stride=8, activation="sigmoid"
        )
        sums = [jax.jit(lambda array: array + 1)(array) for array in got]
        np.testing.assert_array_equal(sums[0], expected.keypoints + 1)
        np.testing.assert_allclose(sums[1], expected.scores + 1, rtol=1e-6)
    vectors = [gaussian_vectors((1, 17, W), W) for W in (384, 512)]
    seen = posepost.decode_simcc(*map(jax.numpy.asarray, vectors), visibility=True)
    wanted = posepost.decode_simcc(*vectors, visibility=True)
    np.testing.assert_allclose(np.asarray(seen.visibility + 1), wanted.visibility + 1, rtol=1e-5)
    assert_same_simcc(seen.numpy(), wanted)


def test_denormals_on_the_gpu(gpu: Any) -> None:
    """No comparison and no score flushes them: a map of denormals has its maximum, above a threshold of 0."""
    for dtype in ("float32", "bfloat16"):
        maps = values("denormal", dtype, (2, 5, 16, 12), 1)
        for view_name in ("nchw", "nhwc"):
            layout, view = VIEWS[view_name]
            options = {"layout": layout, "absent": -1}
            expected = posepost.decode_heatmap(view(maps, np.array), **options)
            got = posepost.decode_heatmap(view(maps, lambda array: placed(gpu, array)), **options).numpy()
            np.testing.assert_array_equal(got.keypoints, expected.keypoints)
            np.testing.assert_array_equal(got.scores, expected.scores)
