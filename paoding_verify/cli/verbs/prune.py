"""`prune ORIGINAL -o PRUNED.onnx`."""

from __future__ import annotations

import argparse
from pathlib import Path

from paoding_verify.cli import options

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("original", metavar="ORIGINAL", help="the network to prune")
    parser.add_argument("-o", "--output", metavar="PRUNED.onnx", required=True, type=Path, help="file to write")
    parser.add_argument("--target-sparsity", metavar="S", type=float, help="share of units to remove (default 0.5)")
    parser.add_argument("--method", metavar="M", help="pruning method (default paoding)")
    parser.add_argument("--step", metavar="F", type=float, help="share of a layer that a legacy method removes at once")
    parser.add_argument(
        "--hard-floor", action="store_true", help="stop early rather than lose the certificate of an anchor"
    )
    parser.add_argument("--trace", metavar="T.json", type=Path, help="also write the record of every proposal there")
    parser.add_argument("--domain", metavar=("LO", "HI"), type=float, nargs=2, help="smallest and largest legal input")
    parser.add_argument("--seed", metavar="N", type=int, help="seed of everything random (default 0)")
    parser.add_argument("--config", metavar="audit.toml", help="settings; options given here take precedence")
    options.add_model(parser)
    options.add_finetuning(parser)
    options.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the pruned network; the pruner uses anchors of its own, only --finetune looks at data."""
    from paoding_verify.cli.finetuning import finetuned, training_rows
    from paoding_verify.cli.inputs import read_model, read_settings
    from paoding_verify.cli.progress import reporting
    from paoding_verify.errors import ConfigError
    from paoding_verify.evidence.codec import dumps
    from paoding_verify.network.onnx_out import shipped_onnx
    from paoding_verify.pruning.prune import prune

    config = read_settings(args)
    for path in (args.output, args.trace):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"the folder {path.parent} does not exist: make it, or name another file than {path}")
    original = read_model(args.original, args)
    rows = training_rows(original, args)
    with reporting(args.quiet) as progress:
        found = prune(
            original, target_sparsity=config.target_sparsity, method=config.method, seed=config.seed,
            domain=config.domain, step=args.step, hard_floor=args.hard_floor, progress=progress,
        )  # fmt: skip
        if rows is not None:
            found = finetuned(original, found, rows, args, config, audited=None, progress=progress)
    args.output.write_bytes(shipped_onnx(found.network))
    if args.trace:
        args.trace.write_text(dumps(found.trace), encoding="utf-8")
    if args.json:
        print(dumps(found.trace), end="")
    else:
        before, after = (" ".join(map(str, n.num_units)) for n in (original, found.network))
        if found.trace.stopped:
            print(f"ended early: {found.trace.stopped}")
        print(f"sparsity {found.trace.sparsity:.1%} of {found.trace.sparsity_of}: units {before} -> {after}")
        for stage in found.trace.stages:
            print(
                f"{stage.stage}: natural {stage.natural_accuracy:.1%}, empirical robust "
                f"{stage.empirical_robust_accuracy:.1%}, certified {stage.certified_accuracy:.1%} (not re-proved) at "
                f"eps {stage.eps:g}"
            )
        print(f"pruned network: {args.output}")
    return 0
