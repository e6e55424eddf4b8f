"""--finetune of prune and audit: labelled rows to train on after pruning."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.cli.limits import limits_of
from paoding_verify.data import Dataset, read_dataset
from paoding_verify.errors import ConfigError
from paoding_verify.limits import DataLimits
from paoding_verify.memo import Memo
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.regions import Region
from paoding_verify.task import Progress

if TYPE_CHECKING:
    from paoding_verify.pruning.prune import PruneResult

__all__ = ["finetuned", "training_identity", "training_rows"]

OBJECTIVE, EPOCHS = "certified", 5


def training_rows(network: Network, args: argparse.Namespace) -> Dataset | None:
    """The rows of --finetune, read before anything is pruned; None without that option.

    Raises: ConfigError if an option of fine-tuning stands alone; DataError if the rows cannot be used.
    """
    if args.finetune:
        from paoding_verify.pruning.finetune import labels_of

        rows = read_dataset(args.finetune, input_shape=network.input_shape, limits=limits_of(args, DataLimits))
        labels_of(rows, network)
        return rows
    for name in ("objective", "finetune_eps", "finetune_epochs"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} belongs to --finetune DATA.npz: give that too, or neither")
    return None


def training_identity(args: argparse.Namespace, inputs: Float32Array | None, rows: Dataset | None) -> dict[str, object]:
    """What a pruning depends on besides the configuration: data that the pruner sees, and options of training."""
    from paoding_verify.auditing.identity import rows_digest

    options = {name: getattr(args, name) for name in ("objective", "finetune_eps", "finetune_epochs")}
    known = (None, None) if rows is None else (rows.x, rows.y)
    return {"inputs": rows_digest(inputs), "finetune": rows_digest(*known), **options}


def finetuned(  # noqa: PLR0913 - the settings of a run
    original: Network,
    found: PruneResult,
    rows: Dataset,
    args: argparse.Namespace,
    config: AuditConfig,
    *,
    audited: Sequence[Region] | None,
    memo: Memo,
    progress: Progress | None,
) -> PruneResult:
    """The pruned network trained on the rows that lie in no audited region, with the figures of every stage."""
    from paoding_verify.pruning.refine import refine

    return refine(
        original, found, rows, objective=args.objective or OBJECTIVE,
        eps=max(config.eps) if args.finetune_eps is None else args.finetune_eps,
        epochs=EPOCHS if args.finetune_epochs is None else args.finetune_epochs,
        seed=config.seed, domain=config.domain, audited=audited, memo=memo, progress=progress,
    )  # fmt: skip
