"""How many units leave which group."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from paoding_verify.errors import ConfigError
from paoding_verify.pruning.budget import plan_removals, shifted_counts, split_steps
from paoding_verify.pruning.groups import find_units
from tests.networks import chain, conv_net, dense_net, random_dense, residual_net


@pytest.mark.parametrize("target", [0.05, 0.1, 0.27, 0.5, 0.77, 0.9])
def test_single_units_hit_the_target_exactly(target):
    network = dense_net(0, (6, 31, 17, 5, 4))
    counts = plan_removals(find_units(network), sum(network.num_units), target)
    assert sum(counts) == round(target * sum(network.num_units))
    assert all(count < width for count, width in zip(counts, network.num_units, strict=True))


def test_groups_lose_nearly_the_same_fraction():
    network = dense_net(0, (6, 60, 40, 20, 4))
    assert plan_removals(find_units(network), 120, 0.25) == (15, 10, 5)


@pytest.mark.parametrize(("make", "target"), [(residual_net, 0.4), (residual_net, 0.28), (conv_net, 0.4)])
def test_atoms_of_several_units_come_within_one_unit(make, target):
    network = make(0)
    units = find_units(network)
    counts = plan_removals(units, sum(network.num_units), target)
    gone = sum(g.multiplicity * n for g, n in zip(units.groups, counts, strict=True))
    assert abs(gone - round(target * sum(network.num_units))) <= 1


@pytest.mark.parametrize("target", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_targets_outside_the_open_interval_are_errors(target):
    with pytest.raises(ConfigError, match="strictly between 0 and 1"):
        plan_removals(find_units(dense_net(0)), 22, target)


def test_an_unreachable_target_names_the_maximum():
    with pytest.raises(ConfigError, match=r"at most 20 can go \(sparsity 0.9091\)"):
        plan_removals(find_units(dense_net(0)), 22, 0.95)


def test_a_network_without_hidden_units_is_an_error():
    network = chain((4,), random_dense(np.random.default_rng(0), 3, 4))
    with pytest.raises(ConfigError, match="no hidden units"):
        plan_removals(find_units(network), 0, 0.5)


def test_a_target_that_removes_nothing_is_an_error():
    with pytest.raises(ConfigError, match="removes no unit"):
        plan_removals(find_units(dense_net(0)), 22, 0.01)


def test_steps_grow_to_the_plan_and_none_is_empty():
    plan = split_steps((7, 2, 0), 10)
    assert plan[-1] == (7, 2, 0)
    assert all(a != b and all(x <= y for x, y in zip(a, b, strict=True)) for a, b in itertools.pairwise(plan))
    assert plan[0] != (0, 0, 0)


def test_shifted_counts_follow_the_weights_and_keep_the_total():
    units = find_units(dense_net(0, (6, 20, 20, 4)))
    even = shifted_counts(units.groups, (2, 2), (8, 8), (1.0, 1.0))
    shifted = shifted_counts(units.groups, (2, 2), (8, 8), (2.0, 1.0))
    assert even == (8, 8)
    assert shifted == (10, 6)


def test_shifted_counts_give_nothing_back_and_keep_an_atom_of_each_group():
    units = find_units(dense_net(0, (6, 20, 20, 4)))
    assert shifted_counts(units.groups, (0, 15), (10, 11), (1.0, 1.0))[1] >= 15
    assert shifted_counts(units.groups, (18, 0), (19, 5), (9.0, 1.0)) == (19, 5)
