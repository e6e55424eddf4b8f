"""Lower slopes behind the bounds of hidden units, so that every later layer starts from narrower intervals.

One set of slopes serves all lower bounds of a layer's units, another all upper bounds, as certificates hold them. Every
number in [0, 1] is valid. Source: Xu et al., arXiv 2011.13824 (optimised slopes of intermediate layers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from paoding_verify.bounds.ascent import Ascent
from paoding_verify.bounds.case_bounds import CaseBounder
from paoding_verify.bounds.case_lines import as_tables, through
from paoding_verify.bounds.case_relaxation import Lines
from paoding_verify.bounds.case_shrink import shrunk
from paoding_verify.bounds.case_tree import Places
from paoding_verify.checker.backward import State
from paoding_verify.checker.program import Program
from paoding_verify.evidence.certificate import Slopes

__all__ = ["inner_slopes"]

_STEPS = 20
"""Of Adam, for each layer."""
_RATE = 0.1


def inner_slopes(enclosed: Callable[[Slopes], State]) -> tuple[Slopes, State]:
    """Slopes that narrow hidden units of one region layer by layer, and what the checker knows with them.

    enclosed: what it knows with given slopes. Raises: UnsupportedOpError for max pooling.
    """
    found: Slopes = {}
    state = enclosed(found)
    for layer in _layers(state.program):
        bounder = CaseBounder(shrunk(state))
        better = {key: table for step in layer for key, table in _turned(bounder, step).items()}
        if better:
            found = {**found, **better}
            state = enclosed(found)
    return found, state


def _layers(program: Program) -> list[tuple[int, ...]]:
    """Rectifiers in order, those of twins together: neither reads the other."""
    second = {g - 1: f - 1 for g, f in program.twins.items()}
    first = set(second.values())
    return [(second[k], k) if k in second else (k,) for k in range(len(program.steps)) if k not in first]


def _turned(bounder: CaseBounder, step: int) -> Slopes:
    """Slopes for the unstable units that a step reads; none where there is no choice."""
    if step not in bounder.units:
        return {}
    program = bounder.program
    value = program.steps[step].inputs[0]
    before = [k for k in _behind(program, value) if k in bounder.units and bool(bounder.choices[0][k].any())]
    units = bounder.choices[0][step].nonzero()[:, 0]
    if not before or not len(units):
        return {}
    rows = torch.eye(bounder.units[step], dtype=torch.float64)[units]
    rows = torch.cat([rows, -rows])
    intervals = bounder.intervals(Places([()] * len(rows), bounder.units), len(rows))
    start = bounder.default_lines(bounder.intervals(Places([()] * 2, bounder.units), 2)).slopes
    slopes = {k: start[k].clone().requires_grad_() for k in before}
    kept, best = {k: start[k] for k in before}, -np.inf
    ascent = Ascent(list(slopes.values()), rate=_RATE, steps=_STEPS, most=1.0)
    for _ in range(_STEPS + 1):
        now = {k: through(x) for k, x in slopes.items()}
        wide = {k: x.repeat_interleave(len(units), 0) for k, x in now.items()}
        total = bounder.bound_units(value, rows, intervals, Lines(wide)).sum()
        if float(total.detach()) > best:
            best, kept = float(total.detach()), {k: x.detach() for k, x in now.items()}
        if not total.requires_grad:
            break
        ascent.step(total)
    start_number = program.steps[next(r for r in program.readers[value] if r in bounder.units)].number
    tables, _ = as_tables(Lines(kept), bounder)
    return {(start_number, node): table for (_, node), table in tables.items()}


def _behind(program: Program, value: int) -> Sequence[int]:
    """Steps that a value is computed by."""
    found, pending = set(), [value]
    while pending:
        if (step := pending.pop() - 1) >= 0 and step not in found:
            found.add(step)
            pending += program.steps[step].inputs
    return sorted(found)
