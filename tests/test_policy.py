"""Policies: intervals, outcomes, and files that do not fit."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from paoding_verify.auditing.policy import Policy
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.measures import RULES, Evidence
from paoding_verify.evidence.policy import parse_rule
from paoding_verify.evidence.result import ModelRecord
from paoding_verify.evidence.statistics import one_sided
from paoding_verify.evidence.verdict import Outcome, Verdict

LETTERS = {"c": Verdict.CERTIFIED, "v": Verdict.VIOLATED, "u": Verdict.UNKNOWN, "e": None}


def claims(subject: str, kind: str, verdicts: str, *, eps: float = 0.01) -> list[Claim]:
    """One claim per letter: certified, violated, unknown, error. Violated centres have a negative margin."""
    return [
        Claim(
            id=f"{subject}/{kind}/{k}/{eps}", kind=kind, subject=subject, region=f"r{k}", eps=eps, label=0,
            verdict=LETTERS[letter], method="test", rechecked=letter in "cv",
            margin=None if letter == "e" else -1.0 if letter == "v" else 1.0,
        )
        for k, letter in enumerate(verdicts)
    ]  # fmt: skip


def model(role: str, num_units: tuple[int, ...]) -> ModelRecord:
    return ModelRecord(role, role, "onnx", "", "", "", 0, (4,), 3, 10, 0, num_units, 10, ())


def interval(rule: str, *found: Claim, models: tuple[ModelRecord, ...] = ()) -> tuple[float, float]:
    return RULES[rule].measure(Evidence(found, models))


def test_unknown_and_errors_are_decided_against_and_in_favour() -> None:
    found = claims("pruned", "top1_robust", "ccvue" + "c" * 5)
    assert interval("min_certified_accuracy", *found) == pytest.approx((0.7, 0.9))
    assert interval("min_natural_accuracy", *found) == pytest.approx((0.8, 0.9))


def test_the_worst_radius_counts() -> None:
    near, far = claims("pruned", "top1_robust", "cccc"), claims("pruned", "top1_robust", "cvvu", eps=0.1)
    assert interval("min_certified_accuracy", *near, *far) == (0.25, 0.5)


def test_preserved_ratio_counts_the_regions_that_were_proved_before() -> None:
    before, after = claims("original", "top1_robust", "ccccuv"), claims("pruned", "top1_robust", "ccuvcc")
    assert interval("min_preserved_certified_ratio", *before, *after) == (0.5, 0.75)


@pytest.mark.parametrize("nothing", ["vvvv", "uuuu"])
def test_where_nothing_was_proved_before_nothing_is_known_to_be_preserved(nothing: str) -> None:
    before, after = claims("original", "top1_robust", nothing), claims("pruned", "top1_robust", "cccc")
    assert interval("min_preserved_certified_ratio", *before, *after) == (0.0, 1.0)


def test_equivalence_rates_mirror_each_other() -> None:
    found = claims("pair", "top1_equivalent", "ccvu")
    assert interval("max_equivalence_violated_rate", *found) == (0.25, 0.5)
    assert interval("min_equivalence_certified_rate", *found) == (0.5, 0.75)


def test_distance_lies_between_the_best_attack_and_the_largest_bound() -> None:
    first, second = claims("pair", "output_distance", "cc")
    found = replace(first, attack=0.2, bound=0.5), replace(second, attack=0.1, bound=0.9)
    assert interval("max_certified_distance", *found) == (0.2, 0.9)
    assert interval("max_certified_distance", found[0], replace(second, attack=0.3)) == (0.3, sys.float_info.max)


def test_only_certified_bounds_count_as_distances() -> None:
    (claim,) = claims("pair", "output_distance", "u")
    assert interval("max_certified_distance", replace(claim, bound=1e-9)) == (0.0, sys.float_info.max)


def test_distance_with_a_threshold_says_what_its_verdict_says() -> None:
    certified, violated = (replace(c, delta=0.5) for c in claims("pair", "output_distance", "cv"))
    assert interval("max_certified_distance", certified) == (0.0, 0.5)
    assert interval("max_certified_distance", violated) == (0.5, sys.float_info.max)


def test_natural_drop_and_sparsity_and_rechecks() -> None:
    before, after = claims("original", "top1_robust", "cccc"), claims("pruned", "top1_robust", "ccvv")
    assert interval("max_natural_accuracy_drop", *before, *after) == (0.5, 0.5)
    models = (model("original", (10, 10)), model("pruned", (10, 5)))
    assert interval("min_sparsity", models=models) == (0.25, 0.25)
    doubtful = replace(before[0], rechecked=False)
    assert interval("min_rechecked_rate", doubtful, *before[1:]) == (0.75, 0.75)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"min_rechecked_rate"}))
def test_no_evidence_is_inconclusive(rule: str) -> None:
    outcome = Policy("p", {rule: 0.5}).apply(Evidence((), ()))
    assert outcome.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [("cccc", Outcome.PASS), ("cccu", Outcome.PASS), ("ccuu", Outcome.INCONCLUSIVE), ("ccvv", Outcome.FAIL)],
)
def test_only_an_interval_on_one_side_decides(verdicts: str, outcome: Outcome) -> None:
    evidence = Evidence(claims("pruned", "top1_robust", verdicts), ())
    assert Policy("p", {"min_certified_accuracy": 0.75}).apply(evidence).outcome is outcome


def test_one_failing_rule_outweighs_an_inconclusive_one() -> None:
    evidence = Evidence(claims("pruned", "top1_robust", "vvuu"), ())
    outcome = Policy("p", {"min_sparsity": 0.5, "min_certified_accuracy": 0.75}).apply(evidence)
    assert [rule.outcome for rule in outcome.rules] == [Outcome.INCONCLUSIVE, Outcome.FAIL]
    assert outcome.outcome is Outcome.FAIL


def test_a_file_gives_name_and_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "strict.toml"
    path.write_text("min_certified_accuracy = 1\nmax_certified_distance = 2.5\n")
    policy = Policy.load(path)
    assert (policy.name, dict(policy.rules)) == (
        "strict.toml",
        {"min_certified_accuracy": 1, "max_certified_distance": 2.5},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("min_accuracy = 0.5", "min_accuracy"),
        ("min_certified_accuracy = 1.5", "min_certified_accuracy"),
        ("min_certified_accuracy = -0.1", "min_certified_accuracy"),
        ("min_certified_accuracy = nan", "min_certified_accuracy"),
        ("min_certified_accuracy = true", "min_certified_accuracy"),
        ('min_certified_accuracy = "high"', "min_certified_accuracy"),
        ("[min_certified_accuracy]\nx = 1", "min_certified_accuracy"),
        ("", "no rule"),
        ("min_certified_accuracy = ", "cannot read"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        Policy.load(path)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        Policy.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        Policy.load(tmp_path / "binary.toml")


def test_the_default_policy_is_valid() -> None:
    assert set(Policy.default().rules) <= set(RULES)


def test_a_claim_that_ended_in_an_error_never_passes() -> None:
    found = claims("original", "top1_robust", "cccc") + claims("pruned", "top1_robust", "cccc")
    policy = Policy("p", {"min_certified_accuracy": 0.5})
    assert policy.apply(Evidence(found, ())).outcome is Outcome.PASS
    broken = [*found, *claims("pair", "output_distance", "e")]
    assert policy.apply(Evidence(broken, ())).outcome is Outcome.INCONCLUSIVE


def test_a_rule_may_look_at_one_radius_alone() -> None:
    near, far = claims("pruned", "top1_robust", "cccc"), claims("pruned", "top1_robust", "cvvu", eps=0.1)
    evidence = Evidence([*near, *far], ())
    assert parse_rule("min_certified_accuracy@0.01").measure(evidence) == (1.0, 1.0)
    assert parse_rule("min_certified_accuracy@0.1").measure(evidence) == (0.25, 0.5)
    assert parse_rule("min_certified_accuracy@0.5").measure(evidence) == (0.0, 1.0)
    policy = Policy("p", {"min_certified_accuracy@0.01": 0.9, "min_certified_accuracy@0.1": 0.5})
    outcome = policy.apply(evidence)
    assert [rule.outcome for rule in outcome.rules] == [Outcome.PASS, Outcome.INCONCLUSIVE]
    assert "at eps 0.01: at least 0.9" in outcome.rules[0].text


def test_a_level_asks_for_the_population_and_is_harder_to_pass_and_to_fail() -> None:
    evidence = Evidence(claims("pruned", "top1_robust", "c" * 45 + "v" * 5), ())
    (plain, sure) = (
        Policy("p", {key: 0.85}).apply(evidence) for key in ("min_certified_accuracy", "min_certified_accuracy~0.95")
    )
    assert (plain.outcome, sure.outcome) == (Outcome.PASS, Outcome.INCONCLUSIVE)
    rule = sure.rules[0]
    assert binom.sf(44, 50, rule.low) == pytest.approx(0.05, abs=1e-4)
    assert binom.cdf(45, 50, rule.high) == pytest.approx(0.05, abs=1e-4)
    assert "of all inputs like these with 95 % confidence" in rule.text
    fails = Policy("p", {"min_certified_accuracy~0.95": 0.99}).apply(evidence)
    assert fails.outcome is Outcome.FAIL


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_one_sided_bounds_hold_with_their_level(level: float) -> None:
    rng = np.random.default_rng(0)
    share, trials = 0.8, 60
    drawn = rng.binomial(trials, share, 4000)
    below = np.mean([one_sided(int(k), trials, level)[0] <= share for k in drawn])
    above = np.mean([one_sided(int(k), trials, level)[1] >= share for k in drawn])
    assert min(below, above) >= level - 3 * np.sqrt(level * (1 - level) / 4000)


def test_a_file_may_set_radii_a_level_and_the_semantics(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        'statistical_level = 0.95\nrequired_semantics = ["real", "float32"]\nmax_unknown_claims = 3\n'
        'min_certified_accuracy = { "0.01" = 0.9, "0.02" = 0.5 }\nmin_natural_accuracy = 0.9\n'
    )
    assert dict(Policy.load(path).rules) == {
        "min_real_rate": 1.0, "min_float32_rate": 1.0, "max_unknown_claims": 3,
        "min_certified_accuracy@0.01~0.95": 0.9, "min_certified_accuracy@0.02~0.95": 0.5,
        "min_natural_accuracy~0.95": 0.9,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"min_sparsity@0.1" = 0.5', "does not depend on eps"),
        ('"min_rechecked_rate~0.9" = 0.5', "no share of the regions"),
        ('"min_certified_accuracy@x" = 0.5', "no number"),
        ('"min_certified_accuracy@-1" = 0.5', "at least 0"),
        ('"min_certified_accuracy~1" = 0.5', "statistical level"),
        ("statistical_level = 0.2\nmin_certified_accuracy = 0.5", "statistical level"),
        ('statistical_level = "high"\nmin_certified_accuracy = 0.5', "statistical_level"),
        ('required_semantics = "float16"', "required_semantics"),
        ("statistical_level = 0.9", "no rule"),
    ],
)
def test_radii_levels_and_semantics_that_do_not_fit_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        Policy.load(path)


def test_semantics_and_open_claims_are_counted() -> None:
    found = claims("pruned", "top1_robust", "ccuv") + claims("pair", "output_distance", "e")
    first = replace(found[0], semantics=("real", "float32"))
    evidence = (first, replace(found[1], semantics=("real",)), *found[2:])
    assert interval("min_float32_rate", *evidence) == (0.5, 0.5)
    assert interval("min_real_rate", *evidence) == (1.0, 1.0)
    assert interval("max_unknown_rate", *evidence) == (0.4, 0.4)
    assert interval("max_unknown_claims", *evidence) == (2.0, 2.0)


def test_a_rule_about_a_radius_that_was_not_examined_says_so() -> None:
    evidence = Evidence(claims("pruned", "top1_robust", "cccc"), ())
    eps = evidence.claims[0].eps
    seen, unseen = (Policy("p", {f"min_certified_accuracy@{e:g}": 0.5}).apply(evidence).rules[0] for e in (eps, 0.7))
    assert "no claim is about this eps" not in seen.text
    assert "no claim is about this eps" in unseen.text
    assert (seen.outcome, unseen.outcome) == (Outcome.PASS, Outcome.INCONCLUSIVE)
