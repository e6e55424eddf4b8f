"""Branch and bound on unstable ReLUs: a tree of cases in each of which some row of a clause is positive.

The search believes its own bounds; the tree it returns is a hint that the checker proves again.
Source: Wang et al., arXiv 2103.06624 (multipliers of sign conditions), Bunel et al., arXiv 1909.06588 (the scheme).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from paoding_verify.bounds.case_bounds import CaseBounder, CaseBounds, Conditions
from paoding_verify.checker.backward import State
from paoding_verify.evidence.certificate import LEAF, ReluTree
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Float32Array

__all__ = ["CaseOutcome", "Look", "search_cases"]

_BATCH = 128
"""Cases that are bounded at a time."""
_STEPS = 12
"""Steps of Adam on the multipliers of a batch."""
_ROOT_STEPS = 40
"""Steps of Adam on the slopes of the whole region."""
_ROWS = 2
"""Rows of a clause that are tried in a case."""
_CANDIDATES = 3
"""Units whose split is tried before one is chosen."""
_ROOM = 1e-9
"""Share of the offsets and bounds by which a row must be positive: the checker rounds outward."""

Look = Callable[[Float32Array], bool]
"""Is shown points (n, *input_shape) where a bound is attained; says whether the search shall stop."""


@dataclass(frozen=True, eq=False)
class CaseOutcome:
    """What the search found: trees for all clauses that are not positive at once, or a reason why not."""

    decided: bool
    trees: tuple[ReluTree, ...] = ()
    slopes: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)
    """Step -> (rows, units) lower slopes that go with the trees."""
    num_leaves: int = 0
    limit: str = ""
    """Why it is undecided; empty otherwise."""


@dataclass(eq=False)
class _Case:
    """A node of a tree; a leaf until it is split."""

    clause: int
    rows: tuple[int, ...]
    """Rows that may be positive, the best first."""
    conditions: Conditions = ()
    betas: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Multipliers for the best row; quantised once the case is bounded."""
    scale: float = 0.0
    bound: float = -np.inf
    unit: tuple[int, int] | None = None
    """(step, unit) of the split."""
    halves: tuple[_Case, ...] = ()
    """v <= 0, then v >= 0."""


def search_cases(
    state: State, prop: Property, look: Look, *, max_leaves: int, limit_s: float
) -> CaseOutcome:
    """Splits until every clause has a tree of positive cases, `look` says stop, or a limit is reached.

    state: what the checker knows on one region. Cases with the smallest bound are taken first, in batches, so that the
    hardest come early.
    Raises: UnsupportedOpError for operations without bounds by cases.
    """
    return _Search(CaseBounder(state), prop).run(look, max_leaves, time.monotonic() + limit_s)


