"""Charts of the pruning run: its steps, and the candidates that were compared."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from paoding_verify.evidence.pruning import PruneStep
from paoding_verify.report.charts import LEFT, RIGHT, frame
from paoding_verify.report.svg import Scale, figure, line, polyline, rect, scale, span, text, ticks
from paoding_verify.report.text import count, number, percent

__all__ = ["candidates", "trace"]

PANEL, PROPOSALS = 84, 64
"""Heights in user units: of a panel with its title, and of the bars of proposals."""
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
    parts.append(text((start + RIGHT) / 2, bottom + 32, "certified margin lost, mean (logits)", "label", "middle"))
    description = "; ".join(
        f"{name}: {number(signal)}{', chosen' if chosen else ''}" for name, signal, chosen in ordered
    )
    return figure("candidates", "Candidates that the pruner compared", description, bottom + 40, parts)


def trace(steps: Sequence[PruneStep]) -> Markup:
    """The pruning run by step: size, accuracy at the pruner's anchors, certified margin, energy, and proposals."""
    to_x = scale(0.5, len(steps) + 0.5, LEFT, RIGHT)
    panels = [
        ("size: sparsity (%)", [[100 * s.sparsity for s in steps]]),
        (
            "accuracy (%): natural solid, certified dashed",
            [[100 * s.natural_accuracy for s in steps], [100 * s.certified_accuracy for s in steps]],
        ),
        ("certified margin (logits)", [[s.certified_margin for s in steps]]),
        ("energy (logits)", [[s.energy for s in steps]]),
    ]
    parts: list[Markup] = []
    top = 24.0
    for name, series in panels:
        parts += _panel(name, series, to_x, top)
        top += PANEL
    parts += _proposals(steps, to_x, top)
    bottom = top + PROPOSALS
    for step in ticks(1, max(len(steps), 2)):
        if step == int(step) and step <= len(steps):
            parts.append(text(to_x(step), bottom + 17, f"{step:g}", anchor="middle"))
    parts.append(text((LEFT + RIGHT) / 2, bottom + 33, "step", "label", "middle"))
    return figure("trace", "The pruning run step by step", _told(steps), bottom + 40, parts)


def _panel(name: str, series: Sequence[Sequence[float]], to_x: Scale, top: float) -> list[Markup]:
    """Up to two lines over the steps, the second dashed."""
    bottom = top + PANEL - 26
    low, high = span([value for values in series for value in values])
    to_y = scale(low, high, bottom, top)
    parts = []
    for tick in ticks(low, high, 2):
        parts += [
            line(LEFT, to_y(tick), RIGHT, to_y(tick), "grid"),
            text(LEFT - 6, to_y(tick) + 4, f"{tick:g}", "", "end"),
        ]
    parts.append(text(LEFT, top - 7, name, "label"))
    for css, values in zip(("line pruned", "line dashed pruned"), series, strict=False):
        points = [(to_x(k), to_y(value)) for k, value in enumerate(values, start=1)]
        parts.append(polyline(points, css))
        parts += [rect(x - 2.5, y - 2.5, 5, 5, "mark pruned") for x, y in points] if len(points) < 60 else []
    return parts


def _proposals(steps: Sequence[PruneStep], to_x: Scale, top: float) -> list[Markup]:
    bottom = top + PROPOSALS
    most = max((1, *(len(s.accepted) + len(s.rejected) for s in steps)))
    to_y, width = scale(0, most, bottom, top), (RIGHT - LEFT) / len(steps) * 0.6
    parts = [*frame(bottom, [(to_y(0), "0"), (to_y(most), f"{most:g}")])]
    parts.append(text(LEFT, top - 9, "proposals: accepted (filled), rejected (hatched)", "label"))
    for k, step in enumerate(steps, start=1):
        x, accepted, tried = to_x(k) - width / 2, len(step.accepted), len(step.accepted) + len(step.rejected)
        parts.append(rect(x, to_y(accepted), width, bottom - to_y(accepted), "certified"))
        parts.append(rect(x, to_y(tried), width, to_y(accepted) - to_y(tried), "unknown"))
    return parts


def _told(steps: Sequence[PruneStep]) -> str:
    last = steps[-1]
    natural, certified = percent(last.natural_accuracy), percent(last.certified_accuracy)
    return (
        f"{count(len(steps), 'step')}; after the last one sparsity {percent(last.sparsity)}, natural accuracy at the "
        f"anchors {natural}, certified {certified}, "
        f"certified margin {number(last.certified_margin)}, energy {number(last.energy)}; "
        f"{count(sum(len(s.accepted) for s in steps), 'proposal')} accepted, {sum(len(s.rejected) for s in steps)} "
        f"rejected"
    )
