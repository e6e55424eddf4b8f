"""Running cascades: failures stay where they happen, contradictions do not pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.auditing.settle import refuse_contradictions, settle
from paoding_verify.auditing.tasks import robustness_tasks
from paoding_verify.errors import EngineError, MissingComponentError, SoundnessError, UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim, Finding, Witness
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.regions import Region
from paoding_verify.task import Task


def tasks(count: int) -> list[Task]:
    regions = [Region(f"r{k}", np.zeros(2), np.ones(2), label=0, eps=0.5) for k in range(count)]
    return robustness_tasks("original", 3, regions)


def claim(task: Task, verdict: Verdict | None = Verdict.UNKNOWN, **changes: object) -> Claim:
    base = {
        "id": task.id, "kind": task.kind, "subject": task.subject, "region": task.region.id, "eps": task.region.eps,
        "label": 0, "verdict": verdict, "method": "test", "rechecked": verdict is not None,
    }  # fmt: skip
    return Claim(**{**base, **changes})  # type: ignore[arg-type]


def unknown(some: Sequence[Task]) -> list[Finding]:
    return [Finding(claim(task), None) for task in some]


def test_findings_come_back_in_order() -> None:
    wanted = tasks(5)
    assert [f.claim.id for f in settle(unknown, wanted)] == [t.id for t in wanted]
    assert settle(unknown, []) == []


def test_a_failing_engine_costs_only_the_claims_it_fails_on() -> None:
    def cascade(some: Sequence[Task]) -> list[Finding]:
        if any(task.region.id in {"r2", "r6"} for task in some):
            raise RuntimeError("the engine broke")
        return unknown(some)

    findings = settle(cascade, tasks(9))
    failed = {f.claim.region: f.claim.reason for f in findings if f.claim.verdict is None}
    assert failed == {"r2": "RuntimeError: the engine broke", "r6": "RuntimeError: the engine broke"}
    assert len(findings) == 9


@pytest.mark.parametrize("error", [SoundnessError("contradiction"), MissingComponentError("no engine")])
def test_errors_about_the_whole_run_are_raised(error: Exception) -> None:
    def cascade(some: Sequence[Task]) -> list[Finding]:
        raise error

    with pytest.raises(type(error)):
        settle(cascade, tasks(2))


def test_an_operation_that_an_engine_does_not_know_costs_the_claims_not_the_run() -> None:
    def cascade(some: Sequence[Task]) -> list[Finding]:
        raise UnsupportedOpError("no bounds for this")

    assert [f.claim.reason for f in settle(cascade, tasks(1))] == ["UnsupportedOpError: no bounds for this"]


def test_interruption_is_no_engine_error() -> None:
    def cascade(some: Sequence[Task]) -> list[Finding]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settle(cascade, tasks(2))


@pytest.mark.parametrize(
    "finding",
    [
        lambda task: Finding(claim(task, Verdict.CERTIFIED), None),
        lambda task: Finding(claim(task, Verdict.CERTIFIED, rechecked=False), Certificate("crown")),
        lambda task: Finding(claim(task, Verdict.VIOLATED), None),
        lambda task: Finding(claim(task, Verdict.UNKNOWN, witness=Witness((0.0,), (1.0,), None)), None),
        lambda task: Finding(claim(task, id="another"), None),
    ],
)
def test_a_verdict_without_its_evidence_becomes_an_error(finding: object) -> None:
    (found,) = settle(lambda some: [finding(task) for task in some], tasks(1))  # type: ignore[operator]
    assert found.claim.verdict is None
    assert found.claim.reason.startswith(EngineError.__name__)


def test_two_proofs_and_a_witness_against_them_are_a_soundness_error() -> None:
    (task,) = tasks(1)
    proved = {"semantics": ("real", "float32"), "bound": 1.0}
    proofs = [claim(task, Verdict.CERTIFIED, subject=subject, **proved) for subject in ("original", "pruned")]
    witness = Witness((0.0, 0.0), (2.0, 1.0, 0.0), (1.0, 2.0, 0.0))
    refuted = claim(task, Verdict.VIOLATED, subject="pair", kind="top1_equivalent", witness=witness)
    refuse_contradictions([*proofs, claim(task, Verdict.UNKNOWN, subject="pair", kind="top1_equivalent")])
    refuse_contradictions([proofs[0], refuted])
    with pytest.raises(SoundnessError, match="r0"):
        refuse_contradictions([*proofs, refuted])


def test_proved_margins_are_stated_with_room_for_another_order_of_summation() -> None:
    def proofs(some: Sequence[Task]) -> list[Finding]:
        proved = [claim(task, Verdict.CERTIFIED, bound=1.0) for task in some]
        bracket = replace(proved[1], kind="output_distance")
        return [Finding(c, Certificate("crown")) for c in (proved[0], bracket)]

    stated = [finding.claim.bound for finding in settle(proofs, tasks(2))]
    assert stated == [pytest.approx(1 - 1e-6, abs=1e-12), 1.0]
