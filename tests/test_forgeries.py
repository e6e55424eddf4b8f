"""Lying bundles, every digest and page of which is right for the lie: each is refused, for the right reason."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.auditing.bundle import write
from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.run import audit, certify_model, compare_models
from paoding_verify.checker import centres
from paoding_verify.checker.bundle import BundleReport, Wishes, check_bundle
from paoding_verify.cli.main import main
from paoding_verify.data import Dataset
from paoding_verify.evidence.claim import Witness
from paoding_verify.evidence.property import predicts
from paoding_verify.evidence.result import AuditResult
from paoding_verify.linf import linf_regions
from paoding_verify.network.graph import Dense, Network, Node, Relu, Source
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.network.transform import with_normalisation
from paoding_verify.regions import Region
from paoding_verify.report.render import TWINS
from paoding_verify.task import SearchConfig
from tests import forgers
from tests.forgers import C, U, V, each, is_a, models, only, points

ROOT = Path(__file__).resolve().parents[1]
CONFIG = AuditConfig(eps=(0.03,), search=SearchConfig(timeout_s=5.0))


def sourced(network: Network, name: str) -> Network:
    """The network as if read from its ONNX file."""
    data = to_onnx(network)
    return replace(network, source=Source(name, "onnx", hashlib.sha256(data).hexdigest(), data))


def pair() -> list[Network]:
    """A network of ten hidden units, and what is left of it without three of them."""
    rng = np.random.default_rng(3)
    first, second = (
        rng.normal(size=shape).astype(np.float32).astype(np.float64) / 4 for shape in ((10, 12), (3, 10))
    )  # fmt: skip
    return [
        sourced(
            Network((12,), (
                Node(Dense(first[:keep], np.zeros(keep)), (0,), "a"), Node(Relu(), (1,), "r"),
                Node(Dense(second[:, :keep], np.zeros(3)), (2,), "b"),
            )), f"net{keep}.onnx",
        )
        for keep in (10, 7)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def honest() -> AuditResult:
    """An audit with claims of every kind, certified ones and violated ones, and a centre that is misclassified."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0.2, 0.8, size=(5, 12)).astype(np.float32)
    networks = pair()
    label = networks[0].forward(x).argmax(axis=1)
    label[0] = (label[0] + 1) % 3
    regions = linf_regions(Dataset(x, label.astype(np.int64), "data.npz"), eps=0.03, domain=(0.0, 1.0))
    result = audit(*networks, regions, config=CONFIG)
    assert {C, V} <= {claim.verdict for claim in result.claims}
    return result


def check(folder: Path) -> BundleReport:
    return check_bundle(folder, twins=TWINS)


def text(report: BundleReport) -> str:
    return "\n".join([*report.problems, *(f"{claim}: {why}" for claim, why in report.refused)])


