"""Rules applied to evidence: for each the interval of values left open, and whether the threshold decides it.

Every rule measures an interval [low, high]: the values consistent with the evidence, UNKNOWN (and errors) decided
against or in favour. Only an interval that lies wholly on one side of the threshold passes or fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.measures import RULES, Evidence
from paoding_verify.evidence.result import PolicyOutcome, RuleOutcome
from paoding_verify.evidence.verdict import Outcome

__all__ = ["DEFAULT_NAME", "DEFAULT_RULES", "Demand", "apply_rules", "check_rules", "parse_rule"]

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


@dataclass(frozen=True)
class Demand:
    """What the name of a rule asks for: `RULE`, `RULE@EPS` (at one radius alone), `RULE~LEVEL` (with that confidence
    for the population that the regions were drawn from), or `RULE@EPS~LEVEL`.
    """

    rule: str
    eps: float | None
    level: float | None

    def measure(self, evidence: Evidence) -> tuple[float, float]:
        """The interval of values that the evidence leaves open."""
        evidence = evidence if self.eps is None else evidence.at(self.eps)
        return RULES[self.rule].measure(replace(evidence, level=self.level))

    @property
    def text(self) -> str:
        """What is measured, in words."""
        rule = RULES[self.rule]
        radius = "" if not rule.by_eps else ", at every eps" if self.eps is None else f" at eps {self.eps:g}"
        sure = "" if self.level is None else f", of all inputs like these with {100 * self.level:g} % confidence"
        return f"{rule.text}{radius}{sure}"


def parse_rule(key: str) -> Demand:
    """What the name of a rule asks for. Raises: ConfigError if there is no such rule, or it has no radius or level."""
    name, has_level, level = key.partition("~")
    name, has_eps, eps = name.partition("@")
    if name not in RULES:
        raise ConfigError(f"unknown rule {key[:60]!r}; known are {', '.join(sorted(RULES))}")
    if has_eps and not RULES[name].by_eps:
        raise ConfigError(f"rule {name!r} does not depend on eps: leave @{eps[:20]} out")
    if has_level and not RULES[name].sampled:
        raise ConfigError(f"rule {name!r} is no share of the regions: leave ~{level[:20]} out")
    demand = Demand(name, _number(key, eps) if has_eps else None, _number(key, level) if has_level else None)
    if demand.eps is not None and demand.eps < 0:
        raise ConfigError(f"rule {key[:60]!r}: eps must be at least 0")
    if demand.level is not None and not 0.5 <= demand.level < 1:
        raise ConfigError(f"rule {key[:60]!r}: a statistical level lies in [0.5, 1), for example 0.95")
    return demand


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"rule {key[:60]!r}: {text[:20]!r} is no number")
    return value


def check_rules(name: str, rules: Mapping[str, float]) -> None:
    """Raises: ConfigError naming the rule that is unknown or whose threshold is out of range, or if there is none."""
    if not rules:
        raise ConfigError(f"policy {name} has no rule; known rules are {', '.join(sorted(RULES))}")
    for key, threshold in rules.items():
        try:
            demand = parse_rule(key)
        except ConfigError as error:
            raise ConfigError(f"policy {name}: {error}") from None
        if type(threshold) not in (int, float):
            raise ConfigError(f"policy {name}: rule {key!r} takes a number; got {str(threshold)[:40]!r}")
        largest = RULES[demand.rule].largest
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
    demand = parse_rule(key)
    low, high = demand.measure(evidence)
    if key.startswith("min_"):
        holds, fails, sign = low >= threshold, high < threshold, "at least"
    else:
        holds, fails, sign = high <= threshold, low > threshold, "at most"
    outcome = Outcome.PASS if holds else Outcome.FAIL if fails else Outcome.INCONCLUSIVE
    unseen = "" if demand.eps is None or evidence.at(demand.eps).claims else " (no claim is about this eps)"
    return RuleOutcome(key, f"{demand.text}: {sign} {threshold:g}{unseen}", threshold, low, high, outcome)
