"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import paoding_verify

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "AuditConfig", "Dataset", "Network", "Outcome", "Policy", "Question", "Region", "SearchConfig", "Verdict",
    "__version__",
    "audit", "certify", "check_bundle", "compare", "errors", "linf_regions", "load_network", "prune", "read_dataset",
    "write",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(paoding_verify.__all__) == NAMES
    assert set(dir(paoding_verify)) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(paoding_verify, name)
    assert name == "__version__" or value.__doc__


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        paoding_verify.nothing_of_that_name  # noqa: B018


def test_the_version_is_the_distribution_s() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert paoding_verify.__version__ == project["version"]


@pytest.mark.parametrize(
    "statement",
    [
        "import paoding_verify",
        "from paoding_verify import Policy, AuditConfig, Region, Verdict, errors, write",
        "from paoding_verify import check_bundle",
        "import paoding_verify.checker, paoding_verify.evidence.codec, paoding_verify.report.html",
    ],
)
def test_importing_loads_no_engine(statement: str) -> None:
    code = f"import sys; {statement}; print(*({{'torch', 'z3', 'auto_LiRPA'}} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == ""
