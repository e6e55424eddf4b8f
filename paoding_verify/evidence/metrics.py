"""Figures of each network at each radius, from the claims alone."""

from __future__ import annotations

from collections.abc import Sequence

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import Metric
from paoding_verify.evidence.verdict import Verdict

__all__ = ["accuracy_metrics"]


def accuracy_metrics(claims: Sequence[Claim]) -> tuple[Metric, ...]:
    """Natural, empirical robust and certified accuracy, one Metric per network and radius, in order of appearance.

    Certified accuracy never exceeds empirical robust accuracy. Boxes without a radius are left out. A claim that ended
    in an error counts as "no violation found" and as not certified.
    """
    groups: dict[tuple[str, float], list[Claim]] = {}
    for claim in claims:
        if claim.kind == "top1_robust" and claim.eps is not None:
            groups.setdefault((claim.subject, claim.eps), []).append(claim)
    return tuple(_metric(subject, eps, group) for (subject, eps), group in groups.items())


def _metric(subject: str, eps: float, claims: Sequence[Claim]) -> Metric:
    verdicts = [claim.verdict for claim in claims]
    return Metric(
        subject=subject,
        eps=eps,
        num_regions=len(claims),
        natural_accuracy=sum(claim.margin is not None and claim.margin > 0 for claim in claims) / len(claims),
        empirical_robust_accuracy=(len(claims) - verdicts.count(Verdict.VIOLATED)) / len(claims),
        certified_accuracy=verdicts.count(Verdict.CERTIFIED) / len(claims),
    )
