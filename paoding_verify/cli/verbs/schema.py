"""`schema`."""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb has no options of its own."""


def run(args: argparse.Namespace) -> int:
    """Prints the JSON Schema of audit.json and of every --json output."""
    from paoding_verify.report.schema import render_schema

    print(render_schema(), end="")
    return 0
