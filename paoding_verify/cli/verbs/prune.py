"""`prune ORIGINAL -o PRUNED.onnx`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from paoding_verify.cli import options
from paoding_verify.cli.resuming import add_resume
from paoding_verify.cli.workers import add_memory_limit

if TYPE_CHECKING:
    from paoding_verify.evidence.pruning import PruneTrace
    from paoding_verify.network.graph import Network

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("original", metavar="ORIGINAL", help="the network to prune")
    parser.add_argument("-o", "--output", metavar="PRUNED.onnx", required=True, type=Path, help="file to write")
    parser.add_argument("--step", metavar="F", type=float, help="share of a layer that a legacy method removes at once")
    parser.add_argument(
        "--hard-floor", action="store_true", help="stop early rather than lose the certificate of an anchor"
    )
    parser.add_argument(
        "--domain", metavar=("LO", "HI"), type=float, nargs=2, help="smallest and largest legal input (default 0 1)"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="seed of everything random (default 0)")
    parser.add_argument("--config", metavar="audit.toml", help="settings; options given here take precedence")
    options.add_force(parser)
    add_resume(parser)
    options.add_pruning(parser)
    options.add_model(parser)
    options.add_finetuning(parser)
    add_memory_limit(parser)
    options.add_output(parser)
    parser.set_defaults(sections=("models", "methods", "configuration", "limits"))


def run(args: argparse.Namespace) -> int:
    """Writes the pruned network; the pruner uses anchors of its own, only --inputs and --finetune look at data."""
    from paoding_verify.auditing.identity import run_identity
    from paoding_verify.cli.finetuning import finetuned, training_identity, training_rows
    from paoding_verify.cli.inputs import read_model, read_settings
    from paoding_verify.cli.output import prepare_files, write_whole
    from paoding_verify.cli.progress import reporting
    from paoding_verify.cli.pruning import prune_as_asked, pruner_inputs, tell_warnings
    from paoding_verify.cli.resuming import journalled
    from paoding_verify.errors import ConfigError
    from paoding_verify.evidence.codec import dumps
    from paoding_verify.network.onnx_out import shipped_onnx

    if args.output.suffix.lower() != ".onnx":
        raise ConfigError(f"the pruned network is written as ONNX: name a file that ends with .onnx, not {args.output}")
    config = read_settings(args)
    prepare_files(args, args.output, args.trace)
    original = read_model(args.original, args)
    inputs, rows = pruner_inputs(original, args), training_rows(original, args)
    settings = {"step": args.step, "hard_floor": args.hard_floor, **training_identity(args, inputs, rows)}
    identity = run_identity("prune", config, {"original": original}, settings=settings)
    with reporting(args.quiet) as progress, journalled(args, identity, progress) as memo:
        found = prune_as_asked(
            original, inputs, config, step=args.step, hard_floor=args.hard_floor, memo=memo, progress=progress
        )
        if rows is not None:
            found = finetuned(original, found, rows, args, config, audited=None, memo=memo, progress=progress)
        files = {args.output: shipped_onnx(found.network)}
        if args.trace:
            files[args.trace] = dumps(found.trace).encode()
        write_whole(files, force=args.force)
    tell_warnings(found.trace)
    if args.json:
        print(dumps(found.trace), end="")
    else:
        before, after = (" ".join(map(str, n.num_units)) for n in (original, found.network))
        if found.trace.stopped:
            print(f"ended early: {found.trace.stopped}")
        print(f"sparsity {_reached(original, found.trace)}: units {before} -> {after}")
        if found.trace.held_out:
            held = found.trace.held_out
            print(
                f"certified at {held.num_original} of {held.count} held-out anchors before, at {held.num_pruned} "
                f"after; {held.num_lost} lost"
            )
        for candidate in sorted(found.trace.candidates, key=lambda each: each.signal):
            chosen = "  (chosen)" if candidate.chosen else ""
            print(f"  {candidate.name}: loses {candidate.signal:.4g} of the certified margins (mean, logits){chosen}")
        if found.trace.repaired:
            repair = found.trace.repaired
            print(
                f"repair: margins at {repair.num_acceptance} anchors that it has not seen dropped by "
                f"{repair.acceptance_drop_before:.4g}, with it by {repair.acceptance_drop_after:.4g} "
                f"({'taken' if repair.kept else 'left'})"
            )
        for stage in found.trace.stages:
            print(
                f"{stage.stage}: natural {stage.natural_accuracy:.1%}, empirical robust "
                f"{stage.empirical_robust_accuracy:.1%}, certified {stage.certified_accuracy:.1%} (not re-proved) at "
                f"eps {stage.eps:g}"
            )
        print(f"pruned network: {args.output}")
    return 0


def _reached(original: Network, trace: PruneTrace) -> str:
    """What was removed, and what was asked for if that is something else."""
    if trace.sparsity_of == "weights":
        return f"{trace.sparsity:.1%} of parameters"
    units = sum(original.num_units)
    same = trace.sparsity_of == "units" and round(trace.target_sparsity * units) == round(trace.sparsity * units)
    asked = "" if same else f" (asked for: {trace.target_sparsity:.1%} of {trace.sparsity_of})"
    return f"{trace.sparsity:.1%} of units{asked}"
