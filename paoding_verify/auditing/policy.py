"""Policies: what an audited network must show, from a file or by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paoding_verify.auditing.config import read_toml
from paoding_verify.evidence.measures import Evidence
from paoding_verify.evidence.policy import DEFAULT_NAME, DEFAULT_RULES, apply_rules, check_rules
from paoding_verify.evidence.result import PolicyOutcome

__all__ = ["Policy"]


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
        check_rules(self.name, self.rules)

    @staticmethod
    def default() -> Policy:
        """The rules that apply where no policy was given."""
        return Policy(DEFAULT_NAME, DEFAULT_RULES)

    @staticmethod
    def load(path: str | Path) -> Policy:
        """Reads policy.toml: one `rule = threshold` per line. Raises: ConfigError naming the key that does not fit."""
        return Policy(Path(path).name, read_toml(path, "policy"))

    def apply(self, evidence: Evidence) -> PolicyOutcome:
        """FAIL if any rule fails, else INCONCLUSIVE if any is, else PASS."""
        return apply_rules(self.name, self.rules, evidence)
