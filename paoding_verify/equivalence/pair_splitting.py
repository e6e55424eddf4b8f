"""Input splitting for a pair: bisects a box of few features until the joint bounds decide every part of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.evidence.certificate import Split
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.splits import assemble
from paoding_verify.network.graph import Array, Float32Array

__all__ = ["MAX_FEATURES", "PairSplit", "split_pair"]

MAX_FEATURES = 8
"""Inputs with more features are not split: the number of parts doubles with every bisection of each."""

_BATCH = 128
"""Boxes that are bounded at a time."""


@dataclass(frozen=True, eq=False)
class PairSplit:
    """What splitting found: a tree all of whose leaves are positive, a point, or a reason why neither."""

    decided: bool
    """Whether the bounds of all leaves are positive."""
    num_leaves: int
    split: Split | None = None
    """Bisections of the whole box; None if there are none."""
    point: Float32Array | None = None
    """(*input_shape) a point of the box with margin <= 0."""
    attack: float = np.inf
    """Smallest margin seen at a point."""
    limit: str = ""
    """Why neither was found; empty otherwise."""


@dataclass(eq=False)
class _Part:
    """A box of the tree; a leaf until it is cut."""

    lower: Array
    upper: Array
    cut: tuple[int, float] | None = None
    halves: tuple[_Part, _Part] | tuple[()] = ()

    def bisect(self, dimension: int) -> tuple[_Part, _Part] | tuple[()]:
        """The two halves; none if no number lies between the ends."""
        low, high = float(self.lower.flat[dimension]), float(self.upper.flat[dimension])
        middle = low / 2 + high / 2
        if low < middle < high:
            below, above = self.upper.copy(), self.lower.copy()
            below.flat[dimension] = above.flat[dimension] = middle
            self.cut = dimension, middle
            self.halves = _Part(self.lower, below), _Part(above, self.upper)
        return self.halves

    def tree(self) -> Split | None:
        """The bisections below this box."""
        return assemble(self, lambda part: None if part.cut is None else (*part.cut, *part.halves))


def split_pair(
    engines: PairEngines, box: tuple[Array, Array], prop: Property, *, max_leaves: int, limit_s: float
) -> PairSplit:
    """Bisects until every part is decided, the centre of a part breaks the property, or a limit is reached.

    Parts are taken worst bound first, in batches. The feature to bisect has the largest product of width and
    coefficient in the joint linear bounds. Shapes: box: lower and upper (*input_shape).
    """
    deadline = time.monotonic() + limit_s
    root = _Part(*box)
    pending, num_leaves, least = [(0.0, root)], 1, np.inf
    limit, point = "", None
    while pending:
        if time.monotonic() > deadline:
            limit = f"input splitting ran out of time after {num_leaves} boxes"
        elif num_leaves >= max_leaves:
            limit = f"input splitting reached {max_leaves} boxes"
        if limit or point is not None:
            break
        pending.sort(key=lambda entry: entry[0], reverse=True)
        batch = [pending.pop()[1] for _ in range(min(_BATCH, len(pending)))]
        lower, upper = np.stack([p.lower for p in batch]), np.stack([p.upper for p in batch])
        bounds = engines.proved_bounds(lower, upper, prop)
        reach = (bounds.sensitivity * (upper - lower)).reshape(len(batch), -1)
        margins = prop.margins(bounds.lower)
        undecided = np.flatnonzero(~(margins > 0))
        margin, at = _smallest(engines, [batch[k] for k in undecided], prop)
        least, point = min(least, margin), at if margin <= 0 else None
        for k in undecided:
            wide = reach[k] if reach[k].max() > 0 else (upper[k] - lower[k]).ravel()
            halves = batch[k].bisect(int(wide.argmax()))
            if not halves:
                limit = "input splitting reached the resolution of floating-point numbers"
            pending += [(float(margins[k]), half) for half in halves]
        num_leaves += len(undecided)
    decided = not pending and not limit and point is None
    return PairSplit(decided, num_leaves, root.tree(), point, least, limit if point is None else "")


def _smallest(engines: PairEngines, parts: list[_Part], prop: Property) -> tuple[float, Float32Array | None]:
    """The smallest margin at centres of parts, and where it is; infinity where no centre is a float32 point."""
    middles = [(part.lower / 2 + part.upper / 2).astype(np.float32) for part in parts]
    inside = [
        x for x, part in zip(middles, parts, strict=True)
        if (part.lower <= x).all() and (x.astype(np.float64) <= part.upper).all()
    ]  # fmt: skip
    if not inside:
        return np.inf, None
    points = np.stack(inside)
    margins = prop.margins(prop.values(np.concatenate([net.forward(points) for net in engines.networks], axis=1)))
    return float(margins.min()), points[int(margins.argmin())]
