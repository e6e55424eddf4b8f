"""Slopes as short as certificates hold them: without those that the checker chooses itself, or has no use for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.crown import bound_rows, enclose, lower_bounds
from paoding_verify.evidence.certificate import NO_HINT, SCALE, Certificate, Slopes
from paoding_verify.evidence.codec import dumps
from paoding_verify.network.graph import Array, Network

__all__ = ["LONG", "needed_slopes"]

_ALIKE = 1.5 / SCALE
"""Slopes that differ by less are taken for the same."""
LONG = 240
"""Bytes of a certificate from which on it is worth to be made shorter."""


def needed_slopes(
    network: Network,
    box: tuple[Array, Array],
    rows: Array,
    offsets: Array,
    slopes: Sequence[Slopes] | None,
    *,
    limit: int = LONG,
) -> list[Slopes]:
    """For every box its slopes of units that are unstable there, where they differ from what the checker takes without
    them, for rows that it does not prove without them. No slopes: as many empty tables.

    Where that makes a certificate of more than `limit` bytes, all rows share their mean if the checker proves every row
    with it.

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
    long = [k for k, tables in enumerate(found) if len(dumps(Certificate("crown", tables), indent=None)) > limit]
    if long:
        shared = [{key: _mean(t) if key[0] == end else t for key, t in found[k].items()} for k in long]
        hints, here = [Certificate("crown", tables) for tables in shared], (box[0][long], box[1][long])
        bounds = lower_bounds([network], *here, rows[long], offsets[long], semantics="float32", hints=hints)
        for k, tables, lower in zip(long, shared, bounds, strict=True):
            found[k] = tables if (lower > 0).all() else found[k]
    return found


def _mean(table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One row for all: the mean of their hints, unit by unit. Shapes: (rows, units) -> (1, units)."""
    hinted = table != NO_HINT
    count = hinted.sum(axis=0, keepdims=True)
    total = np.where(hinted, table, 0).sum(axis=0, keepdims=True)
    return np.where(count > 0, np.rint(total / np.maximum(count, 1)), NO_HINT).astype(np.uint8)
