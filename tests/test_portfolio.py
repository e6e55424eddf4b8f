"""The portfolio: many candidates, one choice, on anchors of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.errors import ConfigError
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Network, Relu, Sigmoid, Tanh
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.pruning.costs import linear_macs, signal_macs
from paoding_verify.pruning.distil import DistilConfig
from paoding_verify.pruning.job import Job, draw_inputs
from paoding_verify.pruning.magnitude import magnitude_l2
from paoding_verify.pruning.members import MEMBERS, Member
from paoding_verify.pruning.options import PruneOptions
from paoding_verify.pruning.own_regions import Wanted, anchors_from_inputs, apart, balanced, synthesised_regions
from paoding_verify.pruning.portfolio import PortfolioConfig, portfolio
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.prune import prune
from paoding_verify.pruning.random_choice import random_choice
from paoding_verify.pruning.surgery import remove_units
from paoding_verify.regions import Region
from tests.networks import conv_net, dense_net

CHEAP = (
    Member("random", random_choice, lambda problem: 1.0),
    Member("magnitude", magnitude_l2, lambda problem: 1.0),
    replace(MEMBERS[0], name="obs"),
)
SHORT = DistilConfig(steps=20)


def problem_of(network: Network, target: float = 0.5, **settings: object) -> PruneProblem:
    from paoding_verify.pruning.groups import find_units

    own, inputs, user = draw_inputs(network, None, None, domain=None, seed=0, wanted=Wanted(selection=True))
    job = Job(
        original=network, units=find_units(network), own=own, inputs=inputs, user=user, method=portfolio, seed=0,
        progress=lambda doing, done, total: None, exact_plan=False,
    )  # fmt: skip
    return replace(job.problem(target), **settings)


@pytest.mark.parametrize("make", [dense_net, conv_net])
def test_no_member_is_better_than_the_choice(make):
    problem = problem_of(make(0))
    outcome = portfolio(problem, PortfolioConfig(CHEAP, distillation=SHORT))
    (chosen,) = (c for c in outcome.candidates if c.chosen)
    assert chosen.signal == min(c.signal for c in outcome.candidates)
    small = remove_units(outcome.network, problem.units, outcome.removed)
    assert problem.selection.lost(small) == chosen.signal
    assert small.num_units == chosen.num_units
    for member, rng in zip(CHEAP, np.random.default_rng(0).spawn(len(CHEAP)), strict=True):
        alone = member.run(replace(problem, rng=rng))
        lost = problem.selection.lost(remove_units(alone.network, problem.units, alone.removed))
        assert lost >= chosen.signal
        assert lost == next(c.signal for c in outcome.candidates if c.name == member.name)


def test_a_distillation_that_does_harm_is_not_taken():
    harmful = DistilConfig(steps=30, rate=1.0)
    outcome = portfolio(problem_of(dense_net(0)), PortfolioConfig(CHEAP, distillation=harmful))
    names = {c.name: c for c in outcome.candidates}
    best = min(("random", "magnitude", "obs"), key=lambda name: names[name].signal)
    assert set(names) == {"random", "magnitude", "obs", f"{best}, distilled"}
    assert not names[f"{best}, distilled"].chosen
    assert names[best].chosen


def test_a_distillation_that_helps_is_taken():
    """The only member forgets to make up for what it removed."""
    config = PortfolioConfig(CHEAP[:1], distillation=DistilConfig(steps=1000))
    first, second = portfolio(problem_of(dense_net(0)), config).candidates
    assert second.signal < first.signal
    assert second.chosen


def test_the_same_network_is_not_distilled_twice():
    twins = (CHEAP[1], replace(CHEAP[1], name="again"))
    outcome = portfolio(problem_of(dense_net(0)), PortfolioConfig(twins, num_distilled=2, distillation=SHORT))
    assert [c.name for c in outcome.candidates] == ["magnitude", "again", "magnitude, distilled"]
    assert sum(c.chosen for c in outcome.candidates) == 1


def test_members_run_while_the_effort_lasts_and_the_first_always():
    costs = {"a": 5.0, "b": 100.0, "c": 4.0}
    members = tuple(Member(name, magnitude_l2, lambda problem, m=macs: m) for name, macs in costs.items())
    problem = problem_of(dense_net(0))

    def names(effort: float) -> list[str]:
        config = PortfolioConfig(members, effort_macs=effort, num_distilled=0)
        return [c.name for c in portfolio(problem, config).candidates]

    assert names(1.0) == ["a"]
    assert names(9.0) == ["a", "c"]
    assert names(1000.0) == ["a", "b", "c"]


def test_members_that_shift_removals_between_layers_are_left_out_where_the_plan_counts():
    tilted = Member("tilted", magnitude_l2, lambda problem: 1.0, keeps_plan=False)
    config = PortfolioConfig((tilted, CHEAP[1]), num_distilled=0)
    assert [c.name for c in portfolio(problem_of(dense_net(0), exact_plan=True), config).candidates] == ["magnitude"]
    with pytest.raises(ConfigError, match="keeps to the plan"):
        PortfolioConfig((tilted,))


def test_a_member_that_fails_fails_the_run():
    def fail(problem: PruneProblem) -> PruneOutcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        portfolio(problem_of(dense_net(0)), PortfolioConfig((Member("broken", fail, lambda problem: 1.0),)))


def test_without_selection_anchors_there_is_no_choice():
    with pytest.raises(ConfigError, match="no selection anchors"):
        portfolio(problem_of(dense_net(0), selection=None))


def test_estimates_grow_with_the_network_and_with_tightness():
    small, large = dense_net(0), dense_net(0, (6, 24, 20, 4))
    assert linear_macs(small) == [72, 0, 120, 0, 40]
    for method in ("ibp", "crown-ibp", "crown"):
        assert signal_macs(large, 8, method) > signal_macs(small, 8, method)
    assert signal_macs(small, 8, "ibp") < signal_macs(small, 8, "crown-ibp") < signal_macs(small, 8, "crown")
    problem = problem_of(small)
    assert all(member.macs(problem) > 0 for member in MEMBERS)
    assert len({member.name for member in MEMBERS}) == len(MEMBERS)


def test_the_same_seed_gives_the_same_bytes():
    options = PruneOptions(portfolio=PortfolioConfig(CHEAP, distillation=SHORT))
    first, again, other = (prune(dense_net(4), target_sparsity=0.5, seed=seed, options=options) for seed in (2, 2, 3))
    assert to_onnx(first.network) == to_onnx(again.network)
    assert [replace(c, elapsed_s=None) for c in first.trace.candidates] == [
        replace(c, elapsed_s=None) for c in again.trace.candidates
    ]
    assert canonical_digest(first.network) != canonical_digest(other.network)


@pytest.mark.parametrize("op", [Sigmoid(), Tanh()])
def test_smooth_activations(op):
    network = dense_net(0)
    network = replace(
        network, nodes=tuple(replace(n, op=op if isinstance(n.op, Relu) else n.op) for n in network.nodes)
    )
    options = PruneOptions(portfolio=PortfolioConfig(CHEAP[1:], distillation=SHORT))
    result = prune(network, target_sparsity=0.5, options=options)
    assert sum(result.network.num_units) == 11
    assert len(result.trace.candidates) == 3


def sets_of(network: Network, **sources: object) -> list[set[bytes]]:
    """Points of steering, selection, held-out and acceptance anchors and of compensation."""
    wanted = Wanted(selection=True, held_out=True, acceptance=True)
    settings = {"regions": None, "inputs": None, "domain": None, "seed": 0} | sources
    own, inputs, _ = draw_inputs(network, settings.pop("regions"), settings.pop("inputs"), wanted=wanted, **settings)
    signals = (own.signal, own.selection, own.held_out, own.acceptance)
    return [{x.tobytes() for x in part} for part in (*(s.boxes.points for s in signals), inputs)]


def around(points: np.ndarray) -> list[Region]:
    return [Region(f"r{k}", x - 0.01, x + 0.01, x.astype(np.float32), None, 0.01) for k, x in enumerate(points)]


@pytest.mark.parametrize("source", ["synthesised", "many regions", "few regions", "inputs", "few inputs", "corners"])
def test_all_sets_of_points_are_disjoint(source):
    network = dense_net(0, (2, 6, 3)) if source == "corners" else dense_net(0)
    points = np.random.default_rng(5).uniform(0, 1, (48, 6))
    given = {
        "many regions": {"regions": around(points)}, "few regions": {"regions": around(points[:5])},
        "inputs": {"inputs": points.astype(np.float32)}, "few inputs": {"inputs": points[:5].astype(np.float32)},
    }  # fmt: skip
    sets = sets_of(network, **given.get(source, {}))
    assert all(sets)
    for k, one in enumerate(sets):
        assert all(not one & other for other in sets[k + 1 :])
    if source == "inputs":
        used = {x.tobytes() for x in points.astype(np.float32)}
        assert all(part <= used for part in sets[:4])
        assert used & sets[4]


def test_anchors_are_spread_over_the_classes():
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])
    assert labels[balanced(labels, 6)].tolist() == [0, 0, 0, 1, 1, 2]
    assert balanced(labels, 20).tolist() == list(range(9))


def test_points_that_coincide_are_left_out():
    points = np.array([[0.0], [1.0], [0.5]], dtype=np.float32)
    np.testing.assert_array_equal(apart(points, [points[:1]]), points[1:])
    with pytest.raises(ConfigError, match="wider"):
        apart(points, [points])


def test_the_radius_can_be_given():
    own, rest = anchors_from_inputs(
        dense_net(0), np.full((40, 6), 0.5, dtype=np.float32) + np.arange(40, dtype=np.float32)[:, None] / 100, None,
        seed=0, wanted=Wanted(eps=0.03),
    )  # fmt: skip
    boxes = own.signal.boxes
    np.testing.assert_allclose((boxes.upper - boxes.lower)[boxes.upper < 1], 0.06, rtol=1e-6)
    assert own.record["eps"] == 0.03
    assert len(rest) == 30


def test_around_given_inputs_the_radius_stays_small():
    sure = dense_net(0)
    last = sure.nodes[-1]
    bias = np.zeros_like(last.op.bias)
    bias[0] = 1e3  # certified wherever one looks
    sure = Network(sure.input_shape, (*sure.nodes[:-1], replace(last, op=replace(last.op, bias=bias))))
    inputs = np.random.default_rng(0).uniform(size=(40, 6)).astype(np.float32)
    own, _ = anchors_from_inputs(sure, inputs, None, seed=0)
    assert own.record["eps"] == pytest.approx(0.05)
    assert "at most" in str(own.record["eps_rule"])
    wide, _ = anchors_from_inputs(sure, inputs, (np.zeros(6), np.full(6, 10.0)), seed=0)
    assert wide.record["eps"] == pytest.approx(0.5)
    given, _ = anchors_from_inputs(sure, inputs, None, seed=0, wanted=Wanted(eps=0.3))
    assert given.record["eps"] == 0.3
    synthesised = synthesised_regions(sure, 0, None)
    assert synthesised.record["eps"] == pytest.approx(0.2)
