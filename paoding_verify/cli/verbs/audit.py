"""`audit ORIGINAL [--pruned PRUNED] -o DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from paoding_verify.cli import options

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("original", metavar="ORIGINAL", help="the original network: .onnx, .pt2, .pth, .safetensors")
    parser.add_argument("--pruned", metavar="PRUNED", help="the pruned network; left out, the audit prunes by itself")
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, type=Path, help="folder of the bundle; new or empty"
    )
    parser.add_argument("--policy", metavar="policy.toml", help="thresholds (default: the built-in policy)")
    options.add_model(parser)
    options.add_regions(parser)
    group = parser.add_argument_group("pruning")
    group.add_argument("--target-sparsity", metavar="S", type=float, help="share of units to remove (default 0.5)")
    group.add_argument("--method", metavar="M", help="pruning method (default paoding)")
    group.add_argument("--trace", metavar="T.json", type=Path, help="also write the pruner's record there")
    options.add_finetuning(parser)
    options.add_effort(parser)
    parser.add_argument("--smt-samples", metavar="N", type=int, help="pair claims that z3 checks again (default 0)")
    options.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the bundle, prints the summary; the exit code says what the policy says."""
    from paoding_verify.auditing.bundle import refuse_occupied, write
    from paoding_verify.auditing.policy import Policy
    from paoding_verify.auditing.run import audit
    from paoding_verify.cli.finetuning import finetuned, training_rows
    from paoding_verify.cli.inputs import read_model, read_regions, read_settings
    from paoding_verify.cli.progress import reporting
    from paoding_verify.cli.summary import exit_code, print_result
    from paoding_verify.errors import ConfigError
    from paoding_verify.evidence.codec import dumps

    config = read_settings(args)
    policy = Policy.load(args.policy) if args.policy else Policy.default()
    refuse_occupied(args.output)
    if args.pruned and args.trace:
        raise ConfigError("--trace records a pruning; with --pruned nothing is pruned: leave one of them out")
    if args.pruned and args.finetune:
        raise ConfigError("--finetune trains what this run pruned; with --pruned nothing is: leave one of them out")
    original = read_model(args.original, args)
    regions = read_regions(original, args, config)
    rows = training_rows(original, args)
    with reporting(args.quiet) as progress:
        if args.pruned:
            pruned, trace = read_model(args.pruned, args), None
        else:
            from paoding_verify.pruning.prune import prune

            found = prune(
                original, target_sparsity=config.target_sparsity, method=config.method, seed=config.seed,
                domain=config.domain, progress=progress,
            )  # fmt: skip
            if rows is not None:
                found = finetuned(original, found, rows, args, config, audited=regions, progress=progress)
            pruned, trace = found.network, found.trace
        result = audit(original, pruned, regions, policy=policy, config=config, trace=trace, progress=progress)
    folder = write(result, args.output)
    if args.trace:
        args.trace.write_text(dumps(trace), encoding="utf-8")
    print_result(result, as_json=args.json, written=folder)
    return exit_code(result)
