"""Claims that did not hold as a SARIF log, for code-scanning tools."""

from __future__ import annotations

import json
from typing import Any

from paoding_verify.evidence.claim import KINDS, Claim
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.report.text import number, visible
from paoding_verify.report.wording import KIND_NAMES, claim_name

__all__ = ["render_sarif"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Verdict.VIOLATED: "error", Verdict.UNKNOWN: "warning", None: "error"}


def render_sarif(result: AuditResult) -> str:
    """One SARIF result for every claim that is violated (error), unknown (warning) or ended in an error (error).

    Source: OASIS SARIF 2.1.0.
    """
    found = [claim for claim in result.claims if claim.verdict is not Verdict.CERTIFIED]
    rules = [{"id": kind, "shortDescription": {"text": KIND_NAMES[kind]}} for kind in KINDS]
    driver = {
        "name": "paoding_verify",
        "version": visible(result.provenance.versions.get("paoding_verify", "unknown")),
        "rules": rules,
    }
    failed = result.counts["error"] > 0
    run = {
        "tool": {"driver": driver},
        "invocations": [{"commandLine": visible(result.provenance.command), "executionSuccessful": not failed}],
        "results": [_result(claim) for claim in found],
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _result(claim: Claim) -> dict[str, Any]:
    figures = {
        "bound": claim.bound,
        "attack": claim.attack,
        "margin": claim.margin,
        "eps": claim.eps,
        "delta": claim.delta,
        "parameter": claim.parameter,
        "ratio": claim.ratio,
    }
    properties: dict[str, Any] = {name: float(value) for name, value in figures.items() if value is not None}
    properties |= {"verdict": _word(claim), "method": visible(claim.method), "rechecked": claim.rechecked}
    found: dict[str, Any] = {
        "ruleId": visible(claim.kind),
        "level": _LEVELS[claim.verdict],
        "message": {"text": _message(claim)},
        "locations": [_location(claim)],
        "partialFingerprints": {"claimId/v1": visible(claim.id)},
        "properties": properties,
    }
    if claim.kind in KINDS:
        found["ruleIndex"] = KINDS.index(claim.kind)
    return found


def _location(claim: Claim) -> dict[str, Any]:
    model = "original" if claim.subject == "original" else "pruned"
    return {
        "physicalLocation": {"artifactLocation": {"uri": f"models/{model}.onnx"}},
        "logicalLocations": [{"fullyQualifiedName": visible(claim.id), "kind": "claim"}],
    }


def _message(claim: Claim) -> str:
    what = visible(f"{_word(claim)}: {claim_name(claim)} of {claim.subject} on region {claim.region}")
    if claim.verdict is Verdict.VIOLATED:
        return f"{what}; margin of the witness {number(claim.attack)}."
    reason = visible(claim.reason) or "no reason given"
    return f"{what}: {reason} (bound {number(claim.bound)}, attack {number(claim.attack)})."


def _word(claim: Claim) -> str:
    return claim.verdict.value if claim.verdict is not None else "ERROR"
