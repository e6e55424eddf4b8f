"""Claims that are settled and kept: a run that goes on after an interruption takes them as they were.

Batches of claims go through a cascade together, and what one of them gets may depend, in its last bits, on the others.
So a batch is kept as a whole when it is settled; of a batch that was interrupted the common, quick stages are repeated,
and what single claims got from the long ones is kept claim by claim.

Nothing is CERTIFIED or VIOLATED because a file says so: what was kept is proved again by the checker, or replayed, on
the networks and boxes of this run, before it counts. What that does not bear out is settled anew, as if it had not been
kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, get_type_hints

from paoding_verify.checker.claims import Setting, prove_claims
from paoding_verify.checker.replay import replay
from paoding_verify.errors import DataError, JournalError
from paoding_verify.evidence.claim import Claim, Finding
from paoding_verify.evidence.codec import from_plain, to_plain
from paoding_verify.evidence.property import Property, distance_at_most
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.memo import Memo
from paoding_verify.network.graph import Network
from paoding_verify.task import Task

__all__ = ["Judge", "Settling", "recall_batch", "recall_state", "store_batch", "store_state", "take_state"]

_GIVEN = ("task", "prop", "bracket", "until_s")
"""Fields of a job that are its question, or its process's, and never kept."""
_ROOM = 1e-6
"""Share of a proved margin by which another order of summation may prove less; audits state that much less, too."""


class Settling(Protocol):
    """A claim on its way through a cascade: a dataclass whose fields, but for the question, have plain values."""

    task: Task
    prop: Property
    finding: Finding | None


@dataclass(frozen=True, eq=False)
class Judge:
    """Proves again, or replays, what was kept of claims about these networks."""

    networks: tuple[Network, ...]
    semantics: tuple[str, ...]
    """Arithmetics in which a claim must be proved to be CERTIFIED."""

    def confirms(self, jobs: Sequence[Settling], findings: Sequence[Finding]) -> bool:
        """Whether every finding answers its job's question, and every verdict of CERTIFIED or VIOLATED holds."""
        certified: list[tuple[Claim, Setting]] = []
        certificates = {}
        for job, finding in zip(jobs, findings, strict=True):
            claim, prop = finding.claim, self._property(job, finding.claim)
            if prop is None or not _answers(claim, job.task):
                return False
            setting = Setting(self.networks, prop, job.task.region.lower, job.task.region.upper)
            if claim.verdict is Verdict.VIOLATED:
                if not claim.rechecked or claim.semantics or replay(claim, setting)[0] != "reproved":
                    return False
            elif claim.verdict is Verdict.CERTIFIED:
                if finding.certificate is None or claim.witness is not None or claim.semantics != self.semantics:
                    return False
                less = claim.bound * (1 - _ROOM) if claim.bound is not None and prop is job.prop else claim.bound
                certified.append((replace(claim, bound=less), setting))
                certificates[claim.id] = finding.certificate
            elif claim.verdict is None or claim.rechecked or claim.semantics or claim.witness is not None:
                return False
        return not any(prove_claims([c for c, _ in certified], [s for _, s in certified], certificates))

    def _property(self, job: Settling, claim: Claim) -> Property | None:
        """What the claim states about its region, a bracket that |f - g| stays below its bound; None: nothing."""
        if claim.kind != "output_distance" or claim.delta is not None or claim.verdict is Verdict.UNKNOWN:
            return job.prop
        if claim.verdict is not Verdict.CERTIFIED or claim.bound is None or claim.bound < 0:
            return None
        return distance_at_most(claim.bound, self.networks[0].num_outputs)


def _answers(claim: Claim, task: Task) -> bool:
    """Whether a claim is about what the task asks."""
    region = task.region
    asked = (task.id, task.kind, task.subject, region.id, region.eps, region.label, task.delta, task.parameter)
    told = (claim.id, claim.kind, claim.subject, claim.region, claim.eps, claim.label, claim.delta, claim.parameter)
    return asked == told


def recall_batch(memo: Memo, judge: Judge, jobs: Sequence[Settling]) -> bool:
    """Gives every claim of a batch the finding that was kept, if the judge confirms those of the batch; whether it did.

    Raises: JournalError if what was kept does not answer these claims.
    """
    known = memo.recall(_batch_key(jobs))
    if known is None:
        return False
    findings = _read(tuple[Finding, ...], known.get("findings"))
    if [finding.claim.id for finding in findings] != [job.task.id for job in jobs]:
        raise JournalError("the journal holds findings about other claims than these: begin anew with --force")
    if not judge.confirms(jobs, findings):
        return False
    for job, finding in zip(jobs, findings, strict=True):
        job.finding = finding
    return True


def store_batch(memo: Memo, jobs: Sequence[Settling]) -> None:
    """Keeps the findings of a batch."""
    memo.store(_batch_key(jobs), {"findings": [to_plain(job.finding) for job in jobs]})


def recall_state(memo: Memo, judge: Judge, stage: str, job: Settling) -> bool:
    """Takes one claim to where it was after a long stage, if that was kept and the judge confirms a finding that it has
    there; whether it did.

    Raises: JournalError if what was kept is damaged.
    """
    known, kinds = memo.recall(_state_key(stage, job)), get_type_hints(type(job))
    if known is None:
        return False
    # Margins may be infinite here, which plain data never are.
    numbers = {name for name in _state(job) if type(known.get(name)) is float and kinds[name] is float}
    state = {name: known[name] if name in numbers else _read(kinds[name], known.get(name)) for name in _state(job)}
    if state["finding"] is not None and not judge.confirms([job], [state["finding"]]):
        return False
    for name, value in state.items():
        setattr(job, name, value)
    return True


def store_state(memo: Memo, stage: str, job: Settling) -> None:
    """Keeps one claim as it is after a long stage."""
    values = {name: getattr(job, name) for name in _state(job)}
    memo.store(_state_key(stage, job), {name: v if isinstance(v, float) else to_plain(v) for name, v in values.items()})


def take_state(job: Settling, other: Settling) -> None:
    """Takes a claim to where another process has taken a copy of it."""
    for name in _state(job):
        setattr(job, name, getattr(other, name))


def _batch_key(jobs: Sequence[Settling]) -> str:
    names = "\n".join(job.task.id for job in jobs)
    return f"claims {hashlib.sha256(names.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _state_key(stage: str, job: Settling) -> str:
    return f"{stage} {job.task.id}"


def _state(job: Settling) -> list[str]:
    return [item.name for item in fields(job) if item.name not in _GIVEN]  # type: ignore[arg-type]


def _read(kind: Any, plain: Any) -> Any:
    try:
        return from_plain(kind, plain, "a kept claim")
    except DataError as error:
        raise JournalError(f"the journal is damaged: {error}; begin anew with --force") from error
