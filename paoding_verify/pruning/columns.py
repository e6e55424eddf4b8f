"""A dense layer or convolution as matrices: rows of samples, columns that belong to atoms.

Least squares and its prices see every linear operation in one form: outputs = samples @ matrix.T + bias. A dense layer
is one such block. A convolution is one block for each of its groups, whose samples are image patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paoding_verify.network.graph import Array, Conv2d, Dense, Float32Array
from paoding_verify.network.linear import window_taps
from paoding_verify.network.shapes import window_counts
from paoding_verify.pruning.groups import Labels

__all__ = ["MAX_ROWS", "Block", "blocks", "num_images", "outputs_of", "samples_of", "with_blocks"]

MAX_ROWS = 24_000
"""Image patches that one least-squares problem reads at most: the statistics of more change little."""


@dataclass(frozen=True, eq=False)
class Block:
    """One dense matrix inside a linear operation."""

    matrix: Array
    """(outputs, columns)."""
    bias: Array
    """(outputs,)."""
    atoms: Labels
    """(columns,) the atom that each column reads, or -1."""
    made: Labels
    """(outputs,) the atom that each output belongs to, or -1."""


def blocks(op: Dense | Conv2d, read: Labels, made: Labels) -> list[Block]:
    """The blocks of an operation. Shapes: read and made are the labels of its input and output values."""
    if isinstance(op, Dense):
        return [Block(op.weight, op.bias, read, made)]
    taps = op.weight.shape[2] * op.weight.shape[3]
    columns = read[:, 0, 0].reshape(op.groups, -1).repeat(taps, axis=1)
    rows = made[:, 0, 0].reshape(op.groups, -1)
    matrices = op.weight.reshape(op.groups, rows.shape[1], -1)
    biases = op.bias.reshape(op.groups, -1)
    return [Block(*parts) for parts in zip(matrices, biases, columns, rows, strict=True)]


def with_blocks(op: Dense | Conv2d, parts: Sequence[Block]) -> Dense | Conv2d:
    """The operation with the matrices and biases of `parts`, which came from `blocks`."""
    weight = np.concatenate([part.matrix for part in parts]).reshape(op.weight.shape)
    bias = np.concatenate([part.bias for part in parts])
    return replace(op, weight=weight, bias=bias, bias_magnitude=None)


def samples_of(op: Dense | Conv2d, x: Float32Array) -> list[Array]:
    """What each block reads: (samples, columns) float64. Shapes: x (N, *in)."""
    if isinstance(op, Dense):
        return [x.astype(np.float64)]
    kernel = (op.weight.shape[2], op.weight.shape[3])
    out = window_counts(x.shape[1:], kernel, op.stride, op.padding, op.dilation)
    x = x[: num_images(x, out)]
    top, left, bottom, right = op.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    taps = [padded[:, :, rows, across] for rows, across in window_taps(kernel, op.stride, op.dilation, out)]
    patches = np.stack(taps, axis=2)
    grouped = patches.reshape(len(x), op.groups, -1, out[0] * out[1]).transpose(1, 0, 3, 2)
    return list(grouped.reshape(op.groups, len(x) * out[0] * out[1], -1).astype(np.float64))


def outputs_of(op: Dense | Conv2d, y: Float32Array) -> list[Array]:
    """What each block computes, for the samples of `samples_of`: (samples, outputs) float64. Shapes: y (N, *out)."""
    if isinstance(op, Dense):
        return [y.astype(np.float64)]
    y = y[: num_images(y, y.shape[2:])]
    grouped = y.reshape(len(y), op.groups, -1, y.shape[2] * y.shape[3]).transpose(1, 0, 3, 2)
    return list(grouped.reshape(op.groups, len(y) * y.shape[2] * y.shape[3], -1).astype(np.float64))


def num_images(x: Float32Array, out: tuple[int, ...]) -> int:
    """Inputs that are read where each gives out[0] * out[1] rows. Shapes: x (N, ...)."""
    return max(1, min(len(x), MAX_ROWS // (out[0] * out[1])))
