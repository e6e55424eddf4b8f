"""Margins bounded by auto_LiRPA in a way that torch can differentiate: the loss of certified training.

auto_LiRPA bounds the rewritten network of `lowering`, whose kernels may have grown by zeros. Each parameter of the
module in training has its twin there: values go over before every bound, gradients come back after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from paoding_verify.bounds.lirpa_compat import load_lirpa, quiet
from paoding_verify.bounds.lowering import lower as lower_network
from paoding_verify.errors import EngineError
from paoding_verify.network.graph import Conv2d, Dense, Network, Node
from paoding_verify.network.torch_out import CanonicalModule, to_module

__all__ = ["TrainingBounds", "certified_loss", "trainable"]


def trainable(network: Network) -> list[int]:
    """Nodes whose parameters are trained: dense layers and convolutions. Normalisations stay as they are."""
    return [index for index, node in enumerate(network.nodes) if isinstance(node.op, (Dense, Conv2d))]


def certified_loss(margins: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the worst outputs that lower bounds of the margins leave open: an upper bound of the mean
    over boxes of the largest cross-entropy in each box.

    Shapes: margins (N, outputs - 1), bounds of y[label] - y[j] -> scalar. Source: arXiv 1906.06316, equation 5.
    """
    worst = torch.cat([torch.zeros_like(margins[:, :1]), -margins], dim=1)
    return F.cross_entropy(worst, torch.zeros(len(worst), dtype=torch.long))


class TrainingBounds:
    """Lower bounds of one module's margins over boxes, differentiable by its dense layers and convolutions."""

    def __init__(self, module: CanonicalModule) -> None:
        """Translates the module's network once; its parameters may then change in place.

        Raises: MissingComponentError if auto_LiRPA is not installed, UnsupportedOpError naming a node it cannot bound.
        """
        network = module.network
        self._lirpa = load_lirpa()
        self._num_outputs = network.num_outputs
        lowered = lower_network(network)
        inner = to_module(lowered.network)
        # As in LirpaBounder: the mode "patches" is wrong for grouped convolutions.
        self._bounded = self._lirpa.bounded(inner, torch.zeros(1, *network.input_shape), {"conv_mode": "matrix"}, "cpu")
        self._bounded.requires_grad_(False)
        numbers = lower_network(_numbered(network)).network
        self._pairs: list[_Pair] = []
        for place, origin in enumerate(lowered.origin):
            if origin is not None and origin in trainable(network):
                for j, array in enumerate(_arrays(numbers.nodes[place])):
                    twin = inner.get_parameter(f"p{place}_{j}").requires_grad_(True)
                    own = module.get_parameter(f"p{origin}_{j}")
                    self._pairs.append(_Pair(own, twin, _places(array, own.numel())))

    def margins(
        self, lower: torch.Tensor, upper: torch.Tensor, labels: torch.Tensor, *, tightness: float
    ) -> torch.Tensor:
        """Lower bounds of y[label] - y[j] for every other class j: the share `tightness` of CROWN-IBP, the rest of IBP.

        Both are lower bounds, hence so is what lies between. Shapes: lower, upper (N, *input_shape) float32, labels
        (N,) -> (N, outputs - 1). Raises: EngineError if auto_LiRPA fails.
        Source: CROWN-IBP training, arXiv 1906.06316.
        """

        def compute() -> torch.Tensor:
            parts = []
            for method, share in (("CROWN-IBP", tightness), ("IBP", 1.0 - tightness)):
                if share > 0:
                    parts.append(share * self._bounds(lower, upper, labels, method))
            return torch.stack(parts).sum(dim=0)

        found: torch.Tensor = _Twins.apply(  # type: ignore[no-untyped-call]
            compute, self._pairs, *(pair.own for pair in self._pairs)
        )
        return found

    def _bounds(self, lower: torch.Tensor, upper: torch.Tensor, labels: torch.Tensor, method: str) -> torch.Tensor:
        box = self._lirpa.perturbation(norm=np.inf, x_L=lower, x_U=upper)
        rows = _margin_rows(labels, self._num_outputs)
        try:
            with quiet():
                point = self._lirpa.tensor(lower / 2 + upper / 2, box)
                result: Any = self._bounded.compute_bounds(x=(point,), C=rows, method=method, bound_upper=False)
        except MemoryError:
            raise
        except Exception as error:
            raise EngineError(f"auto_LiRPA failed in certified training ({method}): {error}") from error
        found: torch.Tensor = result[0]
        return found


@dataclass(frozen=True, eq=False)
class _Pair:
    """A parameter in training and its twin in auto_LiRPA's graph."""

    own: torch.Tensor
    twin: torch.Tensor
    places: torch.Tensor
    """For each element of `own`, its place in the flattened twin."""


class _Twins(torch.autograd.Function):
    """Bounds as a function of the parameters in training."""

    @staticmethod
    def forward(
        ctx: Any, compute: Callable[[], torch.Tensor], pairs: Sequence[_Pair], *own: torch.Tensor
    ) -> torch.Tensor:
        for pair, value in zip(pairs, own, strict=True):
            pair.twin.data.view(-1)[pair.places] = value.reshape(-1)
        with torch.enable_grad():
            ctx.bounds = compute()
        ctx.pairs = pairs
        return ctx.bounds.detach()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found = torch.autograd.grad(ctx.bounds, [pair.twin for pair in ctx.pairs], upstream, allow_unused=True)
        ctx.bounds = None
        own = [
            None if gradient is None else gradient.reshape(-1)[pair.places].reshape(pair.own.shape)
            for gradient, pair in zip(found, ctx.pairs, strict=True)
        ]
        return None, None, *own


def _margin_rows(labels: torch.Tensor, num_outputs: int) -> torch.Tensor:
    """Shapes: (N,) -> (N, outputs - 1, outputs)."""
    unit = torch.eye(num_outputs)
    others = torch.arange(num_outputs) != labels.unsqueeze(1)
    return (unit[labels].unsqueeze(1) - unit)[others].reshape(len(labels), num_outputs - 1, num_outputs)


def _numbered(network: Network) -> Network:
    """The network with the elements of each trainable array replaced by 1, 2, 3, ...: lowering shows where they go."""
    nodes = []
    for node in network.nodes:
        op = node.op
        if isinstance(op, (Dense, Conv2d)):
            weight, bias = (1.0 + np.arange(a.size, dtype=np.float64).reshape(a.shape) for a in (op.weight, op.bias))
            op = replace(op, weight=weight, bias=bias)
        nodes.append(replace(node, op=op))
    return replace(network, nodes=tuple(nodes), source=None)


def _arrays(node: Node) -> tuple[np.ndarray[Any, Any], ...]:
    return (node.op.weight, node.op.bias) if isinstance(node.op, (Dense, Conv2d)) else ()


def _places(numbers: np.ndarray[Any, Any], size: int) -> torch.Tensor:
    places = np.zeros(size, dtype=np.int64)
    flat = numbers.reshape(-1).astype(np.int64)
    places[flat[flat > 0] - 1] = np.flatnonzero(flat > 0)
    return torch.as_tensor(places)
