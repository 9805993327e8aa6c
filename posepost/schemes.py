"""Keypoint schemes: what the keypoints of a network are called, what joins them, and which ones a mirror exchanges.

The schemes themselves are data, `assets/schemes.json`, each with its source.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _check

Limbs = tuple[tuple[int, int], ...]
LEFT, RIGHT = "left", "right"
OTHER = {LEFT: RIGHT, RIGHT: LEFT}
LETTERS = {"l": LEFT, "r": RIGHT}


@dataclass(frozen=True)
class Scheme:
    """K keypoints of a network, in the order of its channels.

    name: of the scheme; "" for names without one.
    keypoints: K different names.
    limbs: pairs of numbers from 0 to K - 1, the keypoints that a drawing joins.
    flip_pairs: the keypoint that stands for each one in the mirrored image, K numbers. None: what the names tell, as
        `flip_pairs_of` reads them; it stays None where they do not tell.

    Raises TypeError and ValueError for what is no such thing.

    >>> import posepost
    >>> posepost.Scheme("mouse", ["nose", "ear_l", "ear_r"], [(0, 1), (0, 2)]).flip_pairs
    (0, 2, 1)
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: Limbs = ()
    flip_pairs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, got {type(self.name).__name__}")
        keypoints = _names(self.keypoints)
        pairs = flip_pairs_of(keypoints) if self.flip_pairs is None else _check.flip_pairs(self.flip_pairs)
        if pairs is not None and len(pairs) != len(keypoints):
            raise ValueError(
                f"flip_pairs must name the partner of each of {len(keypoints)} keypoints, got {len(pairs)}"
            )
        for field, value in (
            ("keypoints", keypoints),
            ("limbs", _pairs(self.limbs, "limbs", len(keypoints))),
            ("flip_pairs", pairs),
        ):
            object.__setattr__(self, field, value)


SchemeLike = str | os.PathLike[str] | Scheme | Sequence[str]
"""What `keypoint_scheme` takes."""


def keypoint_scheme(value: SchemeLike) -> Scheme:
    """The scheme that a name, a file or a list of names stands for.

    value: the name of one of `posepost.schemes.SCHEMES`, whatever the capitals, with or without spaces, "-", "_" and
        its number of keypoints ("coco", "COCO-17", "halpe 26"); or a path: a JSON file of a list of names or of an
        object with "keypoints" and, if wanted, "name", "limbs" ([[0, 1], ...]) and "flip_pairs" ([[1, 2], ...], the
        keypoints that a mirror exchanges), or a text file of one name a line; or the names themselves, in the order of
        the channels; or a Scheme. Names that are those of one of `SCHEMES`, however spelled, get its limbs and
        partners.
    Raises ValueError for a name that is none of them (it lists them), for a file or names that cannot be read so,
    TypeError for other objects, OSError for the file.

    >>> import posepost
    >>> scheme = posepost.keypoint_scheme("h36m")
    >>> scheme.keypoints[1], scheme.keypoints[scheme.flip_pairs[1]]
    ('right_hip', 'left_hip')
    """
    if isinstance(value, Scheme):
        return value
    if isinstance(value, str):
        found = named_scheme(value)
        if found is not None:
            return found
        if not (os.path.exists(value) or value.endswith((".json", ".txt")) or os.path.dirname(value)):
            raise ValueError(
                f"keypoints must be {listing()}, a file or a list of names, got {value!r}{_nearest(value)}"
            )
    if isinstance(value, (str, os.PathLike)):
        return _read(Path(value))
    return scheme_of(value)


def named_scheme(text: str) -> Scheme | None:
    """The one of `SCHEMES` with that name, leniently spelled; None where there is none."""
    return _SCHEMES.by_spelling.get(_plain(text))


def scheme_of(names: Iterable[str]) -> Scheme:
    """The one of `SCHEMES` with these names, spelled as they are here, else a Scheme of the names alone."""
    keypoints = _names(names)
    known = _SCHEMES.by_keypoints.get(_as_read(keypoints))
    return Scheme("", keypoints) if known is None else Scheme(known.name, keypoints, known.limbs, known.flip_pairs)


