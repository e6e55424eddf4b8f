"""The one way in which names from a model file reach a message; the caps on what it may claim."""

from __future__ import annotations

from paoding_verify.limits import LoadLimits

__all__ = ["LoadLimits", "clean"]

MAX_SHOWN = 100


def clean(text: str | bytes, length: int = MAX_SHOWN) -> str:
    """Text from a file, fit for a message: at most `length` characters, printable ones only.

    Bytes are what protobuf gives for text that is not valid.
    """
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    shown = "".join(c if c.isprintable() else "?" for c in text[: length + 1])
    return shown if len(shown) <= length else shown[: length - 3] + "..."
