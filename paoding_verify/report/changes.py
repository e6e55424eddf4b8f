"""What changed since an earlier audit: claims about the same box, and the policy's rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256

from paoding_verify.evidence import codec
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import AuditResult, RuleOutcome
from paoding_verify.report.plain import without_timings
from paoding_verify.report.tables import outcome_name
from paoding_verify.report.wording import subject_name

__all__ = ["Change", "Changes", "ModelChange", "find_changes"]

Key = tuple[str, str, str, int | None, float | None, float | None, int]
"""Subject, kind, digest of the box, label, delta, parameter, and which of several such claims."""


@dataclass(frozen=True)
class Change:
    """A claim that came out otherwise than before."""

    claim: Claim
    """As it is now."""
    before: str
    """Its earlier outcome: certified, violated, unknown or error."""
    after: str


@dataclass(frozen=True)
class ModelChange:
    """Whether a model still computes what it computed."""

    subject: str
    same: bool | None
    """None: the earlier audit had no such model."""


@dataclass(frozen=True)
class Changes:
    """The difference between two results."""

    sha256: str
    """Digest of the earlier audit.json."""
    verdict: str
    """Of the earlier audit; empty where no policy was applied."""
    models: tuple[ModelChange, ...]
    compared: int
    """Claims that both results make: same subject, kind, box, label and threshold."""
    only_before: int
    only_now: int
    violated: tuple[Change, ...]
    """Newly violated."""
    open: tuple[Change, ...]
    """Newly unknown, or newly ended in an error."""
    gained: tuple[Change, ...]
    """Newly certified."""
    rules: tuple[tuple[RuleOutcome, RuleOutcome | None], ...]
    """(now, before) of every rule of the policy; None: the earlier policy did not have it."""


def find_changes(result: AuditResult, baseline: AuditResult) -> Changes:
    """The changes from `baseline` to `result`; times and the names of regions play no part."""
    before, now = _by_key(baseline), _by_key(result)
    moved = [
        Change(claim, outcome_name(before[key]), outcome_name(claim))
        for key, claim in now.items()
        if key in before and outcome_name(before[key]) != outcome_name(claim)
    ]
    earlier = {rule.rule: rule for rule in baseline.policy.rules} if baseline.policy else {}
    return Changes(
        sha256=sha256(codec.dumps(without_timings(baseline)).encode()).hexdigest(),
        verdict=baseline.verdict.value if baseline.verdict else "",
        models=_models(result, baseline),
        compared=len(before.keys() & now.keys()),
        only_before=len(before.keys() - now.keys()),
        only_now=len(now.keys() - before.keys()),
        violated=tuple(c for c in moved if c.after == "violated"),
        open=tuple(c for c in moved if c.after in ("unknown", "error")),
        gained=tuple(c for c in moved if c.after == "certified"),
        rules=tuple((rule, earlier.get(rule.rule)) for rule in (result.policy.rules if result.policy else ())),
    )


def _by_key(result: AuditResult) -> dict[Key, Claim]:
    boxes = {record.id: record.sha256 for record in result.regions}
    seen: Counter[tuple[object, ...]] = Counter()
    found: dict[Key, Claim] = {}
    for claim in result.claims:
        box = boxes.get(claim.region, claim.region)
        about = (claim.subject, claim.kind, box, claim.label, claim.delta, claim.parameter)
        found[*about, seen[about]] = claim
        seen[about] += 1
    return found


def _models(result: AuditResult, baseline: AuditResult) -> tuple[ModelChange, ...]:
    earlier = {model.role: model.canonical_sha256 for model in baseline.models}
    return tuple(
        ModelChange(
            subject_name(model.role, result),
            earlier[model.role] == model.canonical_sha256 if model.role in earlier else None,
        )
        for model in result.models
    )
