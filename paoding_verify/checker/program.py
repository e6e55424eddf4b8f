"""What the checker bounds: one network, or two that read the same input, as one list of steps.

Values are numbered as in a `Network`: 0 is the input, step k computes value k + 1. In a program of two networks both
read value 0, so one backward pass to the input treats them together. If the two have the same structure, their steps
alternate and `twins` says which values belong together; `differences.py` then uses that they are close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import InputError
from paoding_verify.evidence.certificate import Slopes
from paoding_verify.network.graph import Add, Affine, LeakyRelu, Network, Op, Permute, Relu, Reshape, Shape, is_linear

__all__ = ["Program", "Step", "check_slopes", "num_units", "pair_program", "single_program"]

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a program."""

    op: Op
    inputs: tuple[int, ...]
    """Values it reads."""
    number: int
    """Number of its node in certificates: nodes of g are counted after those of f."""
    shape: Shape
    """Of the value it computes."""
    kept: Indices | None = None
    """Where the network's own elements stand in an expanded value (row-major); None: not expanded."""


@dataclass(frozen=True, eq=False)
class Program:
    """Steps in topological order over one input."""

    input_shape: Shape
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    """Values whose concatenation the rows of a property are about."""
    twins: Mapping[int, int] = field(default_factory=dict)
    """Value of g -> value of f that it continues."""

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of every value."""
        return (self.input_shape, *(step.shape for step in self.steps))

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For every value the steps that read it."""
        found: list[list[int]] = [[] for _ in self.shapes]
        for index, step in enumerate(self.steps):
            for value in step.inputs:
                found[value].append(index)
        return tuple(map(tuple, found))

    @cached_property
    def straight(self) -> tuple[bool, ...]:
        """For every value whether intervals are exact but for rounding: no backward pass makes them narrower.

        They are for the input, for what is computed from one element of it each, and for sums of such elements.
        """
        of_one, of_sums = [True], [True]
        for step in self.steps:
            first = step.inputs[0]
            same = isinstance(step.op, (Affine, Reshape, Permute))
            of_one.append(same and of_one[first])
            of_sums.append(
                (same and of_sums[first]) or (not isinstance(step.op, Add) and is_linear(step.op) and of_one[first])
            )
        return tuple(of_sums)

    def passing(self, value: int) -> bool:
        """Whether one linear step alone reads the value: a compiler may merge its computation with that step."""
        readers = self.readers[value]
        return value not in self.outputs and len(readers) == 1 and is_linear(self.steps[readers[0]].op)


def single_program(network: Network) -> Program:
    """The program of one network."""
    return _program([network], None)


def pair_program(f: Network, g: Network, kept: Sequence[Indices | None] | None) -> Program:
    """The program of two networks on one input; with `kept` (one entry per node of g) they are twins, step by step.

    Raises: InputError if the input shapes differ.
    """
    if f.input_shape != g.input_shape:
        raise InputError(f"the two networks read inputs of different shapes, {f.input_shape} and {g.input_shape}")
    return _program([f, g], kept)


def _program(networks: Sequence[Network], kept: Sequence[Indices | None] | None) -> Program:
    order = [(which, index) for which, network in enumerate(networks) for index in range(len(network.nodes))]
    if kept is not None:
        order.sort(key=lambda place: place[::-1])
    values = {(which, 0): 0 for which in range(len(networks))}
    values |= {(which, index + 1): k + 1 for k, (which, index) in enumerate(order)}
    steps = []
    for which, index in order:
        node, number = networks[which].nodes[index], index + which * len(networks[0].nodes)
        inputs = tuple(values[which, value] for value in node.inputs)
        own = kept[index] if kept is not None and which else None
        steps.append(Step(node.op, inputs, number, networks[which].shapes[index + 1], own))
    outputs = tuple(values[which, len(network.nodes)] for which, network in enumerate(networks))
    twins = {} if kept is None else {values[1, k + 1]: values[0, k + 1] for k in range(len(kept))}
    return Program(networks[0].input_shape, tuple(steps), outputs, twins)


def check_slopes(program: Program, slopes: Slopes, num_rows: int) -> None:
    """Refuses slopes that do not belong to the program; their values need no check, since every value is valid.

    Raises: InputError naming the key that does not fit.
    """
    sizes = {s.number: num_units(s) for s in program.steps if isinstance(s.op, (Relu, LeakyRelu))}
    for (start, node), array in slopes.items():
        rows = num_rows if start == len(program.steps) else 2
        known = node in sizes and (start in sizes or start == len(program.steps))
        if not known or array.dtype != np.uint8 or array.shape not in ((1, sizes[node]), (rows, sizes[node])):
            raise InputError(f"certificate slopes for ({start}, {node}), shape {array.shape}, do not fit the network")


def num_units(step: Step) -> int:
    """Units that a step has in its own network."""
    return int(np.prod(step.shape)) if step.kept is None else len(step.kept)
