"""`compare ORIGINAL PRUNED --data D --eps E --property top1|distance [--delta D]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from paoding_verify.cli import options
from paoding_verify.cli.resuming import add_resume, journalled

__all__ = ["configure", "run"]

KINDS = {"top1": "top1_equivalent", "distance": "output_distance"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("original", metavar="ORIGINAL", help="the original network")
    parser.add_argument("pruned", metavar="PRUNED", help="the pruned network")
    parser.add_argument("--property", choices=list(KINDS), help="what to ask (default: both)")
    parser.add_argument("--delta", metavar="D", type=float, help="largest |f - g| allowed (default: it is bracketed)")
    parser.add_argument(
        "-o", "--output", metavar="PATH", type=Path, help="write the result: FILE.json, or a bundle folder"
    )
    options.add_force(parser)
    add_resume(parser)
    options.add_model(parser)
    options.add_regions(parser)
    options.add_effort(parser)
    parser.add_argument("--smt-samples", metavar="N", type=int, help="pair claims that z3 checks again (default 0)")
    options.add_output(parser)
    parser.set_defaults(sections=("models", "configuration"))


def run(args: argparse.Namespace) -> int:
    """Prints the summary; 0 if the comparison ran to its end."""
    from paoding_verify.auditing.identity import run_identity
    from paoding_verify.auditing.run import PAIR_KINDS, compare_models
    from paoding_verify.cli.inputs import read_model, read_regions, read_settings
    from paoding_verify.cli.output import place, store
    from paoding_verify.cli.progress import reporting
    from paoding_verify.cli.summary import exit_code, print_result
    from paoding_verify.errors import ConfigError

    config = read_settings(args)
    kinds = (KINDS[args.property],) if args.property else PAIR_KINDS
    if args.delta is not None and "output_distance" not in kinds:
        raise ConfigError("--delta is a threshold of --property distance")
    with place(args, args.output) as draft:
        original, pruned = read_model(args.original, args), read_model(args.pruned, args, role="pruned")
        regions, config = read_regions(original, args, config)
        networks = {"original": original, "pruned": pruned}
        identity = run_identity("compare", config, networks, regions=regions, settings={"kinds": kinds})
        with reporting(args.quiet) as progress, journalled(args, identity, progress) as memo:
            result = compare_models(original, pruned, regions, kinds=kinds, config=config, memo=memo, progress=progress)
            written = store(result, args, draft)
    print_result(result, as_json=args.json, written=written)
    return exit_code(result)
