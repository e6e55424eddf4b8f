"""Rigorous backward bounds (CROWN) of a program, in float64, valid in exact arithmetic and in float32.

Invariant of a backward pass, for every execution v of the program on a region (values as in `intervals.py`):

    row . outputs + offset  >=  sum over values k of coefficient_k . v_k  +  constant  -  slack

Coefficients and constant are floats, read as real numbers. A linear step v = W h + b + e with coefficient c is replaced
by m . h + c . b, m = fl(W^T c), whatever its rounding: |W^T c - m| . |h| <= gamma(n) |c| . (|W| |h|), which `charge`
holds together with the error of c . b and with |e|; so the slack grows by |c| . charge. A nonlinear step is replaced by
its lower line where c > 0 and by its upper line where c < 0; `charge` covers |e| and the roundings again. Where two
coefficients of one value meet, their sum rounds once; so it does where a multiple of a value that is known to be
non-negative is taken off (`Pass.credits`). At the input the sum is smallest at a corner of the box.
Underflow of everything is below TINY (1 + sum of all magnitudes). What is not finite becomes minus infinity.

Source: Zhang et al., arXiv 1811.00866 (the bounds); the error terms follow `rounding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.intervals import Enclosure
from paoding_verify.checker.program import Program, Step
from paoding_verify.checker.relax import Lines, scatter_cells
from paoding_verify.checker.rounding import TINY, U64, downward, magnitude, up
from paoding_verify.evidence.certificate import NO_HINT, SCALE, Slopes
from paoding_verify.network.graph import Add, Array, MaxPool2d, is_linear
from paoding_verify.network.linear import product, transpose

__all__ = ["Coupling", "Indices", "Origin", "Pass", "State", "dot", "hinted", "take_back"]

Indices = npt.NDArray[np.intp]
Origin = tuple[int, Indices]
"""Start of a backward pass as certificates number it, and for each of its P rows the row of the tables about it."""


@dataclass(eq=False)
class Pass:
    """A backward pass over P rows at once; see the invariant above."""

    regions: Indices
    """(P,) region of each row."""
    coefficients: dict[int, Array]
    """Value -> (P, *shape)."""
    constant: Array
    """(P,)"""
    slack: Array
    """(P,)"""
    credits: dict[int, Array] = field(default_factory=dict)
    """Value -> (P, *shape) m with m_j v_j >= 0 wherever the rows are to hold; m is taken off the coefficient of v."""

    def give(self, value: int, coefficient: Array, values: Sequence[Enclosure]) -> None:
        """Adds coefficients to those that a value has already."""
        before = self.coefficients.get(value)
        if before is not None:
            coefficient = before + coefficient
            x = values[value]
            self.spend(coefficient, 2 * U64 * magnitude(x.lower, x.upper))
        self.coefficients[value] = coefficient

    def spend(self, coefficient: Array, charge: Array) -> None:
        """Enlarges the slack by |coefficient| . charge. Shapes: (P, *shape), (N, *shape)."""
        self.slack = self.slack + dot(np.abs(coefficient), charge[self.regions])

    def shift(self, amount: Array) -> None:
        """Adds to the constant; the rounding of the sum goes into the slack."""
        self.constant = self.constant + amount
        self.slack = self.slack + 2 * U64 * np.abs(self.constant)


class Coupling(Protocol):
    """What two twin networks know of each other; see `differential.py`."""

    def after(self, index: int, state: State) -> None:
        """Called when the bounds of value index + 1 are known; may improve them."""

    def before(self, index: int, state: State, rows: Pass, origin: Origin) -> None:
        """Called before step `index` is taken backward; may move coefficients."""


@dataclass(eq=False)
class State:
    """Bounds and lines known so far; grows step by step."""

    program: Program
    values: list[Enclosure]
    lines: dict[int, Lines] = field(default_factory=dict)
    """Step -> its lines."""
    slopes: Sequence[Slopes] | None = None
    """Per region; None: adaptive slopes everywhere."""
    shares: Sequence[Slopes] | None = None
    """Per region, for the coupling; None: all or nothing everywhere."""
    coupling: Coupling | None = None
    blends: list[int] = field(default_factory=lambda: [0])
    """Per value how it depends on the input: 0 as the box itself, 1 as sums of independent inputs (intervals are
    exact), 2 in any other way (backward passes may improve its intervals)."""


def take_back(state: State, rows: Pass, start: int, numbers: Indices) -> Array:
    """Takes rows back to the input and bounds them there. Shapes: numbers (P,), the row of `start` each is -> (P,)."""
    program, values = state.program, state.values
    for index in range(max(rows.coefficients) - 1, -1, -1):
        step = program.steps[index]
        if index + 1 in rows.credits:
            rows.give(index + 1, -rows.credits[index + 1], values)
        if state.coupling is not None:
            state.coupling.before(index, state, rows, (start, numbers))
        coefficient = rows.coefficients.pop(index + 1, None)
        if coefficient is None:
            continue
        rows.spend(coefficient, values[index + 1].charge)
        if isinstance(step.op, Add):
            for value in step.inputs:
                rows.give(value, coefficient, values)
        elif is_linear(step.op):
            in_shape = program.shapes[step.inputs[0]]
            bias = product(step.op, np.zeros((1, *in_shape)))
            rows.shift(coefficient.reshape(len(coefficient), -1) @ bias.reshape(-1))
            rows.give(step.inputs[0], transpose(step.op, coefficient, in_shape), values)
        else:
            _nonlinear(state, index, rows, coefficient, (start, numbers))
    return _conclude(state, rows)


def _nonlinear(state: State, index: int, rows: Pass, coefficient: Array, origin: Origin) -> None:
    """One nonlinear step backward, through its lines."""
    step, lines, here = state.program.steps[index], state.lines[index], rows.regions
    positive, negative = np.maximum(coefficient, 0.0), np.minimum(coefficient, 0.0)
    rows.shift(dot(positive, lines.lower_shift[here]) + dot(negative, lines.upper_shift[here]))
    if isinstance(step.op, MaxPool2d) and lines.lower_cell is not None and lines.upper_cell is not None:
        in_shape = state.program.shapes[step.inputs[0]]
        below = scatter_cells(step.op, positive, lines.lower_cell[here], in_shape)
        above = scatter_cells(step.op, negative * lines.upper_slope[here], lines.upper_cell[here], in_shape)
        rows.give(step.inputs[0], below, state.values)
        rows.give(step.inputs[0], above, state.values)
        return
    low = lines.lower_slope[here]
    if state.slopes is not None and lines.free_slope is not None and lines.unstable is not None:
        hints = hinted(state.slopes, step, low, here, origin)
        low = np.where(lines.unstable[here], np.clip(hints, lines.free_slope, 1.0), low)
    rows.give(step.inputs[0], positive * low + negative * lines.upper_slope[here], state.values)


def hinted(tables: Sequence[Slopes], step: Step, default: Array, regions: Indices, origin: Origin) -> Array:
    """The certificate's numbers for some rows, `default` where it has none. Shapes: (P, *shape) -> same."""
    start, numbers = origin
    found = default.reshape(len(default), -1).copy()
    here = {region: tables[region].get((start, step.number)) for region in np.unique(regions).tolist()}
    which = np.array([id(here[region]) for region in regions.tolist()])
    for table in {id(each): each for each in here.values()}.values():  # regions that share a table go together
        if table is not None:
            mine = np.flatnonzero(which == id(table))
            entries = table[numbers[mine] if len(table) > 1 else np.zeros_like(mine)]
            place = np.ix_(mine, np.arange(table.shape[1]) if step.kept is None else step.kept)
            found[place] = np.where(entries == NO_HINT, found[place], entries / SCALE)
    return found.reshape(default.shape)


def _conclude(state: State, rows: Pass) -> Array:
    """The smallest value at the input, less all errors."""
    box = state.values[0]
    coefficient = rows.coefficients.pop(0, np.zeros((len(rows.regions), *state.program.input_shape)))
    size = int(np.prod(state.program.input_shape))
    low, high = box.lower[rows.regions], box.upper[rows.regions]
    rows.shift(dot(np.maximum(coefficient, 0.0), low) + dot(np.minimum(coefficient, 0.0), high))
    rows.spend(coefficient, 2 * (size + 8) * U64 * magnitude(box.lower, box.upper))
    total = sum(int(np.prod(shape)) for shape in state.program.shapes)
    reach = sum(magnitude(x.lower, x.upper).reshape(len(x.lower), -1).sum(axis=1) for x in state.values)
    slack = up(rows.slack, 4 * total + 64 * len(state.values)) + TINY * (total + reach)[rows.regions]
    return downward(rows.constant - up(slack))


def dot(a: Array, b: Array) -> Array:
    """Row by row. Shapes: (P, *shape), (P, *shape) -> (P,)."""
    return np.einsum("pi,pi->p", a.reshape(len(a), -1), b.reshape(len(b), -1))
