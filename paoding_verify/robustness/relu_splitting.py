"""Splitting of unstable ReLUs: cases of one region, each bounded by itself, until all are proved."""

from __future__ import annotations

from paoding_verify.bounds.branching import CaseOutcome, search_cases
from paoding_verify.checker.crown import enclose
from paoding_verify.checker.intervals import hardest
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate, Slopes
from paoding_verify.robustness.job import Job, shared_time
from paoding_verify.robustness.stages import Engines, prove_jobs, try_witness

__all__ = ["split_relus"]


def split_relus(engines: Engines, job: Job) -> None:
    """Branch and bound on ReLUs for one job; settles it if that decides it."""
    with shared_time([job], "relu-splitting"):
        outcome = _search(engines, job)
        job.attack = min(job.attack, outcome.attack)
        job.limit = "; ".join(filter(None, (job.limit, outcome.limit)))
        if outcome.point is not None:
            try_witness(engines, job, outcome.point, "relu-splitting")
            job.limit = f"a point with margin {outcome.attack:.3g} is not reproduced by onnxruntime"
    if outcome.decided:
        best = job.certificate
        job.certificate = Certificate("crown", {**_inner_slopes(engines, best), **outcome.slopes}, trees=outcome.trees)
        prove_jobs(engines, [job])
        if job.finding is None:
            job.certificate = best


def _search(engines: Engines, job: Job) -> CaseOutcome:
    """Cases over the bounds that the checker has on the region, in the arithmetic that is hardest to prove."""
    config, region = engines.config, job.task.region
    semantics = hardest(config.semantics)
    hints, networks = Certificate("crown", _inner_slopes(engines, job.certificate)), [engines.network]
    box = region.lower[None], region.upper[None]
    state = enclose(networks, *box, semantics, hints=[hints], num_rows=len(job.prop.rows))
    limit_s = job.left_s(config)
    try:
        return search_cases(networks, state, job.prop, max_leaves=config.max_leaves, limit_s=limit_s)
    except UnsupportedOpError as error:
        return CaseOutcome(False, limit=str(error))


def _inner_slopes(engines: Engines, certificate: Certificate) -> Slopes:
    """The slopes behind the bounds of units; those of the property's rows are found anew."""
    end = len(engines.network.nodes)
    return {key: table for key, table in certificate.slopes.items() if key[0] < end}
