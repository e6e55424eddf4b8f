"""Confidence intervals for shares of a sample."""

from __future__ import annotations

__all__ = ["clopper_pearson"]


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