class _Search:
    def __init__(self, bounder: CaseBounder, prop: Property) -> None:
        self._b, self._prop = bounder, prop
        self._rows, self._offsets = torch.as_tensor(prop.rows.copy()), torch.as_tensor(prop.offsets.copy())
        self._slopes: dict[int, torch.Tensor] = {}

    def run(self, look: Look, max_leaves: int, deadline: float) -> CaseOutcome:
        bounds = self._optimise_root()
        roots = []
        for number, clause in enumerate(self._prop.clauses):
            rows = sorted(clause, key=lambda r: -bounds[r])[:_ROWS]
            if not bounds[rows[0]] > self._room(bounds[rows[0]]):
                roots.append(_Case(number, tuple(rows), bound=float(bounds[rows[0]])))
        pending, num_leaves = list(roots), len(roots)
        while pending:
            if time.monotonic() > deadline:
                return CaseOutcome(False, num_leaves=num_leaves, limit=f"ReLU splitting stopped after {num_leaves} cases")
            if num_leaves >= max_leaves:
                return CaseOutcome(False, num_leaves=num_leaves, limit=f"ReLU splitting reached {num_leaves} cases")
            pending.sort(key=lambda case: -case.bound)
            pending, batch = pending[:-_BATCH], pending[-_BATCH:]
            found = self._bound(batch)
            undecided = [n for n, case in enumerate(batch) if not case.bound > self._room(case.bound)]
            if not undecided:
                continue
            if look(self._points(found, undecided)):
                return CaseOutcome(False, num_leaves=num_leaves, limit="ReLU splitting found a point that breaks the claim")
            halves = self._split([batch[n] for n in undecided], found, undecided)
            if halves is None:
                return CaseOutcome(False, num_leaves=num_leaves, limit="ReLU splitting has no unit left to split")
            pending += halves
            num_leaves += len(undecided)
        trees = tuple(self._tree(root) for root in roots)
        return CaseOutcome(True, trees, self._tables(), num_leaves)

    def _room(self, bound: float) -> float:
        return _ROOM * (1.0 + abs(bound))

    def _optimise_root(self) -> Array:
        """Improves the lower slopes of every row on the whole region; returns the rows' bounds."""
        count = len(self._rows)
        intervals = self._b.intervals([()] * count)
        alpha = {
            k: (z.upper >= -z.lower).to(torch.float64).requires_grad_() for k, z in intervals[0].items()
        }
        best = torch.full((count,), -torch.inf, dtype=torch.float64)
        self._slopes = {k: a.detach().clone() for k, a in alpha.items()}
        optimiser = torch.optim.Adam(list(alpha.values()), lr=0.1) if alpha else None
        for _ in range(_ROOT_STEPS if optimiser is not None else 1):
            # Slopes are rounded as they will be in a certificate; the gradient passes straight through.
            rounded = {k: a + (_rounded(a.detach()) - a.detach()) for k, a in alpha.items()}
            found = self._b.bound(self._rows, self._offsets, intervals, {}, rounded)
            better = found.lower.detach() > best
            best = torch.where(better, found.lower.detach(), best)
            for k, a in rounded.items():
                self._slopes[k] = torch.where(better[:, None], a.detach(), self._slopes[k])
            if optimiser is None:
                break
            optimiser.zero_grad()
            (-found.lower.sum()).backward()
            optimiser.step()
            with torch.no_grad():
                for a in alpha.values():
                    a.clamp_(0.0, 1.0)
        return best.numpy()

    def _bound(self, cases: Sequence[_Case]) -> CaseBounds:
        """Sets bound, best row and multipliers of every case; returns the bounds of the best rows."""
        numbers = torch.tensor([r for case in cases for r in case.rows])
        owner = np.concatenate([[n] * len(case.rows) for n, case in enumerate(cases)])
        conditions = [cases[n].conditions for n in owner]
        intervals = self._b.intervals(conditions)
        places = _Places(conditions, self._b.units)
        start = places.table([cases[n].betas for n in owner])
        alpha = {k: a[numbers] for k, a in self._slopes.items()}
        betas, bounds = self._optimise(numbers, intervals, places, start, alpha)
        scales = betas.amax(1) if betas.shape[1] else torch.zeros(len(betas), dtype=torch.float64)
        betas = torch.where(scales[:, None] > 0, torch.round(betas / scales[:, None].clamp(min=1e-300) * 255), 0.0)
        betas = betas / 255.0 * scales[:, None]
        with torch.no_grad():
            found = self._b.bound(self._rows[numbers], self._offsets[numbers], intervals, places.spread(betas), alpha)
        chosen = []
        for n, case in enumerate(cases):
            mine = np.flatnonzero(owner == n)
            best = int(mine[found.lower[mine].argmax()])
            chosen.append(best)
            case.rows = tuple(int(numbers[m]) for m in sorted(mine, key=lambda m: -float(found.lower[m])))
            case.bound, case.scale = float(found.lower[best]), float(scales[best])
            case.betas = betas[best, : len(case.conditions)].numpy()
        return CaseBounds(
            found.lower[chosen], {k: s[chosen] for k, s in found.scores.items()}, found.inputs[chosen], {}
        )

    def _optimise(self, numbers, intervals, places, start, alpha):
        """Multipliers that make bounds large. Shapes: start (n, depth) -> (n, depth), (n,)."""
        rows, offsets = self._rows[numbers], self._offsets[numbers]
        with torch.no_grad():
            found = self._b.bound(rows, offsets, intervals, places.spread(start), alpha)
        best, best_betas = found.lower, start
        if not start.shape[1]:
            return start, best
        unit = places.gather({k: w.expand(-1, self._b.units[k]) for k, w in found.weights.items()}).clamp(min=1e-9)
        x = (start / unit).requires_grad_()
        optimiser = torch.optim.Adam([x], lr=0.1)
        for _ in range(_STEPS):
            found = self._b.bound(rows, offsets, intervals, places.spread(x * unit), alpha)
            value = found.lower.detach()
            better = value > best
            best = torch.where(better, value, best)
            best_betas = torch.where(better[:, None], (x * unit).detach(), best_betas)
            if bool((best > 1e-6 * (1 + best.abs())).all()):
                break
            optimiser.zero_grad()
            (-found.lower.sum()).backward()
            optimiser.step()
            with torch.no_grad():
                x.clamp_(min=0.0)
        return best_betas, best

    def _split(self, cases: Sequence[_Case], found: CaseBounds, places: Sequence[int]) -> list[_Case] | None:
        """Splits every case where its bound gains most, judged by the bounds of the halves; None if one has no unit."""
        steps = list(found.scores)
        scores = torch.cat([found.scores[k][list(places)] for k in steps], 1)
        ends = np.cumsum([0, *(self._b.units[k] for k in steps)])
        top = scores.topk(min(_CANDIDATES, scores.shape[1]), dim=1)
        if not bool((top.values[:, 0] > 0).all()):
            return None
        trials: list[tuple[int, tuple[int, int]]] = []
        for n in range(len(cases)):
            for place, score in zip(top.indices[n].tolist(), top.values[n].tolist(), strict=True):
                if score > 0:
                    k = int(np.searchsorted(ends, place, side="right")) - 1
                    trials.append((n, (steps[k], place - int(ends[k]))))
        worst = self._try(cases, trials)
        halves = []
        for n, case in enumerate(cases):
            mine = [t for t, (owner, _) in enumerate(trials) if owner == n]
            case.unit = trials[max(mine, key=lambda t: worst[t])][1]
            case.halves = tuple(
                _Case(case.clause, case.rows, (*case.conditions, (*case.unit, sign)), np.append(case.betas, 0.0),
                      bound=case.bound) for sign in (-1, 1)
            )
            halves += case.halves
        return halves

    def _try(self, cases, trials) -> list[float]:
        """What each trial split would gain: the sum of its halves' bounds, each counted up to zero."""
        gains = np.zeros(len(trials))
        for start in range(0, len(trials), _BATCH):
            part = trials[start : start + _BATCH]
            conditions = [(*cases[n].conditions, (*unit, sign)) for n, unit in part for sign in (-1, 1)]
            places = _Places(conditions, self._b.units)
            betas = places.table([np.append(cases[n].betas, 0.0) for n, _ in part for _ in (-1, 1)])
            numbers = torch.tensor([cases[n].rows[0] for n, _ in part for _ in (-1, 1)])
            alpha = {k: a[numbers] for k, a in self._slopes.items()}
            with torch.no_grad():
                found = self._b.bound(self._rows[numbers], self._offsets[numbers], self._b.intervals(conditions),
                                      places.spread(betas), alpha)
            gains[start : start + len(part)] = found.lower.reshape(-1, 2).clamp(max=0).sum(1).numpy()
        return gains.tolist()

    def _points(self, found: CaseBounds, places: Sequence[int]) -> Float32Array:
        """Corners where the linear bounds are smallest, as float32 points."""
        box = self._b.state.values[0]
        shape = (-1, *self._b.program.input_shape)
        coefficients = found.inputs[list(places)].numpy().reshape(shape)
        return np.where(coefficients > 0, box.lower, box.upper).astype(np.float32)

    def _tables(self) -> dict[int, npt.NDArray[np.uint8]]:
        return {k: np.rint(a.numpy() * 255).astype(np.uint8) for k, a in self._slopes.items()}

    def _tree(self, root: _Case) -> ReluTree:
        """The certificate's form of a tree, with nodes and units as networks number them."""
        nodes, units, scales, multipliers = [], [], [], []
        pending = [root]
        while pending:
            case = pending.pop()
            if case.unit is None:
                nodes.append(LEAF)
                units.append(case.rows[0])
                scales.append(case.scale)
                share = case.betas / case.scale * 255 if case.scale > 0 else case.betas
                multipliers.append(np.rint(share).astype(np.uint8))
                continue
            step = self._b.program.steps[case.unit[0]]
            unit = case.unit[1]
            nodes.append(step.number)
            units.append(unit if step.kept is None else int(np.flatnonzero(step.kept == unit)[0]))
            pending += reversed(case.halves)
        return ReluTree(root.clause, tuple(nodes), tuple(units), tuple(scales), np.concatenate(multipliers))


