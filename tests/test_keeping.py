"""A pruning that is stopped and goes on ends as if nothing had happened, whatever the method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paoding_verify import memo as memo_module
from paoding_verify.errors import InputError, JournalError
from paoding_verify.evidence.codec import dumps
from paoding_verify.memo import Memo, Record
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Affine, Dense, Network
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.pruning.distil import DistilConfig
from paoding_verify.pruning.finetune import finetune
from paoding_verify.pruning.keeping import network_in, outcome_in, record_of_network, record_of_outcome
from paoding_verify.pruning.members import MEMBERS
from paoding_verify.pruning.objectives import OBJECTIVES
from paoding_verify.pruning.options import PruneOptions
from paoding_verify.pruning.portfolio import PortfolioConfig
from paoding_verify.pruning.problem import PruneOutcome
from paoding_verify.pruning.prune import PruneResult, prune
from tests.interruptions import stopped_again_and_again
from tests.networks import conv_net, dense_net, residual_net
from tests.test_finetune import classes, small_net
from tests.test_memo import Notes
from tests.test_prune import own_boxes

FEW = PortfolioConfig(members=(MEMBERS[0], MEMBERS[2], MEMBERS[4]), distillation=DistilConfig(steps=20, batch=16))


def without_times(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: without_times(value) for key, value in plain.items() if key != "elapsed_s"}
    return [without_times(value) for value in plain] if isinstance(plain, list) else plain


def as_bytes(result: PruneResult) -> tuple[bytes, object]:
    return to_onnx(result.network), without_times(json.loads(dumps(result.trace)))


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints at every occasion."""
    monkeypatch.setattr(memo_module, "CHECKPOINT_S", 0.0)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("make", "settings", "parts"),
    [
        (dense_net, {"method": "portfolio"}, 4),
        (residual_net, {"method": "portfolio", "distil": False}, 3),
        (dense_net, {"method": "paoding", "seed": 3}, 2),
        (dense_net, {"method": "magnitude-l1", "options": PruneOptions(max_certified_drop=0.5, eps=0.01)}, 3),
        (dense_net, {"method": "magnitude-l1", "options": PruneOptions(repair=True), "every": 1}, 2),
    ],
)
def test_a_pruning_that_is_stopped_ends_as_if_it_had_not_been(
    make: Any, settings: dict[str, Any], parts: int, tmp_path: Path
) -> None:
    settings = {"options": PruneOptions(portfolio=FEW), **settings}
    every = settings.pop("every", 3)

    def work(memo: Memo | None) -> PruneResult:
        network = make(2)
        return prune(network, own_boxes(network, 18), **settings, memo=memo)

    found, stops = stopped_again_and_again(work, tmp_path / "journal", every=every)
    assert stops >= parts
    assert as_bytes(found) == as_bytes(work(None))


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_that_is_stopped_ends_as_if_it_had_not_been(objective: str, tmp_path: Path) -> None:
    masks = {0: np.random.default_rng(0).random((16, 6)) < 0.5}

    def work(memo: Memo = memo_module.FORGETFUL) -> Any:
        return finetune(
            small_net(), classes(200), objective=objective, eps=0.03, epochs=4, seed=5, masks=masks, memo=memo
        )

    found, stops = stopped_again_and_again(work, tmp_path / "journal")
    expected = work()
    assert stops == 4
    assert found.record == expected.record
    assert canonical_digest(found.network) == canonical_digest(expected.network)


def test_a_memo_that_is_full_is_enough() -> None:
    """The second run of the same call computes nothing: whatever is computed would be kept."""
    notes = Notes()
    options = PruneOptions(portfolio=replace(FEW, members=MEMBERS[1:3]))
    first = prune(dense_net(2), own_boxes(dense_net(2), 18), options=options, memo=notes)
    known = dict(notes.records)
    assert len(known) == 4  # two candidates, one of them distilled, and the outcome
    again = prune(dense_net(2), own_boxes(dense_net(2), 18), options=options, memo=notes)
    assert dumps(again.trace) == dumps(first.trace)
    assert notes.records == known


