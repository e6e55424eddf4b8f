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
Parts of a tree may have slopes and shares of their own for the leaves' rows; any are valid.
A leaf on which two enclosures exclude each other (lower > upper) has no executions: nothing is left to prove there.

Source: Wang et al., arXiv 2103.06624 (the multipliers).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.backward import Indices, Pass, State, take_back
from paoding_verify.checker.crown import CHUNK_NUMBERS, bound_rows, enclose
from paoding_verify.checker.differential import Twins, pair_state
from paoding_verify.checker.intervals import Enclosure, enclose_activation
from paoding_verify.checker.program import Program, check_slopes, num_units, single_program
from paoding_verify.checker.relax import Lines
from paoding_verify.errors import InputError
from paoding_verify.evidence.certificate import LEAF, Certificate, ReluTree, Slopes
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, LeakyRelu, Network, Relu

__all__ = ["MAX_CASES", "MAX_CONDITIONS", "Leaf", "bound_leaves", "cases", "margin_by_cases", "narrowed", "root_state"]

Record = TypeVar("Record", Enclosure, Lines)

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
    slopes: Slopes = field(default_factory=dict)
    """For its row, tables of one row; beside those of the certificate."""
    shares: Slopes = field(default_factory=dict)
    """Likewise."""


def margin_by_cases(
    networks: Sequence[Network], lower: Array, upper: Array, prop: Property, certificate: Certificate, semantics: str
) -> float:
    """A proved lower bound of the property's margin on one box; minus infinity where nothing is proved.

    Shapes: networks: one, or (f, g); lower, upper (*input_shape).
    Raises: InputError if the certificate's trees fit neither the networks nor the property.
    """
    state = root_state(networks, lower, upper, prop, certificate, semantics)
    leaves = [_checked(tree, prop, state.program) for tree in certificate.trees]
    if len({tree.clause for tree in certificate.trees}) != len(leaves) or sum(map(len, leaves)) > MAX_CASES:
        raise InputError(f"the certificate has two trees for one clause, or more than {MAX_CASES} leaves")
    with np.errstate(all="ignore"):
        found = bound_rows(replace(state, coupling=None), prop.rows, prop.offsets)[0]
        if state.coupling is not None:
            found = np.maximum(found, bound_rows(state, prop.rows, prop.offsets)[0])
        margins = [float(found[list(clause)].max()) for clause in prop.clauses]
        for tree, parts in zip(certificate.trees, leaves, strict=True):
            least = float(bound_leaves(state, parts, prop, semantics).min())
            # Leaves cover a region that is not empty; if all are empty, some enclosure is wrong.
            if np.isfinite(least):
                margins[tree.clause] = max(margins[tree.clause], least)
    return min(margins)


def root_state(
    networks: Sequence[Network], lower: Array, upper: Array, prop: Property, certificate: Certificate, semantics: str
) -> State:
    """What the checker knows of all values on the whole box. Raises: InputError as `enclose`."""
    slopes = [certificate.slopes] if certificate.slopes else None
    box, num_rows = (lower[None], upper[None]), len(prop.rows)
    if len(networks) == 1:
        return enclose(single_program(networks[0]), *box, semantics, slopes=slopes, num_rows=num_rows)
    f, g = networks
    shares = [certificate.shares] if certificate.shares else None
    return pair_state(f, g, box, certificate.alignment, semantics, slopes=slopes, shares=shares, num_rows=num_rows)


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
    turns = {entry: _turn(tree, row) for row, entry in enumerate(tree.turns)}
    pending: list[tuple[tuple[tuple[int, int, int], ...], tuple[Slopes, Slopes]]] = [((), ({}, {}))]
    used = leaf = 0
    for entry, (node, unit) in enumerate(zip(tree.nodes, tree.units, strict=True)):
        if not pending:
            raise InputError("a tree of ReLU splits goes on after its last leaf")
        path, lines = pending.pop()
        lines = turns.get(entry, lines)
        if node != LEAF:
            if len(path) >= MAX_DEPTH:
                raise InputError(f"a tree of ReLU splits is more than {MAX_DEPTH} levels deep")
            pending += [((*path, (node, unit, 1)), lines), ((*path, (node, unit, -1)), lines)]
            continue
        if leaf >= len(scales) or used + len(path) > min(len(values), MAX_CONDITIONS):
            raise InputError("a tree of ReLU splits has fewer multipliers than conditions, or too many of both")
        yield Leaf(unit, path, values[used : used + len(path)] * scales[leaf], *lines)
        used, leaf = used + len(path), leaf + 1
    if pending or leaf != len(scales) or used != len(values):
        raise InputError("a tree of ReLU splits ends before its last leaf, or its multipliers do not fit")


def _turn(tree: ReluTree, row: int) -> tuple[Slopes, Slopes]:
    """One row of the tree's slopes and shares. Raises: InputError if a table has too few rows."""
    if any(len(table) not in (1, len(tree.turns)) for each in (tree.slopes, tree.shares) for table in each.values()):
        raise InputError("a tree of ReLU splits has tables of slopes or shares that do not fit its turns")
    slopes, shares = (
        {key: table[row : row + 1] if len(table) > 1 else table for key, table in each.items()}
        for each in (tree.slopes, tree.shares)
    )
    return slopes, shares


