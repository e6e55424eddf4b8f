"""Merge moves and least squares: the units that stay take over what the removed ones contributed.

`merge` hands one unit's outgoing weights to its best partner. `refit` then goes through the network once, front to
back, and sets every linear operation that reads pruned values to the least-squares fit of the original
pre-activations on the pruned activations, with a ridge towards the weights it had; the bias takes up the mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from paoding_verify.network.evaluate import evaluate_op
from paoding_verify.network.graph import Array, Conv2d, Dense, Float32Array, Network, Node
from paoding_verify.pruning.columns import Block, blocks, num_images, outputs_of, samples_of, with_blocks
from paoding_verify.pruning.groups import FIXED, Labels, UnitMap
from paoding_verify.pruning.surgery import mask_units

__all__ = ["best_partners", "merge", "refit"]


def best_partners(
    value: Float32Array, labels: Labels, leaving: Sequence[int], staying: Sequence[int]
) -> dict[int, int]:
    """For each leaving atom, the staying one whose activation explains it best (largest squared correlation).

    Atoms that never vary have no partner. Shapes: value (N, *shape), labels (*shape), of a value that consumers read.
    """
    if value.ndim == 4:
        value = value[: num_images(value, value.shape[2:])]
    flat = value.reshape(len(value), -1).astype(np.float64)
    place = labels.ravel()
    signals = {atom: _normalised(flat[:, place == atom].ravel()) for atom in (*leaving, *staying)}
    kept = np.stack([signals[atom] for atom in staying])
    explained = {atom: (kept @ signals[atom]) ** 2 for atom in leaving}
    return {atom: staying[int(np.argmax(r))] for atom, r in explained.items() if r.any()}


def merge(
    network: Network,
    units: UnitMap,
    partners: Mapping[int, int],
    values: Sequence[Float32Array],
    removed: Collection[int],
) -> Network:
    """The network without the atoms `removed`; each that has a partner hands it its outgoing weights.

    The partner's columns grow by the removed ones times the projection coefficient of the activations, and the bias
    takes up the mean of the rest: merging one of two equal units changes nothing. Shapes: as in `best_partners`.
    """
    nodes = []
    for index, node in enumerate(network.nodes):
        op = node.op
        if isinstance(op, (Dense, Conv2d)) and np.isin(units.labels[node.inputs[0]], list(removed)).any():
            parts = blocks(op, units.labels[node.inputs[0]], units.labels[index + 1])
            samples = samples_of(op, values[node.inputs[0]])
            merged = [_merged(p, x, partners, removed) for p, x in zip(parts, samples, strict=True)]
            nodes.append(replace(node, op=with_blocks(op, merged)))
        else:
            nodes.append(node)
    return mask_units(replace(network, nodes=tuple(nodes), source=None), units, removed)


def refit(
    network: Network, units: UnitMap, removed: Collection[int], targets: Sequence[Float32Array], ridge: float
) -> tuple[Network, list[Float32Array]]:
    """The masked network with its linear operations fitted to the original's values, and the values it now computes.

    Shapes: targets[k] (N, *network.shapes[k]) are the original's values at the compensation inputs, the inputs
    themselves first. `ridge` is relative to the mean variance of the columns. Parameters are float32 numbers.
    """
    values: list[Float32Array] = [targets[0]]
    fresh = [False]
    nodes: list[Node] = []
    for index, node in enumerate(network.nodes):
        read = node.inputs[0]
        changed = any(fresh[i] for i in node.inputs) or bool(np.isin(units.labels[read], list(removed)).any())
        op = node.op
        if isinstance(op, (Dense, Conv2d)) and changed:
            parts = blocks(op, units.labels[read], units.labels[index + 1])
            samples, wanted = samples_of(op, values[read]), outputs_of(op, targets[index + 1])
            fitted = [_fitted(p, x, y, removed, ridge) for p, x, y in zip(parts, samples, wanted, strict=True)]
            op = with_blocks(op, fitted)
        nodes.append(replace(node, op=op))
        fresh.append(changed)
        values.append(evaluate_op(op, *(values[i] for i in node.inputs)) if changed else targets[index + 1])
    return replace(network, nodes=tuple(nodes), source=None), values


def _merged(part: Block, samples: Array, partners: Mapping[int, int], removed: Collection[int]) -> Block:
    matrix, bias, mean = part.matrix.copy(), part.bias.copy(), samples.mean(axis=0)
    for atom in sorted(set(removed) & set(part.atoms.tolist())):
        leaving = np.flatnonzero(part.atoms == atom)
        weights = matrix[:, leaving]
        bias += weights @ mean[leaving]
        staying = np.flatnonzero(part.atoms == partners.get(atom, FIXED - 1))
        if len(staying) == len(leaving):
            target = samples[:, staying] - mean[staying]
            energy = float(np.sum(target**2))
            share = float(np.sum(target * (samples[:, leaving] - mean[leaving]))) / energy if energy > 0 else 0.0
            matrix[:, staying] += share * weights
            bias -= share * (weights @ mean[staying])
        matrix[:, leaving] = 0.0
    return _rounded(part, matrix, bias)


def _fitted(part: Block, samples: Array, wanted: Array, removed: Collection[int], ridge: float) -> Block:
    keep = ~np.isin(part.atoms, list(removed))
    mean, goal = samples.mean(axis=0), wanted.mean(axis=0)
    x, y = samples[:, keep] - mean[keep], wanted - goal
    gram, cross = x.T @ x / len(x), x.T @ y / len(x)
    floor = ridge * float(np.diag(gram).mean()) + 1e-12
    gram[np.diag_indices_from(gram)] += floor
    matrix = np.zeros_like(part.matrix)
    matrix[:, keep] = np.linalg.solve(gram, cross + floor * part.matrix[:, keep].T).T
    return _rounded(part, matrix, goal - matrix @ mean)


def _rounded(part: Block, matrix: Array, bias: Array) -> Block:
    return replace(part, matrix=_float32(matrix), bias=_float32(bias))


def _float32(array: Array) -> Array:
    return array.astype(np.float32).astype(np.float64)


def _normalised(signal: Array) -> Array:
    centred = signal - signal.mean()
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 1e-9 * np.sqrt(len(signal)) else np.zeros_like(signal)