def example() -> tuple[Network, PruneOutcome]:
    """An outcome on a network with a normalisation whose parameters were folded."""
    original = conv_net(1)
    nodes = list(original.nodes)
    op = nodes[0].op
    assert isinstance(op, Affine)
    nodes[0] = replace(nodes[0], op=replace(op, bias_magnitude=np.abs(op.shift) + 0.1, roundings=2))
    original = replace(original, nodes=tuple(nodes))
    changed = [
        replace(n, op=replace(n.op, weight=n.op.weight + 1e-9)) if isinstance(n.op, Dense) else n
        for n in original.nodes
    ]
    return original, PruneOutcome(replace(original, nodes=tuple(changed)), frozenset({1, 7}), (), stopped="early")


def test_outcomes_come_back_exactly() -> None:
    original, outcome = example()
    found = outcome_in(record_of_outcome(outcome, original), original)
    assert canonical_digest(found.network) == canonical_digest(outcome.network)
    assert (found.removed, found.steps, found.stopped) == (outcome.removed, outcome.steps, outcome.stopped)
    assert network_in(record_of_network(original, original), original) is original


DAMAGE = {
    "no mapping": lambda r: [],
    "field missing": lambda r: {k: v for k, v in r.items() if k != "stopped"},
    "field unknown": lambda r: {**r, "new": 1},
    "text for a list": lambda r: {**r, "removed": "12"},
    "no network": lambda r: {**r, "network": 3},
    "no nodes": lambda r: {**r, "network": {"original": False}},
    "another shape": lambda r: changed(r, weight=np.zeros((2, 2))),
    "NaN": lambda r: changed(r, bias=np.array([np.nan, 0, 0])),
    "list for an array": lambda r: changed(r, bias=[0.0, 0.0, 0.0]),
    "text for a number": lambda r: changed(r, roundings="0"),
}


def changed(record: Any, **values: Any) -> Any:
    nodes = record["network"]["nodes"]
    last = str(max(map(int, nodes)))
    return {**record, "network": {**record["network"], "nodes": {**nodes, last: {**nodes[last], **values}}}}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_damaged_outcomes_are_refused(name: str) -> None:
    original, outcome = example()
    record: Record = DAMAGE[name](record_of_outcome(outcome, original))
    with pytest.raises(InputError):
        outcome_in(record, original)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("damage", [
    {"generator": {"bit_generator": "PCG64", "state": {"state": "x", "inc": 1}}}, {"generator": None}, {"number": "1"},
    {"margins": np.zeros(3)}, {"steps": [{}]}, {"quotas": ["a"]}, {"energy": None}, {"removed": None},
])  # fmt: skip
def test_damaged_steps_are_refused(damage: dict[str, Any]) -> None:
    notes = Notes()
    network = dense_net(2)
    boxes = own_boxes(network)
    prune(network, boxes, method="paoding", memo=notes)
    notes.records = {k: {**r, **damage} for k, r in notes.records.items() if k.endswith("steps")}
    with pytest.raises(InputError):
        prune(network, boxes, method="paoding", memo=notes)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("damage", [
    {"arrays": []}, {"arrays": [np.zeros(2)] * 18}, {"attacks": np.zeros(3, dtype=np.uint8)}, {"order": 1},
    {"losses": ["a"]}, {"arrays": 3}, {"attacks": None},
])  # fmt: skip
def test_damaged_epochs_are_refused(damage: dict[str, Any]) -> None:
    notes = Notes()
    options: dict[str, Any] = {"objective": "adversarial", "eps": 0.03, "epochs": 1}
    finetune(small_net(), classes(60), **options, memo=notes)
    notes.records = {k: {**r, **damage} for k, r in notes.records.items()}
    with pytest.raises((JournalError, InputError)):
        finetune(small_net(), classes(60), **options, memo=notes)
