"""Cases of a branch and bound on ReLUs: nodes of a tree, and a batch of them as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from paoding_verify.checker.program import Program
from paoding_verify.evidence.certificate import LEAF, ReluTree

__all__ = ["Case", "Conditions", "Places", "as_tree", "pruned"]

Conditions = tuple[tuple[int, int, int], ...]
"""(step, unit in the shape of the step, sign), from the root down."""


@dataclass(eq=False)
class Case:
    """A node of a tree; a leaf until it is split."""

    clause: int
    rows: tuple[int, ...]
    """Rows of the clause that may be positive, the best first."""
    lines: tuple[int, ...]
    """Number of the lines that belong to each of them."""
    conditions: Conditions = ()
    betas: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(conditions,) multipliers for the best row, multiples of scale / 65535 once the case is bounded."""
    scale: float = 0.0
    """The largest of them."""
    bound: float = -np.inf
    """Of the best row; of the case it was cut from until it is bounded."""
    bounded: bool = False
    """Whether `bound` is its own."""
    solved: bool = False
    """Whether its multipliers are those of a linear program: no unit was left to split."""
    halves: tuple[Case, ...] = ()
    """v <= 0, then v >= 0."""

    def split(self, step: int, unit: int, starts: Sequence[float]) -> tuple[Case, ...]:
        """Makes the two halves at a unit, z <= 0 and z >= 0; `starts` are their multipliers to begin with."""
        self.halves = tuple(
            Case(
                self.clause, self.rows, self.lines, (*self.conditions, (step, unit, sign)),
                np.append(self.betas, start), scale=self.scale, bound=self.bound,
            )
            for sign, start in zip((-1, 1), starts, strict=True)
        )  # fmt: skip
        return self.halves


def pruned(root: Case) -> float:
    """Undoes splits that do not pay: of cases that are no worse by themselves than the worst of what they were split
    into, which may not have been bounded at all. Returns the bound of the whole tree.
    """
    order, pending = [], [root]
    while pending:
        order.append(pending.pop())
        pending += order[-1].halves
    values: dict[int, float] = {}
    for case in reversed(order):
        own = case.bound if case.bounded else -np.inf
        below = min((values[id(half)] for half in case.halves), default=-np.inf)
        if own >= below:
            case.halves = ()
        values[id(case)] = max(own, below)
    return values[id(root)]


def as_tree(root: Case, program: Program, general: int) -> tuple[ReluTree, list[int]]:
    """The form that certificates have, with nodes and units as the networks number them, and for each of its turns the
    number of the lines that are meant; its tables are still empty. Lines before `general` need no turn.
    """
    nodes: list[int] = []
    units: list[int] = []
    scales: list[float] = []
    multipliers = []
    turns: list[int] = []
    numbers: list[int] = []
    common = _common_lines(root)
    pending: list[tuple[Case, int | None]] = [(root, general - 1)]
    while pending:
        case, above = pending.pop()
        mine = common[id(case)]
        if mine is not None and mine >= general and mine != above:
            turns.append(len(nodes))
            numbers.append(mine)
        if case.halves:
            number, unit, _ = case.halves[0].conditions[-1]
            step = program.steps[number]
            nodes.append(step.number)
            units.append(unit if step.kept is None else int(np.flatnonzero(step.kept == unit)[0]))
            pending += [(half, mine) for half in reversed(case.halves)]
        else:
            nodes.append(LEAF)
            units.append(case.rows[0])
            scales.append(case.scale)
            multipliers.append(case.betas / max(case.scale, 1e-300) * 65535)
    steps = np.clip(np.rint(np.concatenate(multipliers)), 0, 65535).astype(np.int64)
    values = np.stack([steps // 256, steps % 256], axis=1).astype(np.uint8)
    return ReluTree(root.clause, tuple(nodes), tuple(units), tuple(scales), values, tuple(turns)), numbers


def _common_lines(root: Case) -> dict[int, int | None]:
    """For every case (by id) the lines that all its leaves have; None: they have different ones."""
    order, pending = [], [root]
    while pending:
        order.append(pending.pop())
        pending += order[-1].halves
    found: dict[int, int | None] = {}
    for case in reversed(order):
        below = {found[id(half)] for half in case.halves} or {case.lines[0]}
        found[id(case)] = below.pop() if len(below) == 1 else None
    return found


class Places:
    """Where the conditions of a batch of n cases act."""

    def __init__(self, cases: Sequence[Conditions], units: Mapping[int, int]) -> None:
        """units: step -> number of units of the steps that are split."""
        self._units, self._count = units, len(cases)
        lengths = np.array([len(case) for case in cases], dtype=np.intp)
        self.depth = int(lengths.max(initial=0))
        flat = np.fromiter(chain.from_iterable(chain.from_iterable(cases)), np.intp).reshape(-1, 3)
        owner = np.repeat(np.arange(len(cases)), lengths)
        level = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        entries = np.stack([owner, level, flat[:, 1], flat[:, 2]])
        self.by_step = {
            step: torch.as_tensor(entries[:, flat[:, 0] == step]) for step in np.unique(flat[:, 0]).tolist()
        }
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
