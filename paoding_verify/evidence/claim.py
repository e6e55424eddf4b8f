"""A claim: one statement about one region, its verdict, and what supports it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.verdict import Verdict

__all__ = [
    "KINDS",
    "NOT_REPROVED",
    "PAIR_KINDS",
    "PAIR_QUESTIONS",
    "PARAMETERS",
    "Claim",
    "Finding",
    "Witness",
    "claim_id",
]

KINDS = (
    "top1_robust", "top1_equivalent", "output_distance", "topk_equivalent", "top1_confident", "top1_decided",
    "margin_preserved", "vnnlib",
)  # fmt: skip
"""top1_robust: the network gives the region's label everywhere. top1_equivalent: both networks have the same top
class everywhere. output_distance: |f - g| stays below delta for every output (without delta: the claim brackets the
maximum). topk_equivalent: both have the same set of K largest outputs everywhere. top1_confident: wherever f's softmax
confidence is at least T, both have the same top class. top1_decided: wherever f's margin is at least M, both have the
same top class. margin_preserved: wherever f's margin for the region's label is positive, g's exceeds a share of it.
vnnlib: no point of the box satisfies the specification's unsafe condition."""

PAIR_KINDS = ("top1_equivalent", "output_distance")
"""What an audit asks about a pair on every region."""

PAIR_QUESTIONS = KINDS[1:-1]
"""What a comparison may ask about a pair on every region."""

PARAMETERS = {
    "topk_equivalent": "K, how many of the largest outputs",
    "top1_confident": "T, the least softmax confidence, at least 0.5 and less than 1",
    "top1_decided": "M, the least margin of f (logits), at least 0",
    "margin_preserved": "the share of f's margin that g must exceed, at least 0 and less than 1",
}
"""Kinds that take a number, and what it says."""


def claim_id(subject: str, kind: str, region: str) -> str:
    """The id of the one claim that a result makes about this subject, kind and region."""
    return f"{subject}/{kind}/{region}"


NOT_REPROVED = "not re-proved"
"""Reasons of UNKNOWN claims begin so where the search proved them and the checker did not."""


@dataclass(frozen=True)
class Witness:
    """A point of the region that breaks the claim, replayed on the shipped files."""

    input: tuple[float, ...]
    """Flat input, row-major, every value a float32."""
    outputs_original: tuple[float, ...] | None
    """Outputs of the original (or only) network in onnxruntime."""
    outputs_pruned: tuple[float, ...] | None
    """Outputs of the pruned network in onnxruntime; None where it takes no part."""


@dataclass(frozen=True)
class Claim:
    """One statement, one region, one verdict."""

    DERIVED: ClassVar[tuple[str, ...]] = ("ratio",)
    """Properties that every JSON form of a claim states as well."""

    id: str
    """Unique in its result, e.g. "pruned/top1_robust/r0007/eps0.01"."""
    kind: str
    """One of KINDS."""
    subject: str
    """original, pruned or pair."""
    region: str
    """Id of the region."""
    eps: float | None
    """Perturbation radius of the region in input units; None for boxes that are no linf ball."""
    label: int | None
    """The class that the claim is about; None where it has none."""
    verdict: Verdict | None
    """None: the claim ended in an error; `reason` says which."""
    method: str
    """Engine that settled it, e.g. crown, alpha-crown, input-splitting, differential-crown, smt, pgd, centre."""
    semantics: tuple[str, ...] = ()
    """Arithmetic in which the checker re-proved it: real, float32."""
    rechecked: bool = False
    """CERTIFIED: re-proved by the checker. VIOLATED: the witness was replayed in onnxruntime."""
    margin: float | None = None
    """Margin at the centre of the region (logits; positive: the statement holds there)."""
    bound: float | None = None
    """Proved lower bound of the margin on the region; for output_distance without delta, the proved upper bound of
    max |f - g|."""
    attack: float | None = None
    """Smallest margin that an attack found (the truth lies between bound and attack); for output_distance without
    delta, the largest |f - g| found."""
    delta: float | None = None
    """Threshold of output_distance."""
    parameter: float | None = None
    """The number that belongs to the kind, as PARAMETERS says; None for kinds that take none."""
    reason: str = ""
    """Why UNKNOWN, or what the error was."""
    elapsed_s: float | None = None
    """Seconds spent; kept out of the deterministic audit.json."""
    witness: Witness | None = None
    """Set exactly if VIOLATED."""
    smt: str | None = None
    """What z3 said about this claim: confirmed, refuted, undecided; None: it was not asked."""
    smt_scale: float | None = None
    """Factor by which the region was shrunk around its centre for z3; 1 = the whole region."""
    smt_sampled: bool = False
    """Whether z3 was asked because the region was in the sample, drawn before any result was known; else it was the
    last resort for a claim that bounds left open."""

    @property
    def refused(self) -> bool:
        """Whether the search proved it and the checker did not: UNKNOWN, whatever the search says."""
        return self.verdict is Verdict.UNKNOWN and self.reason.startswith(NOT_REPROVED)

    @property
    def bracket(self) -> bool:
        """Whether it bounds the maximum of |f - g| instead of stating that something holds."""
        return self.kind == "output_distance" and self.delta is None

    @property
    def ratio(self) -> float | None:
        """Proved bound / attacked value; for output_distance both of |f - g|, so that 1 is a tight bracket.

        None where one of them is missing or the quotient is not finite.
        """
        if self.bound is None or self.attack is None:
            return None
        proved, found = self.bound, self.attack
        if self.delta is not None:
            proved, found = self.delta - proved, self.delta - found
        with suppress(ZeroDivisionError, OverflowError):
            return proved / found if isfinite(proved / found) else None
        return None


@dataclass(frozen=True)
class Finding:
    """A claim together with the hints that let the checker prove it again."""

    claim: Claim
    certificate: Certificate | None
    """Set exactly if the claim is CERTIFIED."""