def test_an_honest_bundle_holds(honest: AuditResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(honest, tmp_path / "out")
    report = check(folder)
    assert (report.ok, report.complete) == (True, True), text(report)
    assert len(report.reproved) + len(report.replayed) + len(report.unknown) == len(honest.claims)
    assert main(["check", str(folder), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert f"{len(report.reproved)} proofs and {len(report.replayed)} counterexamples confirmed, 0 refused" in shown
    assert "taken on trust: provenance" in shown
    assert shown.endswith("the bundle holds what it says\n")


DOWN = {"verdict": U, "witness": None, "rechecked": False, "reason": "no method left"}
OPEN = {"verdict": U, "rechecked": False, "semantics": (), "reason": "no method left"}
FORGERIES: dict[str, tuple[forgers.Forger, str]] = {
    "policy passes": (forgers.passed, "do not follow from the claims and its thresholds"),
    "policy without rules": (forgers.no_rules, "has no rule"),
    "default policy with other thresholds": (forgers.thresholds, "not those of the default policy"),
    "policy intervals": (forgers.intervals, "do not follow from the claims and its thresholds"),
    "policy removed": (lambda r: replace(r, policy=None), "a policy belongs to audits"),
    "metrics": (lambda r: replace(r, metrics=r.metrics[::-1]), "metrics do not follow"),
    "violated claims left out": (only(lambda c: c.verdict is not V), "is missing"),
    "all claims left out": (only(lambda c: False), "is missing"),
    "one kind left out": (only(lambda c: c.kind != "output_distance"), "is missing"),
    "one claim repeated": (forgers.repeated, "is none that audit makes"),
    "ids that lie": (forgers.renamed, "is none that audit makes"),
    "claims in another order": (lambda r: replace(r, claims=r.claims[::-1]), "not in their order"),
    "misclassified centre called unknown": (each(lambda c: c.verdict is V, **DOWN), "its anchor breaks it"),
    "unknown claims rechecked": (
        each(lambda c: c.verdict is V, **{**DOWN, "rechecked": True}), "checked a second time exactly"),
    "margins": (each(is_a("top1_robust"), margin=5.0), "its margin at the anchor"),
    "margins left out": (each(is_a("top1_robust"), margin=None), "does not state the margin"),
    "unknown distance with a bound": (
        each(is_a("output_distance"), **OPEN, bound=1e-9), "a bound belongs to CERTIFIED"),
    "unknown claim with a positive bound": (
        each(is_a("top1_robust", C), **OPEN, bound=1.0), "positive exactly if the claim is CERTIFIED"),
    "distance bound": (each(is_a("output_distance"), bound=1e-3, attack=None), "not proved in float32"),
    "distance below the attack": (each(is_a("output_distance"), attack=1e3), "more than the certified bound"),
    "margin bound": (each(is_a("top1_robust", C), bound=50.0), "exceeds what is proved"),
    "bound left out": (each(is_a("top1_robust", C), bound=None), "a bound belongs to CERTIFIED"),
    "violated bracket": (
        each(is_a("output_distance"), verdict=V, semantics=(), bound=None,
             witness=Witness((0.5,) * 12, (0.0,) * 3, (1.0,) * 3)), "nothing that a witness could break"),
    "violated claims called certified": (forgers.claimed, "not proved in float32"),
    "thresholds that differ": (
        lambda r: each(lambda c: c.id == r.claims[-1].id, delta=1e3, margin=999.0)(r), "differ in their threshold"),
    "threshold of a robustness claim": (each(is_a("top1_robust"), delta=1.0), "only claims of kind output_distance"),
    "z3 refutes": (each(is_a("top1_equivalent", C), smt="refuted", smt_scale=1.0), "z3 refutes it"),
    "z3 on one network": (each(is_a("top1_robust"), smt="confirmed"), "z3 is asked about pairs"),
    "arithmetic named twice": (each(is_a("top1_robust", C), semantics=("real", "real")), "an arithmetic twice"),
    "attack against a proof": (each(is_a("top1_robust", C), attack=-1.0), "an attack found the margin -1"),
    "times in the result": (lambda r: r, "times stand in timings.json"),
    "mode": (lambda r: replace(r, mode="banana"), "is no mode"),
    "compare instead of audit": (lambda r: replace(r, mode="compare"), "is none that compare makes"),
    "version": (lambda r: replace(r, schema_version="99"), "is of version '99'"),
    "digest of the source": (models(sha256="0" * 64), "digest of the file as read"),
    "format": (models(format="banana"), "is no format"),
    "models exchanged": (lambda r: replace(r, models=r.models[::-1]), "in this order"),
    "boxes shrunk": (points(0.03), "is not the ball of its radius"),
    "text of another box": (
        lambda r: replace(r, regions=tuple(replace(x, box=r.regions[0].box) for x in r.regions)),
        "text of its record is not that of its box"),
    "radius": (each(lambda c: True, eps=0.3), "its region, radius or label"),
    "witness of another network": (forgers.crossed_witness, "a network that the claim is not about"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_forgeries_are_refused(name: str, honest: AuditResult, tmp_path: Path) -> None:
    forge, reason = FORGERIES[name]
    folder = write(forge(honest), tmp_path / "out")
    if name == "times in the result":
        plain = json.loads((folder / "audit.json").read_text())
        plain["claims"][0]["elapsed_s"] = 1.0
        (folder / "audit.json").write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
        forgers.rehash(folder)
    report = check(folder)
    assert not report.ok
    assert reason in text(report)
    assert main(["check", str(folder), "--quiet"]) == 5


def test_boxes_without_a_radius_are_named(honest: AuditResult, tmp_path: Path) -> None:
    report = check(write(points(None)(honest), tmp_path / "out"))
    assert any("boxes of regions that state no radius (5)" in line for line in report.trusted)


def test_errors_and_repeated_boxes_are_named(honest: AuditResult, tmp_path: Path) -> None:
    lie = each(lambda c: c.verdict is V, **{**DOWN, "verdict": None, "margin": None, "attack": None})(honest)
    number = lie.counts["error"]
    assert f"that {number} claims ended in an error" in check(write(lie, tmp_path / "errors")).trusted
    same = linf_regions(Dataset(np.full((3, 12), 0.5, dtype=np.float32), None, "x"), eps=0.01)
    report = check(write(compare_models(*pair(), same, config=CONFIG), tmp_path / "same"))
    assert report.ok, text(report)
    assert any("the same box as another one (2)" in line for line in report.trusted)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        *((twin, b"PASS", "is not what this version of paoding-verify draws") for twin in TWINS),
        ("witnesses/0000.json", b"{}", "does not hold the witness"),
        ("timings.json", b"{", "is not valid JSON"),
        ("timings.json", b'{"invented": 1.0}', "more than seconds"),
        ("evil.html", b"PASS", "is no file of such a bundle"),
        ("witnesses/9999.json", b"{}", "is no file of such a bundle"),
        ("properties.json", b"{}", "is no file of such a bundle"),
        ("report.html", None, "is missing"),
        ("timings.json", None, "is missing"),
    ],
)
def test_changed_members_are_refused(
    name: str, data: bytes | None, reason: str, honest: AuditResult, tmp_path: Path
) -> None:
    folder = write(honest, tmp_path / "out")
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    forgers.rehash(folder)
    assert reason in text(check(folder))
    assert main(["check", str(folder), "--quiet"]) == 5


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("audit.json", '"mode": "audit",', '"mode": "audit", "mode": "audit",'),
        ("certificates/certificates.json", "{", '{"x": {}, "x": {}, '),
        ("audit.json", '"mode": "audit"', '"mode":"audit"'),
    ],
)
def test_texts_that_readers_understand_differently_are_refused(
    name: str, old: str, new: str, honest: AuditResult, tmp_path: Path
) -> None:
    folder = write(honest, tmp_path / "out")
    content = (folder / name).read_text()
    assert old in content
    (folder / name).write_text(content.replace(old, new, 1))
    forgers.rehash(folder)
    assert main(["check", str(folder), "--quiet"]) == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('{"schema_version"', '{"schema_version": "1.1", "schema_version"', 1),
        lambda text: text.replace('"1.1"', '"99"', 1),
        lambda text: text.replace('"bytes"', '"note": "x", "bytes"', 1),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    change: Callable[[str], str], honest: AuditResult, tmp_path: Path
) -> None:
    folder = write(honest, tmp_path / "out")
    forgers.rehash(folder)
    content = (folder / "manifest.json").read_text()
    assert change(content) != content
    (folder / "manifest.json").write_text(change(content))
    assert main(["check", str(folder), "--quiet"]) == 5


