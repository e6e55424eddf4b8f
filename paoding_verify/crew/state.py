"""What every claim on its way through a cascade knows: the time that it took, and the last method that was tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from time import monotonic

from paoding_verify.task import SearchConfig

__all__ = ["JobState", "shared_time"]

BUDGET_SPENT = "the budget of the run is spent"


@dataclass(kw_only=True)
class JobState:
    """Mutable; each kind of claim adds its question, what is known of it, and its finding."""

    spent_s: float = 0.0
    """This claim's share of the time of every batch it was part of."""
    method: str = "none"
    """The last method that was tried."""
    until_s: float = inf
    """When the budget of the run is spent, by this process's clock (time.monotonic)."""

    def left_s(self, config: SearchConfig) -> float:
        """Seconds that may still be spent on it."""
        return min(config.timeout_s - self.spent_s, self.until_s - monotonic())

    def out_of_time(self, config: SearchConfig) -> str:
        """Which limit was reached; empty: none."""
        if self.spent_s >= config.timeout_s:
            return f"time limit of {config.timeout_s:g} s reached"
        return BUDGET_SPENT if monotonic() >= self.until_s else ""


@contextmanager
def shared_time(jobs: Sequence[JobState], method: str = "") -> Iterator[None]:
    """Adds the time spent inside to the jobs, in equal shares; `method` is what is tried, empty: the same as before."""
    for job in jobs:
        job.method = method or job.method
    start = monotonic()
    yield
    for job in jobs:
        job.spent_s += (monotonic() - start) / len(jobs)
