"""Trees whose parts have lines of their own, and trees of searches that were stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.bounds.branching import CaseOutcome, search_cases
from paoding_verify.bounds.case_tree import Case, as_tree, pruned
from paoding_verify.checker.branching import bound_leaves, cases, margin_by_cases
from paoding_verify.checker.exact_pair import ExactPair, exact_pair_program
from paoding_verify.checker.exact_tree import cases_of, least_of_cases
from paoding_verify.checker.program import single_program
from paoding_verify.evidence.certificate import LEAF, Certificate
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.property import distance_at_most
from paoding_verify.network.evaluate import evaluate
from tests.networks import dense_net
from tests.pairs import perturbed, root_state, without_units

F = dense_net(5, (6, 14, 12, 3))
KEPT = (tuple(range(2, 14)), tuple(range(10)))
G = perturbed(without_units(F, KEPT), 2, 0.02)
BOX = (np.full(6, 0.2), np.full(6, 0.6))
HINTS = Certificate("differential", alignment=KEPT)


def searched(delta: float, **options: float) -> CaseOutcome:
    prop = distance_at_most(delta, 3)
    state = root_state([F, G], *BOX, prop, HINTS, "float32")
    return search_cases([F, G], state, prop, **{"max_leaves": 4000, "limit_s": 300.0, **options})  # type: ignore[arg-type]


def proved(outcome: CaseOutcome, delta: float, *, turns: bool = True) -> float:
    """Margin of |f - g| < delta with the hints that were found, after a trip through JSON."""
    trees = tuple(t if turns else replace(t, turns=(), slopes={}, shares={}) for t in outcome.trees)
    certificate = replace(HINTS, slopes=outcome.slopes, shares=outcome.shares, trees=trees)
    again = loads(Certificate, dumps(certificate), "certificate")
    assert dumps(again) == dumps(certificate)
    return margin_by_cases([F, G], *BOX, distance_at_most(delta, 3), again, "float32")


def seen() -> float:
    """The largest difference at random points."""
    points = np.random.default_rng(0).uniform(*BOX, size=(20000, 6))
    return float(np.abs(evaluate(F, points) - evaluate(G, points)).max())


def largest() -> float:
    """The largest difference that a search finds."""
    first = seen()
    return first - searched(first, beyond=1.02, max_leaves=300).attack


def test_lines_of_parts_count_in_the_proof() -> None:
    delta = 1.05 * largest()
    outcome = searched(delta)
    assert outcome.decided, outcome.limit
    assert any(tree.turns for tree in outcome.trees)
    assert proved(outcome, delta) > 0
    assert not proved(outcome, delta, turns=False) > 0


def test_exact_arithmetic_uses_the_same_lines() -> None:
    delta = 1.05 * largest()
    outcome, prop = searched(delta), distance_at_most(delta, 3)
    program = exact_pair_program(F, G, KEPT)
    bounds = ExactPair(program, *BOX, slopes=outcome.slopes, shares=outcome.shares, num_rows=6)
    for tree in outcome.trees:
        certificate = replace(HINTS, slopes=outcome.slopes, shares=outcome.shares, trees=(tree,))
        state = root_state([F, G], *BOX, prop, certificate, "real")
        least = bound_leaves(state, list(cases(tree)), prop, "real").min()
        exact = least_of_cases(bounds, prop, cases_of(tree, prop, program.program))
        # Slopes of lines and multipliers are rounded in another way.
        assert float(exact) == pytest.approx(least, abs=1e-6)


def test_an_aim_rises_where_points_are_beyond_it() -> None:
    first = 0.5 * seen()
    plain = searched(first)
    assert plain.point is not None
    outcome = searched(first, beyond=1.02)
    found = first - outcome.attack
    assert outcome.point is None
    assert outcome.decided
    assert found > 0.98 * seen()
    # It has proved what it aimed at in the end.
    assert proved(outcome, 1.02 * found + 1e-6) > 0
    assert not proved(outcome, 0.999 * found) > 0


def test_a_stopped_search_proves_no_less_than_a_shorter_one() -> None:
    delta = 1.02 * largest()
    bounds = []
    for most in (1, 8, 20):
        outcome = searched(delta, max_leaves=most)
        assert not outcome.decided, most
        # Halves that were never bounded are left out again.
        assert sum(tree.nodes.count(LEAF) for tree in outcome.trees) < max(outcome.num_leaves, 7)
        bounds.append(delta - proved(outcome, delta))
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < 0.95 * bounds[0]


def case(bound: float, *, bounded: bool = True) -> Case:
    return Case(0, (0,), (0,), bound=bound, bounded=bounded)


def grown(root: Case, below: Case, above: Case) -> Case:
    root.split(1, 0, (0.0, 0.0))
    for half, other in zip(root.halves, (below, above), strict=True):
        half.bound, half.bounded, half.halves, half.lines = other.bound, other.bounded, other.halves, other.lines
    return root


def test_splits_that_do_not_pay_are_undone() -> None:
    good = grown(case(-1.0), case(-0.5), case(-0.8))
    assert pruned(good) == -0.8
    assert len(good.halves) == 2
    worse = grown(case(-1.0), case(-0.5), case(-1.2))
    assert pruned(worse) == -1.0
    assert not worse.halves
    unknown = grown(case(-1.0), case(-0.5), case(-0.1, bounded=False))
    assert pruned(unknown) == -1.0
    assert not unknown.halves
    deep = grown(case(-1.0), case(-0.5), grown(case(-2.0), case(-0.3), case(-0.4)))
    assert pruned(deep) == -0.4 or pruned(deep) == -0.5
    assert deep.halves[1].halves


def test_one_turn_stands_for_all_leaves_that_have_its_lines() -> None:
    left, right = (grown(case(-1.0), case(1.0), case(1.0)) for _ in range(2))
    for half, lines in zip((*left.halves, *right.halves), (4, 4, 5, 0), strict=True):
        half.lines = (lines,)
    root = grown(case(-1.0), left, right)
    for half in (root.halves[0], root.halves[1]):
        for leaf in half.halves:
            leaf.betas = np.zeros(2)
            leaf.conditions = ((1, 0, -1), (1, 0, -1))
    tree, numbers = as_tree(root, single_program(dense_net(0, (2, 2, 2, 1))), 1)
    # preorder: root, left, its two leaves, right, its two leaves
    assert tree.nodes == (1, 1, LEAF, LEAF, 1, LEAF, LEAF)
    assert tree.turns == (1, 5)
    assert numbers == [4, 5]
