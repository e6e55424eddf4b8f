"""Structured optimal brain surgeon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.anchors import compensation_inputs
from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.property import predicts
from paoding_verify.network.graph import Conv2d, Dense, Network, Relu
from paoding_verify.pruning.budget import plan_removals, split_steps, tilted_counts
from paoding_verify.pruning.groups import find_units
from paoding_verify.pruning.magnitude import magnitude_l2
from paoding_verify.pruning.obs import ObsConfig, obs
from paoding_verify.pruning.own_regions import synthesised_regions
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.surgery import remove_units
from tests.networks import chain, conv_net, dense_net, residual_net


def problem_of(network: Network, target: float, num_steps: int = 4) -> PruneProblem:
    units = find_units(network)
    plan = split_steps(plan_removals(units, sum(network.num_units), target), num_steps)
    own = synthesised_regions(network, 0, (-1.0, 1.0))
    return PruneProblem(
        original=network, units=units, plan=tuple(plan), signal=own.signal,
        inputs=compensation_inputs(network, 300, seed=0, domain=(-1.0, 1.0)), rng=np.random.default_rng(0),
        progress=lambda doing, done, total: None, domain=(-1.0, 1.0),
    )  # fmt: skip


def doubled_net(seed: int) -> Network:
    """Every unit of the first layer is there twice: half of them can go without any loss."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(8, 5)).astype(np.float32).astype(float)
    second = rng.normal(size=(6, 16)).astype(np.float32).astype(float)
    head = rng.normal(size=(3, 6)).astype(np.float32).astype(float)
    return chain(
        (5,), Dense(np.repeat(first, 2, axis=0), np.zeros(16)), Relu(), Dense(second, np.zeros(6)), Relu(),
        Dense(head, np.zeros(3)),
    )  # fmt: skip


def error(problem: PruneProblem, outcome: PruneOutcome) -> float:
    """Root mean square change of the logits on fresh inputs, relative to their spread."""
    x = compensation_inputs(problem.original, 300, seed=7, domain=(-1.0, 1.0))
    small = remove_units(outcome.network, problem.units, outcome.removed)
    y = problem.original.forward(x)
    return float(np.sqrt(np.mean((small.forward(x) - y) ** 2) / y.var()))


@pytest.mark.parametrize("make", [dense_net, conv_net, residual_net])
@pytest.mark.parametrize("num_steps", [1, None])
def test_the_plan_is_carried_out(make, num_steps):
    problem = problem_of(make(0), 0.5)
    outcome = obs(problem, ObsConfig(tilt=0.0, num_steps=num_steps))
    for group, count in zip(problem.units.groups, problem.plan[-1], strict=True):
        assert len(outcome.removed & set(group.atoms)) == count
    moves = [move for step in outcome.steps for move in step.accepted]
    assert len(moves) == round(problem.sparsity(outcome.removed) * problem.num_units)
    assert len(outcome.steps) == (num_steps or len(problem.plan))


def test_one_of_two_equal_units_goes_and_nothing_is_lost():
    problem = problem_of(doubled_net(0), 8 / 22)
    problem = replace(problem, plan=((8, 0),))
    outcome = obs(problem, ObsConfig(ridge=1e-6, tilt=0.0))
    gone = sorted(move.removed for move in outcome.steps[0].accepted)
    assert [unit // 2 for unit in gone] == list(range(8))
    assert error(problem, outcome) < 1e-2


@pytest.mark.parametrize("make", [dense_net, conv_net])
@pytest.mark.parametrize("seed", range(2))
def test_less_is_lost_than_with_the_smallest_weights_removed(make, seed):
    problem = problem_of(make(seed), 0.4)
    assert error(problem, obs(problem)) < 0.8 * error(problem, magnitude_l2(problem))


def test_it_is_deterministic():
    problem = problem_of(dense_net(1), 0.5)
    first, again = obs(problem), obs(problem)
    assert first.removed == again.removed
    x = problem.inputs[:20]
    np.testing.assert_array_equal(first.network.forward(x), again.network.forward(x))


def test_the_metric_of_margins_spares_what_margins_feel():
    """Two units alike but for the logits they feed: one pair of logits decides everywhere, another never matters."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(12, 6)).astype(np.float32).astype(float)
    second = np.zeros((4, 12))
    second[:2, :6], second[2:, 6:] = 1.0 * rng.normal(size=(2, 6)), 3.0 * rng.normal(size=(2, 6))
    low = np.array([0.0, 0.0, -100.0, -100.0])
    network = chain((6,), Dense(first, np.zeros(12)), Relu(), Dense(second.astype(np.float32).astype(float), low))
    problem = problem_of(network, 0.5)
    plain, weighed = obs(problem), obs(problem, ObsConfig(metric="certified-gradient"))
    deciding = set(problem.units.groups[0].atoms[:6])
    assert len(weighed.removed & deciding) < len(plain.removed & deciding)


@pytest.mark.parametrize("make", [conv_net, residual_net])
def test_gradients_of_margins_match_differences(make):
    network = make(0)
    problem = problem_of(network, 0.5)
    bounder = LirpaBounder(network)
    x = problem.inputs[:2].astype(float)
    rows = np.stack([predicts(0, network.num_outputs).rows] * 2)
    gradients = bounder.bias_gradients(x - 0.01, x + 0.01, rows)

    def worst(changed: Network) -> np.ndarray:
        bounder.load(changed)
        found = bounder.lower_bounds(x - 0.01, x + 0.01, rows, np.zeros(rows.shape[:2])).lower
        return -np.log(np.exp(-found).sum(axis=1))

    for place, node in enumerate(network.nodes):
        if isinstance(node.op, (Dense, Conv2d)):
            assert gradients[place].shape == (2, len(node.op.bias))
            shift = np.zeros(len(node.op.bias))
            shift[0] = 1e-3
            up, down = (
                replace(network, nodes=tuple(
                    replace(n, op=replace(n.op, bias=n.op.bias + sign * shift)) if n is node else n
                    for n in network.nodes
                ))
                for sign in (1, -1)
            )  # fmt: skip
            np.testing.assert_allclose(gradients[place][:, 0], (worst(up) - worst(down)) / 2e-3, rtol=0.1, atol=0.02)


def test_a_tilt_moves_removals_to_the_front_and_keeps_their_number():
    groups = find_units(dense_net(0, (6, 20, 20, 20, 4))).groups
    assert tilted_counts(groups, (10, 10, 10), 0.2) == (12, 10, 8)
    assert tilted_counts(groups, (10, 10, 10), -0.4) == (6, 10, 14)
    assert tilted_counts(groups, (10, 10, 10), 0.0) == (10, 10, 10)


def test_a_tilt_never_empties_a_layer():
    groups = find_units(dense_net(0, (6, 20, 10, 4))).groups
    assert tilted_counts(groups, (18, 9), 0.9) == (19, 8)


def test_a_tilted_run_removes_what_the_tilt_says():
    problem = problem_of(dense_net(0, (6, 20, 20, 4)), 0.5)
    outcome = obs(problem, ObsConfig(tilt=0.2))
    assert [len(outcome.removed & set(g.atoms)) for g in problem.units.groups] == [12, 8]


@pytest.mark.parametrize(
    "options", [{"ridge": 0.0}, {"ridge": float("nan")}, {"tilt": 1.0}, {"num_steps": 0}, {"metric": "x"}]
)
def test_impossible_variants_are_refused(options):
    with pytest.raises(ConfigError, match="must be"):
        ObsConfig(**options)
