"""Every claim of a result as a VNN-LIB specification, so that other verifiers can be asked the same questions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import DataError, InputError
from paoding_verify.evidence.boxes import Box, unpack_box
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.property import Property, PropertyRecord, decides_like, distance_at_most, predicts
from paoding_verify.evidence.result import AuditResult, RegionRecord
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.report.claims_csv import cell
from paoding_verify.report.text import visible
from paoding_verify.report.wording import KIND_NAMES

__all__ = ["RESULTS", "render_specs"]

RESULTS = "results.csv"
"""Name of the table that says which file asks what, and what the answer was."""
ANSWERS: Mapping[Verdict | None, str] = {Verdict.CERTIFIED: "unsat", Verdict.VIOLATED: "sat"}


def render_specs(
    result: AuditResult, properties: Mapping[str, PropertyRecord] | None = None
) -> Iterator[tuple[str, str]]:
    """(file name, text): one specification for every claim that asks a question, and `results.csv` with all answers.

    A specification describes the unsafe set: unsat where the claim is CERTIFIED, sat where it is VIOLATED. Numbers are
    exact. For a pair the outputs are the original's, then the pruned network's, for one input. Brackets of the output
    distance ask nothing, and `properties` (a bundle's properties.json) has to say what claims of kind vnnlib ask: those
    without a property stand in the table alone.
    Raises: DataError if a box is missing or does not have its digest.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(("claim", "onnx", "vnnlib", "answer", "verdict", "eps", "bound", "attack"))
    records = {record.id: record for record in result.regions}
    for number, claim in enumerate(result.claims):
        prop, name = _property(claim, result, properties or {}), f"claim{number:05d}.vnnlib"
        if prop is not None:
            yield name, _specification(claim, prop, _box(claim, records.get(claim.region), result))
        models = [f"models/{m.role}.onnx" for m in result.models if claim.subject in (m.role, "pair")]
        row = (
            claim.id, " ".join(models), name if prop is not None else "", ANSWERS.get(claim.verdict, "unknown"),
            claim.verdict.value if claim.verdict else "ERROR", claim.eps, claim.bound, claim.attack,
        )  # fmt: skip
        writer.writerow([cell(value) for value in row])
    yield RESULTS, out.getvalue()


def _property(claim: Claim, result: AuditResult, properties: Mapping[str, PropertyRecord]) -> Property | None:
    """What the claim asks; None for a question that this result does not hold."""
    if not result.models:
        return None
    outputs = result.models[0].num_outputs
    try:
        if claim.id in properties:
            return properties[claim.id].property()
        if claim.kind == "top1_robust" and claim.label is not None:
            return predicts(claim.label, outputs)
        if claim.kind == "top1_equivalent":
            return decides_like(outputs)
        if claim.kind == "output_distance" and claim.delta is not None:
            return distance_at_most(claim.delta, outputs)
    except InputError as error:
        raise DataError(f"claim {claim.id[:80]} asks nothing that the network could answer: {error}") from error
    return None


def _box(claim: Claim, record: RegionRecord | None, result: AuditResult) -> Box:
    if record is None or not record.box:
        raise DataError(f"claim {claim.id[:80]}: audit.json does not hold the box of its region")
    shape = result.models[0].input_shape
    return unpack_box(record.box, shape, eps=record.eps, domain=record.domain, sha256=record.sha256)


def _specification(claim: Claim, prop: Property, box: Box) -> str:
    verdict = claim.verdict.value if claim.verdict else "ERROR"
    about = (
        f"claim: {claim.id}", f"asks: {KIND_NAMES.get(claim.kind, claim.kind)} of {claim.subject}",
        f"found: {verdict}, {ANSWERS.get(claim.verdict, 'unknown')}" + (f" ({claim.reason})" if claim.reason else ""),
    )  # fmt: skip
    lines = [f"; {visible(text)}" for text in about]
    lower, upper = box.lower.ravel(), box.upper.ravel()
    lines += [f"(declare-const X_{k} Real)" for k in range(lower.size)]
    lines += [f"(declare-const Y_{k} Real)" for k in range(prop.rows.shape[1])]
    for k, (low, high) in enumerate(zip(lower, upper, strict=True)):
        lines += [f"(assert (>= X_{k} {_exact(low)}))", f"(assert (<= X_{k} {_exact(high)}))"]
    cases = [[_failing(prop.rows[r], prop.offsets[r], r in prop.weak) for r in clause] for clause in prop.clauses]
    if len(cases) == 1:
        lines += [f"(assert {condition})" for condition in cases[0]]
    else:
        lines += ["(assert (or", *(f"  (and {' '.join(case)})" for case in cases), "))"]
    return "\n".join(lines) + "\n"


def _failing(row: npt.NDArray[np.float64], offset: float, weak: bool) -> str:
    """row . y + offset <= 0, of a weak row < 0."""
    used, less = np.flatnonzero(row), "<" if weak else "<="
    if offset == 0 and sorted(row[used]) == [-1.0, 1.0]:
        return f"({less} Y_{np.argmax(row)} Y_{np.argmin(row)})"
    terms = [f"(* {_exact(row[k])} Y_{k})" for k in used] or ["(* 0 Y_0)"]
    left = terms[0] if len(terms) == 1 else f"(+ {' '.join(terms)})"
    return f"({less} {left} {_exact(-offset)})"


def _exact(value: float) -> str:
    """All decimals of a float64, without an exponent."""
    return f"{Decimal(float(value) + 0.0):f}"
