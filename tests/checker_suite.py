"""Statements that a sound checker satisfies, quick enough to be asked of every mutant.

Each function takes the checker's modules by name and raises AssertionError if one of its proofs is false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType

import numpy as np

from paoding_verify.evidence.certificate import Certificate, Split
from paoding_verify.evidence.property import Property, decides_like
from paoding_verify.network.evaluate import evaluate, evaluate_all, evaluate_op, pool_windows
from paoding_verify.network.folding import batch_norm, fold_affine
from paoding_verify.network.graph import (
    Affine,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Network,
    Node,
    Relu,
    Reshape,
    Sigmoid,
    Tanh,
)
from tests.adversarial import traps
from tests.float32_programs import run, short
from tests.networks import chain, conv_net, dense_net, pooled_net, random_dense, residual_net

__all__ = ["CHECKS", "perturbed", "smooth_net", "truncated"]

Checker = Mapping[str, ModuleType]
MAKERS = (dense_net, conv_net, pooled_net, residual_net)


def smooth_net(seed: int) -> Network:
    """Sigmoid, tanh and LeakyReLU layers; input (4,)."""
    rng = np.random.default_rng(seed)
    layers = [random_dense(rng, out, inp) for inp, out in ((4, 6), (6, 5), (5, 5), (5, 3))]
    return chain((4,), layers[0], Sigmoid(), layers[1], LeakyRelu(0.25), layers[2], Tanh(), layers[3])


def perturbed(network: Network, seed: int, size: float) -> Network:
    """The same network with noise on every weight, in float32."""
    rng = np.random.default_rng(seed)
    nodes = []
    for node in network.nodes:
        op = node.op
        if isinstance(op, (Dense, Conv2d)):
            weight = op.weight + size * rng.normal(size=op.weight.shape)
            op = replace(op, weight=weight.astype(np.float32).astype(np.float64))
        nodes.append(Node(op, node.inputs, node.name))
    return Network(network.input_shape, tuple(nodes))


def truncated(seed: int) -> tuple[Network, Network, tuple[tuple[int, ...], ...]]:
    """A dense network, one without some of its units, and the alignment."""
    f = dense_net(seed)
    kept = tuple(tuple(range(1, units)) for units in f.num_units)
    maps = [np.arange(6), *(np.array(units) for units in kept), np.arange(4)]
    nodes, layer = [], 0
    for node in f.nodes:
        op = node.op
        if isinstance(op, Dense):
            op = Dense(op.weight[np.ix_(maps[layer + 1], maps[layer])], op.bias[maps[layer + 1]])
            layer += 1
        nodes.append(Node(op, node.inputs, node.name))
    return f, Network(f.input_shape, tuple(nodes)), kept


def with_head_bias(network: Network, change: Callable[[np.ndarray], np.ndarray]) -> Network:
    """The network with another bias in its last layer, which is dense."""
    last = network.nodes[-1]
    assert isinstance(last.op, Dense)
    head = Node(replace(last.op, bias=change(last.op.bias)), last.inputs, last.name)
    return replace(network, nodes=(*network.nodes[:-1], head))


def both_signs(outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that bound every output from below and above."""
    rows = np.vstack([np.eye(outputs), -np.eye(outputs)])
    return rows, np.linspace(-1.0, 1.0, len(rows))


def sampled_points(checker: Checker) -> None:
    """Bounds in both arithmetics lie below float64 values at random points and at corners."""
    for seed, make in enumerate((*MAKERS, smooth_net)):
        network, rng = make(seed), np.random.default_rng(seed)
        centre = rng.uniform(size=(2, *network.input_shape))
        rows, offsets = both_signs(network.num_outputs)
        for eps in (0.0, 0.02, 0.5):
            lower, upper = centre - eps, centre + eps
            inside = rng.uniform(lower, upper, size=(60, *lower.shape))
            corners = np.where(rng.random(size=(40, *lower.shape)) < 0.5, lower, upper)
            points = np.concatenate([inside, corners])
            for semantics in ("real", "float32"):
                found = checker["crown"].lower_bounds([network], lower, upper, rows, offsets, semantics=semantics)
                for k in range(2):
                    values = evaluate(network, points[:, k]) @ rows.T + offsets
                    assert (found[k] <= values + 1e-12).all(), f"{make.__name__} {eps} {semantics}"
                    assert (found[k] >= values.min(axis=0) - 1e-2).all() or eps > 0


