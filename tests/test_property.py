"""Properties at single points: what they say is what their definitions say, counted by brute force."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from paoding_verify.errors import InputError
from paoding_verify.evidence.property import (
    Property,
    broken_by,
    decides_like,
    distance_at_most,
    exact_margin,
    padded,
    predicts,
    surely_broken,
)


def top_sets(outputs: tuple[float, ...], k: int) -> set[tuple[int, ...]]:
    """Every set of k classes outside of which no output is larger than inside."""
    classes = range(len(outputs))
    return {
        s for s in combinations(classes, k) if all(outputs[a] >= outputs[b] for a in s for b in classes if b not in s)
    }


@pytest.mark.parametrize(("num_outputs", "k"), [(2, 1), (3, 1), (3, 2), (4, 2), (4, 3)])
def test_top_k_holds_and_breaks_by_its_definition(num_outputs: int, k: int) -> None:
    prop = decides_like(num_outputs, k)
    points = list(product(range(3), repeat=num_outputs))
    rng = np.random.default_rng(0)
    held = broken = 0
    for f, g in ((points[a], points[b]) for a, b in rng.integers(len(points), size=(400, 2))):
        mine, theirs = top_sets(f, k), top_sets(g, k)
        strict = len(mine) == len(theirs) == 1 and mine == theirs
        assert (exact_margin(prop, (*f, *g)) > 0) == strict
        assert broken_by(prop, (*f, *g)) == (not mine & theirs)
        held, broken = held + strict, broken + (not mine & theirs)
    assert held
    assert broken


def test_differences_are_no_weaker_than_the_rows_they_stand_for() -> None:
    """A row of differences is positive only where another row of its clause is."""
    prop = decides_like(4, 2)
    outputs = np.random.default_rng(1).normal(size=(500, 8))
    values = prop.values(outputs)
    single = 2 * 12
    for clause in prop.clauses:
        alone = [r for r in clause if r < single]
        joint = [r for r in clause if r >= single]
        assert (values[:, alone].max(axis=1) >= values[:, joint].max(axis=1) / 2).all()


def test_margins_take_clauses_of_any_length() -> None:
    clauses = ((0,), (1, 2), (3, 0, 2))
    prop = Property(np.eye(4), np.array([0.0, 0.5, 0.0, -1.0]), clauses)
    outputs = np.random.default_rng(2).normal(size=(50, 4))
    values = prop.values(outputs)
    expected = np.min([values[:, list(c)].max(axis=1) for c in clauses], axis=0)
    np.testing.assert_array_equal(prop.margins(values), expected)
    np.testing.assert_array_equal(padded(clauses), [[0, 0, 0], [1, 2, 1], [3, 0, 2]])
    for y, margin in zip(outputs, expected, strict=True):
        assert float(exact_margin(prop, y.tolist())) == pytest.approx(margin, abs=1e-12)


@pytest.mark.parametrize("prop", [decides_like(3), decides_like(4, 2), distance_at_most(0.5, 3)])
def test_what_is_surely_broken_is_broken_everywhere_between_the_ends(prop: Property) -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(200):
        outputs = rng.normal(size=prop.rows.shape[1])
        values = prop.values(outputs[None])[0]
        if surely_broken(prop, values - 0.2, values + 0.2):
            found += 1
            near = outputs + rng.uniform(-0.05, 0.05, size=(20, len(outputs)))
            assert all(broken_by(prop, y.tolist()) for y in near)
    assert found


def test_without_refuting_clauses_a_tie_breaks() -> None:
    assert broken_by(predicts(0, 2), (1.0, 1.0))
    assert not broken_by(predicts(0, 2), (1.0, 1.0 - 2.0**-53))
    assert not broken_by(decides_like(2), (1.0, 1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("num_outputs", "k", "words"),
    [(3, 0, "k goes from 1 to 2"), (3, 3, "1 to 2"), (1, 1, "1 output"), (12, 5, "smaller k")],
)
def test_top_k_that_says_nothing_or_too_much_is_refused(num_outputs: int, k: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        decides_like(num_outputs, k)


def test_clauses_name_rows() -> None:
    with pytest.raises(InputError, match="at least one of its rows"):
        Property(np.eye(2), np.zeros(2), ((0,),), ((2,),))
