"""Options of the command line: what their values may be, and which of them are for which model."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any

from posepost.schemes import listing


def add_model(command: argparse.ArgumentParser) -> None:
    """The model, and the options that tell what its graph does not."""
    command.add_argument("model", metavar="MODEL.onnx")
    command.add_argument(
        "--mean", type=numbers, metavar="M", help="of pixels 0..255, one number or three, as the network's channels"
    )
    command.add_argument("--std", type=numbers, metavar="S", help="likewise; the input is (pixel - mean) / std")
    command.add_argument(
        "--bgr", action="store_true", help="the network expects blue, green, red, as mean and std then do"
    )
    command.add_argument(
        "--input", dest="inputs", type=named_value, action="append", metavar="NAME=VALUE",
        help="a value, one number or several with commas, for an input besides the image; once or more",
    )  # fmt: skip
    command.add_argument(
        "--heads", type=heads, metavar="HEAD=OUTPUT,...",
        help="heatmaps, offsets, displacement_fwd, displacement_bwd, simcc_x, simcc_y",
    )  # fmt: skip
    command.add_argument(
        "--keypoints", metavar="NAME|FILE", help=f"what they are: {listing()}, or a file of their names"
    )
    command.add_argument("--stride", type=positive, metavar="S", help="input pixels per heatmap cell")
    command.add_argument("--layout", choices=("NCHW", "NHWC"), help="of the outputs")
    command.add_argument("--preset", metavar="NAME", help="rules of heatmaps (default: mmpose_msra) or SimCC (rtmpose)")
    choices = ("auto", "sigmoid", "none")
    command.add_argument("--activation", choices=choices, default="auto", help="sigmoid: logits; none: scores")


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments that sessions and readers of any model take."""
    return {
        "heads": arguments.heads,
        "layout": arguments.layout,
        "activation": None if arguments.activation == "none" else arguments.activation,
        "mean": arguments.mean,
        "std": arguments.std,
        "input_channels": "BGR" if arguments.bgr else None,
        "inputs": None if arguments.inputs is None else _once_each(arguments.inputs),
        "keypoints": arguments.keypoints,
    }


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--input must name each input once, got {name} {names.count(name)} times")
    return dict(pairs)


def check_options(arguments: argparse.Namespace, kind: str) -> None:
    """No option is for the other kind of model."""
    whole, crops = (
        ("stride", "people", "score", "skeleton"),
        ("preset", "box", "boxes", "box_format", "padding", "flip", "flip_pairs"),
    )
    for name in crops if kind == "posenet" else whole:
        if getattr(arguments, name, None) not in (None, False):
            option = f"--{name.replace('_', '-')}"
            head = {"posenet": "PoseNet heads", "heatmap": "heatmaps alone", "simcc": "SimCC heads"}[kind]
            others = "heatmaps alone or SimCC heads" if kind == "posenet" else "PoseNet heads"
            raise ValueError(f"{option} is for models with {others}, got {arguments.model} with {head}")


def size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT in pixels, such as 481x353, got {text!r}")
    return int(match[1]), int(match[2])


def numbers(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError(f"must be one number or three with commas, got {text!r}")
    return values


def named_value(text: str) -> tuple[str, Any]:
    name, _, values = text.rpartition("=")
    try:
        found = [int(part) if re.fullmatch(r"[+-]?[0-9]+", part.strip()) else float(part) for part in values.split(",")]
    except ValueError:
        found = []
    if not name or not found:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, one number or several with commas, got {text!r}")
    return name, found[0] if len(found) == 1 else found


def score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def box(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"must be x0,y0,x1,y1 in pixels of the image, got {text!r}")
    return values


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def indices(text: str) -> list[int]:
    if not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", text):
        raise argparse.ArgumentTypeError(f"must be whole numbers with commas, such as 0,2,1, got {text!r}")
    return [int(part) for part in text.split(",")]


def positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def skeleton(text: str) -> list[tuple[int, int]]:
    if not re.fullmatch(r"[0-9]{1,4}-[0-9]{1,4}(,[0-9]{1,4}-[0-9]{1,4})*", text):
        raise argparse.ArgumentTypeError(f"must be PARENT-CHILD,... by number, such as 0-1,1-2, got {text!r}")
    return [(int(parent), int(child)) for parent, _, child in (part.partition("-") for part in text.split(","))]


def heads(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(head and output for head, _, output in pairs):
        raise argparse.ArgumentTypeError(f"must be HEAD=OUTPUT,..., got {text!r}")
    if len({head for head, _, _ in pairs}) < len(pairs):
        raise argparse.ArgumentTypeError(f"must name each head once, got {text!r}")
    return {head: output for head, _, output in pairs}