def float32_runs(checker: Checker) -> None:
    """Bounds for float32 lie below what random float32 programs compute at single points."""
    for seed, make in enumerate((*MAKERS, smooth_net, _scaled_net)):
        network, rng = make(seed), np.random.default_rng(seed)
        point = rng.uniform(size=network.input_shape).astype(np.float32).astype(np.float64)
        rows, offsets = both_signs(network.num_outputs)
        found = checker["crown"].lower_bounds([network], point[None], point[None], rows, offsets, semantics="float32")
        for _ in range(8):
            values = rows @ run(network, point, rng).astype(np.float64) + offsets
            assert (found[0] <= values + 1e-14).all(), make.__name__


def coarse_runs(checker: Checker) -> None:
    """Bounds for tf32 and bfloat16 lie below what programs compute that round to 11 or 8 bits."""
    rng = np.random.default_rng(0)
    lone = chain((6,), random_dense(rng, 5, 6)), chain((6,), LeakyRelu(0.3)), chain((6,), Sigmoid())
    for network in (*(make(k) for k, make in enumerate((*MAKERS, smooth_net))), *lone):
        point = rng.uniform(size=network.input_shape).astype(np.float32).astype(np.float64)
        rows, offsets = both_signs(network.num_outputs)
        before = np.inf
        for semantics, bits in (("float32", 24), ("tf32", 11), ("bfloat16", 8)):
            found = checker["crown"].lower_bounds(
                [network], point[None], point[None], rows, offsets, semantics=semantics
            )
            assert (found < before).all()
            before = found
            for _ in range(3):
                values = rows @ run(network, point, rng, bits).astype(np.float64) + offsets
                assert (found[0] <= values + 1e-14).all(), semantics


def coarse_parts(checker: Checker) -> None:
    """A product and its bias, or a normalisation, may be operations of their own, whose results are rounded too."""
    rng = np.random.default_rng(1)
    for semantics, bits in (("tf32", 11), ("bfloat16", 8)):

        def escapes(network: Network, point: np.ndarray, value: np.ndarray, semantics: str = semantics) -> bool:
            row = np.array([[1.0], [-1.0]])
            low = checker["crown"].lower_bounds([network], point, point, row, np.zeros(2), semantics=semantics)[0]
            return not low[0] <= value.item() <= -low[1]

        step = 2.0**-bits * (1 - 2.0**-6)  # 1 + step is rounded to 1
        lone = chain((2,), Dense(np.array([[1 + step, 1.0]]), np.array([step])))
        assert not escapes(lone, np.array([[1 + step, step]]), np.ones(1)), semantics
        for _ in range(200):
            weight = rng.uniform(1, 1.02, (1, 2)).astype(np.float32).astype(np.float64)
            norm = rng.uniform([1.0, 0, 0, 0.9], [1.02, 0.02, 0.02, 1]).astype(np.float32).astype(np.float64)
            point = rng.uniform(1, 1.02, (1, 2)).astype(np.float32).astype(np.float64)
            layer = fold_affine(Dense(weight, np.zeros(1)), batch_norm(*norm[:, None], epsilon=1e-5, rank=1))
            assert layer is not None
            x, w, *parts, root = (short(a, bits) for a in (point, weight, *norm[:3], np.sqrt(short(norm[3], bits))))
            centred = short(short(x @ w.T, bits) - parts[2], bits)
            scaled = short(short(short(1 / root, bits) * centred, bits) * parts[0], bits)
            assert not escapes(chain((2,), layer), point, short(scaled + parts[1], bits)), semantics


