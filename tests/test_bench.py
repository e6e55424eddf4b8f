"""Workers that die: their claims are given to others, and no claim pays for another one."""

from __future__ import annotations

import pickle
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from paoding_verify.auditing.settle import failed
from paoding_verify.crew.bench import Crew
from paoding_verify.crew.pool import LocalPool
from paoding_verify.errors import WorkerError
from tests.crews import Plan
from tests.test_cascade import settled


def clean(count: int, size: int) -> list[str]:
    return [f"together {size}, alone 1, end {size}"] * count


def test_a_batch_whose_worker_died_is_given_to_another(tmp_path: Path) -> None:
    with LocalPool(2) as pool:
        found = settled(Plan(str(tmp_path), deaths={"r1": 1, "r5": -1}), 8, Crew(pool, failed=failed))
    assert found == clean(8, 4)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_claim_that_kills_three_workers_is_an_error_of_its_own(tmp_path: Path) -> None:
    with LocalPool(2) as pool:
        found = settled(Plan(str(tmp_path), deaths={"r2": 99}), 4, Crew(pool, failed=failed))
    assert found[2] == "WorkerDiedError: the process that worked on this claim died, three times"
    assert [words for k, words in enumerate(found) if k != 2] == ["together 4, alone 1, end 3"] * 3
    assert len(list(tmp_path.iterdir())) == 3


def test_a_batch_that_kills_three_workers_is_divided_into_its_claims(tmp_path: Path) -> None:
    with LocalPool(2) as pool:
        found = settled(Plan(str(tmp_path), deaths={"r2": -99}), 8, Crew(pool, failed=failed))
    assert found[2].startswith("WorkerDiedError")
    assert found[0] == "together 1, alone 1, end 3"
    assert found[4:] == clean(4, 4)
    assert len(list(tmp_path.iterdir())) == 6


def test_pools_of_the_standard_library_are_replaced_when_they_break(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = settled(Plan(str(tmp_path), deaths={"r1": 1, "r6": 99}), 8, Crew(pool, failed=failed))
    assert [k for k, words in enumerate(found) if words.startswith("WorkerDiedError")] == [6]
    assert found[:4] == clean(4, 4)


class Lossy(Executor):
    """Cancels what it is given."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_an_executor_that_drops_work_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="cannot be reached"):
        settled(Plan(str(tmp_path)), 2, Crew(Lossy(), failed=failed))


def test_workers_with_other_code_or_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paoding_verify.crew.bench.own_setting", lambda: ("code 0", "python 2.7", "1 threads"))
    with LocalPool(1) as pool, pytest.raises(WorkerError, match=r"a worker differs in .*code 0.*python 2\.7"):
        settled(Plan(str(tmp_path)), 2, Crew(pool, failed=failed))


class KilledWorker(Exception):  # noqa: N818 - the name that dask.distributed gives it
    """What a dask scheduler says when it has tried again by itself."""

    allowed_failures = 3


class Scheduler(Executor):
    """Does everything at once, and loses whoever works on one claim; counts how often it was asked to."""

    def __init__(self, deadly: str) -> None:
        self.deadly, self.tries = deadly, 0

    def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        (parcel,) = args
        if parcel.stage == "together" and self.deadly in [job.task.region.id for job in parcel.jobs]:
            self.tries += 1
            future.set_exception(KilledWorker())
        else:
            future.set_result(fn(*pickle.loads(pickle.dumps(args))))  # noqa: S301 - of this test
        return future


def test_what_a_scheduler_has_given_up_is_tried_alone_and_then_an_error(tmp_path: Path) -> None:
    scheduler = Scheduler("r3")
    found = settled(Plan(str(tmp_path)), 8, Crew(scheduler, failed=failed))
    assert [k for k, words in enumerate(found) if words.startswith("WorkerDiedError")] == [3]
    assert found[4:] == clean(4, 4)
    assert scheduler.tries == 3  # the batch, the batch alone, the claim: each after four workers
