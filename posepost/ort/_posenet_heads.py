"""PoseNet's heads among the outputs of a graph: heatmaps (K channels), offsets (2K), displacements (2 (K - 1) each)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ._tensors import LAYOUTS, Shapes, channel_axis, listing, said

HEADS = ("heatmaps", "offsets", "displacement_fwd", "displacement_bwd")
DIRECTIONS = {"displacement_fwd": "fwd|forward", "displacement_bwd": "bwd|backward"}
NAMES = {"heatmaps": "heat|(^|[^a-z])hm([^a-z]|$)", "offsets": "offset|(^|[^a-z])off([^a-z]|$)"}
OTHER_HEADS = "part|long|segment|(^|[^a-z])mid([^a-z]|$)"
"""In names of other outputs of BodyPix and of Coral's PoseNet, whose middle offsets are both displacements in one."""

Pair = tuple[str, str, str]
"""Outputs for heatmaps and offsets, and their layout."""


class Evidence(NamedTuple):
    """What speaks for a recognition and against it, in words."""

    favor: tuple[str, ...]
    against: tuple[str, ...] = ()
    sure: bool = True
    undirected: tuple[str, ...] = ()  # displacements of which it is not known which is which


def find_heads(
    name: str, shapes: Shapes, metadata: Mapping[str, str], given: Mapping[str, str], layout: str | None
) -> tuple[dict[str, str], str, str | None, Evidence]:
    """The heads of a model that the caller takes for a PoseNet, how they were found, their layout, and the evidence.

    Sizes come first, names decide between what they leave; outputs that the caller names are taken as they are. Raises
    ValueError where nothing fits, where several do, where something speaks against what does, and where sizes alone
    speak for it.
    """
    both = [given[head] for head in HEADS[:2] if head in given]
    named = Evidence(("named by the caller",))
    if len(both) == 2 and any(_open(shapes[output]) for output in both):
        return dict(given), "named by the caller", layout, named
    pairs = posenet_pairs(shapes, given, layout)
    by = "by shape and name" if len(pairs) < len(_fitting(shapes, given, layout)) else "by shape"
    for head, index in (("heatmaps", 0), ("offsets", 1)):
        if len(pairs) > 1 and head not in given:
            likely = [pair for pair in pairs if _is_named(head, pair[index])]
            if likely and len(likely) < len(pairs):
                pairs, by = likely, "by shape and name"
    if not pairs and len(both) == 2:
        raise ValueError(
            f"{name}: heads do not fit: offsets must have twice the channels of heatmaps, got {said(shapes, *both)}"
        )
    if not pairs:
        raise ValueError(
            f"{name}: no heatmaps and offsets among the outputs (offsets must have twice the channels of heatmaps; "
            f"heads= names them): {listing(shapes)}"
        )
    if len(pairs) > 1:
        choices = " or ".join(said(shapes, heatmaps, offsets) for heatmaps, offsets, _ in pairs)
        raise ValueError(f"{name}: several outputs may be the heads, name them with heads=: {choices}")
    evidence = named if len(both) == 2 else weigh(shapes, metadata, pairs[0])
    by_name = "offsets" in given or all(_is_named(head, output) for head, output in zip(HEADS[:2], pairs[0]))
    if evidence.against or not (evidence.sure or by_name):
        raise ValueError(doubt(name, shapes, metadata, pairs[0]))
    heatmaps, offsets, found_layout = pairs[0]
    found = {**given, "heatmaps": heatmaps, "offsets": offsets}
    candidates = _displacements(shapes, pairs[0])
    for head, words in DIRECTIONS.items():
        matching = [output for output in candidates if re.search(words, output, re.IGNORECASE)]
        if head not in found and len(matching) == 1:
            found[head] = matching[0]
    if evidence.undirected and {*DIRECTIONS} <= {*found}:
        evidence = evidence._replace(undirected=())
    by = "named by the caller" if len(both) == 2 else by
    return {head: found[head] for head in HEADS if head in found}, by, found_layout, evidence


def posenet_pairs(shapes: Shapes, given: Mapping[str, str], layout: str | None) -> list[Pair]:
    """Outputs that may be heatmaps and offsets by their sizes, without those whose names speak against it."""
    return [
        pair
        for pair in _fitting(shapes, given, layout)
        if ("heatmaps" in given or not _speaks_against("heatmaps", pair[0]))
        and ("offsets" in given or not _speaks_against("offsets", pair[1]))
    ]


