"""Which units go together."""

from __future__ import annotations

import itertools

import numpy as np

from paoding_verify.network.graph import Add, Affine, Network, Node, Permute, Relu, Reshape
from paoding_verify.pruning.groups import FIXED, find_units, varying_axis
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net


def test_every_hidden_unit_of_a_dense_network_is_an_atom_of_its_layer():
    units = find_units(dense_net(0))
    assert [len(g.atoms) for g in units.groups] == [12, 10]
    assert [(g.producers, g.consumers, g.multiplicity) for g in units.groups] == [((0,), (2,), 1), ((2,), (4,), 1)]
    assert units.excluded == ()
    assert units.max_removable == 11 + 9


def test_inputs_and_outputs_are_fixed():
    units = find_units(dense_net(0))
    assert (units.labels[0] == FIXED).all()
    assert (units.labels[-1] == FIXED).all()


def test_channels_keep_their_label_through_pools_and_flattening():
    network = pooled_net(0)
    units = find_units(network)
    assert [g.consumers for g in units.groups] == [(3,), (7,)]
    flat = units.labels[7]
    assert flat.shape == (16,)
    assert [len(set(part)) for part in flat.reshape(4, 4).tolist()] == [1, 1, 1, 1]


def test_a_residual_stream_is_one_group():
    units = find_units(residual_net(0))
    layers = [tuple(layer for layer, _ in g.members[0]) for g in units.groups]
    assert layers == [(0, 2), (1,), (3, 4)]
    assert units.groups[0].producers == (0, 4)
    assert units.groups[0].consumers == (2, 8)


def test_a_grouped_convolution_ties_the_same_place_of_every_group():
    units = find_units(conv_net(0))
    assert [g.members for g in units.groups] == [
        tuple(((0, k), (0, k + 2)) for k in range(2)),
        tuple(((1, k), (1, k + 3)) for k in range(3)),
    ]


def test_a_depthwise_convolution_passes_channels_on():
    rng = np.random.default_rng(0)
    network = chain(
        (1, 4, 4), random_conv(rng, 3, 1, 1), Relu(), random_conv(rng, 6, 1, 3, groups=3), Relu(), Reshape((24,)),
        random_dense(rng, 2, 24),
    )  # fmt: skip
    (group,) = find_units(network).groups
    assert group.members == tuple(((0, k), (1, 2 * k), (1, 2 * k + 1)) for k in range(3))
    assert group.producers == (0,)
    assert group.consumers == (5,)


def test_units_added_to_the_input_are_excluded_with_the_reason():
    rng = np.random.default_rng(0)
    nodes = [Node(random_dense(rng, 5, 5), (0,), "fc"), Node(Add(), (1, 0), "add"), Node(Relu(), (2,), "act")]
    units = find_units(Network((5,), (*nodes, Node(random_dense(rng, 2, 5), (3,), "head"))))
    assert units.groups == ()
    assert units.excluded == ("layer 0 (act): it is added to a value from which nothing can be removed",)


def test_activations_of_the_output_and_of_the_input_are_excluded():
    rng = np.random.default_rng(0)
    units = find_units(chain((5,), Relu(), random_dense(rng, 3, 5), Relu()))
    assert units.groups == ()
    assert [text.split(": ")[1] for text in units.excluded] == [
        "it comes straight from the input",
        "it feeds the network's output directly",
    ]


def test_units_reshaped_into_a_picture_are_excluded_where_a_convolution_reads_them():
    rng = np.random.default_rng(0)
    network = chain(
        (5,), random_dense(rng, 8, 5), Relu(), Reshape((2, 2, 2)), random_conv(rng, 3, 2, 2), Relu(), Reshape((3,)),
        random_dense(rng, 2, 3),
    )  # fmt: skip
    units = find_units(network)
    assert [len(g.atoms) for g in units.groups] == [3]
    assert "spreads them over several axes" in units.excluded[0]


def test_channels_last_flattening_keeps_the_labels():
    rng = np.random.default_rng(0)
    network = chain(
        (1, 3, 3), random_conv(rng, 4, 1, 2), Relu(), Permute((1, 2, 0)), Reshape((16,)), random_dense(rng, 2, 16)
    )
    units = find_units(network)
    assert units.labels[4].tolist() == list(itertools.chain(*[units.groups[0].atoms] * 4))


def test_normalisation_between_layers_does_not_part_units():
    rng = np.random.default_rng(0)
    scaling = Affine(np.full((4, 1, 1), 2.0), np.ones((1, 1, 1)))
    layers = (random_conv(rng, 4, 1, 2), scaling, Relu(), Reshape((16,)), random_dense(rng, 2, 16))
    (group,) = find_units(chain((1, 3, 3), *layers)).groups
    assert len(group.atoms) == 4


def test_varying_axis():
    column = np.arange(3)[:, None]
    assert varying_axis(np.broadcast_to(column, (3, 4))) == 0
    assert varying_axis(np.broadcast_to(column.T, (4, 3))) == 1
    assert varying_axis(column + 10 * column.T) is None
