"""Runs a cascade over tasks; a failing engine costs the claims it fails on, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paoding_verify.errors import EngineError, MissingComponentError, SoundnessError
from paoding_verify.evidence.claim import Claim, Finding
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.task import Task

__all__ = ["refuse_contradictions", "settle"]

Cascade = Callable[[Sequence[Task]], Sequence[Finding]]


def settle(cascade: Cascade, tasks: Sequence[Task]) -> list[Finding]:
    """One finding per task, in order. A batch in which an engine fails is halved until the failing tasks stand alone;
    those become claims without a verdict, whose reason is the error.

    The run's inputs were checked before: whatever a cascade finds wrong with them concerns the task at hand.
    Raises: MissingComponentError, SoundnessError, ImportError: they concern the whole run.
    """
    if not tasks:
        return []
    try:
        findings = list(cascade(tasks))
        _check(tasks, findings)
        return findings
    except (MissingComponentError, SoundnessError, ImportError):
        raise
    except Exception as error:
        if len(tasks) == 1:
            return [_failed(tasks[0], error)]
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


def _failed(task: Task, error: Exception) -> Finding:
    region = task.region
    reason = f"{type(error).__name__}: {error}"
    claim = Claim(
        id=task.id, kind=task.kind, subject=task.subject, region=region.id, eps=region.eps, label=region.label,
        verdict=None, method="none", delta=task.delta, reason=reason,
    )  # fmt: skip
    return Finding(claim, None)


def refuse_contradictions(claims: Sequence[Claim]) -> None:
    """Raises: SoundnessError if two networks are proved robust for one label on a region where a witness says that
    their top classes differ.
    """
    certified: dict[str, set[str]] = {}
    for claim in claims:
        if claim.kind == "top1_robust" and claim.verdict is Verdict.CERTIFIED:
            certified.setdefault(claim.region, set()).add(claim.subject)
    for claim in claims:
        both = {"original", "pruned"} <= certified.get(claim.region, set())
        if both and claim.kind == "top1_equivalent" and claim.verdict is Verdict.VIOLATED:
            raise SoundnessError(
                f"region {claim.region}: both networks are proved to keep the label, yet a witness makes them differ; "
                "one engine is wrong: please report this with the models and the region"
            )
