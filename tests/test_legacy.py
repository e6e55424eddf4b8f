"""The original tool's three modes, against its recorded moves and on small networks."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.errors import ConfigError
from paoding_verify.network.graph import Dense, Network, Relu
from paoding_verify.pruning.legacy_arithmetic import impact_scores, next_range, ranked_pairs, saliency
from paoding_verify.pruning.legacy_sampling import LayerTape, LegacySampler
from paoding_verify.pruning.prune import prune
from paoding_verify.regions import Region
from tests.networks import chain, conv_net, dense_net, random_dense

SHARE = 0.0625
MODES = ("baseline", "impact", "stochastic")


def recorded_arrays(data_dir: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    stored = np.load(data_dir / "paoding_oracle" / "mnist_mlp5_orig.npz")
    arrays = [stored[name] for name in sorted(stored.files)]
    return arrays[::2], arrays[1::2]


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the generator of the original tool


def once_seeded() -> random.Random:
    """The generator of one recording, which was seeded once, not in each step, and drawn from twice before the tool."""
    generator = seeded(42)
    generator.random()
    generator.random()
    return generator


def arrays(network: Network) -> tuple[list[np.ndarray], list[np.ndarray]]:
    dense = [node.op for node in network.nodes if isinstance(node.op, Dense)]
    return [op.weight.T.astype(np.float32) for op in dense], [op.bias.astype(np.float32) for op in dense]


def own_boxes(network: Network) -> list[Region]:
    points = np.random.default_rng(3).uniform(0, 1, (6, *network.input_shape)).astype(np.float32)
    return [Region(f"r{k}", x.astype(float) - 0.01, x.astype(float) + 0.01, x, 0, 0.01) for k, x in enumerate(points)]


@pytest.mark.realdata
@pytest.mark.parametrize(("tape", "seed"), [("baseline", 42), ("impact", 42), ("stoch", None), ("stoch80", 7)])
def test_every_recorded_move_is_repeated_much_faster(data_dir, tape, seed):
    record = json.loads((data_dir / "paoding_oracle" / f"mlp5_{tape}.json").read_text())
    rows = record["rows"][1:]
    sampler = LegacySampler(*recorded_arrays(data_dir), mode=record["mode"].lower(), share=record["step"])
    once = once_seeded()
    start = time.process_time()
    found = [sampler.advance(once if seed is None else seeded(seed * 1000 + row["step"])) for row in rows]
    elapsed_s = time.process_time() - start
    for row, tapes in zip(rows, found, strict=True):
        moves = [[list(verdict.pair) for verdict in layer.accepted] for layer in tapes]
        assert moves == row["pairs"][1:]
        removed = [sum(not row.any() for row in weight) for weight in sampler.weights[1:]]
        for layer, bounds in zip(tapes, row["scores"][1:], strict=False):
            scored = [*layer.accepted, *layer.rejected] if tape == "impact" else layer.accepted
            scores = [round(verdict.score, 4) for verdict in scored]
            assert [min(scores), max(scores)] == pytest.approx(bounds, abs=2e-4)
    assert removed == rows[-1]["zero_rows"][1:]
    assert elapsed_s < sum(row["t"] for row in rows) / 20


@pytest.mark.realdata
@pytest.mark.parametrize("tape", ["baseline", "impact"])
def test_the_pruned_network_has_the_recorded_accuracy(data_dir, tape):
    record = json.loads((data_dir / "paoding_oracle" / f"mlp5_{tape}.json").read_text())
    weights, biases = recorded_arrays(data_dir)
    dense = [Dense(w.T.astype(float), b.astype(float)) for w, b in zip(weights, biases, strict=True)]
    network = chain((784,), dense[0], Relu(), dense[1], Relu(), dense[2], Relu(), dense[3])
    images = np.load(data_dir / "data" / "mnist_test.npz")
    x, y = (images["x"].reshape(-1, 784) / 255).astype(np.float32), images["y"]
    centres = x[:3].astype(float)
    own = [Region(f"r{k}", c - 0.01, c + 0.01, x[k], 0, 0.01) for k, c in enumerate(centres)]
    result = prune(network, own, method=f"paoding-legacy-{tape}", seed=42)
    assert result.network.num_units == (64, 64, 32)
    assert np.mean(result.network.forward(x).argmax(axis=1) == y) == pytest.approx(record["rows"][-1]["acc"], abs=2e-4)
    moves = [[m.kept, m.removed] for m in result.trace.steps[2].accepted if m.layer == 1]
    assert moves == record["rows"][3]["pairs"][2]


def test_saliency_is_the_formula_with_nan_where_both_biases_are_zero():
    weight = np.array([[1, 1, 4], [0, 0, 4]], np.float32)
    matrix = saliency(weight, np.array([0, 0, 3], np.float32), np.array([[3, 4], [1, 0], [0, 2]], np.float32))
    assert np.isnan(matrix[0, 1])
    assert matrix[0, 2] == pytest.approx((5 + 1) * 2)
    assert matrix[2, 0] == pytest.approx((5 + 1) * 5)


def test_pairs_are_ranked_column_first_without_the_cheapest_and_nan_last():
    matrix = np.array([[np.nan, 5.0, np.nan], [1.0, np.nan, 4.0], [2.0, 3.0, np.nan]])
    assert ranked_pairs(matrix).tolist() == [[0, 2], [1, 2], [2, 1], [1, 0], [2, 0]]


def test_ranges_keep_a_negative_upper_end():
    lower, upper = next_range(
        (np.zeros(2, np.float32), np.ones(2, np.float32)),
        np.array([[1, -1], [2, -3]], np.float32),
        np.array([0.5, -1], np.float32),
    )
    assert lower.tolist() == [0, 0]
    assert upper.tolist() == [3.5, -1]


def test_a_score_grows_with_the_width_at_the_outputs():
    span = np.zeros(3, np.float32), np.array([1, 1, 4], np.float32)
    outgoing = np.array([[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]], np.float32)
    narrow, wide = impact_scores(span, outgoing, [], [(0, 1), (0, 2)])
    assert narrow < wide
    assert narrow == pytest.approx(0.75 / (1 + np.exp(-0.4)) + 0.25 * 0.5)


@pytest.mark.parametrize("mode", MODES)
def test_an_update_moves_the_removed_units_weights(mode):
    weights, biases = arrays(dense_net(5, (6, 12, 4)))
    sampler = LegacySampler(weights, biases, mode=mode, share=0.25)
    (tape,) = sampler.advance(seeded(1))
    expected = weights[1].copy()
    for verdict in tape.accepted:
        kept, removed = verdict.pair
        expected[kept] += expected[removed]
        expected[removed] = 0
    assert len(tape.accepted) == 3
    np.testing.assert_array_equal(sampler.weights[1], expected)
    np.testing.assert_array_equal(weights[1], arrays(dense_net(5, (6, 12, 4)))[0][1])


def test_the_baseline_ends_when_every_unit_had_its_turn():
    sampler = LegacySampler(*arrays(dense_net(5, (6, 12, 4))), mode="baseline", share=0.25)
    tapes = [sampler.advance(seeded(k)) for k in range(3)]
    assert [len(tape.accepted) for (tape,) in tapes] == [3, 3, 0]
    used = [unit for (tape,) in tapes for verdict in tape.accepted for unit in verdict.pair]
    assert sorted(used) == list(range(12))


def test_impact_releases_what_it_does_not_take_and_keeps_the_lower_scores():
    (tape,) = LegacySampler(*arrays(dense_net(5, (6, 16, 4))), mode="impact", share=0.25).advance(seeded(0))
    assert (len(tape.accepted), len(tape.rejected)) == (4, 4)
    assert max(v.score for v in tape.accepted) <= min(v.score for v in tape.rejected)


def test_chance_decides_in_the_stochastic_mode_and_nowhere_else():
    def tapes(mode: str, seed: int) -> list[LayerTape]:
        sampler = LegacySampler(*arrays(dense_net(9, (6, 40, 30, 4))), mode=mode, share=0.2)
        return [tape for step in range(3) for tape in sampler.advance(seeded(seed + step))]

    assert tapes("stochastic", 1) == tapes("stochastic", 1)
    assert tapes("stochastic", 1) != tapes("stochastic", 2)
    assert tapes("impact", 1) == tapes("impact", 2)
    verdicts = [v for tape in tapes("stochastic", 1) for v in (*tape.accepted, *tape.rejected)]
    assert all(0 < v.temperature <= 1.0001 for v in verdicts if v.temperature is not None)
    assert all(v.temperature is not None for tape in tapes("stochastic", 1) for v in tape.rejected)


@pytest.mark.parametrize("mode", MODES)
def test_a_profile_gives_a_smaller_network_and_its_moves(mode):
    network = dense_net(3, (6, 16, 8, 3))
    result = prune(network, own_boxes(network), method=f"paoding-legacy-{mode}", step=0.25, seed=4)
    small, trace = result.network, result.trace
    removed = {(m.layer, m.removed) for step in trace.steps for m in step.accepted}
    kept = {(layer, unit) for layer, units in enumerate(trace.alignment) for unit in units}
    assert len(trace.steps) == 2
    assert removed | kept == {(0, k) for k in range(16)} | {(1, k) for k in range(8)}
    assert trace.sparsity == pytest.approx(1 - sum(small.num_units) / 24)
    sampler = LegacySampler(*arrays(network), mode=mode, share=0.25)
    for step in trace.steps:
        tapes = sampler.advance(seeded(4000 + step.step))
        pairs = [(layer, *verdict.pair) for layer, tape in enumerate(tapes) for verdict in tape.accepted]
        assert [(m.layer, m.kept, m.removed) for m in step.accepted] == pairs
    x = np.random.default_rng(0).uniform(0, 1, (7, 6)).astype(np.float32)
    value = x
    for weight, bias in zip(sampler.weights[:-1], sampler.biases[:-1], strict=True):
        value = np.maximum(value @ weight + bias, 0)
    expected = value @ sampler.weights[-1] + sampler.biases[-1]
    np.testing.assert_allclose(small.forward(x), expected, rtol=1e-4, atol=1e-5)


def test_networks_and_targets_that_do_not_fit_are_config_errors():
    rng = np.random.default_rng(0)
    stacked = chain((5,), random_dense(rng, 8, 5), random_dense(rng, 6, 8), Relu(), random_dense(rng, 3, 6))
    for network in (conv_net(0), stacked):
        with pytest.raises(ConfigError, match="dense layers with ReLU between them only"):
            prune(network, own_boxes(network), method="paoding-legacy-impact")
    network = dense_net(0)
    with pytest.raises(ConfigError, match="ends at a sparsity of one half"):
        prune(network, own_boxes(network), method="paoding-legacy-baseline", target_sparsity=0.6)
