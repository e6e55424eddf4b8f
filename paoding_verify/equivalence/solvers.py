"""The last resort for a comparison: HiGHS, then z3, on the clauses that bounds leave open.

Either may find a point, which counts once it is replayed. That they find none is an opinion, and leaves the claim
UNKNOWN: only the checker certifies.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paoding_verify.checker.crown import lower_bounds
from paoding_verify.equivalence.encoding import encode
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.exact import MAX_UNSTABLE, decide_encoded, encodable
from paoding_verify.equivalence.exact_point import exact_outputs
from paoding_verify.equivalence.job import PairJob, shared_time
from paoding_verify.equivalence.question import Question, no_facts, question_of
from paoding_verify.equivalence.stages import try_witness
from paoding_verify.equivalence.twin_facts import known_of_pair, twin_facts
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import broken_by
from paoding_verify.network.graph import Array
from paoding_verify.regions import float32_interior

__all__ = ["ask_solvers"]

_SHARE = 0.5
"""Part of a task's remaining time that each solver may use."""
MAX_INTEGERS = 400
"""Regions with more unstable ReLUs are not asked: no solver would answer in seconds."""


def ask_solvers(engines: PairEngines, job: PairJob) -> None:
    """Settles the job if a solver finds a point that breaks its property in the shipped files; else notes its word."""
    with shared_time([job]):
        question = _open_question(engines, job) if encodable(engines.networks, job.task.region) else None
    if question is None or not question.clauses or len(question.units) > MAX_INTEGERS:
        return
    with shared_time([job]):
        answers = engines.solver.ask("milp", question, _SHARE * _left_s(engines, job))
        for flat in answers[-1].points:
            job.limit = "HiGHS finds a point that breaks it, onnxruntime on the shipped files does not bear it out"
            _try(engines, job, np.array(flat), "milp")
        job.solver_only = all(answer.status == "none" for answer in answers)
        reasons = {f"HiGHS: {answer.reason}" for answer in answers if answer.reason}
        job.limit = "; ".join(filter(None, (job.limit, *sorted(reasons))))
    if job.finding is not None or len(question.units) > MAX_UNSTABLE or _left_s(engines, job) <= 0:
        return
    with shared_time([job]):
        limit_s = _SHARE * _left_s(engines, job)
        # z3 has its own way with facts that follow from the rest: with them it took several times as long.
        bare = replace(question, facts=no_facts(len(question.variables.lower)))
        answer = decide_encoded(engines.networks, job.task.region, job.prop, bare, engines.solver, limit_s)
        if answer.status != "undecided":
            job.smt = answer.status
        if answer.point is not None:
            job.real_only = broken_by(job.prop, exact_outputs(engines.networks, answer.point))
            _try(engines, job, answer.point, "smt")


def _left_s(engines: PairEngines, job: PairJob) -> float:
    return job.left_s(engines.config)


def _open_question(engines: PairEngines, job: PairJob) -> Question | None:
    """About the clauses that the checker's bounds leave open; None: an operation has no exact encoding."""
    region, prop = job.task.region, job.prop
    bounds, twins = known_of_pair(engines.original, engines.pruned, engines.alignment, region)
    try:
        encoding = encode(engines.networks, region, bounds)
    except UnsupportedOpError:
        return None
    rows = encoding.rows(prop)
    hints = [Certificate("differential", alignment=engines.alignment)]
    box = region.lower[None], region.upper[None]
    proved = lower_bounds(engines.networks, *box, prop.rows, prop.offsets, semantics="real", hints=hints)[0]
    lower = np.maximum(proved, rows.interval(encoding.variables)[0])
    clauses = [clause for clause in prop.clauses if not (lower[list(clause)] > 0).any()]
    return question_of(encoding, region, rows, clauses, twin_facts(encoding, twins))


def _try(engines: PairEngines, job: PairJob, point: Array, method: str) -> None:
    region = job.task.region
    low, high = float32_interior(region.lower, region.upper)
    try_witness(engines, job, np.clip(point.reshape(low.shape).astype(np.float32), low, high), method)
