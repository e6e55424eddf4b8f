"""Audits by workers: the same bundle as by one process, whoever they are and whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.auditing.bundle import write
from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.run import audit
from paoding_verify.cli.main import main
from paoding_verify.cli.workers import without_run_options
from paoding_verify.crew.cluster import cluster
from paoding_verify.crew.pool import LocalPool
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.result import AuditResult
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.regions import Region
from paoding_verify.task import SearchConfig
from tests.command_lines import folder
from tests.networks import dense_net
from tests.pairs import perturbed

__all__ = ["folder"]

NETWORK = dense_net(5, sizes=(6, 12, 12, 4))
OTHER = perturbed(NETWORK, 2, 0.02)
CONFIG = AuditConfig(
    search=SearchConfig(timeout_s=600.0, attack_restarts=2, attack_steps=10, alpha_iterations=3, max_leaves=60)
)


def regions(count: int) -> list[Region]:
    x = np.random.default_rng(7).uniform(0, 1, (count, 6)).astype(np.float32)
    radii = np.linspace(0.01, 0.12, count)
    return [
        Region(f"r{k}", p.astype(float) - eps, p.astype(float) + eps, p, None, float(eps))
        for k, (p, eps) in enumerate(zip(x, radii, strict=True))
    ]


BOXES = regions(50)
"""Four claims each: 200."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bundle that one process writes."""
    return members(audit(NETWORK, OTHER, BOXES, config=CONFIG), tmp_path_factory.mktemp("alone") / "out")


def members(result: AuditResult, target: Path) -> dict[str, bytes]:
    write(result, target)
    files = [path for path in target.rglob("*") if path.is_file()]
    found = {path.relative_to(target).as_posix(): path.read_bytes() for path in files}
    manifest = json.loads(found.pop("manifest.json"))
    manifest["members"].pop("timings.json")
    found.pop("timings.json")
    return {**found, "manifest.json": json.dumps(manifest).encode()}


def test_two_local_processes_one_killed_midway_give_the_same_bundle(tmp_path: Path, alone: dict[str, bytes]) -> None:
    killed = []

    def kill(_: str, done: int, total: int) -> None:
        if not killed and done > 10 and (running := pool.processes()):
            killed.append(running[0])
            os.kill(running[0], signal.SIGKILL)

    with LocalPool(2) as pool:
        result = audit(NETWORK, OTHER, BOXES, config=CONFIG, executor=pool, progress=kill)
    assert killed
    assert len(result.claims) == 200
    assert result.counts["error"] == 0
    assert members(result, tmp_path / "out") == alone


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers, each a process of its own, on loopback."""
    pytest.importorskip("distributed")
    run = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    place = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    processes = [subprocess.Popen([*run, *options], env=environment, **quiet)]  # type: ignore[call-overload]
    try:
        for _ in range(600):
            if place.exists() and place.read_text().strip():
                break
            time.sleep(0.1)
        address = json.loads(place.read_text())["address"]
        run = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        run = [*run, "--no-nanny"]
        processes += [subprocess.Popen(run, env=environment, **quiet) for _ in range(workers)]  # type: ignore[call-overload]
        yield address.replace("tcp://", "dask://"), processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_dask_cluster_that_loses_a_worker_gives_the_same_bundle(tmp_path: Path, alone: dict[str, bytes]) -> None:
    killed = []
    with dask_cluster(tmp_path, 2) as (address, workers), cluster(address) as executor:
        for _ in range(600):
            if executor.width == 2:
                break
            time.sleep(0.1)

        def kill(_: str, done: int, total: int) -> None:
            if not killed and done > 10:
                killed.append(workers[0].pid)
                workers[0].kill()

        result = audit(NETWORK, OTHER, BOXES, config=CONFIG, executor=executor, progress=kill)
        assert workers[0].wait() == -signal.SIGKILL
    assert killed
    assert len(result.claims) == 200
    assert result.counts["error"] == 0
    assert members(result, tmp_path / "out") == alone


def test_commands_with_jobs_write_the_same_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pruned.onnx").write_bytes(to_onnx(perturbed(dense_net(3), 1, 0.01)))
    found = []
    for name, jobs in (("a", []), ("b", ["--jobs", "2"]), ("c", ["--job=3", "--executor", "local"])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        command = ["audit", str(folder / "net.onnx"), "--pruned", "../pruned.onnx", "--data", str(folder / "data.npz")]
        assert main([*command, "--samples", "6", "--timeout", "60", "--quiet", *jobs, "-o", "out"]) in (0, 1, 3)
        files = {p.relative_to("out"): p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
        found.append({p: data for p, data in files.items() if p.name not in ("timings.json", "manifest.json")})
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 10


def test_options_of_a_run_are_no_part_of_its_record() -> None:
    given = [
        "audit",
        "a.onnx",
        "--jobs",
        "2",
        "--eps",
        "0.1",
        "--resu",
        "--executor=dask://h:1",
        "--memory-limit",
        "4000",
        "--q",
        "--json",
    ]
    assert without_run_options([*given, "-o", "jobs"]) == ["audit", "a.onnx", "--eps", "0.1", "-o", "jobs"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--jobs", "0"], "jobs must be at least 1"),
        (["--executor", "ray://x"], "--executor is local or dask"),
        (["--executor", "dask://127.0.0.1:9", "--jobs", "2"], "leave one of them out"),
        (["--memory-limit", "5"], "--memory-limit must be at least 1024"),
        (["--budget", "0"], "the budget must be a positive and finite number"),
        (["--budget", "nan"], "the budget must be a positive and finite number"),
    ],
)
def test_odd_options_are_refused(
    folder: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["certify", str(folder / "net.onnx"), "--data", str(folder / "data.npz"), "-o", str(tmp_path / "r.json")]
    assert main([*command, *options]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_scheduler_that_is_not_there_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("paoding_verify.crew.cluster._CONNECT_S", 1)
    with pytest.raises(ConfigError, match="no dask scheduler answers at dask://127"), cluster("dask://127.0.0.1:9"):
        pass
    assert threading.active_count() < 50