def weigh(shapes: Shapes, metadata: Mapping[str, str], pair: Pair) -> Evidence:
    """What says that these two outputs are PoseNet's heatmaps and offsets, and what says that they are not."""
    heatmaps, offsets, layout = pair
    sides = [size for axis, size in enumerate(shapes[heatmaps]) if axis not in (0, channel_axis(layout))]
    favor = [f"{offsets} has twice the channels of {heatmaps} on the same grid"]
    by_name = [output for head, output in zip(HEADS[:2], pair) if _is_named(head, output)]
    if by_name:
        favor.append(f"{' and '.join(by_name)} {'are' if len(by_name) == 2 else 'is'} named so")
    displacements = _displacements(shapes, pair)
    several = shapes[heatmaps][channel_axis(layout)] != 1
    fields = len(displacements) == 2 and several
    if fields:
        favor.append(f"{' and '.join(displacements)} have 2 (K - 1) channels, as displacements have")
    stated = "posepost.output_stride" in metadata
    if stated:
        favor.append("the metadata names an output stride")
    beside = [output for output in shapes if re.search(OTHER_HEADS, output, re.IGNORECASE)]
    left = [
        output
        for output, shape in shapes.items()
        if len(shape) == 4 and output not in (heatmaps, offsets, *_of_edges(shapes, pair), *beside)
    ]
    against = []
    if left and not fields:
        against.append(f"{' and '.join(left)} {'are' if len(left) > 1 else 'is'} left over")
    if None in sides and not by_name:
        against.append("the graph does not tell whether their grids are the same")
    alone = sum(other[1] == offsets for other in _fitting(shapes, {}, layout)) == 1
    sure = not against and (fields or stated or (several and offsets in by_name and (heatmaps in by_name or alone)))
    return Evidence(tuple(favor), tuple(against), sure, tuple(displacements) if fields else ())


def doubt(name: str, shapes: Shapes, metadata: Mapping[str, str], pair: Pair) -> str:
    """The question to ask where two outputs may be PoseNet's."""
    heatmaps, offsets, layout = pair
    evidence = weigh(shapes, metadata, pair)
    one = shapes[heatmaps][channel_axis(layout)] == 1
    against = evidence.against or ("one channel may be the centers of objects" if one else "nothing but sizes says so",)
    return (
        f"{name}: {said(shapes, heatmaps, offsets)} may be PoseNet's heatmaps and offsets "
        f"({'; '.join(evidence.favor)}), but {'; '.join(against)}: if they are, give "
        f"{as_argument({'heatmaps': heatmaps, 'offsets': offsets})}; for heatmaps alone give "
        f"{as_argument({'heatmaps': heatmaps})} and preset="
    )


def as_argument(heads: Mapping[str, str]) -> str:
    """Heads as the argument that names them."""
    named = ", ".join(f'"{head}": "{output}"' for head, output in heads.items())
    return f"heads={{{named}}}"


def fits(heatmaps: Sequence[int | None], offsets: Sequence[int | None], layout: str) -> bool:
    """Offsets have twice the channels on the same grid."""
    if len(heatmaps) != 4 or len(offsets) != 4:
        return False
    axis = channel_axis(layout)
    channels = heatmaps[axis]
    same_grid = all(h is None or o is None or h == o for a, (h, o) in enumerate(zip(heatmaps, offsets)) if a != axis)
    return channels is not None and offsets[axis] == 2 * channels and same_grid


def _fitting(shapes: Shapes, given: Mapping[str, str], layout: str | None) -> list[Pair]:
    return [
        (heatmaps, offsets, candidate)
        for candidate in ([layout] if layout else LAYOUTS)
        for heatmaps in shapes
        for offsets in shapes
        if given.get("heatmaps", heatmaps) == heatmaps
        and given.get("offsets", offsets) == offsets
        and fits(shapes[heatmaps], shapes[offsets], candidate)
    ]


def _displacements(shapes: Shapes, pair: Pair) -> list[str]:
    """Outputs of 2 (K - 1) channels: those with a direction in their names, else all."""
    fitting = _of_edges(shapes, pair)
    directed = [output for output in fitting if re.search("|".join(DIRECTIONS.values()), output, re.IGNORECASE)]
    return directed or fitting


def _of_edges(shapes: Shapes, pair: Pair) -> list[str]:
    """Other outputs of 2 (K - 1) channels."""
    heatmaps, offsets, layout = pair
    axis = channel_axis(layout)
    K = shapes[heatmaps][axis]
    return [
        output
        for output, shape in shapes.items()
        if output not in (heatmaps, offsets) and len(shape) == 4 and K is not None and shape[axis] == 2 * (K - 1)
    ]


def _is_named(head: str, output: str) -> bool:
    return re.search(NAMES[head], output, re.IGNORECASE) is not None and not _speaks_against(head, output)


def _speaks_against(head: str, output: str) -> bool:
    other = "offset" if head == "heatmaps" else "heat"
    return re.search(f"{OTHER_HEADS}|disp|{other}", output, re.IGNORECASE) is not None


def _open(shape: tuple[int | None, ...]) -> bool:
    """A shape that does not tell where its channels are."""
    return len(shape) != 4 or (shape[1] is None and shape[3] is None)
