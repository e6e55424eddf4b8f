"""The Metropolis rule of the pruner."""

from __future__ import annotations

import numpy as np
import pytest

from paoding_verify.pruning.annealing import metropolis


def test_a_fall_is_always_accepted():
    rng = np.random.default_rng(0)
    assert all(metropolis(-1e-9, temperature, rng)[0] for temperature in (0.0, 1.0) for _ in range(20))


def test_a_rise_is_never_accepted_when_cold():
    rng = np.random.default_rng(0)
    assert not any(metropolis(1e-9, 0.0, rng)[0] for _ in range(50))


@pytest.mark.parametrize("ratio", [0.1, 0.7, 2.0])
def test_a_rise_is_accepted_with_the_boltzmann_probability(ratio):
    rng = np.random.default_rng(1)
    share = np.mean([metropolis(0.3 * ratio, 0.3, rng)[0] for _ in range(4000)])
    assert share == pytest.approx(np.exp(-ratio), abs=0.03)


def test_the_reason_says_what_was_decided():
    rng = np.random.default_rng(0)
    for _ in range(20):
        taken, reason = metropolis(0.5, 0.5, rng)
        assert ("accepted" in reason) is taken
        assert "probability 0.3679" in reason


def test_every_decision_draws_one_number():
    first, second = np.random.default_rng(3), np.random.default_rng(3)
    metropolis(-1.0, 1.0, first)
    second.random()
    assert first.random() == second.random()
