"""Operations of a network in exact arithmetic: values at points, matrices, lines.

Parameters that were folded while reading (`network.folding`) are not quite those of the file; `Linear.error` is what
they may be off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm, prod

import numpy as np

from paoding_verify.checker.exact_numbers import Exact, alike, larger, where
from paoding_verify.checker.program import Program
from paoding_verify.errors import InputError, UnsupportedOpError
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
    Reshape,
    Shape,
    Sigmoid,
    Tanh,
)  # fmt: skip
from paoding_verify.network.linear import absolute, product

__all__ = [
    "Box", "Cells", "ExactProgram", "Linear", "Lines", "all_exact_values", "exact_values", "image", "largest", "linear",
    "pool_cells", "pool_lines", "rectifier_lines", "slope_of", "times",
]  # fmt: skip

Box = tuple[Exact, Exact]
Cells = Sequence[list[int]]
"""For every window of a max pooling the flat numbers of the cells that it sees."""

MAX_MATRIX = 1 << 23
"""Entries of the largest layer, written as a matrix."""


@dataclass(frozen=True, eq=False)
class Linear:
    """y = matrix @ x + bias, give or take what folding may have changed."""

    matrix: Exact
    bias: Exact
    magnitude: Exact
    """Sum of the magnitudes that were folded into each bias."""
    roundings: int
    """Of every parameter; 0 for parameters that are those of the file."""

    def image(self, box: Box) -> Box:
        """Bounds of y."""
        error = self.error(box)
        low, high = times(self.matrix, box)
        margin = Exact.zeros() if error is None else error
        return low + self.bias - margin, high + self.bias + margin

    def error(self, box: Box) -> Exact | None:
        """How far y may be off for x in a box; None if nothing was folded."""
        if not self.roundings:
            return None
        size = (abs(self.matrix) @ larger(-box[0], box[1]).above) + self.magnitude
        share = Fraction(2 * self.roundings, 2**53 - 2 * self.roundings)
        return Exact(size.numbers, size.scale * share).rounded(up=True)


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines z -> below z and z -> above z + shift around a nonlinear step: slopes of units, matrices of a pooling."""

    below: Exact
    above: Exact
    shift: Exact


@dataclass(frozen=True, eq=False)
class ExactProgram:
    """A program with its matrices."""

    program: Program

    @cached_property
    def parts(self) -> tuple[Linear | Cells | None, ...]:
        """For every step its matrix, or the cells of a max pooling. Raises: as `all_exact_values`."""
        shapes = self.program.shapes
        found: list[Linear | Cells | None] = []
        for index, step in enumerate(self.program.steps):
            if isinstance(step.op, (Add, Reshape, Relu, LeakyRelu)):
                found.append(None)
            elif isinstance(step.op, MaxPool2d):
                found.append(pool_cells(step.op, shapes[step.inputs[0]]))
            else:
                found.append(linear(step.op, shapes[step.inputs[0]], shapes[index + 1]))
        return tuple(found)


def exact_values(network: Network, points: Array) -> Exact:
    """Outputs at points, exactly. Shapes: points (N, *input_shape) float64 -> (num_outputs, N). Raises: see below."""
    return all_exact_values(network, points)[-1]


def all_exact_values(network: Network, points: Array) -> list[Exact]:
    """Every value at points, the input first. Shapes: -> (units, N) each.

    Raises: UnsupportedOpError for sigmoid and tanh, whose values are not rational; InputError if a layer is too large.
    """
    values = [Exact.of(points.reshape(len(points), -1).T)]
    for index, node in enumerate(network.nodes):
        op, first, shapes = node.op, values[node.inputs[0]], network.shapes
        if isinstance(op, Add):
            values.append(first + values[node.inputs[1]])
        elif isinstance(op, (Relu, LeakyRelu)):
            values.append(first.above + slope_of(op) * first.below)
        elif isinstance(op, MaxPool2d):
            values.append(largest(pool_cells(op, shapes[node.inputs[0]]), first))
        else:
            step = linear(op, shapes[node.inputs[0]], shapes[index + 1])
            values.append((step.matrix @ first) + step.bias[:, None])
    return values


def times(matrix: Exact, box: Box) -> Box:
    """Bounds of matrix @ x."""
    low, high = box
    return (matrix.above @ low) + (matrix.below @ high), (matrix.above @ high) + (matrix.below @ low)


def image(op: Op, box: Box, cells: Cells | None) -> Box:
    """Bounds of a nonlinear step, which rises with what it reads."""
    if cells is not None:
        return largest(cells, box[0]), largest(cells, box[1])
    low, high = (end.above + slope_of(op) * end.below for end in box)
    return low, high


