"""A pair on a region as few exact statements: every value an affine form over inputs and unstable ReLUs, plus an error.

A form says: value = coefficients @ v + constant + e with |e| <= error, for every point of the region, where v holds the
centred inputs and one activation per unstable ReLU. Stable ReLUs and linear layers are composed away. Forms are
computed in float64; `error` covers every rounding (gamma_n, Higham 2002, section 3.1) and every folded parameter, so
whatever follows from the forms holds for the real-valued networks. Nothing here knows a solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    LeakyRelu,
    Network,
    Op,
    Permute,
    Relu,
    Reshape,
)
from paoding_verify.network.linear import absolute, product, row_length
from paoding_verify.regions import Region

__all__ = ["Bounds", "Encoding", "Forms", "Unit", "Variables", "encode", "gamma"]

Bounds = Sequence[tuple[Array, Array]]
"""Sound lower and upper pre-activation bounds of every activation node of one network, in order, each (*units)."""

_U = 2.0**-53
_UP = 1.0 + 2.0**-40
"""Covers the few roundings of sums of non-negative numbers that error terms are made of."""
_TINY = 2.0**-1000


@dataclass(frozen=True, eq=False)
class Variables:
    """Bounds of all variables: first the centred inputs, then the activations of unstable ReLUs."""

    lower: Array
    upper: Array

    @property
    def reach(self) -> Array:
        """Largest magnitude of every variable."""
        return np.maximum(np.abs(self.lower), np.abs(self.upper))

    def with_activation(self, upper: float) -> Variables:
        """One more variable, in [0, upper]."""
        return Variables(np.append(self.lower, 0.0), np.append(self.upper, upper))


@dataclass(frozen=True, eq=False)
class Forms:
    """Affine forms of `len(constant)` values over the first `coefficients.shape[1]` variables."""

    coefficients: Array
    """(size, variables)"""
    constant: Array
    """(size,)"""
    error: Array
    """(size,) not negative."""

    def magnitude(self, variables: Variables) -> Array:
        """Upper bound of every value's magnitude, up to a relative gamma. Shape (size,)."""
        return np.asarray(np.abs(self.coefficients) @ variables.reach + np.abs(self.constant) + self.error)

    def interval(self, variables: Variables) -> tuple[Array, Array]:
        """Sound bounds of every value. Shapes: (size,), (size,)."""
        rising, falling = np.maximum(self.coefficients, 0), np.minimum(self.coefficients, 0)
        low = rising @ variables.lower + falling @ variables.upper + self.constant
        high = rising @ variables.upper + falling @ variables.lower + self.constant
        slack = (self.error + gamma(len(variables.lower) + 6) * self.magnitude(variables) + _TINY) * _UP
        return low - slack, high + slack

    def widened(self, count: int) -> Forms:
        """The same forms over `count` variables."""
        missing = count - self.coefficients.shape[1]
        return replace(self, coefficients=np.pad(self.coefficients, ((0, 0), (0, missing))))


@dataclass(frozen=True, eq=False)
class Unit:
    """An unstable ReLU: variable = max(form, 0)."""

    variable: int
    coefficients: Array
    """(variable,) over the variables before it."""
    constant: float
    error: float
    lower: float
    """Of the pre-activation, sound, negative."""
    upper: float
    """Of the pre-activation, sound, positive."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """Several networks on one region."""

    centre: Array
    """(inputs,) flat; variable i of the inputs is x[i] - centre[i]."""
    units: tuple[Unit, ...]
    variables: Variables
    outputs: Forms
    """Of the concatenated outputs."""
    layers: tuple[tuple[tuple[Forms, Forms], ...], ...] = ()
    """For every network and activation layer, what it reads and what it computes."""

    def rows(self, prop: Property) -> Forms:
        """The property's rows as forms."""
        y, weights = self.outputs, np.abs(prop.rows)
        size = weights @ y.magnitude(self.variables) + np.abs(prop.offsets)
        error = weights @ y.error + gamma(prop.rows.shape[1] + len(self.variables.lower) + 4) * size
        constant = prop.rows @ y.constant + prop.offsets
        return Forms(prop.rows @ y.coefficients, constant, (error + _TINY) * _UP)


def gamma(count: int) -> float:
    """Relative error of a float64 dot product of `count` terms, in any order of summation."""
    return count * _U / (1 - count * _U)


