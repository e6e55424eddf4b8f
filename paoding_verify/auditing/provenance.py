"""Where and how a result came about: versions, machine, settings; no host name, no user name, no time."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.evidence.codec import to_plain
from paoding_verify.evidence.result import Provenance

__all__ = ["COMPONENTS", "component_versions", "describe"]

COMPONENTS = (
    "paoding-verify", "numpy", "scipy", "torch", "auto-LiRPA", "z3-solver", "onnx", "onnxruntime",
    "safetensors", "jinja2", "rich",
)  # fmt: skip
"""Distributions whose versions bear on a result."""


def component_versions() -> dict[str, str]:
    """Installed version of Python and of every component; "not installed" for those that are missing."""
    found = {"python": platform.python_version()}
    for name in COMPONENTS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe(config: AuditConfig, data_split: str) -> Provenance:
    """The record of a run with these settings."""
    plain = to_plain(config)
    settings = {**plain, **plain["search"]}
    for key in ("search", "command", "data_split", "seed"):
        settings.pop(key)
    return Provenance(
        command=config.command,
        seed=config.seed,
        versions=component_versions(),
        machine=f"{platform.machine()} {platform.system()}, {os.cpu_count()} processors",
        config={key: _words(value) for key, value in settings.items()},
        data_split=data_split,
    )


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
