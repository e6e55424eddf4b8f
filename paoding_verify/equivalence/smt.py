"""Questions put to z3: the only module that uses it.

The question "is there a point of the region where every row of some clause is at most 0" is put to z3 with
coefficients rounded to multiples of 2^-14 and one slack variable per row that covers what was rounded away. Every real
point of the region is a solution of the rounded question, so "no solution" is a proof; a solution is only a candidate,
which counts as refuting after exact evaluation at a point of the region.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor, frexp
from time import monotonic
from typing import Any

import numpy as np
import z3

from paoding_verify.equivalence.encoding import Unit, Variables
from paoding_verify.equivalence.question import ClauseAnswer, Question
from paoding_verify.network.graph import Array

__all__ = ["GRID", "rounded_form", "solve_smt"]

GRID = 2**14
"""Coefficients are rounded to multiples of 1 / GRID."""
_MEMORY_MB = 2048


def solve_smt(question: Question, limit_s: float) -> list[ClauseAnswer]:
    """One answer per clause, in order, up to the first that has a point."""
    deadline, answers = monotonic() + limit_s, []
    constraints = _Constraints(question)
    lower, _ = question.rows.interval(question.variables)
    for clause in question.clauses:
        scale = float(np.abs(lower[list(clause)]).max())
        points: list[tuple[float, ...]] = []
        reason = ""
        # A first candidate often lies exactly where a row is 0, and rounding decides; deeper ones bear it out.
        for depth in (0.0, scale * 2**-10, scale * 2**-5):
            found = constraints.solve(clause, depth, deadline - monotonic())
            if not isinstance(found, np.ndarray):
                reason = found or ""
                break
            points.append(tuple(found.tolist()))
        if points:
            answers.append(ClauseAnswer("point", tuple(points)))
            break
        answers.append(ClauseAnswer("undecided", (), reason) if reason else ClauseAnswer("none"))
    return answers


class _Constraints:
    """A box, its unstable ReLUs and facts as z3 constraints; clauses are added and taken back."""

    def __init__(self, question: Question) -> None:
        # A context of its own: no state is shared with other users of z3, and its memory goes with it.
        self._context = z3.Context()
        self._question = question
        self._solver = z3.Tactic("qflra", ctx=self._context).solver()
        self._solver.set("max_memory", _MEMORY_MB)
        self._variables = [z3.Real(f"v{k}", ctx=self._context) for k in range(len(question.variables.lower))]
        self._num_slacks = 0
        for k, centre in enumerate(map(Fraction, question.centre)):
            low, high = Fraction(question.lower[k]) - centre, Fraction(question.upper[k]) - centre
            self._add(self._variables[k] >= self._number(_outward(low, -1)))
            self._add(self._variables[k] <= self._number(_outward(high, 1)))
        for unit in question.units:
            self._add_unit(unit)
        facts = question.facts
        for fact in zip(facts.coefficients, facts.constant, facts.error, strict=True):
            self._add(self._expression(*fact) >= 0)

    def solve(self, clause: Sequence[int], depth: float, timeout_s: float) -> Array | str | None:
        """None: no point makes every row of the clause at most -depth. An array: a flat float64 point of the box that
        nearly does. A text: why there is no answer.
        """
        if timeout_s <= 0:
            return "timeout"
        rows = self._question.rows
        self._solver.push()
        for r in clause:
            self._add(self._expression(rows.coefficients[r], rows.constant[r] + depth, rows.error[r]) <= 0)
        self._solver.set("timeout", max(1, int(timeout_s * 1000)))
        answer = self._solver.check()
        found: Array | str | None = None
        if answer == z3.sat:
            found = self._point(self._solver.model())
        elif answer != z3.unsat:
            found = str(self._solver.reason_unknown()) or "z3 gave up"
        self._solver.pop()
        return found

    def _add(self, *constraints: Any) -> None:
        self._solver.add(*constraints)

    def _number(self, value: Fraction) -> Any:
        return z3.RealVal(value, ctx=self._context)

    def _expression(self, coefficients: Array, constant: float, error: float) -> Any:
        """A form with rounded coefficients and a slack variable that covers the rounding and the form's error."""
        rounded, number, slack = rounded_form(coefficients, constant, error, self._question.variables)
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
        for k, centre in enumerate(map(Fraction, self._question.centre)):
            value = model.eval(self._variables[k], model_completion=True)
            values.append(float(Fraction(value.numerator_as_long(), value.denominator_as_long()) + centre))
        return np.clip(np.array(values), self._question.lower, self._question.upper)


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
