"""The certified robustness signal and the pruner's own regions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.errors import RegionError
from paoding_verify.network.graph import Network, Relu, Reshape
from paoding_verify.pruning.groups import find_units
from paoding_verify.pruning.own_regions import Wanted, given_regions, synthesised_regions
from paoding_verify.pruning.signal import Boxes, CertifiedSignal, SignalChoice, bound_method, choose_method
from paoding_verify.pruning.surgery import mask_units, remove_units
from paoding_verify.regions import Region
from tests.networks import chain, dense_net, interval_trained, random_conv, random_dense


def signal_of(eps: float, count: int = 12) -> CertifiedSignal:
    network = dense_net(0)
    points = np.random.default_rng(0).uniform(0, 1, (count, 6))
    x = points.astype(np.float32)
    boxes = Boxes(points - eps, points + eps, network.forward(x).argmax(axis=1), x)
    return CertifiedSignal(network, boxes, "crown")


def test_margins_of_points_are_those_of_the_network():
    signal, network = signal_of(0.0), dense_net(0)
    outputs = np.sort(network.forward(np.random.default_rng(0).uniform(0, 1, (12, 6)).astype(np.float32)), axis=1)
    np.testing.assert_allclose(signal.baseline, outputs[:, -1] - outputs[:, -2], rtol=1e-3, atol=1e-4)


def test_margins_shrink_with_the_boxes():
    assert (signal_of(0.05).baseline < signal_of(0.01).baseline).all()


def test_energy_is_the_mean_drop_and_gains_do_not_count():
    signal = signal_of(0.01, count=2)
    assert signal.energy(signal.baseline) == 0.0
    assert signal.energy(signal.baseline + np.array([5.0, -1.0])) == pytest.approx(0.5)


def test_accuracies_are_shares_of_the_anchors():
    signal, network = signal_of(0.05), dense_net(0)
    natural, certified = signal.accuracies(network, signal.baseline)
    assert natural == 1.0
    assert certified == np.mean(signal.baseline > 0)
    assert 0 < signal.accuracies(network, np.array([1.0, -1.0] * 6))[1] == 0.5
    last = network.nodes[-1]
    against = replace(network, nodes=(*network.nodes[:-1], replace(last, op=replace(last.op, weight=-last.op.weight))))
    classes = against.forward(signal.boxes.points).argmax(axis=1)
    assert signal.accuracies(against, signal.baseline)[0] == np.mean(classes == signal.boxes.labels) < 1


def test_margins_follow_the_network_and_come_back():
    signal, network = signal_of(0.01), dense_net(0)
    units = find_units(network)
    masked = mask_units(network, units, units.groups[0].atoms[:6])
    assert np.abs(signal.margins(masked) - signal.baseline).max() > 1e-3
    np.testing.assert_array_equal(signal.margins(network), signal.baseline)


def test_large_networks_get_the_faster_bounds():
    rng = np.random.default_rng(0)
    assert bound_method(dense_net(0)) == "crown"
    large = chain((1, 20, 20), random_conv(rng, 5, 1, 3), Relu(), Reshape((1620,)), random_dense(rng, 2, 1620))
    assert bound_method(large) == "crown-ibp"


def choice_of(network: Network, x: np.ndarray, eps: float) -> SignalChoice:
    boxes = Boxes(x.astype(float) - eps, x.astype(float) + eps, network.forward(x).argmax(axis=1), x)
    return choose_method(CertifiedSignal(network, boxes, "crown"))


def test_networks_trained_with_intervals_get_cheaper_bounds_and_others_get_tight_ones():
    network, x = interval_trained(0)
    cheap = choice_of(network, x, 0.1)
    assert cheap.method in ("ibp", "crown-ibp")
    assert "as tight" in cheap.reason or "the tightest" in cheap.reason
    plain = choice_of(dense_net(0), np.random.default_rng(0).uniform(0, 1, (12, 6)).astype(np.float32), 0.05)
    assert plain.method == "crown"
    assert all(name in plain.reason for name in ("ibp", "crown-ibp", "crown"))


def test_finished_networks_are_judged_by_the_tightest_bounds():
    """IBP steers where it is as tight on the original; a network that was trained otherwise is not judged by it."""
    network, x = interval_trained(0)
    regions = [Region(str(k), p - 0.1, p + 0.1, p, None, 0.1) for k, p in enumerate(x)]
    own = given_regions(network, regions, None, wanted=Wanted(selection=True, held_out=True))
    assert own.selection is not None
    assert own.held_out is not None
    assert own.signal.method == own.record["bounds"] != "crown"
    assert own.selection.method == own.held_out.method == own.record["judging_bounds"] == "crown"
    alone = given_regions(network, regions, None)
    assert "judging_bounds" not in alone.record


def test_signals_of_one_network_share_the_engine_and_agree():
    signal = signal_of(0.01)
    other = signal.on(signal.boxes[:5])
    np.testing.assert_allclose(other.baseline, signal.baseline[:5], rtol=1e-5)
    assert other._bounder is signal._bounder
    assert signal.on(signal.boxes, "ibp").baseline.sum() < signal.baseline.sum()


def test_the_drop_counts_margins_of_the_original_up_to_the_cap():
    signal, network = signal_of(0.0), dense_net(0)
    assert signal.drop(network) == 0.0
    units = find_units(network)
    masked = mask_units(network, units, units.groups[0].atoms[:6])
    wanted = np.maximum(0, np.minimum(signal.baseline, 5.0) - signal.margins(masked)).mean()
    assert signal.drop(masked) == pytest.approx(wanted)
    assert signal.drop(remove_units(network, units, units.groups[0].atoms[:6])) == pytest.approx(wanted, rel=1e-4)


def test_what_is_lost_of_a_certificate_is_no_more_than_its_margin():
    signal, network = signal_of(0.0), dense_net(0)
    assert signal.lost(network) == 0.0
    for scale in (0.3, -1e-3, -1.0, -1e6):
        last = network.nodes[-1]
        head = replace(last.op, weight=scale * last.op.weight, bias=scale * last.op.bias)
        scaled = replace(network, nodes=(*network.nodes[:-1], replace(last, op=head)))
        held = max(scale, 0.0) * signal.baseline
        wanted = np.mean(np.maximum(0, np.minimum(signal.baseline, 5.0) - held))
        assert signal.lost(scaled) == pytest.approx(wanted, rel=1e-5)


def test_a_network_that_always_answers_the_same_is_no_better_than_one_that_errs_boldly():
    """By the mean drop alone it would be: its margins stay around zero."""
    signal, network = signal_of(0.0, 200), dense_net(0)
    last = network.nodes[-1]
    constant = replace(last.op, weight=0 * last.op.weight, bias=np.array([1e-3, 0.0, 0.0, 0.0]))
    same = replace(network, nodes=(*network.nodes[:-1], replace(last, op=constant)))
    common = np.bincount(signal.boxes.labels).argmax()
    bold = 9 * last.op.weight
    bold[common] = -bold[common]
    errs = replace(
        network, nodes=(*network.nodes[:-1], replace(last, op=replace(last.op, weight=bold, bias=9 * last.op.bias)))
    )
    assert signal.drop(same) < signal.drop(errs)
    assert signal.lost(errs) < signal.lost(same)


def test_the_radius_leaves_three_quarters_of_the_margins_certified():
    own = synthesised_regions(dense_net(0), 0, (-1.0, 1.0))
    assert own.record["domain"] == "given"
    assert np.mean(own.signal.baseline > 0) > 0.6
    assert own.record["eps"] == pytest.approx(2 * 0.2 * 2 ** (-round(-2 * np.log2(own.record["eps"] / 0.4)) / 2))


def test_labels_are_the_networks_own_predictions_and_the_hull_is_the_domain():
    network = dense_net(0)
    x = np.random.default_rng(0).uniform(0, 1, (4, 6)).astype(np.float32)
    wrong = (network.forward(x).argmax(axis=1) + 1) % 4
    regions = [Region(f"r{k}", x[k] - 0.01, x[k] + 0.01, x[k], int(wrong[k])) for k in range(4)]
    own = given_regions(network, regions, None)
    assert (own.signal.baseline > -1).all()
    assert own.record["domain"] == "hull of the regions"
    low, high = own.domain
    np.testing.assert_allclose(low, x.min(axis=0) - 0.01, rtol=1e-6)
    np.testing.assert_allclose(high, x.max(axis=0) + 0.01, rtol=1e-6)


def test_no_regions_are_an_error():
    with pytest.raises(RegionError, match="empty list"):
        given_regions(dense_net(0), [], None)
