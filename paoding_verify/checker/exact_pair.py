"""Bounds of a pair of networks that are close, in exact rational arithmetic.

Twin values z_f, z_g and their difference d = z_f - z_g are bounded together. In a backward pass the coefficients a of
act(z_f) and b of act(z_g) may have opposite signs. Then for any number k

    a act(z_f) + b act(z_g) = (a - k) act(z_f) + (b + k) act(z_g) + k D,     D = act(z_f) - act(z_g),

and D, which lies between 0 and d as act rises with a slope in [0, 1], is bounded by lines in d. This is the text of
`backward.py` again; nothing of its arithmetic is used. That the widened network is the pruned one is checked here.

Source: Paulsen et al., ReluDiff, arXiv 2001.03662, and NeuroDiff, arXiv 2009.09943.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from paoding_verify.checker.alignment import widen
from paoding_verify.checker.exact import ExactBounds, Origin, Rows, by_part, give, hinted, outward
from paoding_verify.checker.exact_numbers import Exact, Flags, Numbers, larger, placed, smaller, where
from paoding_verify.checker.exact_ops import Box, ExactProgram, Linear, Lines, largest, rectifier_lines, times
from paoding_verify.checker.program import check_slopes, pair_program, single_program
from paoding_verify.errors import InputError, SoundnessError
from paoding_verify.evidence.certificate import Slopes
from paoding_verify.network.graph import Add, Array, LeakyRelu, MaxPool2d, Network, Relu, Reshape

__all__ = ["ExactPair", "exact_pair_program"]


def exact_pair_program(f: Network, g: Network, alignment: Sequence[Sequence[int]] | None) -> ExactProgram:
    """Two networks side by side, as twins where the alignment fits. Raises: InputError if a layer is too large."""
    if alignment is not None:
        try:
            wide, kept = widen(f, g, alignment)
        except InputError:
            pass  # bounds of the two apart are valid for any two networks
        else:
            _compare(ExactProgram(single_program(g)), ExactProgram(single_program(wide)), kept)
            return ExactProgram(pair_program(f, wide, kept))
    return ExactProgram(pair_program(f, g, None))


class ExactPair(ExactBounds):
    """Exact bounds of a program of twins, and of their differences."""

    def __init__(
        self,
        exact: ExactProgram,
        lower: Array,
        upper: Array,
        *,
        slopes: Slopes | None = None,
        shares: Slopes | None = None,
        num_rows: int = 0,
    ) -> None:
        """Bounds values and differences in order. Raises: as `ExactBounds`."""
        check_slopes(exact.program, shares or {}, num_rows)
        self._shares = shares or {}
        nothing = Exact.zeros(lower.size)
        self.differences: dict[int, Box] = {0: (nothing, nothing)}
        """Value of g -> bounds of what its twin has more."""
        self._joint: dict[int, tuple[Lines, Lines, Exact, Flags]] = {}
        super().__init__(exact, lower, upper, slopes=slopes, num_rows=num_rows)

    def rows(self, rows: Array, offsets: Array, numbers: Numbers | None = None, *, taken: Rows | None = None) -> Exact:
        """The better of bounds with and without differences."""
        alone, joint = (self._rows(rows, offsets, numbers, taken, joint=joint) for joint in (False, True))
        return larger(alone, joint)

    def take_hints(self, own: Sequence[tuple[Slopes, Slopes]], numbers: Numbers) -> None:
        """As `ExactBounds.take_hints`."""
        super().take_hints(own, numbers)
        self._shares = by_part(self._shares, [shares for _, shares in own], numbers, len(self.program.steps))

    def within(self, narrower: dict[int, Box]) -> tuple[Self, Flags]:
        """As `ExactBounds.within`; differences and twins are narrowed as well."""
        boxes, differences = dict(narrower), dict(self.differences)
        for second, first in self.program.twins.items():
            if first in boxes or second in boxes:
                f, g = boxes.get(first, self.boxes[first]), boxes.get(second, self.boxes[second])
                d = _meet(self.differences[second], (f[0] - g[1], f[1] - g[0]))
                boxes[first] = _meet(f, (g[0] + d[0], g[1] + d[1]))
                boxes[second] = _meet(g, (f[0] - d[1], f[1] - d[0]))
                differences[second] = d
        parts, empty = super().within(boxes)
        parts.differences, parts._joint = differences, {}
        for low, high in differences.values():
            empty = empty | (high < low).any(axis=-1)
        return parts, empty

    def _settle(self, value: int) -> None:
        """Bounds the difference that belongs to a value of g, and intersects the three."""
        first = self.program.twins.get(value)
        if first is None:
            return
        self._meet_all(first, value, self._difference(first, value))
        readers = [self.program.steps[r].op for r in self.program.readers[value]]
        low, high = self.differences[value]
        units = np.flatnonzero((self.split(first) | self.split(value)) & (low < high))
        if self.mixed[value] < 2 or not len(units) or not any(isinstance(op, (Relu, LeakyRelu)) for op in readers):
            return
        below, above = (self.extremes({first: s, value: -s}, units, -1, joint=True) for s in (1, -1))
        self._meet_all(first, value, (placed(low, units, below), placed(high, units, -above)))

    def _meet_all(self, first: int, second: int, found: Box) -> None:
        """d = z_f - z_g, each of the three within what the other two allow."""
        f, g = self.boxes[first], self.boxes[second]
        box = _meet(self.differences.get(second, found), found)
        low, high = outward(_meet(box, (f[0] - g[1], f[1] - g[0])))
        if (high < low).any():
            raise SoundnessError(
                f"two exact bounds of the difference of values {first} and {second} exclude each other"
            )
        self.differences[second] = low, high
        self.narrow(first, g[0] + low, g[1] + high)
        self.narrow(second, f[0] - high, f[1] - low)

    def _difference(self, first: int, second: int) -> Box:
        """The difference of two twin steps from that of their inputs."""
        step, mine, other = self.program.steps[second - 1], self.parts[first - 1], self.parts[second - 1]
        low, high = self.differences[step.inputs[0]]
        if isinstance(mine, Linear) and isinstance(other, Linear):
            # W_f h_f + b_f - (W_g h_g + b_g) = W_f (h_f - h_g) + (W_f - W_g) h_g + (b_f - b_g)
            below, above = times(mine.matrix, (low, high))
            rest = times(mine.matrix - other.matrix, self.boxes[step.inputs[0]])
            bias, errors = mine.bias - other.bias, [self.errors[k - 1] for k in (first, second)]
            below, above = below + rest[0] + bias, above + rest[1] + bias
            for error in errors:
                if error is not None:
                    below, above = below - error, above + error
            return below, above
        if isinstance(step.op, Add):
            more = self.differences[step.inputs[1]]
            return low + more[0], high + more[1]
        if isinstance(step.op, Reshape):
            return low, high
        if isinstance(step.op, MaxPool2d) and not isinstance(other, (Linear, type(None))):
            return -largest(other, -low), largest(other, high)
        z_f, z_g = (self.boxes[self.program.steps[k - 1].inputs[0]] for k in (first, second))
        active = (z_f[0].sign >= 0) & (z_g[0].sign >= 0) & isinstance(step.op, Relu)
        return where(active, low, low.below), where(active, high, high.above)

    def _couple(self, index: int, rows: Rows, origin: Origin) -> Exact:
        """Moves the coupled part of two activations onto what they read."""
        step, second = self.program.steps[index], index + 1
        first = self.program.twins.get(second)
        if first is None or first not in rows or second not in rows or not isinstance(step.op, (Relu, LeakyRelu)):
            return Exact.zeros()
        above, below, share, free = self._joint_lines(index)
        a, b = rows[first], rows[second]
        least = smaller(abs(a), abs(b)) * hinted(self._shares, step, share, free, origin)
        k = where(a.sign * b.sign < 0, where(a.sign < 0, -least, least), Exact.zeros())
        # D <= s d + t by the line above max(d, 0), and D >= s d - t by that above max(-d, 0)
        m = k.above * below.above + k.below * above.above
        rows[first], rows[second] = a - k, b + k
        if step.inputs[0] != 0:
            give(rows, self.program.twins[step.inputs[0]], m)
            give(rows, step.inputs[0], -m)
        return (k.below * above.shift - k.above * below.shift).total()

    def _joint_lines(self, index: int) -> tuple[Lines, Lines, Exact, Flags]:
        """Lines above max(d, 0) and above max(-d, 0), 1 where coupling promises to be tighter than not and 0 elsewhere,
        and where neither of the two is exact, so that shares between may be better.
        """
        if index not in self._joint:
            z_g = self.program.steps[index].inputs[0]
            low, high = self.differences[z_g]
            above, below = rectifier_lines(Exact.of(0.0), (low, high)), rectifier_lines(Exact.of(0.0), (-high, -low))
            joint = _gap(above.above, below.above, above.shift + below.shift, (low, high))
            alone = Exact.zeros()
            for step in (self.program.twins[index + 1] - 1, index):
                lines = self._lines[step]
                box = self.boxes[self.program.steps[step].inputs[0]]
                alone = alone + _gap(lines.above, lines.below, lines.shift, box)
            share = Exact(np.asarray(joint < alone, dtype=int).astype(object))
            self._joint[index] = above, below, share, (joint.sign > 0) & (alone.sign > 0)
        return self._joint[index]


def _gap(above: Exact, below: Exact, shift: Exact, box: Box) -> Exact:
    """Twice the distance of two lines in the middle of a box."""
    return (above - below) * (box[0] + box[1]) + shift + shift


def _meet(one: Box, other: Box) -> Box:
    """What lies in both."""
    return larger(one[0], other[0]), smaller(one[1], other[1])


def _compare(own: ExactProgram, wide: ExactProgram, kept: Sequence[Numbers]) -> None:
    """Units of the network have in the wide one the values that they have in their own, and outputs their places.

    Raises: SoundnessError if they might not.
    """
    places = [np.arange(np.prod(own.program.input_shape)), *kept]
    for index, (step, mine, other) in enumerate(zip(own.program.steps, own.parts, wide.parts, strict=True)):
        out, inp = places[index + 1], places[step.inputs[0]]
        if isinstance(mine, Linear) and isinstance(other, Linear):
            spread = Exact(np.zeros((len(out), other.matrix.numbers.shape[1]), dtype=object), mine.matrix.scale)
            spread.numbers[:, inp] = mine.matrix.numbers
            pairs = (spread, other.matrix), (mine.bias, other.bias), (mine.magnitude, other.magnitude)
            same = not any((x - y[out]).numbers.any() for x, y in pairs) and mine.roundings == other.roundings
        elif isinstance(mine, list) and isinstance(other, list):
            same = [list(inp[cells]) for cells in mine] == [other[k] for k in out]
        else:
            same = isinstance(step.op, Reshape) or step.op == wide.program.steps[index].op
            same = same and all(np.array_equal(places[value], out) for value in step.inputs)
        if not same:
            raise SoundnessError(f"the widened network is not the pruned one at step {index}")
    if not np.array_equal(places[-1], np.arange(len(places[-1]))):
        raise SoundnessError("the widened network has its outputs in other places than the pruned one")
