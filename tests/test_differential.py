"""Joint bounds of a pair: never above a value that some point takes, and tighter than separate ones."""

from __future__ import annotations

import numpy as np
import pytest

from paoding_verify.bounds.differential import PairBounder
from paoding_verify.errors import InputError, UnsupportedOpError
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import AveragePool2d, LeakyRelu, Network, Permute, Relu, Reshape, Sigmoid  # fmt: skip
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net
from tests.pairs import identity_alignment, perturbed, without_units


def two_convolutions(seed: int) -> Network:
    """Convolutions without groups, LeakyReLU, overlapping average pooling with uneven padding, a permutation."""
    rng = np.random.default_rng(seed)
    pool = AveragePool2d((2, 2), (1, 1), (1, 1, 0, 0), False)
    return chain(
        (2, 5, 5), random_conv(rng, 4, 2, 3, padding=(1, 1, 0, 0)), LeakyRelu(0.25), pool,
        random_conv(rng, 4, 4, 2, stride=(2, 2)), Relu(), Permute((0, 2, 1)), Reshape((16,)), random_dense(rng, 3, 16),
    )  # fmt: skip


def boxes(network: Network, radius: float, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    centre = np.random.default_rng(11).normal(size=(count, *network.input_shape))
    return centre - radius, centre + radius


def samples(lower: np.ndarray, upper: np.ndarray, count: int = 300) -> np.ndarray:
    """Points of one box: inside, and corners."""
    rng = np.random.default_rng(12)
    weight = rng.uniform(size=(count, *lower.shape))
    weight[: count // 2] = weight[: count // 2].round()
    return lower + weight * (upper - lower)


def outputs(f: Network, g: Network, x: np.ndarray) -> np.ndarray:
    return np.concatenate([evaluate(f, x), evaluate(g, x)], axis=1)


PAIRS: dict[str, tuple[Network, list[tuple[int, ...]] | None]] = {
    "dense removed": (dense_net(0), [tuple(range(1, 12)), (0, 1, 2, 3, 5, 6, 7, 8, 9)]),
    "dense perturbed": (dense_net(1), None),
    "conv perturbed": (conv_net(2), None),
    "conv removed": (two_convolutions(3), [(0, 2, 3), (0, 1, 2, 3)]),
    "residual perturbed": (residual_net(4), None),
}


def pair(name: str) -> tuple[Network, Network, tuple[tuple[int, ...], ...]]:
    original, kept = PAIRS[name]
    if kept is None:
        return original, perturbed(original, 5, 0.05), identity_alignment(original)
    return original, perturbed(without_units(original, kept), 5, 0.01), tuple(kept)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("radius", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("aligned", [True, False])
def test_bounds_lie_below_every_sampled_value(name: str, radius: float, aligned: bool) -> None:
    f, g, alignment = pair(name)
    lower, upper = boxes(f, radius)
    rng = np.random.default_rng(13)
    rows, offsets = rng.normal(size=(9, 2 * f.num_outputs)), rng.normal(size=9)
    found = PairBounder(f, g, alignment if aligned else None).lower_bounds(lower, upper, rows, offsets).lower
    for n in range(len(lower)):
        values = outputs(f, g, samples(lower[n], upper[n])) @ rows.T + offsets
        assert (values.min(axis=0) - found[n] > -1e-9).all()
        if radius == 0.0:
            assert np.allclose(values[0], found[n], atol=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_distance_contains_every_sampled_difference(name: str) -> None:
    f, g, alignment = pair(name)
    lower, upper = boxes(f, 0.1)
    distance = PairBounder(f, g, alignment).distance(lower, upper)
    for n in range(len(lower)):
        x = samples(lower[n], upper[n])
        assert np.abs(evaluate(f, x) - evaluate(g, x)).max() <= distance[n] + 1e-9


@pytest.mark.parametrize("name", PAIRS)
def test_joint_bounds_are_never_worse_and_here_tighter_than_separate_ones(name: str) -> None:
    f, _, alignment = pair(name)
    g = without_units(f, alignment) if "removed" in name else perturbed(f, 5, 0.002)
    lower, upper = boxes(f, 0.2)
    joint = PairBounder(f, g, alignment).distance(lower, upper)
    separate = PairBounder(f, g, None).distance(lower, upper)
    assert (joint <= separate + 1e-9).all()
    assert joint.mean() < 0.9 * separate.mean()


@pytest.mark.parametrize("network", [dense_net(6), conv_net(7), residual_net(8), two_convolutions(9)])
def test_identical_networks_have_no_difference(network: Network) -> None:
    lower, upper = boxes(network, 1.0)
    assert (PairBounder(network, network, identity_alignment(network)).distance(lower, upper) == 0).all()


def test_reordered_units_are_followed() -> None:
    f = dense_net(10)
    order = [tuple(np.random.default_rng(1).permutation(count).tolist()) for count in f.num_units]
    g = without_units(f, order)
    lower, upper = boxes(f, 0.3)
    assert PairBounder(f, g, tuple(order)).distance(lower, upper).max() < 1e-9
    assert PairBounder(f, g, identity_alignment(f)).distance(lower, upper).min() > 0.1


def test_separate_bounds_share_the_input() -> None:
    """Two linear networks of different depth: the difference is exact although nothing is aligned."""
    rng = np.random.default_rng(14)
    first = random_dense(rng, 4, 3)
    f, g = chain((3,), first), chain((3,), first, random_dense(rng, 4, 4))
    lower, upper = boxes(f, 0.2)
    matrix = first.weight - g.nodes[1].op.weight @ first.weight  # type: ignore[union-attr]
    centre = evaluate(f, (lower + upper) / 2) - evaluate(g, (lower + upper) / 2)
    exact = np.maximum(np.abs(centre + np.abs(matrix).sum(1) * 0.2), np.abs(centre - np.abs(matrix).sum(1) * 0.2))
    assert np.allclose(PairBounder(f, g, None).distance(lower, upper), exact.max(axis=1))


def test_sensitivity_points_at_the_features_that_matter() -> None:
    f = dense_net(15)
    first = f.nodes[0].op
    first.weight[:, 2] = 0.0  # type: ignore[union-attr]
    lower, upper = boxes(f, 0.1)
    rows = np.eye(2 * f.num_outputs)[:1]
    found = PairBounder(f, perturbed(f, 1, 0.0), None).lower_bounds(lower, upper, rows, np.zeros(1)).sensitivity
    assert found.shape == lower.shape
    assert (found[:, 2] == 0).all()
    assert (found.max(axis=1) > 0).all()


def test_refuses_what_it_cannot_bound() -> None:
    f = dense_net(16)
    with pytest.raises(UnsupportedOpError, match="MaxPool2d"):
        PairBounder(pooled_net(0), pooled_net(0), None)
    rng = np.random.default_rng(0)
    smooth = chain((3,), random_dense(rng, 3, 3), Sigmoid(), random_dense(rng, 2, 3))
    with pytest.raises(UnsupportedOpError, match="node1"):
        PairBounder(smooth, smooth, None)
    with pytest.raises(InputError, match="equal shapes"):
        PairBounder(f, dense_net(0, (6, 5, 3)), None)
    for wrong in ([(0,) * 12, range(10)], [range(12)], [range(1, 13), range(10)], [range(11), range(10)]):
        with pytest.raises(InputError, match="alignment"):
            PairBounder(f, f, [tuple(units) for units in wrong])
