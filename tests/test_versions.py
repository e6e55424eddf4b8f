"""What computes is named by versions and a digest of the code."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from paoding_verify import versions
from paoding_verify.versions import COMPONENTS, code_digest, component_versions


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = component_versions()
    assert list(found) == ["python", *COMPONENTS]
    assert found["torch"] == version("torch")
    monkeypatch.setattr(versions, "COMPONENTS", ("no-such-distribution",))
    assert component_versions()["no-such-distribution"] == "not installed"


def test_the_digest_depends_on_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "versions.py").write_text("")
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "versions.py"))
    code_digest.cache_clear()
    first = code_digest()
    assert code_digest() == first
    (tmp_path / "a.py").write_text("x = 2\n")
    code_digest.cache_clear()
    assert code_digest() != first
    code_digest.cache_clear()
