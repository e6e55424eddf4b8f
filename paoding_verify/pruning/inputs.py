"""The inputs that pruning learns from: synthetic ones, and unlabelled ones that the user may give."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from paoding_verify.anchors import Domain
from paoding_verify.errors import InputError
from paoding_verify.network.graph import Float32Array, Network

__all__ = ["NUM_COMPENSATION", "NUM_TRAINING", "affordable", "checked_inputs", "joined"]

NUM_COMPENSATION = (200, 2400)
"""Fewest and most synthetic inputs for prices and least squares."""
NUM_TRAINING = (400, 12_000)
"""Fewest and most synthetic inputs for distillation."""
_MAX_VALUES = 100_000_000
"""Floats that all values at these inputs may take: large networks get fewer inputs."""
_MAX_REPEATS = 20
"""Times that one of the user's inputs is repeated so that a few count among many synthetic ones."""


def affordable(network: Network, limits: tuple[int, int]) -> int:
    """Number of synthetic inputs within the limits that suits the size of a network."""
    per_input = sum(prod(shape) for shape in network.shapes)
    return min(max(_MAX_VALUES // per_input, limits[0]), limits[1])


def checked_inputs(network: Network, inputs: npt.ArrayLike, domain: Domain) -> Float32Array:
    """The user's inputs as float32. Shapes: (N, *input_shape).

    Raises: InputError if the shape does not fit or there is none, a number is not finite, or one lies outside the
    domain.
    """
    array = np.asarray(inputs)
    if array.shape[1:] != network.input_shape or len(array) == 0:
        raise InputError(f"the pruner's inputs must have shape (N, *{network.input_shape}), N > 0; got {array.shape}")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(f"the pruner's inputs must be finite floating-point numbers; got {array.dtype}")
    points = array.astype(np.float32)
    low, high = (np.asarray(end, dtype=np.float32) for end in domain)
    if (points < low).any() or (points > high).any():
        raise InputError(
            f"the pruner's inputs reach from {points.min()} to {points.max()}, outside the domain; state the domain"
        )
    return points


def joined(synthetic: Float32Array, user: Float32Array | None) -> Float32Array:
    """Synthetic inputs and as many of the user's: repeated where these are few, every k-th where they are many."""
    if user is None:
        return synthetic
    count = min(len(synthetic), _MAX_REPEATS * len(user))
    chosen = np.arange(count) * len(user) // count if count < len(user) else np.arange(count) % len(user)
    return np.concatenate([synthetic, user[chosen]])