def schemes_of(count: int) -> list[str]:
    """Names of the schemes with so many keypoints."""
    return [name for name, scheme in SCHEMES.items() if len(scheme.keypoints) == count]


def listing() -> str:
    """Names of all schemes in a sentence."""
    return _check.either(SCHEMES)


def flip_pairs_of(names: Sequence[str]) -> tuple[int, ...] | None:
    """The keypoint that stands for each one in the mirrored image, as the names tell; None where they do not.

    names: such as left_eye, eye_l, L_Eye, leftEye, "Left Eye", wingL4, Leye; "right" and "r" likewise. A side is a word
        or a letter of its own, set off by a capital, a digit or what is no letter: "upright" and "bright" are none. A
        name like "reye" or "Rankle" has one where the names have "leye" or "Lankle" too.
    They do not tell where no name has a side, where a left one has no right one, or where two are the same.
    """
    read = _read_sides(names)
    if len(set(read)) < len(read):
        return None
    places = {key: k for k, key in enumerate(read)}
    partners = [places.get((tuple(OTHER[side] for side in sides), rest)) for sides, rest in read]
    pairs = tuple(partner for partner in partners if partner is not None)
    return None if len(pairs) < len(read) or pairs == tuple(range(len(read))) else pairs


def sides_of(names: Sequence[str]) -> list[str | None]:
    """ "left", "right" or None of each name, as `flip_pairs_of` reads them."""
    return [sides[0] if sides else None for sides, _ in _read_sides(names)]


def words(name: str) -> list[str]:
    """The words of a name, in lower case: LBigToe2 -> l, big, toe, 2."""
    return [word.lower() for word in _BETWEEN.split(name) if word]


_BETWEEN = re.compile(
    r"[\W_]+|(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])"
)
Read = tuple[tuple[str, ...], tuple[str, ...]]
"""The sides in a name, and its other words."""


def _read_sides(names: Sequence[str]) -> list[Read]:
    """The sides in each name, and the rest of it."""
    split = [words(name) for name in names]
    there = {tuple(one) for one in split}
    return [_sides_in(one, there) for one in split]


def _sides_in(name: Sequence[str], there: set[tuple[str, ...]]) -> Read:
    """By whole words, else by letters of their own, else by first letters that another name has the other of."""
    for sides in ({LEFT: LEFT, RIGHT: RIGHT}, LETTERS):
        found = tuple(sides[word] for word in name if word in sides)
        if found:
            return found, tuple(word for word in name if word not in sides)
    for k, word in enumerate(name):
        for prefix, side in ((LEFT, LEFT), (RIGHT, RIGHT), ("l", LEFT), ("r", RIGHT)):
            rest = word.removeprefix(prefix)
            other = OTHER[side][: len(prefix)] if len(prefix) == 1 else OTHER[side]
            if rest not in ("", word) and (*name[:k], other + rest, *name[k + 1 :]) in there:
                return (side,), (*name[:k], rest, *name[k + 1 :])
    return (), tuple(name)


def _as_read(names: Sequence[str]) -> tuple[Read, ...]:
    return tuple(_read_sides(names))


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        raise TypeError(f"keypoints must be names in the order of the channels, got {type(value).__name__}")
    found = tuple(value)
    places: dict[str, int] = {}
    for k, name in enumerate(found):
        if not isinstance(name, str):
            raise TypeError(f"keypoints must be names, got {name!r} at {k}")
        if not name.strip():
            raise ValueError(f"keypoints must be names, got an empty one at {k}")
        if places.setdefault(name, k) != k:
            raise ValueError(f"keypoints must be different names, got {name!r} at {places[name]} and {k}")
    if not found:
        raise ValueError("keypoints must be one name or more, got none")
    return found


