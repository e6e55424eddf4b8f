"""Branch and bound on ReLUs: proves what CROWN cannot, nothing that is false, and the checker agrees with it."""

import numpy as np
import pytest
import torch

from paoding_verify.attack import attack
from paoding_verify.bounds.branching import CaseOutcome, search_cases
from paoding_verify.bounds.case_bounds import CaseBounder
from paoding_verify.bounds.case_relaxation import Lines
from paoding_verify.bounds.case_tree import Places
from paoding_verify.bounds.differential import PairBounder
from paoding_verify.checker.branching import bound_leaves, cases, margin_by_cases
from paoding_verify.checker.crown import enclose, lower_bounds
from paoding_verify.checker.prove import prove
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.certificate import LEAF, NO_HINT, Certificate, ReluTree
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.property import Property, decides_like, distance_at_most
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Add, Dense, Network, Node, Op, Relu
from tests.case_checks import leaky_net, random_tree
from tests.networks import chain, conv_net, dense_net, pooled_net, residual_net
from tests.pairs import identity_alignment, perturbed, without_units


def wide(seed, outputs=1):
    """A network of six features."""
    return dense_net(seed, sizes=(6, 12, 10, outputs))


def gap(network):
    """CROWN's bound of the first output on the box (-.5, .5), and the smallest value that an attack finds there."""
    row, box = np.eye(network.num_outputs)[:1], (np.full((1, 6), -0.5), np.full((1, 6), 0.5))
    found = attack([network], *box, row, np.zeros(1), ((0,),), restarts=40, steps=60, seed=0)
    return float(lower_bounds([network], *box, row, np.zeros(1))[0, 0]), float(found.margin[0])


HALF = (np.full(6, -0.5), np.full(6, 0.5))


def above(offset):
    return Property(np.array([[1.0]]), np.array([offset]), ((0,),))


def search(networks, box, prop, semantics="float32", certificate=None, **limits):
    certificate = certificate or Certificate("crown")
    state = enclose(networks, box[0][None], box[1][None], semantics, hints=[certificate], num_rows=len(prop.rows))
    return search_cases(networks, state, prop, **{"max_leaves": 3000, "limit_s": 20.0, **limits})


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_proves_what_crown_cannot(semantics):
    box = [end[None] for end in HALF]
    for seed in range(6):
        network = wide(seed)
        crown, attacked = gap(network)
        prop = above(-crown - 0.6 * (attacked - crown))
        outcome = search([network], HALF, prop, semantics)
        assert outcome.decided, outcome.limit
        certificate = Certificate("crown", outcome.slopes, trees=outcome.trees)
        (proof,) = prove([network], *box, [prop], [certificate], semantics=semantics)
        assert proof.proved, proof.reason
        assert 0 < proof.margin <= 0.4 * (attacked - crown) + 1e-5
        (plain,) = prove([network], *box, [prop], [Certificate("crown")], semantics=semantics)
        assert not plain.proved


def test_never_proves_what_is_false():
    for seed in range(6):
        network = wide(seed)
        _, attacked = gap(network)
        outcome = search([network], HALF, above(-attacked - 1e-4), max_leaves=200)
        assert not outcome.decided
        if outcome.point is not None:
            assert evaluate(network, outcome.point[None].astype(np.float64))[0, 0] < attacked + 1e-3
            assert (np.abs(outcome.point) <= 0.5).all()


def test_search_and_checker_compute_the_same_bounds():
    """On random cases with random multipliers, in one pass over one row."""
    for seed, make in enumerate((dense_net, leaky_net, conv_net, residual_net)):
        network, rng = make(seed), np.random.default_rng(seed)
        centre, row = rng.uniform(size=network.input_shape), rng.normal(size=network.num_outputs)
        prop = Property(row[None], np.array([0.5]), ((0,),))
        tree = random_tree(rng, [network], depth=3, scale=0.2)
        certificate = Certificate("crown", trees=(tree,))
        state = enclose([network], (centre - 0.3)[None], (centre + 0.3)[None], "float32", hints=[certificate])
        bounder = CaseBounder(state)
        leaves = list(cases(tree))
        places = Places([leaf.conditions for leaf in leaves], bounder.units)
        found = bounder.bound(
            torch.as_tensor(prop.rows).repeat(len(leaves), 1), torch.full((len(leaves),), 0.5, dtype=torch.float64),
            bounder.intervals(places, len(leaves)),
            places.spread(places.table([leaf.multipliers for leaf in leaves])), Lines(),
        ).lower.numpy()  # fmt: skip
        with np.errstate(all="ignore"):
            checked = bound_leaves(state, leaves, prop, "float32")
        alive = np.isfinite(checked)
        np.testing.assert_allclose(found[alive], checked[alive], atol=1e-6)


