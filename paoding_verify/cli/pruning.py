"""What `prune` and `audit` share: from options to a pruned network, and what a user has to be told about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.cli.limits import limits_of
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.limits import DataLimits
from paoding_verify.memo import Memo
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.regions import Region
from paoding_verify.task import Progress

if TYPE_CHECKING:
    from paoding_verify.pruning.prune import PruneResult

__all__ = ["prune_as_asked", "pruner_inputs", "refuse_shared", "tell_warnings"]


def pruner_inputs(network: Network, args: argparse.Namespace) -> Float32Array | None:
    """The rows of --inputs; None without the option."""
    from paoding_verify.data import read_dataset

    limits = limits_of(args, DataLimits)
    return read_dataset(args.inputs, input_shape=network.input_shape, limits=limits).x if args.inputs else None


def refuse_shared(regions: Sequence[Region], inputs: Float32Array) -> str:
    """Makes sure that no region is around one of the pruner's inputs, and says so in a sentence for the record.

    Raises: ConfigError naming the first region that is.
    """
    used = {row.tobytes() for row in inputs}
    for region in regions:
        if region.centre.astype(inputs.dtype).tobytes() in used:
            raise ConfigError(
                f"region {region.id} is around one of the pruner's --inputs: what the pruner has seen proves nothing "
                "about it; keep the two files apart"
            )
    return (
        f"The pruner used {len(inputs)} unlabelled inputs of its own; no region of this report is drawn around any of "
        "them."
    )


def prune_as_asked(  # noqa: PLR0913 - the settings of a run
    network: Network,
    inputs: Float32Array | None,
    config: AuditConfig,
    *,
    step: float | None = None,
    hard_floor: bool = False,
    memo: Memo | None = None,
    progress: Progress | None = None,
) -> PruneResult:
    """The pruned network as the configuration wants it."""
    from paoding_verify.pruning.options import PruneOptions
    from paoding_verify.pruning.prune import prune

    options = PruneOptions(
        sparsity_of=config.sparsity_of, max_certified_drop=config.max_certified_drop, eps=config.anchor_eps,
        repair=config.repair,
    )  # fmt: skip
    return prune(
        network, target_sparsity=config.target_sparsity, method=config.method, seed=config.seed, domain=config.domain,
        inputs=inputs, distil=config.distil, step=step, hard_floor=hard_floor, options=options, memo=memo,
        progress=progress,
    )  # fmt: skip


def tell_warnings(trace: PruneTrace) -> None:
    """What the figures of a trace do not say, on stderr."""
    for sentence in trace.warnings:
        print(f"paoding-verify: note: {sentence}", file=sys.stderr)
