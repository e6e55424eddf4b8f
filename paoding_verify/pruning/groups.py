"""Which units go together: what has to leave a network when one unit leaves.

An *atom* is the smallest set of units that can be removed: one unit of one layer; along a residual stream the same
channel of every layer that is added into it; around a grouped convolution the channel of the same place in every
group. Every value of the network carries labels: for each of its elements the atom it belongs to, or -1 where nothing
may be removed (inputs, outputs, and layers excluded with a reason).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paoding_verify.network.graph import (
    Add,
    AveragePool2d,
    Conv2d,
    Dense,
    MaxPool2d,
    Network,
    Node,
    Permute,
    Reshape,
    Shape,
)  # fmt: skip

__all__ = ["FIXED", "Labels", "UnitGroup", "UnitMap", "find_units", "is_depthwise", "varying_axis"]

Labels = npt.NDArray[np.int64]
FIXED = -1
"""Label of elements that stay."""


@dataclass(frozen=True)
class UnitGroup:
    """Atoms that compete with each other: those of one layer, or of one residual stream."""

    atoms: tuple[int, ...]
    """Labels, in the order of the units of the first layer they belong to."""
    members: tuple[tuple[tuple[int, int], ...], ...]
    """For each atom its (activation layer, unit) pairs; the same number for every atom."""
    producers: tuple[int, ...]
    """Nodes (dense, convolution) whose rows compute the atoms."""
    consumers: tuple[int, ...]
    """Nodes (dense, convolution) whose columns read the atoms."""

    @property
    def multiplicity(self) -> int:
        """Units that one atom stands for."""
        return len(self.members[0])


@dataclass(frozen=True, eq=False)
class UnitMap:
    """What can be removed from a network."""

    labels: tuple[Labels, ...]
    """For every value of the network, an array of its shape: atom or -1."""
    groups: tuple[UnitGroup, ...]
    excluded: tuple[str, ...]
    """Activation layers, wholly or partly, that cannot be pruned, each with the reason."""

    @property
    def max_removable(self) -> int:
        """Units that can be removed while every group keeps an atom."""
        return sum((len(g.atoms) - 1) * g.multiplicity for g in self.groups)


def find_units(network: Network) -> UnitMap:
    """Atoms, groups and exclusions of a network; removing whole atoms always leaves a network that fits together."""
    tracer = _Tracer(network)
    labels = [np.full(network.input_shape, FIXED, dtype=np.int64)]
    for index, node in enumerate(network.nodes):
        labels.append(tracer.trace(index, node, [labels[i] for i in node.inputs]))
    tracer.lock(labels[-1], "it feeds the network's output directly")
    for index in network.activations:
        if varying_axis(labels[index + 1]) != 0:
            tracer.lock(labels[index + 1], f"node {network.nodes[index].name!r} does not have its units on axis 0")
    return _collect(network, tracer, labels)


def is_depthwise(op: Dense | Conv2d) -> bool:
    """Whether an operation is a convolution that filters every channel by itself: units pass through it."""
    return isinstance(op, Conv2d) and op.groups > 1 and op.weight.shape[1] == 1


def varying_axis(labels: Labels) -> int | None:
    """The one axis along which labels change (0 if they do not change at all); None if there are several."""
    for axis in range(labels.ndim):
        first = labels[tuple(slice(None) if a == axis else slice(0, 1) for a in range(labels.ndim))]
        if (labels == first).all():
            return axis
    return None


class _Tracer:
    """Follows atoms through the operations; joins and locks them (a union-find over labels)."""

    def __init__(self, network: Network) -> None:
        self.shapes = network.shapes
        self.parent: list[int] = []
        self.producer: list[int] = []
        self.locked: dict[int, str] = {}

    def trace(self, index: int, node: Node, inputs: list[Labels]) -> Labels:
        """Labels of the value that a node computes."""
        op, labels, shape = node.op, inputs[0], self.shapes[index + 1]
        if isinstance(op, Dense):
            return self._fresh(index, shape)
        if isinstance(op, Conv2d):
            return self._convolution(index, node, op, labels)
        if isinstance(op, Add):
            return self._joined(labels, inputs[1])
        if isinstance(op, (MaxPool2d, AveragePool2d)):
            return self._by_channel(labels, shape, f"node {node.name!r} pools over them")
        if isinstance(op, (Reshape, Permute)):
            moved = labels.reshape(op.shape) if isinstance(op, Reshape) else labels.transpose(op.axes)
            if varying_axis(moved) is None:
                self.lock(moved, f"node {node.name!r} spreads them over several axes")
            return moved
        return labels

    def lock(self, labels: Labels, reason: str) -> None:
        """Marks atoms as not removable; the first reason stands."""
        for label in np.unique(labels):
            if label != FIXED:
                self.locked.setdefault(int(label), reason)

    def find(self, label: int) -> int:
        """The label that stands for all those joined with this one."""
        while self.parent[label] != label:
            self.parent[label] = self.parent[self.parent[label]]
            label = self.parent[label]
        return label

    def canonical(self, labels: Labels) -> Labels:
        """Labels with joined atoms made one and locked ones -1."""
        roots = np.array([*(self.find(k) for k in range(len(self.parent))), FIXED], dtype=np.int64)
        fixed = {self.find(label) for label in self.locked}
        roots = np.where(np.isin(roots, list(fixed)), FIXED, roots)
        return np.asarray(roots[labels])

    def reason(self, label: int) -> str:
        """Why a fixed unit cannot be removed."""
        found = {self.find(locked): reason for locked, reason in reversed(self.locked.items())}
        return "it comes straight from the input" if label == FIXED else found[self.find(label)]

    def _fresh(self, index: int, shape: Shape) -> Labels:
        start = len(self.parent)
        self.parent += range(start, start + shape[0])
        self.producer += [index] * shape[0]
        column = np.arange(start, start + shape[0]).reshape(-1, *(1 for _ in shape[1:]))
        return np.broadcast_to(column, shape)

    def _convolution(self, index: int, node: Node, op: Conv2d, labels: Labels) -> Labels:
        shape = self.shapes[index + 1]
        channels = self._by_channel(labels, labels.shape, f"node {node.name!r} convolves over them")[:, 0, 0]
        if is_depthwise(op):
            depthwise = np.repeat(channels, shape[0] // op.groups)
            return np.broadcast_to(depthwise[:, None, None], shape)
        made = self._fresh(index, shape)
        self._join_groups(channels, op.groups)
        self._join_groups(made[:, 0, 0], op.groups)
        return made

    def _join_groups(self, channels: Labels, groups: int) -> None:
        """A convolution's groups stay equal in size: channel i of every group leaves with channel i of the first."""
        rows = channels.reshape(groups, -1)
        for row in rows[1:]:
            self._joined(rows[0], row)

    def _by_channel(self, labels: Labels, shape: Shape, reason: str) -> Labels:
        if varying_axis(labels) != 0:
            self.lock(labels, f"{reason} across its image axes")
            return np.full(shape, FIXED, dtype=np.int64)
        return np.broadcast_to(labels[:, :1, :1], shape)

    def _joined(self, first: Labels, second: Labels) -> Labels:
        pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1).T
        for a, b in pairs.tolist():
            if FIXED in (a, b):
                self.lock(np.array([a, b]), "it is added to a value from which nothing can be removed")
            else:
                low, high = sorted((self.find(a), self.find(b)))
                self.parent[high] = low
        return np.where(first == FIXED, second, first)