def certificate_of(outcome: CaseOutcome, alignment: tuple[tuple[int, ...], ...]) -> Certificate:
    return Certificate(
        "differential", outcome.slopes, alignment=alignment, shares=outcome.shares, trees=outcome.trees
    )  # fmt: skip


def test_pairs():
    f = dense_net(3, sizes=(6, 16, 12, 3))
    cases = [
        (perturbed(f, 1, 0.02), identity_alignment(f)),
        (without_units(f, (range(1, 16), range(1, 12))), (tuple(range(1, 16)), tuple(range(1, 12)))),
    ]
    rng = np.random.default_rng(0)
    centre = rng.uniform(size=6)
    box = (centre - 0.15, centre + 0.15)
    points = rng.uniform(*box, size=(4000, 6))
    for g, alignment in cases:
        seen = float(np.abs(evaluate(f, points) - evaluate(g, points)).max())
        bound = PairBounder(f, g, alignment).distance(box[0][None], box[1][None])[0]
        hints = Certificate("differential", alignment=alignment)
        assert not search([f, g], box, distance_at_most(0.95 * seen, 3), certificate=hints).decided
        prop = distance_at_most(0.3 * seen + 0.7 * bound, 3)
        outcome = search([f, g], box, prop, certificate=hints)
        assert outcome.decided, outcome.limit
        certificate = certificate_of(outcome, alignment)
        for semantics in ("real", "float32"):
            boxes = [np.stack([end, end]) for end in box]
            proof, plain = prove([f, g], *boxes, [prop, prop], [certificate, hints], semantics=semantics)
            assert proof.proved
            assert not plain.proved
        split = {
            row for tree in outcome.trees for node, row in zip(tree.nodes, tree.units, strict=True) if node == LEAF
        }
        assert 0 < len(split) < len(prop.rows)
        for (start, _), table in (*outcome.slopes.items(), *outcome.shares.items()):
            assert start == len(f.nodes) + len(g.nodes)
            closed = (table == NO_HINT).all(axis=1)  # a row that is not split needs hints only where they helped
            assert not closed[sorted(split)].any()
            assert closed.any()


def test_clauses_with_several_rows():
    """|x| + .1 as the larger of x + .1 and .1 - x: in each half of the region another row is positive."""
    ops = (
        Dense(np.array([[1.0], [-1.0]]), np.zeros(2)),
        Relu(),
        Dense(np.array([[1.0, -1.0], [-1.0, 1.0]]), np.zeros(2)),
    )
    network, box = chain((1,), *ops), (-np.ones(1), np.ones(1))
    assert not search([network], box, Property(np.eye(2), np.full(2, -0.1), ((0, 1),))).decided
    prop = Property(np.eye(2), np.full(2, 0.1), ((0, 1),))
    outcome = search([network], box, prop)
    assert outcome.decided, outcome.limit
    (tree,) = outcome.trees
    assert {row for node, row in zip(tree.nodes, tree.units, strict=True) if node == LEAF} == {0, 1}
    certificate = Certificate("crown", outcome.slopes, trees=outcome.trees)
    assert margin_by_cases([network], *box, prop, certificate, "float32") > 0


def test_top_one_equivalence():
    f = dense_net(3, sizes=(6, 16, 12, 3))
    g = perturbed(f, 1, 0.02)
    alignment = identity_alignment(f)
    rng = np.random.default_rng(1)
    decided = 0
    for _ in range(8):
        centre = rng.uniform(size=6)
        box = (centre - 0.1, centre + 0.1)
        prop = decides_like(3)
        outcome = search([f, g], box, prop, certificate=Certificate("differential", alignment=alignment))
        assert outcome.decided or outcome.point is not None, outcome.limit
        if outcome.decided:
            decided += 1
            certificate = certificate_of(outcome, alignment)
            assert margin_by_cases([f, g], *box, prop, certificate, "float32") > 0
            points = rng.uniform(*box, size=(500, 6))
            assert (evaluate(f, points).argmax(axis=1) == evaluate(g, points).argmax(axis=1)).all()
    assert decided


