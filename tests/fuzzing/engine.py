"""Runs a target for a time, with mutations drawn by hypothesis.

    python -m tests.fuzzing.engine TARGET [--seconds S]

prints one line of JSON: inputs tried, inputs per second, peak memory in MiB, the slowest input in seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzzing.targets import TARGETS, Target

__all__ = ["CORPUS", "Figures", "known", "mutations", "report", "run_for"]

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
"""Inputs worth keeping, a folder for each target: findings, and what reached code that nothing else did."""
SLOWEST_S = 10.0
LARGEST_MB = 1024


@dataclass
class Figures:
    """What a run of a target showed."""

    target: str
    seconds: float = 0.0
    inputs: int = 0
    slowest_s: float = 0.0
    peak_mb: int = 0

    def count(self, target: Target, data: bytes) -> None:
        """Tries an input. Raises: AssertionError if it takes too long or too much memory."""
        start = time.monotonic()
        target.run(data)
        self.inputs += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - start)
        self.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        if self.slowest_s > SLOWEST_S:
            raise AssertionError(f"an input of {len(data)} bytes took {self.slowest_s:.1f} s")
        if self.peak_mb > LARGEST_MB:
            raise AssertionError(f"after an input of {len(data)} bytes the process had held {self.peak_mb} MiB")


def known(name: str) -> list[bytes]:
    """Seeds of a target and its part of the corpus."""
    files = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
    return [*TARGETS[name].seeds(), *(path.read_bytes() for path in files)]


@st.composite
def mutations(draw: Any, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A seed after a few edits: bytes replaced, pieces removed, doubled, exchanged or taken from another seed."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        start, length = draw(st.integers(0, max(len(data) - 1, 0))), draw(st.sampled_from([1, 1, 2, 4, 16, 64]))
        edit = draw(st.sampled_from(["replace", "remove", "double", "word", "other", "cut"]))
        if edit == "replace":
            data[start : start + length] = draw(st.binary(min_size=1, max_size=8))
        elif edit == "remove":
            del data[start : start + length]
        elif edit == "double":
            data[start:start] = data[start : start + length] * draw(st.sampled_from([1, 2, 50]))
        elif edit == "word" and words:
            data[start:start] = draw(st.sampled_from(words))
        elif edit == "other":
            other = draw(st.sampled_from(seeds))
            place = draw(st.integers(0, max(len(other) - 1, 0)))
            data[start:start] = other[place : place + 8 * length]
        elif edit == "cut":
            del data[start:]
    return bytes(data)


def run_for(name: str, seconds: float, first_seed: int = 0) -> Figures:
    """Tries mutations until the time is over; what is wrong with the code is raised, with the smallest input found."""
    target, figures, start, number = TARGETS[name], Figures(name), time.monotonic(), first_seed
    seeds = known(name)
    for data in seeds:
        figures.count(target, data)
    while time.monotonic() - start < seconds:

        @seed(number)
        @settings(
            max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )  # fmt: skip
        @given(mutations(seeds, target.words))
        def attempt(data: bytes) -> None:
            if time.monotonic() - start < seconds:
                figures.count(target, data)

        attempt()
        number += 1
    figures.seconds = time.monotonic() - start
    return figures


def report(figures: Figures) -> None:
    """One line of JSON."""
    rate = figures.inputs / max(figures.seconds, 1e-9)
    sys.stdout.write(json.dumps({**asdict(figures), "inputs_per_s": round(rate, 1)}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=600.0)
    given_args = parser.parse_args()
    report(run_for(given_args.target, given_args.seconds))
