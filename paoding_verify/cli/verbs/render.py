"""`render DIR/audit.json -o report.html`."""

from __future__ import annotations

import argparse
from pathlib import Path

from paoding_verify.cli import options

__all__ = ["configure", "run"]

MAX_RESULT_BYTES = 1 << 30
"""Larger result files are refused."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument(
        "result", metavar="audit.json", type=Path, help="a bundle's audit.json, or what --json or -o FILE.json wrote"
    )
    parser.add_argument("-o", "--output", metavar="report.html", required=True, type=Path, help="file to write")
    options.add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Draws the report from plain data alone: no engine is loaded, nothing is proved again."""
    from paoding_verify.cli.output import prepare_files, write_whole
    from paoding_verify.errors import DataError
    from paoding_verify.evidence.codec import loads
    from paoding_verify.evidence.result import AuditResult
    from paoding_verify.report.html import render_html

    prepare_files(args, args.output)
    if args.result.stat().st_size > MAX_RESULT_BYTES:
        raise DataError(f"{args.result} is larger than {MAX_RESULT_BYTES} bytes")
    result = loads(AuditResult, args.result.read_bytes(), args.result.name)
    write_whole({args.output: render_html(result).encode()}, force=args.force)
    print(f"report: {args.output}")
    return 0
