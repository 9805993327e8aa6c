"""Frame after frame into host memory that the kernel writes itself: no allocation, no copy call, one wait a frame.

python examples/pinned_out.py
"""

import numpy as np

import posepost

try:
    import cupy

    on_device = cupy.cuda.is_available()
except ImportError:
    on_device = False

B, K, H, W = 1, 17, 33, 33
if on_device:
    xp, out = cupy, posepost.pinned(B, K)
else:
    print("no CUDA device: ordinary arrays in place of pinned memory, decoded in NumPy")
    xp, out = np, (np.empty((B, K, 2), np.float32), np.empty((B, K), np.float32))

written, _ = out
offsets = xp.zeros((B, 2 * K, H, W), xp.float32)
for frame in range(3):
    heatmaps = xp.full((B, K, H, W), -5, xp.float32)
    heatmaps[:, :, 10 + frame, 20] = 5  # where all keypoints of this frame are
    people = posepost.decode_posenet(heatmaps, offsets, output_stride=16, out=out, activation="sigmoid")
    keypoints, scores = people.numpy()  # on a GPU: waits, and gives the very arrays of `out`
    print(f"frame {frame}: nose at {keypoints[0, 0].tolist()}, score {scores[0, 0]:.3f}")
    assert keypoints[0, 0].tolist() == [20 * 16, (10 + frame) * 16]
    assert np.shares_memory(keypoints, written)
