"""What a model's metadata (`metadata_props`) says, checked, and what the names of keypoints say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from posepost.draw import COCO_KEYPOINTS


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


def keypoint_names(name: str, metadata: str | None, count: int | None) -> tuple[str, ...]:
    """The names in the metadata, else COCO's for 17 keypoints, else numbers; none where the count is not known."""
    if metadata is not None:
        names = tuple(part.strip(" \"'[]") for part in metadata.split(","))
        if count is not None and len(names) != count:
            raise ValueError(f"{name}: posepost.keypoints must name {count} keypoints, got {len(names)}")
        return names
    if count == len(COCO_KEYPOINTS):
        return COCO_KEYPOINTS
    return tuple(f"keypoint {k}" for k in range(count or 0))


def left_for_right(names: Sequence[str]) -> tuple[int, ...] | None:
    """The keypoint that stands for each one in the mirrored image, from names such as left_eye; None if they do not
    tell."""
    lower = [name.lower() for name in names]
    swapped = [re.sub("left|right", lambda side: "right" if side[0] == "left" else "left", name) for name in lower]
    if not set(swapped) <= set(lower) or len(set(lower)) != len(lower):
        return None
    pairs = tuple(lower.index(name) for name in swapped)
    return None if pairs == tuple(range(len(pairs))) else pairs
