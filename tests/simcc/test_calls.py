"""decode_simcc: out, stream, batches, results."""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host, to_device
from bench.tolerance import VISIBILITY_RTOL
from posepost import simcc

from ..helpers import (
    equal,
    gaussian_vectors,
)

pytestmark = pytest.mark.usefixtures("fresh_plans")


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("visibility", [False, True])
def test_out_is_written_and_returned(cpu_cuda: ExecutorCuda, device: bool, visibility: bool) -> None:
    place = to_device if device else np.array
    x, y = place(gaussian_vectors((2, 3, 40), 1)), place(gaussian_vectors((2, 3, 30), 2))
    options = {"visibility": visibility, "refine": "dark"}
    first = posepost.decode_simcc(x, y, **options)
    expected = first.numpy()
    wanted = [*expected, expected.visibility] if visibility else [*expected]
    shapes = ((2, 3, 2), (2, 3), (2, 3))[: 3 if visibility else 2]
    out = posepost.Keypoints(*(place(np.zeros(shape, np.float32)) for shape in shapes))
    for target in (out, first):
        arrays = [*target, target.visibility] if visibility else [*target]
        for array in arrays:
            (host(array) if device else array)[...] = 77
        allocated = cpu_cuda.allocations
        again = posepost.decode_simcc(x, y, **options, out=target)
        assert cpu_cuda.allocations == allocated
        got = [*again, again.visibility] if visibility else [*again]
        assert all(a is b for a, b in zip(got, arrays))
        for one, values_wanted in zip([*again.numpy(), again.numpy().visibility], wanted):
            equal(one, values_wanted)
    pair = posepost.decode_simcc(x, y, **options, out=tuple(out))
    assert pair.keypoints is out.keypoints
    if visibility:  # a pair has no room for it: the one thing that is allocated
        assert cpu_cuda.allocations == allocated + device
        equal(pair.numpy().visibility, wanted[2])
    without = posepost.decode_simcc(x, y, out=first)
    assert without.visibility is None
    assert without.numpy().visibility is None


def test_out_in_pinned_memory(cpu_cuda: ExecutorCuda) -> None:
    x, y = gaussian_vectors((2, 3, 40), 1), gaussian_vectors((2, 3, 30), 2)
    expected = posepost.decode_simcc(x, y, visibility=True)
    out = posepost.pinned(2, 3, visibility=True)
    allocated = cpu_cuda.allocations
    got = posepost.decode_simcc(to_device(x), to_device(y), visibility=True, out=out, stream=55).numpy()
    assert cpu_cuda.synchronized == [55]
    assert cpu_cuda.allocations == allocated + 2 - 2
    assert got.keypoints is out.keypoints
    equal(got.keypoints, expected.keypoints)
    np.testing.assert_allclose(got.visibility, expected.visibility, rtol=VISIBILITY_RTOL)
    assert np.shares_memory(got.visibility, out.visibility)
    small = posepost.pinned(2, 2)
    with pytest.raises(ValueError, match=r"^out\.keypoints must have shape \(2, 3, 2\), got \(2, 2, 2\)$"):
        posepost.decode_simcc(to_device(x), to_device(y), out=small)


def test_stream_reaches_the_launch_and_a_repeated_call_uses_its_plan(cpu_cuda: ExecutorCuda) -> None:
    x, y = to_device(np.ones((1, 1, 2), np.float32)), to_device(np.ones((1, 1, 3), np.float32))
    for stream in (None, 55):
        posepost.decode_simcc(x, y, stream=stream)
    assert [launched.stream for launched in cpu_cuda.launches] == [STREAM, 55]
    assert simcc._plan.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("device", [False, True])
def test_two_dimensions_are_a_batch_of_one_and_an_empty_batch_is_empty(cpu_cuda: ExecutorCuda, device: bool) -> None:
    place = to_device if device else np.array
    x, y = gaussian_vectors((1, 3, 40), 1), gaussian_vectors((1, 3, 30), 2)
    pairs = (1, 0, 2)
    for options in ({"refine": "dark"}, {"visibility": True, "activation": "sigmoid"}):
        batch = posepost.decode_simcc(x, y, **options, flip=posepost.Flip((x, y), pairs))
        flat = posepost.Flip((place(x[0]), place(y[0])), np.array(pairs))
        equal(posepost.decode_simcc(place(x[0]), place(y[0]), **options, flip=flat).numpy().keypoints, batch.keypoints)
        empty = posepost.decode_simcc(place(x[:0]), place(y[:0]), **options).numpy()
        assert (empty.keypoints.shape, empty.scores.shape) == ((0, 3, 2), (0, 3))
        assert empty.visibility is None or empty.visibility.shape == (0, 3)


def test_inputs_are_not_written(cpu_cuda: ExecutorCuda) -> None:
    arrays = [gaussian_vectors((2, 3, W), W) for W in (40, 30, 40, 30)]
    arrays[0][0, 0] *= 90
    for place in (np.array, to_device):
        x, y, flipped_x, flipped_y = placed = [place(array) for array in arrays]
        flip = posepost.Flip((flipped_x, flipped_y), (1, 0, 2))
        posepost.decode_simcc(x, y, refine="dark", visibility=True, flip=flip)
        posepost.decode_simcc(x, y, refine="dark", visibility=True)
        for one, array in zip(placed, arrays):
            equal(one if place is np.array else host(one), array)


def test_torch_tensors_on_the_host() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, y = gaussian_vectors((1, 3, 40), 1), gaussian_vectors((1, 3, 30), 2)
    got = posepost.decode_simcc(torch.from_numpy(x), torch.from_numpy(y), visibility=True)
    assert isinstance(got.visibility, torch.Tensor)
    equal(got.numpy().keypoints, posepost.decode_simcc(x, y).keypoints)
    half = posepost.decode_simcc(torch.from_numpy(x).bfloat16(), torch.from_numpy(y).bfloat16()).numpy()
    widened = (torch.from_numpy(one).bfloat16().float().numpy() for one in (x, y))
    equal(half.keypoints, posepost.decode_simcc(*widened).keypoints)
