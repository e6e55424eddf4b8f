"""Rules applied to evidence: for each the interval of values left open, and whether the threshold decides it.

Every rule measures an interval [low, high]: the values consistent with the evidence, UNKNOWN (and errors) decided
against or in favour. Only an interval that lies wholly on one side of the threshold passes or fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.measures import RULES, Evidence
from paoding_verify.evidence.result import PolicyOutcome, RuleOutcome
from paoding_verify.evidence.verdict import Outcome

__all__ = ["DEFAULT_NAME", "DEFAULT_RULES", "apply_rules", "check_rules"]

DEFAULT_NAME = "default"
"""Name of the policy that applies where none was given."""

DEFAULT_RULES: Mapping[str, float] = {
    "min_preserved_certified_ratio": 0.9,
    "max_natural_accuracy_drop": 0.02,
    "min_rechecked_rate": 1.0,
}
"""Nine tenths of the regions proved robust stay robust, at most two inputs in a hundred are lost, all is re-proved.

Equivalence is reported and not judged: near the original's own decision boundary two networks nearly always differ
somewhere. A policy file may judge it."""


def check_rules(name: str, rules: Mapping[str, float]) -> None:
    """Raises: ConfigError naming the rule that is unknown or whose threshold is out of range, or if there is none."""
    if not rules:
        raise ConfigError(f"policy {name} has no rule; known rules are {', '.join(sorted(RULES))}")
    for key, threshold in rules.items():
        if key not in RULES:
            raise ConfigError(f"policy {name}: unknown rule {key!r}; known are {', '.join(sorted(RULES))}")
        if type(threshold) not in (int, float):
            raise ConfigError(f"policy {name}: rule {key!r} takes a number; got {str(threshold)[:40]!r}")
        largest = RULES[key].largest
        if not (math.isfinite(threshold) and 0 <= threshold <= largest):
            raise ConfigError(f"policy {name}: rule {key!r} takes a number in [0, {largest:g}]")


def apply_rules(name: str, rules: Mapping[str, float], evidence: Evidence) -> PolicyOutcome:
    """FAIL if any rule fails, else INCONCLUSIVE if any is or a claim ended in an error, else PASS."""
    decided = tuple(_decide(key, float(threshold), evidence) for key, threshold in rules.items())
    found = {rule.outcome for rule in decided}
    if any(claim.verdict is None for claim in evidence.claims):
        found.add(Outcome.INCONCLUSIVE)
    worst = next(outcome for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS) if outcome in found)
    return PolicyOutcome(name, worst, decided)


def _decide(key: str, threshold: float, evidence: Evidence) -> RuleOutcome:
    rule = RULES[key]
    low, high = rule.measure(evidence)
    if key.startswith("min_"):
        holds, fails, sign = low >= threshold, high < threshold, "at least"
    else:
        holds, fails, sign = high <= threshold, low > threshold, "at most"
    outcome = Outcome.PASS if holds else Outcome.FAIL if fails else Outcome.INCONCLUSIVE
    return RuleOutcome(key, f"{rule.text}: {sign} {threshold:g}", threshold, low, high, outcome)
