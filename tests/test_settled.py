"""Claims of a cascade that is stopped and goes on end as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.run import audit, compare_models
from paoding_verify.auditing.settle import settle
from paoding_verify.errors import JournalError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Finding, Witness
from paoding_verify.evidence.codec import from_plain, to_plain
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.memo import FORGETFUL, Memo
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region
from paoding_verify.report.render import audit_json
from paoding_verify.robustness.certify import certify
from paoding_verify.task import SearchConfig, Task
from tests.interruptions import stopped_again_and_again
from tests.networks import dense_net
from tests.test_certify import tasks_around, wiggle
from tests.test_memo import Notes

FAST = SearchConfig(
    timeout_s=60.0, attack_restarts=2, attack_steps=10, alpha_iterations=3, max_leaves=40, smt_samples=1
)


def regions(count: int, eps: float) -> list[Region]:
    x = np.random.default_rng(5).uniform(0, 1, (count, 6)).astype(np.float32)
    return [Region(f"r{k}", p.astype(float) - eps, p.astype(float) + eps, p, None, eps) for k, p in enumerate(x)]


def similar() -> tuple[Network, Network]:
    """Two networks that differ a little."""
    network = dense_net(3)
    first = network.nodes[0]
    moved = replace(first.op, bias=(first.op.bias + 0.02).astype(np.float32).astype(float))  # type: ignore[union-attr]
    return network, replace(network, nodes=(replace(first, op=moved), *network.nodes[1:]))


def as_bytes(result: AuditResult) -> tuple[str, dict[str, bytes]]:
    return audit_json(result), dict(result.files)


def test_an_audit_that_is_stopped_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    boxes = regions(4, 0.08)

    def work(memo: Memo = FORGETFUL) -> AuditResult:
        return audit(*similar(), boxes, config=AuditConfig(search=FAST), memo=memo)

    found, stops = stopped_again_and_again(work, tmp_path / "journal")
    assert stops >= 6  # four batches and the spot checks of one region
    assert as_bytes(found) == as_bytes(work())


def hard() -> tuple[Network, list[Task]]:
    """Two claims that bounds alone leave open: one is proved by splitting, one stays UNKNOWN."""
    network, easy = wiggle(0.05)
    _, open_one = wiggle(0.001)
    return network, [easy, replace(open_one, id="t1", region=replace(open_one.region, id="r1"))]


def test_claims_that_were_split_are_kept_one_by_one(tmp_path: Path) -> None:
    network, tasks = hard()
    notes = Notes()
    expected = certify(network, tasks, FAST, memo=notes)
    split = [key for key in notes.records if "splitting" in key]
    assert len(split) >= 2
    found, stops = stopped_again_and_again(lambda memo: certify(network, tasks, FAST, memo=memo), tmp_path / "journal")
    assert stops == len(split) + len([key for key in notes.records if key.startswith("claims ")])
    assert [strip(f.claim) for f in found] == [strip(f.claim) for f in expected]


def strip(claim: Any) -> Any:
    return replace(claim, elapsed_s=None)


def test_kept_claims_are_not_settled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    notes, pair, boxes = Notes(), similar(), regions(3, 0.05)
    config = AuditConfig(search=FAST)
    first = compare_models(*pair, boxes, config=config, memo=notes)

    def forbidden(*arguments: object) -> None:
        raise AssertionError("a claim was settled twice")

    monkeypatch.setattr("paoding_verify.equivalence.compare.Comparison.perform", forbidden)
    again = compare_models(*pair, boxes, config=config, memo=notes)
    assert again.claims == first.claims  # times included: they are those of the first run
    assert as_bytes(again) == as_bytes(first)
    assert {claim.verdict for claim in again.claims} >= {Verdict.CERTIFIED}


def test_findings_about_other_claims_are_refused() -> None:
    notes, network = Notes(), dense_net(3)
    tasks = tasks_around(network, [0.01, 0.02])
    certify(network, tasks, FAST, memo=notes)
    (key,) = (key for key in notes.records if key.startswith("claims "))
    notes.records[key] = {"findings": list(reversed(notes.records[key]["findings"]))}
    with pytest.raises(JournalError, match="other claims"):
        certify(network, tasks, FAST, memo=notes)


@pytest.mark.parametrize("damage", [None, [], 3, [{}], [{"claim": {}, "certificate": None}]])
def test_damaged_findings_concern_the_whole_run(damage: object) -> None:
    notes, network = Notes(), dense_net(3)
    tasks = tasks_around(network, [0.01])
    certify(network, tasks, FAST, memo=notes)
    notes.records = {key: {"findings": damage} for key in notes.records}
    with pytest.raises(JournalError):
        settle(lambda some: certify(network, some, FAST, memo=notes), tasks)


@pytest.mark.parametrize("name", ["spent_s", "attack", "certificate", "limit", "finding"])
def test_damaged_states_are_refused(name: str) -> None:
    notes, (network, tasks) = Notes(), hard()
    certify(network, tasks, FAST, memo=notes)
    notes.records = {k: {**r, name: [1]} for k, r in notes.records.items() if k.startswith("input-splitting ")}
    assert notes.records
    with pytest.raises(JournalError, match="damaged"):
        certify(network, tasks, FAST, memo=notes)


def test_states_survive_json() -> None:
    notes, (network, tasks) = Notes(), hard()
    certify(network, tasks, FAST, memo=notes)
    for record in notes.records.values():
        assert json.loads(json.dumps(record)) == record


def forged(plain: Any, point: np.ndarray, how: str) -> Any:
    """A kept finding that says more than is true."""
    finding = from_plain(Finding, plain, "finding")
    proved = {"verdict": Verdict.CERTIFIED, "rechecked": True, "semantics": ("real", "float32"), "reason": ""}
    witness = Witness(tuple(map(float, point.ravel())), (0.0, 1.0, 0.0, 0.0), None)
    changes: dict[str, dict[str, Any]] = {
        "certified": {**proved, "bound": 0.5, "attack": None, "witness": None},
        "violated": {"verdict": Verdict.VIOLATED, "semantics": (), "bound": None, "witness": witness},
        "bound": {"bound": 2.0 * (finding.claim.bound or 1.0)},
        "eps": {"eps": 9.0},
    }
    certificate = None if how == "violated" else finding.certificate or Certificate("crown")
    return to_plain(Finding(replace(finding.claim, **changes[how]), certificate))


@pytest.mark.parametrize("how", ["certified", "violated", "bound", "eps"])
def test_what_a_journal_says_counts_only_if_the_checker_confirms_it(how: str) -> None:
    network = dense_net(3)
    tasks = tasks_around(network, [0.01, 5.0])
    notes, clean = Notes(), certify(network, tasks, FAST)
    assert [f.claim.verdict for f in clean] == [Verdict.CERTIFIED, Verdict.VIOLATED]
    certify(network, tasks, FAST, memo=notes)
    (key,) = (key for key in notes.records if key.startswith("claims "))
    kept = list(notes.records[key]["findings"])
    number = 1 if how == "certified" else 0
    kept[number] = forged(kept[number], tasks[number].region.centre, how)
    notes.records[key] = {"findings": kept}
    found = certify(network, tasks, FAST, memo=notes)
    assert [strip(f.claim) for f in found] == [strip(f.claim) for f in clean]


def test_a_forged_finding_of_a_long_stage_is_not_believed() -> None:
    notes, (network, tasks) = Notes(), hard()
    clean = certify(network, tasks, FAST, memo=notes)
    stages = {key: record for key, record in notes.records.items() if record.get("finding") and "splitting" in key}
    assert stages
    point = tasks[0].region.centre
    notes.records = {key: {**r, "finding": forged(r["finding"], point, "bound")} for key, r in stages.items()}
    found = certify(network, tasks, FAST, memo=notes)
    assert [strip(f.claim) for f in found] == [strip(f.claim) for f in clean]


def test_a_forged_bracket_and_a_forged_word_of_the_solver_are_not_believed() -> None:
    notes, pair, boxes = Notes(), similar(), regions(2, 0.05)
    config = AuditConfig(search=FAST)
    clean = compare_models(*pair, boxes, config=config, memo=notes)
    for key, record in list(notes.records.items()):
        if key.startswith("claims "):
            found = [from_plain(Finding, f, key) for f in record["findings"]]
            if found[0].claim.kind == "output_distance":
                found = [replace(f, claim=replace(f.claim, bound=(f.claim.bound or 1.0) / 4)) for f in found]
                notes.records[key] = {"findings": to_plain(found)}
        elif key.startswith("spot check "):
            one = from_plain(Finding, record["finding"], key)
            forgery = to_plain(replace(one, claim=replace(one.claim, bound=1e-9, region="r9")))
            notes.records[key] = {**record, "finding": forgery}
    again = compare_models(*pair, boxes, config=config, memo=notes)
    assert [strip(c) for c in again.claims] == [strip(c) for c in clean.claims]
