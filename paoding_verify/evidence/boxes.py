"""The digest that names a box in results."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

__all__ = ["box_digest"]


def box_digest(lower: npt.NDArray[np.float64], upper: npt.NDArray[np.float64]) -> str:
    """Hex SHA-256 of a box: shape, then lower and upper as little-endian float64."""
    digest = hashlib.sha256(f"box {lower.shape}\n".encode())
    for array in (lower, upper):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()
