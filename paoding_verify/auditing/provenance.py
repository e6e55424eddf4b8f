"""Where and how a result came about: versions, machine, settings; no host name, no user name, no time."""

from __future__ import annotations

import os
import platform

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.evidence.codec import to_plain
from paoding_verify.evidence.result import Provenance
from paoding_verify.versions import component_versions

__all__ = ["describe"]

OF_DRAWING = frozenset({"eps", "samples", "domain"})
"""Settings that mean something only if the regions were drawn by them."""
OF_PRUNING = frozenset(
    {"target_sparsity", "sparsity_of", "max_certified_drop", "anchor_eps", "method", "distil", "repair"}
)
OF_PAIRS = frozenset({"delta", "smt_samples"})


def describe(config: AuditConfig, data_split: str, *, drawn: bool, pruned: bool, pair: bool) -> Provenance:
    """The record of a run with these settings; those without a meaning in it are left out.

    drawn, pruned, pair: whether the regions were drawn by the settings, whether a network was pruned by them, and
    whether two networks were compared.
    """
    plain = to_plain(config)
    settings = {**plain, **plain["search"]}
    left_out = {"search", "command", "data_split", "drawing", "seed"}
    if config.distil:  # the methods that distil do so unless told otherwise, the others never
        left_out |= {"distil"}
    for names, applied in ((OF_DRAWING, drawn), (OF_PRUNING, pruned), (OF_PAIRS, pair)):
        left_out |= set() if applied else names
    return Provenance(
        command=config.command,
        seed=config.seed,
        versions=component_versions(),
        machine=f"{platform.machine()} {platform.system()}, {os.cpu_count()} processors",
        config={k: _words(k, v) for k, v in settings.items() if k not in left_out and v not in (None, "")},
        data_split=data_split,
        drawing=config.drawing or "By the caller of the library; this report does not know how.",
    )


def _words(key: str, value: object) -> str:
    if isinstance(value, list):
        return (" to " if key == "domain" else ", ").join(_words(key, item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
