"""What a caller may ask of the pruner beyond a target."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from paoding_verify.errors import ConfigError
from paoding_verify.pruning.portfolio import PortfolioConfig

__all__ = ["SPARSITY_OF", "PruneOptions"]

SPARSITY_OF = ("units", "parameters", "macs")
"""What a target sparsity may count; macs are multiply-accumulate operations, half of the FLOPs."""


@dataclass(frozen=True, eq=False)
class PruneOptions:
    """How the target is meant, and what the pruner may use."""

    sparsity_of: str = "units"
    """What the target counts; see `SPARSITY_OF`."""
    max_certified_drop: float | None = None
    """Certified budget: as many units go as this drop of certified accuracy on held-out anchors allows (a fraction of
    the anchors), and `target_sparsity` is not used."""
    eps: float | None = None
    """Radius of the pruner's own boxes in input units; None: found from the network."""
    repair: bool = False
    """Whether a structured pruning ends with a certified repair (`repair.repaired`)."""
    portfolio: PortfolioConfig = field(default_factory=PortfolioConfig)
    """What a portfolio tries."""

    def __post_init__(self) -> None:
        """Raises: ConfigError naming the option that is out of range."""
        if self.sparsity_of not in SPARSITY_OF:
            raise ConfigError(f"a target sparsity counts {', '.join(SPARSITY_OF)}; got {self.sparsity_of!r}")
        drop = self.max_certified_drop
        if drop is not None and not 0 <= drop < 1:
            raise ConfigError(f"the certified budget must be at least 0 and less than 1; got {drop}")
        if self.eps is not None and not (math.isfinite(self.eps) and self.eps > 0):
            raise ConfigError(f"the radius of the pruner's boxes must be a finite number above 0; got {self.eps}")
