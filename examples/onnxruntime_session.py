"""All people in a photograph, from an ONNX file with PoseNet heads. Without arguments: the bundled model and scene.

python examples/onnxruntime_session.py [MODEL.onnx PHOTO]
"""

import sys
from pathlib import Path

import posepost
from posepost.ort import PoseSession

try:
    assets = Path(posepost.__file__).parent / "assets"
    model, photo = sys.argv[1:] or (assets / "figures.onnx", assets / "crowd.png")
    session = PoseSession(model)  # finds the heads, the layout, the stride, a Sigmoid
except ImportError as error:
    sys.exit(f'this example needs onnxruntime and Pillow: pip install "posepost[ort]" ({error})')

print(f"running on {session.device} ({session.device_reason})")
people = session(photo)  # upright, everybody who scores at least 0.25
print(f"{len(people)} people")
for person in people:
    x, y = person.keypoints[0]
    print(f"score {person.score:.2f}, {people.names[0]} at ({x:.0f}, {y:.0f})")
