"""Statements about proofs by cases that a sound checker satisfies; see `checker_suite`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from types import ModuleType

import numpy as np

from paoding_verify.evidence.certificate import LEAF, Certificate, ReluTree
from paoding_verify.evidence.property import Property
from paoding_verify.network.evaluate import evaluate, evaluate_all
from paoding_verify.network.graph import Affine, Dense, LeakyRelu, Network, Relu
from tests.checker_suite import perturbed, smooth_net, truncated
from tests.float32_programs import run
from tests.networks import chain, conv_net, dense_net, random_dense, residual_net

__all__ = ["CASE_CHECKS", "random_tree", "turned"]

Checker = Mapping[str, ModuleType]


def random_tree(
    rng: np.random.Generator, networks: Sequence[Network], *, depth: int, scale: float, rows: Sequence[int] = (0,)
) -> ReluTree:
    """A complete tree with random splits, the same unit now and then, and random multipliers up to `scale`."""
    places, shift = [], 0
    for network in networks:
        for k in network.activations:
            if isinstance(network.nodes[k].op, (Relu, LeakyRelu)):
                places += [(k + shift, unit) for unit in range(int(np.prod(network.shapes[k + 1])))]
        shift += len(network.nodes)
    nodes, units, depths = [], [], []
    pending = [0]
    while pending:
        level = pending.pop()
        if level < depth and rng.random() < 0.9:
            node, unit = places[rng.integers(len(places))]
            pending += [level + 1, level + 1]
        else:
            node, unit = LEAF, int(rng.choice(rows))
            depths.append(level)
        nodes.append(node)
        units.append(unit)
    values = rng.integers(0, 256, (sum(depths), 2)).astype(np.uint8)
    scales = tuple(float(s) for s in scale * rng.random(len(depths)))
    return ReluTree(0, tuple(nodes), tuple(units), scales, values)


def turned(rng: np.random.Generator, networks: Sequence[Network], tree: ReluTree) -> ReluTree:
    """The tree with lines of its own for random parts of it: any number, or none."""
    end, shift = sum(len(network.nodes) for network in networks), 0
    turns = np.flatnonzero(rng.random(len(tree.nodes)) < 0.4).tolist()
    tables = []
    for network in networks:
        for k in network.activations:
            if isinstance(network.nodes[k].op, (Relu, LeakyRelu)):
                rows = len(turns) if rng.random() < 0.8 else 1
                units = int(np.prod(network.shapes[k + 1]))
                tables.append({(end, k + shift): rng.integers(0, 256, (rows, units)).astype(np.uint8)})
        shift += len(network.nodes)
    slopes, shares = ({key: x for table in tables for key, x in table.items()} for _ in range(2))
    return replace(tree, turns=tuple(turns), slopes=slopes, shares=shares) if turns else tree


def _row(row: np.ndarray, offset: float = 0.0) -> Property:
    return Property(row[None], np.array([offset]), ((0,),))


def leaky_net(seed: int) -> Network:
    """LeakyReLU layers; input (3,)."""
    rng = np.random.default_rng(seed)
    act = LeakyRelu(0.25)
    return chain((3,), random_dense(rng, 6, 3), act, random_dense(rng, 5, 6), act, random_dense(rng, 2, 5))


def random_cases(checker: Checker) -> None:
    """Whatever tree a certificate holds, the margin stays below values at random points and corners."""
    for seed, make in enumerate((dense_net, conv_net, residual_net, leaky_net, smooth_net)):
        network, rng = make(seed), np.random.default_rng(seed)
        centre = rng.uniform(size=network.input_shape)
        for eps in (0.0, 0.05, 0.5):
            lower, upper = centre - eps, centre + eps
            corners = np.where(rng.random(size=(200, *lower.shape)) < 0.5, lower, upper)
            points = np.concatenate([rng.uniform(lower, upper, size=(200, *lower.shape)), corners])
            for scale in (0.0, 0.3, 3.0, 1e3):
                row = rng.normal(size=network.num_outputs)
                truth = (evaluate(network, points) @ row).min() - 5.0
                tree = turned(rng, [network], random_tree(rng, [network], depth=3, scale=scale))
                for semantics in ("real", "float32"):
                    found = checker["branching"].margin_by_cases(
                        [network], lower, upper, _row(row, -5.0), Certificate("crown", trees=(tree,)), semantics
                    )
                    assert found <= truth + 1e-12, f"{make.__name__} {eps} {scale} {semantics}"
                    assert eps > 0 or scale > 0 or found >= truth - 1e-2, make.__name__


def random_cases_of_pairs(checker: Checker) -> None:
    """The same for two networks, coupled and not."""
    f, g, kept = truncated(7)
    cases: list[tuple[Network, Network, tuple[tuple[int, ...], ...] | None]] = [(f, g, kept), (f, g, None)]
    for k, make in enumerate((dense_net, leaky_net, residual_net)):
        f = make(k)
        cases.append((f, perturbed(f, k, 3e-2), tuple(tuple(range(n)) for n in f.num_units)))
    for seed, (f, g, alignment) in enumerate(cases):
        rng = np.random.default_rng(seed)
        centre = rng.uniform(size=f.input_shape)
        lower, upper = centre - 0.2, centre + 0.2
        corners = np.where(rng.random(size=(300, *lower.shape)) < 0.5, lower, upper)
        points = np.concatenate([rng.uniform(lower, upper, size=(100, *lower.shape)), corners])
        outputs = np.concatenate([evaluate(f, points), evaluate(g, points)], axis=1)
        for scale in (0.0, 0.0, 0.1, 3.0):
            half = rng.normal(size=f.num_outputs)
            row = np.concatenate([half, -half])
            tree = turned(rng, [f, g], random_tree(rng, [f, g], depth=4, scale=scale))
            certificate = Certificate("differential", alignment=alignment, trees=(tree,))
            for semantics in ("real", "float32"):
                found = checker["branching"].margin_by_cases(
                    [f, g], lower, upper, _row(row), certificate, semantics
                )  # fmt: skip
                assert found <= (outputs @ row).min() + 1e-12, f"case {seed} {scale} {semantics}"


def exact_minimum(checker: Checker) -> None:
    """For one hidden layer over one feature, margins never exceed the exact minimum, which is at a kink or an end."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        first, last = random_dense(rng, 4, 1), random_dense(rng, 1, 4)
        network = chain((1,), first, Relu(), last)
        lower, upper = np.array([-1.5]), np.array([1.25])
        lines = [(Fraction(float(w[0])), Fraction(float(b))) for w, b in zip(first.weight, first.bias, strict=True)]
        kinks = [-b / w for w, b in lines if w != 0]
        ends = [Fraction(float(lower[0])), Fraction(float(upper[0]))]
        heads = [Fraction(float(c)) for c in last.weight[0]]
        least = min(
            sum((c * max(w * x + b, Fraction(0)) for c, (w, b) in zip(heads, lines, strict=True)), Fraction(0))
            for x in [*ends, *(x for x in kinks if ends[0] <= x <= ends[1])]
        ) + Fraction(float(last.bias[0]))
        for scale in (0.0, 0.1, 1.0, 30.0):
            tree = random_tree(rng, [network], depth=4, scale=scale)
            certificate = Certificate("crown", trees=(tree,))
            found = checker["branching"].margin_by_cases([network], lower, upper, _row(np.ones(1)), certificate, "real")
            assert Fraction(found) <= least, f"{seed} {scale}"


