"""Targets of a pruning other than a share of units: parameters, operations, a certified budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paoding_verify.errors import ConfigError, InputError
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.pruning import HeldOut, PruneTrace
from paoding_verify.network.record import multiply_accumulates
from paoding_verify.pruning.groups import find_units
from paoding_verify.pruning.options import PruneOptions
from paoding_verify.pruning.prune import PruneResult, prune
from paoding_verify.pruning.targets import largest_within, share_removed, unit_sparsity
from paoding_verify.report.wording import pruning_words
from tests.networks import conv_net, dense_net, residual_net


@pytest.mark.parametrize("make", [dense_net, conv_net, residual_net])
@pytest.mark.parametrize("sparsity_of", ["parameters", "macs"])
def test_a_share_of_parameters_or_operations_is_reached_and_hardly_exceeded(make, sparsity_of):
    network, units = make(0), find_units(make(0))
    share = unit_sparsity(network, units, 0.4, sparsity_of)
    result = prune(network, target_sparsity=0.4, method="random", options=PruneOptions(sparsity_of=sparsity_of))
    count = multiply_accumulates if sparsity_of == "macs" else lambda n: n.num_parameters
    assert count(result.network) <= 0.6 * count(network)
    assert share_removed(network, result.network, sparsity_of) == 1 - count(result.network) / count(network)
    assert result.trace.sparsity == pytest.approx(share, abs=2 / sum(network.num_units))
    assert (result.trace.sparsity_of, result.trace.target_sparsity) == (sparsity_of, 0.4)
    less = round(share * sum(network.num_units)) - 1
    fewer = prune(network, target_sparsity=less / sum(network.num_units), method="random")
    assert share_removed(network, fewer.network, sparsity_of) < 0.4


def test_a_share_of_units_is_taken_as_it_is():
    network = dense_net(0)
    assert unit_sparsity(network, find_units(network), 0.37, "units") == 0.37


def test_shares_that_cannot_be_reached_are_errors():
    network = dense_net(0)
    units = find_units(network)
    with pytest.raises(ConfigError, match=r"at most 0\.9\d+ can go"):
        unit_sparsity(network, units, 0.999, "parameters")
    with pytest.raises(ConfigError, match="strictly between"):
        unit_sparsity(network, units, 1.0, "macs")
    with pytest.raises(ConfigError, match="counts units, parameters, macs"):
        PruneOptions(sparsity_of="flops")
    for wrong in ({"max_certified_drop": 1.0}, {"max_certified_drop": -0.1}, {"eps": 0.0}, {"eps": float("nan")}):
        with pytest.raises(ConfigError):
            PruneOptions(**wrong)


def test_bisection_gives_what_it_measured_and_makes_no_more_probes_than_allowed():
    network, tried = dense_net(0), []

    def probe(sparsity: float) -> tuple[float, bool]:
        tried.append(sparsity)
        return sparsity, round(22 * sparsity) <= 13

    best, made = largest_within(probe, network, find_units(network))
    assert best == pytest.approx(13 / 22)
    assert made == len(tried) == len(set(tried)) <= 6
    assert largest_within(lambda s: (s, False), network, find_units(network), 3) == (None, 3)
    assert largest_within(lambda s: (s, True), network, find_units(network), 10)[0] == pytest.approx(20 / 22)


def within(drop: float, **settings: Any) -> PruneResult:
    options = PruneOptions(max_certified_drop=drop, eps=0.02)
    return prune(dense_net(0), method="obs", distil=False, options=options, **settings)


def test_a_certified_budget_is_respected_on_anchors_that_steered_nothing():
    tight, loose = within(0.02), within(0.3)
    for result, budget in ((tight, 0.02), (loose, 0.3)):
        held_out = result.trace.held_out
        assert held_out.drop <= budget
        assert held_out.drop == (held_out.num_original - held_out.num_pruned) / held_out.count
        assert held_out.num_lost >= held_out.num_original - held_out.num_pruned
        assert 1 <= held_out.num_looks <= 6
        assert result.trace.max_certified_drop == budget
        assert loads(PruneTrace, dumps(result.trace), "trace") == result.trace
    assert tight.trace.sparsity < loose.trace.sparsity


def test_synthetic_anchors_bring_a_warning_and_inputs_a_confidence_bound():
    synthetic = within(0.3).trace
    assert not synthetic.held_out.independent
    assert any("synthetic" in words for words in synthetic.warnings)
    assert not any("confidence" in words for words in pruning_words(synthetic)[1:2])
    inputs = np.random.default_rng(0).uniform(0, 1, (80, 6)).astype(np.float32)
    given = within(0.3, inputs=inputs).trace
    assert given.held_out.independent
    assert given.held_out.count == 20
    assert given.anchors["num_user_inputs"] == 40
    assert not any("synthetic" in words for words in given.warnings)
    assert any("around that anchor only" in words for words in given.warnings)
    assert any("95 % confidence" in words for words in pruning_words(given))


def test_the_confidence_bound_allows_for_every_look():
    def bound(num_looks: int) -> str:
        trace = PruneTrace("m", 0, 0.5, 0.5, (), (), {}, held_out=HeldOut(True, 100, 90, 90, 0, num_looks))
        return next(words for words in pruning_words(trace) if "confidence" in words)

    assert "at most 3.0 %" in bound(1)  # 1 - 0.05 ** (1 / 100)
    assert "at most 4.7 %" in bound(6)  # 1 - (0.05 / 6) ** (1 / 100)


def test_a_budget_that_nothing_meets_is_an_error(monkeypatch):
    monkeypatch.setattr(HeldOut, "drop", property(lambda held_out: 0.5))
    with pytest.raises(ConfigError, match="none of 4 smaller networks"):
        prune(dense_net(0), method="random", options=PruneOptions(max_certified_drop=0.4, eps=0.1))


def test_methods_that_shift_removals_refuse_a_target_of_parameters():
    with pytest.raises(ConfigError, match="shifts removals between layers"):
        prune(dense_net(0), method="obs", options=PruneOptions(sparsity_of="parameters"))


def test_inputs_that_do_not_fit_are_errors():
    with pytest.raises(InputError, match="shape"):
        prune(dense_net(0), inputs=np.zeros((3, 5), dtype=np.float32))
