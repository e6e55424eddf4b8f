"""Bundles: an honest one passes, every lie in one is found."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.auditing.bundle import write as write_bundle
from paoding_verify.checker import claims
from paoding_verify.checker.bundle import Sample, Wishes, check_bundle
from paoding_verify.checker.prove import Proof, prove
from paoding_verify.errors import DataError
from paoding_verify.evidence.boxes import Box, ball, box_digest, pack_box
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim, Witness
from paoding_verify.evidence.codec import dumps
from paoding_verify.evidence.members import witness_files
from paoding_verify.evidence.metrics import accuracy_metrics
from paoding_verify.evidence.property import Property, decides_like, distance_at_most, predicts
from paoding_verify.evidence.result import AuditResult, Provenance, RegionRecord
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Network, Source
from paoding_verify.network.onnx_in import read_onnx
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.network.record import model_record
from paoding_verify.network.runtime import OnnxProgram
from tests.checker_suite import perturbed
from tests.networks import dense_net

EPS = 0.01
BOTH = ("real", "float32")
A, B = "original/top1_robust/r0", "original/top1_robust/r1"
C, F = "pair/top1_equivalent/r0", "pair/top1_equivalent/r1"
D, E = "pair/output_distance/r0", "pair/output_distance/r1"


def shipped(network: Network) -> Network:
    """The network as it is read back from its ONNX file."""
    data = to_onnx(network)
    return replace(read_onnx(data), source=Source("net.onnx", "onnx", hashlib.sha256(data).hexdigest(), data))


Bundle = tuple[AuditResult, dict[str, bytes]]


def parts() -> tuple[list[Network], tuple[RegionRecord, ...], dict[str, np.ndarray]]:
    """Two networks, two regions (the second one with a wrong label), and their boxes."""
    networks = [shipped(dense_net(0)), shipped(perturbed(dense_net(0), 1, 1e-3))]
    anchor = np.random.default_rng(0).uniform(0.2, 0.8, size=(2, 6)).astype(np.float32)
    lower, upper = ball(anchor, np.full(anchor.shape, EPS))
    label = [int(k) for k in evaluate(networks[0], anchor.astype(np.float64)).argmax(axis=1)]
    label[1] = (label[1] + 1) % 4
    boxes = [Box(anchor[k], lower[k], upper[k]) for k in range(2)]
    regions = tuple(
        RegionRecord(
            f"r{k}", "test", label[k], EPS, None, box_digest(box.lower, box.upper), pack_box(box, is_ball=True)
        )
        for k, box in enumerate(boxes)
    )  # fmt: skip
    return networks, regions, {"lower": lower, "upper": upper, "anchor": anchor}


def bundle(
    mode: str, networks: list[Network], claims: tuple[Claim, ...], certificates: dict[str, Certificate]
) -> Bundle:
    """A result of these claims, and the files that are not drawn from it."""
    _, regions, boxes = parts()
    models = tuple(model_record(n, role) for n, role in zip(networks, ("original", "pruned"), strict=False))
    provenance = Provenance("test", 0, {}, "", {}, "")
    result = AuditResult(mode, models, regions, claims, accuracy_metrics(claims), None, None, provenance)
    buffer = io.BytesIO()
    np.savez(buffer, **boxes)
    shipped_files = {f"models/{model.role}.onnx": n.source.onnx for model, n in zip(models, networks, strict=True)}
    files = {"regions.npz": buffer.getvalue(), "certificates/certificates.json": dumps(certificates).encode()}
    return result, {**shipped_files, **files}


def proved(networks: list[Network], number: int, prop: Property, certificate: Certificate) -> dict[str, object]:
    """The fields of a certified claim."""
    _, regions, boxes = parts()
    box = [boxes[name][number : number + 1].astype(np.float64) for name in ("lower", "upper", "anchor")]
    proofs = [prove(networks, *box[:2], [prop], [certificate], semantics=s)[0] for s in BOTH]
    assert all(proof.proved for proof in proofs)
    outputs = np.concatenate([n.forward(box[2].astype(np.float32)) for n in networks], axis=1)
    return {
        "verdict": Verdict.CERTIFIED, "method": "test", "semantics": BOTH, "rechecked": True,
        "bound": min(proof.margin for proof in proofs if proof.margin is not None) * (1 - 1e-6),
        "margin": float(prop.margins(prop.values(outputs))[0]), **place(regions[number]),
    }  # fmt: skip


def place(region: RegionRecord) -> dict[str, object]:
    """What a claim says about its region."""
    return {"region": region.id, "eps": region.eps, "label": region.label}


def make_single() -> Bundle:
    """One network: a certified claim and a violated one."""
    networks, regions, boxes = parts()
    crown = Certificate("crown")
    outputs = OnnxProgram(networks[0].source.onnx).run(boxes["anchor"][1:])[0]
    wrong = predicts(regions[1].label or 0, 4)
    margin = float(wrong.margins(wrong.values(outputs[None]))[0])
    witness = Witness(tuple(map(float, boxes["anchor"][1])), tuple(map(float, outputs)), None)
    violated = {"verdict": Verdict.VIOLATED, "method": "centre", "witness": witness, "rechecked": True}
    claims = (
        Claim(A, "top1_robust", "original", **proved(networks[:1], 0, predicts(regions[0].label or 0, 4), crown)),
        Claim(B, "top1_robust", "original", margin=margin, **violated, **place(regions[1])),
    )
    return bundle("certify", networks[:1], claims, {A: crown})


def make_pair() -> Bundle:
    """A pair: equivalence certified and unknown, distances certified."""
    networks, regions, boxes = parts()
    joint = Certificate("differential", alignment=tuple(tuple(range(units)) for units in networks[0].num_units))
    alike, near = decides_like(4), distance_at_most(0.5, 4)
    outputs = np.concatenate([n.forward(boxes["anchor"][1:]) for n in networks], axis=1)
    unknown = {"verdict": Verdict.UNKNOWN, "method": "none", "reason": "no method left"}
    claims = (
        Claim(C, "top1_equivalent", "pair", **proved(networks, 0, alike, joint)),
        Claim(
            F, "top1_equivalent", "pair", margin=float(alike.margins(alike.values(outputs))[0]), **unknown,
            **place(regions[1]),
        ),
        Claim(D, "output_distance", "pair", delta=0.5, **proved(networks, 0, near, joint)),
        Claim(E, "output_distance", "pair", delta=0.5, **proved(networks, 1, near, joint)),
    )  # fmt: skip
    return bundle("compare", networks, claims, {C: joint, D: joint, E: joint})


def write(folder: Path, result: AuditResult, files: dict[str, bytes]) -> Path:
    """A bundle as audits write it."""
    return write_bundle(replace(result, files={**files, **witness_files(result.claims)}), folder)


@pytest.fixture(scope="module")
def single() -> Bundle:
    return make_single()


@pytest.fixture(scope="module")
def pair() -> Bundle:
    return make_pair()


def changed(result: AuditResult, claim: str, **fields: object) -> AuditResult:
    """The result with one claim changed."""
    return replace(result, claims=tuple(replace(c, **fields) if c.id == claim else c for c in result.claims))  # type: ignore[arg-type]


def test_honest_bundles_hold(single: Bundle, pair: Bundle, tmp_path: Path) -> None:
    calls: list[int] = []
    report = check_bundle(write(tmp_path / "single", *single), progress=lambda _, done, total: calls.append(done))
    assert (report.ok, report.reproved, report.replayed, report.unknown) == (True, (A,), (B,), ())
    assert calls == [2]
    report = check_bundle(write(tmp_path / "pair", *pair))
    assert (report.ok, report.reproved, report.replayed, report.unknown) == (True, (C, D, E), (), (F,))
    assert len(report.omitted) == 6  # report and twins, which nobody offered to draw again
    assert not report.complete


def test_claims_are_proved_in_the_hardest_arithmetic_that_they_name(
    pair: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def proving(*question: object, semantics: str) -> list[Proof]:
        asked.append(semantics)
        return prove(*question, semantics=semantics)  # type: ignore[arg-type]

    monkeypatch.setattr(claims, "prove", proving)
    assert check_bundle(write(tmp_path / "pair", *pair)).ok
    result = changed(changed(pair[0], C, semantics=("real",)), D, semantics=("real",))
    assert check_bundle(write(tmp_path / "other", changed(result, E, semantics=("real",)), pair[1])).ok
    assert asked == ["float32", "real"]


def test_a_sample_says_what_it_left_out(pair: Bundle, tmp_path: Path) -> None:
    report = check_bundle(write(tmp_path / "pair", *pair), wishes=Wishes(samples=2, seed=7))
    assert report.sample == Sample(2, 3, 7)
    assert len(report.reproved) == 2
    assert [why for _, why in report.unchecked] == ["not in the sample"]


@pytest.mark.parametrize(
    ("claim", "fields"),
    [
        ("A", {"bound": 50.0}), ("A", {"semantics": ()}), ("A", {"rechecked": False}), ("A", {"subject": "pair"}),
        ("C", {"bound": 9.0}), ("D", {"delta": 1e-4}), ("D", {"delta": None, "bound": 1e-4}),
        ("D", {"delta": None, "bound": None}), ("D", {"kind": "vnnlib"}), ("A", {"subject": "other"}),
        ("A", {"region": "r9"}), ("F", {"verdict": Verdict.CERTIFIED, "semantics": BOTH, "rechecked": True}),
        ("B", {"witness": Witness((0.5,) * 6, (0.0,) * 4, None)}),
        ("B", {"witness": Witness((0.5,), (0.0,) * 4, None)}),
    ],
)  # fmt: skip
def test_false_claims_are_refused(
    single: Bundle, pair: Bundle, tmp_path: Path, claim: str, fields: dict[str, object]
) -> None:
    name = {"A": A, "B": B, "C": C, "D": D, "F": F}[claim]
    result, files = single if claim in "AB" else pair
    report = check_bundle(write(tmp_path / "out", changed(result, name, **fields), files))
    assert not report.ok
    assert name in [refused for refused, _ in report.refused]


def test_a_witness_with_invented_outputs_is_refused(single: Bundle, tmp_path: Path) -> None:
    result, files = single
    witness = next(c.witness for c in result.claims if c.id == B)
    assert witness is not None
    outputs = list(witness.outputs_original or ())
    outputs[int(np.argmin(outputs))] += 1e-3
    lie = replace(witness, outputs_original=tuple(outputs))
    report = check_bundle(write(tmp_path / "out", changed(result, B, witness=lie), files))
    assert (B, "no float32 program gives the outputs that its witness states") in report.refused


def lies(result: AuditResult) -> dict[str, AuditResult]:
    """Results that say something false elsewhere than in a claim's proof."""
    region, model, metric = result.regions[0], result.models[0], result.metrics[0]
    return {
        "region digest": replace(result, regions=(replace(region, sha256="0" * 64), result.regions[1])),
        "region radius": replace(result, regions=tuple(replace(r, eps=0.02) for r in result.regions)),
        "region id": replace(result, regions=(region, replace(result.regions[1], id="r0"))),
        "model digest": replace(result, models=(replace(model, canonical_sha256="0" * 64),)),
        "model size": replace(result, models=(replace(model, num_parameters=1),)),
        "metric": replace(result, metrics=(replace(metric, certified_accuracy=1.0),)),
        "metric missing": replace(result, metrics=()),
        "claim twice": replace(result, claims=(*result.claims, result.claims[-1])),
        "claim label": changed(result, B, label=3 - (result.regions[1].label or 0)),
    }


