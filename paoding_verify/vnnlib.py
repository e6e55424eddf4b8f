"""VNN-LIB 1.0 specifications: boxes of inputs and what must hold of the outputs there.

A specification describes the *unsafe* set. It is brought into disjunctive normal form in exact rationals; conjunctions
with the same input box make up one region, and the property of that region excludes each of them.

Rounding. Decimal bounds are seldom float64 numbers. Boxes are rounded outward and thresholds towards the stronger
property, each by less than one ulp of float64, so that a proof holds for the specification as it is written. A witness
is judged on the same rounded box and property: certified and violated exclude each other, and a witness may miss the
written bounds by less than one ulp (the VNN-COMP rules allow 1e-4). A strict inequality of outputs is proved to fail on
its boundary too, and no witness counts that lies there. Boxes are closed: a strict bound of an input is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from fractions import Fraction
from math import gcd, lcm, nextafter, prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import SpecError
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Shape
from paoding_verify.regions import Region
from paoding_verify.vnnlib_formula import CONSTANT, STRICT, Linear, conjunction, disjuncts, variables_of
from paoding_verify.vnnlib_syntax import Form, SpecLimits, read_forms

__all__ = ["SpecLimits", "questions_of", "read_vnnlib", "write_witness"]

Interval = tuple[Fraction | None, Fraction | None]
Box = dict[str, Interval]
IGNORED = ("set-logic", "set-info", "set-option", "check-sat", "get-model")
"""SMT-LIB commands that say nothing about the property."""


def read_vnnlib(
    path: str | Path, input_shape: Shape, num_outputs: int, *, limits: SpecLimits | None = None
) -> list[tuple[Region, Property]]:
    """Pairs such that the unsafe set is empty if every property holds on its region; rounding as the module says.

    Inputs X_i are numbered row-major over `input_shape`, outputs are Y_j. Every unsafe conjunction of a region is one
    clause: one of its inequalities `row . y + offset <= 0` must fail; weak rows stand for strict ones.
    Raises: SpecError naming file, line and word; also for inputs without two finite bounds or with strict ones, for
    conditions that relate several inputs or inputs with outputs, numbers of variables that differ from the network's,
    and input conditions that no input meets.
    """
    path, limits = Path(path), limits or SpecLimits()
    variables: set[str] = set()
    parts: list[list[list[Linear]]] = []
    for line, form in read_forms(path, limits):
        try:
            if form and form[0] == "assert" and len(form) == 2:
                parts.append(disjuncts(form[1], variables, limits))
            elif not (form and form[0] in IGNORED):
                _declare(form, variables)
        except SpecError as error:
            raise SpecError(f"{path.name}, line {line}: {error}") from None
    try:
        _check_variables(variables, prod(input_shape), num_outputs)
        return questions_of(parts, input_shape, num_outputs, path.name, limits)
    except SpecError as error:
        raise SpecError(f"{path.name}: {error}") from None


def questions_of(
    parts: Sequence[list[list[Linear]]], input_shape: Shape, num_outputs: int, source: str, limits: SpecLimits
) -> list[tuple[Region, Property]]:
    """Asserted formulas over inputs X_i and outputs Y_j, in disjunctive normal form, as `read_vnnlib` returns them.

    Raises: SpecError for what it does not handle.
    """
    groups = _groups(parts, prod(input_shape), limits)
    pairs = [(_box(box, input_shape), _property(cases, num_outputs)) for box, cases in groups]
    return [(Region(f"r{k:04d}", lower, upper, source=source), held) for k, ((lower, upper), held) in enumerate(pairs)]


def write_witness(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> str:
    """A counterexample in VNN-COMP form, ((X_0 1.0) ... (Y_0 2.0)), a pair a line, every number exact.

    Shapes: any; numbered row-major.
    """
    named = [f"({name}_{k} {float(v)!r})" for name, a in (("X", x), ("Y", y)) for k, v in enumerate(a.ravel())]
    return "(" + "\n ".join(named) + ")"


def _declare(form: Form, variables: set[str]) -> None:
    if len(form) != 3 or form[0] != "declare-const" or form[2] != "Real" or not isinstance(form[1], str):
        raise SpecError("expected (declare-const X_i Real), (declare-const Y_j Real) or (assert condition)")
    if not re.fullmatch(r"[XY]_(0|[1-9]\d{0,8})", form[1]):
        raise SpecError(f"the variable {form[1][:40]!r} is neither an input X_i nor an output Y_j")
    if form[1] in variables:
        raise SpecError(f"{form[1]} is declared twice")
    variables.add(form[1])


def _check_variables(variables: Set[str], num_inputs: int, num_outputs: int) -> None:
    for letter, count, what in (("X", num_inputs, "input"), ("Y", num_outputs, "output")):
        declared = sum(name[0] == letter for name in variables)
        if declared != count or not all(f"{letter}_{k}" in variables for k in range(count)):
            names = f"{count} {what}s, {letter}_0 to {letter}_{count - 1}" if count > 1 else f"{what}, {letter}_0"
            raise SpecError(f"it must declare the network's {names}, and no other; it declares {declared or 'none'}")


def _groups(
    parts: Sequence[list[list[Linear]]], num_inputs: int, limits: SpecLimits
) -> list[tuple[Box, list[list[Linear]]]]:
    """Unsafe output conjunctions by input box, empty boxes left out.

    Asserts without alternatives are gone through once, not once per disjunct: they bound thousands of inputs.
    """
    shared, always = _split([c for part in parts if len(part) == 1 for c in part[0]], {})
    groups: dict[frozenset[tuple[str, Interval]], list[list[Linear]]] = {}
    for case in conjunction([part for part in parts if len(part) != 1], limits):
        changed, outputs = _split(case, shared or {})
        if shared is None or changed is None:
            continue
        groups.setdefault(frozenset(changed.items()), []).append([*always, *outputs])
    if shared is None or not groups:
        raise SpecError("no input meets its input conditions, so that it says nothing about the network")
    if len(groups) * num_inputs > limits.max_spec_terms:
        raise SpecError(
            f"it has {len(groups)} boxes of {num_inputs} inputs; at most {limits.max_spec_terms} bounds are read"
        )
    return [({**shared, **dict(changed)}, cases) for changed, cases in groups.items()]


def _split(case: Sequence[Linear], start: Box) -> tuple[Box | None, list[Linear]]:
    """Intervals that the case narrows beyond `start` (None: it is empty), and its conditions on outputs."""
    box: Box = {}
    outputs: list[Linear] = []
    for linear in case:
        names = variables_of(linear)
        if not names:
            if linear[CONSTANT] > 0 or (linear[CONSTANT] == 0 and STRICT in linear):
                return None, []
        elif all(name[0] == "Y" for name in names):
            outputs.append(linear)
        elif len(names) > 1:
            raise SpecError(f"a condition relates {', '.join(sorted(names)[:4])}: only boxes of inputs are handled")
        else:
            (name,) = names
            if STRICT in linear:
                raise SpecError(f"a bound of {name} is strict; boxes are closed: write <= or >=")
            old = box.get(name, start.get(name, (None, None)))
            new = _narrow(old, linear[name], -linear[CONSTANT] / linear[name])
            if new[0] is not None and new[1] is not None and new[0] > new[1]:
                return None, []
            if new != old:
                box[name] = new
    return box, outputs


def _narrow(old: Interval, coefficient: Fraction, end: Fraction) -> Interval:
    low, high = old
    if coefficient > 0:
        return low, end if high is None else min(high, end)
    return end if low is None else max(low, end), high


def _box(box: Box, input_shape: Shape) -> tuple[Array, Array]:
    intervals = [box.get(f"X_{k}", (None, None)) for k in range(prod(input_shape))]
    for k, (low, high) in enumerate(intervals):
        if low is None or high is None:
            raise SpecError(f"the input X_{k} has no {'lower' if low is None else 'upper'} bound")
    lower = [_rounded_down(low, f"bound of X_{k}") for k, (low, _) in enumerate(intervals) if low is not None]
    upper = [-_rounded_down(-high, f"bound of X_{k}") for k, (_, high) in enumerate(intervals) if high is not None]
    return np.array(lower).reshape(input_shape), np.array(upper).reshape(input_shape)


def _property(cases: Sequence[Sequence[Linear]], num_outputs: int) -> Property:
    """Excludes every case. A case without conditions on outputs is unsafe at every input: its row is never positive."""
    rows: list[tuple[tuple[float, ...], float]] = []
    clauses = []
    weak: list[int] = []
    for case in cases:
        weak += [len(rows) + k for k, linear in enumerate(case) if STRICT in linear]
        of_case = [_row(linear, num_outputs) for linear in case] or [((0.0,) * num_outputs, -1.0)]
        clauses.append(tuple(range(len(rows), len(rows) + len(of_case))))
        rows += of_case
    return Property(
        np.array([row for row, _ in rows]), np.array([offset for _, offset in rows]), tuple(clauses), weak=tuple(weak)
    )


def _row(linear: Linear, num_outputs: int) -> tuple[tuple[float, ...], float]:
    """Coefficients, scaled to float64 numbers exactly, and the constant, rounded down: the property gets stronger."""
    exact = [linear.get(f"Y_{k}", Fraction(0)) for k in range(num_outputs)]
    scale = Fraction(1)
    if not all(_is_float64(c) for c in exact):
        scale = Fraction(lcm(*(c.denominator for c in exact)), gcd(*(c.numerator for c in exact)))
    scaled = [c * scale for c in exact]
    if not all(_is_float64(c) for c in scaled):
        raise SpecError("the coefficients of an output condition are no multiples of float64 numbers")
    return tuple(float(c) for c in scaled), _rounded_down(linear[CONSTANT] * scale, "threshold of an output condition")


def _is_float64(value: Fraction) -> bool:
    try:
        return Fraction(float(value)) == value
    except OverflowError:
        return False


def _rounded_down(value: Fraction, what: str) -> float:
    try:
        nearest = float(value)
    except OverflowError:
        raise SpecError(f"the {what} exceeds float64") from None
    result = nearest if Fraction(nearest) <= value else nextafter(nearest, -np.inf)
    if not np.isfinite(result):
        raise SpecError(f"the {what} exceeds float64")
    return result
