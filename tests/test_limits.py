"""Caps: each has an option, a default and words; limits of time are kept."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.run import certify_model
from paoding_verify.bounds import branching
from paoding_verify.checker import prove
from paoding_verify.cli.limits import KINDS, add_limits, described, limits_of
from paoding_verify.cli.sections import section
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.limits import DataLimits, LoadLimits, SpecLimits
from paoding_verify.regions import Region
from paoding_verify.robustness import relu_splitting, stages
from paoding_verify.task import SearchConfig
from tests.networks import dense_net


def parsed(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_limits(parser)
    return parser.parse_args(options)


def test_every_cap_is_an_option_with_words_and_default() -> None:
    rows = list(described())
    assert [option for option, _, _ in rows] == [
        f"--{item.name.replace('_', '-')}" for kind in KINDS for item in fields(kind)
    ]
    assert all(len(words) > 5 for _, _, words in rows)
    shown = " ".join(section("limits").split())
    assert "--max-model-bytes N" in shown
    assert "(2_147_483_648)" in shown
    assert len({option for option, _, _ in rows}) == len(rows)


def test_options_set_caps() -> None:
    args = parsed("--max-nodes", "7", "--max-data-ratio", "1.5", "--max-spec-depth", "9")
    assert limits_of(args, LoadLimits) == LoadLimits(max_nodes=7)
    assert limits_of(args, DataLimits) == DataLimits(max_data_ratio=1.5)
    assert limits_of(args, SpecLimits) == SpecLimits(max_spec_depth=9)
    assert limits_of(parsed(), LoadLimits) == LoadLimits()


@pytest.mark.parametrize("value", ["0", "-1"])
def test_caps_are_positive(value: str) -> None:
    with pytest.raises(ConfigError, match="--max-nodes must be above 0"):
        limits_of(parsed("--max-nodes", value), LoadLimits)


NETWORK = dense_net(7, sizes=(10, 60, 60, 60, 4))


def regions(count: int) -> list[Region]:
    centres = np.random.default_rng(1).normal(size=(count, 10)).astype(np.float32)
    return [Region(f"r{k}", c.astype(float) - 0.3, c.astype(float) + 0.3, c, None, 0.3) for k, c in enumerate(centres)]


Steps = dict[str, float]


@pytest.fixture
def longest_s(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The longest time that each step took which limits do not interrupt: bounds and proofs of some boxes."""
    found: Steps = defaultdict(float)

    def timed(owner: Any, name: str) -> None:
        step = getattr(owner, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            try:
                return step(*args, **kwargs)
            finally:
                found[name] = max(found[name], time.monotonic() - start)

        monkeypatch.setattr(owner, name, run)

    for owner, name in ((stages.LirpaBounder, "lower_bounds"), (stages, "attack"), (prove, "prove"),
                        (relu_splitting, "enclose"), (branching._Search, "_roots"), (branching._Search, "_bound"),
                        (branching, "split_cases")):  # fmt: skip
        timed(owner, name)
    return found


def one_evaluation(longest_s: Steps) -> float:
    """Seconds of the longest thing that is not interrupted: a method's bounds, a proof, or a round of splitting."""
    round_s = longest_s["_bound"] + longest_s["split_cases"]
    proofs_s = 2 * longest_s["prove"]  # in both arithmetics
    return max(round_s, proofs_s, longest_s["enclose"] + longest_s["_roots"], *longest_s.values())


def test_a_budget_is_kept_within_a_tenth_and_one_evaluation(longest_s: Steps) -> None:
    config = AuditConfig(budget_s=4.0, search=SearchConfig(timeout_s=60.0, max_leaves=10**6))
    certify_model(NETWORK, regions(1), config=AuditConfig(search=SearchConfig(timeout_s=0.1)))  # loads the engines
    start = time.monotonic()
    found = certify_model(NETWORK, regions(40), config=config)
    assert time.monotonic() - start <= 4.0 * 1.1 + one_evaluation(longest_s) + 0.5  # and what is around the claims
    late = [claim for claim in found.claims if "the budget of the run is spent" in claim.reason]
    assert late
    assert {claim.verdict for claim in late} == {Verdict.UNKNOWN}
    assert all(claim.margin is not None for claim in found.claims)  # centres are looked at nevertheless
    assert found.counts["error"] == 0


def test_the_time_of_a_claim_is_kept_within_a_tenth_and_one_evaluation(longest_s: Steps) -> None:
    found = certify_model(NETWORK, regions(6), config=AuditConfig(search=SearchConfig(timeout_s=2.0, max_leaves=10**6)))
    late = [claim for claim in found.claims if "time limit of 2 s reached" in claim.reason]
    assert late
    for claim in found.claims:
        assert claim.elapsed_s is not None
        assert claim.elapsed_s <= 2.0 * 1.1 + one_evaluation(longest_s)
