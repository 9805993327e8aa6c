"""A top-down network: a crop of each box, heatmaps, keypoints in pixels of the photograph. In the place of a detector
and of an HRNet stand the bundled scene, whose people are known, and the bundled model's heatmaps. It was not trained on
crops, and takes the other person where a crop holds two: the last box shows it.

python examples/top_down.py
"""

import json
import sys
from pathlib import Path

import numpy as np

import posepost
from posepost.ort import TopDownSession

try:
    assets = Path(posepost.__file__).parent / "assets"
    model = assets / "figures.onnx"
    session = TopDownSession(model, heads={"heatmaps": "heatmaps"}, preset="mmpose_msra", activation="sigmoid")
except ImportError as error:
    sys.exit(f'this example needs onnxruntime and Pillow: pip install "posepost[ort]" ({error})')

drawn = np.array([person["keypoints"] for person in json.loads((assets / "crowd.json").read_text())["people"]])
boxes = np.concatenate([drawn.min(axis=1), drawn.max(axis=1)], axis=1)  # x0, y0, x1, y1

people = session(assets / "crowd.png", boxes, padding=1.5)

apart = np.linalg.norm(people.keypoints - drawn, axis=-1)
for number, (scores, distances) in enumerate(zip(people.keypoint_scores, apart), start=1):
    print(f"person {number}: score {scores.mean():.2f}, {np.median(distances):.1f} px from where it was drawn (median)")
