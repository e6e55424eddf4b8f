"""Exact decisions on small regions: z3's answers, and its candidates tried in exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from time import monotonic

import numpy as np

from paoding_verify.equivalence.encoding import Bounds, encode
from paoding_verify.equivalence.exact_point import exact_margin
from paoding_verify.equivalence.isolated import SolverProcess
from paoding_verify.equivalence.question import Question, question_of
from paoding_verify.errors import SoundnessError, UnsupportedOpError
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Array, Network
from paoding_verify.regions import Region

__all__ = ["MAX_UNSTABLE", "SmtAnswer", "decide_encoded", "encodable", "refuse_witness", "smt_decide", "spot_check"]

MAX_UNSTABLE = 60
"""Regions with more unstable ReLUs are not asked: z3 would not answer in seconds."""
_FORM_SIZE = 2**25
"""Numbers that the forms of one value may hold; larger networks are not asked."""
_SHARE = 0.25
"""Part of the time left that z3 may take for one copy of a region."""
_LEAST_S = 0.05
"""z3 is not asked to answer faster."""
_SCALES = tuple(0.5**k for k in range(12))


@dataclass(frozen=True, eq=False)
class SmtAnswer:
    """What exact arithmetic says about a property on a region."""

    status: str
    """confirmed: holds at every real point. refuted: fails, in exact arithmetic, at `point`. undecided: no answer
    within the limits, an operation without exact encoding, or a candidate that exact evaluation does not bear out."""
    point: Array | None
    """(*input_shape) float64 point of the region where the property fails; set exactly if refuted."""
    scale: float
    """Factor by which the region had been shrunk around its centre."""
    num_unstable: int
    """Unstable ReLUs of the question; 0 if it could not be encoded."""
    reason: str = ""
    """What stopped z3, if anything did."""


def smt_decide(
    networks: Sequence[Network],
    region: Region,
    prop: Property,
    *,
    timeout_s: float,
    bounds: Sequence[Bounds] | None = None,
    solver: SolverProcess | None = None,
) -> SmtAnswer:
    """Decides the property on the region in real arithmetic, or says that it did not.

    bounds: sound pre-activation bounds of every network, which make more ReLUs stable; they are believed.
    solver: the process in which z3 runs; None: one of its own.
    """
    if not encodable(networks, region):
        return SmtAnswer("undecided", None, 1.0, 0)
    try:
        encoding = encode(networks, region, bounds)
    except UnsupportedOpError:
        return SmtAnswer("undecided", None, 1.0, 0)
    lower, _ = encoding.rows(prop).interval(encoding.variables)
    clauses = [clause for clause in prop.clauses if not (lower[list(clause)] > 0).any()]
    if not clauses:
        return SmtAnswer("confirmed", None, 1.0, len(encoding.units))
    if len(encoding.units) > MAX_UNSTABLE or timeout_s < _LEAST_S:
        return SmtAnswer("undecided", None, 1.0, len(encoding.units))
    question = question_of(encoding, region, encoding.rows(prop), clauses)
    if solver is not None:
        return decide_encoded(networks, region, prop, question, solver, timeout_s)
    with SolverProcess() as own:
        return decide_encoded(networks, region, prop, question, own, timeout_s)


def encodable(networks: Sequence[Network], region: Region) -> bool:
    """Whether the forms of all values are small enough to be made."""
    return all(prod(s) * region.lower.size <= _FORM_SIZE for network in networks for s in network.shapes[1:])


def decide_encoded(
    networks: Sequence[Network],
    region: Region,
    prop: Property,
    question: Question,
    solver: SolverProcess,
    timeout_s: float,
) -> SmtAnswer:
    """What z3 says of the question's clauses, every candidate tried in exact arithmetic."""
    deadline, certain, left, reason = monotonic() + timeout_s, True, question, ""
    while left.clauses:
        answers = solver.ask("smt", left, max(0.0, deadline - monotonic()))
        for answer in answers:
            certain = certain and answer.status == "none"
            reason = reason or answer.reason
            for flat in answer.points:
                point = np.array(flat).reshape(region.lower.shape)
                if exact_margin(networks, prop, point) <= 0:
                    return SmtAnswer("refuted", point, 1.0, len(question.units))
        left = replace(left, clauses=left.clauses[len(answers) :])
    status = "confirmed" if certain else "undecided"
    return SmtAnswer(status, None, 1.0, len(question.units), reason)


def spot_check(
    networks: Sequence[Network],
    region: Region,
    prop: Property,
    verdict: Verdict | None,
    *,
    timeout_s: float,
    solver: SolverProcess | None = None,
) -> SmtAnswer:
    """Decides the property on the largest of a few shrunken copies of the region that z3 can decide.

    The copies have 1, 1/2, 1/4, ... of the region's size, around the same centre; each may take its share of the time
    that is left, and none too little to leave smaller ones untried: those that intervals decide need none. Independent
    of the checker: stable ReLUs are found by interval arithmetic of its own.
    Raises: SoundnessError if exact arithmetic refutes a CERTIFIED claim.
    """
    deadline = monotonic() + timeout_s
    answer = SmtAnswer("undecided", None, _SCALES[-1], 0)
    for scale in _SCALES:
        limit_s = _SHARE * max(0.0, deadline - monotonic())
        found = smt_decide(networks, _shrunk(region, scale), prop, timeout_s=limit_s, solver=solver)
        answer = replace(found, scale=scale)
        if answer.status != "undecided":
            break
    if answer.status == "refuted" and verdict is Verdict.CERTIFIED:
        raise SoundnessError(
            f"region {region.id}: the claim was certified, but exact arithmetic refutes it at a point of the region; "
            "one of the engines is wrong"
        )
    return answer


def refuse_witness(
    networks: Sequence[Network], region: Region, prop: Property, answer: SmtAnswer, witness: Array
) -> None:  # fmt: skip
    """Holds z3's answer against a float32 point that breaks the property. Shape: witness (*input_shape).

    Raises: SoundnessError if z3 confirms the property on a copy of the region that holds the point, where the property
    fails in exact arithmetic too; a point that breaks float32 programs alone contradicts nothing.
    """
    held = _shrunk(region, answer.scale)
    inside = bool((held.lower <= witness).all() and (witness <= held.upper).all())
    if answer.status == "confirmed" and inside and exact_margin(networks, prop, witness) <= 0:
        raise SoundnessError(
            f"region {region.id}: z3 confirms the claim, but exact arithmetic bears out the witness against it; "
            "one of the engines is wrong"
        )


def _shrunk(region: Region, scale: float) -> Region:
    """The region scaled around its centre, never beyond its own ends."""
    if scale == 1.0:
        return region
    centre = np.clip(region.centre.astype(np.float64), region.lower, region.upper)
    lower = np.maximum(centre + (region.lower - centre) * scale, region.lower)
    upper = np.minimum(centre + (region.upper - centre) * scale, region.upper)
    return replace(region, lower=lower, upper=upper, eps=None)
