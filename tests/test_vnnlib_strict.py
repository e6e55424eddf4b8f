"""Strict inequalities of specifications: what lies on their boundary is no counterexample, nor is it proved away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paoding_verify.checker.claims import Setting
from paoding_verify.checker.replay import replay
from paoding_verify.equivalence.compare import compare
from paoding_verify.errors import InputError, SpecError
from paoding_verify.evidence.claim import Claim, Witness
from paoding_verify.evidence.property import Property, PropertyRecord, broken_by, surely_broken
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Dense, Relu
from paoding_verify.regions import Region
from paoding_verify.robustness.certify import certify
from paoding_verify.task import SearchConfig, Task
from paoding_verify.vnnlib import read_vnnlib
from paoding_verify.vnnlib_pair import read_pair_vnnlib
from tests.networks import chain

# y = (relu(x), 0.5): on [0, 0.5] the outputs meet at x = 0.5 and nowhere else.
NET = chain((1,), Dense(np.array([[1.0]]), np.zeros(1)), Relu(), Dense(np.array([[1.0], [0.0]]), np.array([0.0, 0.5])))
CONFIG = SearchConfig(timeout_s=10.0, attack_restarts=2, attack_steps=10)
PAIR = """(vnnlib-version <2.0>)
(declare-network f (declare-input X real [1]) (declare-output Y real [2]))
(declare-network g (declare-input A real [1]) (declare-output B real [2]))
"""


def single(folder: Path, condition: str, box: str = "(assert (>= X_0 0))(assert (<= X_0 0.5))") -> Property:
    path = folder / "s.vnnlib"
    names = "".join(f"(declare-const {name} Real)" for name in ("X_0", "Y_0", "Y_1"))
    path.write_text(f"{names}{box}(assert {condition})")
    ((_, prop),) = read_vnnlib(path, (1,), 2)
    return prop


def pair(folder: Path, body: str) -> list[tuple[Region, Property]]:
    path = folder / "p.vnnlib"
    path.write_text(PAIR + body)
    return read_pair_vnnlib(path, NET, NET)


@pytest.mark.parametrize(("sign", "verdict"), [(">=", Verdict.VIOLATED), (">", Verdict.UNKNOWN)])
def test_a_point_on_the_boundary_is_a_counterexample_only_if_the_boundary_is_unsafe(
    tmp_path: Path, sign: str, verdict: Verdict
) -> None:
    prop = single(tmp_path, f"({sign} Y_0 Y_1)")
    region = Region("r0000", np.array([0.5]), np.array([0.5]))
    (finding,) = certify(NET, [Task("a", "vnnlib", "original", region, prop)], CONFIG)
    assert finding.claim.verdict is verdict
    body = f"(assert (== X[0] A[0])) (assert (and (>= X[0] 0.5) (<= X[0] 0.5))) (assert ({sign} Y[0] B[1]))"
    ((region, prop),) = pair(tmp_path, body)
    (finding,) = compare(NET, NET, [Task("a", "vnnlib", "pair", region, prop)], CONFIG)
    assert finding.claim.verdict is verdict


def test_beyond_a_strict_boundary_is_a_counterexample_and_away_from_it_a_proof(tmp_path: Path) -> None:
    prop = single(tmp_path, "(> Y_0 Y_1)")
    boxes = [Region(f"r{k}", np.array([0.0]), np.array([end])) for k, end in enumerate((0.6, 0.4))]
    tasks = [Task(region.id, "vnnlib", "original", region, prop) for region in boxes]
    found = certify(NET, tasks, CONFIG)
    assert [finding.claim.verdict for finding in found] == [Verdict.VIOLATED, Verdict.CERTIFIED]


def test_only_weak_rows_need_more_than_a_tie(tmp_path: Path) -> None:
    prop = single(tmp_path, "(or (and (> Y_0 1) (<= Y_1 2)) (< Y_1 0))")
    assert (prop.clauses, prop.weak) == (((0, 1), (2,)), (0, 2))
    for outputs, broken in (((1, 2), False), ((1.5, 2), True), ((1, 0), False), ((1, -1), True), ((2, 3), False)):
        assert broken_by(prop, outputs) is broken
        values = prop.values(np.array([outputs]))[0]
        assert surely_broken(prop, values, values) is broken
    again = PropertyRecord.of(prop).property()
    assert (again.clauses, again.weak) == (prop.clauses, prop.weak)
    with pytest.raises(InputError, match="weak rows"):
        Property(prop.rows, prop.offsets, prop.clauses, weak=(3,))


def test_a_bundle_with_a_witness_on_a_strict_boundary_is_refused(tmp_path: Path) -> None:
    half = np.array([0.5])
    for sign, kind in ((">=", "reproved"), (">", "refused")):
        claim = Claim(
            "a", "vnnlib", "original", "r0000", None, None, Verdict.VIOLATED, "pgd", rechecked=True,
            witness=Witness((0.5,), (0.5, 0.5), None),
        )  # fmt: skip
        setting = Setting((NET,), single(tmp_path, f"({sign} Y_0 Y_1)"), half, half)
        assert replay(claim, setting)[0] == kind


def test_strict_bounds_of_inputs_and_strict_ties_are_not_taken_for_others(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="bound of X_0 is strict"):
        single(tmp_path, "(> Y_0 Y_1)", "(assert (>= X_0 0))(assert (< X_0 0.5))")
    box = "(assert (and (>= X[0] 0) (<= X[0] 1)))"
    with pytest.raises(SpecError, match="is not tied"):
        pair(tmp_path, f"(assert (and (< X[0] A[0]) (> X[0] A[0]))) {box}")
    with pytest.raises(SpecError, match="no input meets"):
        pair(tmp_path, f"(assert (== X[0] A[0])) {box} (assert (< X[0] A[0]))")
    assert len(pair(tmp_path, f"(assert (== X[0] A[0])) {box} (assert (<= X[0] A[0]))")) == 1
