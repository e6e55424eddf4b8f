"""Which unit splits a case: the dearest are tried, and the one whose halves have the best bounds is taken.

Source: De Palma et al., arXiv 2104.06718 (trying the most promising splits before choosing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from paoding_verify.bounds.case_bounds import CaseBounds
from paoding_verify.bounds.case_lines import Question
from paoding_verify.bounds.case_tree import Case, Conditions

__all__ = ["Ask", "split_cases"]

Ask = Callable[[Sequence[tuple[Conditions, int, int]]], Question]
"""Makes the question about cases, each with a row and the number of its lines."""
Split = tuple[int, int, tuple[float, ...]]
"""Step, unit, and the multipliers that its halves start with."""

_CANDIDATES = 6
"""Units whose split is tried before one is chosen."""


def split_cases(
    cases: Sequence[Case], found: CaseBounds, units: Mapping[int, int], ask: Ask, *, batch: int
) -> list[Case]:
    """Splits every case; the halves. found: bounds of the cases, with scores; units: of the steps that can be split;
    batch: splits that are tried together.
    """
    trials = [(n, split) for n, mine in enumerate(_promising(found, units)) for split in mine]
    best: dict[int, tuple[float, Split]] = {}
    for first in range(0, len(trials), batch):
        part = trials[first : first + batch]
        for (n, split), gain in zip(part, _gains([(cases[n], split) for n, split in part], ask), strict=True):
            best[n] = max(best.get(n, (-np.inf, split)), (gain, split))
    return [half for n, case in enumerate(cases) for half in case.split(*best[n][1])]


def _promising(found: CaseBounds, units: Mapping[int, int]) -> Iterator[list[Split]]:
    """For every case the units whose lines cost most, the dearest first."""
    steps = list(found.scores)
    ends = np.cumsum([0, *(units[k] for k in steps)])
    flat = torch.cat([found.scores[k] for k in steps], 1)
    starts = torch.cat([found.starts[k] for k in steps], 2)
    top = flat.topk(min(_CANDIDATES, flat.shape[1]), dim=1)
    for n, (places, values) in enumerate(zip(top.indices.tolist(), top.values.tolist(), strict=True)):
        layers = [int(np.searchsorted(ends, place, side="right")) - 1 for place in places]
        yield [
            (steps[k], place - int(ends[k]), tuple(starts[:, n, place].tolist()))
            for k, place, value in zip(layers, places, values, strict=True)
            if value > 0
        ]


def _gains(trials: Sequence[tuple[Case, Split]], ask: Ask) -> list[float]:
    """For every case and split the sum of the halves' bounds, each counted up to zero."""
    halves = [
        (case, (step, unit, sign), start)
        for case, (step, unit, starts) in trials
        for sign, start in zip((-1, 1), starts, strict=True)
    ]
    question = ask([((*case.conditions, condition), case.rows[0], case.lines[0]) for case, condition, _ in halves])
    betas = question.places.table([np.append(case.betas, start) for case, _, start in halves])
    with torch.no_grad():
        gains: list[float] = question.bound(betas).lower.reshape(-1, 2).clamp(max=0).sum(1).tolist()
    return gains
