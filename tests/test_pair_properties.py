"""Questions about a pair, from the question to the bundle: each verdict has its evidence, and lies are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.auditing.bundle import write
from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.run import compare_models, compare_specification
from paoding_verify.checker.bundle import BundleReport, check_bundle
from paoding_verify.data import Dataset
from paoding_verify.equivalence.compare import compare
from paoding_verify.errors import ConfigError, InputError
from paoding_verify.evidence.claim import PARAMETERS, Claim
from paoding_verify.evidence.contradiction import contradictions
from paoding_verify.evidence.property import Property, broken_by, distance_at_most
from paoding_verify.evidence.question import Question, pair_property, property_of
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.linf import linf_regions
from paoding_verify.network.graph import Dense
from paoding_verify.regions import Region
from paoding_verify.report.render import TWINS
from paoding_verify.task import SearchConfig, Task
from tests.networks import chain, dense_net
from tests.pairs import perturbed

F = dense_net(0)
G = perturbed(F, 3, 0.02)
CONFIG = AuditConfig(search=SearchConfig(timeout_s=3.0, attack_restarts=3, attack_steps=15, alpha_iterations=5))
QUESTIONS = [
    Question("topk_equivalent", 2), Question("top1_confident", 0.6), Question("top1_decided", 0.05),
    Question("margin_preserved", 0.0), Question("margin_preserved", 0.3),
]  # fmt: skip


def regions(eps: float, count: int = 3) -> list[Region]:
    x = np.random.default_rng(21).normal(size=(count, 6)).astype(np.float32)
    return linf_regions(Dataset(x, None, "drawn"), eps=eps)


def checked(result: AuditResult, folder: Path) -> BundleReport:
    return check_bundle(write(result, folder / "bundle"), twins=TWINS)


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_every_question_is_settled_and_checked_again(question: Question, tmp_path: Path) -> None:
    near, far = (compare_models(F, G, regions(eps), kinds=[question], config=CONFIG) for eps in (0.005, 0.5))
    assert near.counts["certified"] == 3
    assert far.counts["error"] == 0
    if question.kind in ("topk_equivalent", "margin_preserved"):
        assert far.counts["violated"] > 0
    for claim in (*near.claims, *far.claims):
        assert (claim.kind, claim.parameter) == (question.kind, question.parameter)
        if claim.witness is not None:
            outputs = (*(claim.witness.outputs_original or ()), *(claim.witness.outputs_pruned or ()))
            assert broken_by(property_of(claim, 4), outputs)
    for name, result in (("near", near), ("far", far)):
        report = checked(result, tmp_path / name)
        assert report.ok, report
        assert report.complete
        assert len(report.reproved) == result.counts["certified"]
        assert len(report.replayed) == result.counts["violated"]


def test_a_proof_holds_at_sampled_points() -> None:
    for question in QUESTIONS:
        (region, *_) = boxes = regions(0.2, 2)
        found = compare_models(F, G, boxes, kinds=[question], config=CONFIG)
        points = np.random.default_rng(4).uniform(region.lower, region.upper, size=(500, 6)).astype(np.float32)
        outputs = np.concatenate([F.forward(points), G.forward(points)], axis=1)
        prop = property_of(found.claims[0], 4)
        if found.claims[0].verdict is Verdict.CERTIFIED:
            assert prop.margins(prop.values(outputs)).min() > 0


def test_questions_come_in_one_order_and_once() -> None:
    result = compare_models(F, F, regions(0.001, 1), kinds=[QUESTIONS[0], "top1_equivalent"], config=CONFIG)
    assert [claim.kind for claim in result.claims] == ["top1_equivalent", "topk_equivalent"]
    with pytest.raises(InputError, match="each once"):
        compare_models(F, F, regions(0.001, 1), kinds=QUESTIONS[3:], config=CONFIG)
    with pytest.raises(InputError, match="k goes from 1 to 3"):
        compare_models(F, F, regions(0.001, 1), kinds=[Question("topk_equivalent", 4)], config=CONFIG)


@pytest.mark.parametrize(
    ("kind", "parameter", "words"),
    [
        ("topk_equivalent", None, "needs its parameter: K"),
        ("top1_equivalent", 1.0, "takes no"),
        ("vnnlib", None, "asks"),
    ],
)
def test_odd_questions_are_refused(kind: str, parameter: float | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Question(kind, parameter)


def test_what_states_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="states nothing"):
        pair_property(Question("topk_equivalent", 1.5), 4)
    with pytest.raises(InputError, match="states nothing"):
        pair_property(Question("margin_preserved", 0.0), 4)
    claim = Claim("c", "top1_equivalent", "original", "r", None, 0, None, "none")
    with pytest.raises(InputError, match="nothing states"):
        property_of(claim, 4)


@pytest.mark.parametrize("change", [{"parameter": 3.0}, {"parameter": None}, {"kind": "topk_equivalent"}, {"label": 1}])
def test_lies_about_the_question_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    honest = compare_models(F, G, regions(0.005, 2), kinds=[Question("top1_decided", 0.5)], config=CONFIG)
    lying = replace(honest, claims=tuple(replace(claim, **change) for claim in honest.claims))  # type: ignore[arg-type]
    assert not checked(lying, tmp_path / "lying").ok
    stronger = tuple(replace(claim, parameter=0.0, bound=1e3) for claim in honest.claims)
    assert len(checked(replace(honest, claims=stronger), tmp_path / "stronger").refused) == 2


def test_specifications_of_pairs_are_checked_from_the_properties_they_ship(tmp_path: Path) -> None:
    near, wrong = distance_at_most(2.0, 4), Property(np.array([[1.0, *[0.0] * 7]]), np.array([-1e3]), ((0,),))
    pairs = [(replace(r, label=None, eps=None, anchor=None), near) for r in regions(0.01, 2)]
    pairs[1] = pairs[1][0], wrong
    result = compare_specification(F, G, pairs, config=CONFIG)
    assert [claim.verdict for claim in result.claims] == [Verdict.CERTIFIED, Verdict.VIOLATED]
    assert checked(result, tmp_path).ok
    swapped = result.files["properties.json"].replace(b"2.0", b"0.0")
    report = checked(replace(result, files={**result.files, "properties.json": swapped}), tmp_path / "swapped")
    assert "pair/vnnlib/r0000" in {claim for claim, _ in report.refused}
    single = replace(result, claims=tuple(replace(claim, subject="original") for claim in result.claims))
    assert not checked(single, tmp_path / "single").ok


def test_witnesses_contradict_proofs_of_every_kind() -> None:
    result = compare_models(F, G, regions(0.5), kinds=[QUESTIONS[0]], config=CONFIG)
    violated = next(claim for claim in result.claims if claim.witness is not None)
    proof = replace(
        violated, id="p", verdict=Verdict.CERTIFIED, witness=None, semantics=("float32",), attack=None, margin=None
    )
    assert len(contradictions([violated, proof])) == 1
    assert contradictions([violated, replace(proof, kind="top1_decided", parameter=1e6)]) == []


def test_a_witness_between_float32_numbers_is_named_as_such() -> None:
    """The box holds one float32 point, 1; only beyond it do the outputs differ by half."""
    f, g = (chain((1,), Dense(np.array([[w]]), np.array([-w]))) for w in (0.0, 2.0**23))
    region = Region("r", np.array([1.0]), np.array([1.0 + 0.9 * 2.0**-23]))
    task = Task("pair/output_distance/r", "output_distance", "pair", region, None, delta=0.5)
    for semantics in (("real", "float32"), ("real",)):
        config = replace(CONFIG.search, semantics=semantics)
        (finding,) = compare(f, g, [task], config)
        claim = finding.claim
        assert claim.verdict is Verdict.UNKNOWN
        assert claim.reason.startswith("real-only witness")
        assert claim.smt == "refuted"


def test_an_open_claim_states_bound_attack_and_ratio() -> None:
    tight = replace(CONFIG, search=replace(CONFIG.search, timeout_s=1e-6), delta=1.0)
    result = compare_models(F, G, regions(1.0), kinds=["output_distance"], config=tight)
    open_claims = [claim for claim in result.claims if claim.verdict is Verdict.UNKNOWN]
    assert open_claims
    for claim in open_claims:
        assert claim.bound is not None
        assert claim.attack is not None
        assert claim.ratio == pytest.approx((1.0 - claim.bound) / (1.0 - claim.attack))
        assert claim.ratio >= 1
        assert f"ratio {claim.ratio:.4g}" in claim.reason
    assert open_claims[0].reason in TWINS["report.html"](result)


def test_ratios_that_are_no_numbers_are_left_out() -> None:
    base = Claim("c", "output_distance", "pair", "r", 0.1, 0, Verdict.CERTIFIED, "m", bound=2.0, attack=1.0)
    assert base.ratio == 2.0
    assert replace(base, attack=0.0).ratio is None
    assert replace(base, attack=None).ratio is None
    assert replace(base, bound=1e300, attack=1e-300).ratio is None
    assert replace(base, delta=1.0, attack=1.0).ratio is None


def test_tasks_without_their_parameter_are_no_comparison() -> None:
    for kind in PARAMETERS:
        with pytest.raises(ConfigError, match="needs its parameter"):
            compare(F, G, [Task("t", kind, "pair", regions(0.1, 1)[0], None)], CONFIG.search)
