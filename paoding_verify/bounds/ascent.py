"""Gradient ascent on numbers that are kept within limits: Adam, at a rate that falls.

torch has Adam too; making one loads its compiler, which takes longer than most comparisons.
Source: Kingma and Ba, arXiv 1412.6980.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["Ascent"]

_FIRST, _SECOND = 0.9, 0.999
"""How much the averages of gradients, and of their squares, keep in each step."""
_TINY = 1e-8
_LAST_RATE = 0.2
"""Part of the rate that is left after the last step."""


class Ascent:
    """Moves tensors uphill, in place."""

    def __init__(
        self, values: Sequence[torch.Tensor], *, rate: float, steps: int, most: float | Sequence[float] = torch.inf
    ) -> None:  # fmt: skip
        """values: leaves that require gradients; they stay between 0 and `most`, one number for all or for each. rate:
        length of the first step.
        """
        self._values, self._rate = list(values), rate
        self._most = [most] * len(self._values) if isinstance(most, (int, float)) else list(most)
        self._shrink = _LAST_RATE ** (1 / max(1, steps))
        self._first = [torch.zeros_like(x) for x in self._values]
        self._second = [torch.zeros_like(x) for x in self._values]
        self._taken = 0

    def step(self, objective: torch.Tensor) -> None:
        """One step that makes the number larger; values that it does not depend on stay."""
        gradients = torch.autograd.grad(objective, self._values, allow_unused=True)
        self._taken += 1
        rate = self._rate * self._shrink ** (self._taken - 1) / (1 - _FIRST**self._taken)
        with torch.no_grad():
            for x, gradient, first, second, most in zip(
                self._values, gradients, self._first, self._second, self._most, strict=True
            ):
                if gradient is not None:
                    first.lerp_(gradient, 1 - _FIRST)
                    second.lerp_(gradient * gradient, 1 - _SECOND)
                    x.addcdiv_(first, (second / (1 - _SECOND**self._taken)).sqrt() + _TINY, value=rate)
                    x.clamp_(0.0, most)
