"""`sign DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    from paoding_verify.cli import options

    parser.add_argument("bundle", metavar="DIR", type=Path, help="folder that `audit -o` wrote")
    parser.add_argument(
        "--key", metavar="PRIVATE.pem", type=Path, required=True,
        help="Ed25519 key without passphrase (openssl genpkey -algorithm ed25519 -out PRIVATE.pem)",
    )  # fmt: skip
    options.add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Adds a DSSE envelope around a statement of the outcome and of the digest of every file of the bundle."""
    from paoding_verify.checker.members import read_members
    from paoding_verify.cli.output import write_whole
    from paoding_verify.errors import DataError, IntegrityError
    from paoding_verify.evidence.envelope import seal, statement
    from paoding_verify.evidence.members import SIGNATURE

    if not args.bundle.is_dir():
        raise DataError(f"{args.bundle} is no bundle: give the folder that `audit -o` wrote")
    problems: list[str] = []
    files = read_members(args.bundle, problems)
    if problems:
        raise IntegrityError(f"nothing is signed, because the bundle is damaged: {problems[0]}")
    envelope = seal(statement(files), args.key.read_bytes())
    write_whole({args.bundle / SIGNATURE: envelope.encode()}, force=args.force)
    print(f"signature: {args.bundle / SIGNATURE}")
    return 0
