"""How well the bundled model finds the joints of one freshly drawn figure: `python -m examples.bundled_model.evaluate`.

PCK@t is the share of the joints inside the picture, covered ones too, that are found within t torso lengths; a torso is
the figure's own, the mean distance from shoulder to hip. Needs onnxruntime and Pillow.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from examples.bundled_model import scenes
from posepost import decode_posenet

MODEL = Path(__file__).resolve().parents[2] / "posepost" / "assets" / "figures.onnx"


class Errors(NamedTuple):
    """One entry a joint inside the picture: its distance in pixels, in torsos, and whether its figure is cut off."""

    pixels: np.ndarray
    torsos: np.ndarray
    cut: np.ndarray

    def pck(self, threshold: float, cut: bool | None = None) -> float:
        chosen = self.torsos if cut is None else self.torsos[self.cut == cut]
        return float((chosen <= threshold).mean())


def measure(model: Path, count: int, stream: int = scenes.EVALUATE, size: int = 192) -> Errors:
    """Single-figure scenes 0 to count - 1 of `stream`, through onnxruntime on the CPU and decode_posenet."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    mean, std, stride = (float(metadata["posepost." + key]) for key in ("mean", "std", "output_stride"))
    drawn = [scenes.draw(np.random.default_rng([stream, i]), 1, size) for i in range(count)]
    found = []
    for first in range(0, count, 32):
        images = np.stack([scene.image for scene in drawn[first : first + 32]]).transpose(0, 3, 1, 2)
        heatmaps, offsets = session.run(["heatmaps", "offsets"], {"image": (images.astype(np.float32) - mean) / std})
        found.append(decode_posenet(heatmaps, offsets, output_stride=int(stride), activation="sigmoid").keypoints)
    truth = np.concatenate([scene.keypoints for scene in drawn])
    inside = np.concatenate([scene.visibility for scene in drawn]) != scenes.OUTSIDE
    pixels = np.linalg.norm(np.concatenate(found) - truth, axis=-1)
    torsos = pixels / scenes.torso_length(truth)[:, None]
    cut = np.broadcast_to(~inside.all(1, keepdims=True), inside.shape)
    return Errors(pixels[inside], torsos[inside], cut[inside])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--scenes", type=int, default=1000)
    options = parser.parse_args()
    errors = measure(options.model, options.scenes)
    size = options.model.stat().st_size
    print(f"{options.model.name}, {size} bytes; {options.scenes} single-figure scenes it was not trained on")
    print(f"{'figures':<20}{'joints':>8}{'PCK@0.2':>10}{'PCK@0.1':>10}{'median error':>15}")
    for name, cut in (("all", None), ("whole", False), ("cut by the border", True)):
        pixels = errors.pixels if cut is None else errors.pixels[errors.cut == cut]
        shares = f"{errors.pck(0.2, cut):>10.4f}{errors.pck(0.1, cut):>10.4f}"
        print(f"{name:<20}{len(pixels):>8}{shares}{np.median(pixels):>12.2f} px")


if __name__ == "__main__":
    main()
