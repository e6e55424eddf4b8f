"""Lines around the rectifiers of many cases of one region at once, and the choices among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from paoding_verify.bounds.pair_relaxation import Coupling, Interval

__all__ = ["BELOW", "IDLE", "Intervals", "Lines", "Rectifier"]

BELOW = 0.1
"""What a lower line costs, in units of its distance from the rectifier, where the upper line's distance counts whole:
a lower line can be turned, on every case by the multipliers of others, an upper one only by a split."""
IDLE = 1e-9
"""Cost given to unstable units that do not matter for the bound at hand, per distance that they reach beyond zero."""


class Rectifier:
    """Lines around a rectifier, and what they cost, on each of n cases. Shapes: (n, units)."""

    def __init__(self, z: Interval, leak: float) -> None:
        """The upper line is the chord; the lower one can be turned."""
        self.leak, self.unstable = leak, z.unstable
        width = torch.where(self.unstable, z.upper - z.lower, 1.0)
        self._stable = torch.where(z.lower >= 0, 1.0, leak)
        self.upper_slope = torch.where(self.unstable, (z.upper - leak * z.lower) / width, self._stable)
        self.shift = torch.where(self.unstable, (leak - 1.0) * z.lower * z.upper / width, 0.0)
        self.adaptive = torch.where(z.upper >= -z.lower, 1.0, leak)
        self._z = z

    def lower_slope(self, slope: torch.Tensor | None) -> torch.Tensor:
        """Of the line through the origin, as wanted where there is a choice."""
        wanted = self.adaptive if slope is None else slope.clamp(self.leak, 1.0)
        return torch.where(self.unstable, wanted, self._stable)

    def cost(self, positive: torch.Tensor, negative: torch.Tensor, lower_slope: torch.Tensor) -> torch.Tensor:
        """How far the lines are away from the rectifier, weighed by what multiplies them."""
        z = self._z
        below = torch.maximum((lower_slope - self.leak) * -z.lower, (1.0 - lower_slope) * z.upper)
        cost = torch.where(self.unstable, BELOW * positive * below - negative * self.shift, 0.0)
        return cost + IDLE * torch.minimum(-z.lower, z.upper).clamp(min=0)


@dataclass(frozen=True, eq=False)
class Intervals:
    """What is known of pre-activations on each of n cases, and the lines that follow. Shapes: (n, units)."""

    rectifiers: dict[int, Rectifier]
    """By step, for those that can be split."""
    couplings: dict[int, Coupling]
    """Of twins, by step of g."""


@dataclass(frozen=True, eq=False)
class Lines:
    """Which of the valid lines are used. Shapes: (n, units), every number in [0, 1]."""

    slopes: dict[int, torch.Tensor] = field(default_factory=dict)
    """Step -> lower slopes of its unstable units."""
    shares: dict[int, torch.Tensor] = field(default_factory=dict)
    """Step of g -> how much of each pair of twin units is bounded as a difference."""

    def of(self, numbers: torch.Tensor) -> Lines:
        """The lines of some rows or cases."""
        return self.map(lambda x: x[numbers])

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Lines:
        """All tables, changed."""
        return Lines(*({k: change(x) for k, x in each.items()} for each in (self.slopes, self.shares)))

    def with_more(self, other: Lines) -> Lines:
        """These lines, then the others."""
        slopes, shares = (
            {k: torch.cat([x, theirs[k]]) for k, x in mine.items()}
            for mine, theirs in ((self.slopes, other.slopes), (self.shares, other.shares))
        )
        return Lines(slopes, shares)
