"""Regions: axis-aligned boxes of inputs, with exact float64 endpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import RegionError
from paoding_verify.evidence.boxes import box_digest
from paoding_verify.network.graph import Array, Float32Array

__all__ = ["Region", "box_digest", "float32_interior", "regions_digest"]


@dataclass(frozen=True, eq=False)
class Region:
    """The box lower <= x <= upper, read as exact real numbers.

    Raises: RegionError if an endpoint is not finite or lower exceeds upper anywhere.
    """

    id: str
    """Unique in one audit, e.g. "r0007"."""
    lower: Array
    """(*input_shape) float64."""
    upper: Array
    """(*input_shape) float64."""
    anchor: Float32Array | None = None
    """(*input_shape) the point around which the box was drawn; None: use the midpoint."""
    label: int | None = None
    """Class that belongs to the anchor; None: unknown."""
    eps: float | None = None
    """Radius in input units if the box is the linf ball of this radius around the anchor, cut to `domain`."""
    source: str = ""
    """Where it came from, e.g. "mnist_test.npz[8661]". Untrusted text."""
    domain: tuple[float, float] | None = None
    """Smallest and largest legal value of every feature; None: unbounded, or not the same for all features."""

    def __post_init__(self) -> None:
        if self.lower.shape != self.upper.shape:
            raise RegionError(
                f"region {self.id}: lower {self.lower.shape} and upper {self.upper.shape} differ in shape"
            )
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()):
            raise RegionError(f"region {self.id}: the box has endpoints that are not finite")
        if not (self.lower <= self.upper).all():
            where = int(np.argmax((self.lower > self.upper).ravel()))
            raise RegionError(
                f"region {self.id}: lower exceeds upper at feature {where} "
                f"({self.lower.ravel()[where]} > {self.upper.ravel()[where]})"
            )

    @property
    def centre(self) -> Float32Array:
        """The anchor if it lies in the box, else the float32 point nearest the midpoint. Shape (*input_shape)."""
        low, high = float32_interior(self.lower, self.upper)
        start = self.anchor if self.anchor is not None else (self.lower / 2 + self.upper / 2).astype(np.float32)
        return np.clip(start, low, high)

    def contains(self, x: npt.NDArray[np.floating]) -> bool:
        """Whether a point lies in the box, with zero tolerance. Shape: x (*input_shape)."""
        point = x.astype(np.float64)
        return bool((self.lower <= point).all() and (point <= self.upper).all())


def float32_interior(lower: Array, upper: Array) -> tuple[Float32Array, Float32Array]:
    """The smallest and largest float32 inside [lower, upper], element by element, same shapes.

    Raises: RegionError if some interval holds no float32 at all.
    """
    low = lower.astype(np.float32)
    low = np.where(low.astype(np.float64) < lower, np.nextafter(low, np.float32(np.inf)), low)
    high = upper.astype(np.float32)
    high = np.where(high.astype(np.float64) > upper, np.nextafter(high, np.float32(-np.inf)), high)
    if not (low <= high).all():
        raise RegionError("the box holds no float32 point: some feature's interval lies between two float32 numbers")
    return low, high


def stack_boxes(regions: Sequence[Region]) -> tuple[Array, Array]:
    """Lower and upper of several regions of one shape, as batches (N, *input_shape)."""
    return np.stack([r.lower for r in regions]), np.stack([r.upper for r in regions])


def regions_digest(regions: Sequence[Region]) -> str:
    """SHA-256 of the boxes of several regions, whatever their order, ids and labels."""
    boxes = sorted(box_digest(region.lower, region.upper) for region in regions)
    return hashlib.sha256("".join(boxes).encode()).hexdigest()
