"""Options that contradict each other, or that would be ignored: said before anything is read."""

from __future__ import annotations

import argparse
from pathlib import Path

from paoding_verify.errors import ConfigError

__all__ = ["INPUTS", "refuse_contradictions"]

INPUTS = (
    "original",
    "pruned",
    "model",
    "result",
    "data",
    "inputs",
    "finetune",
    "vnnlib",
    "config",
    "policy",
    "baseline",
)
"""Options and arguments that name files to read."""
PRUNING = (
    "target_sparsity", "sparsity_of", "max_certified_drop", "anchor_eps", "method", "repair", "trace", "inputs",
    "finetune", "step", "hard_floor", "no_distill",
)  # fmt: skip
"""Options that say how to prune."""
DISTILLING = ("portfolio", "obs")
"""Methods that end with a training on synthetic inputs."""
WEIGHTS = (".pth", ".pt", ".safetensors")
"""Files that hold weights and no architecture."""


def refuse_contradictions(args: argparse.Namespace) -> None:
    """Raises: ConfigError naming an option that is empty, or that has no meaning beside the others."""
    given = {name for name, value in vars(args).items() if value not in (None, False)}
    for name in INPUTS:
        if getattr(args, name, None) == "":
            raise ConfigError(f"{_option(name)} is empty: name a file, or leave the option out")
    ignored = [name for name in PRUNING if name in given]
    if "pruned" in given and ignored:
        options = ", ".join(map(_option, ignored))
        raise ConfigError(f"with --pruned nothing is pruned, so that {options} would be ignored: leave one of them out")
    method = getattr(args, "method", None)
    if "no_distill" in given and method not in (None, *DISTILLING):
        raise ConfigError(f"--no-distill belongs to --method {' and '.join(DISTILLING)}: leave it out")
    if "vnnlib" in given and given & {"property", "delta"}:
        raise ConfigError("--vnnlib brings its own property: leave out --property and --delta")
    if "vnnlib" in given and given & {"data", "eps", "samples", "domain"}:
        raise ConfigError("--vnnlib brings its own boxes: leave out --data, --eps, --samples and --domain")
    if "resume" in given and "output" not in given:
        raise ConfigError("--resume goes on with what was kept beside an output: name it with -o")
    if len(given & {"mean", "std"}) == 1:
        raise ConfigError("--mean and --std belong together: give both or neither")
    models = [Path(str(getattr(args, name))) for name in ("original", "pruned", "model") if name in given]
    for name in sorted(given & {"arch", "input_shape"}):
        if not any(path.suffix.lower() in WEIGHTS for path in models):
            raise ConfigError(f"{_option(name)} belongs to files of weights ({', '.join(WEIGHTS)}): leave it out")


def _option(name: str) -> str:
    """As the command line knows it."""
    return name.upper() if name in ("original", "model", "result") else f"--{name.replace('_', '-')}"