def rectifier_lines(slope: Exact, box: Box) -> Lines:
    """Lines below and above max(z, slope z) on a box.

    For l >= 0 it is z, for u <= 0 slope z. Otherwise any z -> a z with slope <= a <= 1 lies below.
    """
    low, high = box
    zero, one = Exact.zeros(), Exact.of(1.0)
    still = where(zero <= low, one, slope)
    sloped, shift = _line_over(low, high, slope * low, high)
    split = (low < zero) & (zero < high)
    below = where(split, where(-low <= high, one, slope), still)
    return Lines(below, where(split, sloped, still), where(split, shift, zero))


def pool_lines(cells: Cells, box: Box) -> Lines:
    """Below, the cell of the largest lower bound. Above, the cell c of the largest upper bound, and U, the largest
    upper bound of the others: max(z_c, U) is convex in z_c.
    """
    size = (len(cells), box[0].numbers.size)
    if prod(size) > MAX_MATRIX:
        raise InputError("a pooling layer is too large for exact arithmetic")
    low, high = box
    (lows, highs), scale = alike(low, high)
    first = np.array([max(window, key=lambda j: lows[j]) for window in cells])
    top = np.array([max(window, key=lambda j: highs[j]) for window in cells])
    rest = [max([highs[j] for j in window if j != c] or [lows[c]]) for window, c in zip(cells, top, strict=True)]
    others = Exact(np.array(rest, dtype=object), scale)
    lower, upper = low[top], high[top]
    slope, shift = _line_over(lower, upper, larger(lower, others), larger(upper, others))
    below, above = Exact.zeros(*size).numbers, Exact.zeros(*size).numbers
    below[np.arange(len(cells)), first], above[np.arange(len(cells)), top] = 1, slope.numbers
    return Lines(Exact(below), Exact(above, slope.scale), shift)


def linear(op: Op, source: Shape, target: Shape) -> Linear:
    """A linear operation of one input, exactly: a product with a unit vector does not round.

    Raises: as `all_exact_values`.
    """
    if isinstance(op, (Sigmoid, Tanh)):
        raise UnsupportedOpError(f"{type(op).__name__} has no exact rational value; use the float checker")
    if prod(source) * prod(target) > MAX_MATRIX:
        raise InputError(f"a layer from {source} to {target} is too large for exact arithmetic")
    nothing = np.zeros((1, *source))
    bias, magnitude = (Exact.of(product(each, nothing).reshape(-1)) for each in (op, absolute(op)))
    columns = product(op, np.eye(prod(source)).reshape(-1, *source), bias=False).reshape(-1, prod(target)).T
    matrix = _shares(columns) if isinstance(op, AveragePool2d) else Exact.of(columns)
    return Linear(matrix, bias, magnitude, op.roundings if isinstance(op, (Dense, Conv2d, Affine)) else 0)


def pool_cells(op: MaxPool2d, source: Shape) -> Cells:
    """The cells of every window."""
    windows = pool_windows(op, np.arange(float(prod(source))).reshape(1, *source), -1.0)[0]
    flat = np.moveaxis(windows, 1, -1).reshape(-1, windows.shape[1])
    return [[int(j) for j in cells if j >= 0] for cells in flat]


def slope_of(op: Op) -> Exact:
    """Slope of a rectifier below zero."""
    return Exact.of(op.slope if isinstance(op, LeakyRelu) else 0.0)


def _line_over(low: Exact, high: Exact, at_low: Exact, at_high: Exact) -> tuple[Exact, Exact]:
    """Slope and shift of a line that lies above a convex function of these values at the ends, so above all of it."""
    slope = (at_high - at_low).over(high - low)
    return slope, larger(at_low - slope * low, at_high - slope * high)


def largest(cells: Cells, values: Exact) -> Exact:
    """The largest value of every window."""
    return Exact(np.array([values.numbers[window].max(axis=0) for window in cells], dtype=object), values.scale)


def _shares(columns: Array) -> Exact:
    """Quotients 1 / n of an average, from their floats."""
    counts = np.where(columns > 0, np.rint(1 / np.where(columns > 0, columns, 1)), 0).astype(int).astype(object)
    common = lcm(*{int(c) for c in counts.reshape(-1) if c})
    shares = np.array([common // c if c else 0 for c in counts.reshape(-1)], dtype=object)
    return Exact(shares.reshape(counts.shape), Fraction(1, common))
