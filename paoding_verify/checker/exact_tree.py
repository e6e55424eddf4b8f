"""Proofs by cases of ReLUs, in exact rational arithmetic.

Every v_j that a ReLU reads is <= 0 or >= 0, so every point of the box belongs to a leaf of a complete tree. On a leaf
the bounds of v_j are intersected with the signs s_j of its conditions, and for any beta_j >= 0

    row  >=  row - sum over j of beta_j s_j v_j.

This is the text of `branching.py` again; trees are read, and leaves bounded, by code of its own.

Source: Wang et al., arXiv 2103.06624.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

import numpy as np

from paoding_verify.checker.exact import ExactBounds, Rows
from paoding_verify.checker.exact_numbers import Exact
from paoding_verify.checker.exact_ops import Box
from paoding_verify.checker.program import Program, check_slopes, num_units
from paoding_verify.errors import InputError, SoundnessError
from paoding_verify.evidence.certificate import LEAF, ReluTree, Slopes
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import LeakyRelu, Relu

__all__ = ["Case", "bound_cases", "cases_of", "conditions", "least_of_cases"]

CHUNK = 64
"""Cases that are bounded together."""
MULTIPLIERS = 1 << 40
"""Multipliers are rounded to multiples of 1 / MULTIPLIERS; any that is not negative is valid."""


@dataclass(frozen=True)
class Case:
    """A leaf of a tree."""

    row: int
    """Of the property, that is positive here."""
    conditions: tuple[tuple[int, int, int], ...]
    """(value, place in it, sign)"""
    multipliers: tuple[int, ...]
    """Of every condition, in 1 / MULTIPLIERS."""
    hints: tuple[Slopes, Slopes] = ({}, {})
    """Its own slopes and shares for its row, tables of one row; beside those of the certificate."""


def cases_of(tree: ReluTree, prop: Property, program: Program) -> list[Case]:
    """The leaves of a tree. Raises: InputError unless it is complete, and fits the program and the property."""
    if not 0 <= tree.clause < len(prop.clauses):
        raise InputError(f"a tree proves clause {tree.clause} of {len(prop.clauses)}")
    if len(tree.nodes) != len(tree.units) or len(tree.nodes) != 2 * len(tree.scales) - 1:
        raise InputError("a tree is not complete: it has one leaf more than splits")
    if tree.multipliers.dtype != np.uint8 or tree.multipliers.shape[1:] != (2,):
        raise InputError("a tree has multipliers that are no pairs of bytes")
    if not all(isfinite(s) and s >= 0 for s in tree.scales):
        raise InputError("a tree has a multiplier that is negative or not finite")
    steps = {step.number: step for step in program.steps}
    scales, pairs = list(map(Fraction, tree.scales)), tree.multipliers.tolist()
    turns = _turns(tree, program)
    paths: list[tuple[tuple[tuple[int, int, int], ...], tuple[Slopes, Slopes]]] = [((), ({}, {}))]
    found: list[Case] = []
    used = 0
    for entry, (node, unit) in enumerate(zip(tree.nodes, tree.units, strict=True)):
        if not paths:
            raise InputError("a tree goes on after its last leaf")
        path, hints = paths.pop()
        hints = turns.get(entry, hints)
        if node != LEAF:
            step = steps.get(node)
            if step is None or not isinstance(step.op, (Relu, LeakyRelu)) or step.inputs[0] == 0:
                raise InputError(f"a tree splits node {node}, which is no ReLU behind another node")
            if not 0 <= unit < num_units(step):
                raise InputError(f"a tree splits unit {unit} of node {node}, which has {num_units(step)}")
            place = unit if step.kept is None else int(step.kept[unit])
            paths += [((*path, (step.inputs[0], place, sign)), hints) for sign in (1, -1)]
            continue
        if unit not in prop.clauses[tree.clause] or len(found) >= len(scales) or used + len(path) > len(pairs):
            raise InputError("a leaf proves another clause, or has no multipliers")
        scale = scales[len(found)] * MULTIPLIERS / 65535
        betas = tuple(int((256 * high + low) * scale) for high, low in pairs[used : used + len(path)])
        found.append(Case(unit, path, betas, hints))
        used += len(path)
    if paths or len(found) != len(scales) or used != len(pairs):
        raise InputError("a tree ends before its last leaf, or has multipliers of no leaf")
    return found


def _turns(tree: ReluTree, program: Program) -> dict[int, tuple[Slopes, Slopes]]:
    """Slopes and shares by the entry from which on they count. Raises: InputError if they do not fit."""
    count = len(tree.turns)
    for tables in (tree.slopes, tree.shares):
        check_slopes(program, tables, count)
        if any(len(table) not in (1, count) for table in tables.values()):
            raise InputError("a tree has tables of slopes or shares that do not fit its turns")
    found: dict[int, tuple[Slopes, Slopes]] = {}
    for row, entry in enumerate(tree.turns):
        slopes, shares = (
            {key: table[[row if len(table) > 1 else 0]] for key, table in each.items()}
            for each in (tree.slopes, tree.shares)
        )
        found[entry] = slopes, shares
    return found


def least_of_cases(bounds: ExactBounds, prop: Property, cases: Sequence[Case]) -> Fraction:
    """The least lower bound of the cases' rows. Raises: SoundnessError if no case has any point."""
    found: list[Fraction] = []
    for start in range(0, len(cases), CHUNK):
        part = bound_cases(bounds, prop, cases[start : start + CHUNK])
        found += [bound for bound in part if bound is not None]
    if not found:
        raise SoundnessError("the cases of a tree have no points at all")
    return min(found)


def bound_cases(bounds: ExactBounds, prop: Property, cases: Sequence[Case]) -> list[Fraction | None]:
    """A lower bound of every case's row; None for a case that has no points."""
    boxes, taken = conditions(bounds, cases)
    parts, empty = bounds.within(boxes)
    numbers = np.array([case.row for case in cases])
    parts.take_hints([case.hints for case in cases], numbers)
    places = np.arange(len(cases))
    found = parts.rows(prop.rows[numbers], prop.offsets[numbers], places, taken=taken).fractions
    return [None if gone else bound for bound, gone in zip(found, empty, strict=True)]


def conditions(bounds: ExactBounds, cases: Sequence[Case]) -> tuple[dict[int, Box], Rows]:
    """Bounds of values in every case, and the multiples of values that are at least 0 there."""
    boxes: dict[int, Box] = {}
    taken: Rows = {}
    for k, case in enumerate(cases):
        for (value, place, sign), beta in zip(case.conditions, case.multipliers, strict=True):
            if value not in boxes:
                low, high = bounds.boxes[value]
                boxes[value] = _repeated(low, len(cases)), _repeated(high, len(cases))
                taken[value] = Exact(Exact.zeros(*boxes[value][0].numbers.shape).numbers, Fraction(1, MULTIPLIERS))
            low, high = boxes[value]
            if sign > 0:
                low.numbers[k, place] = max(low.numbers[k, place], 0)
            else:
                high.numbers[k, place] = min(high.numbers[k, place], 0)
            taken[value].numbers[k, place] += sign * beta
    return boxes, taken


def _repeated(array: Exact, count: int) -> Exact:
    """The array once for each of `count` cases. Shapes: (units,) -> (count, units)."""
    return Exact(np.repeat(array.numbers[None], count, axis=0), array.scale)
