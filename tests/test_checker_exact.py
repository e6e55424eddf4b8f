"""Float bounds against exact rational ones, and both against exact values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from paoding_verify.checker.crown import lower_bounds
from paoding_verify.checker.exact import exact_lower_bounds
from paoding_verify.checker.exact_ops import exact_values
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import LeakyRelu, Network, Relu
from tests.adversarial import traps
from tests.checker_suite import smooth_net
from tests.networks import chain, conv_net, dense_net, pooled_net, random_dense, residual_net


def tiny_net(seed: int) -> Network:
    """Three dense layers with ReLU or LeakyReLU; input (2,)."""
    rng = np.random.default_rng(seed)
    act = Relu() if seed % 2 else LeakyRelu(0.125)
    return chain((2,), random_dense(rng, 4, 2), act, random_dense(rng, 3, 4), act, random_dense(rng, 2, 3))


def row_values(network: Network, point: np.ndarray, rows: np.ndarray) -> list[Fraction]:
    outputs = exact_values(network, point[None]).fractions
    return [sum((Fraction(float(c)) * y for c, y in zip(row, outputs, strict=True)), Fraction(0)) for row in rows]


@pytest.mark.parametrize("make", [dense_net, conv_net, pooled_net, residual_net])
def test_exact_values_are_what_floats_approximate(make: object) -> None:
    network = make(1)  # type: ignore[operator]
    point = np.random.default_rng(1).uniform(size=network.input_shape)
    exact = np.array([float(y) for y in exact_values(network, point[None]).fractions])
    np.testing.assert_allclose(exact, evaluate(network, point[None])[0], atol=1e-12)


def test_bounds_never_exceed_exact_values() -> None:
    """Thousands of exact values at corners, none below the float bound of its row."""
    rows = np.array([[1.0, -1.0], [-1.0, 1.0], [0.3, 0.7]])
    count = 0
    for seed in range(120):
        network, rng = tiny_net(seed), np.random.default_rng(seed)
        centre, eps = rng.uniform(-1, 1, size=2), rng.choice([0.0, 1e-12, 1e-3, 0.3, 2.0])
        lower, upper = centre - eps, centre + eps
        found = {
            s: lower_bounds([network], lower[None], upper[None], rows, np.zeros(3), semantics=s)[0]
            for s in ("real", "float32")
        }
        assert (found["float32"] <= found["real"] + 1e-12).all()
        for point in (lower, upper, np.array([lower[0], upper[1]]), np.array([upper[0], lower[1]])):
            for k, value in enumerate(row_values(network, point, rows)):
                assert Fraction(float(found["real"][k])) <= value
                assert Fraction(float(found["float32"][k])) <= value
                count += 2
    assert count == 120 * 4 * 3 * 2


def test_bounds_are_as_tight_as_exact_ones() -> None:
    """The float code loses next to nothing against the exact pass, which in turn proves all that it proves."""
    for make in (dense_net, conv_net):
        network, rng = make(4), np.random.default_rng(4)
        centre = rng.uniform(size=network.input_shape)
        rows = rng.normal(size=(3, network.num_outputs))
        exact = exact_lower_bounds(network, centre - 0.02, centre + 0.02, rows, np.ones(3))
        found = lower_bounds([network], (centre - 0.02)[None], (centre + 0.02)[None], rows, np.ones(3))[0]
        assert all(Fraction(float(bound)) <= y for bound, y in zip(found, exact, strict=True))
        np.testing.assert_allclose(found, [float(y) for y in exact], atol=1e-10)


def test_exact_bounds_hold_at_exact_points() -> None:
    for make in (tiny_net, pooled_net):
        network, rng = make(3), np.random.default_rng(3)
        centre = rng.uniform(size=network.input_shape)
        rows = rng.normal(size=(2, network.num_outputs))
        bounds = exact_lower_bounds(network, centre - 0.1, centre + 0.1, rows, np.zeros(2))
        point = np.where(rng.random(size=centre.shape) < 0.5, centre - 0.1, centre + 0.1)
        assert all(b <= v for b, v in zip(bounds, row_values(network, point, rows), strict=True))


def test_traps_are_false_exactly_and_refused_exactly() -> None:
    """Where a trap says that its property is false in exact arithmetic, a corner of its box shows it."""
    for trap in traps():
        values = []
        for point in (trap.lower, trap.upper):
            exact = row_values(trap.network, point, trap.property.rows)
            values.append(min(v + Fraction(float(o)) for v, o in zip(exact, trap.property.offsets, strict=True)))
        assert ("real" in trap.false_in) == (min(values) <= 0), trap.name
        if "real" in trap.false_in:
            bounds = exact_lower_bounds(trap.network, trap.lower, trap.upper, trap.property.rows, trap.property.offsets)
            assert min(bounds) <= 0


def test_smooth_activations_have_no_exact_value() -> None:
    network = smooth_net(0)
    with pytest.raises(UnsupportedOpError, match="no exact rational value"):
        exact_values(network, np.zeros((1, 4)))
    with pytest.raises(UnsupportedOpError, match="no exact rational value"):
        exact_lower_bounds(network, np.zeros(4), np.ones(4), np.eye(3), np.zeros(3))
