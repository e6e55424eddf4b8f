"""Plain records of regions."""

from __future__ import annotations

from collections.abc import Sequence

from paoding_verify.evidence.result import RegionRecord
from paoding_verify.regions import Region, box_digest

__all__ = ["region_records"]


def region_records(regions: Sequence[Region]) -> tuple[RegionRecord, ...]:
    """The regions without their arrays, in order."""
    return tuple(RegionRecord(r.id, r.source, r.label, r.eps, r.domain, box_digest(r.lower, r.upper)) for r in regions)