def truncated_sums(checker: Checker) -> None:
    """A matrix unit may cut off all that falls below the last of the 24 bits of a sum."""
    weight = np.full((1, 1 << 17), 2.0**-23 * (1 - 2.0**-10))
    weight[0, 0] = 1.0
    network, points = chain((1 << 17,), Dense(weight, np.zeros(1))), np.ones((1, 1 << 17))
    low = checker["crown"].lower_bounds([network], points, points, np.eye(1), np.zeros(1), semantics="tf32")
    assert low <= 1.0, "all but the first product may be lost"
    assert (weight @ points[0]).item() > 1.015


def _scaled_net(seed: int) -> Network:
    """A dense layer between scalings that cancel large numbers: merging them changes a lot."""
    rng = np.random.default_rng(seed)
    shift = rng.uniform(900, 1100, 6).astype(np.float32).astype(np.float64)
    return chain((6,), Affine(np.ones(6), shift), Affine(np.ones(6), -shift), random_dense(rng, 6, 6))


def traps_are_refused(checker: Checker) -> None:
    """No network that fools verifiers is certified where its property is false."""
    for trap in traps():
        for semantics in trap.false_in:
            for split in (None, Split(0, float(trap.upper.flat[0]))):
                (proof,) = checker["prove"].prove(
                    [trap.network], trap.lower[None], trap.upper[None], [trap.property],
                    [Certificate("crown", split=split)], semantics=semantics,
                )  # fmt: skip
                assert not proof.proved, f"{trap.name} {semantics}"


def lines_enclose(checker: Checker) -> None:
    """Lines lie below and above activations on a grid, max pooling between them at random points."""
    relax, rng = checker["relax"], np.random.default_rng(5)
    ends = np.sort(rng.normal(size=(300, 2)) * rng.choice([0.01, 1.0, 8.0], size=(300, 1)), axis=1)
    lower, upper = ends[:, :1], ends[:, 1:]
    grid = lower + (upper - lower) * np.linspace(0.0, 1.0, 41)
    for op in (Relu(), LeakyRelu(0.3), Sigmoid(), Tanh()):
        lines, values = relax.lines_around(op, lower, upper), evaluate_op(op, grid)
        assert (lines.lower_slope * grid + lines.lower_shift <= values + 1e-14).all()
        assert (lines.upper_slope * grid + lines.upper_shift >= values - 1e-14).all()
    pool = MaxPool2d((2, 2), (1, 1), (1, 0, 0, 1))
    centre, radius = rng.normal(size=(30, 2, 4, 3)), rng.uniform(0, 0.7, size=(30, 2, 4, 3))
    lower, upper = centre - radius, centre + radius
    lines = relax.pool_lines(pool, lower, upper)
    for _ in range(60):
        z = np.where(
            rng.random(size=lower.shape) < 0.3, lower, np.where(rng.random(size=lower.shape) < 0.5, upper, centre)
        )
        values, cells = evaluate_op(pool, z), pool_windows(pool, z, 0.0)
        below, above = (np.take_along_axis(cells, c[:, :, None], axis=2)[:, :, 0] for c in lines.cells)
        assert (lines.lower_slope * below + lines.lower_shift <= values + 1e-14).all()
        assert (lines.upper_slope * above + lines.upper_shift >= values - 1e-14).all()


