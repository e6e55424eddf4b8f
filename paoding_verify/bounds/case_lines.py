"""The lines that make bounds on a whole region large: lower slopes, and shares of twin units bounded as a difference.

Every number in [0, 1] is valid, so what is found needs no trust. It is held to 1 / SCALE, as certificates hold it.
Source: Xu et al., arXiv 2011.13824 (optimised slopes); shares are optimised in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from paoding_verify.bounds.ascent import Ascent
from paoding_verify.bounds.case_bounds import CaseBounder, Intervals, Lines
from paoding_verify.evidence.certificate import NO_HINT, SCALE, Slopes

__all__ = ["as_tables", "improve_lines"]

_RATE = 0.1
"""Of Adam."""


def improve_lines(
    bounder: CaseBounder, rows: torch.Tensor, offsets: torch.Tensor, intervals: Intervals, start: Lines, *, steps: int
) -> tuple[torch.Tensor, Lines]:
    """Lower bounds of rows on the whole region, never below those of `start`, and their lines, after steps of Adam.

    Shapes: rows (n, outputs of all networks), offsets (n,); intervals and lines: n times the region -> (n,).
    """
    best = torch.full((len(rows),), -torch.inf, dtype=torch.float64)
    found = Lines(*({k: x.clone() for k, x in each.items()} for each in (start.slopes, start.shares)))
    slopes, shares = ({k: x.clone().requires_grad_() for k, x in each.items()} for each in (start.slopes, start.shares))
    ascent = Ascent([*slopes.values(), *shares.values()], rate=_RATE, steps=steps, most=1.0)
    for _ in range(steps + 1):
        lower = bounder.bound(rows, offsets, intervals, {}, Lines(_through(slopes), _through(shares))).lower
        better = lower.detach() > best
        best = torch.where(better, lower.detach(), best)
        for values, kept in ((slopes, found.slopes), (shares, found.shares)):
            for k, x in values.items():
                kept[k][better] = _rounded(x.detach()[better])
        if not lower.requires_grad or bool((best > 1e-6).all()):
            break
        ascent.step(lower.sum())
    return best, found


def as_tables(lines: Lines, start: Lines, bounder: CaseBounder, leaves: Sequence[int]) -> tuple[Slopes, Slopes]:
    """Slopes and shares of a property's rows in the form of a certificate, where they matter and are not those that the
    checker takes itself.

    start: what it takes on the whole region; it may take others on parts of it. leaves: rows that are bounded there.
    """
    program, result = bounder.program, []
    for each, known in ((lines.slopes, start.slopes), (lines.shares, start.shares)):
        tables = {}
        for k, table in each.items():
            step, twin = program.steps[k], program.twins.get(k + 1, k + 1) - 1
            kept = (table != known[k]).numpy()
            kept[leaves] |= bounder.open_units[k] | (bounder.open_units[twin] & (each is lines.shares))
            values = np.where(kept, np.rint(table.numpy() * SCALE), NO_HINT).astype(np.uint8)
            if kept.any():
                tables[len(program.steps), step.number] = values if step.kept is None else values[:, step.kept]
        result.append(tables)
    return result[0], result[1]


def _through(values: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Rounded as in a certificate; the gradient passes straight through."""
    return {k: x + (_rounded(x.detach()) - x.detach()) for k, x in values.items()}


def _rounded(values: torch.Tensor) -> torch.Tensor:
    """To multiples of 1 / SCALE."""
    return torch.round(values * SCALE) / SCALE
