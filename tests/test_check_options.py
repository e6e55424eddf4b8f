"""`check` on archives, with keys, in exact arithmetic, in other arithmetics, and where torch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.checker import exactly
from paoding_verify.checker.bundle import Wishes, check_bundle
from paoding_verify.checker.exactly import choose_claims
from paoding_verify.cli.main import main
from paoding_verify.errors import DataError
from tests.command_lines import EFFORT, bundle, folder, spec
from tests.test_envelope import keys

__all__ = ["bundle", "folder"]

ROOT = Path(__file__).resolve().parents[1]
NEEDED = (
    "numpy",
    "scipy",
    "onnx",
    "google",
    "ml_dtypes",
    "typing_extensions",
    "jinja2",
    "markupsafe",
    "rich",
    "pygments",
)
"""What the dependency group `check` installs, by the names of its folders."""


def archive(
    bundle: Path, target: Path, prefix: str = "", *, packed: bool = True, extra: dict[str, bytes] | None = None
) -> Path:
    """A ZIP file of the bundle."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for path in sorted(bundle.rglob("*")):
            if path.is_file():
                file.write(path, prefix + path.relative_to(bundle).as_posix())
        for name, data in (extra or {}).items():
            file.writestr(prefix + name, data)
    return target


@pytest.mark.parametrize("prefix", ["", "out/"])
def test_an_archive_is_as_good_as_its_folder(bundle: Path, tmp_path: Path, prefix: str) -> None:
    assert check_bundle(archive(bundle, tmp_path / "b.zip", prefix)) == check_bundle(bundle)
    assert main(["check", str(tmp_path / "b.zip"), "--quiet"]) == 0


