"""The verb `render`: every output of a bundle again, from audit.json alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from paoding_verify.auditing.bundle import write
from paoding_verify.cli.main import main
from paoding_verify.cli.verbs.render import FORMATS
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.codec import dumps
from paoding_verify.evidence.property import PropertyRecord, predicts
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.render import TWINS, audit_json
from tests.audits import audit_example, certify_example, compare_example


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(audit_example(Outcome.FAIL, (0.01,), 6), tmp_path_factory.mktemp("bundle") / "out")


@pytest.fixture
def lone(bundle: Path, tmp_path: Path) -> Path:
    """The audit.json of the bundle in a folder of its own."""
    return Path(shutil.copy(bundle / "audit.json", tmp_path / "audit.json"))


def test_every_twin_has_a_format() -> None:
    assert set(FORMATS.values()) == set(TWINS)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_format_is_drawn_again_byte_for_byte(bundle: Path, lone: Path, tmp_path: Path, kind: str) -> None:
    assert main(["render", str(lone), "--format", kind, "-o", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again").read_bytes() == (bundle / FORMATS[kind]).read_bytes()


@pytest.mark.parametrize(
    "name", ["report.html", "audit.sarif", "junit.xml", "summary.md", "claims.csv", "attestation.json"]
)
def test_the_name_of_the_file_tells_its_format(bundle: Path, lone: Path, tmp_path: Path, name: str) -> None:
    assert main(["render", str(lone), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes() == (bundle / name).read_bytes()


def test_a_suffix_without_a_format_is_refused(lone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(lone), "-o", str(tmp_path / "report.pdf")]) == 2
    assert "prints the HTML report to PDF" in capsys.readouterr().err
    assert not (tmp_path / "report.pdf").exists()


def test_a_baseline_is_compared(lone: Path, tmp_path: Path) -> None:
    result = audit_example(Outcome.PASS, (0.01,), 6)

    def better(claim: Claim) -> Claim:
        return replace(claim, verdict=Verdict.UNKNOWN) if claim.witness is not None else claim

    old = tmp_path / "old.json"
    old.write_text(audit_json(replace(result, claims=tuple(map(better, result.claims)))))
    for name, words in (("new.html", "newly violated<td>0"), ("new.md", "Newly open: 0")):
        assert main(["render", str(lone), "--baseline", str(old), "-o", str(tmp_path / name)]) == 0
        assert words in (tmp_path / name).read_text()


def test_a_baseline_belongs_to_what_can_show_it(lone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(lone), "--baseline", str(lone), "-o", str(tmp_path / "a.csv")]) == 2
    assert "--baseline is for html and markdown" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{}")
    assert main(["render", str(lone), "--baseline", str(tmp_path / "bad.json"), "-o", str(tmp_path / "a.html")]) == 2
    assert "bad.json" in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()


def test_specifications_fill_a_new_folder(lone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lone.write_text(audit_json(compare_example()))
    command = ["render", str(lone), "--format", "vnnlib", "-o", str(tmp_path / "specs")]
    assert main(command) == 0
    found = sorted(p.name for p in (tmp_path / "specs").iterdir())
    assert f"({len(found)} files)" in capsys.readouterr().out
    assert found[-1] == "results.csv"
    assert len(found) == 13
    assert main(command) == 2
    assert "not empty" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit.json", "specs"]


def test_specifications_of_a_specification_read_the_bundle_s_properties(tmp_path: Path) -> None:
    result = certify_example()
    claims = tuple(replace(c, kind="vnnlib", label=None) for c in result.claims)
    (tmp_path / "audit.json").write_text(audit_json(replace(result, claims=claims)))
    properties = {c.id: PropertyRecord.of(predicts(0, 3)) for c in claims}
    (tmp_path / "properties.json").write_text(dumps(properties))
    target = tmp_path / "specs"
    assert main(["render", str(tmp_path / "audit.json"), "--format", "vnnlib", "-o", str(target)]) == 0
    assert len(list(target.glob("*.vnnlib"))) == len(claims)


def test_a_failure_halfway_leaves_no_folder(lone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = certify_example()
    lone.write_text(audit_json(replace(result, regions=tuple(replace(r, box="") for r in result.regions))))
    assert main(["render", str(lone), "--format", "vnnlib", "-o", str(tmp_path / "specs")]) == 2
    assert "does not hold the box" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["audit.json"]


def test_no_engine_is_loaded(lone: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from paoding_verify.cli.main import main; "
        f"main(['render', {str(lone)!r}, '-o', {str(tmp_path / 'r.html')!r}]); "
        "sys.exit(', '.join({'torch', 'z3', 'auto_LiRPA', 'onnx', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
