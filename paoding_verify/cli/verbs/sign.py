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
    """Adds a DSSE envelope around the bundle's attestation, which names both models' digests and the verdict."""
    from paoding_verify.cli.output import write_whole
    from paoding_verify.errors import DataError
    from paoding_verify.evidence.envelope import seal
    from paoding_verify.evidence.members import ATTESTATION, MANIFEST, SIGNATURE

    if not all((args.bundle / name).is_file() for name in (MANIFEST, ATTESTATION)):
        raise DataError(f"{args.bundle} is no bundle: give the folder that `audit -o` wrote")
    envelope = seal((args.bundle / ATTESTATION).read_bytes(), args.key.read_bytes())
    write_whole({args.bundle / SIGNATURE: envelope.encode()}, force=args.force)
    print(f"signature: {args.bundle / SIGNATURE}")
    return 0
