"""Boxes as results state them: the linf ball cut to a domain, and the digest that names a box."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

__all__ = ["ball", "box_digest"]

Array = npt.NDArray[np.float64]


def ball(x: npt.NDArray[np.floating], radius: Array, limits: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
    """Lower and upper of the box [x - radius, x + radius], cut to the limits; rounded outward only where inexact.

    Whether a sum was rounded is read off its exact error term (Knuth's two-sum), so that a box that float64 can hold
    stays exact. Shapes: all those of x.
    """
    centre = x.astype(np.float64)
    lower, upper = -_sum_up(-centre, radius), _sum_up(centre, radius)
    if limits is not None:
        lower, upper = np.maximum(lower, limits[0]), np.minimum(upper, limits[1])
    return lower, upper


def _sum_up(a: Array, b: Array) -> Array:
    """The smallest float64 that is at least a + b."""
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite end is refused by whoever uses the box
        total = a + b
        shadow = total - a
        error = (a - (total - shadow)) + (b - shadow)
        return np.where(error > 0, np.nextafter(total, np.inf), total)


def box_digest(lower: npt.NDArray[np.float64], upper: npt.NDArray[np.float64]) -> str:
    """Hex SHA-256 of a box: shape, then lower and upper as little-endian float64."""
    digest = hashlib.sha256(f"box {lower.shape}\n".encode())
    for array in (lower, upper):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()
