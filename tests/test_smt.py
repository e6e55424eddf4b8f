"""Exact decisions: forms hold every point, slacks cover every rounding, z3 agrees with brute force."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from paoding_verify.equivalence import exact
from paoding_verify.equivalence.compare import compare
from paoding_verify.equivalence.encoding import Encoding, Variables, encode
from paoding_verify.equivalence.exact import SmtAnswer, refuse_witness, smt_decide, spot_check
from paoding_verify.equivalence.exact_point import exact_margin
from paoding_verify.equivalence.smt import GRID, rounded_form
from paoding_verify.equivalence.twin_facts import hidden_bounds
from paoding_verify.errors import SoundnessError, UnsupportedOpError
from paoding_verify.evidence.property import distance_at_most, predicts
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Dense, Network, Relu, Sigmoid
from paoding_verify.regions import Region, float32_interior
from tests.networks import chain, conv_net, dense_net, pooled_net, random_dense, residual_net
from tests.pairs import perturbed, without_units
from tests.test_compare import CONFIG, regions, tasks
from tests.test_differential import samples, two_convolutions


def region(network: Network, radius: float, seed: int = 31) -> Region:
    return regions(network, radius, 1, seed)[0]


def forms_at(encoding: Encoding, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of all forms of outputs at a point, with the units' activations, and their errors."""
    values = list(x.ravel() - encoding.centre)
    for unit in encoding.units:
        values.append(max(0.0, float(unit.coefficients @ np.array(values)[: len(unit.coefficients)] + unit.constant)))
    return encoding.outputs.coefficients @ np.array(values) + encoding.outputs.constant, encoding.outputs.error


@pytest.mark.parametrize("network", [dense_net(0), conv_net(0), residual_net(0), two_convolutions(0)])
@pytest.mark.parametrize("radius", [0.01, 0.3])
@pytest.mark.parametrize("bounded", [True, False])
def test_forms_hold_every_point(network: Network, radius: float, bounded: bool) -> None:
    g = perturbed(network, 1, 0.05)
    box = region(network, radius)
    encoding = encode([network, g], box, [hidden_bounds(n, box) for n in (network, g)] if bounded else None)
    low, high = encoding.outputs.interval(encoding.variables)
    for x in samples(box.lower, box.upper, 40):
        y = np.concatenate([evaluate(network, x[None])[0], evaluate(g, x[None])[0]])
        found, error = forms_at(encoding, x)
        assert np.abs(found - y).max() < 1e-9
        assert (error < 1e-7).all()
        assert (low <= y).all()
        assert (y <= high).all()


def test_forms_and_errors_hold_in_exact_arithmetic() -> None:
    """Parameters of very different sizes: the composed forms are wrong in the last digits, and `error` covers them."""
    rng = np.random.default_rng(3)
    ops = [random_dense(rng, 5, 3), random_dense(rng, 5, 5), random_dense(rng, 2, 5)]
    ops = [replace(op, weight=op.weight * 10.0 ** rng.integers(-6, 7, op.weight.shape)) for op in ops]
    network = chain((3,), *ops)
    box = Region("r", np.full(3, 0.1), np.full(3, 0.7))
    encoding = encode([network], box)
    for x in samples(box.lower, box.upper, 20):
        v = [Fraction(a) - Fraction(c) for a, c in zip(x, encoding.centre, strict=True)]
        for j in range(2):
            prop = replace(predicts(0, 2), rows=np.eye(2)[j : j + 1], offsets=np.zeros(1), clauses=((0,),))
            exact = exact_margin([network], prop, x)
            form = sum(
                (Fraction(c) * a for c, a in zip(encoding.outputs.coefficients[j], v, strict=True)),
                Fraction(encoding.outputs.constant[j]),
            )
            assert abs(exact - form) <= Fraction(encoding.outputs.error[j])


