"""The benchmark of z3's spot checks asks what it declares, and counts agreement with verdicts alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def import_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_small_regions_are_confirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from spot_checks import MAX_OPEN, main

    found = tmp_path / "found.json"
    arguments = ["--pairs", "digits-25-tuned", "--count", "3", "--radii", "0.002", "--cache", str(tmp_path)]
    main([*arguments, "--json", str(found)])
    rows = json.loads(found.read_text())["results"]
    assert rows
    assert all(row["unresolved"] <= MAX_OPEN and row["z3"] is not None for row in rows)
    settled = [row for row in rows if row["verdict"] != "UNKNOWN"]
    agreed = sum(row["agrees"] for row in settled)
    assert f"z3 agrees on {agreed} of {len(settled)} settled claims" in capsys.readouterr().out


def test_open_claims_and_missing_answers_are_no_agreement() -> None:
    from spot_checks import table

    row = {"pair": "p", "verdict": "CERTIFIED", "scale": 1.0, "agrees": True}
    rows = [row] * 19 + [row | {"agrees": False}]
    assert "19 of 20 settled claims (95.0%; met" in table(rows)
    assert "19 of 21 settled claims (90.5%; not met" in table([*rows, row | {"agrees": False}])
    assert "19 of 20 settled" in table([*rows, row | {"verdict": "UNKNOWN", "agrees": False}])


def test_boxes_of_a_specification_hold_the_regions_drawn() -> None:
    from equivalence_pairs import Pair
    from spot_checks import regions

    from paoding_verify.regions import Region
    from tests.networks import dense_net

    f = dense_net(0)
    zero = np.zeros(f.input_shape)
    box = Region("box", zero - 1.0, zero + 2.0, zero.astype(np.float32), None, None)
    pair = Pair(f, f, None, box)
    drawn = regions(pair, "p", (0.1, 0.2), 6, 1)
    again = regions(pair, "p", (0.1, 0.2), 6, 1)
    for region, same in zip(drawn, again, strict=True):
        assert (box.lower <= region.lower).all()
        assert (region.upper <= box.upper).all()
        assert region.contains(region.centre)
        assert np.array_equal(region.lower, same.lower)
