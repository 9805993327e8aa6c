"""Files that say where people are: our own, COCO annotations, COCO detection results."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ._output import message

OWN = '{"IMAGE": [[x0, y0, x1, y1], ...], ...}'
COCO_PERSON = "1"


class BoxFile(NamedTuple):
    """Rows for `read_boxes` of each image, by its path; images of which nothing is said, and so have none."""

    rows: dict[str, list[Any]]
    box_format: str
    unnamed: list[str]


def read_box_file(name: str, images: Sequence[str], box_format: str | None = None) -> BoxFile:
    """The boxes of `images`, paths as given, out of a JSON file.

    {"IMAGE": [[x0, y0, x1, y1], ...], ...}: by path or file name; a score and a class may follow in a row.
    {"images": [...], "annotations": [...]}: COCO annotations, by "file_name"; crowds (iscrowd) are left out.
    [{"image_id": ..., "bbox": ..., "score": ...}, ...]: COCO detection results; "image_id" is the image's file name
        with or without its suffix, or the number that this is, as in 000000000139.jpg or
        COCO_val2014_000000000139.jpg. An image without rows has nobody, where others have some.

    COCO's rows are xywh where `box_format` says nothing else, and those of people alone are taken: of the category
    named "person", or the only one there is; of number 1, COCO's, or 0 alone, where categories have no names.
    """
    where = f"--boxes {name}"
    try:
        with open(name, encoding="utf-8-sig") as file:
            document = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} must be a JSON file, got {message(error)}") from None
    if _are_objects(document, "image_id", "bbox"):
        rows = _detections(document, images, where)
        found = {path: rows.get(path, []) for path in images}
        return BoxFile(found, box_format or "xywh", [path for path in images if path not in rows])
    if not isinstance(document, dict):
        raise ValueError(f"{where} must hold {OWN} or COCO's annotations or detection results, got {_short(document)}")
    if _are_objects(document.get("images"), "id", "file_name") and isinstance(document.get("annotations"), list):
        return BoxFile(_annotations(document, images, where), box_format or "xywh", [])
    found = {}
    names = {path: next((one for one in (path, os.path.basename(path)) if one in document), None) for path in images}
    _apart(names, where)
    for path, key in names.items():
        if key is None:
            raise ValueError(f"{where} must have the boxes of each image, got none for {path}")
        found[path] = document[key]
        if not isinstance(found[path], list) or not all(isinstance(row, list) for row in found[path]):
            raise ValueError(f"{where} must hold [[x0, y0, x1, y1], ...] for {path}, got {_short(found[path])}")
    return BoxFile(found, box_format or "xyxy", [])


def _apart(names: Mapping[str, str | None], where: str) -> None:
    """No two images, by their paths, are the same one in the file."""
    paths: dict[str, str] = {}
    for path, key in names.items():
        if key is not None and paths.setdefault(key, path) != path:
            raise ValueError(f"{where} must tell images apart, got {key} for {paths[key]} and {path}")


def _annotations(document: dict[str, Any], images: Sequence[str], where: str) -> dict[str, list[Any]]:
    notes = document["annotations"]
    if notes and not _are_objects(notes, "image_id", "bbox"):
        raise ValueError(f"{where} must have image_id and bbox in each annotation, got {_short(notes)}")
    rows = _rows([note for note in _people(notes, document.get("categories"), where) if not note.get("iscrowd")])
    names: dict[str, str] = {}
    for path in images:
        ids = _ids(document["images"], path)
        if not ids:
            raise ValueError(f"{where} must have the boxes of each image, got none for {path}")
        if len(ids) > 1:
            raise ValueError(f"{where} must have one image of the name {os.path.basename(path)}, got {len(ids)}")
        names[path] = ids[0]
    _apart(names, where)
    return {path: rows.get(name, []) for path, name in names.items()}


def _ids(entries: Sequence[dict[str, Any]], path: str) -> list[str]:
    """Of the images that a path may mean: by the whole path, else by its end, else by the file name alone."""
    given = path.replace(os.sep, "/")
    files = [(str(one["id"]), str(one["file_name"])) for one in entries]
    for fits in (
        lambda file: file == given,
        lambda file: given.endswith(f"/{file}"),
        lambda file: file.rpartition("/")[2] == given.rpartition("/")[2],
    ):
        found = [number for number, file in files if fits(file)]
        if found:
            return found
    return []


def _detections(entries: Sequence[dict[str, Any]], images: Sequence[str], where: str) -> dict[str, list[Any]]:
    """Rows of those images that have some."""
    rows = _rows(_people(entries, None, where))
    seen = {str(entry["image_id"]) for entry in entries}
    names = {path: next((one for one in _image_ids(path) if one in seen), None) for path in images}
    _apart(names, where)
    found = {path: rows.get(name, []) for path, name in names.items() if name is not None}
    if not found:
        raise ValueError(f"{where} must have the boxes of the images, got none for {images[0]}")
    return found


def _image_ids(path: str) -> list[str]:
    """What detectors may call an image."""
    stem = Path(path).stem
    number = re.fullmatch(r"(?:COCO_[a-z]+20[0-9]{2}_)?0*([0-9]+)", stem)
    return [path, os.path.basename(path), stem, *([number[1]] if number else [])]


def _people(entries: Sequence[dict[str, Any]], categories: Any, where: str) -> list[dict[str, Any]]:
    """Those that are of people."""
    numbers = [str(entry.get("category_id", COCO_PERSON)) for entry in entries]
    ids = set(numbers)
    if _are_objects(categories, "id", "name"):
        persons = {str(one["id"]) for one in categories if str(one["name"]).casefold() == "person"}
        if not persons and len(categories) > 1:
            names = ", ".join(f'"{one["name"]}"' for one in categories)
            raise ValueError(f'{where} must have a category named "person", got {_cut(names)}')
        persons = persons or {str(categories[0]["id"])}
    else:
        persons = ids if ids == {"0"} else {COCO_PERSON}
        if ids and (not ids & persons or ("0" in ids and len(ids) > 1)):
            raise ValueError(
                f"{where} must have COCO's category_id, 1 for a person, or people alone, all 0, got {_cut(_list(ids))}"
            )
    return [entry for entry, number in zip(entries, numbers) if number in persons]


def _list(words: set[str]) -> str:
    return ", ".join(sorted(words, key=lambda word: (len(word), word)))


def _rows(entries: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """The boxes of each image, by its id."""
    rows: dict[str, list[Any]] = {}
    for entry in entries:
        rows.setdefault(str(entry["image_id"]), []).append(_row(entry))
    return rows


def _row(entry: dict[str, Any]) -> list[Any]:
    """A box, with its score behind it where it has one."""
    box = entry["bbox"]
    if not isinstance(box, list):
        return [box]
    return [*box, entry["score"]] if len(box) == 4 and entry.get("score") is not None else box


def _are_objects(value: Any, *keys: str) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and all(key in one for key in keys) for one in value)
    )


def _short(value: Any) -> str:
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
