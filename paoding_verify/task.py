"""What a cascade is asked: a property on a region, and how hard to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.property import Property
from paoding_verify.regions import Region

__all__ = ["SEMANTICS", "Progress", "SearchConfig", "Task"]

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done so far, total); `total` may grow. The only way the library reports progress."""

SEMANTICS = ("real", "float32")
"""Arithmetics in which a claim can be proved: exact real numbers; a float32 program in any order of summation."""

MAX_SEED = 2**63 - 1
"""Largest seed that every generator of random numbers takes."""


@dataclass(frozen=True, eq=False)
class Task:
    """One claim to settle."""

    id: str
    """Id of the claim that will come out."""
    kind: str
    """One of `evidence.claim.KINDS`."""
    subject: str
    """original, pruned or pair."""
    region: Region
    property: Property | None
    """Over the outputs of one network, or (f, g) of a pair; None: what the kind states, for a bracket of |f - g|."""
    delta: float | None = None
    """Threshold of output_distance."""
    parameter: float | None = None
    """The number that belongs to the kind; see `evidence.claim.PARAMETERS`."""


@dataclass(frozen=True)
class SearchConfig:
    """Effort of the cascades; equal configurations give equal verdicts unless a time limit strikes."""

    seed: int = 0
    """Seed of attacks and of the choice of spot checks."""
    timeout_s: float = 30.0
    """Seconds that one claim may take."""
    attack_restarts: int = 5
    attack_steps: int = 40
    alpha_iterations: int = 20
    """Optimisation steps of alpha-CROWN and of differential slopes."""
    max_leaves: int = 20_000
    """Sub-boxes, or cases of ReLU splitting, that may be created for one claim."""
    smt_samples: int = 0
    """Regions, drawn by the seed before any result is known, whose pair claims z3 checks again."""
    semantics: tuple[str, ...] = SEMANTICS
    """Arithmetics in which a claim must be re-proved to be CERTIFIED."""

    def __post_init__(self) -> None:
        """Raises: ConfigError if a number is out of range."""
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed must be at least 0 and at most {MAX_SEED}; got {self.seed}")
        if not 0 < self.timeout_s < inf:
            raise ConfigError(f"the time limit per claim must be positive and finite; got {self.timeout_s} s")
        if self.smt_samples < 0:
            raise ConfigError(f"smt_samples must be at least 0; got {self.smt_samples}")
        if min(self.attack_restarts, self.attack_steps, self.alpha_iterations, self.max_leaves) < 1:
            raise ConfigError("restarts, steps, iterations and leaves must be at least 1")
        if not self.semantics or not set(self.semantics) <= set(SEMANTICS):
            raise ConfigError(f"semantics must be among {SEMANTICS}; got {self.semantics}")
