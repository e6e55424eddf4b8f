"""Targets other than a share of units: of parameters, of operations, or a certified budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from paoding_verify.errors import ConfigError
from paoding_verify.network.graph import Network
from paoding_verify.network.record import multiply_accumulates
from paoding_verify.pruning.budget import plan_removals
from paoding_verify.pruning.groups import UnitMap
from paoding_verify.pruning.surgery import remove_units

__all__ = ["NUM_PROBES", "largest_within", "share_removed", "unit_sparsity"]

T = TypeVar("T")

NUM_PROBES = 6
"""Networks that the search for a certified budget makes and measures: the sparsity is found to about 1/64."""


def unit_sparsity(original: Network, units: UnitMap, target: float, sparsity_of: str) -> float:
    """The share of units with which a share `target` of parameters or macs goes as well, or a little more.

    Raises: ConfigError if the target is not in (0, 1) or cannot be reached; the message holds the reachable maximum.
    """
    if sparsity_of == "units":
        return target
    if not 0.0 < target < 1.0:
        raise ConfigError(f"the target sparsity must lie strictly between 0 and 1; got {target}")
    num_units = sum(original.num_units)
    low, high = 0, units.max_removable
    reachable = _share(original, units, high, sparsity_of) if high else 0.0
    if reachable < target:
        raise ConfigError(
            f"a target of {target} of the {sparsity_of} cannot be reached: at most {reachable:.4f} can go while every "
            "layer keeps a unit"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _share(original, units, middle, sparsity_of) >= target else (middle, high)
    return high / num_units


def share_removed(original: Network, pruned: Network, sparsity_of: str) -> float:
    """1 - pruned / original, counted in units, parameters or macs."""
    return 1.0 - _count(pruned, sparsity_of) / _count(original, sparsity_of)


def largest_within(
    probe: Callable[[float], tuple[T, bool]], original: Network, units: UnitMap, num_probes: int = NUM_PROBES
) -> tuple[T | None, int]:
    """The result of largest sparsity that the probe found within the budget, by bisection over the share of units, and
    the number of probes made. None if no probe was within it.

    `probe(sparsity)` gives a result and whether it is within the budget. Nothing is assumed to be monotonic: a result
    that comes back was itself measured to be within the budget.
    """
    num_units, best = sum(original.num_units), None
    low, high, made = 0, units.max_removable + 1, 0
    while high - low > 1 and made < num_probes:
        middle = (low + high) // 2
        result, fits = probe(middle / num_units)
        made += 1
        if fits:
            best, low = result, middle
        else:
            high = middle
    return best, made


def _share(original: Network, units: UnitMap, wanted: int, sparsity_of: str) -> float:
    """What goes if this number of units does: only how many leave which layer matters, not which ones."""
    counts = plan_removals(units, sum(original.num_units), wanted / sum(original.num_units))
    gone = [atom for group, count in zip(units.groups, counts, strict=True) for atom in group.atoms[:count]]
    return share_removed(original, remove_units(original, units, gone), sparsity_of)


def _count(network: Network, sparsity_of: str) -> int:
    if sparsity_of == "units":
        return sum(network.num_units)
    return network.num_parameters if sparsity_of == "parameters" else multiply_accumulates(network)
