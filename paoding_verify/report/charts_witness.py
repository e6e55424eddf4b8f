"""The outputs of both networks at a witness, as a small chart that stands in its card."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from paoding_verify.report.svg import Scale, coordinate, figure, line, scale, text

__all__ = ["outputs"]

WIDTH, TOP, BOTTOM = 264, 8.0, 78.0
"""User units: width of the drawing, and the edges of the bars."""
MOST_LABELS = 12


def outputs(name: str, rows: Sequence[tuple[int, float | None, float | None]], words: str) -> Markup:
    """Bars by class (class, original, pruned): outlined the original's, filled the pruned network's.

    `name` is unique on the page; `words` say which class each network answers.
    """
    kept = [[(k, row[side]) for k, row in enumerate(rows) if row[side] is not None] for side in (1, 2)]
    values = [value for series in kept for _, value in series if value is not None]
    to_y = scale(min(0.0, *values), max(0.0, *values), BOTTOM, TOP)
    to_x, room = scale(0, len(rows), 4, WIDTH - 4), (WIDTH - 8) / len(rows)
    parts = []
    for side, (css, series) in enumerate(zip(("bar original", "bar pruned"), kept, strict=True)):
        wide = room * (0.36 if all(kept) else 0.6)
        shift = room * (0.12 + 0.4 * side if all(kept) else 0.2)
        bars = "".join(_bar(to_x(k) + shift, wide, to_y, value) for k, value in series if value is not None)
        parts += [Markup('<path class="{}" d="{}"/>').format(css, bars)] if bars else []
    parts.append(line(4, to_y(0), WIDTH - 4, to_y(0), "axis"))
    for k, (label, *_) in enumerate(rows):
        if k % math.ceil(len(rows) / MOST_LABELS) == 0:
            parts.append(text(to_x(k) + room / 2, BOTTOM + 14, str(label), "small", "middle"))
    return figure(name, "Outputs by class", words, BOTTOM + 18, parts, width=WIDTH)


def _bar(x: float, width: float, to_y: Scale, value: float) -> str:
    c = coordinate
    return f"M{c(x)} {c(to_y(0))}V{c(to_y(value))}H{c(x + width)}V{c(to_y(0))}Z"
