"""What one inference of a network costs."""

from __future__ import annotations

from math import prod

from paoding_verify.network.graph import Affine, AveragePool2d, Conv2d, Dense, Network

__all__ = ["multiply_accumulates"]


def multiply_accumulates(network: Network) -> int:
    """Multiply-accumulate operations of one inference: dense, convolution, scaling and average pooling layers."""
    total = 0
    for node, shape in zip(network.nodes, network.shapes[1:], strict=True):
        op = node.op
        if isinstance(op, (Dense, Conv2d)):
            total += prod(shape) * prod(op.weight.shape[1:])
        elif isinstance(op, Affine):
            total += prod(shape)
        elif isinstance(op, AveragePool2d):
            total += prod(shape) * prod(op.kernel)
    return total
