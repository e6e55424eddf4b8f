"""The attack finds what is there to find, stays in its boxes exactly, and repeats itself."""

import numpy as np
import pytest

from paoding_verify.attack import attack
from paoding_verify.errors import RegionError
from paoding_verify.evidence.property import decides_like, distance_at_most, predicts
from paoding_verify.network.graph import Dense, Relu
from tests.networks import chain, conv_net, dense_net, pooled_net, residual_net


def run(networks, lower, upper, prop, **options):
    options = {"restarts": 4, "steps": 25, "seed": 0} | options
    return attack(networks, lower, upper, prop.rows, prop.offsets, prop.clauses, **options)


def boxes(network, seed, count=5, radius=0.2):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(count, *network.input_shape)).astype(np.float32).astype(np.float64)
    return centre - radius, centre + radius


@pytest.mark.parametrize("make", [dense_net, conv_net, pooled_net, residual_net])
def test_points_lie_in_the_box_and_have_the_margin(make):
    network = make(1)
    lower, upper = boxes(network, 2)
    prop = predicts(0, network.num_outputs)
    result = run([network], lower, upper, prop)
    assert result.points.dtype == np.float32
    assert ((lower <= result.points) & (result.points <= upper)).all()
    margins = prop.margins(prop.values(network.forward(result.points)))
    np.testing.assert_allclose(result.margin, margins, atol=1e-5)


def test_beats_the_centre_and_random_points():
    network = residual_net(3)
    lower, upper = boxes(network, 4)
    prop = predicts(1, network.num_outputs)
    rng = np.random.default_rng(5)
    x = (lower + rng.uniform(size=(200, *lower.shape)) * (upper - lower)).astype(np.float32)
    sampled = (
        prop.margins(prop.values(network.forward(x.reshape(-1, *network.input_shape)))).reshape(200, -1).min(axis=0)
    )
    assert (run([network], lower, upper, prop).margin < sampled).all()


def test_finds_the_minimum_of_a_linear_function():
    """Features of very different widths, one of them fixed."""
    weight = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    network = chain((3,), Dense(weight, np.array([0.0, 0.0])))
    lower, upper = np.array([[-1.0, 10.0, 1e-3]]), np.array([[1.0, 10.0, 2e-3]])
    result = run([network], lower, upper, predicts(0, 2))
    np.testing.assert_allclose(result.margin, [-21.0 + 0.5e-3], rtol=1e-6)


def test_zero_radius_returns_the_centre():
    network = dense_net(1)
    point, _ = boxes(network, 1, radius=0.0)
    result = run([network], point, point, predicts(0, 4), steps=3)
    np.testing.assert_array_equal(result.points, point.astype(np.float32))


def test_starts_at_the_centre_that_is_given():
    """A plateau with one slope: only the given centre sees a gradient."""
    ops = [Dense(np.array([[1.0]]), np.array([-0.9])), Relu(), Dense(np.array([[-1.0], [0.0]]), np.array([0.05, 0.0]))]
    network = chain((1,), *ops)
    box = np.array([[-10.0]]), np.array([[1.0]])
    centre = np.array([[0.95]], dtype=np.float32)
    found = run([network], *box, predicts(0, 2), restarts=1, centre=centre)
    blind = run([network], *box, predicts(0, 2), restarts=1)
    assert found.margin[0] < 0 < blind.margin[0]


def test_clauses_with_several_rows_need_all_of_them_low():
    network = dense_net(6)
    lower, upper = boxes(network, 7)
    rows = np.array([[1.0, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1]])
    result = attack([network], lower, upper, rows, np.zeros(3), ((0, 1), (2,)), restarts=4, steps=25, seed=0)
    values = network.forward(result.points).astype(np.float64) @ rows.T
    np.testing.assert_allclose(result.margin, np.minimum(values[:, :2].max(axis=1), values[:, 2]), atol=1e-5)


@pytest.mark.parametrize("prop", [decides_like(4), distance_at_most(0.5, 4)])
def test_pairs(prop):
    f, g = dense_net(1), dense_net(2)
    lower, upper = boxes(f, 3)
    result = run([f, g], lower, upper, prop)
    outputs = np.concatenate([f.forward(result.points), g.forward(result.points)], axis=1)
    np.testing.assert_allclose(result.margin, prop.margins(prop.values(outputs)), atol=1e-5)
    assert (result.margin <= 0).all(), "two unrelated networks differ"


def test_rows_for_each_box_and_determinism():
    network = conv_net(1)
    lower, upper = boxes(network, 2, count=2)
    both = [predicts(0, 3), predicts(2, 3)]
    stacked = np.stack([p.rows for p in both]), np.stack([p.offsets for p in both])
    options = {"restarts": 3, "steps": 10, "seed": 5}
    one, two = (attack([network], lower, upper, *stacked, both[0].clauses, **options) for _ in range(2))
    np.testing.assert_array_equal(one.points, two.points)
    np.testing.assert_array_equal(one.margin, two.margin)
    for k, prop in enumerate(both):
        value = prop.margins(prop.values(network.forward(one.points[k : k + 1])))
        np.testing.assert_allclose(one.margin[k], value[0], atol=1e-5)


def test_a_box_between_two_float32_numbers_is_refused():
    network = dense_net(1)
    lower = np.full((1, 6), 1.0 + 1e-10)
    with pytest.raises(RegionError, match="no float32 point"):
        run([network], lower, lower + 1e-10, predicts(0, 4))


def test_ends_early_once_all_margins_are_below_what_is_enough():
    network = chain((2,), Dense(np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2)))
    lower, upper = np.zeros((2, 2)), np.ones((2, 2))
    prop = predicts(0, 2)
    full, early = (run([network], lower, upper, prop, enough=enough) for enough in (-np.inf, 0.0))
    assert (early.margin < 0).all()
    assert (full.margin < early.margin).any()
    never = run([network], lower, upper, prop, enough=-2.0)
    np.testing.assert_array_equal(never.points, full.points)
