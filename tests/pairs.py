"""Pruned and perturbed companions of random networks, for tests of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paoding_verify.checker.backward import State
from paoding_verify.checker.crown import enclose
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Conv2d, Dense, Network, Reshape

__all__ = ["identity_alignment", "perturbed", "root_state", "without_units"]


def identity_alignment(network: Network) -> tuple[tuple[int, ...], ...]:
    """Every unit continues itself."""
    return tuple(tuple(range(count)) for count in network.num_units)


def perturbed(network: Network, seed: int, size: float) -> Network:
    """Normal noise of the given size on every weight, rounded to float32."""
    rng = np.random.default_rng(seed)
    nodes = []
    for node in network.nodes:
        op = node.op
        if isinstance(op, (Dense, Conv2d)):
            noisy = op.weight + rng.normal(size=op.weight.shape) * size
            op = replace(op, weight=noisy.astype(np.float32).astype(np.float64))
        nodes.append(replace(node, op=op))
    return Network(network.input_shape, tuple(nodes))


def without_units(network: Network, kept: Sequence[Sequence[int]]) -> Network:
    """A chain without groups, keeping only the named units of each activation layer: a physically smaller network."""
    layers = dict(zip(network.activations, (np.asarray(k, dtype=int) for k in kept), strict=True))
    columns: np.ndarray | None = None
    nodes = []
    for k, node in enumerate(network.nodes):
        op = node.op
        if isinstance(op, (Dense, Conv2d)):
            weight = op.weight if columns is None else op.weight[:, columns]
            rows = layers.get(k + 1, np.arange(len(op.bias)))
            op, columns = replace(op, weight=weight[rows], bias=op.bias[rows]), rows
        elif isinstance(op, Reshape) and columns is not None:
            channels, *image = network.shapes[k]
            columns = np.arange(channels * int(np.prod(image))).reshape(channels, -1)[columns].ravel()
            op = Reshape((len(columns),))
        nodes.append(replace(node, op=op))
    return Network(network.input_shape, tuple(nodes))


def root_state(
    networks: Sequence[Network], lower: Array, upper: Array, prop: Property, certificate: Certificate, semantics: str
) -> State:
    """What the checker knows on one whole region, with a certificate's hints. Shapes: lower, upper (*input_shape)."""
    return enclose(networks, lower[None], upper[None], semantics, hints=[certificate], num_rows=len(prop.rows))
