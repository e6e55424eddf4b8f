"""Baseline: units leave in random order."""

from __future__ import annotations

from paoding_verify.pruning.ordered import remove_in_order
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem

__all__ = ["random_choice"]


def random_choice(problem: PruneProblem) -> PruneOutcome:
    """Removes units drawn uniformly, without compensation."""
    orders = [problem.rng.permutation(group.atoms).tolist() for group in problem.units.groups]
    return remove_in_order(problem, orders, "drawn at random")
