"""Bundles: complete or absent, named by their manifest, equal for equal results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import paoding_verify.auditing.bundle as module
from paoding_verify.auditing.bundle import write
from paoding_verify.auditing.members import binary_members
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.certificate import Certificate, Split
from paoding_verify.evidence.claim import Claim, Finding, Witness
from paoding_verify.evidence.codec import loads
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.regions import Region
from tests.audits import audit_example


@pytest.fixture
def result() -> AuditResult:
    return replace(audit_example(), files={"models/original.onnx": b"one", "regions.npz": b"two"})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_manifest_names_every_other_member(result: AuditResult, tmp_path: Path) -> None:
    found = contents(write(result, tmp_path / "out"))
    manifest = json.loads(found.pop("manifest.json"))
    assert manifest["members"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in found.items()
    }
    assert {"report.html", "audit.json", "audit.sarif", "junit.xml", "attestation.json", "timings.json"} <= set(found)
    assert {"summary.md", "claims.csv", "models/original.onnx", "regions.npz"} <= set(found)


def test_the_result_can_be_read_back_without_its_times(result: AuditResult, tmp_path: Path) -> None:
    from paoding_verify.report.plain import without_timings

    folder = write(result, tmp_path / "out")
    assert loads(AuditResult, (folder / "audit.json").read_bytes(), "audit.json") == without_timings(result)


def test_only_timings_depend_on_the_clock(result: AuditResult, tmp_path: Path) -> None:
    slow = replace(result, claims=tuple(replace(claim, elapsed_s=99.0) for claim in result.claims))
    first, second = contents(write(result, tmp_path / "a")), contents(write(slow, tmp_path / "b"))
    assert {name for name in first if first[name] != second[name]} == {"timings.json", "manifest.json"}


def test_an_empty_folder_is_taken_and_parents_are_made(result: AuditResult, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (write(result, tmp_path / "empty") / "report.html").is_file()
    assert (write(result, str(tmp_path / "some" / "where")) / "report.html").is_file()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_never_overwritten(result: AuditResult, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="nothing was overwritten"):
        write(result, target)
    assert contents(tmp_path) == before


def test_a_failure_halfway_leaves_nothing(result: AuditResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full_disk(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full_disk)
    with pytest.raises(ConfigError, match="No space left"):
        write(result, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def findings() -> tuple[list[Region], list[Finding]]:
    rng = np.random.default_rng(0)
    regions = [Region(f"r{k}", rng.random(3) - 1, rng.random(3) + 1, label=0) for k in range(2)]
    base = Claim("a/b/r0", "top1_robust", "original", "r0", None, 0, Verdict.CERTIFIED, "crown", rechecked=True)
    slopes = {(3, 1): np.array([[0, 255, 7]], dtype=np.uint8)}
    certified = Finding(base, Certificate("crown", slopes, Split(2, 0.5)))
    witness = Witness((0.1, 0.2, 0.3), (1.0, 2.0), None)
    violated = replace(base, id="a/b/r1", region="r1", verdict=Verdict.VIOLATED, witness=witness)
    return regions, [certified, Finding(violated, None)]


def test_binary_members_can_be_read_back(tmp_path: Path) -> None:
    regions, found = findings()
    members = binary_members({"original": b"model"}, regions, found)
    (tmp_path / "regions.npz").write_bytes(members["regions.npz"])
    with np.load(tmp_path / "regions.npz") as boxes:
        assert (boxes["lower"] == np.stack([r.lower for r in regions])).all()
        assert (boxes["upper"] == np.stack([r.upper for r in regions])).all()
        assert (boxes["lower"].dtype, boxes["anchor"].dtype) == (np.float64, np.float32)
    text = members["certificates/certificates.json"]
    back = loads(dict[str, Certificate], text, "certificates")["a/b/r0"]
    assert (back.kind, back.split) == ("crown", Split(2, 0.5))
    assert (back.slopes[3, 1] == found[0].certificate.slopes[3, 1]).all()  # type: ignore[union-attr]
    assert json.loads(members["witnesses/0000.json"])["claim"] == "a/b/r1"


def test_equal_findings_give_equal_bytes() -> None:
    first, second = (binary_members({"original": b"model"}, *findings()) for _ in range(2))
    assert first == second
