"""What decoders return: frozen values that unpack, print, compare, copy and pickle with all their arrays."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

import posepost
from bench.arrays import values
from bench.cuda_cpu.seam import ExecutorCuda, host, to_device
from posepost import _cuda, _view

from ..helpers import gaussian_maps, gaussian_vectors

pytestmark = pytest.mark.usefixtures("fresh_plans")


def simcc(put: Any = np.array, **options: Any) -> posepost.Keypoints:
    x, y = put(gaussian_vectors((2, 3, 40), 1)), put(gaussian_vectors((2, 3, 30), 2))
    return posepost.decode_simcc(x, y, visibility=True, **options)


def peaks(put: Any = np.array, **options: Any) -> posepost.Peaks:
    maps = put(gaussian_maps((2, 3, 19, 22), "float32", 1))
    return posepost.find_peaks(maps, threshold=0.01, max_peaks=2, **options)


def poses(put: Any = np.array, **options: Any) -> posepost.Poses:
    tensors = [put(values("random", "float32", (2, n, 9, 9), n)) for n in (17, 34, 32, 32)]
    return posepost.decode_posenet_multi(*tensors, output_stride=8, **options)


def posenet(put: Any = np.array, **options: Any) -> posepost.Keypoints:
    maps, offsets = put(values("random", "float32", (2, 3, 9, 9), 1)), put(values("random", "float32", (2, 6, 9, 9), 2))
    return posepost.decode_posenet(maps, offsets, output_stride=8, **options)


def heatmap(put: Any = np.array, **options: Any) -> posepost.Keypoints:
    return posepost.decode_heatmap(put(gaussian_maps((2, 3, 19, 22), "float32", 1)), **options)


FIELDS = {
    simcc: ("keypoints", "scores", "visibility"),
    peaks: ("points", "scores", "count", "dropped"),
    poses: ("keypoints", "keypoint_scores", "scores", "count"),
    posenet: ("keypoints", "scores"),
    heatmap: ("keypoints", "scores"),
}
UNPACKED = {simcc: 2, peaks: 3, poses: 4, posenet: 2, heatmap: 2}
CALLS = pytest.mark.parametrize("call", FIELDS, ids=lambda call: call.__name__)


def host_array(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else host(array)


@CALLS
def test_results_unpack_print_and_are_frozen(call: Any) -> None:
    result = call()
    assert [id(array) for array in result] == [id(getattr(result, name)) for name in FIELDS[call][: UNPACKED[call]]]
    assert all(f"{name}=array(" in repr(result) for name in FIELDS[call])
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'scores'"):
        result.scores = None
    with pytest.raises(TypeError, match="unhashable type"):
        hash(result)


@CALLS
def test_results_compare_with_all_their_arrays(call: Any) -> None:
    result = call()
    assert result == call()
    assert result != tuple(result)
    for name in FIELDS[call]:
        changed = dataclasses.replace(result, **{name: getattr(result, name) + 1})
        assert result != changed
    nan = dataclasses.replace(result, scores=np.full_like(result.scores, np.nan))
    assert nan == dataclasses.replace(nan, scores=nan.scores.copy())


@pytest.mark.parametrize("on_device", [False, True])
@CALLS
def test_results_are_copied_and_pickled_with_all_their_arrays(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, call: Any, on_device: bool
) -> None:
    result = call(to_device if on_device else np.array)
    shallow = copy.copy(result)
    assert all(getattr(shallow, name) is getattr(result, name) for name in FIELDS[call])
    assert shallow.numpy() == result.numpy()
    if on_device:  # the executor's arrays are no memory that CuPy could copy
        assert [len(value) for value in result.__reduce__()[1:]] == [len(FIELDS[call])]
        assert cpu_cuda.synchronized
        return
    for again in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert type(again) is type(result)
        assert again == result
        assert not any(np.shares_memory(getattr(again, name), getattr(result, name)) for name in FIELDS[call])


@CALLS
def test_copies_of_a_result_of_the_per_thread_stream_wait_for_the_thread_that_wrote_it(
    cpu_cuda: ExecutorCuda, call: Any
) -> None:
    """They waited for the stream of the same number in their own thread, which is another one; `.numpy()` did not."""
    result = call(to_device, stream=_cuda.PER_THREAD_STREAM)
    written = result._memory.holder
    assert written in cpu_cuda.events
    for number, wait in enumerate(
        (
            result.numpy,
            result.__reduce__,
            lambda: result.__deepcopy__({id(array): array for array in result._arrays}),
            lambda: result == result,
        ),
        1,
    ):
        before = written.synchronized
        wait()
        assert written.synchronized > before, number


@pytest.mark.parametrize("library", ["torch", "jax"])
@CALLS
def test_results_of_other_libraries_are_copied_and_pickled(library: str, call: Any) -> None:
    module = pytest.importorskip(library, reason=f"needs {library}")
    put = module.from_numpy if library == "torch" else module.numpy.asarray
    result, expected = call(put), call()
    kind = type(result.scores)
    for again in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert type(again) is type(result)
        assert all(type(getattr(again, name)) is kind for name in FIELDS[call])
        assert again == expected
    if library == "torch":
        deep = copy.deepcopy(result)
        result.scores.fill_(7)
        assert deep == expected


@CALLS
def test_a_device_result_becomes_numpy_in_one_copy(cpu_cuda: ExecutorCuda, call: Any) -> None:
    expected, result, copies = call(), call(to_device), []
    download = cpu_cuda.download
    cpu_cuda.download = lambda *arguments: copies.append(1) or download(*arguments)  # type: ignore[method-assign]
    got = result.numpy()
    assert len(copies) == 1
    for name in FIELDS[call]:
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-6)
        assert getattr(got, name).dtype == getattr(expected, name).dtype


@CALLS
def test_a_result_goes_over_in_the_library_of_out(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    """Maps of CuPy, `out` of PyTorch: PyTorch's stream is the one that waits. Of every decoder."""
    out = call(to_device)
    object.__setattr__(out, "_memory", out._memory._replace(library="torch"))
    asked = []
    monkeypatch.setattr(_view, "hand_over", lambda arrays, ordinal, stream, library: asked.append(library) or arrays)
    assert call(to_device, out=out) is out
    assert asked == ["torch"]


