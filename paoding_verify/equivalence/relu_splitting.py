"""Splitting of unstable ReLUs of both networks: cases of one region, each bounded by itself, until all are proved."""

from __future__ import annotations

from paoding_verify.bounds.branching import CaseOutcome, search_cases
from paoding_verify.bounds.inner_lines import inner_slopes
from paoding_verify.checker.backward import State
from paoding_verify.checker.crown import enclose
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.job import AIM, PairJob, bracket_aim, shared_time
from paoding_verify.equivalence.reproof import keep_better, prove_jobs
from paoding_verify.equivalence.stages import try_witness
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate, Slopes
from paoding_verify.evidence.property import distance_at_most

__all__ = ["refine_by_relus", "split_relus"]

_SHARE, _BRACKET_SHARE = 0.8, 0.65
"""Part of a task's remaining time that the search may use; the bound of a bracket is proved two or three times."""


def split_relus(engines: PairEngines, job: PairJob) -> None:
    """Branch and bound on the ReLUs of f and g for one job; settles it if that decides it."""
    config = engines.config
    inner: Slopes = {}
    with shared_time([job], "relu-splitting"):
        limit_s = _SHARE * job.left_s(config)
        try:
            inner, state = _enclosed(engines, job)
            outcome = search_cases(
                engines.networks, state, job.prop, max_leaves=config.max_leaves, limit_s=limit_s
            )  # fmt: skip
        except UnsupportedOpError as error:
            outcome = CaseOutcome(False, limit=str(error))
        job.attack = min(job.attack, outcome.attack)
        job.limit = "; ".join(filter(None, (job.limit, outcome.limit)))
        if outcome.point is not None:
            job.limit = f"a point with margin {outcome.attack:.3g} is not reproduced by onnxruntime"
            try_witness(engines, job, outcome.point, "relu-splitting")
    if outcome.decided:
        best = job.certificate
        job.certificate = _certificate(engines, inner, outcome)
        prove_jobs(engines, [job])
        if job.finding is None:
            job.certificate = best


def refine_by_relus(engines: PairEngines, job: PairJob, max_leaves: int) -> None:
    """Cases for a bracket: hints that prove a smaller maximum of |f - g|, and points at which it is larger.

    The search aims at little more than the largest difference known, and raises its aim when it finds a larger one.
    """
    with shared_time([job], "relu-splitting"):
        limit_s = _BRACKET_SHARE * job.left_s(engines.config)
        aim = bracket_aim(job.attack)
        try:
            inner, state = _enclosed(engines, job)
            outcome = search_cases(
                engines.networks, state, distance_at_most(aim, engines.original.num_outputs),
                max_leaves=max_leaves, limit_s=limit_s, beyond=AIM,
            )  # fmt: skip
        except UnsupportedOpError:
            return
        job.attack = min(job.attack, outcome.attack - aim)
        keep_better(engines, job, _certificate(engines, inner, outcome))


def _enclosed(engines: PairEngines, job: PairJob) -> tuple[Slopes, State]:
    """Slopes that narrow the hidden units on the job's region, and what the checker knows with them."""
    region = job.task.region

    def enclosed(slopes: Slopes) -> State:
        hints = Certificate("differential", slopes, alignment=engines.alignment)
        return enclose(engines.networks, region.lower[None], region.upper[None], engines.semantics, hints=[hints])

    return inner_slopes(enclosed)


def _certificate(engines: PairEngines, inner: Slopes, outcome: CaseOutcome) -> Certificate:
    slopes = {**inner, **outcome.slopes}
    return Certificate(
        "differential", slopes, alignment=engines.alignment, shares=outcome.shares, trees=outcome.trees
    )  # fmt: skip
