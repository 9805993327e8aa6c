"""PyTorch on a stream of its own: network and decoder are enqueued, and the host waits once.

python examples/torch_stream.py
"""

import contextlib
import sys

import posepost

try:
    import torch
except ImportError:
    sys.exit("this example needs PyTorch: pip install torch")

device = "cuda" if torch.cuda.is_available() else "cpu"
if device == "cpu":
    print("no CUDA device: the same call decodes in NumPy, and there are no streams")

network = torch.nn.Conv2d(3, 17, kernel_size=4, stride=4).to(device)  # stands for a ViTPose: 17 maps of 64x48
crops = torch.rand(8, 3, 256, 192, device=device)
out = torch.empty(8, 17, 2, device=device), torch.empty(8, 17, device=device)  # written again for each batch

stream = torch.cuda.Stream() if device == "cuda" else None
with torch.inference_mode(), torch.cuda.stream(stream) if stream else contextlib.nullcontext():
    if stream:
        stream.wait_stream(torch.cuda.default_stream())  # the crops were made there
    for _ in range(3):
        heatmaps = network(crops)
        people = posepost.decode_heatmap(heatmaps, preset="vitpose_hf", input_size=(192, 256), out=out)
    keypoints, scores = people.numpy()  # waits for this stream

print(f"{len(keypoints)} people on {device}, of {keypoints.shape[1]} keypoints")
assert keypoints.shape == (8, 17, 2)
assert scores.shape == (8, 17)
