"""Every output that is drawn from a result, by file name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from paoding_verify.evidence import codec
from paoding_verify.evidence.result import AuditResult
from paoding_verify.report.intoto import render_intoto
from paoding_verify.report.junit import render_junit
from paoding_verify.report.plain import timings, without_timings
from paoding_verify.report.sarif import render_sarif

__all__ = ["TWINS", "audit_json", "render_all", "timings_json"]


def _html(result: AuditResult) -> str:
    from paoding_verify.report.html import render_html  # needs jinja2, without which other twins can be drawn

    return render_html(result)


def _markdown(result: AuditResult) -> str:
    from paoding_verify.report.markdown import render_markdown  # shares tables with the page

    return render_markdown(result)


def _csv(result: AuditResult) -> str:
    from paoding_verify.report.claims_csv import render_csv

    return render_csv(result)


TWINS: Mapping[str, Callable[[AuditResult], str]] = {
    "report.html": _html,
    "audit.sarif": render_sarif,
    "junit.xml": render_junit,
    "attestation.json": render_intoto,
    "summary.md": _markdown,
    "claims.csv": _csv,
}
"""File name -> its renderer: the report and its machine-readable twins."""


def render_all(result: AuditResult) -> dict[str, str]:
    """File name -> text, for every twin; equal results give equal bytes, whatever time they took."""
    untimed = without_timings(result)
    return {name: render(untimed) for name, render in TWINS.items()}


def audit_json(result: AuditResult) -> str:
    """The text of audit.json: the whole result without its times. Raises: DataError on numbers that are not finite."""
    return codec.dumps(without_timings(result))


def timings_json(result: AuditResult) -> str:
    """The text of timings.json: claim id -> seconds."""
    return json.dumps(timings(result), indent=2, allow_nan=False) + "\n"
