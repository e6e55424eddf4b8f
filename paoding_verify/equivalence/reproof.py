"""The checker's word on comparisons: nothing is CERTIFIED without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paoding_verify.checker.prove import prove
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.job import PairJob, shared_time
from paoding_verify.errors import EngineError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import Property, distance_at_most
from paoding_verify.regions import stack_boxes

__all__ = ["keep_better", "prove_brackets", "prove_jobs"]

_ROOM = 1.0 + 1e-6
"""A bound is stated this much above what was proved, so that the proof of the statement has a positive margin."""
_ATTEMPTS = 3


def prove_jobs(engines: PairEngines, jobs: Sequence[PairJob], method: str = "", *, last: bool = False) -> None:
    """Lets the checker prove jobs that the search has proved, in every arithmetic; settles those it proves too.

    With `last` the jobs are those left over, and all are settled: as UNKNOWN, with the margin that was proved. `method`
    is what is said to have been tried; empty: the same as before.
    """
    if not jobs:
        return
    with shared_time(jobs, method):
        margins, reasons = _prove(engines, jobs, [job.prop for job in jobs])
    for job, margin, reason in zip(jobs, margins, reasons, strict=True):
        if not reason:
            job.certified(margin, engines.config.semantics)
        elif last:
            job.unknown(margin if np.isfinite(margin) else None, engines.config)
        else:
            job.refusal = reason


def prove_brackets(engines: PairEngines, jobs: Sequence[PairJob], method: str) -> None:
    """Settles brackets: max |f - g| < bound, for the smallest bound that the checker proves in every arithmetic.

    A proof of |f - g| < delta with margin m shows |f - g| <= delta - m, so if m is not small a second proof finds the
    bound.
    """
    num_outputs = engines.original.num_outputs
    deltas = {id(job): _stated(-job.estimate) if np.isfinite(job.estimate) else 1.0 for job in jobs}
    left = list(jobs)
    for attempt in range(_ATTEMPTS + 1):
        if not left:
            return
        with shared_time(left, method):
            props = [distance_at_most(deltas[id(job)], num_outputs) for job in left]
            margins, reasons = _prove(engines, left, props)
        again = []
        for job, margin, reason in zip(left, margins, reasons, strict=True):
            tight = attempt > 0 or margin <= 2 * (_ROOM - 1.0) * deltas[id(job)]
            if not reason and tight:
                job.certified(-deltas[id(job)], engines.config.semantics)
            elif not np.isfinite(margin) or attempt == _ATTEMPTS:
                job.refusal = reason
                job.unknown(None, engines.config)
            else:
                deltas[id(job)] = _stated(deltas[id(job)] - margin)
                again.append(job)
        left = again


def _stated(bound: float) -> float:
    return max(bound, 0.0) * _ROOM + 1e-300


def keep_better(engines: PairEngines, job: PairJob, certificate: Certificate) -> None:
    """Takes these hints for a bracket if the checker proves a smaller maximum with them than with those it has."""
    box = job.task.region.lower[None], job.task.region.upper[None]
    known = job.certificate or Certificate("differential", alignment=engines.alignment)
    margins = []
    for each in (known, certificate):
        (proof,) = prove(engines.networks, *box, [job.prop], [each], semantics=engines.semantics)
        if proof.damaged:
            raise EngineError(f"{job.task.id}: the search made a certificate that is {proof.reason}")
        margins.append(-np.inf if proof.margin is None else proof.margin)
    if margins[1] > margins[0]:
        job.certificate, job.estimate = certificate, margins[1]


def _prove(engines: PairEngines, jobs: Sequence[PairJob], props: Sequence[Property]) -> tuple[list[float], list[str]]:
    """Smallest margin over all arithmetics, and why it is no proof (empty: it is one)."""
    margins, reasons = [-np.inf] * len(jobs), [""] * len(jobs)
    lower, upper = stack_boxes([job.task.region for job in jobs])
    for job in jobs:  # what is proved below is recorded with these hints
        job.certificate = job.certificate or Certificate("differential", alignment=engines.alignment)
    certificates = [job.certificate for job in jobs if job.certificate]
    proofs = prove(engines.networks, lower, upper, props, certificates, semantics=engines.semantics)
    for k, proof in enumerate(proofs):
        if proof.damaged:
            raise EngineError(f"{jobs[k].task.id}: the search made a certificate that is {proof.reason}")
        margins[k] = -np.inf if proof.margin is None else proof.margin
        reasons[k] = "" if proof.proved else f"{engines.semantics}: {proof.reason}"
    return margins, reasons
