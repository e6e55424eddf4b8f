"""Elements of inline SVG: every text is escaped, every length is rounded, so that equal data give equal bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from markupsafe import Markup, escape

from paoding_verify.report.text import visible

__all__ = ["WIDTH", "Scale", "coordinate", "figure", "line", "polyline", "rect", "scale", "span", "text", "ticks"]

WIDTH = 440
"""Width of every chart in user units; they scale with the page."""

Scale = Callable[[float], float]
"""A value to its place in user units."""


def coordinate(value: float) -> str:
    """A length with at most one decimal, without a trailing zero."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def scale(low: float, high: float, start: float, stop: float) -> Scale:
    """The linear map that takes low to start and high to stop; a constant if low = high."""
    width = high - low
    return lambda value: start + (stop - start) * ((value - low) / width if width else 0.5)


def ticks(low: float, high: float, least: int = 3) -> list[float]:
    """Round numbers inside [low, high]: at least about `least`, at most two and a half times as many."""
    if not high > low:
        return [low]
    raw = (high - low) / least
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (5, 2, 1) if factor * power <= raw * 1.001)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def span(values: Iterable[float]) -> tuple[float, float]:
    """Smallest and largest value, widened by 5 % so that no mark sits on the frame."""
    kept = list(values)
    low, high = min(kept), max(kept)
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - pad, high + pad


def text(x: float, y: float, content: str, css: str = "", anchor: str = "") -> Markup:
    """A text element; `anchor` is start, middle or end."""
    extra = Markup(' text-anchor="{}"').format(anchor) if anchor else Markup("")
    cls = Markup(' class="{}"').format(css) if css else Markup("")
    return Markup('<text x="{}" y="{}"{}{}>{}</text>').format(
        coordinate(x), coordinate(y), extra, cls, escape(visible(content))
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight line."""
    return Markup('<path class="{}" d="M{} {}L{} {}"/>').format(css, *map(coordinate, (x1, y1, x2, y2)))


def polyline(points: Iterable[tuple[float, float]], css: str, closed: bool = False) -> Markup:
    """A line through points, or the polygon that they span."""
    path = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    return Markup('<path class="{}" d="M{}{}"/>').format(css, path, "Z" if closed else "")


def rect(x: float, y: float, width: float, height: float, css: str) -> Markup:
    """A rectangle; negative sizes count as zero."""
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        css, *map(coordinate, (x, y, max(width, 0.0), max(height, 0.0)))
    )


def figure(
    name: str, title: str, description: str, height: float, parts: Iterable[Markup], *, width: int = WIDTH
) -> Markup:
    """An accessible SVG image: role, title and description; `name` is unique on the page and plain ASCII."""
    return Markup(
        '<svg role="img" aria-labelledby="{0}-t {0}-d" viewBox="0 0 {1} {2}" class="chart">'
        '<title id="{0}-t">{3}</title><desc id="{0}-d">{4}</desc>{5}</svg>'
    ).format(name, width, coordinate(height), visible(title), visible(description), Markup("").join(parts))
