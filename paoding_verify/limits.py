"""Caps on what files of strangers may claim; every number is compared with a claim before memory is given to it.

`paoding-verify VERB --help` shows each with its default, and `--max-...` sets it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from paoding_verify.errors import ConfigError

__all__ = ["DataLimits", "LoadLimits", "SpecLimits"]


@dataclass(frozen=True)
class _Caps:
    """Positive numbers. Raises: ConfigError naming the one that is not."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) > 0:
                raise ConfigError(f"{_option(item.name)} must be above 0; got {getattr(self, item.name)}")

    def said(self, name: str) -> str:
        """A cap as refusals state it, with the option that raises it: 23 (--max-macs)."""
        return f"{getattr(self, name)} ({_option(name)})"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class LoadLimits(_Caps):
    """What a model file may hold."""

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


@dataclass(frozen=True)
class DataLimits(_Caps):
    """How much a data file may claim before it is read."""

    max_data_bytes: int = 512 * 2**20
    """Bytes of all arrays of a data file, unpacked."""
    max_data_ratio: float = 200.0
    """Unpacked over packed size, for data files that unpack to more than 16 MiB."""


@dataclass(frozen=True)
class SpecLimits(_Caps):
    """How large a specification may be."""

    max_spec_bytes: int = 64 * 2**20
    """Size of the file."""
    max_spec_tokens: int = 8_000_000
    """Words and parentheses."""
    max_spec_depth: int = 64
    """Nested parentheses."""
    max_spec_disjuncts: int = 10_000
    """Conjunctions of the unsafe set in disjunctive normal form."""
    max_spec_terms: int = 5_000_000
    """Inequalities of all these conjunctions together."""
