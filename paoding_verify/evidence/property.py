"""Properties of outputs, in the one form that search, checker and solvers share.

A property is a conjunction of clauses, a clause is a disjunction of rows, a row is `rows[r] . y + offsets[r] > 0`,
strictly. For one network y is its output; for a pair y is the concatenation (f(x), g(x)). A property holds on a
region if at every point of it every clause has a row that is positive. A sufficient proof: for each clause one row
whose lower bound is positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import InputError

__all__ = [
    "Property", "PropertyRecord", "decides_differently", "decides_like", "distance_at_most", "exact_margin", "predicts",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Property:
    """A conjunction of disjunctions of strict linear inequalities over outputs."""

    rows: npt.NDArray[np.float64]
    """(R, outputs) coefficients."""
    offsets: npt.NDArray[np.float64]
    """(R,) constants."""
    clauses: tuple[tuple[int, ...], ...]
    """Row numbers; each clause needs one positive row at every point."""

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.offsets.shape != (len(self.rows),):
            raise InputError(f"property rows {self.rows.shape} and offsets {self.offsets.shape} do not fit together")
        if not (np.isfinite(self.rows).all() and np.isfinite(self.offsets).all()):
            raise InputError("property coefficients must be finite")
        if not self.clauses or any(not c or min(c) < 0 or max(c) >= len(self.rows) for c in self.clauses):
            raise InputError("every clause of a property must name at least one of its rows")

    def values(self, outputs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Row values at given outputs, in float64. Shapes: (N, outputs) -> (N, R)."""
        result: npt.NDArray[np.float64] = outputs.astype(np.float64) @ self.rows.T + self.offsets
        return result

    def margins(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Min over clauses of max over their rows: positive where the property holds.

        Of row values it is the margin at a point; of row lower bounds it is a lower bound of the margin on the region.
        Shapes: (N, R) -> (N,).
        """
        return np.asarray(np.min([values[:, list(clause)].max(axis=1) for clause in self.clauses], axis=0))


@dataclass(frozen=True)
class PropertyRecord:
    """A property as plain data, every number exact."""

    rows: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]
    clauses: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, prop: Property) -> PropertyRecord:
        """The record of a property."""
        return cls(tuple(map(tuple, prop.rows.tolist())), tuple(prop.offsets.tolist()), prop.clauses)

    def property(self) -> Property:
        """The property of the record. Raises: InputError if rows, offsets and clauses do not fit together."""
        if len({len(row) for row in self.rows}) != 1:
            raise InputError("the rows of a property differ in length, or there is none")
        return Property(np.array(self.rows), np.array(self.offsets), self.clauses)


def exact_margin(prop: Property, outputs: Sequence[float]) -> Fraction:
    """The margin of a property at given outputs, free of rounding, so that none can make or hide a violation."""
    exact = [Fraction(y) for y in outputs]
    values = [
        sum((Fraction(float(row[j])) * exact[j] for j in np.flatnonzero(row)), Fraction(float(offset)))
        for row, offset in zip(prop.rows, prop.offsets, strict=True)
    ]
    return min(max(values[r] for r in clause) for clause in prop.clauses)


def decides_differently(outputs_original: Sequence[float], outputs_pruned: Sequence[float]) -> bool:
    """Whether no class is among the largest outputs of both networks.

    This, and no tie, breaks top-1 equivalence: the property in its strict form also fails where two identical networks
    are tied.
    """
    tops = [{k for k, y in enumerate(ys) if y == max(ys)} for ys in (outputs_original, outputs_pruned)]
    return not tops[0] & tops[1]


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


def decides_like(num_outputs: int) -> Property:
    """f and g have the same strictly largest output: top-1 equivalence of a pair.

    One clause for each ordered pair of classes i != j, which excludes "i is a largest output of f and j is one of g":
    one of f[k] - f[i] (k != i), g[k] - g[j] (k != j), (f[j] - g[j]) - (f[i] - g[i]) is positive. The last row holds
    because its negation is implied by f[i] >= f[j] and g[j] >= g[i]. Ties are excluded too. Rows: f[k] - f[i], then
    g[k] - g[j], then the differences, each ordered by (k, i) with k != i. Shapes: rows (3 * C * (C - 1), 2 * C).
    """
    pairs = [(k, i) for k in range(num_outputs) for i in range(num_outputs) if k != i]
    index = {pair: r for r, pair in enumerate(pairs)}
    single = np.zeros((len(pairs), num_outputs))
    for r, (k, i) in enumerate(pairs):
        single[r, k], single[r, i] = 1.0, -1.0
    zero = np.zeros_like(single)
    rows = np.block([[single, zero], [zero, single], [single, -single]])
    n = len(pairs)
    clauses = []
    for j, i in pairs:
        of_f = [index[k, i] for k in range(num_outputs) if k != i]
        of_g = [n + index[k, j] for k in range(num_outputs) if k != j]
        clauses.append((*of_f, *of_g, 2 * n + index[j, i]))
    return Property(rows, np.zeros(len(rows)), tuple(clauses))


def distance_at_most(delta: float, num_outputs: int) -> Property:
    """|f[j] - g[j]| < delta for every output j: rows delta - (f - g), then delta + (f - g).

    Raises: InputError if delta is negative or not finite.
    """
    if not (np.isfinite(delta) and delta >= 0):
        raise InputError(f"delta must be a finite number of at least 0; got {delta}")
    eye = np.eye(num_outputs)
    rows = np.block([[-eye, eye], [eye, -eye]])
    return Property(rows, np.full(2 * num_outputs, float(delta)), tuple((r,) for r in range(2 * num_outputs)))
