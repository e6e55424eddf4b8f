"""Branch and bound on unstable ReLUs: a tree of cases in each of which some row of a clause is positive.

The search believes its own bounds; the tree it returns is a hint that the checker proves again.
Source: Wang et al., arXiv 2103.06624 (multipliers of sign conditions), Bunel et al., arXiv 1909.06588 (the scheme).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from paoding_verify.bounds.case_bounds import CaseBounder, CaseBounds
from paoding_verify.bounds.case_duals import best_multipliers
from paoding_verify.bounds.case_lines import Question, as_tables, improve
from paoding_verify.bounds.case_points import CasePoints
from paoding_verify.bounds.case_relaxation import Lines
from paoding_verify.bounds.case_shrink import shrunk
from paoding_verify.bounds.case_splits import split_cases
from paoding_verify.bounds.case_tree import Case, Conditions, Places, as_tree, pruned
from paoding_verify.checker.backward import State
from paoding_verify.evidence.certificate import LEAF, ReluTree, Slopes
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Float32Array, Network

__all__ = ["CaseOutcome", "search_cases"]


_BATCH, _NUMBERS, _NUMBERS_OF_BRACKETS = (64, 2048), 2**17, 2**15
"""Cases that are bounded at a time: at least, at most, and what their units may be together. A bracket is as wide as
its worst case, so it takes few at a time; a decision needs them all.
"""
_STEPS = 12
"""Steps of Adam on the multipliers of a batch."""
_ROOT_STEPS = 40
"""Steps of Adam on the slopes of the whole region."""
_TURN = 4
"""Levels of a tree after which cases get lines of their own."""
_ROWS = 2
"""Rows of a clause that are tried in a case."""
_ROOT_ROWS = 4
"""Rows of a clause whose slopes are improved on the whole region."""
_COST = 1e-6
"""What the lines of a unit must cost for it to be split before multipliers are solved for."""
_FAR = 4.0
"""A maximum whose bound is so many times what is aimed at when half of the cases are made gets no more of them."""
_ROOM = 1e-9
"""A row counts as positive above this, relative to 1 + |bound|: the checker rounds outward."""


@dataclass(frozen=True, eq=False)
class CaseOutcome:
    """What the search found: trees for all clauses that are not positive at once, a point, or a reason why neither.

    Trees that do not decide are there too: what they prove is no less than what bounds of the whole region prove.
    """

    decided: bool
    trees: tuple[ReluTree, ...] = ()
    slopes: Slopes = field(default_factory=dict)
    """Lower slopes of the property's rows that go with the trees."""
    shares: Slopes = field(default_factory=dict)
    """Of a pair: shares of twin units that go with them."""
    point: Float32Array | None = None
    """(*input_shape) a point of the box with margin <= 0."""
    attack: float = np.inf
    """Smallest margin seen at a point."""
    num_leaves: int = 0
    limit: str = ""
    """Why neither was found; empty otherwise."""


def search_cases(
    networks: Sequence[Network], state: State, prop: Property, *, max_leaves: int, limit_s: float,
    beyond: float | None = None,
) -> CaseOutcome:  # fmt: skip
    """Splits until every clause has a tree of positive cases, a point breaks the property, or a limit is reached.

    state: what the checker knows of the networks on one region. Cases with the smallest bound are taken first, in
    batches. Points at which bounds are attained, and descents from them, are looked at on the way.
    beyond: of a property that some maximum is less than the offset of every row: a point that breaks it does not end
    the search, but raises the offsets to this multiple of the maximum that it shows.
    Raises: UnsupportedOpError for operations without bounds by cases (max pooling).
    """
    return _Search(networks, CaseBounder(shrunk(state)), prop, beyond).run(max_leaves, time.monotonic() + limit_s)


