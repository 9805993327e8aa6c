"""`posepost run`: keypoints of images.

Two files are written for each image: NAME.overlay.png, the picture with the keypoints on it, and NAME.json:

    {
      "image": "photo.jpg",             as given on the command line
      "width": 640, "height": 480,      of the image, in pixels, turned upright
      "model": "posenet.onnx",
      "input_size": [481, 353],         width, height of the network's input
      "device": "cpu",                  or "cuda"
      "poses": [                        one entry a person; [] where none was found
        {
          "score": 0.98,                of the person, see below
          "keypoints": [{"name": "nose", "x": 267.9, "y": 127.8, "score": 0.99}, ...]
        }
      ]
    }

A model with displacement heads finds all people (--people all): up to 20 people in the order and with the scores of
`decode_posenet_multi` in mode "tfjs", without those that score less than --score. Such a score is the mean of the
keypoints' scores with 0 for each keypoint that an earlier person has. Other models, and --people one, find one person,
however unlikely, whose score is the mean of the keypoints' scores.

A model with heatmaps or SimCC sees one person a crop. --box or --boxes tell where people are, else the whole image is
one person, which is said on stderr; "poses" then has one entry a box, in their order and whatever the score, which is
the mean of the keypoints' scores, with the box as "box": [x0, y0, x1, y1] and, where it came with one, its
"box_score". A box that cannot be used costs a line on stderr and exit status 2; the others are done. --boxes names a
JSON file for many images, by the names of the images as given on the command line, or without their directories:

    {"photo.jpg": [[x0, y0, x1, y1], ...], "other.jpg": []}

A score and a class may follow in a row; every row is taken for a person. COCO annotations and COCO detection results
are read too, and of them people alone. --box-format xywh or cxcywh says that rows are not two corners (COCO's are
xywh).

x and y are pixels of the image, x to the right and y down. They are null for a keypoint that is absent: whose score
is not above 0 (by the rule of MMPose, HRNet and others nothing was found then; soft-argmax alone has scores that are
no measure of that) or whose place is not finite. A score that is not finite is null. NAME is the image's file name
without its suffix, with -2, -3, ... after it where that name is taken. Files appear whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from posepost.ort import (
    BoxWarning,
    Graph,
    People,
    PoseSession,
    PresetWarning,
    TopDownSession,
    input_size,
    multi_person_problem,
    people_to_find,
    read_graph,
    recognize,
)

from ._box_files import BoxFile, read_box_file
from ._options import check_options, model_options
from ._output import EXPECTED, complain, make_folder, message, png, ran_on, write

Find = Callable[[str], "tuple[People, str]"]
"""The people in one image, given by path, and what was found in a few words."""


def run(arguments: argparse.Namespace) -> int:
    """Keypoints and overlay of every image; one bad image does not keep the others from being done."""
    graph = read_graph(arguments.model)
    kind = recognize(graph, heads=arguments.heads, layout=arguments.layout, preset=arguments.preset).kind
    check_options(arguments, kind)
    session, find = _whole_images(arguments, graph) if kind == "posenet" else _crops(arguments, graph)
    folder = make_folder(arguments.output)
    print(ran_on(session))
    if isinstance(session, TopDownSession) and arguments.preset is None:
        print(f"preset: {session.model.preset}, the default; the graph does not tell it, --preset does")
    status = 0
    for path, name in zip(arguments.images, output_names(arguments.images, folder)):
        try:
            people, found = find(path)
            files = _files(session, path, folder / name, arguments.size, people)
            write(files)
        except EXPECTED as error:
            text = _of_boxes(message(error), arguments)
            name = path or repr(path)
            complain(text if text.startswith(f"{name}:") else f"{name}: {text}")
            status = 2
        else:
            print(f"{path}: {found}, wrote {' and '.join(str(file) for file in files)}")
            for problem in people.left_out:
                complain(f"{path}: {_of_boxes(problem, arguments)}, left out")
                status = 2
    return status


def _whole_images(arguments: argparse.Namespace, graph: Graph) -> tuple[PoseSession, Find]:
    """A model of the PoseNet kind, which sees whole images."""
    session = PoseSession(
        graph, **model_options(arguments), output_stride=arguments.stride, skeleton=arguments.skeleton
    )
    input_size(session.model, arguments.size)
    problem = multi_person_problem(session.model, arguments.skeleton)
    wanted = arguments.people or ("all" if arguments.score is not None else None)
    wanted = wanted or people_to_find(session.model, arguments.skeleton)
    if wanted == "all" and problem is not None:
        raise ValueError(problem)
    if wanted == "one" and arguments.score is not None:
        raise ValueError("--score is for --people all, got --people one")

    def find(path: str) -> tuple[People, str]:
        people = session(path, people=wanted, score=arguments.score, size=arguments.size)
        return people, f"score {people.scores[0]:.3f}" if wanted == "one" else _counted(people)

    return session, find


def _crops(arguments: argparse.Namespace, graph: Graph) -> tuple[TopDownSession, Find]:
    """A model with heatmaps or SimCC, which sees a crop of each box."""
    boxes = _boxes(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PresetWarning)  # said on stdout
        session = TopDownSession(
            graph, **model_options(arguments), preset=arguments.preset, flip_pairs=arguments.flip_pairs
        )
    input_size(session.model, arguments.size)
    flip = arguments.flip or arguments.flip_pairs is not None
    if flip and session.model.keypoint_count is not None:
        session.flip_pairs(session.model.keypoint_count)
    options = {"flip": flip, "size": arguments.size}
    if arguments.padding is not None:
        options["padding"] = arguments.padding
    if boxes is None:
        complain("no boxes given: each picture is taken as one person; --box or --boxes say where people are")
    else:
        for path in boxes.unnamed:
            complain(f"{path}: no boxes in {arguments.boxes}, so nobody is looked for")

    def find(path: str) -> tuple[People, str]:
        rows: dict[str, Any] = {} if boxes is None else {"boxes": boxes.rows[path], "box_format": boxes.box_format}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BoxWarning)  # said here, with the image's name
            people = session(path, **rows, **options)
        return people, _counted(people)

    return session, find


def _boxes(arguments: argparse.Namespace) -> BoxFile | None:
    """Rows of each image, where --box or --boxes gives them."""
    if arguments.box is not None and arguments.boxes is not None:
        raise ValueError("--box and --boxes must not be given together, got both")
    if arguments.boxes is not None:
        return read_box_file(arguments.boxes, arguments.images, arguments.box_format)
    if arguments.box is None:
        if arguments.box_format is not None:
            raise ValueError(f"--box-format is for --box and --boxes, got {arguments.box_format} without them")
        return None
    if len(arguments.images) > 1:
        raise ValueError(f"--box is for one image, got {len(arguments.images)}; --boxes names a file for many")
    return BoxFile({arguments.images[0]: arguments.box}, arguments.box_format or "xyxy", [])


def _of_boxes(text: str, arguments: argparse.Namespace) -> str:
    """What is said of rows, said of --box where they come from there."""
    return re.sub(r"^boxes\[\d+\](?= must )", "--box", text) if arguments.box else text


def _counted(people: People) -> str:
    return f"{len(people)} {'person' if len(people) == 1 else 'people'}"


def output_names(images: Sequence[str], folder: Path) -> list[str]:
    """A name for the outputs of each image: its stem, or stem-2, ... where an output would meet another file."""
    inputs = {os.path.realpath(path) for path in images}
    taken: set[str] = set()
    names = []
    for path in images:
        stem, number = Path(path).stem, 1
        name = stem
        while name.casefold() in taken or inputs & {os.path.realpath(file) for file in _outputs(folder / name)}:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _outputs(base: Path) -> tuple[Path, Path]:
    return base.with_name(f"{base.name}.json"), base.with_name(f"{base.name}.overlay.png")


def _files(
    session: PoseSession | TopDownSession, path: str, base: Path, size: tuple[int, int] | None, people: People
) -> dict[Path, bytes]:
    """The files of one image."""
    document = {
        "image": path,
        "width": people.picture.width,
        "height": people.picture.height,
        "model": os.path.basename(session.model.name),
        "input_size": list(input_size(session.model, size)),
        "device": session.device,
        "poses": people_as_json(people),
    }
    text, picture = _outputs(base)
    return {
        text: (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(),
        picture: png(people.overlay()),
    }


def people_as_json(people: People) -> list[dict[str, Any]]:
    def number(value: Any) -> float | None:
        return float(str(value)) if math.isfinite(value) else None  # the shortest decimal that is this float32

    names = people.names
    return [
        {
            "score": number(person.score),
            **box,
            "keypoints": [
                {"name": name, "x": number(x), "y": number(y), "score": number(score)}
                for name, (x, y), score in zip(names, person.keypoints, person.keypoint_scores)
            ],
        }
        for person, box in zip(people, _boxes_as_json(people))
    ]


def _boxes_as_json(people: People) -> list[dict[str, Any]]:
    """ "box", and "box_score" where it came with one, of each person."""
    if people.boxes is None:
        return [{}] * len(people)
    boxes = [{"box": [int(one) if one.is_integer() else one for one in box]} for box in people.boxes.tolist()]
    if people.box_scores is None:
        return boxes
    scores = people.box_scores.tolist()
    return [{**box, "box_score": score if math.isfinite(score) else None} for box, score in zip(boxes, scores)]
