"""Runs that are stopped after every few records they keep, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from paoding_verify.journal import Journal, kept_in
from paoding_verify.memo import Memo, Record

__all__ = ["Stopped", "stopped_again_and_again"]

T = TypeVar("T")


class Stopped(BaseException):
    """Ends a run as nothing in it expects."""


class _Stopping:
    """A journal that ends the run after some records."""

    def __init__(self, journal: Journal, left: int) -> None:
        self._journal, self._left = journal, left

    def recall(self, key: str) -> Record | None:
        return self._journal.recall(key)

    def store(self, key: str, record: Record) -> None:
        self._journal.store(key, record)
        self._left -= 1
        if self._left == 0:
            raise Stopped


def stopped_again_and_again(work: Callable[[Memo], T], path: Path, *, every: int = 1, most: int = 60) -> tuple[T, int]:
    """What the work gives if each run is stopped after the records that it may add, and how many were."""
    for stops in range(most):
        try:
            with kept_in(path, {"work": "the same"}, resume=True) as journal:
                return work(_Stopping(journal, every)), stops
        except Stopped:
            assert path.is_file()
    raise AssertionError(f"{most} runs went on from each other and did not come to an end")
