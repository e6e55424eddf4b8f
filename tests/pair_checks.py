"""Statements about pairs that a sound checker satisfies; see `checker_suite`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import distance_at_most, predicts
from paoding_verify.network.evaluate import evaluate, evaluate_all
from paoding_verify.network.graph import Dense, Relu
from tests.checker_suite import MAKERS, Checker, perturbed, smooth_net, truncated
from tests.float32_programs import run
from tests.networks import chain, dense_net, random_dense, residual_net

__all__ = ["PAIR_CHECKS"]


def pairs(checker: Checker) -> None:
    """Joint bounds lie below float64 values of both networks, and hold for independent float32 programs."""
    cases = [
        (f, perturbed(f, k, 1e-2), [range(n) for n in f.num_units])
        for k, f in enumerate(m(k) for k, m in enumerate((*MAKERS, smooth_net)))
    ]
    f, g, kept = truncated(7)
    cases += [(f, g, kept), (f, f, [range(n) for n in f.num_units])]
    for seed, (f, g, alignment) in enumerate(cases):
        rng = np.random.default_rng(seed)
        half = np.eye(f.num_outputs)
        rows = np.vstack([np.hstack([half, -half]), np.hstack([-half, half]), rng.normal(size=(4, 2 * len(half)))])
        centre = rng.uniform(size=(2, *f.input_shape)).astype(np.float32).astype(np.float64)
        for eps in (0.0, 0.05, 0.4):
            lower, upper = centre - eps, centre + eps
            corners = np.where(rng.random(size=(60, *lower.shape)) < 0.5, lower, upper)
            points = np.concatenate([rng.uniform(lower, upper, size=(60, *lower.shape)), corners])
            for semantics in ("real", "float32"):
                hints = [Certificate("differential", alignment=tuple(map(tuple, alignment)))]
                found = checker["crown"].lower_bounds(
                    [f, g], lower, upper, rows, np.zeros(len(rows)), semantics=semantics, hints=hints
                )
                for k in range(2):
                    outputs = np.concatenate([evaluate(f, points[:, k]), evaluate(g, points[:, k])], axis=1)
                    assert (found[k] <= outputs @ rows.T + 1e-12).all(), f"case {seed} {eps} {semantics}"
                if semantics == "float32" and eps == 0.0:
                    both = np.concatenate([run(f, centre[0], rng), run(g, centre[0], rng)]).astype(np.float64)
                    assert (found[0] <= rows @ both + 1e-14).all(), f"case {seed} in float32"


def pairs_that_cancel(checker: Checker) -> None:
    """Two equal networks whose hidden values are absorbed in float32 may differ there; exactly they do not."""
    one, w = np.array([[1.0]]), 2.0**24
    ops = (Dense(one, np.array([w])), Relu(), Dense(one, np.array([-w])), Relu())
    tail = (Dense(one, np.array([-0.2])), Relu(), Dense(one, np.zeros(1)))
    f = chain((1,), *ops, *tail)
    lower, upper = np.array([[0.1]]), np.array([[0.45]])
    certificate = Certificate("differential", alignment=((0,),) * 3)
    exact, rounded = (
        checker["prove"].prove([f, f], lower, upper, [distance_at_most(0.1, 1)], [certificate], semantics=semantics)[0]
        for semantics in ("real", "float32")
    )
    assert exact.proved
    assert not rounded.proved
    state = checker["crown"].enclose([f, f], lower, upper, "float32", hints=[certificate])
    assert state.differences[6][1][0, 0] >= 0.4  # one program absorbs x, the other one keeps it


def first_layer_differences(checker: Checker) -> None:
    """Intervals of first-layer values and differences are reached: they are not too narrow by any factor."""
    rng = np.random.default_rng(2)
    f = chain((3,), random_dense(rng, 4, 3), Relu(), random_dense(rng, 2, 4))
    g = perturbed(f, 3, 0.1)
    hints = [Certificate("differential", alignment=(tuple(range(4)),))]
    state = checker["crown"].enclose([f, g], -np.ones((1, 3)), np.ones((1, 3)), "real", hints=hints)
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    first, second = evaluate_all(f, corners)[1], evaluate_all(g, corners)[1]
    for values, (low, high) in (
        (first, (state.values[1].lower, state.values[1].upper)), (first - second, state.differences[2]),
    ):  # fmt: skip
        assert (low <= values.min(axis=0) + 1e-14).all()
        assert (high >= values.max(axis=0) - 1e-14).all()


def garbage_shares(checker: Checker) -> None:
    """Whatever slopes and shares the certificate of a pair holds, bounds stay below the truth."""
    f, g, kept = truncated(7)
    cases = [(f, g, kept)]
    for k, f in enumerate((dense_net(0), residual_net(1))):
        cases.append((f, perturbed(f, k, 1e-2), tuple(tuple(range(n)) for n in f.num_units)))
    for seed, (f, g, alignment) in enumerate(cases):
        rng = np.random.default_rng(seed)
        centre = rng.uniform(size=(1, *f.input_shape))
        lower, upper = centre - 0.3, centre + 0.3
        half = np.eye(f.num_outputs)
        rows = np.vstack([np.hstack([half, -half]), np.hstack([-half, half])])
        points = np.where(rng.random(size=(200, *centre.shape[1:])) < 0.5, lower, upper)
        truth = (np.concatenate([evaluate(f, points), evaluate(g, points)], axis=1) @ rows.T).min(axis=0)
        start = len(f.nodes) + len(g.nodes)
        for trial in range(2):
            tables: list[dict[tuple[int, int], np.ndarray]] = [{}, {}]
            for k in g.activations:
                shape = 1 if trial % 2 else len(rows), int(np.prod(g.shapes[k + 1]))
                for each in tables:
                    each[start, len(f.nodes) + k] = rng.integers(0, 256, shape).astype(np.uint8)
            for semantics in ("real", "float32"):
                hints = [Certificate("differential", tables[0], alignment=alignment, shares=tables[1])]
                found = checker["crown"].lower_bounds(
                    [f, g], lower, upper, rows, np.zeros(len(rows)), semantics=semantics, hints=hints
                )
                assert (found[0] <= truth + 1e-12).all(), f"case {seed} {trial} {semantics}"


def damaged_shares(checker: Checker) -> None:
    """Shares that belong to no unit or row, or are no bytes, are refused; a network alone has none."""
    f = dense_net(0)
    units, rows = tuple(tuple(range(n)) for n in f.num_units), 2 * f.num_outputs
    node, start = len(f.nodes) + f.activations[0], 2 * len(f.nodes)
    lower, prop = np.zeros((1, *f.input_shape)), distance_at_most(1.0, f.num_outputs)
    good = np.zeros((rows, f.num_units[0]), dtype=np.uint8)
    for key, table, fits in (
        ((start, node), good, True), ((start, node), good[:, 1:], False), ((start, node), good[1:], False),
        ((start, node), good.astype(np.float64), False), ((start, node + 1), good, False),
    ):  # fmt: skip
        certificate = Certificate("differential", alignment=units, shares={key: table})
        (proof,) = checker["prove"].prove([f, f], lower, lower, [prop], [certificate], semantics="real")
        assert proof.proved is fits
        assert proof.damaged is not fits
    for kind, label, networks in (("both-robust", 0, [f, f]), ("crown", None, [f])):
        wanted = prop if len(networks) == 2 else predicts(0, f.num_outputs)
        certificate = Certificate(kind, label=label, shares={(start, node): good})
        (proof,) = checker["prove"].prove(networks, lower, lower, [wanted], [certificate], semantics="real")
        assert proof.damaged


def damaged_alignments(checker: Checker) -> None:
    """An alignment that fits nowhere is no use and does no harm: both networks are bounded separately."""
    f, g, kept = truncated(7)
    rows = np.hstack([np.eye(f.num_outputs), -np.eye(f.num_outputs)])
    centre = np.random.default_rng(4).uniform(size=(1, *f.input_shape))
    box, offsets = (centre - 0.05, centre + 0.05), np.zeros(len(rows))

    def bounds(alignment: tuple[tuple[int, ...], ...] | None) -> np.ndarray:
        hints = [Certificate("differential", alignment=alignment)]
        return np.asarray(checker["crown"].lower_bounds([f, g], *box, rows, offsets, hints=hints))

    separate = bounds(None)
    assert (bounds(kept) > separate + 1e-6).any()
    first = kept[0]
    for units in (
        first[1:], (*first, 0), (), (first[1], *first[1:]), (-1, *first[1:]), (len(first) + 1, *first[1:]),
        (10**30, *first[1:]),
    ):  # fmt: skip
        assert (bounds((units, *kept[1:])) == separate).all(), units
    assert (bounds(kept[1:]) == separate).all()
    mixed = (first[::-1], *kept[1:])  # a valid alignment, of units that do not continue each other
    points = np.random.default_rng(5).uniform(*box, size=(200, *f.input_shape))
    truth = (np.concatenate([evaluate(f, points), evaluate(g, points)], axis=1) @ rows.T).min(axis=0)
    assert (bounds(mixed)[0] <= truth + 1e-12).all()
    # Outputs keep their places, even if an activation computes them.
    f = g = chain((2,), Dense(np.eye(2), np.array([1.0, 0.0])), Relu())
    box, rows, offsets = (np.zeros((1, 2)), np.full((1, 2), 0.1)), np.array([[1.0, 0.0, 0.0, -1.0]]), np.zeros(1)
    assert 0.8 < bounds(((0, 1),))[0, 0] <= 0.9 + 1e-12
    rows = -rows
    assert bounds(((1, 0),))[0, 0] <= -0.9


PAIR_CHECKS: tuple[Callable[[Checker], None], ...] = (
    first_layer_differences, pairs_that_cancel, garbage_shares, damaged_shares, damaged_alignments, pairs,
)  # fmt: skip
