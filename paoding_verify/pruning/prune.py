"""Pruning: the front door."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy.typing as npt

from paoding_verify.anchors import Domain
from paoding_verify.errors import ConfigError
from paoding_verify.memo import FORGETFUL, Memo
from paoding_verify.network.graph import Network
from paoding_verify.network.transform import as_float32
from paoding_verify.pruning.annealing import anneal
from paoding_verify.pruning.budget import plan_removals
from paoding_verify.pruning.data_free import srinivas_babu, srinivas_babu_projection
from paoding_verify.pruning.finish import distilled
from paoding_verify.pruning.groups import UnitMap, find_units
from paoding_verify.pruning.job import Job, PruneResult, draw_inputs, prune_to, prune_within
from paoding_verify.pruning.keeping import keep_outcome
from paoding_verify.pruning.legacy import legacy_baseline, legacy_impact, legacy_stochastic
from paoding_verify.pruning.magnitude import magnitude_l1, magnitude_l2
from paoding_verify.pruning.obs import obs
from paoding_verify.pruning.options import PruneOptions
from paoding_verify.pruning.own_regions import Wanted
from paoding_verify.pruning.portfolio import portfolio
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.random_choice import random_choice
from paoding_verify.pruning.repair import repaired
from paoding_verify.pruning.targets import unit_sparsity
from paoding_verify.pruning.unstructured import UNSTRUCTURED, prune_weights
from paoding_verify.regions import Region
from paoding_verify.task import Progress

__all__ = ["METHODS", "PruneResult", "prune"]

METHODS: Mapping[str, Callable[[PruneProblem], PruneOutcome]] = {
    "portfolio": portfolio,
    "paoding": anneal,
    "obs": obs,
    "magnitude-l1": magnitude_l1,
    "magnitude-l2": magnitude_l2,
    "srinivas-babu": srinivas_babu,
    "srinivas-babu-projection": srinivas_babu_projection,
    "random": random_choice,
    "paoding-legacy-baseline": legacy_baseline,
    "paoding-legacy-impact": legacy_impact,
    "paoding-legacy-stochastic": legacy_stochastic,
}
"""What `method` may name besides the `UNSTRUCTURED` methods; each decides what to remove, and how to make up for it."""

_DISTILLED = ("obs",)
"""Methods that end with training on synthetic inputs; a portfolio does so by itself."""
_KEEP_PLAN = ("portfolio", "magnitude-l1", "magnitude-l2", "srinivas-babu", "srinivas-babu-projection", "random")
"""Methods that take from every layer what the plan says (a portfolio then leaves out members that do not)."""
_BUDGET_SHARE = 3
"""Under a certified budget several networks are made, each with this part of the effort."""


def prune(  # noqa: PLR0913 - the whole front door
    original: Network,
    regions: Sequence[Region] | None = None,
    *,
    target_sparsity: float = 0.5,
    method: str = "portfolio",
    seed: int = 0,
    domain: Domain | None = None,
    inputs: npt.ArrayLike | None = None,
    distil: bool = True,
    step: float | None = None,
    hard_floor: bool = False,
    options: PruneOptions | None = None,
    memo: Memo | None = None,
    progress: Progress | None = None,
) -> PruneResult:
    """A physically smaller network with round(target_sparsity * units) fewer units, or, where units only leave
    together, the nearest number; `options` can set the target in other terms.

    `regions` steer the pruner and must not be reported by an audit; None: it makes its own around `inputs` or from
    the network alone, in `domain` (default [0, 1], or the hull of the regions). `inputs` (N, *input_shape) are
    unlabelled inputs from which compensation and distillation learn, besides synthetic ones; they must not be reported
    either. With `distil`, the methods portfolio and obs end with a distillation; the others never do. With `hard_floor`
    no anchor loses its certificate: the method paoding then stops early rather than break one, and the trace says so.
    `step` is the share of each layer that the paoding-legacy methods remove at once; these may miss the target, as the
    tool did that they repeat. The same arguments give the same network, bit by bit, on the same machine. All parameters
    of the result are float32 numbers. What `memo` kept of the same call is taken from it, and the result is the same
    but for `elapsed_s` in the trace. The methods lwm and lwm-layer remove no unit: they set the smallest weights to
    zero, round(target_sparsity * parameters) of them.
    Raises: ConfigError on an unknown method, on an option of another method, or on a target that cannot be reached;
    RegionError on unusable regions; InputError on unusable inputs.
    Source: arXiv 2204.00783.
    """
    options = options or PruneOptions()
    _check_options(method, options, step=step, hard_floor=hard_floor)
    if seed < 0:
        raise ConfigError(f"the seed must be at least 0; got {seed}")
    if method in UNSTRUCTURED:
        if inputs is not None:
            raise ConfigError(f"{method} looks at weights alone and learns from no inputs; leave them out")
        return PruneResult(*prune_weights(original, target_sparsity, method=method, seed=seed))
    if original.num_outputs < 2:
        raise ConfigError("pruning is steered by margins between classes: the network needs at least two outputs")
    original = as_float32(original)
    units = find_units(original)
    sparsity = _share_of_units(original, units, target_sparsity, options)
    wanted = Wanted(
        selection=method == "portfolio", held_out=options.max_certified_drop is not None, acceptance=options.repair,
        eps=options.eps,
    )  # fmt: skip
    own, synthetic, user = draw_inputs(original, regions, inputs, domain=domain, seed=seed, wanted=wanted)
    job = Job(
        original=original, units=units, own=own, inputs=synthetic, user=user,
        method=_mended(_method(method, options, distil=distil), options), seed=seed,
        progress=progress or (lambda doing, done, total: None), exact_plan=options.sparsity_of != "units",
        step=step, hard_floor=hard_floor, memo=memo or FORGETFUL,
    )  # fmt: skip
    if sparsity is not None:
        result = prune_to(job, sparsity)
    else:
        result = prune_within(job, options.max_certified_drop or 0.0)
        target_sparsity = result.trace.sparsity
    trace = replace(result.trace, method=method, target_sparsity=target_sparsity, sparsity_of=options.sparsity_of)
    return replace(result, trace=trace)


def _share_of_units(original: Network, units: UnitMap, target: float, options: PruneOptions) -> float | None:
    """What has to go; None: as much as a certified budget allows. Raises: ConfigError before the long work begins."""
    if options.max_certified_drop is not None:
        plan_removals(units, sum(original.num_units), 0.5 / max(1, sum(original.num_units)) + 1e-9)
        return None
    sparsity = unit_sparsity(original, units, target, options.sparsity_of)
    plan_removals(units, sum(original.num_units), sparsity)
    return sparsity


def _check_options(method: str, options: PruneOptions, *, step: float | None, hard_floor: bool) -> None:
    """Raises: ConfigError on an unknown method, or on an option that it does not have."""
    if method not in METHODS and method not in UNSTRUCTURED:
        raise ConfigError(f"unknown pruning method {method!r}; choose one of {', '.join([*METHODS, *UNSTRUCTURED])}")
    if step is not None and not method.startswith("paoding-legacy-"):
        raise ConfigError(f"a step size belongs to the paoding-legacy methods, and {method} has none; leave it out")
    if step is not None and not 0.0 < step <= 1.0:
        raise ConfigError(f"the step must be a share of a layer's units, above 0 and at most 1; got {step}")
    if hard_floor and method != "paoding":
        raise ConfigError(f"the hard floor belongs to the method paoding; {method} keeps no anchor certified")
    if method in UNSTRUCTURED:
        structured = (options.max_certified_drop, options.eps) != (None, None) or options.repair
        if structured or options.sparsity_of == "macs":
            raise ConfigError(
                f"{method} sets a share of the parameters to zero and measures nothing: a certified budget, a radius, "
                "a repair and a target of macs are for other methods"
            )
    elif options.sparsity_of != "units" and method not in _KEEP_PLAN:
        raise ConfigError(
            f"{method} shifts removals between layers, so that it cannot hit a target of {options.sparsity_of}; choose "
            f"one of {', '.join(_KEEP_PLAN)}"
        )


def _method(name: str, options: PruneOptions, *, distil: bool) -> Callable[[PruneProblem], PruneOutcome]:
    """The method with its settings, and with the training that follows it."""
    if name == "portfolio":
        config = options.portfolio
        if not distil:
            config = replace(config, num_distilled=0)
        if options.max_certified_drop is not None:
            config = replace(config, effort_macs=config.effort_macs / _BUDGET_SHARE)
        return lambda problem: portfolio(problem, config)
    plain = METHODS[name]
    if distil and name in _DISTILLED:
        return lambda problem: distilled(
            problem, keep_outcome(problem.memo, name, problem.original, partial(plain, problem))
        )
    return plain


def _mended(
    method: Callable[[PruneProblem], PruneOutcome], options: PruneOptions
) -> Callable[[PruneProblem], PruneOutcome]:
    """The method followed by a repair, if one is wanted."""
    if not options.repair:
        return method
    return lambda problem: repaired(
        problem, keep_outcome(problem.memo, "before repair", problem.original, partial(method, problem))
    )
