"""Worker processes on this machine: an executor whose processes may die without taking others' work with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from paoding_verify.errors import ConfigError, WorkerError

__all__ = ["LocalPool"]

P = ParamSpec("P")
T = TypeVar("T")
_ENTRY = "paoding_verify.crew.process"


class LocalPool(Executor):
    """At most `jobs` processes, started when there is work; a process that dies is replaced.

    Unlike a `ProcessPoolExecutor` it loses only what the dead process worked on (that future gets a BrokenExecutor),
    and it never imports the caller's main module. Functions and arguments are pickled. Leaving its `with` block ends
    the processes, whatever they do.
    """

    def __init__(self, jobs: int, *, memory_mb: int | None = None) -> None:
        """`memory_mb`: address space of each process in MiB; None: unlimited.

        Raises: ConfigError if the number is no number of processes.
        """
        if not 1 <= jobs <= 1024:
            raise ConfigError(f"jobs must be at least 1 and at most 1024; got {jobs}")
        self.width = jobs
        self._memory_mb = memory_mb
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="worker")
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._all: set[_Worker] = set()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of fn(*args, **kwargs), computed in one of the processes."""
        return self._threads.submit(self._run, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends all processes; with `wait` and without `cancel_futures` only once everything submitted is done."""
        if wait and not cancel_futures:
            self._threads.shutdown(wait=True)
        self._closed = True
        for worker in list(self._all):
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._all:  # those that had nothing to do
            worker.end()
        self._all.clear()

    def __exit__(self, *_: object) -> None:
        self.shutdown(cancel_futures=True)

    def processes(self) -> list[int]:
        """Ids of the processes that run now."""
        return sorted(worker.process.pid for worker in list(self._all) if worker.process.poll() is None)

    def _run(self, function: Callable[..., T], args: Any, kwargs: Any) -> T:
        try:
            worker = self._idle.get_nowait()
        except Empty:
            worker = _Worker(self._memory_mb)
            self._all.add(worker)
        try:
            if self._closed:
                raise BrokenExecutor("the pool is closed")
            good, value = worker.call((function, args, kwargs))
        except BaseException:
            worker.end()
            self._all.discard(worker)
            raise
        self._idle.put(worker)
        if not good:
            raise value
        return value


class _Worker:
    """One process and the channel to it."""

    def __init__(self, memory_mb: int | None) -> None:
        """Raises: WorkerError if the process cannot be started."""
        self._channel, theirs = Pipe()
        path = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - this interpreter, on a module of this package
                # -P: nothing is imported from the working folder. A session of its own: Ctrl-C is for the parent.
                [sys.executable, "-P", "-m", _ENTRY, str(theirs.fileno()), str(memory_mb or 0)],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
            )  # fmt: skip
        try:
            self._channel.recv()  # its greeting
        except (EOFError, OSError):
            code = self.process.wait()
            limit = f"; its memory is limited to {memory_mb} MiB, give it more" if memory_mb else ""
            raise WorkerError(f"a worker process could not start (exit status {code}{limit})") from None

    def call(self, request: tuple[object, object, object]) -> tuple[bool, Any]:
        """Whether the function returned, and its value or its exception. Raises: BrokenExecutor if the process died."""
        try:
            self._channel.send(request)
            answer: tuple[bool, Any] = self._channel.recv()
        except (EOFError, OSError):
            raise BrokenExecutor("the worker process died") from None
        return answer

    def kill(self) -> None:
        """Ends the process, and those that it started, whatever they do."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kills what is left of it and gives back what it held."""
        self.kill()
        self.process.wait()
        self._channel.close()
