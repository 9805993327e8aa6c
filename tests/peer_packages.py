"""What packages of other projects decode from maps of our own.

`PEERS` says which function of which package a preset is held against. `python -m tests.peer_packages` runs them and
writes what they decode to tests/peer_packages.npz, with which every run of the tests compares NumPy and kernels; where
a package is installed the tests run it too, on more maps.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import posepost

STORED = Path(__file__).with_suffix(".npz")
SIZE = (192, 256)
"""The network's input, to whose pixels everything is decoded; four a cell."""

Array = np.ndarray[Any, Any]
Decoded = tuple[Array, Array]


class Peer(NamedTuple):
    """One function of one package, and the call of posepost that gives the same."""

    name: str
    package: str  # as pip knows it
    version: str
    function: str
    inputs: Callable[[int], dict[str, Array]]
    run: Callable[[dict[str, Array]], Decoded]
    options: Mapping[str, Any]
    modules: tuple[str, ...] = ()  # that must be there too
    pixels: float = 1e-4  # how far points may be apart; 0: equal
    scores: float = 0.0  # and scores, in parts of them
    absent: tuple[float, float] | None = None  # place of keypoints without a score above 0, where the package's differs

    @property
    def source(self) -> str:
        return self.run.__name__

    def ours(self, arrays: dict[str, Any]) -> posepost.Keypoints:
        decode = posepost.decode_simcc if "simcc_x" in arrays else posepost.decode_heatmap
        return decode(**arrays, **self.options)


# ---- what is decoded


def maps(seed: int, largest: float = 40.0) -> dict[str, Array]:
    """Five people with 17 maps each: clean Gaussians, with a rival and noise, at the border, weak, strong. One map is
    zero and one negative. In steps of 2**-16 of the maximum, so that every machine makes the same."""
    rng = np.random.default_rng(seed)
    H, W = SIZE[1] // 4, SIZE[0] // 4
    y, x = np.mgrid[:H, :W]
    found = np.empty((5, 17, H, W))
    for b, k in np.ndindex(found.shape[:2]):
        cx, cy = rng.uniform(0, W - 1), rng.uniform(0, H - 1)
        if b == 2:
            cx, cy = rng.choice([0, 1, cx, W - 2, W - 1]), rng.choice([0, 1, cy, H - 2, H - 1])
        wide, high = rng.uniform(1.6, 3.4), rng.uniform(0.3, 1)
        found[b, k] = high * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * wide**2))
        if b:
            far = (x - rng.uniform(0, W)) ** 2 + (y - rng.uniform(0, H)) ** 2
            found[b, k] += 0.3 * high * np.exp(-far / (2 * wide**2)) + rng.uniform(-0.005, 0.005, (H, W))
    found[0, 0], found[0, 1] = 0, -0.25
    found = np.round(found * 2**16) / 2**16
    found *= np.array([1, 1, 1, 2**-7, largest]).reshape(5, 1, 1, 1)
    return {"heatmaps": found.astype(np.float32)}


def logits(seed: int) -> dict[str, Array]:
    """Maps between -4 and 4: a sigmoid of them is nowhere 1, whose ties would hide the maximum."""
    return {"heatmaps": maps(seed, 1.0)["heatmaps"] * np.float32(8) - np.float32(4)}


def refined_logits(seed: int) -> dict[str, Array]:
    heatmaps = logits(seed)["heatmaps"]
    B, K, H, W = heatmaps.shape
    offsets = np.random.default_rng(seed).uniform(-1, 1, (B, 2 * K, H, W))
    return {"heatmaps": heatmaps, "offsets": (np.round(offsets * 2**16) / 2**16).astype(np.float32)}


