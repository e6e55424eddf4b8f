"""The pruner's own regions: boxes around its anchors, which no audit counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paoding_verify.anchors import DEFAULT_DOMAIN, Domain, synthesise_anchors
from paoding_verify.errors import RegionError
from paoding_verify.network.graph import Array, Network
from paoding_verify.pruning.signal import CertifiedSignal, bound_method
from paoding_verify.regions import Region, box_digest

__all__ = ["OwnRegions", "given_regions", "synthesised_regions"]

_NUM_ANCHORS = {"crown": 128, "crown-ibp": 64}
"""Anchors by bound method: large networks, where a bound costs more, get fewer."""
_NUM_FOR_RADIUS = 40
"""Anchors on which the radius is found."""
_CERTIFIED_SHARE = 0.75
"""Of the original's margins at the radius chosen: margins far below zero say more about the relaxation."""
_RADII = tuple(0.2 * 2.0 ** (-k / 2) for k in range(24))
"""Radii that are tried, as fractions of the domain: from 0.2 down to 0.00007."""


@dataclass(frozen=True, eq=False)
class OwnRegions:
    """Boxes, what the original predicts in them, and where they came from."""

    signal: CertifiedSignal
    domain: Domain
    record: dict[str, str | int | float]
    """For the trace."""


def given_regions(network: Network, regions: Sequence[Region], domain: Domain | None) -> OwnRegions:
    """Regions from the caller; without a domain, their hull is the domain of synthetic inputs.

    Raises: RegionError if there is none, or one has not the shape of the network's input.
    """
    if not regions:
        raise RegionError("an empty list of regions was given to the pruner; give at least one, or None to synthesise")
    for region in regions:
        if region.lower.shape != network.input_shape:
            raise RegionError(
                f"region {region.id} has shape {region.lower.shape}, but the network takes {network.input_shape}"
            )
    lower, upper = np.stack([r.lower for r in regions]), np.stack([r.upper for r in regions])
    labels = network.forward(np.stack([r.centre for r in regions])).argmax(axis=1)
    hull = (lower.min(axis=0), upper.max(axis=0)) if domain is None else domain
    radii = {r.eps for r in regions}
    record: dict[str, str | int | float] = {
        "source": "given", "count": len(regions), "domain": "hull of the regions" if domain is None else "given",
    }  # fmt: skip
    if len(radii) == 1 and None not in radii:
        record["eps"] = float(next(iter(radii)) or 0.0)
    return _own(network, (lower, upper, labels), hull, record)


def synthesised_regions(network: Network, seed: int, domain: Domain | None) -> OwnRegions:
    """Boxes around synthetic anchors; the radius is the largest tried at which three quarters of the original's
    margins are certified, so that the signal can move both ways.
    """
    box = DEFAULT_DOMAIN if domain is None else domain
    count = _NUM_ANCHORS[bound_method(network)]
    points = synthesise_anchors(network, count, seed=seed, domain=box).astype(np.float64)
    labels = network.forward(points.astype(np.float32)).argmax(axis=1)
    radius = _radius(network, points[:_NUM_FOR_RADIUS], labels[:_NUM_FOR_RADIUS], box)
    lower, upper = _balls(points, radius, box)
    record: dict[str, str | int | float] = {
        "source": "synthesised", "count": count, "seed": seed, "eps": radius * _width(box),
        "eps_rule": "largest of a geometric ladder at which three quarters of the original's margins are certified",
        "domain": "default [0, 1]" if domain is None else "given",
    }  # fmt: skip
    return _own(network, (lower, upper, labels), box, record)


def _own(
    network: Network, boxes: tuple[Array, Array, np.ndarray[tuple[int], np.dtype[np.intp]]], domain: Domain,
    record: dict[str, str | int | float],
) -> OwnRegions:  # fmt: skip
    lower, upper, labels = boxes
    signal = CertifiedSignal(network, lower, upper, labels.tolist())
    digest = hashlib.sha256("".join(box_digest(low, high) for low, high in zip(lower, upper, strict=True)).encode())
    return OwnRegions(signal, domain, {**record, "bounds": signal.method, "sha256": digest.hexdigest()})


def _radius(network: Network, points: Array, labels: Array, domain: Domain) -> float:
    """Bisection over the ladder: certified margins only shrink as the radius grows."""
    first, last = 0, len(_RADII) - 1
    while first < last:
        middle = (first + last) // 2
        lower, upper = _balls(points, _RADII[middle], domain)
        margins = CertifiedSignal(network, lower, upper, labels.tolist()).baseline
        first, last = (first, middle) if float(np.mean(margins > 0)) >= _CERTIFIED_SHARE else (middle + 1, last)
    return _RADII[first]


def _balls(points: Array, radius: float, domain: Domain) -> tuple[Array, Array]:
    low, high = (np.asarray(end, dtype=np.float64) for end in domain)
    reach = radius * (high - low)
    return np.clip(points - reach, low, high), np.clip(points + reach, low, high)


def _width(domain: Domain) -> float:
    return float(np.mean(np.asarray(domain[1], dtype=np.float64) - np.asarray(domain[0], dtype=np.float64)))