def values_enclosed(checker: Checker) -> None:
    """Every value of a network, and every difference of twin values, lies within its bounds at corners of a box."""
    for seed, make in enumerate((*MAKERS, smooth_net)):
        f, rng = make(seed), np.random.default_rng(seed)
        g = perturbed(f, seed, 1e-2)
        hints = [Certificate("differential", alignment=tuple(tuple(range(n)) for n in f.num_units))]
        centre = rng.uniform(size=f.input_shape)
        for eps in (1e-3, 0.4):
            lower, upper = centre - eps, centre + eps
            points = np.where(rng.random(size=(80, *f.input_shape)) < 0.5, lower, upper)
            state = checker["crown"].enclose([f, g], lower[None], upper[None], "real", hints=hints)
            of_f, of_g = evaluate_all(f, points), evaluate_all(g, points)
            for k in range(1, len(of_f)):
                for number, values in ((2 * k - 1, of_f[k]), (2 * k, of_g[k])):
                    bounds = state.values[number]
                    assert (bounds.lower - 1e-12 <= values).all()
                    assert (values <= bounds.upper + 1e-12).all()
                low, high = state.differences[2 * k]
                assert (low - 1e-12 <= of_f[k] - of_g[k]).all()
                assert (of_f[k] - of_g[k] <= high + 1e-12).all()


def verdicts(checker: Checker) -> None:
    """Margins of zero and NaN prove nothing; every leaf and every clause counts."""
    identity = chain((1,), Dense(np.array([[1.0]]), np.zeros(1)))
    zero, one = np.zeros((1, 1)), np.ones((1, 1))

    def prove(
        prop: Property, low: np.ndarray, high: np.ndarray, split: Split | None = None, semantics: str = "real"
    ) -> bool:
        certificate = Certificate("crown", split=split)
        (proof,) = checker["prove"].prove([identity], low, high, [prop], [certificate], semantics=semantics)
        return bool(proof.proved)

    above = Property(np.array([[1.0], [0.0]]), np.array([0.0, 0.0]), ((0,), (0, 1)))
    assert not prove(above, zero, one)
    assert prove(Property(np.array([[1.0]]), np.array([0.5]), ((0,),)), zero, one)
    positive = Property(np.array([[1.0]]), np.array([-0.5]), ((0,),))
    for threshold in (0.6, 0.75, float("nan"), -1.0, 2.0):
        assert not prove(positive, zero, one, Split(0, threshold))
    assert not prove(positive, zero, one, Split(3, 0.6))
    assert not prove(Property(np.array([[-1.0]]), np.array([0.5]), ((0,),)), zero, one, Split(0, 0.4))
    # Sums of the upper part of the larger box may overflow: nothing is proved there.
    far, split = Property(np.array([[1.0]]), np.array([0.0]), ((0,),)), Split(0, 2.0**109)
    assert prove(far, 2.0**100 * one, 2.0**110 * one, split, "float32")
    assert not prove(far, 2.0**100 * one, 2.0**125 * one, split, "float32")
    either = Property(np.array([[1.0], [-1.0]]), np.array([-0.5, 0.5]), ((0,), (1,)))
    assert not prove(either, zero, one, Split(0, 0.5))


def garbage_slopes(checker: Checker) -> None:
    """Whatever slopes a certificate holds, bounds stay below the truth."""
    rng = np.random.default_rng(0)
    for make in (dense_net, smooth_net):
        network = make(3)
        centre = rng.uniform(size=(1, *network.input_shape))
        lower, upper = centre - 0.3, centre + 0.3
        rows, offsets = both_signs(network.num_outputs)
        points = np.where(rng.random(size=(200, *centre.shape[1:])) < 0.5, lower, upper)
        truth = (evaluate(network, points) @ rows.T + offsets).min(axis=0)
        nodes = [k for k in network.activations if not isinstance(network.nodes[k].op, (Sigmoid, Tanh))]
        for trial in range(6):
            slopes = {
                (len(network.nodes), k): rng.integers(
                    0, 256, (1 if trial % 2 else len(rows), network.shapes[k + 1][0]), dtype=np.uint8
                )
                for k in nodes
            }
            found = checker["crown"].lower_bounds(
                [network], lower, upper, rows, offsets, hints=[Certificate("crown", slopes)]
            )
            assert (found[0] <= truth + 1e-12).all()


