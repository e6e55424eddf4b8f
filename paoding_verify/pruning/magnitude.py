"""Baselines: the units with the smallest incoming weights leave first."""

from __future__ import annotations

import numpy as np

from paoding_verify.network.graph import Array, Conv2d, Dense, Network
from paoding_verify.pruning.groups import UnitGroup, UnitMap
from paoding_verify.pruning.ordered import remove_in_order
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem

__all__ = ["magnitude_l1", "magnitude_l2"]


def magnitude_l1(problem: PruneProblem) -> PruneOutcome:
    """Removes units by the sum of magnitudes of their incoming weights, without compensation.

    Source: arXiv 1608.08710 (filter pruning by norm).
    """
    return _by_magnitude(problem, 1)


def magnitude_l2(problem: PruneProblem) -> PruneOutcome:
    """Removes units by the Euclidean norm of their incoming weights, without compensation.

    Source: arXiv 1608.08710 (filter pruning by norm), with the Euclidean norm.
    """
    return _by_magnitude(problem, 2)


def _by_magnitude(problem: PruneProblem, power: int) -> PruneOutcome:
    orders = [_order(problem.original, problem.units, group, power) for group in problem.units.groups]
    return remove_in_order(problem, orders, "smallest incoming weights")


def _order(network: Network, units: UnitMap, group: UnitGroup, power: int) -> list[int]:
    totals = dict.fromkeys(group.atoms, 0.0)
    for index in group.producers:
        op = network.nodes[index].op
        if isinstance(op, (Dense, Conv2d)):
            rows: Array = (np.abs(op.weight) ** power).reshape(len(op.weight), -1).sum(axis=1)
            labels = units.labels[index + 1].reshape(len(rows), -1)[:, 0]
            for label, total in zip(labels.tolist(), rows.tolist(), strict=True):
                if label in totals:
                    totals[label] += total
    return sorted(group.atoms, key=lambda atom: totals[atom])
