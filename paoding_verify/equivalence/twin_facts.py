"""What the checker knows of a pair on a region, for exact encodings: pre-activation bounds, and bounds of differences.

A fact is a form that is at least 0 at every point of the region, up to its error. Facts follow from the encoding
already; stated as rows, they make the relaxations that a solver works with as tight as joint bounds of the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.backward import State
from paoding_verify.checker.crown import enclose
from paoding_verify.checker.relax import rectifier_lines
from paoding_verify.equivalence.encoding import Bounds, Encoding, Forms, gamma
from paoding_verify.equivalence.question import no_facts
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.network.graph import Array, LeakyRelu, Network
from paoding_verify.regions import Region

__all__ = ["TwinBounds", "hidden_bounds", "known_of_pair", "twin_facts"]

_ROOM = 1.0 + 2.0**-40
"""Covers the few roundings of sums of non-negative numbers that error terms are made of."""
_TINY = 2.0**-1000


@dataclass(frozen=True, eq=False)
class TwinBounds:
    """Proved bounds of z_f - z_g for the aligned units of one ReLU layer, in real arithmetic."""

    layer: int
    """Number of the activation layer."""
    f_units: npt.NDArray[np.intp]
    """Flat positions in f's layer of the units that g's units continue, in g's order."""
    lower: Array
    """(units of g,)"""
    upper: Array
    """(units of g,)"""


def hidden_bounds(network: Network, region: Region) -> Bounds:
    """Pre-activation bounds of every activation node, proved by the checker in real arithmetic."""
    state = enclose([network], region.lower[None], region.upper[None], "real")
    inputs = [network.nodes[k].inputs[0] for k in network.activations]
    return [(state.values[value].lower[0], state.values[value].upper[0]) for value in inputs]


def known_of_pair(
    original: Network, pruned: Network, alignment: tuple[tuple[int, ...], ...] | None, region: Region
) -> tuple[list[Bounds], list[TwinBounds]]:
    """Pre-activation bounds of both networks, each improved by the other, and bounds of their differences.

    Without an alignment that fits, each network's own bounds and no differences.
    """
    hints = [Certificate("differential", alignment=alignment)]
    state = enclose([original, pruned], region.lower[None], region.upper[None], "real", hints=hints)
    if not state.differences:
        return [hidden_bounds(network, region) for network in (original, pruned)], []
    bounds: list[list[tuple[Array, Array]]] = [[], []]
    twins = []
    of_f = {step.number: index for index, step in enumerate(state.program.steps)}
    for layer, (k, m) in enumerate(zip(original.activations, pruned.activations, strict=True)):
        f_step, g_step = of_f[k], of_f[len(original.nodes) + m]
        size = int(np.prod(original.shapes[k + 1]))
        kept = state.program.steps[g_step].kept
        units = np.arange(size) if kept is None else kept
        bounds[0].append(_box(state, state.program.steps[f_step].inputs[0], np.arange(size)))
        bounds[1].append(_box(state, state.program.steps[g_step].inputs[0], units))
        value = state.program.steps[g_step].inputs[0]
        if value in state.differences and not isinstance(original.nodes[k].op, LeakyRelu):
            low, high = (end[0].ravel()[units] for end in state.differences[value])
            twins.append(TwinBounds(layer, units, low, high))
    return [*bounds], twins


def _box(state: State, value: int, units: npt.NDArray[np.intp]) -> tuple[Array, Array]:
    return state.values[value].lower[0].ravel()[units], state.values[value].upper[0].ravel()[units]


def twin_facts(encoding: Encoding, twins: Sequence[TwinBounds]) -> Forms:
    """For every twin unit of which a half is unstable: z = z_f - z_g within its bounds, and D = relu(z_f) - relu(z_g)
    below the lines over them, from both sides. Sound for the real-valued networks if the bounds are.
    """
    count = len(encoding.variables.lower)
    found = [no_facts(count)]
    for twin in twins:
        sides = [encoding.layers[side][twin.layer] for side in (0, 1)]
        (zf, hf), (zg, hg) = ([forms.widened(count) for forms in side] for side in sides)
        zf, hf = _chosen(zf, twin.f_units), _chosen(hf, twin.f_units)
        inexact = np.flatnonzero([_differs(hf, hg, u) and (_differs(hf, zf, u) or _differs(hg, zg, u))
                                  for u in range(len(twin.lower))])  # fmt: skip
        low, high = twin.lower[inexact], twin.upper[inexact]
        parts = [_chosen(forms, inexact) for forms in (zf, zg, hf, hg)]
        above, below = rectifier_lines(0.0, low, high), rectifier_lines(0.0, -high, -low)
        one, zero = np.ones(len(low)), np.zeros(len(low))
        # s z + t - D >= 0 above, s' (-z) + t' + D >= 0 below
        for z, d, shift in (
            (one, zero, -low), (-one, zero, high), (above.upper_slope, -one, above.upper_shift),
            (-below.upper_slope, one, below.upper_shift),
        ):  # fmt: skip
            found.append(_combined(encoding, parts, (z, -z, d, -d), shift))
    return Forms(*(np.concatenate([getattr(f, name) for f in found]) for name in ("coefficients", "constant", "error")))


def _chosen(forms: Forms, units: npt.NDArray[np.intp]) -> Forms:
    return Forms(forms.coefficients[units], forms.constant[units], forms.error[units])


def _differs(x: Forms, y: Forms, unit: int) -> bool:
    return not (np.array_equal(x.coefficients[unit], y.coefficients[unit]) and x.constant[unit] == y.constant[unit])


def _combined(encoding: Encoding, parts: Sequence[Forms], factors: Sequence[Array], shift: Array) -> Forms:
    """The sum of multiples of forms, and a number, with the error of computing it."""
    coefficients = sum(c[:, None] * x.coefficients for c, x in zip(factors, parts, strict=True))
    constant = sum((c * x.constant for c, x in zip(factors, parts, strict=True)), shift)
    size = sum(
        (np.abs(c) * x.magnitude(encoding.variables) for c, x in zip(factors, parts, strict=True)), np.abs(shift)
    )
    error = sum(np.abs(c) * x.error for c, x in zip(factors, parts, strict=True))
    error = (error + gamma(len(encoding.variables.lower) + 16) * size + _TINY) * _ROOM
    return Forms(np.asarray(coefficients), np.asarray(constant), np.asarray(error))
