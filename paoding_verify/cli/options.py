"""Options that several verbs share. None means "not given": the configuration's or the default value stands."""

from __future__ import annotations

import argparse
from pathlib import Path

from paoding_verify.cli.limits import add_limits

__all__ = [
    "add_effort",
    "add_finetuning",
    "add_force",
    "add_model",
    "add_output",
    "add_pruning",
    "add_regions",
    "given_settings",
]

SETTINGS = (
    "eps",
    "samples",
    "target_sparsity",
    "sparsity_of",
    "max_certified_drop",
    "anchor_eps",
    "method",
    "repair",
    "domain",
    "delta",
    "seed",
    "timeout_s",
    "budget_s",
    "smt_samples",
)
"""Options that are fields of AuditConfig or SearchConfig."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """How to read the model files."""
    group = parser.add_argument_group("models")
    group.add_argument(
        "--arch",
        metavar="MODULE:NAME",
        help="MODULE (or FILE.py) is run; NAME() makes the module that a weights file belongs to",
    )
    group.add_argument("--input-shape", metavar="D", type=int, nargs="+", help="shape of one input, without the batch")
    group.add_argument(
        "--mean", metavar="M", type=float, nargs="+", help="normalisation put in front: (x - M) / S; needs --std"
    )
    group.add_argument(
        "--std", metavar="S", type=float, nargs="+", help="normalisation put in front: (x - M) / S; needs --mean"
    )
    add_limits(parser)


def add_regions(parser: argparse.ArgumentParser) -> None:
    """Where the regions come from."""
    group = parser.add_argument_group("regions")
    group.add_argument(
        "--data", metavar="FILE.npz", help="x (N, ...) in input units or uint8, optional y; default: synthesised"
    )
    group.add_argument(
        "--samples", metavar="N", type=int, help="anchors drawn by the seed (default 20, or all if fewer)"
    )
    group.add_argument("--eps", metavar="E", type=float, nargs="+", help="radii in input units (default 0.01)")
    group.add_argument("--norm", choices=["linf"], default="linf", help="the norm of the radius")
    group.add_argument(
        "--domain",
        metavar=("LO", "HI"),
        type=float,
        nargs=2,
        help="smallest and largest legal input (default: 0 1 for uint8 data, else none; anchors are made in 0 1)",
    )


def add_pruning(parser: argparse.ArgumentParser) -> None:
    """How far to prune, how, and with what."""
    group = parser.add_argument_group("pruning")
    goal = group.add_mutually_exclusive_group()
    goal.add_argument("--target-sparsity", metavar="S", type=float, help="share to remove (default 0.5)")
    goal.add_argument(
        "--max-certified-drop", metavar="D", type=float,
        help="instead: prune as far as certified accuracy on held-out anchors drops by at most D (0.02 is two points), "
        "certificates gained counted against those lost",
    )  # fmt: skip
    group.add_argument(
        "--sparsity-of", metavar="WHAT", help="what S is a share of: units (default), parameters or macs"
    )
    group.add_argument(
        "--method", metavar="M", help="portfolio (default: tries several, keeps the best), or a single method"
    )
    group.add_argument(
        "--no-distill", action="store_true", help="leave out the training on synthetic inputs of portfolio and obs"
    )
    group.add_argument(
        "--inputs", metavar="FILE.npz", help="x: unlabelled inputs for the pruner alone; no region may be around one"
    )
    group.add_argument(
        "--anchor-eps", metavar="E", type=float, help="radius of the pruner's own boxes (default: found by itself)"
    )
    group.add_argument(
        "--repair", action="store_true", default=None,
        help="end with a short training that raises certified margins; taken only if anchors it has not seen gain",
    )  # fmt: skip
    group.add_argument("--trace", metavar="T.json", type=Path, help="also write the record of the pruning there")


def add_finetuning(parser: argparse.ArgumentParser) -> None:
    """Training after pruning."""
    group = parser.add_argument_group("fine-tuning")
    group.add_argument(
        "--finetune", metavar="DATA.npz", help="labelled rows to train on after pruning; those inside audited regions "
        "are left out",
    )  # fmt: skip
    group.add_argument(
        "--objective", metavar="O", help="natural, adversarial or certified training (default certified)"
    )
    group.add_argument("--finetune-eps", metavar="E", type=float, help="its radius (default: the largest eps)")
    group.add_argument("--finetune-epochs", metavar="N", type=int, help="passes over the rows (default 5)")


def add_effort(parser: argparse.ArgumentParser) -> None:
    """How hard to try, and from which seed."""
    group = parser.add_argument_group("search")
    group.add_argument("--seed", metavar="N", type=int, help="seed of everything random (default 0)")
    group.add_argument("--timeout", metavar="SECONDS", type=float, dest="timeout_s", help="per claim (default 30)")
    group.add_argument(
        "--budget", metavar="SECONDS", type=float, dest="budget_s",
        help="for all claims together; what is open then is UNKNOWN (default: no limit)",
    )  # fmt: skip
    group.add_argument("--config", metavar="audit.toml", help="settings; options given here take precedence")


def add_force(parser: argparse.ArgumentParser) -> None:
    """Whether existing files may be overwritten."""
    parser.add_argument("--force", action="store_true", help="overwrite existing files (never a folder or an input)")


def add_output(parser: argparse.ArgumentParser) -> None:
    """What appears on the terminal."""
    group = parser.add_argument_group("terminal")
    group.add_argument("--quiet", action="store_true", help="no progress")
    group.add_argument("--json", action="store_true", help="the result as JSON on stdout, nothing else there")


def given_settings(args: argparse.Namespace) -> dict[str, object]:
    """The options that were given and are settings of an audit."""
    given = {name: value for name in SETTINGS if (value := getattr(args, name, None)) is not None}
    return given | ({"distil": False} if getattr(args, "no_distill", False) else {})
