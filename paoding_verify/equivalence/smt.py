"""Exact decisions by z3 on small regions: the only module that uses z3.

The question "is there a point of the region where every row of some clause is at most 0" is put to z3 with
coefficients rounded to multiples of 2^-14 and one slack variable per row that covers what was rounded away. Every real
point of the region is a solution of the rounded question, so "no solution" is a proof; a solution is only a candidate,
which counts as refuting after exact evaluation at a point of the region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, frexp, prod
from time import monotonic
from typing import Any

import numpy as np
import z3

from paoding_verify.checker.crown import enclose
from paoding_verify.checker.program import single_program
from paoding_verify.equivalence.encoding import Bounds, Encoding, Forms, Unit, Variables, encode
from paoding_verify.equivalence.exact_point import exact_margin
from paoding_verify.errors import SoundnessError, UnsupportedOpError
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Array, Network
from paoding_verify.regions import Region

__all__ = ["GRID", "SmtAnswer", "hidden_bounds", "smt_decide", "spot_check"]

GRID = 2**14
"""Coefficients are rounded to multiples of 1 / GRID."""
MAX_UNSTABLE = 60
"""Regions with more unstable ReLUs are not asked: z3 would not answer in seconds."""
_MEMORY_MB = 2048
_FORM_SIZE = 2**25
"""Numbers that the forms of one value may hold; larger networks are not asked."""
_SCALES = tuple(0.5**k for k in range(12))


@dataclass(frozen=True, eq=False)
class SmtAnswer:
    """What exact arithmetic says about a property on a region."""

    status: str
    """confirmed: holds at every real point. refuted: fails, in exact arithmetic, at `point`. undecided: no answer
    within the limits, an operation without exact encoding, or a candidate that exact evaluation does not bear out."""
    point: Array | None
    """(*input_shape) float64 point of the region where the property fails; set exactly if refuted."""
    scale: float
    """Factor by which the region had been shrunk around its centre."""
    num_unstable: int
    """Unstable ReLUs of the question; 0 if it could not be encoded."""


def smt_decide(
    networks: Sequence[Network],
    region: Region,
    prop: Property,
    *,
    timeout_s: float,
    bounds: Sequence[Bounds] | None = None,
) -> SmtAnswer:
    """Decides the property on the region in real arithmetic, or says that it did not.

    bounds: sound pre-activation bounds of every network, which make more ReLUs stable; they are believed.
    """
    deadline = monotonic() + timeout_s
    if any(prod(shape) * region.lower.size > _FORM_SIZE for network in networks for shape in network.shapes[1:]):
        return SmtAnswer("undecided", None, 1.0, 0)
    try:
        encoding = encode(networks, region, bounds)
    except UnsupportedOpError:
        return SmtAnswer("undecided", None, 1.0, 0)
    count = len(encoding.units)
    rows = encoding.rows(prop)
    lower, _ = rows.interval(encoding.variables)
    open_clauses = [clause for clause in prop.clauses if not (lower[list(clause)] > 0).any()]
    if not open_clauses:
        return SmtAnswer("confirmed", None, 1.0, count)
    if count > MAX_UNSTABLE:
        return SmtAnswer("undecided", None, 1.0, count)
    question = _Question(encoding, region)
    certain = True
    for clause in open_clauses:
        scale = float(np.abs(lower[list(clause)]).max())
        # A first candidate often lies exactly where a row is 0, and rounding decides; deeper ones bear it out.
        for depth in (0.0, scale * 2**-10, scale * 2**-5):
            found = question.solve(rows, clause, depth, deadline - monotonic())
            if not isinstance(found, np.ndarray):
                certain = certain and depth == 0 and found is None
                break
            certain = False
            point = found.reshape(region.lower.shape)
            if exact_margin(networks, prop, point) <= 0:
                return SmtAnswer("refuted", point, 1.0, count)
    return SmtAnswer("confirmed" if certain else "undecided", None, 1.0, count)


def hidden_bounds(network: Network, region: Region) -> Bounds:
    """Pre-activation bounds of every activation node, proved by the checker in real arithmetic."""
    state = enclose(single_program(network), region.lower[None], region.upper[None], "real")
    inputs = [network.nodes[k].inputs[0] for k in network.activations]
    return [(state.values[value].lower[0], state.values[value].upper[0]) for value in inputs]


def spot_check(
    networks: Sequence[Network], region: Region, prop: Property, verdict: Verdict | None, *, timeout_s: float
) -> SmtAnswer:
    """Decides the property on the largest of a few shrunken copies of the region that z3 can decide.

    The copies have 1, 1/2, 1/4, ... of the region's size, around the same centre. Independent of the checker: stable
    ReLUs are found by interval arithmetic of its own.
    Raises: SoundnessError if exact arithmetic refutes a CERTIFIED claim.
    """
    deadline = monotonic() + timeout_s
    answer = SmtAnswer("undecided", None, _SCALES[-1], 0)
    for scale in _SCALES:
        left = deadline - monotonic()
        if left <= 0:
            break
        found = smt_decide(networks, _shrunk(region, scale), prop, timeout_s=left / 2)
        answer = SmtAnswer(found.status, found.point, scale, found.num_unstable)
        if answer.status != "undecided":
            break
    if answer.status == "refuted" and verdict is Verdict.CERTIFIED:
        raise SoundnessError(
            f"region {region.id}: the claim was certified, but exact arithmetic refutes it at a point of the region; "
            "one of the engines is wrong"
        )
    return answer


def _shrunk(region: Region, scale: float) -> Region:
    """The region scaled around its centre, never beyond its own ends."""
    if scale == 1.0:
        return region
    centre = np.clip(region.centre.astype(np.float64), region.lower, region.upper)
    lower = np.maximum(centre + (region.lower - centre) * scale, region.lower)
    upper = np.minimum(centre + (region.upper - centre) * scale, region.upper)
    return replace(region, lower=lower, upper=upper, eps=None)


class _Question:
    """The region and its unstable ReLUs as z3 constraints; clauses are added and taken back."""

    def __init__(self, encoding: Encoding, region: Region) -> None:
        # A context of its own: no state is shared with other users of z3, and its memory goes with it.
        self._context = z3.Context()
        self._encoding, self._region = encoding, region
        self._solver = z3.Tactic("qflra", ctx=self._context).solver()
        self._solver.set("max_memory", _MEMORY_MB)
        self._variables = [z3.Real(f"v{k}", ctx=self._context) for k in range(len(encoding.variables.lower))]
        self._num_slacks = 0
        for k, centre in enumerate(map(Fraction, encoding.centre)):
            low, high = Fraction(region.lower.flat[k]) - centre, Fraction(region.upper.flat[k]) - centre
            self._add(self._variables[k] >= self._number(_outward(low, -1)))
            self._add(self._variables[k] <= self._number(_outward(high, 1)))
        for unit in encoding.units:
            self._add_unit(unit)

    def solve(self, rows: Forms, clause: Sequence[int], depth: float, timeout_s: float) -> Array | str | None:
        """None: no point makes every row of the clause at most -depth. An array: a float64 point of the region that
        nearly does. A text: why there is no answer.
        """
        if timeout_s <= 0:
            return "timeout"
        self._solver.push()
        for r in clause:
            self._add(self._expression(rows.coefficients[r], rows.constant[r] + depth, rows.error[r]) <= 0)
        self._solver.set("timeout", max(1, int(timeout_s * 1000)))
        answer = self._solver.check()
        found: Array | str | None = None
        if answer == z3.sat:
            found = self._point(self._solver.model())
        elif answer != z3.unsat:
            found = str(self._solver.reason_unknown())
        self._solver.pop()
        return found

    def _add(self, *constraints: Any) -> None:
        self._solver.add(*constraints)

    def _number(self, value: Fraction) -> Any:
        return z3.RealVal(value, ctx=self._context)

    def _expression(self, coefficients: Array, constant: float, error: float) -> Any:
        """A form with rounded coefficients and a slack variable that covers the rounding and the form's error."""
        rounded, number, slack = rounded_form(coefficients, constant, error, self._encoding.variables)
        variable = z3.Real(f"s{self._num_slacks}", ctx=self._context)
        self._num_slacks += 1
        self._add(variable >= self._number(-slack), variable <= self._number(slack))
        terms = [self._number(c) * self._variables[k] for k, c in rounded.items()]
        return z3.Sum([*terms, self._number(number), variable])

    def _add_unit(self, unit: Unit) -> None:
        h = self._variables[unit.variable]
        z = self._expression(unit.coefficients, unit.constant, unit.error)
        low, high = _outward(Fraction(unit.lower), -1), _outward(Fraction(unit.upper), 1)
        self._add(h >= 0, h >= z, h <= self._number(high))
        self._add(self._number(high - low) * h <= self._number(high) * (z - self._number(low)))
        self._add(z3.Or(h <= 0, h <= z))

    def _point(self, model: Any) -> Array:
        """The model's input, rounded to float64 inside the region."""
        values = []
        for k in range(len(self._encoding.centre)):
            value = model.eval(self._variables[k], model_completion=True)
            exact = Fraction(value.numerator_as_long(), value.denominator_as_long())
            values.append(float(exact + Fraction(self._encoding.centre[k])))
        return np.clip(np.array(values), self._region.lower.ravel(), self._region.upper.ravel())


def rounded_form(
    coefficients: Array, constant: float, error: float, variables: Variables
) -> tuple[dict[int, Fraction], Fraction, Fraction]:
    """Coefficients and constant on the grid, and a slack such that form and rounded form differ by no more than it.

    Variables that are fixed at 0 drop out.
    """
    reach = variables.reach[: len(coefficients)]
    rounded, slack = {}, Fraction(error)
    for k in np.flatnonzero((coefficients != 0) & (reach > 0)):
        exact = Fraction(coefficients[k])
        near = _nearest(exact)
        slack += abs(exact - near) * Fraction(reach[k])
        if near:
            rounded[int(k)] = near
    number = _nearest(Fraction(constant))
    slack += abs(Fraction(constant) - number)
    return rounded, number, _outward(slack, 1)


def _nearest(value: Fraction) -> Fraction:
    return Fraction(round(value * GRID), GRID)


def _outward(value: Fraction, direction: int) -> Fraction:
    """A number with about 20 binary digits above (direction 1) or below (-1): short numbers make z3 fast."""
    _, exponent = frexp(float(value))
    grid = Fraction(2) ** max(exponent - 20, -30)
    whole = ceil(value / grid) if direction > 0 else floor(value / grid)
    return whole * grid
