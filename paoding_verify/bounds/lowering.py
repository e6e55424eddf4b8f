"""Networks rewritten with the few operations that auto_LiRPA bounds soundly in all its versions.

The rewritten network computes the same function; only its nodes differ:

- average pooling becomes a convolution with one group per channel (0.3 is unsound for overlapping windows),
- an affine layer becomes a convolution with one group per channel (0.3 cannot bound products that broadcast),
- asymmetric padding becomes symmetric padding of a kernel extended by zeros,
- max pooling becomes a tournament max(a, b) = a + relu(b - a) of cells picked by convolutions (auto_LiRPA handles
  neither padding nor windows that overlap or leave a margin).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    MaxPool2d,
    Network,
    Node,
    Op,
    Pair,
    Relu,
    Reshape,
    Shape,
    Sigmoid,
)

__all__ = ["Lowered", "lower"]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A rewritten network and where its nodes come from."""

    network: Network
    """Computes the same function as the source, without pooling or asymmetric padding."""
    origin: tuple[int | None, ...]
    """For each node, the node of the source with the same value; None for helper nodes."""


def lower(network: Network) -> Lowered:
    """An equal network without pooling and asymmetric padding.

    Raises: UnsupportedOpError for max pooling that pads values which may be negative.
    """
    builder = _Builder(network)
    for index in range(len(network.nodes)):
        builder.add(index)
    return Lowered(Network(network.input_shape, tuple(builder.nodes), network.name), tuple(builder.origin))


class _Builder:
    """Nodes written so far; `values[k]` is the rewritten number of value k of the source."""

    def __init__(self, network: Network) -> None:
        self.source = network
        self.nodes: list[Node] = []
        self.origin: list[int | None] = []
        self.values = [0]

    def add(self, index: int) -> None:
        """Writes one node of the source."""
        node = self.source.nodes[index]
        inputs = tuple(self.values[i] for i in node.inputs)
        shape = self.source.shapes[node.inputs[0]]
        if isinstance(node.op, Conv2d):
            last = self._emit(_symmetric(node.op), inputs, node.name)
        elif isinstance(node.op, Affine):
            last = self._affine(node.op, inputs, node.name, shape)
        elif isinstance(node.op, AveragePool2d):
            last = self._average(node.op, inputs, node.name, shape)
        elif isinstance(node.op, MaxPool2d):
            last = self._tournament(node.op, node, inputs, shape[0])
        else:
            last = self._emit(node.op, inputs, node.name)
        self.origin[last - 1] = index
        self.values.append(last)

    def _emit(self, op: Op, inputs: tuple[int, ...], name: str) -> int:
        self.nodes.append(Node(op, inputs, name))
        self.origin.append(None)
        return len(self.nodes)

    def _affine(self, op: Affine, inputs: tuple[int, ...], name: str, shape: Shape) -> int:
        """One weight per channel; parameters that vary inside a channel make every cell a channel of its own."""
        if len(shape) == 3 and op.scale.shape[1:] == op.shift.shape[1:] == (1, 1):
            return self._emit(_scaling(op, (shape[0], 1, 1)), inputs, name)
        cells = self._emit(Reshape((prod(shape), 1, 1)), inputs, f"{name}.cells")
        scaled = self._emit(_scaling(op, shape), (cells,), f"{name}.scale")
        return self._emit(Reshape(shape), (scaled,), name)

    def _average(self, op: AveragePool2d, inputs: tuple[int, ...], name: str, shape: Shape) -> int:
        """Sum of the window's cells, then division by their number, which varies where padding does not count."""
        mean = np.full((shape[0], 1, *op.kernel), 1.0 / (op.kernel[0] * op.kernel[1]))
        conv = Conv2d(mean, np.zeros(shape[0]), op.stride, op.padding, groups=shape[0])
        last = self._emit(_symmetric(conv), inputs, name)
        if op.count_include_pad or not any(op.padding):
            return last
        counts = _covered(op, shape)
        scale = (op.kernel[0] * op.kernel[1] / counts)[np.newaxis]
        divide = Affine(scale, np.zeros((1, 1, 1)))
        return self._affine(divide, (last,), f"{name}.count", (shape[0], *counts.shape))

    def _tournament(self, op: MaxPool2d, node: Node, inputs: tuple[int, ...], channels: int) -> int:
        """Winner of pairs of cells, round by round; the first round reads both cells of a pair in one convolution."""
        producer = self.source.nodes[node.inputs[0] - 1].op if node.inputs[0] else None
        if any(op.padding) and not isinstance(producer, (Relu, Sigmoid)):
            raise UnsupportedOpError(
                f"node {node.name!r}: max pooling with padding is bounded only directly behind a ReLU or sigmoid, "
                "where a padded zero never wins"
            )
        taps = [(row, column) for row in range(op.kernel[0]) for column in range(op.kernel[1])]
        entries = []
        for first in range(0, len(taps), 2):
            cell = self._pick(op, inputs, channels, {taps[first]: 1.0}, f"{node.name}.cell{first}")
            if first + 1 < len(taps):
                signs = {taps[first + 1]: 1.0, taps[first]: -1.0}
                cell = self._join(cell, self._pick(op, inputs, channels, signs, f"{node.name}.edge{first}"), node.name)
            entries.append(cell)
        minus = _scaling(Affine(-np.ones((1, 1, 1)), np.zeros((1, 1, 1))), (channels, 1, 1))
        while len(entries) > 1:
            first, second, *rest = entries
            negative = self._emit(minus, (first,), f"{node.name}.minus{first}")
            edge = self._emit(Add(), (second, negative), f"{node.name}.edge{first}")
            entries = [*rest, self._join(first, edge, node.name)]
        return entries[0]

    def _join(self, first: int, edge: int, name: str) -> int:
        gain = self._emit(Relu(), (edge,), f"{name}.gain{edge}")
        return self._emit(Add(), (first, gain), f"{name}.max{edge}")

    def _pick(self, op: MaxPool2d, inputs: tuple[int, ...], channels: int, signs: dict[Pair, float], name: str) -> int:
        """Signed sum of cells of each window."""
        weight = np.zeros((channels, 1, *op.kernel))
        for (row, column), sign in signs.items():
            weight[:, 0, row, column] = sign
        conv = Conv2d(weight, np.zeros(channels), op.stride, op.padding, groups=channels)
        return self._emit(_symmetric(conv), inputs, name)


