"""Slopes as short as certificates hold them: without those that the checker chooses itself, or has no use for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.crown import bound_rows, enclose
from paoding_verify.evidence.certificate import NO_HINT, SCALE, Slopes
from paoding_verify.network.graph import Array, Network

__all__ = ["needed_slopes"]

_ALIKE = 1.5 / SCALE
"""Slopes that differ by less are taken for the same."""


def needed_slopes(
    network: Network, box: tuple[Array, Array], rows: Array, offsets: Array, slopes: Sequence[Slopes] | None
) -> list[Slopes]:
    """For every box its slopes of units that are unstable there, where they differ from what the checker takes without
    them, for rows that it does not prove without them. No slopes: as many empty tables.

    Shapes: box: lower, upper (N, *input_shape); rows (N, R, outputs), offsets (N, R).
    """
    if slopes is None:
        return [{} for _ in box[0]]
    state = enclose([network], *box, "float32")
    proved = bound_rows(state, rows, offsets) > 0
    end = len(network.nodes)
    found: list[Slopes] = []
    for k, tables in enumerate(slopes):
        kept: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}
        for (start, node), table in tables.items() if not proved[k].all() else ():
            lines = state.lines[node]
            own = lines.lower_slope[k].reshape(-1)
            useful = lines.unstable[k].reshape(-1) & (np.abs(table / SCALE - own) > _ALIKE)
            if start == end and len(table) > 1:
                useful &= ~proved[k][:, None]
            if useful.any():
                kept[start, node] = np.where(useful, table, NO_HINT).astype(np.uint8)
        found.append(kept)
    return found
