"""All people in a photograph, from an ONNX file with PoseNet heads. Without arguments: the bundled model and scene.

python examples/onnxruntime_session.py [MODEL.onnx PHOTO]
"""

import sys
from pathlib import Path

import posepost
from posepost.ort import PoseSession

try:
    from PIL import Image

    assets = Path(posepost.__file__).parent / "assets"
    model, photo = sys.argv[1:] or (assets / "figures.onnx", assets / "crowd.png")
    session = PoseSession(model)  # finds the heads, the layout, the stride, a Sigmoid
except ImportError as error:
    sys.exit(f'this example needs onnxruntime and Pillow: pip install "posepost[ort]" ({error})')

print(f"running on {session.device} ({session.device_reason})")
images, to_image = session.letterbox(Image.open(photo))
poses = session.run_multi(images, transform=to_image)  # enqueued: nothing has been waited for
poses = poses.numpy()
print(f"{poses.count[0]} people")
for score, points in zip(poses.scores[0], poses.keypoints[0, : poses.count[0]]):
    x, y = points[0]
    print(f"score {score:.2f}, {session.keypoint_names(len(points))[0]} at ({x:.0f}, {y:.0f})")
