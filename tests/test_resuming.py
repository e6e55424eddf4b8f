"""Commands that are killed and go on: the same files as without the kill, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paoding_verify.cli.main import main
from paoding_verify.journal import Journal
from tests.command_lines import EFFORT, folder
from tests.test_keeping import without_times

__all__ = ["folder"]

QUICK = ["--method", "magnitude-l1", "--max-certified-drop", "0.9", "--anchor-eps", "0.01"]
"""A budget: several networks are made, each a finished part."""


def started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "paoding_verify", *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def parts(journal: Path) -> int:
    return journal.read_bytes().count(b'{"key": ') if journal.exists() else 0


def stopped(process: subprocess.Popen[str], journal: Path, more: int, how: signal.Signals) -> tuple[int, str]:
    """The process after it was stopped by a signal, once it has kept so many parts."""
    deadline = time.monotonic() + 120
    while process.poll() is None and parts(journal) < more:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, told = process.communicate(timeout=120)
    return process.returncode, told


def trace(path: Path) -> Any:
    return without_times(json.loads(path.read_text()))


def test_a_pruning_that_is_killed_goes_on(folder: Path, tmp_path: Path) -> None:
    net, out, record = str(folder / "net.onnx"), tmp_path / "small.onnx", tmp_path / "trace.json"
    command = ["prune", net, *QUICK, "-o", str(out), "--trace", str(record)]
    journal, chance = tmp_path / "small.onnx.journal", np.random.default_rng(11)
    for kill in range(3):
        code, _ = stopped(started(*command, "--resume"), journal, 3 + 2 * kill, signal.SIGKILL)
        if code == 0:
            break
        assert not out.exists()
        whole = journal.read_bytes()
        journal.write_bytes(whole[: len(whole) - int(chance.integers(40))])
    last = started(*command, "--resume")
    _, told = last.communicate(timeout=120)
    assert last.returncode == 0, told
    assert "taken from the journal" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx", "trace.json"]
    other = tmp_path / "other"
    other.mkdir()
    assert main([*command[:-3], str(other / "a.onnx"), "--trace", str(other / "b"), "--quiet"]) == 0
    assert out.read_bytes() == (other / "a.onnx").read_bytes()
    assert trace(record) == trace(other / "b")


def test_an_audit_that_is_ended_goes_on(folder: Path, tmp_path: Path) -> None:
    data = ["--data", str(folder / "data.npz"), "--samples", "3", "--eps", "0.01"]
    command = ["audit", str(folder / "net.onnx"), *data, "--timeout", "60", "--method", "magnitude-l1"]
    command += ["-o", str(tmp_path / "out")]
    code, told = stopped(started(*command), tmp_path / "out.journal", 4, signal.SIGTERM)
    # Python ends by SIGINT itself, which a shell calls 130 too, if the signal comes while a module is compiled.
    assert code in (130, -signal.SIGINT)
    assert "run the same command with --resume to go on" in told
    assert [path.name for path in tmp_path.iterdir()] == ["out.journal"]
    assert main([*command, "--quiet"]) == 2
    assert main([*command, "--quiet", "--seed", "1", "--resume"]) == 2
    assert main([*command, "--resume"]) in (0, 1, 3)
    (tmp_path / "out").rename(tmp_path / "resumed")
    assert main(command) in (0, 1, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "resumed"]
    for path in sorted((tmp_path / "out").rglob("*")):
        if path.is_file() and path.name not in ("timings.json", "manifest.json"):
            assert path.read_bytes() == (tmp_path / "resumed" / path.relative_to(tmp_path / "out")).read_bytes(), path


def test_an_interruption_says_how_to_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, command = Journal.store, ["certify", str(folder / "net.onnx"), *EFFORT, "-o", str(tmp_path / "r.json")]

    def interrupted(self: Journal, key: str, record: Any) -> None:
        store(self, key, record)
        if key.startswith("claims "):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Journal, "store", interrupted)
    assert main(command) == 130
    assert f"finished parts are kept in {tmp_path / 'r.json.journal'}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    monkeypatch.setattr(Journal, "store", store)
    assert main(command) == 2
    assert "finished parts of an interrupted run: go on with --resume" in capsys.readouterr().err
    assert main([*command, "--res"]) == 0
    assert "--res" not in json.loads((tmp_path / "r.json").read_text())["provenance"]["command"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_two_processes_do_not_share_an_output(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"
    command = ["prune", str(folder / "net.onnx"), *QUICK, "-o", str(out)]
    first = started(*command)
    try:
        while first.poll() is None and parts(tmp_path / "small.onnx.journal") < 2:
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        assert main([*command, "--quiet", "--resume", "--force"]) == 2
        assert "another process is working on small.onnx" in capsys.readouterr().err
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=120)
        assert first.returncode == 0
    finally:
        first.kill()


def test_there_is_nothing_to_resume_without_an_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", str(folder / "net.onnx"), *EFFORT, "--resume"]) == 2
    assert "name it with -o" in capsys.readouterr().err
