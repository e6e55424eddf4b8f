"""What can be asked about a network or a pair: from a claim's kind to the property that it states."""

from __future__ import annotations

from dataclasses import dataclass

from paoding_verify.errors import InputError
from paoding_verify.evidence.claim import PAIR_QUESTIONS, PARAMETERS, Claim
from paoding_verify.evidence.conditional import (
    decides_like_where_confident,
    decides_like_where_decided,
    preserves_margin,
)
from paoding_verify.evidence.property import Property, decides_like, distance_at_most, predicts

__all__ = ["Question", "pair_property", "property_of"]


@dataclass(frozen=True)
class Question:
    """What a comparison asks about every region.

    Raises: InputError if the kind is none of PAIR_QUESTIONS, or its parameter is missing or one too many.
    """

    kind: str
    parameter: float | None = None
    """What PARAMETERS says of the kind; None for kinds that take none."""

    def __post_init__(self) -> None:
        if self.kind not in PAIR_QUESTIONS:
            raise InputError(f"a comparison asks for {' or '.join(PAIR_QUESTIONS)}; got {self.kind[:40]!r}")
        if self.kind in PARAMETERS and self.parameter is None:
            raise InputError(f"{self.kind} needs its parameter: {PARAMETERS[self.kind]}")
        if self.kind not in PARAMETERS and self.parameter is not None:
            raise InputError(f"{self.kind} takes no parameter; got {self.parameter}")


def pair_property(
    question: Question, num_outputs: int, *, label: int | None = None, delta: float | None = None
) -> Property:
    """The property over (f, g) that a question states about a region with this label; delta of output_distance.

    Raises: InputError if the parameter is out of range, or a label or threshold is missing.
    """
    kind, parameter = question.kind, question.parameter
    if kind == "top1_equivalent":
        return decides_like(num_outputs)
    if kind == "output_distance" and delta is not None:
        return distance_at_most(delta, num_outputs)
    if kind == "topk_equivalent" and parameter is not None and parameter == int(parameter):
        return decides_like(num_outputs, int(parameter))
    if kind == "top1_confident" and parameter is not None:
        return decides_like_where_confident(parameter, num_outputs)
    if kind == "top1_decided" and parameter is not None:
        return decides_like_where_decided(parameter, num_outputs)
    if kind == "margin_preserved" and parameter is not None and label is not None:
        return preserves_margin(label, num_outputs, parameter)
    raise InputError(f"{kind} with parameter {parameter}, label {label} and threshold {delta} states nothing")


def property_of(claim: Claim, num_outputs: int) -> Property:
    """The property that a claim states about its region; of a bracket, that |f - g| stays below the proved bound.

    Raises: InputError if it does not follow from the claim (a specification's, or a claim whose parts do not fit).
    """
    if claim.kind == "top1_robust" and claim.subject != "pair" and claim.label is not None:
        return predicts(claim.label, num_outputs)
    if claim.kind not in PAIR_QUESTIONS or claim.subject != "pair":
        raise InputError(f"nothing states the property of a {claim.kind[:40]!r} claim about {claim.subject[:40]!r}")
    threshold = claim.delta if claim.delta is not None else claim.bound
    if claim.kind == "output_distance" and threshold is None:
        raise InputError("it states neither a threshold nor a bound")
    return pair_property(Question(claim.kind, claim.parameter), num_outputs, label=claim.label, delta=threshold)