def _scaling(op: Affine, shape: Shape) -> Conv2d:
    """An affine layer as a convolution of one cell, each entry of `shape` a channel."""
    channels = prod(shape)
    weight = np.broadcast_to(op.scale, shape).reshape(channels, 1, 1, 1)
    return Conv2d(weight, np.broadcast_to(op.shift, shape).reshape(channels), groups=channels)


def _symmetric(op: Conv2d) -> Conv2d:
    """The same convolution with equal padding on opposite sides: the kernel grows by zeros where padding lacked."""
    top, left, bottom, right = op.padding
    if (top, left) == (bottom, right):
        return op
    weight = _dilated(op.weight, op.dilation)
    rows, columns = max(top, bottom), max(left, right)
    grown = np.pad(weight, ((0, 0), (0, 0), (rows - top, rows - bottom), (columns - left, columns - right)))
    return Conv2d(grown, op.bias, op.stride, (rows, columns, rows, columns), groups=op.groups)


def _dilated(weight: Array, dilation: Pair) -> Array:
    """The kernel with its gaps written out as zeros."""
    out, inp, height, width = weight.shape
    full = np.zeros((out, inp, (height - 1) * dilation[0] + 1, (width - 1) * dilation[1] + 1))
    full[:, :, :: dilation[0], :: dilation[1]] = weight
    return full


def _covered(op: AveragePool2d, shape: Shape) -> Array:
    """How many real cells each window sees. Shape: (out_h, out_w)."""
    top, left, bottom, right = op.padding
    ones = np.pad(np.ones(shape[1:]), ((top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(ones, op.kernel)[:: op.stride[0], :: op.stride[1]]
    return np.asarray(windows.sum(axis=(2, 3)))
