"""`check DIR` or `check FILE.zip`."""

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
    parser.add_argument(
        "bundle", metavar="DIR|ZIP", type=Path, help="folder that `audit -o` wrote, or a ZIP file of it"
    )
    parser.add_argument(
        "--samples", metavar="N", type=int, help="prove or replay so many claims, drawn by chance (default: all)"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="draw what chance draws by this seed again")
    parser.add_argument(
        "--exact",
        metavar="K",
        type=int,
        help="prove the K claims of smallest margin, and K by chance, in exact rational arithmetic as well",
    )
    parser.add_argument(
        "--semantics",
        choices=["real", "float32", "tf32", "bfloat16"],
        help="say as well how many claims hold in this arithmetic (Winograd and Fourier convolutions are in none)",
    )
    parser.add_argument("--key", metavar="PUBLIC.pem", type=Path, help="Ed25519 key that must have signed the bundle")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout, nothing else there")


def run(args: argparse.Namespace) -> int:
    """Proves every certified claim again, replays every witness, draws every page again; 5 if anything is refused."""
    from paoding_verify.checker.bundle import Wishes, check_bundle
    from paoding_verify.cli.progress import reporting
    from paoding_verify.errors import ConfigError, DataError, IntegrityError
    from paoding_verify.evidence.codec import dumps
    from paoding_verify.report.render import TWINS

    if any(n is not None and n < least for n, least in ((args.seed, 0), (args.samples, 1), (args.exact, 1))):
        raise ConfigError("--samples and --exact must be at least 1, --seed at least 0")
    if args.seed is not None and args.samples is None and args.exact is None:
        raise ConfigError("--seed draws claims: say how many with --samples or --exact")
    key = args.key.read_bytes() if args.key is not None else None
    wishes = Wishes(args.samples, args.seed, args.exact or 0, args.semantics or "", key)
    try:
        with reporting(args.quiet) as progress:
            report = check_bundle(args.bundle, progress=progress, twins=TWINS, wishes=wishes)
    except DataError as error:
        # A bundle that was damaged, not a folder or a file of something else.
        archive = args.bundle.suffix.lower() == ".zip" and args.bundle.is_file()
        if archive or (args.bundle / "manifest.json").is_file():
            raise IntegrityError(str(error)) from error
        raise
    if args.json:
        print(dumps({"ok": report.ok, "complete": report.complete, **vars(report)}), end="")
    else:
        _print(report, args)
    return 0 if report.ok else REFUSED


def _print(report: BundleReport, args: argparse.Namespace) -> None:
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
    _print_more(report, args.semantics)
    for text in report.omitted:
        print(f"not compared: {visible(text)}")
    for text in report.trusted:
        print(f"taken on trust: {visible(text)}")
    print(_conclusion(report))


def _print_more(report: BundleReport, semantics: str | None) -> None:
    """What was asked for beyond the bundle's own statements."""
    from paoding_verify.report.text import count, visible

    if report.signed_by is not None:
        print(f"signed by the key {report.signed_by[:16]}")
    for name, tried in (("exact rational arithmetic", report.exact), (semantics, report.beyond)):
        if tried is not None:
            scope = "" if name == semantics else ", for exact numbers (semantics real)"
            print(f"proved in {name}: {sum(not why for _, why in tried)} of {count(len(tried), 'claim')} tried{scope}")
            for reason in sorted({why for _, why in tried if why} if name != semantics else ()):
                print(f"  not shown: {count(sum(why == reason for _, why in tried), 'claim')}, {visible(reason)}")


def _conclusion(report: BundleReport) -> str:
    """The last line; a bundle holds what it says only if all of it was looked at."""
    if not report.ok:
        return "the bundle does not hold what it says"
    if report.sample is not None:
        drawn, total, seed = report.sample.drawn, report.sample.total, report.sample.seed
        return f"the sample holds: {drawn} of {total} claims, drawn by seed {seed}"
    return "the bundle holds what it says" if report.complete else "what was checked holds; not everything was"