def test_damaged_archives_are_refused(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """30 archives of which one byte of some member is flipped, and others with more or less."""
    honest = archive(bundle, tmp_path / "honest.zip", packed=False)
    data, rng = bytearray(honest.read_bytes()), np.random.default_rng(0)
    with zipfile.ZipFile(honest) as file:
        spans = [(i.header_offset + 30 + len(i.filename), i.compress_size) for i in file.infolist()]
    for _ in range(30):
        start, size = spans[rng.integers(len(spans))]
        place, bit = start + int(rng.integers(size)), 1 << int(rng.integers(8))
        (tmp_path / "flipped.zip").write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        assert main(["check", str(tmp_path / "flipped.zip"), "--quiet"]) == 5
    (tmp_path / "short.zip").write_bytes(data[: len(data) // 2])
    assert main(["check", str(tmp_path / "short.zip"), "--quiet"]) == 5
    more = archive(bundle, tmp_path / "more.zip", extra={"more.txt": b"x"})
    assert "more.txt: not named in the manifest" in check_bundle(more).problems
    with zipfile.ZipFile(more, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("audit.json", b"{}")
    assert "audit.json: twice in the archive" in check_bundle(more).problems
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(more, "a") as file:
        file.writestr(link, b"/etc/passwd")
    assert any(problem.startswith("link: a link") for problem in check_bundle(more).problems)
    capsys.readouterr()


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="no ZIP archive"):
        check_bundle(tmp_path / "file")
    assert main(["check", str(tmp_path / "file"), "--quiet"]) == 2
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        check_bundle(tmp_path / "empty.zip")


def test_signatures(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{name}{k}.pem": pem for k in (1, 2) for name, pem in zip(("private", "public"), keys(k), strict=True)}
    for name, pem in files.items():
        (tmp_path / name).write_bytes(pem)
    copy = tmp_path / "out"
    with zipfile.ZipFile(archive(bundle, tmp_path / "copy.zip")) as file:
        file.extractall(copy)
    check = ["check", str(copy), "--quiet", "--key"]
    assert main([*check, str(tmp_path / "public1.pem")]) == 5
    assert "the bundle is not signed" in capsys.readouterr().out
    assert main(["sign", str(copy), "--key", str(tmp_path / "private1.pem")]) == 0
    assert main(["sign", str(copy), "--key", str(tmp_path / "private1.pem")]) == 2  # never over an existing file
    assert main([*check, str(tmp_path / "public1.pem")]) == 0
    assert "signed by the key" in capsys.readouterr().out
    assert main([*check, str(tmp_path / "public2.pem")]) == 5
    assert main(["check", str(copy), "--quiet"]) == 0
    assert "who signed it: no key was given" in capsys.readouterr().out
    statement = json.loads((copy / "attestation.json").read_text())
    assert {s["name"] for s in statement["subject"]} == {"models/original.onnx", "models/pruned.onnx"}
    assert main(["sign", str(tmp_path), "--key", str(tmp_path / "private1.pem")]) == 2
    assert main(["sign", str(bundle), "--key", str(tmp_path / "public1.pem")]) == 2


def test_signatures_cover_every_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file of a signed bundle can be exchanged for another that a check alone would accept."""
    key = tmp_path / "key.pem"
    key.write_bytes(keys()[0])
    bundles = [tmp_path / "strict", tmp_path / "lax"]
    for target, limit in zip(bundles, (1e3, 2e3), strict=True):
        words = ["--vnnlib", spec(tmp_path / f"{target.name}.vnnlib", 0.4, 0.41, f"(>= Y_0 {limit})")]
        assert main(["certify", str(folder / "net.onnx"), *words, *EFFORT, "-o", str(target)]) == 0
        assert main(["sign", str(target), "--key", str(key)]) == 0
    signed, other = ({name: (place / name).read_bytes() for name in FILES} for place in bundles)
    strict, wishes = bundles[0], Wishes(key=keys()[1])
    assert check_bundle(strict, wishes=wishes).ok
    for changed in ({"timings.json": b"{}\n"}, {"properties.json": other["properties.json"]}):
        altered(strict, changed)
        assert not any("properties" in text for text in check_bundle(strict).problems)
        report = check_bundle(strict, wishes=wishes)
        assert report.signed_by is None
        assert any("what was signed is another bundle" in text for text in report.problems)
        altered(strict, signed)
    assert check_bundle(strict, wishes=wishes).ok
    altered(strict, {name: other[name] for name in ("attestation.json", "attestation.dsse.json")})
    assert not check_bundle(strict, wishes=wishes).ok
    assert main(["sign", str(strict), "--force", "--key", str(key)]) == 0
    (strict / "timings.json").write_bytes(b"{}")
    assert main(["sign", str(strict), "--force", "--key", str(key)]) == 5
    assert "nothing is signed" in capsys.readouterr().err


FILES = ("timings.json", "properties.json", "attestation.json", "attestation.dsse.json")


def altered(bundle: Path, files: dict[str, bytes]) -> None:
    """Puts files into a bundle, and their digests into its manifest."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, data in files.items():
        (bundle / name).write_bytes(data)
        if name in manifest["members"]:
            manifest["members"][name] = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_exact_and_other_arithmetics(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_bundle(bundle, wishes=Wishes(seed=1, exact=3, semantics="bfloat16"))
    assert report.ok
    assert report.exact is not None
    assert report.beyond is not None
    assert 3 <= len(report.exact) <= 6
    assert sum(not why for _, why in report.exact) >= 3
    assert [claim for claim, _ in report.beyond] == list(report.reproved)
    weaker = check_bundle(bundle, wishes=Wishes(semantics="real")).beyond or ()
    assert all(not why for _, why in weaker)
    assert main(["check", str(bundle), "--quiet", "--exact", "1", "--semantics", "tf32"]) == 0
    shown = capsys.readouterr().out
    assert "proved in exact rational arithmetic: 2 of 2 claims tried, for exact numbers (semantics real)" in shown
    assert "proved in tf32: " in shown
    assert main(["check", str(bundle), "--quiet", "--exact", "0"]) == 2


def test_what_is_too_large_for_exact_arithmetic_is_listed(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exactly, "MAX_LEAVES", 0)
    assert main(["check", str(bundle), "--quiet", "--exact", "1"]) == 0
    shown = capsys.readouterr().out
    assert "proved in exact rational arithmetic: 0 of 2 claims tried" in shown
    assert "  not shown: 2 claims, its region is split into 1 boxes, too many for exact arithmetic" in shown


def test_the_closest_claims_are_chosen(bundle: Path) -> None:
    from paoding_verify.evidence.codec import loads
    from paoding_verify.evidence.result import AuditResult
    from paoding_verify.evidence.verdict import Verdict

    result = loads(AuditResult, (bundle / "audit.json").read_bytes(), "audit.json")
    claims = [claim for claim in result.claims if claim.verdict is Verdict.CERTIFIED]
    least = min((c for c in claims if not c.bracket), key=lambda claim: claim.bound or 0.0)
    chosen = choose_claims(claims, 1, 0)
    assert least in chosen
    assert len(chosen) == 2


def test_check_works_without_torch(bundle: Path, tmp_path: Path) -> None:
    """In a Python that sees nothing but what the dependency group `check` installs."""
    site = Path(np.__file__).parents[1]
    for name in NEEDED:
        for path in (*site.glob(name), *site.glob(f"{name}.py"), *site.glob(f"{name}.libs")):
            (tmp_path / path.name).symlink_to(path)
    code = (
        "import sys; sys.path.append(sys.argv.pop(1)); from paoding_verify.cli.main import main; code = main(); "
        "loaded = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(loaded & {'torch', 'auto_LiRPA', 'z3', 'highspy', 'onnxruntime', 'safetensors'})); sys.exit(code)"
    )
    words = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    done = subprocess.run(
        [*words, str(tmp_path), "check", str(bundle), "--quiet", "--exact", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "original.onnx against onnxruntime, which is not installed" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_loads_no_engine(bundle: Path) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "paoding_verify", "check", str(bundle), "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "numpy" in loaded
    assert not loaded & {"torch", "auto_LiRPA", "z3", "highspy"}
