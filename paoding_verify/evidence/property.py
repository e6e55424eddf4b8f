"""Properties of outputs, in the one form that search, checker and solvers share.

A property is a conjunction of clauses, a clause is a disjunction of rows, a row is `rows[r] . y + offsets[r] > 0`,
strictly. For one network y is its output; for a pair y is the concatenation (f(x), g(x)). A property holds on a
region if at every point of it every clause has a row that is positive. A sufficient proof: for each clause one row
whose lower bound is positive.

Where a property fails without being false (at ties, or between two linear limits of a condition that is not linear),
`refuting` says in the same form what refutes it: every one of these clauses has a positive row. A specification whose
unsafe set has strict inequalities names their rows `weak`: proved is as much as ever, refuted only what lies beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import InputError

__all__ = [
    "Clauses", "Property", "PropertyRecord", "broken_by", "decides_like", "difference_rows", "distance_at_most",
    "exact_margin", "padded", "pair_index", "predicts", "surely_broken",
]  # fmt: skip

Clauses = tuple[tuple[int, ...], ...]

MAX_CLAUSES = 20_000
"""Clauses that a property of top-k equivalence may have."""


def padded(clauses: Sequence[Sequence[int]]) -> npt.NDArray[np.intp]:
    """The clauses as rows of one table; shorter ones repeat their first row number. Shape: (clauses, longest)."""
    longest = max(map(len, clauses))
    return np.array([[*clause, *[clause[0]] * (longest - len(clause))] for clause in clauses], dtype=np.intp)


@dataclass(frozen=True, eq=False)
class Property:
    """A conjunction of disjunctions of strict linear inequalities over outputs."""

    rows: npt.NDArray[np.float64]
    """(R, outputs) coefficients."""
    offsets: npt.NDArray[np.float64]
    """(R,) constants."""
    clauses: Clauses
    """Row numbers; each clause needs one positive row at every point."""
    refuting: Clauses = ()
    """Outputs break the property if each of these clauses has a positive row; none: if some clause has only rows that
    fail, which are those of at most 0."""
    weak: tuple[int, ...] = ()
    """Rows that fail below 0 alone, and not at 0; they matter to what breaks the property and to nothing else."""

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.offsets.shape != (len(self.rows),):
            raise InputError(f"property rows {self.rows.shape} and offsets {self.offsets.shape} do not fit together")
        if not (np.isfinite(self.rows).all() and np.isfinite(self.offsets).all()):
            raise InputError("property coefficients must be finite")
        named = (*self.clauses, *self.refuting)
        if not self.clauses or any(not c or min(c) < 0 or max(c) >= len(self.rows) for c in named):
            raise InputError("every clause of a property must name at least one of its rows")
        if self.weak and not 0 <= min(self.weak) <= max(self.weak) < len(self.rows):
            raise InputError("the weak rows of a property must be among its rows")

    def values(self, outputs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Row values at given outputs, in float64. Shapes: (N, outputs) -> (N, R)."""
        result: npt.NDArray[np.float64] = outputs.astype(np.float64) @ self.rows.T + self.offsets
        return result

    def margins(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Min over clauses of max over their rows: positive where the property holds.

        Of row values it is the margin at a point; of row lower bounds it is a lower bound of the margin on the region.
        Shapes: (N, R) -> (N,).
        """
        largest = values[:, self._table[:, 0]]
        for column in self._table.T[1:]:
            np.maximum(largest, values[:, column], out=largest)
        return np.asarray(largest.min(axis=1))

    def fails(self, negative: npt.NDArray[np.bool_], zero: npt.NDArray[np.bool_]) -> bool:
        """Whether all rows of some clause fail, given which rows are negative and which are 0. Shapes: (R,)."""
        failed = negative | zero
        failed[list(self.weak)] = negative[list(self.weak)]
        return bool(failed[self._table].all(axis=1).any())

    @cached_property
    def _table(self) -> npt.NDArray[np.intp]:
        return padded(self.clauses)


@dataclass(frozen=True)
class PropertyRecord:
    """A property as plain data, every number exact."""

    rows: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]
    clauses: tuple[tuple[int, ...], ...]
    weak: tuple[int, ...] = ()

    @classmethod
    def of(cls, prop: Property) -> PropertyRecord:
        """The record of a property."""
        return cls(tuple(map(tuple, prop.rows.tolist())), tuple(prop.offsets.tolist()), prop.clauses, prop.weak)

    def property(self) -> Property:
        """The property of the record. Raises: InputError if rows, offsets and clauses do not fit together."""
        if len({len(row) for row in self.rows}) != 1:
            raise InputError("the rows of a property differ in length, or there is none")
        return Property(np.array(self.rows), np.array(self.offsets), self.clauses, weak=self.weak)


def exact_margin(prop: Property, outputs: Sequence[float | Fraction]) -> Fraction:
    """The margin of a property at given outputs, free of rounding, so that none can make or hide a violation."""
    return _least(_exact_values(prop, outputs), prop.clauses)


def broken_by(prop: Property, outputs: Sequence[float | Fraction]) -> bool:
    """Whether outputs break a property, told exactly; a tie alone does not break top-1 equivalence."""
    values = _exact_values(prop, outputs)
    if prop.refuting:
        return _least(values, prop.refuting) > 0
    return prop.fails(np.array([value < 0 for value in values]), np.array([value == 0 for value in values]))


def surely_broken(prop: Property, lower: npt.NDArray[np.float64], upper: npt.NDArray[np.float64]) -> bool:
    """Whether all outputs for which the rows lie in [lower, upper] break the property. Shapes: (R,)."""
    if prop.refuting:
        return bool((lower[padded(prop.refuting)].max(axis=1) > 0).all())
    return prop.fails(upper < 0, upper == 0)


def _exact_values(prop: Property, outputs: Sequence[float | Fraction]) -> list[Fraction]:
    exact = [Fraction(y) for y in outputs]
    return [
        sum((Fraction(float(row[j])) * exact[j] for j in np.flatnonzero(row)), Fraction(float(offset)))
        for row, offset in zip(prop.rows, prop.offsets, strict=True)
    ]


def _least(values: Sequence[Fraction], clauses: Clauses) -> Fraction:
    """Min over clauses of max over rows. Compares ranks, because exact numbers are slow to compare."""
    ordered = sorted(set(values))
    places = {value: place for place, value in enumerate(ordered)}
    ranks = np.array([places[value] for value in values])
    return ordered[int(ranks[padded(clauses)].max(axis=1).min())]


def predicts(label: int, num_outputs: int) -> Property:
    """The class `label` has strictly the largest output: rows y[label] - y[j] for every other class j, in order.

    Raises: InputError if the label is not an output.
    """
    if not 0 <= label < num_outputs or num_outputs < 2:
        raise InputError(f"label {label} is not a class of a network with {num_outputs} output(s)")
    others = [j for j in range(num_outputs) if j != label]
    rows = np.zeros((len(others), num_outputs))
    rows[:, label] = 1.0
    rows[np.arange(len(others)), others] = -1.0
    return Property(rows, np.zeros(len(others)), tuple((r,) for r in range(len(others))))


@lru_cache(maxsize=8)
def decides_like(num_outputs: int, k: int = 1) -> Property:
    """The sets of the k largest outputs of f and of g are the same, and neither is tied with the rest: top-k
    equivalence of a pair; for k = 1, both have the same strictly largest output.

    A set S of k classes is a top set if no class outside of it has a larger output than one inside. One clause for each
    ordered pair of sets S != T, which excludes "S is a top set of f and T is one of g": one of f[b] - f[a] (a in S, b
    not), g[b] - g[a] (a in T, b not), (f[j] - g[j]) - (f[i] - g[i]) (i in S and not in T, j in T and not in S) is
    positive. The last rows hold because their negation is implied by f[i] >= f[j] and g[j] >= g[i].
    Broken only if no set is a top set of both: two identical networks with tied outputs still decide alike.
    Rows: f[b] - f[a], then g[b] - g[a], then the differences, each ordered by (b, a) with b != a. Shapes: rows
    (3 * C * (C - 1), 2 * C).
    Raises: InputError if k is not between 1 and C - 1, or there are more than MAX_CLAUSES clauses with k > 1.
    """
    if not 1 <= k < num_outputs:
        raise InputError(f"the {k} largest of {num_outputs} output(s) say nothing: k goes from 1 to {num_outputs - 1}")
    count = comb(num_outputs, k)
    if k > 1 and count * (count - 1) > MAX_CLAUSES:
        raise InputError(
            f"top-{k} equivalence of {num_outputs} classes needs {count * (count - 1)} clauses; at most {MAX_CLAUSES} "
            "are handled: ask for a smaller k"
        )
    index = pair_index(num_outputs)
    n, sets = len(index), list(combinations(range(num_outputs), k))
    above = {s: [index[b, a] for b in range(num_outputs) if b not in s for a in s] for s in sets}
    clauses = []
    for t in sets:
        of_g = [n + r for r in above[t]]
        for s in sets:
            if s != t:
                gone, new = sorted(set(s) - set(t)), sorted(set(t) - set(s))
                clauses.append((*above[s], *of_g, *(2 * n + index[j, i] for j in new for i in gone)))
    refuting = tuple((*above[s], *(n + r for r in above[s])) for s in sets)
    rows = difference_rows(num_outputs)
    return Property(rows, np.zeros(len(rows)), tuple(clauses), refuting)


def pair_index(num_outputs: int) -> dict[tuple[int, int], int]:
    """The number of every ordered pair (b, a) with b != a, in order."""
    pairs = ((b, a) for b in range(num_outputs) for a in range(num_outputs) if b != a)
    return {pair: r for r, pair in enumerate(pairs)}


def difference_rows(num_outputs: int) -> npt.NDArray[np.float64]:
    """f[b] - f[a], then g[b] - g[a], then (f[b] - g[b]) - (f[a] - g[a]), for every pair of `pair_index`."""
    index = pair_index(num_outputs)
    single = np.zeros((len(index), num_outputs))
    for (b, a), r in index.items():
        single[r, b], single[r, a] = 1.0, -1.0
    zero = np.zeros_like(single)
    return np.block([[single, zero], [zero, single], [single, -single]])


def distance_at_most(delta: float, num_outputs: int) -> Property:
    """|f[j] - g[j]| < delta for every output j: rows delta - (f - g), then delta + (f - g).

    Raises: InputError if delta is negative or not finite.
    """
    if not (np.isfinite(delta) and delta >= 0):
        raise InputError(f"delta must be a finite number of at least 0; got {delta}")
    eye = np.eye(num_outputs)
    rows = np.block([[-eye, eye], [eye, -eye]])
    return Property(rows, np.full(2 * num_outputs, float(delta)), tuple((r,) for r in range(2 * num_outputs)))
