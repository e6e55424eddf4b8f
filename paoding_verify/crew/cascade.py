"""Takes claims through the stages of a cascade, here or by workers, with the same results.

A stage is a pure function of plain data: the cascade's networks and settings, and the claims at hand. Which claims go
through a stage together depends on the claims alone, never on who works on them or on how many do, so that results
do not either. Only the process that called writes to the memo.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from paoding_verify.crew.bench import Crew, Unit, bench_of
from paoding_verify.errors import FATAL
from paoding_verify.evidence.claim import Finding
from paoding_verify.memo import Memo
from paoding_verify.settled import Judge, recall_batch, recall_state, store_batch, store_state
from paoding_verify.task import Progress, SearchConfig, Task

__all__ = ["Cascade", "Stage", "batches_of", "run_cascade"]


class Job(Protocol):
    """A `JobState` with its question and its answer."""

    task: Task
    prop: Any
    finding: Finding | None
    spent_s: float
    method: str
    until_s: float

    def unknown(self, bound: float | None, config: SearchConfig) -> None:
        """Settles it: nothing was shown but this bound."""


_LONG_S = 2.0
"""A run that took longer may leave much behind; looking for it takes a tenth of a second."""

J = TypeVar("J", bound=Job)
J_contra = TypeVar("J_contra", bound=Job, contravariant=True)


@dataclass(frozen=True)
class Stage:
    """One step of a cascade."""

    name: str
    together: bool
    """Whether the claims of a batch go through it together, once all of them have come that far; else each by itself,
    and what it gave is kept."""
    brief: bool = False
    """Whether it takes next to no time: claims go through it even when the budget of the run is spent."""


class Cascade(Protocol[J_contra]):
    """Stages for claims of one kind. It is pickled as what it is made of; what it builds from that is built anew."""

    @property
    def stages(self) -> Sequence[Stage]:
        """In order; the last one with claims that go together leaves none without a finding."""

    @property
    def judge(self) -> Judge:
        """What decides whether a kept claim counts."""

    @property
    def config(self) -> SearchConfig:
        """Effort and limits."""

    def wants(self, stage: str, job: J_contra) -> bool:
        """Whether the claim has to go through the stage; quick, a function of the claim's state and the time left."""

    def perform(self, stage: str, jobs: Sequence[J_contra]) -> None:
        """Takes the claims through one stage. After the last one that is wanted all have findings."""

    def close(self) -> None:
        """Ends what outlives a call."""


def batches_of(jobs: Sequence[J], key: Callable[[J], Hashable], size: int) -> list[list[J]]:
    """Claims of one key in batches of at most `size`, in order of first appearance."""
    groups: dict[Hashable, list[J]] = defaultdict(list)
    for job in jobs:
        groups[key(job)].append(job)
    return [group[k : k + size] for group in groups.values() for k in range(0, len(group), size)]


def run_cascade(
    cascade: Cascade[J], batches: Sequence[list[J]], *, memo: Memo, progress: Progress | None, crew: Crew
) -> None:
    """Gives every claim its finding.

    A failure costs the claims it happens on: a batch is halved until they stand alone. Alone, a claim that fails gets
    no verdict where the crew is lenient; else the failure is raised. What time cut short is not kept in the memo.
    Raises: SoundnessError, MissingComponentError, JournalError, WorkerError, ImportError: they concern the whole run.
    """
    started = monotonic()
    with closing(cascade):
        run = _Run(cascade, memo, progress, crew, sum(map(len, batches)))
        bench = bench_of(cascade, crew)
        bench.put([unit for batch in batches for unit in run.begin(_Batch(batch))])
        for unit, error in bench.finished():
            bench.put(run.after(unit, error))
    if monotonic() - started > _LONG_S:
        gc.collect()  # engines hold themselves in circles, and may be large


@dataclass(eq=False)
class _Batch(Generic[J]):
    """Claims that wait for each other before stages that they go through together."""

    jobs: list[J]
    pending: int = 0
    """Units under way."""


@dataclass
class _Run(Generic[J]):
    """Where every batch stands."""

    cascade: Cascade[J]
    memo: Memo
    progress: Progress | None
    crew: Crew
    total: int
    reported: set[str] = field(default_factory=set)

    def begin(self, batch: _Batch[J]) -> list[Unit]:
        """The first units of a batch; none if all its findings were kept."""
        if recall_batch(self.memo, self.cascade.judge, batch.jobs):
            self._report(batch.jobs)
            return []
        return self._enter(batch, 0)

    def after(self, unit: Unit, error: Exception | None) -> list[Unit]:
        """What comes after a unit."""
        batch: _Batch[J] = unit.batch
        if error is not None and (parts := self._divided(unit, error)):
            batch.pending += len(parts) - 1
            return parts
        stage = self.cascade.stages[unit.stage]
        if not stage.together:
            (job,) = unit.jobs
            if error is None and monotonic() < self.crew.deadline:
                store_state(self.memo, stage.name, job)
            if following := self._alone(batch, job, unit.stage + 1):
                return [following]
        self._report(unit.jobs)
        batch.pending -= 1
        return [] if batch.pending else self._enter(batch, unit.stage + 1)

    def _divided(self, unit: Unit, error: Exception) -> list[Unit]:
        """The parts in which a unit that failed is tried again; none: it is one claim, which now stands without a
        verdict.
        """
        if isinstance(error, FATAL) or self.crew.failed is None:
            raise error
        error.__traceback__ = None  # its frames may hold all the memory that there is
        gc.collect()
        if parts := unit.divided(error):
            return parts
        (job,) = unit.jobs
        job.finding = self.crew.failed(job.task, error)
        return []

    def _enter(self, batch: _Batch[J], number: int) -> list[Unit]:
        """Units of the first stage from `number` on that some claim of the batch has to go through."""
        stages = self.cascade.stages
        while number < len(stages):
            if stages[number].together:
                wanted = [job for job in batch.jobs if self._wants(number, job)]
                units = [Unit(batch, number, wanted)] if wanted else []
                number += 1
            else:
                units = [unit for job in batch.jobs if (unit := self._alone(batch, job, number)) is not None]
                while number < len(stages) and not stages[number].together:
                    number += 1
            if units:
                batch.pending = len(units)
                return units
        self._report(batch.jobs)
        if monotonic() < self.crew.deadline:
            store_batch(self.memo, batch.jobs)
        return []

    def _alone(self, batch: _Batch[J], job: J, number: int) -> Unit | None:
        """The next stage from `number` on through which a claim has to go by itself, before it waits for others."""
        stages = self.cascade.stages
        while number < len(stages) and not stages[number].together:
            if self._wants(number, job) and not recall_state(self.memo, self.cascade.judge, stages[number].name, job):
                return Unit(batch, number, [job])
            number += 1
        return None

    def _wants(self, number: int, job: J) -> bool:
        stage = self.cascade.stages[number]
        late = monotonic() >= self.crew.deadline and not stage.brief
        if job.finding is None and late:
            job.until_s = self.crew.deadline
            job.unknown(None, self.cascade.config)
        failed = job.finding is not None and job.finding.claim.verdict is None
        return not (failed or late) and self.cascade.wants(stage.name, job)

    def _report(self, jobs: Sequence[J]) -> None:
        for job in jobs:
            if job.finding is not None and job.task.id not in self.reported:
                self.reported.add(job.task.id)
                if self.progress is not None:
                    self.progress(job.task.id, len(self.reported), self.total)
