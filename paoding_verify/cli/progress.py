"""Progress on stderr: a live bar on a terminal, plain lines elsewhere; both with an estimate of the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from paoding_verify.task import Progress

__all__ = ["reporting"]

LINE_INTERVAL_S = 2.0
"""Plain lines come no faster than this, but the end of every piece of work is always told."""


@contextmanager
def reporting(quiet: bool) -> Iterator[Progress | None]:
    """The callback to hand to the library, or None if nothing is to be shown."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _live_bar() as progress:
            yield progress
    else:
        yield _PlainLines()


class _PlainLines:
    """One line now and then."""

    def __init__(self) -> None:
        self._work = ""
        self._started_s = self._told_s = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Prints a line if it is time for one."""
        now_s = time.monotonic()
        if what != self._work:
            self._work, self._started_s = what, now_s
        elif done < total and now_s - self._told_s < LINE_INTERVAL_S:
            return
        self._told_s = now_s
        left_s = (now_s - self._started_s) / done * (total - done) if done else None
        estimate = f", about {left_s:.0f} s left" if left_s and done < total else ""
        print(f"{what}: {done} of {total}{estimate}", file=sys.stderr, flush=True)


@contextmanager
def _live_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        known = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=total)
            bars.update(known[what], completed=done, total=total)

        yield show
