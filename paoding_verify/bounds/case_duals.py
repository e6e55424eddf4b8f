"""Multipliers of a case in which everything is linear: the dual solution of a linear program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

from paoding_verify.network.graph import Array

__all__ = ["best_multipliers"]

_BEYOND = 4.0
"""How far beyond zero the bound of an infeasible case is pushed, in units of what it lacks."""


def best_multipliers(forms: Array, constants: Array, box: Sequence[Array]) -> Array:
    """Multipliers beta >= 0 that make min over the box of row - sum beta_j c_j large, c_j >= 0 the case's conditions.

    The first form is the row, form j is row - c_j. Where no point satisfies all conditions, the bound grows without
    limit along a ray, of which a point with a positive bound is returned. Shapes: forms (m + 1, n), constants (m + 1,),
    box: lower and upper (n,) -> (m,); zeros if the program cannot be solved.
    """
    row, conditions = forms[0], forms[0] - forms[1:]
    shifts = constants[0] - constants[1:]
    bounds = list(zip(*box, strict=True))
    found = linprog(row, -conditions, shifts, bounds=bounds, method="highs")
    if found.status == 0:
        return np.maximum(-found.ineqlin.marginals, 0.0)
    count = len(conditions)
    elastic = np.hstack([-conditions, -np.ones((count, 1))])
    cost = np.append(np.zeros(len(row)), 1.0)
    found = linprog(cost, elastic, shifts, bounds=[*bounds, (0.0, None)], method="highs")
    if found.status != 0 or not found.fun > 0:
        return np.zeros(count)
    lacking = constants[0] + np.where(row > 0, row * box[0], row * box[1]).sum()
    return np.maximum(-found.ineqlin.marginals, 0.0) * (_BEYOND * (1.0 + abs(lacking)) / found.fun)
