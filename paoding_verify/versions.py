"""What computes: versions of this package and of the components that bear on a result."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["COMPONENTS", "code_digest", "component_versions", "installed_version"]

COMPONENTS = (
    "paoding-verify", "numpy", "scipy", "torch", "auto-LiRPA", "z3-solver", "highspy", "onnx", "onnxruntime",
    "safetensors", "jinja2", "rich",
)  # fmt: skip
"""Distributions whose versions bear on a result."""


def component_versions() -> dict[str, str]:
    """Installed version of Python and of every component; "not installed" for those that are missing."""
    return {"python": platform.python_version(), **{name: installed_version(name) for name in COMPONENTS}}


def installed_version(name: str) -> str:
    """Version of a distribution, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@cache
def code_digest() -> str:
    """Of this package's source: results of another version, even an unnamed one, may differ."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
