"""Runs a cascade over tasks; a failing engine costs the claims it fails on, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from paoding_verify.crew.bench import RemoteError
from paoding_verify.errors import FATAL, EngineError, SoundnessError
from paoding_verify.evidence.claim import Claim, Finding
from paoding_verify.evidence.contradiction import contradictions
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.task import Task

__all__ = ["failed", "refuse_contradictions", "settle"]

_ROOM = 1e-6
"""Share of a proved margin that is not stated: far more than the last bits in which two summations differ."""

Cascade = Callable[[Sequence[Task]], Sequence[Finding]]


def settle(cascade: Cascade, tasks: Sequence[Task]) -> list[Finding]:
    """One finding per task, in order. Tasks on which the cascade itself fails are halved until the failing ones stand
    alone; those become claims without a verdict, whose reason is the error.

    The run's inputs were checked before: whatever a cascade finds wrong with them concerns the task at hand.
    Raises: what is FATAL: it concerns the whole run.
    """
    if not tasks:
        return []
    try:
        findings = list(cascade(tasks))
        _check(tasks, findings)
        return [_cautious(finding) for finding in findings]
    except FATAL:
        raise
    except Exception as error:
        if len(tasks) == 1:
            return [failed(tasks[0], error)]
    half = len(tasks) // 2
    return settle(cascade, tasks[:half]) + settle(cascade, tasks[half:])


def _check(tasks: Sequence[Task], findings: Sequence[Finding]) -> None:
    """Raises: EngineError if the findings do not answer the tasks, or a verdict lacks what it needs."""
    if [task.id for task in tasks] != [finding.claim.id for finding in findings]:
        raise EngineError("the cascade did not answer every task once and in order")
    for finding in findings:
        claim = finding.claim
        if claim.verdict is Verdict.CERTIFIED and not (claim.rechecked and finding.certificate is not None):
            raise EngineError(f"{claim.id} is CERTIFIED without a second proof")
        if (claim.verdict is Verdict.VIOLATED) != (claim.witness is not None):
            raise EngineError(f"{claim.id}: a witness belongs to VIOLATED claims and to no others")


def _cautious(finding: Finding) -> Finding:
    """The finding with its proved margin stated a little smaller, so that a checker whose linear algebra sums in
    another order proves what is stated, without any tolerance. Brackets have such room from the start.
    """
    claim = finding.claim
    bracket = claim.kind == "output_distance" and claim.delta is None
    if claim.verdict is not Verdict.CERTIFIED or bracket or claim.bound is None:
        return finding
    return replace(finding, claim=replace(claim, bound=claim.bound * (1 - _ROOM)))


def failed(task: Task, error: Exception) -> Finding:
    """A claim without a verdict, whose reason is the error: what a failing engine costs."""
    region = task.region
    reason = str(error) if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"
    claim = Claim(
        id=task.id, kind=task.kind, subject=task.subject, region=region.id, eps=region.eps, label=region.label,
        verdict=None, method="none", delta=task.delta, parameter=task.parameter, reason=reason,
    )  # fmt: skip
    return Finding(claim, None)


def refuse_contradictions(claims: Sequence[Claim]) -> None:
    """Raises: SoundnessError if two claims cannot both be true."""
    found = contradictions(claims)
    if found:
        raise SoundnessError(f"{found[0]}; one engine is wrong: please report this with the models and the region")
