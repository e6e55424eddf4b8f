"""Baseline: the units with the smallest incoming weights leave first."""

from __future__ import annotations

import numpy as np

from paoding_verify.network.graph import Conv2d, Dense, Network
from paoding_verify.pruning.groups import UnitGroup, UnitMap
from paoding_verify.pruning.ordered import remove_in_order
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem

__all__ = ["magnitude_l2"]


def magnitude_l2(problem: PruneProblem) -> PruneOutcome:
    """Removes units by the Euclidean norm of their incoming weights, without compensation.

    Source: arXiv 1608.08710 (filter pruning by norm), with the Euclidean norm.
    """
    orders = [_by_norm(problem.original, problem.units, group) for group in problem.units.groups]
    return remove_in_order(problem, orders, "smallest incoming weights")


def _by_norm(network: Network, units: UnitMap, group: UnitGroup) -> list[int]:
    squares = dict.fromkeys(group.atoms, 0.0)
    for index in group.producers:
        op = network.nodes[index].op
        if isinstance(op, (Dense, Conv2d)):
            rows = np.square(op.weight).reshape(len(op.weight), -1).sum(axis=1)
            labels = units.labels[index + 1].reshape(len(rows), -1)[:, 0]
            for label, square in zip(labels.tolist(), rows.tolist(), strict=True):
                if label in squares:
                    squares[label] += square
    return sorted(group.atoms, key=lambda atom: squares[atom])
