"""Every peer of the benchmark decodes as posepost does; one that cannot run here says why and how to add it."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import posepost
from bench.cases import Case, inputs
from bench.optional import Unsupported, absent
from bench.peers import (
    CROWD_PEERS,
    PEERS,
    Crowd,
    cupy_ops,
    libcoral,
    mmpose_codec,
    numpy_download,
    numpy_download_pinned,
    posenet_python,
    tfjs_node,
    torch_compile,
)

from ..helpers import random_maps

LAYOUTS = ("NCHW", "NHWC")
DTYPES = ("float32", "float16", "bfloat16", "uint8")
ONE = Case("one", 1, 17, 9, 7, 16)
TWO = Case("two", 2, 5, 8, 11, 8)
CASES = [ONE._replace(layout=layout) for layout in LAYOUTS]
CASES += [TWO._replace(layout=layout, dtype=dtype) for layout in LAYOUTS for dtype in DTYPES]
COMMAND = re.compile(r": (pip|npm|apt) (un)?install \S")

runs = [
    pytest.param(peer, device, id=f"{peer.__name__.rpartition('.')[2]}-{device}", marks=marks)
    for peer in PEERS
    for device in peer.DEVICES
    for marks in [[pytest.mark.slow] if peer is torch_compile else []]
]


def sets_of(case: Case, device: str) -> tuple[list[Any], list[Any]]:
    """Two sets of maps on the host and where the peer takes them."""
    host = [inputs(case, seed) for seed in (0, 1)]
    if device == "cpu":
        return host, host
    cupy = pytest.importorskip("cupy")
    return host, [tuple(map(cupy.asarray, arrays)) for arrays in host]


def expected(case: Case, heatmaps: np.ndarray, offsets: np.ndarray, complete: bool) -> posepost.Keypoints:
    """What posepost gives; without offsets where the peer takes none."""
    options: dict[str, Any] = {"output_stride": case.output_stride, "quantization": case.quantization}
    return posepost.decode_posenet(
        heatmaps, offsets if complete else np.zeros_like(offsets), **options, activation="sigmoid"
    )


def check(peer: ModuleType, device: str, case: Case, host: list[Any], call: Any) -> None:
    for i in (1, 0, 1):
        keypoints, scores = call(i)
        want = expected(case, *host[i], peer.COMPLETE)
        assert isinstance(keypoints, np.ndarray)
        assert isinstance(scores, np.ndarray)
        assert (keypoints.shape, keypoints.dtype) == ((case.B, case.K, 2), np.float32)
        assert (scores.shape, scores.dtype) == ((case.B, case.K), np.float32)
        np.testing.assert_allclose(keypoints, want.keypoints, rtol=0, atol=1e-3)
        np.testing.assert_allclose(scores, want.scores, rtol=0, atol=1e-5)


def skip_if_missing(peer: ModuleType, device: str) -> None:
    reason = peer.missing(device)
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize(("peer", "device"), runs)
def test_peer_decodes_as_posepost(peer: ModuleType, device: str) -> None:
    skip_if_missing(peer, device)
    decoded = 0
    for case in [ONE] if peer is torch_compile else CASES:
        host, sets = sets_of(case, device)
        try:
            call = peer.prepare(case, sets, device)
        except Unsupported:
            assert case not in ALWAYS.get(peer.__name__.rpartition(".")[2], CASES), case.name
            continue
        check(peer, device, case, host, call)
        decoded += 1
    assert decoded >= 1


ALWAYS = {
    "cupy_ops": [case for case in CASES if case.dtype != "bfloat16"],
    "mmpose_codec": [case for case in CASES if case.layout == "NCHW" and case.dtype in ("float32", "float16")],
    "tfjs_node": [ONE._replace(layout="NHWC")],
}
"""What a peer must take; all cases where it is not named."""


@pytest.mark.parametrize(("peer", "device"), runs)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_of_equal_cells_wins(peer: ModuleType, device: str, layout: str) -> None:
    skip_if_missing(peer, device)
    case = ONE._replace(layout=layout)
    heatmaps, offsets = inputs(case, 2)
    maps = heatmaps if layout == "NCHW" else heatmaps.transpose(0, 3, 1, 2)
    for y, x in ((2, 6), (5, 1), (8, 6)):
        maps[:, :, y, x] = 4.5
    sets = [(heatmaps, offsets)]
    if device == "cuda":
        import cupy

        sets = [tuple(map(cupy.asarray, sets[0]))]
    try:
        call = peer.prepare(case, sets, device)
    except Unsupported as reason:
        pytest.skip(str(reason))
    keypoints, _ = call(0)
    want = expected(case, heatmaps, offsets, peer.COMPLETE)
    np.testing.assert_allclose(keypoints, want.keypoints, rtol=0, atol=1e-3)


class OnDevice(np.ndarray):
    """A NumPy array in the place of a CuPy array, for the peers that use CuPy alone."""

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        if out is None:
            return np.array(self)
        assert stream
        assert not blocking
        stream.pending.append((out, self))
        return out


class Stream:
    """Asynchronous copies arrive when it is waited for."""

    def __init__(self) -> None:
        self.pending: list[Any] = []

    def synchronize(self) -> None:
        for out, array in self.pending:
            np.copyto(out, array)
        self.pending.clear()


@pytest.mark.parametrize("peer", [numpy_download, numpy_download_pinned, cupy_ops, mmpose_codec])
def test_what_peers_do_on_a_gpu_with_numpy_in_the_place_of_cupy(
    peer: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    if peer is mmpose_codec:
        skip_if_missing(peer, "cpu")
    stream = Stream()
    cuda = SimpleNamespace(get_current_stream=lambda: stream)
    device = SimpleNamespace(cuda=cuda, exp=np.exp, float32=np.float32)
    device.asarray = lambda array: array.view(OnDevice)
    device.concatenate = lambda arrays, axis: device.asarray(np.concatenate(arrays, axis))
    monkeypatch.setitem(sys.modules, "cupy", device)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=np.empty))
    for case in CASES:
        host = [inputs(case, seed) for seed in (0, 1)]
        sets = [tuple(map(device.asarray, arrays)) for arrays in host]
        try:
            call = peer.prepare(case, sets, "cuda")
        except Unsupported:
            assert case not in ALWAYS.get(peer.__name__.rpartition(".")[2], CASES), case.name
            continue
        check(peer, "cuda", case, host, call)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.__name__.rpartition(".")[2])
def test_peer_declares_the_contract(peer: ModuleType) -> None:
    assert isinstance(peer.NAME, str)
    assert set(peer.DEVICES) in ({"cuda"}, {"cpu"}, {"cuda", "cpu"})
    assert isinstance(peer.COMPLETE, bool)
    assert peer.__doc__
    assert callable(peer.prepare)
    for device in peer.DEVICES:
        reason = peer.missing(device)
        assert reason is None or COMMAND.search(reason), reason


def test_names_are_distinct() -> None:
    assert len({peer.NAME for peer in PEERS}) == len(PEERS)


def test_importing_the_peers_imports_none_of_their_packages() -> None:
    heavy = ("cupy", "torch", "jax", "onnx", "onnxruntime", "mmpose", "cv2", "ml_dtypes")
    code = f"import sys, bench.peers; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_missing_packages_are_named_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def all_but(package: str, name: str) -> Any:
        return None if name == package else found(name)

    for peer, device, package, reason in (
        ("torch_eager", "cpu", "torch", "torch is not installed: pip install torch==2.13.0"),
        ("torch_eager", "cuda", "torch", "torch is not installed: pip install torch==2.13.0"),
        ("jax_jit", "cpu", "jax", "jax is not installed: pip install jax==0.10.2"),
        ("jax_jit", "cuda", "jax", 'jax is not installed: pip install "jax[cuda13]==0.10.2"'),
        ("ort_graph", "cpu", "onnx", "onnx is not installed: pip install onnx onnxruntime"),
        ("mmpose_codec", "cpu", "mmpose", "mmpose is not installed: pip install --no-deps mmpose==1.3.2"),
    ):
        monkeypatch.setattr(importlib.util, "find_spec", functools.partial(all_but, package))
        (module,) = [module for module in PEERS if module.__name__.endswith(f".{peer}")]
        assert module.missing(device) == reason


def test_a_folder_without_code_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leftover").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert absent("leftover", "pip install leftover") == "leftover is not installed: pip install leftover"
    assert absent("numpy", "pip install numpy") is None


def test_missing_node_and_missing_npm_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfjs_node, "NODE", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: "node")
    reason = "@tensorflow-models/posenet is not installed: npm install --prefix bench/peers/node"
    assert tfjs_node.missing("cpu") == reason
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert tfjs_node.missing("cpu") == "node is not installed: apt install nodejs npm"
    assert torch_compile.missing("cpu") == "torch.compile needs a C++ compiler: apt install g++"


@pytest.mark.parametrize("peer", CROWD_PEERS, ids=lambda peer: peer.__name__.rpartition(".")[2])
def test_crowd_peer_decodes_as_posepost(peer: ModuleType) -> None:
    reason = peer.missing()
    if reason:
        pytest.skip(reason)
    people = 0
    for seed in range(3):
        scores, *fields = random_maps(seed)
        logits = np.log(scores / (1 - scores))
        options: dict[str, Any] = {"output_stride": 8, "max_poses": 7, "score_threshold": 0.4, "nms_radius": 9.0}
        found = peer.prepare(Crowd(logits, scores, tuple(fields), **options))()
        if peer.MODE == "coral":
            wanted = posepost.decode_posenet_multi(logits, *fields, mode="coral", **options, activation="sigmoid")
        else:
            wanted = posepost.decode_posenet_multi(scores, *fields, mode=peer.MODE, activation=None, **options)
        count = wanted.count[0]
        assert len(found.scores) == count
        for name, tolerance in (("keypoints", 0.02), ("keypoint_scores", 1e-5), ("scores", 1e-5)):
            values = getattr(wanted, name)[0, :count]
            np.testing.assert_allclose(getattr(found, name), values, rtol=0, atol=tolerance)
        people += count
    assert people >= 5


@pytest.mark.parametrize("peer", [posenet_python, libcoral])
def test_a_peer_that_comes_from_a_clone_says_how(
    peer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    name = {posenet_python: "posenet-python", libcoral: "libcoral"}[peer]
    owner = {posenet_python: "rwightman", libcoral: "google-coral"}[peer]
    commands = f"git clone https://github.com/{owner}/{name} && export {peer.VARIABLE}=$PWD/{name}"
    monkeypatch.delenv(peer.VARIABLE, raising=False)
    assert peer.missing() == f"{peer.VARIABLE} names no clone of {name}: {commands}"
    monkeypatch.setenv(peer.VARIABLE, str(tmp_path))
    first, *others = peer.PARTS
    for part in others:
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).touch()
    assert peer.missing() == f"{peer.VARIABLE}={tmp_path} has no {first}: {commands}"


def test_unsupported_layouts_and_dtypes_are_named() -> None:
    for peer, case, reason in (
        (mmpose_codec, ONE._replace(layout="NHWC"), "MMPose takes NCHW maps alone"),
        (mmpose_codec, ONE._replace(dtype="uint8"), "MMPose takes no uint8 maps"),
        (tfjs_node, ONE, "tfjs decodes one image in NHWC float32"),
        (tfjs_node, TWO._replace(layout="NHWC"), "tfjs decodes one image in NHWC float32"),
    ):
        with pytest.raises(Unsupported, match=f"^{reason}$"):
            peer.prepare(case, [inputs(case, 0)], "cpu")


def test_node_times_its_own_decodes() -> None:
    skip_if_missing(tfjs_node, "cpu")
    case = ONE._replace(layout="NHWC")
    seconds = tfjs_node.timed(case, [inputs(case, 0)], "cpu", 7)
    assert len(seconds) == 7
    assert all(0 < second < 1 for second in seconds)
