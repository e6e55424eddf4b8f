"""What policy rules measure: for each rule the interval of values that the evidence leaves open."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import ModelRecord
from paoding_verify.evidence.verdict import Verdict

__all__ = ["RULES", "Evidence", "Interval", "Rule"]

Interval = tuple[float, float]
"""(low, high), both finite."""
OPEN: Interval = (0.0, 1.0)
"""Of a rate about which nothing is known."""


@dataclass(frozen=True)
class Evidence:
    """What a policy looks at."""

    claims: Sequence[Claim]
    models: Sequence[ModelRecord]

    def groups(self, subject: str, kind: str) -> list[list[Claim]]:
        """The claims of one subject and kind, one list per radius."""
        found: dict[float | None, list[Claim]] = {}
        for claim in self.claims:
            if (claim.subject, claim.kind) == (subject, kind):
                found.setdefault(claim.eps, []).append(claim)
        return list(found.values())


@dataclass(frozen=True)
class Rule:
    """One thing that a policy can demand."""

    text: str
    """What is measured, in words."""
    measure: Callable[[Evidence], Interval]
    largest: float = 1.0
    """Largest threshold that makes sense."""


def _rate(claims: Iterable[Claim], favourable: Verdict, adverse: Verdict) -> Interval:
    """Share of claims that end `favourable`, open claims decided against it and for it."""
    verdicts = [claim.verdict for claim in claims]
    return verdicts.count(favourable) / len(verdicts), (len(verdicts) - verdicts.count(adverse)) / len(verdicts)


def _lowest(intervals: Sequence[Interval]) -> Interval:
    """Interval of the smallest of several values."""
    return (min(low for low, _ in intervals), min(high for _, high in intervals)) if intervals else OPEN


def _highest(intervals: Sequence[Interval]) -> Interval:
    """Interval of the largest of several values."""
    return (max(low for low, _ in intervals), max(high for _, high in intervals)) if intervals else OPEN


def _robust(claims: Iterable[Claim]) -> Interval:
    return _rate(claims, Verdict.CERTIFIED, Verdict.VIOLATED)


def _natural(claims: Sequence[Claim]) -> Interval:
    right = sum(claim.margin is not None and claim.margin > 0 for claim in claims)
    unknown = sum(claim.margin is None for claim in claims)
    return right / len(claims), (right + unknown) / len(claims)


def _certified_accuracy(evidence: Evidence) -> Interval:
    return _lowest([_robust(group) for group in evidence.groups("pruned", "top1_robust")])


def _natural_accuracy(evidence: Evidence) -> Interval:
    return _lowest([_natural(group) for group in evidence.groups("pruned", "top1_robust")])


def _natural_drop(evidence: Evidence) -> Interval:
    before = [_natural(group) for group in evidence.groups("original", "top1_robust")]
    after = [_natural(group) for group in evidence.groups("pruned", "top1_robust")]
    return _highest([(max(0.0, b[0] - a[1]), max(0.0, b[1] - a[0])) for b, a in zip(before, after, strict=True)])


def _preserved_ratio(evidence: Evidence) -> Interval:
    """Of the regions proved robust for the original, the share that is robust for the pruned network; none: open."""
    groups = zip(evidence.groups("original", "top1_robust"), evidence.groups("pruned", "top1_robust"), strict=True)
    return _lowest([_preserved(before, after) for before, after in groups])


def _preserved(before: Sequence[Claim], after: Sequence[Claim]) -> Interval:
    proved = {claim.region for claim in before if claim.verdict is Verdict.CERTIFIED}
    return _robust(claim for claim in after if claim.region in proved) if proved else OPEN


def _violated_rate(evidence: Evidence) -> Interval:
    return _highest([_rate(g, Verdict.VIOLATED, Verdict.CERTIFIED) for g in evidence.groups("pair", "top1_equivalent")])


def _equivalent_rate(evidence: Evidence) -> Interval:
    return _lowest([_robust(group) for group in evidence.groups("pair", "top1_equivalent")])


def _distance(evidence: Evidence) -> Interval:
    """Largest |f - g| on any region; the largest float stands for "no bound was proved"."""
    claims = [claim for group in evidence.groups("pair", "output_distance") for claim in group]
    return _highest([_distance_interval(claim) for claim in claims] or [(0.0, sys.float_info.max)])


def _distance_interval(claim: Claim) -> Interval:
    if claim.delta is None:
        low, high = claim.attack, claim.bound if claim.verdict is Verdict.CERTIFIED else None
    else:
        low = claim.delta if claim.verdict is Verdict.VIOLATED else None
        high = claim.delta if claim.verdict is Verdict.CERTIFIED else None
    return 0.0 if low is None else low, sys.float_info.max if high is None else high


def _rechecked(evidence: Evidence) -> Interval:
    settled = [c.rechecked for c in evidence.claims if c.verdict in (Verdict.CERTIFIED, Verdict.VIOLATED)]
    share = sum(settled) / len(settled) if settled else 1.0
    return share, share


def _sparsity(evidence: Evidence) -> Interval:
    units = {model.role: sum(model.num_units) for model in evidence.models}
    if not units.get("original") or "pruned" not in units:
        return OPEN
    share = (units["original"] - units["pruned"]) / units["original"]
    return share, share


RULES = {
    "min_natural_accuracy": Rule("natural accuracy of the pruned network", _natural_accuracy),
    "max_natural_accuracy_drop": Rule("natural accuracy lost by pruning", _natural_drop),
    "min_certified_accuracy": Rule("certified accuracy of the pruned network at every eps", _certified_accuracy),
    "min_preserved_certified_ratio": Rule(
        "regions proved robust for the original that stay robust, at every eps", _preserved_ratio
    ),
    "max_equivalence_violated_rate": Rule("regions where the top class differs somewhere", _violated_rate),
    "min_equivalence_certified_rate": Rule("regions where the top class is the same everywhere", _equivalent_rate),
    "max_certified_distance": Rule("largest |f - g| on any region (logits)", _distance, sys.float_info.max),
    "min_rechecked_rate": Rule("settled claims that were checked a second time", _rechecked),
    "min_sparsity": Rule("removed units / units", _sparsity),
}
"""Every rule that a policy file may name; `min_` and `max_` give the direction."""
