"""`audit ORIGINAL [--pruned PRUNED] -o DIR`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from paoding_verify.cli import options
from paoding_verify.cli.resuming import add_resume
from paoding_verify.cli.workers import add_workers, workers

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("original", metavar="ORIGINAL", help="the original network: .onnx, .pt2, .pth, .safetensors")
    parser.add_argument(
        "--pruned", metavar="PRUNED", help="the pruned network, a file of the same kinds; left out, it is pruned"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, type=Path, help="folder of the bundle; new or empty"
    )
    parser.add_argument("--policy", metavar="policy.toml", help="thresholds (default: the built-in policy)")
    options.add_force(parser)
    add_resume(parser)
    options.add_model(parser)
    options.add_regions(parser)
    options.add_pruning(parser)
    options.add_finetuning(parser)
    options.add_effort(parser)
    add_workers(parser)
    parser.add_argument("--smt-samples", metavar="N", type=int, help="pair claims that z3 checks again (default 0)")
    options.add_output(parser)
    parser.set_defaults(sections=("models", "methods", "policy", "configuration", "limits"))


def run(args: argparse.Namespace) -> int:
    """Writes the bundle, prints the summary; the exit code says what the policy says."""
    from paoding_verify.auditing.bundle import reserved
    from paoding_verify.auditing.identity import run_identity
    from paoding_verify.auditing.policy import Policy
    from paoding_verify.auditing.run import audit
    from paoding_verify.cli.finetuning import finetuned, training_identity, training_rows
    from paoding_verify.cli.inputs import read_model, read_regions, read_settings
    from paoding_verify.cli.output import prepare_files, write_whole
    from paoding_verify.cli.progress import reporting
    from paoding_verify.cli.pruning import prune_as_asked, pruner_inputs, refuse_shared, tell_warnings
    from paoding_verify.cli.resuming import journalled
    from paoding_verify.cli.summary import exit_code, print_result
    from paoding_verify.evidence.codec import dumps
    from paoding_verify.memo import under

    config = read_settings(args)
    policy = Policy.load(args.policy) if args.policy else Policy.default()
    prepare_files(args, args.trace)
    with reserved(args.output) as draft, reporting(args.quiet) as progress, workers(args) as executor:
        original = read_model(args.original, args)
        regions, config = read_regions(original, args, config)
        inputs, rows = pruner_inputs(original, args), training_rows(original, args)
        if inputs is not None:
            config = replace(config, data_split=refuse_shared(regions, inputs))
        given = {"pruned": read_model(args.pruned, args, role="pruned")} if args.pruned else {}
        settings = training_identity(args, inputs, rows)
        identity = run_identity("audit", config, {"original": original, **given}, regions=regions, settings=settings)
        with journalled(args, identity, progress) as memo:
            if args.pruned:
                pruned, trace = given["pruned"], None
            else:
                found = prune_as_asked(original, inputs, config, memo=under(memo, "pruning"), progress=progress)
                if rows is not None:
                    found = finetuned(
                        original, found, rows, args, config, audited=regions, memo=under(memo, "pruning"),
                        progress=progress,
                    )  # fmt: skip
                pruned, trace = found.network, found.trace
            result = audit(
                original,
                pruned,
                regions,
                policy=policy,
                config=config,
                trace=trace,
                memo=memo,
                progress=progress,
                executor=executor,
            )
            if args.trace:
                write_whole({args.trace: dumps(trace).encode()}, force=args.force)
            folder = draft.publish(result)
    if trace is not None:
        tell_warnings(trace)
    print_result(result, as_json=args.json, written=folder)
    return exit_code(result)
