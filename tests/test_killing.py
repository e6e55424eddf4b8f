"""An audit of 200 claims that is killed at any moment, and whose journal may end anywhere, ends with the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("how", ["kill", "cut"])
def test_thirty_interruptions_change_no_byte(tmp_path: Path, how: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-W", "ignore", "-m", "tests.killing", str(tmp_path), how, "30", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert (found["claims"], found["struck"]) == (200, 30)
    assert found["left"] == []
    assert found["kept"] >= 5  # some runs had something to go on from
