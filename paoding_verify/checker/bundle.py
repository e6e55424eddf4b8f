"""Checks a bundle: every file, every record, every figure, every proof, every witness. Nothing is believed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from paoding_verify.checker.centres import check_margin, enclose_outputs, replay_margins
from paoding_verify.checker.claims import Setting, prove_claims
from paoding_verify.checker.consistency import check_consistency, taken_on_trust
from paoding_verify.checker.derived import Twins, check_derived
from paoding_verify.checker.exactly import choose_claims, prove_exactly
from paoding_verify.checker.intervals import ARITHMETICS
from paoding_verify.checker.members import read_boxes, read_members
from paoding_verify.checker.records import check_balls, check_digests, read_models
from paoding_verify.checker.replay import replay
from paoding_verify.errors import ConfigError, DataError, InputError, IntegrityError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.codec import loads
from paoding_verify.evidence.envelope import key_id, statement, unseal
from paoding_verify.evidence.members import BOXES, CERTIFICATES, PROPERTIES, RESULT, SIGNATURE
from paoding_verify.evidence.property import PropertyRecord
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Array, Network

__all__ = ["BundleReport", "Sample", "Wishes", "check_bundle"]

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
    signed_by: str | None = None
    """Id of the key whose signature was verified; None: none was asked about."""
    exact: tuple[tuple[str, str], ...] | None = None
    """(claim id, why not) of the re-proved claims tried in exact arithmetic, "" if proved; None: not asked."""
    beyond: tuple[tuple[str, str], ...] | None = None
    """(claim id, why not) of all re-proved claims in an arithmetic that they need not name, "" if proved; or None."""

    @property
    def ok(self) -> bool:
        """Whether nothing in the bundle was found to be untrue."""
        return not self.problems and not self.refused

    @property
    def complete(self) -> bool:
        """Whether everything that a bundle can prove was looked at."""
        return self.sample is None and not self.unchecked and not self.omitted


@dataclass(frozen=True)
class Wishes:
    """What a check looks at, beyond what a bundle has to show."""

    samples: int | None = None
    """Claims to prove or replay, drawn by chance; None: all."""
    seed: int | None = None
    """Draws the sample, and claims for exact arithmetic; None: from the system, so that nobody knows them before."""
    exact: int = 0
    """So many claims of smallest margin, and so many others, are proved in exact rational arithmetic as well."""
    semantics: str = ""
    """An arithmetic in which all claims that were re-proved are tried as well."""
    key: bytes | None = None
    """Public key, in PEM, that must have signed the bundle."""


def check_bundle(
    path: str | Path, *, progress: Progress | None = None, twins: Twins | None = None, wishes: Wishes | None = None
) -> BundleReport:
    """Whether a bundle holds what it says, told from its files alone; `trusted` lists what no bundle can show.

    Every CERTIFIED claim is proved again from the shipped models, every VIOLATED one is replayed. Claims are exactly
    those of the mode, margins at anchors, metrics and policy follow, no evidence contradicts another. `twins`
    (`report.render.TWINS`) draws report and twins again; those it does not draw are `omitted`.
    Raises: DataError if the place is no bundle; ConfigError or MissingComponentError if a wish cannot be met.
    """
    found, wishes = _Findings(), wishes or Wishes()
    seed = int.from_bytes(os.urandom(8), "big") if wishes.seed is None else wishes.seed
    if wishes.semantics and wishes.semantics not in ARITHMETICS:
        raise ConfigError(f"{wishes.semantics!r} is no arithmetic; known are {', '.join(ARITHMETICS)}")
    members = read_members(Path(path), found.problems)
    if RESULT not in members:
        raise DataError(f"the bundle has no {RESULT} with the digest that the manifest states")
    result = loads(AuditResult, members[RESULT], RESULT)
    check_consistency(result, found.problems)
    check_derived(result, members, twins or {}, found.problems, found.omitted)
    bench = _Bench.of(result, members, found)
    _check_margins(result, bench, found)
    signed_by = _check_signature(members, wishes.key, found.problems)
    work, sample = _choose(result, wishes.samples, seed, found)
    for start in range(0, len(work), BATCH):
        _settle(work[start : start + BATCH], bench, found)
        if progress is not None:
            progress("claims", min(start + BATCH, len(work)), len(work))
    return BundleReport(
        tuple(found.problems), tuple(found.reproved), tuple(found.replayed), tuple(found.refused),
        tuple(c.id for c in result.claims if c.verdict in (None, Verdict.UNKNOWN)), tuple(found.unchecked),
        tuple(found.omitted), (*taken_on_trust(result), *_unsigned(members, wishes)), sample, signed_by,
        _exactly(result, bench, found.reproved, wishes.exact, seed, progress) if wishes.exact else None,
        _beyond(result, bench, found.reproved, wishes.semantics) if wishes.semantics else None,
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


def _check_margins(result: AuditResult, bench: _Bench, found: _Findings) -> None:
    """The margin that a claim states at its anchor is one that a float32 program may compute, and lies on the side of
    zero where all of them have it, or onnxruntime.
    """
    problems = found.problems
    shape = bench.anchor.shape[1:]
    fitting = {role: network for role, network in bench.networks.items() if network.input_shape == shape}
    if not bench.numbers or not np.isfinite(bench.anchor).all():
        return  # boxes that cannot be read, or anchors outside of them, are problems already
    outputs = enclose_outputs(fitting, bench.anchor)
    undecided: list[tuple[Claim, Setting]] = []
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
        text = check_margin(claim, setting, [outputs[role] for role in roles], bench.numbers[claim.region])
        if text is None:
            undecided.append((claim, setting))
        elif text:
            problems.append(f"claim {claim.id}: {text}")
    if undecided:
        try:
            texts = replay_margins(undecided, bench.anchor[[bench.numbers[claim.region] for claim, _ in undecided]])
        except ImportError:
            found.omitted.append(
                f"{len(undecided)} margins at anchors that rounding leaves on either side of zero: onnxruntime is not "
                "installed to run them"
            )
        else:
            for (claim, _), (text, close) in zip(undecided, texts, strict=True):
                if text:
                    (found.omitted if close else problems).append(f"claim {claim.id}: {text}")


def _choose(
    result: AuditResult, samples: int | None, seed: int, found: _Findings
) -> tuple[Sequence[Claim], Sample | None]:
    """Claims to look at, and how they were drawn."""
    work = [claim for claim in result.claims if claim.verdict in (Verdict.CERTIFIED, Verdict.VIOLATED)]
    if samples is None or samples >= len(work):
        return work, None
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


def _check_signature(members: Mapping[str, bytes], key: bytes | None, problems: list[str]) -> str | None:
    """Id of the key, if it signed all files of the bundle as they are."""
    if key is None:
        return None
    try:
        if SIGNATURE not in members:
            raise IntegrityError("the bundle is not signed")
        if unseal(members[SIGNATURE], key) != statement(members):
            raise IntegrityError("what was signed is another bundle, or this one before it was changed")
    except IntegrityError as error:
        problems.append(str(error))
        return None
    return key_id(key)


def _unsigned(members: Mapping[str, bytes], wishes: Wishes) -> list[str]:
    """What a reader has to know about the signature."""
    if wishes.key is not None:
        return []
    return ["who signed it: no key was given" if SIGNATURE in members else "who made it: it is not signed"]


def _exactly(
    result: AuditResult, bench: _Bench, reproved: Sequence[str], count: int, seed: int, progress: Progress | None
) -> tuple[tuple[str, str], ...]:
    """Some re-proved claims in exact arithmetic."""
    known = set(reproved)
    chosen = choose_claims([claim for claim in result.claims if claim.id in known], count, seed)
    found = []
    for k, claim in enumerate(chosen):
        found.append((claim.id, prove_exactly(bench.setting(claim), bench.certificates[claim.id])))
        if progress is not None:
            progress("exact arithmetic", k + 1, len(chosen))
    return tuple(found)


def _beyond(result: AuditResult, bench: _Bench, reproved: Sequence[str], semantics: str) -> tuple[tuple[str, str], ...]:
    """All re-proved claims in another arithmetic; their bounds are not asked for there."""
    known = set(reproved)
    claims = [claim for claim in result.claims if claim.id in known]
    found: list[tuple[str, str]] = []
    for start in range(0, len(claims), BATCH):
        part = claims[start : start + BATCH]
        settings = [bench.setting(claim) for claim in part]
        bare = [replace(claim, bound=None) for claim in part]
        reasons = prove_claims(bare, settings, bench.certificates, semantics)
        found += zip((claim.id for claim in part), reasons, strict=True)
    return tuple(found)
