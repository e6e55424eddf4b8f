"""Every parser takes mutated files for a while: refusals and values, no other exception, no hang, little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzzing.engine import known
from tests.fuzzing.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
SECONDS = os.environ.get("PAODING_VERIFY_FUZZ_S", "3")
"""For each target; the whole check takes 30, a long run is `python -m tests.fuzzing.engine TARGET --seconds 600`."""


@pytest.mark.parametrize("name", TARGETS)
def test_targets_let_nothing_through(name: str) -> None:
    command = [sys.executable, "-P", "-W", "ignore", "-m", "tests.fuzzing.engine", name, "--seconds", SECONDS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["inputs"] >= len(known(name))


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_small_and_read(name: str) -> None:
    files = known(name)
    assert files
    assert all(len(data) < 1 << 16 for data in files)


def test_a_fault_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzzing.engine import run_for
    from tests.fuzzing.targets import Target

    def broken(data: bytes) -> None:
        if b"\xff" in data:
            raise ValueError("not a refusal")

    monkeypatch.setitem(TARGETS, "toml", Target(lambda: [b"a = 1"], broken, (b"\xff",)))
    with pytest.raises(ValueError, match="not a refusal"):
        run_for("toml", 20)