def test_slack_covers_what_rounding_takes_away() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        coefficients, constant = rng.normal(size=6) * 10.0 ** rng.integers(-7, 3, 6), float(rng.normal())
        reach = rng.uniform(0, 2, 6)
        reach[rng.integers(6)] = 0.0
        error = float(rng.uniform(0, 1e-6))
        rounded, number, slack = rounded_form(coefficients, constant, error, Variables(-reach, reach))
        assert all((value * GRID).denominator == 1 for value in [*rounded.values(), number])
        for signs in rng.choice([-1.0, 1.0], size=(8, 6)):
            v = [Fraction(s) * Fraction(r) for s, r in zip(signs, reach, strict=True)]
            form = sum((Fraction(c) * a for c, a in zip(coefficients, v, strict=True)), Fraction(constant))
            near = sum((c * v[k] for k, c in rounded.items()), number)
            assert abs(form - near) + Fraction(error) <= slack


def test_identical_units_share_a_variable() -> None:
    f = dense_net(5)
    g = without_units(f, [range(1, 12), range(10)])
    box = region(f, 0.3)
    alone, both = len(encode([f], box).units), len(encode([f, f], box).units)
    assert alone == both
    assert len(encode([f, g], box).units) < alone + len(encode([g], box).units)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bounded", [True, False])
def test_decisions_agree_with_a_fine_grid(seed: int, bounded: bool) -> None:
    f = dense_net(seed, (2, 4, 3, 2))
    g = perturbed(f, seed, 0.1)
    box = region(f, 0.3)
    steps = np.linspace(0, 1, 81)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * (box.upper - box.lower) + box.lower
    largest = float(np.abs(evaluate(f, grid) - evaluate(g, grid)).max())
    bounds = [hidden_bounds(n, box) for n in (f, g)] if bounded else None
    above = smt_decide([f, g], box, distance_at_most(largest * 1.05, 2), timeout_s=20, bounds=bounds)
    assert above.status == "confirmed"
    assert above.point is None
    below_prop = distance_at_most(largest * 0.98, 2)
    below = smt_decide([f, g], box, below_prop, timeout_s=20, bounds=bounds)
    assert below.status == "refuted"
    assert below.point is not None
    assert box.contains(below.point)
    assert exact_margin([f, g], below_prop, below.point) <= 0


def test_clauses_with_several_rows_are_decided() -> None:
    """|x| <= 1 everywhere, stated as "x > -1.5 or x > 3", and refuted with thresholds inside."""
    f = chain((1,), Dense(np.array([[1.0], [-1.0]]), np.zeros(2)), Relu(), Dense(np.array([[1.0, -1.0]]), np.zeros(1)))
    box = Region("r", np.array([-1.0]), np.array([1.0]))
    prop = replace(predicts(0, 2), rows=np.ones((2, 1)), offsets=np.array([1.5, -3.0]), clauses=((0, 1),))
    assert smt_decide([f], box, prop, timeout_s=5).status == "confirmed"
    inside = smt_decide([f], box, replace(prop, offsets=np.array([0.5, -3.0])), timeout_s=5)
    assert inside.status == "refuted"
    assert inside.point is not None
    assert inside.point[0] <= -0.5


def test_exact_margin_sees_what_floats_round_away() -> None:
    """2^60 + 1 - 2^60 is 1 in exact arithmetic and 0 in float64."""
    network = chain(
        (1,), Dense(np.array([[2.0**60]]), np.array([1.0])), Dense(np.array([[1.0]]), np.array([-(2.0**60)]))
    )
    prop = replace(predicts(0, 2), rows=np.ones((1, 1)), offsets=np.zeros(1), clauses=((0,),))
    assert exact_margin([network], prop, np.array([1.0])) == 1
    assert evaluate(network, np.array([[1.0]]))[0, 0] == 0


