"""How well the bundled model finds all people in freshly drawn crowds.

`python -m examples.bundled_model.evaluate_crowds`.

Scene i has 1 + i % `--people` figures. The four outputs go through `decode_posenet_multi(mode="tfjs")` with its default
threshold and radius; poses that score below LEAST_SCORE are dropped, the others are detections with that score.

OKS, AP and AR are pycocotools' own, for iouType "keypoints" with COCO's sigmas. Ground truth has COCO's visibility
flags: 0 outside the picture, which OKS leaves out, 1 covered, 2 in sight. The figures have no masks, so the area that
scales OKS is AREA_SHARE of the box about the keypoints inside the picture. Needs onnxruntime, Pillow and pycocotools:
`pip install posepost[ort,bench]`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from examples.bundled_model import scenes
from examples.bundled_model.evaluate import MODEL
from posepost import decode_posenet_multi
from posepost.schemes import SCHEMES

LEAST_SCORE = 0.25
AREA_SHARE = 0.53
OUTPUTS = ["heatmaps", "offsets", "displacement_fwd", "displacement_bwd"]


class Found(NamedTuple):
    """Who was found in one scene: keypoints (P, 17, 2) in pixels, scores (P,)."""

    keypoints: np.ndarray
    scores: np.ndarray


class Result(NamedTuple):
    """AP, AP50, AP75 and AR as COCO defines them; recall and precision over all people and all poses, at OKS 0.5.

    `counted` is the share of the scenes with as many poses as people.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    recall: float
    precision: float
    counted: float
    people: int
    poses: int


def draw(count: int, people: int = 6, stream: int = scenes.EVALUATE, size: int = 192) -> list[scenes.Scene]:
    """Scenes 0 to count - 1 of `stream`, with 1, 2, ... `people` figures in turn."""
    return [scenes.draw(np.random.default_rng([stream, i]), 1 + i % people, size) for i in range(count)]


def find(model: Path, drawn: Sequence[scenes.Scene]) -> list[Found]:
    """Everybody the model finds in scenes of one size, through onnxruntime on the CPU."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    mean, std, stride = (float(metadata["posepost." + key]) for key in ("mean", "std", "output_stride"))
    found = []
    for first in range(0, len(drawn), 30):
        images = np.stack([scene.image for scene in drawn[first : first + 30]]).transpose(0, 3, 1, 2)
        maps = session.run(OUTPUTS, {"image": (images.astype(np.float32) - mean) / std})
        poses = decode_posenet_multi(*maps, output_stride=int(stride), mode="tfjs", activation="sigmoid")
        for keypoints, scores, count in zip(poses.keypoints, poses.scores, poses.count, strict=True):
            kept = np.flatnonzero(scores[:count] >= LEAST_SCORE)
            found.append(Found(keypoints[kept], scores[kept]))
    return found


def score(drawn: Sequence[scenes.Scene], found: Sequence[Found]) -> Result:
    """COCO's keypoint evaluation of the poses found in each scene."""
    truth, detections = [], []
    for image, (scene, poses) in enumerate(zip(drawn, found, strict=True), 1):
        for points, flags in zip(scene.keypoints.astype(float), scene.visibility, strict=True):
            inside = flags != scenes.OUTSIDE
            labelled = np.where(inside[:, None], points, 0)
            entry = _annotation(len(truth) + 1, image, labelled, flags, points[inside])
            truth.append({**entry, "num_keypoints": int(inside.sum()), "area": AREA_SHARE * entry["area"]})
        for points, value in zip(poses.keypoints.astype(float), poses.scores, strict=True):
            entry = _annotation(len(detections) + 1, image, points, np.ones(len(points)), points)
            detections.append({**entry, "score": float(value)})
    with contextlib.redirect_stdout(io.StringIO()):
        images = list(range(1, len(drawn) + 1))
        evaluation = COCOeval(_dataset(images, truth), _dataset(images, detections), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75, _, _, ar, recall, *_ = map(float, evaluation.stats)
    return Result(
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        ar=ar,
        recall=recall,
        precision=recall * len(truth) / max(len(detections), 1),
        counted=float(np.mean([len(a.keypoints) == len(b.keypoints) for a, b in zip(drawn, found, strict=True)])),
        people=len(truth),
        poses=len(detections),
    )


def _annotation(number: int, image: int, points: np.ndarray, flags: np.ndarray, boxed: np.ndarray) -> dict:
    low, extent = boxed.min(0), np.ptp(boxed, axis=0)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": np.column_stack([points, flags]).ravel().tolist(),
        "bbox": [*low.tolist(), *extent.tolist()],
        "area": float(np.prod(extent)),
    }


def _dataset(images: list[int], annotations: list[dict]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in images],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(SCHEMES["coco"].keypoints)}],
    }
    coco.createIndex()
    return coco


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--people", type=int, default=6, choices=range(1, 7), help="largest number in a scene")
    options = parser.parse_args()
    start = time.perf_counter()
    drawn = draw(options.scenes, options.people)
    result = score(drawn, find(options.model, drawn))
    print(
        f"{options.model.name}, {options.scenes} scenes it was not trained on, of 1 to {options.people} people: "
        f"{result.people} people, {result.poses} poses of score {LEAST_SCORE} or more"
    )
    print(f"OKS AP {result.ap:.4f}   AP50 {result.ap50:.4f}   AP75 {result.ap75:.4f}   AR {result.ar:.4f}")
    print(f"at OKS 0.5: recall {result.recall:.4f}   precision {result.precision:.4f}")
    print(f"people counted exactly in {result.counted:.4f} of the scenes; {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
