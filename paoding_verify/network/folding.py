"""Batch normalisation as one scale and shift, and scales and shifts folded into the linear layer in front of them.

How `roundings` and `bias_magnitude` are found. Let s, t be the exact scale and shift of real arithmetic on the file's
float32 numbers, and z = W h + b what the layer in front computes.

Stored values. s = gamma / sqrt(var + eps) takes three float64 roundings (sum, root, quotient), t = beta - s mu two
more. s W takes one rounding, s b + t two. So every stored number is the exact one times 1 + theta_c(2^-53), the bias
relative to the sum of the magnitudes of its terms; c is at most 5 for batch normalisation and 2 more for a fold.

A deployed float32 program computes one of: ((z - mu) / sqrt(var + eps)) gamma + beta; z s + (beta - s mu); or a
layer with weight s W. On its way into the output each product of a weight and an input meets, besides the roundings of
the dot product itself (which the checker counts by `row_length`), at most seven roundings: z - mu, var + eps, root,
quotient, product, product with gamma, sum with beta; each term of the bias as many. A plain scale and shift: two.

The checker compares the program with the stored numbers, so both counts enter (Higham 2002, lemma 3.3:
(1 + theta_k) / (1 + theta_j) = 1 + theta_(k + j) for j <= k, theta_(k + 2j) otherwise): `BATCH_NORM_ROUNDINGS` = 7 + 5,
`FOLD_ROUNDINGS` = 2 + 2. In exact arithmetic no program rounds, and twice the count of the stored numbers remains: 10
and 4, which is no more. Folding composes relative errors, so counts add up.

Underflow and overflow have no relative error. Numbers below 2^-126 may be flushed to zero by the program at any step;
what that can do to the output is added to the magnitude as the absolute error divided by 2^-24. This holds while the
inputs and outputs of the layer stay below 2^64 in magnitude: for a layer with `roundings` > 0, float32 claims must
not be made beyond `FLOAT32_RANGE`. Layers whose rows sum up to more than `MAX_ROW` are not folded, so that z stays
below 2^81 in the others and no step in between overflows.

A scale and shift that is not folded here may still be folded by the deployed program (onnxruntime does it): then
`expect_fold` counts the same roundings at the scale and shift.

Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 2.2 and 3.1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.graph import Affine, Array, Conv2d, Dense

__all__ = ["BATCH_NORM_ROUNDINGS", "FLOAT32_RANGE", "FOLD_ROUNDINGS", "batch_norm", "expect_fold", "fold_affine"]

BATCH_NORM_ROUNDINGS = 12
FOLD_ROUNDINGS = 4
FLOAT32_RANGE = 2.0**64
"""Largest input or output of a layer with `roundings` > 0 for which its error statement covers float32 programs."""
MAX_ROW = 2.0**16
LARGE = 2.0**60
FLUSH = 2.0**-100
"""Bound of 2^-126 / 2^-24 with room for a factor of four."""
UPWARD = 1.0 + 2.0**-40
"""Makes up for the roundings of the magnitudes themselves."""


def batch_norm(gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float, rank: int) -> Affine:
    """Inference-mode batch normalisation over axis 0 of a value with `rank` axes; errors as the module text says.

    Shapes: gamma, beta, mean, variance (channels,).
    Raises: UnsupportedOpError if the variance or a parameter is so small or large that float32 programs overflow.
    """
    if not (epsilon >= 0 and (variance >= 0).all() and (variance + epsilon >= 2.0**-40).all()):
        raise UnsupportedOpError("its variance plus epsilon must be at least 1e-12")
    if not all((np.abs(p) <= LARGE).all() for p in (gamma, beta, mean, variance)):
        raise UnsupportedOpError("its parameters must not exceed 1e18")
    inverse = 1.0 / np.sqrt(variance + epsilon)
    scale = gamma / np.sqrt(variance + epsilon)
    shift = beta - scale * mean
    # A gamma that underflows against the inverse root loses all its digits: 2^-126 |z - mean| / 2^-24, |z| <= 2^81.
    lost = np.where((gamma != 0) & (np.abs(gamma) < 2.0**-90), 2.0**-20, 0.0)
    steps = (1 + np.abs(gamma)) * (1 + inverse) * (1 + np.abs(mean)) * FLUSH
    magnitude = (np.abs(beta) + np.abs(scale * mean) + steps + lost) * UPWARD
    shape = (-1,) + (1,) * (rank - 1)
    return Affine(scale.reshape(shape), shift.reshape(shape), magnitude.reshape(shape), BATCH_NORM_ROUNDINGS)


def fold_affine(layer: Dense | Conv2d, affine: Affine) -> Dense | Conv2d | None:
    """One layer that computes affine(layer(x)), with errors as the module text says; None if there is none.

    There is none if the scale or shift varies inside a channel, or numbers are too large for the error statement.
    A shift alone that meets a bias of zero is taken over exactly.
    """
    outputs = len(layer.bias)
    if any(any(n != 1 for n in a.shape[1:]) for a in (affine.scale, affine.shift)):
        return None
    scale, shift = (np.broadcast_to(a.reshape(-1), (outputs,)) for a in (affine.scale, affine.shift))
    exact = affine.roundings == 0 and affine.bias_magnitude is None and bool((scale == 1).all())
    if exact and layer.bias_magnitude is None and not layer.bias.any():
        return replace(layer, bias=np.array(shift))
    rows = np.abs(layer.weight).reshape(outputs, -1)
    before = np.abs(layer.bias) if layer.bias_magnitude is None else layer.bias_magnitude
    after = np.abs(affine.shift) if affine.bias_magnitude is None else affine.bias_magnitude
    if (rows.sum(axis=1) + before > MAX_ROW).any() or max(np.abs(scale).max(), after.max()) > LARGE:
        return None
    weight = scale.reshape((-1,) + (1,) * (layer.weight.ndim - 1)) * layer.weight
    magnitude = np.abs(scale) * before + np.broadcast_to(after.reshape(-1), (outputs,))
    magnitude = magnitude + (1 + np.abs(scale)) * (rows.shape[1] + 1) * FLUSH
    # Folded weights that a fusing program flushes: 2^-126 times inputs below 2^64, divided by 2^-24.
    small = (weight != 0) & (np.abs(weight) < 2.0**-120)
    magnitude = magnitude + small.reshape(outputs, -1).sum(axis=1) * 2.0**-36
    roundings = layer.roundings + affine.roundings + FOLD_ROUNDINGS
    bias = scale * layer.bias + shift
    return replace(layer, weight=weight, bias=bias, bias_magnitude=magnitude * UPWARD, roundings=roundings)


def expect_fold(layer: Dense | Conv2d, affine: Affine) -> Affine:
    """The same scale and shift, with errors that also cover a program that folds it into `layer`."""
    bias = np.abs(layer.bias) if layer.bias_magnitude is None else layer.bias_magnitude
    before = bias.reshape((-1,) + (1,) * (affine.scale.ndim - 1))
    after = np.abs(affine.shift) if affine.bias_magnitude is None else affine.bias_magnitude
    terms = int(np.prod(layer.weight.shape[1:])) + 1
    magnitude = np.abs(affine.scale) * before + after + (1 + np.abs(affine.scale)) * terms * FLUSH
    shape = np.broadcast_shapes(affine.scale.shape, affine.shift.shape, before.shape)
    return Affine(
        affine.scale,
        affine.shift,
        np.broadcast_to(magnitude * UPWARD, shape),
        layer.roundings + affine.roundings + FOLD_ROUNDINGS,
    )
