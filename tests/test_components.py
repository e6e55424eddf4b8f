"""The list of what is installed: valid, complete, the same bytes every time, and not to be contradicted."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from paoding_verify.auditing.bundle import write
from paoding_verify.auditing.components import component_list
from paoding_verify.checker.bundle import check_bundle
from paoding_verify.evidence.members import witness_files
from tests.test_checker_bundle import make_single


def test_the_list_is_valid_cyclonedx() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(component_list()) is None


def test_it_names_what_is_installed_and_nothing_else() -> None:
    text = component_list()
    assert text == component_list()
    listed = {entry["name"]: entry["version"] for entry in json.loads(text)["components"]}
    for name in ("torch", "numpy", "onnx", "z3-solver", "paoding-verify"):
        assert listed[name] == version(name)
    for place in (str(Path(__file__).parents[1]), str(Path.home())):
        assert place not in text


@pytest.mark.parametrize("text", ["{}", "[" * 9999, '{"bomFormat": "CycloneDX", "components": 3}', "another version"])
def test_a_list_that_contradicts_its_result_is_a_problem(tmp_path: Path, text: str) -> None:
    result, files = make_single()
    stated = replace(result.provenance, versions={"numpy": version("numpy") if text != "another version" else "0.1"})
    result = replace(result, provenance=stated, files={**files, **witness_files(result.claims)})
    place = write(result, tmp_path / "out")
    assert check_bundle(place).ok == (text != "another version")
    if text != "another version":
        import hashlib

        (place / "components.cdx.json").write_text(text)
        manifest = json.loads((place / "manifest.json").read_text())
        digest = hashlib.sha256(text.encode()).hexdigest()
        manifest["members"]["components.cdx.json"] = {"sha256": digest, "bytes": len(text)}
        (place / "manifest.json").write_text(json.dumps(manifest))
    report = check_bundle(place)
    assert any(problem.startswith("components.cdx.json") for problem in report.problems)
