"""How untrusted text and numbers are written in a report."""

from __future__ import annotations

import unicodedata

__all__ = ["DASH", "count", "number", "percent", "shape", "visible"]

DASH = "–"  # noqa: RUF001 - the typographic sign for "no value"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def visible(text: str) -> str:
    """The text with every control, format, surrogate and private character written out as <U+XXXX>.

    What a reader sees is then what the text holds: no reordering (bidirectional overrides), no hidden characters, and
    nothing that XML or UTF-8 cannot carry.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"<U+{ord(c):04X}>" if unicodedata.category(c) in _HIDDEN else c for c in text)


def number(value: float | None) -> str:
    """Four significant digits; a dash for None."""
    return DASH if value is None else f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def percent(fraction: float | None) -> str:
    """A fraction 0..1 as a percentage with one decimal that never rounds up to 100 or down to 0."""
    if fraction is None:
        return DASH
    shown = fraction * 100
    if 0 < shown < 0.05:
        return "< 0.1 %"
    if 99.95 <= shown < 100:
        return "> 99.9 %"
    return f"{shown:.1f} %"


def count(amount: int, singular: str, plural: str | None = None) -> str:
    """An amount with its noun: 1 claim, 2 claims, 1,200 claims."""
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


def shape(sizes: tuple[int, ...]) -> str:
    """Sizes with multiplication signs between them."""
    return " × ".join(map(str, sizes)) or "scalar"  # noqa: RUF001
