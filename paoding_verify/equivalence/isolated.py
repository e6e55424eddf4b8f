"""Solvers in a process of their own, with limits of memory and time: a crash costs one answer, never the audit.

Questions go to the process as arrays, answers come back as lines of JSON.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from paoding_verify.equivalence.question import ClauseAnswer, Question

__all__ = ["MEMORY_MB", "SolverProcess"]

MEMORY_MB = 4096
"""Address space that the process may have."""
_START_S = 20.0
"""Seconds that the process may take to start."""
_GRACE_S = 1.0
"""Seconds after its limit at which a solver that has not stopped is killed."""


class SolverProcess:
    """Starts with the first question, again after each failure, and ends with `close`."""

    def __init__(self, *, memory_mb: int = MEMORY_MB) -> None:
        self._memory_mb = memory_mb
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, solver: str, question: Question, limit_s: float) -> list[ClauseAnswer]:
        """One answer per clause, in order, up to the first that has a point. `solver` is smt or milp.

        If the process fails or overruns, one answer says that it did: undecided, with the reason.
        """
        if not question.clauses:
            return []
        try:
            process = self._started()
            assert process.stdin is not None  # noqa: S101 - pipes were asked for
            data = question.to_bytes()
            process.stdin.write(json.dumps([solver, limit_s, len(data)]).encode() + b"\n" + data)
            process.stdin.flush()
            line = self._line(process, limit_s + _GRACE_S)
        except BrokenPipeError:
            line = b""
        if line.endswith(b"\n"):
            return [
                ClauseAnswer(status, tuple(map(tuple, points)), reason) for status, points, reason in json.loads(line)
            ]
        return [ClauseAnswer("undecided", reason=self._stopped(line))]

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what was left unwritten was for a process that is gone
                        pipe.close()
            self._process.wait()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            path = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, on a module of this package
                # -P: nothing is imported from the working folder, which may hold files of strangers
                [sys.executable, "-P", "-m", "paoding_verify.equivalence.solver_process", str(self._memory_mb)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
            )  # fmt: skip
            if self._line(self._process, _START_S) != b"\n":
                raise BrokenPipeError  # else its late greeting would pass for an answer
        return self._process

    @staticmethod
    def _line(process: subprocess.Popen[bytes], limit_s: float) -> bytes:
        """What the process writes up to the end of a line, of its output, or of the time."""
        assert process.stdout is not None  # noqa: S101 - pipes were asked for
        deadline, line = monotonic() + limit_s, b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n") and selector.select(max(0.0, deadline - monotonic())):
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    break
                line += part
        return line

    def _stopped(self, line: bytes) -> str:
        """Ends what is left of the process; why it gave no answer."""
        process = self._process
        code = None
        if process is not None:
            try:
                code = process.wait(_GRACE_S if not line else 0)
            except subprocess.TimeoutExpired:
                code = None
        self.close()
        if code is None:
            return "the solver was stopped at its time limit"
        return f"the solver's process ended early (exit status {code}; its memory is limited to {self._memory_mb} MB)"
