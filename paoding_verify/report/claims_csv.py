"""All claims as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from numbers import Integral, Real

from paoding_verify.evidence.result import AuditResult
from paoding_verify.report.tables import outcome_name
from paoding_verify.report.text import visible

__all__ = ["COLUMNS", "cell", "render_csv"]

COLUMNS = (
    "id", "kind", "subject", "region", "eps", "label", "verdict", "method", "semantics", "rechecked", "margin", "bound",
    "attack", "ratio", "delta", "parameter", "reason", "smt", "smt_scale",
)  # fmt: skip
"""Columns, in order: fields of a claim, and what follows from them."""


def render_csv(result: AuditResult) -> str:
    """One row for each claim, numbers in full precision; no text of it can be taken for a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for claim in result.claims:
        values = {name: getattr(claim, name) for name in COLUMNS}
        values |= {"verdict": outcome_name(claim).upper(), "semantics": "+".join(claim.semantics)}
        writer.writerow([cell(values[name]) for name in COLUMNS])
    return out.getvalue()


def cell(value: object) -> str:
    """A value as one cell: text that a spreadsheet would read as a formula gets an apostrophe in front.

    Source: OWASP, CSV injection.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    text = visible(str(value))
    return "'" + text if text.lstrip()[:1] in {"=", "+", "-", "@", "|", "%", "'"} else text
