"""Kills an audit of 200 claims again and again, and lets it go on: the same bytes every time. Run by test_killing.

    python -m tests.killing FOLDER kill|cut TRIALS SEED

Every audit runs in a copy of this process, in which the libraries are loaded already. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.cli.main import main
from paoding_verify.network.onnx_out import to_onnx
from tests.networks import dense_net
from tests.pairs import perturbed

__all__ = ["trials"]

COMMAND = ["audit", "f.onnx", "--pruned", "g.onnx", "--data", "d.npz", "--samples", "25", "--eps", "0.01", "0.06",
           "--timeout", "600", "--quiet", "--resume", "-o", "out"]  # fmt: skip
"""25 inputs, 2 radii, 4 claims each: 200."""
REFUSED = 2
"""Exit code of a command whose output stands already."""


def prepare(folder: Path) -> None:
    network = dense_net(5, sizes=(6, 10, 8, 4))
    (folder / "f.onnx").write_bytes(to_onnx(network))
    (folder / "g.onnx").write_bytes(to_onnx(perturbed(network, 2, 0.02)))
    np.savez(folder / "d.npz", x=np.random.default_rng(7).uniform(0, 1, (25, 6)).astype(np.float32))


def started(folder: Path) -> int:
    """The id of a process that runs the command in a folder."""
    process = os.fork()
    if process == 0:
        os.chdir(folder)
        os._exit(main(COMMAND))
    return process


def finished(folder: Path) -> int:
    """The exit code of the command, run to its end."""
    return os.waitstatus_to_exitcode(os.waitpid(started(folder), 0)[1])


def bundle(folder: Path) -> dict[str, bytes]:
    """All files that do not hold times, and the manifest without the one that does."""
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in (folder / "out").rglob("*") if p.is_file()}
    manifest = json.loads(files.pop("out/manifest.json"))
    del manifest["members"]["timings.json"], files["out/timings.json"]
    return {**files, "manifest": json.dumps(manifest).encode()}


def killed(folder: Path, after_s: float) -> bool:
    """Whether the command, killed after a time, had not ended by itself."""
    process = started(folder)
    time.sleep(after_s)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def trials(folder: Path, how: str, count: int, seed: int) -> dict[str, object]:
    """Tries so many interruptions. `kill`: at a random moment; `cut`: and the journal ends at a random byte, too."""
    rng = random.Random(seed)  # noqa: S311 - moments, no secrets
    LirpaBounder.available()
    prepare(folder)
    start = time.monotonic()
    code = finished(folder)
    whole_s, expected = time.monotonic() - start, bundle(folder)
    claims = len(json.loads(expected["out/audit.json"])["claims"])
    shutil.rmtree(folder / "out")
    struck, kept, wrong, journal = 0, 0, [], folder / "out.journal"
    while struck < count:
        moment_s = rng.uniform(0.02, 0.98) * whole_s
        if not killed(folder, moment_s):
            shutil.rmtree(folder / "out")
            continue
        struck += 1
        if (folder / "out").exists():  # it had appeared, whole; the same command would not write over it
            if bundle(folder) != expected or finished(folder) != REFUSED:
                wrong.append(moment_s)
            shutil.rmtree(folder / "out")
            journal.unlink(missing_ok=True)
            continue
        if how == "cut" and journal.exists():
            os.truncate(journal, rng.randrange(journal.stat().st_size + 1))
        kept += journal.exists() and journal.stat().st_size > 1000
        if finished(folder) != code or bundle(folder) != expected or journal.exists():
            wrong.append(moment_s)
        shutil.rmtree(folder / "out")
    leftover = sorted(p.name for p in folder.iterdir() if p.name not in ("f.onnx", "g.onnx", "d.npz"))
    return {"claims": claims, "struck": struck, "kept": kept, "wrong": wrong, "code": code, "left": leftover,
            "whole_s": whole_s}  # fmt: skip


if __name__ == "__main__":
    place, kind, number, first = sys.argv[1:]
    sys.stdout.write(json.dumps(trials(Path(place), kind, int(number), int(first))) + "\n")
