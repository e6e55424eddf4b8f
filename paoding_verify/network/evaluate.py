"""What a network computes, in numpy, in any floating-point type."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.network.graph import Add, LeakyRelu, MaxPool2d, Network, Op, Relu, Sigmoid, Tanh
from paoding_verify.network.linear import product, window_taps
from paoding_verify.network.shapes import window_counts

__all__ = ["evaluate", "evaluate_all", "evaluate_op", "pool_windows"]

Batch = npt.NDArray[Any]


def evaluate(network: Network, x: Batch) -> Batch:
    """Outputs in the dtype of x. Shapes: (N, *input_shape) -> (N, num_outputs)."""
    return evaluate_all(network, x)[-1]


def evaluate_all(network: Network, x: Batch) -> list[Batch]:
    """Every value of the network, the input first, in the dtype of x. Shapes: value k is (N, *network.shapes[k])."""
    values = [x]
    for node in network.nodes:
        values.append(evaluate_op(node.op, *(values[i] for i in node.inputs)))
    return values


def evaluate_op(op: Op, *inputs: Batch) -> Batch:
    """One operation on batches. Shapes: each input (N, *in) -> (N, *out)."""
    x = inputs[0]
    if isinstance(op, Add):
        return np.asarray(x + inputs[1])
    if isinstance(op, Relu):
        return np.asarray(np.maximum(x, 0))
    if isinstance(op, LeakyRelu):
        return np.asarray(np.maximum(x, x * x.dtype.type(op.slope)))
    if isinstance(op, Sigmoid):
        return np.asarray(0.5 * (np.tanh(0.5 * x) + 1.0), dtype=x.dtype)
    if isinstance(op, Tanh):
        return np.asarray(np.tanh(x))
    if isinstance(op, MaxPool2d):
        return np.asarray(pool_windows(op, x).max(axis=2))
    return product(op, x)


def pool_windows(op: MaxPool2d, x: Batch, fill: float = -np.inf) -> Batch:
    """Cells that each window sees. Shapes: (N, C, H, W) -> (N, C, kernel_h * kernel_w, out_h, out_w)."""
    top, left, bottom, right = op.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    out = window_counts(x.shape[1:], op.kernel, op.stride, op.padding)
    return np.stack([padded[:, :, rows, cols] for rows, cols in window_taps(op.kernel, op.stride, (1, 1), out)], axis=2)
