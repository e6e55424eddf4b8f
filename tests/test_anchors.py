"""Synthetic inputs: legal, balanced over classes, repeatable."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from scipy import ndimage

from paoding_verify.anchors import compensation_inputs, picture_layout, synthesise_anchors
from paoding_verify.errors import ConfigError
from paoding_verify.generators import noise, num_kinds
from paoding_verify.network.graph import Dense, Network, Relu
from tests.networks import chain, conv_net, dense_net


def picture_like_net(seed: int) -> Network:
    """A dense network on flattened 8 x 8 pictures whose first layer has smooth weights."""
    rng = np.random.default_rng(seed)
    weight = ndimage.gaussian_filter(rng.normal(size=(20, 8, 8)), (0, 1.2, 1.2)).reshape(20, 64)
    head = rng.normal(size=(4, 20))
    layers = [Dense(weight.astype(np.float32).astype(float), np.zeros(20)), Relu()]
    return chain((64,), *layers, Dense(head.astype(np.float32).astype(float), np.zeros(4)))


def largest_feature_net(seed: int) -> Network:
    """Predicts the largest of the first four features; the seed does not matter."""
    return chain((6,), Dense(np.eye(4, 6), np.zeros(4)), Relu(), Dense(np.eye(4), np.zeros(4)))


def test_anchors_are_float32_points_of_the_domain():
    anchors = synthesise_anchors(dense_net(0), 30, seed=1, domain=(-0.5, 2.0))
    assert anchors.shape == (30, 6)
    assert anchors.dtype == np.float32
    assert (anchors >= -0.5).all()
    assert (anchors <= 2.0).all()


def test_domain_may_differ_from_feature_to_feature():
    low, high = np.arange(6) - 3.0, np.arange(6) * 2.0
    anchors = synthesise_anchors(dense_net(0), 40, seed=0, domain=(low, high))
    assert (anchors >= low).all()
    assert (anchors <= high).all()


@pytest.mark.parametrize("make", [largest_feature_net, conv_net, picture_like_net])
def test_classes_are_balanced(make):
    network = make(3)
    count = 10 * network.num_outputs
    predicted = network.forward(synthesise_anchors(network, count, seed=0, domain=(-2.0, 2.0))).argmax(axis=1)
    assert np.mean(predicted == np.arange(count) % network.num_outputs) > 0.8


def test_same_seed_same_points_and_another_seed_others():
    network = dense_net(1)
    first, again, other = (synthesise_anchors(network, 12, seed=s) for s in (5, 5, 6))
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, other)


def test_compensation_inputs_share_no_point_with_anchors():
    network = dense_net(1)
    anchors = synthesise_anchors(network, 50, seed=0)
    inputs = compensation_inputs(network, 50, seed=0)
    distances = np.abs(anchors[:, None] - inputs[None]).max(axis=2)
    assert distances.min() > 0


def test_layout_of_pictures_is_found_and_tables_are_left_alone():
    assert picture_layout(conv_net(0)) == (2, 6, 6)
    assert picture_layout(picture_like_net(0)) == (1, 8, 8)
    assert picture_layout(dense_net(0, (64, 20, 4))) is None
    assert picture_layout(dense_net(0, (6, 20, 4))) is None


@pytest.mark.parametrize("layout", [(1, 9, 12), (3, 8, 8), None])
def test_every_generator_gives_different_points_between_0_and_1(layout):
    kind = np.arange(40) % num_kinds(layout)
    unit = noise(np.random.default_rng(0), kind, layout, np.ones((4, prod(layout or (20,)))))
    assert unit.shape == (40, prod(layout or (20,)))
    assert unit.min() >= 0
    assert unit.max() <= 1
    assert len(np.unique(unit, axis=0)) > 30


def test_strokes_of_a_pen_are_dark_at_the_edge_and_leave_most_of_the_picture_empty():
    kind = np.ones(100, dtype=np.int64)
    pictures = noise(np.random.default_rng(0), kind, (1, 28, 28), np.ones((4, 784))).reshape(-1, 28, 28)
    assert pictures[:, 0].mean() < 0.05 < pictures[:, 8:20, 8:20].mean()
    assert 0.02 < np.mean(pictures > 0.5) < 0.4


def test_points_at_which_every_unit_is_off_come_back_to_life():
    weight = -np.abs(np.random.default_rng(0).normal(size=(10, 6))).astype(np.float32).astype(float)
    network = chain((6,), Dense(weight, np.full(10, 0.5)), Relu(), Dense(np.eye(3, 10), np.array([0.0, 0.0, 1.0])))

    def alive(x: np.ndarray) -> float:
        return float(np.mean((x @ weight.T + 0.5).max(axis=1) > 0))

    assert alive(np.random.default_rng(1).random((300, 6))) < 0.2
    assert alive(compensation_inputs(network, 300, seed=0)) > 0.5


@pytest.mark.parametrize("domain", [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0)])
def test_an_empty_domain_is_an_error(domain):
    with pytest.raises(ConfigError, match="domain"):
        synthesise_anchors(dense_net(0), 3, seed=0, domain=domain)


def test_a_count_of_zero_is_an_error():
    with pytest.raises(ConfigError, match="at least 1"):
        synthesise_anchors(dense_net(0), 0, seed=0)


@pytest.mark.parametrize("make", [conv_net, dense_net])
def test_every_count_from_one_on_gives_so_many_points(make):
    network = make(3)
    for count in (1, 2, network.num_outputs, network.num_outputs + 1, 3 * network.num_outputs + 1):
        assert len(synthesise_anchors(network, count, seed=0)) == count
        assert len(compensation_inputs(network, count, seed=0)) == count


def test_features_read_by_similar_weights_go_together():
    weights = np.array([[1.0, 2.0, -1.0, 0.0], [2.0, 4.0, -2.0, 0.0], [0.0, 0.0, 0.0, 3.0]])
    kind = np.full(2000, num_kinds(None) - 1)
    unit = noise(np.random.default_rng(0), kind, None, weights)
    together = np.corrcoef((unit - unit.mean(axis=1, keepdims=True)).T)
    assert together[0, 1] > 0.2 > together[0, 3]
    assert together[0, 2] < -0.2
    apart = noise(np.random.default_rng(0), kind, None, np.eye(4))
    assert abs(np.corrcoef((apart - apart.mean(axis=1, keepdims=True)).T)[0, 1] + 1 / 3) < 0.1, "their mean is removed"
