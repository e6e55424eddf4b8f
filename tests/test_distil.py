"""Distillation on synthetic inputs, and how a pruning ends with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.errors import ConfigError, InputError
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.network.graph import Affine, Dense, Network, Relu, Reshape
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.pruning.distil import DistilConfig, distil, num_steps
from paoding_verify.pruning.groups import find_units
from paoding_verify.pruning.inputs import checked_inputs, joined
from paoding_verify.pruning.prune import prune
from paoding_verify.pruning.surgery import mask_units, put_back, remove_units
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net

SHORT = DistilConfig(steps=150, batch=64)


def points(network: Network, count: int = 500, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, *network.input_shape)).astype(np.float32)


def wide_net() -> Network:
    """A convolution of 64 channels over a large picture: eight hundred million multiplications."""
    return chain((1, 400, 400), random_conv(np.random.default_rng(0), 64, 1, 9), Relu(), Reshape((64 * 392 * 392,)))


def halved(network: Network) -> Network:
    units = find_units(network)
    return remove_units(network, units, [a for g in units.groups for a in g.atoms[::2][: len(g.atoms) - 1]])


def gap(first: Network, second: Network, x: np.ndarray) -> float:
    return float(np.mean((first.forward(x) - second.forward(x)) ** 2))


@pytest.mark.parametrize("make", [dense_net, conv_net, pooled_net])
def test_the_small_network_comes_closer_on_inputs_it_has_not_seen(make):
    original = make(0)
    small = halved(original)
    trained = distil(small, original, points(original), seed=0, config=SHORT)
    fresh = points(original, seed=1)
    assert gap(trained, original, fresh) < 0.5 * gap(small, original, fresh)
    assert trained.shapes == small.shapes


def test_parameters_are_float32_numbers_and_normalisation_stays():
    rng = np.random.default_rng(0)
    network = chain((5,), Affine(np.full(5, 2.0), np.ones(5)), random_dense(rng, 9, 5), Relu(), random_dense(rng, 3, 9))
    trained = distil(halved(network), network, points(network), seed=0, config=SHORT)
    for node in trained.nodes:
        if isinstance(node.op, Dense):
            np.testing.assert_array_equal(node.op.weight, node.op.weight.astype(np.float32))
    assert trained.nodes[0].op is halved(network).nodes[0].op or isinstance(trained.nodes[0].op, Affine)
    np.testing.assert_array_equal(trained.nodes[0].op.scale, np.full(5, 2.0))


def test_equal_arguments_equal_bytes_and_the_seed_counts():
    original = dense_net(0)
    runs = [distil(halved(original), original, points(original), seed=s, config=SHORT) for s in (1, 1, 2)]
    assert to_onnx(runs[0]) == to_onnx(runs[1])
    assert to_onnx(runs[0]) != to_onnx(runs[2])


def test_adversarial_steps_bring_it_closer_where_it_is_attacked():
    original = dense_net(3, (6, 40, 40, 4))
    small = halved(original)
    corner = np.full((400, 6), 0.02, dtype=np.float32) + points(original, 400) * np.float32(0.02)
    plain, adversarial = (
        distil(small, original, corner, seed=0, config=replace(SHORT, reach=reach)) for reach in (0.0, 0.5)
    )
    fresh = points(original, seed=5) * np.float32(0.5)
    assert gap(adversarial, original, fresh) < gap(plain, original, fresh)


def test_large_networks_take_fewer_steps_but_some():
    small, wide = dense_net(0), wide_net()
    assert num_steps(small, small) == DistilConfig().steps
    assert 0 < num_steps(wide, wide) < DistilConfig().steps


def test_progress_is_reported():
    calls: list[tuple[str, int, int]] = []
    network = dense_net(0)
    distil(network, network, points(network), seed=0, config=SHORT, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("distilling", 150, 150)


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch": 1}, {"rate": 0.0}, {"reach": 1.5}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ConfigError, match="distillation needs"):
        DistilConfig(**options)


def test_no_input_is_refused():
    network = dense_net(0)
    with pytest.raises(ConfigError, match="at least one input"):
        distil(network, network, points(network, 0), seed=0)


@pytest.mark.parametrize("make", [dense_net, conv_net, pooled_net, residual_net])
def test_what_was_trained_is_put_back_in_the_shapes_of_the_original(make):
    network = make(2)
    units = find_units(network)
    removed = [g.atoms[0] for g in units.groups]
    masked = mask_units(network, units, removed)
    trained = distil(remove_units(masked, units, removed), network, points(network, 100), seed=0, config=SHORT)
    grown = put_back(trained, masked, units, removed)
    x = points(network, 20)
    assert grown.shapes == network.shapes
    np.testing.assert_allclose(grown.forward(x), trained.forward(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(remove_units(grown, units, removed).forward(x), trained.forward(x))


def test_the_trace_says_what_distillation_changed():
    before, after = 0.0, 0.0
    for seed in range(3):
        network = dense_net(seed)
        with_it, without = (prune(network, method="obs", target_sparsity=0.5, distil=flag) for flag in (True, False))
        record = with_it.trace.distilled
        assert without.trace.distilled is None
        assert record is not None
        assert record.kept
        if with_it.trace.anchors["bounds"] == "crown":  # as whole networks are judged
            assert record.energy_before == pytest.approx(without.trace.steps[-1].energy)
        assert with_it.trace.alignment == without.trace.alignment
        assert loads(PruneTrace, dumps(with_it.trace), "trace") == with_it.trace
        before, after = before + record.energy_before, after + record.energy_after
    assert after < before, "though not of every network"


def test_the_users_inputs_join_the_synthetic_ones():
    synthetic = np.zeros((100, 3), dtype=np.float32)
    user = np.arange(1, 4, dtype=np.float32)[:, None].repeat(3, axis=1)
    few = joined(synthetic, user)
    assert few.shape == (160, 3)
    assert {float(v): int((few[:, 0] == v).sum()) for v in (1, 2, 3)} == {1.0: 20, 2.0: 20, 3.0: 20}
    many = joined(synthetic, np.arange(1000, dtype=np.float32)[:, None].repeat(3, axis=1))
    assert many.shape == (200, 3)
    np.testing.assert_array_equal(many[100:, 0], np.arange(0, 1000, 10))
    assert joined(synthetic, None) is synthetic


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((3, 5), np.float32), "shape"),
        (np.zeros((0, 6), np.float32), "shape"),
        (np.full((3, 6), np.nan, np.float32), "finite"),
        (np.zeros((3, 6), np.int64), "floating-point"),
        (np.full((3, 6), 1.5, np.float32), "outside the domain"),
    ],
)
def test_unusable_inputs_of_the_user_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        checked_inputs(dense_net(0), inputs, (0.0, 1.0))


def test_a_distillation_that_costs_margins_is_left(monkeypatch):
    def spoil(network: Network, original: Network, inputs: np.ndarray, **_: object) -> Network:
        op = network.nodes[-1].op
        assert isinstance(op, Dense)
        zero = replace(op, weight=np.zeros_like(op.weight))
        return replace(network, nodes=(*network.nodes[:-1], replace(network.nodes[-1], op=zero)))

    monkeypatch.setattr("paoding_verify.pruning.finish.distil", spoil)
    network = dense_net(0)
    spoilt, without = (prune(network, method="obs", target_sparsity=0.3, distil=flag) for flag in (True, False))
    assert spoilt.trace.distilled is not None
    assert not spoilt.trace.distilled.kept
    assert to_onnx(spoilt.network) == to_onnx(without.network)