def _checked(tree: ReluTree, prop: Property, program: Program) -> list[Leaf]:
    """The leaves of a tree that fits. Raises: InputError if it does not."""
    if not 0 <= tree.clause < len(prop.clauses):
        raise InputError(f"the certificate has a tree for clause {tree.clause} of {len(prop.clauses)}")
    steps = {step.number: step for step in program.steps}
    for each in (tree.slopes, tree.shares):
        check_slopes(program, each, len(tree.turns))
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
    if not all(np.isfinite(value.charge).all() for value in state.values):
        return np.full(len(leaves), -np.inf)
    size = sum(int(np.prod(shape)) for shape in state.program.shapes)
    step = max(1, CHUNK_NUMBERS // size)
    return np.concatenate(
        [_bound_some(state, leaves[i : i + step], prop, semantics) for i in range(0, len(leaves), step)]
    )


def _bound_some(state: State, leaves: Sequence[Leaf], prop: Property, semantics: str) -> Array:
    part, credit, empty = narrowed(state, leaves, semantics)
    part = replace(
        part,
        slopes=_beside(part.slopes, [leaf.slopes for leaf in leaves]),
        shares=_beside(part.shares, [leaf.shares for leaf in leaves]),
    )
    numbers = np.array([leaf.row for leaf in leaves], dtype=np.intp)
    found = _bounds(replace(part, coupling=None), prop, numbers, credit)
    if part.coupling is not None:
        found = np.maximum(found, _bounds(part, prop, numbers, credit))
    return np.where(empty, np.inf, found)


def _beside(tables: Sequence[Slopes] | None, own: Sequence[Slopes]) -> Sequence[Slopes] | None:
    """Each leaf's own tables, or else the certificate's. Leaves that have the same tables get the same objects."""
    if not any(own):
        return tables
    known: dict[int, Slopes] = {}
    for each, general in zip(own, tables or [{}] * len(own), strict=True):
        known.setdefault(id(each), {**general, **each})
    return [known[id(each)] for each in own]


def _bounds(state: State, prop: Property, numbers: Indices, credit: dict[int, Array]) -> Array:
    """One row for each region of the state. Shapes: numbers (n,) -> (n,)."""
    widths = [state.program.shapes[value][0] for value in state.program.outputs]
    pieces = np.split(prop.rows[numbers].astype(np.float64), np.cumsum(widths)[:-1], axis=1)
    coefficients = dict(zip(state.program.outputs, pieces, strict=True))
    zero = np.zeros(len(numbers))
    rows = Pass(np.arange(len(numbers)), coefficients, prop.offsets[numbers].astype(np.float64), zero, credit)
    return take_back(state, rows, len(state.program.steps), numbers)


def narrowed(
    state: State, leaves: Sequence[Leaf], semantics: str
) -> tuple[State, dict[int, Array], npt.NDArray[np.bool_]]:
    """The state of one region on each of its leaves, their credits, and which of them have no executions."""
    program, count = state.program, len(leaves)
    steps = {step.number: index for index, step in enumerate(program.steps)}
    bounds: dict[int, tuple[Array, Array]] = {}
    credit: dict[int, Array] = {}
    for k, leaf in enumerate(leaves):
        for (node, unit, sign), beta in zip(leaf.conditions, leaf.multipliers, strict=True):
            step = program.steps[steps[node]]
            value = step.inputs[0]
            if value not in bounds:
                root, shape = state.values[value], (count, *program.shapes[value])
                bounds[value] = np.broadcast_to(root.lower, shape).copy(), np.broadcast_to(root.upper, shape).copy()
                credit[value] = np.zeros(shape)
            place = unit if step.kept is None else int(step.kept[unit])
            low, high, credited = (a.reshape(count, -1)[k] for a in (*bounds[value], credit[value]))
            if sign > 0:
                low[place] = max(low[place], 0.0)
            else:
                high[place] = min(high[place], 0.0)
            credited[place] += sign * beta
    coupling = state.coupling.on_leaves(count, bounds, state) if isinstance(state.coupling, Twins) else None
    empty = np.zeros(count, dtype=bool)
    for low, high in (*bounds.values(), *(coupling.differences.values() if coupling is not None else ())):
        empty |= (low > high).reshape(count, -1).any(axis=1)
    return replace(_on_leaves(state, bounds, count, semantics), coupling=coupling), credit, empty


def _on_leaves(state: State, bounds: dict[int, tuple[Array, Array]], count: int, semantics: str) -> State:
    """What holds on the whole region, once for each of its leaves, with narrower bounds and new lines where known."""
    values = [_repeated(value, count) for value in state.values]
    lines = {index: _repeated(each, count) for index, each in state.lines.items()}
    for value, (low, high) in bounds.items():
        values[value] = replace(values[value], lower=low, upper=high)
        for index in state.program.readers[value]:
            op = state.program.steps[index].op
            if isinstance(op, (Relu, LeakyRelu)):
                values[index + 1], lines[index] = enclose_activation(op, values[value], semantics)
    slopes, shares = (None if hints is None else [hints[0]] * count for hints in (state.slopes, state.shares))
    return replace(state, values=values, lines=lines, slopes=slopes, shares=shares)


def _repeated(record: Record, count: int) -> Record:
    """A record whose arrays are about one region, as one about `count` regions."""
    changes: dict[str, Any] = {}
    for item in fields(record):
        array: Any = getattr(record, item.name)
        if isinstance(array, np.ndarray):
            changes[item.name] = np.broadcast_to(array, (count, *array.shape[1:]))
    return replace(record, **changes)
