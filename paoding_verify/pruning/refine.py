"""Fine-tuning as a stage of a pruning run: honest splits, the three figures of every stage, one trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from paoding_verify.data import Dataset, fit_shape
from paoding_verify.errors import DataError
from paoding_verify.linf import Domain
from paoding_verify.memo import FORGETFUL, Memo, under
from paoding_verify.network.graph import Network
from paoding_verify.network.transform import as_float32
from paoding_verify.pruning.finetune import finetune
from paoding_verify.pruning.measuring import measure
from paoding_verify.pruning.objectives import Recipe
from paoding_verify.pruning.prune import PruneResult
from paoding_verify.pruning.signal import bound_method
from paoding_verify.pruning.unstructured import kept_weights
from paoding_verify.regions import Region, regions_digest
from paoding_verify.task import Progress

__all__ = ["TrainingSplit", "refine", "split_rows"]

_MAX_HELD_OUT = 200
_HELD_OUT_SHARE = 5
"""One row in so many is held out, up to the maximum."""
_SPLIT_STREAM = 0x5B117
"""Keeps the choice of held-out rows apart from everything else drawn from the seed."""
_TRAINED_LATER = "The certified budget was measured before fine-tuning and says nothing about the trained network."


@dataclass(frozen=True, eq=False)
class TrainingSplit:
    """Rows of one file, kept apart."""

    training: Dataset
    held_out: Dataset
    """Never trained on; the figures of every stage come from them."""
    num_excluded: int | None
    """Rows in neither part because they lie in an audited region; None: the regions were not known."""


def refine(  # noqa: PLR0913 - the front door of pruning with data
    original: Network,
    found: PruneResult,
    dataset: Dataset,
    *,
    objective: str,
    eps: float,
    epochs: int = 5,
    seed: int = 0,
    domain: Domain | None = None,
    audited: Sequence[Region] | None = None,
    recipe: Recipe | None = None,
    memo: Memo = FORGETFUL,
    progress: Progress | None = None,
) -> PruneResult:
    """The pruned network fine-tuned, with the figures before pruning, after it and after fine-tuning in the trace.

    Rows that lie in an `audited` region are neither trained on nor measured. Unstructured pruning keeps its zeros.
    Epochs that `memo` kept of the same call are not repeated.
    Raises: as `finetune`, `split_rows` and `measure`.
    Source: arXiv 1906.06110.
    """
    split = split_rows(fit_shape(dataset, original.input_shape), seed=seed, audited=audited)
    masks = kept_weights(found.network) if found.trace.sparsity_of == "weights" else None
    tuned = finetune(
        found.network, split.training, objective=objective, eps=eps, epochs=epochs, seed=seed, domain=domain,
        masks=masks, recipe=recipe, memo=under(memo, "fine-tuning"), progress=progress,
    )  # fmt: skip
    networks = {"original": as_float32(original), "pruned": found.network, "fine-tuned": tuned.network}
    bounds = bound_method(original)
    stages = tuple(
        measure(network, split.held_out, stage=stage, eps=eps, domain=domain, method=bounds, seed=seed)
        for stage, network in networks.items()
    )
    known = None if audited is None else regions_digest(audited)
    record = replace(tuned.record, num_excluded=split.num_excluded, audited_sha256=known)
    warnings = found.trace.warnings if found.trace.held_out is None else (*found.trace.warnings, _TRAINED_LATER)
    return PruneResult(tuned.network, replace(found.trace, finetuning=record, stages=stages, warnings=warnings))


def split_rows(dataset: Dataset, *, seed: int, audited: Sequence[Region] | None = None) -> TrainingSplit:
    """Disjoint rows for training and for measuring, none of them inside an audited region; drawn by the seed.

    Shapes: dataset and regions have the network's input shape.
    Raises: DataError if fewer than two rows are left.
    """
    inside = np.zeros(len(dataset), dtype=np.bool_)
    exact = dataset.x.astype(np.float64)
    axes = tuple(range(1, exact.ndim))
    for region in audited or ():
        inside |= ((exact >= region.lower) & (exact <= region.upper)).all(axis=axes)
    free = np.flatnonzero(~inside)
    if len(free) < 2:
        raise DataError(
            f"{dataset.source or 'data'}: {len(free)} rows are left for fine-tuning after those inside audited regions "
            f"({int(inside.sum())}) were taken out; give at least 2 others"
        )
    held = max(1, min(_MAX_HELD_OUT, len(free) // _HELD_OUT_SHARE))
    order = np.random.default_rng([_SPLIT_STREAM, seed]).permutation(free)
    return TrainingSplit(
        training=_rows(dataset, np.sort(order[held:])),
        held_out=_rows(dataset, np.sort(order[:held])),
        num_excluded=None if audited is None else int(inside.sum()),
    )


def _rows(dataset: Dataset, chosen: npt.NDArray[np.intp]) -> Dataset:
    y = None if dataset.y is None else dataset.y[chosen]
    return replace(dataset, x=dataset.x[chosen], y=y, rows=tuple(dataset.rows[k] for k in chosen))
