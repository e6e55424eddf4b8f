"""One comparison on its way through the cascade: what is known so far, and the finding it ends in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from paoding_verify.errors import ConfigError, SoundnessError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim, Finding, Witness
from paoding_verify.evidence.property import Property, decides_like, distance_at_most
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.task import Task

__all__ = ["PairJob", "open_job", "shared_time"]


@dataclass
class PairJob:
    """Mutable state of one task; `finding` is set exactly when it is settled."""

    task: Task
    prop: Property
    """The task's property; for a bracket |f - g| < 0, whose margin is -max |f - g|."""
    bracket: bool
    """Whether the task asks for bounds of max |f - g| instead of a yes or no."""
    spent_s: float = 0.0
    """This task's share of the time of every batch it was part of."""
    label: int | None = None
    """The class that both networks give the centre; None: they differ, or a tie."""
    margin: float = np.nan
    """At the centre of the region."""
    attack: float = np.inf
    """Smallest margin found."""
    estimate: float = -np.inf
    """Best lower bound of the search; not proved."""
    certificate: Certificate | None = None
    """Hints that go with `estimate`."""
    refusal: str = ""
    """What the checker said when it refused."""
    limit: str = ""
    """Why the last stage gave up."""
    smt: str | None = None
    """What z3 said."""
    solver_only: bool = False
    """Whether HiGHS found no point that breaks the property."""
    finding: Finding | None = None

    def certified(self, method: str, bound: float, semantics: tuple[str, ...]) -> None:
        """Settles the task: the checker proved it in every one of `semantics`, with margin `bound`.

        For a bracket, max |f - g| < -bound is what was proved.
        Raises: SoundnessError if a point is known that a proof for float32 programs excludes.
        """
        if "float32" in semantics and self.attack <= (bound if self.bracket else 0.0):
            raise SoundnessError(
                f"{self.task.id}: proved for every float32 program (margin at least {bound:.6g}), yet the attack found "
                f"a point of the region with margin {self.attack:.6g}; please report the models"
            )
        claim = self._claim(Verdict.CERTIFIED, method, bound, semantics=semantics, rechecked=True)
        self.finding = Finding(claim, self.certificate)

    def violated(self, method: str, witness: Witness) -> None:
        """Settles the task with a replayed witness."""
        self.finding = Finding(self._claim(Verdict.VIOLATED, method, None, witness=witness, rechecked=True), None)

    def unknown(self, method: str, bound: float | None, timeout_s: float) -> None:
        """Settles the task: nothing was shown. `bound` is the margin that the checker proved."""
        if self.smt == "confirmed":
            why = "solver-only: z3 proves it, the checker cannot re-prove it"
        elif self.solver_only:
            why = "solver-only: HiGHS finds no counterexample, and nothing was found that the checker can prove"
        elif self.refusal:
            why = f"not re-proved by the checker ({self.refusal})"
        elif self.spent_s >= timeout_s:
            why = f"time limit of {timeout_s:g} s reached"
        else:
            why = self.limit or "no method left"
        values = f"proved bound {_text(bound)}, smallest margin found {_text(self.attack)}"
        self.finding = Finding(self._claim(Verdict.UNKNOWN, method, bound, reason=f"{why}: {values}"), None)

    def _claim(self, verdict: Verdict, method: str, bound: float | None, **known: object) -> Claim:
        task, sign = self.task, -1.0 if self.bracket else 1.0
        return Claim(
            task.id, task.kind, task.subject, task.region.id, task.region.eps, task.region.label, verdict, method,
            margin=None if self.bracket else _finite(self.margin),
            bound=None if bound is None else _finite(sign * bound), attack=_finite(sign * self.attack),
            delta=task.delta, elapsed_s=self.spent_s, smt=self.smt, smt_scale=None if self.smt is None else 1.0,
            **known,  # type: ignore[arg-type]
        )  # fmt: skip


def open_job(task: Task, num_outputs: int) -> PairJob:
    """A task with its property over (f, g).

    Raises: ConfigError for kinds that are no comparison and properties that do not fit.
    """
    prop = task.property
    if task.kind == "top1_equivalent":
        prop = prop or decides_like(num_outputs)
    elif task.kind == "output_distance":
        prop = prop or distance_at_most(task.delta or 0.0, num_outputs)
    else:
        raise ConfigError(f"task {task.id}: {task.kind} is not a comparison (top1_equivalent or output_distance)")
    if prop.rows.shape[1] != 2 * num_outputs:
        raise ConfigError(f"task {task.id} needs a property over the {num_outputs} outputs of each network")
    return PairJob(task, prop, task.kind == "output_distance" and task.delta is None)


@contextmanager
def shared_time(jobs: Sequence[PairJob]) -> Iterator[None]:
    """Adds the time spent inside to the jobs, in equal shares."""
    start = time.monotonic()
    yield
    for job in jobs:
        job.spent_s += (time.monotonic() - start) / len(jobs)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _text(value: float | None) -> str:
    return "none" if value is None or not np.isfinite(value) else f"{value:.4g}"
