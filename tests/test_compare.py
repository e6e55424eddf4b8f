"""The cascade for a pair: every verdict has its evidence, and the evidence holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.bounds.differential import PairBounder
from paoding_verify.checker.prove import Proof, prove
from paoding_verify.data import Dataset
from paoding_verify.equivalence import reproof
from paoding_verify.equivalence.compare import compare
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.job import open_job
from paoding_verify.equivalence.stages import attack_differences
from paoding_verify.errors import ConfigError, SoundnessError
from paoding_verify.evidence.claim import Finding
from paoding_verify.evidence.property import decides_like, distance_at_most
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.linf import linf_regions
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Dense, Network, Relu, Sigmoid
from paoding_verify.network.load import load_network
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.pruning.prune import prune
from paoding_verify.regions import Region
from paoding_verify.task import SearchConfig, Task
from paoding_verify.vnnlib import read_vnnlib
from tests.networks import chain, conv_net, dense_net, pooled_net, residual_net
from tests.pairs import identity_alignment, perturbed, without_units

CONFIG = SearchConfig(timeout_s=10, attack_restarts=3, attack_steps=15, alpha_iterations=5, max_leaves=2000)


def regions(network: Network, radius: float, count: int = 4, seed: int = 21) -> list[Region]:
    centres = np.random.default_rng(seed).normal(size=(count, *network.input_shape)).astype(np.float32)
    return [
        Region(f"r{n}", x.astype(np.float64) - radius, x.astype(np.float64) + radius, x, None, radius)
        for n, x in enumerate(centres)
    ]


def tasks(boxes: Sequence[Region], kind: str, delta: float | None = None) -> list[Task]:
    return [Task(f"pair/{kind}/{box.id}", kind, "pair", box, None, delta) for box in boxes]


def differences(f: Network, g: Network, box: Region) -> np.ndarray:
    """|f - g| at sampled points, in float64."""
    x = np.random.default_rng(5).uniform(size=(300, *f.input_shape)) * (box.upper - box.lower) + box.lower
    return np.abs(evaluate(f, x) - evaluate(g, x)).max(axis=1)


def check(f: Network, g: Network, task: Task, finding: Finding) -> None:
    """What a verdict promises."""
    claim = finding.claim
    assert claim.id == task.id
    assert (claim.witness is not None) == (claim.verdict is Verdict.VIOLATED)
    assert (finding.certificate is not None) == (claim.verdict is Verdict.CERTIFIED)
    assert bool(claim.reason) == (claim.verdict is Verdict.UNKNOWN)
    assert claim.rechecked == (claim.verdict is not Verdict.UNKNOWN)
    prop = open_job(task, f.num_outputs).prop
    if claim.verdict is Verdict.VIOLATED:
        assert claim.witness is not None
        x = np.array(claim.witness.input, dtype=np.float32).reshape(f.input_shape)
        assert task.region.contains(x)
        outputs = [OnnxProgram(shipped_onnx(network)).run(x[None])[0] for network in (f, g)]
        assert claim.witness.outputs_original == tuple(outputs[0].tolist())
        assert claim.witness.outputs_pruned == tuple(outputs[1].tolist())
        if task.kind == "top1_equivalent":
            assert outputs[0].argmax() != outputs[1].argmax()
        else:
            assert np.abs(outputs[0].astype(np.float64) - outputs[1]).max() >= (task.delta or 0)
    elif claim.verdict is Verdict.CERTIFIED:
        assert finding.certificate is not None
        if task.kind == "output_distance" and task.delta is None:
            assert claim.bound is not None
            prop = distance_at_most(claim.bound, f.num_outputs)
        for semantics in claim.semantics:
            box = task.region.lower[None], task.region.upper[None]
            (proof,) = prove([f, g], *box, [prop], [finding.certificate], semantics=semantics)
            assert proof.proved
        assert claim.semantics == CONFIG.semantics


@pytest.mark.parametrize("network", [dense_net(0), conv_net(0), residual_net(0), pooled_net(0)])
@pytest.mark.parametrize("kind", ["top1_equivalent", "output_distance"])
@pytest.mark.parametrize("radius", [0.001, 0.1])
def test_every_verdict_has_its_evidence(network: Network, kind: str, radius: float) -> None:
    g = perturbed(network, 3, 0.02)
    asked = tasks(regions(network, radius, 3), kind, None if kind == "top1_equivalent" else 0.3)
    found = compare(network, g, asked, replace(CONFIG, timeout_s=2.0))
    assert len(found) == 3
    for task, finding in zip(asked, found, strict=True):
        check(network, g, task, finding)
    if radius == 0.001:
        assert Verdict.CERTIFIED in {finding.claim.verdict for finding in found}


@pytest.mark.parametrize("network", [dense_net(1), conv_net(1), pooled_net(1)])
def test_brackets_hold_every_sampled_difference(network: Network) -> None:
    g = perturbed(network, 4, 0.01)
    asked = tasks(regions(network, 0.05), "output_distance")
    for task, finding in zip(asked, compare(network, g, asked, CONFIG), strict=True):
        check(network, g, task, finding)
        claim = finding.claim
        assert claim.verdict is Verdict.CERTIFIED
        assert claim.bound is not None
        assert claim.attack is not None
        assert differences(network, g, task.region).max() <= claim.bound
        assert 0 < claim.attack <= claim.bound


def test_removed_units_are_aligned_and_bracketed_tightly() -> None:
    f = dense_net(2, (6, 30, 30, 4))
    kept = [tuple(range(1, 30)), tuple(range(29, 0, -1))]
    g = without_units(f, kept)
    asked = tasks(regions(f, 0.02), "output_distance")
    found = compare(f, g, asked, CONFIG)
    alone = compare(f, g, asked, CONFIG, alignment=tuple(tuple(range(29)) for _ in range(2)))
    given = compare(f, g, asked, CONFIG, alignment=tuple(kept))
    for matched, wrong, right in zip(found, alone, given, strict=True):
        assert matched.claim.bound == right.claim.bound
        assert matched.claim.bound is not None
        assert wrong.claim.bound is not None
        assert matched.claim.bound <= wrong.claim.bound


def test_a_network_differs_from_itself_by_no_more_than_rounding() -> None:
    f = dense_net(3)
    (finding,) = compare(f, f, tasks(regions(f, 0.1, 1), "output_distance"), CONFIG)
    assert finding.claim.attack == 0
    assert finding.claim.bound is not None
    assert 0 < finding.claim.bound < 1e-4


def test_an_exact_tie_is_no_different_decision() -> None:
    """Two equal outputs everywhere: equivalence in its strict form fails, yet both networks decide alike."""
    f = chain((2,), Dense(np.ones((2, 2)), np.zeros(2)))
    (finding,) = compare(f, f, tasks(regions(f, 0.1, 1), "top1_equivalent"), CONFIG)
    assert finding.claim.verdict is Verdict.UNKNOWN
    assert "tied" in finding.claim.reason


def test_networks_of_different_structure_are_compared() -> None:
    f = dense_net(4, (6, 10, 4))
    identity = Dense(np.eye(10), np.zeros(10))
    g = chain((6,), f.nodes[0].op, Relu(), identity, Relu(), f.nodes[2].op)
    asked = tasks(regions(f, 0.001), "top1_equivalent")
    found = compare(f, g, asked, CONFIG)
    assert {finding.claim.verdict for finding in found} == {Verdict.CERTIFIED}
    for task, finding in zip(asked, found, strict=True):
        check(f, g, task, finding)


def test_few_inputs_are_split() -> None:
    f = dense_net(5, (2, 12, 12, 3))
    g = perturbed(f, 6, 0.01)
    (box,) = regions(f, 0.5, 1)
    delta = 1.1 * float(differences(f, g, box).max())
    (task,) = tasks([box], "output_distance", delta)
    (finding,) = compare(f, g, [task], CONFIG)
    assert finding.claim.method == "input-splitting"
    assert finding.certificate is not None
    assert finding.certificate.split is not None
    check(f, g, task, finding)


@pytest.mark.parametrize(
    ("sizes", "radius", "method"), [((2, 12, 12, 3), 0.5, "input"), ((12, 24, 24, 3), 0.2, "relu")]
)
def test_brackets_are_refined_by_cases(sizes: tuple[int, ...], radius: float, method: str) -> None:
    f = dense_net(5, sizes)
    g = perturbed(f, 6, 0.01)
    (box,) = regions(f, radius, 1)
    (task,) = tasks([box], "output_distance")
    (finding,) = compare(f, g, [task], replace(CONFIG, timeout_s=30))
    check(f, g, task, finding)
    whole = PairBounder(f, g, identity_alignment(f)).distance(box.lower[None], box.upper[None])[0]
    assert finding.claim.method == f"{method}-splitting"
    assert finding.claim.bound is not None
    assert finding.claim.attack is not None
    assert finding.claim.bound - finding.claim.attack < 0.8 * (whole - finding.claim.attack)
    (coarse,) = compare(f, g, [task], replace(CONFIG, timeout_s=30, max_leaves=2))
    check(f, g, task, coarse)
    assert coarse.claim.bound is not None
    assert finding.claim.bound < coarse.claim.bound <= whole * 1.01


def test_a_time_limit_leaves_unknown_with_a_bracket() -> None:
    f = dense_net(6)
    g = perturbed(f, 7, 0.05)
    asked = tasks(regions(f, 2.0, 2), "output_distance", 1e3) + tasks(regions(f, 2.0, 2), "top1_equivalent")
    found = compare(f, g, asked, replace(CONFIG, timeout_s=1e-6))
    for finding in found:
        if finding.claim.verdict is Verdict.UNKNOWN:
            assert "time limit" in finding.claim.reason
            assert finding.claim.attack is not None


def test_a_refusal_of_the_checker_is_never_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(networks: object, lower: np.ndarray, *rest: object, **semantics: object) -> list[Proof]:
        return [Proof(False, None, "refused for the test")] * len(lower)

    monkeypatch.setattr(reproof, "prove", refuse)
    f = dense_net(7)
    boxes = regions(f, 0.001)
    asked = tasks(boxes, "top1_equivalent") + tasks(boxes, "output_distance") + tasks(boxes, "output_distance", 1.0)
    for finding in compare(f, f, asked, CONFIG):
        assert finding.claim.verdict is Verdict.UNKNOWN
        assert "not re-proved by the checker" in finding.claim.reason or finding.claim.smt == "confirmed"


def test_a_proof_that_a_point_contradicts_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(networks: object, lower: np.ndarray, *rest: object, **semantics: object) -> list[Proof]:
        return [Proof(True, 1.0, "")] * len(lower)

    monkeypatch.setattr(reproof, "prove", believe)
    f = dense_net(8)
    job = open_job(tasks(regions(f, 0.1, 1), "output_distance", 0.5)[0], 4)
    job.attack = -0.1
    with pytest.raises(SoundnessError, match=r"margin -0\.1"):
        job.certified(1.0, CONFIG.semantics)
    with pytest.raises(SoundnessError):
        compare(f, perturbed(f, 1, 0.1), tasks(regions(f, 0.1, 1), "output_distance"), CONFIG)


def test_equal_calls_give_equal_findings_and_progress_counts_up() -> None:
    f = dense_net(9)
    g = perturbed(f, 2, 0.02)
    asked = tasks(regions(f, 0.05), "top1_equivalent") + tasks(regions(f, 0.05), "output_distance")
    seen: list[tuple[str, int, int]] = []
    first = compare(f, g, asked, CONFIG, progress=lambda *step: seen.append(step))
    second = compare(f, g, asked, CONFIG)
    plain = [[replace(finding.claim, elapsed_s=None) for finding in run] for run in (first, second)]
    assert plain[0] == plain[1]
    assert [step[1:] for step in seen] == [(n, 8) for n in range(1, 9)]


def test_refuses_what_is_no_comparison() -> None:
    f = dense_net(10)
    box = regions(f, 0.1, 1)
    with pytest.raises(ConfigError, match="not a comparison"):
        compare(f, f, tasks(box, "top1_robust"), CONFIG)
    with pytest.raises(ConfigError, match="cannot compare"):
        compare(f, dense_net(0, (6, 3)), tasks(box, "top1_equivalent"), CONFIG)
    with pytest.raises(ConfigError, match="outputs of each network"):
        compare(f, f, [replace(tasks(box, "top1_equivalent")[0], property=decides_like(3))], CONFIG)
    assert compare(f, f, [], CONFIG, alignment=identity_alignment(f)) == []


@pytest.mark.realdata
def test_joint_bounds_are_close_to_the_attack_on_a_real_pair(data_dir: Path) -> None:
    """A quarter of the units of mnist-net 256x2 removed, least outgoing weights first, eps .03."""
    f = load_network(data_dir / "models_gpl3" / "mnist-net_256x2.onnx")
    layers = [k for k, node in enumerate(f.nodes) if isinstance(node.op, Dense)][1:]
    norms = [np.linalg.norm(f.nodes[k].op.weight, axis=0) for k in layers]  # type: ignore[union-attr]
    g = without_units(f, [np.sort(np.argsort(norm)[64:]) for norm in norms])
    pictures = np.load(data_dir / "data" / "mnist_test.npz")["x"][:3] / np.float32(255)
    boxes = [
        Region(f"r{n}", np.maximum(x.astype(np.float64) - 0.03, 0), np.minimum(x.astype(np.float64) + 0.03, 1), x)
        for n, x in enumerate(pictures.reshape(3, *f.input_shape).astype(np.float32))
    ]
    for finding in compare(f, g, tasks(boxes, "output_distance"), CONFIG):
        assert finding.claim.verdict is Verdict.CERTIFIED
        assert finding.claim.bound is not None
        assert finding.claim.attack is not None
        assert finding.claim.bound < 3 * finding.claim.attack


@pytest.mark.realdata
def test_weights_in_half_precision_are_decided_over_a_whole_property(data_dir: Path) -> None:
    """ACAS Xu 1_1 and itself with 16-bit weights, on the box of property 1, distance .05."""
    f = load_network(data_dir / "models" / "acasxu_1_1.onnx")
    nodes = []
    for node in f.nodes:
        op = node.op
        if isinstance(op, Dense):
            weight, bias = (a.astype(np.float16).astype(np.float64) for a in (op.weight, op.bias))
            op = replace(op, weight=weight, bias=bias)
        nodes.append(replace(node, op=op))
    g = Network(f.input_shape, tuple(nodes))
    ((box, _),) = read_vnnlib(data_dir / "specs" / "acasxu_prop1.vnnlib", f.input_shape, f.num_outputs)
    (task,) = tasks([box], "output_distance", 0.05)
    (finding,) = compare(f, g, [task], replace(CONFIG, timeout_s=120, max_leaves=5000))
    assert finding.claim.verdict is Verdict.CERTIFIED
    assert finding.claim.method == "input-splitting"
    assert finding.claim.semantics == ("real", "float32")


def test_units_that_a_pruned_network_lacks_are_never_split() -> None:
    folder = Path(__file__).resolve().parents[1] / "examples" / "digits"
    digits = load_network(folder / "digits_dense.onnx")
    pruned = prune(digits, target_sparsity=0.5, method="obs", distil=False)
    boxes = linf_regions(folder / "anchors.npz", eps=0.01, domain=(0, 1), samples=10, seed=0, input_shape=(1, 8, 8))
    questions = tasks(boxes, "output_distance")
    findings = compare(digits, pruned.network, questions, SearchConfig(), alignment=pruned.trace.alignment)
    assert all(finding.claim.bound is not None for finding in findings)


def test_without_units_to_split_a_claim_stays_open() -> None:
    f = chain((4,), Dense(np.eye(4), np.zeros(4)), Sigmoid(), Dense(np.eye(3, 4), np.array([0.0, 0.0, 0.01])))
    (finding,) = compare(f, perturbed(f, 0, 1e-6), tasks(regions(f, 0.5, 1), "output_distance", 1e-5), SearchConfig())
    assert finding.claim.verdict is Verdict.UNKNOWN
    assert "no unit left to split" in finding.claim.reason


def test_a_led_attack_finds_differences_without_gradient() -> None:
    weight = np.array([[1.0, 0.0, 0.0], [0.4, 0.4, 0.4]])
    hidden = Dense(weight, np.array([0.0, -1.0])), Relu(), Dense(np.array([[1.0, 3.0], [0.5, 0.0]]), np.zeros(2))
    f = chain((3,), *hidden)
    g = chain((3,), Dense(weight[:1], np.zeros(1)), Relu(), Dense(np.array([[1.0], [0.5]]), np.zeros(2)))
    x = np.full((1, 3), 0.5, dtype=np.float32)
    box = linf_regions(Dataset(x, None, "x"), eps=0.45, domain=(0.0, 1.0))
    engines = PairEngines(f, g, None, SearchConfig(attack_restarts=1))
    found = []
    for led in (False, True):
        job = open_job(tasks(box, "output_distance")[0], 2)
        attack_differences(engines, [job], steps=40, led=led)
        found.append(-job.attack)
    assert found[0] == 0
    assert found[1] == pytest.approx(0.42, abs=1e-5)
