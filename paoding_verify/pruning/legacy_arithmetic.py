"""The numbers on which the original Paoding tool decides: saliency, activation ranges and impact scores.

Everything here repeats that tool's arithmetic, rounding by rounding, because decisions hang on ties and on comparisons
of nearly equal scores: weights are float32, distances between units float64, interval sums run in float32 from the
first unit to the last. None of it bounds anything; `pruning.legacy` says why.

Shapes: a weight is (inputs, outputs), a bias (outputs,), a pair (kept, removed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from paoding_verify.network.graph import Array, Float32Array

__all__ = ["FIRST_RANGE", "Pair", "Span", "impact_scores", "next_range", "ranked_pairs", "saliency"]

Pair = tuple[int, int]
"""Units of one layer: the one kept, the one removed."""
Span = tuple[Float32Array, Float32Array]
"""Lower and upper ends, of equal shape."""

FIRST_RANGE = (0.0, 1.0)
"""What the first hidden layer's activations are taken to lie in, whatever the network."""
_WEIGHTS = (0.75, 0.25)
"""Of width and entropy in a score."""
_SIMILAR = 0.9


def saliency(weight: Float32Array, bias: Float32Array, outgoing: Float32Array) -> Array:
    """M[i, j] = (||w_i - w_j|| + |(b_i - b_j) / (b_i + b_j)|) ||v_j||; NaN where both biases are 0. Shape (n, n)."""
    rows = weight.T.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        biases = np.abs((bias[:, None] - bias) / (bias[:, None] + bias))
        norms = np.array([np.linalg.norm(row) for row in outgoing])
        return np.asarray((biases + cdist(rows, rows)) * norms)


def ranked_pairs(matrix: Array) -> npt.NDArray[np.intp]:
    """Pairs (column, row) of a saliency, smallest first and NaN last, without the smallest of all. Shape (pairs, 2)."""
    size = len(matrix)
    order = np.argsort(matrix.T.ravel(), kind="stable")
    pairs = np.stack([order // size, order % size], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]][1:]


def next_range(span: Span, weight: Float32Array, bias: Float32Array) -> Span:
    """Activation ranges of the next ReLU layer: from 0 to the pre-activation's upper end, even if that is negative."""
    _, upper = _affine(span, weight, bias)
    return np.zeros_like(upper), upper


def impact_scores(
    span: Span, outgoing: Float32Array, later: Sequence[tuple[Float32Array, Float32Array]], pairs: Sequence[Pair]
) -> list[float]:
    """Score of each pair in one layer, lower is better. `span`: activation ranges of the layer; `outgoing`: the weight
    that reads it; `later`: weight and bias of every layer after that one.
    """
    kept, removed = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    lower, upper = span
    change = (lower[kept] - upper[removed])[:, None], (upper[kept] - lower[removed])[:, None]
    delta = _scaled(change, outgoing[kept])
    for index, (weight, bias) in enumerate(later, start=1):
        delta = _affine(delta, weight, bias)
        if index < len(later):
            delta = np.maximum(delta[0], 0), np.maximum(delta[1], 0)
    widths = np.abs(delta[1] - delta[0]).sum(axis=1)
    scores = zip(widths.tolist(), _entropies(delta), strict=True)
    return [_WEIGHTS[0] * _sigmoid(width) + _WEIGHTS[1] * _sigmoid(entropy) for width, entropy in scores]


def _scaled(span: Span, factor: Float32Array) -> Span:
    """Ends times a factor, exchanged where it is negative. An empty span stays empty."""
    low, high = span[0] * factor, span[1] * factor
    rising = factor > 0
    return np.where(rising, low, high), np.where(rising, high, low)


def _affine(span: Span, weight: Float32Array, bias: Float32Array) -> Span:
    """Sums over inputs in order, in float32; accumulate does not reorder. Shapes: span (..., inputs)."""
    terms = _scaled((span[0][..., None], span[1][..., None]), weight)
    low, high = (np.add.accumulate(part, axis=-2)[..., -1, :] + bias for part in terms)
    return low, high


def _entropies(spans: Span) -> list[float]:
    """-sum p ln p, where p is the share of the outputs with a similar interval. Shapes: spans (pairs, outputs)."""
    low, high = spans
    size = low.shape[1]
    hull = np.maximum(high.max(axis=1), 0) - np.minimum(low.min(axis=1), 0)
    hull = np.where(hull == 0, np.float32(0.001), hull)[:, None, None]
    apart = np.abs(low[:, :, None] - low[:, None]) + np.abs(high[:, :, None] - high[:, None])
    similar = (1 - np.float32(0.5) * apart / hull).astype(np.float64) >= _SIMILAR
    similar[:, np.arange(size), np.arange(size)] = True
    terms = np.array([0.0, *(-(count / size) * math.log(count / size) for count in range(1, size + 1))])
    return [float(total) for total in np.add.accumulate(terms[similar.sum(axis=2)], axis=1)[:, -1]]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
