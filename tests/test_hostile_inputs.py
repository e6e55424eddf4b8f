"""Every hostile file is refused by one sentence, in little time and memory; nothing is executed or written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import FORMATS, prepare

SERVE = """
import contextlib, io, json, resource, sys, time
from paoding_verify.cli.main import main
for line in sys.stdin:
    command, words, start = json.loads(line), io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(words), contextlib.redirect_stdout(words):
        code = main(command if command[0] in ("check", "render") else [*command, "--quiet"])
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps([code, words.getvalue(), time.process_time() - start, peak_mb]), flush=True)
"""


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_files_are_refused(tmp_path: Path, name: str) -> None:
    prepare(tmp_path)
    cases = FORMATS[name](tmp_path)
    before = {path for path in tmp_path.rglob("*") if not path.is_symlink()}
    lines = "".join(json.dumps(command) + "\n" for command, _ in cases)
    done = subprocess.run(
        [sys.executable, "-P", "-c", SERVE], input=lines, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(cases)
    wrong = []
    for (command, pattern), (code, words, elapsed_s, peak_mb) in zip(cases, results, strict=True):
        expected, message = (5, pattern[1:]) if pattern.startswith("5") else (2, pattern)
        sentence = words.startswith("paoding-verify: error: ") and words.count("\n") == 1 and "Traceback" not in words
        if code != expected or not re.search(message, words) or not (sentence or expected == 5):
            wrong.append((command, message, code, words[:500]))
        if elapsed_s > 10 or peak_mb > 1024 or not words.replace("\n", "").isprintable():
            wrong.append((command, elapsed_s, peak_mb, words[:500]))
    assert not wrong
    assert {path for path in tmp_path.rglob("*") if not path.is_symlink()} == before
    assert not (tmp_path / "executed").exists()


def test_there_are_enough_of_them(tmp_path: Path) -> None:
    prepare(tmp_path)
    counts = {name: len(make(tmp_path)) for name, make in FORMATS.items()}
    assert sum(counts.values()) >= 60
    assert min(counts.values()) >= 5
