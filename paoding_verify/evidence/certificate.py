"""What the search hands to the checker: hints that make a proof short, never something to be believed.

Any hint is *valid* (a wrong one only makes the bound worse), so a certificate needs no trust. The checker recomputes
every bound from the networks and the region alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["LEAF", "NO_HINT", "SCALE", "Certificate", "ReluTree", "Slopes", "Split"]

SCALE = 254
"""Slopes and shares are multiples of 1 / SCALE."""
NO_HINT = 255
"""Entry of a table that says nothing: the checker takes what it takes without a certificate."""

Slopes = Mapping[tuple[int, int], npt.NDArray[np.uint8]]
"""(start, node) -> lower slopes of the units of activation node `node`, as value / SCALE or NO_HINT. They are used for
the property's rows if start is the number of nodes: shape (rows or 1, units); else for the units of activation node
`start`: shape (2 or 1, units), lower bounds before upper ones. For a pair, nodes of g are numbered after those of f."""


@dataclass(frozen=True)
class Split:
    """One bisection of a box: children are {x[dimension] <= threshold} and {x[dimension] >= threshold}."""

    dimension: int
    """Flat index of the input feature."""
    threshold: float
    below: Split | None = None
    """Split of the lower part, or None: a leaf."""
    above: Split | None = None


LEAF = -1
"""In a `ReluTree`, stands for the node of a leaf."""


@dataclass(frozen=True, eq=False)
class ReluTree:
    """Distinctions by the signs of pre-activations, in whose every case one clause of a property is proved.

    Entries come in preorder: a split of ReLU or LeakyReLU node n at unit j, then the tree for v_j <= 0, then the tree
    for v_j >= 0, v_j being what the node reads; or a leaf. For a pair, nodes of g are numbered after those of f.
    """

    OMITS_DEFAULTS: ClassVar[bool] = True
    """Trees without lines of their own say nothing of them."""

    clause: int
    """Number of the clause."""
    nodes: tuple[int, ...]
    """For every entry its node, LEAF for a leaf."""
    units: tuple[int, ...]
    """For every entry the flat index of the unit that is split; for a leaf the row of the property that is positive."""
    scales: tuple[float, ...]
    """For every leaf the unit of its multipliers, at least 0."""
    multipliers: npt.NDArray[np.uint8]
    """(sum of the leaves' depths, 2), leaf by leaf, from the root down: (256 high + low) / 65535 * scale is the
    Lagrange multiplier of a sign condition; any is valid. Source: Wang et al., arXiv 2103.06624."""
    turns: tuple[int, ...] = ()
    """Numbers of entries, for whose trees rows of `slopes` and `shares` are meant, in this order. The innermost counts;
    elsewhere the certificate's own do."""
    slopes: Slopes = field(default_factory=dict)
    """As those of a certificate for the property's rows, shape (turns or 1, units)."""
    shares: Slopes = field(default_factory=dict)
    """Likewise."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """Hints for the re-proof of one claim."""

    OMITS_DEFAULTS: ClassVar[bool] = True
    """Its plain form leaves out fields that have their default value: most certificates are small."""

    kind: str
    """crown: bounds of one network. both-robust: both networks of a pair have the same top class by crown.
    differential: joint bounds of a pair."""
    slopes: Slopes = field(default_factory=dict)
    """Empty: the checker's adaptive default slopes."""
    split: Split | None = None
    """Bisections of the region; every leaf is proved by itself."""
    alignment: tuple[tuple[int, ...], ...] | None = None
    """For differential: for each activation layer, the units of f that the units of g continue, in g's order."""
    label: int | None = None
    """For both-robust: the common class."""
    shares: Slopes = field(default_factory=dict)
    """For differential, keyed and scaled like `slopes`, `node` being an activation node of g: which part of two aligned
    units with opposite signs is bounded as a difference. Without an entry the checker chooses all or nothing."""
    trees: tuple[ReluTree, ...] = ()
    """Clauses that are proved case by case, over the whole region; the others are proved at once."""