def cancelling_net(seed: int) -> Network:
    """Pre-activations that float32 programs compute with large errors: signs differ between executions."""
    rng = np.random.default_rng(seed)
    shift = rng.uniform(900, 1100, 6).astype(np.float32).astype(np.float64)
    layers = [random_dense(rng, 6, 6), random_dense(rng, 2, 6)]
    head = Dense(1e3 * layers[1].weight, layers[1].bias)
    zero = Dense(layers[0].weight, np.zeros(6))
    return chain((6,), Affine(np.ones(6), shift), Relu(), Affine(np.ones(6), -shift), zero, Relu(), head)


def float32_cases(checker: Checker) -> None:
    """Margins for float32 lie below what random float32 programs compute, whatever signs they see."""
    for seed in range(4):
        network, rng = cancelling_net(seed), np.random.default_rng(seed)
        point = (rng.normal(size=6) * 1e-5).astype(np.float32).astype(np.float64)
        values = np.array([run(network, point, rng).astype(np.float64) for _ in range(12)])
        for scale in (0.0, 10.0, 1e4):
            row = rng.normal(size=2)
            tree = random_tree(rng, [network], depth=3, scale=scale)
            found = checker["branching"].margin_by_cases(
                [network], point, point, _row(row), Certificate("crown", trees=(tree,)), "float32"
            )
            assert found <= (values @ row).min() + 1e-14


