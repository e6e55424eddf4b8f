"""Checks a bundle: every file, every record, every figure, every proof, every witness. Nothing is believed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paoding_verify.checker.centres import check_margin, enclose_outputs
from paoding_verify.checker.claims import Setting, prove_claims
from paoding_verify.checker.consistency import check_consistency, taken_on_trust
from paoding_verify.checker.derived import Twins, check_derived
from paoding_verify.checker.members import read_boxes, read_members
from paoding_verify.checker.records import check_balls, check_digests, read_models
from paoding_verify.checker.replay import replay
from paoding_verify.errors import DataError, InputError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.codec import loads
from paoding_verify.evidence.members import BOXES, CERTIFICATES, PROPERTIES, RESULT
from paoding_verify.evidence.property import PropertyRecord
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Array, Network

__all__ = ["BundleReport", "Sample", "check_bundle"]

Progress = Callable[[str, int, int], None]

BATCH = 64
"""Claims that are proved together."""


@dataclass(frozen=True)
class Sample:
    """Which claims were looked at, where not all were."""

    drawn: int
    total: int
    seed: int
    """From which they were drawn; the same seed draws the same claims."""


@dataclass(frozen=True)
class BundleReport:
    """What the check of a bundle found."""

    problems: tuple[str, ...] = ()
    """Statements of the bundle that are not true, other than claims."""
    reproved: tuple[str, ...] = ()
    """Ids of CERTIFIED claims that were proved again."""
    replayed: tuple[str, ...] = ()
    """Ids of VIOLATED claims whose witness was reproduced."""
    refused: tuple[tuple[str, str], ...] = ()
    """(claim id, why) of claims that the bundle does not support."""
    unknown: tuple[str, ...] = ()
    """Ids of claims that are UNKNOWN or ended in an error: they state nothing that could be proved."""
    unchecked: tuple[tuple[str, str], ...] = ()
    """(claim id, why) of CERTIFIED and VIOLATED claims that were not in the sample, or need onnxruntime."""
    omitted: tuple[str, ...] = ()
    """Comparisons that a complete check makes and this one could not."""
    trusted: tuple[str, ...] = ()
    """Statements that nothing in a bundle can prove or refute."""
    sample: Sample | None = None
    """None: every claim was looked at."""

    @property
    def ok(self) -> bool:
        """Whether nothing in the bundle was found to be untrue."""
        return not self.problems and not self.refused

    @property
    def complete(self) -> bool:
        """Whether everything that a bundle can prove was looked at."""
        return self.sample is None and not self.unchecked and not self.omitted


def check_bundle(
    path: str | Path,
    *,
    progress: Progress | None = None,
    samples: int | None = None,
    seed: int | None = None,
    twins: Twins | None = None,
) -> BundleReport:
    """Whether a bundle holds what it says, told from its files alone; `trusted` lists what no bundle can show.

    Every CERTIFIED claim is proved again from the shipped models, every VIOLATED one is replayed; with `samples` only
    that many of them, drawn by `seed` (without one by chance, so that nobody knows the sample beforehand). Claims are
    exactly those of the mode, margins at anchors, metrics and policy follow, no evidence contradicts another. `twins`
    (`report.render.TWINS`) draws report and twins again; those it does not draw are `omitted`.
    Raises: DataError if the folder is no bundle.
    """
    found = _Findings()
    members = read_members(Path(path), found.problems)
    if RESULT not in members:
        raise DataError(f"the bundle has no {RESULT} with the digest that the manifest states")
    result = loads(AuditResult, members[RESULT], RESULT)
    check_consistency(result, found.problems)
    check_derived(result, members, twins or {}, found.problems, found.omitted)
    bench = _Bench.of(result, members, found)
    _check_margins(result, bench, found.problems)
    work, sample = _choose(result, samples, seed, found)
    for start in range(0, len(work), BATCH):
        _settle(work[start : start + BATCH], bench, found)
        if progress is not None:
            progress("claims", min(start + BATCH, len(work)), len(work))
    return BundleReport(
        tuple(found.problems), tuple(found.reproved), tuple(found.replayed), tuple(found.refused),
        tuple(c.id for c in result.claims if c.verdict in (None, Verdict.UNKNOWN)), tuple(found.unchecked),
        tuple(found.omitted), tuple(taken_on_trust(result)), sample,
    )  # fmt: skip


@dataclass
class _Findings:
    """Lists that grow while a bundle is checked; see `BundleReport`."""

    problems: list[str] = field(default_factory=list)
    reproved: list[str] = field(default_factory=list)
    replayed: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    unchecked: list[tuple[str, str]] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Bench:
    """What claims are proved from; what cannot be read is left out, and named among the problems."""

    networks: Mapping[str, Network]
    numbers: Mapping[str, int]
    """Region id -> row of the arrays."""
    lower: Array
    upper: Array
    anchor: Array
    certificates: Mapping[str, Certificate]
    properties: Mapping[str, PropertyRecord]

    @classmethod
    def of(cls, result: AuditResult, members: Mapping[str, bytes], found: _Findings) -> _Bench:
        """Reads models, boxes, certificates and properties. Raises: DataError if a file is damaged."""
        problems = found.problems
        networks = read_models(result, members, problems, found.omitted)
        certificates = loads(dict[str, Certificate], members.get(CERTIFICATES, b"{}"), CERTIFICATES)
        properties = loads(dict[str, PropertyRecord], members.get(PROPERTIES, b"{}"), PROPERTIES)
        proved = {claim.id for claim in result.claims if claim.verdict is Verdict.CERTIFIED}
        problems += [f"certificate {key[:80]!r} belongs to no certified claim" for key in certificates.keys() - proved]
        specified = {claim.id for claim in result.claims if claim.kind == "vnnlib"}
        problems += [f"property {key[:80]!r} belongs to no claim" for key in properties.keys() - specified]
        nothing = np.empty((0, 0))
        numbers: dict[str, int] = {}
        boxes = nothing, nothing, nothing
        if result.models and BOXES in members:
            try:
                boxes = read_boxes(members[BOXES], len(result.regions), result.models[0].input_shape)
            except DataError as error:
                problems.append(str(error))
            else:
                check_digests(result.regions, *boxes[:2], problems)
                check_balls(result.regions, *boxes, problems)
                numbers = {record.id: k for k, record in enumerate(result.regions)}
        return cls(networks, numbers, *boxes, certificates, properties)

    def setting(self, claim: Claim) -> Setting:
        """What a claim is about. Raises: InputError if the bundle does not hold it."""
        if claim.region not in self.numbers:
            raise InputError("its region is not in the bundle")
        number = self.numbers[claim.region]
        return Setting.of(claim, self.networks, (self.lower[number], self.upper[number]), self.properties)


def _check_margins(result: AuditResult, bench: _Bench, problems: list[str]) -> None:
    """The margin that a claim states at its anchor is one that a float32 program may compute."""
    shape = bench.anchor.shape[1:]
    fitting = {role: network for role, network in bench.networks.items() if network.input_shape == shape}
    if not bench.numbers or not np.isfinite(bench.anchor).all():
        return  # boxes that cannot be read, or anchors outside of them, are problems already
    outputs = enclose_outputs(fitting, bench.anchor)
    for claim in result.claims:
        if claim.verdict is None or (claim.kind == "output_distance" and claim.delta is None):
            continue
        roles = ("original", "pruned") if claim.subject == "pair" else (claim.subject,)
        try:
            setting = bench.setting(claim)
        except InputError as error:
            if claim.verdict is Verdict.UNKNOWN:  # others are refused where they are settled
                problems.append(f"claim {claim.id}: {error}")
            continue
        if text := check_margin(claim, setting, [outputs[role] for role in roles], bench.numbers[claim.region]):
            problems.append(f"claim {claim.id}: {text}")


def _choose(
    result: AuditResult, samples: int | None, seed: int | None, found: _Findings
) -> tuple[Sequence[Claim], Sample | None]:
    """Claims to look at, and how they were drawn."""
    work = [claim for claim in result.claims if claim.verdict in (Verdict.CERTIFIED, Verdict.VIOLATED)]
    if samples is None or samples >= len(work):
        return work, None
    seed = int.from_bytes(os.urandom(8), "big") if seed is None else seed
    drawn = {int(k) for k in np.random.default_rng(seed).choice(len(work), max(0, samples), replace=False)}
    found.unchecked += [(claim.id, "not in the sample") for k, claim in enumerate(work) if k not in drawn]
    return [claim for k, claim in enumerate(work) if k in drawn], Sample(len(drawn), len(work), seed)


def _settle(claims: Sequence[Claim], bench: _Bench, found: _Findings) -> None:
    """Proves or replays some claims."""
    certified: list[tuple[Claim, Setting]] = []
    for claim in claims:
        try:
            setting = bench.setting(claim)
        except InputError as error:
            found.refused.append((claim.id, str(error)))
            continue
        if claim.verdict is Verdict.CERTIFIED:
            certified.append((claim, setting))
            continue
        kind, why = replay(claim, setting)
        if kind == "reproved":
            found.replayed.append(claim.id)
        else:
            (found.refused if kind == "refused" else found.unchecked).append((claim.id, why))
    reasons = prove_claims([c for c, _ in certified], [s for _, s in certified], bench.certificates)
    for (claim, _), reason in zip(certified, reasons, strict=True):
        if reason:
            found.refused.append((claim.id, reason))
        else:
            found.reproved.append(claim.id)
