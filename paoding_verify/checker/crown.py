"""Rigorous CROWN bounds of a program over boxes: intervals forward, backward passes where they help.

Source: Zhang et al., arXiv 1811.00866 (the bounds). The error terms are those of `intervals.py` and `backward.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paoding_verify.checker.backward import Coupling, Indices, Pass, State, take_back
from paoding_verify.checker.intervals import ARITHMETICS, Enclosure, enclose_activation, enclose_input, enclose_linear
from paoding_verify.checker.program import Program, Step, check_slopes, single_program
from paoding_verify.checker.rounding import magnitude
from paoding_verify.errors import InputError, SoundnessError
from paoding_verify.evidence.certificate import Slopes
from paoding_verify.network.graph import (
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    MaxPool2d,
    Network,
    Permute,
    Reshape,
    is_linear,
)

__all__ = ["NEGLIGIBLE", "bound_rows", "enclose", "intersect", "lower_bounds", "tighten_units", "unit_rows"]

CHUNK_NUMBERS = 1 << 22
"""Coefficients of one value that a backward pass holds at a time."""
NEGLIGIBLE = 1e-30
"""Units that reach no further beyond zero than this are not worth a backward pass (any choice is sound)."""


def lower_bounds(  # noqa: PLR0913 - rows, boxes and hints are one question
    network: Network,
    lower: Array,
    upper: Array,
    rows: Array,
    offsets: Array,
    *,
    semantics: str = "real",
    slopes: Sequence[Slopes] | None = None,
) -> Array:
    """Proved lower bounds of rows . y + offsets over boxes, y the outputs; minus infinity where nothing is proved.

    Shapes: lower, upper (N, *input_shape); rows (R, out) or (N, R, out); offsets (R,) or (N, R); slopes: one mapping
    per box -> (N, R).
    Raises: InputError if shapes or slopes do not fit, or a box is not finite.
    """
    program = single_program(network)
    state = enclose(program, lower, upper, semantics, slopes=slopes, num_rows=rows.shape[-2])
    return bound_rows(state, rows, offsets)


def enclose(  # noqa: PLR0913
    program: Program,
    lower: Array,
    upper: Array,
    semantics: str,
    *,
    slopes: Sequence[Slopes] | None = None,
    shares: Sequence[Slopes] | None = None,
    num_rows: int = 0,
    coupling: Coupling | None = None,
) -> State:
    """Bounds of every value of a program, and lines for every nonlinear step. Raises: InputError as `lower_bounds`."""
    if lower.shape != upper.shape or lower.shape[1:] != program.input_shape:
        raise InputError(f"boxes {lower.shape} and {upper.shape} do not fit inputs of shape {program.input_shape}")
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower <= upper).all()):
        raise InputError("a box has an endpoint that is not finite, or its lower end exceeds its upper end")
    if semantics not in ARITHMETICS:
        raise InputError(f"unknown semantics {semantics!r}; expected one of {', '.join(ARITHMETICS)}")
    if slopes is not None and len(slopes) != len(lower):
        raise InputError(f"{len(slopes)} sets of slopes do not fit {len(lower)} boxes")
    if shares is not None and len(shares) != len(lower):
        raise InputError(f"{len(shares)} sets of shares do not fit {len(lower)} boxes")
    for each in {id(s): s for s in (*(slopes or ()), *(shares or ()))}.values():
        check_slopes(program, each, num_rows)
    lower, upper = lower.astype(np.float64), upper.astype(np.float64)
    state = State(program, [enclose_input(lower, upper)], slopes=slopes, shares=shares, coupling=coupling)
    with np.errstate(all="ignore"):
        for index, step in enumerate(program.steps):
            inputs = [state.values[i] for i in step.inputs]
            state.blends.append(_blend(step, [state.blends[i] for i in step.inputs]))
            if is_linear(step.op):
                state.values.append(enclose_linear(program, index, inputs, semantics))
                if state.blends[-1] == 2:
                    tighten_units(state, index + 1)
            else:
                value, state.lines[index] = enclose_activation(step.op, inputs[0], semantics)
                state.values.append(value)
            if coupling is not None:
                coupling.after(index, state)
    return state


def _blend(step: Step, inputs: Sequence[int]) -> int:
    """How the value of a step depends on the input; see `State.blends`."""
    if isinstance(step.op, (Affine, Reshape, Permute)):
        return inputs[0]
    return 1 if isinstance(step.op, (Dense, Conv2d, AveragePool2d)) and inputs[0] == 0 else 2


def tighten_units(state: State, value: int) -> None:
    """Bounds the units of a value that a nonlinear step reads and whose sign is open, by backward passes."""
    readers = [r for r in state.program.readers[value] if not is_linear(state.program.steps[r].op)]
    if not readers:
        return
    x = state.values[value]
    rectified = not isinstance(state.program.steps[readers[0]].op, MaxPool2d)
    open_units = (x.lower < -NEGLIGIBLE) & (x.upper > NEGLIGIBLE) if rectified else x.lower < x.upper
    regions, units = np.nonzero(open_units.reshape(len(x.lower), -1))
    low, high = x.lower.copy(), x.upper.copy()
    start = state.program.steps[readers[0]].number
    for sign, target in ((1.0, low), (-1.0, high)):
        found = sign * unit_rows(state, start, regions, units, {value: sign})
        target.reshape(len(target), -1)[regions, units] = found
    intersect(state, value, low, high)


def intersect(state: State, value: int, lower: Array, upper: Array) -> None:
    """Intersects the bounds of a value with others. Raises: SoundnessError if nothing is left."""
    x = state.values[value]
    low, high = np.maximum(x.lower, lower), np.minimum(x.upper, upper)
    if (low > high).any():
        raise SoundnessError(f"two rigorous bounds of value {value} exclude each other")
    size = magnitude(low, high) if x.floor is None else x.size
    state.values[value] = Enclosure(low, high, x.error, x.charge, size, x.roundings, x.floor)


def unit_rows(state: State, start: int, regions: Indices, units: Indices, signs: dict[int, float]) -> Array:
    """Lower bounds of sum over values of sign * value[unit], for pairs (region, unit)."""
    found = np.empty(len(regions))
    first = next(iter(signs))
    size = int(np.prod(state.program.shapes[first]))
    numbers = np.full(len(regions), int(signs[first] < 0))  # certificates name lower bounds before upper ones
    for part in _chunks(len(regions), state):
        coefficients = {}
        for value, sign in signs.items():
            eye = np.zeros((len(units[part]), size))
            eye[np.arange(len(eye)), units[part]] = sign
            coefficients[value] = eye.reshape(-1, *state.program.shapes[value])
        zero = np.zeros(len(units[part]))
        found[part] = take_back(state, Pass(regions[part], coefficients, zero, zero), start, numbers[part])
    return found


def bound_rows(state: State, rows: Array, offsets: Array) -> Array:
    """Lower bounds of rows . outputs + offsets. Shapes: (R, outputs) or (N, R, outputs), (R,) or (N, R) -> (N, R)."""
    program, count = state.program, len(state.values[0].lower)
    widths = [program.shapes[value][0] for value in program.outputs]
    if rows.ndim not in (2, 3) or rows.shape[-1] != sum(widths) or (rows.ndim == 3 and len(rows) != count):
        raise InputError(f"rows of shape {rows.shape} do not fit {sum(widths)} outputs of {count} boxes")
    rows = np.broadcast_to(rows, (count, *rows.shape[-2:]))
    offsets = np.broadcast_to(offsets, rows.shape[:2])
    regions, numbers = (a.reshape(-1) for a in np.indices(rows.shape[:2]))
    flat, constants = rows.reshape(-1, rows.shape[2]).astype(np.float64), offsets.reshape(-1).astype(np.float64)
    found = np.empty(len(flat))
    with np.errstate(all="ignore"):
        for part in _chunks(len(flat), state):
            pieces = np.split(flat[part], np.cumsum(widths)[:-1], axis=1)
            zero = np.zeros(len(flat[part]))
            start = Pass(regions[part], dict(zip(program.outputs, pieces, strict=True)), constants[part], zero)
            found[part] = take_back(state, start, len(program.steps), numbers[part])
    return found.reshape(rows.shape[:2])


def _chunks(count: int, state: State) -> list[slice]:
    """Slices of rows that are small enough for memory."""
    largest = max(int(np.prod(shape)) for shape in state.program.shapes)
    step = max(1, CHUNK_NUMBERS // largest)
    return [slice(i, i + step) for i in range(0, count, step)]
