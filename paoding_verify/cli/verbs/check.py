"""`check DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paoding_verify.checker.bundle import BundleReport

__all__ = ["configure", "run"]

REFUSED = 5
MAX_LINES = 20
"""Refusals that are listed; --json lists all."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("bundle", metavar="DIR", type=Path, help="folder that `audit -o` wrote")
    parser.add_argument(
        "--samples", metavar="N", type=int, help="prove or replay so many claims, drawn by chance (default: all)"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="draw the sample of this seed again")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout, nothing else there")


def run(args: argparse.Namespace) -> int:
    """Proves every certified claim again, replays every witness, draws every page again; 5 if anything is refused."""
    from paoding_verify.checker.bundle import check_bundle
    from paoding_verify.cli.progress import reporting
    from paoding_verify.errors import ConfigError, DataError, IntegrityError
    from paoding_verify.evidence.codec import dumps
    from paoding_verify.report.render import TWINS

    if (args.seed is not None and args.seed < 0) or (args.samples is not None and args.samples < 1):
        raise ConfigError("--samples must be at least 1, --seed at least 0")
    if args.seed is not None and args.samples is None:
        raise ConfigError("--seed draws a sample: give its size with --samples")
    try:
        with reporting(args.quiet) as progress:
            report = check_bundle(args.bundle, progress=progress, samples=args.samples, seed=args.seed, twins=TWINS)
    except DataError as error:
        if (args.bundle / "manifest.json").is_file():  # a bundle that was damaged, not a folder of something else
            raise IntegrityError(str(error)) from error
        raise
    if args.json:
        print(dumps({"ok": report.ok, "complete": report.complete, **vars(report)}), end="")
    else:
        _print(report)
    return 0 if report.ok else REFUSED


def _print(report: BundleReport) -> None:
    from paoding_verify.report.text import count, visible

    found = [*report.problems, *(f"{claim}: {why}" for claim, why in report.refused)]
    for line in found[:MAX_LINES]:
        print(f"refused: {visible(line)}")
    if len(found) > MAX_LINES:
        print(f"and {len(found) - MAX_LINES} more; --json lists all")
    unknown = f", {count(len(report.unknown), 'claim')} unknown: nothing to prove" if report.unknown else ""
    print(
        f"{count(len(report.reproved), 'proof')} and {count(len(report.replayed), 'counterexample')} confirmed, "
        f"{len(report.refused)} refused{unknown}"
    )
    for why in sorted({why for _, why in report.unchecked}):
        print(f"not checked: {count(sum(reason == why for _, reason in report.unchecked), 'claim')}, {visible(why)}")
    for text in report.omitted:
        print(f"not compared: {visible(text)}")
    for text in report.trusted:
        print(f"taken on trust: {visible(text)}")
    print(_conclusion(report))


def _conclusion(report: BundleReport) -> str:
    """The last line; a bundle holds what it says only if all of it was looked at."""
    if not report.ok:
        return "the bundle does not hold what it says"
    if report.sample is not None:
        drawn, total, seed = report.sample.drawn, report.sample.total, report.sample.seed
        return f"the sample holds: {drawn} of {total} claims, drawn by seed {seed}"
    return "the bundle holds what it says" if report.complete else "what was checked holds; not everything was"
