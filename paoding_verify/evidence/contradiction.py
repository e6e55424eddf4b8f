"""Whether the evidence of one result contradicts itself. Every contradiction means that an engine, or a file, lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paoding_verify.errors import InputError
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.property import exact_margin
from paoding_verify.evidence.question import property_of
from paoding_verify.evidence.verdict import Verdict

__all__ = ["contradictions"]


def contradictions(claims: Sequence[Claim]) -> list[str]:
    """Every pair of statements about one region that cannot both be true, in words; empty: none was found.

    A witness is a float32 point, so it contradicts only what was certified for float32 programs. Claims whose parts do
    not fit together (labels that are no class, outputs of different lengths) are left to others.
    """
    regions: dict[str, list[Claim]] = {}
    for claim in claims:
        regions.setdefault(claim.region, []).append(claim)
    found = [text for claim in claims for text in _within(claim)]
    for group in regions.values():
        proved = [c for c in group if c.verdict is Verdict.CERTIFIED and "float32" in c.semantics]
        witnesses = [c for c in group if c.verdict is Verdict.VIOLATED and c.witness is not None]
        for violated in witnesses:
            found += [
                f"{certified.id} is certified for every float32 program, yet the witness of {violated.id} breaks it"
                for certified in proved
                if _breaks(violated, certified)
            ]
            found += _across(violated, proved)
    return found


def _within(claim: Claim) -> Iterator[str]:
    """What one certified claim says against itself."""
    if claim.verdict is not Verdict.CERTIFIED:
        return
    if claim.smt == "refuted" and "real" in claim.semantics:
        yield f"{claim.id} is certified for real numbers, yet z3 refutes it"
    if "float32" not in claim.semantics:
        return
    if claim.kind == "output_distance" and claim.delta is None:
        if claim.attack is not None and claim.bound is not None and claim.attack >= claim.bound:
            yield f"{claim.id}: an attack found {claim.attack:.9g}, more than the certified bound {claim.bound:.9g}"
        return
    for what, value in (("an attack found", claim.attack), ("the centre has", claim.margin)):
        if value is not None and value <= 0:
            yield f"{claim.id} is certified for every float32 program, yet {what} the margin {value:.9g}"


def _breaks(violated: Claim, certified: Claim) -> bool:
    """Whether the outputs that a witness states break a certified claim about the same region."""
    witness = violated.witness
    f, g = (witness.outputs_original, witness.outputs_pruned) if witness is not None else (None, None)
    stated = {"original": (f,), "pruned": (g,), "pair": (f, g)}.get(certified.subject, (None,))
    halves = [half for half in stated if half]
    if len(halves) < len(stated) or len({len(half) for half in halves}) > 1:
        return False
    try:
        prop = property_of(certified, len(halves[0]))
    except InputError:
        return False
    return exact_margin(prop, [y for half in halves for y in half]) <= 0


def _across(violated: Claim, proved: Sequence[Claim]) -> Iterator[str]:
    """One network keeps the label, both decide alike, yet a witness makes the other one lose the label."""
    other = {"original": "pruned", "pruned": "original"}.get(violated.subject)
    if violated.kind != "top1_robust" or other is None:
        return
    keeps = any((c.kind, c.subject, c.label) == ("top1_robust", other, violated.label) for c in proved)
    if keeps and any(c.kind == "top1_equivalent" for c in proved):
        yield (
            f"region {violated.region}: the {other} network keeps its label and both are certified to decide alike, "
            f"yet {violated.id} has a witness"
        )
