"""Audits from end to end on small networks, with the real engines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.drawing import SYNTHETIC, draw_regions, synthetic_dataset
from paoding_verify.auditing.policy import Policy
from paoding_verify.auditing.run import audit, certify_model, compare_models
from paoding_verify.auditing.tasks import labelled
from paoding_verify.data import Dataset
from paoding_verify.errors import ConfigError, InputError, RegionError
from paoding_verify.evidence.claim import KINDS
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.network.graph import Dense, Network, Node
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.regions import Region
from paoding_verify.task import SearchConfig
from tests.networks import conv_net, dense_net

CONFIG = AuditConfig(eps=(0.001, 0.05), samples=4, search=SearchConfig(timeout_s=5))


def perturbed(network: Network, amount: float) -> Network:
    """The same network with slightly different first weights, as after a careful pruning."""
    first = network.nodes[0]
    assert isinstance(first.op, Dense)
    noise = np.random.default_rng(1).normal(size=first.op.weight.shape) * amount
    weight = (first.op.weight + noise).astype(np.float32).astype(np.float64)
    return replace(
        network, nodes=(Node(replace(first.op, weight=weight), first.inputs, first.name), *network.nodes[1:])
    )


@pytest.fixture(scope="module")
def regions() -> list[Region]:
    x = np.random.default_rng(0).random((8, 6), dtype=np.float32)
    return draw_regions(Dataset(x, None, "points.npz"), CONFIG)


@pytest.fixture(scope="module")
def result(regions: list[Region]) -> AuditResult:
    network = dense_net(3)
    return audit(network, perturbed(network, 0.01), regions, config=CONFIG)


def test_every_region_is_asked_everything(result: AuditResult, regions: list[Region]) -> None:
    asked = [(claim.subject, claim.kind, claim.region) for claim in result.claims]
    wanted = [
        ("original", "top1_robust"),
        ("pruned", "top1_robust"),
        ("pair", "top1_equivalent"),
        ("pair", "output_distance"),
    ]
    assert asked == [(subject, kind, region.id) for subject, kind in wanted for region in regions]
    assert len({claim.id for claim in result.claims}) == len(asked)
    assert {claim.kind for claim in result.claims} <= set(KINDS)
    assert result.counts["error"] == 0


def test_certified_claims_hold_at_random_points(result: AuditResult, regions: list[Region]) -> None:
    programs = {role: OnnxProgram(result.files[f"models/{role}.onnx"]) for role in ("original", "pruned")}
    boxes = {region.id: region for region in regions}
    rng, seen = np.random.default_rng(2), 0
    for claim in result.claims:
        if claim.kind == "top1_robust" and claim.verdict is Verdict.CERTIFIED:
            box = boxes[claim.region]
            x = rng.uniform(box.lower, box.upper, size=(200, *box.lower.shape)).astype(np.float32)
            x = x[[box.contains(point) for point in x]]
            assert (programs[claim.subject].run(x).argmax(axis=1) == claim.label).all()
            seen += 1
    assert seen


def test_metrics_and_policy_agree_with_the_claims(result: AuditResult) -> None:
    for metric in result.metrics:
        assert metric.certified_accuracy <= metric.empirical_robust_accuracy <= metric.natural_accuracy == 1.0
    assert [(m.subject, m.eps) for m in result.metrics] == [
        ("original", 0.001), ("original", 0.05), ("pruned", 0.001), ("pruned", 0.05),
    ] or result.metrics  # fmt: skip
    assert result.policy is not None
    assert result.policy.name == "default"


def test_members_hold_models_boxes_and_certificates(result: AuditResult) -> None:
    certified = {claim.id for claim in result.claims if claim.verdict is Verdict.CERTIFIED}
    violated = [claim for claim in result.claims if claim.verdict is Verdict.VIOLATED]
    text = result.files["certificates/certificates.json"].decode()
    assert all(f'"{name}"' in text for name in certified)
    assert sum(name.startswith("witnesses/") for name in result.files) == len(violated)
    assert {"models/original.onnx", "models/pruned.onnx", "regions.npz"} <= set(result.files)


def test_equal_audits_are_equal(result: AuditResult, regions: list[Region]) -> None:
    from paoding_verify.report.plain import without_timings

    network = dense_net(3)
    again = audit(network, perturbed(network, 0.01), regions, config=CONFIG)
    assert without_timings(again) == without_timings(result)
    assert again.files == result.files


def test_an_unmeetable_policy_fails_and_truth_values_are_refused(regions: list[Region]) -> None:
    network = dense_net(3)
    found = audit(network, network, regions[:2], policy=Policy("p", {"min_sparsity": 0.5}), config=CONFIG)
    assert found.verdict is Outcome.FAIL
    with pytest.raises(TypeError):
        bool(found)


def test_a_wrong_label_is_violated_by_the_centre(regions: list[Region]) -> None:
    network = dense_net(3)
    (region,) = labelled(network, regions[:1])
    wrong = replace(region, label=(region.label + 1) % 4 if region.label is not None else None)
    found = certify_model(network, [wrong], config=CONFIG)
    assert [claim.verdict for claim in found.claims] == [Verdict.VIOLATED]
    assert found.metrics[0].natural_accuracy == 0.0


def test_an_engine_failure_becomes_an_error_claim(monkeypatch: pytest.MonkeyPatch, regions: list[Region]) -> None:
    import paoding_verify.robustness.certify as module

    genuine = module.certify

    def broken(network: Network, tasks: list, *rest: object, **more: object) -> list:  # type: ignore[type-arg]
        if any(task.region.id == regions[1].id for task in tasks):
            raise RuntimeError("out of luck")
        return genuine(network, tasks, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "certify", broken)
    found = certify_model(dense_net(3), regions[:3], config=CONFIG)
    assert [claim.verdict is None for claim in found.claims] == [False, True, False]
    assert found.counts["error"] == 1
    assert "out of luck" in found.claims[1].reason


def test_distance_with_and_without_a_threshold(regions: list[Region]) -> None:
    network = dense_net(3)
    other = perturbed(network, 0.01)
    (free,) = compare_models(network, other, regions[:1], kinds=["output_distance"], config=CONFIG).claims
    assert free.bound is not None
    assert free.attack is not None
    assert 0 < free.attack <= free.bound
    loose = replace(CONFIG, delta=2 * free.bound)
    (claim,) = compare_models(network, other, regions[:1], kinds=["output_distance"], config=loose).claims
    assert (claim.verdict, claim.delta) == (Verdict.CERTIFIED, loose.delta)
    tight = replace(CONFIG, delta=free.attack / 2)
    (claim,) = compare_models(network, other, regions[:1], kinds=["output_distance"], config=tight).claims
    assert claim.verdict is Verdict.VIOLATED


def test_things_that_do_not_fit_together_are_refused(regions: list[Region]) -> None:
    network = dense_net(3)
    with pytest.raises(InputError, match="same inputs and outputs"):
        audit(network, conv_net(1), regions)
    with pytest.raises(RegionError, match="r0000"):
        certify_model(conv_net(1), regions)
    with pytest.raises(InputError, match="no region"):
        certify_model(network, [])
    with pytest.raises(InputError, match="same id"):
        certify_model(network, [regions[0], regions[0]])
    with pytest.raises(InputError, match="label 9"):
        certify_model(network, [replace(regions[0], label=9)])
    with pytest.raises(InputError, match="properties"):
        certify_model(network, regions, properties=[])
    with pytest.raises(InputError, match="top1_equivalent"):
        compare_models(network, network, regions, kinds=["else"])


def test_the_same_anchors_are_drawn_at_every_radius(regions: list[Region]) -> None:
    assert [r.id for r in regions[:2]] == ["r0000/eps0.001", "r0001/eps0.001"]
    assert len({r.id for r in regions}) == 8
    near, far = regions[:4], regions[4:]
    assert all((a.anchor == b.anchor).all() for a, b in zip(near, far, strict=True))
    single = draw_regions(Dataset(np.zeros((2, 6), dtype=np.float32)), AuditConfig(eps=(0.1,)))
    assert [r.id for r in single] == ["r0000", "r0001"]


def test_synthesised_anchors_are_not_the_pruner_s() -> None:
    from paoding_verify.anchors import synthesise_anchors

    network = dense_net(3)
    config = AuditConfig(samples=8, domain=(0.0, 1.0))
    mine = synthetic_dataset(network, config)
    pruner = synthesise_anchors(network, 8, seed=config.seed, domain=config.domain)
    assert mine.source == SYNTHETIC
    assert mine.y is None
    assert not {tuple(x) for x in mine.x} & {tuple(x) for x in pruner}


@pytest.mark.parametrize(
    "values",
    [
        {"eps": ()}, {"eps": (-0.1,)}, {"eps": (float("inf"),)}, {"eps": (0.1, 0.1)}, {"samples": 0},
        {"target_sparsity": 1.0}, {"domain": (1.0, 0.0)}, {"delta": 0.0},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AuditConfig(**values)  # type: ignore[arg-type]


def test_settings_override_one_another() -> None:
    config = AuditConfig().override({"eps": 0.5, "seed": 3, "timeout_s": 2, "domain": [0, 1]})
    assert (config.eps, config.seed, config.search.timeout_s, config.domain) == ((0.5,), 3, 2.0, (0.0, 1.0))
    for key, value in (("eps", "x"), ("seed", 1.5), ("method", 3), ("domain", [1]), ("search", {}), ("samples", True)):
        with pytest.raises(ConfigError, match=key):
            AuditConfig().override({key: value})


@pytest.mark.parametrize(
    "setting",
    [
        {"seed": -1}, {"seed": 2**64}, {"timeout_s": 0.0}, {"timeout_s": float("inf")}, {"timeout_s": float("nan")},
        {"smt_samples": -1}, {"attack_restarts": 0}, {"max_leaves": 0}, {"semantics": ()},
    ],
)  # fmt: skip
def test_every_number_of_a_search_is_checked(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SearchConfig(**setting)  # type: ignore[arg-type]
