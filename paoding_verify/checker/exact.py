"""Bounds of a program by CROWN in exact rational arithmetic: no rounding, nothing to argue about.

Written apart from the float code, with explicit matrices, so that the two can be compared. Slopes of lines are rounded
to multiples of 2^-48 and bounds of units outward to multiples of 2^-60, which keeps numbers short and lines valid: the
shift of a line follows from its slope exactly. What is proved is the semantics `real`: outputs on exact numbers, of the
parameters in the file. What float32 programs compute is not looked at here.

Source: Zhang et al., arXiv 1811.00866.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from fractions import Fraction
from typing import Self

import numpy as np

from paoding_verify.checker.exact_numbers import STEPS, Exact, Flags, Numbers, larger, placed, smaller, where
from paoding_verify.checker.exact_ops import (
    Box,
    ExactProgram,
    Linear,
    Lines,
    image,
    pool_lines,
    rectifier_lines,
    slope_of,
)  # fmt: skip
from paoding_verify.checker.program import Step, check_slopes, single_program
from paoding_verify.errors import SoundnessError
from paoding_verify.evidence.certificate import NO_HINT, SCALE, Slopes
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    LeakyRelu,
    MaxPool2d,
    Network,
    Permute,
    Relu,
    Reshape,
    is_linear,
)  # fmt: skip

__all__ = ["ExactBounds", "Origin", "Rows", "by_part", "exact_lower_bounds", "give", "hinted", "outward"]

Origin = tuple[int, Numbers]
"""Start of a backward pass as certificates number it, and for each of its P rows the row of the tables about it."""
Rows = dict[int, Exact]
"""Value -> coefficients (P, units)."""


def exact_lower_bounds(network: Network, lower: Array, upper: Array, rows: Array, offsets: Array) -> list[Fraction]:
    """Lower bounds of rows . y + offsets over one box: true without any condition.

    Shapes: lower, upper (*input_shape); rows (R, out); offsets (R,) -> R fractions.
    Raises: UnsupportedOpError for sigmoid and tanh; InputError if a layer is too large.
    """
    return ExactBounds(ExactProgram(single_program(network)), lower, upper).rows(rows, offsets).fractions


class ExactBounds:
    """Exact bounds of every value of a program on one box, or on P parts of it; networks of a pair are bounded apart.

    `boxes` has the bounds of every value, of shape (units,) or (P, units).
    """

    def __init__(
        self, exact: ExactProgram, lower: Array, upper: Array, *, slopes: Slopes | None = None, num_rows: int = 0
    ) -> None:
        """Bounds the values in order. Raises: as `exact_lower_bounds`; InputError if the slopes do not fit."""
        self.program, self.parts, self._slopes = exact.program, exact.parts, slopes or {}
        check_slopes(self.program, self._slopes, num_rows)
        self.boxes: list[Box] = [(Exact.of(lower.reshape(-1)), Exact.of(upper.reshape(-1)))]
        self.mixed = [0]
        """For every value whether backward passes may improve its intervals: 2 or more."""
        self.errors: list[Exact | None] = []
        self._lines: dict[int, Lines] = {}
        for index, (step, part) in enumerate(zip(self.program.steps, self.parts, strict=True)):
            self.mixed.append(sum(self.mixed[value] for value in step.inputs) + _mixes(step))
            box = self.boxes[step.inputs[0]]
            self.errors.append(part.error(box) if isinstance(part, Linear) else None)
            if isinstance(part, Linear):
                box = part.image(box)
            elif isinstance(step.op, Add):
                other = self.boxes[step.inputs[1]]
                box = box[0] + other[0], box[1] + other[1]
            elif not isinstance(step.op, Reshape):
                self._lines[index] = rectifier_lines(slope_of(step.op), box) if part is None else pool_lines(part, box)
                box = image(step.op, box, part)
            self.boxes.append(outward(box))
            self._tighten(index + 1)
            self._settle(index + 1)

    def rows(self, rows: Array, offsets: Array, numbers: Numbers | None = None, *, taken: Rows | None = None) -> Exact:
        """Lower bounds of rows over the outputs, or of row number k of them on part k. Shapes: (P, out) -> (P,)."""
        return self._rows(rows, offsets, numbers, taken)

    def take_hints(self, own: Sequence[tuple[Slopes, Slopes]], numbers: Numbers) -> None:
        """Gives every part slopes and shares for one row of the property: its own, or else the certificate's for the
        row of that number. Rows of the property are numbered by parts from then on.
        """
        self._slopes = by_part(self._slopes, [slopes for slopes, _ in own], numbers, len(self.program.steps))

    def _rows(
        self, rows: Array, offsets: Array, numbers: Numbers | None, taken: Rows | None, *, joint: bool = False
    ) -> Exact:
        widths = [self.program.shapes[value][0] for value in self.program.outputs]
        pieces = np.split(np.asarray(rows, dtype=np.float64), np.cumsum(widths)[:-1], axis=1)
        start = {value: Exact.of(piece) for value, piece in zip(self.program.outputs, pieces, strict=True)}
        origin = len(self.program.steps), np.arange(len(rows)) if numbers is None else numbers
        return self._lowest(start, Exact.of(offsets), origin, joint=joint, taken=taken)

    def _lowest(
        self, rows: Rows, constant: Exact, origin: Origin, *, joint: bool = False, taken: Rows | None = None
    ) -> Exact:
        """The least that combinations of values can be, taken back to the input. Shapes: (P, units) each -> (P,).

        taken: value -> multiples of it that are at least 0 wherever the rows are to hold; they are taken off.
        """
        for index in range(max(rows) - 1, -1, -1):
            step, part, error = self.program.steps[index], self.parts[index], self.errors[index]
            if taken is not None and index + 1 in taken:
                give(rows, index + 1, -taken[index + 1])
            if joint:
                constant = constant + self._couple(index, rows, origin)
            row = rows.pop(index + 1, None)
            if row is None:
                continue
            if error is not None:
                constant = constant - (abs(row) * error).total()
            if isinstance(part, Linear):
                constant = constant + (row @ part.bias)
                row = row @ part.matrix
            elif index in self._lines:
                lines = self._lines[index]
                constant = constant + (row.below * lines.shift).total()
                if part is None:
                    row = row.above * self._chosen(step, lines.below, origin) + row.below * lines.above
                else:
                    row = row.above @ lines.below + row.below @ lines.above
            for value in step.inputs:
                give(rows, value, row)
        low, high = self.boxes[0]
        return constant + (rows[0].above @ low) + (rows[0].below @ high)

    def within(self, narrower: dict[int, Box]) -> tuple[Self, Flags]:
        """The same on P parts of the box, on each of which some values have narrower bounds (P, units), and which of
        the parts are empty since two bounds exclude each other.
        """
        parts = copy(self)
        parts.boxes, parts._lines = list(self.boxes), dict(self._lines)
        count = len(next(iter(narrower.values()))[0].numbers) if narrower else 1
        empty = np.zeros(count, dtype=bool)
        for value, box in narrower.items():
            parts.boxes[value] = box
            empty |= (box[1] < box[0]).any(axis=-1)
            for index in self.program.readers[value]:
                op = self.program.steps[index].op
                if isinstance(op, (Relu, LeakyRelu)):
                    parts._lines[index] = rectifier_lines(slope_of(op), box)
        return parts, empty

    def split(self, value: int) -> Flags:
        """Units of a value that may have either sign."""
        low, high = self.boxes[value]
        return (low.sign < 0) & (high.sign > 0)

    def narrow(self, value: int, low: Exact, high: Exact) -> None:
        """Intersects the bounds of a value with others. Raises: SoundnessError if nothing is left."""
        box = larger(self.boxes[value][0], low), smaller(self.boxes[value][1], high)
        if (box[1] < box[0]).any():
            raise SoundnessError(f"two exact bounds of value {value} exclude each other")
        self.boxes[value] = outward(box)

    def extremes(self, signs: dict[int, int], units: Numbers, origin: int, *, joint: bool) -> Exact:
        """Lower bounds of sum over values of sign * value[unit]. Shapes: (units,) -> same."""
        first, sign = next(iter(signs.items()))
        eye = np.zeros((len(units), self.boxes[first][0].numbers.size), dtype=object)
        eye[np.arange(len(units)), units] = 1
        rows = {value: Exact(s * eye) for value, s in signs.items()}
        numbers = np.full(len(units), int(sign < 0))  # certificates name lower bounds before upper ones
        return self._lowest(rows, Exact.zeros(len(units)), (origin, numbers), joint=joint)

    def _tighten(self, value: int) -> None:
        """Bounds units by backward passes where that may help."""
        readers = [self.program.steps[r] for r in self.program.readers[value]]
        step = next((s for s in readers if not is_linear(s.op)), None)
        if step is None or self.mixed[value] < 2:
            return
        low, high = self.boxes[value]
        units = np.flatnonzero(low < high if isinstance(step.op, MaxPool2d) else self.split(value))
        if not len(units):
            return
        below, above = (self.extremes({value: sign}, units, step.number, joint=False) for sign in (1, -1))
        self.narrow(value, placed(low, units, below), placed(high, units, -above))

    def _settle(self, value: int) -> None:
        """Called when the bounds of a value are known; pairs know more."""

    def _couple(self, index: int, rows: Rows, origin: Origin) -> Exact:
        """Called before step `index` is taken back: may move coefficients, and returns what is to be added."""
        return Exact.zeros()

    def _chosen(self, step: Step, default: Exact, origin: Origin) -> Exact:
        """Lower slopes, with those of the certificate where a unit is split. Shapes: -> (P, units)."""
        chosen = hinted(self._slopes, step, default, self.split(step.inputs[0]), origin)
        return larger(chosen, slope_of(step.op))


def give(rows: Rows, value: int, row: Exact) -> None:
    """Adds coefficients to those that a value has already."""
    rows[value] = (rows[value] + row if value in rows else row).shortened()


def hinted(tables: Slopes, step: Step, default: Exact, free: Flags, origin: Origin) -> Exact:
    """Numbers of a certificate for some rows, where they are free; else the default. Shapes: -> (P, units)."""
    start, numbers = origin
    table = tables.get((start, step.number))
    if table is None:
        return default
    entries = table[numbers if len(table) > 1 else np.zeros_like(numbers)]
    if step.kept is not None:
        own = entries
        entries = np.full((len(own), int(np.prod(step.shape))), NO_HINT, dtype=np.uint8)
        entries[:, step.kept] = own
    chosen = np.rint(entries / SCALE * STEPS).astype(np.int64).astype(object)
    return where(free & (entries != NO_HINT), Exact(chosen, Fraction(1, STEPS)), default)


def by_part(tables: Slopes, own: Sequence[Slopes], numbers: Numbers, end: int) -> Slopes:
    """Tables with one row for each part; those for hidden units stay as they are. See `ExactBounds.take_hints`."""
    result = dict(tables)
    for key in {key for each in (tables, *own) for key in each if key[0] == end}:
        general = tables.get(key)
        units = next(each[key].shape[1] for each in (tables, *own) if key in each)
        rows = np.full((len(own), units), NO_HINT, dtype=np.uint8)
        for part, (each, number) in enumerate(zip(own, numbers, strict=True)):
            if key in each:
                rows[part] = each[key][0]
            elif general is not None:
                rows[part] = general[number if len(general) > 1 else 0]
        result[key] = rows
    return result


def outward(box: Box) -> Box:
    """To short numbers."""
    return box[0].rounded(up=False), box[1].rounded(up=True)


def _mixes(step: Step) -> int:
    """How much of the independence of inputs a step destroys: sums of independent inputs have exact intervals."""
    if isinstance(step.op, (Affine, Reshape, Permute)):
        return 0
    return 1 if is_linear(step.op) and not isinstance(step.op, Add) else 2
