"""Limits of memory are kept by the operating system, and work adapts to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.memory import limit_memory
from paoding_verify.network.onnx_out import to_onnx
from tests.networks import dense_net

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import json, sys
from paoding_verify.cli.main import main
code = main(sys.argv[1:])
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmPeak")]
print(json.dumps([code, int(peak[0]) >> 10]))
"""


def peak(folder: Path, *options: str) -> tuple[int, int, dict[str, int]]:
    """Exit code, largest address space in MiB, and verdicts of a certification of a wide network."""
    command = ["certify", "wide.onnx", "--data", "d.npz", "--samples", "64", "--eps", "0.002", "--timeout", "60"]
    command = [sys.executable, "-P", "-c", RUN, *command, "--force", "--quiet", "-o", "r.json", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=environment)
    code, megabytes = json.loads(done.stdout.splitlines()[-1])
    return code, megabytes, json.loads((folder / "r.json").read_text())["counts"]


def test_batches_get_smaller_instead_of_running_out_of_memory(tmp_path: Path) -> None:
    (tmp_path / "wide.onnx").write_bytes(to_onnx(dense_net(3, sizes=(64, 850, 850, 10))))
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).random((64, 64), dtype=np.float32))
    # Without a limit the peak lies between 1200 and 1400 MiB; `test_cascade` shows how what fails is divided.
    narrow, limit_mb = ("--eps", "0.0005"), 1250
    code, _, expected = peak(tmp_path, *narrow)
    limited = peak(tmp_path, *narrow, "--memory-limit", str(limit_mb))
    assert (limited[0], limited[2]) == (code, expected)
    assert limited[1] <= limit_mb
    assert expected["error"] == 0


@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]])
def test_what_does_not_fit_at_all_is_an_error_of_its_claims(tmp_path: Path, jobs: list[str]) -> None:
    (tmp_path / "wide.onnx").write_bytes(to_onnx(dense_net(3, sizes=(64, 2000, 2000, 10))))
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).random((64, 64), dtype=np.float32))
    code, _, counts = peak(tmp_path, "--memory-limit", "1300", "--samples", "2", *jobs)
    assert (code, counts["error"] > 0, counts["unknown"]) == (4, True, 0)


def test_a_model_that_does_not_fit_is_said_to(tmp_path: Path) -> None:
    (tmp_path / "wide.onnx").write_bytes(to_onnx(dense_net(3, sizes=(64, 4000, 4000, 10))))
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 64), dtype=np.float32))
    command = ["certify", "wide.onnx", "--data", "d.npz", "--memory-limit", "1024", "-o", "r.json"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1])[0] == 4
    assert done.stderr.startswith("paoding-verify: error: out of memory (")
    assert not (tmp_path / "r.json").exists()


def test_a_limit_is_never_raised() -> None:
    script = (
        "import resource\nfrom paoding_verify.memory import limit_memory\n"
        "limit_memory(3000); limit_memory(9000); limit_memory(None)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS) == (3000 << 20, 3000 << 20)\n"
        "try:\n    bytearray(4 << 30)\nexcept MemoryError:\n    print('kept')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "kept\n"
    limit_memory(None)
