"""Rigorous CROWN bounds over boxes, of one network or of two: intervals forward, backward passes where they help.

Two networks f and g on one input are one program. Where an alignment fits, g is widened to f's shapes and both run side
by side: differences of their values are bounded too, and used. Else both are taken back to the input separately and
bounded together there.

Source: Zhang et al., arXiv 1811.00866 (the bounds). The error terms are those of `intervals.py` and `backward.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.alignment import widen
from paoding_verify.checker.backward import Indices, Pass, State, take_back
from paoding_verify.checker.differences import difference, meet
from paoding_verify.checker.intervals import ARITHMETICS, Box, Enclosure, enclose_linear, enclose_nonlinear
from paoding_verify.checker.program import Program, check_slopes, pair_program, single_program
from paoding_verify.checker.rounding import magnitude
from paoding_verify.errors import InputError, SoundnessError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.network.graph import Array, MaxPool2d, Network, is_activation, is_linear

__all__ = ["NEGLIGIBLE", "bound_rows", "enclose", "lower_bounds"]

CHUNK_NUMBERS = 1 << 22
"""Coefficients of one value that a backward pass holds at a time."""
NEGLIGIBLE = 1e-30
"""Units that reach no further beyond zero than this are not worth a backward pass (any choice is sound)."""


def lower_bounds(  # noqa: PLR0913 - rows, boxes and hints are one question
    networks: Sequence[Network],
    lower: Array,
    upper: Array,
    rows: Array,
    offsets: Array,
    *,
    semantics: str = "real",
    hints: Sequence[Certificate] = (),
) -> Array:
    """Proved lower bounds of rows . y + offsets over boxes, y the outputs; minus infinity where nothing is proved.

    Shapes: networks: one, or (f, g), whose outputs are joined; lower, upper (N, *input_shape); rows (R, out) or
    (N, R, out); offsets (R,) or (N, R) -> (N, R). hints: as in `enclose`.
    Raises: InputError if shapes or hints do not fit, or a box is not finite.
    """
    state = enclose(networks, lower, upper, semantics, hints=hints, num_rows=rows.shape[-2])
    return bound_rows(state, rows, offsets)


def enclose(
    networks: Sequence[Network],
    lower: Array,
    upper: Array,
    semantics: str,
    *,
    hints: Sequence[Certificate] = (),
    num_rows: int = 0,
) -> State:
    """Bounds of every value of one or two networks, and lines for every nonlinear step.

    hints: slopes, shares and the alignment of certificates, one for each box or one for all; the alignment is that of
    the first. num_rows: of the property that their tables are about. Shapes, errors: as `lower_bounds`.
    """
    program = _program(networks, hints[0].alignment if hints else None)
    if lower.shape != upper.shape or lower.shape[1:] != program.input_shape:
        raise InputError(f"boxes {lower.shape} and {upper.shape} do not fit inputs of shape {program.input_shape}")
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower <= upper).all()):
        raise InputError("a box has an endpoint that is not finite, or its lower end exceeds its upper end")
    if semantics not in ARITHMETICS:
        raise InputError(f"unknown semantics {semantics!r}; expected one of {', '.join(ARITHMETICS)}")
    if len(hints) not in (0, 1, len(lower)):
        raise InputError(f"{len(hints)} certificates do not fit {len(lower)} boxes")
    for each in {id(t): t for hint in hints for t in (hint.slopes, hint.shares)}.values():
        check_slopes(program, each, num_rows)
    box = lower.astype(np.float64), upper.astype(np.float64)
    zero = np.zeros_like(box[0])
    slopes, shares = [hint.slopes for hint in hints], [hint.shares for hint in hints]
    state = State(program, [Enclosure(*box, zero, zero, magnitude(*box))])
    state.slopes, state.shares = slopes if any(slopes) else (), shares if any(shares) else ()
    with np.errstate(all="ignore"):
        for index, step in enumerate(program.steps):
            inputs = [state.values[i] for i in step.inputs]
            if is_linear(step.op):
                state.values.append(enclose_linear(program, index, inputs, semantics))
                _tighten(state, index + 1)
            else:
                value, state.lines[index] = enclose_nonlinear(step.op, inputs[0], semantics)
                state.values.append(value)
            if index + 1 in program.twins:
                state.differences[index + 1] = difference(state, index + 1)
                _tighten_difference(state, index + 1)
    return state


def _program(networks: Sequence[Network], alignment: Sequence[Sequence[int]] | None) -> Program:
    """One network, two side by side if the alignment fits, or two that share nothing but the input."""
    if len(networks) == 1:
        return single_program(networks[0])
    f, g = networks
    if alignment is not None and f.input_shape == g.input_shape:
        try:
            return pair_program(f, *widen(f, g, alignment))
        except InputError:
            pass  # separate passes are valid for any two networks
    return pair_program(f, g, None)


def _tighten(state: State, value: int) -> None:
    """Bounds the units of a value that a nonlinear step reads and whose sign is open, by backward passes."""
    program, x = state.program, state.values[value]
    readers = [program.steps[r] for r in program.readers[value] if not is_linear(program.steps[r].op)]
    if not readers or program.straight[value]:
        return
    wanted = (x.lower < -NEGLIGIBLE) & (x.upper > NEGLIGIBLE)
    if isinstance(readers[0].op, MaxPool2d):
        wanted = x.lower < x.upper
    _intersect(state, value, _unit_bounds(state, readers[0].number, {value: 1.0}, x.box, wanted))


def _tighten_difference(state: State, second: int) -> None:
    """Bounds the differences of twin values that matter by backward passes; all three within what the others allow."""
    program, first = state.program, state.program.twins[second]
    _meet(state, first, second)
    readers = [program.steps[r].op for r in program.readers[second]]
    if any(is_activation(op) for op in readers) and not program.straight[second]:
        low, high = state.differences[second]
        unsure = np.zeros(low.shape, dtype=bool)
        for x in (state.values[first], state.values[second]):
            unsure |= (x.lower < 0) & (x.upper > 0)
        wanted = unsure & (high - low > NEGLIGIBLE)
        state.differences[second] = _unit_bounds(state, -1, {first: 1.0, second: -1.0}, (low, high), wanted)
        _meet(state, first, second)


def _meet(state: State, first: int, second: int) -> None:
    """Intersects two twin values and their difference with what each two say of the third."""
    f, g, d = meet(state.values[first].box, state.values[second].box, state.differences[second])
    if (d[0] > d[1]).any():
        raise SoundnessError(f"two rigorous bounds of the difference of values {first} and {second} exclude each other")
    state.differences[second] = d
    _intersect(state, first, f)
    _intersect(state, second, g)


def _intersect(state: State, value: int, box: Box) -> None:
    """Narrows the bounds of a value. Raises: SoundnessError if nothing is left."""
    x = state.values[value]
    low, high = np.maximum(x.lower, box[0]), np.minimum(x.upper, box[1])
    if (low > high).any():
        raise SoundnessError(f"two rigorous bounds of value {value} exclude each other")
    size = magnitude(low, high) if x.floor is None else x.size
    state.values[value] = replace(x, lower=low, upper=high, size=size)


def _unit_bounds(
    state: State, start: int, weights: Mapping[int, float], box: Box, wanted: npt.NDArray[np.bool_]
) -> Box:
    """The box of a weighted sum of values, narrowed by backward passes for the wanted units. Shapes: (N, *shape)."""
    ends = box[0].copy(), box[1].copy()
    regions, units = np.nonzero(wanted.reshape(len(wanted), -1))
    for number, sign, end, better in ((0, 1.0, ends[0], np.maximum), (1, -1.0, ends[1], np.minimum)):
        flat = end.reshape(len(end), -1)
        for part in _chunks(len(units), state):
            rows = np.zeros((len(units[part]), flat.shape[1]))
            rows[np.arange(len(rows)), units[part]] = sign
            coefficients = {value: (weight * rows).reshape(-1, *end.shape[1:]) for value, weight in weights.items()}
            numbers, zero = np.full(len(rows), number), np.zeros(len(rows))
            found = sign * take_back(state, Pass(start, numbers, regions[part], coefficients, zero))
            place = regions[part], units[part]
            flat[place] = better(flat[place], found)
    return ends


def bound_rows(
    state: State, rows: Array, offsets: Array, numbers: Indices | None = None, credit: Mapping[int, Array] | None = None
) -> Array:
    """Lower bounds of rows . outputs + offsets on every region, coupled or not, whichever is better.

    Shapes: rows (R, outputs) or (N, R, outputs), offsets (R,) or (N, R) -> (N, R). numbers: which rows of the property
    they are, for its tables (N, R); by default the first R. credit: as in `Pass`, for R = 1.
    Raises: InputError if the shapes do not fit.
    """
    program, alike = state.program, {len(x.lower) for x in state.values} - {1}
    widths = [program.shapes[value][0] for value in program.outputs]
    count = len(rows) if rows.ndim == 3 else max(alike, default=1)
    if rows.ndim not in (2, 3) or rows.shape[-1] != sum(widths) or not alike <= {count}:
        raise InputError(
            f"rows of shape {rows.shape} do not fit {sum(widths)} outputs of {max(alike, default=1)} boxes"
        )
    rows = np.broadcast_to(rows, (count, *rows.shape[-2:]))
    regions, default = (a.reshape(-1) for a in np.indices(rows.shape[:2]))
    numbers = default if numbers is None else numbers.reshape(-1)
    flat, constants = rows.reshape(-1, rows.shape[2]), np.broadcast_to(offsets, rows.shape[:2]).reshape(-1)
    found = np.full(len(flat), -np.inf)
    with np.errstate(all="ignore"):
        for part in _chunks(len(flat), state):
            pieces = np.split(flat[part].astype(np.float64), np.cumsum(widths)[:-1], axis=1)
            for coupled in (False, True)[: 1 + bool(state.differences)]:
                start = {value: p for value, p in zip(program.outputs, pieces, strict=True) if p.any()}
                walk = Pass(
                    len(program.steps), numbers[part], regions[part], start, constants[part].astype(np.float64),
                    coupled, {k: m[part] for k, m in (credit or {}).items()},
                )  # fmt: skip
                found[part] = np.maximum(found[part], take_back(state, walk))
    return found.reshape(rows.shape[:2])


def _chunks(count: int, state: State) -> list[slice]:
    """Slices of rows that are small enough for memory."""
    largest = max(int(np.prod(shape)) for shape in state.program.shapes)
    step = max(1, CHUNK_NUMBERS // largest)
    return [slice(i, i + step) for i in range(0, count, step)]
