"""The benchmark of the checker counts what the search proved, what the checker made again, and what is open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import Property
from tests.networks import dense_net

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def import_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_proofs_that_are_not_made_again_lower_the_share(capsys: pytest.CaptureFixture[str]) -> None:
    from checker import print_stages
    from checker_pairs import Tally

    tally, network, box = Tally(), dense_net(0), (np.zeros(6), np.ones(6))
    row = np.zeros((1, 4))
    for offset in (1.0, 1.0, 1.0, -1.0):
        prop = Property(row, np.array([offset]), ((0,),))
        tally.add("net", [network], box, prop, ("cases of ReLUs", Certificate("crown")))
    tally.add("net", [network], box, prop, None)
    tally.add("other", [network], box, prop, None)
    (found,) = tally.rows
    assert (found["found"], found["proved"]) == (4, {"real": 3, "float32": 3})
    assert found["not_exact"] == ["its margin is not positive in exact arithmetic"]
    assert tally.open == {"net": 1, "other": 1}
    assert tally.shares == {"real": 0.75, "float32": 0.75}
    print_stages(tally)
    shown = capsys.readouterr().out
    assert "3 of 4" in shown
    assert "not in rationals: its margin is not positive" in shown
    assert "other: 1 claims that no search proved" in shown
    assert "75.0 % of these proofs are made again in float32" in shown


def test_searches_prove_what_the_checker_alone_does_not() -> None:
    from checker_pairs import Tally, ask_network

    tally, network = Tally(), dense_net(5, sizes=(6, 12, 10, 3))
    x = np.random.default_rng(0).uniform(0.2, 0.8, size=(12, 6))
    ask_network(tally, "net", network, x, network.forward(x.astype(np.float32)).argmax(axis=1), 0.05)
    assert tally.rows
    assert all(row["proved"] == {"real": row["found"], "float32": row["found"]} for row in tally.rows)
    assert all(not row["not_exact"] for row in tally.rows)
