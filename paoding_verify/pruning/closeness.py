"""How far a pruned network is from the original, in weights and in what can be proved of its outputs.

Bounds of a difference use what two networks share. The further the weights that are left have moved, the less that is,
and the wider the gap between the difference that is proved and the one that is found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paoding_verify.attack import attack
from paoding_verify.bounds.differential import PairBounder
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.property import distance_at_most
from paoding_verify.network.graph import Network, parameters
from paoding_verify.pruning.signal import Boxes, bound_method

__all__ = ["Closeness", "closeness"]

_BOXES = 4
"""Boxes on which differences are bounded: enough for a median, and little beside the signal."""
_RESTARTS, _STEPS = 5, 20
_CLOSED_SLOPE = 0.01
"""Slope of units that are off, for the attack's gradients: removed units often are."""


@dataclass(frozen=True)
class Closeness:
    """Figures about a pair; for the record, nothing is chosen by them."""

    weights_moved: float
    """Norm of what the weights and biases that are left have changed by, in units of their own."""
    distance_ratio: float | None
    """Median over boxes of the bound of the largest output difference / the largest one found; None: no bounds for an
    operation, too large a network, or no difference found."""


def closeness(
    kept: Network, small: Network, original: Network, alignment: tuple[tuple[int, ...], ...], boxes: Boxes
) -> Closeness:
    """Compares the pruned network with the original, and with what is left of it if nothing but units is removed.

    kept: the original without the units that `small` lacks, its weights as they were; of the shapes of `small`.
    Search results, proved by nobody; deterministic.
    """
    pairs = [
        (before, after)
        for old, new in zip(kept.nodes, small.nodes, strict=True)
        for before, after in zip(parameters(old.op), parameters(new.op), strict=True)
    ]
    moved = sum(float(((after - before) ** 2).sum()) for before, after in pairs)
    size = sum(float((before**2).sum()) for before, _ in pairs)
    return Closeness(float(np.sqrt(moved / size)) if size > 0 else 0.0, _ratio(original, small, alignment, boxes))


def _ratio(
    original: Network, small: Network, alignment: tuple[tuple[int, ...], ...], boxes: Boxes
) -> float | None:  # fmt: skip
    if bound_method(original) != "crown":
        return None
    some = boxes[:_BOXES]
    try:
        proved = PairBounder(original, small, alignment).distance(some.lower, some.upper)
    except UnsupportedOpError:
        return None
    prop = distance_at_most(0.0, original.num_outputs)
    found = -attack(
        [original, small], some.lower, some.upper, prop.rows, prop.offsets, prop.clauses, restarts=_RESTARTS,
        steps=_STEPS, seed=0, centre=some.points, closed_slope=_CLOSED_SLOPE,
    ).margin  # fmt: skip
    ratios = proved[found > 0] / found[found > 0]
    return float(np.median(ratios)) if len(ratios) and np.isfinite(ratios).all() else None
