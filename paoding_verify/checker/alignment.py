"""Writes g in the shapes of f: every unit of g stands where the unit of f stands that it continues.

The widened g computes exactly the same outputs: units that g does not have get weights and biases of zero, and every
weight that would read them is zero. Each value of g has a map, the positions of its channels (axis 0) in f; an
operation is widened by writing its parameters at the mapped positions of its output and input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import InputError
from paoding_verify.network.graph import (
    Affine,
    Array,
    Conv2d,
    Dense,
    Network,
    Node,
    Op,
    Permute,
    Reshape,
    Shape,
)  # fmt: skip

__all__ = ["widen"]

Indices = npt.NDArray[np.intp]


def widen(f: Network, g: Network, alignment: Sequence[Sequence[int]]) -> tuple[Network, list[Indices]]:
    """g in the shapes of f, and for each node the flat positions of g's own elements.

    Raises: InputError if the networks differ in structure or the alignment fits them nowhere.
    """
    if len(f.nodes) != len(g.nodes) or f.input_shape != g.input_shape or f.num_outputs != g.num_outputs:
        raise InputError("the two networks differ in structure")
    if any(mine[1:] != other[1:] for mine, other in zip(f.shapes, g.shapes, strict=True)):
        # Only the number of channels may differ: an element of g then stands where f has the same row and column.
        raise InputError("a value of one network has other rows and columns than that of the other")
    maps = _unit_maps(f, g, alignment)
    nodes = []
    for index, (mine, other) in enumerate(zip(f.nodes, g.nodes, strict=True)):
        op = _widen_op(mine.op, other.op, maps[index + 1], maps[other.inputs[0]])
        nodes.append(Node(op, other.inputs, other.name))
    kept = [_positions(maps[k + 1], f.shapes[k + 1]) for k in range(len(nodes))]
    return Network(g.input_shape, tuple(nodes), g.name), kept


def _unit_maps(f: Network, g: Network, alignment: Sequence[Sequence[int]]) -> list[Indices]:
    """For every value the positions of g's channels in f."""
    maps: list[Indices | None] = [None] * (len(f.nodes) + 1)
    if f.activations != g.activations or len(alignment) != len(f.activations):
        raise InputError("the alignment does not have one entry for each activation layer")
    _assign(maps, 0, np.arange(f.shapes[0][0]))
    _assign(maps, len(f.nodes), np.arange(f.num_outputs))
    for index, units in zip(f.activations, alignment, strict=True):
        fits = len(units) == g.shapes[index + 1][0] and len(set(units)) == len(units)
        if not fits or min(units) < 0 or max(units) >= f.shapes[index + 1][0]:
            raise InputError(f"the alignment does not fit activation node {index}")
        _assign(maps, index + 1, np.array(units, dtype=np.intp))
    for index in reversed(range(len(f.nodes))):
        node, units_out = f.nodes[index], maps[index + 1]
        if node.inputs != g.nodes[index].inputs or type(node.op) is not type(g.nodes[index].op):
            raise InputError(f"the two networks differ in structure at node {index}")
        if units_out is not None and not isinstance(node.op, (Dense, Conv2d, Reshape, Permute)):
            for value in node.inputs:
                _assign(maps, value, units_out)
    for index, node in enumerate(f.nodes):
        if not isinstance(node.op, (Dense, Conv2d)):
            for value in node.inputs:
                units_in = maps[value]
                if units_in is not None:  # always, since values are mapped in order
                    _assign(maps, index + 1, _through(node.op, units_in, f.shapes[value], f.shapes[index + 1]))
        elif maps[index + 1] is None:
            _assign(maps, index + 1, np.arange(f.shapes[index + 1][0]))
    return [m if m is not None else np.arange(shape[0]) for m, shape in zip(maps, f.shapes, strict=True)]


def _assign(maps: list[Indices | None], value: int, units: Indices) -> None:
    before = maps[value]
    if before is not None and not np.array_equal(before, units):
        raise InputError(f"the alignment contradicts itself at value {value}")
    maps[value] = units


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


def _widen_op(f: Op, g: Op, out: Indices, inp: Indices) -> Op:
    """Operation g in the shapes of f."""
    if isinstance(f, Dense) and isinstance(g, Dense):
        if g.weight.shape != (len(out), len(inp)):
            raise InputError("the alignment does not fit a dense layer")
        weight = np.zeros_like(f.weight)
        weight[np.ix_(out, inp)] = g.weight
        magnitude = None if g.bias_magnitude is None else _spread(g.bias_magnitude, f.bias.shape, out)
        return replace(g, weight=weight, bias=_spread(g.bias, f.bias.shape, out), bias_magnitude=magnitude)
    if isinstance(f, Conv2d) and isinstance(g, Conv2d):
        _same_settings(f, g)
        if f.weight.shape == g.weight.shape and (np.diff(out) == 1).all() and (np.diff(inp) == 1).all():
            return g
        if f.groups != 1 or g.weight.shape != (len(out), len(inp), *f.weight.shape[2:]):
            raise InputError("the alignment does not fit a convolution")
        weight = np.zeros_like(f.weight)
        weight[np.ix_(out, inp)] = g.weight
        magnitude = None if g.bias_magnitude is None else _spread(g.bias_magnitude, f.bias.shape, out)
        return replace(g, weight=weight, bias=_spread(g.bias, f.bias.shape, out), bias_magnitude=magnitude)
    if isinstance(f, Affine) and isinstance(g, Affine):
        magnitude = None if g.bias_magnitude is None else _spread(g.bias_magnitude, f.shift.shape, out)
        scale, shift = _spread(g.scale, f.scale.shape, out), _spread(g.shift, f.shift.shape, out)
        return replace(g, scale=scale, shift=shift, bias_magnitude=magnitude)
    if isinstance(f, Reshape):
        return f
    _same_settings(f, g)
    return f


def _spread(array: Array, shape: Shape, out: Indices) -> Array:
    """Writes an array at the mapped positions of axis 0; one that is broadcast along axis 0 stays as it is."""
    if array.shape[0] == 1 and (shape[0] == 1 or len(out) > 1):
        return array
    if array.shape != (len(out), *shape[1:]) or shape[0] <= int(out.max()):
        raise InputError("the alignment does not fit the parameters of a layer")
    wide = np.zeros(shape)
    wide[out] = array
    return wide


def _same_settings(f: Op, g: Op) -> None:
    """Raises: InputError if two operations differ in anything but their arrays."""
    for item in fields(f):
        mine, other = getattr(f, item.name), getattr(g, item.name)
        arrays = isinstance(mine, np.ndarray) or isinstance(other, np.ndarray)
        if item.name != "roundings" and not arrays and mine != other:
            raise InputError(f"the two networks differ in structure: {item.name} {mine} and {other}")
