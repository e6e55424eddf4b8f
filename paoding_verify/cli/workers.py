"""--jobs, --executor, --memory-limit: who does the work, and with how much memory; results do not depend on them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from paoding_verify.errors import ConfigError

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["RUN_OPTIONS", "add_memory_limit", "add_workers", "limit_this_process", "without_run_options", "workers"]

RUN_OPTIONS = {"resume": 0, "jobs": 1, "executor": 1, "memory_limit": 1, "quiet": 0, "json": 0}
"""Options that say how a result comes about and not what it is, and how many words follow them."""
LEAST_MB = 1024
"""Less memory does not hold the libraries themselves."""


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("workers")
    group.add_argument("--jobs", metavar="N", type=int, help="processes that settle claims (default 1: this one)")
    group.add_argument(
        "--executor", metavar="local|dask://HOST:PORT",
        help="where they run: here (default), or the workers of a dask scheduler (needs paoding-verify[cluster])",
    )  # fmt: skip
    add_memory_limit(parser)


def add_memory_limit(parser: argparse.ArgumentParser) -> None:
    """The option that every long command has."""
    parser.add_argument(
        "--memory-limit", metavar="MIB", type=int,
        help=f"address space of every process of the run, at least {LEAST_MB} (default: no limit)",
    )  # fmt: skip


def limit_this_process(args: argparse.Namespace) -> None:
    """Keeps the memory limit from here on. Raises: ConfigError if it is too small, or the system keeps none."""
    from paoding_verify.memory import limit_memory

    megabytes = getattr(args, "memory_limit", None)
    if megabytes is not None and megabytes < LEAST_MB:
        raise ConfigError(f"--memory-limit must be at least {LEAST_MB} (MiB), which the libraries need: {megabytes}")
    limit_memory(megabytes)


@contextmanager
def workers(args: argparse.Namespace) -> Iterator[Executor | None]:
    """The executor that was asked for; None: this process does the work. Its processes end with the block.

    Raises: ConfigError if options do not fit together or a scheduler cannot be reached; MissingComponentError if
    dask.distributed is not installed.
    """
    jobs, where = args.jobs, args.executor or "local"
    if where == "local":
        if jobs in (None, 1) and args.memory_limit is None:
            yield None
            return
        from paoding_verify.crew.pool import LocalPool

        # Native code may end its process when memory runs out: with a limit, that must not be this one.
        with LocalPool(1 if jobs is None else jobs, memory_mb=args.memory_limit) as pool:
            yield pool
        return
    if not where.startswith("dask://"):
        raise ConfigError(f"--executor is local or dask://HOST:PORT; got {where!r}")
    if jobs is not None:
        raise ConfigError(
            "--jobs counts local processes, and a dask scheduler knows its workers: leave one of them out"
        )
    from paoding_verify.crew.cluster import cluster

    with cluster(where) as remote:
        yield remote


def without_run_options(arguments: list[str]) -> list[str]:
    """The arguments that a result depends on: the others, perhaps shortened, are left out."""
    kept, skip = [], 0
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        known = [option for option in RUN_OPTIONS if len(name) > 2 and f"--{option}".replace("_", "-").startswith(name)]
        if skip:
            skip -= 1
        elif known:
            skip = 0 if equals else RUN_OPTIONS[known[0]]
        else:
            kept.append(argument)
    return kept
