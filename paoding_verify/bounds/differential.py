"""Joint linear bounds of two networks f and g: rows over (f(x), g(x)), tight where f and g share weights.

Both networks are bounded by backward passes (CROWN, arXiv 1811.00866). Where a row holds an aligned pair of units with
opposite signs, their difference is bounded as one quantity from bounds of z_f - z_g, so that what f and g have in
common cancels (ReluDiff, arXiv 2001.03662; the backward form follows from bounding the pair as one network). Everything
is computed in float64 without directed rounding: a search result, which the checker proves again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from paoding_verify.bounds.pair_model import Alignment, PairModel
from paoding_verify.bounds.pair_relaxation import Coupling, Interval
from paoding_verify.checker.backward import State
from paoding_verify.checker.program import Program
from paoding_verify.network.graph import Add, Array, LeakyRelu, Network, Relu

__all__ = ["PairBounder", "PairBounds"]

_MEMORY = 2**27
"""Numbers that one batch of coefficients may hold."""
_ROWS = 1024
"""Rows bounded at once."""
_Form = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class PairBounds:
    """Lower bounds of rows over (f, g) on boxes."""

    lower: Array
    """(N, R) float64."""
    sensitivity: Array
    """(N, *input_shape) largest input coefficient of any row's bound: where splitting the box pays."""