class _Places:
    """Where the conditions of a batch of cases act."""

    def __init__(self, conditions: Sequence[Conditions], units: dict[int, int]) -> None:
        self._units, self._count = units, len(conditions)
        self.depth = max(map(len, conditions), default=0)
        self._by_step: dict[int, tuple[torch.Tensor, ...]] = {}
        for step in units:
            entries = [
                (n, level, unit, sign)
                for n, case in enumerate(conditions)
                for level, (s, unit, sign) in enumerate(case)
                if s == step
            ]
            if entries:
                self._by_step[step] = tuple(torch.tensor(column) for column in zip(*entries, strict=True))

    def table(self, betas: Sequence[npt.NDArray[np.float64]]) -> torch.Tensor:
        """Multipliers of unequal number as one array (n, depth), filled with zeros."""
        table = np.zeros((self._count, self.depth))
        for n, each in enumerate(betas):
            table[n, : len(each)] = each
        return torch.as_tensor(table)

    def spread(self, betas: torch.Tensor) -> dict[int, torch.Tensor]:
        """Multipliers times signs, by step and unit. Shapes: (n, depth) -> (n, units)."""
        result = {}
        for step, (cases, levels, units, signs) in self._by_step.items():
            wide = torch.zeros((self._count, self._units[step]), dtype=betas.dtype)
            result[step] = wide.index_put((cases, units), betas[cases, levels] * signs, accumulate=True)
        return result

    def gather(self, values: dict[int, torch.Tensor]) -> torch.Tensor:
        """The inverse, without signs. Shapes: (n, units) -> (n, depth)."""
        table = torch.ones((self._count, self.depth), dtype=torch.float64)
        for step, (cases, levels, units, _) in self._by_step.items():
            if step in values:
                table[cases, levels] = values[step][cases, units]
        return table


def _rounded(slopes: torch.Tensor) -> torch.Tensor:
    """To multiples of 1/255, as certificates hold them."""
    return torch.round(slopes * 255) / 255.0
