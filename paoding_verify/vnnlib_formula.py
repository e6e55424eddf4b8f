"""Formulas of VNN-LIB as exact rationals: linear inequalities, and their disjunctive normal form."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from fractions import Fraction
from itertools import chain, product

from paoding_verify.errors import SpecError
from paoding_verify.vnnlib_syntax import Form, SpecLimits

__all__ = ["CONSTANT", "STRICT", "Linear", "disjuncts", "variables_of"]

CONSTANT = ""
"""Key of the constant term of a linear expression; no variable has the empty name."""
STRICT = "<"
"""Key that an inequality has if it is strict; nor has any variable this name."""
Linear = dict[str, Fraction]
"""Coefficients by variable name, none of them zero, and the constant term under CONSTANT (always there). Read as an
inequality it says that the expression is at most 0, with STRICT that it is less.
"""
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE]([+-]?[0-9]+))?")
MAX_DIGITS, MAX_EXPONENT, MAX_BITS = 1000, 1000, 20_000
"""Numbers beyond these would let a short text ask for endless arithmetic; float64 needs far less."""


def disjuncts(form: Form, variables: Set[str], limits: SpecLimits) -> list[list[Linear]]:
    """The formula as a list of conjunctions of inequalities `expression <= 0` or `expression < 0`.

    Raises: SpecError for operators other than and, or, <=, >=, <, >, +, -, *, undeclared variables, products of
    variables, or a normal form beyond the limits.
    """
    if not isinstance(form, tuple) or not form:
        raise SpecError(f"{_show(form)} is no condition")
    head, arguments = form[0], form[1:]
    if head == "and":
        return conjunction([disjuncts(part, variables, limits) for part in arguments], limits)
    if head == "or":
        result = list(chain.from_iterable(disjuncts(part, variables, limits) for part in arguments))
        _check_size(len(result), sum(map(len, result)), limits)
        return result
    if head not in ("<=", "<", ">=", ">") or len(arguments) != 2:
        raise SpecError(f"{_show(form)} is no condition: expected and, or, or one of <= >= < > between two terms")
    left, right = (_linear(term, variables) for term in arguments)
    linear = _sum([left, _scaled(right, -1)] if head[0] == "<" else [right, _scaled(left, -1)])
    return [[linear if head[1:] else {**linear, STRICT: Fraction(1)}]]


def variables_of(linear: Linear) -> list[str]:
    """The variables that an inequality is about."""
    return [name for name in linear if name not in (CONSTANT, STRICT)]


def conjunction(parts: Sequence[list[list[Linear]]], limits: SpecLimits) -> list[list[Linear]]:
    """The conjunction of formulas in disjunctive normal form, in that form. Raises: SpecError beyond the limits."""
    common = list(chain.from_iterable(part[0] for part in parts if len(part) == 1))
    choices = [part for part in parts if len(part) != 1]
    cases = 0 if any(not part for part in choices) else 1
    terms = len(common)
    for part in choices if cases else ():
        terms = terms * len(part) + cases * sum(map(len, part))
        cases *= len(part)
        _check_size(cases, terms, limits)
    return [[*common, *chain.from_iterable(choice)] for choice in product(*choices)]


def _check_size(cases: int, terms: int, limits: SpecLimits) -> None:
    if cases > limits.max_spec_disjuncts or terms > limits.max_spec_terms:
        raise SpecError(
            f"in disjunctive normal form the unsafe set exceeds {limits.max_spec_disjuncts} cases or "
            f"{limits.max_spec_terms} inequalities"
        )


def _linear(term: Form, variables: Set[str]) -> Linear:
    if isinstance(term, str):
        if term in variables:
            return {term: Fraction(1), CONSTANT: Fraction(0)}
        return {CONSTANT: _number(term)}
    if len(term) < 2 or term[0] not in ("+", "-", "*"):
        raise SpecError(f"{_show(term)} is no term: expected a number, a variable, or + - * of terms")
    parts = [_linear(part, variables) for part in term[1:]]
    if term[0] == "+":
        return _sum(parts)
    if term[0] == "-":
        return _scaled(parts[0], -1) if len(parts) == 1 else _sum([parts[0], *(_scaled(p, -1) for p in parts[1:])])
    result = parts[0]
    for part in parts[1:]:
        if len(part) > 1 and len(result) > 1:
            raise SpecError(f"{_show(term)} multiplies variables; only products with numbers are linear")
        result = _scaled(result, part[CONSTANT]) if len(part) == 1 else _scaled(part, result[CONSTANT])
    return result


def _number(word: str) -> Fraction:
    match = NUMBER.fullmatch(word)
    if not match:
        raise SpecError(f"{word[:40]!r} is neither a declared variable nor a number")
    if len(word) > MAX_DIGITS or abs(int(match.group(4) or 0)) > MAX_EXPONENT:
        raise SpecError(f"the number {word[:40]} is too long or too large")
    return Fraction(word)


def _sum(parts: Sequence[Linear]) -> Linear:
    total: Linear = {CONSTANT: Fraction(0)}
    for part in parts:
        for name, value in part.items():
            total[name] = _bounded(total.get(name, Fraction(0)) + value)
    return {name: value for name, value in total.items() if value or name == CONSTANT}


def _scaled(linear: Linear, factor: Fraction | int) -> Linear:
    return {name: _bounded(value * factor) for name, value in linear.items() if factor or name == CONSTANT}


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise SpecError("arithmetic on constants gives a number that is too long")
    return value


def _show(form: Form) -> str:
    """The form as text, cut to a line."""
    text = form if isinstance(form, str) else f"({' '.join(_show(part) for part in form[:6])})"
    return text if len(text) <= 60 else f"{text[:57]}..."
