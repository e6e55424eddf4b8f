"""Imitation of interval bounds in distillation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.evidence.property import predicts
from paoding_verify.network.graph import Dense, Network
from paoding_verify.network.torch_out import to_module
from paoding_verify.pruning.bounds_imitation import BoundsImitation
from paoding_verify.pruning.distil import DistilConfig, distil, num_steps
from paoding_verify.pruning.groups import find_units
from paoding_verify.pruning.signal import CAP
from paoding_verify.pruning.surgery import remove_units
from tests.networks import conv_net, dense_net, interval_trained

REACH = 0.1


def points(network: Network, count: int = 200) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 1, (count, *network.input_shape)).astype(np.float32)


def imitation(student: Network, original: Network, x: np.ndarray, seed: int = 0) -> BoundsImitation:
    return BoundsImitation(to_module(student), original, x, seed=seed, domain=(0.0, 1.0), reach=REACH)


def interval_margins(network: Network, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Smallest margins by IBP in boxes of half the reach."""
    rows = np.stack([predicts(int(label), network.num_outputs).rows for label in labels])
    lower, upper = np.clip(x - REACH / 2, 0, 1).astype(float), np.clip(x + REACH / 2, 0, 1).astype(float)
    return LirpaBounder(network).lower_bounds(lower, upper, rows, np.zeros(rows.shape[:2]), method="ibp").lower.min(1)


@pytest.mark.parametrize("make", [dense_net, conv_net])
def test_nothing_is_lost_against_oneself(make):
    network = make(0)
    assert float(imitation(network, network, points(network)).loss()) == pytest.approx(0.0, abs=1e-5)


def test_what_is_lost_is_felt_by_the_students_parameters():
    network, x = interval_trained(0)
    last = network.nodes[-1].op
    assert isinstance(last, Dense)
    quiet = replace(last, weight=0.1 * last.weight, bias=0.1 * last.bias)
    student = to_module(replace(network, nodes=(*network.nodes[:-1], replace(network.nodes[-1], op=quiet))))
    weight = student.get_parameter(f"p{len(network.nodes) - 1}_0").requires_grad_(True)
    loss = BoundsImitation(student, network, x, seed=0, domain=(0.0, 1.0), reach=REACH).loss()
    (gradient,) = torch.autograd.grad(loss, weight)
    assert float(loss.detach()) > 0
    assert bool((gradient != 0).any())


def test_margins_of_the_original_count_up_to_the_cap():
    network = dense_net(0)
    last = network.nodes[-1].op
    assert isinstance(last, Dense)
    loud = replace(network.nodes[-1], op=replace(last, weight=1e4 * last.weight, bias=1e4 * last.bias))
    original = replace(network, nodes=(*network.nodes[:-1], loud))
    assert float(imitation(original, original, points(network))._wanted.max()) == CAP


def test_equal_seeds_equal_losses():
    network, student = dense_net(0), dense_net(1)
    losses = [float(imitation(student, network, points(network), seed=s).loss()) for s in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]


def test_bounds_suffer_less_if_they_are_imitated_too():
    lost = {False: 0.0, True: 0.0}
    for seed in range(3):
        original, x = interval_trained(seed)
        units = find_units(original)
        small = remove_units(original, units, [a for group in units.groups for a in group.atoms[::2]])
        labels = original.forward(x).argmax(axis=1)
        wanted = np.minimum(interval_margins(original, x, labels), CAP)
        for bounds in lost:
            trained = distil(small, original, points(original), seed=0, config=DistilConfig(steps=300, bounds=bounds))
            lost[bounds] += float(np.maximum(0.0, wanted - interval_margins(trained, x, labels)).mean())
    assert lost[True] < lost[False]


def test_steps_that_take_longer_are_fewer():
    network = dense_net(0)
    assert num_steps(network, network, DistilConfig(bounds=True)) == DistilConfig().steps // 2
