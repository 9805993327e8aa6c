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
one box; "poses" then has one entry a box, in their order and whatever the score, which is the mean of the keypoints'
scores, with the box as it was given: "box": [x0, y0, x1, y1]. --boxes names a JSON file for many images, by the names
of the images as given on the command line, or without their directories:

    {"photo.jpg": [[x0, y0, x1, y1], ...], "other.jpg": []}

x and y are pixels of the image, x to the right and y down; a number that is not finite is null. NAME is the image's
file name without its suffix, with -2, -3, ... after it where that name is taken. Files appear whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posepost._image import read_image
from posepost.draw import overlay
from posepost.ort import PoseSession, TopDownSession, input_size, multi_person_problem, recognize

from ._options import check_options, model_options
from ._output import EXPECTED, complain, make_folder, message, png, ran_on, write
from ._people import LEAST_SCORE, SHOWN, People, above

if TYPE_CHECKING:
    from PIL import Image as PILImage

Find = Callable[[str, "PILImage.Image"], "tuple[People, str]"]
"""The people in one image, given by path and as a picture, and what was found in a few words."""


def run(arguments: argparse.Namespace) -> int:
    """Keypoints and overlay of every image; one bad image does not keep the others from being done."""
    kind = recognize(arguments.model, heads=arguments.heads, layout=arguments.layout, preset=arguments.preset).kind
    check_options(arguments, kind)
    session, find = _whole_images(arguments) if kind == "posenet" else _crops(arguments)
    folder = make_folder(arguments.output)
    print(ran_on(session))
    status = 0
    for path, name in zip(arguments.images, output_names(arguments.images, folder)):
        try:
            files, found = _one_image(session, path, folder / name, arguments.size, find)
            write(files)
        except EXPECTED as error:
            text = message(error)
            complain(text if text.startswith(f"{path}:") else f"{path}: {text}")
            status = 2
        else:
            print(f"{path}: {found}, wrote {' and '.join(str(file) for file in files)}")
    return status


def _whole_images(arguments: argparse.Namespace) -> tuple[PoseSession, Find]:
    """A model of the PoseNet kind, which sees whole images."""
    session = PoseSession(
        arguments.model, **model_options(arguments), output_stride=arguments.stride, skeleton=arguments.skeleton
    )
    input_size(session.model, arguments.size)
    problem = multi_person_problem(session.model, arguments.skeleton)
    wanted = arguments.people or ("all" if problem is None or arguments.score is not None else "one")
    if wanted == "all" and problem is not None:
        raise ValueError(problem)
    if wanted == "one" and arguments.score is not None:
        raise ValueError("--score is for --people all, got --people one")
    least = LEAST_SCORE if arguments.score is None else arguments.score

    def find(path: str, image: PILImage.Image) -> tuple[People, str]:
        images, transform = session.letterbox(image, arguments.size)
        if wanted == "one":
            points, scores = session.run(images, transform=transform).numpy()
            people = People(points, scores, scores.mean(axis=1, dtype=np.float64))
            return people, f"score {people.scores[0]:.3f}"
        people = above(session.run_multi(images, transform=transform).numpy(), least)
        return people, _counted(people)

    return session, find


def _crops(arguments: argparse.Namespace) -> tuple[TopDownSession, Find]:
    """A model with heatmaps or SimCC, which sees a crop of each box."""
    boxes = _boxes(arguments)
    session = TopDownSession(
        arguments.model, **model_options(arguments), preset=arguments.preset, flip_pairs=arguments.flip_pairs
    )
    input_size(session.model, arguments.size)
    flip = arguments.flip or arguments.flip_pairs is not None
    if flip and session.model.keypoint_count is not None:
        session.flip_pairs(session.model.keypoint_count)
    padding = {} if arguments.padding is None else {"padding": arguments.padding}

    def find(path: str, image: PILImage.Image) -> tuple[People, str]:
        there = boxes.get(path, [[0, 0, image.width, image.height]])
        images, transforms = session.crop(image, there, size=arguments.size, **padding)
        points, scores = session.run(images, transform=transforms, flip=flip).numpy()
        people = People(points, scores, scores.mean(axis=1, dtype=np.float64), there)
        return people, _counted(people)

    return session, find


def _boxes(arguments: argparse.Namespace) -> dict[str, list[list[float]]]:
    """The boxes of each image that has some named, by its path."""
    if arguments.box is not None and arguments.boxes is not None:
        raise ValueError("--box and --boxes must not be given together, got both")
    if arguments.box is not None:
        if len(arguments.images) > 1:
            raise ValueError(f"--box is for one image, got {len(arguments.images)}; --boxes names a file for many")
        return {arguments.images[0]: arguments.box}
    if arguments.boxes is None:
        return {}
    where = f"--boxes {arguments.boxes}"
    try:
        document = json.loads(Path(arguments.boxes).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} must be a JSON file, got {message(error)}") from None
    if not isinstance(document, dict):
        raise ValueError(f'{where} must hold {{"IMAGE": [[x0, y0, x1, y1], ...], ...}}, got {_short(document)}')
    found = {}
    for path in arguments.images:
        names = [name for name in (path, os.path.basename(path)) if name in document]
        if not names:
            raise ValueError(f"{where} must have the boxes of each image, got none for {path}")
        found[path] = rows = document[names[0]]
        if not isinstance(rows, list) or not all(_is_box(row) for row in rows):
            raise ValueError(f"{where} must hold [[x0, y0, x1, y1], ...] for {path}, got {_short(rows)}")
    return found


def _is_box(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 4
        and all(type(value) in (int, float) and -1e300 < value < 1e300 for value in row)
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _counted(people: People) -> str:
    return f"{len(people.scores)} {'person' if len(people.scores) == 1 else 'people'}"


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


def _one_image(
    session: PoseSession | TopDownSession, path: str, base: Path, size: tuple[int, int] | None, find: Find
) -> tuple[dict[Path, bytes], str]:
    """The files of one image, and what was found in a few words."""
    image = read_image(path)
    people, found = find(path, image)
    scheme = session.keypoint_scheme(people.keypoints.shape[1])
    document = {
        "image": path,
        "width": image.width,
        "height": image.height,
        "model": os.path.basename(session.model.name),
        "input_size": list(input_size(session.model, size)),
        "device": session.device,
        "poses": people_as_json(session.keypoint_names(people.keypoints.shape[1]), people),
    }
    text, picture = _outputs(base)
    files = {
        text: (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(),
        picture: png(overlay(image, people.keypoints, people.keypoint_scores, scheme=scheme, min_score=SHOWN)),
    }
    return files, found


def people_as_json(names: Sequence[str], people: People) -> list[dict[str, Any]]:
    def number(value: Any) -> float | None:
        return float(str(value)) if math.isfinite(value) else None  # the shortest decimal that is this float32

    labels = names or tuple(f"keypoint {k}" for k in range(people.keypoints.shape[1]))
    boxes = [{}] * len(people.scores) if people.boxes is None else [{"box": list(box)} for box in people.boxes]
    return [
        {
            "score": number(score),
            **box,
            "keypoints": [
                {"name": label, "x": number(x), "y": number(y), "score": number(keypoint_score)}
                for label, (x, y), keypoint_score in zip(labels, points, keypoint_scores)
            ],
        }
        for points, keypoint_scores, score, box in zip(people.keypoints, people.keypoint_scores, people.scores, boxes)
    ]