class PairBounder:
    """Bounds rows over the outputs of two networks with equal input and output shapes."""

    def __init__(self, original: Network, pruned: Network, alignment: Alignment | None) -> None:
        """alignment: for each activation layer, the unit of `original` that each unit of `pruned` continues; None: the
        structures differ, the networks are relaxed separately and only the input is shared.

        Raises: InputError if shapes or alignment do not fit; UnsupportedOpError for max pooling, sigmoid and tanh.
        """
        self._model = PairModel(original, pruned, alignment, torch.float64)
        widest = max(int(np.prod(shape)) for net in (original, pruned) for shape in net.shapes)
        self._chunk = max(1, _MEMORY // (widest * min(_ROWS, 4 * widest)))

    def lower_bounds(self, lower: Array, upper: Array, rows: Array, offsets: Array) -> PairBounds:
        """Lower bounds of rows @ (f(x), g(x)) + offsets on every box; the better of joint and separate relaxations.

        Shapes: lower and upper (N, *input_shape), rows (R, 2 * num_outputs), offsets (R,).
        """
        parts = []
        with torch.no_grad():
            for start in range(0, len(lower), self._chunk):
                box = Interval(_tensor(lower[start : start + self._chunk]), _tensor(upper[start : start + self._chunk]))
                parts.append(_Boxes(self._model, box).propagate().bound_outputs(_tensor(rows)))
        found = torch.cat([part[0] for part in parts]).numpy() + offsets
        return PairBounds(found, torch.cat([part[1] for part in parts]).numpy())

    def sensitivity(self, state: State, rows: Array) -> Array:
        """As in `PairBounds`, from enclosures that the checker has. Shapes: rows (R, 2 * num_outputs) -> (N, *in)."""
        with torch.no_grad():
            return np.asarray(_Boxes.enclosed(self._model, state).bound_outputs(_tensor(rows))[1].numpy())

    def distance(self, lower: Array, upper: Array) -> npt.NDArray[np.float64]:
        """Upper bound of max over the outputs of |f - g| on every box. Shapes: (N, *input_shape) -> (N,)."""
        eye = np.eye(self._model.sides[0].network.num_outputs)
        rows = np.block([[-eye, eye], [eye, -eye]])
        return np.asarray(-self.lower_bounds(lower, upper, rows, np.zeros(len(rows))).lower.min(axis=1))


class _Boxes:
    """Bounds of all layers of both networks on a batch of boxes."""

    def __init__(self, model: PairModel, box: Interval) -> None:
        self._model, self._box = model, box
        self._layers: dict[tuple[int, int], Interval] = {}
        self._couplings: dict[int, Coupling] = {}

    @classmethod
    def enclosed(cls, model: PairModel, state: State) -> _Boxes:
        """Bounds that the checker has found."""
        program, f = state.program, model.sides[0].network
        values = [Interval(_tensor(x.lower), _tensor(x.upper)) for x in state.values]
        boxes = cls(model, values[0])
        steps = {step.number: step for step in program.steps}
        for s, side in enumerate(model.sides):
            for k in side.network.activations:
                z = steps[k + s * len(f.nodes)].inputs[0]
                shape = side.network.shapes[k + 1]
                boxes._layers[s, k] = _own(values[z], program, z, shape)
                if z in state.differences and k in model.units:
                    units, d = model.units[k], Interval(*map(_tensor, state.differences[z]))
                    wide = boxes._layers[0, k]
                    aligned = Interval(wide.lower[:, units], wide.upper[:, units])
                    boxes._couplings[k] = Coupling(aligned, boxes._layers[1, k], _own(d, program, z, shape))
        return boxes

    def propagate(self) -> _Boxes:
        """Bounds of all layers, from the first on."""
        model, box = self._model, self._box
        values = ([box], [box])
        nodes = [len(side.network.nodes) for side in model.sides]
        for k in range(max(nodes)):
            for s in (0, 1):
                if k < nodes[s]:
                    values[s].append(self._forward(s, k, values[s]))
            if k in model.units:
                self._refine_pair(k)
                for s in (0, 1):
                    values[s][-1] = self._activated(s, k)
        return self

    def bound_outputs(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower bounds (N, R) and sensitivity (N, *in) of rows over the outputs."""
        networks = [side.network for side in self._model.sides]
        ends = (len(networks[0].nodes), len(networks[1].nodes))
        split = networks[0].num_outputs
        bounds = []
        sensitivity = torch.zeros_like(self._box.lower)
        for part in torch.split(rows, _ROWS):
            for form in self._forms(ends, (part[None, :, :split], part[None, :, split:])):
                bounds.append(self._concretise(form))
                sensitivity = torch.maximum(sensitivity, form[0].abs().amax(1))
        step = 2 if self._couplings else 1
        best = [torch.stack(bounds[i : i + step]).amax(0) for i in range(0, len(bounds), step)]
        return torch.cat(best, 1), sensitivity

    def _forms(self, ends: tuple[int, int], rows: tuple[torch.Tensor, torch.Tensor]) -> Iterator[_Form]:
        """Linear lower bounds of the same rows: separate, then joint where there is an alignment."""
        yield self._model.pull(ends, rows, self._layers, {})
        if self._couplings:
            yield self._model.pull(ends, rows, self._layers, self._couplings)

    def _forward(self, s: int, k: int, values: list[Interval]) -> Interval:
        side = self._model.sides[s]
        node = side.network.nodes[k]
        x = values[node.inputs[0]]
        if isinstance(node.op, (Relu, LeakyRelu)):
            self._layers[s, k] = self._refine(s, k, x)
            return self._activated(s, k)
        if isinstance(node.op, Add):
            return x.plus(values[node.inputs[1]])
        centre, radius = side.linear[k].interval((x.lower + x.upper) / 2, (x.upper - x.lower) / 2)
        return Interval(centre - radius, centre + radius)

    def _activated(self, s: int, k: int) -> Interval:
        z, leak = self._layers[s, k], self._model.sides[s].leak(k)
        return Interval(torch.maximum(z.lower, leak * z.lower), torch.maximum(z.upper, leak * z.upper))

    def _refine(self, s: int, k: int, z: Interval) -> Interval:
        """Backward bounds for the units that are unstable in some box, met with what is known."""
        value = self._model.sides[s].network.nodes[k].inputs[0]

        def pull(rows: torch.Tensor) -> torch.Tensor:
            pair = (rows, None) if s == 0 else (None, rows)
            return self._concretise(self._model.pull((value, value), pair, self._layers, {}))

        return _refined(z, z.unstable.any(0), pull)

    def _refine_pair(self, k: int) -> None:
        """Bounds of z_f - z_g over the aligned units of layer k, and what they say about z_f and z_g."""
        units = self._model.units[k]
        f, g = self._layers[0, k], self._layers[1, k]
        aligned = Interval(f.lower[:, units], f.upper[:, units])
        value = self._model.sides[1].network.nodes[k].inputs[0]
        shape = self._model.sides[0].network.shapes[k + 1]

        def pull(rows: torch.Tensor) -> torch.Tensor:
            wide = torch.zeros((*rows.shape[:2], *shape), dtype=rows.dtype).index_copy_(2, units, rows)
            forms = self._forms((value, value), (wide, -rows))
            return torch.stack([self._concretise(form) for form in forms]).amax(0)

        d = _refined(aligned.minus(g), (aligned.unstable | g.unstable).any(0), pull)
        aligned, g = aligned.meet(g.plus(d)), g.meet(aligned.minus(d))
        self._couplings[k] = Coupling(aligned, g, d)
        self._layers[0, k] = Interval(
            f.lower.index_copy(1, units, aligned.lower), f.upper.index_copy(1, units, aligned.upper)
        )
        self._layers[1, k] = g

    def _concretise(self, form: _Form) -> torch.Tensor:
        """Minimum of linear forms on the boxes. Shapes: (N or 1, R, *in), (N or 1, R) -> (N, R)."""
        coefficients, constant = form[0].flatten(2), form[1]
        lower, upper = self._box.lower.flatten(1), self._box.upper.flatten(1)
        centre, radius = (lower + upper) / 2, (upper - lower) / 2
        at = torch.matmul(coefficients, centre[:, :, None]) - torch.matmul(coefficients.abs(), radius[:, :, None])
        return at[:, :, 0] + constant


def _refined(z: Interval, wanted: torch.Tensor, pull: Callable[[torch.Tensor], torch.Tensor]) -> Interval:
    """z met with the lower bounds that `pull` gives for the wanted units and their negatives.

    Shapes: z (N, *units), wanted (*units) bool; pull takes (1, R, *units) rows and gives (N, R).
    """
    lower, upper = z.lower.flatten(1).clone(), z.upper.flatten(1).clone()
    for index in torch.split(wanted.flatten().nonzero()[:, 0], _ROWS // 2):
        if not len(index):
            break
        rows = torch.zeros((len(index), wanted.numel()), dtype=lower.dtype)
        rows[torch.arange(len(index)), index] = 1.0
        both = pull(torch.cat([rows, -rows]).reshape(1, -1, *wanted.shape))
        lower[:, index] = torch.maximum(lower[:, index], both[:, : len(index)])
        upper[:, index] = torch.minimum(upper[:, index], -both[:, len(index) :])
    return Interval(lower.reshape(z.lower.shape), upper.reshape(z.upper.shape))


def _own(x: Interval, program: Program, value: int, shape: tuple[int, ...]) -> Interval:
    """The elements that a network itself has of a value, which the checker may have widened."""
    kept = program.steps[value - 1].kept if value else None
    ends = [end.flatten(1) if kept is None else end.flatten(1)[:, kept] for end in (x.lower, x.upper)]
    return Interval(*(end.reshape(-1, *shape) for end in ends))


def _tensor(array: Array) -> torch.Tensor:
    """A float64 copy: arrays may be read-only, which torch does not support."""
    return torch.as_tensor(np.array(array, dtype=np.float64))
