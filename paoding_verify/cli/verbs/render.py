"""`render DIR/audit.json -o report.html`, or any other output that is drawn from a result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from paoding_verify.cli import options

if TYPE_CHECKING:
    from paoding_verify.evidence.result import AuditResult

__all__ = ["configure", "run"]

MAX_RESULT_BYTES = 1 << 30
"""Larger result files are refused."""


FORMATS = {
    "html": "report.html", "sarif": "audit.sarif", "junit": "junit.xml", "in-toto": "attestation.json",
    "markdown": "summary.md", "csv": "claims.csv",
}  # fmt: skip
"""Format -> the name that its file has in a bundle."""
SUFFIXES = {
    "": "html", ".html": "html", ".htm": "html", ".sarif": "sarif", ".xml": "junit", ".md": "markdown", ".csv": "csv",
    ".json": "in-toto",
}  # fmt: skip
"""Suffix of the file to write -> its format."""
SPECIFICATIONS = "vnnlib"
WITH_BASELINE = ("html", "markdown")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument(
        "result", metavar="audit.json", type=Path, help="a bundle's audit.json, or what --json or -o FILE.json wrote"
    )
    parser.add_argument(
        "-o", "--output", metavar="PATH", required=True, type=Path, help="file to write; for vnnlib a new folder"
    )
    parser.add_argument(
        "--format", choices=[*FORMATS, SPECIFICATIONS],
        help="what to draw (default: by the suffix of the file); vnnlib: every claim as a specification",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", metavar="OLD.json", type=Path, help="an earlier audit.json: the report says what changed"
    )
    options.add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Draws from plain data alone: no engine is loaded, nothing is proved again."""
    from paoding_verify.cli.output import prepare_files, write_whole
    from paoding_verify.errors import ConfigError

    kind = args.format or SUFFIXES.get(args.output.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"the suffix of {args.output} names no format that is drawn here ({', '.join(filter(None, SUFFIXES))}): "
            "name another file, or say --format (a browser prints the HTML report to PDF)"
        )
    if args.baseline is not None and kind not in WITH_BASELINE:
        raise ConfigError(f"--baseline is for {' and '.join(WITH_BASELINE)}: leave it out, or draw one of them")
    if kind == SPECIFICATIONS:
        return _specifications(args)
    prepare_files(args, args.output)
    text = _drawn(kind, _read(args.result), None if args.baseline is None else _read(args.baseline))
    write_whole({args.output: text.encode()}, force=args.force)
    print(f"{'report' if kind == 'html' else kind}: {args.output}")
    return 0


def _drawn(kind: str, result: AuditResult, baseline: AuditResult | None) -> str:
    from paoding_verify.report.plain import without_timings
    from paoding_verify.report.render import TWINS

    if baseline is None:
        return TWINS[FORMATS[kind]](without_timings(result))
    if kind == "html":
        from paoding_verify.report.html import render_html

        return render_html(result, baseline)
    from paoding_verify.report.markdown import render_markdown

    return render_markdown(result, baseline)


def _read(path: Path) -> AuditResult:
    from paoding_verify.errors import DataError
    from paoding_verify.evidence.codec import loads
    from paoding_verify.evidence.members import RESULT
    from paoding_verify.evidence.result import AuditResult

    if path.is_dir():
        raise DataError(f"{path} is a folder: give a result, such as the {RESULT} of a bundle")
    if path.stat().st_size > MAX_RESULT_BYTES:
        raise DataError(f"{path} is larger than {MAX_RESULT_BYTES} bytes")
    return loads(AuditResult, path.read_bytes(), path.name)


def _specifications(args: argparse.Namespace) -> int:
    """Writes a folder of specifications; what a bundle's claims of kind vnnlib ask stands beside its audit.json."""
    from paoding_verify.cli.output import write_folder
    from paoding_verify.evidence.codec import loads
    from paoding_verify.evidence.members import PROPERTIES
    from paoding_verify.evidence.property import PropertyRecord
    from paoding_verify.report.specs import render_specs

    stated = args.result.parent / PROPERTIES
    result = _read(args.result)
    properties = loads(dict[str, PropertyRecord], stated.read_bytes(), PROPERTIES) if stated.is_file() else {}
    files = write_folder(render_specs(result, properties), args.output)
    print(f"specifications: {args.output} ({files} files)")
    return 0
