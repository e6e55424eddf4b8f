"""The same bounds in exact rational arithmetic, for small networks: no rounding, nothing to argue about.

Written apart from the float code, with explicit matrices, so that the two can be compared. The lower lines have slope 0
or 1; the slope of an upper line is rounded to 16 bits, so that numbers stay short, and its shift follows exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod

import numpy as np

from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.evaluate import pool_windows
from paoding_verify.network.graph import (
    Add,
    Array,
    AveragePool2d,
    LeakyRelu,
    MaxPool2d,
    Network,
    Op,
    Relu,
    Shape,
    Sigmoid,
    Tanh,
)  # fmt: skip
from paoding_verify.network.linear import product

__all__ = ["exact_forward", "exact_lower_bounds"]

Vector = list[Fraction]
Row = dict[int, Fraction]
Box = tuple[Vector, Vector]

ZERO, ONE = Fraction(0), Fraction(1)
SLOPE_STEPS = 1 << 16


def exact_forward(network: Network, x: Array) -> Vector:
    """Outputs at one point, exactly. Shapes: x (*input_shape) float64 -> num_outputs fractions.

    Raises: UnsupportedOpError for sigmoid and tanh, whose values are not rational.
    """
    values = [_fractions(x)]
    for index, node in enumerate(network.nodes):
        inputs = [values[i] for i in node.inputs]
        op = node.op
        if isinstance(op, Add):
            values.append([a + b for a, b in zip(*inputs, strict=True)])
        elif isinstance(op, (Relu, LeakyRelu)):
            slope = _slope(op)
            values.append([max(a, slope * a) for a in inputs[0]])
        elif isinstance(op, MaxPool2d):
            values.append([max(inputs[0][j] for j in cells) for cells in _cells(op, network.shapes[node.inputs[0]])])
        else:
            matrix, bias = _matrix(op, network.shapes[node.inputs[0]], network.shapes[index + 1])
            values.append([_combine(row, inputs[0]) + b for row, b in zip(matrix, bias, strict=True)])
    return values[-1]


def exact_lower_bounds(network: Network, lower: Array, upper: Array, rows: Array, offsets: Array) -> Vector:
    """Lower bounds of rows . y + offsets over one box, by CROWN in rationals: true without any condition.

    Shapes: lower, upper (*input_shape); rows (R, out); offsets (R,) -> R fractions.
    Raises: UnsupportedOpError for sigmoid and tanh.
    """
    return ExactBounds(network, lower, upper).rows(rows, offsets)


class ExactBounds:
    """Exact bounds of every value of a network on one box."""

    def __init__(self, network: Network, lower: Array, upper: Array) -> None:
        """Bounds the values in order. Raises: UnsupportedOpError for sigmoid and tanh."""
        self.network = network
        self.boxes: list[Box] = [(_fractions(lower), _fractions(upper))]
        self._back: list[Callable[[Row], tuple[list[tuple[int, Row]], Fraction]]] = []
        for index, node in enumerate(network.nodes):
            self._back.append(self._step_back(index))
            size = prod(network.shapes[index + 1])
            low = [self._bound({index + 1: {j: ONE}}, ZERO) for j in range(size)]
            high = [-self._bound({index + 1: {j: -ONE}}, ZERO) for j in range(size)]
            if isinstance(node.op, (Relu, LeakyRelu)):
                before = self.boxes[node.inputs[0]]
                slope = _slope(node.op)
                low = [max(a, z, slope * z) for a, z in zip(low, before[0], strict=True)]
                high = [min(a, max(z, slope * z)) for a, z in zip(high, before[1], strict=True)]
            self.boxes.append((low, high))

    def rows(self, rows: Array, offsets: Array) -> Vector:
        """Lower bounds of rows over the outputs."""
        last = len(self.network.nodes)
        starts = [{j: Fraction(float(c)) for j, c in enumerate(row) if c} for row in rows]
        return [self._bound({last: row}, Fraction(float(c))) for row, c in zip(starts, offsets, strict=True)]

    def _bound(self, coefficients: dict[int, Row], constant: Fraction) -> Fraction:
        """The smallest value of a combination of values, taken back to the input."""
        for index in range(max(coefficients) - 1, -1, -1):
            row = coefficients.pop(index + 1, None)
            if not row:
                continue
            given, shift = self._back[index](row)
            constant += shift
            for value, more in given:
                target = coefficients.setdefault(value, {})
                for j, c in more.items():
                    target[j] = target.get(j, ZERO) + c
        low, high = self.boxes[0]
        return constant + sum((c * (low[j] if c > 0 else high[j]) for j, c in coefficients.get(0, {}).items()), ZERO)

    def _step_back(self, index: int) -> Callable[[Row], tuple[list[tuple[int, Row]], Fraction]]:
        """A function that writes a combination of value index + 1 as one of the values it is computed from."""
        node, shapes = self.network.nodes[index], self.network.shapes
        source = node.inputs[0]
        if isinstance(node.op, Add):
            return lambda row: ([(value, row) for value in node.inputs], ZERO)
        if isinstance(node.op, (Relu, LeakyRelu)):
            lines = [_lines(_slope(node.op), *ends) for ends in zip(*self.boxes[source], strict=True)]
        elif isinstance(node.op, MaxPool2d):
            lines = [_pool_lines(cells, self.boxes[source]) for cells in _cells(node.op, shapes[source])]
        else:
            matrix, bias = _matrix(node.op, shapes[source], shapes[index + 1])
            lines = [(pair, pair) for pair in zip(matrix, bias, strict=True)]
        each = isinstance(node.op, (Relu, LeakyRelu))

        def back(row: Row) -> tuple[list[tuple[int, Row]], Fraction]:
            found: Row = {}
            shift = ZERO
            for j, c in row.items():
                line, t = lines[j][0 if c > 0 else 1]
                shift += c * t
                for k, s in line.items():
                    place = j if each else k
                    found[place] = found.get(place, ZERO) + c * s
            return [(source, found)], shift

        return back


def _lines(slope: Fraction, l: Fraction, u: Fraction) -> tuple[tuple[Row, Fraction], tuple[Row, Fraction]]:  # noqa: E741
    """Lines (slope, shift) below and above max(z, slope z) on [l, u]."""
    if l >= 0 or u <= 0:
        line = ({0: ONE if l >= 0 else slope}, ZERO)
        return line, line
    s = Fraction(round((u - slope * l) / (u - l) * SLOPE_STEPS), SLOPE_STEPS)
    return ({0: ONE if u >= -l else slope}, ZERO), ({0: s}, max(slope * l - s * l, u - s * u))


def _pool_lines(cells: list[int], box: Box) -> tuple[tuple[Row, Fraction], tuple[Row, Fraction]]:
    """The cell of the largest lower bound; the largest upper bound."""
    best = max(cells, key=lambda j: box[0][j])
    below = ({best: ONE}, ZERO)
    if all(box[1][j] <= box[0][best] for j in cells if j != best):
        return below, below
    return below, ({}, max(box[1][j] for j in cells))


def _matrix(op: Op, source: Shape, target: Shape) -> tuple[list[Row], Vector]:
    """A linear operation as sparse rows and a bias, exactly: one product with each unit vector does not round."""
    if isinstance(op, (Sigmoid, Tanh)):
        raise UnsupportedOpError(f"{type(op).__name__} has no exact rational value; use the float checker")
    bias = product(op, np.zeros((1, *source))).reshape(-1)
    columns = product(op, np.eye(prod(source)).reshape(-1, *source), bias=False).reshape(-1, prod(target))
    average = isinstance(op, AveragePool2d)
    rows: list[Row] = [{} for _ in range(prod(target))]
    for j, i in zip(*np.nonzero(columns), strict=True):
        weight = float(columns[j, i])
        rows[i][int(j)] = Fraction(1, round(1 / weight)) if average else Fraction(weight)
    return rows, _fractions(bias)


def _cells(op: MaxPool2d, source: Shape) -> list[list[int]]:
    """For every window the flat numbers of the cells it sees."""
    windows = pool_windows(op, np.arange(float(prod(source))).reshape(1, *source), -1.0)[0]
    flat = np.moveaxis(windows, 1, -1).reshape(-1, windows.shape[1])
    return [[int(j) for j in cells if j >= 0] for cells in flat]


def _slope(op: Relu | LeakyRelu) -> Fraction:
    return Fraction(op.slope) if isinstance(op, LeakyRelu) else ZERO


def _combine(row: Row, x: Vector) -> Fraction:
    return sum((c * x[j] for j, c in row.items()), ZERO)


def _fractions(x: Array) -> Vector:
    return [Fraction(float(v)) for v in x.reshape(-1)]
