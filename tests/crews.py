"""A cascade that does what tests ask of it, wherever it is performed: fails, kills its process, takes its time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paoding_verify.crew.cascade import Stage
from paoding_verify.crew.state import JobState
from paoding_verify.evidence.claim import Claim, Finding
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.regions import Region
from paoding_verify.settled import Judge
from paoding_verify.task import SearchConfig, Task
from tests.networks import dense_net

__all__ = ["Plan", "Scripted", "ScriptedJob", "jobs_of", "task_of"]


def task_of(number: int) -> Task:
    region = Region(f"r{number}", np.zeros(2), np.ones(2), label=0, eps=0.5)
    return Task(f"t{number}", "top1_robust", "original", region, None)


@dataclass
class ScriptedJob(JobState):
    """A claim that remembers what it went through, and with whom."""

    task: Task
    prop: None = None
    seen: tuple[str, ...] = ()
    finding: Finding | None = None

    def unknown(self, bound: float | None, config: SearchConfig) -> None:
        self.settle(self.out_of_time(config))

    def settle(self, words: str) -> None:
        region = self.task.region
        claim = Claim(
            self.task.id, self.task.kind, "original", region.id, region.eps, region.label, Verdict.UNKNOWN,
            self.method, bound=None, reason=words,
        )  # fmt: skip
        self.finding = Finding(claim, None)


def jobs_of(count: int) -> list[ScriptedJob]:
    return [ScriptedJob(task_of(k)) for k in range(count)]


@dataclass(frozen=True)
class Plan:
    """What happens to which claim, by region, in the stage that each goes through by itself."""

    folder: str
    """Where deaths are counted: a file for each."""
    deaths: dict[str, int] = field(default_factory=dict)
    """How often a claim kills the process it is in; the stage of all claims together dies too if it is negative."""
    failing: tuple[str, ...] = ()
    """Claims on which the stage of all together raises."""
    fatal: type[Exception] | None = None
    pause_s: float = 0.0

    def strike(self, name: str, stage: str) -> None:
        wanted = self.deaths.get(name, 0)
        if (stage == "together") != (wanted < 0):
            return
        seen = len(list(Path(self.folder).glob(f"{name}.*")))
        if seen < abs(wanted):
            Path(self.folder, f"{name}.{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Scripted:
    """`together`, then `alone`, then `end`: the findings say what each claim went through."""

    plan: Plan
    config: SearchConfig = field(default_factory=lambda: SearchConfig(timeout_s=600))

    stages = (Stage("together", together=True), Stage("alone", together=False), Stage("end", together=True))

    @property
    def judge(self) -> Judge:
        return Judge((dense_net(0),), self.config.semantics)

    def wants(self, stage: str, job: ScriptedJob) -> bool:
        return job.finding is None

    def perform(self, stage: str, jobs: Sequence[ScriptedJob]) -> None:
        names = [job.task.region.id for job in jobs]
        for name in names:
            if stage != "end":
                self.plan.strike(name, stage)
        if stage == "together" and set(names) & set(self.plan.failing):
            raise RuntimeError(f"broken by {sorted(set(names) & set(self.plan.failing))[0]}")
        if self.plan.fatal is not None:
            raise self.plan.fatal("for the whole run")
        for job in jobs:
            if stage == "alone" and job.until_s > time.monotonic():
                time.sleep(self.plan.pause_s)
            job.seen = (*job.seen, f"{stage} {len(jobs)}")
            job.method = stage
            if stage == "end":
                job.settle(", ".join(job.seen))

    def close(self) -> None:
        pass
