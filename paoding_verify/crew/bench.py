"""Where units of work are done: in this process, or by the workers of an executor.

Workers may die. What a dead one worked on is given to another; after a second death it is tried while nothing else is
under way, so that no claim pays for another one. A third death divides a unit into its claims, and of a single claim
makes an error.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Any, Protocol

from paoding_verify.crew.worker import Done, Failed, Parcel, Wanted, own_setting, work
from paoding_verify.errors import EngineError, WorkerError
from paoding_verify.evidence.claim import Finding
from paoding_verify.settled import take_state
from paoding_verify.task import Task

__all__ = ["Bench", "Crew", "RemoteError", "Unit", "WorkerDiedError", "bench_of"]

DEATHS = 3
"""Deaths of workers after which a unit is not tried again."""
_POLL_S = 5.0
"""Seconds after which it is looked whether there are workers at all."""


class WorkerDiedError(EngineError):
    """A claim took its worker with it, three times."""


class RemoteError(EngineError):
    """An exception in a worker; its text is `TYPE: message`, as it would be here."""


@dataclass(frozen=True)
class Crew:
    """Who settles claims, until when, and what becomes of failures."""

    executor: Executor | None = None
    """Takes units of work; None: they are done in this process, one after another."""
    deadline: float = inf
    """When the budget of the run is spent (time.monotonic); what is open then becomes UNKNOWN."""
    failed: Callable[[Task, Exception], Finding] | None = None
    """Makes the finding of a claim on which an engine failed; None: the failure is raised."""


@dataclass(eq=False)
class Unit:
    """Claims that go through one stage together."""

    batch: Any
    stage: int
    jobs: list[Any]
    alone: bool = False
    """Whether nothing else may be under way beside it."""
    deaths: int = 0
    """Workers that died over it."""
    parcel: Parcel | None = field(default=None, repr=False)

    def divided(self, error: Exception) -> list[Unit]:
        """Halves; single claims after deaths of workers. None of one claim."""
        if len(self.jobs) == 1:
            return []
        if isinstance(error, WorkerDiedError):
            return [Unit(self.batch, self.stage, [job], alone=True) for job in self.jobs]
        half = len(self.jobs) // 2
        return [Unit(self.batch, self.stage, part) for part in (self.jobs[:half], self.jobs[half:])]


class Bench(Protocol):
    """Takes units and gives them back when they are done."""

    def put(self, units: Sequence[Unit]) -> None:
        """These come next, before all that wait."""

    def finished(self) -> Iterator[tuple[Unit, Exception | None]]:
        """Every unit when it is done, with what went wrong; ends when none is left."""


def bench_of(cascade: Any, crew: Crew) -> Bench:
    """The crew's place of work."""
    return _Here(cascade, crew) if crew.executor is None else _Workers(cascade, crew, crew.executor)


class _Here:
    """One unit after another, in the process that calls."""

    def __init__(self, cascade: Any, crew: Crew) -> None:
        self._cascade, self._crew = cascade, crew
        self._ready: deque[Unit] = deque()

    def put(self, units: Sequence[Unit]) -> None:
        self._ready.extendleft(reversed(units))

    def finished(self) -> Iterator[tuple[Unit, Exception | None]]:
        while self._ready:
            unit, error = self._ready.popleft(), None
            for job in unit.jobs:
                job.until_s = self._crew.deadline
            try:
                self._cascade.perform(self._cascade.stages[unit.stage].name, unit.jobs)
            except Exception as failure:  # whatever an engine raises, the caller decides
                error = failure
            yield unit, error


class _Workers:
    """The workers of an executor."""

    def __init__(self, cascade: Any, crew: Crew, executor: Executor) -> None:
        self._stages, self._deadline, self._executor = cascade.stages, crew.deadline, executor
        self._recipe = pickle.dumps(cascade)
        self._digest, self._setting = hashlib.sha256(self._recipe).hexdigest(), own_setting()
        self._ready: deque[Unit] = deque()
        self._alone: deque[Unit] = deque()
        self._running: dict[Future[Any], Unit] = {}
        self._cleanup = ExitStack()

    def put(self, units: Sequence[Unit]) -> None:
        self._ready.extendleft(reversed([unit for unit in units if not unit.alone]))
        self._alone.extend(unit for unit in units if unit.alone)

    def finished(self) -> Iterator[tuple[Unit, Exception | None]]:
        with self._cleanup:
            self._cleanup.callback(self._cancel)
            while self._ready or self._alone or self._running:
                self._fill()
                done, _ = wait(self._running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                if not done and (check := getattr(self._executor, "check", None)):
                    check()
                for future in done:
                    yield from self._outcome(self._running.pop(future), future)

    def _fill(self) -> None:
        lonely = any(unit.alone for unit in self._running.values())
        while self._ready and not lonely and len(self._running) < _width(self._executor):
            self._start(self._ready.popleft())
        if self._alone and not self._running and not self._ready:
            self._start(self._alone.popleft())

    def _start(self, unit: Unit, *, recipe: bytes | None = None) -> None:
        left_s = self._deadline - monotonic()
        name = self._stages[unit.stage].name
        parcel = Parcel(self._digest, recipe, name, tuple(unit.jobs), left_s, self._setting)
        try:
            future = self._executor.submit(work, parcel)
        except BrokenExecutor:  # a pool of the standard library is of no use after the first death
            from paoding_verify.crew.pool import LocalPool

            self._executor = self._cleanup.enter_context(LocalPool(_width(self._executor)))
            future = self._executor.submit(work, parcel)
        self._running[future] = unit

    def _outcome(self, unit: Unit, future: Future[Any]) -> Iterable[tuple[Unit, Exception | None]]:
        if future.cancelled():
            raise WorkerError("the executor dropped a piece of work: its workers cannot be reached any more")
        error = future.exception()
        if deaths := _deaths(error):
            return self._bury(unit, deaths)
        if error is not None:
            if not isinstance(error, Exception):
                raise error
            return [(unit, error)]
        outcome = future.result()
        if isinstance(outcome, Wanted):
            self._start(unit, recipe=self._recipe)
            return []
        if isinstance(outcome, Failed):
            return [(unit, RemoteError(outcome.reason))]
        assert isinstance(outcome, Done)  # noqa: S101 - `work` returns nothing else
        for job, state in zip(unit.jobs, outcome.jobs, strict=True):
            take_state(job, state)
        return [(unit, None)]

    def _bury(self, unit: Unit, deaths: int) -> Iterable[tuple[Unit, Exception | None]]:
        """Tries a unit again whose worker died, or says that it is not to be tried any more."""
        unit.deaths += deaths
        if unit.alone and unit.deaths >= DEATHS:
            return [(unit, WorkerDiedError("the process that worked on this claim died, three times"))]
        unit.alone = unit.alone or unit.deaths >= DEATHS - 1
        self.put([unit])
        return []

    def _cancel(self) -> None:
        for future in self._running:
            future.cancel()


def _width(executor: Executor) -> int:
    """Units that the executor works on at a time."""
    known = getattr(executor, "width", None) or getattr(executor, "_max_workers", None)
    return int(known or os.cpu_count() or 1)


def _deaths(error: BaseException | None) -> int:
    """How many workers died over a unit, if that is what the error says."""
    if type(error).__name__ == "KilledWorker":  # of dask.distributed, which has tried again by itself
        return 1 + int(getattr(error, "allowed_failures", DEATHS))
    return int(isinstance(error, BrokenExecutor))
