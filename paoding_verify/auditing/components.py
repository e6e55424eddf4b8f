"""What is installed where an audit runs, as a CycloneDX list: read from metadata, the same bytes every time."""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

__all__ = ["component_list"]

SPEC_VERSION = "1.6"


def component_list() -> str:
    """CycloneDX JSON of Python and of every distribution that this interpreter sees, by name; no time, no place.

    Source: CycloneDX 1.6, ECMA-424.
    """
    found: dict[str, Distribution] = {}
    # Some packages put copies of others on the path when they are imported: those are parts of them.
    path = [entry for entry in sys.path if "_vendor" not in Path(entry).parts]
    for each in distributions(path=path):
        name = each.metadata["Name"]
        if name:
            found.setdefault(_normal(name), each)  # the first on the path is the one that is imported
    parts = [_component(each) for _, each in sorted(found.items())]
    python = {
        "type": "platform", "bom-ref": "python", "name": "python", "version": platform.python_version(),
    }  # fmt: skip
    plain = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "components": [python, *parts],
    }
    return json.dumps(plain, indent=2, ensure_ascii=True) + "\n"


def _normal(name: str) -> str:
    """As package URLs and comparisons want it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _component(each: Distribution) -> dict[str, Any]:
    name, version = each.metadata["Name"], each.version
    url = f"pkg:pypi/{_normal(name)}@{version}"
    entry: dict[str, Any] = {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}
    if "License-Expression" in each.metadata:
        entry["licenses"] = [{"expression": each.metadata["License-Expression"]}]
    return entry
