"""Linear relaxations of ReLU layers: of one network, and of two aligned networks together.

Rows are bounded from below: a non-negative coefficient of relu(z) takes its lower line, a negative one its upper line.
Source: the triangle relaxation with adaptive slopes of CROWN (arXiv 1811.00866); the difference relaxation of
ReluDiff and NeuroDiff (arXiv 2001.03662, 2009.09943) as lines over [d_l, d_u].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

__all__ = ["Coupling", "Interval", "ReluLines", "difference_of_relus"]


@dataclass(frozen=True)
class Interval:
    """lower <= value <= upper, element by element."""

    lower: torch.Tensor
    upper: torch.Tensor

    def meet(self, other: Interval) -> Interval:
        """What both intervals allow."""
        return Interval(torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper))

    def minus(self, other: Interval) -> Interval:
        """Interval of the difference of two values."""
        return Interval(self.lower - other.upper, self.upper - other.lower)

    def plus(self, other: Interval) -> Interval:
        """Interval of the sum of two values."""
        return Interval(self.lower + other.lower, self.upper + other.upper)

    @property
    def middle(self) -> torch.Tensor:
        """Half way between the ends."""
        return (self.lower + self.upper) / 2

    @cached_property
    def unstable(self) -> torch.Tensor:
        """Where a ReLU has its kink inside."""
        return (self.lower < 0) & (self.upper > 0)


class ReluLines:
    """relu(z) between two lines for z in an interval. Shapes: every tensor (N, *units)."""

    def __init__(self, z: Interval) -> None:
        """Chooses the lower slope that leaves the smaller triangle."""
        width = torch.where(z.unstable, z.upper - z.lower, 1.0)
        active = (z.lower >= 0).to(width.dtype)
        self.upper_slope = torch.where(z.unstable, z.upper / width, active)
        self.upper_intercept = torch.where(z.unstable, -z.lower * z.upper / width, 0.0)
        self.lower_slope = torch.where(z.unstable, (z.upper > -z.lower).to(width.dtype), active)

    def gap(self, z: Interval) -> torch.Tensor:
        """Distance of the lines in the middle of the interval."""
        return (self.upper_slope - self.lower_slope) * z.middle + self.upper_intercept

    def pull(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients of z and a constant, from coefficients of relu(z).

        Shapes: (N or 1, R, *units) -> (N, R, *units), (N, R).
        """
        positive, negative = coefficients.clamp(min=0), coefficients.clamp(max=0)
        pulled = positive * self.lower_slope[:, None] + negative * self.upper_slope[:, None]
        return pulled, (negative * self.upper_intercept[:, None]).flatten(2).sum(2)


def difference_of_relus(d: Interval) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lines around relu(p) - relu(q) over d = p - q: lower slope and intercept, upper slope and intercept.

    The difference lies between min(d, 0) and max(d, 0), whatever p and q are.
    """
    mixed = d.unstable
    width = torch.where(mixed, d.upper - d.lower, 1.0)
    lower_slope = torch.where(mixed, -d.lower / width, (d.upper <= 0).to(width.dtype))
    upper_slope = torch.where(mixed, d.upper / width, (d.lower >= 0).to(width.dtype))
    lower_intercept = torch.where(mixed, d.lower * d.upper / width, 0.0)
    return lower_slope, lower_intercept, upper_slope, -lower_intercept


class Coupling:
    """Joint treatment of the aligned units of one layer: splits relu(z_f) - relu(z_g) off rows that hold both.

    Shapes: f, g and d hold (N, *units of g); f is already restricted to the aligned units.
    """

    def __init__(self, f: Interval, g: Interval, d: Interval) -> None:
        """Joint where the lines of the difference are closer together, in the middle, than those of both ReLUs."""
        self._lines = difference_of_relus(d)
        lower_slope, lower_intercept, upper_slope, upper_intercept = self._lines
        self.gap = gap = (upper_slope - lower_slope) * d.middle + upper_intercept - lower_intercept
        alone = ReluLines(f).gap(f) + ReluLines(g).gap(g)
        self.share = (gap < alone).to(gap.dtype)
        self.free = (gap > 0) & (alone > 0)

    def split(
        self, a: torch.Tensor, b: torch.Tensor, share: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(k, coefficients of d, constant): a relu(z_f) + b relu(z_g) with the part k (relu(z_f) - relu(z_g)) bounded.

        The caller keeps a - k and b + k for the separate relaxations. share: (N, *units of g) in [0, 1], used where
        neither of the two is exact. Shapes: a and b (N or 1, R, *units of g).
        """
        chosen = self.share if share is None else torch.where(self.free, share, self.share)
        opposite = (a * b < 0).to(a.dtype) * chosen[:, None]
        k = torch.sign(a) * torch.minimum(a.abs(), b.abs()) * opposite
        positive, negative = k.clamp(min=0), k.clamp(max=0)
        lower_slope, lower_intercept, upper_slope, upper_intercept = (line[:, None] for line in self._lines)
        of_d = positive * lower_slope + negative * upper_slope
        return k, of_d, (positive * lower_intercept + negative * upper_intercept).flatten(2).sum(2)
