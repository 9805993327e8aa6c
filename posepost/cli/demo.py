"""`posepost demo`: the bundled model on two bundled scenes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posepost._image import as_image
from posepost.draw import heatmap_picture, overlay
from posepost.ort import HEADS, PoseSession
from posepost.ort.people import LEAST_SCORE, SHOWN, above

from ._output import make_folder, png, ran_on, write

if TYPE_CHECKING:
    from PIL import Image as PILImage

ASSETS = Path(__file__).parents[1] / "assets"


def demo(arguments: argparse.Namespace) -> int:
    """Run the bundled model on two bundled scenes, one figure and several; print what came out, write the pictures."""
    folder = make_folder(arguments.output)
    session = PoseSession(ASSETS / "figures.onnx")
    _demo_one(session, folder)
    print()
    _demo_several(session, folder)
    return 0


def _demo_one(session: PoseSession, folder: Path) -> None:
    image, images, transform = _scene(session, "scene.png")
    print(ran_on(session))
    result = session.run(images, transform=transform).numpy()
    heatmaps, offsets = _maps(session, images, ("heatmaps", "offsets"))

    model = session.model
    print(f"\n{'keypoint':<16}{'x':>8}{'y':>8}{'score':>8}")
    for name, (x, y), score in zip(model.keypoints, result.keypoints[0], result.scores[0]):
        print(f"{name:<16}{x:>8.1f}{y:>8.1f}{score:>8.3f}")
    print(f"\n{_saved(session, 'keypoints', result, 'heatmaps and offsets', (heatmaps, offsets))}")

    best = int(np.argmax(result.scores[0]))
    heatmap = (heatmaps[0].transpose(2, 0, 1) if model.layout == "NHWC" else heatmaps[0])[best].astype(np.float32)
    if model.activation == "sigmoid":
        heatmap = 1 / (1 + np.exp(-heatmap))
    paths = [folder / "overlay.png", folder / "heatmap.png"]
    pictures = [
        _drawn(session, image, result.keypoints, result.scores),
        heatmap_picture(heatmap),
    ]
    write({path: png(picture) for path, picture in zip(paths, pictures)})
    print(f"wrote {paths[0]} and {paths[1]} (the heatmap of {model.keypoints[best]})")


def _demo_several(session: PoseSession, folder: Path) -> None:
    image, images, transform = _scene(session, "crowd.png")
    poses = session.run_multi(images, transform=transform).numpy()
    points, keypoint_scores, people = above(poses, LEAST_SCORE)
    print()
    for number, (scores, score) in enumerate(zip(keypoint_scores, people), 1):
        shown = f"{(scores >= SHOWN).sum()} of {len(scores)} keypoints"
        print(f"person {number:<3} score {score:.3f}, {shown} score at least {SHOWN}")
    print(f"\n{_saved(session, 'poses', poses, 'the four heads', _maps(session, images, HEADS))}")
    path = folder / "crowd.png"
    write({path: png(_drawn(session, image, points, keypoint_scores))})
    print(f"wrote {path} (one color a person)")


def _scene(session: PoseSession, name: str) -> tuple[PILImage.Image, Any, Any]:
    """A bundled picture, the network's input and the transform back; says so."""
    image = as_image(ASSETS / name)
    images, transform = session.letterbox(image)
    height, width = images.shape[1:3] if session.model.input_layout == "NHWC" else images.shape[2:]
    print(f"figures.onnx on {name} ({image.width}x{image.height}, network input {width}x{height})")
    return image, images, transform


def _saved(session: PoseSession, what: str, result: Any, of: str, maps: Sequence[Any]) -> str:
    crossing, kept = (sum(array.nbytes for array in arrays) for arrays in (result, maps))
    crossed = "crossed" if session.device == "cuda" else "would cross"
    return (
        f"{crossing} bytes of {what} {crossed} the bus of a GPU, in place of {kept} bytes of {of} "
        f"({kept / crossing:.0f} times as many)"
    )


def _drawn(session: PoseSession, image: PILImage.Image, keypoints: Any, scores: Any) -> PILImage.Image:
    enlarged = max(1, 768 // max(image.size))
    return overlay(image, keypoints, scores, scheme=session.model.scheme, min_score=SHOWN, scale=enlarged)


def _maps(session: PoseSession, images: Any, heads: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """Heads of the model on the host."""
    maps = session.forward(images, heads=heads)
    if session.stream is None:
        return list(maps)
    session.stream.synchronize()  # synchronizes
    return [array.numpy() for array in maps]
