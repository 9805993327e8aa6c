"""The command `posepost`: demo, inspect, run, warmup, bench, doctor.

Exit status: 0, or 2 with a line on stderr for each thing that went wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from posepost._boxes import FORMATS
from posepost.ort.people import LEAST_SCORE

from . import bench, demo, doctor, inspect, run, warmup
from ._options import above_zero, add_model, box, indices, score, size, skeleton
from ._output import EXPECTED, complain, in_options, message


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: complain(in_options(str(message)))  # type: ignore[assignment,unused-ignore]
        try:
            status: int = arguments.command(arguments)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except EXPECTED as error:
            complain(message(error))
            return 2
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="posepost", description="Keypoints from pose networks, decoded where their outputs lie.")
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    parser.set_defaults(command=_no_command)

    command = commands.add_parser("demo", help="run the bundled model on the bundled scenes")
    command.add_argument("-o", dest="output", metavar="DIR", default="posepost-demo", help="default: %(default)s")
    command.set_defaults(command=demo.demo)

    command = commands.add_parser("inspect", help="print a model's inputs, outputs and recognized heads")
    add_model(command)
    command.set_defaults(command=inspect.inspect)

    command = commands.add_parser("run", help="keypoints (JSON) and overlay (PNG) of images")
    add_model(command)
    command.add_argument("images", metavar="IMAGE", nargs="+")
    command.add_argument("-o", dest="output", metavar="DIR", default="posepost-out", help="default: %(default)s")
    command.add_argument("--size", type=size, metavar="WxH", help="of the network's input, where it takes any")
    command.add_argument("--people", choices=("one", "all"), help="default: all where the model has the heads for it")
    command.add_argument(
        "--score", type=score, metavar="S", help=f"least score of a person, with --people all; default: {LEAST_SCORE}"
    )
    command.add_argument(
        "--skeleton",
        type=skeleton,
        metavar="P-C,...",
        help="parent and child of each edge, by number, in the order of the displacement channels; default: PoseNet's",
    )
    command.add_argument(
        "--box", type=box, action="append", metavar="X0,Y0,X1,Y1",
        help="of a person, in pixels of the image, once or more; --box=-9,... where x0 is below 0; default: the image",
    )  # fmt: skip
    command.add_argument(
        "--boxes",
        metavar="FILE.json",
        help='{"IMAGE": [[x0, y0, x1, y1], ...], ...}, COCO annotations or COCO detections',
    )
    command.add_argument(
        "--box-format", choices=tuple(FORMATS), help="of boxes: corners, or the upper left corner or middle, and size"
    )
    command.add_argument(
        "--padding", type=above_zero, metavar="P", help="how much larger than the box its crop is; default: 1.25"
    )
    command.add_argument("--flip", action="store_true", help="mean of each crop and its mirror image")
    command.add_argument(
        "--flip-pairs",
        type=indices,
        metavar="K,K,...",
        help="--flip, with each keypoint's partner in the mirror image",
    )
    command.set_defaults(command=run.run)

    command = commands.add_parser("warmup", help="compile the kernels ahead of the first call")
    command.add_argument("model", metavar="MODEL.onnx", nargs="?", help="only what this model needs")
    command.set_defaults(command=warmup.warmup)

    command = commands.add_parser("bench", help="measure decoder, floors and peers on this machine")
    command.add_argument("-o", dest="output", metavar="DIR", default="bench-results", help="default: %(default)s")
    command.set_defaults(command=bench.bench)

    command = commands.add_parser("doctor", help="what this machine has, and what to install for what is missing")
    command.set_defaults(command=doctor.doctor)
    return parser


def _no_command(arguments: argparse.Namespace) -> int:
    raise ValueError("give a command: demo, inspect, run, warmup, bench or doctor (posepost --help tells more)")