@pytest.mark.parametrize("network", [conv_net(1), residual_net(1), pooled_net(1), two_convolutions(1)])
def test_exact_margin_agrees_with_float64(network: Network) -> None:
    x = np.random.default_rng(6).normal(size=network.input_shape)
    prop = predicts(1, 3)
    expected = prop.margins(prop.values(evaluate(network, x[None])))[0]
    assert float(exact_margin([network], prop, x)) == pytest.approx(expected, abs=1e-9)


def test_what_cannot_be_encoded_is_undecided() -> None:
    rng = np.random.default_rng(7)
    smooth = chain((2,), random_dense(rng, 3, 2), Sigmoid(), random_dense(rng, 2, 3))
    box = Region("r", np.zeros(2), np.ones(2))
    assert smt_decide([smooth], box, predicts(0, 2), timeout_s=1).status == "undecided"
    with pytest.raises(UnsupportedOpError, match="node1"):
        exact_margin([smooth], predicts(0, 2), np.zeros(2))
    large = dense_net(8, (4, 80, 80, 3))
    answer = smt_decide([large], region(large, 2.0), predicts(0, 3), timeout_s=1)
    assert answer.status == "undecided"
    assert answer.num_unstable > exact.MAX_UNSTABLE


def test_spot_checks_shrink_until_they_can_answer() -> None:
    f = dense_net(9, (4, 60, 60, 3))
    g = perturbed(f, 1, 0.001)
    answer = spot_check([f, g], region(f, 2.0), distance_at_most(5.0, 3), Verdict.CERTIFIED, timeout_s=20)
    assert answer.status == "confirmed"
    assert 0 < answer.scale < 1


def test_copies_that_intervals_decide_are_reached_without_time() -> None:
    f = dense_net(9, (4, 60, 60, 3))
    g = perturbed(f, 1, 0.001)
    answer = spot_check([f, g], region(f, 2.0), distance_at_most(5.0, 3), Verdict.CERTIFIED, timeout_s=0.0)
    assert answer.status == "confirmed"
    assert 0 < answer.scale < 1


def test_a_refuted_certificate_raises() -> None:
    f = dense_net(10)
    g = perturbed(f, 1, 0.1)
    box = region(f, 0.05)
    prop = distance_at_most(1e-4, 4)
    with pytest.raises(SoundnessError, match="exact arithmetic refutes"):
        spot_check([f, g], box, prop, Verdict.CERTIFIED, timeout_s=10)
    assert spot_check([f, g], box, prop, Verdict.UNKNOWN, timeout_s=10).status == "refuted"


def test_a_confirmation_against_a_witness_raises() -> None:
    f = dense_net(10)
    g = perturbed(f, 1, 0.1)
    box, prop = region(f, 0.05), distance_at_most(1e-4, 4)
    x = float32_interior(box.lower, box.upper)[1].astype(np.float64)
    assert exact_margin([f, g], prop, x) <= 0
    with pytest.raises(SoundnessError, match="bears out the witness"):
        refuse_witness([f, g], box, prop, SmtAnswer("confirmed", None, 1.0, 0), x)
    for status, scale, threshold in (("undecided", 1.0, 1e-4), ("confirmed", 0.5, 1e-4), ("confirmed", 1.0, 1e4)):
        answer = SmtAnswer(status, None, scale, 0)
        refuse_witness([f, g], box, distance_at_most(threshold, 4), answer, x)


def test_compare_reports_spot_checks_of_the_sample_alone() -> None:
    f = dense_net(11)
    g = perturbed(f, 1, 0.01)
    asked = tasks(regions(f, 0.02, 6), "output_distance")
    found = compare(f, g, asked, replace(CONFIG, smt_samples=2, seed=3))
    checked = [finding.claim for finding in found if finding.claim.smt is not None]
    assert len(checked) == 2
    assert all(claim.smt == "confirmed" and claim.smt_scale == 1.0 for claim in checked)
    again = compare(f, g, asked, replace(CONFIG, smt_samples=2, seed=3, attack_steps=1))
    assert [finding.claim.region for finding in again if finding.claim.smt] == [claim.region for claim in checked]
