"""What the page shows, computed from an audit result: templates only lay it out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest

from markupsafe import Markup

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import AuditResult, LayerRecord, ModelRecord, RegionRecord
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.report import charts, charts_pruning, opening, tables, wording
from paoding_verify.report.changes import Changes
from paoding_verify.report.frameworks import ATTACKER, OUTSIDE, Clause, Threat, clauses
from paoding_verify.report.text import percent
from paoding_verify.report.witnesses import WitnessView, witness_views

__all__ = ["Comparison", "LayerRow", "View", "build_view"]

SEMANTICS = ("real", "float32")
"""Arithmetic in which proofs are repeated."""


@dataclass(frozen=True)
class LayerRow:
    """One layer, before and after."""

    original: LayerRecord | None
    pruned: LayerRecord | None


@dataclass(frozen=True)
class Comparison:
    """A figure of both networks."""

    name: str
    values: tuple[str, ...]
    """One per network, in the order of the models."""
    ratio: float | None
    """Pruned / original; None where there is one network, or it divides by zero."""


@dataclass(frozen=True)
class View:
    """Everything the page shows."""

    result: AuditResult
    title: str
    decision: opening.Decision
    explanation: tuple[str, ...]
    pruning: tuple[str, ...]
    """Sentences about the pruning run."""
    counts: dict[str, int]
    eps: tuple[float, ...]
    """Ascending, without duplicates."""
    num_inputs: int
    """Largest number of regions that share one eps."""
    domains: tuple[tuple[float, float] | None, ...]
    """Domains to which balls were cut, without duplicates; None: not cut."""
    num_boxes: int
    """Regions without a single radius."""
    rechecked: tuple[int, int]
    """(re-proved, CERTIFIED)."""
    replayed: tuple[int, int]
    """(replayed, VIOLATED)."""
    arithmetic: tuple[tuple[str, int], ...]
    """(arithmetic, CERTIFIED claims that were proved again in it)."""
    robust: tuple[tables.RobustRow, ...]
    """Certified accuracy of every network, by eps."""
    comparisons: tuple[Comparison, ...]
    layers: tuple[LayerRow, ...]
    metrics: tuple[tables.MetricRow, ...]
    stages: tuple[tables.StageRow, ...]
    """Before pruning, after pruning, after fine-tuning."""
    methods: tuple[tables.MethodRow, ...]
    questions: tuple[tables.PropertyRow, ...]
    """Claims by kind and subject, over all eps and delta."""
    properties: tuple[tables.PropertyRow, ...]
    """Claims by kind, subject, eps and delta."""
    smt: tuple[tables.SmtRow, ...]
    """Declared spot checks."""
    spots: tuple[tables.SpotRow, ...]
    """The same, claim by claim."""
    smt_last: tuple[tables.SmtRow, ...]
    """Claims about which z3 was asked because bounds left them open."""
    pruned_away: str
    """How much pruning removed, in words; empty where there is one network."""
    roles: tuple[str, ...]
    """What the report calls each model."""
    specification: bool
    """Whether every claim is about a VNN-LIB specification."""
    distances: tuple[tables.Quantiles, ...]
    margins: tuple[tables.Quantiles, ...]
    sources: tuple[tuple[str, int], ...]
    """(where regions came from, how many)."""
    flows: tuple[tuple[str, str, int], ...]
    """(outcome of the original, of the pruned network, regions)."""
    open_claims: tuple[Claim, ...]
    """Violated, then error, then unknown."""
    certified: tuple[Claim, ...]
    witnesses: tuple[WitnessView, ...]
    num_witnesses: int
    """Including those not shown."""
    attacker: tuple[Threat, ...]
    outside: tuple[Threat, ...]
    """Threats that no claim is about."""
    clauses: tuple[Clause, ...]
    changes: Changes | None
    """Since an earlier audit; None: there is none to compare with."""
    anchors: tuple[tuple[str, str | int | float], ...]
    """Facts about the anchors of the pruning run."""
    charts: dict[str, Markup]
    """Name -> inline SVG; a chart without data is missing."""


def build_view(result: AuditResult, changes: Changes | None = None) -> View:
    """The view model of a result, and of what changed since an earlier one: equal results give equal views."""
    by_verdict = {v: [c for c in result.claims if c.verdict is v] for v in (*Verdict, None)}
    violated, proved = by_verdict[Verdict.VIOLATED], by_verdict[Verdict.CERTIFIED]
    radii = Counter(region.eps for region in result.regions)
    witnesses = [c for c in violated if c.witness is not None]
    flows, pairs, brackets = tables.flows(result), tables.margin_pairs(result), tables.distance_pairs(result)
    return View(
        result=result,
        title=wording.headline(result),
        decision=opening.decision(result),
        explanation=tuple(opening.explanation(result)),
        pruning=tuple(wording.pruning_words(result.pruning)) if result.pruning else (),
        counts=result.counts,
        eps=tuple(sorted({e for e in radii if e is not None} | {c.eps for c in result.claims if c.eps is not None})),
        num_inputs=max((n for e, n in radii.items() if e is not None), default=0),
        domains=tuple(dict.fromkeys(region.domain for region in result.regions if region.eps is not None)),
        num_boxes=radii[None],
        rechecked=(sum(c.rechecked for c in proved), len(proved)),
        replayed=(sum(c.rechecked for c in violated), len(violated)),
        arithmetic=tuple((name, sum(c.rechecked and name in c.semantics for c in proved)) for name in SEMANTICS),
        robust=tables.robust_rows(result),
        comparisons=_comparisons(result.models),
        layers=_layers(result.models),
        metrics=tables.metric_rows(result),
        stages=tables.stage_rows(result),
        methods=tables.method_rows(result),
        questions=tables.property_rows(result, by_radius=False),
        properties=tables.property_rows(result),
        smt=tables.smt_rows(result, sampled=True),
        spots=tables.spot_rows(result),
        smt_last=tables.smt_rows(result, sampled=False),
        pruned_away=_pruned_away(result.models),
        roles=tuple(wording.subject_name(model.role, result) for model in result.models),
        specification=wording.only_specifications(result),
        distances=tables.quantiles(
            (("found by attack", [a for a, _ in brackets]), ("proved bound", [b for _, b in brackets]))
        ),
        margins=tables.quantiles(
            (
                ("original", [a for a, _ in pairs]),
                ("pruned", [b for _, b in pairs]),
                ("change", [b - a for a, b in pairs]),
            )
        ),
        sources=_sources(result.regions),
        flows=tuple((a, b, n) for (a, b), n in flows.items()),
        open_claims=(*violated, *by_verdict[None], *by_verdict[Verdict.UNKNOWN]),
        certified=tuple(proved),
        witnesses=witness_views(witnesses, result),
        num_witnesses=len(witnesses),
        attacker=ATTACKER,
        outside=OUTSIDE,
        clauses=clauses(result),
        changes=changes,
        anchors=_anchors(result),
        charts=_charts(result, flows, pairs, brackets),
    )


def _charts(
    result: AuditResult,
    flows: dict[tuple[str, str], int],
    pairs: list[tuple[float, float]],
    brackets: list[tuple[float, float]],
) -> dict[str, Markup]:
    drawn = {}
    curves = tables.curves(result)
    if curves:
        single = all(len(curve.eps) == 1 for curve in curves)
        drawn["accuracy"] = charts.accuracy_bars(curves) if single else charts.accuracy_curve(curves)
    if flows:
        drawn["flow"] = charts.flow(flows)
    if len(pairs) > 1:
        drawn["margins"] = charts.margins(pairs)
    if brackets:
        drawn["distance"] = charts.brackets(brackets)
    if result.pruning and result.pruning.steps:
        drawn["trace"] = charts_pruning.trace(result.pruning.steps)
    if result.pruning and len(result.pruning.candidates) > 1:
        drawn["candidates"] = charts_pruning.candidates(
            [(c.name, c.signal, c.chosen) for c in result.pruning.candidates]
        )
    return drawn


def _comparisons(models: tuple[ModelRecord, ...]) -> tuple[Comparison, ...]:
    figures = (
        ("parameters", [m.num_parameters for m in models]),
        ("parameters without weights at zero", [m.num_parameters - m.num_zero_weights for m in models]),
        ("multiply-accumulate operations", [m.num_macs for m in models]),
        ("floating-point operations (two for each of these)", [2 * m.num_macs for m in models]),
        ("units (activation layers)", [sum(m.num_units) for m in models]),
        ("size of the ONNX file (bytes)", [m.size_bytes for m in models]),
    )
    return tuple(
        Comparison(
            name, tuple(f"{v:,}" for v in values), values[1] / values[0] if len(values) == 2 and values[0] else None
        )
        for name, values in figures
    )


def _pruned_away(models: tuple[ModelRecord, ...]) -> str:
    """What left the network: units or, if none did, weights that are zero now."""
    if len(models) != 2:
        return ""
    original, pruned = models
    before, after = sum(original.num_units), sum(pruned.num_units)
    if before == after and pruned.num_zero_weights > original.num_zero_weights and pruned.num_parameters:
        zero = percent(pruned.num_zero_weights / pruned.num_parameters)
        return f"{zero} of parameters are weights at zero; units: {before:,} and {after:,}"
    if not 0 <= after < before:
        return f"units: {before:,} and {after:,}"
    return f"{percent((before - after) / before)} of units removed: {before:,} → {after:,}"


def _layers(models: tuple[ModelRecord, ...]) -> tuple[LayerRow, ...]:
    by_role = {m.role: m.layers for m in models}
    return tuple(LayerRow(a, b) for a, b in zip_longest(by_role.get("original", ()), by_role.get("pruned", ())))


def _anchors(result: AuditResult) -> tuple[tuple[str, str | int | float], ...]:
    facts = result.pruning.anchors.items() if result.pruning else ()
    return tuple((wording.ANCHOR_NAMES.get(name, name), value) for name, value in facts)


def _sources(regions: tuple[RegionRecord, ...]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(r.source.split("[", 1)[0] or "not stated" for r in regions).most_common(12))
