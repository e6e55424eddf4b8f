"""One pruning from anchors to trace: to a share of units, or as far as a certified budget allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from paoding_verify.anchors import DEFAULT_DOMAIN, Domain, compensation_inputs
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.codec import from_plain, to_plain
from paoding_verify.evidence.pruning import HeldOut, PruneTrace
from paoding_verify.memo import FORGETFUL, Memo, under
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.pruning.budget import plan_removals, split_steps
from paoding_verify.pruning.groups import UnitMap
from paoding_verify.pruning.inputs import NUM_COMPENSATION, affordable, checked_inputs, joined
from paoding_verify.pruning.keeping import keep, keep_outcome
from paoding_verify.pruning.own_regions import (
    OwnRegions,
    Wanted,
    anchors_from_inputs,
    apart,
    given_regions,
    synthesised_regions,
)
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.signal import CertifiedSignal
from paoding_verify.pruning.surgery import alignment, remove_units
from paoding_verify.pruning.targets import largest_within
from paoding_verify.regions import Region
from paoding_verify.task import Progress

__all__ = ["Job", "PruneResult", "draw_inputs", "prune_to", "prune_within"]

_NUM_STEPS = 10

_AROUND_ANCHORS = (
    "The certified budget was measured at the pruner's held-out anchors: a certificate at an anchor holds in the box "
    "around that anchor only, and it was not proved a second time."
)
_SYNTHETIC = (
    "All held-out anchors are synthetic, so the budget says nothing certain about real inputs; with unlabelled inputs "
    "of your own a confidence bound can be given."
)


@dataclass(frozen=True, eq=False)
class PruneResult:
    """A smaller network and the record of how it came about."""

    network: Network
    trace: PruneTrace


@dataclass(frozen=True, eq=False)
class Job:
    """Everything about a pruning but how much is to go."""

    original: Network
    units: UnitMap
    own: OwnRegions
    inputs: Float32Array
    """(M, *input_shape) for compensation, disjoint from all anchors."""
    user: Float32Array | None
    """(N, *input_shape) those of the caller's inputs that may be fitted to; `inputs` holds them already."""
    method: Callable[[PruneProblem], PruneOutcome]
    seed: int
    progress: Progress
    exact_plan: bool
    """See `PruneProblem`, as for the rest."""
    step: float | None = None
    hard_floor: bool = False
    memo: Memo = FORGETFUL

    def problem(self, sparsity: float) -> PruneProblem:
        """The task of removing a share of the units. Raises: ConfigError if it cannot be reached."""
        counts = plan_removals(self.units, sum(self.original.num_units), sparsity)
        return PruneProblem(
            original=self.original,
            units=self.units,
            plan=tuple(split_steps(counts, _NUM_STEPS)),
            signal=self.own.signal,
            inputs=self.inputs,
            rng=np.random.default_rng(self.seed),
            progress=self.progress,
            seed=self.seed,
            domain=self.own.domain,
            user_inputs=self.user,
            selection=self.own.selection,
            acceptance=self.own.acceptance,
            exact_plan=self.exact_plan,
            target_sparsity=sparsity,
            step=self.step,
            hard_floor=self.hard_floor,
            memo=under(self.memo, f"{sparsity!r}"),
        )


def draw_inputs(
    network: Network,
    regions: Sequence[Region] | None,
    inputs: npt.ArrayLike | None,
    *,
    domain: Domain | None,
    seed: int,
    wanted: Wanted,
) -> tuple[OwnRegions, Float32Array, Float32Array | None]:
    """Anchors, inputs for compensation, and those of the caller's inputs among them; anchors are never fitted to.

    Raises: RegionError on unusable regions, InputError on unusable inputs.
    """
    user = None if inputs is None else checked_inputs(network, inputs, DEFAULT_DOMAIN if domain is None else domain)
    if regions is not None:
        own = given_regions(network, regions, domain, seed=seed, wanted=wanted)
    elif user is not None:
        own, user = anchors_from_inputs(network, user, domain, seed=seed, wanted=wanted)
    else:
        own = synthesised_regions(network, seed, domain, wanted=wanted)
    signals = (own.signal, own.selection, own.held_out, own.acceptance)
    anchors = [signal.boxes.points for signal in signals if signal is not None]
    count = affordable(network, NUM_COMPENSATION)
    synthetic = apart(compensation_inputs(network, count, seed=seed, domain=own.domain), anchors)
    if user is not None:
        user = apart(user, anchors)
        own.record["num_user_inputs"] = len(user)
    return own, joined(synthetic, user), user


def prune_to(job: Job, sparsity: float) -> PruneResult:
    """A physically smaller network without a share of the units. Raises: ConfigError if it cannot be reached."""
    problem = job.problem(sparsity)
    outcome = keep_outcome(problem.memo, "outcome", job.original, lambda: job.method(problem))
    network = remove_units(outcome.network, job.units, outcome.removed)
    trace = PruneTrace(
        method="",
        seed=job.seed,
        target_sparsity=sparsity,
        sparsity=problem.sparsity(outcome.removed),
        steps=outcome.steps,
        alignment=alignment(job.original, job.units, outcome.removed),
        anchors=job.own.record,
        candidates=outcome.candidates,
        excluded=job.units.excluded,
        distilled=outcome.distilled,
        repaired=outcome.repaired,
        stopped=outcome.stopped,
    )
    return PruneResult(replace(network, name=f"{job.original.name}-pruned"), trace)


def prune_within(job: Job, max_certified_drop: float) -> PruneResult:
    """The smallest network found whose certified accuracy on the held-out anchors drops by no more than the budget.

    Raises: ConfigError if no network that was tried stays within it.
    """
    signal = job.own.held_out
    if signal is None:
        raise ConfigError("a certified budget is measured on held-out anchors: there are none")

    def probe(sparsity: float) -> tuple[PruneResult, bool]:
        result = prune_to(job, sparsity)
        held_out = keep(
            under(job.memo, f"{sparsity!r}"), "held-out",
            lambda: _measured(signal, result.network, job.own.independent), to_plain,
            lambda record: from_plain(HeldOut, record, "kept figures of held-out anchors"),
        )  # fmt: skip
        trace = replace(result.trace, max_certified_drop=max_certified_drop, held_out=held_out)
        return replace(result, trace=trace), held_out.drop <= max_certified_drop

    best, num_looks = largest_within(probe, job.original, job.units)
    if best is None or best.trace.held_out is None:
        raise ConfigError(
            f"none of {num_looks} smaller networks kept the drop of certified accuracy on {len(signal.boxes)} held-out "
            f"anchors within {max_certified_drop}: allow a larger drop, or state a target sparsity"
        )
    warnings = (_AROUND_ANCHORS,) if job.own.independent else (_AROUND_ANCHORS, _SYNTHETIC)
    held_out = replace(best.trace.held_out, num_looks=num_looks)
    return replace(best, trace=replace(best.trace, held_out=held_out, warnings=warnings))


def _measured(signal: CertifiedSignal, pruned: Network, independent: bool) -> HeldOut:
    before, after = signal.baseline > 0, signal.margins(pruned) > 0
    return HeldOut(
        independent=independent,
        count=len(before),
        num_original=int(before.sum()),
        num_pruned=int(after.sum()),
        num_lost=int((before & ~after).sum()),
    )
