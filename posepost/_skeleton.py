"""Trees of keypoints: PoseNet's own, and the tables by which NumPy and kernels walk along one."""

from __future__ import annotations

import functools
from typing import NamedTuple

Edges = tuple[tuple[int, int], ...]
"""(parent, child) of each edge, in the order of the displacement channels."""

POSENET: Edges = (
    *((0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (5, 7), (7, 9), (5, 11)),
    *((11, 13), (13, 15), (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16)),
)
"""COCO's 17 keypoints, from the nose."""

MOST_KEYPOINTS = 32
"""A warp of the kernels follows a tree with one lane a keypoint."""


class Tree(NamedTuple):
    """What is known of each of K keypoints."""

    parent: tuple[int, ...]  # the root's is the root
    edge: tuple[int, ...]  # that leads to the parent; 0 for the root
    depth: tuple[int, ...]  # edges from the root
    longest: int  # edges from any keypoint to any other, at most


@functools.lru_cache(maxsize=64)
def tree(edges: Edges) -> Tree:
    """The tables of edges that make a tree."""
    K = len(edges) + 1
    before = {child: parent for parent, child in edges}
    edge = {child: number for number, (_, child) in enumerate(edges)}

    def path(keypoint: int) -> list[int]:
        """The keypoint and those above it, the root last."""
        found = [keypoint]
        while found[-1] in before:
            found.append(before[found[-1]])
        return found

    paths = [path(keypoint) for keypoint in range(K)]
    return Tree(
        parent=tuple(before.get(keypoint, keypoint) for keypoint in range(K)),
        edge=tuple(edge.get(keypoint, 0) for keypoint in range(K)),
        depth=tuple(len(above) - 1 for above in paths),
        longest=max(len(set(a) ^ set(b)) for a in paths for b in paths),
    )
