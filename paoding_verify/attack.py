"""Projected gradient descent on the margins of properties: looks for points that break a claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paoding_verify.evidence.property import padded
from paoding_verify.network.graph import Array, Float32Array, Network
from paoding_verify.network.torch_out import CanonicalModule, to_module
from paoding_verify.regions import float32_interior

__all__ = ["AttackResult", "attack"]

Clauses = Sequence[Sequence[int]]

_CHUNK = 4096
"""Points that go through the networks at a time."""
_CHUNK_NUMBERS = 1 << 25
"""Values of rows in clauses that are looked at together."""

_FIRST_STEP, _LAST_STEP = 0.5, 0.01
"""Step length in half-widths of the box, shrinking geometrically from the first step to the last."""


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The worst points found; an upper bound of each region's margin, up to float32 rounding."""

    margin: Array
    """(N,) float64 smallest margin found; at most 0: a candidate witness, still to be replayed."""
    points: Float32Array
    """(N, *input_shape) where it was found; inside the box exactly."""


def attack(  # noqa: PLR0913 - networks, box, property and effort; nothing to bundle
    networks: Sequence[Network],
    lower: Array,
    upper: Array,
    rows: Array,
    offsets: Array,
    clauses: Clauses,
    *,
    restarts: int,
    steps: int,
    seed: int,
    centre: Float32Array | None = None,
    enough: float = -np.inf,
    closed_slope: float = 0.0,
) -> AttackResult:
    """Small margins of a property over boxes, deterministic for a seed; never worse than the margin at `centre`.

    The margin is the minimum over clauses of the maximum over their rows of rows @ y + offsets, y the concatenated
    outputs of the networks. The first restart starts at the centre and descends the margin itself; the others start
    at uniform points, and every second of them descends one clause, the most promising first. It ends early once the
    margins of all boxes that are looked at together are below `enough`. With a `closed_slope`, gradients pass through
    ReLUs that are off: there lie differences of networks that have no gradient otherwise.
    Shapes: lower, upper (N, *input_shape); rows (R, outputs) or (N, R, outputs); offsets (R,) or (N, R); centre
    (N, *input_shape), inside the boxes.
    Raises: RegionError if a box holds no float32 point.
    Source: arXiv:1706.06083, with per-feature steps relative to the box.
    """
    low, high = float32_interior(lower, upper)
    if centre is None:
        centre = np.clip((lower / 2 + upper / 2).astype(np.float32), low, high)
    shape, table = (len(low), rows.shape[-2]), padded(clauses)
    search = _Search(
        [to_module(network, closed_slope=closed_slope) for network in networks],
        torch.as_tensor(np.broadcast_to(rows, (len(low), *rows.shape[-2:])).astype(np.float32)),
        torch.as_tensor(np.broadcast_to(offsets, shape).astype(np.float32)),
        torch.as_tensor(table),
    )
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand((restarts, *low.shape), generator=random).numpy()
    best, points = np.full(len(low), np.inf), np.array(centre)
    per_chunk = max(1, min(_CHUNK, _CHUNK_NUMBERS // table.size) // restarts)
    for start in range(0, len(low), per_chunk):
        part = slice(start, start + per_chunk)
        box = torch.as_tensor(low[part]), torch.as_tensor(high[part])
        starts = np.clip(low[part] + noise[:, part] * (high[part] - low[part]), low[part], high[part])
        starts[0] = centre[part]
        best[part], points[part] = search.descend(box, torch.as_tensor(starts), part, steps, enough)
    return AttackResult(best, points)


@dataclass(frozen=True, eq=False)
class _Search:
    """Networks and property of one attack, in torch."""

    modules: list[CanonicalModule]
    rows: torch.Tensor
    """(N, R, outputs)"""
    offsets: torch.Tensor
    """(N, R)"""
    clauses: torch.Tensor
    """(clauses, longest) row numbers"""

    def descend(
        self, box: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, part: slice, steps: int, enough: float
    ) -> tuple[Array, Float32Array]:
        """Best margin and point of all restarts and steps taken. Shapes: box (n, *in) each, x (restarts, n, *in)."""
        low, high = box
        half = high / 2 - low / 2
        with torch.no_grad():
            values = self.clause_values(x, part)
        focus = _focus(values[0], len(x))
        best, points = values[0].amin(dim=1), x[0].clone()
        shrink = (_LAST_STEP / _FIRST_STEP) ** (1 / max(1, steps - 1))
        for step in range(steps + 1):
            x = x.detach().requires_grad_(step < steps)
            with torch.set_grad_enabled(step < steps):
                values = self.clause_values(x, part)
                objective = _objective(values, focus)
            margin, which = values.detach().amin(dim=2).min(dim=0)
            better = margin < best
            best = torch.where(better, margin, best)
            points[better] = x.detach()[which, torch.arange(len(low))][better]
            if bool((best < enough).all()):
                break
            if step < steps:
                (gradient,) = torch.autograd.grad(objective.sum(), x)
                length = _FIRST_STEP * shrink**step
                x = torch.clamp(x.detach() - length * half * gradient.sign(), low, high)
        return best.numpy().astype(np.float64), points.numpy()

    def clause_values(self, x: torch.Tensor, part: slice) -> torch.Tensor:
        """Largest row of every clause. Shapes: x (restarts, n, *in) -> (restarts, n, clauses)."""
        flat = x.reshape(-1, *x.shape[2:])
        outputs = torch.cat([module(flat) for module in self.modules], dim=1).reshape(*x.shape[:2], -1)
        values = torch.einsum("kno,nro->knr", outputs, self.rows[part]) + self.offsets[part]
        return values[:, :, self.clauses].amax(dim=3)


def _focus(values: torch.Tensor, restarts: int) -> torch.Tensor:
    """The clause that each restart descends, -1: the smallest at each point. Shapes: (n, clauses) -> (restarts, n)."""
    order = values.argsort(dim=1)
    focus = torch.full((restarts, len(values)), -1)
    for restart in range(1, restarts, 2):
        focus[restart] = order[:, (restart // 2) % order.shape[1]]
    return focus


def _objective(values: torch.Tensor, focus: torch.Tensor) -> torch.Tensor:
    """Shapes: values (restarts, n, clauses), focus (restarts, n) -> (restarts, n)."""
    chosen = values.gather(2, focus.clamp(min=0).unsqueeze(2)).squeeze(2)
    return torch.where(focus >= 0, chosen, values.amin(dim=2))
