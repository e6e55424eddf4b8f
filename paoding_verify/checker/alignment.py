"""Writes g in the shapes of f: every unit of g stands where the unit of f stands that it continues.

The widened g computes exactly the same outputs: units that g does not have get weights and biases of zero, and every
weight that would read them is zero. Each value of g has a map, the positions of its channels (axis 0) in f; an
operation is widened by writing its parameters at the mapped positions of its output and input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from paoding_verify.checker.program import Indices
from paoding_verify.errors import InputError
from paoding_verify.network.graph import Array, Conv2d, Dense, Network, Node, Op, Permute, Reshape, Shape

__all__ = ["widen"]


def widen(f: Network, g: Network, alignment: Sequence[Sequence[int]]) -> tuple[Network, list[Indices]]:
    """g in the shapes of f, and for each node the flat positions of g's own elements.

    alignment: for each activation layer the units of f that g's units continue, in g's order.
    Raises: InputError if the networks differ in structure or the alignment fits them nowhere.
    """
    pairs = list(zip(f.nodes, g.nodes, strict=False))
    if len(f.nodes) != len(g.nodes) or any(m.inputs != o.inputs or type(m.op) is not type(o.op) for m, o in pairs):
        raise InputError("the two networks differ in structure")
    if f.num_outputs != g.num_outputs or any(m[1:] != o[1:] for m, o in zip(f.shapes, g.shapes, strict=True)):
        # Only the number of channels may differ: an element of g then stands where f has the same row and column.
        raise InputError("a value of one network has other rows and columns than that of the other")
    maps = _unit_maps(f, g, alignment)
    nodes = []
    for index, (mine, other) in enumerate(pairs):
        op = _widen_op(mine.op, other.op, maps[index + 1], maps[mine.inputs[0]], f.shapes[index + 1][0])
        nodes.append(Node(op, other.inputs, other.name))
    kept = [_positions(units, shape) for units, shape in zip(maps, f.shapes, strict=True)]
    return Network(g.input_shape, tuple(nodes), g.name), kept[1:]


def _unit_maps(f: Network, g: Network, alignment: Sequence[Sequence[int]]) -> list[Indices]:
    """For every value the positions of g's channels in f."""
    if len(alignment) != len(f.activations):
        raise InputError("the alignment does not have one entry for each activation layer")
    for index, units in zip(f.activations, alignment, strict=True):
        if len(set(units) & set(range(f.shapes[index + 1][0]))) != len(units):
            raise InputError(f"the alignment does not fit activation node {index}")
    maps = {index + 1: np.array(units, dtype=np.intp) for index, units in zip(f.activations, alignment, strict=True)}
    for value, count in ((0, g.shapes[0][0]), (len(f.nodes), f.num_outputs)):  # inputs and outputs keep their places
        if not np.array_equal(maps.setdefault(value, np.arange(count)), np.arange(count)):
            raise InputError("the alignment moves outputs")
    for index, node in reversed(list(enumerate(f.nodes))):
        if index + 1 in maps and not isinstance(node.op, (Dense, Conv2d, Reshape, Permute)):
            for value in node.inputs:
                maps.setdefault(value, maps[index + 1])
    for index, node in enumerate(f.nodes):
        shape = f.shapes[index + 1]
        if isinstance(node.op, (Dense, Conv2d)):
            maps.setdefault(index + 1, np.arange(shape[0]))
            continue
        for value in node.inputs:
            carried = _through(node.op, maps[value], f.shapes[value], shape)
            if not np.array_equal(maps.setdefault(index + 1, carried), carried):
                raise InputError(f"the alignment contradicts itself at node {index}")
    if any(len(maps[value]) != shape[0] for value, shape in enumerate(g.shapes)):
        raise InputError("the alignment does not have one entry for each unit")
    return [maps[value] for value in range(len(f.shapes))]


def _through(op: Op, units: Indices, source: Shape, target: Shape) -> Indices:
    """The map of a value whose input has the map `units`."""
    if not isinstance(op, (Reshape, Permute)) or (isinstance(op, Permute) and op.axes[0] == 0):
        return units
    if np.array_equal(units, np.arange(source[0])):
        return np.arange(target[0])
    if isinstance(op, Reshape) and len(target) == 1:
        return _positions(units, source)
    raise InputError(f"an alignment cannot be carried through {type(op).__name__} from {source} to {target}")


def _positions(units: Indices, shape: Shape) -> Indices:
    """Flat positions of all elements of some channels, in their order."""
    each = int(np.prod(shape[1:]))
    return (units[:, None] * each + np.arange(each)).reshape(-1)


def _widen_op(f: Op, g: Op, out: Indices, read: Indices, channels: int) -> Op:
    """Operation g in the shapes of f, which computes `channels` channels.

    Raises: InputError if the two differ in anything but their arrays.
    """
    if isinstance(f, Reshape):
        return f
    changes: dict[str, Any] = {}
    for item in fields(f):
        mine, other = getattr(f, item.name), getattr(g, item.name)
        if item.name == "weight":
            changes["weight"] = _widen_weight(mine, other, out, read)
        elif isinstance(other, np.ndarray):  # one entry for each channel, or one for all
            if len(other) == len(out):
                changes[item.name] = np.zeros((channels, *other.shape[1:]))
                changes[item.name][out] = other
        elif item.name not in ("roundings", "bias_magnitude") and mine != other:
            raise InputError(f"the two networks differ in structure: {item.name} {mine} and {other}")
    return replace(g, **changes)


def _widen_weight(f: Array, g: Array, out: Indices, read: Indices) -> Array:
    if f.shape == g.shape and all((np.diff(units) == 1).all() for units in (out, read)):
        return g
    if f.shape[2:] != g.shape[2:] or g.shape[1] != len(read):
        raise InputError("the alignment does not fit the weights of a layer")
    weight = np.zeros_like(f)
    weight[np.ix_(out, read)] = g
    return weight