def test_anchors_that_are_no_numbers_are_refused(honest: AuditResult, tmp_path: Path) -> None:
    with np.load(io.BytesIO(honest.files["regions.npz"])) as boxes:
        arrays = {name: boxes[name].copy() for name in boxes.files}
    arrays["anchor"][0, 0] = np.nan
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    folder = write(replace(honest, files={**honest.files, "regions.npz": buffer.getvalue()}), tmp_path / "out")
    assert "its anchor lies outside of the box" in text(check(folder))
    assert main(["check", str(folder), "--quiet"]) == 5


def test_a_tie_of_two_equal_networks_violates_nothing(tmp_path: Path) -> None:
    network = sourced(Network((2,), (Node(Dense(np.eye(2), np.zeros(2)), (0,), "a"),)), "net.onnx")
    region = Region("r0", np.zeros(2), np.ones(2), np.array([0.75, 0.5], dtype=np.float32), 0)
    result = audit(network, network, [region], config=CONFIG)
    (claim,) = (c for c in result.claims if c.kind == "top1_equivalent")
    assert claim.verdict is U
    lie = each(
        is_a("top1_equivalent"), verdict=V, rechecked=True, bound=None, reason="",
        witness=Witness((0.5, 0.5), (0.5, 0.5), (0.5, 0.5)),
    )(result)  # fmt: skip
    report = check(write(lie, tmp_path / "out"))
    assert (claim.id, "the outputs that its witness states do not break it") in report.refused


