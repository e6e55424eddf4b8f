"""Cases of a branch and bound on ReLUs: nodes of a tree, and a batch of them as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from paoding_verify.checker.program import Program
from paoding_verify.evidence.certificate import LEAF, ReluTree

__all__ = ["Case", "Conditions", "Places", "as_tree"]

Conditions = tuple[tuple[int, int, int], ...]
"""(step, unit in the shape of the step, sign), from the root down."""


@dataclass(eq=False)
class Case:
    """A node of a tree; a leaf until it is split."""

    clause: int
    rows: tuple[int, ...]
    """Rows of the clause that may be positive, the best first."""
    conditions: Conditions = ()
    betas: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(conditions,) multipliers for the best row, multiples of scale / 65535 once the case is bounded."""
    scale: float = 0.0
    """The largest of them."""
    bound: float = -np.inf
    """Of the best row; of the case it was cut from until it is bounded."""
    solved: bool = False
    """Whether its multipliers are those of a linear program: no unit was left to split."""
    halves: tuple[Case, ...] = ()
    """v <= 0, then v >= 0."""

    def split(self, step: int, unit: int) -> tuple[Case, ...]:
        """Makes the two halves at a unit."""
        self.halves = tuple(
            Case(
                self.clause, self.rows, (*self.conditions, (step, unit, sign)), np.append(self.betas, 0.0),
                scale=self.scale, bound=self.bound,
            )
            for sign in (-1, 1)
        )  # fmt: skip
        return self.halves


def as_tree(root: Case, program: Program) -> ReluTree:
    """The form that certificates have, with nodes and units as the networks number them."""
    nodes: list[int] = []
    units: list[int] = []
    scales: list[float] = []
    multipliers = []
    pending = [root]
    while pending:
        case = pending.pop()
        if case.halves:
            number, unit, _ = case.halves[0].conditions[-1]
            step = program.steps[number]
            nodes.append(step.number)
            units.append(unit if step.kept is None else int(np.flatnonzero(step.kept == unit)[0]))
            pending += reversed(case.halves)
        else:
            nodes.append(LEAF)
            units.append(case.rows[0])
            scales.append(case.scale)
            multipliers.append(case.betas / max(case.scale, 1e-300) * 65535)
    steps = np.rint(np.concatenate(multipliers)).astype(np.int64)
    values = np.stack([steps // 256, steps % 256], axis=1).astype(np.uint8)
    return ReluTree(root.clause, tuple(nodes), tuple(units), tuple(scales), values)


class Places:
    """Where the conditions of a batch of n cases act."""

    def __init__(self, cases: Sequence[Conditions], units: Mapping[int, int]) -> None:
        """units: step -> number of units of the steps that are split."""
        self._units, self._count = units, len(cases)
        self.depth = max(map(len, cases), default=0)
        found: dict[int, list[tuple[int, int, int, int]]] = {}
        for n, case in enumerate(cases):
            for level, (step, unit, sign) in enumerate(case):
                found.setdefault(step, []).append((n, level, unit, sign))
        self.by_step = {step: torch.tensor(entries).T for step, entries in found.items()}
        """Step -> (4, entries): case, level, unit, sign."""

    def table(self, betas: Sequence[npt.NDArray[np.float64]]) -> torch.Tensor:
        """Multipliers of unequal number as one array (n, depth), filled with zeros."""
        table = np.zeros((self._count, self.depth))
        for n, each in enumerate(betas):
            table[n, : len(each)] = each
        return torch.as_tensor(table)

    def spread(self, betas: torch.Tensor) -> dict[int, torch.Tensor]:
        """Multipliers times signs, by step. Shapes: (n, depth) -> (n, units)."""
        result = {}
        for step, (cases, levels, units, signs) in self.by_step.items():
            wide = torch.zeros((self._count, self._units[step]), dtype=betas.dtype)
            result[step] = wide.index_put((cases, units), betas[cases, levels] * signs, accumulate=True)
        return result

    def scales(self, weights: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """For every condition the weight of its step. Shapes: (n,) by step -> (n, depth)."""
        table = torch.ones((self._count, self.depth), dtype=torch.float64)
        for step, (cases, levels, _, _) in self.by_step.items():
            if step in weights:
                table[cases, levels] = weights[step][cases]
        return table
