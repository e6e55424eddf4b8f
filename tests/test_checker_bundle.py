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

from paoding_verify.checker.bundle import BundleReport, check_bundle
from paoding_verify.checker.prove import prove
from paoding_verify.errors import DataError
from paoding_verify.evidence.boxes import ball, box_digest
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim, Witness
from paoding_verify.evidence.codec import dumps
from paoding_verify.evidence.property import decides_like, distance_at_most, predicts
from paoding_verify.evidence.result import AuditResult, Metric, Provenance, RegionRecord
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


def shipped(network: Network) -> Network:
    """The network as it is read back from its ONNX file."""
    data = to_onnx(network)
    return replace(read_onnx(data), source=Source("net.onnx", "onnx", hashlib.sha256(data).hexdigest(), data))


def make_result() -> tuple[AuditResult, dict[str, bytes]]:
    """A small audit with a claim of every kind, and the members of its bundle."""
    original = shipped(dense_net(0))
    pruned = shipped(perturbed(dense_net(0), 1, 1e-3))
    anchor = np.random.default_rng(0).uniform(0.2, 0.8, size=(2, 6)).astype(np.float32)
    lower, upper = ball(anchor, np.full(anchor.shape, EPS))
    label = [int(k) for k in evaluate(original, anchor.astype(np.float64)).argmax(axis=1)]
    label[1] = (label[1] + 1) % 4  # the second region's label is wrong: its claim is violated
    regions = tuple(
        RegionRecord(f"r{k}", "test", label[k], EPS, None, box_digest(lower[k], upper[k])) for k in range(2)
    )
    outputs = OnnxProgram(original.source.onnx).run(anchor[1:])[0]
    witness = Witness(tuple(map(float, anchor[1])), tuple(map(float, outputs)), None)
    alignment = tuple(tuple(range(units)) for units in original.num_units)
    joint = Certificate("differential", alignment=alignment)

    def bound(networks: list[Network], prop: object, certificate: Certificate) -> float:
        proofs = [prove(networks, lower[:1], upper[:1], [prop], [certificate], semantics=s)[0] for s in BOTH]
        assert all(proof.proved for proof in proofs)
        return min(proof.margin for proof in proofs if proof.margin is not None)

    crown = Certificate("crown")
    pair = [original, pruned]
    certified = {"verdict": Verdict.CERTIFIED, "semantics": BOTH, "rechecked": True}
    where = {"region": "r0", "eps": EPS, "label": label[0]}
    robust = bound([original], predicts(label[0], 4), crown)
    alike, near = bound(pair, decides_like(4), joint), bound(pair, distance_at_most(0.5, 4), joint)
    second = {"region": "r1", "eps": EPS, "label": label[1]}
    proved = {"method": "differential", **where, **certified}
    violated = {"verdict": Verdict.VIOLATED, "method": "centre", "witness": witness, "rechecked": True, **second}
    unknown = {"verdict": Verdict.UNKNOWN, "method": "none", "reason": "no method left", **second}
    claims = (
        Claim("a", "top1_robust", "original", margin=1.0, bound=robust, **proved),
        Claim("b", "top1_robust", "original", margin=-1.0, **violated),
        Claim("c", "top1_equivalent", "pair", bound=alike, **proved),
        Claim("d", "output_distance", "pair", delta=0.5, bound=near, **proved),
        Claim("e", "output_distance", "pair", bound=0.4, **proved),
        Claim("f", "top1_equivalent", "pair", **unknown),
    )
    certificates = {"a": crown, "c": joint, "d": joint, "e": joint}
    metrics = (Metric("original", EPS, 2, 0.5, 0.5, 0.5),)
    models = tuple(model_record(n, role) for n, role in ((original, "original"), (pruned, "pruned")))
    provenance = Provenance("test", 0, {}, "", {}, "")
    result = AuditResult("compare", models, regions, claims, metrics, None, None, provenance)
    buffer = io.BytesIO()
    np.savez(buffer, lower=lower, upper=upper, anchor=anchor)
    return result, {
        "models/original.onnx": original.source.onnx,
        "models/pruned.onnx": pruned.source.onnx,
        "regions.npz": buffer.getvalue(),
        "certificates/certificates.json": dumps(certificates).encode(),
    }


def write(folder: Path, result: AuditResult, files: dict[str, bytes]) -> Path:
    """A bundle as audits write it."""
    members = {**files, "audit.json": dumps(result).encode()}
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    entries = {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in members.items()}
    (folder / "manifest.json").write_text(json.dumps({"members": entries}))
    return folder


@pytest.fixture(scope="module")
def honest() -> tuple[AuditResult, dict[str, bytes]]:
    return make_result()


def changed(result: AuditResult, claim: str, **fields: object) -> AuditResult:
    """The result with one claim changed."""
    return replace(result, claims=tuple(replace(c, **fields) if c.id == claim else c for c in result.claims))  # type: ignore[arg-type]


def test_honest_bundle_passes(honest: tuple[AuditResult, dict[str, bytes]], tmp_path: Path) -> None:
    calls: list[int] = []
    report = check_bundle(write(tmp_path, *honest), progress=lambda _, done, total: calls.append(done))
    assert report == BundleReport((), ("b", "a", "c", "d", "e"), (), (("f", "UNKNOWN states nothing to prove"),))
    assert report.ok
    assert calls == [5]


