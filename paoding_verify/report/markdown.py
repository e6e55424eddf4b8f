"""A short summary in Markdown, for pull requests and job pages."""

from __future__ import annotations

import re

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import AuditResult
from paoding_verify.report.changes import find_changes
from paoding_verify.report.opening import decision, explanation
from paoding_verify.report.tables import metric_rows, outcome_name, property_rows
from paoding_verify.report.text import count, number, percent, visible
from paoding_verify.report.wording import headline, subject_name

__all__ = ["escape_markdown", "render_markdown"]

MAX_OPEN = 50
"""Violated and open claims listed one by one."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_PUNCTUATION = re.compile(r"[!\"#$%&'()*+,./:;<=>?@\[\\\]^_`{|}~-]")


def render_markdown(result: AuditResult, baseline: AuditResult | None = None) -> str:
    """The verdict, the counts, the accuracies and the claims that did not hold; every text is escaped.

    With a baseline also what changed since that earlier result.
    """
    outcome = result.verdict.value if result.verdict else "no overall verdict"
    lines = [f"# {headline(result)}: {outcome}", "", escape_markdown(str(decision(result))), ""]
    lines += [
        f"- {subject_name(model.role, result)}: {escape_markdown(model.file)} (SHA-256 `{_hex(model.shipped_sha256)}`)"
        for model in result.models
    ]
    lines += [
        "",
        escape_markdown(" ".join(explanation(result))),
        "",
        "| Property | Subject | eps | proved | refuted | unknown | errors |",
    ]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for row in property_rows(result):
        counts = [str(row.counts.get(name, 0)) for name in ("certified", "violated", "unknown", "error")]
        cells = (escape_markdown(row.name), escape_markdown(row.subject), number(row.eps), *counts)
        lines.append(f"| {' | '.join(cells)} |")
    lines += _metrics(result) + _changes(result, baseline) + _open_claims(result)
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """The text as CommonMark text that means nothing but itself: no markup, no HTML, no links, one line."""
    return _PUNCTUATION.sub(lambda m: _ENTITIES.get(m[0], "\\" + m[0]), visible(text))


def _metrics(result: AuditResult) -> list[str]:
    if not result.metrics:
        return []
    lines = [
        "",
        "| eps | Network | regions | natural | empirical robust | certified |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for row in metric_rows(result):
        m = row.metric
        shares = (m.natural_accuracy, m.empirical_robust_accuracy, m.certified_accuracy)
        cells = [f"{m.eps:g}", escape_markdown(row.subject), str(m.num_regions), *map(percent, shares)]
        lines.append(f"| {' | '.join(escape_markdown(c) if '<' in c else c for c in cells)} |")
    return lines


def _changes(result: AuditResult, baseline: AuditResult | None) -> list[str]:
    if baseline is None:
        return []
    changes = find_changes(result, baseline)
    lines = ["", "## Changes since the earlier audit", "", f"{count(changes.compared, 'claim')} compared\\."]
    for name, found in (("violated", changes.violated), ("open", changes.open), ("certified", changes.gained)):
        lines += ["", f"Newly {name}: {len(found)}", ""]
        lines += [f"- {escape_markdown(change.claim.id)} \\(was {change.before}\\)" for change in found[:MAX_OPEN]]
        lines += [f"- and {len(found) - MAX_OPEN} more"] if len(found) > MAX_OPEN else []
    return lines


def _open_claims(result: AuditResult) -> list[str]:
    order = ("violated", "error", "unknown")
    found = sorted((c for c in result.claims if outcome_name(c) in order), key=lambda c: order.index(outcome_name(c)))
    if not found:
        return []
    lines = ["", "## Violated and open claims", ""]
    lines += [f"- {outcome_name(claim).upper()} {escape_markdown(claim.id)}{_why(claim)}" for claim in found[:MAX_OPEN]]
    if len(found) > MAX_OPEN:
        lines.append(f"- and {len(found) - MAX_OPEN} more in audit.json")
    return lines


def _why(claim: Claim) -> str:
    return f": {escape_markdown(claim.reason)}" if claim.reason else ""


def _hex(text: str) -> str:
    return re.sub("[^0-9a-f]", "?", text)
