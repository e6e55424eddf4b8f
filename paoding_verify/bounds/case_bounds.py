"""Linear bounds on many cases of one region at once, in torch: what the checker will compute, with gradients.

A case is a set of signs of pre-activations. Enclosures of all values are those of the checker on the whole region, and
so are the errors that it charges: what is found here is what will be proved, up to rounding.
Source: Wang et al., arXiv 2103.06624.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from paoding_verify.bounds.case_relaxation import Intervals, Lines, Rectifier
from paoding_verify.bounds.case_tree import Places
from paoding_verify.bounds.pair_relaxation import Coupling, Interval
from paoding_verify.bounds.torch_linear import TorchLinear
from paoding_verify.checker.backward import State
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.graph import Add, Array, LeakyRelu, MaxPool2d, Node, Relu, is_linear

__all__ = ["CaseBounder", "CaseBounds"]


@dataclass(frozen=True, eq=False)
class CaseBounds:
    """Bounds of one row on each of n cases."""

    lower: torch.Tensor
    """(n,)"""
    scores: dict[int, torch.Tensor]
    """Step -> (n, units): what the lines of each unstable unit cost; empty unless asked for."""
    starts: dict[int, torch.Tensor]
    """Step -> (2, n, units): multipliers of z <= 0, and of z >= 0, with which the line below the rectifier is the same
    on that half as on the case; lines above it get tighter without. Empty unless asked for."""
    inputs: torch.Tensor
    """(n, *input_shape) coefficients of the input."""
    weights: dict[int, torch.Tensor]
    """Step -> (n,) the largest |coefficient| of a pre-activation, the scale of multipliers."""

    def of(self, numbers: Sequence[int]) -> CaseBounds:
        """Those of some cases."""
        scores, weights = ({k: x[numbers] for k, x in each.items()} for each in (self.scores, self.weights))
        starts = {k: x[:, numbers] for k, x in self.starts.items()}
        return CaseBounds(self.lower[numbers], scores, starts, self.inputs[numbers], weights)


class CaseBounder:
    """Bounds rows of one or two networks on cases of one region."""

    def __init__(self, state: State) -> None:
        """Raises: UnsupportedOpError for max pooling, which has no lines here."""
        self.state, self.program = state, state.program
        self._linear: dict[int, TorchLinear] = {}
        self.units: dict[int, int] = {}
        """Steps that can be split (ReLU and LeakyReLU behind another node) -> their number of units."""
        for index, step in enumerate(self.program.steps):
            if isinstance(step.op, MaxPool2d):
                raise UnsupportedOpError("max pooling has no bounds by cases")
            if is_linear(step.op) and not isinstance(step.op, Add):
                node = Node(step.op, step.inputs, "")
                self._linear[index] = TorchLinear(node, self.program.shapes[step.inputs[0]], step.shape, torch.float64)
            elif isinstance(step.op, (Relu, LeakyRelu)) and step.inputs[0] > 0:
                self.units[index] = int(np.prod(step.shape))
        self.kept = {
            k: torch.as_tensor(np.isin(np.arange(count), kept)).to(torch.float64)
            for k, count in self.units.items()
            if (kept := self.program.steps[k].kept) is not None
        }
        """Steps of twins -> 1 for units that the network has, 0 for the others. Shapes: (units,)."""
        self._charge = [_flat(value.charge) for value in state.values]
        self._z = {k: self._ends(self.program.steps[k].inputs[0]) for k in self.units}
        self._lines = {
            k: [_flat(a) for a in (x.lower_slope, x.lower_shift, x.upper_slope, x.upper_shift)]
            for k, x in state.lines.items()
            if k not in self.units
        }
        ours = [second - 1 for second in self.program.twins if second - 1 in self.units]
        known = state.differences
        self._differences = {g: Interval(*map(_flat, known[self.program.steps[g].inputs[0]])) for g in ours}

    def _ends(self, value: int) -> Interval:
        return Interval(_flat(self.state.values[value].lower), _flat(self.state.values[value].upper))

    def intervals(self, places: Places, count: int) -> Intervals:
        """What signs say about pre-activations, on `count` cases."""
        z = {k: Interval(ends.lower.repeat(count, 1), ends.upper.repeat(count, 1)) for k, ends in self._z.items()}
        for step, (cases, _, units, signs) in places.by_step.items():
            up, down = signs > 0, signs < 0
            z[step].lower[cases[up], units[up]] = z[step].lower[cases[up], units[up]].clamp(min=0)
            z[step].upper[cases[down], units[down]] = z[step].upper[cases[down], units[down]].clamp(max=0)
        differences: dict[int, Interval] = {}
        for g, known in self._differences.items():
            f = self.program.twins[g + 1] - 1
            d = known.meet(z[f].minus(z[g]))
            z[f], z[g] = z[f].meet(z[g].plus(d)), z[g].meet(z[f].minus(d))
            differences[g] = d
        return Intervals(
            {k: Rectifier(ends, _leak(self, k)) for k, ends in z.items()},
            {g: Coupling(z[self.program.twins[g + 1] - 1], z[g], d) for g, d in differences.items()},
        )

    @cached_property
    def choices(self) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
        """Where slopes, and where shares, make a difference on the region or on any case of it. Shapes: (units,)."""
        root = self.intervals(Places([()], self.units), 1)
        slopes = {k: lines.unstable[0] for k, lines in root.rectifiers.items()}
        return slopes, {g: coupling.free[0] for g, coupling in root.couplings.items()}

    def default_lines(self, intervals: Intervals) -> Lines:
        """Lower slopes that leave the smaller triangle; differences where their lines are closer together."""
        slopes = {k: (lines.adaptive >= 1.0).to(torch.float64) for k, lines in intervals.rectifiers.items()}
        return Lines(slopes, {g: coupling.share.clone() for g, coupling in intervals.couplings.items()})

    def bound(
        self,
        rows: torch.Tensor,
        offsets: torch.Tensor,
        intervals: Intervals,
        credit: dict[int, torch.Tensor],
        lines: Lines,
        *,
        scored: bool = False,
    ) -> CaseBounds:
        """Lower bounds of one row on each case.

        credit: step -> (n, units) multipliers times signs; lines: for each case; scored: whether scores are wanted.
        Shapes: rows (n, outputs of all networks), offsets (n,).
        """
        widths = [self.program.shapes[value][0] for value in self.program.outputs]
        start = dict(zip(self.program.outputs, torch.split(rows, widths, dim=1), strict=True))
        return self._walked(start, offsets, intervals, credit, lines, scored=scored)

    def bound_units(self, value: int, rows: torch.Tensor, intervals: Intervals, lines: Lines) -> torch.Tensor:
        """Lower bounds of rows over the units of one value. Shapes: (n, units) -> (n,)."""
        return self._walked({value: rows}, torch.zeros(len(rows)), intervals, {}, lines, scored=False).lower

    def _walked(
        self, start: dict[int, torch.Tensor], offsets: torch.Tensor, intervals: Intervals,
        credit: dict[int, torch.Tensor], lines: Lines, *, scored: bool,
    ) -> CaseBounds:  # fmt: skip
        walk = _Walk(self, offsets, dict(start), intervals, scored=scored)
        for index in range(max(start) - 1, -1, -1):
            walk.joint(index, lines.shares)
            walk.step(index, credit, lines.slopes)
        return walk.conclude()


class _Walk:
    """One backward pass; coefficients are flat, (n, units)."""

    def __init__(
        self,
        bounder: CaseBounder,
        offsets: torch.Tensor,
        start: dict[int, torch.Tensor],
        intervals: Intervals,
        *,
        scored: bool,
    ) -> None:
        self._b, self._at, self._sum, self._known, self._scored = bounder, start, offsets, intervals, scored
        self._scores: dict[int, torch.Tensor] = {}
        self._starts: dict[int, torch.Tensor] = {}
        self._weights: dict[int, torch.Tensor] = {}

    def joint(self, index: int, shares: dict[int, torch.Tensor]) -> None:
        """Bounds the joint part of twin activations; `index` is the step of g."""
        coupling = self._known.couplings.get(index)
        first = self._b.program.twins.get(index + 1) if coupling is not None else None
        a, b = (self._at.get(v) if v is not None else None for v in (first, index + 1))
        if coupling is None or first is None or a is None or b is None:
            return
        f = first - 1
        leak = _leak(self._b, index)
        k, of_d, constant = (t[:, 0] for t in coupling.split(a[:, None], b[:, None], shares.get(index)))
        self._at[first], self._at[index + 1] = a - k, b + k
        of_d = of_d * (1.0 - leak) + k * leak
        steps = self._b.program.steps
        self._give(steps[f].inputs[0], of_d)
        self._give(steps[index].inputs[0], -of_d)
        charge = self._b._charge[first] + self._b._charge[index + 1]
        self._sum = self._sum + constant * (1.0 - leak) - k.abs() @ charge[0]
        if self._scored:
            cost = k.detach().abs() * coupling.gap
            self._scores[f], self._scores[index] = cost, torch.where(self._known.rectifiers[f].unstable, 0.0, cost)

    def step(self, index: int, credit: dict[int, torch.Tensor], alpha: dict[int, torch.Tensor]) -> None:
        """Carries the coefficients of what a step computes to what it reads."""
        program = self._b.program
        step = program.steps[index]
        coefficient = self._at.pop(index + 1, None)
        if index in credit:
            self._give(step.inputs[0], -credit[index])
        if coefficient is None:
            return
        self._sum = self._sum - coefficient.abs() @ self._b._charge[index + 1][0]
        if isinstance(step.op, Add):
            for value in step.inputs:
                self._give(value, coefficient)
        elif index in self._b._linear:
            operation = self._b._linear[index]
            shaped = coefficient.reshape(-1, *step.shape)
            self._sum = self._sum + operation.constant(shaped)
            self._give(step.inputs[0], operation.transpose(shaped).flatten(1))
        else:
            self._activation(index, coefficient, alpha)

    def _activation(self, index: int, coefficient: torch.Tensor, alpha: dict[int, torch.Tensor]) -> None:
        """Through lines below and above; the upper line of a rectifier is the chord."""
        positive, negative = coefficient.clamp(min=0), coefficient.clamp(max=0)
        source = self._b.program.steps[index].inputs[0]
        lines = self._known.rectifiers.get(index)
        if lines is None:
            low, low_shift, high, high_shift = self._b._lines[index]
            self._sum = self._sum + positive @ low_shift[0] + negative @ high_shift[0]
            self._give(source, positive * low + negative * high)
            return
        lower_slope = lines.lower_slope(alpha.get(index))
        self._sum = self._sum + (negative * lines.shift).sum(1)
        self._give(source, positive * lower_slope + negative * lines.upper_slope)
        with torch.no_grad():
            self._weights[index] = coefficient.abs().amax(1)
            if self._scored:
                cost = lines.cost(positive, negative, lower_slope)
                self._scores[index] = self._scores.get(index, 0.0) * lines.unstable + cost
                self._starts[index] = positive * torch.stack([lower_slope - lines.leak, 1.0 - lower_slope])

    def _give(self, value: int, coefficient: torch.Tensor) -> None:
        self._at[value] = self._at[value] + coefficient if value in self._at else coefficient

    def conclude(self) -> CaseBounds:
        """The smallest value on the box."""
        box = self._b._ends(0)
        centre, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
        inputs = self._at[0]
        lower = self._sum + inputs @ centre[0] - inputs.abs() @ radius[0]
        # Units that a network does not have are zero up to rounding: there is nothing to split.
        scores = {k: score * self._b.kept[k] if k in self._b.kept else score for k, score in self._scores.items()}
        return CaseBounds(lower, scores, self._starts, inputs.detach(), self._weights)


def _leak(bounder: CaseBounder, index: int) -> float:
    op = bounder.program.steps[index].op
    return op.slope if isinstance(op, LeakyRelu) else 0.0


def _flat(array: Array) -> torch.Tensor:
    """Shapes: (1, *shape) -> (1, units)."""
    return torch.as_tensor(np.array(array, dtype=np.float64)).reshape(1, -1)