class _Search:
    """One search; grows trees from the clauses of one property."""

    def __init__(
        self, networks: Sequence[Network], bounder: CaseBounder, prop: Property, beyond: float | None = None
    ) -> None:  # fmt: skip
        self._b, self._prop = bounder, prop
        self._points = CasePoints(networks, bounder.state.values[0].box, further=beyond is not None)
        self._rows, self._offsets = torch.as_tensor(prop.rows.copy()), torch.as_tensor(prop.offsets.copy())
        self._lines = self._first_lines = Lines()
        """Of every row on the whole region, then those of some cases; and those that the checker takes itself."""
        self._num_lines = len(self._rows)
        least, most = _BATCH
        numbers = _NUMBERS if beyond is None else _NUMBERS_OF_BRACKETS
        self._batch = min(most, max(least, numbers // max(1, sum(bounder.units.values()))))
        self._beyond = beyond
        self._raised = 0.0
        """By how much offsets are larger than those that were asked for."""

    def run(self, max_leaves: int, deadline: float) -> CaseOutcome:
        roots = self._roots()
        pending, outcome = list(roots), CaseOutcome(False, num_leaves=len(roots))
        while pending:
            if time.monotonic() > deadline:
                return self._with_trees(outcome, roots, f"ReLU splitting stopped after {outcome.num_leaves} cases")
            pending.sort(key=lambda case: case.bound, reverse=True)
            half = self._is_far(pending[-1].bound) and 2 * outcome.num_leaves >= max_leaves
            if half or outcome.num_leaves >= max_leaves:
                return self._with_trees(outcome, roots, f"ReLU splitting reached {outcome.num_leaves} cases")
            pending, batch = pending[: -self._batch], pending[-self._batch :]
            self._bound(batch)
            undecided = [case for case in batch if not _positive(case.bound)]
            if not undecided:
                continue
            found = self._scored(undecided)
            margin, point = self._points.look(found.inputs, self._prop)
            outcome = replace(outcome, attack=min(outcome.attack, margin - self._raised))
            if margin <= 0:
                if self._beyond is None:
                    return replace(outcome, point=point)
                self._raise(roots, margin)
            fixed, open_cases = self._sorted_by_units(undecided, found)
            if not all(self._solve(case) for case in fixed):
                return self._with_trees(outcome, roots, "ReLU splitting has no unit left to split")
            pending += fixed
            if open_cases:
                chosen = [undecided[n] for n in open_cases]
                pending += split_cases(
                    chosen, found.of(open_cases), self._b.units, self._question, batch=self._batch
                )  # fmt: skip
            outcome = replace(outcome, num_leaves=outcome.num_leaves + len(open_cases))
        return self._with_trees(replace(outcome, decided=True), roots)

    def _is_far(self, bound: float) -> bool:
        """Whether a maximum is bounded by much more than what is aimed at."""
        aim = float(self._offsets[0])
        return self._beyond is not None and aim - bound > _FAR * aim

    def _with_trees(self, outcome: CaseOutcome, roots: Sequence[Case], limit: str = "") -> CaseOutcome:
        count, trees = len(self._rows), []
        for root in roots:
            if limit:
                pruned(root)
            tree, numbers = as_tree(root, self._b.program, count)
            if numbers:
                slopes, shares = as_tables(self._lines.of(torch.tensor(numbers)), self._b)
                tree = replace(tree, slopes=slopes, shares=shares)
            trees.append(tree)
        leaves = {row for tree in trees for node, row in zip(tree.nodes, tree.units, strict=True) if node == LEAF}
        own = self._lines.of(torch.arange(count))
        slopes, shares = as_tables(own, self._b, start=self._first_lines, leaves=sorted(leaves))
        return replace(outcome, trees=tuple(trees), slopes=slopes, shares=shares, limit=limit)

    def _raise(self, roots: Sequence[Case], margin: float) -> None:
        """Raises offsets, and all bounds with them, for a point with that margin."""
        offset = float(self._offsets[0])
        amount = (self._beyond or 1.0) * (offset - margin) - offset
        self._raised += amount
        self._offsets = self._offsets + amount
        self._prop = replace(self._prop, offsets=self._prop.offsets + amount)
        pending = list(roots)
        while pending:
            case = pending.pop()
            case.bound += amount
            pending += case.halves

    def _solve(self, case: Case) -> bool:
        """Gives a case in which everything is linear its best multipliers; False if it had them already."""
        count = len(case.conditions)
        if case.solved or not count:
            return False
        question = self._question([(case.conditions, case.rows[0], case.lines[0])] * (count + 1))
        with torch.no_grad():
            found = question.bound(torch.cat([torch.zeros(1, count), torch.eye(count)]).to(torch.float64))
        box = [self._b.state.values[0].lower.reshape(-1), self._b.state.values[0].upper.reshape(-1)]
        forms = found.inputs.numpy()
        constants = found.lower.numpy() - np.where(forms > 0, forms * box[0], forms * box[1]).sum(axis=1)
        case.betas, case.solved = best_multipliers(forms, constants, box), True
        return True

    @staticmethod
    def _sorted_by_units(cases: Sequence[Case], found: CaseBounds) -> tuple[list[Case], list[int]]:
        """Cases in which no unit is left whose lines cost anything, and numbers of the others.

        If its best multipliers do not decide such a case, units count that are merely unstable.
        """
        if not found.scores:
            return list(cases), []
        most = torch.stack([score.amax(1) for score in found.scores.values()]).amax(0)
        split = {n for n, case in enumerate(cases) if most[n] > (0.0 if case.solved else _COST)}
        return [case for n, case in enumerate(cases) if n not in split], sorted(split)

    def _roots(self) -> list[Case]:
        """A case for every clause that is not positive on the whole region."""
        intervals = self._b.intervals(Places([()] * len(self._rows), self._b.units), len(self._rows))
        self._lines, self._first_lines = self._b.default_lines(intervals), self._b.default_lines(intervals)
        with torch.no_grad():
            bounds = self._b.bound(self._rows, self._offsets, intervals, {}, self._lines).lower.numpy()
        best = self._best_rows(bounds, _ROOT_ROWS)
        wanted = sorted({row for clause, rows in best.items() for row in rows if not _positive(bounds[rows[0]])})
        if wanted:
            bounds[wanted] = self._improve(torch.tensor(wanted))
        best = self._best_rows(bounds, _ROWS)
        return [
            Case(clause, rows, rows, bound=float(bounds[rows[0]]), bounded=True)
            for clause, rows in best.items()
            if not _positive(bounds[rows[0]])
        ]

    def _best_rows(self, bounds: Array, count: int) -> dict[int, tuple[int, ...]]:
        """For every clause the rows with the largest bounds, the best first."""
        clauses = self._prop.clauses
        return {
            number: tuple(sorted(clause, key=lambda row: bounds[row], reverse=True)[:count])
            for number, clause in enumerate(clauses)
        }

    def _improve(self, numbers: torch.Tensor) -> Array:
        """Better lines of some rows on the whole region; their bounds. Shapes: (n,) -> (n,)."""
        question = self._question([((), row, row) for row in numbers.tolist()])
        every = torch.ones(len(numbers), dtype=torch.bool)
        found = improve(question, torch.zeros((len(numbers), 0)), steps=_ROOT_STEPS, turning=every)
        for mine, better in ((self._lines.slopes, found.lines.slopes), (self._lines.shares, found.lines.shares)):
            for k, table in better.items():
                mine[k][numbers] = table
        return found.lower.numpy()

    def _bound(self, cases: Sequence[Case]) -> None:
        """Sets bound, order of rows and multipliers of every case, and every few levels lines of its own."""
        entries = [(case.conditions, *each) for case in cases for each in zip(case.rows, case.lines, strict=True)]
        turning = torch.tensor([len(conditions) > 0 and len(conditions) % _TURN == 0 for conditions, _, _ in entries])
        question = self._question(entries)
        start = question.places.table([case.betas for case in cases for _ in case.rows])
        found = improve(question, start, steps=_STEPS, turning=turning)
        scales = torch.cat([found.betas, torch.zeros((len(entries), 1))], 1).amax(1, keepdim=True)
        betas = torch.round(found.betas / scales.clamp(min=1e-300) * 65535) * (scales / 65535.0)
        with torch.no_grad():
            lower = question.bound(betas, found.lines).lower.tolist()
        turned, numbers = turning.nonzero()[:, 0], [entry[2] for entry in entries]
        for number, n in enumerate(turned.tolist(), self._keep(found.lines.of(turned), len(turned))):
            numbers[n] = number
        first = 0
        for case in cases:
            order = sorted(range(first, first + len(case.rows)), key=lambda m: lower[m], reverse=True)
            first, best = first + len(case.rows), order[0]
            case.rows, case.lines = tuple(entries[m][1] for m in order), tuple(numbers[m] for m in order)
            case.bound, case.scale, case.bounded = lower[best], float(scales[best]), True
            case.betas = betas[best, : len(case.conditions)].numpy()

    def _keep(self, lines: Lines, count: int = 1) -> int:
        """Adds lines for so many cases to those that are known; the number of the first."""
        self._lines, first = self._lines.with_more(lines), self._num_lines
        self._num_lines += count
        return first

    def _question(self, entries: Sequence[tuple[Conditions, int, int]]) -> Question:
        """About cases, each with a row and the number of its lines."""
        places = Places([conditions for conditions, _, _ in entries], self._b.units)
        rows, lines = (torch.tensor([entry[k] for entry in entries]) for k in (1, 2))
        return Question(self._b, self._rows[rows], self._offsets[rows], places, self._lines.of(lines))

    def _scored(self, cases: Sequence[Case]) -> CaseBounds:
        """The bounds of the best row of each case, with what units cost."""
        question = self._question([(case.conditions, case.rows[0], case.lines[0]) for case in cases])
        with torch.no_grad():
            return question.bound(question.places.table([case.betas for case in cases]), scored=True)


def _positive(bound: float) -> bool:
    return bound > _ROOM * (1.0 + abs(bound))
