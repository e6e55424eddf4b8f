"""Rigorous bounds case by case: a region is divided by the signs of pre-activations, and every part is bounded.

Executions, parts, cover. An execution is one computation of the program on a point of the region; in float32 there may
be several for one point. v_j, what a ReLU reads, is a number in each of them: where an overflow (and so NaN) cannot be
excluded, some charge is infinite, and nothing is proved here. A number is <= 0 or >= 0 (both, if it is a zero of either
sign). So every execution belongs to the part below or to the part above a split, and by induction to a leaf of the
tree. If every leaf's executions satisfy row > 0 for some row of a clause, every execution satisfies the clause.

On a leaf the enclosures of the whole region hold, for its executions are some of the region's. So does s_j v_j >= 0 for
the signs s_j on its path, exactly, for the computed v_j. It is used twice: the enclosure of v_j is intersected with it,
and the activation gets lines for what is left; and for any beta_j >= 0

    row  >=  row - sum over j of beta_j s_j v_j,

so beta_j s_j is taken off the coefficient of v_j in the backward pass. Its rounding is that of any sum of coefficients.
A leaf on which two enclosures exclude each other (lower > upper) has no executions: nothing is left to prove there.

Source: Wang et al., arXiv 2103.06624 (the multipliers).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.backward import State
from paoding_verify.checker.crown import CHUNK_NUMBERS, bound_rows, enclose
from paoding_verify.checker.differences import meet
from paoding_verify.checker.intervals import Box, enclose_nonlinear
from paoding_verify.checker.program import Program, num_units
from paoding_verify.errors import InputError
from paoding_verify.evidence.certificate import LEAF, Certificate, ReluTree
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, LeakyRelu, Network, Relu

__all__ = ["MAX_CASES", "MAX_CONDITIONS", "Leaf", "bound_leaves", "cases", "margin_by_cases", "narrowed"]

MAX_CASES = 200_000
"""Leaves that the trees of one certificate may have."""
MAX_CONDITIONS = 1 << 23
"""Sign conditions that the leaves of one tree may have together."""
MAX_DEPTH = 1000
"""Sign conditions that one leaf may have."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """One case: its conditions, and the row that is positive in it."""

    row: int
    conditions: tuple[tuple[int, int, int], ...]
    """(node, unit, sign), from the root down."""
    multipliers: Array
    """One for each condition, at least 0."""


def margin_by_cases(
    networks: Sequence[Network], lower: Array, upper: Array, prop: Property, certificate: Certificate, semantics: str
) -> float:
    """A proved lower bound of the property's margin on one box; minus infinity where nothing is proved.

    Shapes: networks: one, or (f, g); lower, upper (*input_shape).
    Raises: InputError if the certificate's trees fit neither the networks nor the property.
    """
    state = enclose(networks, lower[None], upper[None], semantics, hints=[certificate], num_rows=len(prop.rows))
    leaves = [_checked(tree, prop, state.program) for tree in certificate.trees]
    if len({tree.clause for tree in certificate.trees}) != len(leaves) or sum(map(len, leaves)) > MAX_CASES:
        raise InputError(f"the certificate has two trees for one clause, or more than {MAX_CASES} leaves")
    found = bound_rows(state, prop.rows, prop.offsets)[0]
    margins = [float(found[list(clause)].max()) for clause in prop.clauses]
    for tree, parts in zip(certificate.trees, leaves, strict=True):
        least = float(bound_leaves(state, parts, prop, semantics).min())
        # Leaves cover a region that is not empty; if all are empty, some enclosure is wrong.
        if np.isfinite(least):
            margins[tree.clause] = max(margins[tree.clause], least)
    return min(margins)


def cases(tree: ReluTree) -> Iterator[Leaf]:
    """The leaves of a tree, in order. Raises: InputError if its entries are no tree, or too many."""
    if len(tree.nodes) != len(tree.units) or len(tree.nodes) > 2 * MAX_CASES or tree.multipliers.shape[1:] != (2,):
        raise InputError("a tree of ReLU splits is damaged, or too large")
    if tree.multipliers.dtype != np.uint8 or tree.multipliers.ndim != 2:
        raise InputError("a tree of ReLU splits has multipliers that are no pairs of bytes")
    scales = np.array(tree.scales, dtype=np.float64)
    if not (np.isfinite(scales) & (scales >= 0)).all():
        raise InputError("a tree of ReLU splits has a multiplier that is negative or not finite")
    values = tree.multipliers.astype(np.float64) @ np.array([256.0, 1.0]) / 65535.0
    pending: list[tuple[tuple[int, int, int], ...]] = [()]
    used = leaf = 0
    for node, unit in zip(tree.nodes, tree.units, strict=True):
        if not pending:
            raise InputError("a tree of ReLU splits goes on after its last leaf")
        path = pending.pop()
        if node != LEAF:
            if len(path) >= MAX_DEPTH:
                raise InputError(f"a tree of ReLU splits is more than {MAX_DEPTH} levels deep")
            pending += [(*path, (node, unit, 1)), (*path, (node, unit, -1))]
            continue
        if leaf >= len(scales) or used + len(path) > min(len(values), MAX_CONDITIONS):
            raise InputError("a tree of ReLU splits has fewer multipliers than conditions, or too many of both")
        yield Leaf(unit, path, values[used : used + len(path)] * scales[leaf])
        used, leaf = used + len(path), leaf + 1
    if pending or leaf != len(scales) or used != len(values):
        raise InputError("a tree of ReLU splits ends before its last leaf, or its multipliers do not fit")


def _checked(tree: ReluTree, prop: Property, program: Program) -> list[Leaf]:
    """The leaves of a tree that fits. Raises: InputError if it does not."""
    if not 0 <= tree.clause < len(prop.clauses):
        raise InputError(f"the certificate has a tree for clause {tree.clause} of {len(prop.clauses)}")
    steps = {step.number: step for step in program.steps}
    leaves = list(cases(tree))
    if any(leaf.row not in prop.clauses[tree.clause] for leaf in leaves):
        raise InputError("a leaf of the certificate proves a row that is not in the clause of its tree")
    for node, unit in set(zip(tree.nodes, tree.units, strict=True)):
        if node == LEAF:
            continue
        step = steps.get(node)
        if step is None or not isinstance(step.op, (Relu, LeakyRelu)) or step.inputs[0] == 0:
            raise InputError(f"the certificate splits node {node}, which is no ReLU behind another node")
        if not 0 <= unit < num_units(step):
            raise InputError(f"the certificate splits unit {unit} of node {node}, which has {num_units(step)}")
    return leaves


def bound_leaves(state: State, leaves: Sequence[Leaf], prop: Property, semantics: str) -> Array:
    """Lower bounds of every leaf's row; infinity for leaves without executions. `state` is about one region."""
    found = np.full(len(leaves), -np.inf)
    if not all(np.isfinite(value.charge).all() for value in state.values):
        return found
    step = max(1, CHUNK_NUMBERS // sum(int(np.prod(shape)) for shape in state.program.shapes))
    for i in range(0, len(leaves), step):
        part = leaves[i : i + step]
        narrow, credit, empty = narrowed(state, part, semantics)
        rows = np.array([[leaf.row] for leaf in part])
        bounds = bound_rows(narrow, prop.rows[rows], prop.offsets[rows], rows, credit)
        found[i : i + step] = np.where(empty, np.inf, bounds[:, 0])
    return found


def narrowed(
    state: State, leaves: Sequence[Leaf], semantics: str
) -> tuple[State, dict[int, Array], npt.NDArray[np.bool_]]:
    """The state of one region on each of its leaves, their credits, and which of them have no executions.

    Only what is narrower on some leaf has an entry for each of them.
    """
    program, count = state.program, len(leaves)
    steps = {step.number: step for step in program.steps}
    boxes: dict[int, Box] = {}
    credit: dict[int, Array] = {}
    for k, leaf in enumerate(leaves):
        for (node, unit, sign), beta in zip(leaf.conditions, leaf.multipliers, strict=True):
            step = steps[node]
            value, place = step.inputs[0], unit if step.kept is None else int(step.kept[unit])
            if value not in boxes:
                low, high = (np.repeat(end, count, axis=0) for end in state.values[value].box)
                boxes[value], credit[value] = (low, high), np.zeros_like(low)
            low, high, credited = (array.reshape(count, -1)[k] for array in (*boxes[value], credit[value]))
            if sign > 0:
                low[place] = max(low[place], 0.0)
            else:
                high[place] = min(high[place], 0.0)
            credited[place] += sign * beta
    differences = dict(state.differences)
    for second, first in program.twins.items():
        if first in credit or second in credit:
            f, g = (boxes.get(value, state.values[value].box) for value in (first, second))
            boxes[first], boxes[second], differences[second] = meet(f, g, differences[second])
    values, lines, empty = list(state.values), dict(state.lines), np.zeros(count, dtype=bool)
    with np.errstate(all="ignore"):
        for value, (low, high) in boxes.items():
            values[value] = replace(values[value], lower=low, upper=high)
            for index in program.readers[value]:
                if index in lines:
                    op = program.steps[index].op
                    values[index + 1], lines[index] = enclose_nonlinear(op, values[value], semantics)
        for low, high in (*boxes.values(), *differences.values()):
            empty |= (low > high).reshape(len(low), -1).any(axis=1)
    return replace(state, values=values, lines=lines, differences=differences), credit, empty
