"""TopDownSession on a device: the order of its calls, and many crops written into one result."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnxruntime

from posepost import ort
from posepost.ort import topdown

from ..dots import BOXES, dots_in, photograph
from ..onnx_models import CPU, CUDA, network


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
@pytest.mark.parametrize("flip", [False, True])
def test_on_a_device_everything_goes_to_one_stream_and_nothing_waits(
    kind: str,
    flip: bool,
    device: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = device.log
    shapes = {"heatmaps": [2, 3, 16, 12], "simcc_x": [2, 3, 96], "simcc_y": [2, 3, 128]}

    def decode(*maps: Any, **options: Any) -> str:
        mirrored = options["flip"].maps if options["flip"] else []
        flipped = [one.name for one in (mirrored if isinstance(mirrored, (list, tuple)) else [mirrored])]
        log.append(("decode", options["stream"].name, [one.name for one in maps], flipped))
        return "keypoints"

    def get_outputs(binding: Any) -> list[Any]:
        run = max(i for i, entry in enumerate(log[:-1]) if entry[0] == "input")
        bound = [entry[1] for entry in log[run:] if entry[0] == "output"]
        return [SimpleNamespace(name=name, shape=lambda name=name: shapes[name]) for name in bound]

    monkeypatch.setattr(topdown, "decode_heatmap", decode)
    monkeypatch.setattr(topdown, "decode_simcc", decode)
    session = ort.TopDownSession(network(kind, batch=2), device_id=1, flip_pairs=(0, 2, 1))
    monkeypatch.setattr(type(session._session.io_binding()), "get_outputs", get_outputs)
    mirror_log: list[Any] = []

    class Mirrorable:
        def __init__(self, array: Any) -> None:
            self.dtype, self.shape, self.flags = array.dtype, array.shape, SimpleNamespace(c_contiguous=True)
            self.data = SimpleNamespace(ptr=array.ctypes.data)

        def __len__(self) -> int:
            return self.shape[0]

        def __getitem__(self, key: Any) -> Any:
            mirror_log.append(key)
            return self

    def asarray(array: Any) -> Any:
        log.append("upload")
        return Mirrorable(array)

    monkeypatch.setattr(sys.modules["cupy"], "asarray", asarray)
    monkeypatch.setattr(
        sys.modules["cupy"], "ascontiguousarray", lambda array: log.append("mirror") or array, raising=False
    )
    log.clear()
    assert session.run(np.zeros((2, 3, 64, 48), np.float32), flip=flip) == "keypoints"
    names = ["heatmaps"] if kind == "heatmap" else ["simcc_x", "simcc_y"]
    forward = [
        ("input", "picture", "cuda", 1, np.float32, (2, 3, 64, 48)),
        *(("output", name, "cuda", 1) for name in names),
        ("run", "1"),
    ]
    assert log == [
        "device 1",
        "caller records",
        "ours waits for event",
        "enter ours",
        "upload",
        *forward,
        *(["mirror", *forward] if flip else []),
        ("decode", "ours", names, names if flip else []),
        "leave ours",
        "ours records",
        "caller waits for event",
    ]
    assert mirror_log == ([(..., slice(None, None, -1))] if flip else [])


class OnDevice(np.ndarray):  # type: ignore[type-arg]
    """A NumPy array that passes for CuPy's."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


@pytest.mark.parametrize("several", [False, True])
def test_on_a_device_many_crops_are_written_into_one_result(
    several: bool,
    device: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five crops, two a run: the last has a black crop beside it, and nothing is copied out of the parts' results."""
    calls: list[tuple[Any, ...]] = []

    def decode(maps: Any, **options: Any) -> None:
        points, scores = options["out"]
        points[...], scores[...] = len(calls), 10 + len(calls)
        calls.append((options["transform"], options["stream"].name, points.shape))

    def get_outputs(binding: Any) -> list[Any]:
        return [SimpleNamespace(shape=lambda: [2, 3, 16, 12])]

    cupy = sys.modules["cupy"]
    for name in ("asarray", "empty", "zeros"):
        real = getattr(np, name)
        made = lambda *arguments, real=real: real(*arguments).view(OnDevice)  # noqa: E731
        monkeypatch.setattr(cupy, name, made, raising=False)
    monkeypatch.setattr(topdown, "decode_heatmap", decode)
    session = ort.TopDownSession(network(batch=2), device_id=1)
    monkeypatch.setattr(type(session._session.io_binding()), "get_outputs", get_outputs)
    transforms = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    device.log.clear()
    images = np.arange(1, 6, dtype=np.float32)[:, None, None, None] + np.zeros((1, 3, 64, 48), np.float32)
    result = session.run(images, transform=transforms if several else transforms[0])
    assert [entry[5] for entry in device.log if entry[0] == "input"] == [(2, 3, 64, 48)] * 3
    assert device.log[:4] == ["device 1", "caller records", "ours waits for event", "enter ours"]
    assert device.log[-3:] == ["leave ours", "ours records", "caller waits for event"]
    assert [call[1:] for call in calls] == [("ours", (2, 3, 2))] * 3
    if several:
        assert np.array_equal(np.concatenate([call[0] for call in calls])[:5], transforms)
        assert not calls[2][0][1].any()
    else:
        assert all(np.array_equal(call[0], transforms[0]) for call in calls)
    assert (result.keypoints.shape, result.scores.shape) == ((5, 3, 2), (5, 3))
    assert result.keypoints[:, 0, 0].tolist() == [0, 0, 1, 1, 2]
    assert result.scores[:, 2].tolist() == [10, 10, 11, 11, 12]
    memory = result._memory
    assert memory is not None
    assert (memory.device, memory.library, memory.stream) == (1, "cupy", session.stream.ptr)
    assert memory.addresses == (result.keypoints.ctypes.data, result.scores.ctypes.data)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_device_and_host_give_the_same_keypoints(kind: str, batch: int | None, gpu: Any) -> None:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider")
    data = network(kind, batch=batch)
    there, here = (
        ort.TopDownSession(data, flip_pairs=(0, 2, 1)),
        ort.TopDownSession(data, flip_pairs=(0, 2, 1), providers=[CPU]),
    )
    assert there.device == "cuda"
    image = photograph(dots_in(BOXES["upright"]))
    images, transforms = here.crop(image, [BOXES["upright"]] * 4)
    for flip in (False, True):
        expected = here.run(images, transform=transforms, flip=flip)
        for source in (images, gpu.asarray(images)):
            result = there.run(source, transform=transforms, flip=flip).numpy()
            assert np.allclose(result.keypoints, expected.keypoints, rtol=0, atol=1e-3)
            assert np.allclose(result.scores, expected.scores, rtol=0, atol=1e-5)