@CALLS
def test_out_is_written_in_place_without_an_allocation(cpu_cuda: ExecutorCuda, call: Any) -> None:
    expected, out = call(), call(to_device)
    for name in FIELDS[call]:
        host(getattr(out, name))[...] = 77
    allocations = cpu_cuda.allocations
    again = call(to_device, out=out)
    assert cpu_cuda.allocations == allocations
    assert again is out
    for name in FIELDS[call]:
        np.testing.assert_allclose(host_array(getattr(again, name)), getattr(expected, name), rtol=1e-6)


def test_an_absent_joint_is_nan_in_arrays_where_asked_for() -> None:
    points = np.arange(12, dtype=np.float32).reshape(1, 6, 2)
    points[0, 4, 1] = np.inf
    scores = np.array([[0.5, 0, -1, np.nan, 0.5, 1e-30]], np.float32)
    people = posepost.Keypoints(points, scores, scores)
    there = [True, False, False, False, False, True]
    before = points.copy()
    for absent in (np.nan, -1, 0.0):
        marked = people.numpy(absent=absent)
        assert np.array_equal(marked.keypoints[0, there], points[0, there])
        assert np.array_equal(marked.keypoints[0, np.invert(there)], np.full((4, 2), absent), equal_nan=True)
        assert marked.keypoints.dtype == np.float32
        assert marked.scores is scores
        assert marked.visibility is scores
    assert np.array_equal(points, before)
    assert people.numpy().keypoints is points
    with pytest.raises(TypeError, match=r"\Aabsent must be a number, got str\Z"):
        people.numpy(absent="nan")  # type: ignore[arg-type]


def test_an_absent_joint_of_several_people_too() -> None:
    """A model's joint that is nowhere, and the rows behind the last person."""
    found = posepost.Poses(
        np.ones((1, 2, 2, 2), np.float32),
        np.array([[[0.5, 0], [0, 0]]], np.float32),
        np.array([[0.25, 0]], np.float32),
        np.array([1], np.int32),
    )
    marked = found.numpy(absent=np.nan)
    assert np.isnan(marked.keypoints[0]).all(axis=-1).tolist() == [[False, True], [True, True]]
    assert marked.count is found.count


def test_an_absent_joint_of_a_device_result(cpu_cuda: ExecutorCuda) -> None:
    maps = gaussian_maps((2, 3, 19, 22), "float32", 1)
    maps[1, 2] = 0
    result = posepost.decode_heatmap(to_device(maps), preset="mmpose_msra", transform=[[2, 0, 7], [0, 2, 9]])
    assert result.numpy().keypoints[1, 2].tolist() == [5, 7]
    gone = np.isnan(result.numpy(absent=np.nan).keypoints).all(axis=-1)
    assert np.argwhere(gone).tolist() == [[1, 2]]
