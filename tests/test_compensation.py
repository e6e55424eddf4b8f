"""Merging and least squares: what the units that stay take over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.network.evaluate import evaluate_all
from paoding_verify.network.graph import Conv2d, Dense, Network, Op
from paoding_verify.pruning.compensation import best_partners, merge, refit
from paoding_verify.pruning.groups import UnitMap, find_units
from paoding_verify.pruning.saliency import GroupPrices
from paoding_verify.pruning.surgery import mask_units, remove_units
from tests.networks import conv_net, dense_net, pooled_net, residual_net


def with_twins(network: Network, node: int, unit: int, twin: int) -> Network:
    """The network in which `twin` of a producing node computes the same as `unit`."""
    op: Op = network.nodes[node].op
    assert isinstance(op, (Dense, Conv2d))
    weight, bias = op.weight.copy(), op.bias.copy()
    weight[twin], bias[twin] = weight[unit], bias[unit]
    nodes = list(network.nodes)
    nodes[node] = replace(nodes[node], op=replace(op, weight=weight, bias=bias))
    return replace(network, nodes=tuple(nodes))


def inputs_of(network: Network, count: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *network.input_shape)).astype(np.float32)


def partners_of(network: Network, units: UnitMap, removed: list[int], values: list[np.ndarray]) -> dict[int, int]:
    (group,) = [g for g in units.groups if removed[0] in g.atoms]
    read = network.nodes[group.consumers[0]].inputs[0]
    staying = [a for a in group.atoms if a not in removed]
    return best_partners(values[read], units.labels[read], removed, staying)


@pytest.mark.parametrize(("make", "node"), [(dense_net, 0), (dense_net, 2), (pooled_net, 0), (pooled_net, 3)])
def test_merging_a_duplicated_unit_changes_nothing(make, node):
    network = with_twins(make(0), node, unit=0, twin=2)
    units = find_units(network)
    (group,) = [g for g in units.groups if node in g.producers]
    values = evaluate_all(network, inputs_of(network))
    removed = [group.atoms[2]]
    partners = partners_of(network, units, removed, values)
    assert partners == {group.atoms[2]: group.atoms[0]}
    merged = merge(network, units, partners, values, removed)
    fitted, _ = refit(merged, units, removed, values, 1e-2)
    x = inputs_of(network, seed=1)
    for pruned in (merged, fitted):
        small = remove_units(pruned, units, removed)
        np.testing.assert_allclose(small.forward(x), network.forward(x), rtol=1e-3, atol=1e-3)


def test_a_unit_that_never_varies_has_no_partner_and_its_constant_goes_into_the_bias():
    network = dense_net(1)
    first = network.nodes[0].op
    assert isinstance(first, Dense)
    weight, bias = first.weight.copy(), first.bias.copy()
    weight[4], bias[4] = 0.0, 0.75
    network = replace(network, nodes=(replace(network.nodes[0], op=Dense(weight, bias)), *network.nodes[1:]))
    units = find_units(network)
    values = evaluate_all(network, inputs_of(network))
    removed = [units.groups[0].atoms[4]]
    partners = partners_of(network, units, removed, values)
    assert partners == {}
    x = inputs_of(network, seed=1)
    merged = merge(network, units, partners, values, removed)
    np.testing.assert_allclose(merged.forward(x), network.forward(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [dense_net, pooled_net, conv_net, residual_net])
def test_refit_comes_closer_to_the_original_than_masking(make):
    network = make(3)
    units = find_units(network)
    removed = [g.atoms[0] for g in units.groups]
    values = evaluate_all(network, inputs_of(network))
    masked = mask_units(network, units, removed)
    fitted, _ = refit(masked, units, removed, values, 1e-3)
    x = inputs_of(network, seed=1)

    def distance(other: Network) -> float:
        return float(np.mean((other.forward(x) - network.forward(x)) ** 2))

    assert distance(fitted) < distance(masked)


def test_refit_returns_the_values_of_its_network_in_float32_parameters():
    network = residual_net(2)
    units = find_units(network)
    removed = [units.groups[0].atoms[1], units.groups[2].atoms[0]]
    targets = evaluate_all(network, inputs_of(network, 50))
    fitted, values = refit(mask_units(network, units, removed), units, removed, targets, 1e-2)
    np.testing.assert_allclose(values[-1], fitted.forward(targets[0]), rtol=1e-4, atol=1e-4)
    for node in fitted.nodes:
        if isinstance(node.op, (Dense, Conv2d)):
            assert (node.op.weight == node.op.weight.astype(np.float32)).all()
            assert node.op.roundings == 0


def test_refit_without_removals_leaves_the_network_alone():
    network = dense_net(0)
    units = find_units(network)
    targets = evaluate_all(network, inputs_of(network))
    fitted, _ = refit(network, units, [], targets, 1e-2)
    x = inputs_of(network, seed=1)
    np.testing.assert_array_equal(fitted.forward(x), network.forward(x))


@pytest.mark.parametrize("make", [dense_net, pooled_net])
def test_prices_equal_the_loss_of_the_best_refit(make):
    network = make(0)
    units = find_units(network)
    group = units.groups[1]
    values = evaluate_all(network, inputs_of(network))
    prices = GroupPrices(network, units, group, values, 1e-9)
    head = group.consumers[0]
    for atom, price in zip(group.atoms, prices.price(group.atoms), strict=True):
        _, fitted = refit(mask_units(network, units, [atom]), units, [atom], values, 1e-9)
        loss = np.mean(np.sum((fitted[head + 1] - values[head + 1]) ** 2, axis=1))
        variance = values[head + 1].var(axis=0).sum()
        assert price == pytest.approx(loss / variance, rel=1e-2, abs=1e-6)


def test_prices_after_an_elimination_are_those_of_the_smaller_problem():
    network = dense_net(0)
    units = find_units(network)
    group = units.groups[0]
    values = evaluate_all(network, inputs_of(network))
    prices = GroupPrices(network, units, group, values, 1e-9)
    first, second = group.atoms[0], group.atoms[1]
    before = float(prices.price([first])[0])
    prices.eliminate(first)
    both = before + float(prices.price([second])[0])
    _, fitted = refit(mask_units(network, units, [first, second]), units, [first, second], values, 1e-9)
    loss = np.mean(np.sum((fitted[3] - values[3]) ** 2, axis=1)) / values[3].var(axis=0).sum()
    assert both == pytest.approx(loss, rel=1e-2)


def test_a_dead_unit_costs_nothing_and_the_rest_something():
    network = dense_net(2)
    first = network.nodes[0].op
    assert isinstance(first, Dense)
    weight, bias = first.weight.copy(), first.bias.copy()
    weight[3], bias[3] = 0.0, -1.0
    network = replace(network, nodes=(replace(network.nodes[0], op=Dense(weight, bias)), *network.nodes[1:]))
    units = find_units(network)
    group = units.groups[0]
    prices = GroupPrices(network, units, group, evaluate_all(network, inputs_of(network)), 1e-6).price(group.atoms)
    assert int(np.argmin(prices)) == 3
    assert prices[3] < 1e-4 < np.sort(prices)[1]
