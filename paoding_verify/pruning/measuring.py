"""Three figures of a network on labelled inputs: natural, empirical robust and certified accuracy."""

from __future__ import annotations

import numpy as np

from paoding_verify.attack import attack
from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.data import Dataset
from paoding_verify.evidence.property import predicts
from paoding_verify.evidence.pruning import StageMetrics
from paoding_verify.linf import Domain, linf_regions
from paoding_verify.network.graph import Network
from paoding_verify.pruning.finetune import labels_of

__all__ = ["measure"]

_RESTARTS, _STEPS = 3, 20
"""Of the attack."""


def measure(  # noqa: PLR0913 - network, inputs and how to look at them
    network: Network, dataset: Dataset, *, stage: str, eps: float, domain: Domain | None, method: str, seed: int
) -> StageMetrics:
    """Figures over linf balls of radius eps, cut to the domain; certified never exceeds empirical robust accuracy.

    `method` names the bounds of auto_LiRPA. Nothing here is proved a second time.
    Raises: DataError without labels, RegionError if an input lies outside the domain.
    """
    labels = labels_of(dataset, network)
    regions = linf_regions(dataset, eps=eps, domain=domain)
    lower, upper = np.stack([r.lower for r in regions]), np.stack([r.upper for r in regions])
    properties = [predicts(int(label), network.num_outputs) for label in labels]
    rows = np.stack([p.rows for p in properties])
    offsets = np.zeros(rows.shape[:2])
    right = network.forward(dataset.x).argmax(axis=1) == labels
    found = attack(
        [network], lower, upper, rows, offsets, properties[0].clauses, restarts=_RESTARTS, steps=_STEPS, seed=seed,
        centre=dataset.x,
    )  # fmt: skip
    resists = right & (found.margin > 0)
    bounds = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets, method=method)
    certified = resists & (bounds.lower.min(axis=1) > 0)
    return StageMetrics(
        stage=stage,
        eps=eps,
        num_inputs=len(dataset),
        natural_accuracy=float(right.mean()),
        empirical_robust_accuracy=float(resists.mean()),
        certified_accuracy=float(certified.mean()),
        method=method,
    )
