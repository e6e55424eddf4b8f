"""Rounding errors of floating-point sums, and how to stay on the safe side of them.

The model (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, sections 2.2 and 3.1): without overflow
and underflow every operation returns the exact result times (1 + d), |d| <= u. A product of n such factors or of their
reciprocals is 1 + t with |t| <= gamma(n, u) = n u / (1 - n u). Hence a sum of products x_1 y_1 + ... + x_m y_m, in
whatever order it is added, fused or not, differs from the exact one by at most gamma(n, u) times the sum of all
|x_i y_i|, n being the number of roundings that one term can meet, at most m + 1. Errors of errors are covered by
gamma(j) + gamma(k) + gamma(j) gamma(k) <= gamma(j + k) (lemma 3.3). Assumed of the machine: IEEE 754 arithmetic that
rounds to nearest, and conventional matrix products (not Strassen's). Underflow adds at most half the smallest subnormal
number per operation; `TINY` is far above any sum of these.
"""

from __future__ import annotations

import numpy as np

from paoding_verify.network.graph import Array

__all__ = ["TINY", "U32", "U64", "centre_radius", "downward", "gamma", "magnitude", "up", "upward"]

U64 = 2.0**-53
"""Unit roundoff of float64, in which the checker computes."""
U32 = 2.0**-24
"""Unit roundoff of float32, in which deployed programs compute."""
TINY = 2.0**-1000
"""More than the underflow of 2^70 float64 operations."""


def gamma(n: int, u: float) -> float:
    """An upper bound of n u / (1 - n u); infinity where the theory does not apply (n u >= 1/2).

    For n < 2^52 and u a power of two, n u and 1 - n u are exact, so one step upward covers the division.
    """
    if n == 0:
        return 0.0
    product = n * u
    return float(np.nextafter(product / (1.0 - product), np.inf)) if product < 0.5 else float("inf")


def up(x: Array, n: int = 1) -> Array:
    """An upper bound of a non-negative quantity of which x was computed from non-negative terms by n roundings each.

    x = exact (1 + t), |t| <= gamma(n), so exact <= x / (1 - gamma(n)) <= x (1 + 2 gamma(n)) as long as gamma(n) <= 1/2;
    two more in the count cover the roundings of this product itself, TINY covers underflow.
    """
    bound = gamma(n + 2, U64)
    return x * (1.0 + 2.0 * bound if bound <= 0.5 else np.inf) + TINY


def downward(x: Array) -> Array:
    """A lower bound of a quantity of which x is the rounded value; minus infinity for anything not finite."""
    return np.where(np.isfinite(x), np.nextafter(x, -np.inf), -np.inf)


def upward(x: Array) -> Array:
    """An upper bound of a quantity of which x is the rounded value; infinity for anything not finite."""
    return np.where(np.isfinite(x), np.nextafter(x, np.inf), np.inf)


def centre_radius(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Floats c and r with [lower, upper] inside [c - r, c + r], and c between lower and upper up to TINY."""
    centre = lower / 2 + upper / 2
    return centre, up(np.maximum(upper - centre, centre - lower))


def magnitude(lower: Array, upper: Array) -> Array:
    """The largest absolute value in [lower, upper], exactly."""
    return np.maximum(np.abs(lower), np.abs(upper))
