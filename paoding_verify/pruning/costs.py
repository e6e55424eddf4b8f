"""Estimates of effort in multiply-accumulate operations: what runs is decided by these, never by a clock.

They are crude on purpose (a factor of two does no harm) and depend on the network's shapes alone, so that the same
arguments give the same result on every machine, however busy.
"""

from __future__ import annotations

from itertools import accumulate
from math import prod

from paoding_verify.network.graph import Conv2d, Dense, Network
from paoding_verify.pruning.problem import PruneProblem

__all__ = ["compensation_macs", "linear_macs", "pricing_macs", "signal_macs"]

_PRICE = 1.2e6
"""One price of one atom: some 30 microseconds of overhead, at the speed of matrix products."""


def linear_macs(network: Network) -> list[int]:
    """Multiply-accumulate operations of every node; 0 where it is neither dense nor a convolution."""
    return [
        prod(shape) * prod(node.op.weight.shape[1:]) if isinstance(node.op, (Dense, Conv2d)) else 0
        for node, shape in zip(network.nodes, network.shapes[1:], strict=True)
    ]


def signal_macs(network: Network, num_boxes: int, method: str) -> float:
    """One evaluation of the certified signal: a backward pass from every neuron (crown), or from the outputs alone."""
    upto = list(accumulate(linear_macs(network)))
    per_box = 2.0 * upto[-1]
    if method != "ibp":
        per_box += (network.num_outputs - 1) * upto[-1]
    if method == "crown":
        # The first layer's bounds come from intervals; below and above are bounded, hence twice.
        per_box += sum(2.0 * prod(network.shapes[k + 1]) * upto[k] for k in network.activations[1:])
    return num_boxes * per_box


def compensation_macs(problem: PruneProblem) -> float:
    """One round of least squares on all compensation inputs."""
    per_input = 0.0
    for node, macs in zip(problem.original.nodes, linear_macs(problem.original), strict=True):
        if isinstance(node.op, (Dense, Conv2d)) and macs:
            columns, rows = prod(node.op.weight.shape[1:]), len(node.op.weight)
            per_input += macs / rows * (rows + columns)
    return len(problem.inputs) * per_input


def pricing_macs(problem: PruneProblem) -> float:
    """Prices of all atoms, once for each atom that leaves."""
    return sum(
        _PRICE * len(group.atoms) * count for group, count in zip(problem.units.groups, problem.plan[-1], strict=True)
    )
