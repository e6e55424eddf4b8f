"""Claims that are settled and kept: a run that goes on after an interruption takes them as they were.

Batches of claims go through a cascade together, and what one of them gets may depend, in its last bits, on the others.
So a batch is kept as a whole when it is settled; of a batch that was interrupted the common, quick stages are repeated,
and what single claims got from the long ones is kept claim by claim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Protocol, get_type_hints

from paoding_verify.errors import DataError, JournalError
from paoding_verify.evidence.claim import Finding
from paoding_verify.evidence.codec import from_plain, to_plain
from paoding_verify.memo import Memo
from paoding_verify.task import Task

__all__ = ["Settling", "keep_finding", "run_batch", "run_once"]

_GIVEN = ("task", "prop")
"""Fields of a job that are its question and never change."""


class Settling(Protocol):
    """A claim on its way through a cascade: a dataclass whose fields, but for the question, have plain values."""

    task: Task
    finding: Finding | None


def run_batch(memo: Memo, jobs: Sequence[Settling], work: Callable[[], None]) -> None:
    """Gives every claim of a batch its finding: the one that was kept, else the one from `work`, kept from now on.

    Raises: JournalError if what was kept does not answer these claims.
    """
    names = "\n".join(job.task.id for job in jobs)
    key = f"claims {hashlib.sha256(names.encode('utf-8', 'surrogatepass')).hexdigest()}"
    known = memo.recall(key)
    if known is None:
        work()
        memo.store(key, {"findings": [to_plain(job.finding) for job in jobs]})
        return
    findings = _read(tuple[Finding, ...], known.get("findings"))
    if [finding.claim.id for finding in findings] != [job.task.id for job in jobs]:
        raise JournalError("the journal holds findings about other claims than these: begin anew with --force")
    for job, finding in zip(jobs, findings, strict=True):
        job.finding = finding


def run_once(memo: Memo, stage: str, job: Settling, work: Callable[[], None]) -> None:
    """Takes one claim through a long stage: to where it was kept, else by `work`, and kept from now on.

    Raises: JournalError if what was kept is damaged.
    """
    key = f"{stage} {job.task.id}"
    known, kinds = memo.recall(key), get_type_hints(type(job))
    names = [item.name for item in fields(job) if item.name not in _GIVEN]  # type: ignore[arg-type]
    if known is None:
        work()
        values = {name: getattr(job, name) for name in names}
        memo.store(key, {name: v if isinstance(v, float) else to_plain(v) for name, v in values.items()})
        return
    for name in names:
        value = known.get(name)
        # Margins may be infinite here, which plain data never are.
        is_number = type(value) is float and kinds[name] is float
        setattr(job, name, value if is_number else _read(kinds[name], value))


def keep_finding(memo: Memo, stage: str, finding: Finding, work: Callable[[], Finding]) -> Finding:
    """What a stage that looks at a settled claim again makes of it: as it was kept, else by `work`, kept from now on.

    Raises: JournalError if what was kept is damaged.
    """
    key = f"{stage} {finding.claim.id}"
    known = memo.recall(key)
    if known is not None:
        again: Finding = _read(Finding, known.get("finding"))
        return again
    found = work()
    memo.store(key, {"finding": to_plain(found)})
    return found


def _read(kind: Any, plain: Any) -> Any:
    try:
        return from_plain(kind, plain, "a kept claim")
    except DataError as error:
        raise JournalError(f"the journal is damaged: {error}; begin anew with --force") from error
