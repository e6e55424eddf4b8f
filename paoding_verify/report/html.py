"""The report as one self-contained HTML page."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from numbers import Real
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from paoding_verify.errors import MissingComponentError
from paoding_verify.evidence import codec
from paoding_verify.evidence.result import AuditResult
from paoding_verify.report.changes import find_changes
from paoding_verify.report.opening import measured
from paoding_verify.report.plain import without_timings
from paoding_verify.report.text import count, number, percent, shape, visible
from paoding_verify.report.view import build_view

__all__ = ["render_html", "template_folder"]


def render_html(result: AuditResult, baseline: AuditResult | None = None) -> str:
    """One HTML page without script and without any external request; equal results give equal bytes.

    With a baseline the page says what changed since that earlier result.

    Every text of the result is escaped, and control characters are written out. Times are left out: they stand in
    timings.json.
    """
    untimed = without_timings(result)
    digest = sha256(codec.dumps(untimed).encode()).hexdigest()
    view = build_view(untimed, None if baseline is None else find_changes(untimed, baseline))
    return _environment().get_template("audit.html.j2").render(view=view, audit_json_sha256=digest)


@cache
def template_folder() -> Path:
    """The folder of the templates: inside an installed package, or the repository's in an editable installation.

    Raises: MissingComponentError if there is neither.
    """
    inside = Path(__file__).parent / "templates"
    beside = Path(__file__).parents[2] / "reports" / "templates"
    for folder in (inside, beside):
        if (folder / "audit.html.j2").is_file():
            return folder
    raise MissingComponentError(f"the report templates are missing from {inside}: reinstall paoding-verify")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "shape": shape}
    environment.globals |= {"count": count, "measured": measured}
    return environment


def _shown(value: Any) -> Any:
    """Nothing reaches the page by accident: None and other objects are errors, text is made visible."""
    if isinstance(value, (Markup, jinja2.Undefined)):
        return value  # printing what is undefined raises UndefinedError
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return value
    raise TypeError(f"a template prints {value!r}, which is neither text nor a number")
