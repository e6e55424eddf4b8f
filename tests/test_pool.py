"""Worker processes: what a dead one costs, what a killed command leaves behind, what is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from paoding_verify.crew.pool import LocalPool
from paoding_verify.errors import ConfigError, WorkerError


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(2) as made:
        yield made


def test_functions_are_called_in_other_processes(pool: LocalPool) -> None:
    assert pool.submit(pow, 2, 10).result() == 1024
    assert pool.submit(int, "12", base=8).result() == 10
    assert pool.submit(os.getpid).result() != os.getpid()


def test_exceptions_come_back_and_the_process_stays(pool: LocalPool) -> None:
    before = pool.submit(os.getpid).result()
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result()
    assert before in pool.processes()


def test_what_cannot_be_sent_back_is_an_error_and_not_a_death(pool: LocalPool) -> None:
    with pytest.raises(RuntimeError, match="cannot be sent"):
        pool.submit(eval, "lambda: 0").result()
    assert pool.submit(pow, 2, 2).result() == 4


def test_a_death_costs_only_what_the_process_worked_on(pool: LocalPool) -> None:
    slow = pool.submit(time.sleep, 1.0)
    with pytest.raises(BrokenExecutor, match="died"):
        pool.submit(signal.raise_signal, signal.SIGKILL).result()
    assert slow.result() is None
    assert pool.submit(pow, 3, 2).result() == 9


def test_leaving_ends_the_processes_whatever_they_do() -> None:
    with LocalPool(1) as made:
        made.submit(os.getpid).result()
        (process,) = made.processes()
        made.submit(time.sleep, 600)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_killed_command_leaves_no_workers(tmp_path: Path) -> None:
    script = (
        "import time, sys\nfrom paoding_verify.crew.pool import LocalPool\npool = LocalPool(1)\n"
        "pool.submit(pow, 2, 2).result()\nprint(pool.processes()[0], flush=True)\ntime.sleep(600)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    worker = int(command.stdout.readline())
    command.kill()
    command.wait()
    command.stdout.close()
    for _ in range(200):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the worker outlived the command")


def test_nothing_is_imported_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "torch", "numpy", "logging", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    with LocalPool(1) as made:
        assert made.submit(pow, 2, 2).result() == 4
    assert not (tmp_path / "ran").exists()


def test_a_process_that_cannot_start_is_an_error_of_the_run() -> None:
    with LocalPool(1, memory_mb=80) as made, pytest.raises(WorkerError, match="80 MiB, give it more"):
        made.submit(pow, 2, 2).result()


def test_memory_is_limited() -> None:
    with LocalPool(1, memory_mb=2048) as made:
        with pytest.raises(MemoryError):
            made.submit(bytearray, 3 << 30).result()
        assert made.submit(pow, 2, 2).result() == 4


@pytest.mark.parametrize("jobs", [0, -1, 5000])
def test_odd_numbers_of_processes_are_refused(jobs: int) -> None:
    with pytest.raises(ConfigError, match="jobs must be"):
        LocalPool(jobs)
