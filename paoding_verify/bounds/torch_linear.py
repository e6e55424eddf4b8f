"""Linear operations in torch: product, transpose and absolute value, on batches of any leading size, for bounds."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.nn.grad import conv2d_input

from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    Node,
    Padding,
    Pair,
    Permute,
    Reshape,
    Shape,
)
from paoding_verify.network.linear import product as numpy_product

__all__ = ["TorchLinear"]


class TorchLinear:
    """One affine operation with one input, or an addition, with its parameters as tensors."""

    def __init__(self, node: Node, in_shape: Shape, out_shape: Shape, dtype: torch.dtype) -> None:
        """Raises: UnsupportedOpError if the operation is not linear."""
        self.op, self.in_shape, self.out_shape = node.op, in_shape, out_shape
        if isinstance(self.op, (Dense, Conv2d)):
            self.weight = _tensor(self.op.weight, dtype)
            bias = _tensor(self.op.bias, dtype)
            self.bias = bias if isinstance(self.op, Dense) else bias[:, None, None].expand(out_shape)
        elif isinstance(self.op, Affine):
            self.weight = _tensor(self.op.scale, dtype)
            self.bias = _tensor(self.op.shift, dtype).expand(out_shape)
        elif isinstance(self.op, AveragePool2d):
            self.weight, self.bias = _pool_weight(self.op, in_shape, dtype), torch.zeros(out_shape, dtype=dtype)
        elif isinstance(self.op, (Add, Reshape, Permute)):
            self.weight, self.bias = torch.zeros((), dtype=dtype), torch.zeros(out_shape, dtype=dtype)
        else:
            raise UnsupportedOpError(f"node {node.name!r}: {type(self.op).__name__} has no joint bounds")

    def interval(self, centre: torch.Tensor, radius: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Centre and radius of the values from those of the one input. Shapes: (N, *in) -> (N, *out), both."""
        return self._times(centre, self.weight) + self.bias, self._times(radius, self.weight.abs())

    def transpose(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Coefficients of the input from those of the output. Shapes: (..., *out) -> (..., *in)."""
        op = self.op
        lead = coefficients.shape[: coefficients.ndim - len(self.out_shape)]
        if isinstance(op, Dense):
            return coefficients @ self.weight
        if isinstance(op, Affine):
            return coefficients * self.weight
        if isinstance(op, Add):
            return coefficients
        flat = coefficients.reshape(-1, *self.out_shape)
        if isinstance(op, Permute):
            order = sorted(range(len(op.axes)), key=lambda axis: op.axes[axis])
            flat = flat.permute(0, *(1 + axis for axis in order))
        elif isinstance(op, Conv2d):
            size = _padded_size(self.in_shape, op.padding)
            grown = _spread([len(flat), *size], self.weight, flat, op.stride, op.dilation, op.groups)
            flat = _crop(grown, op.padding, self.in_shape)
        elif isinstance(op, AveragePool2d):
            size = _padded_size(self.in_shape, op.padding)
            ones = torch.ones((self.in_shape[0], 1, *op.kernel), dtype=flat.dtype)
            grown = _spread([len(flat), *size], ones, flat * self.weight, op.stride, (1, 1), self.in_shape[0])
            flat = _crop(grown, op.padding, self.in_shape)
        return flat.reshape(*lead, *self.in_shape)

    def constant(self, coefficients: torch.Tensor) -> torch.Tensor:
        """What the bias contributes to rows with these coefficients. Shapes: (..., *out) -> (...)."""
        lead = coefficients.shape[: coefficients.ndim - len(self.out_shape)]
        return coefficients.reshape(*lead, -1) @ self.bias.reshape(-1)

    def _times(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        op = self.op
        if isinstance(op, Dense):
            return x @ weight.T
        if isinstance(op, Affine):
            return x * weight
        if isinstance(op, Conv2d):
            return F.conv2d(_pad(x, op.padding), weight, None, op.stride, 0, op.dilation, op.groups)
        if isinstance(op, AveragePool2d):
            ones = torch.ones((self.in_shape[0], 1, *op.kernel), dtype=x.dtype)
            return F.conv2d(_pad(x, op.padding), ones, None, op.stride, groups=self.in_shape[0]) * weight
        return x.permute(0, *(1 + a for a in op.axes)) if isinstance(op, Permute) else x.reshape(-1, *self.out_shape)


def _tensor(array: Array, dtype: torch.dtype) -> torch.Tensor:
    """A copy: parameters may be read-only, which torch does not support."""
    return torch.as_tensor(array.copy()).to(dtype)


def _pool_weight(op: AveragePool2d, in_shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    """Share of one cell in every window's mean. Shape (1, out_h, out_w)."""
    padded = torch.ones((1, *in_shape), dtype=dtype).numpy().astype("float64")
    mean_of_ones = torch.as_tensor(numpy_product(op, padded))[0, :1]
    cells = torch.ones((1, 1, *op.kernel), dtype=torch.float64)
    ones = _pad(torch.ones((1, 1, *in_shape[1:]), dtype=torch.float64), op.padding)
    return (mean_of_ones / F.conv2d(ones, cells, None, op.stride)[0]).to(dtype)


def _spread(
    size: list[int], weight: torch.Tensor, y: torch.Tensor, stride: Pair, dilation: Pair, groups: int
) -> torch.Tensor:
    """Transpose of an unpadded convolution; y holds coefficients of its output."""
    grown: torch.Tensor = conv2d_input(size, weight, y, stride, 0, dilation, groups)  # type: ignore[no-untyped-call]
    return grown


def _pad(x: torch.Tensor, padding: Padding) -> torch.Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom)) if any(padding) else x


def _padded_size(shape: Shape, padding: Padding) -> Shape:
    top, left, bottom, right = padding
    return shape[0], shape[1] + top + bottom, shape[2] + left + right


def _crop(x: torch.Tensor, padding: Padding, shape: Shape) -> torch.Tensor:
    top, left, _, _ = padding
    return x[:, :, top : top + shape[1], left : left + shape[2]]
