"""Input splitting of one comparison: of a yes or no, and of a bracket."""

from __future__ import annotations

import time

from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.job import PairJob, bracket_aim, shared_time
from paoding_verify.equivalence.pair_splitting import split_pair
from paoding_verify.equivalence.reproof import keep_better, prove_jobs
from paoding_verify.equivalence.stages import try_witness
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import distance_at_most

__all__ = ["refine_by_inputs", "split_inputs"]

_SHARE = 0.6
"""Part of a task's remaining time that bisections may use; the checker needs about the rest."""


def split_inputs(engines: PairEngines, job: PairJob) -> None:
    """Input splitting of one job; settles it if that decides it."""
    config, region = engines.config, job.task.region
    with shared_time([job], "input-splitting"):
        outcome = split_pair(
            engines, (region.lower, region.upper), job.prop, max_leaves=config.max_leaves,
            limit_s=_SHARE * job.left_s(config),
        )  # fmt: skip
        job.limit = outcome.limit or job.limit
        if outcome.point is not None:
            try_witness(engines, job, outcome.point, "input-splitting")
    if outcome.decided:
        best = job.certificate
        job.certificate = Certificate("differential", split=outcome.split, alignment=engines.alignment)
        prove_jobs(engines, [job])
        if job.finding is None:
            job.certificate = best


def refine_by_inputs(engines: PairEngines, job: PairJob, max_leaves: int) -> None:
    """Bisections for a bracket: hints that prove a smaller maximum of |f - g|, and points at which it is larger.

    The search aims at little more than the largest difference known, and starts again when it finds a larger one.
    """
    region, num_outputs = job.task.region, engines.original.num_outputs
    with shared_time([job], "input-splitting"):
        deadline = time.monotonic() + _SHARE * job.left_s(engines.config)
        left = max_leaves
        while left > 0 and time.monotonic() < deadline:
            aim = bracket_aim(job.attack)
            outcome = split_pair(
                engines, (region.lower, region.upper), distance_at_most(aim, num_outputs), max_leaves=left,
                limit_s=deadline - time.monotonic(),
            )  # fmt: skip
            left -= outcome.num_leaves
            job.attack = min(job.attack, outcome.attack - aim)
            if outcome.point is None:
                certificate = Certificate("differential", split=outcome.split, alignment=engines.alignment)
                keep_better(engines, job, certificate)
                return
