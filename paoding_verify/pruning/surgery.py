"""Removal of units: masking in place of the original's shapes, and the physically smaller network."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import ConfigError
from paoding_verify.network.graph import Affine, Array, Conv2d, Dense, Network, Node, Op, Reshape
from paoding_verify.pruning.groups import Labels, UnitMap, is_depthwise

__all__ = ["alignment", "mask_units", "put_back", "remove_units"]

Indices = npt.NDArray[np.intp]


def mask_units(network: Network, units: UnitMap, removed: Collection[int]) -> Network:
    """The network with every column that reads a removed atom set to zero; nodes and shapes stay.

    Raises: ConfigError if a group would lose its last atom.
    """
    _check(units, removed)
    gone = [np.isin(labels, list(removed)) for labels in units.labels]
    nodes = [replace(node, op=_masked(node.op, gone[node.inputs[0]])) for node in network.nodes]
    return replace(network, nodes=tuple(nodes), source=None)


def remove_units(network: Network, units: UnitMap, removed: Collection[int]) -> Network:
    """A smaller network that computes what `mask_units` computes, up to the order of summation.

    Raises: ConfigError if a group would lose its last atom.
    """
    _check(units, removed)
    kept = [_kept_indices(labels, removed) for labels in units.labels]
    nodes = [_shrunk(node, kept[node.inputs[0]], kept[index + 1]) for index, node in enumerate(network.nodes)]
    return replace(network, nodes=tuple(nodes), source=None)


def put_back(small: Network, masked: Network, units: UnitMap, removed: Collection[int]) -> Network:
    """The masked network with the weights and biases of a smaller one: the inverse of `remove_units`.

    Shapes: `small` has those of remove_units(masked, units, removed).
    """
    kept = [_kept_indices(labels, removed) for labels in units.labels]
    nodes = [
        replace(node, op=_grown(little.op, node.op, kept[node.inputs[0]], kept[index + 1]))
        for index, (little, node) in enumerate(zip(small.nodes, masked.nodes, strict=True))
    ]
    return replace(masked, nodes=tuple(nodes), source=None)


def alignment(network: Network, units: UnitMap, removed: Collection[int]) -> tuple[tuple[int, ...], ...]:
    """For each activation layer of the original, the units that are kept, in the smaller network's order."""
    layers = [_kept_indices(units.labels[index + 1], removed)[0] for index in network.activations]
    return tuple(tuple(int(unit) for unit in layer) for layer in layers)


def _check(units: UnitMap, removed: Collection[int]) -> None:
    for group in units.groups:
        if set(group.atoms) <= set(removed):
            layers = sorted({layer for pairs in group.members for layer, _ in pairs})
            raise ConfigError(f"removing these units would empty layer(s) {layers}; keep at least one unit of each")


def _kept_indices(labels: Labels, removed: Collection[int]) -> tuple[Indices, ...]:
    """For each axis of a value, the indices that stay: labels change along one axis only, so this loses nothing."""
    keep = ~np.isin(labels, list(removed))
    axes = range(labels.ndim)
    return tuple(np.flatnonzero(keep.any(axis=tuple(b for b in axes if b != axis))) for axis in axes)


def _masked(op: Op, gone: npt.NDArray[np.bool_]) -> Op:
    if isinstance(op, Dense) and gone.any():
        return replace(op, weight=np.where(gone, 0.0, op.weight))
    if isinstance(op, Conv2d) and not is_depthwise(op) and gone.any():
        return replace(op, weight=np.where(gone[: op.weight.shape[1], :1, :1], 0.0, op.weight))
    return op


def _shrunk(node: Node, read: tuple[Indices, ...], made: tuple[Indices, ...]) -> Node:
    op = node.op
    if isinstance(op, (Dense, Conv2d)):
        magnitude = None if op.bias_magnitude is None else op.bias_magnitude[made[0]]
        weight, bias = op.weight[made[0]], op.bias[made[0]]
        if isinstance(op, Dense):
            op = Dense(weight[:, read[0]], bias, magnitude, op.roundings)
        elif is_depthwise(op):
            op = replace(op, weight=weight, groups=len(read[0]), bias=bias, bias_magnitude=magnitude)
        else:
            columns = read[0][read[0] < op.weight.shape[1]]
            op = replace(op, weight=weight[:, columns], bias=bias, bias_magnitude=magnitude)
    elif isinstance(op, Affine):
        magnitude = None if op.bias_magnitude is None else _sliced(op.bias_magnitude, made)
        op = replace(op, scale=_sliced(op.scale, made), shift=_sliced(op.shift, made), bias_magnitude=magnitude)
    elif isinstance(op, Reshape):
        op = Reshape(tuple(len(indices) for indices in made))
    return replace(node, op=op)


def _grown(small: Op, op: Op, read: tuple[Indices, ...], made: tuple[Indices, ...]) -> Op:
    """A linear operation with the parameters of its smaller form where that has any."""
    if not isinstance(op, (Dense, Conv2d)) or not isinstance(small, (Dense, Conv2d)):
        return op
    weight, bias = op.weight.copy(), op.bias.copy()
    bias[made[0]] = small.bias
    columns = np.arange(weight.shape[1]) if is_depthwise(op) else read[0][read[0] < weight.shape[1]]
    weight[np.ix_(made[0], columns)] = small.weight
    return replace(op, weight=weight, bias=bias, bias_magnitude=None, roundings=small.roundings)


def _sliced(array: Array, made: tuple[Indices, ...]) -> Array:
    """An affine parameter restricted to the elements that stay; axes of length one broadcast and stay."""
    for axis, indices in enumerate(made):
        if array.shape[axis] > 1:
            array = array.take(indices, axis=axis)
    return array
