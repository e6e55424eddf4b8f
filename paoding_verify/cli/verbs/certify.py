"""`certify MODEL --data D --eps E`, or `certify MODEL --vnnlib SPEC`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from paoding_verify.cli import options
from paoding_verify.cli.limits import limits_of
from paoding_verify.cli.resuming import add_resume, journalled
from paoding_verify.cli.workers import add_workers, workers
from paoding_verify.limits import SpecLimits

if TYPE_CHECKING:
    from paoding_verify.auditing.config import AuditConfig
    from paoding_verify.evidence.property import Property
    from paoding_verify.evidence.result import AuditResult
    from paoding_verify.network.graph import Network
    from paoding_verify.regions import Region

__all__ = ["configure", "run", "specification_answer"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("model", metavar="MODEL", help="the network")
    parser.add_argument("--vnnlib", metavar="SPEC", type=Path, help="a VNN-LIB specification instead of data and eps")
    parser.add_argument(
        "-o", "--output", metavar="PATH", type=Path, help="write the result: FILE.json, or a bundle folder"
    )
    options.add_force(parser)
    add_resume(parser)
    options.add_model(parser)
    options.add_regions(parser)
    options.add_effort(parser)
    add_workers(parser)
    options.add_output(parser)
    parser.set_defaults(sections=("models", "configuration", "limits"))


def run(args: argparse.Namespace) -> int:
    """Prints the summary; for a specification the last line is unsat, sat (with its witness) or unknown."""
    from paoding_verify.auditing.identity import run_identity
    from paoding_verify.auditing.run import certify_model
    from paoding_verify.cli.inputs import read_model, read_regions, read_settings
    from paoding_verify.cli.output import place, store
    from paoding_verify.cli.progress import reporting
    from paoding_verify.cli.summary import exit_code, print_result
    from paoding_verify.evidence.codec import to_plain
    from paoding_verify.evidence.property import PropertyRecord

    config = read_settings(args)
    with place(args, args.output) as draft, reporting(args.quiet) as progress, workers(args) as executor:
        network = read_model(args.model, args)
        if args.vnnlib:
            regions, properties, config = _specification(network, args.vnnlib, config, limits_of(args, SpecLimits))
        else:
            (regions, config), properties = read_regions(network, args, config), None
        settings = {"properties": [] if properties is None else [to_plain(PropertyRecord.of(p)) for p in properties]}
        identity = run_identity("certify", config, {"original": network}, regions=regions, settings=settings)
        with journalled(args, identity, progress) as memo:
            result = certify_model(
                network, regions, properties=properties, config=config, memo=memo, progress=progress, executor=executor
            )
            written = store(result, args, draft)
    print_result(result, as_json=args.json, written=written)
    if args.vnnlib and not args.json:
        print(specification_answer(result))
    return exit_code(result)


def _specification(
    network: Network, spec: Path, config: AuditConfig, limits: SpecLimits
) -> tuple[list[Region], list[Property], AuditConfig]:
    """Boxes and properties of a specification, and the settings, which say where they came from."""
    from dataclasses import replace

    from paoding_verify.vnnlib import read_vnnlib

    pairs = read_vnnlib(spec, network.input_shape, network.num_outputs, limits=limits)
    boxes = "the box" if len(pairs) == 1 else f"all {len(pairs)} boxes"
    config = replace(config, drawing=f"Nothing was drawn: {boxes} of the specification {spec.name}.")
    return [region for region, _ in pairs], [prop for _, prop in pairs], config


def specification_answer(result: AuditResult) -> str:
    """unsat, unknown, or a witness in VNN-COMP form and then sat: the answer is the last line."""
    import numpy as np

    from paoding_verify.evidence.verdict import Verdict
    from paoding_verify.vnnlib import write_witness

    for claim in result.claims:
        if claim.witness is not None:
            outputs = (*(claim.witness.outputs_original or ()), *(claim.witness.outputs_pruned or ()))
            return f"{write_witness(np.array(claim.witness.input), np.array(outputs))}\nsat"
    return "unsat" if all(claim.verdict is Verdict.CERTIFIED for claim in result.claims) else "unknown"
