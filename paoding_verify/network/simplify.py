"""An equal network in a form that search and checker like: channels first, few changes of shape, no idle scales.

Every rule is exact in real arithmetic and moves no rounding, except the fold of an `Affine` into the layer in front of
it, whose rounding is accounted for (`folding.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from paoding_verify.network.folding import expect_fold, fold_affine
from paoding_verify.network.graph import (
    Add,
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
    is_activation,
)
from paoding_verify.network.shapes import output_shape

__all__ = ["simplify"]


def simplify(network: Network) -> Network:
    """The network with these rules applied until none fits: the outputs are the same functions of the input.

    Element-wise operations move in front of Permute and Reshape; neighbouring ones of these merge or vanish; a Permute
    that only moves axes of length 1 becomes a Reshape; a Permute that is flattened in front of a Dense goes into its
    columns; an Affine that only its Dense or Conv2d feeds is folded into it; scale and shift written as two operations
    become one Affine; exact identities go.
    """
    nodes, before = network.nodes, None
    while before is None or not _same(before, nodes):
        before = nodes
        nodes = _live(_Sweep(network.input_shape, nodes).run())
    return replace(network, nodes=_expecting_folds(nodes)) if nodes else network


class _Sweep:
    """One pass over the nodes in order: each is appended again, by way of the rules that look at what feeds it."""

    def __init__(self, input_shape: Shape, nodes: tuple[Node, ...]) -> None:
        self._old = nodes
        self._uses = Counter(i for node in nodes for i in node.inputs)
        self._nodes: list[Node] = []
        self._shapes: list[Shape] = [input_shape]

    def run(self) -> tuple[Node, ...]:
        values = [0]
        aliases: Counter[int] = Counter()
        for node in self._old:
            inputs = tuple(values[i] for i in node.inputs)
            lone = self._uses[node.inputs[0]] == 1 and aliases[inputs[0]] == 1
            values.append(self._put(node.name, node.op, inputs, lone=lone))
            aliases[values[-1]] += 1
        last = values[-1]
        # The output must be the last value; what was appended after it is dead.
        return tuple(self._nodes[:last])

    def _append(self, name: str, op: Op, inputs: tuple[int, ...]) -> int:
        self._shapes.append(output_shape(op, *(self._shapes[i] for i in inputs)))
        self._nodes.append(Node(op, inputs, name))
        return len(self._nodes)

    def _feeding(self, value: int) -> Node | None:
        return self._nodes[value - 1] if value else None

    def _put(self, name: str, op: Op, inputs: tuple[int, ...], *, lone: bool) -> int:
        """The number of the value that `op` computes, after the rules. `lone`: nothing else reads its input."""
        x = inputs[0]
        if isinstance(op, Reshape):
            return self._reshape(name, op, x)
        if isinstance(op, Permute):
            return self._permute(name, op, x)
        if isinstance(op, Add):
            return self._add(name, inputs)
        if isinstance(op, Affine):
            return self._affine(name, op, x, lone=lone)
        if isinstance(op, Dense):
            return self._dense(name, op, x)
        if is_activation(op):
            feeding = self._feeding(x)
            if feeding is not None and isinstance(feeding.op, (Permute, Reshape)):
                moved = self._put(name, op, feeding.inputs, lone=False)
                return self._put(feeding.name, feeding.op, (moved,), lone=False)
        return self._append(name, op, inputs)

    def _reshape(self, name: str, op: Reshape, x: int) -> int:
        feeding = self._feeding(x)
        if feeding is not None and isinstance(feeding.op, Reshape):
            return self._reshape(name, op, feeding.inputs[0])
        return x if self._shapes[x] == op.shape else self._append(name, op, (x,))

    def _permute(self, name: str, op: Permute, x: int) -> int:
        feeding = self._feeding(x)
        if feeding is not None and isinstance(feeding.op, Permute):
            inner = feeding.op.axes
            return self._permute(name, Permute(tuple(inner[a] for a in op.axes)), feeding.inputs[0])
        shape = self._shapes[x]
        long_axes = [a for a in op.axes if shape[a] != 1]
        if long_axes == sorted(long_axes):
            return self._reshape(name, Reshape(tuple(shape[a] for a in op.axes)), x)
        return self._append(name, op, (x,))

    def _add(self, name: str, inputs: tuple[int, ...]) -> int:
        first, second = self._feeding(inputs[0]), self._feeding(inputs[1])
        if first is not None and second is not None and isinstance(first.op, (Permute, Reshape)):
            a, b = first.inputs[0], second.inputs[0]
            if first.op == second.op and self._shapes[a] == self._shapes[b]:
                return self._put(first.name, first.op, (self._add(name, (a, b)),), lone=False)
        return self._append(name, Add(), inputs)

    def _affine(self, name: str, op: Affine, x: int, *, lone: bool) -> int:
        if op.roundings == 0 and op.bias_magnitude is None and (op.scale == 1).all() and (op.shift == 0).all():
            return x
        feeding = self._feeding(x)
        if feeding is None:
            return self._append(name, op, (x,))
        source = feeding.inputs[0]
        moved = _move_affine(op, feeding.op, self._shapes[source])
        if moved is not None:
            below = self._affine(name, moved, source, lone=False)  # whether `source` has other readers shows next time
            return self._put(feeding.name, feeding.op, (below,), lone=False)
        if lone and isinstance(feeding.op, (Dense, Conv2d)):
            folded = fold_affine(feeding.op, op)
            if folded is not None:
                return self._append(feeding.name, folded, (source,))
        if lone and isinstance(feeding.op, Affine) and _is_scale(feeding.op) and _is_shift(op):
            return self._append(feeding.name, replace(feeding.op, shift=op.shift), (source,))
        return self._append(name, op, (x,))

    def _dense(self, name: str, op: Dense, x: int) -> int:
        flatten = self._feeding(x)
        permute = self._feeding(flatten.inputs[0]) if flatten is not None else None
        if flatten is None or permute is None or not isinstance(flatten.op, Reshape):
            return self._append(name, op, (x,))
        if not isinstance(permute.op, Permute):
            return self._append(name, op, (x,))
        source = permute.inputs[0]
        shape = self._shapes[source]
        read = np.arange(prod(shape)).reshape(shape).transpose(permute.op.axes).reshape(-1)
        weight = np.empty_like(op.weight)
        weight[:, read] = op.weight  # column i read entry read[i] of the value in front of the Permute
        flat = self._reshape(flatten.name, Reshape((prod(shape),)), source)
        return self._append(name, replace(op, weight=weight), (flat,))


def _expecting_folds(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """The nodes, with errors of every Affine left behind its own Dense or Conv2d that cover a program that folds it."""
    uses = Counter(i for node in nodes for i in node.inputs)
    result = []
    for node in nodes:
        feeding = nodes[node.inputs[0] - 1].op if node.inputs[0] else None
        if isinstance(node.op, Affine) and isinstance(feeding, (Dense, Conv2d)) and uses[node.inputs[0]] == 1:
            result.append(replace(node, op=expect_fold(feeding, node.op)))
        else:
            result.append(node)
    return tuple(result)


def _move_affine(op: Affine, mover: Op, shape: Shape) -> Affine | None:
    """The Affine to apply in front of a Permute or Reshape of a value of the given shape; None if there is none."""
    if isinstance(mover, Permute):
        back = tuple(int(a) for a in np.argsort(mover.axes))
        return _map_affine(op, lambda array: array.transpose(back))
    if isinstance(mover, Reshape):
        # Only where the axes longer than 1 stay as they are: parameters then keep theirs.
        if [n for n in shape if n != 1] != [n for n in mover.shape if n != 1]:
            return None
        return _map_affine(op, lambda array: _follow(array, mover.shape, shape))
    return None


def _follow(array: Array, old: Shape, new: Shape) -> Array:
    """The array with its entries for the long axes of `old` moved to the long axes of `new`."""
    lengths = iter([array.shape[k] for k, n in enumerate(old) if n != 1])
    return array.reshape(tuple(next(lengths) if n != 1 else 1 for n in new))


def _map_affine(op: Affine, change: Callable[[Array], Array]) -> Affine:
    magnitude = None if op.bias_magnitude is None else change(op.bias_magnitude)
    return Affine(change(op.scale), change(op.shift), magnitude, op.roundings)


def _is_scale(op: Affine) -> bool:
    return op.roundings == 0 and op.bias_magnitude is None and not op.shift.any()


def _is_shift(op: Affine) -> bool:
    return op.roundings == 0 and op.bias_magnitude is None and bool((op.scale == 1).all())


def _live(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """The nodes that the last one depends on, renumbered."""
    needed = {len(nodes)}
    for number in range(len(nodes), 0, -1):
        if number in needed:
            needed.update(nodes[number - 1].inputs)
    number_of = {0: 0}
    kept: list[Node] = []
    for number, node in enumerate(nodes, start=1):
        if number in needed:
            kept.append(replace(node, inputs=tuple(number_of[i] for i in node.inputs)))
            number_of[number] = len(kept)
    return tuple(kept)


def _same(first: tuple[Node, ...], second: tuple[Node, ...]) -> bool:
    def key(nodes: tuple[Node, ...]) -> list[object]:
        return [(id(n.op) if not isinstance(n.op, (Reshape, Permute, Add)) else n.op, n.inputs) for n in nodes]

    return key(first) == key(second)
