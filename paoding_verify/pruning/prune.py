"""Pruning: the front door."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from paoding_verify.anchors import Domain, compensation_inputs
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.network.graph import Network
from paoding_verify.network.transform import as_float32
from paoding_verify.pruning.annealing import anneal
from paoding_verify.pruning.budget import plan_removals, split_steps
from paoding_verify.pruning.data_free import srinivas_babu, srinivas_babu_projection
from paoding_verify.pruning.groups import find_units
from paoding_verify.pruning.legacy import legacy_baseline, legacy_impact, legacy_stochastic
from paoding_verify.pruning.magnitude import magnitude_l1, magnitude_l2
from paoding_verify.pruning.own_regions import given_regions, synthesised_regions
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.random_choice import random_choice
from paoding_verify.pruning.surgery import alignment, remove_units
from paoding_verify.pruning.unstructured import UNSTRUCTURED, prune_weights
from paoding_verify.regions import Region
from paoding_verify.task import Progress

__all__ = ["METHODS", "PruneResult", "prune"]

METHODS: Mapping[str, Callable[[PruneProblem], PruneOutcome]] = {
    "paoding": anneal,
    "magnitude-l1": magnitude_l1,
    "magnitude-l2": magnitude_l2,
    "srinivas-babu": srinivas_babu,
    "srinivas-babu-projection": srinivas_babu_projection,
    "random": random_choice,
    "paoding-legacy-baseline": legacy_baseline,
    "paoding-legacy-impact": legacy_impact,
    "paoding-legacy-stochastic": legacy_stochastic,
}
"""What `method` may name; each decides what to remove, and how to make up for it."""

_NUM_STEPS = 10
_NUM_INPUTS = (200, 2400)
"""Fewest and most synthetic inputs for compensation."""
_MAX_VALUES = 100_000_000
"""Floats that all values at these inputs may take: large networks get fewer inputs."""


@dataclass(frozen=True, eq=False)
class PruneResult:
    """A smaller network and the record of how it came about."""

    network: Network
    trace: PruneTrace


def prune(  # noqa: PLR0913 - the whole front door
    original: Network,
    regions: Sequence[Region] | None = None,
    *,
    target_sparsity: float = 0.5,
    method: str = "paoding",
    seed: int = 0,
    domain: Domain | None = None,
    step: float | None = None,
    hard_floor: bool = False,
    progress: Progress | None = None,
) -> PruneResult:
    """A physically smaller network with round(target_sparsity * units) fewer units, or, where units only leave
    together, the nearest number.

    `regions` steer the pruner and must not be reported by an audit; None: it makes its own from the network alone, in
    `domain` (default [0, 1], or the hull of the regions). With `hard_floor` no anchor loses its certificate: the method
    paoding then stops early rather than break one, and the trace says so. `step` is the share of each layer that the
    paoding-legacy methods remove at once; these may miss the target, as the tool did that they repeat. The same
    arguments give the same network, bit by bit, on the same machine. All parameters of the result are float32 numbers.
    Raises: ConfigError on an unknown method, on an option of another method, or on a target that cannot be reached;
    RegionError on unusable regions.
    Source: arXiv 2204.00783.
    """
    if method not in METHODS and method not in UNSTRUCTURED:
        raise ConfigError(f"unknown pruning method {method!r}; choose one of {', '.join([*METHODS, *UNSTRUCTURED])}")
    _check_options(method, step=step, hard_floor=hard_floor)
    if seed < 0:
        raise ConfigError(f"the seed must be at least 0; got {seed}")
    if method in UNSTRUCTURED:
        return PruneResult(*prune_weights(original, target_sparsity, method=method, seed=seed))
    if original.num_outputs < 2:
        raise ConfigError("pruning is steered by margins between classes: the network needs at least two outputs")
    original = as_float32(original)
    units = find_units(original)
    plan = split_steps(plan_removals(units, sum(original.num_units), target_sparsity), _NUM_STEPS)
    own = synthesised_regions(original, seed, domain) if regions is None else given_regions(original, regions, domain)
    problem = PruneProblem(
        original=original,
        units=units,
        plan=tuple(plan),
        signal=own.signal,
        inputs=compensation_inputs(original, _num_inputs(original), seed=seed, domain=own.domain),
        rng=np.random.default_rng(seed),
        progress=progress or (lambda doing, done, total: None),
        seed=seed,
        target_sparsity=target_sparsity,
        step=step,
        hard_floor=hard_floor,
    )
    outcome = METHODS[method](problem)
    trace = PruneTrace(
        method=method,
        seed=seed,
        target_sparsity=target_sparsity,
        sparsity=problem.sparsity(outcome.removed),
        steps=outcome.steps,
        alignment=alignment(original, units, outcome.removed),
        anchors=own.record,
        excluded=units.excluded,
        stopped=outcome.stopped,
    )
    network = remove_units(outcome.network, units, outcome.removed)
    return PruneResult(replace(network, name=f"{original.name}-pruned"), trace)


def _check_options(method: str, *, step: float | None, hard_floor: bool) -> None:
    if step is not None and not method.startswith("paoding-legacy-"):
        raise ConfigError(f"a step size belongs to the paoding-legacy methods, and {method} has none; leave it out")
    if step is not None and not 0.0 < step <= 1.0:
        raise ConfigError(f"the step must be a share of a layer's units, above 0 and at most 1; got {step}")
    if hard_floor and method != "paoding":
        raise ConfigError(f"the hard floor belongs to the method paoding; {method} keeps no anchor certified")


def _num_inputs(network: Network) -> int:
    per_input = sum(prod(shape) for shape in network.shapes)
    return min(max(_MAX_VALUES // per_input, _NUM_INPUTS[0]), _NUM_INPUTS[1])
