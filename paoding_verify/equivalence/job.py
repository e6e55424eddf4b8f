"""One comparison on its way through the cascade: what is known so far, and the finding it ends in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from paoding_verify.crew.state import JobState, shared_time
from paoding_verify.errors import ConfigError, InputError, SoundnessError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import NOT_REPROVED, PAIR_QUESTIONS, Claim, Finding, Witness
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.question import Question, pair_property
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.task import SearchConfig, Task

AIM = 1.02
"""A bracket whose ends differ by this factor is not refined."""

__all__ = ["AIM", "PairJob", "bracket_aim", "open_job", "shared_time"]


@dataclass
class PairJob(JobState):
    """Mutable state of one task; `finding` is set exactly when it is settled."""

    task: Task
    prop: Property
    """The task's property; for a bracket |f - g| < 0, whose margin is -max |f - g|."""
    bracket: bool
    """Whether the task asks for bounds of max |f - g| instead of a yes or no."""
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
    real_only: bool = False
    """Whether exact arithmetic refutes it at a point, near which no float32 point does so in onnxruntime."""
    smt: str | None = None
    """What z3 said."""
    solver_only: bool = False
    """Whether HiGHS found no point that breaks the property."""
    finding: Finding | None = None

    def certified(self, bound: float, semantics: tuple[str, ...]) -> None:
        """Settles the task: the checker proved it in every one of `semantics`, with margin `bound`.

        For a bracket, max |f - g| < -bound is what was proved.
        Raises: SoundnessError if a point is known that a proof for float32 programs excludes.
        """
        if "float32" in semantics and self.attack <= (bound if self.bracket else 0.0):
            raise SoundnessError(
                f"{self.task.id}: proved for every float32 program (margin at least {bound:.6g}), yet the attack found "
                f"a point of the region with margin {self.attack:.6g}; please report the models"
            )
        claim = self._claim(Verdict.CERTIFIED, self.method, bound, semantics=semantics, rechecked=True)
        self.finding = Finding(claim, self.certificate)

    def violated(self, method: str, witness: Witness) -> None:
        """Settles the task with a replayed witness."""
        self.finding = Finding(self._claim(Verdict.VIOLATED, method, None, witness=witness, rechecked=True), None)

    def unknown(self, bound: float | None, config: SearchConfig) -> None:
        """Settles the task: nothing was shown. `bound` is the margin that the checker proved."""
        if self.real_only:
            why = "real-only witness: exact arithmetic refutes it at a point near which no float32 point does"
        elif self.smt == "confirmed":
            why = "solver-only: z3 proves it, the checker cannot re-prove it"
        elif self.solver_only:
            why = "solver-only: HiGHS finds no counterexample, and nothing was found that the checker can prove"
        elif self.refusal:
            why = f"{NOT_REPROVED} by the checker ({self.refusal})"
        elif late := self.out_of_time(config):
            why = late
        else:
            why = self.limit or "no method left"
        claim = self._claim(Verdict.UNKNOWN, self.method, bound)
        values = f"proved bound {_text(bound)}, smallest margin found {_text(self.attack)}"
        if claim.ratio is not None:
            values += f", ratio {_text(claim.ratio)}"
        self.finding = Finding(replace(claim, reason=f"{why}: {values}"), None)

    def _claim(self, verdict: Verdict, method: str, bound: float | None, **known: object) -> Claim:
        task, sign = self.task, -1.0 if self.bracket else 1.0
        return Claim(
            task.id, task.kind, task.subject, task.region.id, task.region.eps, task.region.label, verdict, method,
            margin=None if self.bracket else _finite(self.margin),
            bound=None if bound is None else _finite(sign * bound), attack=_finite(sign * self.attack),
            delta=task.delta, parameter=task.parameter, elapsed_s=self.spent_s,
            smt=self.smt, smt_scale=None if self.smt is None else 1.0,
            **known,  # type: ignore[arg-type]
        )  # fmt: skip


def open_job(task: Task, num_outputs: int) -> PairJob:
    """A task with its property over (f, g).

    Raises: ConfigError for kinds that are no comparison and properties that do not fit.
    """
    prop = task.property
    if task.kind not in (*PAIR_QUESTIONS, "vnnlib"):
        raise ConfigError(f"task {task.id}: {task.kind} is not a comparison ({', '.join(PAIR_QUESTIONS)} or vnnlib)")
    if prop is None:
        try:
            question = Question(task.kind, task.parameter)
            prop = pair_property(question, num_outputs, label=task.region.label, delta=task.delta or 0.0)
        except InputError as error:
            raise ConfigError(f"task {task.id}: {error}") from None
    if prop.rows.shape[1] != 2 * num_outputs:
        raise ConfigError(f"task {task.id} needs a property over the {num_outputs} outputs of each network")
    return PairJob(task, prop, task.kind == "output_distance" and task.delta is None)


def bracket_aim(attack: float) -> float:
    """What to prove of max |f - g|: little more than the largest difference that is known, -attack."""
    return max(-attack, 0.0) * AIM + 1e-300


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _text(value: float | None) -> str:
    return "none" if value is None or not np.isfinite(value) else f"{value:.4g}"
