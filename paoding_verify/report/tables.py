"""Rows of the tables in a report, and the numbers behind its charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.pruning import StageMetrics
from paoding_verify.evidence.result import AuditResult, Metric
from paoding_verify.evidence.statistics import clopper_pearson
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.report.charts import Curve
from paoding_verify.report.wording import MethodText, claim_name, method_text, subject_name

__all__ = [
    "MethodRow", "MetricRow", "PropertyRow", "Quantiles", "RobustRow", "SmtRow", "SpotRow", "StageRow", "curves",
    "distance_pairs", "flows", "margin_pairs", "method_rows", "metric_rows", "outcome_name", "property_rows",
    "quantiles", "robust_rows", "smt_rows", "spot_rows", "stage_rows",
]  # fmt: skip

Interval = tuple[float, float]


@dataclass(frozen=True)
class MetricRow:
    """Accuracies of one network at one eps, with 95 % intervals."""

    metric: Metric
    subject: str
    """As the report calls it."""
    unknown: float
    """Share of regions that are neither certified nor violated."""
    natural: Interval
    empirical: Interval
    certified: Interval


@dataclass(frozen=True)
class RobustRow:
    """Certified accuracy of the networks at one eps."""

    eps: float
    num_regions: int
    accuracies: tuple[float | None, ...]
    """One per network, in the order of the models; None where it was not measured."""


@dataclass(frozen=True)
class MethodRow:
    """What one engine settled."""

    name: str
    """Untrusted text."""
    text: MethodText
    counts: dict[str, int]
    """By outcome."""


@dataclass(frozen=True)
class PropertyRow:
    """Claims of one kind, subject, eps and delta."""

    name: str
    subject: str
    eps: float | None
    delta: float | None
    counts: dict[str, int]
    """By outcome."""


@dataclass(frozen=True)
class SmtRow:
    """Spot checks of one property at one scale of the region."""

    name: str
    scale: float | None
    """Factor by which the regions were shrunk; 1 = whole."""
    confirmed: int
    refuted: int
    undecided: int


@dataclass(frozen=True)
class SpotRow:
    """What z3 said of one claim of the declared sample, beside what it is held against."""

    claim: Claim
    agreement: str
    """In words; a contradiction would have stopped the run."""


@dataclass(frozen=True)
class StageRow:
    """Figures of one stage of pruning, and how much of the first stage's it keeps."""

    metrics: StageMetrics
    preserved: float | None
    """Certified accuracy / that of the first stage; None where that is 0."""


@dataclass(frozen=True)
class Quantiles:
    """Five numbers of a distribution."""

    name: str
    amount: int
    values: tuple[float, ...]
    """Smallest, lower quartile, median, upper quartile, largest."""


def outcome_name(claim: Claim) -> str:
    """certified, violated, unknown or error."""
    return claim.verdict.value.lower() if claim.verdict is not None else "error"


def metric_rows(result: AuditResult) -> tuple[MetricRow, ...]:
    """Ordered by eps, then original before pruned."""
    ordered = sorted(result.metrics, key=lambda m: (m.eps, m.subject))
    return tuple(
        MetricRow(
            m,
            subject_name(m.subject, result),
            max(m.empirical_robust_accuracy - m.certified_accuracy, 0.0),
            _interval(m.natural_accuracy, m.num_regions),
            _interval(m.empirical_robust_accuracy, m.num_regions),
            _interval(m.certified_accuracy, m.num_regions),
        )
        for m in ordered
    )


def robust_rows(result: AuditResult) -> tuple[RobustRow, ...]:
    """Ascending by eps."""
    shares = {(m.eps, m.subject): m.certified_accuracy for m in result.metrics}
    regions = {m.eps: m.num_regions for m in result.metrics}
    roles = [model.role for model in result.models]
    return tuple(RobustRow(eps, regions[eps], tuple(shares.get((eps, r)) for r in roles)) for eps in sorted(regions))


def _interval(fraction: float, trials: int) -> Interval:
    return clopper_pearson(min(max(round(fraction * trials), 0), trials), trials)


def curves(result: AuditResult) -> list[Curve]:
    """One curve per network that has metrics, original first."""
    found = []
    for subject in ("original", "pruned"):
        own = sorted((m for m in result.metrics if m.subject == subject), key=lambda m: m.eps)
        if own:
            found.append(
                Curve(
                    subject,
                    tuple(m.eps for m in own),
                    tuple(m.certified_accuracy for m in own),
                    tuple(m.empirical_robust_accuracy for m in own),
                    alone=len(result.models) == 1,
                )
            )
    return found


