"""What is known of a region, without the units that are off there: they take no part in any bound of its cases.

Of most dense layers few units are on anywhere in a small region. What is left out costs a bound no more than the
checker's own rounding of numbers that are multiplied by zero.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.backward import State
from paoding_verify.checker.intervals import Enclosure
from paoding_verify.checker.program import Program, Step
from paoding_verify.network.graph import Dense, Relu, Reshape

__all__ = ["shrunk"]

Indices = npt.NDArray[np.intp]


def shrunk(state: State) -> State:
    """The same of a smaller program: `Step.kept` says where the network's own units stand, -1: nowhere.

    Dense layers with ReLUs between them; any other program stays as it is. Twins stay twins, unit by unit.
    """
    program = state.program
    if len(state.values[0].lower) != 1 or not all(isinstance(s.op, (Dense, Relu, Reshape)) for s in program.steps):
        return state
    left = _left(state)
    if not left:
        return state
    steps = tuple(_smaller(index, step, program, left) for index, step in enumerate(program.steps))
    differences = {v: (_cut(low, left.get(v)), _cut(high, left.get(v))) for v, (low, high) in state.differences.items()}
    values = [_cut_all(value, left.get(v)) for v, value in enumerate(state.values)]
    return State(replace(program, steps=steps), values, differences=differences)


def _left(state: State) -> dict[int, Indices]:
    """For values that shrink the flat positions that are left: where the unit, or its twin, may be on."""
    program = state.program
    twins = {**program.twins, **{first: second for second, first in program.twins.items()}}
    found: dict[int, Indices] = {}
    for index, step in enumerate(program.steps):
        value = step.inputs[0]
        readers = program.readers[value]
        if isinstance(step.op, Relu) and value > 0 and value not in program.outputs and readers == (index,):
            both = [value, twins[value]] if value in twins else [value]
            on = np.any([state.values[v].upper.reshape(-1) > 0 for v in both], axis=0)
            if not isinstance(program.steps[value - 1].op, Dense) or index + 1 in program.outputs:
                continue
            if all(isinstance(program.steps[r].op, Dense) for r in program.readers[index + 1]):
                found[value] = found[index + 1] = np.flatnonzero(on)
    return found


def _smaller(index: int, step: Step, program: Program, left: dict[int, Indices]) -> Step:
    op, out, read = step.op, left.get(index + 1), left.get(step.inputs[0])
    if isinstance(op, Dense):
        weight, bias = op.weight, op.bias
        weight = weight if read is None else weight[:, read]
        op = Dense(weight, bias) if out is None else Dense(weight[out], bias[out])
    if out is None:
        return replace(step, op=op)
    size = int(np.prod(step.shape))
    own = np.arange(size) if step.kept is None else step.kept
    place = np.full(size, -1)
    place[out] = np.arange(len(out))
    return replace(step, op=op, shape=(len(out),), kept=place[own])


def _cut(array: npt.NDArray[Any], places: Indices | None) -> npt.NDArray[Any]:
    return array if places is None else array.reshape(len(array), -1)[:, places]


def _cut_all(record: Enclosure, places: Indices | None) -> Enclosure:
    if places is None:
        return record
    arrays: dict[str, Any] = {}
    for item in fields(record):
        array: Any = getattr(record, item.name)
        if isinstance(array, np.ndarray) and array.ndim > 1:
            arrays[item.name] = _cut(array, places)
    return replace(record, **arrays)
