"""Merging from weights alone."""

from __future__ import annotations

import numpy as np
import pytest

from paoding_verify.network.graph import Conv2d, Dense, Network, Relu, Reshape
from paoding_verify.pruning.prune import prune
from paoding_verify.regions import Region
from tests.networks import chain, random_conv, random_dense


def points(network: Network) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (6, *network.input_shape)).astype(np.float32)


def half(network: Network, method: str, target: float = 0.5) -> Network:
    own = [Region(f"r{k}", x.astype(float) - 0.01, x + 0.01, x, 0, 0.01) for k, x in enumerate(points(network))]
    return prune(network, own, target_sparsity=target, method=method).network


def doubled_dense(factor: float) -> Network:
    """Eight hidden units; the last four are the first four times a factor."""
    rng = np.random.default_rng(1)
    part = random_dense(rng, 4, 5)
    first = Dense(np.vstack([part.weight, factor * part.weight]), np.concatenate([part.bias, factor * part.bias]))
    return chain((5,), first, Relu(), random_dense(rng, 3, 8))


def doubled_conv() -> Network:
    rng = np.random.default_rng(1)
    part = random_conv(rng, 3, 2, 2)
    first = Conv2d(np.concatenate([part.weight] * 2), np.concatenate([part.bias] * 2))
    return chain((2, 3, 3), first, Relu(), Reshape((24,)), random_dense(rng, 3, 24))


def assert_equal_outputs(first: Network, second: Network) -> None:
    x = points(first)
    np.testing.assert_allclose(first.forward(x), second.forward(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["srinivas-babu", "srinivas-babu-projection"])
@pytest.mark.parametrize("network", [doubled_dense(1.0), doubled_conv()])
def test_merging_equal_units_changes_nothing(method, network):
    assert_equal_outputs(network, half(network, method))


def test_projection_merges_multiples_without_loss_and_plain_merging_does_not():
    network = doubled_dense(2.0)
    assert_equal_outputs(network, half(network, "srinivas-babu-projection"))
    with pytest.raises(AssertionError):
        assert_equal_outputs(network, half(network, "srinivas-babu"))


def test_units_of_opposite_direction_do_not_stand_for_each_other():
    first = Dense(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.zeros(4))
    network = chain((2,), first, Relu(), Dense(np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0]]), np.zeros(2)))
    assert_equal_outputs(network, half(network, "srinivas-babu-projection", target=0.25))


def test_the_unit_that_leaves_is_the_one_whose_outgoing_weights_are_small():
    first = Dense(np.array([[1.0, 0.0], [1.1, 0.0], [0.0, 1.0], [0.0, 9.0]]), np.zeros(4))
    second = Dense(np.array([[5.0, 0.1, 5.0, 5.0], [0.0, 0.0, 1.0, 0.0]]), np.zeros(2))
    network = chain((2,), first, Relu(), second)
    small = half(network, "srinivas-babu", target=0.25)
    kept = small.nodes[2].op
    assert isinstance(kept, Dense)
    np.testing.assert_allclose(kept.weight, [[5.1, 5.0, 5.0], [0.0, 1.0, 0.0]], rtol=1e-6)


def test_the_bias_belongs_to_the_weights():
    first = Dense(np.array([[1.0, 0.0], [1.0, 0.0], [1.1, 0.0]]), np.array([0.0, 3.0, 0.0]))
    network = chain((2,), first, Relu(), Dense(np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]), np.zeros(2)))
    small = half(network, "srinivas-babu", target=0.34)
    kept = small.nodes[0].op
    assert isinstance(kept, Dense)
    assert 3.0 in kept.bias


def test_magnitude_by_sum_and_by_square_differ_where_they_should():
    first = Dense(np.array([[0.5, 0.5], [0.8, 0.0], [2.0, 2.0], [3.0, 0.0]]), np.zeros(4))
    network = chain((2,), first, Relu(), Dense(np.ones((2, 4)), np.zeros(2)))
    by_sum, by_square = (half(network, f"magnitude-{norm}", target=0.25).nodes[0].op for norm in ("l1", "l2"))
    assert isinstance(by_sum, Dense)
    assert isinstance(by_square, Dense)
    assert [0.8, 0.0] not in np.round(by_sum.weight, 3).tolist()
    assert [0.5, 0.5] not in np.round(by_square.weight, 3).tolist()