def test_limits_are_named():
    network = wide(2)
    prop = above(1e-4 - gap(network)[1])
    assert "reached" in search([network], HALF, prop, max_leaves=2).limit
    assert "stopped" in search([network], HALF, prop, limit_s=-1.0).limit


def test_max_pooling_is_refused():
    network = pooled_net(0)
    box = (np.zeros(network.input_shape), np.ones(network.input_shape))
    prop = Property(np.ones((1, 3)), np.zeros(1), ((0,),))
    with pytest.raises(UnsupportedOpError, match="max pooling"):
        search([network], box, prop)


def test_trees_survive_json():
    network = wide(1)
    crown, attacked = gap(network)
    prop = above(-crown - 0.5 * (attacked - crown))
    outcome = search([network], HALF, prop)
    certificate = Certificate("crown", outcome.slopes, trees=outcome.trees)
    again = loads(Certificate, dumps(certificate), "certificate")
    assert dumps(again) == dumps(certificate)
    first, second = (margin_by_cases([network], *HALF, prop, c, "real") for c in (certificate, again))
    assert first == second > 0


def relu_of_the_input(*tail: Op) -> Network:
    return chain((1,), Dense(np.ones((1, 1)), np.zeros(1)), Relu(), *tail)


@pytest.mark.parametrize("kind", [np.int16, np.int64, np.float64])
def test_multipliers_that_are_no_bytes_are_refused(kind: type[np.generic]) -> None:
    """A negative multiplier would turn a sign condition around: here it would prove .5 - relu(x) > 0 at x = 1."""
    network = relu_of_the_input(Dense(-np.ones((1, 1)), np.zeros(1)))
    tree = ReluTree(0, (1, -1, -1), (0, 0, 0), (1.0, 1.0), np.array([[0, 0], [-256, 0]], dtype=kind))
    prop, one = Property(np.ones((1, 1)), np.array([0.5]), ((0,),)), np.ones((1, 1))
    (proof,) = prove([network], -one, one, [prop], [Certificate("crown", trees=(tree,))], semantics="real")
    assert not proof.proved
    assert proof.damaged


def test_properties_in_single_precision_are_bounded_in_double() -> None:
    nodes = (
        *relu_of_the_input().nodes,
        Node(Add(), (2, 2), "2x"),
        Node(Add(), (3, 2), "3x"),
        Node(Add(), (4, 3), "5x"),
    )
    network, weight = Network((1,), nodes), np.float32(0.9050029516220093)
    prop = Property(np.array([[weight]]), np.array([-5 * float(weight) - 1e-9]), ((0,),))
    tree = ReluTree(0, (1, -1, -1), (0, 0, 0), (0.0, 0.0), np.zeros((2, 2), dtype=np.uint8))
    one = np.ones((1, 1))
    (proof,) = prove([network], one, one, [prop], [Certificate("crown", trees=(tree,))], semantics="real")
    assert not proof.proved


@pytest.mark.parametrize("network", [wide(3), leaky_net(4)], ids=["relu", "leaky"])
def test_halves_start_nearly_where_the_case_is(network):
    shape = (1, *network.input_shape)
    state = enclose([network], np.full(shape, -0.5), np.full(shape, 0.5), "real")
    bounder = CaseBounder(state)
    rows = torch.cat([torch.eye(network.num_outputs), -torch.eye(network.num_outputs)]).to(torch.float64)

    def bounds(condition, betas, scored=False):
        places = Places([condition] * len(rows), bounder.units)
        intervals = bounder.intervals(places, len(rows))
        root = bounder.intervals(Places([()] * len(rows), bounder.units), len(rows))
        credit = places.spread(betas)
        with torch.no_grad():
            lines = bounder.default_lines(root)
            return bounder.bound(rows, torch.zeros(len(rows)), intervals, credit, lines, scored=scored)

    whole = bounds((), torch.zeros((len(rows), 0)), scored=True)
    lost, lost_without = [], []
    for step, starts in whole.starts.items():
        for unit in np.flatnonzero((whole.scores[step] > 1e-6).any(0)).tolist():
            for sign, start in zip((-1, 1), starts[:, :, unit], strict=True):
                condition = ((step, unit, sign),)
                for multipliers, found in ((start, lost), (torch.zeros(len(rows)), lost_without)):
                    half = bounds(condition, multipliers[:, None]).lower
                    found.append(float((whole.lower - half).clamp(min=0).sum()))
    assert len(lost) > 20
    assert sum(lost) < 0.25 * sum(lost_without)
