"""The workers of a dask scheduler as an executor (https://distributed.dask.org)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from paoding_verify.errors import ConfigError, MissingComponentError, WorkerError

__all__ = ["Cluster", "cluster"]

P = ParamSpec("P")
T = TypeVar("T")
_CONNECT_S = 20
_COUNT_S = 1.0
_PATIENCE_S = 60.0
"""Seconds without any worker after which the run ends."""


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """The cluster behind dask://HOST:PORT; the scheduler and its workers go on when the block is left.

    Workers need this package in the same version, with the same components. What travels is pickled, so that whoever
    can reach the scheduler commands the workers: run it on a network of your own.
    Raises: MissingComponentError if dask.distributed is not installed; ConfigError if no worker can be reached.
    """
    try:
        from distributed import Client
    except ImportError:
        raise MissingComponentError(
            "dask.distributed is not installed; install it with: pip install 'paoding-verify[cluster]'"
        ) from None
    place = "tcp://" + address.removeprefix("dask://")
    connect: Any = Client  # it has no types
    try:
        client = connect(place, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"no dask scheduler answers at {address}: {error}") from error
    try:
        try:
            client.wait_for_workers(1, timeout=_CONNECT_S)
        except TimeoutError:
            raise ConfigError(
                f"the dask scheduler at {address} has no workers: start some with `dask worker`"
            ) from None
        yield Cluster(client)
    finally:
        with suppress(Exception):  # a scheduler that is gone cannot say goodbye
            client.close(timeout=_CONNECT_S)


class Cluster(Executor):
    """Gives work to the workers of a scheduler, which gives a dead worker's work to another one."""

    def __init__(self, client: Any) -> None:
        """`client`: a `distributed.Client`."""
        self._client = client
        self._executor = client.get_executor(pure=False)
        self._seen_s = monotonic()
        self._counted_s, self._width = -_COUNT_S, 1

    @property
    def width(self) -> int:
        """Units that the workers take at a time; at least 1. Workers may come and go."""
        if monotonic() - self._counted_s >= _COUNT_S:
            self._counted_s, self._width = monotonic(), max(1, sum(self._client.nthreads().values()))
        return self._width

    def check(self) -> None:
        """Raises: WorkerError if there has been no worker for a while, or the scheduler is gone."""
        try:
            if self._client.nthreads():
                self._seen_s = monotonic()
        except (OSError, ValueError) as error:
            raise WorkerError(f"the dask scheduler does not answer any more: {error}") from error
        if monotonic() - self._seen_s > _PATIENCE_S:
            raise WorkerError(f"the dask scheduler has had no worker for {_PATIENCE_S:g} s: start some, then --resume")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of fn(*args, **kwargs)."""
        future: Future[T] = self._executor.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: the workers are not this executor's."""
