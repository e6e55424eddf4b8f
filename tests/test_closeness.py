"""What is said about the distance of a pruned network: it grows as weights move, and proofs get wider with it."""

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.network.graph import Dense, MaxPool2d, Network, Reshape
from paoding_verify.pruning.closeness import closeness
from paoding_verify.pruning.signal import Boxes
from tests.networks import chain, dense_net
from tests.pairs import identity_alignment, without_units


def boxes(network: Network, radius: float = 0.05) -> Boxes:
    points = np.random.default_rng(3).normal(size=(6, *network.input_shape)).astype(np.float32)
    wide = points.astype(np.float64)
    return Boxes(wide - radius, wide + radius, network.forward(points).argmax(1), points)


def moved(network: Network, share: float) -> Network:
    rng = np.random.default_rng(5)
    nodes = [
        replace(n, op=replace(n.op, weight=n.op.weight * (1 + share * rng.normal(size=n.op.weight.shape))))
        if isinstance(n.op, Dense)
        else n
        for n in network.nodes
    ]
    return Network(network.input_shape, tuple(nodes), network.name)


def test_weights_that_stay_have_moved_by_nothing() -> None:
    f = dense_net(0, (4, 12, 12, 3))
    alignment = (tuple(range(3, 12)), tuple(range(9)))
    kept = without_units(f, alignment)
    found = closeness(kept, kept, f, alignment, boxes(f))
    assert found.weights_moved == 0
    assert found.distance_ratio is not None
    assert found.distance_ratio >= 1 - 1e-6


def test_the_further_weights_move_the_less_is_proved() -> None:
    f = dense_net(0, (4, 40, 40, 3))
    alignment = identity_alignment(f)
    found = [closeness(f, moved(f, share), f, alignment, boxes(f, 0.3)) for share in (0.001, 0.03, 0.5)]
    figures = [c.weights_moved for c in found]
    assert figures == sorted(figures)
    assert figures[1] == pytest.approx(0.03, rel=0.2)
    assert all(c.distance_ratio is not None and c.distance_ratio >= 1 - 1e-6 for c in found)


def test_what_has_no_joint_bounds_has_no_ratio() -> None:
    rng = np.random.default_rng(0)
    pool = MaxPool2d((2, 2), (2, 2), (0, 0, 0, 0))
    f = chain((1, 4, 4), pool, Reshape((4,)), Dense(rng.normal(size=(3, 4)), np.zeros(3)))
    found = closeness(f, moved(f, 0.1), f, (), boxes(f))
    assert found.distance_ratio is None
    assert found.weights_moved > 0


def test_networks_that_agree_have_no_ratio() -> None:
    f = dense_net(1)
    alignment = identity_alignment(f)
    assert closeness(f, f, f, alignment, boxes(f)).distance_ratio is None