@pytest.mark.parametrize("lie", sorted(lies(make_single()[0])))
def test_false_records_are_problems(single: Bundle, tmp_path: Path, lie: str) -> None:
    result, files = single
    report = check_bundle(write(tmp_path / "out", lies(result)[lie], files))
    assert report.problems


def test_files_must_be_those_of_the_manifest(pair: Bundle, tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", *pair)
    (bundle / "extra.txt").write_text("x")
    (bundle / "models" / "link").symlink_to(bundle / "audit.json")
    (bundle / "models" / "pruned.onnx").write_bytes(b"x")
    report = check_bundle(bundle)
    assert any("extra.txt: not named" in problem for problem in report.problems)
    assert any("models/link: a link" in problem for problem in report.problems)
    assert any("models/pruned.onnx: its SHA-256" in problem for problem in report.problems)
    assert {name for name, _ in report.refused} == {C, D, E}
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["members"]["../outside"] = {"sha256": "", "bytes": 0}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert any("../outside: named in the manifest" in problem for problem in check_bundle(bundle).problems)


def test_what_is_no_bundle_is_an_error(pair: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        check_bundle(tmp_path / "missing")
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        check_bundle(tmp_path)
    bundle = write(tmp_path / "bundle", *pair)
    (bundle / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="damaged"):
        check_bundle(bundle)
    shutil.rmtree(bundle)


def test_boxes_that_claim_too_much_are_not_unpacked(pair: Bundle, tmp_path: Path) -> None:
    result, files = pair
    buffer = io.BytesIO()
    zeros = np.zeros((1000, 1000))
    np.savez_compressed(buffer, lower=zeros, upper=zeros, anchor=zeros)
    report = check_bundle(write(tmp_path / "out", result, {**files, "regions.npz": buffer.getvalue()}))
    assert any("lower is not of shape" in problem for problem in report.problems)
    assert {name for name, _ in report.refused} == {C, D, E}
