"""What several people cost: `python -m pytest bench/bench_posenet_multi.py --benchmark-enable -o addopts=`.

Maps are the bundled model's own, of freshly drawn crowds, set side by side for larger maps with more people.
posepost is checked against the twin, and so is tfjs in node where it is installed, before it is timed.
"""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posepost
from posepost import ref

from .bench_posenet import Replay
from .measure import device_here
from .peers import tfjs_node

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the bundled model: pip install posepost[ort]")
pytest.importorskip("PIL", reason="Pillow draws the scenes: pip install posepost[ort]")

MODEL = Path(posepost.__file__).parent / "assets" / "figures.onnx"
HEADS = ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd")
OPTIONS: dict[str, Any] = {"output_stride": 8, "max_poses": 100, "score_threshold": 0.5, "nms_radius": 20.0}
CASES = [(people, 1) for people in (1, 2, 4, 6)] + [(6, 2), (6, 4)]  # people a scene, scenes a side


@functools.lru_cache(maxsize=1)
def tensors(people: int, side: int) -> list[np.ndarray]:
    """Scores and the three fields, (1, H, W, C), of side x side scenes of `people` people each."""
    from .figures import scenes

    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    drawn = [scenes.draw(np.random.default_rng([scenes.EVALUATE, 7, i]), people).image for i in range(side * side)]
    images = (np.stack(drawn).transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
    outputs = session.run(list(HEADS), {"image": images})
    outputs[0] = 1 / (1 + np.exp(-outputs[0]))
    joined = []
    for output in outputs:
        rows = [np.concatenate(output[row * side : (row + 1) * side], axis=2) for row in range(side)]
        joined.append(np.ascontiguousarray(np.concatenate(rows, axis=1).transpose(1, 2, 0)[None]))
    return joined


@pytest.mark.parametrize(("people", "side"), CASES)
def test_posepost(benchmark: Any, people: int, side: int) -> None:
    """mode "tfjs", from maps where they lie to NumPy poses on the host."""
    arrays = tensors(people, side)
    options = {**OPTIONS, "mode": "tfjs", "activation": None}
    expected = ref.decode_posenet_multi(*arrays, **options)
    device = device_here()
    placed: list[Any] = arrays
    if device == "cuda":
        import cupy

        placed = [cupy.asarray(array) for array in arrays]
    got = posepost.decode_posenet_multi(*placed, **options).numpy()
    np.testing.assert_array_equal(got.count, expected.count)
    np.testing.assert_allclose(got.keypoints, expected.keypoints, atol=1e-3)
    describe(benchmark, f"posepost on {device}", arrays, people, side, int(got.count[0]))
    benchmark(lambda: posepost.decode_posenet_multi(*placed, **options).numpy())


@pytest.mark.parametrize(("people", "side"), CASES)
def test_tfjs_in_node(benchmark: Any, people: int, side: int) -> None:
    reason = tfjs_node.missing("cpu")
    if reason:
        pytest.skip(reason)
    arrays = tensors(people, side)
    _, H, W, _ = arrays[0].shape
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(array.tobytes() for array in arrays))
        file.flush()
        numbers = [str(number) for number in (H, W, *OPTIONS.values(), 40)]
        command = ["node", str(tfjs_node.NODE / "decode_multi.js"), file.name, *numbers]
        answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    expected = ref.decode_posenet_multi(*arrays, **OPTIONS, mode="tfjs", activation=None)
    count = len(answer["poses"])
    assert count == expected.count[0]
    found = [[[p["position"]["x"], p["position"]["y"]] for p in pose["keypoints"]] for pose in answer["poses"]]
    np.testing.assert_allclose(np.array(found), expected.keypoints[0, :count], atol=1e-3)
    describe(benchmark, tfjs_node.NAME.replace("SinglePose", "MultiplePoses"), arrays, people, side, count)
    benchmark._timer = Replay(answer["seconds"])
    benchmark.pedantic(lambda: None, rounds=len(answer["seconds"]), iterations=1)


def describe(benchmark: Any, variant: str, arrays: list[np.ndarray], people: int, side: int, poses: int) -> None:
    _, H, W, _ = arrays[0].shape
    benchmark.group = f"{H}x{W}, {people * side * side} people"
    benchmark.extra_info.update(variant=variant, H=H, W=W, people=people * side * side, poses=poses)