def damaged_trees(checker: Checker) -> None:
    """A tree that is damaged or does not fit proves nothing, and raises nothing."""
    network = chain((1,), Dense(np.array([[1.0], [-1.0]]), np.zeros(2)), Relu(), Dense(np.ones((1, 2)), np.zeros(1)))
    one, none = np.ones((1, 1)), np.zeros((0, 2), dtype=np.uint8)
    # |x| - .25: false around zero, true in the clause that also has |x| + 1
    rows, offsets = np.ones((2, 1)), np.array([-0.25, 1.0])
    zeros = np.zeros((2, 2), dtype=np.uint8)

    def prove(*trees: ReluTree, clauses: tuple[tuple[int, ...], ...] = ((0,), (1,))) -> bool:
        certificate = Certificate("crown", trees=trees)
        (proof,) = checker["prove"].prove(
            [network], -one, one, [Property(rows, offsets, clauses)], [certificate], semantics="real"
        )
        return bool(proof.proved)

    good = ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), zeros)
    assert not prove(good)
    assert not prove(good, clauses=((1,),))
    assert prove(ReluTree(0, (1, LEAF, LEAF), (0, 1, 1), (0.0, 0.0), zeros), clauses=((0, 1),))
    full = np.full((2, 2), 255, dtype=np.uint8)
    for tree in (
        ReluTree(0, (LEAF,), (1,), (0.0,), none),  # another clause's row
        ReluTree(0, (1, LEAF, LEAF), (0, 1, 1), (0.0, 0.0), zeros),
        ReluTree(1, (LEAF,), (1,), (0.0,), none),  # the clause that holds anyway
        ReluTree(2, (LEAF,), (0,), (0.0,), none),
        ReluTree(-1, (LEAF,), (0,), (0.0,), none),
        ReluTree(0, (1, LEAF), (0, 0), (0.0,), zeros[:1]),  # a half is missing
        ReluTree(0, (1,), (0,), (), none),
        ReluTree(0, (), (), (), none),
        ReluTree(0, (LEAF, LEAF), (0, 0), (0.0, 0.0), none),
        ReluTree(0, (1, LEAF, LEAF), (0, 0), (0.0, 0.0), zeros),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0,), zeros),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), zeros[:1]),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), np.zeros((3, 2), dtype=np.uint8)),
        ReluTree(0, (1, LEAF, LEAF), (2, 0, 0), (0.0, 0.0), zeros),
        ReluTree(0, (1, LEAF, LEAF), (-1, 0, 0), (0.0, 0.0), zeros),
        ReluTree(0, (0, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), zeros),
        ReluTree(0, (2, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), zeros),
        ReluTree(0, (9, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), zeros),
        ReluTree(0, (-2, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), zeros),
        *(ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (s, s), full) for s in (-1.0, -1e9, np.nan, np.inf, -np.inf)),
        ReluTree(0, (1,) * 1200 + (LEAF,) * 1201, (0,) * 2401, (0.0,) * 1201, np.zeros((722_000, 2), dtype=np.uint8)),
    ):
        assert not prove(tree), tree
    turning = ReluTree(0, (1, LEAF, LEAF), (0, 1, 1), (0.0, 0.0), zeros, (1, 2), {(3, 1): zeros})
    assert prove(turning, clauses=((0, 1),))
    for key, table in (
        ((3, 1), np.zeros((3, 2), dtype=np.uint8)), ((3, 1), np.zeros((2, 3), dtype=np.uint8)), ((3, 0), zeros),
        ((3, 1), zeros.astype(np.int16)), ((4, 1), zeros), ((3, 1), np.zeros((0, 2), dtype=np.uint8)),
    ):  # fmt: skip
        assert not prove(replace(turning, slopes={key: table}), clauses=((0, 1),)), key
        assert not prove(replace(turning, shares={key: table}), clauses=((0, 1),)), key
    assert not prove(good, good)
    # x + .6, false at -1; a negative multiplier would prove the half x <= 0
    head = chain((1,), *(node.op for node in network.nodes[:2]), Dense(np.array([[1.0, -1.0]]), np.zeros(1)))
    for scale, true in ((-0.5, False), (0.5, False), (0.0, False)):
        tree = ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (scale, 1.5), full)
        (proof,) = checker["prove"].prove(
            [head], -one, one, [_row(np.ones(1), 0.6)], [Certificate("crown", trees=(tree,))], semantics="real"
        )
        assert proof.proved is true
    assert not prove(ReluTree(0, (LEAF,), (0,), (0.0,), none), ReluTree(0, (LEAF,), (0,), (0.0,), none))