def encode(networks: Sequence[Network], region: Region, bounds: Sequence[Bounds] | None = None) -> Encoding:
    """Forms of all outputs on the region.

    `bounds` are believed: they must be sound; without them intervals of the forms decide which ReLUs are stable.

    An unstable unit whose form equals that of an earlier network's unit shares its variable: both pre-activations then
    differ by no more than the two errors, and so do both activations.
    Raises: UnsupportedOpError for max pooling, sigmoid and tanh.
    """
    lower, upper = region.lower.ravel(), region.upper.ravel()
    centre = lower / 2 + upper / 2
    state = _State(Variables((lower - centre) * _UP, (upper - centre) * _UP))
    values = [
        _encode_network(network, centre, state, None if bounds is None else bounds[n])
        for n, network in enumerate(networks)
    ]
    widened = [found[-1].widened(state.count) for found in values]
    joined = Forms(*(np.concatenate([getattr(f, name) for f in widened]) for name in Forms.__dataclass_fields__))
    layers = tuple(
        tuple((found[network.nodes[k].inputs[0]], found[k + 1]) for k in network.activations)
        for network, found in zip(networks, values, strict=True)
    )
    return Encoding(centre, tuple(state.units), state.variables, joined, layers)


class _State:
    """Variables and units found so far."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.units: list[Unit] = []
        self.known: dict[bytes, Unit] = {}

    @property
    def count(self) -> int:
        return len(self.variables.lower)

    def activation(self, coefficients: Array, constant: float, error: float, low: float, high: float) -> Unit:
        """The unit of an unstable ReLU with this form: a new one, or an equal one found before."""
        used = np.trim_zeros(coefficients, "b")
        key = used.tobytes() + np.float64(constant).tobytes()
        if key not in self.known:
            unit = Unit(self.count, used, constant, error, low, high)
            self.known[key] = unit
            self.units.append(unit)
            self.variables = self.variables.with_activation(high)
        return self.known[key]


def _encode_network(network: Network, centre: Array, state: _State, bounds: Bounds | None) -> list[Forms]:
    """Forms of every value."""
    count = len(centre)
    values = [Forms(np.eye(count), centre, np.zeros(count))]
    layer = 0
    for node in network.nodes:
        x = values[node.inputs[0]].widened(state.count)
        if isinstance(node.op, (Relu, LeakyRelu)):
            known = None if bounds is None else (bounds[layer][0].ravel(), bounds[layer][1].ravel())
            values.append(_rectified(getattr(node.op, "slope", 0.0), x, state, known))
            layer += 1
        elif isinstance(node.op, Add):
            values.append(_sum(x, values[node.inputs[1]].widened(state.count), state.variables))
        elif isinstance(node.op, (Dense, Conv2d, Affine, AveragePool2d, Reshape, Permute)):
            values.append(_linear(node.op, x, network.shapes[node.inputs[0]], state.variables))
        else:
            raise UnsupportedOpError(f"node {node.name!r}: {type(node.op).__name__} has no exact encoding")
    return values


def _linear(op: Op, x: Forms, shape: tuple[int, ...], variables: Variables) -> Forms:
    """Forms of op(x): column by column, with the error of every dot product."""

    def apply(operation: Op, columns: Array, *, bias: bool) -> Array:
        return product(operation, columns.reshape(-1, *shape), bias=bias).reshape(len(columns), -1)

    if isinstance(op, (Reshape, Permute)):
        moved = apply(op, np.column_stack([x.coefficients, x.constant, x.error]).T, bias=False).T
        return Forms(moved[:, :-2], moved[:, -2], moved[:, -1])
    magnitude = apply(absolute(op), x.magnitude(variables)[None], bias=True)[0]
    terms = row_length(op) + len(variables.lower) + 2 * getattr(op, "roundings", 0) + 4
    error = apply(absolute(op), x.error[None], bias=False)[0] + gamma(terms) * magnitude
    coefficients = apply(op, x.coefficients.T, bias=False).T
    return Forms(coefficients, apply(op, x.constant[None], bias=True)[0], (error + _TINY) * _UP)


def _sum(x: Forms, y: Forms, variables: Variables) -> Forms:
    size = x.magnitude(variables) + y.magnitude(variables)
    error = (x.error + y.error + gamma(len(variables.lower) + 4) * size + _TINY) * _UP
    return Forms(x.coefficients + y.coefficients, x.constant + y.constant, error)


def _rectified(leak: float, x: Forms, state: _State, known: tuple[Array, Array] | None) -> Forms:
    """max(z, leak z) = leak z + (1 - leak) relu(z), with relu(z) the form itself, nothing, or a variable."""
    low, high = x.interval(state.variables)
    if known is not None:
        low, high = np.maximum(low, known[0]), np.minimum(high, known[1])
    kept = np.where(low >= 0, 1.0, leak)
    unstable = np.flatnonzero((low < 0) & (high > 0))
    scaling = gamma(state.count + 4) * x.magnitude(state.variables) if leak else 0.0
    error = (x.error * kept + scaling) * _UP
    units = {
        i: state.activation(x.coefficients[i], float(x.constant[i]), float(x.error[i]), float(low[i]), float(high[i]))
        for i in unstable
    }
    forms = Forms(x.coefficients * kept[:, None], x.constant * kept, error).widened(state.count)
    for i, unit in units.items():
        forms.coefficients[i, unit.variable] += 1.0 - leak
        forms.error[i] += (1.0 - leak) * (unit.error + float(x.error[i])) * _UP
    return forms
