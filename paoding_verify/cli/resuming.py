"""--resume: long commands keep finished parts in a journal beside their output and go on from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parser imports this module, and --help needs none of these
    from paoding_verify.journal import Journal
    from paoding_verify.memo import Memo, Record
    from paoding_verify.task import Progress

__all__ = ["add_resume", "journal_of", "journalled"]


def add_resume(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument(
        "--resume", action="store_true",
        help="go on with an interrupted run of this command, from the file OUTPUT.journal; starts afresh without one "
        "(--force alone begins anew)",
    )  # fmt: skip


def journal_of(output: Path) -> Path:
    """Where a command that writes `output` keeps its finished parts: "out" -> "out.journal" beside it."""
    return output.with_name(f"{output.name}.journal")


@contextmanager
def journalled(args: argparse.Namespace, identity: Mapping[str, str], progress: Progress | None) -> Iterator[Memo]:
    """The memo of a command, in the journal beside its output; without an output nothing is kept.

    Raises: ConfigError if the journal cannot be used; KeyboardInterrupt, saying how to go on, if it was interrupted.
    """
    from paoding_verify.journal import kept_in
    from paoding_verify.memo import FORGETFUL

    if args.output is None:
        yield FORGETFUL
        return
    path = journal_of(args.output)
    try:
        with kept_in(path, identity, resume=args.resume, anew=args.force) as journal:
            yield _Telling(journal, progress)
    except KeyboardInterrupt:
        if path.exists():
            words = f"interrupted; finished parts are kept in {path}: run the same command with --resume to go on"
            raise KeyboardInterrupt(words) from None
        raise


class _Telling:
    """A journal that reports as progress what is taken from it."""

    def __init__(self, journal: Journal, progress: Progress | None) -> None:
        self._journal, self._progress = journal, progress
        self._taken, self._found = 0, len(journal)

    def recall(self, key: str) -> Record | None:
        """As the journal."""
        record = self._journal.recall(key)
        if record is not None and self._progress is not None:
            self._taken += 1
            self._progress("taken from the journal", self._taken, max(self._taken, self._found))
        return record

    def store(self, key: str, record: Record) -> None:
        """As the journal."""
        self._journal.store(key, record)
