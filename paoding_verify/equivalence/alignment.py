"""Which unit of the original each unit of the pruned network continues.

Any alignment gives sound bounds; a good one gives tight ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from paoding_verify.network.evaluate import evaluate_all, evaluate_op
from paoding_verify.network.graph import (
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Network,
    Node,
    Permute,
    Reshape,
    Shape,
    is_activation,
)  # fmt: skip
from paoding_verify.network.linear import product

__all__ = ["find_alignment", "same_structure"]

_TIE = 1e-12
"""Weight of the unit's own position in the cost: among equally good partners the same position wins."""


def same_structure(original: Network, pruned: Network) -> bool:
    """Whether both have the same operations and wiring on images of one size, and no layer of `pruned` is wider."""
    if original.input_shape != pruned.input_shape or len(original.nodes) != len(pruned.nodes):
        return False
    pairs = zip(original.nodes, pruned.nodes, strict=True)
    if any(type(a.op) is not type(b.op) or a.inputs != b.inputs or _slope(a) != _slope(b) for a, b in pairs):
        return False
    if any(f[1:] != g[1:] for f, g in zip(original.shapes, pruned.shapes, strict=True)):
        return False
    return all(pruned.shapes[k + 1][0] <= original.shapes[k + 1][0] for k in original.activations)


def find_alignment(
    original: Network, pruned: Network, inputs: npt.NDArray[np.floating]
) -> tuple[tuple[int, ...], ...] | None:
    """For each activation layer, distinct units of `original`, one for each of `pruned`; None: no common structure.

    Units are matched by their pre-activations on `inputs`, in the assignment of least total squared distance. A unit
    of f counts as near if it resembles the unit of g either as f computes it (compensated or distilled weights) or with
    the removed inputs left out (weights kept as they were: distance zero).
    Shapes: inputs (N, *input_shape).
    """
    if not same_structure(original, pruned):
        return None
    x = inputs.astype(np.float64)
    of_f, of_g = evaluate_all(original, x), evaluate_all(pruned, x)
    places = {0: _numbered(original.input_shape)}
    alignment = []
    for k, node in enumerate(original.nodes):
        (value, *_) = node.inputs
        if is_activation(node.op):
            cost = _distances(_by_unit(of_g[value]), _by_unit(of_f[value]))
            dropped = _with_kept_inputs(original, value, places, of_g)
            if dropped is not None:
                cost = np.minimum(cost, _distances(_by_unit(of_g[value]), _by_unit(dropped)))
            alignment.append(tuple(int(unit) for unit in linear_sum_assignment(cost)[1]))
            places[k + 1] = _numbered(original.shapes[k + 1])[list(alignment[-1])]
        elif isinstance(node.op, (Reshape, Permute)) and value in places:
            places[k + 1] = evaluate_op(pruned.nodes[k].op, places[value][None])[0]
        elif isinstance(node.op, (AveragePool2d, MaxPool2d)) and value in places:
            places[k + 1] = _numbered(original.shapes[k + 1])[_channels(places[value], original.shapes[value])]
    return tuple(alignment)


def _with_kept_inputs(f: Network, value: int, places: Mapping[int, Array], of_g: Sequence[Array]) -> Array | None:
    """What the units of f would compute from the inputs that g kept; None unless a known layer computes the value.

    places: for values of g, the flat positions in f's value that they continue.
    """
    if value == 0:
        return None
    node = f.nodes[value - 1]
    (read, *_) = node.inputs
    if read not in places or not isinstance(node.op, (Dense, Conv2d)) or getattr(node.op, "groups", 1) != 1:
        return None
    kept = places[read].astype(int) if isinstance(node.op, Dense) else _channels(places[read], f.shapes[read])
    return np.asarray(product(replace(node.op, weight=node.op.weight[:, kept]), of_g[read]))


def _numbered(shape: Shape) -> Array:
    """Every cell holds its flat position."""
    return np.arange(float(np.prod(shape))).reshape(shape)


def _channels(place: Array, f_shape: Shape) -> npt.NDArray[np.int_]:
    """Channels of f that the channels of an image in g continue."""
    return (place[:, 0, 0] // (f_shape[1] * f_shape[2])).astype(int)


def _by_unit(values: Array) -> Array:
    """(N, units, ...) -> (units, samples)."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


def _distances(g: Array, f: Array) -> Array:
    """Mean squared distances of pre-activations, in units of the layer's own variance. Shape (units of g, of f)."""
    scale = float(np.mean(f**2)) or 1.0
    squared = cdist(g, f, "sqeuclidean") / g.shape[1]
    place = np.abs(np.arange(len(g))[:, None] - np.arange(len(f)))
    return np.asarray(squared / scale + _TIE * place)


def _slope(node: Node) -> float:
    return node.op.slope if isinstance(node.op, LeakyRelu) else 0.0
