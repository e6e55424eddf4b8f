"""Unstructured pruning: the weights of smallest magnitude become zero, and every shape stays.

The network gets no smaller file and no fewer operations on ordinary hardware; what shrinks is the number of parameters
that are not zero. Fine-tuning keeps the zeros where they are.

Source: lowest weight magnitude (LWM) as in arXiv 1906.06110.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.network.graph import Array, Conv2d, Dense, Network, parameters
from paoding_verify.network.record import zero_weights
from paoding_verify.network.transform import as_float32

__all__ = ["UNSTRUCTURED", "Masks", "kept_weights", "prune_weights", "zero_share"]

Masks = Mapping[int, npt.NDArray[np.bool_]]
"""Node -> for each of its weights whether it may differ from zero; nodes left out are free."""

UNSTRUCTURED = ("lwm", "lwm-layer")
"""Methods that set weights to zero: the smallest of the whole network, or the same share of every layer."""


def prune_weights(original: Network, target_sparsity: float, *, method: str, seed: int) -> tuple[Network, PruneTrace]:
    """The network with exactly round(target_sparsity * parameters) of its smallest weights at zero, and the trace.

    Weights that were zero before count. Biases, scales and shifts are parameters and stay; `seed` is only recorded,
    since nothing is drawn. All parameters of the result are float32 numbers.
    Raises: ConfigError if the target is not in (0, 1), or there are fewer weights than it asks to remove.
    """
    if not 0.0 < target_sparsity < 1.0:
        raise ConfigError(f"the target sparsity must lie strictly between 0 and 1; got {target_sparsity}")
    original = as_float32(original)
    count, total = round(target_sparsity * original.num_parameters), original.num_parameters
    weights = _weights(original)
    available = sum(w.size for w in weights.values())
    if count > available:
        raise ConfigError(
            f"a target sparsity of {target_sparsity} means {count} zero weights, but only {available} of the {total} "
            f"parameters are weights (sparsity {available / total:.4f})"
        )
    chosen = _smallest_of_all(weights, count) if method == "lwm" else _smallest_of_each(weights, count)
    network = _with_zeros(original, chosen)
    trace = PruneTrace(
        method=method,
        seed=seed,
        target_sparsity=target_sparsity,
        sparsity=zero_share(network),
        steps=(),
        alignment=tuple(tuple(range(units)) for units in original.num_units),
        anchors={"source": "none"},
        sparsity_of="weights",
    )
    return replace(network, name=f"{original.name}-pruned"), trace


def zero_share(network: Network) -> float:
    """Weights that are zero / parameters."""
    return zero_weights(network) / network.num_parameters


def kept_weights(network: Network) -> Masks:
    """The masks under which every weight that is zero now stays zero."""
    return {index: weight != 0 for index, weight in _weights(network).items()}


def _weights(network: Network) -> dict[int, Array]:
    return {k: parameters(n.op)[0] for k, n in enumerate(network.nodes) if isinstance(n.op, (Dense, Conv2d))}


def _smallest_of_all(weights: Mapping[int, Array], count: int) -> Masks:
    """True for the weights to be zeroed; among equals the earlier ones."""
    flat = np.concatenate([np.abs(w).ravel() for w in weights.values()])
    chosen = np.zeros(len(flat), dtype=np.bool_)
    chosen[np.argsort(flat, kind="stable")[:count]] = True
    ends = np.cumsum([w.size for w in weights.values()])[:-1]
    parts = np.split(chosen, ends)
    return {k: part.reshape(w.shape) for (k, w), part in zip(weights.items(), parts, strict=True)}


def _smallest_of_each(weights: Mapping[int, Array], count: int) -> Masks:
    """As `_smallest_of_all`, with the same share of every layer, rounded so that the sum is exact."""
    ends = np.cumsum([0, *(w.size for w in weights.values())])
    quotas = np.diff(np.rint(ends * count / ends[-1]).astype(int))
    return {k: _smallest_of_all({k: w}, int(quota))[k] for (k, w), quota in zip(weights.items(), quotas, strict=True)}


def _with_zeros(network: Network, chosen: Masks) -> Network:
    nodes = []
    for index, node in enumerate(network.nodes):
        op = node.op
        if isinstance(op, (Dense, Conv2d)):
            op = replace(op, weight=np.where(chosen[index], 0.0, op.weight))
        nodes.append(replace(node, op=op))
    return replace(network, nodes=tuple(nodes), source=None)
