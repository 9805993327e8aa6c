"""What a model's metadata (`metadata_props`) says, checked."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

from posepost import _check
from posepost.schemes import SCHEMES, Scheme, keypoint_scheme, listing, named_scheme, scheme_of, schemes_of


def preferred_size(name: str, metadata: Mapping[str, str], default: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that the model is best run at where it takes any."""
    text = metadata.get("posepost.input_size")
    if text is None:
        return default
    parts = [part.strip() for part in text.strip("[]() ").split(",")]
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"{name}: posepost.input_size must be width,height, got {text!r}")
    return int(parts[0]), int(parts[1])


def stated_stride(name: str, metadata: Mapping[str, str]) -> int | None:
    """The output stride that the metadata names."""
    text = metadata.get("posepost.output_stride")
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name}: posepost.output_stride must be a positive integer, got {text!r}")
    return int(text)


class Naming(NamedTuple):
    """What the keypoints of a model are, as far as that is known, and how it is known."""

    scheme: Scheme | None
    names: tuple[str, ...]  # none where neither they nor their number are known
    by: str


def find_keypoints(name: str, given: Any, metadata: Mapping[str, str], count: int | None, posenet: bool) -> Naming:
    """As given, else of the metadata; else COCO's for PoseNet, which is defined with them; else numbers."""
    scheme, by = None, ""
    if given is not None:
        scheme, by = keypoint_scheme(given), "given"
        if count not in (None, len(scheme.keypoints)):
            what = f" ({scheme.name})" if scheme.name else ""
            raise ValueError(f"keypoints must name the {count} keypoints of {name}, got {len(scheme.keypoints)}{what}")
    elif "posepost.keypoints" in metadata:
        scheme, by = _stated_keypoints(name, metadata["posepost.keypoints"], count), "metadata"
    else:
        scheme, by = _others_keypoints(metadata, count)
    if scheme is None and count is not None:
        scheme, by = unnamed_scheme(count, posenet), "PoseNet's"
    if scheme is not None:
        return Naming(scheme, scheme.keypoints, f"{scheme.name} ({by})" if scheme.name else by)
    seen = "their number is known when it runs" if count is None else may_be(count)
    return Naming(None, numbered(count or 0), f"unknown: {seen}; give keypoints=")


def unnamed_scheme(count: int, posenet: bool) -> Scheme | None:
    """What nobody names: PoseNet is defined with COCO's keypoints, of others their number does not tell."""
    usual = SCHEMES["coco"]
    return usual if posenet and count == len(usual.keypoints) else None


def numbered(count: int) -> tuple[str, ...]:
    """Names of keypoints that have none."""
    return tuple(f"keypoint {k}" for k in range(count))


def may_be(count: int) -> str:
    """What so many keypoints may be."""
    fitting = schemes_of(count)
    if not fitting:
        return f"no scheme has {count} keypoints"
    return f"{count} keypoints may be those of {_check.either([*fitting, 'others'])}"


def _stated_keypoints(name: str, text: str, count: int | None) -> Scheme:
    """What `posepost.keypoints` says: a scheme's name, a list, or names with commas between them."""
    names = _listed(text) or [part.strip(" \"'[]") for part in text.split(",")]
    scheme = named_scheme(text)
    if scheme is None and len(names) == 1 and count not in (None, 1):
        raise ValueError(
            f"{name}: posepost.keypoints must be {count} names with commas between them or {listing()}, got {text!r}"
        )
    if scheme is None:
        try:
            scheme = scheme_of(names)
        except ValueError as error:
            raise ValueError(f"{name}: posepost.{error}") from None
    if count not in (None, len(scheme.keypoints)):
        raise ValueError(f"{name}: posepost.keypoints must name {count} keypoints, got {len(scheme.keypoints)}")
    return scheme


OTHERS = ("keypoint_names", "kpt_names")
"""Metadata of other exporters: a list of names, or (ultralytics) a dict from each class to such a list."""


def _others_keypoints(metadata: Mapping[str, str], count: int | None) -> tuple[Scheme | None, str]:
    for key in OTHERS:
        names = _listed(metadata.get(key, ""))
        if names and count in (None, len(names)) and len(set(names)) == len(names) and all(map(str.strip, names)):
            return scheme_of(names), f"metadata, {key}"
    return None, ""


def _listed(text: str) -> list[str] | None:
    """Names in the text of a list, or of a dict with one list; None where it is nothing of that kind."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return list(value) if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value) else None
