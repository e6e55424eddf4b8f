"""Without units that are off, bounds on cases are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paoding_verify.bounds.case_bounds import CaseBounder
from paoding_verify.bounds.case_lines import as_tables
from paoding_verify.bounds.case_shrink import shrunk
from paoding_verify.bounds.case_tree import Places
from paoding_verify.evidence.certificate import NO_HINT, Certificate
from paoding_verify.evidence.property import distance_at_most
from paoding_verify.network.graph import Network
from tests.networks import conv_net, dense_net, residual_net
from tests.pairs import identity_alignment, perturbed, root_state, without_units

WIDE = dense_net(1, (6, 24, 24, 3))
KEPT = (tuple(range(3, 24)), tuple(range(20)))
PAIRS = {
    "removed": (WIDE, without_units(WIDE, KEPT), KEPT),
    "moved": (WIDE, perturbed(WIDE, 1, 0.02), identity_alignment(WIDE)),
    "no alignment": (WIDE, perturbed(WIDE, 1, 0.02), None),
}


def state_of(f: Network, g: Network, alignment: tuple[tuple[int, ...], ...] | None):
    centre = np.random.default_rng(3).uniform(size=f.input_shape)
    hints = Certificate("differential", alignment=alignment)
    return root_state([f, g], centre - 0.05, centre + 0.05, distance_at_most(0.0, f.num_outputs), hints, "float32")


@pytest.mark.parametrize("name", PAIRS)
def test_bounds_and_tables_stay_the_same(name: str) -> None:
    state = state_of(*PAIRS[name])
    large, small = CaseBounder(state), CaseBounder(shrunk(state))
    assert sum(small.units.values()) < 0.8 * sum(large.units.values())
    own = {k: small.program.steps[k].kept for k in small.units}
    rng = np.random.default_rng(0)
    rows = torch.as_tensor(rng.normal(size=(40, 6)))
    cases: tuple[list[tuple], list[tuple]] = ([], [])
    for _ in range(len(rows)):
        step = int(rng.choice([k for k, choice in small.choices[0].items() if choice.any()]))
        place, sign = (
            int(rng.choice(np.intersect1d(np.flatnonzero(small.choices[0][step].numpy()), own[step]))),
            int(rng.choice([-1, 1])),
        )
        unit = int(np.flatnonzero(own[step] == place)[0])
        kept = state.program.steps[step].kept
        cases[0].append(((step, unit if kept is None else int(kept[unit]), sign),))
        cases[1].append(((step, place, sign),))
    found, tables = [], []
    for bounder, conditions in zip((large, small), cases, strict=True):
        places = Places(conditions, bounder.units)
        intervals, credit = bounder.intervals(places, len(rows)), places.spread(torch.full((len(rows), 1), 0.1))
        lines = bounder.default_lines(intervals)
        found.append(bounder.bound(rows, torch.zeros(len(rows)), intervals, credit, lines).lower)
        tables.append(as_tables(lines, bounder))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)
    for mine, theirs in zip(*tables, strict=True):
        assert mine.keys() == theirs.keys()
        for key, table in mine.items():
            assert (table == theirs[key]).all()
    assert any((table != NO_HINT).any() for table in tables[0][0].values())


def test_other_programs_stay_as_they_are() -> None:
    for f in (conv_net(1), residual_net(1)):
        state = state_of(f, perturbed(f, 1, 0.02), identity_alignment(f))
        assert shrunk(state) is state
