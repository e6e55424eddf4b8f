"""Pruning from end to end."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.errors import ConfigError, RegionError
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.property import predicts
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Affine, Dense, Network, Relu, Reshape, Sigmoid, Tanh
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.pruning.members import MEMBERS
from paoding_verify.pruning.options import PruneOptions
from paoding_verify.pruning.portfolio import PortfolioConfig
from paoding_verify.pruning.prune import METHODS, PruneResult
from paoding_verify.pruning.prune import prune as prune_fully
from paoding_verify.regions import Region
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net

CORRECT = [method for method in METHODS if not method.startswith("paoding-legacy-")]
"""Methods that meet every target; the legacy ones have tests of their own."""


QUICK = PruneOptions(portfolio=PortfolioConfig(members=MEMBERS[1:3]))


def prune(network: Network, regions: list[Region] | None = None, **settings: Any) -> PruneResult:
    """Without distillation, and with two members of the portfolio."""
    return prune_fully(network, regions, **{"distil": False, "options": QUICK, **settings})


def trained_net() -> tuple[Network, np.ndarray]:
    """A dense network trained on three overlapping Gaussian classes in six dimensions, and fresh points of them."""
    import torch

    rng = np.random.default_rng(7)
    centres = rng.uniform(0.25, 0.75, (3, 6))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % 3
        return np.clip(centres[y] + 0.08 * rng.normal(size=(count, 6)), 0, 1).astype(np.float32), y

    generator = torch.Generator().manual_seed(0)
    shapes = [(24, 6), (16, 24), (3, 16)]
    weights = [(torch.randn(s, generator=generator) * (2 / s[1]) ** 0.5).requires_grad_() for s in shapes]
    biases = [torch.zeros(s[0], requires_grad=True) for s in shapes]
    optimiser = torch.optim.Adam([*weights, *biases], 1e-2)
    x, y = (torch.as_tensor(a) for a in draw(600))
    for _ in range(150):
        h = torch.relu(x @ weights[0].T + biases[0])
        h = torch.relu(h @ weights[1].T + biases[1])
        loss = torch.nn.functional.cross_entropy(h @ weights[2].T + biases[2], y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    layers = [
        Dense(w.detach().numpy().astype(float), b.detach().numpy().astype(float))
        for w, b in zip(weights, biases, strict=True)
    ]
    return chain((6,), layers[0], Relu(), layers[1], Relu(), layers[2]), draw(60)[0]


def boxes(network: Network, points: np.ndarray, eps: float) -> list[Region]:
    labels = network.forward(points).argmax(axis=1)
    return [
        Region(f"r{k}", x.astype(float) - eps, x.astype(float) + eps, x, int(label), eps)
        for k, (x, label) in enumerate(zip(points, labels, strict=True))
    ]


def own_boxes(network: Network, count: int = 8) -> list[Region]:
    points = np.random.default_rng(3).uniform(0, 1, (count, *network.input_shape)).astype(np.float32)
    return boxes(network, points, 0.01)


def certified_margin(network: Network, regions: list[Region], labels: list[int]) -> float:
    rows = np.stack([predicts(label, network.num_outputs).rows for label in labels])
    lower, upper = np.stack([r.lower for r in regions]), np.stack([r.upper for r in regions])
    return float(LirpaBounder(network).lower_bounds(lower, upper, rows, np.zeros(rows.shape[:2])).lower.min(1).mean())


def check_result(original: Network, result: PruneResult, target: float, slack: int = 0) -> None:
    """Everything that holds for every result."""
    total, small = sum(original.num_units), result.network
    assert abs(sum(small.num_units) - (total - round(target * total))) <= slack
    assert small.num_parameters < original.num_parameters
    trace = result.trace
    assert trace.sparsity == pytest.approx(1 - sum(small.num_units) / total)
    assert tuple(len(kept) for kept in trace.alignment) == small.num_units
    removed = [(m.layer, m.removed) for step in trace.steps for m in step.accepted]
    kept = {(layer, unit) for layer, units in enumerate(trace.alignment) for unit in units}
    assert len(removed) == len(set(removed)) == total - sum(small.num_units)
    assert not kept & set(removed)
    assert all(0 <= s.certified_accuracy <= s.natural_accuracy <= 1 for s in trace.steps)
    assert loads(PruneTrace, dumps(trace), "trace") == trace
    x = np.random.default_rng(0).uniform(0, 1, (5, *original.input_shape)).astype(np.float32)
    np.testing.assert_allclose(OnnxProgram(to_onnx(small)).run(x), small.forward(x), rtol=1e-3, atol=1e-3)


def smooth_net(seed: int, op: Sigmoid | Tanh) -> Network:
    network = dense_net(seed)
    return replace(network, nodes=tuple(replace(n, op=op if isinstance(n.op, Relu) else n.op) for n in network.nodes))


def normalised_net(seed: int) -> Network:
    """Unfolded batch normalisation between a dense layer and its activation."""
    rng = np.random.default_rng(seed)
    scaling = Affine(rng.uniform(0.5, 2, 9), rng.normal(size=9))
    return chain((5,), random_dense(rng, 9, 5), scaling, Relu(), random_dense(rng, 3, 9))


@pytest.mark.parametrize("method", CORRECT)
@pytest.mark.parametrize("target", [0.2, 0.5, 0.77])
def test_target_is_hit_exactly(method, target):
    network = dense_net(0)
    check_result(network, prune(network, own_boxes(network), target_sparsity=target, method=method), target)


@pytest.mark.parametrize("method", CORRECT)
@pytest.mark.parametrize("make", [conv_net, pooled_net, residual_net, normalised_net])
def test_every_kind_of_network_becomes_smaller(method, make):
    network = make(1)
    check_result(network, prune(network, own_boxes(network), target_sparsity=0.4, method=method), 0.4, slack=1)


@pytest.mark.parametrize("op", [Sigmoid(), Tanh()])
def test_smooth_activations_are_pruned_too(op):
    network = smooth_net(0, op)
    check_result(network, prune(network, own_boxes(network), target_sparsity=0.5), 0.5)


def test_same_seed_same_bytes_and_another_seed_another_search():
    network = dense_net(4, (6, 20, 16, 4))
    first, again, other = (prune(network, target_sparsity=0.5, method="paoding", seed=s) for s in (2, 2, 3))
    assert to_onnx(first.network) == to_onnx(again.network)
    without_time = [
        tuple(replace(step, elapsed_s=None) for step in result.trace.steps) for result in (first, again, other)
    ]
    assert without_time[0] == without_time[1]
    assert without_time[0] != without_time[2]
    assert canonical_digest(first.network) != canonical_digest(other.network)


def test_every_proposal_is_in_the_trace_with_its_energy_and_reason():
    network, points = trained_net()
    steps = prune(network, boxes(network, points, 0.02), target_sparsity=0.7, method="paoding").trace.steps
    assert any(step.rejected for step in steps)
    for before, step in zip((None, *steps), steps, strict=False):
        assert {m.energy for m in step.accepted} == {step.energy}
        for move in (*step.accepted, *step.rejected):
            assert move.energy is not None
            assert "energy" in move.reason
        for move in step.rejected:
            assert move.energy > (before.energy if before else 0.0)
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    assert all(a.temperature > b.temperature and a.sparsity < b.sparsity for a, b in itertools.pairwise(steps))


def test_the_pruner_beats_random_and_magnitude_by_certified_margin():
    network, points = trained_net()
    own, held_out = boxes(network, points[:30], 0.02), boxes(network, points[30:], 0.02)
    labels = [int(r.label or 0) for r in held_out]
    margins = {
        method: certified_margin(prune(network, own, target_sparsity=0.6, method=method).network, held_out, labels)
        for method in CORRECT
    }
    assert margins["paoding"] > margins["random"] + 0.5
    assert margins["paoding"] > margins["magnitude-l2"]


def test_a_hard_floor_keeps_every_certificate_and_says_where_it_ended():
    network, points = trained_net()
    own = boxes(network, points, 0.02)
    free, floored = (
        prune(network, own, target_sparsity=0.9, method="paoding", hard_floor=floor) for floor in (False, True)
    )
    assert free.trace.stopped == ""
    labels = [int(region.label or 0) for region in own]

    def certified(judged: Network) -> set[int]:
        rows = np.stack([predicts(label, judged.num_outputs).rows for label in labels])
        lower, upper = np.stack([r.lower for r in own]), np.stack([r.upper for r in own])
        bounds = LirpaBounder(judged).lower_bounds(lower, upper, rows, np.zeros(rows.shape[:2]))
        return set(np.flatnonzero(bounds.lower.min(axis=1) > 0).tolist())

    before = certified(network)
    assert len(before) > 20
    assert not before <= certified(free.network)
    assert before <= certified(floored.network)
    reached = 1 - sum(floored.network.num_units) / sum(network.num_units)
    assert 0.1 < reached < 0.9
    assert floored.trace.sparsity == pytest.approx(reached)
    assert floored.trace.stopped.startswith(f"at a sparsity of {reached:.4f} ")
    last = floored.trace.steps[-1]
    assert last.accepted == ()
    assert {(m.layer, m.removed) for step in floored.trace.steps for m in step.accepted} == {
        (layer, unit) for layer, kept in enumerate(floored.trace.alignment)
        for unit in range(network.num_units[layer]) if unit not in kept
    }  # fmt: skip
    assert all("lose their certificate" in move.reason for move in last.rejected)
    assert loads(PruneTrace, dumps(floored.trace), "trace") == floored.trace


def test_a_hard_floor_needs_a_certificate_to_keep():
    network = dense_net(0)
    with pytest.raises(ConfigError, match="the original has none"):
        prune(
            network,
            boxes(network, np.zeros((2, *network.input_shape), np.float32), 9.0),
            hard_floor=True,
            method="paoding",
        )


@pytest.mark.parametrize("seed", range(3))
def test_a_sensitive_layer_gives_up_less(seed):
    rng = np.random.default_rng(seed)
    first = Dense(np.repeat(np.eye(8), 3, axis=0), np.zeros(24))  # three equal units for each input: two can go freely
    weight = rng.normal(size=(24, 24))
    second = Dense(weight, -weight @ np.full(24, 0.5))  # every unit bends in the middle of the domain [0, 1]
    network = chain((8,), first, Relu(), second, Relu(), random_dense(rng, 3, 24))
    kept = prune(network, target_sparsity=0.3, method="paoding").network.num_units
    assert sum(kept) == 34
    assert kept[0] < kept[1] - 2


def test_removing_a_third_keeps_the_decisions_of_a_trained_network():
    network, points = trained_net()
    small = prune(network, target_sparsity=0.33).network
    agree = np.mean(small.forward(points).argmax(axis=1) == network.forward(points).argmax(axis=1))
    assert agree > 0.9


def test_synthesised_anchors_are_recorded():
    network, _ = trained_net()
    anchors = prune(network, target_sparsity=0.3).trace.anchors
    assert anchors["source"] == "synthesised"
    assert anchors["domain"] == "default [0, 1]"
    assert 0 < anchors["eps"] < 0.3
    assert len(str(anchors["sha256"])) == 64


def test_given_regions_are_recorded_and_steer_the_search():
    network, points = trained_net()
    one, two = (prune(network, boxes(network, part, 0.02), target_sparsity=0.5) for part in (points[:20], points[20:]))
    assert one.trace.anchors["source"] == "given"
    assert one.trace.anchors["count"] == 20
    assert one.trace.anchors["eps"] == 0.02
    assert one.trace.anchors["sha256"] != two.trace.anchors["sha256"]


def test_progress_is_reported_up_to_the_total():
    calls = []
    network = dense_net(0)
    prune(network, own_boxes(network), target_sparsity=0.5, method="paoding", progress=lambda *call: calls.append(call))
    assert calls[-1] == ("pruning", 11, 11)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


def test_parameters_are_rounded_to_float32_first():
    network = dense_net(0)
    first = network.nodes[0].op
    assert isinstance(first, Dense)
    finer = replace(first, weight=first.weight * (1 + 1e-12), roundings=1)
    network = replace(network, nodes=(replace(network.nodes[0], op=finer), *network.nodes[1:]))
    to_onnx(prune(network, own_boxes(network), target_sparsity=0.3, method="random").network)


def test_layers_that_cannot_be_pruned_are_named_in_the_trace():
    rng = np.random.default_rng(0)
    network = chain((2, 3, 3), Relu(), random_conv(rng, 4, 2, 3), Relu(), Reshape((4,)), random_dense(rng, 3, 4))
    trace = prune(network, own_boxes(network), target_sparsity=0.3).trace
    assert trace.excluded == ("layer 0 (node0): it comes straight from the input",)


@pytest.mark.realdata
def test_half_of_a_recorded_network_is_pruned_better_than_by_magnitude(data_dir):
    recorded = np.load(data_dir / "paoding_oracle" / "mnist_mlp5_orig.npz")
    arrays = [recorded[name].astype(float) for name in sorted(recorded.files)]
    dense = [Dense(weight.T, bias) for weight, bias in zip(arrays[::2], arrays[1::2], strict=True)]
    network = chain((784,), dense[0], Relu(), dense[1], Relu(), dense[2], Relu(), dense[3])
    images = np.load(data_dir / "data" / "mnist_test.npz")
    x, y = (images["x"][:2000].reshape(-1, 784) / 255).astype(np.float32), images["y"][:2000]

    def accuracy(judged: Network) -> float:
        return float(np.mean(judged.forward(x).argmax(axis=1) == y))

    found = {m: accuracy(prune(network, target_sparsity=0.5, method=m).network) for m in ("paoding", "magnitude-l2")}
    assert found["paoding"] > 0.9 * accuracy(network)
    assert found["paoding"] > found["magnitude-l2"] + 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "choose one of portfolio, paoding, obs"),
        ({"method": "paoding", "step": 0.1}, "belongs to the paoding-legacy methods"),
        ({"method": "paoding-legacy-impact", "step": 0.0}, "above 0 and at most 1"),
        ({"method": "random", "hard_floor": True}, "belongs to the method paoding"),
        ({"target_sparsity": 0.0}, "strictly between"),
        ({"target_sparsity": 0.99}, "at most 20 can go"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_options_are_config_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        prune(dense_net(0), **options)


def test_networks_that_cannot_be_pruned_are_config_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="no hidden units"):
        prune(chain((4,), random_dense(rng, 3, 4)))
    with pytest.raises(ConfigError, match="two outputs"):
        prune(dense_net(0, (4, 5, 1)))
    with pytest.raises(ConfigError, match="at most 0 can go"):
        prune(chain((4,), random_dense(rng, 3, 4), Relu()))


def test_unusable_regions_are_errors():
    with pytest.raises(RegionError, match="empty list"):
        prune(dense_net(0), [])
    with pytest.raises(RegionError, match=r"shape \(5,\)"):
        prune(dense_net(0), [Region("r0", np.zeros(5), np.ones(5))])
