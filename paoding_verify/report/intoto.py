"""The outcome as an in-toto statement about the shipped models."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from paoding_verify.evidence import codec
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.plain import without_timings
from paoding_verify.report.text import visible

__all__ = ["render_intoto"]

_OUTCOMES = {Outcome.PASS: "PASSED", Outcome.FAIL: "FAILED", Outcome.INCONCLUSIVE: "WARNED"}


def render_intoto(result: AuditResult) -> str:
    """An unsigned in-toto Statement v1 with a test-result predicate; its subjects are the shipped ONNX files.

    INCONCLUSIVE becomes WARNED. Claims that are certified passed, unknown ones warned, violated ones and errors failed.
    Source: in-toto attestation framework, Statement v1 and test-result v0.1.
    """
    subjects = [{"name": f"models/{m.role}.onnx", "digest": {"sha256": m.shipped_sha256}} for m in result.models]
    audit = sha256(codec.dumps(without_timings(result)).encode()).hexdigest()
    statement: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": _outcome(result),
            "configuration": [{"name": "audit.json", "digest": {"sha256": audit}}],
            "passedTests": _ids(result, Verdict.CERTIFIED),
            "warnedTests": _ids(result, Verdict.UNKNOWN),
            "failedTests": _ids(result, Verdict.VIOLATED, None),
        },
    }
    return json.dumps(statement, indent=2, allow_nan=False) + "\n"


def _outcome(result: AuditResult) -> str:
    if result.counts["error"]:
        return "FAILED"
    if result.verdict is not None:
        return _OUTCOMES[result.verdict]
    counts = result.counts
    if counts["violated"] or counts["error"]:
        return "FAILED"
    return "WARNED" if counts["unknown"] else "PASSED"


def _ids(result: AuditResult, *verdicts: Verdict | None) -> list[str]:
    return [visible(claim.id) for claim in result.claims if claim.verdict in verdicts]
