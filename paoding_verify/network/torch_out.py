"""The canonical network as a torch module, for search (gradients, auto_LiRPA)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from paoding_verify.network.graph import (
    Add,
    Affine,
    AveragePool2d,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Network,
    Node,
    Op,
    Permute,
    Relu,
    Reshape,
    Sigmoid,
)  # fmt: skip
from paoding_verify.network.graph import parameters as op_parameters

__all__ = ["CanonicalModule", "to_module"]


class CanonicalModule(nn.Module):
    """Runs the nodes of a network in order; parameter k_j is array j of node k."""

    def __init__(self, network: Network, dtype: torch.dtype, *, closed_slope: float = 0.0) -> None:
        """Copies the parameters of `network` in `dtype`.

        closed_slope: what gradients take for the slope of a ReLU left of zero, whose values stay what they are.
        """
        super().__init__()
        self.network, self._closed_slope = network, closed_slope
        for index, node in enumerate(network.nodes):
            for j, array in enumerate(op_parameters(node.op)):
                self.register_parameter(f"p{index}_{j}", nn.Parameter(torch.as_tensor(array.copy()).to(dtype), False))

    @torch.no_grad()
    def load(self, network: Network) -> None:
        """Takes over the parameters of a network of the same nodes and shapes, in place."""
        for index, node in enumerate(network.nodes):
            for j, array in enumerate(op_parameters(node.op)):
                target = self.get_parameter(f"p{index}_{j}")
                target.copy_(torch.as_tensor(array.copy()).to(target.dtype))

    def current(self) -> Network:
        """The network with the parameters that this module has now, taken as exact; without a source.

        Raises: ModelError if a parameter is not finite.
        """
        nodes = tuple(
            replace(node, op=self._current_op(index, node.op)) for index, node in enumerate(self.network.nodes)
        )
        return replace(self.network, nodes=nodes, source=None)

    def _current_op(self, index: int, op: Op) -> Op:
        if not isinstance(op, (Dense, Conv2d, Affine)):
            return op
        first, second = (self.get_parameter(f"p{index}_{j}").detach().numpy().astype(np.float64) for j in range(2))
        if isinstance(op, Affine):
            return Affine(first, second)
        return replace(op, weight=first, bias=second, bias_magnitude=None, roundings=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs. Shapes: (N, *input_shape) -> (N, num_outputs)."""
        return self.values(x)[-1]

    def values(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Every value, the input first. Shapes: value k is (N, *network.shapes[k])."""
        values = [x]
        for index, node in enumerate(self.network.nodes):
            values.append(self._apply_node(index, node, [values[i] for i in node.inputs]))
        return values

    def _apply_node(self, index: int, node: Node, inputs: list[torch.Tensor]) -> torch.Tensor:
        op, x = node.op, inputs[0]
        if isinstance(op, (Dense, Conv2d, Affine)):
            first, second = self.get_parameter(f"p{index}_0"), self.get_parameter(f"p{index}_1")
            if isinstance(op, Dense):
                return F.linear(x, first, second)
            if isinstance(op, Conv2d):
                x, padding = _pad(x, op.padding)
                return F.conv2d(x, first, second, op.stride, padding, op.dilation, op.groups)
            return x * first.unsqueeze(0) + second.unsqueeze(0)
        if isinstance(op, Add):
            return x + inputs[1]
        if isinstance(op, Reshape):
            return x.reshape(-1, *op.shape)
        if isinstance(op, Permute):
            return x.permute(0, *(a + 1 for a in op.axes))
        if isinstance(op, AveragePool2d):
            return _average_pool(op, x)
        if isinstance(op, MaxPool2d):
            x, padding = _pad(x, op.padding, float("-inf"))
            return F.max_pool2d(x, op.kernel, op.stride, padding)
        if isinstance(op, Relu):
            if self._closed_slope:
                closed = self._closed_slope * x.clamp(max=0)
                return F.relu(x) + (closed - closed.detach())
            return F.relu(x)
        if isinstance(op, LeakyRelu):
            return F.leaky_relu(x, op.slope)
        return torch.sigmoid(x) if isinstance(op, Sigmoid) else torch.tanh(x)


def to_module(
    network: Network, dtype: torch.dtype = torch.float32, *, closed_slope: float = 0.0
) -> CanonicalModule:  # fmt: skip
    """The network as a torch module in evaluation mode without gradients of its parameters.

    closed_slope: see `CanonicalModule`.
    Shapes: takes (N, *input_shape), gives (N, num_outputs).
    """
    return CanonicalModule(network, dtype, closed_slope=closed_slope).eval()


def _pad(
    x: torch.Tensor, padding: tuple[int, int, int, int], fill: float = 0.0
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Symmetric padding stays with the operation (auto_LiRPA knows it there); the rest is padded beforehand."""
    top, left, bottom, right = padding
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=fill), (0, 0)


def _average_pool(op: AveragePool2d, x: torch.Tensor) -> torch.Tensor:
    top, left, bottom, right = op.padding
    if (top, left) == (bottom, right):
        return F.avg_pool2d(x, op.kernel, op.stride, (top, left), False, op.count_include_pad)
    padded = F.avg_pool2d(F.pad(x, (left, right, top, bottom)), op.kernel, op.stride)
    if op.count_include_pad:
        return padded
    ones = F.pad(torch.ones_like(x[:1, :1]), (left, right, top, bottom))
    return padded / F.avg_pool2d(ones, op.kernel, op.stride)
