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
from paoding_verify.bounds.ascent import Ascent
from paoding_verify.bounds.case_bounds import CaseBounder, CaseBounds, Lines
from paoding_verify.bounds.case_duals import best_multipliers
from paoding_verify.bounds.case_lines import as_tables, improve_lines
from paoding_verify.bounds.case_tree import Case, Conditions, Places, as_tree
from paoding_verify.checker.backward import State
from paoding_verify.evidence.certificate import LEAF, ReluTree, Slopes
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Float32Array, Network
from paoding_verify.regions import float32_interior

__all__ = ["CaseOutcome", "search_cases"]

_BATCH = 128
"""Cases that are bounded at a time."""
_STEPS = 12
"""Steps of Adam on the multipliers of a batch."""
_ROOT_STEPS = 40
"""Steps of Adam on the slopes of the whole region."""
_RATE = 0.1
"""Of Adam, in units of slopes or of the largest coefficient of a layer."""
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
    networks: Sequence[Network], state: State, prop: Property, *, max_leaves: int, limit_s: float
) -> CaseOutcome:
    """Splits until every clause has a tree of positive cases, a point breaks the property, or a limit is reached.

    state: what the checker knows of the networks on one region. Cases with the smallest bound are taken first, in
    batches. Points at which bounds are attained, and descents from them, are looked at on the way.
    Raises: UnsupportedOpError for operations without bounds by cases (max pooling).
    """
    return _Search(networks, CaseBounder(state), prop).run(max_leaves, time.monotonic() + limit_s)


