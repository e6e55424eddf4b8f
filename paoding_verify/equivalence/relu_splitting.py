"""Splitting of unstable ReLUs of both networks: cases of one region, each bounded by itself, until all are proved."""

from __future__ import annotations

from paoding_verify.bounds.branching import CaseOutcome, search_cases
from paoding_verify.checker.branching import root_state
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.job import PairJob, shared_time
from paoding_verify.equivalence.reproof import prove_jobs
from paoding_verify.equivalence.stages import try_witness
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.network.graph import LeakyRelu, Relu

__all__ = ["split_relus"]

_SHARE = 0.8
"""Part of a task's remaining time that the search may use."""


def split_relus(engines: PairEngines, job: PairJob) -> None:
    """Branch and bound on the ReLUs of f and g for one job; settles it if that decides it."""
    if not any(isinstance(node.op, (Relu, LeakyRelu)) for network in engines.networks for node in network.nodes):
        return
    config, region = engines.config, job.task.region
    hints = Certificate("differential", alignment=engines.alignment)
    with shared_time([job]):
        semantics = "float32" if "float32" in config.semantics else "real"
        state = root_state(engines.networks, region.lower, region.upper, job.prop, hints, semantics)
        limit_s = _SHARE * (config.timeout_s - job.spent_s)
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
        job.certificate = Certificate(
            "differential", outcome.slopes, alignment=engines.alignment, trees=outcome.trees
        )  # fmt: skip
        prove_jobs(engines, [job], "relu-splitting")
        if job.finding is None:
            job.certificate = best
