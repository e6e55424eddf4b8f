"""Checks a bundle: every file, every record, every certified claim, every witness. Nothing in it is believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paoding_verify.checker.claims import Setting, prove_claims, replay
from paoding_verify.checker.members import read_boxes, read_members
from paoding_verify.checker.records import check_balls, check_claims, check_digests, check_metrics, read_models
from paoding_verify.errors import DataError, InputError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.codec import loads
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Network

__all__ = ["BundleReport", "check_bundle"]

Progress = Callable[[str, int, int], None]

BATCH = 64
"""Claims that are proved together."""


@dataclass(frozen=True)
class CertificateFile:
    """certificates/certificates.json."""

    certificates: Mapping[str, Certificate]
    """By claim id."""


@dataclass(frozen=True)
class BundleReport:
    """What the check of a bundle found."""

    problems: tuple[str, ...]
    """Statements of the bundle that are not true, other than claims."""
    reproved: tuple[str, ...]
    """Ids of claims that were proved, or whose witness was reproduced, again."""
    refused: tuple[tuple[str, str], ...]
    """(claim id, why) of claims that the bundle does not support."""
    unchecked: tuple[tuple[str, str], ...]
    """(claim id, why) of claims that say nothing to prove, were not in the sample, or need onnxruntime."""

    @property
    def ok(self) -> bool:
        """Whether nothing in the bundle was found to be untrue."""
        return not self.problems and not self.refused


def check_bundle(
    path: str | Path, *, progress: Progress | None = None, samples: int | None = None, seed: int = 0
) -> BundleReport:
    """Whether files, records, certified claims and witnesses of a bundle hold, from its files alone.

    Every CERTIFIED claim is proved again from the shipped models, every VIOLATED one is replayed; with `samples` only
    that many of them, drawn by `seed`. The policy's outcome and UNKNOWN claims state nothing that could be proved.
    Raises: DataError if the folder is no bundle.
    """
    problems: list[str] = []
    members = read_members(Path(path), problems)
    result, certificates = _read_result(members, problems)
    networks = read_models(result, members, problems)
    check_claims(result, problems)
    check_metrics(result, problems)
    boxes = _read_boxes(result, members, problems)
    work, unchecked = _choose(result, samples, seed)
    outcome = _Outcome(problems)
    outcome.unchecked += unchecked
    for start in range(0, len(work), BATCH):
        _settle(work[start : start + BATCH], networks, boxes, certificates, outcome)
        if progress is not None:
            progress("claims", min(start + BATCH, len(work)), len(work))
    return BundleReport(tuple(problems), tuple(outcome.reproved), tuple(outcome.refused), tuple(outcome.unchecked))


class _Outcome:
    """Lists that grow while claims are checked."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.reproved: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.unchecked: list[tuple[str, str]] = []


def _read_result(members: Mapping[str, bytes], problems: list[str]) -> tuple[AuditResult, Mapping[str, Certificate]]:
    if "audit.json" not in members:
        raise DataError("the bundle has no audit.json with the digest that the manifest states")
    text = members.get("certificates/certificates.json", b"{}")
    try:
        result = loads(AuditResult, members["audit.json"], "audit.json")
        wrapped = b'{"certificates": ' + text + b"}"
        certificates = loads(CertificateFile, wrapped, "certificates/certificates.json").certificates
    except RecursionError as error:
        raise DataError("a file of the bundle is nested too deeply") from error
    known = {claim.id for claim in result.claims if claim.verdict is Verdict.CERTIFIED}
    problems += [f"certificate {key[:80]!r} belongs to no certified claim" for key in certificates if key not in known]
    return result, certificates


def _read_boxes(
    result: AuditResult, members: Mapping[str, bytes], problems: list[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Region id -> lower and upper; what is wrong with them becomes a problem."""
    if not result.models or "regions.npz" not in members:
        problems.append("the bundle has no models or no regions.npz with the digest that the manifest states")
        return {}
    try:
        lower, upper, anchor = read_boxes(members["regions.npz"], len(result.regions), result.models[0].input_shape)
    except DataError as error:
        problems.append(str(error))
        return {}
    check_digests(result.regions, lower, upper, problems)
    check_balls(result.regions, lower, upper, anchor, problems)
    return {record.id: (lower[k], upper[k]) for k, record in enumerate(result.regions)}


def _choose(result: AuditResult, samples: int | None, seed: int) -> tuple[list[Claim], list[tuple[str, str]]]:
    """Claims to check, and those left out with the reason."""
    work = [claim for claim in result.claims if claim.verdict in (Verdict.CERTIFIED, Verdict.VIOLATED)]
    unchecked = [
        (claim.id, "it ended in an error" if claim.verdict is None else "UNKNOWN states nothing to prove")
        for claim in result.claims
        if claim.verdict in (None, Verdict.UNKNOWN)
    ]
    if samples is None or samples >= len(work):
        return work, unchecked
    drawn = {int(k) for k in np.random.default_rng(seed).choice(len(work), max(0, samples), replace=False)}
    unchecked += [(claim.id, "not in the sample") for k, claim in enumerate(work) if k not in drawn]
    return [claim for k, claim in enumerate(work) if k in drawn], unchecked


def _settle(
    claims: list[Claim],
    networks: Mapping[str, Network],
    boxes: Mapping[str, tuple[np.ndarray, np.ndarray]],
    certificates: Mapping[str, Certificate],
    outcome: _Outcome,
) -> None:
    """Proves or replays some claims."""
    certified: list[tuple[Claim, Setting]] = []
    for claim in claims:
        try:
            if claim.region not in boxes:
                raise InputError("its region is not in the bundle")
            setting = Setting.of(claim, networks, boxes[claim.region])
        except InputError as error:
            outcome.refused.append((claim.id, str(error)))
            continue
        if claim.verdict is Verdict.CERTIFIED:
            certified.append((claim, setting))
            continue
        kind, why = replay(claim, setting)
        if kind == "reproved":
            outcome.reproved.append(claim.id)
        else:
            (outcome.refused if kind == "refused" else outcome.unchecked).append((claim.id, why))
    reasons = prove_claims([c for c, _ in certified], [s for _, s in certified], certificates)
    for (claim, _), reason in zip(certified, reasons, strict=True):
        if reason:
            outcome.refused.append((claim.id, reason))
        else:
            outcome.reproved.append(claim.id)
