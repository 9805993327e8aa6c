"""decode_posenet_multi: out, stream, batches, calls that were cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import ExecutorCuda, host, to_device
from posepost import _cuda, _kernels

from ..helpers import (
    check_poses,
    crowd,
)

pytestmark = pytest.mark.usefixtures("fresh_plans")


@pytest.mark.parametrize("step", ["compiling", "launching"])
def test_a_call_that_was_cut_off_spoils_no_other(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """find_roots counts up from a zero that accept_poses leaves behind."""
    tensors = crowd("float32", 2, 6, 7, 1)
    check_poses(tensors)
    done = len(cpu_cuda.launches)

    def failing(compile_or_launch: Any) -> Any:
        def call(what: Any, *arguments: Any) -> Any:
            if what is last or what == last:
                raise KeyboardInterrupt
            return compile_or_launch(what, *arguments)

        return call

    last: Any = _kernels.posenet_multi("f32", "accept_poses")
    with monkeypatch.context() as patched:
        if step == "compiling":
            patched.setattr(_cuda, "kernel", failing(_cuda.kernel))
        else:
            last = cpu_cuda.kernels[last]
            patched.setattr(cpu_cuda, "launch", failing(cpu_cuda.launch))
        with pytest.raises(KeyboardInterrupt):
            posepost.decode_posenet_multi(*map(to_device, tensors.values()), output_stride=8, activation="sigmoid")
    assert len(cpu_cuda.launches) == done + {"compiling": 0, "launching": 2}[step]
    check_poses(crowd("float32", 2, 6, 7, 2))


def test_three_dimensions_and_an_empty_batch(cpu_cuda: ExecutorCuda) -> None:
    tensors = crowd("float32", 1, 5, 6, 4)
    one = posepost.decode_posenet_multi(
        *(to_device(array[0]) for array in tensors.values()), output_stride=8, activation="sigmoid"
    ).numpy()
    batch = posepost.decode_posenet_multi(*tensors.values(), output_stride=8, activation="sigmoid")
    np.testing.assert_array_equal(one.keypoints, batch.keypoints)
    empty = posepost.decode_posenet_multi(
        *(to_device(array[:0]) for array in tensors.values()), output_stride=8, activation="sigmoid"
    ).numpy()
    assert [array.shape for array in empty] == [(0, 20, 17, 2), (0, 20, 17), (0, 20), (0,)]


def test_out_and_stream(cpu_cuda: ExecutorCuda) -> None:
    tensors = [to_device(array) for array in crowd("float32", 2, 5, 6, 4).values()]
    first = posepost.decode_posenet_multi(*tensors, output_stride=8, stream=55, activation="sigmoid")
    assert {launched.stream for launched in cpu_cuda.launches} == {55}
    posepost.decode_posenet_multi(*tensors, output_stride=8, stream=55, activation="sigmoid")
    expected = first.numpy()
    for array in first:
        host(array)[...] = 77
    before = cpu_cuda.allocations
    again = posepost.decode_posenet_multi(*tensors, output_stride=8, out=first, stream=55, activation="sigmoid")
    assert cpu_cuda.allocations == before
    assert all(a is b for a, b in zip(again, first))
    for got, wanted in zip(again.numpy(), expected):
        np.testing.assert_array_equal(got, wanted)