def method_rows(result: AuditResult) -> tuple[MethodRow, ...]:
    """The engine that settled more claims comes first."""
    counts: dict[str, Counter[str]] = {}
    for claim in result.claims:
        counts.setdefault(claim.method, Counter())[outcome_name(claim)] += 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    return tuple(MethodRow(name, method_text(name), dict(found)) for name, found in ordered)


def property_rows(result: AuditResult, *, by_radius: bool = True) -> tuple[PropertyRow, ...]:
    """In the order of their first claims; without `by_radius`, eps and delta are None and the rows sum over them."""
    counts: dict[tuple[str, str, float | None, float | None], Counter[str]] = {}
    for claim in result.claims:
        radius = (claim.eps, claim.delta) if by_radius else (None, None)
        key = (claim_name(claim), subject_name(claim.subject, result), *radius)
        counts.setdefault(key, Counter())[outcome_name(claim)] += 1
    return tuple(PropertyRow(*key, dict(found)) for key, found in counts.items())


def smt_rows(result: AuditResult, *, sampled: bool) -> tuple[SmtRow, ...]:
    """What z3 said, grouped by property and scale: about the declared sample, or about claims that bounds left open."""
    counts: dict[tuple[str, float | None], Counter[str]] = {}
    for claim in result.claims:
        if claim.smt is not None and claim.smt_sampled is sampled:
            key = (claim_name(claim), claim.smt_scale)
            counts.setdefault(key, Counter())[claim.smt] += 1
    return tuple(SmtRow(*key, n["confirmed"], n["refuted"], n["undecided"]) for key, n in counts.items())


def spot_rows(result: AuditResult) -> tuple[SpotRow, ...]:
    """The claims of the declared sample, in their order."""
    return tuple(SpotRow(c, _agreement(c)) for c in result.claims if c.smt is not None and c.smt_sampled)


def _agreement(claim: Claim) -> str:
    """Whether z3 says of a claim what its verdict says."""
    if claim.smt == "undecided":
        return "z3 gives no answer"
    same = {Verdict.CERTIFIED: "confirmed", Verdict.VIOLATED: "refuted"}.get(claim.verdict or Verdict.UNKNOWN)
    whole = "" if claim.smt_scale == 1 else ", on the shrunk region"
    if same == claim.smt:
        return f"agreement{whole}"
    if same is None:
        return f"z3 alone{whole}"
    if claim.smt == "refuted":
        return "contradiction"
    return "no contradiction: the witness lies outside the shrunk region, or breaks float32 programs alone"


def stage_rows(result: AuditResult) -> tuple[StageRow, ...]:
    """The stages of pruning in order; none without fine-tuning."""
    stages = result.pruning.stages if result.pruning else ()
    whole = stages[0].certified_accuracy if stages else 0.0
    return tuple(StageRow(s, s.certified_accuracy / whole if whole > 0 else None) for s in stages)


def _robust_pairs(result: AuditResult) -> list[tuple[Claim, Claim]]:
    """Robustness claims of both networks about the same region and eps."""
    kinds = ("top1_robust", "vnnlib")
    pruned = {(c.kind, c.region, c.eps): c for c in result.claims if c.kind in kinds and c.subject == "pruned"}
    return [
        (claim, pruned[claim.kind, claim.region, claim.eps])
        for claim in result.claims
        if claim.subject == "original" and (claim.kind, claim.region, claim.eps) in pruned
    ]


def flows(result: AuditResult) -> dict[tuple[str, str], int]:
    """(outcome of the original, outcome of the pruned network) -> regions, in the order of seriousness."""
    found = Counter((outcome_name(a), outcome_name(b)) for a, b in _robust_pairs(result))
    order = ("certified", "unknown", "violated", "error")
    return {(a, b): found[a, b] for a in order for b in order if found[a, b]}


def margin_pairs(result: AuditResult) -> list[tuple[float, float]]:
    """Proved margins of both networks where both have one."""
    return [(a.bound, b.bound) for a, b in _robust_pairs(result) if a.bound is not None and b.bound is not None]


def distance_pairs(result: AuditResult) -> list[tuple[float, float]]:
    """(largest difference found, proved bound) of the claims that bracket the output distance."""
    return [
        (c.attack, c.bound)
        for c in result.claims
        if c.kind == "output_distance" and c.delta is None and c.attack is not None and c.bound is not None
    ]


def quantiles(series: Iterable[tuple[str, Sequence[float]]]) -> tuple[Quantiles, ...]:
    """Five numbers of every series that has values."""
    return tuple(
        Quantiles(name, len(values), tuple(float(q) for q in np.quantile(values, (0, 0.25, 0.5, 0.75, 1))))
        for name, values in series
        if values
    )