def _collect(network: Network, tracer: _Tracer, raw: list[Labels]) -> UnitMap:
    labels = [tracer.canonical(array) for array in raw]
    members: dict[int, list[tuple[int, int]]] = defaultdict(list)
    excluded = []
    for layer, index in enumerate(network.activations):
        flat = labels[index + 1].reshape(network.num_units[layer], -1)[:, 0]
        for unit, label in enumerate(flat.tolist()):
            members[label].append((layer, unit))
        if FIXED in flat:
            first = raw[index + 1].reshape(len(flat), -1)[flat == FIXED, 0][0]
            excluded.append(f"layer {layer} ({network.nodes[index].name}): {tracer.reason(int(first))}")
    members.pop(FIXED, None)
    groups = [_group(network, labels, atoms, members) for atoms in _streams(tracer, members)]
    return UnitMap(tuple(labels), tuple(groups), tuple(excluded))


def _streams(tracer: _Tracer, members: dict[int, list[tuple[int, int]]]) -> list[list[int]]:
    """Atoms by the set of layers they live in and how often."""
    streams: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for atom, pairs in members.items():
        streams[(tracer.producer[atom], *(layer for layer, _ in pairs))].append(atom)
    return list(streams.values())


def _group(
    network: Network, labels: list[Labels], atoms: list[int], members: dict[int, list[tuple[int, int]]]
) -> UnitGroup:
    producers, consumers = [], []
    for index, node in enumerate(network.nodes):
        if isinstance(node.op, (Dense, Conv2d)) and not is_depthwise(node.op):
            if np.isin(labels[index + 1], atoms).any():
                producers.append(index)
            if np.isin(labels[node.inputs[0]], atoms).any():
                consumers.append(index)
    return UnitGroup(tuple(atoms), tuple(tuple(members[a]) for a in atoms), tuple(producers), tuple(consumers))
