"""The checker against networks made to fool it, and against exact values, in large numbers."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from paoding_verify.checker import exact, exact_numbers, exact_ops, exact_pair, exact_tree, program
from paoding_verify.checker.crown import lower_bounds
from paoding_verify.checker.exact_numbers import Exact
from paoding_verify.checker.exact_ops import exact_values
from paoding_verify.checker.prove import prove
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.network.graph import LeakyRelu, Network, Relu
from tests.adversarial import Trap, random_traps
from tests.exact_checks import cases_compared, compared
from tests.exact_questions import questions
from tests.networks import chain, conv_net, dense_net, pooled_net, random_dense, residual_net

ADVERSARIAL = 1200
CHECKER = {
    module.__name__.rpartition(".")[2]: module
    for module in (exact, exact_numbers, exact_ops, exact_pair, exact_tree, program)
}


def false_somewhere(trap: Trap) -> bool:
    """Whether the property fails in exact arithmetic at one of many points of the box, its corners among them."""
    share = np.linspace(0.0, 1.0, 65).reshape(-1, *(1 for _ in trap.lower.shape))
    points = trap.lower + share * (trap.upper - trap.lower)
    prop = trap.property
    rows = Exact.of(prop.rows) @ exact_values(trap.network, points) + Exact.of(prop.offsets)[:, None]
    holds = [[bool((rows.numbers[list(clause), k] > 0).any()) for clause in prop.clauses] for k in range(len(points))]
    return not all(map(all, holds))


def test_no_false_certificate_on_networks_made_to_fool() -> None:
    """Each is false in some arithmetic; in exact arithmetic its exact values say so."""
    kinds: Counter[str] = Counter()
    for trap in islice(random_traps(np.random.default_rng(0)), ADVERSARIAL):
        assert ("real" in trap.false_in) == false_somewhere(trap), trap.name
        for semantics in trap.false_in:
            (proof,) = prove(
                [trap.network], trap.lower[None], trap.upper[None], [trap.property], [Certificate("crown")],
                semantics=semantics,
            )  # fmt: skip
            assert not proof.proved, f"{trap.name} {semantics}"
        kinds[trap.name.split(" 2^")[0]] += 1
    assert sum(kinds.values()) >= 1000
    assert len(kinds) == 7
    assert min(kinds.values()) >= 100


def small_net(seed: int) -> Network:
    """Three dense layers with ReLU or LeakyReLU; input (2,)."""
    rng = np.random.default_rng(seed)
    act = Relu() if seed % 2 else LeakyRelu(0.125)
    return chain((2,), random_dense(rng, 4, 2), act, random_dense(rng, 3, 4), act, random_dense(rng, 2, 3))


def exact_checks(network: Network, seed: int, num_points: int) -> int:
    """How many exact values were compared with bounds of their rows in both arithmetics; none may lie below."""
    rng = np.random.default_rng(seed)
    centre, eps = rng.uniform(-1, 1, size=network.input_shape), rng.choice([0.0, 1e-12, 1e-3, 0.05, 0.5])
    lower, upper = centre - eps, centre + eps
    inside = rng.uniform(lower, upper, size=(num_points // 2, *centre.shape))
    corners = np.where(rng.random(size=(num_points - num_points // 2, *centre.shape)) < 0.5, lower, upper)
    rows = rng.normal(size=(6, network.num_outputs))
    values = Exact.of(rows) @ exact_values(network, np.concatenate([np.clip(inside, lower, upper), corners]))
    for semantics in ("real", "float32"):
        found = lower_bounds([network], lower[None], upper[None], rows, np.zeros(6), semantics=semantics)[0]
        assert ((values + (-Exact.of(found))[:, None]).numbers >= 0).all(), (seed, semantics)
    return values.numbers.size


def test_a_hundred_thousand_exact_points() -> None:
    assert sum(exact_checks(small_net(seed), seed, 340) for seed in range(50)) >= 100_000


@pytest.mark.parametrize("make", [residual_net, pooled_net, conv_net, dense_net])
def test_ten_thousand_exact_points_of_networks_of_all_kinds(make: object) -> None:
    count = sum(exact_checks(make(seed), seed, 110) for seed in range(16))  # type: ignore[operator]
    assert count >= 10_000


def test_ten_thousand_exact_values_of_pairs_in_exact_arithmetic() -> None:
    """Bounds in rationals, of single networks and of pairs, with and without garbage in the certificate."""
    kinds: Counter[int] = Counter()
    for seed in range(100, 108):
        for question in questions(seed):
            kinds[len(question.networks)] += compared(CHECKER, question, seed)
    assert min(kinds[1], kinds[2]) >= 10_000


def test_ten_thousand_exact_values_of_cases_in_exact_arithmetic() -> None:
    """Bounds of the leaves of random trees, with random multipliers, at the points of these leaves."""
    kinds: Counter[int] = Counter()
    for seed in range(200, 224):
        for question in questions(seed):
            if question.networks[0].activations:
                kinds[len(question.networks)] += cases_compared(CHECKER, question, seed)
    assert min(kinds[1], kinds[2]) >= 10_000
