"""Caps on what a model file may claim, and the one way in which its names reach a message."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LoadLimits", "clean"]

MAX_SHOWN = 100


@dataclass(frozen=True)
class LoadLimits:
    """What a model file may hold; every number is compared with a claim before memory is given to it."""

    max_model_bytes: int = 2**31
    """Size of the file together with its external data."""
    max_elements: int = 2**28
    """Numbers in one tensor of the file."""
    max_folded_elements: int = 2**24
    """Numbers in all constants that are computed while reading."""
    max_parameters: int = 2**28
    """Weights, biases, scales and shifts of all layers; shared weights count every time."""
    max_value_elements: int = 2**24
    """Numbers in one activation of one input."""
    max_total_elements: int = 2**27
    """Numbers in all activations of one input together."""
    max_columns: int = 2**25
    """Numbers that all windows of one convolution or pooling layer see together, for one input."""
    max_macs: int = 2 * 10**10
    """Multiply-accumulate operations of one inference."""
    max_nodes: int = 20_000
    """Nodes of the graph."""
    max_rank: int = 8
    """Axes of a tensor."""
    max_name_length: int = 10_000
    """Characters of one name."""


def clean(text: str | bytes, length: int = MAX_SHOWN) -> str:
    """Text from a file, fit for a message: at most `length` characters, printable ones only.

    Bytes are what protobuf gives for text that is not valid.
    """
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    shown = "".join(c if c.isprintable() else "?" for c in text[: length + 1])
    return shown if len(shown) <= length else shown[: length - 3] + "..."
