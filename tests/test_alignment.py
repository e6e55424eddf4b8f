"""Alignments: the kept units are found again, whatever their order."""

from __future__ import annotations

import numpy as np
import pytest

from paoding_verify.equivalence.alignment import find_alignment, same_structure
from paoding_verify.network.graph import Network
from tests.networks import chain, conv_net, dense_net, random_dense, residual_net
from tests.pairs import identity_alignment, perturbed, without_units
from tests.test_differential import two_convolutions


def inputs(network: Network) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(40, *network.input_shape)).astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_kept_units_are_found_in_any_order(noise: float) -> None:
    f = dense_net(0)
    kept = ((7, 0, 3, 11, 4, 6, 1, 9), (8, 2, 5, 0, 1, 9))
    assert find_alignment(f, perturbed(without_units(f, kept), 1, noise), inputs(f)) == kept


def test_channels_are_found() -> None:
    f = two_convolutions(1)
    kept = ((3, 0, 2), (0, 3, 1))
    assert find_alignment(f, without_units(f, kept), inputs(f)) == kept


@pytest.mark.parametrize("network", [dense_net(2), conv_net(2), residual_net(2)])
def test_a_network_is_aligned_with_itself(network: Network) -> None:
    assert find_alignment(network, network, inputs(network)) == identity_alignment(network)


def test_units_that_never_differ_on_the_inputs_keep_their_place() -> None:
    f = dense_net(4)
    f.nodes[0].op.weight[5] = f.nodes[0].op.weight[8]  # type: ignore[union-attr]
    f.nodes[0].op.bias[5] = f.nodes[0].op.bias[8]  # type: ignore[union-attr]
    assert find_alignment(f, f, inputs(f)) == identity_alignment(f)


def test_the_scale_of_a_layer_does_not_matter() -> None:
    f = dense_net(5)
    f.nodes[0].op.weight[:] *= 2.0**-40  # type: ignore[union-attr]
    f.nodes[0].op.bias[:] *= 2.0**-40  # type: ignore[union-attr]
    kept = ((6, 2, 0, 4, 9, 1, 3, 11), tuple(range(10)))
    assert find_alignment(f, without_units(f, kept), inputs(f)) == kept


def test_every_alignment_names_distinct_units() -> None:
    f, g = dense_net(6), dense_net(7, (6, 9, 9, 4))
    found = find_alignment(f, g, inputs(f))
    assert found is not None
    assert [len(set(units)) for units in found] == [9, 9]


def test_other_structures_have_no_alignment() -> None:
    rng = np.random.default_rng(0)
    f = dense_net(8)
    deeper, wider = dense_net(8, (6, 12, 10, 10, 4)), dense_net(8, (6, 13, 10, 4))
    linear = chain((6,), random_dense(rng, 4, 6))
    for g in (deeper, wider, linear):
        assert not same_structure(f, g)
        assert find_alignment(f, g, inputs(f)) is None
    assert find_alignment(linear, linear, inputs(linear)) == ()
