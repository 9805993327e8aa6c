"""From maps on the device to keypoints in NumPy, beside what people do today: `python -m bench.gpu_peers [-o FILE]`.

Six of the key cases, each by posepost, by PyTorch as it stands (eager), by JAX (compiled beforehand), and by a download
of the maps to posepost's NumPy implementation. All take turns; a row is the medians in microseconds, printed and
appended to FILE as a line of JSON as soon as it is measured. A peer whose answer differs is an error, one that is not
installed is left out. --fake runs the same on the CPU, small: nothing is timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import timing
from .gpu_check import keep
from .key_cases import KeyCase, fake, heatmap, machine, peaks, posenet, simcc

SECONDS = 0.6  # of each peer and case, at most
Answer = Callable[[], list[np.ndarray]]

CASES = (
    ("posenet", posenet(1, 17, 23, 31)),
    ("posenet", posenet(64, 17, 64, 48)),
    ("posenet", posenet(512, 17, 64, 48)),
    ("argmax", heatmap(64, "none")),
    ("simcc", simcc(64, "plain")),
    ("peaks", peaks(8, 17, 128, 128)),
)
SMALL = (
    ("posenet", posenet(1, 17, 23, 31)),
    ("argmax", heatmap(1, "none")),
    ("simcc", simcc(1, "plain", 17, 384, 512)),
    ("peaks", peaks(1, 3, 64, 64)),
)


def torch_peer(head: str, arrays: list[Any]) -> Answer:
    import torch

    given = [torch.from_dlpack(array) for array in arrays]

    def posenet() -> list[Any]:
        heatmaps, offsets = given
        B, K, H, W = heatmaps.shape
        value, cell = heatmaps.flatten(2).max(2)
        index = cell[:, None, :, None].expand(B, 2, K, 1)
        dy, dx = offsets.reshape(B, 2, K, H * W).gather(3, index)[..., 0].unbind(1)
        return [torch.stack((cell % W * 8 + dx, cell // W * 8 + dy), 2), value.sigmoid()]

    def argmax() -> list[Any]:
        value, cell = given[0].flatten(2).max(2)
        W = given[0].shape[3]
        return [torch.stack((cell % W, cell // W), 2).float(), value]

    def simcc() -> list[Any]:
        (value_x, x), (value_y, y) = (vectors.max(2) for vectors in given)
        return [torch.stack((x, y), 2) / 2, torch.minimum(value_x, value_y)]

    def peaks() -> list[Any]:
        (maps,) = given
        largest = torch.nn.functional.max_pool2d(maps, 3, 1, 1)
        only = torch.where((maps == largest) & (maps >= 0.1), maps, 0).flatten(2)
        value, cell = only.topk(30, 2)
        return [torch.stack((cell % maps.shape[3], cell // maps.shape[3]), 3), value]

    chosen = {"posenet": posenet, "argmax": argmax, "simcc": simcc, "peaks": peaks}[head]
    return lambda: [array.cpu().numpy() for array in chosen()]


def jax_peer(head: str, arrays: list[Any]) -> Answer:
    import jax
    from jax import numpy as jnp

    given = [jax.dlpack.from_dlpack(array) for array in arrays]

    def largest(maps: Any) -> Any:
        flat = maps.reshape(*maps.shape[:2], -1)
        cell = flat.argmax(2)
        return cell, jnp.take_along_axis(flat, cell[..., None], 2)[..., 0]

    def posenet(heatmaps: Any, offsets: Any) -> Any:
        B, K, H, W = heatmaps.shape
        cell, value = largest(heatmaps)
        fields = jnp.take_along_axis(offsets.reshape(B, 2, K, H * W), cell[:, None, :, None], 3)[..., 0]
        points = jnp.stack((cell % W * 8 + fields[:, 1], cell // W * 8 + fields[:, 0]), 2)
        return points, jax.nn.sigmoid(value)

    def argmax(maps: Any) -> Any:
        cell, value = largest(maps)
        return jnp.stack((cell % maps.shape[3], cell // maps.shape[3]), 2).astype(jnp.float32), value

    def simcc(x: Any, y: Any) -> Any:
        return jnp.stack((x.argmax(2), y.argmax(2)), 2) / 2, jnp.minimum(x.max(2), y.max(2))

    def peaks(maps: Any) -> Any:
        window, lowest = (1, 1, 3, 3), -jnp.inf
        near = jax.lax.reduce_window(maps, lowest, jax.lax.max, window, (1, 1, 1, 1), "SAME")
        only = jnp.where((maps == near) & (maps >= 0.1), maps, 0).reshape(*maps.shape[:2], -1)
        value, cell = jax.lax.top_k(only, 30)
        return jnp.stack((cell % maps.shape[3], cell // maps.shape[3]), 3), value

    compiled = jax.jit({"posenet": posenet, "argmax": argmax, "simcc": simcc, "peaks": peaks}[head])
    return lambda: [np.asarray(array) for array in compiled(*given)]


def answers(head: str, case: KeyCase, put: Callable[[np.ndarray], Any], get: Callable[[Any], np.ndarray]) -> Any:
    """Name -> what answers, or None where its library is not installed."""
    host = case.arrays(0)
    arrays = [put(array) for array in host]
    out = case.decode(*arrays)
    shared = host if get is not _from_device else arrays  # the CPU executor's arrays are no device's to others
    found: dict[str, Answer | None] = {
        "posepost": lambda: list(case.decode(*arrays, out=out).numpy())[:2],
        "download + NumPy": lambda: list(case.decode(*map(get, arrays)))[:2],
    }
    for name, peer in (("torch", torch_peer), ("jax", jax_peer)):
        found[name] = peer(head, shared) if importlib.util.find_spec(name) else None
    return found


def same(head: str, got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    (points, scores), (wanted_points, wanted_scores) = got, expected
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-6)
    if head == "peaks":  # equal values may stand in another order, and places behind the last hold anything
        points, wanted_points = (np.where(scores[..., None] > 0, some, 0) for some in (points, wanted_points))
        points, wanted_points = points.sum(2), wanted_points.sum(2)
    np.testing.assert_allclose(points, wanted_points, rtol=1e-5, atol=1e-3)


def measured(head: str, found: dict[str, Answer | None], seconds: float) -> dict[str, float]:
    """Median microseconds of each, in turns, after their answers were compared."""
    able = {name: answer for name, answer in found.items() if answer is not None}
    expected = [array.copy() for array in able["posepost"]()]
    for answer in able.values():
        for _ in range(3):
            same(head, answer(), expected)
    times: dict[str, list[float]] = {name: [] for name in able}
    until = time.perf_counter() + seconds * len(able)
    with timing.quiet():
        while len(times["posepost"]) < 5 or (time.perf_counter() < until and len(times["posepost"]) < 300):
            for name, answer in able.items():
                start = time.perf_counter()
                answer()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(some) * 1e6 for name, some in times.items()}


def _from_device(array: Any) -> np.ndarray:
    result: np.ndarray = array.get()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="output", metavar="FILE", type=Path, help="append the rows, as JSON lines")
    parser.add_argument("--fake", action="store_true", help="small cases on the CPU: nothing is timed")
    arguments = parser.parse_args()

    if arguments.fake:
        from .cuda_cpu.seam import host

        put, get = fake(), lambda array: host(array).copy()
    else:
        import cupy

        put, get = cupy.asarray, _from_device
    keep(machine(), arguments.output)
    failed = 0
    for head, case in SMALL if arguments.fake else CASES:
        try:
            row: dict[str, Any] = {"case": case.name}
            found = answers(head, case, put, get)
            times = measured(head, found, 0 if arguments.fake else SECONDS)
            row["ran" if arguments.fake else "times"] = list(times) if arguments.fake else times
            row["missing"] = [name for name, answer in found.items() if answer is None]
        except Exception as error:  # a case that fails is a row, and the others go on
            row = {"case": case.name, "error": f"{type(error).__name__}: {error}"}
            failed += 1
        print(json.dumps(row), flush=True)
        keep(row, arguments.output)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
