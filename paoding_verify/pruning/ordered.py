"""Pruning by a fixed order of units, without compensation: the frame of the baselines."""

from __future__ import annotations

import time
from collections.abc import Sequence

from paoding_verify.evidence.pruning import PruneStep
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem, moves_of
from paoding_verify.pruning.surgery import mask_units

__all__ = ["remove_in_order"]


def remove_in_order(problem: PruneProblem, orders: Sequence[Sequence[int]], reason: str) -> PruneOutcome:
    """Removes the first atoms of each group's order as the plan says; margins are measured, and change nothing.

    `orders` holds one sequence of atoms for each group.
    """
    removed: frozenset[int] = frozenset()
    network, steps = problem.original, []
    for number, counts in enumerate(problem.plan, start=1):
        start = time.perf_counter()
        gone = frozenset(a for order, count in zip(orders, counts, strict=True) for a in order[:count])
        network = mask_units(problem.original, problem.units, gone)
        margins = problem.signal.margins(network)
        energy = problem.signal.energy(margins)
        natural, certified = problem.signal.accuracies(network, margins)
        batch = [a for order in orders for a in order if a in gone - removed]
        removed = gone
        problem.progress("pruning", len(removed), sum(problem.plan[-1]))
        steps.append(
            PruneStep(
                step=number,
                accepted=moves_of(problem.units, batch, {}, energy=energy, reason=reason),
                rejected=(),
                energy=energy,
                temperature=0.0,
                sparsity=problem.sparsity(removed),
                certified_margin=float(margins.mean()),
                natural_accuracy=natural,
                certified_accuracy=certified,
                elapsed_s=time.perf_counter() - start,
            )
        )
    return PruneOutcome(network, removed, tuple(steps))
