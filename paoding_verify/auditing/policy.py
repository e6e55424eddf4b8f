"""Policies: what an audited network must show, and whether the evidence decides it.

Every rule measures an interval [low, high]: the values consistent with the evidence, UNKNOWN (and errors) decided
against or in favour. Only an interval that lies wholly on one side of the threshold passes or fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paoding_verify.auditing.config import read_toml
from paoding_verify.auditing.measures import RULES, Evidence
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.result import PolicyOutcome, RuleOutcome
from paoding_verify.evidence.verdict import Outcome

__all__ = ["DEFAULT_RULES", "Policy"]

DEFAULT_RULES: Mapping[str, float] = {
    "min_preserved_certified_ratio": 0.9,
    "max_natural_accuracy_drop": 0.02,
    "min_rechecked_rate": 1.0,
}
"""Nine tenths of the regions proved robust stay robust, at most two inputs in a hundred are lost, all is re-proved.

Equivalence is reported and not judged: near the original's own decision boundary two networks nearly always differ
somewhere. A policy file may judge it."""


@dataclass(frozen=True)
class Policy:
    """Named thresholds.

    Raises: ConfigError naming the rule that is unknown or whose threshold is out of range, or if there is none.
    """

    name: str
    """File name, or "default". Untrusted text."""
    rules: Mapping[str, float]
    """Rule -> threshold."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ConfigError(f"policy {self.name} has no rule; known rules are {', '.join(sorted(RULES))}")
        for key, threshold in self.rules.items():
            if key not in RULES:
                raise ConfigError(f"policy {self.name}: unknown rule {key!r}; known are {', '.join(sorted(RULES))}")
            if type(threshold) not in (int, float):
                raise ConfigError(f"policy {self.name}: rule {key!r} takes a number; got {str(threshold)[:40]!r}")
            largest = RULES[key].largest
            if not (math.isfinite(threshold) and 0 <= threshold <= largest):
                raise ConfigError(f"policy {self.name}: rule {key!r} takes a number in [0, {largest:g}]")

    @staticmethod
    def default() -> Policy:
        """The rules that apply where no policy was given."""
        return Policy("default", DEFAULT_RULES)

    @staticmethod
    def load(path: str | Path) -> Policy:
        """Reads policy.toml: one `rule = threshold` per line. Raises: ConfigError naming the key that does not fit."""
        return Policy(Path(path).name, read_toml(path, "policy"))

    def apply(self, evidence: Evidence) -> PolicyOutcome:
        """FAIL if any rule fails, else INCONCLUSIVE if any is, else PASS."""
        rules = tuple(_decide(key, float(threshold), evidence) for key, threshold in self.rules.items())
        found = {rule.outcome for rule in rules}
        worst = next(outcome for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS) if outcome in found)
        return PolicyOutcome(self.name, worst, rules)


def _decide(key: str, threshold: float, evidence: Evidence) -> RuleOutcome:
    rule = RULES[key]
    low, high = rule.measure(evidence)
    if key.startswith("min_"):
        holds, fails, sign = low >= threshold, high < threshold, "at least"
    else:
        holds, fails, sign = high <= threshold, low > threshold, "at most"
    outcome = Outcome.PASS if holds else Outcome.FAIL if fails else Outcome.INCONCLUSIVE
    return RuleOutcome(key, f"{rule.text}: {sign} {threshold:g}", threshold, low, high, outcome)
