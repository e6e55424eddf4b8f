"""What policy rules measure: for each rule the interval of values that the evidence leaves open."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import ModelRecord
from paoding_verify.evidence.statistics import one_sided
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
    level: float | None = None
    """Confidence with which shares are to hold for the population that the regions were drawn from; None: shares are
    those of the regions themselves."""

    def at(self, eps: float) -> Evidence:
        """The evidence at one radius alone."""
        return replace(self, claims=[c for c in self.claims if c.eps is not None and math.isclose(c.eps, eps)])

    def share(self, low: int, high: int, trials: int) -> Interval:
        """The interval of a share whose count lies between low and high; with a level, of the population's share."""
        if self.level is None:
            return low / trials, high / trials
        return one_sided(low, trials, self.level)[0], one_sided(high, trials, self.level)[1]

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
    by_eps: bool = False
    """Whether it can be asked of one radius alone."""
    sampled: bool = False
    """Whether it is a share of the regions, so that it can be asked of the population they were drawn from."""


def _rate(evidence: Evidence, claims: Iterable[Claim], favourable: Verdict, adverse: Verdict) -> Interval:
    """Share of claims that end `favourable`, open claims decided against it and for it."""
    verdicts = [claim.verdict for claim in claims]
    return evidence.share(verdicts.count(favourable), len(verdicts) - verdicts.count(adverse), len(verdicts))


def _lowest(intervals: Sequence[Interval]) -> Interval:
    """Interval of the smallest of several values."""
    return (min(low for low, _ in intervals), min(high for _, high in intervals)) if intervals else OPEN


def _highest(intervals: Sequence[Interval]) -> Interval:
    """Interval of the largest of several values."""
    return (max(low for low, _ in intervals), max(high for _, high in intervals)) if intervals else OPEN


def _robust(evidence: Evidence, claims: Iterable[Claim]) -> Interval:
    return _rate(evidence, claims, Verdict.CERTIFIED, Verdict.VIOLATED)


def _natural(evidence: Evidence, claims: Sequence[Claim]) -> Interval:
    right = sum(claim.margin is not None and claim.margin > 0 for claim in claims)
    unknown = sum(claim.margin is None for claim in claims)
    return evidence.share(right, right + unknown, len(claims))


def _certified_accuracy(evidence: Evidence) -> Interval:
    return _lowest([_robust(evidence, group) for group in evidence.groups("pruned", "top1_robust")])


def _natural_accuracy(evidence: Evidence) -> Interval:
    return _lowest([_natural(evidence, group) for group in evidence.groups("pruned", "top1_robust")])


def _natural_drop(evidence: Evidence) -> Interval:
    before = [_natural(evidence, group) for group in evidence.groups("original", "top1_robust")]
    after = [_natural(evidence, group) for group in evidence.groups("pruned", "top1_robust")]
    return _highest([(max(0.0, b[0] - a[1]), max(0.0, b[1] - a[0])) for b, a in zip(before, after, strict=True)])


def _preserved_ratio(evidence: Evidence) -> Interval:
    """Of the regions proved robust for the original, the share that is robust for the pruned network; none: open."""
    groups = zip(evidence.groups("original", "top1_robust"), evidence.groups("pruned", "top1_robust"), strict=True)
    return _lowest([_preserved(evidence, before, after) for before, after in groups])


def _preserved(evidence: Evidence, before: Sequence[Claim], after: Sequence[Claim]) -> Interval:
    proved = {claim.region for claim in before if claim.verdict is Verdict.CERTIFIED}
    return _robust(evidence, [claim for claim in after if claim.region in proved]) if proved else OPEN


def _violated_rate(evidence: Evidence) -> Interval:
    groups = evidence.groups("pair", "top1_equivalent")
    return _highest([_rate(evidence, group, Verdict.VIOLATED, Verdict.CERTIFIED) for group in groups])


def _equivalent_rate(evidence: Evidence) -> Interval:
    return _lowest([_robust(evidence, group) for group in evidence.groups("pair", "top1_equivalent")])


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


def _reproved_in(semantics: str) -> Callable[[Evidence], Interval]:
    def measure(evidence: Evidence) -> Interval:
        proved = [semantics in c.semantics for c in evidence.claims if c.verdict is Verdict.CERTIFIED]
        return (sum(proved) / len(proved), sum(proved) / len(proved)) if proved else OPEN

    return measure


def _num_unknown(evidence: Evidence) -> int:
    return sum(claim.verdict in (Verdict.UNKNOWN, None) for claim in evidence.claims)


def _unknown_claims(evidence: Evidence) -> Interval:
    found = float(_num_unknown(evidence))
    return (found, found) if evidence.claims else (0.0, sys.float_info.max)


def _unknown_rate(evidence: Evidence) -> Interval:
    share = _num_unknown(evidence) / len(evidence.claims) if evidence.claims else 0.0
    return (share, share) if evidence.claims else OPEN


def _sparsity(evidence: Evidence) -> Interval:
    units = {model.role: sum(model.num_units) for model in evidence.models}
    if not units.get("original") or "pruned" not in units:
        return OPEN
    share = (units["original"] - units["pruned"]) / units["original"]
    return share, share


RULES = {
    "min_natural_accuracy": Rule(
        "natural accuracy of the pruned network", _natural_accuracy, by_eps=True, sampled=True
    ),
    "max_natural_accuracy_drop": Rule("natural accuracy lost by pruning", _natural_drop, by_eps=True),
    "min_certified_accuracy": Rule(
        "certified accuracy of the pruned network", _certified_accuracy, by_eps=True, sampled=True
    ),
    "min_preserved_certified_ratio": Rule(
        "regions proved robust for the original that stay robust", _preserved_ratio, by_eps=True, sampled=True
    ),
    "max_equivalence_violated_rate": Rule(
        "regions where the top class differs somewhere", _violated_rate, by_eps=True, sampled=True
    ),
    "min_equivalence_certified_rate": Rule(
        "regions where the top class is the same everywhere", _equivalent_rate, by_eps=True, sampled=True
    ),
    "max_certified_distance": Rule(
        "largest |f - g| on any region (logits)", _distance, sys.float_info.max, by_eps=True
    ),
    "max_unknown_rate": Rule("claims that stayed open or ended in an error", _unknown_rate, by_eps=True),
    "max_unknown_claims": Rule(
        "number of claims that stayed open or ended in an error", _unknown_claims, sys.float_info.max, by_eps=True
    ),
    "min_rechecked_rate": Rule("settled claims that were checked a second time", _rechecked),
    "min_float32_rate": Rule("proofs that were repeated for float32 arithmetic", _reproved_in("float32")),
    "min_real_rate": Rule("proofs that were repeated for real arithmetic", _reproved_in("real")),
    "min_sparsity": Rule("removed units / units", _sparsity),
}
"""Every rule that a policy file may name; `min_` and `max_` give the direction. Without a radius the worst counts."""
