"""What is installed is what was pinned, and loaders with known vulnerabilities cannot be."""

from __future__ import annotations

import re
import sysconfig
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
BROUGHT_BY_PYTHON = {"pip", "paoding-verify"}


def pinned() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[\w.\-]+==[\w.+!]+", line) for line in lines)
    pairs = [line.split("==") for line in lines]
    assert len({canonicalize_name(name) for name, _ in pairs}) == len(pairs)
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_installed_distribution_is_pinned_at_its_version() -> None:
    known = pinned()
    found = distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in found if d.metadata["Name"]}
    wrong = {
        name: (version, known.get(name))
        for name, version in installed.items()
        if name not in BROUGHT_BY_PYTHON and Version(version).public != known.get(name)
    }
    assert not wrong
    assert len(installed) > 50


def test_loaders_with_known_vulnerabilities_are_excluded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {canonicalize_name(r.name): r.specifier for r in map(Requirement, project["dependencies"])}
    assert "2.9.1" not in wanted["torch"]
    assert "1.20.1" not in wanted["onnx"]
    for name, specifier in wanted.items():
        assert pinned()[name] in specifier


def test_what_a_user_must_know_is_written_down() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    for heading in ("## What is defended", "## What is not defended", "## Caps"):
        assert heading in text
