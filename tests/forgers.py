"""Forgers of bundles: each takes an honest result with its files and gives one that lies consistently."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paoding_verify.evidence.boxes import Box, box_digest, pack_box
from paoding_verify.evidence.claim import Claim, claim_id
from paoding_verify.evidence.codec import dumps
from paoding_verify.evidence.measures import Evidence
from paoding_verify.evidence.metrics import accuracy_metrics
from paoding_verify.evidence.policy import DEFAULT_RULES, apply_rules
from paoding_verify.evidence.result import SCHEMA_VERSION, AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict

Forger = Callable[[AuditResult], AuditResult]

C, V, U = Verdict.CERTIFIED, Verdict.VIOLATED, Verdict.UNKNOWN


def rehash(folder: Path) -> None:
    """Gives the manifest the digests of the files that are there now."""
    members = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "members": members}))


def refigured(result: AuditResult) -> AuditResult:
    """The result with the metrics and the policy's outcome that follow from its claims."""
    policy = result.policy
    if policy is not None:
        rules = {rule.rule: rule.threshold for rule in policy.rules}
        policy = apply_rules(policy.name, rules, Evidence(result.claims, result.models))
    return replace(result, metrics=accuracy_metrics(result.claims), policy=policy)


def certificates(result: AuditResult, change: Callable[[dict[str, Any]], None]) -> AuditResult:
    """The result with its certificates changed."""
    name = "certificates/certificates.json"
    plain = json.loads(result.files[name])
    change(plain)
    return replace(result, files={**result.files, name: dumps(plain).encode()})


def each(wanted: Callable[[Claim], bool], **fields: Any) -> Forger:
    """Changes every claim that is wanted, there is at least one; drops certificates of claims that are none now."""

    def forge(result: AuditResult) -> AuditResult:
        assert any(wanted(claim) for claim in result.claims)
        claims = tuple(replace(c, **fields) if wanted(c) else c for c in result.claims)
        changed = replace(result, claims=claims)
        keep = {claim.id for claim in claims if claim.verdict is C}
        changed = certificates(changed, lambda plain: [plain.pop(key) for key in [*plain] if key not in keep] and None)
        witnesses = {k: v for k, v in changed.files.items() if not k.startswith("witnesses/")}
        return refigured(replace(changed, files=witnesses))

    return forge


def is_a(kind: str, verdict: Verdict | None = None) -> Callable[[Claim], bool]:
    """Claims of a kind (and verdict)."""
    return lambda claim: claim.kind == kind and verdict in (None, claim.verdict)


def only(keep: Callable[[Claim], bool]) -> Forger:
    """Leaves claims out."""

    def forge(result: AuditResult) -> AuditResult:
        claims = tuple(claim for claim in result.claims if keep(claim))
        assert len(claims) < len(result.claims)
        kept = {claim.id for claim in claims}
        changed = certificates(
            replace(result, claims=claims, metrics=accuracy_metrics(claims)),
            lambda plain: [plain.pop(key) for key in [*plain] if key not in kept] and None,
        )
        return replace(changed, files={k: v for k, v in changed.files.items() if not k.startswith("witnesses/")})

    return forge


def repeated(result: AuditResult) -> AuditResult:
    """One certified claim, counted eleven times."""
    claim = next(c for c in result.claims if c.subject == "pruned" and c.verdict is C)
    copies = tuple(replace(claim, id=claim_id("pruned", "top1_robust", f"s{k}")) for k in range(10))

    def add(plain: dict[str, Any]) -> None:
        plain.update({copy.id: plain[claim.id] for copy in copies})

    return certificates(refigured(replace(result, claims=(*result.claims, *copies))), add)


def renamed(result: AuditResult) -> AuditResult:
    """Ids that speak of another subject and kind."""

    def rename(plain: dict[str, Any]) -> None:
        for key in [*plain]:
            plain[f"pair/top1_equivalent/all/{key}"] = plain.pop(key)

    claims = tuple(
        replace(c, id=f"pair/top1_equivalent/all/{c.id}") if c.verdict is C else c for c in result.claims
    )  # fmt: skip
    return certificates(replace(result, claims=claims), rename)


def passed(result: AuditResult) -> AuditResult:
    """The policy passes, whatever was found."""
    assert result.policy is not None
    rules = tuple(replace(rule, outcome=Outcome.PASS) for rule in result.policy.rules)
    return replace(result, policy=replace(result.policy, outcome=Outcome.PASS, rules=rules))


def thresholds(result: AuditResult) -> AuditResult:
    """Thresholds that everything meets, under the name of the default policy."""
    rules = {key: 0.0 if key.startswith("min") else 1.0 for key in DEFAULT_RULES}
    return replace(result, policy=apply_rules("default", rules, Evidence(result.claims, result.models)))


def intervals(result: AuditResult) -> AuditResult:
    """Narrower intervals than the evidence allows."""
    assert result.policy is not None
    rules = tuple(replace(rule, low=rule.threshold, high=rule.threshold) for rule in result.policy.rules)
    return replace(result, policy=replace(result.policy, rules=rules))


def no_rules(result: AuditResult) -> AuditResult:
    """A policy that demands nothing."""
    assert result.policy is not None
    return replace(result, policy=replace(result.policy, outcome=Outcome.PASS, rules=()))


def models(**fields: Any) -> Forger:
    """Changes the records of all models."""
    return lambda result: replace(result, models=tuple(replace(m, **fields) for m in result.models))


def points(eps: float | None) -> Forger:
    """Boxes shrunk to their anchors, and what is certified there called certified for the radius."""

    def forge(result: AuditResult) -> AuditResult:
        with np.load(io.BytesIO(result.files["regions.npz"])) as boxes:
            anchor = boxes["anchor"]
        box = anchor.astype(np.float64)
        buffer = io.BytesIO()
        np.savez(buffer, lower=box, upper=box, anchor=anchor)
        regions = tuple(
            replace(
                r, sha256=box_digest(box[k], box[k]), eps=eps,
                box=pack_box(Box(anchor[k], box[k], box[k]), is_ball=eps is not None),
            )
            for k, r in enumerate(result.regions)
        )  # fmt: skip
        claims = tuple(replace(claim, eps=eps) for claim in result.claims)
        files = {**result.files, "regions.npz": buffer.getvalue()}
        return refigured(replace(result, regions=regions, claims=claims, files=files))

    return forge


def claimed(result: AuditResult) -> AuditResult:
    """Violated claims called certified, with the certificate of another claim."""
    violated = [c.id for c in result.claims if c.verdict is V]

    def lend(plain: dict[str, Any]) -> None:
        plain.update({key: {**next(iter(plain.values())), "kind": _kind(key)} for key in violated})

    fields = {"verdict": C, "witness": None, "bound": 1e-3, "semantics": ("real", "float32"), "attack": 1.0}
    return certificates(each(lambda c: c.verdict is V, **fields)(result), lend)


def _kind(claim: str) -> str:
    return "differential" if claim.startswith("pair/") else "crown"


def crossed_witness(result: AuditResult) -> AuditResult:
    """A witness that states outputs of a network that its claim is not about."""
    claims = tuple(
        replace(c, witness=replace(c.witness, outputs_pruned=c.witness.outputs_original))
        if c.witness is not None and c.subject == "original" else c
        for c in result.claims
    )  # fmt: skip
    assert claims != result.claims
    return replace(result, claims=claims, files={k: v for k, v in result.files.items() if "witnesses" not in k})
