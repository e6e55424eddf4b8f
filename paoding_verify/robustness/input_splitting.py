"""Input splitting: bisects a box of few features until the checker bounds every part of it above zero."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.errors import EngineError
from paoding_verify.evidence.certificate import Split
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.splits import assemble
from paoding_verify.network.graph import Array, Float32Array, Network

__all__ = ["BATCH", "MAX_FEATURES", "Confirm", "SplitOutcome", "Splitter"]

MAX_FEATURES = 8
"""Inputs with more features are not split: the number of parts doubles with every bisection of each."""

BATCH = 512
"""Boxes that are bounded at a time."""

_SLACK = 1e-4
"""A part counts as decided when its bound exceeds this share of the spread of its rows: the checker rounds outward."""

Confirm = Callable[[Array, Array], Array]
"""The checker's margins of boxes. Shapes: lower, upper (n, *input_shape) -> (n,)."""


@dataclass(frozen=True, eq=False)
class SplitOutcome:
    """What splitting found: a tree whose leaves are all confirmed, a point, or a reason why neither."""

    split: Split | None
    """Bisections of the whole box; None if it is undecided, or needs none."""
    decided: bool
    """Whether the checker bounded every leaf above zero."""
    point: Float32Array | None
    """(*input_shape) a point of the box with margin <= 0."""
    attack: float
    """Smallest margin seen at a point."""
    num_leaves: int
    """Boxes into which the region was cut."""
    limit: str
    """Why neither was found; empty otherwise."""


@dataclass(eq=False)
class _Part:
    """A box of the tree; open until it is decided or bisected."""

    lower: Array
    upper: Array
    margin: float = -np.inf
    """Lower bound of the margin on the box, or on the box it was cut from."""
    dimension: int = 0
    """The feature that is, or would be, bisected."""
    threshold: float = 0.0
    below: _Part | None = None
    above: _Part | None = None

    def bisect(self) -> list[_Part]:
        """The two halves; none if no number lies between the ends."""
        low, high = self.lower.flat[self.dimension], self.upper.flat[self.dimension]
        self.threshold = float(low / 2 + high / 2)
        if not low < self.threshold < high:
            return []
        upper, lower = self.upper.copy(), self.lower.copy()
        upper.flat[self.dimension] = lower.flat[self.dimension] = self.threshold
        self.below, self.above = _Part(self.lower, upper, self.margin), _Part(lower, self.upper, self.margin)
        return [self.below, self.above]

    def tree(self) -> Split | None:
        """The bisections below this box."""
        return assemble(self, _Part.cut)

    def cut(self) -> tuple[int, float, _Part, _Part] | None:
        """How it was bisected, and its halves; None for a leaf."""
        if self.below is None or self.above is None:
            return None
        return self.dimension, self.threshold, self.below, self.above


@dataclass(frozen=True, eq=False)
class Splitter:
    """Input splitting of boxes of one network."""

    network: Network
    bounder: LirpaBounder
    max_leaves: int

    def run(self, box: tuple[Array, Array], prop: Property, confirm: Confirm, *, limit_s: float) -> SplitOutcome:
        """Bisects until the checker confirms every part, a point breaks the property, or a limit is reached.

        Parts are taken worst bound first, in batches, so that a violation is found early. The feature to bisect is
        the one whose width times its coefficient in CROWN's linear bound contributes most to the rows that decide.
        Parts that CROWN decides and the checker does not, because it rounds outward, are bisected further.
        Shapes: box: lower and upper (*input_shape).
        Source: arXiv:1804.10829 (bisection by influence), arXiv:1811.00866 (bounds).
        """
        deadline = time.monotonic() + limit_s
        root = _Part(*box)
        pending, decided = [root], list[_Part]()
        outcome = SplitOutcome(None, False, None, np.inf, 1, "")
        while pending or decided:
            if limit := self._limit(outcome.num_leaves, deadline):
                return replace(outcome, limit=limit)
            if pending:
                pending.sort(key=lambda part: part.margin, reverse=True)
                pending, batch = pending[:-BATCH], pending[-BATCH:]
                self._bound(batch, prop)
                decided += [part for part in batch if part.margin > 0]
            else:
                decided, batch = decided[:-BATCH], decided[-BATCH:]
                for part, margin in zip(batch, confirm(*_boxes(batch)), strict=True):
                    part.margin = float(margin)
            undecided = [part for part in batch if not part.margin > 0]
            attacked, point = self._lowest(undecided, prop)
            outcome = replace(outcome, attack=min(outcome.attack, attacked))
            if attacked <= 0:
                return replace(outcome, point=point)
            halves = [part.bisect() for part in undecided]
            if not all(halves):
                return replace(outcome, limit="input splitting reached the resolution of floating-point numbers")
            pending += [half for pair in halves for half in pair]
            outcome = replace(outcome, num_leaves=outcome.num_leaves + len(halves))
        return replace(outcome, split=root.tree(), decided=True)

    def _limit(self, num_leaves: int, deadline: float) -> str:
        if time.monotonic() > deadline:
            return f"input splitting stopped after {num_leaves} boxes"
        return f"input splitting reached {num_leaves} boxes" if num_leaves >= self.max_leaves else ""

    def _bound(self, parts: Sequence[_Part], prop: Property) -> None:
        """Sets the margin (less slack) of every part, and the feature to bisect."""
        lower, upper = _boxes(parts)
        bounds = self.bounder.lower_bounds(lower, upper, prop.rows, prop.offsets, method="crown", coefficients=True)
        if bounds.coefficients is None:
            raise EngineError("auto_LiRPA gave no linear bound in the input")
        width = (upper - lower).reshape(len(parts), -1)
        reach = np.abs(bounds.coefficients.reshape(*bounds.lower.shape, -1)) * width[:, np.newaxis]
        rows = bounds.lower - _SLACK * reach.sum(axis=2)
        influence = np.zeros_like(width)
        for clause in map(list, prop.clauses):
            best = np.asarray(clause)[rows[:, clause].argmax(axis=1)]
            proved = rows[np.arange(len(parts)), best] > 0
            # Clauses that hold count only where the others say nothing.
            weight = np.where(proved, 1e-6, 1.0)[:, np.newaxis]
            influence = np.maximum(influence, weight * reach[np.arange(len(parts)), best])
        influence = np.where(influence.max(axis=1, keepdims=True) > 0, influence, width)
        for part, margin, feature in zip(parts, prop.margins(rows), influence.argmax(axis=1), strict=True):
            part.margin, part.dimension = float(margin), int(feature)

    def _lowest(self, parts: Sequence[_Part], prop: Property) -> tuple[float, Float32Array | None]:
        """The smallest margin at the centres of those boxes whose centre rounds to a float32 point inside."""
        if not parts:
            return np.inf, None
        lower, upper = _boxes(parts)
        points = (lower / 2 + upper / 2).astype(np.float32)
        inside = ((lower <= points) & (points <= upper)).reshape(len(parts), -1).all(axis=1)
        if not inside.any():
            return np.inf, None
        margins = prop.margins(prop.values(self.network.forward(points[inside])))
        return float(margins.min()), points[inside][int(margins.argmin())]


def _boxes(parts: Sequence[_Part]) -> tuple[Array, Array]:
    return np.stack([part.lower for part in parts]), np.stack([part.upper for part in parts])
