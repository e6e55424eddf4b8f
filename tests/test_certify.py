"""The cascade for one network: right verdicts, each with what it needs, in the order of the tasks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.checker import prove as checker
from paoding_verify.checker.crown import lower_bounds
from paoding_verify.errors import ConfigError, EngineError, SoundnessError
from paoding_verify.evidence.property import Property, predicts
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Dense, MaxPool2d, Relu, Reshape
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.regions import Region
from paoding_verify.robustness import stages
from paoding_verify.robustness.certify import certify
from paoding_verify.task import SearchConfig, Task
from paoding_verify.witness import replay_witness
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net

FAST = SearchConfig(attack_restarts=2, attack_steps=10, alpha_iterations=5)


def tasks_around(network, radii, seed=0):
    """One task for each radius, around random points, for the class of the point."""
    rng = np.random.default_rng(seed)
    tasks = []
    for k, eps in enumerate(radii):
        anchor = rng.normal(size=network.input_shape).astype(np.float32)
        centre = anchor.astype(np.float64)
        label = int(network.forward(anchor[None])[0].argmax())
        region = Region(f"r{k}", centre - eps, centre + eps, anchor, label, eps)
        tasks.append(Task(f"t{k}", "top1_robust", "original", region, predicts(label, network.num_outputs)))
    return tasks


@pytest.mark.parametrize("make", [dense_net, conv_net, pooled_net, residual_net])
def test_verdicts_carry_what_they_need(make):
    network = make(3)
    tasks = tasks_around(network, [1e-3, 5.0, 1e-3, 0.05, 0.0])
    seen = []
    findings = certify(network, tasks, FAST, progress=lambda *args: seen.append(args))
    assert [f.claim.id for f in findings] == [t.id for t in tasks]
    assert [(done, total) for _, done, total in seen] == [(k, 5) for k in range(1, 6)]
    verdicts = [f.claim.verdict for f in findings]
    assert verdicts[1] == Verdict.VIOLATED
    assert verdicts[0] == verdicts[2] == verdicts[4] == Verdict.CERTIFIED
    program = OnnxProgram(shipped_onnx(network))
    for task, finding in zip(tasks, findings, strict=True):
        claim = finding.claim
        assert (finding.certificate is not None) == (claim.verdict == Verdict.CERTIFIED)
        assert (claim.witness is not None) == (claim.verdict == Verdict.VIOLATED)
        assert claim.eps == task.region.eps
        assert claim.label == task.region.label
        if claim.verdict == Verdict.CERTIFIED:
            assert claim.rechecked
            assert claim.semantics == ("real", "float32")
            assert 0 < claim.bound <= claim.attack <= claim.margin
        if claim.verdict == Verdict.VIOLATED:
            point = np.array(claim.witness.input, dtype=np.float32).reshape(network.input_shape)
            assert replay_witness([program], task.region, task.property, point) == claim.witness


def test_certified_regions_hold_at_sampled_points():
    network = dense_net(7)
    tasks = tasks_around(network, [0.01, 0.03, 0.1, 0.2, 0.3] * 3, seed=1)
    rng = np.random.default_rng(2)
    found = certify(network, tasks, FAST)
    assert {f.claim.verdict for f in found} >= {Verdict.CERTIFIED, Verdict.VIOLATED}
    for task, finding in zip(tasks, found, strict=True):
        if finding.claim.verdict == Verdict.CERTIFIED:
            region = task.region
            x = region.lower + rng.uniform(size=(300, 6)) * (region.upper - region.lower)
            assert (task.property.margins(task.property.values(evaluate(network, x))) >= finding.claim.bound).all()


def test_same_findings_twice():
    network = residual_net(1)
    tasks = tasks_around(network, [0.01, 0.05, 0.2])
    first, second = (certify(network, tasks, FAST) for _ in range(2))
    timeless = [[replace(f.claim, elapsed_s=None) for f in found] for found in (first, second)]
    assert timeless[0] == timeless[1]


def test_a_wrong_label_is_violated_at_the_centre():
    network = dense_net(1)
    (task,) = tasks_around(network, [0.01])
    wrong = replace(task, property=predicts((task.region.label + 1) % 4, 4), subject="pruned")
    (finding,) = certify(network, [wrong], FAST)
    assert finding.claim.method == "centre"
    assert finding.claim.margin < 0
    assert finding.claim.witness.outputs_original is None
    assert len(finding.claim.witness.outputs_pruned) == 4


def bowl():
    """|x| + |y| against 0.3: true for a strict minimum 0, needs splitting with an offset close to it."""
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    return chain((2,), Dense(weight, np.zeros(4)), Relu(), Dense(np.ones((1, 4)), np.zeros(1)))


def bowl_task(offset):
    region = Region("r0", np.array([-1.0, -0.9]), np.array([0.8, 1.0]))
    return Task("t0", "vnnlib", "original", region, Property(np.array([[1.0]]), np.array([offset]), ((0,),)))


def wiggle(offset):
    """A margin that CROWN bounds loosely on the whole box: random ReLU layers over two features."""
    network = dense_net(21, sizes=(2, 16, 16, 16, 1))
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 201)] * 2), axis=-1).reshape(-1, 2)
    smallest = float(evaluate(network, grid).min())
    region = Region("r0", np.full(2, -1.0), np.full(2, 1.0))
    prop = Property(np.array([[1.0]]), np.array([offset - smallest]), ((0,),))
    return network, Task("t0", "vnnlib", "original", region, prop)


def test_input_splitting_proves_what_crown_cannot():
    network, task = wiggle(0.05)
    (finding,) = certify(network, [task], FAST)
    assert finding.claim.verdict == Verdict.CERTIFIED, finding.claim.reason
    assert finding.claim.method == "input-splitting"
    assert finding.certificate.split is not None
    assert 0 < finding.claim.bound <= 0.05


def test_input_splitting_finds_violations():
    network, task = wiggle(-0.01)
    (finding,) = certify(network, [task], replace(FAST, attack_restarts=1, attack_steps=1))
    assert finding.claim.verdict == Verdict.VIOLATED


def test_limits_are_named():
    network, task = wiggle(0.001)
    (few,) = certify(network, [task], replace(FAST, max_leaves=4))
    assert few.claim.verdict == Verdict.UNKNOWN
    assert "boxes" in few.claim.reason
    assert few.claim.bound < 0 < few.claim.attack
    (brief,) = certify(network, [task], replace(FAST, timeout_s=1e-9))
    assert brief.claim.verdict == Verdict.UNKNOWN
    assert "time limit of 1e-09 s reached" in brief.claim.reason


def test_relu_splitting_proves_what_bounds_leave_open():
    network = dense_net(7, sizes=(10, 14, 12, 1))
    region, row = Region("r0", np.full(10, -0.3), np.full(10, 0.3)), np.ones((1, 1))
    box = (region.lower[None], region.upper[None])
    crown = float(lower_bounds([network], *box, row, np.zeros(1))[0, 0])
    found = stages.attack([network], *box, row, np.zeros(1), ((0,),), restarts=40, steps=60, seed=0)
    offset = -crown - 0.85 * (float(found.margin[0]) - crown)
    task = Task("t0", "vnnlib", "original", region, Property(row, np.array([offset]), ((0,),)))
    (finding,) = certify(network, [task], FAST)
    assert finding.claim.verdict == Verdict.CERTIFIED, finding.claim.reason
    assert finding.claim.method == "relu-splitting"
    assert finding.certificate.trees


def test_no_method_left():
    network = pooled_net(2)
    findings = certify(network, tasks_around(network, np.geomspace(0.01, 0.5, 12), seed=5), FAST)
    unknown = [f.claim for f in findings if f.claim.verdict == Verdict.UNKNOWN]
    assert unknown
    for claim in unknown:
        assert claim.reason.startswith("max pooling has no bounds by cases: proved bound ")
        assert claim.bound <= 0 < claim.attack


def test_clauses_with_several_rows():
    """One positive row of a clause is enough; a property that no single row proves stays open to splitting."""
    network = bowl()
    rows, region = np.array([[1.0], [-1.0]]), bowl_task(0.0).region
    always = Property(rows, np.array([-0.5, 0.6]), ((0, 1),))
    (finding,) = certify(network, [Task("t0", "vnnlib", "original", region, always)], FAST)
    assert finding.claim.verdict == Verdict.CERTIFIED
    assert finding.claim.method == "input-splitting"
    both = Property(rows, np.array([-0.5, 0.6]), ((0,), (1,)))
    (finding,) = certify(network, [Task("t0", "vnnlib", "original", region, both)], FAST)
    assert finding.claim.verdict == Verdict.VIOLATED


def refuse(*args, **_):
    return [checker.Proof(False, -1.0, "not today") for _ in args[3]]


def test_nothing_is_certified_without_the_checker(monkeypatch):
    network = conv_net(1)
    monkeypatch.setattr(checker, "prove", refuse)
    (finding,) = certify(network, tasks_around(network, [1e-3]), FAST)
    assert finding.claim.verdict == Verdict.UNKNOWN
    assert "not re-proved by the checker (float32: not today)" in finding.claim.reason
    assert finding.claim.bound == -1.0
    assert finding.certificate is None


def test_one_arithmetic_that_fails_is_enough_to_refuse(monkeypatch):
    network = conv_net(1)
    prove = checker.prove
    monkeypatch.setattr(
        checker,
        "prove",
        lambda *args, semantics: refuse(*args) if semantics == "float32" else prove(*args, semantics=semantics),
    )
    tasks = tasks_around(network, [1e-3])
    assert certify(network, tasks, FAST)[0].claim.verdict == Verdict.UNKNOWN
    (real,) = certify(network, tasks, replace(FAST, semantics=("real",)))
    assert real.claim.verdict == Verdict.CERTIFIED
    assert real.claim.semantics == ("real",)


def test_a_proof_against_a_known_point_is_an_error(monkeypatch):
    """The attack finds a point that no replay confirms; a float32 proof excludes it: one of the two is wrong."""
    network = conv_net(1)
    monkeypatch.setattr(stages, "find_witness", lambda *_, **__: None)
    monkeypatch.setattr(checker, "prove", lambda *args, **_: [checker.Proof(True, 1.0, "") for _ in args[3]])
    (task,) = tasks_around(network, [1e-3])
    wrong = replace(task, property=predicts((task.region.label + 1) % 3, 3))
    with pytest.raises(SoundnessError, match="t0: proved for every float32 program"):
        certify(network, [wrong], replace(FAST, semantics=("float32",)))


def test_an_engine_failure_is_no_verdict(monkeypatch):
    network = conv_net(1)

    def fail(*_, **__):
        raise EngineError("broken")

    monkeypatch.setattr(stages.LirpaBounder, "lower_bounds", fail)
    with pytest.raises(EngineError, match="broken"):
        certify(network, tasks_around(network, [0.01]), FAST)


def test_tasks_without_a_fitting_property_are_refused():
    network = dense_net(1)
    (task,) = tasks_around(network, [0.1])
    for prop in (None, predicts(0, 3)):
        with pytest.raises(ConfigError, match="t0 needs a property over the 4 outputs"):
            certify(network, [replace(task, property=prop)], FAST)
    assert certify(network, [], FAST) == []


def test_tasks_of_different_forms_keep_their_order():
    network = dense_net(4)
    tasks = tasks_around(network, [1e-3] * 3)
    single = Property(tasks[1].property.rows[:1], np.zeros(1), ((0,),))
    tasks[1] = replace(tasks[1], property=single)
    found = certify(network, tasks, FAST)
    assert [f.claim.id for f in found] == ["t0", "t1", "t2"]
    assert all(a.claim.id < b.claim.id for a, b in itertools.pairwise(found))


def test_a_damaged_certificate_of_the_search_is_an_error_and_not_unknown(monkeypatch):
    damaged = [checker.Proof(False, None, "refused: boom", damaged=True)]
    monkeypatch.setattr(checker, "prove", lambda *args, **_: damaged * len(args[3]))
    network = dense_net(0)
    with pytest.raises(EngineError, match="refused: boom"):
        certify(network, tasks_around(network, [1e-3]), FAST)


def test_a_network_that_auto_lirpa_cannot_bound_is_left_to_the_checker():
    """Max pooling with padding, not behind a ReLU."""
    rng = np.random.default_rng(0)
    pool = MaxPool2d((2, 2), (2, 2), (1, 1, 1, 1))
    network = chain((1, 4, 4), random_conv(rng, 2, 1, 1), pool, Reshape((18,)), random_dense(rng, 3, 18))
    (finding,) = certify(network, tasks_around(network, [1e-4]), FAST)
    assert (finding.claim.verdict, finding.claim.method) == (Verdict.CERTIFIED, "checker")
