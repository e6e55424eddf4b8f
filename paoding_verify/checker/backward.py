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

Twins z_f, z_g whose difference d = z_f - z_g is bounded are coupled in a pass. Let a and b be the coefficients of
act(z_f) and act(z_g). Where their signs differ, any part k of the smaller one, with the sign of a, may be split off:

    a act(z_f) + b act(z_g) = (a - k) act(z_f) + (b + k) act(z_g) + k D,     D = act(z_f) - act(z_g).

Every activation of the whitelist rises with slope at most 1, so D lies between 0 and d, min(d, 0) <= D <= max(d, 0),
and lines below and above these on the box of d are those of a ReLU. k times the line gives coefficients +m on z_f and
-m on z_g. Which share of min(|a|, |b|) is split off is decided by a heuristic, or as the certificate says; k is a float
in any case. The errors e of both values weigh |k| more, and a - k, b + k, k * slope round once each.

Sources: Zhang et al., arXiv 1811.00866 (the bounds); Paulsen et al., ReluDiff, arXiv 2001.03662, and NeuroDiff, arXiv
2009.09943 (coupling); the error terms follow `rounding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.intervals import SLACK, Box, Enclosure
from paoding_verify.checker.program import Program, Step, num_units
from paoding_verify.checker.relax import Lines, rectifier_lines, scatter_cells
from paoding_verify.checker.rounding import TINY, U64, downward, gamma, magnitude, up
from paoding_verify.evidence.certificate import NO_HINT, SCALE, Slopes
from paoding_verify.network.graph import Array, MaxPool2d, is_activation, is_linear
from paoding_verify.network.linear import product, transpose

__all__ = ["Indices", "Pass", "State", "take_back"]

Indices = npt.NDArray[np.intp]


@dataclass(eq=False)
class State:
    """Bounds and lines known so far; grows step by step. Arrays about N regions may have one entry for all of them."""

    program: Program
    values: list[Enclosure]
    lines: dict[int, Lines] = field(default_factory=dict)
    """Step -> its lines."""
    differences: dict[int, Box] = field(default_factory=dict)
    """Value of g that continues one of f -> what that one less it may be; empty: nothing is coupled."""
    slopes: Sequence[Slopes] = ()
    """One for all regions, or one for each; none: adaptive slopes everywhere."""
    shares: Sequence[Slopes] = ()
    """In the same way, for coupled units; none: all or nothing everywhere."""


@dataclass(eq=False)
class Pass:
    """A backward pass over P rows at once; see the invariant above."""

    start: int
    """Where it starts, as certificates number it: number of an activation node, or of nodes for the property's rows."""
    numbers: Indices
    """(P,) for each row its row of the certificate's tables about this start."""
    regions: Indices
    """(P,) region of each row."""
    coefficients: dict[int, Array]
    """Value -> (P, *shape)."""
    constant: Array
    """(P,)"""
    coupled: bool = True
    """Whether what is known of differences is used."""
    credits: dict[int, Array] = field(default_factory=dict)
    """Value -> (P, *shape) m with m_j v_j >= 0 wherever the rows are to hold; m is taken off the coefficient of v."""
    slack: Array = field(default_factory=lambda: np.zeros(1))
    """(P,) or (1,)"""

    def of(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The entries of an array about regions that the rows are about. Shapes: (N, *shape) -> (P or 1, *shape)."""
        return array if len(array) == 1 else array[self.regions]

    def give(self, value: int, coefficient: Array, values: Sequence[Enclosure]) -> None:
        """Adds coefficients to those that a value has already."""
        before = self.coefficients.get(value)
        if before is not None:
            coefficient = before + coefficient
            self.spend(coefficient, 2 * U64 * values[value].magnitude)
        self.coefficients[value] = coefficient

    def spend(self, coefficient: Array, charge: Array) -> None:
        """Enlarges the slack by |coefficient| . charge. Shapes: (P, *shape), (N, *shape)."""
        self.slack = self.slack + _dot(np.abs(coefficient), self.of(charge))

    def shift(self, amount: Array) -> None:
        """Adds to the constant; the rounding of the sum goes into the slack."""
        self.constant = self.constant + amount
        self.slack = self.slack + 2 * U64 * np.abs(self.constant)

    def hinted(self, tables: Sequence[Slopes], step: Step, default: Array) -> Array:
        """The certificate's numbers for the rows, `default` where it has none.

        Shapes: (P or 1, *shape) -> (P, *shape).
        """
        regions, row_of = np.unique(self.regions if len(tables) > 1 else 0 * self.regions, return_inverse=True)
        found, count = [np.full((1, num_units(step)), NO_HINT, dtype=np.uint8)], 1
        known, places = {id(None): (0, 0)}, []  # where a table begins among all that are found, and if it has more rows
        for region in regions.tolist():
            table = tables[region].get((self.start, step.number))
            if table is not None and id(table) not in known:
                known[id(table)] = count, int(len(table) > 1)
                found.append(table)
                count += len(table)
            places.append(known[id(table)])
        first, more = np.array(places, dtype=np.intp)[row_of].T
        entries = np.concatenate(found)[first + more * self.numbers]
        if step.kept is not None:
            own, entries = entries, np.full((len(entries), int(np.prod(step.shape))), NO_HINT, dtype=np.uint8)
            entries[:, step.kept] = own
        entries = entries.reshape(-1, *step.shape)
        return np.where(entries == NO_HINT, default, entries / SCALE)


def take_back(state: State, rows: Pass) -> Array:
    """Takes rows back to the input and bounds them there. Shapes: -> (P,)."""
    program, values = state.program, state.values
    for index in range(max({*rows.coefficients, *rows.credits}, default=0) - 1, -1, -1):
        step = program.steps[index]
        if index + 1 in rows.credits:
            rows.give(index + 1, -rows.credits[index + 1], values)
        if rows.coupled and is_activation(step.op):
            _couple(state, index, rows)
        coefficient = rows.coefficients.pop(index + 1, None)
        if coefficient is None:
            continue
        rows.spend(coefficient, values[index + 1].charge)
        if is_linear(step.op):
            for value in step.inputs:
                rows.give(value, transpose(step.op, coefficient, program.shapes[value]), values)
            rows.shift(_dot(coefficient, product(step.op, np.zeros((1, *program.shapes[step.inputs[0]])))))
        else:
            _nonlinear(state, index, rows, coefficient)
    return _conclude(state, rows)


def _nonlinear(state: State, index: int, rows: Pass, coefficient: Array) -> None:
    """One nonlinear step backward, through its lines."""
    step, lines = state.program.steps[index], state.lines[index]
    source, low, high = step.inputs[0], rows.of(lines.lower_slope), rows.of(lines.upper_slope)
    positive, negative = np.maximum(coefficient, 0.0), np.minimum(coefficient, 0.0)
    rows.shift(_dot(positive, rows.of(lines.lower_shift)) + _dot(negative, rows.of(lines.upper_shift)))
    if state.slopes:
        hints = np.clip(rows.hinted(state.slopes, step, low), lines.free_slope, 1.0)
        low = np.where(rows.of(lines.unstable), hints, low)
    parts = [positive * low + negative * high]
    if isinstance(step.op, MaxPool2d) and lines.cells is not None:
        parts = [
            scatter_cells(step.op, part, rows.of(cells), state.program.shapes[source])
            for part, cells in zip((positive * low, negative * high), lines.cells, strict=True)
        ]
    for part in parts:
        rows.give(source, part, state.values)


def _couple(state: State, index: int, rows: Pass) -> None:
    """Moves the part of two twin activations that is bounded as a difference onto what they read."""
    second, step = index + 1, state.program.steps[index]
    first, z_g = state.program.twins.get(second, -1), step.inputs[0]
    a, b = rows.coefficients.get(first), rows.coefficients.get(second)
    if a is None or b is None or z_g not in state.differences:
        return
    z_f, d = state.program.steps[first - 1].inputs[0], state.differences[z_g]
    # max(-d, 0) <= s (-d) + t is the same as min(d, 0) >= s d - t
    above, below = rectifier_lines(0.0, *d), rectifier_lines(0.0, -d[1], -d[0])
    middle = d[0] / 2 + d[1] / 2
    joint = (above.upper_slope - below.upper_slope) * middle + above.upper_shift + below.upper_shift
    alone = _gap(state, first - 1) + _gap(state, index)
    part = rows.of((joint < alone).astype(np.float64))
    if state.shares:  # where one of the two is exact, no share between all and nothing is better
        part = np.where(rows.of((joint > 0) & (alone > 0)), rows.hinted(state.shares, step, part), part)
    k = np.where(np.sign(a) == -np.sign(b), np.copysign(part * np.minimum(np.abs(a), np.abs(b)), a), 0.0)
    positive, negative = np.maximum(k, 0.0), np.minimum(k, 0.0)
    m = positive * rows.of(below.upper_slope) + negative * rows.of(above.upper_slope)
    rows.shift(_dot(negative, rows.of(above.upper_shift)) - _dot(positive, rows.of(below.upper_shift)))
    f, g = state.values[first], state.values[second]
    lost = gamma(int(np.prod(step.shape)) + SLACK, U64) * np.maximum(above.upper_shift, below.upper_shift)
    rows.spend(k, up(f.charge + g.charge + lost + 2 * U64 * magnitude(*d), 8))
    rows.coefficients[first], rows.coefficients[second] = a - k, b + k
    rows.spend(a - k, 2 * U64 * f.magnitude)
    rows.spend(b + k, 2 * U64 * g.magnitude)
    rows.give(z_f, m, state.values)
    rows.give(z_g, -m, state.values)


def _gap(state: State, index: int) -> Array:
    """Distance between the lines of an activation in the middle of its interval."""
    x, lines = state.values[state.program.steps[index].inputs[0]], state.lines[index]
    middle = x.lower / 2 + x.upper / 2
    return (lines.upper_slope - lines.lower_slope) * middle + lines.upper_shift - lines.lower_shift


def _conclude(state: State, rows: Pass) -> Array:
    """The smallest value at the input, less all errors."""
    box, shape = state.values[0], state.program.input_shape
    coefficient = rows.coefficients.pop(0, np.zeros((len(rows.regions), *shape)))
    positive, negative = np.maximum(coefficient, 0.0), np.minimum(coefficient, 0.0)
    rows.shift(_dot(positive, rows.of(box.lower)) + _dot(negative, rows.of(box.upper)))
    rows.spend(coefficient, 2 * (int(np.prod(shape)) + 8) * U64 * box.magnitude)
    total = sum(int(np.prod(shape)) for shape in state.program.shapes)
    reach: Array = sum((x.total for x in state.values), np.zeros(1))
    slack = up(rows.slack, 4 * total + 64 * len(state.values)) + rows.of(TINY * (total + reach))
    return downward(rows.constant - up(slack))


def _dot(a: Array, b: Array) -> Array:
    """Row by row. Shapes: (P, *shape), (P or 1, *shape) -> (P,)."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return a @ b[0] if len(b) == 1 else np.einsum("pi,pi->p", a, b)
