"""Removal of units: the smaller network computes what the masked one computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.errors import ConfigError
from paoding_verify.network.graph import Affine, Dense, Network, Permute, Relu, Reshape, Sigmoid, Tanh
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.pruning.groups import UnitMap, find_units
from paoding_verify.pruning.surgery import alignment, mask_units, remove_units
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net


def depthwise_net(seed: int) -> Network:
    """Depthwise convolution with two filters for each channel, channels-last flattening."""
    rng = np.random.default_rng(seed)
    return chain(
        (1, 5, 5), random_conv(rng, 4, 1, 2), Affine(rng.uniform(1, 2, (4, 1, 1)), np.full((1, 1, 1), 0.5)), Relu(),
        random_conv(rng, 8, 1, 3, groups=4), Tanh(), Permute((1, 2, 0)), Reshape((32,)), random_dense(rng, 3, 32),
    )  # fmt: skip


def sigmoid_net(seed: int) -> Network:
    """Dense network with sigmoids, whose removed units do not vanish by themselves."""
    network = dense_net(seed)
    return replace(network, nodes=tuple(replace(n, op=Sigmoid() if n.op == Relu() else n.op) for n in network.nodes))


def some_atoms(units: UnitMap, seed: int) -> set[int]:
    """Random atoms, at least one of every group stays."""
    rng = np.random.default_rng(seed)
    return {
        int(atom) for g in units.groups for atom in rng.permutation(g.atoms)[: rng.integers(0, len(g.atoms))].tolist()
    }


def inputs_of(network: Network, count: int = 20) -> np.ndarray:
    return np.random.default_rng(99).normal(size=(count, *network.input_shape)).astype(np.float32)


MAKERS = [dense_net, conv_net, pooled_net, residual_net, depthwise_net, sigmoid_net]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("seed", range(4))
def test_pruned_equals_masked(make, seed):
    network = make(seed)
    units = find_units(network)
    removed = some_atoms(units, seed)
    small, masked = remove_units(network, units, removed), mask_units(network, units, removed)
    x = inputs_of(network)
    np.testing.assert_allclose(small.forward(x), masked.forward(x), rtol=1e-4, atol=1e-4)
    gone = sum(g.multiplicity for g in units.groups for a in g.atoms if a in removed)
    assert sum(small.num_units) == sum(network.num_units) - gone
    assert small.num_parameters < network.num_parameters or not removed


@pytest.mark.parametrize("make", [dense_net, residual_net])
def test_masking_changes_what_the_network_computes(make):
    network = make(0)
    units = find_units(network)
    masked = mask_units(network, units, {units.groups[0].atoms[0]})
    x = inputs_of(network)
    assert np.abs(masked.forward(x) - network.forward(x)).max() > 1e-3


def test_nothing_removed_is_the_network_itself():
    network = residual_net(1)
    units = find_units(network)
    x = inputs_of(network)
    np.testing.assert_array_equal(remove_units(network, units, set()).forward(x), network.forward(x))


def test_removing_dead_units_changes_nothing():
    network = dense_net(2)
    first = network.nodes[0].op
    assert isinstance(first, Dense)
    weight, bias = first.weight.copy(), first.bias.copy()
    weight[[3, 7]], bias[[3, 7]] = 0.0, -1.0
    dead = replace(network, nodes=(replace(network.nodes[0], op=Dense(weight, bias)), *network.nodes[1:]))
    units = find_units(dead)
    small = remove_units(dead, units, {units.groups[0].atoms[3], units.groups[0].atoms[7]})
    x = inputs_of(network)
    assert small.num_units == (10, 10)
    np.testing.assert_allclose(small.forward(x), dead.forward(x), rtol=1e-5, atol=1e-6)


def test_the_last_atom_of_a_group_stays():
    network = dense_net(0)
    units = find_units(network)
    for act in (mask_units, remove_units):
        with pytest.raises(ConfigError, match=r"empty layer\(s\) \[1\]"):
            act(network, units, units.groups[1].atoms)


def test_alignment_names_the_original_units_in_order():
    network = residual_net(0)
    units = find_units(network)
    stream, block, dense = units.groups
    kept = alignment(network, units, {stream.atoms[1], block.atoms[0], dense.atoms[2], dense.atoms[5]})
    assert kept == ((0, 2), (1, 2), (0, 2), (0, 1, 3, 4, 6, 7), (0, 1, 3, 4, 6, 7))


def test_folded_rounding_is_carried_along():
    network = dense_net(0)
    first = network.nodes[0].op
    assert isinstance(first, Dense)
    folded = replace(first, bias_magnitude=np.arange(12.0) + 5, roundings=3)
    network = replace(network, nodes=(replace(network.nodes[0], op=folded), *network.nodes[1:]))
    units = find_units(network)
    op = remove_units(network, units, {units.groups[0].atoms[0]}).nodes[0].op
    assert isinstance(op, Dense)
    assert op.bias_magnitude is not None
    assert op.bias_magnitude.tolist() == (np.arange(11.0) + 6).tolist()
    assert op.roundings == 3


@pytest.mark.parametrize("make", [dense_net, conv_net, residual_net])
def test_onnxruntime_runs_the_smaller_network(make):
    network = make(0)
    units = find_units(network)
    small = remove_units(network, units, some_atoms(units, 5))
    x = inputs_of(network)
    np.testing.assert_allclose(OnnxProgram(to_onnx(small)).run(x), small.forward(x), rtol=1e-4, atol=1e-4)
