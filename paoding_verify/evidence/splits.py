"""Trees of bisections without recursion: built from any parts, and as two flat lists.

Trees may be thousands of bisections deep, deeper than Python calls may nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from paoding_verify.evidence.certificate import LEAF, Split

__all__ = ["assemble", "from_lists", "to_lists"]

P = TypeVar("P")


def to_lists(tree: Split) -> tuple[list[int], list[float]]:
    """The tree in preorder: for every node its dimension, LEAF for a leaf; and the thresholds of the bisections."""
    dimensions, thresholds = list[int](), list[float]()
    pending: list[Split | None] = [tree]
    while pending:
        node = pending.pop()
        dimensions.append(LEAF if node is None else node.dimension)
        if node is not None:
            thresholds.append(node.threshold)
            pending += [node.above, node.below]
    return dimensions, thresholds


def from_lists(dimensions: Sequence[int], thresholds: Sequence[float]) -> Split | None:
    """The inverse of `to_lists`. Raises: ValueError if the lists are not those of one tree."""
    if len(thresholds) != sum(dimension != LEAF for dimension in dimensions):
        raise ValueError("there is not one threshold for each bisection")
    left = list(thresholds)
    built: list[Split | None] = []
    for dimension in reversed(dimensions):
        if dimension == LEAF:
            built.append(None)
        elif len(built) < 2:
            raise ValueError("a bisection lacks a part")
        else:
            below, above = built.pop(), built.pop()
            built.append(Split(dimension, left.pop(), below, above))
    if len(built) != 1:
        raise ValueError("they are not those of one tree")
    return built[0]


def assemble(root: P, cut: Callable[[P], tuple[int, float, P, P] | None]) -> Split | None:
    """The bisections below a part; `cut` gives its dimension, threshold and two halves, or None for a leaf."""
    dimensions, thresholds, pending = list[int](), list[float](), [root]
    while pending:
        found = cut(pending.pop())
        dimensions.append(LEAF if found is None else found[0])
        if found is not None:
            thresholds.append(found[1])
            pending += [found[3], found[2]]
    return from_lists(dimensions, thresholds)