class _Search:
    """One search; grows trees from the clauses of one property."""

    def __init__(self, networks: Sequence[Network], bounder: CaseBounder, prop: Property) -> None:
        self._networks, self._b, self._prop = networks, bounder, prop
        self._rows, self._offsets = torch.as_tensor(prop.rows.copy()), torch.as_tensor(prop.offsets.copy())
        self._lines = self._first_lines = Lines()
        """Of every row on the whole region: the best that are known, and those that the checker takes itself."""
        self._batches = 0

    def run(self, max_leaves: int, deadline: float) -> CaseOutcome:
        roots = self._roots()
        pending, outcome = list(roots), CaseOutcome(False, num_leaves=len(roots))
        while pending:
            if time.monotonic() > deadline:
                return self._with_trees(outcome, roots, f"ReLU splitting stopped after {outcome.num_leaves} cases")
            if outcome.num_leaves >= max_leaves:
                return self._with_trees(outcome, roots, f"ReLU splitting reached {outcome.num_leaves} cases")
            pending.sort(key=lambda case: case.bound, reverse=True)
            pending, batch = pending[:-_BATCH], pending[-_BATCH:]
            found = self._bound(batch)
            undecided = [n for n, case in enumerate(batch) if not _positive(case.bound)]
            if not undecided:
                continue
            margin, point = self._look(found.inputs[undecided])
            outcome = replace(outcome, attack=min(outcome.attack, margin))
            if margin <= 0:
                return replace(outcome, point=point)
            fixed, open_cases = self._sorted_by_units(batch, undecided, found)
            if not all(self._solve(case) for case in fixed):
                return self._with_trees(outcome, roots, "ReLU splitting has no unit left to split")
            pending += fixed
            if open_cases:
                scores = {k: s[open_cases] for k, s in found.scores.items()}
                pending += self._split([batch[n] for n in open_cases], scores)
            outcome = replace(outcome, num_leaves=outcome.num_leaves + len(open_cases))
        return self._with_trees(replace(outcome, decided=True), roots)

    def _with_trees(self, outcome: CaseOutcome, roots: Sequence[Case], limit: str = "") -> CaseOutcome:
        trees = tuple(as_tree(root, self._b.program) for root in roots)
        leaves = {row for tree in trees for node, row in zip(tree.nodes, tree.units, strict=True) if node == LEAF}
        slopes, shares = as_tables(self._lines, self._first_lines, self._b, sorted(leaves))
        return replace(outcome, trees=trees, slopes=slopes, shares=shares, limit=limit)

    def _solve(self, case: Case) -> bool:
        """Gives a case in which everything is linear its best multipliers; False if it had them already."""
        count = len(case.conditions)
        if case.solved or not count:
            return False
        question = self._question([case.conditions] * (count + 1), torch.tensor([case.rows[0]] * (count + 1)))
        with torch.no_grad():
            found = question.bound(torch.cat([torch.zeros(1, count), torch.eye(count)]).to(torch.float64))
        box = [self._b.state.values[0].lower.reshape(-1), self._b.state.values[0].upper.reshape(-1)]
        forms = found.inputs.numpy()
        constants = found.lower.numpy() - np.where(forms > 0, forms * box[0], forms * box[1]).sum(axis=1)
        case.betas, case.solved = best_multipliers(forms, constants, box), True
        return True

    @staticmethod
    def _sorted_by_units(
        batch: Sequence[Case], undecided: list[int], found: CaseBounds
    ) -> tuple[list[Case], list[int]]:
        """Cases in which no unit is left whose lines cost anything, and numbers of the others.

        If its best multipliers do not decide such a case, units count that are merely unstable.
        """
        if not found.scores:
            return [batch[n] for n in undecided], []
        most = torch.stack([score.amax(1) for score in found.scores.values()]).amax(0)
        split = [n for n in undecided if most[n] > (0.0 if batch[n].solved else _COST)]
        return [batch[n] for n in undecided if n not in split], split

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
            Case(clause, rows, bound=float(bounds[rows[0]]))
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
        intervals = self._b.intervals(Places([()] * len(numbers), self._b.units), len(numbers))
        best, lines = improve_lines(
            self._b, self._rows[numbers], self._offsets[numbers], intervals, self._lines.of(numbers), steps=_ROOT_STEPS
        )  # fmt: skip
        for mine, better in ((self._lines.slopes, lines.slopes), (self._lines.shares, lines.shares)):
            for k, table in better.items():
                mine[k][numbers] = table
        return best.numpy()

    def _bound(self, cases: Sequence[Case]) -> CaseBounds:
        """Sets bound, order of rows and multipliers of every case; returns the bounds of their best rows."""
        owner = [n for n, case in enumerate(cases) for _ in case.rows]
        numbers = torch.tensor([row for case in cases for row in case.rows])
        question = self._question([cases[n].conditions for n in owner], numbers)
        betas = self._optimise(question, question.places.table([cases[n].betas for n in owner]))
        scales = torch.cat([betas, torch.zeros((len(betas), 1))], 1).amax(1, keepdim=True)
        betas = torch.round(betas / scales.clamp(min=1e-300) * 65535) * (scales / 65535.0)
        with torch.no_grad():
            found = question.bound(betas, scored=True)
        best = []
        for n, case in enumerate(cases):
            mine = sorted([m for m, k in enumerate(owner) if k == n], key=lambda m: float(found.lower[m]), reverse=True)
            case.rows = tuple(int(numbers[m]) for m in mine)
            case.bound, case.scale = float(found.lower[mine[0]]), float(scales[mine[0]])
            case.betas = betas[mine[0], : len(case.conditions)].numpy()
            best.append(mine[0])
        scores = {k: s[best] for k, s in found.scores.items()}
        return CaseBounds(found.lower[best], scores, found.inputs[best], {})

    def _question(self, conditions: Sequence[Conditions], numbers: torch.Tensor) -> _Question:
        """One row on each of some cases. Shapes: numbers (n,)."""
        return _Question(self, Places(conditions, self._b.units), numbers)

    def _optimise(self, question: _Question, start: torch.Tensor) -> torch.Tensor:
        """Multipliers that make bounds large. Shapes: (n, depth) -> (n, depth)."""
        if not start.shape[1]:
            return start
        with torch.no_grad():
            found = question.bound(start)
        best, best_betas = found.lower, start
        scale = question.places.scales(found.weights).clamp(min=1e-9)
        x = (start / scale).requires_grad_()
        ascent = Ascent([x], rate=_RATE, steps=_STEPS)
        for _ in range(_STEPS):
            bounds = question.bound(x * scale).lower
            better = bounds.detach() > best
            best = torch.where(better, bounds.detach(), best)
            best_betas = torch.where(better[:, None], (x * scale).detach(), best_betas)
            if bool((best > 1e-6).all()):
                break
            ascent.step(bounds.sum())
        return best_betas

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
        for start in range(0, len(trials), _BATCH):
            part = [(case, unit, sign) for case, unit in trials[start : start + _BATCH] for sign in (-1, 1)]
            numbers = torch.tensor([case.rows[0] for case, _, _ in part])
            question = self._question([(*case.conditions, (*unit, sign)) for case, unit, sign in part], numbers)
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
        if margin > 0 and self._batches > 1 and self._batches & (self._batches - 1) == 0:
            starts = points[order[:_DESCENTS]]
            lower, upper = (np.repeat(end, len(starts), axis=0) for end in (box.lower, box.upper))
            found = attack(
                self._networks, lower, upper, self._prop.rows, self._prop.offsets, self._prop.clauses,
                restarts=1, steps=_DESCENT_STEPS, seed=0, centre=starts,
            )  # fmt: skip
            if found.margin.min() < margin:
                margin, point = float(found.margin.min()), found.points[int(found.margin.argmin())]
        return margin, point


class _Question:
    """Bounds of one row on each of n cases, as a function of the multipliers."""

    def __init__(self, search: _Search, places: Places, numbers: torch.Tensor) -> None:
        self.places, self._bounder = places, search._b
        self._rows, self._offsets = search._rows[numbers], search._offsets[numbers]
        self._intervals = search._b.intervals(places, len(numbers))
        self._lines = search._lines.of(numbers)

    def bound(self, betas: torch.Tensor, *, scored: bool = False) -> CaseBounds:
        """Shapes: (n, depth)."""
        credit = self.places.spread(betas)
        return self._bounder.bound(self._rows, self._offsets, self._intervals, credit, self._lines, scored=scored)


def _positive(bound: float) -> bool:
    return bound > _ROOM * (1.0 + abs(bound))
