"""What an audit is asked to do: radii, number of regions, pruning target, effort of the search."""

from __future__ import annotations

import math
import time
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from paoding_verify.errors import ConfigError
from paoding_verify.task import SearchConfig

__all__ = ["MAX_CONFIG_BYTES", "WORDS", "AuditConfig", "read_toml", "setting_names"]

MAX_CONFIG_BYTES = 1 << 20
"""Larger configuration or policy files are refused."""


DEFAULT_SAMPLES = 20
WORDS = frozenset({"data_split", "drawing", "normalisation", "command"})
"""Fields of AuditConfig that are for the record and no settings."""


@dataclass(frozen=True)
class AuditConfig:
    """Every setting of an audit.

    Raises: ConfigError naming the setting that is out of range.
    """

    eps: tuple[float, ...] = (0.01,)
    """Perturbation radii in input units; one region per anchor and radius."""
    samples: int | None = None
    """Anchors drawn from the data, or synthesised; None: 20, or all rows of smaller data."""
    target_sparsity: float = 0.5
    """Share of what `sparsity_of` names to remove when the audit prunes by itself."""
    sparsity_of: str = "units"
    """units, parameters or macs (multiply-accumulate operations)."""
    max_certified_drop: float | None = None
    """Instead of a target: the pruner goes as far as certified accuracy on its held-out anchors drops by this."""
    anchor_eps: float | None = None
    """Radius of the pruner's own boxes in input units; None: found from the network."""
    method: str = "portfolio"
    """Pruning method."""
    distil: bool = True
    """Whether the methods portfolio and obs end with a distillation on synthetic inputs."""
    repair: bool = False
    """Whether the pruner ends with a certified repair."""
    domain: tuple[float, float] | None = None
    """Smallest and largest legal input value; None: unbounded for data, found by the synthesiser for anchors."""
    delta: float | None = None
    """Threshold of output_distance (logits); None: the largest |f - g| is bracketed."""
    budget_s: float | None = None
    """Seconds for all claims together; what is open then becomes UNKNOWN. None: no limit but that of each claim."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """Effort of the search; its seed is the seed of the whole audit."""
    data_split: str = ""
    """How the pruner's anchors and the reported regions were kept apart, in words; empty: worked out by the audit."""
    drawing: str = ""
    """Where the regions came from and how they were chosen, in words; empty: the audit was given them."""
    normalisation: str = ""
    """The normalisation layer that was put in front of the networks, in words; empty: none."""
    command: str = "paoding_verify.audit"
    """The command line, or the library call, for the record."""

    def __post_init__(self) -> None:
        if not self.eps or not all(math.isfinite(eps) and eps >= 0 for eps in self.eps):
            raise ConfigError(f"eps must be finite numbers of at least 0; got {list(self.eps)}")
        if len(set(self.eps)) != len(self.eps):
            raise ConfigError(f"eps names a radius twice: {list(self.eps)}")
        if self.samples is not None and self.samples < 1:
            raise ConfigError(f"samples must be at least 1; got {self.samples}")
        if not 0 <= self.target_sparsity < 1:
            raise ConfigError(f"target_sparsity must be at least 0 and less than 1; got {self.target_sparsity}")
        if self.domain is not None and not (all(map(math.isfinite, self.domain)) and self.domain[0] < self.domain[1]):
            raise ConfigError(f"domain must be two finite numbers LO < HI; got {list(self.domain)}")
        if self.delta is not None and not (math.isfinite(self.delta) and self.delta > 0):
            raise ConfigError(f"delta must be a finite number above 0; got {self.delta}")
        if self.budget_s is not None and not (math.isfinite(self.budget_s) and self.budget_s > 0):
            raise ConfigError(f"the budget must be a positive and finite number of seconds; got {self.budget_s}")

    @property
    def num_samples(self) -> int:
        """Anchors that are drawn if the data hold so many."""
        return DEFAULT_SAMPLES if self.samples is None else self.samples

    def deadline(self) -> float:
        """When the budget of claims that begin now is spent (time.monotonic); infinite without one."""
        return math.inf if self.budget_s is None else time.monotonic() + self.budget_s

    @property
    def seed(self) -> int:
        """The one seed from which everything random is drawn."""
        return self.search.seed

    @staticmethod
    def load(path: str | Path) -> AuditConfig:
        """Reads audit.toml: the fields of this class and of SearchConfig as top-level keys.

        Raises: ConfigError naming the key that is unknown, of the wrong type or out of range.
        """
        name, values = Path(path).name, read_toml(path, "configuration")
        if {"target_sparsity", "max_certified_drop"} <= set(values):
            raise ConfigError(f"{name}: target_sparsity and max_certified_drop exclude each other: leave one out")
        return AuditConfig().override(values, where=name)

    def override(self, values: dict[str, Any], *, where: str = "options") -> AuditConfig:
        """The configuration with some settings replaced; keys are fields of this class or of SearchConfig.

        Raises: ConfigError naming the key that is unknown, of the wrong type or out of range.
        """
        inner = {f.name for f in fields(SearchConfig)}
        for key in values:
            if key not in setting_names():
                raise ConfigError(f"{where}: unknown key {key!r}; known are {', '.join(setting_names())}")
        fitted = {key: _fit(where, key, value) for key, value in values.items()}
        try:
            search = replace(self.search, **{key: value for key, value in fitted.items() if key in inner})
            return replace(self, search=search, **{key: value for key, value in fitted.items() if key not in inner})
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


def setting_names() -> list[str]:
    """Every key that a configuration file may hold, sorted."""
    names = {item.name for cls in (AuditConfig, SearchConfig) for item in fields(cls)}
    return sorted(names - WORDS - {"search"})


_NUMBERS = {"eps": float, "domain": float, "semantics": str}
"""Settings that are lists, and the type of their items."""


def _fit(where: str, key: str, value: Any) -> Any:
    """The value in the type of its field; a whole number passes as a float. Raises: ConfigError naming the key."""
    if key in _NUMBERS:
        items = value if isinstance(value, (list, tuple)) else [value]
        if key == "domain" and len(items) != 2:
            raise ConfigError(f"{where}: key 'domain' takes two numbers LO HI; got {value!r}")
        return tuple(_scalar(where, key, item, _NUMBERS[key]) for item in items)
    if key in {"method", "sparsity_of"}:
        return _scalar(where, key, value, str)
    if key in {"distil", "repair"}:
        return _scalar(where, key, value, bool)
    whole = key not in {"target_sparsity", "max_certified_drop", "anchor_eps", "timeout_s", "budget_s", "delta"}
    return _scalar(where, key, value, int if whole else float)


def _scalar(where: str, key: str, value: Any, wanted: type) -> Any:
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[wanted]
        raise ConfigError(f"{where}: key {key!r} takes {words}; got {type(value).__name__} {str(value)[:40]!r}")
    return value


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file. Raises: ConfigError if it is missing, too large or no TOML."""
    try:
        if Path(path).stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{what} {path} is larger than {MAX_CONFIG_BYTES} bytes")
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or a number of too many digits
        raise ConfigError(f"cannot read the {what} {path}: {str(error)[:200]}") from error
