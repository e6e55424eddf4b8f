"""Evidence against evidence: what cannot both be true is found, what can is left alone."""

from __future__ import annotations

import pytest

from paoding_verify.evidence.claim import Claim, Witness, claim_id
from paoding_verify.evidence.contradiction import contradictions
from paoding_verify.evidence.property import broken_by, decides_like, exact_margin, predicts
from paoding_verify.evidence.verdict import Verdict

FLOAT = ("real", "float32")


def proof(kind: str, subject: str = "pair", **fields: object) -> Claim:
    base = {"semantics": FLOAT, "bound": 1.0, "label": 0, "region": "r", **fields}
    known = {"id": claim_id(subject, kind, "r"), "kind": kind, "subject": subject, "eps": 0.1, "method": "test"}
    return Claim(**known, verdict=Verdict.CERTIFIED, rechecked=True, **base)  # type: ignore[arg-type]


def witness(kind: str, subject: str, f: tuple[float, ...] | None, g: tuple[float, ...] | None) -> Claim:
    return Claim(
        claim_id(subject, kind, "r"), kind, subject, "r", 0.1, 0, Verdict.VIOLATED, "test", rechecked=True,
        witness=Witness((0.0,), f, g),
    )  # fmt: skip


DIFFERENT = witness("top1_equivalent", "pair", (3.0, 1.0), (1.0, 2.0))
LOST = witness("top1_robust", "pruned", None, (1.0, 2.0))
KEPT = proof("top1_robust", "original")
ALIKE = proof("top1_equivalent")

CONTRADICTORY = {
    "distance beyond a bound": [DIFFERENT, proof("output_distance", bound=1.5)],
    "distance equal to a bound": [DIFFERENT, proof("output_distance", bound=2.0)],
    "distance beyond a threshold": [DIFFERENT, proof("output_distance", delta=1.0)],
    "witness against a label": [DIFFERENT, proof("top1_robust", "pruned")],
    "witness against the other label": [
        witness("top1_equivalent", "pair", (1.0, 2.0), (3.0, 1.0)), proof("top1_robust", "original")],
    "witness against equivalence": [witness("output_distance", "pair", (3.0, 1.0), (1.0, 2.0)), ALIKE],
    "tie against equivalence": [witness("output_distance", "pair", (3.0, 1.0), (2.0, 2.0)), ALIKE],
    "label kept, alike, label lost": [KEPT, ALIKE, LOST],
    "the same with networks exchanged": [
        proof("top1_robust", "pruned"), ALIKE, witness("top1_robust", "original", (1.0, 2.0), None)],
    "attack against a proof": [proof("top1_robust", "original", attack=0.0)],
    "centre against a proof": [proof("top1_robust", "original", margin=-1.0)],
    "attack beyond a bracket": [proof("output_distance", attack=1.0, bound=1.0)],
    "z3 against a proof": [proof("top1_equivalent", smt="refuted")],
}  # fmt: skip

POSSIBLE = {
    "nothing": [],
    "distance below a bound": [DIFFERENT, proof("output_distance", bound=2.5)],
    "proof for real numbers alone": [DIFFERENT, proof("output_distance", bound=1.5, semantics=("real",))],
    "attack below a bracket": [proof("output_distance", attack=0.9)],
    "another region": [DIFFERENT, proof("output_distance", bound=1.5, region="s")],
    "another label": [proof("top1_robust", "original", label=1), ALIKE, LOST],
    "label lost without equivalence": [KEPT, LOST],
    "outputs of another length": [DIFFERENT, proof("top1_robust", "pruned", label=7)],
    "attack against real numbers alone": [proof("top1_robust", "original", attack=-1e-9, semantics=("real",))],
}


@pytest.mark.parametrize("name", sorted(CONTRADICTORY))
def test_contradictions_are_found_in_any_order(name: str) -> None:
    claims = CONTRADICTORY[name]
    assert contradictions(claims)
    assert len(contradictions(claims[::-1])) == len(contradictions(claims))


@pytest.mark.parametrize("name", sorted(POSSIBLE))
def test_what_can_be_true_is_no_contradiction(name: str) -> None:
    assert contradictions(POSSIBLE[name]) == []


@pytest.mark.parametrize(
    ("f", "g", "expected"),
    [
        ((1.0, 0.0), (0.0, 1.0), True),
        ((1.0, 0.0), (1.0, 0.0), False),
        ((0.5, 0.5), (0.5, 0.5), False),
        ((1.0, 0.0), (0.5, 0.5), False),
        ((1.0, 0.0, 0.0), (0.0, 0.5, 0.5), True),
    ],
)
def test_decisions_differ_only_if_no_top_class_is_shared(
    f: tuple[float, ...], g: tuple[float, ...], expected: bool
) -> None:
    assert broken_by(decides_like(len(f)), (*f, *g)) is expected


def test_margins_are_free_of_rounding() -> None:
    tiny = 2.0**-1074
    assert exact_margin(predicts(0, 2), (1.0 + tiny, 1.0)) == 0
    assert exact_margin(predicts(0, 2), (tiny, 0.0)) > 0