def every_leaf_counts(checker: Checker) -> None:
    """-|x| + c above zero on [-1, 1] only for c > 1: one half of the tree alone would prove c = .5 on parts of it."""
    weight = np.array([[1.0], [-0.5]])
    network = chain((1,), Dense(weight, np.zeros(2)), Relu(), Dense(-np.ones((1, 2)), np.zeros(1)))
    one = np.ones((1, 1))
    for unit in (0, 1):
        for scale in (0.0, 0.2, 1.0, 5.0):
            tree = ReluTree(0, (1, LEAF, LEAF), (unit, 0, 0), (scale, scale), np.full((2, 2), 255, dtype=np.uint8))
            for c, true in ((0.5, False), (0.99, False), (-0.1, False), (1.01, True)):
                (proof,) = checker["prove"].prove(
                    [network], -one, one, [_row(np.ones(1), c)], [Certificate("crown", trees=(tree,))], semantics="real"
                )
                assert true or not proof.proved
                assert not true or scale > 0 or proof.proved


def leaves_enclosed(checker: Checker) -> None:
    """At every point, all values and differences lie within the bounds of every leaf whose signs the point has."""
    branching = checker["branching"]
    for seed, make in enumerate((dense_net, leaky_net, residual_net)):
        f, rng = make(seed), np.random.default_rng(seed)
        g = perturbed(f, seed, 2e-2)
        lower = rng.uniform(size=f.input_shape)
        upper = lower + 0.3
        points = rng.uniform(lower, upper, size=(400, *f.input_shape))
        of_f, of_g = evaluate_all(f, points), evaluate_all(g, points)
        kinds = (
            ([f], Certificate("crown"), dict(enumerate(of_f))),
            (
                [f, g], Certificate("differential", alignment=tuple(tuple(range(n)) for n in f.num_units)),
                {2 * k - second: v for second, of in ((1, of_f), (0, of_g)) for k, v in enumerate(of) if k},
            ),
        )  # fmt: skip
        for networks, certificate, values in kinds:
            state = checker["crown"].enclose(networks, lower[None], upper[None], "real", hints=[certificate])
            steps = {step.number: step for step in state.program.steps}
            # Units of both signs in the region, so that leaves have points.
            tree = random_tree(rng, networks, depth=2, scale=1.0)
            leaves = [
                branching.Leaf(0, ((node, unit, sign),), np.ones(1))
                for node, unit in set(zip(tree.nodes, tree.units, strict=True)) | _mixed(steps, values)
                for sign in (1, -1)
                if node != LEAF
            ]
            part, _, empty = branching.narrowed(state, leaves, "real")
            for k, leaf in enumerate(leaves):
                ((node, unit, sign),) = leaf.conditions
                v = values[steps[node].inputs[0]].reshape(len(points), -1)[:, unit]
                here = sign * v >= 0
                assert not (empty[k] and here.any())
                for value in range(1, len(part.values)):
                    low, high = (end[k if len(end) > 1 else 0] for end in part.values[value].box)
                    assert (values[value][here] >= low - 1e-12).all()
                    assert (values[value][here] <= high + 1e-12).all()


def _mixed(steps: Mapping[int, object], values: Mapping[int, np.ndarray]) -> set[tuple[int, int]]:
    """Units of rectifiers that have both signs among the values."""
    found = set()
    for number, step in steps.items():
        if isinstance(step.op, (Relu, LeakyRelu)):  # type: ignore[attr-defined]
            v = values[step.inputs[0]].reshape(len(values[step.inputs[0]]), -1)  # type: ignore[attr-defined]
            found |= {(number, int(unit)) for unit in np.flatnonzero((v > 0).any(axis=0) & (v < 0).any(axis=0))[:8]}
    return found


CASE_CHECKS: tuple[Callable[[Checker], None], ...] = (
    damaged_trees, every_leaf_counts, leaves_enclosed, exact_minimum, random_cases_of_pairs, float32_cases,
    random_cases,
)  # fmt: skip
