"""What long work may remember: finished parts that a run interrupted later need not repeat.

Everything here is deterministic, so that going on after an interruption means no more than to take finished parts as
they were. A part is a record: a mapping whose leaves are plain JSON values and arrays. Where records are kept is for
whoever makes the memo to say (`journal.Journal`: in a file).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["FORGETFUL", "Checkpoint", "Memo", "Record", "under"]

Record = Mapping[str, Any]
"""Keys are strings; values are None, bool, int, float, str, lists and mappings of these, or numpy arrays."""

CHECKPOINT_S = 20.0
"""Seconds of work that a checkpoint lets pass before it stores the state again."""


class Memo(Protocol):
    """Keeps records by key; all that was stored comes back exactly, or not at all."""

    def recall(self, key: str) -> Record | None:
        """What was stored last under this key, in this run or in one that it continues; None: nothing."""

    def store(self, key: str, record: Record) -> None:
        """Keeps a record under a key, in place of an earlier one."""


class _Forgetful:
    """Keeps nothing."""

    def recall(self, key: str) -> Record | None:
        """Nothing was kept."""
        return None

    def store(self, key: str, record: Record) -> None:
        """Forgets it."""


FORGETFUL: Memo = _Forgetful()
"""For runs that are never continued."""


@dataclass(frozen=True)
class _Under:
    """A memo whose keys begin with a prefix of their own."""

    memo: Memo
    prefix: str

    def recall(self, key: str) -> Record | None:
        """As the memo behind it."""
        return self.memo.recall(f"{self.prefix}/{key}")

    def store(self, key: str, record: Record) -> None:
        """As the memo behind it."""
        self.memo.store(f"{self.prefix}/{key}", record)


def under(memo: Memo, prefix: str) -> Memo:
    """The memo for one part of the work, whose keys collide with those of no other part."""
    return memo if memo is FORGETFUL else _Under(memo, prefix)


class Checkpoint:
    """The state of one long loop, stored now and then: what an interruption costs is about CHECKPOINT_S."""

    def __init__(self, memo: Memo, key: str) -> None:
        """The loop's state is kept under `key`."""
        self._memo, self._key = memo, key
        self._stored_s = time.monotonic()

    def recall(self) -> Record | None:
        """The state stored last; None: the loop starts from its beginning."""
        return self._memo.recall(self._key)

    def offer(self, state: Callable[[], Record]) -> None:
        """Stores the state if it is time to; `state` is called only then."""
        now_s = time.monotonic()
        if self._memo is not FORGETFUL and now_s - self._stored_s >= CHECKPOINT_S:
            self._memo.store(self._key, state())
            self._stored_s = now_s
