"""The three verdicts on a claim, and the three outcomes of a policy."""

from enum import StrEnum

__all__ = ["Outcome", "Verdict"]


class Verdict(StrEnum):
    """What is known about a claim on a region."""

    CERTIFIED = "CERTIFIED"
    """Holds for every point of the region; the checker proved it again."""
    VIOLATED = "VIOLATED"
    """A witness inside the region breaks it, reproduced in onnxruntime on the shipped files."""
    UNKNOWN = "UNKNOWN"
    """Neither was shown within the limits; the claim says why and between which values the truth lies."""


class Outcome(StrEnum):
    """What a policy says about a whole audit."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    """Not met as proved so far, yet not refuted: claims that are UNKNOWN could decide it either way."""
