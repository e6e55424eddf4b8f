"""Draws the regions of an audit: one per anchor and radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.data import Dataset
from paoding_verify.evidence.result import SYNTHETIC
from paoding_verify.linf import linf_regions
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region

__all__ = ["draw_regions", "synthetic_dataset"]

_AUDIT_STREAM = 0xA0D17
"""Keeps the audit's synthesised anchors apart from the pruner's, which are drawn from the seed itself."""


def draw_regions(dataset: Dataset, config: AuditConfig) -> list[Region]:
    """The same anchors at every radius; with several radii an id is "<anchor>/eps<radius>". Order: radius, anchor.

    Raises: RegionError or DataError if eps, domain and data do not fit together.
    """
    regions: list[Region] = []
    for eps in config.eps:
        drawn: Sequence[Region] = linf_regions(
            dataset, eps=eps, domain=config.domain, samples=min(config.num_samples, len(dataset)), seed=config.seed
        )
        regions += drawn if len(config.eps) == 1 else [replace(r, id=f"{r.id}/eps{eps:g}") for r in drawn]
    return regions


def synthetic_dataset(network: Network, config: AuditConfig) -> Dataset:
    """Data-free anchors, class-balanced, drawn from another random stream than the pruner's; without labels."""
    from paoding_verify.anchors import synthesise_anchors

    seed = int(np.random.SeedSequence([config.seed, _AUDIT_STREAM]).generate_state(1)[0])
    return Dataset(synthesise_anchors(network, config.num_samples, seed=seed, domain=config.domain), None, SYNTHETIC)