def vectors(seed: int) -> dict[str, Array]:
    """(4, 26, 384) and (4, 26, 512): peaks, ties, one axis below 0, both below 0, NaN and infinities."""
    rng = np.random.default_rng(seed)
    found = []
    for W in (2 * SIZE[0], 2 * SIZE[1]):
        center, high = rng.uniform(-1, W, (4, 26, 1)), rng.uniform(0.05, 1.2, (4, 26, 1))
        one = high * np.exp(-((np.arange(W) - center) ** 2) / 72) + rng.uniform(-0.01, 0.01, (4, 26, W))
        one[1] = np.round(one[1] * 8) / 8
        one = np.round(one * 2**16) / 2**16
        one[2, :3] -= 2
        one[2, 3:6] = 0
        found.append(one.astype(np.float32))
    x, y = found
    x[2, 7] -= 2
    x[3, 0, 9], y[3, 1, 9], x[3, 2, 9], y[3, 3] = np.nan, np.inf, -np.inf, -np.inf
    return {"simcc_x": x, "simcc_y": y}


# ---- the packages


def _box() -> list[float]:
    """x, y, width and height of a box that, padded by a quarter as these packages do, is the network's input."""
    return [0.1 * SIZE[0], 0.1 * SIZE[1], 0.8 * SIZE[0], 0.8 * SIZE[1]]


def _transformers(processor: Any, arrays: dict[str, Array]) -> Decoded:
    import torch

    outputs = types.SimpleNamespace(heatmaps=torch.from_numpy(arrays["heatmaps"].copy()))
    (people,) = processor.post_process_pose_estimation(outputs, [[_box()] * len(arrays["heatmaps"])])
    return tuple(np.stack([one[name].numpy() for one in people]) for name in ("keypoints", "scores"))  # type: ignore[return-value]


def vitpose_hf(arrays: dict[str, Array]) -> Decoded:
    from transformers import VitPoseImageProcessor

    return _transformers(VitPoseImageProcessor(), arrays)


def sapiens2_hf(arrays: dict[str, Array]) -> Decoded:
    from transformers import Sapiens2ImageProcessor

    return _transformers(Sapiens2ImageProcessor(size={"height": 1024, "width": 768}), arrays)


def vitpose_rtmlib(arrays: dict[str, Array]) -> Decoded:
    from rtmlib.tools.pose_estimation.vitpose import ViTPose

    size = np.array(SIZE, np.float64)
    model = ViTPose.__new__(ViTPose)  # without a network to load
    return model.postprocess([arrays["heatmaps"].copy()], size / 2, size)


def rtmpose_rtmlib(arrays: dict[str, Array]) -> Decoded:
    from rtmlib.tools.pose_estimation.post_processings import get_simcc_maximum

    with np.errstate(invalid="ignore"):
        bins, scores = get_simcc_maximum(arrays["simcc_x"], arrays["simcc_y"])
    return bins / 2, scores


@functools.cache
def _mmpose_0() -> dict[str, types.ModuleType]:
    """Modules of mmpose 0.29.0 without mmcv, which its packages would import."""
    folder = Path(str(importlib.metadata.distribution("mmpose").locate_file("")))
    packages = ("mmpose", "mmpose.core", "mmpose.core.post_processing", "mmpose.core.evaluation")
    for_them = {name: types.ModuleType(name) for name in packages}
    found: dict[str, types.ModuleType] = {}
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "mmpose"}
    sys.modules.update(for_them)
    try:
        for name in ("post_processing.post_transforms", "evaluation.top_down_eval", "post_processing.group"):
            package, _, short = f"mmpose.core.{name}".rpartition(".")
            path = folder.joinpath(*package.split("."), f"{short}.py")
            found[short] = types.ModuleType(f"{package}.{short}")
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), found[short].__dict__)
            vars(for_them[package]).update(vars(found[short]))
    finally:
        for name in packages:
            del sys.modules[name]
        sys.modules.update(kept)
    return found


def _top_down_of_mmpose_0(arrays: dict[str, Array], **options: Any) -> Decoded:
    decode = _mmpose_0()["top_down_eval"].keypoints_from_heatmaps
    heatmaps, size = arrays["heatmaps"], np.array(SIZE, np.float64)
    rows = np.ones((len(heatmaps), 1))
    points, scores = decode(heatmaps, rows * size / 2, rows * size / 200, **options)
    return points, scores[..., 0]


