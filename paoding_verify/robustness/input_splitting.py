"""Input splitting: bisects a box of few features until CROWN decides every part of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.evidence.certificate import Split
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Float32Array, Network

__all__ = ["MAX_FEATURES", "SplitOutcome", "split_inputs"]

MAX_FEATURES = 8
"""Inputs with more features are not split: the number of parts doubles with every bisection of each."""

_BATCH = 256
"""Boxes that are bounded at a time."""

_SLACK = 1e-4
"""A part counts as decided when its bound exceeds this share of the spread of its rows: the checker rounds outward."""


@dataclass(frozen=True, eq=False)
class SplitOutcome:
    """What splitting found: a tree of which every leaf is bounded above zero, a point, or a reason why neither."""

    split: Split | None
    """Bisections of the whole box; None if undecided, or if the box needs none."""
    decided: bool
    """Whether the bounds of all leaves are positive."""
    point: Float32Array | None
    """(*input_shape) a point of the box with margin <= 0."""
    attack: float
    """Smallest margin seen at a point."""
    num_leaves: int
    """Boxes that were made."""
    limit: str
    """Why neither was found; empty otherwise."""


@dataclass(eq=False)
class _Part:
    """A box of the tree; open until it is decided or split."""

    lower: Array
    upper: Array
    dimension: int = -1
    threshold: float = 0.0
    below: _Part | None = None
    above: _Part | None = None

    def bisect(self, dimension: int) -> list[_Part]:
        """The two halves; none if no number lies between the ends."""
        low, high = self.lower.flat[dimension], self.upper.flat[dimension]
        middle = float(low / 2 + high / 2)
        if not low < middle < high:
            return []
        self.dimension, self.threshold = dimension, middle
        upper, lower = self.upper.copy(), self.lower.copy()
        upper.flat[dimension] = lower.flat[dimension] = middle
        self.below, self.above = _Part(self.lower, upper), _Part(lower, self.upper)
        return [self.below, self.above]

    def tree(self) -> Split | None:
        """The bisections below this box."""
        if self.below is None or self.above is None:
            return None
        return Split(self.dimension, self.threshold, self.below.tree(), self.above.tree())


def split_inputs(
    network: Network,
    bounder: LirpaBounder,
    box: tuple[Array, Array],
    prop: Property,
    *,
    max_leaves: int,
    limit_s: float,
) -> SplitOutcome:
    """Bisects until every part is decided, a point breaks the property, or a limit is reached.

    Parts are taken worst bound first, in batches, so that a violation is found early. The feature to bisect is the one
    whose width times its coefficient in CROWN's linear bound contributes most to the rows that decide.
    Shapes: box: lower and upper (*input_shape).
    Source: arXiv:1804.10829 (bisection by influence), arXiv:1811.00866 (bounds).
    """
    deadline = time.monotonic() + limit_s
    root = _Part(*box)
    pending: list[tuple[float, _Part]] = [(0.0, root)]
    outcome = SplitOutcome(None, False, None, np.inf, 1, "")
    while pending:
        if time.monotonic() > deadline:
            return replace(outcome, limit=f"input splitting ran out of time after {outcome.num_leaves} boxes")
        if outcome.num_leaves >= max_leaves:
            return replace(outcome, limit=f"input splitting reached {max_leaves} boxes")
        pending.sort(key=lambda entry: entry[0], reverse=True)
        batch = [pending.pop()[1] for _ in range(min(_BATCH, len(pending)))]
        margins, influence = _bound(bounder, batch, prop)
        undecided = [k for k in range(len(batch)) if not margins[k] > 0]
        if not undecided:
            continue
        attacked, point = _lowest(network, [batch[k] for k in undecided], prop)
        outcome = replace(outcome, attack=min(outcome.attack, attacked))
        if attacked <= 0:
            return replace(outcome, point=point)
        for k in undecided:
            halves = batch[k].bisect(int(influence[k].argmax()))
            if not halves:
                return replace(outcome, limit="input splitting reached the resolution of floating-point numbers")
            pending += [(float(margins[k]), half) for half in halves]
        outcome = replace(outcome, num_leaves=outcome.num_leaves + len(undecided))
    return replace(outcome, split=root.tree(), decided=True)


def _bound(bounder: LirpaBounder, parts: Sequence[_Part], prop: Property) -> tuple[Array, Array]:
    """Margin bound less slack, and influence of each feature. Shapes: -> (n,), (n, features)."""
    lower, upper = np.stack([p.lower for p in parts]), np.stack([p.upper for p in parts])
    bounds = bounder.lower_bounds(lower, upper, prop.rows, prop.offsets, method="crown", coefficients=True)
    assert bounds.coefficients is not None  # noqa: S101 - asked for above
    width = (upper - lower).reshape(len(parts), -1)
    reach = np.abs(bounds.coefficients.reshape(*bounds.lower.shape, -1)) * width[:, np.newaxis]
    rows = bounds.lower - _SLACK * reach.sum(axis=2)
    influence = np.zeros_like(width)
    for clause in map(list, prop.clauses):
        best = np.asarray(clause)[rows[:, clause].argmax(axis=1)]
        open_clause = ~(rows[np.arange(len(parts)), best] > 0)
        influence = np.maximum(influence, open_clause[:, np.newaxis] * reach[np.arange(len(parts)), best])
    # Without any influence (a constant bound) the widest feature is bisected.
    influence = np.where(influence.max(axis=1, keepdims=True) > 0, influence, width)
    return prop.margins(rows), influence


def _lowest(network: Network, parts: Sequence[_Part], prop: Property) -> tuple[float, Float32Array | None]:
    """The smallest margin at the centres of some boxes that hold float32 points."""
    centres = [_centre(part) for part in parts]
    points = np.stack([c for c in centres if c is not None]) if any(c is not None for c in centres) else None
    if points is None:
        return np.inf, None
    margins = prop.margins(prop.values(network.forward(points)))
    return float(margins.min()), points[int(margins.argmin())]


def _centre(part: _Part) -> Float32Array | None:
    middle = (part.lower / 2 + part.upper / 2).astype(np.float32)
    exact = middle.astype(np.float64)
    return middle if (part.lower <= exact).all() and (exact <= part.upper).all() else None
