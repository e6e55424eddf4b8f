"""Plain records of regions."""

from __future__ import annotations

from collections.abc import Sequence

from paoding_verify.evidence.boxes import Box, box_digest, pack_box
from paoding_verify.evidence.result import RegionRecord
from paoding_verify.regions import Region

__all__ = ["region_records"]


def region_records(regions: Sequence[Region]) -> tuple[RegionRecord, ...]:
    """The regions as plain data, in order."""
    return tuple(
        RegionRecord(
            r.id, r.source, r.label, r.eps, r.domain, box_digest(r.lower, r.upper),
            pack_box(Box(r.centre, r.lower, r.upper), is_ball=r.eps is not None),
        )
        for r in regions
    )  # fmt: skip
