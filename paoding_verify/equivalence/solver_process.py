"""The process that `isolated` starts: reads questions from standard input, writes answers to standard output.

A question is a line of JSON, [solver, seconds, bytes], and that many bytes (`Question.to_bytes`). An answer is a line
of JSON with [status, points, reason] for every clause that was looked at.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable

from paoding_verify.equivalence.question import ClauseAnswer, Question
from paoding_verify.memory import limit_memory

__all__ = ["serve"]


def serve(memory_mb: int) -> None:
    """Answers until its input ends. Memory beyond the limit, or a fault in a solver, ends the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_memory(memory_mb)
    # Answers have a channel of their own: whatever a solver prints cannot be taken for one.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(b"\n")
    answers.flush()
    while header := sys.stdin.buffer.readline():
        name, limit_s, size = json.loads(header)
        question = Question.from_bytes(sys.stdin.buffer.read(size))
        found = [(a.status, a.points, a.reason) for a in _solver(name)(question, limit_s)]
        answers.write(json.dumps(found).encode() + b"\n")
        answers.flush()


def _solver(name: str) -> Callable[[Question, float], list[ClauseAnswer]]:
    if name == "smt":
        from paoding_verify.equivalence.smt import solve_smt

        return solve_smt
    from paoding_verify.equivalence.milp import solve_milp

    return solve_milp


if __name__ == "__main__":
    serve(int(sys.argv[1]))
