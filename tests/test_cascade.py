"""Claims go through stages together and alone, are kept, and failures cost the claims they happen on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from paoding_verify.auditing.settle import failed
from paoding_verify.crew.bench import Crew
from paoding_verify.crew.cascade import batches_of, run_cascade
from paoding_verify.errors import MissingComponentError, SoundnessError
from paoding_verify.memo import FORGETFUL
from tests.crews import Plan, Scripted, ScriptedJob, jobs_of
from tests.test_memo import Notes


def settled(plan: Plan, count: int, crew: Crew, size: int = 4, memo: object = FORGETFUL) -> list[str]:
    jobs = jobs_of(count)
    batches = batches_of(jobs, lambda job: 0, size)
    run_cascade(Scripted(plan), batches, memo=memo, progress=None, crew=crew)  # type: ignore[arg-type]
    return reasons(jobs)


def reasons(jobs: list[ScriptedJob]) -> list[str]:
    return [job.finding.claim.reason for job in jobs if job.finding is not None]


def test_batches_keep_claims_of_one_form_together_in_order() -> None:
    jobs = jobs_of(7)
    found = batches_of(jobs, lambda job: int(job.task.id[1:]) % 2, 3)
    assert [[job.task.id for job in batch] for batch in found] == [["t0", "t2", "t4"], ["t6"], ["t1", "t3", "t5"]]


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(1), ThreadPoolExecutor(3)])
def test_stages_are_the_same_whoever_does_the_work(tmp_path: Path, executor: ThreadPoolExecutor | None) -> None:
    found = settled(Plan(str(tmp_path)), 6, Crew(executor))
    assert found == ["together 4, alone 1, end 4"] * 4 + ["together 2, alone 1, end 2"] * 2


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(2)])
def test_a_failure_costs_only_its_claims(tmp_path: Path, executor: ThreadPoolExecutor | None) -> None:
    found = settled(Plan(str(tmp_path), failing=("r2", "r5")), 8, Crew(executor, failed=failed), size=8)
    assert [k for k, words in enumerate(found) if words.startswith("RuntimeError")] == [2, 5]
    assert found[2] == "RuntimeError: broken by r2"
    assert found[0] == "together 2, alone 1, end 6"


def test_without_a_word_on_failures_they_are_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken by r1"):
        settled(Plan(str(tmp_path), failing=("r1",)), 2, Crew())


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(2)])
@pytest.mark.parametrize("fatal", [SoundnessError, MissingComponentError, ImportError])
def test_what_concerns_the_whole_run_is_raised(
    tmp_path: Path, executor: ThreadPoolExecutor | None, fatal: type[Exception]
) -> None:
    with pytest.raises(fatal, match="for the whole run"):
        settled(Plan(str(tmp_path), fatal=fatal), 3, Crew(executor, failed=failed))


def test_interruptions_are_no_failures(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        settled(Plan(str(tmp_path), fatal=KeyboardInterrupt), 3, Crew(failed=failed))  # type: ignore[arg-type]


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(2)])
def test_a_spent_budget_leaves_claims_open_and_is_not_kept(tmp_path: Path, executor: ThreadPoolExecutor | None) -> None:
    notes, start = Notes(), time.monotonic()
    crew = Crew(executor, deadline=start + 0.5)
    found = settled(Plan(str(tmp_path), pause_s=0.05), 60, crew, size=60, memo=notes)
    assert time.monotonic() - start < 2.0  # all would take 3; `test_limits` measures how well a budget is kept
    assert found.count("the budget of the run is spent") == 60
    assert 1 <= len(notes.records) < 60
    assert not [key for key in notes.records if key.startswith("claims ")]
    again = settled(Plan(str(tmp_path)), 60, Crew(), size=60, memo=notes)
    assert again == ["together 60, alone 1, end 60"] * 60


def test_claims_are_reported_once_each(tmp_path: Path) -> None:
    seen, jobs = [], jobs_of(5)
    run_cascade(
        Scripted(Plan(str(tmp_path))), batches_of(jobs, lambda job: 0, 2), memo=FORGETFUL,
        progress=lambda *step: seen.append(step), crew=Crew(),
    )  # fmt: skip
    assert seen == [(f"t{k}", k + 1, 5) for k in range(5)]