def quarter_mmpose_0(arrays: dict[str, Array]) -> Decoded:
    return _top_down_of_mmpose_0(arrays, post_process="default")


def udp_mmpose_0(arrays: dict[str, Array]) -> Decoded:
    return _top_down_of_mmpose_0(arrays, use_udp=True)


def higherhrnet_mmpose_0(arrays: dict[str, Array]) -> Decoded:
    """`adjust` moves the cell that grouping has found; of one person that is the largest."""
    heatmaps = arrays["heatmaps"]
    B, K, H, W = heatmaps.shape
    y, x = np.divmod(heatmaps.reshape(B, K, H * W).argmax(axis=2), W)
    scores = heatmaps.max(axis=(2, 3))
    joints = np.stack([x, y, scores, 0 * x], axis=-1).astype(np.float32)
    adjust = _mmpose_0()["group"].HeatmapParser.adjust
    moved = [adjust([one[None]], each[None])[0][0] for one, each in zip(joints, heatmaps)]
    return 4 * np.stack(moved)[..., :2], scores


def mmdeploy(arrays: dict[str, Array]) -> Decoded:
    """MMDeploy's SDK decodes what a model puts out: here one that puts out these maps, whatever it is shown."""
    import mmdeploy_runtime

    picture, (x, y, width, height) = np.zeros((SIZE[1], SIZE[0], 3), np.uint8), _box()
    found = []
    for one in arrays["heatmaps"]:
        with tempfile.TemporaryDirectory() as folder:
            _write_sdk_model(Path(folder), one[None])
            detect = mmdeploy_runtime.PoseDetector(folder, "cpu", 0)
            found.append(detect(picture, [x, y, x + width - 1, y + height - 1])[0])  # the box's last pixels
    people = np.stack(found)
    return people[..., :2], people[..., 2]


