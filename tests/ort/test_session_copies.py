"""Sessions are copied, pickled and shared by threads."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnx
from onnx import TensorProto

from posepost import ort

from ..onnx_models import CPU, CUDA, FOUR, build, network, pixels, seen_network

COPIES = pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda session: pickle.loads(pickle.dumps(session))],
    ids=["copy", "deep", "pickle"],
)


@COPIES
@pytest.mark.parametrize("how", ["path", "relative path", "bytes", "file", "proto"])
def test_a_copy_of_a_session_does_what_the_session_does(
    again: Any, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, data in ((ort.PoseSession, build(FOUR, batch=2)), (ort.TopDownSession, network(batch=2))):
        Path("m.onnx").write_bytes(data)
        model: Any = {
            "path": tmp_path / "m.onnx",
            "relative path": "m.onnx",
            "bytes": data,
            "file": io.BytesIO(data),
            "proto": onnx.load_from_string(data),
        }[how]
        session = kind(model, providers=[CPU])
        monkeypatch.chdir("/")
        made = again(session)
        monkeypatch.chdir(tmp_path)
        assert type(made) is kind
        assert made is not session
        assert made._session is not session._session
        assert made.describe() == session.describe()
        shape = (3, *session.model.inputs["picture"].shape[1:])
        images = np.random.default_rng(8).normal(size=shape).astype(np.float32)
        assert made.run(images) == session.run(images)
        assert again(made).run(images) == session.run(images)


@COPIES
def test_a_copy_has_every_option_of_its_session(again: Any) -> None:
    model = seen_network(["b", 3, 64, 48], besides={"index": (TensorProto.INT64, ["b"])})
    session = again(
        ort.TopDownSession(
            model=model, preset="mmpose_dark", heads={"heatmaps": "hm"}, layout="NCHW", activation="sigmoid",
            mean=(1, 2, 3), std=4, input_channels="BGR", inputs={"index": 2}, flip_pairs=(0, 2, 1, 3, 4),
            providers=[CPU],
        )
    )  # fmt: skip
    found = session.model
    assert (found.preset, found.heads_by, found.activation) == ("mmpose_dark", "named by the caller", "sigmoid")
    assert str(found.feed) == "(pixel - (1, 2, 3)) / 4, BGR (given)"
    assert (found.extra_inputs["index"], session.flip_pairs(5)) == (2, (0, 2, 1, 3, 4))
    assert session.device_reason == "providers= names no CUDA provider"
    posenet = again(ort.PoseSession(build(FOUR), output_stride=8, skeleton=((0, 1),), mean=7))
    assert (posenet.model.output_stride_by, posenet.skeleton, posenet.model.mean[0]) == ("given", ((0, 1),), 7)


@COPIES
def test_a_copy_on_a_device_has_a_stream_of_its_own(again: Any, device: SimpleNamespace) -> None:
    session = ort.PoseSession(build(), device_id=1)
    made = again(session)
    assert made.device == "cuda"
    assert made.stream is not session.stream
    assert device.log.count("device 1") == 2


def test_an_error_of_a_model_that_has_gone_names_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(build())
    data = pickle.dumps(ort.PoseSession(path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"m\.onnx"):
        pickle.loads(data)


@pytest.mark.parametrize("kind", ["posenet", "multi", "heatmap", "simcc"])
def test_a_session_used_by_eight_threads_gives_what_it_gives_in_one(kind: str) -> None:
    session: Any
    if kind in ("posenet", "multi"):
        session = ort.PoseSession(build(FOUR, batch=2))
        call = session.run if kind == "posenet" else lambda images: session.run_multi(images, score_threshold=0.1)
        batches = [
            pixels(session, batch=count) * factor for count, factor in zip([1, 2, 3, 5] * 4, np.linspace(1, 2, 16))
        ]
        batches = [images.astype(np.float32) for images in batches]
    else:
        session = ort.TopDownSession(network(kind, batch=2), flip_pairs=(0, 2, 1))
        rng = np.random.default_rng(4)
        batches = [rng.normal(size=(count, 3, 64, 48)).astype(np.float32) for count in [1, 2, 3, 5] * 4]
        call = lambda images: session.run(images, flip=True)  # noqa: E731
    expected = [call(images) for images in batches]
    start = threading.Barrier(8)

    def work(worker: int) -> list[Any]:
        start.wait()
        return [call(images) for images in batches[worker:] + batches[:worker]]

    with ThreadPoolExecutor(8) as pool:
        for worker, results in enumerate(pool.map(work, range(8))):
            assert results == expected[worker:] + expected[:worker]


def test_threads_on_a_device_take_turns_at_enqueuing(device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the session's stream and event: what one enqueues is not cut by what another does."""
    session = ort.PoseSession(build())
    assert (session.device, device.started[0]) == ("cuda", CUDA)
    device.log.clear()
    images = np.zeros((1, 3, 33, 49), np.float32)
    session.run(images)
    once = list(device.log)
    device.log.clear()
    inside = threading.Semaphore(1)
    real = session._infer

    def infer(array: Any, heads: Any) -> Any:
        assert inside.acquire(blocking=False)
        threading.Event().wait(0.002)
        found = real(array, heads)
        inside.release()
        return found

    monkeypatch.setattr(session, "_infer", infer)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(session.run, images)
    # the record of outputs is of all runs so far, in this stand-in
    assert [entry for entry in device.log if entry[0] != "decode"] == [e for e in once if e[0] != "decode"] * 8
