"""Properties of a pair that ask something of g only where f is sure, in the form of `evidence.property`."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, log

import numpy as np

from paoding_verify.errors import InputError
from paoding_verify.evidence.property import Property, difference_rows, pair_index

__all__ = ["decides_like_where_confident", "decides_like_where_decided", "preserves_margin"]

GRID = 2**32
"""Logarithms are rounded outward to multiples of 1 / GRID: more than their error, and the same on every machine."""


def decides_like_where_confident(confidence: float, num_outputs: int) -> Property:
    """Wherever softmax gives f's top class at least `confidence`, g has the same strictly largest output.

    With p = confidence and i the top class of f, softmax_i >= p says that sum over k != i of exp(f[k] - f[i]) is at
    most (1 - p) / p. That implies f[i] - f[k] >= log(p / (1 - p)) for every k, which is what the clauses suppose: they
    state more than was asked. It is implied by f[i] - f[k] >= log((C - 1) p / (1 - p)) for every k, which is what
    refuting outputs show. Between the two, a point neither proves nor refutes; for two classes they are the same.
    Raises: InputError if confidence is not in [0.5, 1).
    Source: Teuber et al., arXiv 2410.20207 (delta-top-1 equivalence).
    """
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence must be at least 0.5 and less than 1; got {confidence}")
    odds = Fraction(confidence) / (1 - Fraction(confidence))
    least = max(0.0, floor(log(odds) * GRID - 1) / GRID)
    return _decides_like_where(num_outputs, least, ceil(log(odds * max(num_outputs - 1, 1)) * GRID + 1) / GRID)


def decides_like_where_decided(margin: float, num_outputs: int) -> Property:
    """Wherever an output of f exceeds all others by at least `margin`, g has the same strictly largest output.

    Raises: InputError if margin is negative or not finite.
    """
    if not (np.isfinite(margin) and margin >= 0):
        raise InputError(f"the margin must be a finite number of at least 0; got {margin}")
    return _decides_like_where(num_outputs, float(margin), float(margin))


@lru_cache(maxsize=8)
def _decides_like_where(num_outputs: int, least: float, sure: float) -> Property:
    """f[i] - f[k] >= least for all k implies that g's strictly largest output is i.

    One clause for each i != j, which excludes "f is decided for i, and j is a largest output of g": one of
    f[k] - f[i] + least, g[k] - g[j], (f[j] - g[j]) - (f[i] - g[i]) + least is positive; the last is positive only if
    one of the others is. Refuting: an output of f exceeds all others by more than `sure` (of any two classes one is
    that far below some other), and for every class i either f is not decided for it or some g[k] is larger than g[i].
    Rows as in `decides_like`, then f[k] - f[i] - sure.
    """
    if num_outputs < 2:
        raise InputError(f"{num_outputs} output(s) are no classes to decide between")
    index = pair_index(num_outputs)
    n = len(index)
    classes = range(num_outputs)
    below = {i: [index[k, i] for k in classes if k != i] for i in classes}
    clauses = [(*below[i], *(n + r for r in below[j]), 2 * n + index[j, i]) for j in classes for i in classes if i != j]
    far = {i: [3 * n + r for r in below[i]] for i in classes}
    refuting = [(*far[i], *(n + r for r in below[i])) for i in classes]
    refuting += [(*far[i], *far[j]) for i in classes for j in classes if i < j]
    rows = difference_rows(num_outputs)
    offsets = np.repeat([least, 0.0, least, -sure], n)
    return Property(np.vstack([rows, rows[:n]]), offsets, tuple(clauses), tuple(refuting))


def preserves_margin(label: int, num_outputs: int, share: float = 0.0) -> Property:
    """Wherever f's margin for the class `label` is positive, g's margin for it exceeds share times f's margin.

    The margin is the label's output minus the largest other one, so that with share 0: where f gives the label, so does
    g. One clause for each class j != c: one of f[k] - f[c], (g[c] - g[j]) - share (f[c] - f[k]) for some k, or
    (g[c] - g[j]) - (f[c] - f[j]) is positive; the last implies its neighbour with k = j. Refuting: all f[c] - f[k], and
    for every k some share (f[c] - f[k]) - (g[c] - g[j]), are positive.
    Raises: InputError if the label is no class or share is not in [0, 1).
    """
    if not 0 <= label < num_outputs or num_outputs < 2:
        raise InputError(f"label {label} is not a class of a network with {num_outputs} output(s)")
    if not 0 <= share < 1:
        raise InputError(f"the share of a margin must be at least 0 and less than 1; got {share}")
    others = [k for k in range(num_outputs) if k != label]
    table: dict[tuple[float, ...], int] = {}

    def row(of_f: int | None, factor: float, of_g: int | None, sign: float = 1.0) -> int:
        """The number of sign * ((g[c] - g[of_g]) - factor * (f[c] - f[of_f])); None: that part is missing."""
        coefficients = np.zeros(2 * num_outputs)
        for other, size, start in ((of_f, -factor, 0), (of_g, 1.0, num_outputs)):
            if other is not None and size:
                coefficients[start + label], coefficients[start + other] = sign * size, -sign * size
        return table.setdefault(tuple(coefficients.tolist()), len(table))

    lost = [row(k, 1.0, None) for k in others]
    clauses = tuple(tuple(dict.fromkeys((*lost, *(row(k, share, j) for k in others), row(j, 1.0, j)))) for j in others)
    refuting: list[tuple[int, ...]] = [(row(k, 1.0, None, -1.0),) for k in others]
    refuting += dict.fromkeys(tuple(dict.fromkeys(row(k, share, j, -1.0) for j in others)) for k in others)
    return Property(np.array(list(table)), np.zeros(len(table)), clauses, tuple(refuting))
