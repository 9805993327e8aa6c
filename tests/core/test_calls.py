"""What holds of every call on a device, whichever decoder: on the CPU executor, with faults injected in its seam."""

from __future__ import annotations

import decimal
import gc
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import values
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host, to_device
from posepost import _cuda

MATRIX = np.array([[2, 0, 1000], [0, 2, 1000]], np.float32)
TRANSFORMED = ("posenet", "heatmap", "simcc", "posenet_multi")
DECODERS = (*TRANSFORMED, "peaks")


def random(*shape: int) -> np.ndarray:
    return values("random", "float32", shape, sum(shape))


def call_of(decoder: str, put: Callable[[np.ndarray], Any], module: Any) -> Callable[..., Any]:
    """The decoder's call on arrays of its own; maps large enough for several blocks each."""
    if decoder == "posenet":
        maps = put(random(1, 3, 100, 120)), put(random(1, 6, 100, 120))
        return lambda **options: module.decode_posenet(*maps, output_stride=8, **options, activation="sigmoid")
    if decoder == "heatmap":
        heatmaps = put(random(1, 3, 100, 120))
        return lambda **options: module.decode_heatmap(heatmaps, **options)
    if decoder == "simcc":
        vectors = put(random(2, 3, 40)), put(random(2, 3, 50))
        return lambda **options: module.decode_simcc(*vectors, **options)
    if decoder == "peaks":
        heatmaps = put(random(1, 3, 20, 30))
        return lambda **options: module.find_peaks(
            heatmaps, threshold=0.5, max_peaks=5, activation=None, layout="NCHW", **options
        )
    tensors = [put(random(1, channels, 9, 9)) for channels in (17, 34, 32, 32)]
    return lambda **options: module.decode_posenet_multi(*tensors, output_stride=8, **options, activation="sigmoid")


def points_of(result: Any) -> np.ndarray:
    return np.array(next(iter(result.numpy())))


@pytest.mark.parametrize("decoder", TRANSFORMED)
def test_a_transform_stays_with_its_call(cpu_cuda: ExecutorCuda, decoder: str) -> None:
    """Whether its launch raises, or another call of the same plan comes while it is under way."""
    call = call_of(decoder, to_device, posepost)
    expected, moved = (points_of(call_of(decoder, np.array, posepost)(transform=matrix)) for matrix in (None, MATRIX))
    assert (expected != moved).any()
    np.testing.assert_allclose(points_of(call()), expected, rtol=1e-6)
    launch = cpu_cuda.launch

    def failing(*arguments: Any) -> None:
        raise MemoryError("no room")

    cpu_cuda.launch = failing  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(MemoryError, match="no room"):
            call(transform=MATRIX)
    cpu_cuda.launch = launch  # type: ignore[method-assign]
    np.testing.assert_allclose(points_of(call()), expected, rtol=1e-6)

    inside: list[np.ndarray] = []

    def overlapped(*arguments: Any) -> None:
        cpu_cuda.launch = launch  # type: ignore[method-assign]
        inside.append(points_of(call()))
        inside.append(points_of(call(transform=MATRIX)))
        launch(*arguments)

    cpu_cuda.launch = overlapped  # type: ignore[method-assign]
    outer = points_of(call(transform=MATRIX))
    for got, wanted in zip((*inside, outer), (expected, moved, moved)):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    for _ in range(3):
        np.testing.assert_allclose(points_of(call()), expected, rtol=1e-6)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_failed_launch_leaves_the_next_call_right(cpu_cuda: ExecutorCuda, decoder: str) -> None:
    call, launch = call_of(decoder, to_device, posepost), cpu_cuda.launch
    expected = points_of(call_of(decoder, np.array, posepost)())
    launches = len(cpu_cuda.launches)
    call()
    launches = len(cpu_cuda.launches) - launches
    for survive in range(launches):
        left = [survive]

        def failing(*arguments: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise RuntimeError("the launch failed")
            left[0] -= 1
            launch(*arguments)

        cpu_cuda.launch = failing  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="the launch failed"):
            call()
        cpu_cuda.launch = launch  # type: ignore[method-assign]
        np.testing.assert_allclose(points_of(call()), expected, rtol=1e-6)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_captured_call_has_memory_of_its_own(cpu_cuda: ExecutorCuda, decoder: str) -> None:
    """From its graph, zeroed there, given back there; the stream's own is not touched."""
    call = call_of(decoder, to_device, posepost)
    cpu_cuda.capturing = {STREAM}
    result = call()
    assert not _cuda._workspaces
    assert not _cuda._scratch
    assert not cpu_cuda.in_graphs
    assert len(cpu_cuda.freed) == (decoder != "simcc")
    np.testing.assert_allclose(points_of(result), points_of(call_of(decoder, np.array, posepost)()), rtol=1e-6)
    cpu_cuda.capturing = set()
    call()
    assert all(not host(memory).any() for memory in _cuda._workspaces.values())


