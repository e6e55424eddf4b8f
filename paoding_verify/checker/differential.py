"""Rigorous bounds of rows over the outputs of two networks, using that they are close.

f and g (widened to f's shapes, see `alignment.py`) run side by side as one program. For each pair of twin values
z_f, z_g the difference d = z_f - z_g is bounded too, by intervals and backward passes, and the three are intersected.
In a backward pass let a and b be the coefficients of act(z_f) and act(z_g). Where their signs differ, the part
k = sign(a) min(|a|, |b|) is split off:

    a act(z_f) + b act(z_g) = (a - k) act(z_f) + (b + k) act(z_g) + k D,     D = act(z_f) - act(z_g).

Every activation of the whitelist rises with slope at most 1, so D lies between 0 and d, min(d, 0) <= D <= max(d, 0),
and lines below and above these on [d_l, d_u] are those of a ReLU. k times the line gives coefficients +m on z_f and
-m on z_g. What remains is treated as usual. Any share of k may be split off: all or nothing by a heuristic, or as the
certificate says; k is a float in any case, and what is left of a and b is rounded as ever. Where the
networks differ in structure, both are taken back to the input separately and concretised together.

Rounding: the errors e of both values (see `intervals.py`) weigh |k| more, and a - k, b + k, k * slope round once each.

Source: the coupled relaxation is that of Paulsen et al., ReluDiff, arXiv 2001.03662, and NeuroDiff, arXiv 2009.09943.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.alignment import widen
from paoding_verify.checker.backward import Origin, Pass, State, dot, hinted
from paoding_verify.checker.crown import NEGLIGIBLE, bound_rows, enclose, intersect, unit_rows
from paoding_verify.checker.intervals import SLACK
from paoding_verify.checker.program import Step, pair_program
from paoding_verify.checker.relax import Lines, rectifier_lines
from paoding_verify.checker.rounding import U64, centre_radius, downward, gamma, magnitude, up, upward
from paoding_verify.errors import InputError, SoundnessError
from paoding_verify.evidence.certificate import Slopes
from paoding_verify.network.evaluate import pool_windows
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    MaxPool2d,
    Network,
    Op,
    Permute,
    Relu,
    Reshape,
    is_activation,
    is_linear,
)  # fmt: skip
from paoding_verify.network.linear import absolute, product, row_length

__all__ = ["Twins", "pair_lower_bounds", "pair_state"]

Box = tuple[Array, Array]


def pair_lower_bounds(  # noqa: PLR0913 - rows, boxes and hints of two networks are one question
    original: Network,
    pruned: Network,
    lower: Array,
    upper: Array,
    rows: Array,
    offsets: Array,
    *,
    alignment: Sequence[Sequence[int]] | None,
    semantics: str,
    slopes: Sequence[Slopes] | None = None,
    shares: Sequence[Slopes] | None = None,
) -> Array:
    """Proved lower bounds of rows . (f(x), g(x)) + offsets over boxes; minus infinity where nothing is proved.

    alignment: for each activation layer the units of f that g's units continue; None, or networks of different
    structure: no coupling. In `float32` both programs round independently of each other.
    Shapes: lower, upper (N, *input_shape); rows (R, out_f + out_g) or (N, R, ...); offsets (R,) or (N, R) -> (N, R).
    Raises: InputError if shapes or slopes do not fit, or a box is not finite.
    """
    state = pair_state(
        original, pruned, (lower, upper), alignment, semantics, slopes=slopes, shares=shares, num_rows=rows.shape[-2]
    )  # fmt: skip
    separate = bound_rows(replace(state, coupling=None), rows, offsets)
    return separate if state.coupling is None else np.maximum(separate, bound_rows(state, rows, offsets))


def pair_state(  # noqa: PLR0913 - see pair_lower_bounds
    original: Network,
    pruned: Network,
    box: Box,
    alignment: Sequence[Sequence[int]] | None,
    semantics: str,
    *,
    slopes: Sequence[Slopes] | None = None,
    shares: Sequence[Slopes] | None = None,
    num_rows: int = 0,
) -> State:
    """Bounds of every value of two networks, coupled where the alignment fits; arguments as `pair_lower_bounds`."""
    coupling = None
    program = pair_program(original, pruned, None)
    if alignment is not None:
        try:
            wide, kept = widen(original, pruned, alignment)
        except InputError:
            pass  # separate passes are valid for any two networks
        else:
            program, coupling = pair_program(original, wide, kept), Twins()
    return enclose(program, *box, semantics, slopes=slopes, shares=shares, num_rows=num_rows, coupling=coupling)


class Twins:
    """Differences of twin values, and their use in backward passes."""

    def __init__(self) -> None:
        """Knows nothing yet; `differences` will hold lower and upper of d by value of g."""
        self.differences: dict[int, Box] = {}
        self._lines: dict[int, tuple[Lines, Lines, Array, npt.NDArray[np.bool_]]] = {}

    def after(self, index: int, state: State) -> None:
        """Bounds the difference that belongs to value index + 1, if it is one of g, and improves all three."""
        second = index + 1
        first = state.program.twins.get(second)
        if first is None:
            return
        self.differences[second] = self._interval(index, first - 1, state)
        self._intersect(first, second, state)
        readers = [state.program.steps[r].op for r in state.program.readers[second]]
        if state.blends[second] == 2 and any(is_activation(op) for op in readers):
            self._tighten(first, second, state)
            self._intersect(first, second, state)

    def before(self, index: int, state: State, rows: Pass, origin: Origin) -> None:
        """Moves the coupled part of two activations onto their inputs."""
        second = index + 1
        first = state.program.twins.get(second)
        step = state.program.steps[index]
        a, b = (rows.coefficients.get(v) if v is not None else None for v in (first, second))
        if first is None or a is None or b is None or not is_activation(step.op) or step.inputs[0] == 0:
            return
        z_f, z_g = state.program.steps[first - 1].inputs[0], step.inputs[0]
        above, below, share, free = self._joint_lines(index, first - 1, state)
        here = rows.regions
        part = share[here]
        if state.shares is not None:
            part = np.where(free[here], hinted(state.shares, step, part, here, origin), part)
        k = np.where(np.sign(a) == -np.sign(b), np.copysign(part * np.minimum(np.abs(a), np.abs(b)), a), 0.0)
        positive, negative = np.maximum(k, 0.0), np.minimum(k, 0.0)
        # max(-d, 0) <= s (-d) + t is the same as min(d, 0) >= s d - t
        m = positive * below.upper_slope[here] + negative * above.upper_slope[here]
        rows.shift(dot(negative, above.upper_shift[here]) - dot(positive, below.upper_shift[here]))
        f, g = state.values[first], state.values[second]
        shift = np.maximum(above.upper_shift, below.upper_shift)
        d_low, d_high = self.differences[z_g]
        size = int(np.prod(step.shape)) + SLACK
        rows.spend(k, up(f.charge + g.charge + gamma(size, U64) * shift + 2 * U64 * magnitude(d_low, d_high), 8))
        rows.coefficients[first], rows.coefficients[second] = a - k, b + k
        rows.spend(rows.coefficients[first], 2 * U64 * magnitude(f.lower, f.upper))
        rows.spend(rows.coefficients[second], 2 * U64 * magnitude(g.lower, g.upper))
        rows.give(z_f, m, state.values)
        rows.give(z_g, -m, state.values)

    def on_leaves(self, count: int, bounds: dict[int, Box], state: State) -> Twins:
        """The same differences on `count` parts of one region, narrowed by what is known there of single values.

        bounds: value -> lower and upper (count, *shape); twins of these values are narrowed and added. A part on
        which an interval becomes empty (lower > upper) holds no execution.
        """
        result = Twins()
        for value, (low, high) in self.differences.items():
            shape = (count, *low.shape[1:])
            result.differences[value] = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
        for second, first in state.program.twins.items():
            if first not in bounds and second not in bounds:
                continue
            f_low, f_high = bounds.get(first, (state.values[first].lower, state.values[first].upper))
            g_low, g_high = bounds.get(second, (state.values[second].lower, state.values[second].upper))
            low, high = result.differences[second]
            low = np.maximum(low, downward(f_low - g_high))
            high = np.minimum(high, upward(f_high - g_low))
            result.differences[second] = low, high
            bounds[first] = np.maximum(f_low, downward(g_low + low)), np.minimum(f_high, upward(g_high + high))
            bounds[second] = np.maximum(g_low, downward(f_low - high)), np.minimum(g_high, upward(f_high - low))
        return result

    def _joint_lines(self, index: int, twin: int, state: State) -> tuple[Lines, Lines, Array, npt.NDArray[np.bool_]]:
        """Lines above max(d, 0) and above max(-d, 0), 1 where coupling promises to be tighter than not and 0 elsewhere,
        and where neither of the two is exact, so that shares between may be better.
        """
        if index not in self._lines:
            z_g = state.program.steps[index].inputs[0]
            low, high = self.differences[z_g]
            above, below = rectifier_lines(0.0, low, high), rectifier_lines(0.0, -high, -low)
            d = low / 2 + high / 2
            joint = above.upper_slope * d + above.upper_shift - below.upper_slope * d + below.upper_shift
            alone = _gap(state, twin) + _gap(state, index)
            share = (joint < alone).astype(np.float64)
            self._lines[index] = above, below, share, (joint > 0) & (alone > 0)
        return self._lines[index]

    def _of(self, value: int, state: State) -> Box:
        if value == 0:
            zero = np.zeros_like(state.values[0].lower)
            return zero, zero
        return self.differences[value]

    def _interval(self, index: int, twin: int, state: State) -> Box:
        """The difference of two twin steps from that of their inputs."""
        f, g = state.values[twin + 1], state.values[index + 1]
        step, other = state.program.steps[index], state.program.steps[twin]
        low, high = self._of(step.inputs[0], state)
        error = up(f.error + g.error)
        if isinstance(step.op, Add):
            low2, high2 = self._of(step.inputs[1], state)
            low, high = downward(low + low2), upward(high + high2)
        elif isinstance(step.op, (Reshape, Permute)):
            low, high = product(step.op, low), product(step.op, high)
        elif is_linear(step.op):
            g_in = state.values[step.inputs[0]]
            return _linear_difference(other, step, (low, high), (g_in.lower, g_in.upper), error)
        elif isinstance(step.op, MaxPool2d):
            low, high = pool_windows(step.op, low, np.inf).min(axis=2), pool_windows(step.op, high).max(axis=2)
        else:
            z_f, z_g = state.values[other.inputs[0]], state.values[step.inputs[0]]
            active = (z_f.lower >= 0) & (z_g.lower >= 0) & isinstance(step.op, Relu)
            low = np.where(active, low, np.minimum(low, 0.0))
            high = np.where(active, high, np.maximum(high, 0.0))
        return downward(low - error), upward(high + error)

    def _tighten(self, first: int, second: int, state: State) -> None:
        """Bounds differences that matter by backward passes."""
        low, high = self.differences[second]
        f, g = state.values[first], state.values[second]
        unsure = ((f.lower < 0) & (f.upper > 0)) | ((g.lower < 0) & (g.upper > 0))
        regions, units = np.nonzero((unsure & (high - low > NEGLIGIBLE)).reshape(len(low), -1))
        below = unit_rows(state, -1, regions, units, {first: 1.0, second: -1.0})
        above = -unit_rows(state, -1, regions, units, {first: -1.0, second: 1.0})
        low, high = low.copy(), high.copy()
        for target, found, better in ((low, below, np.maximum), (high, above, np.minimum)):
            flat = target.reshape(len(target), -1)
            flat[regions, units] = better(flat[regions, units], found)
        self.differences[second] = low, high

    def _intersect(self, first: int, second: int, state: State) -> None:
        """d = z_f - z_g, each of the three within what the other two allow."""
        f, g = state.values[first], state.values[second]
        low, high = self.differences[second]
        low = np.maximum(low, downward(f.lower - g.upper))
        high = np.minimum(high, upward(f.upper - g.lower))
        if (low > high).any():
            raise SoundnessError(
                f"two rigorous bounds of the difference of values {first} and {second} exclude each other"
            )
        self.differences[second] = low, high
        intersect(state, first, downward(g.lower + low), upward(g.upper + high))
        intersect(state, second, downward(f.lower - high), upward(f.upper - low))


def _gap(state: State, index: int) -> Array:
    """Distance between the lines of an activation in the middle of its interval."""
    x, lines = state.values[state.program.steps[index].inputs[0]], state.lines[index]
    middle = x.lower / 2 + x.upper / 2
    return (lines.upper_slope - lines.lower_slope) * middle + lines.upper_shift - lines.lower_shift


def _linear_difference(f: Step, g: Step, difference: Box, g_input: Box, error: Array) -> Box:
    """W_f h_f + b_f - (W_g h_g + b_g) = W_f (h_f - h_g) + (W_f - W_g) h_g + (b_f - b_g), by centre and radius.

    W_f - W_g rounds once per entry, relative to the result, which one more rounding in the count covers.
    """
    centre, radius = centre_radius(*difference)
    middle = product(f.op, centre, bias=False)
    wide = product(absolute(f.op), radius, bias=False)
    size = product(absolute(f.op), magnitude(*difference), bias=False)
    delta = _minus(f.op, g.op)
    if delta is not None:
        g_centre, g_radius = centre_radius(*g_input)
        middle = middle + product(delta, g_centre)
        wide = wide + product(absolute(delta), g_radius, bias=False)
        size = size + product(absolute(delta), magnitude(*g_input))
    count = 2 * row_length(f.op) + SLACK
    half = up(up(wide, count) + gamma(count, U64) * up(size, count) + error, 8)
    return downward(middle - half), upward(middle + half)


def _minus(f: Op, g: Op) -> Op | None:
    """f - g for two operations of one shape; None without parameters."""
    if isinstance(f, (Dense, Conv2d)) and isinstance(g, (Dense, Conv2d)):
        return replace(f, weight=f.weight - g.weight, bias=f.bias - g.bias, bias_magnitude=None)
    if isinstance(f, Affine) and isinstance(g, Affine):
        scale, shift = f.scale - g.scale, f.shift - g.shift
        return replace(f, scale=scale, shift=shift, bias_magnitude=None)
    assert isinstance(f, AveragePool2d)  # noqa: S101 - the only linear operation left
    return None
