"""Boxes as results state them: the linf ball cut to a domain, the digest that names a box, and its text form."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import DataError

__all__ = ["Box", "ball", "box_digest", "pack_box", "unpack_box"]

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


@dataclass(frozen=True, eq=False)
class Box:
    """A region's arrays, all of the input's shape."""

    centre: npt.NDArray[np.float32]
    lower: Array
    upper: Array


def pack_box(box: Box, *, is_ball: bool) -> str:
    """The box as base64 text: the centre alone if it is a ball of a known radius and domain, else all three arrays."""
    arrays = [np.ascontiguousarray(box.centre, dtype="<f4").tobytes()]
    if not is_ball:
        arrays += [np.ascontiguousarray(end, dtype="<f8").tobytes() for end in (box.lower, box.upper)]
    return base64.b64encode(b"".join(arrays)).decode()


def unpack_box(
    text: str, shape: tuple[int, ...], *, eps: float | None, domain: tuple[float, float] | None, sha256: str
) -> Box:
    """The box of a text that `pack_box` wrote, with the digest `sha256`. Raises: DataError if it is no such box."""
    try:
        data = base64.b64decode(text, validate=True)
        size = int(np.prod(shape))
        centre = np.frombuffer(data[: 4 * size], dtype="<f4").reshape(shape)
        if eps is None:
            ends = np.frombuffer(data[4 * size :], dtype="<f8").reshape(2, *shape)
            lower, upper = ends[0], ends[1]
        elif len(data) == 4 * size:
            low, high = domain or (-np.inf, np.inf)
            lower, upper = ball(centre, np.full(shape, eps), (np.asarray(low), np.asarray(high)))
        else:
            raise ValueError("more than a centre")
    except ValueError as error:
        raise DataError(f"the text of a box does not fit inputs of shape {shape}: {error}") from error
    if box_digest(lower, upper) != sha256:
        raise DataError(f"the text of a box is not that of the box with the digest {sha256[:64]}")
    return Box(centre, lower, upper)