def test_offsets_inside_the_heatmaps_ask_for_no_memory(cpu_cuda: ExecutorCuda) -> None:
    """udp_combined without a workspace: a graph has nothing to allocate."""
    heatmaps = to_device(random(2, 3, 20, 30))
    cpu_cuda.capturing = {STREAM}
    result = posepost.decode_heatmap(heatmaps, preset="mmpose_udp_combined")
    assert not cpu_cuda.freed
    np.testing.assert_array_equal(
        points_of(result), points_of(posepost.decode_heatmap(random(2, 3, 20, 30), preset="mmpose_udp_combined"))
    )


def test_multiprocessors_are_asked_of_the_driver() -> None:
    cupy = pytest.importorskip("cupy", reason="names the attribute: pip install posepost[cuda13]")
    asked: list[tuple[int, int]] = []
    runtime = types.SimpleNamespace(
        getDevice=lambda: 0,
        cudaDevAttrMultiProcessorCount=cupy.cuda.runtime.cudaDevAttrMultiProcessorCount,
        deviceGetAttribute=lambda what, device: asked.append((what, device)) or 84,
    )
    driver = types.SimpleNamespace(launchKernel=None)
    cuda = types.SimpleNamespace(runtime=runtime, get_current_stream=None, driver=driver)
    assert _cuda.Cuda(types.SimpleNamespace(cuda=cuda)).multiprocessors(1) == 84
    assert asked == [(16, 1)]


@pytest.mark.parametrize("decoder", [decoder for decoder in DECODERS if decoder != "simcc"])  # needs no memory
def test_memory_of_a_stream_keeps_its_address_from_others(cpu_cuda: ExecutorCuda, decoder: str) -> None:
    """A stream that was let go while it works would leave its address, and so its workspace, to the next one made."""
    call = call_of(decoder, to_device, posepost)

    class Mine:
        ptr = 77

    stream = Mine()
    alive = weakref.ref(stream)
    call(stream=stream)
    del stream
    gc.collect()
    assert alive() is not None
    posepost.release_memory()
    gc.collect()
    assert alive() is None


def test_memory_of_few_streams_is_kept(cpu_cuda: ExecutorCuda) -> None:
    made = [_cuda.work(8, 3, 0, 100 + i, object()).arrays[0] for i in range(_cuda.MOST_STREAMS + 3)]
    assert len(_cuda._workspaces) == len(_cuda._scratch) == len(_cuda._streams) == _cuda.MOST_STREAMS
    assert _cuda.work(8, 3, 0, 103, None).arrays[0] is made[3]
    assert _cuda.work(8, 3, 0, 100, None).arrays[0] is not made[0]


def test_values_were_accepted_where_an_equal_one_had_been() -> None:
    """A cache took Decimal(32) for 32, True for 1 and False for 0, once a call had been made with these."""
    maps, fields, vectors = random(1, 3, 8, 8), random(1, 6, 8, 8), random(1, 2, 32)
    calls: list[tuple[Callable[[Any], Any], Any, Any, str]] = [
        (
            lambda stride: posepost.decode_posenet(maps, fields, output_stride=stride),
            32,
            decimal.Decimal(32),
            "output_stride must be a number, got Decimal",
        ),
        (
            lambda ratio: posepost.decode_simcc(vectors, vectors, split_ratio=ratio),
            1,
            True,
            "split_ratio must be a number, got bool",
        ),
        (lambda beta: posepost.decode_simcc(vectors, vectors, beta=beta), 1, True, "beta must be a number, got bool"),
        (
            lambda least: posepost.decode_simcc(vectors, vectors, threshold=least),
            0,
            False,
            "threshold must be a number, got bool",
        ),
        (
            lambda place: posepost.decode_simcc(vectors, vectors, absent=place),
            0,
            False,
            "absent must be a number, got bool",
        ),
        (
            lambda room: posepost.find_peaks(maps, threshold=0.5, max_peaks=room),
            1,
            True,
            "max_peaks must be an int, got bool",
        ),
        (
            lambda last: posepost.Flip(maps, (0, 1, last)),
            2,
            2.0,
            r"pairs must be a sequence of ints, got \(0, 1, 2.0\)",
        ),
    ]
    for call, right, equal, message in calls:
        for _ in range(2):
            with pytest.raises(TypeError, match=f"^{message}$"):
                call(equal)
            call(right)
