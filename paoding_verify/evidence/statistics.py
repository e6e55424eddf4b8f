"""Confidence intervals for shares of a sample."""

from __future__ import annotations

import math

__all__ = ["clopper_pearson", "one_sided"]

ROUNDED = 1e6
"""One-sided bounds are rounded outward to millionths, so that they do not depend on the last digits of a library."""


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """An interval that covers the true share with at least the given confidence, whatever the share is.

    It holds for independent draws from one population. Without trials it is (0, 1).
    Source: Clopper and Pearson, Biometrika 26 (1934), 404-413.
    """
    if trials == 0:
        return 0.0, 1.0
    from scipy.special import betaincinv  # a tenth of the import time of scipy.stats; the same quantiles

    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high


def one_sided(successes: int, trials: int, level: float) -> tuple[float, float]:
    """A lower and an upper bound of the true share, each of which holds with at least the given confidence.

    level: in [0.5, 1). Rounded outward to the sixth decimal. For independent draws, as `clopper_pearson`.
    """
    low, high = clopper_pearson(successes, trials, 2 * level - 1)
    return max(math.floor(low * ROUNDED) / ROUNDED, 0.0), min(math.ceil(high * ROUNDED) / ROUNDED, 1.0)
