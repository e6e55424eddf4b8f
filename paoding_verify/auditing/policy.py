"""Policies: what an audited network must show, from a file or by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paoding_verify.auditing.config import read_toml
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.measures import RULES, Evidence
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
        """Reads policy.toml: one `rule = threshold` per line, or `rule = { "EPS" = threshold, ... }` for single radii.

        `statistical_level = L` asks every rule that is a share of the regions of the population they were drawn from,
        with confidence L. `required_semantics = "float32"` (or a list) stands for `min_float32_rate = 1`.
        Raises: ConfigError naming the key that does not fit.
        """
        name, lines = Path(path).name, read_toml(path, "policy")
        level = lines.pop("statistical_level", None)
        if level is not None and type(level) is not float:
            raise ConfigError(f"policy {name}: statistical_level takes a number in [0.5, 1); got {str(level)[:40]!r}")
        rules = _semantics(name, lines.pop("required_semantics", []))
        for key, value in lines.items():
            single = {f"{key}@{eps}": at for eps, at in value.items()} if isinstance(value, dict) else {key: value}
            rules |= {_levelled(rule, level): threshold for rule, threshold in single.items()}
        return Policy(name, rules)

    def apply(self, evidence: Evidence) -> PolicyOutcome:
        """FAIL if any rule fails, else INCONCLUSIVE if any is, else PASS."""
        return apply_rules(self.name, self.rules, evidence)


def _levelled(key: str, level: float | None) -> str:
    name = key.partition("@")[0]
    return f"{key}~{level:g}" if level is not None and name in RULES and RULES[name].sampled else key


def _semantics(name: str, wanted: object) -> dict[str, float]:
    listed = wanted if isinstance(wanted, list) else [wanted]
    if not all(item in ("real", "float32") for item in listed):
        raise ConfigError(f"policy {name}: required_semantics takes real, float32 or a list of them; got {wanted!r}")
    return {f"min_{item}_rate": 1.0 for item in listed}
