"""What long work remembers: keys of parts, and states that are stored now and then."""

from __future__ import annotations

import pytest

from paoding_verify import memo
from paoding_verify.memo import FORGETFUL, Checkpoint, Record, under


class Notes:
    """A memo in memory."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def recall(self, key: str) -> Record | None:
        return self.records.get(key)

    def store(self, key: str, record: Record) -> None:
        self.records[key] = record


def test_parts_of_the_work_have_keys_of_their_own() -> None:
    notes = Notes()
    under(under(notes, "a"), "b").store("c", {"value": 1})
    under(notes, "b").store("c", {"value": 2})
    assert notes.records == {"a/b/c": {"value": 1}, "b/c": {"value": 2}}
    assert under(under(notes, "a"), "b").recall("c") == {"value": 1}
    assert under(notes, "a").recall("c") is None


def test_the_forgetful_memo_keeps_nothing() -> None:
    part = under(FORGETFUL, "a")
    part.store("b", {"value": 1})
    assert part.recall("b") is None


def test_a_checkpoint_stores_when_it_is_time_and_asks_for_the_state_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, asked, notes = [100.0], [], Notes()
    monkeypatch.setattr("paoding_verify.memo.time.monotonic", lambda: now_s[0])
    checkpoint = Checkpoint(notes, "loop")
    for step in range(50):
        now_s[0] += 1.0
        checkpoint.offer(lambda step=step: asked.append(step) or {"step": step})  # type: ignore[misc]
    every = int(memo.CHECKPOINT_S)
    assert asked == list(range(every - 1, 50, every))
    assert checkpoint.recall() == {"step": asked[-1]}


def test_nothing_is_asked_for_that_nobody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "CHECKPOINT_S", 0.0)

    def forbidden() -> Record:
        raise AssertionError("the state was made for nobody")

    checkpoint = Checkpoint(FORGETFUL, "loop")
    checkpoint.offer(forbidden)
    assert checkpoint.recall() is None