def test_a_sample_is_drawn_by_chance_and_named(
    honest: AuditResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(honest, tmp_path / "out")
    first, second = (check_bundle(folder, twins=TWINS, wishes=Wishes(samples=4)) for _ in range(2))
    assert first.sample is not None
    assert second.sample is not None
    assert first.sample.seed != second.sample.seed
    again = check_bundle(folder, twins=TWINS, wishes=Wishes(samples=4, seed=first.sample.seed))
    assert (again.reproved, again.replayed) == (first.reproved, first.replayed)
    assert (first.ok, first.complete) == (True, False)
    assert main(["check", str(folder), "--samples", "4", "--quiet"]) == 0
    assert main(["check", str(folder), "--seed", "4", "--quiet"]) == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"the sample holds: 4 of {first.sample.total} claims")


def test_specifications_travel_with_their_bundle(tmp_path: Path) -> None:
    network = pair()[0]
    rng = np.random.default_rng(0)
    anchors = rng.uniform(0.2, 0.8, size=(3, 12)).astype(np.float32)
    label = network.forward(anchors).argmax(axis=1)
    label[2] = (label[2] + 1) % 3
    regions = [
        Region(f"box{k}", a.astype(np.float64) - 1e-3, a.astype(np.float64) + 1e-3) for k, a in enumerate(anchors)
    ]
    result = certify_model(network, regions, properties=[predicts(int(k), 3) for k in label], config=CONFIG)
    folder = write(result, tmp_path / "out")
    report = check(folder)
    assert (report.ok, report.complete, len(report.reproved), len(report.replayed)) == (True, True, 2, 1)
    plain = json.loads((folder / "properties.json").read_text())
    plain["original/vnnlib/box0"]["offsets"][0] -= 100.0
    (folder / "properties.json").write_text(json.dumps(plain))
    forgers.rehash(folder)
    assert main(["check", str(folder), "--quiet"]) == 5
    del plain["original/vnnlib/box0"]
    (folder / "properties.json").write_text(json.dumps(plain))
    forgers.rehash(folder)
    assert "does not hold the property" in text(check(folder))


def test_comparisons_of_one_kind_hold_too(tmp_path: Path) -> None:
    x = np.full((2, 12), 0.5, dtype=np.float32)
    x[1] += 0.1
    regions = linf_regions(Dataset(x, None, "x"), eps=0.01)
    for number, kinds in enumerate((("top1_equivalent",), ("output_distance", "top1_equivalent"))):
        report = check(write(compare_models(*pair(), regions, kinds=kinds, config=CONFIG), tmp_path / str(number)))
        assert (report.ok, report.complete) == (True, True), text(report)


def test_a_normalised_file_is_not_the_one_that_was_read(tmp_path: Path) -> None:
    networks = [with_normalisation(network, 0.5, 0.5) for network in pair()]
    regions = linf_regions(Dataset(np.full((1, 12), 0.5, dtype=np.float32), None, "x"), eps=0.01)
    result = compare_models(*networks, regions, config=CONFIG)
    report = check(write(result, tmp_path / "honest"))
    assert report.ok, text(report)
    assert any("digest of the file that was read, of original and pruned" in line for line in report.trusted)
    report = check(write(models(format="onnx")(result), tmp_path / "lie"))
    assert "digest of the file as read" in text(report)


WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
from paoding_verify.cli.main import main
sys.exit(main(["check", {folder!r}, "--quiet"]))
"""


@pytest.mark.parametrize(
    ("missing", "last"),
    [
        (["torch", "auto_LiRPA", "z3", "rich"], "the bundle holds what it says"),
        (
            ["torch", "auto_LiRPA", "z3", "rich", "jinja2", "markupsafe", "onnxruntime"],
            "what was checked holds; not everything was",
        ),
    ],
)
def test_what_is_not_installed_is_not_compared(
    missing: list[str], last: str, honest: AuditResult, tmp_path: Path
) -> None:
    folder = write(honest, tmp_path / "out")
    code = WITHOUT.format(missing=missing, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == last
    for name, line in {
        "jinja2": "not compared: report.html",
        "onnxruntime": "onnxruntime, which is not installed",
    }.items():
        assert (line in done.stdout) == (name in missing)


def test_a_model_that_onnxruntime_runs_otherwise_is_refused(
    honest: AuditResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import paoding_verify.network.verify as module

    folder = write(honest, tmp_path / "out")
    monkeypatch.setattr(module.OnnxProgram, "run", lambda self, x: np.zeros((len(x), 3), dtype=np.float32))
    assert "disagree" in text(check(folder))


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("scale", [2.0**121, 2.0**22], ids=["no bounds", "wide bounds"])
def test_margins_that_rounding_leaves_open_are_run(
    scale: float, installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit of huge weights hides what the pruned network answers; onnxruntime knows."""

    def network(head: np.ndarray, name: str) -> Network:
        wide = np.zeros((3, 4)) if name == "f.onnx" else np.array([[scale, 0, 0, 0], [scale, 0, 0, 0], [0, 0, 0, 0]])
        first, second = np.vstack([np.eye(4)[1:3], wide[:2]]), np.hstack([head, [[1, -1], [1, -1]]])
        ops = (Dense(first, np.zeros(4)), Relu(), Dense(second, np.zeros(2)))
        return sourced(Network((4,), tuple(Node(op, (k,), f"n{k}") for k, op in enumerate(ops))), name)

    head = np.array([[1.0, -1.0], [-1.0, 1.0]])
    f, g = network(head, "f.onnx"), network(head[::-1], "g.onnx")
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, (6, 4)).astype(np.float32)
    x[:, 1], x[:, 2] = (0.7, 0.3)
    regions = linf_regions(Dataset(x, f.forward(x).argmax(axis=1), "d.npz"), eps=0.02, domain=(0.0, 1.0))
    result = audit(f, g, regions, config=AuditConfig(eps=(0.02,), search=SearchConfig(timeout_s=2.0)))
    assert [m.natural_accuracy for m in result.metrics] == [1.0, 0.0]
    write(result, tmp_path / "honest")
    assert check_bundle(tmp_path / "honest").ok

    hidden = {"verdict": U, "witness": None, "rechecked": False, "semantics": (), "bound": None, "attack": 0.7}
    refuted = lambda claim: claim.verdict is V and claim.kind != "output_distance"  # noqa: E731
    lie = each(refuted, **hidden, margin=0.4, reason="no method left")(result)
    lie = replace(lie, files={name: data for name, data in lie.files.items() if not name.startswith("witnesses/")})
    write(forgers.refigured(lie), tmp_path / "forged")
    if not installed:
        monkeypatch.setitem(sys.modules, "paoding_verify.network.runtime", None)
    found = check_bundle(tmp_path / "forged")
    named = [text for text in found.problems if "onnxruntime finds the margin" in text]
    assert bool(named) is installed
    assert any("rounding leaves" in text for text in found.omitted) is not installed
    assert not (found.ok and found.complete)

    silent = each(refuted, **hidden, margin=None, reason="no method left")(result)
    silent = replace(silent, files=lie.files)
    write(forgers.refigured(silent), tmp_path / "silent")
    found = check_bundle(tmp_path / "silent")
    assert not (found.ok and found.complete)


def test_outputs_that_do_not_decide_make_no_room_for_another_sign() -> None:
    prop, far = predicts(0, 3), np.array([0.0, 0.8, -1e6])
    assert centres._compared(0.8, prop, far)[1] is False
    assert centres._compared(-0.8, prop, far) == ("", True)
    text, harmless = centres._compared(-1e300, prop, far)
    assert text
    assert harmless
    text, close = centres._compared(1e-7, prop, np.array([0.5, 0.5000001, -1e6]))
    assert text, close
    assert close
    assert centres._compared(None, prop, far)[0].startswith("it does not state")
    assert centres._compared(0.5, prop, np.array([np.inf, 0.0, 0.0]))[0] == "onnxruntime overflows at its anchor"
