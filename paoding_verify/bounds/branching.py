"""Branch and bound on unstable ReLUs: a tree of cases in each of which some row of a clause is positive.

The search believes its own bounds; the tree it returns is a hint that the checker proves again.
Source: Wang et al., arXiv 2103.06624 (multipliers of sign conditions), Bunel et al., arXiv 1909.06588 (the scheme),
De Palma et al., arXiv 2104.06718 (trying the most promising splits before choosing).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from paoding_verify.attack import attack
from paoding_verify.bounds.case_bounds import CaseBounder, CaseBounds, Lines
from paoding_verify.bounds.case_duals import best_multipliers
from paoding_verify.bounds.case_lines import Question, as_tables, improve
from paoding_verify.bounds.case_shrink import shrunk
from paoding_verify.bounds.case_tree import Case, Conditions, Places, as_tree, pruned
from paoding_verify.checker.backward import State
from paoding_verify.evidence.certificate import LEAF, ReluTree, Slopes
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Float32Array, Network
from paoding_verify.regions import float32_interior

__all__ = ["CaseOutcome", "search_cases"]

_BATCH, _NUMBERS = (64, 512), 2**15
"""Cases that are bounded at a time: at least, at most, and what their units may be together."""
_STEPS = 12
"""Steps of Adam on the multipliers of a batch."""
_ROOT_STEPS = 40
"""Steps of Adam on the slopes of the whole region."""
_TURN = 4
"""Levels of a tree after which cases get lines of their own, if multipliers alone do not decide them."""
_ROWS = 2
"""Rows of a clause that are tried in a case."""
_ROOT_ROWS = 4
"""Rows of a clause whose slopes are improved on the whole region."""
_CANDIDATES = 3
"""Units whose split is tried before one is chosen."""
_DESCENTS, _DESCENT_STEPS = 4, 30
"""Minimisers from which the attack starts, after 2, 4, 8, ... batches, and its steps."""
_COST = 1e-6
"""What the lines of a unit must cost for it to be split before multipliers are solved for."""
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
        self._networks, self._b, self._prop = networks, bounder, prop
        self._rows, self._offsets = torch.as_tensor(prop.rows.copy()), torch.as_tensor(prop.offsets.copy())
        self._lines = self._first_lines = Lines()
        """Of every row on the whole region, then those of some cases; and those that the checker takes itself."""
        self._num_lines = len(self._rows)
        least, most = _BATCH
        self._batch = min(most, max(least, _NUMBERS // max(1, sum(bounder.units.values()))))
        self._batches = 0
        self._beyond = beyond
        self._raised = 0.0
        """By how much offsets are larger than those that were asked for."""

    def run(self, max_leaves: int, deadline: float) -> CaseOutcome:
        roots = self._roots()
        pending, outcome = list(roots), CaseOutcome(False, num_leaves=len(roots))
        while pending:
            if time.monotonic() > deadline:
                return self._with_trees(outcome, roots, f"ReLU splitting stopped after {outcome.num_leaves} cases")
            if outcome.num_leaves >= max_leaves:
                return self._with_trees(outcome, roots, f"ReLU splitting reached {outcome.num_leaves} cases")
            pending.sort(key=lambda case: case.bound, reverse=True)
            pending, batch = pending[: -self._batch], pending[-self._batch :]
            self._bound(batch)
            undecided = [case for case in batch if not _positive(case.bound)]
            if not undecided:
                continue
            found = self._scored(undecided)
            margin, point = self._look(found.inputs)
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
                scores = {k: s[open_cases] for k, s in found.scores.items()}
                pending += self._split([undecided[n] for n in open_cases], scores)
            outcome = replace(outcome, num_leaves=outcome.num_leaves + len(open_cases))
        return self._with_trees(replace(outcome, decided=True), roots)

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
        found = improve(question, torch.zeros((len(numbers), 0)), steps=_ROOT_STEPS, turn=True)
        for mine, better in ((self._lines.slopes, found.lines.slopes), (self._lines.shares, found.lines.shares)):
            for k, table in better.items():
                mine[k][numbers] = table
        return found.lower.numpy()

    def _bound(self, cases: Sequence[Case]) -> None:
        """Sets bound, order of rows, multipliers and lines of every case."""
        before = [case.bound for case in cases]
        self._optimise(cases, turn=False)
        left = [
            case
            for case, bound in zip(cases, before, strict=True)
            if case.conditions and not _positive(case.bound)
            if case.bound < bound or len(case.conditions) % _TURN == 0
        ]
        if left:
            self._optimise(left, turn=True)

    def _optimise(self, cases: Sequence[Case], *, turn: bool) -> None:
        """Better multipliers for all rows of some cases, and lines of their own if these may turn."""
        entries = [(case.conditions, *each) for case in cases for each in zip(case.rows, case.lines, strict=True)]
        question = self._question(entries)
        start = question.places.table([case.betas for case in cases for _ in case.rows])
        found = improve(question, start, steps=_STEPS, turn=turn)
        scales = torch.cat([found.betas, torch.zeros((len(entries), 1))], 1).amax(1, keepdim=True)
        betas = torch.round(found.betas / scales.clamp(min=1e-300) * 65535) * (scales / 65535.0)
        with torch.no_grad():
            lower = question.bound(betas, found.lines).lower.tolist()
        numbers = [entry[2] for entry in entries]
        if turn:
            numbers = list(range(self._num_lines, self._num_lines + len(entries)))
            self._lines, self._num_lines = self._lines.with_more(found.lines), self._num_lines + len(entries)
        first = 0
        for case in cases:
            order = sorted(range(first, first + len(case.rows)), key=lambda m: lower[m], reverse=True)
            first, best = first + len(case.rows), order[0]
            case.rows, case.lines = tuple(entries[m][1] for m in order), tuple(numbers[m] for m in order)
            case.bound, case.scale, case.bounded = lower[best], float(scales[best]), True
            case.betas = betas[best, : len(case.conditions)].numpy()

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

    def _split(self, cases: Sequence[Case], scores: dict[int, torch.Tensor]) -> list[Case]:
        """Splits every case where the bounds of its halves are best."""
        steps = list(scores)
        ends = np.cumsum([0, *(self._b.units[k] for k in steps)])
        flat = torch.cat([scores[k] for k in steps], 1)
        top = flat.topk(min(_CANDIDATES, flat.shape[1]), dim=1)
        trials: list[list[tuple[int, int]]] = []
        for places, values in zip(top.indices.tolist(), top.values.tolist(), strict=True):
            layers = [int(np.searchsorted(ends, place, side="right")) - 1 for place in places]
            trials.append(
                [
                    (steps[k], place - int(ends[k]))
                    for k, place, value in zip(layers, places, values, strict=True)
                    if value > 0
                ]
            )
        gains = iter(self._try([(case, unit) for case, mine in zip(cases, trials, strict=True) for unit in mine]))
        halves: list[Case] = []
        for case, mine in zip(cases, trials, strict=True):
            halves += case.split(*max(zip((next(gains) for _ in mine), mine, strict=True))[1])
        return halves

    def _try(self, trials: Sequence[tuple[Case, tuple[int, int]]]) -> list[float]:
        """For every case and unit the sum of the halves' bounds, each counted up to zero."""
        gains: list[float] = []
        for start in range(0, len(trials), self._batch):
            part = [(case, unit, sign) for case, unit in trials[start : start + self._batch] for sign in (-1, 1)]
            question = self._question(
                [((*case.conditions, (*unit, sign)), case.rows[0], case.lines[0]) for case, unit, sign in part]
            )
            with torch.no_grad():
                found = question.bound(question.places.table([case.betas for case, _, _ in part])).lower
            gains += found.reshape(-1, 2).clamp(max=0).sum(1).tolist()
        return gains

    def _look(self, inputs: torch.Tensor) -> tuple[float, Float32Array]:
        """The smallest margin at corners where linear bounds are smallest, and sometimes near them."""
        box, shape = self._b.state.values[0], (-1, *self._b.program.input_shape)
        corners = np.where(inputs.numpy().reshape(shape) > 0, box.lower, box.upper)
        points = np.clip(corners.astype(np.float32), *float32_interior(box.lower, box.upper))
        outputs = np.concatenate([network.forward(points) for network in self._networks], axis=1)
        margins = self._prop.margins(self._prop.values(outputs))
        order = margins.argsort()
        margin, point = float(margins[order[0]]), points[order[0]]
        self._batches += 1
        due = margin > 0 and self._batches > 1 and self._batches & (self._batches - 1) == 0
        if due or (margin <= 0 and self._beyond is not None):
            starts = points[order[:_DESCENTS]]
            lower, upper = (np.repeat(end, len(starts), axis=0) for end in (box.lower, box.upper))
            found = attack(
                self._networks, lower, upper, self._prop.rows, self._prop.offsets, self._prop.clauses,
                restarts=1, steps=_DESCENT_STEPS, seed=0, centre=starts,
            )  # fmt: skip
            if found.margin.min() < margin:
                margin, point = float(found.margin.min()), found.points[int(found.margin.argmin())]
        return margin, point


def _positive(bound: float) -> bool:
    return bound > _ROOM * (1.0 + abs(bound))
