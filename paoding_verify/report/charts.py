"""The charts of the report: functions from plain numbers to inline SVG.

Colour never carries a meaning alone: marks differ in shape, dash or pattern too, and each chart stands beside a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paoding_verify.report.svg import WIDTH, coordinate, figure, line, polyline, rect, scale, span, text, ticks
from paoding_verify.report.text import number, percent

__all__ = ["LEFT", "RIGHT", "Curve", "accuracy_bars", "accuracy_curve", "brackets", "flow", "frame", "margins"]

LEFT, RIGHT, TOP = 46, WIDTH - 12, 14
"""Edges of the plot in user units."""


@dataclass(frozen=True)
class Curve:
    """Accuracies of one network over eps."""

    subject: str
    """original or pruned."""
    eps: tuple[float, ...]
    """Ascending."""
    certified: tuple[float, ...]
    """Lower bounds of robust accuracy."""
    attacked: tuple[float, ...]
    """Upper bounds of robust accuracy."""
    alone: bool = False
    """Whether there is one network, which is then called so."""

    @property
    def name(self) -> str:
        """As the report calls it."""
        return "network" if self.alone else self.subject


def frame(bottom: float, y_ticks: Sequence[tuple[float, str]]) -> list[Markup]:
    """Grid lines with their labels at (height, label), and the axis at the bottom."""
    parts = []
    for y, label in y_ticks:
        parts += [line(LEFT, y, RIGHT, y, "grid"), text(LEFT - 6, y + 4, label, anchor="end")]
    return [*parts, line(LEFT, bottom, RIGHT, bottom, "axis")]


def _fractions(bottom: float) -> list[Markup]:
    to_y = scale(0, 1, bottom, TOP)
    return frame(bottom, [(to_y(k / 4), f"{25 * k} %") for k in range(5)])


def accuracy_curve(curves: Sequence[Curve]) -> Markup:
    """Certified (solid) and attacked (dashed) accuracy over eps; the truth lies in the shaded band between.

    The original's line is wide and its marks are rings, so that both networks show where they are equal.
    """
    bottom = 210.0
    low, high = min(c.eps[0] for c in curves), max(c.eps[-1] for c in curves)
    to_x, to_y = scale(low, high, LEFT + 14, RIGHT - 14), scale(0, 1, bottom, TOP)
    parts = _fractions(bottom)
    for eps in sorted({e for curve in curves for e in curve.eps}):
        parts.append(line(to_x(eps), bottom, to_x(eps), bottom + 4, "axis"))
    for eps in ticks(low, high):
        parts.append(text(to_x(eps), bottom + 18, f"{eps:g}", anchor="middle"))
    parts.append(text((LEFT + RIGHT) / 2, bottom + 36, "eps (input units)", "label", "middle"))
    for curve in curves:
        lower = [(to_x(e), to_y(a)) for e, a in zip(curve.eps, curve.certified, strict=True)]
        upper = [(to_x(e), to_y(a)) for e, a in zip(curve.eps, curve.attacked, strict=True)]
        parts.append(polyline([*lower, *reversed(upper)], f"band {curve.subject}", closed=True))
        parts += [polyline(lower, f"line {curve.subject}"), polyline(upper, f"line dashed {curve.subject}")]
        parts += [_mark(x, y, curve.subject) for x, y in [*lower, *upper]]
    parts += _legend([(c.name, f"line {c.subject}", c.subject) for c in curves], bottom + 56)
    description = "; ".join(
        f"{c.name} at eps {e:g}: certified {percent(low)}, attacked {percent(high)}"
        for c in curves
        for e, low, high in zip(c.eps, c.certified, c.attacked, strict=True)
    )
    return figure("accuracy", "Certified and attacked accuracy over eps", description, bottom + 64, parts)


def _mark(x: float, y: float, subject: str) -> Markup:
    if subject == "pruned":
        return rect(x - 3, y - 3, 6, 6, "mark pruned")
    return Markup('<circle class="mark original" cx="{}" cy="{}" r="5.5"/>').format(coordinate(x), coordinate(y))


def _legend(entries: Sequence[tuple[str, str, str]], y: float) -> list[Markup]:
    parts = []
    for k, (label, css, subject) in enumerate(entries):
        x = LEFT + 14 + k * 120
        parts += [line(x, y - 4, x + 24, y - 4, css), _mark(x + 12, y - 4, subject), text(x + 30, y, label)]
    x = LEFT + 14 + len(entries) * 120
    return [*parts, line(x, y - 4, x + 24, y - 4, "line dashed plain"), text(x + 30, y, "attacked")]


def accuracy_bars(curves: Sequence[Curve]) -> Markup:
    """One bar per network at a single eps: certified, then the unknown band, then what an attack broke."""
    bottom = 26.0 + 62 * len(curves)
    to_x = scale(0, 1, LEFT + 24, RIGHT - 16)
    parts = []
    for k in range(5):
        x = to_x(k / 4)
        parts += [line(x, TOP, x, bottom, "grid"), text(x, bottom + 16, f"{25 * k} %", anchor="middle")]
    for k, curve in enumerate(curves):
        y, low, high = 38.0 + 62 * k, curve.certified[0], curve.attacked[0]
        parts.append(text(4, y + 17, curve.name))
        parts.append(rect(to_x(0), y, to_x(low) - to_x(0), 26, "certified"))
        parts.append(rect(to_x(low), y, to_x(high) - to_x(low), 26, "unknown"))
        parts.append(rect(to_x(high), y, to_x(1) - to_x(high), 26, "lost"))
        parts.append(text(to_x(0), y - 6, f"certified {percent(low)} · attacked {percent(high)}", "small"))
    description = "; ".join(
        f"{c.name}: certified {percent(c.certified[0])}, attacked {percent(c.attacked[0])}" for c in curves
    )
    title = f"Certified and attacked accuracy at eps {curves[0].eps[0]:g}"
    return figure("accuracy", title, description, bottom + 24, parts)


def flow(counts: Mapping[tuple[str, str], int]) -> Markup:
    """How the outcomes of regions moved from the original to the pruned network; (before, after) -> regions."""
    order = ("certified", "unknown", "violated", "error")
    total = sum(counts.values())
    used = [o for o in order if any(o in pair and n for pair, n in counts.items())]
    height = 190.0 / total
    starts = _stack(used, {o: sum(n for (a, _), n in counts.items() if a == o) for o in used}, height)
    ends = _stack(used, {o: sum(n for (_, b), n in counts.items() if b == o) for o in used}, height)
    left, right = 116.0, WIDTH - 116.0
    parts = [text(left, 14, "original", "label", "end"), text(right, 14, "pruned", "label")]
    offset_a, offset_b = dict.fromkeys(used, 0.0), dict.fromkeys(used, 0.0)
    for a in used:
        for b in used:
            thick = counts.get((a, b), 0) * height
            if thick:
                y1, y2 = starts[a][0] + offset_a[a], ends[b][0] + offset_b[b]
                parts.append(_ribbon((left, y1), (right, y2), thick, a if a == b else f"{b} moved"))
                offset_a[a] += thick
                offset_b[b] += thick
    for stack, x, anchor, shift in ((starts, left - 12, "end", -6.0), (ends, right, "start", 18.0)):
        for outcome, (y, amount) in stack.items():
            if amount:
                parts.append(rect(x, y, 12, max(amount * height, 1.5), outcome))
                parts.append(text(x + shift, y + amount * height / 2 + 4, f"{outcome} {amount}", "small", anchor))
    moves = "; ".join(f"{a} to {b}: {n}" for (a, b), n in counts.items() if n)
    return figure("flow", "Outcomes of the regions, original to pruned", moves, 270, parts)


def _stack(order: Sequence[str], amounts: Mapping[str, int], height: float) -> dict[str, tuple[float, int]]:
    placed, y = {}, 26.0
    for outcome in order:
        placed[outcome] = (y, amounts[outcome])
        y += amounts[outcome] * height + 14
    return placed


def _ribbon(start: tuple[float, float], end: tuple[float, float], thick: float, css: str) -> Markup:
    (x1, y1), (x2, y2), middle = start, end, (start[0] + end[0]) / 2
    c = coordinate
    path = (
        f"M{c(x1)} {c(y1)}C{c(middle)} {c(y1)} {c(middle)} {c(y2)} {c(x2)} {c(y2)}V{c(y2 + thick)}"
        f"C{c(middle)} {c(y2 + thick)} {c(middle)} {c(y1 + thick)} {c(x1)} {c(y1 + thick)}Z"
    )
    return Markup('<path class="ribbon {}" d="{}"/>').format(css, path)


def margins(points: Sequence[tuple[float, float]]) -> Markup:
    """Proved margins of the same region before (x) and after pruning (y); above the diagonal: it grew."""
    size = 270.0
    low, high = span([v for point in points for v in point])
    low, high = min(low, 0.0), max(high, 0.0)
    to_x, to_y = scale(low, high, LEFT + 8, LEFT + 8 + size + 70), scale(low, high, size, TOP + 14)
    parts = []
    for tick in ticks(low, high):
        parts += [
            line(LEFT, to_y(tick), RIGHT, to_y(tick), "grid"),
            text(LEFT - 6, to_y(tick) + 4, f"{tick:g}", "", "end"),
        ]
        parts.append(text(to_x(tick), size + 18, f"{tick:g}", anchor="middle"))
    parts += [line(to_x(low), to_y(low), to_x(high), to_y(high), "diagonal")]
    parts += [line(to_x(0), TOP + 14, to_x(0), size, "axis"), line(LEFT, to_y(0), RIGHT, to_y(0), "axis")]
    dots = "".join(f"M{coordinate(to_x(x))} {coordinate(to_y(y))}h0" for x, y in points)
    parts.append(Markup('<path class="dots" d="{}"/>').format(dots))
    parts.append(text((LEFT + RIGHT) / 2, size + 36, "proved margin, original (logits)", "label", "middle"))
    parts.append(text(LEFT, TOP - 2, "proved margin, pruned (logits)", "label"))
    grown = sum(y > x for x, y in points)
    description = (
        f"{len(points)} regions; the proved margin grew on {grown} and shrank or stayed on {len(points) - grown}"
    )
    return figure("margins", "Proved margins before and after pruning", description, size + 44, parts)


def brackets(pairs: Sequence[tuple[float, float]]) -> Markup:
    """Largest difference of outputs by region, sorted: from the largest found (attack) to the proved bound."""
    bottom = 200.0
    ordered = sorted(pairs, key=lambda pair: pair[1])
    to_y = scale(0, span(b for _, b in ordered)[1], bottom, TOP + 14)
    to_x = scale(0, max(len(ordered) - 1, 1), LEFT + 10, RIGHT - 10)
    parts = frame(bottom, [(to_y(t), f"{t:g}") for t in ticks(0, span(b for _, b in ordered)[1])])
    bars = "".join(
        f"M{coordinate(to_x(k))} {coordinate(to_y(a))}V{coordinate(to_y(b))}" for k, (a, b) in enumerate(ordered)
    )
    found = "".join(f"M{coordinate(to_x(k))} {coordinate(to_y(a))}h0" for k, (a, _) in enumerate(ordered))
    proved = "".join(f"M{coordinate(to_x(k) - 3)} {coordinate(to_y(b))}h6" for k, (_, b) in enumerate(ordered))
    for css, path in (("bracket", bars), ("dots", found), ("cap", proved)):
        parts.append(Markup('<path class="{}" d="{}"/>').format(css, path))
    parts.append(text((LEFT + RIGHT) / 2, bottom + 20, "regions, by proved bound", "label", "middle"))
    parts.append(text(LEFT, TOP - 2, "max |f - g| (logits): dot = found, bar = proved", "label"))
    description = (
        f"{len(ordered)} regions; proved bounds from {number(ordered[0][1])} to {number(ordered[-1][1])}, "
        f"largest difference found {number(max(a for a, _ in ordered))}"
    )
    return figure("distance", "Output distance: found and proved", description, bottom + 28, parts)
