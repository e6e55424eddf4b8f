"""Optimised lines: never worse than those they start from, and worth in the checker what the search says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from paoding_verify.bounds.case_bounds import CaseBounder
from paoding_verify.bounds.case_lines import Question, as_tables, improve
from paoding_verify.bounds.case_tree import Places
from paoding_verify.checker.crown import enclose, lower_bounds
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.property import distance_at_most
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Network
from tests.networks import dense_net, residual_net
from tests.pairs import identity_alignment, perturbed, without_units

Alignment = tuple[tuple[int, ...], ...]
WIDE = dense_net(1, (6, 16, 16, 3))
KEPT: Alignment = (tuple(range(1, 16)), tuple(range(15)))
PAIRS: dict[str, tuple[Network, Network, Alignment]] = {
    "perturbed": (WIDE, perturbed(WIDE, 2, 0.02), identity_alignment(WIDE)),
    "removed": (WIDE, without_units(WIDE, KEPT), KEPT),
    "residual": (residual_net(3), perturbed(residual_net(3), 4, 0.02), identity_alignment(residual_net(3))),
}


def improved(name: str, steps: int = 25) -> tuple[np.ndarray, np.ndarray, Certificate, tuple[np.ndarray, np.ndarray]]:
    """Bounds of -|f - g| before and after, the certificate, and the box."""
    f, g, alignment = PAIRS[name]
    centre = np.random.default_rng(0).uniform(size=f.input_shape)
    box = (centre - 0.15)[None], (centre + 0.15)[None]
    prop = distance_at_most(0.0, f.num_outputs)
    state = enclose([f, g], *box, "real", hints=[Certificate("differential", alignment=alignment)])
    bounder = CaseBounder(state)
    rows, offsets = torch.as_tensor(prop.rows.copy()), torch.as_tensor(prop.offsets.copy())
    places = Places([()] * len(rows), bounder.units)
    start = bounder.default_lines(bounder.intervals(places, len(rows)))
    question, none = Question(bounder, rows, offsets, places, start), torch.zeros((len(rows), 0))
    with torch.no_grad():
        before = question.bound(none).lower.numpy()
    found = improve(question, none, steps=steps, turning=torch.ones(len(rows), dtype=torch.bool))
    slopes, shares = as_tables(found.lines, bounder, start=start, leaves=range(len(rows)))
    return before, found.lower.numpy(), Certificate("differential", slopes, alignment=alignment, shares=shares), box


@pytest.mark.parametrize("name", PAIRS)
def test_every_row_gets_better_or_stays(name: str) -> None:
    before, after, _, _ = improved(name)
    assert (after >= before - 1e-12).all()
    assert (after - before).sum() > 0.02 * -before.sum()


@pytest.mark.parametrize("name", PAIRS)
def test_the_checker_proves_what_the_search_found(name: str) -> None:
    _, after, certificate, box = improved(name)
    f, g, _ = PAIRS[name]
    rows = distance_at_most(0.0, f.num_outputs).rows
    proved = lower_bounds([f, g], *box, rows, np.zeros(len(rows)), hints=[certificate])[0]
    # The checker takes the better of joint and separate bounds.
    assert (proved >= after - 1e-9).all()
    points = np.random.default_rng(1).uniform(box[0][0], box[1][0], size=(2000, *f.input_shape))
    difference = evaluate(f, points) - evaluate(g, points)
    assert (proved <= np.concatenate([-difference, difference], axis=1).min(axis=0)).all()


@pytest.mark.parametrize("name", PAIRS)
def test_shares_count_in_the_proof(name: str) -> None:
    _, _, certificate, box = improved(name)
    f, g, _ = PAIRS[name]
    rows = distance_at_most(0.0, f.num_outputs).rows
    with_shares, without = (
        lower_bounds([f, g], *box, rows, np.zeros(len(rows)), hints=[hint])[0]
        for hint in (certificate, replace(certificate, shares={}))
    )
    assert with_shares.sum() > without.sum() + 1e-3
    assert any(((table > 0) & (table < 255)).any() for table in certificate.shares.values())


def test_shares_survive_json() -> None:
    certificate = improved("removed", steps=3)[2]
    again = loads(Certificate, dumps(certificate), "certificate")
    assert again.shares.keys() == certificate.shares.keys()
    assert all((again.shares[key] == table).all() for key, table in certificate.shares.items())
    assert {table.shape for table in certificate.shares.values()} == {(6, 15)}


@pytest.mark.parametrize("name", PAIRS)
def test_lines_of_other_cases_stay(name: str) -> None:
    f, g, alignment = PAIRS[name]
    box = np.full((1, *f.input_shape), 0.3), np.full((1, *f.input_shape), 0.6)
    prop = distance_at_most(0.0, f.num_outputs)
    bounder = CaseBounder(enclose([f, g], *box, "real", hints=[Certificate("differential", alignment=alignment)]))
    places = Places([()] * len(prop.rows), bounder.units)
    start = bounder.default_lines(bounder.intervals(places, len(prop.rows)))
    question = Question(
        bounder, torch.as_tensor(prop.rows.copy()), torch.as_tensor(prop.offsets.copy()), places, start
    )  # fmt: skip
    turning = torch.arange(len(prop.rows)) % 2 == 0
    found = improve(question, torch.zeros((len(prop.rows), 0)), steps=10, turning=turning)
    moved = sum((x != start.slopes[k]).any(1).int() for k, x in found.lines.slopes.items())
    moved += sum((x != start.shares[k]).any(1).int() for k, x in found.lines.shares.items())
    assert not moved[~turning].any()
    assert moved[turning].any()