def _write_sdk_model(folder: Path, heatmaps: Array) -> None:
    import onnx
    from onnx import helper, numpy_helper

    nodes = [  # the maps + 0 * (the picture's largest value)
        helper.make_node("ReduceMax", ["input"], ["largest"], keepdims=1),
        helper.make_node("Mul", ["largest", "zero"], ["nothing"]),
        helper.make_node("Add", ["maps", "nothing"], ["output"]),
    ]
    constants = {"maps": heatmaps, "zero": np.zeros((1, 1, 1, 1), np.float32)}
    graph = helper.make_graph(
        nodes,
        "maps",
        [helper.make_tensor_value_info("input", 1, [1, 3, SIZE[1], SIZE[0]])],
        [helper.make_tensor_value_info("output", 1, heatmaps.shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.save(model, folder / "end2end.onnx")
    net = {"name": "net", "net": "end2end.onnx", "weights": "", "backend": "onnxruntime", "precision": "FP32"}
    net |= {"batch_size": 1, "dynamic_shape": False}
    size = {"image_size": list(SIZE)}
    transforms = [
        {"type": "LoadImageFromFile"},
        {"type": "TopDownGetBboxCenterScale", "padding": 1.25, **size},
        {"type": "TopDownAffine", **size},
        {"type": "Normalize", "mean": [0, 0, 0], "std": [1, 1, 1], "to_rgb": True},
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "Collect", "keys": ["img"], "meta_keys": ["center", "scale"]},
    ]
    crop = {"module": "Transform", "name": "crop", "input": ["img"], "output": ["crop"], "transforms": transforms}
    infer = {"module": "Net", "name": "net", "input": ["crop"], "output": ["maps"], "input_map": {"img": "input"}}
    decode = {"module": "mmpose", "name": "decode", "component": "TopdownHeatmapSimpleHeadDecode"}
    decode |= {"input": ["crop", "maps"], "output": ["points"], "params": {"post_process": "default"}}
    tasks = [{"type": "Task", **task} for task in (crop, infer, decode)]
    for name, content in {
        "deploy": {"version": "1.3.1", "task": "PoseDetection", "models": [net], "customs": []},
        "pipeline": {"pipeline": {"input": ["img"], "output": ["points"], "tasks": tasks}},
        "detail": {},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def sleap(arrays: dict[str, Array]) -> Decoded:
    import torch
    from sleap_nn.inference.ops.peaks import find_global_peaks

    cells, scores = find_global_peaks(torch.from_numpy(arrays["heatmaps"].copy()), 0.2, "integral", 5)
    return 4 * cells.numpy(), scores.numpy()


def _deeplabcut(arrays: dict[str, Array], refined: bool) -> Decoded:
    import torch
    from deeplabcut.pose_estimation_pytorch.models.predictors import HeatmapPredictor

    outputs = {"heatmap": torch.from_numpy(arrays["heatmaps"].copy())}
    if refined:
        outputs["locref"] = torch.from_numpy(arrays["offsets"].copy())
    poses = HeatmapPredictor(location_refinement=refined)(4, outputs)["poses"].numpy()
    found = poses.reshape(*arrays["heatmaps"].shape[:2], 3)
    return found[..., :2], found[..., 2]


def deeplabcut(arrays: dict[str, Array]) -> Decoded:
    return _deeplabcut(arrays, refined=False)


def deeplabcut_refined(arrays: dict[str, Array]) -> Decoded:
    return _deeplabcut(arrays, refined=True)


def kornia(arrays: dict[str, Array]) -> Decoded:
    """In -1 ... 1, where kornia's own rounding is smallest, and from there to pixels as `input_size` does it."""
    import torch
    from kornia.geometry.subpix import spatial_soft_argmax2d

    heatmaps = arrays["heatmaps"]
    H, W = heatmaps.shape[2:]
    found = spatial_soft_argmax2d(torch.from_numpy(heatmaps.copy()), torch.tensor(1.0), True).numpy()
    return (found + 1) / 2 * (np.array([W, H]) - 1) * 4, heatmaps.max(axis=(2, 3))


ABSENT = (-SIZE[0] / (SIZE[0] // 4 - 1), -SIZE[1] / (SIZE[1] // 4 - 1))
"""-1 cell in pixels, for UDP. The packages go on and refine it with what lies in memory before the map."""

HF = {"package": "transformers", "version": "5.24.0", "modules": ("torch", "torchvision", "scipy"), "absent": ABSENT}
ROUNDING = 2e-4
"""Pixels: of OpenCV's blur, two of 1660 keypoints are further than 1e-4 from ours, either half of that from float64."""

RTMLIB = {"package": "rtmlib", "version": "0.0.16", "modules": ("cv2",)}
MMPOSE_0 = {"package": "mmpose", "version": "0.29.0", "modules": ("cv2", "torch", "munkres"), "inputs": maps}
DLC = {"package": "deeplabcut", "version": "3.0.2", "scores": 4e-7}


def _preset(name: str, **more: Any) -> dict[str, Any]:
    return {"preset": name, "input_size": SIZE, **more}


PEERS = (
    Peer(
        "vitpose_hf",
        function="VitPoseImageProcessor.post_process_pose_estimation",
        inputs=maps,
        run=vitpose_hf,
        options=_preset("vitpose_hf"),
        **HF,
    ),
    Peer(
        "sapiens",
        function="Sapiens2ImageProcessor.post_process_pose_estimation",
        inputs=maps,
        run=sapiens2_hf,
        options=_preset("sapiens"),
        **HF,
    ),
    Peer(
        "vitpose_rtmlib",
        function="ViTPose.postprocess",
        inputs=maps,
        run=vitpose_rtmlib,
        options=_preset("vitpose_rtmlib"),
        absent=ABSENT,
        pixels=ROUNDING,
        **RTMLIB,
    ),
    Peer(
        "rtmpose_rtmlib",
        function="get_simcc_maximum",
        inputs=vectors,
        run=rtmpose_rtmlib,
        options={"preset": "rtmpose_rtmlib"},
        pixels=0,
        **RTMLIB,
    ),
    Peer(
        "vitpose_mmpose_0",
        function="keypoints_from_heatmaps(use_udp=True)",
        run=udp_mmpose_0,
        options=_preset("vitpose_rtmlib"),
        absent=ABSENT,
        pixels=ROUNDING,
        **MMPOSE_0,
    ),
    Peer(
        "mmdeploy",
        "mmdeploy-runtime",
        "1.3.1",
        "PoseDetector",
        maps,
        mmdeploy,
        _preset("mmdeploy"),
        ("onnx",),
        pixels=0,
    ),
    Peer(
        "hrnet_mmpose_0",
        function='keypoints_from_heatmaps(post_process="default")',
        run=quarter_mmpose_0,
        options=_preset("hrnet"),
        pixels=0,
        absent=(0, 0),
        **MMPOSE_0,
    ),
    Peer(
        "higherhrnet_mmpose_0",
        function="HeatmapParser.adjust",
        run=higherhrnet_mmpose_0,
        options=_preset("higherhrnet"),
        pixels=0,
        absent=(2, 2),  # cell 0 and its middle
        **MMPOSE_0,
    ),
    Peer(
        "sleap",
        "sleap-nn",
        "0.3.5",
        'find_global_peaks(refinement="integral")',
        maps,
        sleap,
        _preset("sleap"),
        ("torch",),
    ),
    Peer(
        "deeplabcut",
        function="HeatmapPredictor",
        inputs=logits,
        run=deeplabcut,
        options=_preset("deeplabcut"),
        pixels=0,
        **DLC,
    ),
    Peer(
        "deeplabcut_refined",
        function="HeatmapPredictor(location_refinement=True)",
        inputs=refined_logits,
        run=deeplabcut_refined,
        options=_preset("deeplabcut", refine=posepost.Offset(scale=7.2801)),
        **DLC,
    ),
    Peer(
        "soft_argmax_kornia",
        "kornia",
        "0.9.0",
        "spatial_soft_argmax2d",
        maps,
        kornia,
        _preset("mmpose_integral"),
        ("torch",),
        pixels=5e-4,  # kornia adds up in float32: it is 3e-4 px from float64, posepost 1e-5
    ),
)


def stored(peer: Peer) -> Decoded:
    with np.load(STORED) as results:
        assert str(results[f"{peer.source}.version"]) == peer.version
        return results[f"{peer.source}.keypoints"], results[f"{peer.source}.scores"]


def apart(peer: Peer, theirs: Decoded, ours: posepost.Keypoints) -> Array:
    """Pixels between the points of both; scores are the same, and which points are NaN.

    With `absent` of a peer, only points whose score is above 0: others have a place of their own in posepost.
    """
    points, scores = theirs
    ours = ours.numpy()
    np.testing.assert_allclose(ours.scores, scores, rtol=peer.scores, atol=0)
    known = np.isfinite(points).all(axis=-1)
    np.testing.assert_array_equal(np.isfinite(ours.keypoints).all(axis=-1), known)
    if peer.absent is not None:
        known &= scores > 0
        assert np.allclose(ours.keypoints[scores <= 0], peer.absent, rtol=1e-6)
    return np.abs(points - ours.keypoints).max(axis=-1)[known]


def main() -> None:
    kept: dict[str, Any] = {}
    for peer in PEERS:
        installed = importlib.metadata.version(peer.package)
        if installed != peer.version:
            raise SystemExit(f"{peer.package} must be {peer.version}, got {installed}")
        for name, values in zip(("keypoints", "scores"), peer.run(peer.inputs(0))):
            kept[f"{peer.source}.{name}"] = values.astype(np.float32)
        kept[f"{peer.source}.version"] = installed
        found = []
        for seed in range(20):
            arrays = peer.inputs(seed)
            found.append(apart(peer, peer.run(arrays), peer.ours(arrays)))
        far = float(max(one.max() for one in found))
        result = f"at most {far:.1e} px apart" if far else "equal"
        print(f"{peer.name}: {peer.package} {installed}, {sum(map(len, found))} keypoints, {result}")
    np.savez_compressed(STORED, **kept)


if __name__ == "__main__":
    main()
