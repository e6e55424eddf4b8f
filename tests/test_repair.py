"""Certified repair: what it trains, who judges it, and what the record says."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.network.graph import Dense, Network, Sigmoid, Tanh
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.pruning.distil import DistilConfig
from paoding_verify.pruning.groups import find_units
from paoding_verify.pruning.job import Job, draw_inputs
from paoding_verify.pruning.magnitude import magnitude_l2
from paoding_verify.pruning.members import MEMBERS
from paoding_verify.pruning.options import PruneOptions
from paoding_verify.pruning.own_regions import Wanted
from paoding_verify.pruning.portfolio import PortfolioConfig
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.prune import prune
from paoding_verify.pruning.repair import RepairConfig, repair, repaired
from paoding_verify.pruning.signal import CertifiedSignal
from paoding_verify.pruning.surgery import remove_units
from tests.networks import conv_net, dense_net, residual_net

FEW = RepairConfig(steps=12, rate=1e-2)
NUM_BOXES = 24


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    """Fewer anchors and training inputs: what is tested does not depend on how many there are."""
    monkeypatch.setattr("paoding_verify.pruning.own_regions._NUM_ANCHORS", {"crown": NUM_BOXES, "crown-ibp": 16})
    monkeypatch.setattr("paoding_verify.pruning.problem.NUM_TRAINING", (60, 300))
    monkeypatch.setattr("paoding_verify.pruning.job.NUM_COMPENSATION", (60, 200))


def problem_of(network: Network) -> PruneProblem:
    own, inputs, user = draw_inputs(network, None, None, domain=None, seed=0, wanted=Wanted(acceptance=True))
    job = Job(
        original=network, units=find_units(network), own=own, inputs=inputs, user=user, method=magnitude_l2, seed=0,
        progress=lambda doing, done, total: None, exact_plan=False,
    )  # fmt: skip
    return job.problem(0.5)


@cache
def dense_problem() -> PruneProblem:
    """Methods used here draw nothing from it, so that one serves all tests."""
    return problem_of(dense_net(0))


def pruned(problem: PruneProblem) -> tuple[PruneOutcome, Network]:
    outcome = magnitude_l2(problem)
    return outcome, remove_units(outcome.network, problem.units, outcome.removed)


def with_activation(network: Network, op: Sigmoid | Tanh) -> Network:
    """Another activation, and weights large enough that it bends."""
    nodes = []
    for node in network.nodes:
        if isinstance(node.op, Dense):
            nodes.append(replace(node, op=replace(node.op, weight=4 * node.op.weight)))
        else:
            nodes.append(replace(node, op=op))
    return replace(network, nodes=tuple(nodes))


@pytest.mark.parametrize("make", [dense_net, conv_net, residual_net])
def test_margins_rise_where_it_trains_and_the_structure_stays(make):
    problem = problem_of(make(1))
    _, small = pruned(problem)
    trained = repair(small, problem, FEW)
    assert trained.shapes == small.shapes
    assert problem.signal.drop(trained) < problem.signal.drop(small)


@pytest.mark.parametrize("op", [Sigmoid(), Tanh()])
def test_smooth_activations(op):
    before, after = [], []
    for seed in range(3):  # the bounds in training are looser than the signal's: single networks may lose
        problem = problem_of(with_activation(dense_net(seed), op))
        _, small = pruned(problem)
        before.append(problem.signal.drop(small))
        after.append(problem.signal.drop(repair(small, problem, FEW)))
    assert sum(after) < 0.95 * sum(before)


def test_parameters_are_float32_numbers():
    problem = dense_problem()
    for node in repair(pruned(problem)[1], problem, FEW).nodes:
        if isinstance(node.op, Dense):
            np.testing.assert_array_equal(node.op.weight, node.op.weight.astype(np.float32))


def test_the_record_measures_the_networks_before_and_after():
    problem = dense_problem()
    outcome, small = pruned(problem)
    after = repaired(problem, outcome, FEW)
    record, trained = after.repaired, repair(small, problem, FEW)
    assert record is not None
    assert record.steps == FEW.steps
    assert (record.num_anchors, record.num_acceptance) == (NUM_BOXES, len(problem.acceptance.boxes))
    assert (record.drop_before, record.drop_after) == (problem.signal.drop(small), problem.signal.drop(trained))
    assert record.acceptance_drop_before == problem.acceptance.drop(small)
    assert record.acceptance_drop_after == problem.acceptance.drop(trained)
    assert after.removed == outcome.removed


def judged_by(problem: PruneProblem, verdicts: list[float]) -> PruneProblem:
    """The problem with acceptance anchors that give one drop after another."""
    own = problem.acceptance

    class Judge(CertifiedSignal):
        def drop(self, network: Network) -> float:
            return verdicts.pop(0)

    return replace(problem, acceptance=Judge(own.original, own.boxes, own.method))


@pytest.mark.parametrize(("before", "after", "kept"), [(1.0, 0.9, True), (1.0, 1.0, True), (1.0, 1.001, False)])
def test_anchors_that_it_has_not_seen_decide(before, after, kept):
    problem = dense_problem()
    outcome, small = pruned(problem)
    done = repaired(judged_by(problem, [before, after]), outcome, FEW)
    assert done.repaired.kept is kept
    result = remove_units(done.network, problem.units, done.removed)
    wanted = repair(small, problem, FEW) if kept else small
    assert to_onnx(result) == to_onnx(wanted)


def test_a_repair_that_does_harm_is_not_taken():
    problem = dense_problem()
    outcome, _ = pruned(problem)
    done = repaired(problem, outcome, RepairConfig(steps=5, rate=10.0))
    assert not done.repaired.kept
    assert done.repaired.acceptance_drop_after > done.repaired.acceptance_drop_before
    assert done.network is outcome.network


def test_the_imitation_holds_the_logits():
    problem = dense_problem()
    _, small = pruned(problem)
    free, held = (repair(small, problem, replace(FEW, steps=60, imitation=weight)) for weight in (0.0, 10.0))
    x = problem.training_inputs
    gaps = [float(np.mean((n.forward(x) - problem.original.forward(x)) ** 2)) for n in (held, free)]
    assert gaps[0] < gaps[1]


def test_many_boxes_are_drawn_a_few_at_a_time():
    problem = dense_problem()
    _, small = pruned(problem)
    all_at_once, some = (repair(small, problem, replace(FEW, num_boxes=count)) for count in (NUM_BOXES, 4))
    assert to_onnx(all_at_once) != to_onnx(some)
    assert to_onnx(repair(small, problem, replace(FEW, num_boxes=500))) == to_onnx(all_at_once)
    assert problem.signal.drop(some) < problem.signal.drop(small)


def test_interval_bounds_steer_where_they_are_the_signal():
    problem = dense_problem()
    outcome, small = pruned(problem)
    by_intervals = replace(problem, signal=problem.signal.on(problem.signal.boxes, "ibp"))
    assert to_onnx(repair(small, by_intervals, FEW)) != to_onnx(repair(small, problem, FEW))
    assert repaired(by_intervals, outcome, FEW).repaired.drop_before == by_intervals.signal.drop(small)


def test_large_networks_take_fewer_steps(monkeypatch):
    monkeypatch.setattr("paoding_verify.pruning.repair._OPERATIONS", 1.0)
    problem = dense_problem()
    assert repaired(problem, pruned(problem)[0]).repaired.steps == 20


def test_without_acceptance_anchors_nobody_can_judge():
    problem = dense_problem()
    with pytest.raises(ConfigError, match="no acceptance anchors"):
        repaired(replace(problem, acceptance=None), magnitude_l2(problem))


@pytest.mark.parametrize("options", [{"steps": 0}, {"num_boxes": 0}, {"rate": 0.0}, {"imitation": -1.0}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ConfigError, match="a repair needs"):
        RepairConfig(**options)


@pytest.mark.parametrize("method", ["portfolio", "paoding", "obs", "srinivas-babu", "paoding-legacy-impact"])
def test_it_follows_every_structured_method(method):
    network = dense_net(0)
    options = PruneOptions(repair=True, portfolio=PortfolioConfig(MEMBERS[2:3], distillation=DistilConfig(steps=20)))
    result = prune(network, method=method, target_sparsity=0.5, distil=method != "obs", options=options)
    record = result.trace.repaired
    assert record.steps > 0
    assert not record.kept or record.acceptance_drop_after <= record.acceptance_drop_before
    assert sum(result.network.num_units) < sum(network.num_units)


def test_equal_arguments_equal_bytes_and_the_trace_can_be_read_again():
    options = PruneOptions(repair=True)
    first, second = (prune(dense_net(0), method="magnitude-l2", seed=3, options=options) for _ in range(2))
    assert to_onnx(first.network) == to_onnx(second.network)
    assert loads(PruneTrace, dumps(first.trace), "trace") == first.trace
    assert json.loads(dumps(first.trace))["repaired"]["kept"] is first.trace.repaired.kept
    assert first.trace.anchors["num_acceptance"] == first.trace.repaired.num_acceptance


def test_nothing_changes_without_it():
    plain = prune(dense_net(0), method="magnitude-l2")
    assert plain.trace.repaired is None
    assert "num_acceptance" not in plain.trace.anchors


@pytest.mark.parametrize("method", ["lwm", "lwm-layer"])
def test_zero_weights_are_not_repaired(method):
    with pytest.raises(ConfigError, match="a repair"):
        prune(dense_net(0), method=method, options=PruneOptions(repair=True))


def test_judges_are_neither_trained_on_nor_imitated():
    problem = dense_problem()
    judges = {x.tobytes() for x in problem.acceptance.boxes.points}
    seen = [*problem.signal.boxes.points, *problem.training_inputs]
    assert not judges & {x.tobytes() for x in seen}
