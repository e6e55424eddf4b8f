"""How many units leave which group, and when."""

from __future__ import annotations

from collections.abc import Sequence

from paoding_verify.errors import ConfigError
from paoding_verify.pruning.groups import UnitGroup, UnitMap

__all__ = ["plan_removals", "shifted_counts", "split_steps"]


def plan_removals(units: UnitMap, num_units: int, target_sparsity: float) -> tuple[int, ...]:
    """Atoms to remove from each group: every group loses nearly the same fraction, and exactly
    round(target_sparsity * num_units) units go, or the nearest number that can be made of whole atoms.

    Raises: ConfigError if the target is not in (0, 1) or cannot be reached; the message holds the reachable maximum.
    """
    if not 0.0 < target_sparsity < 1.0:
        raise ConfigError(f"the target sparsity must lie strictly between 0 and 1; got {target_sparsity}")
    if num_units == 0:
        raise ConfigError("the network has no hidden units, so there is nothing to prune")
    wanted = round(target_sparsity * num_units)
    if wanted == 0:
        raise ConfigError(f"a target sparsity of {target_sparsity} removes no unit of {num_units}; ask for more")
    reachable = units.max_removable
    if wanted > reachable:
        reasons = "; ".join(units.excluded) or "every layer keeps at least one unit"
        raise ConfigError(
            f"a target sparsity of {target_sparsity} means removing {wanted} of {num_units} units, but at most "
            f"{reachable} can go (sparsity {reachable / num_units:.4f}): {reasons}"
        )
    return _nearest_counts(units.groups, _quotas(units.groups, wanted), wanted)


def split_steps(counts: Sequence[int], num_steps: int) -> list[tuple[int, ...]]:
    """Cumulative removals after each step; the last entry is `counts`, steps in which nothing changes are left out."""
    plan = [tuple(round(n * k / num_steps) for n in counts) for k in range(1, num_steps + 1)]
    return [now for before, now in zip([tuple(0 for _ in counts), *plan], plan, strict=False) if now != before]


def shifted_counts(
    groups: Sequence[UnitGroup], done: Sequence[int], counts: Sequence[int], weights: Sequence[float]
) -> tuple[int, ...]:
    """Cumulative removals that go from `done` on with each group's fraction in proportion to its weight, and take as
    many units as `counts` does, or the nearest number that whole atoms make. Every group keeps an atom, none gets one
    back. Shapes: done, counts, weights (groups,), weights above 0.
    """
    wanted = sum(count * g.multiplicity for count, g in zip(counts, groups, strict=True))
    low, high = 0.0, 1.0 / min(weights)
    for _ in range(60):
        pace = (low + high) / 2
        quotas = [
            min(gone + pace * weight * len(g.atoms), len(g.atoms) - 1.0)
            for gone, weight, g in zip(done, weights, groups, strict=True)
        ]
        total = sum(quota * g.multiplicity for quota, g in zip(quotas, groups, strict=True))
        low, high = (pace, high) if total < wanted else (low, pace)
    return _nearest_counts(groups, quotas, wanted, done)


def _quotas(groups: Sequence[UnitGroup], wanted: int) -> list[float]:
    """Real-valued shares of atoms: one common fraction, except where it would take a group's last atom."""
    caps = [(len(g.atoms) - 1) * g.multiplicity for g in groups]
    sizes = [len(g.atoms) * g.multiplicity for g in groups]
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        total = sum(min(cap, middle * size) for cap, size in zip(caps, sizes, strict=True))
        low, high = (middle, high) if total < wanted else (low, middle)
    return [min(cap, high * size) / g.multiplicity for cap, size, g in zip(caps, sizes, groups, strict=True)]


def _nearest_counts(
    groups: Sequence[UnitGroup], quotas: Sequence[float], wanted: int, floors: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Whole numbers near the quotas, none below its floor, whose units sum to `wanted`: dynamic programming.

    With single units this is the method of the largest remainder.
    """
    reach = max(g.multiplicity for g in groups) + 1
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for group, quota, floor in zip(groups, quotas, floors or [0] * len(groups), strict=True):
        grown: dict[int, tuple[float, tuple[int, ...]]] = {}
        for count in range(max(floor, int(quota) - reach), min(len(group.atoms) - 1, int(quota) + reach) + 1):
            for total, (cost, counts) in best.items():
                key, value = total + count * group.multiplicity, (cost + (count - quota) ** 2, (*counts, count))
                if key not in grown or value < grown[key]:
                    grown[key] = value
        best = grown
    return best[min(best, key=lambda total: (abs(total - wanted), best[total]))][1]
