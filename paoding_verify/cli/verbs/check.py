"""`check DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("bundle", metavar="DIR", type=Path, help="folder that `audit -o` wrote")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout, nothing else there")


def run(args: argparse.Namespace) -> int:
    """Proves every certified claim again and replays what can be; 5 if anything is refused."""
    from paoding_verify.checker.bundle import check_bundle
    from paoding_verify.cli.progress import reporting
    from paoding_verify.evidence.codec import dumps

    with reporting(args.quiet) as progress:
        report = check_bundle(args.bundle, progress=progress)
    if args.json:
        print(dumps(report), end="")
    return 0
