"""The same bounds in exact rational arithmetic: no rounding, nothing to argue about.

Written apart from the float code, with explicit matrices, so that the two can be compared. Numbers are whole arrays of
Python integers with one common rational scale, so that a product of matrices is one of integers. Slopes of lines are
multiples of 2^-16 and bounds of units are rounded outward to multiples of 2^-40, which keeps numbers short and lines
valid: the shift of a line follows from its slope exactly. Parameters that were folded while reading (`network.folding`)
are not quite those of the file; bounds allow for what they may be off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, gcd, lcm, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.program import Program, Step, check_slopes, single_program
from paoding_verify.errors import InputError, UnsupportedOpError
from paoding_verify.evidence.certificate import NO_HINT, SCALE, Slopes
from paoding_verify.network.evaluate import pool_windows
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Network,
    Op,
    Relu,
    Shape,
    Sigmoid,
    Tanh,
    is_linear,
)  # fmt: skip
from paoding_verify.network.linear import absolute, product

__all__ = ["Exact", "ExactBounds", "exact_forward", "exact_lower_bounds", "exact_values"]

Numbers = npt.NDArray[Any]
Vector = list[Fraction]
Line = tuple["Exact", "Exact"]
"""A matrix (outputs x inputs), or slopes of an element-wise operation; and shifts."""

STEPS = 1 << 16
"""Slopes are multiples of 1 / STEPS."""
FINEST = Fraction(1, 1 << 40)
"""Bounds of units are rounded outward to multiples of this."""
MAX_MATRIX = 1 << 23
"""Entries of the largest layer, written as a matrix."""


@dataclass(frozen=True, eq=False)
class Exact:
    """The array numbers * scale."""

    numbers: Numbers
    """Python integers."""
    scale: Fraction
    """Positive."""

    @classmethod
    def of(cls, x: Array) -> Exact:
        """Floats as they are."""
        mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
        least = int(exponent[mantissa != 0].min()) if mantissa.any() else 0
        shifts = np.where(mantissa != 0, exponent - least, 0).astype(object)
        numbers = np.asarray((mantissa * 2.0**53).astype(np.int64).astype(object) * 2**shifts, dtype=object)
        return cls(numbers, Fraction(2) ** (least - 53)).shortened()

    def shortened(self) -> Exact:
        """The same array with the smallest numbers."""
        common = gcd(*(int(n) for n in self.numbers.reshape(-1))) or 1
        return Exact(self.numbers // common, self.scale * common)

    def beside(self, other: Exact) -> tuple[Numbers, Numbers, Fraction]:
        """The numbers of both, and one scale for them."""
        a, b = self.scale, other.scale
        scale = Fraction(gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)
        return self.numbers * int(a / scale), other.numbers * int(b / scale), scale

    def __add__(self, other: Exact) -> Exact:
        mine, others, scale = self.beside(other)
        return Exact(mine + others, scale)

    def __mul__(self, other: Exact) -> Exact:
        return Exact(self.numbers * other.numbers, self.scale * other.scale)

    def __matmul__(self, other: Exact) -> Exact:
        return Exact(np.asarray(self.numbers @ other.numbers, dtype=object), self.scale * other.scale)

    def __neg__(self) -> Exact:
        return Exact(-self.numbers, self.scale)

    def __getitem__(self, places: Any) -> Exact:
        return Exact(self.numbers[places], self.scale)

    @property
    def above(self) -> Exact:
        """Its positive part."""
        return Exact(np.maximum(self.numbers, 0), self.scale)

    @property
    def below(self) -> Exact:
        """Its negative part."""
        return Exact(np.minimum(self.numbers, 0), self.scale)

    @property
    def fractions(self) -> Vector:
        """One by one, flat."""
        return [int(n) * self.scale for n in self.numbers.reshape(-1)]

    def rounded(self, *, up: bool) -> Exact:
        """To multiples of FINEST, upward or downward."""
        ratio = self.scale / FINEST
        sign = -1 if up else 1
        return Exact(sign * (sign * self.numbers * ratio.numerator // ratio.denominator), FINEST)


def exact_forward(network: Network, x: Array) -> Vector:
    """Outputs at one point, exactly. Shapes: x (*input_shape) float64 -> num_outputs fractions. Raises: see below."""
    return exact_values(network, x[None]).fractions


def exact_values(network: Network, points: Array) -> Exact:
    """Outputs at points, exactly. Shapes: points (N, *input_shape) float64 -> (num_outputs, N).

    Raises: UnsupportedOpError for sigmoid and tanh, whose values are not rational; InputError if a layer is too large.
    """
    values = [Exact.of(points.reshape(len(points), -1).T)]
    for index, node in enumerate(network.nodes):
        op, first, shapes = node.op, values[node.inputs[0]], network.shapes
        if isinstance(op, Add):
            values.append(first + values[node.inputs[1]])
        elif isinstance(op, (Relu, LeakyRelu)):
            values.append(first.above + Exact.of(_slope(op)) * first.below)
        elif isinstance(op, MaxPool2d):
            cells = _cells(op, shapes[node.inputs[0]])
            values.append(Exact(np.stack([first.numbers[c].max(axis=0) for c in cells]), first.scale))
        else:
            matrix, bias = _matrix(op, shapes[node.inputs[0]], shapes[index + 1])
            values.append((matrix @ first) + bias[:, None])
    return values[-1]


def exact_lower_bounds(network: Network, lower: Array, upper: Array, rows: Array, offsets: Array) -> Vector:
    """Lower bounds of rows . y + offsets over one box, by CROWN in rationals: true without any condition.

    Shapes: lower, upper (*input_shape); rows (R, out); offsets (R,) -> R fractions.
    Raises: UnsupportedOpError for sigmoid and tanh; InputError if a layer is too large.
    """
    return ExactBounds(single_program(network), lower, upper).rows(rows, offsets)


class ExactBounds:
    """Exact bounds of every value of a program on one box; twins are bounded apart."""

    def __init__(
        self, program: Program, lower: Array, upper: Array, slopes: Slopes | None = None, num_rows: int = 0
    ) -> None:
        """Bounds the values in order. Raises: as `exact_lower_bounds`; InputError if the slopes do not fit."""
        check_slopes(program, slopes or {}, num_rows)
        self._program, self._slopes = program, slopes or {}
        self.boxes: list[tuple[Exact, Exact]] = [(Exact.of(lower.reshape(-1)), Exact.of(upper.reshape(-1)))]
        self._lines: list[tuple[Line, Line]] = []
        self._errors: list[Exact | None] = []
        for index, step in enumerate(program.steps):
            self._lines.append(self._both_lines(step, program.shapes[index + 1]))
            box = self._images(step, *self._lines[index])
            source = step.inputs[0]
            error = _folding_error(step.op, self._lines[index][0][0], program.shapes[source], *self.boxes[source])
            self._errors.append(error)
            if error is not None:
                box = box[0] + -error, box[1] + error
            if is_linear(step.op) and any(not is_linear(program.steps[r].op) for r in program.readers[index + 1]):
                box = self._tightened(index + 1, *box)
            self.boxes.append((box[0].rounded(up=False), box[1].rounded(up=True)))

    def rows(self, rows: Array, offsets: Array) -> Vector:
        """Lower bounds of rows over the outputs."""
        program = self._program
        widths = [program.shapes[value][0] for value in program.outputs]
        pieces = map(Exact.of, np.split(rows, np.cumsum(widths)[:-1], axis=1))
        start = dict(zip(program.outputs, pieces, strict=True))
        return self._bound(start, Exact.of(offsets), (len(program.steps), np.arange(len(rows)))).fractions

    def _images(self, step: Step, below: Line, above: Line) -> tuple[Exact, Exact]:
        """Bounds of the value that a step computes, by intervals."""
        low, high = self.boxes[step.inputs[0]]
        if isinstance(step.op, Add):
            other = self.boxes[step.inputs[1]]
            return low + other[0], high + other[1]
        if isinstance(step.op, (Relu, LeakyRelu)):
            slope = Exact.of(_slope(step.op))
            return low.above + slope * low.below, high.above + slope * high.below
        (m, t), (n, s) = below, above
        return (m.above @ low) + (m.below @ high) + t, (n.above @ high) + (n.below @ low) + s

    def _tightened(self, value: int, low: Exact, high: Exact) -> tuple[Exact, Exact]:
        """Bounds of a value, with those of backward passes where the sign is open."""
        readers = [self._program.steps[r] for r in self._program.readers[value]]
        step = next(s for s in readers if not is_linear(s.op))
        open_units = np.flatnonzero(np.asarray((low.numbers < 0) & (high.numbers > 0), dtype=bool))
        if isinstance(step.op, MaxPool2d):
            open_units = np.arange(low.numbers.size)
        eye, count = np.zeros((len(open_units), low.numbers.size), dtype=object), len(open_units)
        eye[np.arange(count), open_units] = 1
        if not count:
            return low, high
        found = []
        for number, (sign, box) in enumerate(((1, low), (-1, high))):
            start = {value: Exact(sign * eye, Fraction(1))}
            nothing = Exact(np.zeros(count, dtype=object), Fraction(1))
            better = self._bound(start, nothing, (step.number, np.full(count, number)))
            known, bounds, scale = box.beside(better)
            known[open_units] = sign * np.maximum(sign * known[open_units], bounds)
            found.append(Exact(known, scale))
        return found[0], found[1]

    def _bound(self, coefficients: dict[int, Exact], constant: Exact, origin: tuple[int, Numbers]) -> Exact:
        """The smallest values of combinations of values, taken back to the input. Shapes: (P, units) each -> (P,)."""
        for index in range(max(coefficients) - 1, -1, -1):
            row, step = coefficients.pop(index + 1, None), self._program.steps[index]
            if row is None:
                continue
            (m, t), (n, s) = self._lines[index]
            error = self._errors[index]
            if error is not None:
                constant = constant + -((row.above + -row.below) @ error)
            if isinstance(step.op, Add):
                given = [(value, row) for value in step.inputs]
            elif isinstance(step.op, (Relu, LeakyRelu)):
                m = self._hinted(step, m, origin)
                given = [(step.inputs[0], (row.above * m) + (row.below * n))]
                constant = constant + (row.above @ t) + (row.below @ s)
            else:
                given = [(step.inputs[0], (row.above @ m) + (row.below @ n))]
                constant = constant + (row.above @ t) + (row.below @ s)
            for value, more in given:
                before = coefficients.get(value)
                coefficients[value] = (more if before is None else before + more).shortened()
        row = coefficients[0]
        low, high = self.boxes[0]
        return constant + (row.above @ low) + (row.below @ high)

    def _hinted(self, step: Step, slopes: Exact, origin: tuple[int, Numbers]) -> Exact:
        """Lower slopes for every row, with those of the certificate for unstable units. Shapes: (units,) -> (P, units).

        Any slope between that of the operation and 1 is valid there.
        """
        start, numbers = origin
        table = self._slopes.get((start, step.number))
        if table is None:
            return slopes
        low, high = (end.numbers for end in self.boxes[step.inputs[0]])
        entries = table[numbers if len(table) > 1 else np.zeros_like(numbers)]
        chosen = np.maximum(np.rint(entries / SCALE * STEPS).astype(np.int64), _least(step.op))
        default, hinted, scale = slopes.beside(Exact(chosen.astype(object), Fraction(1, STEPS)))
        return Exact(np.where((low < 0) & (high > 0) & (entries != NO_HINT), hinted, default), scale)

    def _both_lines(self, step: Step, shape: Shape) -> tuple[Line, Line]:
        """Lines below and above a step on its bounds; the same one twice where it is linear."""
        op, source = step.op, step.inputs[0]
        if isinstance(op, Add):
            none = Exact(np.zeros(0, dtype=object), Fraction(1))
            return (none, none), (none, none)
        low, high = self.boxes[source]
        if isinstance(op, MaxPool2d):
            return _pool_lines(_cells(op, self._program.shapes[source]), low, high)
        if isinstance(op, (Relu, LeakyRelu)):
            return _rectifier_lines(Fraction(_slope(op).item()), low.fractions, high.fractions)
        line = _matrix(op, self._program.shapes[source], shape)
        return line, line


def _rectifier_lines(slope: Fraction, low: Vector, high: Vector) -> tuple[Line, Line]:
    """Lines below and above max(z, slope z): on [l, u] with l < 0 < u, slope 1 or (at least) slope below, and above a
    slope near the chord's, with the shift that lifts the line over both ends.
    """
    lines = []
    for l, u in zip(low, high, strict=True):  # noqa: E741 - the usual names
        if l >= 0 or u <= 0:
            exact = Fraction(1) if l >= 0 else slope
            lines.append((exact, exact, Fraction(0)))
        else:
            s = Fraction(round((u - slope * l) / (u - l) * STEPS), STEPS)
            least = Fraction(ceil(slope * STEPS), STEPS)
            lines.append((Fraction(1) if u >= -l else least, s, max(slope * l - s * l, u - s * u)))
    below, above, shifts = (_join(part) for part in zip(*lines, strict=True))
    zero = Exact(np.zeros(len(low), dtype=object), Fraction(1))
    return (below, zero), (above, shifts)


def _pool_lines(cells: Sequence[list[int]], low: Exact, high: Exact) -> tuple[Line, Line]:
    """Below, the cell of the largest lower bound; above, the same cell if it is the largest everywhere, else the
    largest upper bound.
    """
    if len(cells) * low.numbers.size > MAX_MATRIX:
        raise InputError("a pooling layer is too large for exact arithmetic")
    size, zero = (len(cells), low.numbers.size), Exact(np.zeros(len(cells), dtype=object), Fraction(1))
    below, above = np.zeros(size, dtype=object), np.zeros(size, dtype=object)
    lows, highs, shifts = low.fractions, high.fractions, [Fraction(0)] * len(cells)
    for k, window in enumerate(cells):
        best = max(window, key=lambda j: lows[j])
        below[k, best] = 1
        if all(highs[j] <= lows[best] for j in window if j != best):
            above[k, best] = 1
        else:
            shifts[k] = max(highs[j] for j in window)
    return (Exact(below, Fraction(1)), zero), (Exact(above, Fraction(1)), _join(shifts))


def _matrix(op: Op, source: Shape, target: Shape) -> Line:
    """A linear operation as a matrix and a bias, exactly: one product with each unit vector does not round."""
    if isinstance(op, (Sigmoid, Tanh)):
        raise UnsupportedOpError(f"{type(op).__name__} has no exact rational value; use the float checker")
    if prod(source) * prod(target) > MAX_MATRIX:
        raise InputError(f"a layer from {source} to {target} is too large for exact arithmetic")
    bias = product(op, np.zeros((1, *source))).reshape(-1)
    columns = product(op, np.eye(prod(source)).reshape(-1, *source), bias=False).reshape(-1, prod(target)).T
    if isinstance(op, AveragePool2d):
        counts = np.where(columns > 0, np.rint(1 / np.where(columns > 0, columns, 1)), 0).astype(int).astype(object)
        common = lcm(*{int(c) for c in counts.reshape(-1) if c})
        shares = np.array([common // c if c else 0 for c in counts.reshape(-1)], dtype=object)
        return Exact(shares.reshape(counts.shape), Fraction(1, common)), Exact.of(bias)
    return Exact.of(columns), Exact.of(bias)


def _folding_error(op: Op, matrix: Exact, source: Shape, low: Exact, high: Exact) -> Exact | None:
    """How far the outputs of an operation with folded parameters may be off on a box; None if it has none."""
    if not isinstance(op, (Dense, Conv2d, Affine)) or not op.roundings:
        return None
    magnitude = product(absolute(op), np.zeros((1, *source))).reshape(-1)
    size = (matrix.above + -matrix.below) @ (-low.below + high.above) + Exact.of(magnitude)
    count = 2 * op.roundings
    return Exact(size.numbers, size.scale * Fraction(count, 2**53 - count)).rounded(up=True)


def _cells(op: MaxPool2d, source: Shape) -> list[list[int]]:
    """For every window the flat numbers of the cells it sees."""
    windows = pool_windows(op, np.arange(float(prod(source))).reshape(1, *source), -1.0)[0]
    flat = np.moveaxis(windows, 1, -1).reshape(-1, windows.shape[1])
    return [[int(j) for j in cells if j >= 0] for cells in flat]


def _least(op: Op) -> int:
    """The smallest lower slope of an open unit, in 1 / STEPS."""
    return ceil(Fraction(_slope(op).item()) * STEPS)


def _slope(op: Op) -> Array:
    """Slope below zero of a rectifier."""
    return np.asarray(op.slope if isinstance(op, LeakyRelu) else 0.0)


def _join(values: Sequence[Fraction]) -> Exact:
    """Fractions as one array."""
    common = lcm(*(v.denominator for v in values)) if values else 1
    numbers = np.array([int(v * common) for v in values], dtype=object)
    return Exact(numbers, Fraction(1, common))
