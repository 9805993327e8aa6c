"""NumPy alone: PoseNet, top-down heatmaps, SimCC and local maxima on arrays in host memory.

python examples/numpy_only.py
"""

import numpy as np

import posepost


def bell(size: int, place: float, sigma: float = 2.0) -> np.ndarray:
    return np.exp(-((np.arange(size) - place) ** 2) / (2 * sigma**2)).astype(np.float32)


H, W, x, y = 64, 48, 30.25, 20.4  # a keypoint between the cells of a map
maps = np.tile(bell(H, y)[:, None] * bell(W, x), (1, 17, 1, 1))

for preset in ("mmpose_msra", "mmpose_dark", "mmpose_udp", "vitpose_hf"):
    people = posepost.decode_heatmap(maps, preset=preset)  # without input_size: in cells of the map
    print(f"{preset:12} {np.round(people.keypoints[0, 0], 2)}, drawn at ({x}, {y})")

vectors = np.tile(bell(384, 241, 5), (1, 17, 1)), np.tile(bell(512, 164, 5), (1, 17, 1))
people = posepost.decode_simcc(*vectors, preset="rtmpose")
print(f"simcc        {people.keypoints[0, 0]}, drawn at (120.5, 82)")

logits = np.full((1, 17, 33, 33), -5, np.float32)
logits[:, :, 12, 8] = 5
people = posepost.decode_posenet(logits, np.ones((1, 34, 33, 33), np.float32), output_stride=16, activation="sigmoid")
print(f"posenet      {people.keypoints[0, 0]}, score {people.scores[0, 0]:.3f}")

peaks = posepost.find_peaks(maps, threshold=0.5, max_peaks=4, refine="centroid", activation=None)
print(f"find_peaks   {peaks.count[0, 0]}, at {np.round(peaks.points[0, 0, 0], 2)}")
