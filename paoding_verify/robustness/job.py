"""One task on its way through the cascade: what is known so far, and the finding it ends in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paoding_verify.crew.state import JobState, shared_time
from paoding_verify.errors import SoundnessError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import NOT_REPROVED, Claim, Finding, Witness
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.task import SearchConfig, Task

__all__ = ["Job", "shared_time"]


@dataclass
class Job(JobState):
    """Mutable state of one task; `finding` is set exactly when it is settled."""

    task: Task
    prop: Property
    """The task's property."""
    margin: float = np.nan
    """At the centre of the region."""
    attack: float = np.inf
    """Smallest margin found."""
    estimate: float = -np.inf
    """Best lower bound of the search; not proved."""
    certificate: Certificate = field(default_factory=lambda: Certificate("crown"))
    """Hints that go with `estimate`."""
    refusal: str = ""
    """What the checker said when it refused."""
    limit: str = ""
    """Why the last stage gave up, if it did."""
    finding: Finding | None = None

    def certified(self, bound: float, semantics: tuple[str, ...]) -> None:
        """Settles the task: the checker proved `bound` > 0 in every one of `semantics`.

        Raises: SoundnessError if a point is known that a proof for float32 programs excludes.
        """
        if "float32" in semantics and self.attack <= 0:
            raise SoundnessError(
                f"{self.task.id}: proved for every float32 program (margin {bound:.6g}), yet the attack found a point "
                f"of the region with margin {self.attack:.6g}; please report the model"
            )
        claim = self._claim(Verdict.CERTIFIED, self.method, bound=bound, semantics=semantics, rechecked=True)
        self.finding = Finding(claim, self.certificate)

    def violated(self, method: str, witness: Witness) -> None:
        """Settles the task with a replayed witness."""
        if self.task.subject == "pruned":
            witness = Witness(witness.input, None, witness.outputs_original)
        self.finding = Finding(self._claim(Verdict.VIOLATED, method, witness=witness, rechecked=True), None)

    def unknown(self, bound: float | None, config: SearchConfig) -> None:
        """Settles the task: nothing was shown. `bound` is what the checker proved."""
        bracket = f"proved bound {_text(bound)}, smallest margin found {_text(self.attack)}"
        if self.refusal:
            why = f"{NOT_REPROVED} by the checker ({self.refusal})"
        elif late := self.out_of_time(config):
            why = late + (f" ({self.limit})" if self.limit else "")
        else:
            why = self.limit or "no method left"
        claim = self._claim(Verdict.UNKNOWN, self.method, bound=bound, reason=f"{why}: {bracket}")
        self.finding = Finding(claim, None)

    def _claim(self, verdict: Verdict, method: str, **known: Any) -> Claim:
        task = self.task
        return Claim(
            task.id, task.kind, task.subject, task.region.id, task.region.eps, task.region.label, verdict, method,
            margin=_finite(self.margin), attack=_finite(self.attack), elapsed_s=self.spent_s, **known,
        )  # fmt: skip


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _text(value: float | None) -> str:
    return "none" if value is None or not np.isfinite(value) else f"{value:.4g}"
