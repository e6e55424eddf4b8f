"""`compare ORIGINAL PRUNED --data D --eps E --property P`, or `compare ORIGINAL PRUNED --vnnlib SPEC`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from paoding_verify.cli import options
from paoding_verify.cli.limits import limits_of
from paoding_verify.cli.resuming import add_resume, journalled
from paoding_verify.cli.verbs.certify import specification_answer
from paoding_verify.cli.workers import add_workers, workers
from paoding_verify.limits import SpecLimits

if TYPE_CHECKING:
    from paoding_verify.auditing.config import AuditConfig
    from paoding_verify.evidence.property import Property
    from paoding_verify.evidence.question import Question
    from paoding_verify.network.graph import Network
    from paoding_verify.regions import Region

__all__ = ["configure", "run"]

PROPERTIES = ("top1", "distance", "topk", "confident", "margin")
OWNERS = {"delta": "distance", "k": "topk", "confidence": "confident", "min_margin": "confident", "share": "margin"}
"""Option -> the property that it belongs to."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("original", metavar="ORIGINAL", help="the original network")
    parser.add_argument("pruned", metavar="PRUNED", help="the pruned network")
    parser.add_argument("--vnnlib", metavar="SPEC", type=Path, help="a VNN-LIB 2.0 specification of both instead")
    group = parser.add_argument_group("property")
    group.add_argument("--property", choices=PROPERTIES, help="what to ask (default: top1 and distance)")
    group.add_argument(
        "--delta", metavar="D", type=float, help="distance: largest |f - g| allowed (default: it is bracketed)"
    )
    group.add_argument("--k", metavar="K", type=int, help="topk: the K largest outputs are the same set")
    limit = group.add_mutually_exclusive_group()
    limit.add_argument(
        "--confidence", metavar="T", type=float,
        help="confident: same top class wherever softmax gives the original's at least T",
    )  # fmt: skip
    limit.add_argument(
        "--min-margin", metavar="M", type=float,
        help="confident: same top class wherever the original's exceeds all others by M (logits)",
    )  # fmt: skip
    group.add_argument(
        "--share", metavar="S", type=float,
        help="margin: wherever the original's margin for the label is positive, PRUNED's exceeds S of it (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="PATH", type=Path, help="write the result: FILE.json, or a bundle folder"
    )
    options.add_force(parser)
    add_resume(parser)
    options.add_model(parser)
    options.add_regions(parser)
    options.add_effort(parser)
    add_workers(parser)
    parser.add_argument("--smt-samples", metavar="N", type=int, help="pair claims that z3 checks again (default 0)")
    options.add_output(parser)
    parser.set_defaults(sections=("models", "configuration", "limits"))


def run(args: argparse.Namespace) -> int:
    """Prints the summary; for a specification the last line is unsat, sat (with its witness) or unknown."""
    from paoding_verify.auditing.identity import run_identity
    from paoding_verify.auditing.run import compare_models, compare_specification
    from paoding_verify.cli.inputs import read_model, read_regions, read_settings
    from paoding_verify.cli.output import place, store
    from paoding_verify.cli.progress import reporting
    from paoding_verify.cli.summary import exit_code, print_result
    from paoding_verify.evidence.codec import to_plain
    from paoding_verify.evidence.property import PropertyRecord

    config, questions = read_settings(args), _questions(args)
    with place(args, args.output) as draft, reporting(args.quiet) as progress, workers(args) as executor:
        original, pruned = read_model(args.original, args), read_model(args.pruned, args, role="pruned")
        pairs: list[tuple[Region, Property]] | None = None
        if args.vnnlib:
            pairs, config = _specification((original, pruned), args.vnnlib, config, limits_of(args, SpecLimits))
            regions, asked = [region for region, _ in pairs], [to_plain(PropertyRecord.of(prop)) for _, prop in pairs]
        else:
            (regions, config), asked = read_regions(original, args, config), list(map(to_plain, questions))
        networks = {"original": original, "pruned": pruned}
        identity = run_identity("compare", config, networks, regions=regions, settings={"asked": asked})
        with journalled(args, identity, progress) as memo:
            if pairs is not None:
                result = compare_specification(
                    original, pruned, pairs, config=config, memo=memo, progress=progress, executor=executor
                )
            else:
                result = compare_models(
                    original,
                    pruned,
                    regions,
                    kinds=questions,
                    config=config,
                    memo=memo,
                    progress=progress,
                    executor=executor,
                )
            written = store(result, args, draft)
    print_result(result, as_json=args.json, written=written)
    if args.vnnlib and not args.json:
        print(specification_answer(result))
    return exit_code(result)


def _questions(args: argparse.Namespace) -> list[Question]:
    """What is asked. Raises: ConfigError for an option of another property, or one that is missing."""
    from paoding_verify.errors import ConfigError, InputError
    from paoding_verify.evidence.claim import PAIR_KINDS
    from paoding_verify.evidence.question import Question

    for option, owner in OWNERS.items():
        asked = args.property == owner or (option == "delta" and args.property is None)
        if getattr(args, option) is not None and not asked:
            raise ConfigError(f"--{option.replace('_', '-')} belongs to --property {owner}")
    if args.property is None:
        return [Question(kind) for kind in PAIR_KINDS]
    kind, parameter = {
        "top1": ("top1_equivalent", None),
        "distance": ("output_distance", None),
        "topk": ("topk_equivalent", args.k),
        "confident": ("top1_confident", args.confidence),
        "margin": ("margin_preserved", args.share or 0.0),
    }[args.property]
    if args.min_margin is not None:
        kind, parameter = "top1_decided", args.min_margin
    if args.property in ("topk", "confident") and parameter is None:
        needed = "--k K" if args.property == "topk" else "--confidence T or --min-margin M"
        raise ConfigError(f"--property {args.property} needs {needed}")
    try:
        return [Question(kind, None if parameter is None else float(parameter))]
    except InputError as error:
        raise ConfigError(str(error)) from None


def _specification(
    networks: tuple[Network, Network], spec: Path, config: AuditConfig, limits: SpecLimits
) -> tuple[list[tuple[Region, Property]], AuditConfig]:
    """Boxes and properties of a specification, and the settings, which say where they came from."""
    from dataclasses import replace

    from paoding_verify.vnnlib_pair import read_pair_vnnlib

    pairs = read_pair_vnnlib(spec, *networks, limits=limits)
    boxes = "the box" if len(pairs) == 1 else f"all {len(pairs)} boxes"
    return pairs, replace(config, drawing=f"Nothing was drawn: {boxes} of the specification {spec.name}.")