def _pairs(value: Any, what: str, count: int) -> Limbs:
    """Pairs of different numbers of keypoints."""
    found = []
    for pair in value if isinstance(value, Iterable) else [value]:
        try:
            a, b = pair
            numbers = (a.__index__(), b.__index__())
        except (TypeError, ValueError, AttributeError):
            raise TypeError(f"{what} must be pairs of numbers of keypoints, got {pair!r}") from None
        if numbers[0] == numbers[1] or not all(0 <= number < count for number in numbers):
            raise ValueError(f"{what} must be pairs of different numbers from 0 to {count - 1}, got {list(numbers)}")
        found.append(numbers)
    return tuple(found)


KEYS = ("name", "title", "source", "also", "keypoints", "limbs", "flip_pairs")


def _from_object(entry: Mapping[str, Any]) -> Scheme:
    """A Scheme of one entry of a JSON file. `flip_pairs` is given as the pairs that a mirror exchanges."""
    if "keypoints" not in entry or not set(entry) <= set(KEYS):
        raise ValueError(f'must be an object with "keypoints" and others of {", ".join(KEYS)}, got {", ".join(entry)}')
    keypoints = _names(entry["keypoints"])
    partners = None
    if "flip_pairs" in entry:
        partners = list(range(len(keypoints)))
        for a, b in _pairs(entry["flip_pairs"], "flip_pairs", len(keypoints)):
            if partners[a] != a or partners[b] != b:
                raise ValueError(f"flip_pairs must hold each keypoint once at most, got {[a, b]} and one of them again")
            partners[a], partners[b] = b, a
    if "limbs" not in entry and partners is None:
        return scheme_of(keypoints)
    return Scheme(entry.get("name", ""), keypoints, entry.get("limbs", ()), partners)  # type: ignore[arg-type]


def _read(path: Path) -> Scheme:
    """The scheme in a file of the caller's."""
    import json

    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() != ".json" and not text.lstrip().startswith(("[", "{")):
            return scheme_of(line.strip() for line in text.splitlines() if line.strip())
        document = json.loads(text)
        if isinstance(document, dict):
            return _from_object(document)
        if isinstance(document, list):
            return scheme_of(document)
        raise ValueError(f"must hold an object or a list of names, got {text.strip()[:60]}")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f'keypoints="{path}": {str(error).removeprefix("keypoints ")}') from None


def _plain(text: str) -> str:
    return re.sub(r"[-_ .]", "", text.lower())


def _nearest(text: str) -> str:
    import difflib

    near = difflib.get_close_matches(_plain(text), _SCHEMES.by_spelling, 1, 0.5)
    return f"; did you mean {_SCHEMES.by_spelling[near[0]].name}?" if near else ""


class _Schemes(Mapping[str, Scheme]):
    """Read when the first of them is asked for."""

    @functools.cached_property
    def entries(self) -> list[dict[str, Any]]:
        import json

        text = (Path(__file__).parent / "assets" / "schemes.json").read_text(encoding="utf-8")
        entries: list[dict[str, Any]] = json.loads(text)
        return entries

    @functools.cached_property
    def by_name(self) -> dict[str, Scheme]:
        return {entry["name"]: _from_object(entry) for entry in self.entries}

    @functools.cached_property
    def by_spelling(self) -> dict[str, Scheme]:
        found = {}
        for entry, scheme in zip(self.entries, self.by_name.values()):
            for name in (scheme.name, *entry.get("also", ())):
                found[_plain(name)] = found[f"{_plain(name)}{len(scheme.keypoints)}"] = scheme
        return found

    @functools.cached_property
    def by_keypoints(self) -> dict[tuple[Read, ...], Scheme]:
        return {_as_read(scheme.keypoints): scheme for scheme in self.by_name.values()}

    def __getitem__(self, name: str) -> Scheme:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)


_SCHEMES = _Schemes()
SCHEMES: Mapping[str, Scheme] = _SCHEMES
"""All schemes, by name. The source of each is in `assets/schemes.json`."""
