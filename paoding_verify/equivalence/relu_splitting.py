"""Splitting of unstable ReLUs of both networks: cases of one region, each bounded by itself, until all are proved."""

from __future__ import annotations

import time

from paoding_verify.bounds.branching import CaseOutcome, search_cases
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.job import PairJob, bracket_aim, shared_time
from paoding_verify.equivalence.reproof import keep_better, prove_jobs
from paoding_verify.equivalence.stages import try_witness
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import distance_at_most

__all__ = ["refine_by_relus", "split_relus"]

_SHARE = 0.8
"""Part of a task's remaining time that the search may use."""


def split_relus(engines: PairEngines, job: PairJob) -> None:
    """Branch and bound on the ReLUs of f and g for one job; settles it if that decides it."""
    config, region = engines.config, job.task.region
    with shared_time([job], "relu-splitting"):
        state = engines.enclosed(region.lower[None], region.upper[None])
        limit_s = _SHARE * job.left_s(config)
        try:
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
        job.certificate = _certificate(engines, outcome)
        prove_jobs(engines, [job])
        if job.finding is None:
            job.certificate = best


def refine_by_relus(engines: PairEngines, job: PairJob, max_leaves: int) -> None:
    """Cases for a bracket: hints that prove a smaller maximum of |f - g|, and points at which it is larger.

    The search aims at little more than the largest difference known, and starts again when it finds a larger one.
    """
    region, num_outputs = job.task.region, engines.original.num_outputs
    with shared_time([job], "relu-splitting"):
        deadline = time.monotonic() + _SHARE * job.left_s(engines.config)
        state = engines.enclosed(region.lower[None], region.upper[None])
        left, outcome = max_leaves, CaseOutcome(False)
        while left > 0 and time.monotonic() < deadline:
            aim = bracket_aim(job.attack)
            try:
                outcome = search_cases(
                    engines.networks, state, distance_at_most(aim, num_outputs),
                    max_leaves=left, limit_s=deadline - time.monotonic(),
                )  # fmt: skip
            except UnsupportedOpError:
                return
            left -= outcome.num_leaves
            job.attack = min(job.attack, outcome.attack - aim)
            if outcome.point is None:
                keep_better(engines, job, _certificate(engines, outcome))
                return


def _certificate(engines: PairEngines, outcome: CaseOutcome) -> Certificate:
    return Certificate(
        "differential", outcome.slopes, alignment=engines.alignment, shares=outcome.shares, trees=outcome.trees
    )  # fmt: skip
