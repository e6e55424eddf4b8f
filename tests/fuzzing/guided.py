"""Runs a target for a time, guided by coverage: atheris, which keeps what reaches new code in a folder.

    python -m tests.fuzzing.guided TARGET [--seconds S] [--corpus FOLDER]

prints the same line of JSON as `engine`. A finding ends the run with a traceback; libFuzzer writes the input beside.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["paoding_verify"]):
    from tests.fuzzing.engine import Figures, known, report
    from tests.fuzzing.targets import TARGETS


def main(name: str, seconds: float, corpus: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    target, figures, started = TARGETS[name], Figures(name), list[float]()
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(known(name)):
        (corpus / f"seed-{number}").write_bytes(data)
        target.run(data)  # what is imported on first use is no slow input
    words = corpus.with_suffix(".dict")
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    words.write_text("".join(f'"{line}"\n' for line in lines))

    def attempt(data: bytes) -> None:
        if not started:
            started.append(time.monotonic())
        figures.count(target, data)
        figures.seconds = time.monotonic() - started[0]
        if figures.seconds >= seconds:
            report(figures)
            sys.stdout.flush()
            os._exit(0)

    options = [f"-max_len={max(map(len, known(name))) * 2}", "-timeout=20", "-rss_limit_mb=2048", "-verbosity=0"]
    options += [f"-artifact_prefix={corpus.parent}/{name}-", *([f"-dict={words}"] if target.words else [])]
    atheris.Setup([sys.argv[0], str(corpus), *options], attempt)
    atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--corpus", type=Path, default=Path("out/fuzzing"))
    given = parser.parse_args()
    main(given.target, given.seconds, given.corpus / given.target)