def slopes_are_clipped(checker: Checker) -> None:
    """relu(z) - 3 (z + 5) + 15 on [-1, 1] is -2 at z = 1; a slope of 3 would prove more."""
    first = Dense(np.array([[1.0], [1.0]]), np.array([0.0, 5.0]))
    network = chain((1,), first, Relu(), Dense(np.array([[1.0, -3.0]]), np.array([15.0])))
    for value in (0, 128, 255):
        slopes = {(3, 1): np.full((1, 2), value, dtype=np.uint8)}
        one = np.ones((1, 1))
        found = checker["crown"].lower_bounds(
            [network], -one, one, one, np.zeros(1), hints=[Certificate("crown", slopes)]
        )
        assert found[0, 0] <= -2.0


def labels(checker: Checker) -> None:
    """A pair decides alike only where both networks are certified for one label."""
    f = dense_net(0)
    g = with_head_bias(f, lambda bias: bias[::-1] * 50)
    rng = np.random.default_rng(1)
    centre = rng.uniform(size=(12, 6))
    for label in range(4):
        proofs = checker["prove"].prove(
            [f, g], centre - 1e-3, centre + 1e-3, [decides_like(4)] * 12,
            [Certificate("both-robust", label=label)] * 12, semantics="real",
        )  # fmt: skip
        for point, proof in zip(centre, proofs, strict=True):
            same = evaluate(f, point[None]).argmax() == evaluate(g, point[None]).argmax() == label
            assert same or not proof.proved
    mixed = Property(np.array([[1.0, 0, 0, 0, -1.0, 0, 0, 0]]), np.array([10.0 - 1e-9]), ((0,),))
    h = with_head_bias(f, lambda bias: bias + 10.0)
    (proof,) = checker["prove"].prove(
        [f, h], centre[:1], centre[:1], [mixed], [Certificate("both-robust", label=0)], semantics="real"
    )
    assert not proof.proved


def images_of_other_shapes(checker: Checker) -> None:
    """The same weights on rows of 8 and on rows of 4 make different networks: joint bounds must see it."""

    def reshaped(shape: tuple[int, int, int]) -> Network:
        weights = np.ones((1, 1, 3, 3)), np.zeros(1)
        head = Dense(np.eye(2, 16, 5) * 100.0, np.array([0.0, 1.0]))
        steps = Reshape(shape), Conv2d(*weights, padding=(1, 1, 1, 1)), Reshape((16,)), Dense(np.eye(16), np.zeros(16))
        return chain((16,), *steps, Relu(), head)

    f, g, point = reshaped((1, 2, 8)), reshaped((1, 4, 4)), np.ones((1, 16))
    rows = np.vstack([np.eye(2, 4) - np.eye(2, 4, 2), np.eye(2, 4, 2) - np.eye(2, 4)])
    hints = [Certificate("differential", alignment=(tuple(range(16)),))]
    found = checker["crown"].lower_bounds([f, g], 0 * point, point, rows, np.zeros(4), hints=hints)
    truth = np.concatenate([evaluate(f, point), evaluate(g, point)], axis=1) @ rows.T
    assert (found <= truth + 1e-9).all()


def folded_far_out(checker: Checker) -> None:
    """Folded parameters say nothing of float32 programs beyond 2^64 (`network.folding`)."""
    for reach, sure in ((2.0**40, True), (2.0**70, False)):
        scale = Affine(np.array([2.0**-70]), np.array([0.0]), roundings=4)
        network = chain((1,), scale, Dense(np.ones((2, 1)), np.array([1.0, 0.0])))
        box, rows = np.array([[reach]]), np.array([[1.0, -1.0]])
        found = checker["crown"].lower_bounds([network], box, box, rows, np.zeros(1), semantics="float32")
        assert bool(found[0, 0] > 0) is sure


CHECKS: tuple[Callable[[Checker], None], ...] = (
    verdicts, lines_enclose, slopes_are_clipped, labels, garbage_slopes, values_enclosed, traps_are_refused,
    float32_runs, coarse_runs, coarse_parts, truncated_sums, sampled_points, folded_far_out, images_of_other_shapes,
)  # fmt: skip
