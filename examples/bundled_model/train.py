"""Draw scenes, train the bundled network on them and write it as ONNX.

`python -m examples.bundled_model.train OUT.onnx`.

Needs PyTorch (CPU), onnx and Pillow, about 6 GB of memory and `--minutes` of two CPU cores. The heads are PoseNet's:
heatmaps, offsets from a cell to the joint, displacements between joints along the skeleton's edges.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from examples.bundled_model import scenes
from posepost.schemes import SCHEMES

SIZE, STRIDE, BATCH, MOST_PEOPLE = 192, 8, 16, 6
PEOPLE_SHARES = (0.42, 0.17, 0.13, 0.1, 0.09, 0.09)
# Parent and child of the skeleton's edges, in the order of tfjs-models' PoseNet.
EDGES = (
    (0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15),
    (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
)  # fmt: skip
HEADS = {  # channels, pixels to one unit of the network
    "heatmaps": (17, 1.0),
    "offsets": (34, 8.0),
    "displacement_fwd": (32, 24.0),
    "displacement_bwd": (32, 24.0),
}
SIGMA, DISK = 6.5, 12.0  # pixels: width of a heatmap's peak, radius in which offsets and displacements are learnt
MEAN = STD = 127.5
ABSENT = 1e4


# Scenes


def _draw_chunk(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    joints = np.full((count, MOST_PEOPLE, 17, 2), ABSENT, np.float32)
    for i in range(count):
        rng = np.random.default_rng([scenes.TRAIN, first + i])
        scene = scenes.draw(rng, int(rng.choice(MOST_PEOPLE, p=PEOPLE_SHARES)) + 1, SIZE)
        images[i] = scene.image
        joints[i, : len(scene.keypoints)] = scene.keypoints
    return images, joints


def draw_scenes(count: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    joints = np.empty((count, MOST_PEOPLE, 17, 2), np.float32)
    starts = range(0, count, 250)
    with ProcessPoolExecutor(workers) as pool:
        chunks = pool.map(_draw_chunk, starts, [min(250, count - start) for start in starts])
        for start, (drawn, where) in zip(starts, chunks, strict=True):
            images[start : start + len(drawn)], joints[start : start + len(drawn)] = drawn, where
    return images, joints


class Batches:
    """Endless random batches. Half of the scenes are mirrored, and keep their labels: color tells left from right."""

    def __init__(self, images: np.ndarray, joints: np.ndarray, rng: np.random.Generator):
        self.images, self.joints, self.rng = images, joints, rng
        self.noise = torch.from_numpy(rng.standard_normal(8 * SIZE * SIZE * 3, np.float32))
        self.order = rng.permutation(len(images))
        self.position = 0

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.position + BATCH > len(self.order):
            self.order, self.position = self.rng.permutation(len(self.order)), 0
        index = np.sort(self.order[self.position : self.position + BATCH])
        self.position += BATCH
        images, joints = self.images[index], self.joints[index]
        mirror = self.rng.random(BATCH) < 0.5
        images[mirror] = images[mirror, :, ::-1]
        joints[mirror, ..., 0] = np.where(joints[mirror, ..., 0] == ABSENT, ABSENT, SIZE - 1 - joints[mirror, ..., 0])
        x = torch.from_numpy(images).view(BATCH, -1).float()
        gain = torch.from_numpy(self.rng.uniform(0.8, 1.2, (BATCH, 1)).astype(np.float32))
        shift = torch.from_numpy(self.rng.uniform(-19, 19, (BATCH, 1)).astype(np.float32))
        x.mul_(gain / STD).add_((shift - gain * MEAN) / STD)
        for i in np.flatnonzero(self.rng.random(BATCH) < 0.4):
            start = int(self.rng.integers(len(self.noise) - x.shape[1]))
            x[i].add_(self.noise[start : start + x.shape[1]], alpha=self.rng.uniform(0, 0.08))
        return x.view(BATCH, SIZE, SIZE, 3).permute(0, 3, 1, 2), torch.from_numpy(joints)


# Network


class Conv(nn.Module):
    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = Conv(width, width, 3), Conv(width, width, 3, relu=False)
        nn.init.zeros_(self.second.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.second(self.first(x)))


class Network(nn.Module):
    """Three strided convolutions, residual blocks at strides 8, 16, 32, back up by addition, one 1x1 head for all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 24, 3, 2), Conv(24, 48, 3, 2))
        self.at8 = Block(48)
        self.to16, self.at16 = Conv(48, 64, 3, 2), Block(64)
        self.to32, self.at32 = Conv(64, 96, 3, 2), Block(96)
        self.up16, self.back16 = Conv(96, 64, 1, relu=False), Block(64)
        self.up8, self.back8 = Conv(64, 48, 1, relu=False), Block(48)
        self.neck = Conv(48, 96, 1)
        self.head = nn.Conv2d(96, sum(channels for channels, _ in HEADS.values()), 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        nn.init.constant_(self.head.bias[:17], -4.0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits, then offsets and displacements in units of HEADS."""
        s8 = self.at8(self.stem(x))
        s16 = self.at16(self.to16(s8))
        s32 = self.at32(self.to32(s16))
        s16 = self.back16(s16 + F.interpolate(self.up16(s32), size=s16.shape[-2:]))
        s8 = self.back8(s8 + F.interpolate(self.up8(s16), size=s8.shape[-2:]))
        features = self.neck(s8)
        with torch.autocast("cpu", enabled=False):
            return self.head(features.float()).split([channels for channels, _ in HEADS.values()], 1)


# Loss


def _cells() -> torch.Tensor:
    axis = torch.arange(0, SIZE, STRIDE, dtype=torch.float32)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)  # (cells, 2) as (x, y), row-major


CELLS = _cells()
SKELETON = torch.tensor(EDGES)


def loss(outputs: tuple[torch.Tensor, ...], joints: torch.Tensor) -> torch.Tensor:
    """What is to be made small, given joints (B, P, 17, 2) in pixels, ABSENT where there is nobody.

    A joint just outside the picture still has its peak and its offsets inside, so that nothing jumps at the border.
    """
    logits, offsets, forward, backward = (output.flatten(2) for output in outputs)
    joints = joints[:, : int((joints[:, :, 0, 0] != ABSENT).sum(1).max())]
    x, y = ((joints[..., axis, None] - CELLS[:, axis]).square_() for axis in (0, 1))  # (B, P, 17, cells)
    squared, nearest = (x + y).min(1)  # (B, 17, cells): of several people's joints, the nearest counts
    image, joint, cell = (squared < DISK * DISK).nonzero(as_tuple=True)
    person = nearest[image, joint, cell]
    here = joints[image, person, joint]  # (places, 2) as (x, y)

    target = torch.exp(squared / (-2 * SIGMA * SIGMA))
    error = (target - logits.detach().sigmoid()).abs_() * (1 + 3 * target)
    heat = F.binary_cross_entropy_with_logits(logits, target, weight=error, reduction="sum") / max(len(joint), 1)

    def regression(
        head: str, output: torch.Tensor, at: torch.Tensor, channel: torch.Tensor, goal: torch.Tensor
    ) -> torch.Tensor:
        count, unit = HEADS[head]
        found = torch.stack([output[image[at], channel + first, cell[at]] for first in (count // 2, 0)], 1)
        return F.smooth_l1_loss(found, goal / unit, reduction="sum", beta=0.1) / max(len(at), 1)

    total = 4 * heat + regression("offsets", offsets, torch.arange(len(joint)), joint, here - CELLS[cell])
    for head, output, start, end in (("displacement_fwd", forward, 0, 1), ("displacement_bwd", backward, 1, 0)):
        at, edge = (joint[:, None] == SKELETON[:, start]).nonzero(as_tuple=True)
        there = joints[image[at], person[at], SKELETON[edge, end]]
        total = total + 2 * regression(head, output, at, edge, there - here[at])
    return total


# Training


def train(images: np.ndarray, joints: np.ndarray, seconds: float, seed: int = 0) -> tuple[Network, int]:
    """The moving average of the weights, and the number of steps taken in `seconds`."""
    torch.manual_seed(seed)
    network = Network().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    batches = Batches(images, joints, np.random.default_rng(seed))
    kernels = {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.02}
    rest = {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0}
    optimiser = torch.optim.AdamW([kernels, rest], lr=0.0)
    half = _half_is_faster(copy.deepcopy(network))
    begin, step, running = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - begin) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done))
        x, where = batches.next()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            outputs = network(x)
        value = loss(outputs, where)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        step += 1
        keep = min(0.998, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)
            for kept, new in zip(average.buffers(), network.buffers(), strict=True):
                kept.copy_(new) if not new.is_floating_point() else kept.lerp_(new, 1 - keep)
        running += value.item()
        if step % 500 == 0:
            print(f"{time.monotonic() - begin:7.0f} s  step {step:6d}  loss {running / 500:.4f}", flush=True)
            running = 0.0
    return average.eval(), step


def _half_is_faster(network: Network) -> bool:
    """Whether this CPU trains faster in bfloat16 (it does where it has instructions for it)."""
    x = torch.zeros(BATCH, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    took = []
    for half in (False, True):
        best = math.inf
        for _ in range(4):
            begin = time.monotonic()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                outputs = network(x)
            sum(output.sum() for output in outputs).backward()
            best = min(best, time.monotonic() - begin)
        took.append(best)
    print(f"a step takes {1e3 * took[0]:.0f} ms in float32, {1e3 * took[1]:.0f} ms in bfloat16", flush=True)
    return took[1] < took[0]


# Export


def to_onnx(network: Network, note: str) -> onnx.ModelProto:
    """Batch norms folded in, weights stored as float16 behind a Cast, float32 in and out; any batch, height, width."""
    nodes, weights = [], []

    def add(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def stored(name: str, values: torch.Tensor) -> str:
        weights.append(numpy_helper.from_array(values.detach().numpy().astype(np.float16), name + "_fp16"))
        return add("Cast", [name + "_fp16"], name, to=TensorProto.FLOAT)

    def conv2d(x: str, name: str, weight: torch.Tensor, bias: torch.Tensor, output: str, stride: int = 1) -> str:
        pad, inputs = weight.shape[-1] // 2, [x, stored(name + ".weight", weight), stored(name + ".bias", bias)]
        return add("Conv", inputs, output, kernel_shape=list(weight.shape[2:]), pads=[pad] * 4, strides=[stride] * 2)

    def conv(x: str, name: str, layer: Conv) -> str:
        norm = layer.norm
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight, bias = layer.conv.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain
        x = conv2d(x, name, weight, bias, name, layer.conv.stride[0])
        return add("Relu", [x], name + ".relu") if layer.relu else x

    def block(x: str, name: str, layer: Block) -> str:
        y = conv(conv(x, name + ".first", layer.first), name + ".second", layer.second)
        return add("Relu", [add("Add", [x, y], name + ".sum")], name + ".relu")

    def enlarge(x: str, like: str, name: str) -> str:
        head = add("Shape", [x], name + ".channels", start=0, end=2)
        tail = add("Shape", [like], name + ".extent", start=2, end=4)
        sizes = add("Concat", [head, tail], name + ".sizes", axis=0)
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return add("Add", [like, add("Resize", [x, "", "", sizes], name + ".resized", **how)], name)

    x = "image"
    for i, layer in enumerate(network.stem):
        x = conv(x, f"stem{i}", layer)
    s8 = block(x, "at8", network.at8)
    s16 = block(conv(s8, "to16", network.to16), "at16", network.at16)
    s32 = block(conv(s16, "to32", network.to32), "at32", network.at32)
    s16 = block(enlarge(conv(s32, "up16", network.up16), s16, "join16"), "back16", network.back16)
    s8 = block(enlarge(conv(s16, "up8", network.up8), s8, "join8"), "back8", network.back8)
    features = conv(s8, "neck", network.neck)
    outputs, first = [], 0
    for name, (channels, unit) in HEADS.items():
        part = slice(first, first + channels)
        conv2d(features, name + ".head", network.head.weight[part] * unit, network.head.bias[part] * unit, name)
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, "rows", "columns"]))
        first += channels
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    graph = helper.make_graph(nodes, "posepost_figures", [image], outputs, weights)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="posepost")
    metadata = {
        "posepost.mean": str(MEAN),
        "posepost.std": str(STD),
        "posepost.output_stride": str(STRIDE),
        "posepost.input_size": f"{SIZE},{SIZE}",
        "posepost.keypoints": ",".join(SCHEMES["coco"].keypoints),
        "posepost.knows": "Drawn figures only (examples/bundled_model/scenes.py): it was never shown a photograph.",
        "posepost.training": note,
    }
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=27.0, help="for everything, drawing included (default: 27)")
    parser.add_argument("--scenes", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw (default: 2)")
    parser.add_argument("--threads", type=int, default=2, help="threads that train; 1 where the cores are shared")
    options = parser.parse_args()
    begin = time.monotonic()
    torch.set_num_threads(options.threads)
    images, joints = draw_scenes(options.scenes, options.workers)
    print(f"{options.scenes} scenes drawn in {time.monotonic() - begin:.0f} s", flush=True)
    network, steps = train(images, joints, 60 * options.minutes - (time.monotonic() - begin) - 5)
    spent = f"{options.minutes:g} minutes on a CPU, drawing included"
    note = f"{options.scenes} scenes, {steps} steps of {BATCH}, threads {options.threads}, {spent}"
    options.output.write_bytes(to_onnx(network, note).SerializeToString())
    parameters = sum(p.numel() for p in network.parameters())
    took = time.monotonic() - begin
    print(f"{note}; {parameters} parameters; {options.output}: {options.output.stat().st_size} bytes; {took:.0f} s")


if __name__ == "__main__":
    main()
