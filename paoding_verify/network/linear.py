"""Linear operations as matrices that are never formed: product, transpose, absolute value.

Every function works on batches (N, *shape) in the dtype of its argument, and every number it returns is one dot product
of at most `row_length(op)` terms plus a bias, summed in some order: that is all the checker needs to know about it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.network.graph import (
    Add,
    Affine,
    AveragePool2d,
    Conv2d,
    Dense,
    Op,
    Padding,
    Pair,
    Permute,
    Reshape,
    Shape,
)
from paoding_verify.network.shapes import window_counts

__all__ = ["absolute", "column_length", "product", "row_length", "scatter", "transpose", "window_taps"]

Batch = npt.NDArray[Any]


def product(op: Op, x: Batch, *, bias: bool = True) -> Batch:
    """op(x), for `Add` the part of one input; without its bias or shift if `bias` is False.

    Shapes: (N, *in) -> (N, *out).
    """
    if isinstance(op, Dense):
        y = x @ op.weight.T.astype(x.dtype, copy=False)
        return y + op.bias.astype(x.dtype, copy=False) if bias else y
    if isinstance(op, Conv2d):
        y = _convolve(op, x)
        return y + op.bias.astype(x.dtype, copy=False)[:, None, None] if bias else y
    if isinstance(op, Affine):
        y = x * op.scale.astype(x.dtype, copy=False)
        return y + op.shift.astype(x.dtype, copy=False) if bias else y
    if isinstance(op, Add):
        return x
    if isinstance(op, Reshape):
        return x.reshape(len(x), *op.shape)
    if isinstance(op, Permute):
        return x.transpose(0, *(a + 1 for a in op.axes))
    if isinstance(op, AveragePool2d):
        windows = _windows(x, op.kernel, op.stride, op.padding)
        return windows.sum(axis=2, dtype=x.dtype) / _divisor(op, x.shape[1:]).astype(x.dtype)
    raise TypeError(f"{type(op).__name__} is not linear")


def transpose(op: Op, y: Batch, in_shape: Shape) -> Batch:
    """Op's matrix transposed, times y; no bias.

    Shapes: (N, *out) -> (N, *in_shape).
    """
    if isinstance(op, Dense):
        return y @ op.weight.astype(y.dtype, copy=False)
    if isinstance(op, Conv2d):
        return _convolve_transposed(op, y, in_shape)
    if isinstance(op, Affine):
        return y * op.scale.astype(y.dtype, copy=False)
    if isinstance(op, Add):
        return y
    if isinstance(op, Reshape):
        return y.reshape(len(y), *in_shape)
    if isinstance(op, Permute):
        return y.transpose(0, *(int(a) + 1 for a in np.argsort(op.axes)))
    if isinstance(op, AveragePool2d):
        share = (y / _divisor(op, in_shape).astype(y.dtype))[:, :, None]
        columns = np.broadcast_to(share, (*share.shape[:2], op.kernel[0] * op.kernel[1], *share.shape[3:]))
        return scatter(columns, in_shape, op.kernel, op.stride, op.padding)
    raise TypeError(f"{type(op).__name__} is not linear")


def absolute(op: Op) -> Op:
    """The operation with |weight| in place of its weight, and the larger of |bias| and its magnitude for its bias."""
    if isinstance(op, (Dense, Conv2d)):
        return replace(op, weight=np.abs(op.weight), bias=_magnitude(op.bias, op.bias_magnitude))
    if isinstance(op, Affine):
        return replace(op, scale=np.abs(op.scale), shift=_magnitude(op.shift, op.bias_magnitude))
    return op


def _magnitude(bias: Batch, known: Batch | None) -> Batch:
    return np.abs(bias) if known is None else np.maximum(np.abs(bias), known)


def row_length(op: Op) -> int:
    """Terms of the longest dot product in `product`, bias included."""
    if isinstance(op, Dense):
        return op.weight.shape[1] + 1
    if isinstance(op, Conv2d):
        return int(np.prod(op.weight.shape[1:])) + 1
    if isinstance(op, AveragePool2d):
        return op.kernel[0] * op.kernel[1] + 1
    return 2


def column_length(op: Op) -> int:
    """Terms of the longest dot product in `transpose`."""
    if isinstance(op, Dense):
        return op.weight.shape[0]
    if isinstance(op, Conv2d):
        return op.weight.shape[0] // op.groups * op.weight.shape[2] * op.weight.shape[3]
    if isinstance(op, AveragePool2d):
        return op.kernel[0] * op.kernel[1] + 1
    return 1


def _convolve(op: Conv2d, x: Batch) -> Batch:
    kernel = (op.weight.shape[2], op.weight.shape[3])
    windows = _windows(x, kernel, op.stride, op.padding, op.dilation)
    n, channels, taps, height, width = windows.shape
    columns = windows.reshape(n, op.groups, channels // op.groups * taps, height * width)
    weight = op.weight.astype(x.dtype, copy=False).reshape(op.groups, op.weight.shape[0] // op.groups, -1)
    return np.asarray(np.matmul(weight, columns)).reshape(n, op.weight.shape[0], height, width)


def _convolve_transposed(op: Conv2d, y: Batch, in_shape: Shape) -> Batch:
    n, out_channels, height, width = y.shape
    weight = op.weight.astype(y.dtype, copy=False).reshape(op.groups, out_channels // op.groups, -1)
    columns = np.matmul(weight.transpose(0, 2, 1), y.reshape(n, op.groups, out_channels // op.groups, height * width))
    kernel = (op.weight.shape[2], op.weight.shape[3])
    columns = columns.reshape(n, in_shape[0], kernel[0] * kernel[1], height, width)
    return scatter(columns, in_shape, kernel, op.stride, op.padding, op.dilation)


def _windows(x: Batch, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)) -> Batch:
    """(N, C, H, W) -> (N, C, kernel_h * kernel_w, out_h, out_w), padded with zeros."""
    out = window_counts(x.shape[1:], kernel, stride, padding, dilation)
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    taps = [padded[:, :, rows, columns] for rows, columns in window_taps(kernel, stride, dilation, out)]
    return np.stack(taps, axis=2)


def scatter(
    columns: Batch, in_shape: Shape, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)
) -> Batch:
    """Adds every tap of windows to the cell that it is read from: the transpose of reading them.

    Shapes: (N, channels, kernel_h * kernel_w, out_h, out_w) -> (N, *in_shape).
    """
    top, left, bottom, right = padding
    channels, height, width = in_shape
    padded = np.zeros((len(columns), channels, height + top + bottom, width + left + right), dtype=columns.dtype)
    out = (columns.shape[3], columns.shape[4])
    for tap, (rows, cols) in enumerate(window_taps(kernel, stride, dilation, out)):
        padded[:, :, rows, cols] += columns[:, :, tap]
    return padded[:, :, top : top + height, left : left + width]


def window_taps(kernel: Pair, stride: Pair, dilation: Pair, out: Pair) -> list[tuple[slice, slice]]:
    """For every kernel cell, in row-major order, the cells of the padded image that it meets."""
    taps = []
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            y, x = row * dilation[0], column * dilation[1]
            down = slice(y, y + stride[0] * (out[0] - 1) + 1, stride[0])
            across = slice(x, x + stride[1] * (out[1] - 1) + 1, stride[1])
            taps.append((down, across))
    return taps


def _divisor(op: AveragePool2d, in_shape: Shape) -> npt.NDArray[np.float64]:
    """(out_h, out_w) number of cells that each window averages."""
    if op.count_include_pad:
        out = window_counts(in_shape, op.kernel, op.stride, op.padding)
        return np.full(out, float(op.kernel[0] * op.kernel[1]))
    ones = np.ones((1, 1, *in_shape[1:]))
    return np.asarray(_windows(ones, op.kernel, op.stride, op.padding).sum(axis=2)[0, 0])
