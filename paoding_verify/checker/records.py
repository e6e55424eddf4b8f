"""Whether the records of a result tell the truth about models, regions and figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from paoding_verify.errors import PaodingError
from paoding_verify.evidence.boxes import ball, box_digest
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import AuditResult, Metric, RegionRecord
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Array, Network, Source
from paoding_verify.network.onnx_in import read_onnx
from paoding_verify.network.record import model_record

__all__ = ["check_balls", "check_claims", "check_digests", "check_metrics", "read_models"]


def read_models(result: AuditResult, members: Mapping[str, bytes], problems: list[str]) -> dict[str, Network]:
    """The networks of the shipped ONNX files by role; what a record says otherwise about them becomes a problem."""
    networks: dict[str, Network] = {}
    for record in result.models:
        data = members.get(f"models/{record.role}.onnx")
        if data is None or record.role in networks:
            problems.append(f"model {record.role[:40]!r}: no readable file, or two records")
            continue
        digest = hashlib.sha256(data).hexdigest()
        try:
            network = replace(read_onnx(data), source=Source(record.file, record.format, record.sha256, data))
            networks[record.role] = network
            true = model_record(network, record.role)
        except PaodingError as error:
            problems.append(f"model {record.role}: {error}")
            continue
        if record.shipped_sha256 != digest or record.canonical_sha256 != true.canonical_sha256:
            problems.append(f"model {record.role}: its digests are not those of the shipped file")
        elif record != true:
            problems.append(f"model {record.role}: sizes or layers are not those of the shipped file")
    return networks


def check_digests(records: Sequence[RegionRecord], lower: Array, upper: Array, problems: list[str]) -> None:
    """Every box is finite, not empty, and the one whose digest the result states."""
    if len({record.id for record in records}) != len(records):
        problems.append("two regions have the same id")
    for record, low, high in zip(records, lower, upper, strict=True):
        if record.sha256 != box_digest(low, high):
            problems.append(f"region {record.id}: the box is not the one whose digest the result states")
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            problems.append(f"region {record.id}: the box is empty or not finite")


def check_balls(
    records: Sequence[RegionRecord], lower: Array, upper: Array, anchor: Array, problems: list[str]
) -> None:
    """Every box with a radius is exactly the linf ball around its anchor, cut to the domain that its record states."""
    for record, low, high, centre in zip(records, lower, upper, anchor, strict=True):
        if record.eps is None:
            continue
        limits = record.domain or (-np.inf, np.inf)
        true = ball(centre, np.full(low.shape, record.eps), (np.asarray(limits[0]), np.asarray(limits[1])))
        if not (np.array_equal(true[0], low) and np.array_equal(true[1], high)):
            problems.append(
                f"region {record.id}: the box is not the ball of its radius around its anchor, cut to its domain"
            )


def check_claims(result: AuditResult, problems: list[str]) -> None:
    """Claims have ids of their own, belong to a region and say about it what its record says."""
    regions = {record.id: record for record in result.regions}
    if len({claim.id for claim in result.claims}) != len(result.claims):
        problems.append("two claims have the same id")
    for claim in result.claims:
        region = regions.get(claim.region)
        if region is None or (claim.eps, claim.label) != (region.eps, region.label):
            problems.append(f"claim {claim.id}: its region, radius or label is not one of the result's regions")
        if (claim.verdict is Verdict.VIOLATED) != (claim.witness is not None):
            problems.append(f"claim {claim.id}: a witness belongs to VIOLATED claims and to no others")


def check_metrics(result: AuditResult, problems: list[str]) -> None:
    """The figures of each network follow from its claims."""
    stated = {(metric.subject, metric.eps): metric for metric in result.metrics}
    groups: dict[tuple[str, float], list[Claim]] = {}
    for claim in result.claims:
        if claim.kind == "top1_robust" and claim.eps is not None:
            groups.setdefault((claim.subject, claim.eps), []).append(claim)
    if set(stated) != set(groups) or len(stated) != len(result.metrics):
        problems.append("the metrics are not those of the claims")
    for key, claims in groups.items():
        if key in stated and not _agree(stated[key], claims):
            problems.append(f"metrics of {key[0]} at eps {key[1]}: they do not follow from the claims")


def _agree(metric: Metric, claims: Sequence[Claim]) -> bool:
    verdicts = [claim.verdict for claim in claims]
    natural = sum(claim.margin is not None and claim.margin > 0 for claim in claims) / len(claims)
    shares = (
        natural,
        1 - verdicts.count(Verdict.VIOLATED) / len(claims),
        verdicts.count(Verdict.CERTIFIED) / len(claims),
    )
    stated = (metric.natural_accuracy, metric.empirical_robust_accuracy, metric.certified_accuracy)
    return metric.num_regions == len(claims) and bool(np.allclose(stated, shares, rtol=0.0, atol=1e-12))