def test_a_sample_says_what_it_left_out(honest: tuple[AuditResult, dict[str, bytes]], tmp_path: Path) -> None:
    report = check_bundle(write(tmp_path, *honest), samples=2)
    assert len(report.reproved) == 2
    assert sum(why == "not in the sample" for _, why in report.unchecked) == 3


@pytest.mark.parametrize(
    ("claim", "fields"),
    [
        ("a", {"bound": 50.0}), ("a", {"semantics": ()}), ("a", {"rechecked": False}), ("a", {"subject": "pair"}),
        ("c", {"bound": 9.0}), ("d", {"delta": 1e-4}), ("e", {"bound": 1e-4}), ("e", {"bound": None}),
        ("d", {"kind": "vnnlib"}), ("a", {"subject": "other"}), ("a", {"region": "r9"}),
        ("f", {"verdict": Verdict.CERTIFIED, "semantics": BOTH, "rechecked": True}),
        ("b", {"witness": Witness((0.5,) * 6, (0.0,) * 4, None)}),
        ("b", {"witness": Witness((0.5,), (0.0,) * 4, None)}),
    ],
)  # fmt: skip
def test_false_claims_are_refused(
    honest: tuple[AuditResult, dict[str, bytes]], tmp_path: Path, claim: str, fields: dict[str, object]
) -> None:
    result, files = honest
    report = check_bundle(write(tmp_path, changed(result, claim, **fields), files))
    assert not report.ok
    assert claim in [name for name, _ in report.refused]


def test_a_witness_with_invented_outputs_is_refused(
    honest: tuple[AuditResult, dict[str, bytes]], tmp_path: Path
) -> None:
    result, files = honest
    witness = next(c.witness for c in result.claims if c.id == "b")
    assert witness is not None
    outputs = list(witness.outputs_original or ())
    outputs[int(np.argmin(outputs))] += 1e-3
    lie = replace(witness, outputs_original=tuple(outputs))
    report = check_bundle(write(tmp_path, changed(result, "b", witness=lie), files))
    assert ("b", "no float32 program gives the outputs that its witness states") in report.refused


def lies(result: AuditResult) -> dict[str, AuditResult]:
    """Results that say something false elsewhere than in a claim's proof."""
    region, model, metric = result.regions[0], result.models[0], result.metrics[0]
    return {
        "region digest": replace(result, regions=(replace(region, sha256="0" * 64), result.regions[1])),
        "region radius": replace(result, regions=tuple(replace(r, eps=0.02) for r in result.regions)),
        "region id": replace(result, regions=(region, replace(result.regions[1], id="r0"))),
        "model digest": replace(result, models=(replace(model, canonical_sha256="0" * 64), result.models[1])),
        "model size": replace(result, models=(replace(model, num_parameters=1), result.models[1])),
        "metric": replace(result, metrics=(replace(metric, certified_accuracy=1.0),)),
        "metric missing": replace(result, metrics=()),
        "claim twice": replace(result, claims=(*result.claims, result.claims[-1])),
        "claim label": changed(result, "f", label=3 - (result.regions[1].label or 0)),
    }


@pytest.mark.parametrize("lie", sorted(lies(make_result()[0])))
def test_false_records_are_problems(honest: tuple[AuditResult, dict[str, bytes]], tmp_path: Path, lie: str) -> None:
    result, files = honest
    report = check_bundle(write(tmp_path, lies(result)[lie], files))
    assert report.problems


def test_files_must_be_those_of_the_manifest(honest: tuple[AuditResult, dict[str, bytes]], tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", *honest)
    (bundle / "extra.txt").write_text("x")
    (bundle / "models" / "link").symlink_to(bundle / "audit.json")
    (bundle / "models" / "pruned.onnx").write_bytes(b"x")
    report = check_bundle(bundle)
    assert any("extra.txt: not named" in problem for problem in report.problems)
    assert any("models/link: a link" in problem for problem in report.problems)
    assert any("models/pruned.onnx: its SHA-256" in problem for problem in report.problems)
    assert {name for name, _ in report.refused} == {"c", "d", "e"}
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["members"]["../outside"] = {"sha256": "", "bytes": 0}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert any("../outside: named in the manifest" in problem for problem in check_bundle(bundle).problems)


def test_what_is_no_bundle_is_an_error(honest: tuple[AuditResult, dict[str, bytes]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        check_bundle(tmp_path / "missing")
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        check_bundle(tmp_path)
    bundle = write(tmp_path / "bundle", *honest)
    (bundle / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="damaged"):
        check_bundle(bundle)
    shutil.rmtree(bundle)


def test_boxes_that_claim_too_much_are_not_unpacked(
    honest: tuple[AuditResult, dict[str, bytes]], tmp_path: Path
) -> None:
    result, files = honest
    buffer = io.BytesIO()
    zeros = np.zeros((1000, 1000))
    np.savez_compressed(buffer, lower=zeros, upper=zeros, anchor=zeros)
    report = check_bundle(write(tmp_path, result, {**files, "regions.npz": buffer.getvalue()}))
    assert any("lower is not of shape" in problem for problem in report.problems)
    assert {name for name, _ in report.refused} == {"a", "b", "c", "d", "e"}
