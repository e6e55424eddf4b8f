"""Two networks side by side, prepared for joint bounds: linear operations and aligned units as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from paoding_verify.bounds.pair_relaxation import Coupling, Interval, ReluLines
from paoding_verify.bounds.torch_linear import TorchLinear
from paoding_verify.errors import InputError
from paoding_verify.network.graph import LeakyRelu, Network, Relu

__all__ = ["Alignment", "PairModel", "SideModel"]

Alignment = Sequence[Sequence[int]]


class SideModel:
    """One network of the pair."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        """Raises: UnsupportedOpError for operations without joint bounds (max pooling, sigmoid, tanh)."""
        self.network, self.dtype = network, dtype
        self.linear: dict[int, TorchLinear] = {}
        for k, node in enumerate(network.nodes):
            if not isinstance(node.op, (Relu, LeakyRelu)):
                self.linear[k] = TorchLinear(node, network.shapes[node.inputs[0]], network.shapes[k + 1], dtype)

    def leak(self, k: int) -> float:
        """Slope of activation node k below zero."""
        op = self.network.nodes[k].op
        return op.slope if isinstance(op, LeakyRelu) else 0.0


class PairModel:
    """Pulls rows over values of f and g back to the input, through relaxations of both or of one."""

    def __init__(self, original: Network, pruned: Network, alignment: Alignment | None, dtype: torch.dtype) -> None:
        """Raises: InputError if the alignment does not fit the networks; UnsupportedOpError (see `SideModel`)."""
        if original.input_shape != pruned.input_shape or original.num_outputs != pruned.num_outputs:
            raise InputError(
                f"the networks take {original.input_shape} and {pruned.input_shape} and give "
                f"{original.num_outputs} and {pruned.num_outputs} outputs; a comparison needs equal shapes"
            )
        self.sides = (SideModel(original, dtype), SideModel(pruned, dtype))
        self.dtype = dtype
        self.units: dict[int, torch.Tensor] = {}
        """For each activation node, the units of f that the units of g continue; empty without an alignment."""
        if alignment is not None:
            _check_alignment(original, pruned, alignment)
            pairs = zip(original.activations, alignment, strict=True)
            self.units = {k: torch.as_tensor(np.asarray(units, dtype=np.int64)) for k, units in pairs}

    def pull(
        self,
        value: tuple[int, int],
        rows: tuple[torch.Tensor | None, torch.Tensor | None],
        layers: dict[tuple[int, int], Interval],
        couplings: dict[int, Coupling],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Input coefficients and constant of a linear lower bound of rows over value[0] of f and value[1] of g.

        layers holds pre-activation bounds by (side, activation node), couplings those layers that are treated jointly.
        Shapes: rows (N or 1, R, *value shape) -> (N or 1, R, *input_shape), (N or 1, R).
        """
        walks = [_Walk(self.sides[s], s, value[s], rows[s], layers) for s in (0, 1)]
        for k in range(max(value) - 1, -1, -1):
            if k in couplings:
                walks[0].couple(walks[1], k, couplings[k], self.units[k])
            for walk in walks:
                walk.step(k)
        forms = [walk.form() for walk in walks if walk.used]
        coefficients, constant = forms[0]
        for other, offset in forms[1:]:
            coefficients, constant = coefficients + other, constant + offset
        return coefficients, constant


class _Walk:
    """One backward pass over one network; two of them meet in `couple`."""

    def __init__(
        self,
        side: SideModel,
        index: int,
        value: int,
        rows: torch.Tensor | None,
        layers: dict[tuple[int, int], Interval],
    ) -> None:
        self._side, self._index, self._layers = side, index, layers
        self._at: dict[int, torch.Tensor] = {} if rows is None else {value: rows}
        self._below: dict[int, torch.Tensor] = {}
        """Coefficients of pre-activations that a coupling has produced, by activation node."""
        self.used = rows is not None
        self._constant = torch.zeros((1, 0 if rows is None else rows.shape[1]), dtype=side.dtype)

    def couple(self, other: _Walk, k: int, coupling: Coupling, units: torch.Tensor) -> None:
        """Bounds the joint part of layer k; self is f, other is g."""
        a, b = self._at.get(k + 1), other._at.get(k + 1)
        if a is None or b is None:
            return
        scale = 1.0 - self._side.leak(k)
        joint, of_d, constant = coupling.split(a.index_select(2, units), b)
        self._at[k + 1] = _add_units(a, units, -joint)
        other._at[k + 1] = b + joint
        # leaky(z) = leak z + (1 - leak) relu(z): the joint part keeps its linear share exactly
        of_d = of_d * scale + joint * self._side.leak(k)
        self._below[k] = _add_units(torch.zeros_like(a[:1]).expand(len(of_d), *a.shape[1:]), units, of_d)
        other._below[k] = -of_d
        self._constant = self._constant + constant * scale

    def step(self, k: int) -> None:
        """Carries the coefficients of what node k computes to what it reads."""
        coefficients = self._at.pop(k + 1, None)
        if coefficients is None:
            return
        node = self._side.network.nodes[k]
        if k in self._side.linear:
            operation = self._side.linear[k]
            self._constant = self._constant + operation.constant(coefficients)
            pulled = operation.transpose(coefficients)
        else:
            leak = self._side.leak(k)
            pulled, constant = ReluLines(self._layers[self._index, k]).pull(coefficients * (1.0 - leak))
            pulled = pulled + coefficients * leak if leak else pulled
            self._constant = self._constant + constant
            if k in self._below:
                pulled = pulled + self._below.pop(k)
        for value in node.inputs:
            self._at[value] = self._at[value] + pulled if value in self._at else pulled

    def form(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Input coefficients and constant, once every node is passed."""
        return self._at[0], self._constant


def _add_units(x: torch.Tensor, units: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
    wide = x.expand(len(addend), *x.shape[1:]) if len(x) != len(addend) else x
    return wide.index_add(2, units, addend)


def _check_alignment(original: Network, pruned: Network, alignment: Alignment) -> None:
    same = len(original.nodes) == len(pruned.nodes) and all(
        type(a.op) is type(b.op) and a.inputs == b.inputs and getattr(a.op, "slope", 0) == getattr(b.op, "slope", 0)
        for a, b in zip(original.nodes, pruned.nodes, strict=True)
    )
    same = same and all(f[1:] == g[1:] for f, g in zip(original.shapes, pruned.shapes, strict=True))
    if not same or len(alignment) != len(original.activations):
        raise InputError("an alignment needs networks of the same operations and one entry per activation layer")
    for k, units in zip(original.activations, alignment, strict=True):
        wide, narrow = original.shapes[k + 1], pruned.shapes[k + 1]
        if wide[1:] != narrow[1:] or len(units) != narrow[0] or len(set(units)) != len(units):
            raise InputError(f"the alignment of layer {k} does not name one unit of f for every unit of g")
        if min(units) < 0 or max(units) >= wide[0]:
            raise InputError(f"the alignment of layer {k} names units that f does not have")
