"""The lines that make bounds on cases large: lower slopes, and shares of twin units bounded as a difference.

Every number in [0, 1] is valid, so what is found needs no trust. It is held to 1 / SCALE, as certificates hold it.
Source: Xu et al., arXiv 2011.13824 (optimised slopes), Wang et al., arXiv 2103.06624 (together with multipliers);
shares are optimised in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from paoding_verify.bounds.ascent import Ascent
from paoding_verify.bounds.case_bounds import CaseBounder, CaseBounds
from paoding_verify.bounds.case_relaxation import Intervals, Lines
from paoding_verify.bounds.case_tree import Places
from paoding_verify.evidence.certificate import NO_HINT, SCALE, Slopes

__all__ = ["Found", "Question", "as_tables", "improve", "through"]

_RATE = 0.1
"""Of Adam, in units of slopes or of the largest coefficient of a layer."""
_ENOUGH = 1e-6
"""Bounds are not improved beyond this."""


@dataclass(frozen=True, eq=False)
class Question:
    """Bounds of one row on each of n cases, as a function of multipliers and lines."""

    bounder: CaseBounder
    rows: torch.Tensor
    """(n, outputs of all networks)"""
    offsets: torch.Tensor
    """(n,)"""
    places: Places
    lines: Lines
    """To begin with."""

    @cached_property
    def intervals(self) -> Intervals:
        """What is known on the cases."""
        return self.bounder.intervals(self.places, len(self.rows))

    def bound(self, betas: torch.Tensor, lines: Lines | None = None, *, scored: bool = False) -> CaseBounds:
        """Shapes: betas (n, depth)."""
        credit = self.places.spread(betas)
        return self.bounder.bound(
            self.rows, self.offsets, self.intervals, credit, lines or self.lines, scored=scored
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Found:
    """The best that an ascent has seen, case by case."""

    lower: torch.Tensor
    """(n,)"""
    betas: torch.Tensor
    """(n, depth)"""
    lines: Lines


def improve(question: Question, betas: torch.Tensor, *, steps: int, turning: torch.Tensor) -> Found:
    """Multipliers that make bounds large, and lines of the cases that are `turning`; never worse than at the start.

    Ends early where every bound is positive. Shapes: (n, depth), (n,) of bool.
    """
    with torch.no_grad():
        start = question.bound(betas)
    scale = question.places.scales(start.weights).clamp(min=1e-9)
    best, best_betas = start.lower, betas
    turn, mine = bool(turning.any()), turning[:, None]
    kept, moving = question.lines, Lines()
    if turn:
        kept = kept.map(torch.clone)
        moving = kept.map(lambda x: x.clone().requires_grad_())
    x = (betas / scale).requires_grad_()
    free = [*moving.slopes.values(), *moving.shares.values()]
    ascent = Ascent([x, *free], rate=_RATE, steps=steps, most=[torch.inf, *(1.0 for _ in free)])
    for _ in range(steps + 1 if turn or betas.shape[1] else 0):
        now = moving.map(lambda x: torch.where(mine, through(x), x.detach())) if turn else kept
        lower = question.bound(x * scale, now).lower
        better = lower.detach() > best
        best = torch.where(better, lower.detach(), best)
        best_betas = torch.where(better[:, None], (x * scale).detach(), best_betas)
        for values, found in ((now.slopes, kept.slopes), (now.shares, kept.shares)) if turn else ():
            for k, value in values.items():
                found[k][better] = value.detach()[better]
        if not lower.requires_grad or bool((best > _ENOUGH).all()):
            break
        ascent.step(lower.sum())
    return Found(best, best_betas, kept)


def as_tables(
    lines: Lines, bounder: CaseBounder, *, start: Lines | None = None, leaves: Sequence[int] = ()
) -> tuple[Slopes, Slopes]:
    """Slopes and shares in the form of a certificate, where there is a choice. Shapes: (n, units) each.

    start: what the checker takes itself on the whole region, which is left out; but on parts of it the checker may take
    something else. leaves: rows that are bounded there.
    """
    program, result = bounder.program, []
    for each, known, choice in zip(
        (lines.slopes, lines.shares), (start.slopes, start.shares) if start else ({}, {}), bounder.choices, strict=True
    ):
        tables = {}
        for k, table in each.items():
            step, wanted = program.steps[k], np.broadcast_to(choice[k].numpy(), table.shape).copy()
            if k in known:
                same = (table == known[k]).numpy()
                same[leaves] = False
                wanted &= ~same
            if wanted.any():
                values = np.where(wanted, np.rint(table.numpy() * SCALE), NO_HINT).astype(np.uint8)
                if step.kept is not None:
                    values = np.where(step.kept >= 0, values[:, step.kept], NO_HINT).astype(np.uint8)
                tables[len(program.steps), step.number] = values
        result.append(tables)
    return result[0], result[1]


def through(x: torch.Tensor) -> torch.Tensor:
    """Rounded as in a certificate; the gradient passes straight through."""
    return x + (torch.round(x.detach() * SCALE) / SCALE - x.detach())
