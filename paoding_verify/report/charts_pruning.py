"""Charts of the pruning run: its steps, and the candidates that were compared."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from paoding_verify.report.charts import LEFT, RIGHT, frame
from paoding_verify.report.svg import figure, line, polyline, rect, scale, span, text, ticks
from paoding_verify.report.text import number, percent

__all__ = ["candidates", "trace"]

NAME_CHARACTERS = 24
"""Longer names of candidates are cut in the chart; its table has them whole."""


def candidates(rows: Sequence[tuple[str, float, bool]]) -> Markup:
    """Signal of every candidate, best first: (name, signal, chosen); a filled bar is the one that was chosen."""
    ordered = sorted(rows, key=lambda row: row[1])
    low, high = min(0.0, *(s for _, s, _ in ordered)), max(0.0, *(s for _, s, _ in ordered))
    start, bottom = LEFT + 110.0, 22.0 + 24 * len(ordered)
    to_x = scale(low, high if high > low else low + 1.0, start, RIGHT - 46)
    parts: list[Markup] = []
    for tick in ticks(low, high if high > low else low + 1.0):
        parts += [line(to_x(tick), 14, to_x(tick), bottom, "grid")]
        parts.append(text(to_x(tick), bottom + 16, f"{tick:g}", anchor="middle"))
    for k, (name, signal, chosen) in enumerate(ordered):
        y, left = 20.0 + 24 * k, min(to_x(0), to_x(signal))
        cut = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"
        parts.append(text(start - 8, y + 12, cut, "", "end"))
        parts.append(rect(left, y, abs(to_x(signal) - to_x(0)), 16, "certified" if chosen else "lost"))
        words = f"{number(signal)} chosen" if chosen else number(signal)
        parts.append(text(max(to_x(signal), to_x(0)) + 6, y + 12, words, "small"))
    parts.append(line(to_x(0), 14, to_x(0), bottom, "axis"))
    parts.append(text((start + RIGHT) / 2, bottom + 32, "mean drop of certified margins (logits)", "label", "middle"))
    description = "; ".join(
        f"{name}: {number(signal)}{', chosen' if chosen else ''}" for name, signal, chosen in ordered
    )
    return figure("candidates", "Candidates that the pruner compared", description, bottom + 40, parts)


def trace(rows: Sequence[tuple[float, float, float, int, int]]) -> Markup:
    """The pruning run by step: sparsity, certified margin, energy, and proposals (accepted, rejected)."""
    to_x = scale(0.5, len(rows) + 0.5, LEFT, RIGHT)
    parts: list[Markup] = []
    panels = (("sparsity (%)", 0), ("certified margin (logits)", 1), ("energy (logits)", 2))
    for panel, (name, column) in enumerate(panels):
        top, bottom = 24.0 + 84 * panel, 82.0 + 84 * panel
        values = [row[column] * (100 if column == 0 else 1) for row in rows]
        low, high = span(values)
        to_y = scale(low, high, bottom, top)
        for tick in ticks(low, high, 2):
            parts += [
                line(LEFT, to_y(tick), RIGHT, to_y(tick), "grid"),
                text(LEFT - 6, to_y(tick) + 4, f"{tick:g}", "", "end"),
            ]
        parts.append(text(LEFT, top - 7, name, "label"))
        points = [(to_x(k + 1), to_y(value)) for k, value in enumerate(values)]
        parts.append(polyline(points, "line pruned"))
        parts += [rect(x - 2.5, y - 2.5, 5, 5, "mark pruned") for x, y in points] if len(points) < 60 else []
    bottom = 346.0
    most = max((1, *(a + r for *_, a, r in rows)))
    to_y, width = scale(0, most, bottom, 282), (RIGHT - LEFT) / len(rows) * 0.6
    parts += frame(bottom, [(to_y(0), "0"), (to_y(most), f"{most:g}")])
    parts.append(text(LEFT, 273, "proposals: accepted (filled), rejected (hatched)", "label"))
    for k, (*_, accepted, rejected) in enumerate(rows):
        x = to_x(k + 1) - width / 2
        parts.append(rect(x, to_y(accepted), width, bottom - to_y(accepted), "certified"))
        parts.append(rect(x, to_y(accepted + rejected), width, to_y(accepted) - to_y(accepted + rejected), "unknown"))
    for step in ticks(1, max(len(rows), 2)):
        if step == int(step) and step <= len(rows):
            parts.append(text(to_x(step), bottom + 17, f"{step:g}", anchor="middle"))
    parts.append(text((LEFT + RIGHT) / 2, bottom + 33, "step", "label", "middle"))
    last = rows[-1]
    description = (
        f"{len(rows)} steps; after the last one sparsity {percent(last[0])}, certified margin {number(last[1])}, "
        f"energy {number(last[2])}; {sum(r[3] for r in rows)} proposals accepted, {sum(r[4] for r in rows)} rejected"
    )
    return figure("trace", "The pruning run step by step", description, bottom + 40, parts)
