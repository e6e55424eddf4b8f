"""Witnesses as the page shows them: pictures where the input is one, tables of features elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from paoding_verify.errors import DataError
from paoding_verify.evidence.boxes import unpack_box
from paoding_verify.evidence.claim import Claim, Witness
from paoding_verify.evidence.result import AuditResult, RegionRecord
from paoding_verify.report.charts_witness import outputs
from paoding_verify.report.pictures import as_pixels, difference_pixels, png

__all__ = ["MAX_WITNESSES", "Feature", "Picture", "WitnessView", "witness_views"]

MAX_WITNESSES = 8
"""Witnesses shown one by one; the others stand in audit.json."""
MAX_FEATURES = 24
"""Features and outputs listed for one witness."""
_FIRST = ("pruned", "pair", "original")
MAX_PICTURE_CHARACTERS = 40_000
"""Once pictures take that much of the page, no further witness is shown."""


@dataclass(frozen=True)
class Picture:
    """One picture of a witness."""

    name: str
    uri: str
    """Data URI."""
    width: int
    height: int


@dataclass(frozen=True)
class Feature:
    """One value of a witness."""

    index: int
    original: float | None
    """At the centre of the region; None where the result does not hold it."""
    value: float


@dataclass(frozen=True)
class WitnessView:
    """A witness, ready to be laid out."""

    claim: Claim
    pictures: tuple[Picture, ...]
    """Original, witness and difference, as far as they are known; none where the input is no picture."""
    features: tuple[Feature, ...]
    """Those that changed most, for inputs that are no picture."""
    num_features: int
    largest_change: float | None
    """Of any value (input units); None where the original is not known."""
    outputs: tuple[tuple[int, float | None, float | None], ...]
    """(class, original, pruned)."""
    top_original: int | None
    top_pruned: int | None
    chart: Markup
    """The outputs as bars; empty where there are none."""


def witness_views(claims: Iterable[Claim], result: AuditResult) -> tuple[WitnessView, ...]:
    """Witnesses of every subject in turn, those against the pruned network first, as many as there is room for."""
    regions = {record.id: record for record in result.regions}
    shown: list[WitnessView] = []
    taken = 0
    for claim in _in_turn(claims):
        if claim.witness is None or len(shown) == MAX_WITNESSES or taken > MAX_PICTURE_CHARACTERS:
            continue
        shape = result.models[0].input_shape if result.models else (len(claim.witness.input),)
        view = _view(claim, claim.witness, shape, _centre(regions.get(claim.region), shape))
        view = replace(view, chart=_chart(view, f"outputs-{len(shown) + 1}"))
        taken += sum(len(picture.uri) for picture in view.pictures)
        shown.append(view)
    return tuple(shown)


def _in_turn(claims: Iterable[Claim]) -> list[Claim]:
    groups: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.subject, claim.kind), []).append(claim)
    ordered = sorted(groups.items(), key=lambda item: _FIRST.index(item[0][0]) if item[0][0] in _FIRST else len(_FIRST))
    rounds = zip_longest(*(found for _, found in ordered))
    return [claim for one in rounds for claim in one if claim is not None]


def _centre(record: RegionRecord | None, shape: tuple[int, ...]) -> npt.NDArray[np.float64] | None:
    """The centre of a region; None where the result does not hold it, or holds a box of another digest."""
    if record is None or not record.box:
        return None
    try:
        box = unpack_box(record.box, shape, eps=record.eps, domain=record.domain, sha256=record.sha256)
    except DataError:  # `check` says so; the page then shows the witness alone
        return None
    return box.centre.ravel().astype(np.float64)


def _view(
    claim: Claim, witness: Witness, shape: tuple[int, ...], centre: npt.NDArray[np.float64] | None
) -> WitnessView:
    point = np.asarray(witness.input, dtype=np.float64)
    if centre is not None and centre.shape != point.shape:
        centre = None
    pictures = _pictures(point, shape, centre)
    original, pruned = witness.outputs_original or (), witness.outputs_pruned or ()
    return WitnessView(
        claim=claim,
        pictures=pictures,
        features=() if pictures else _features(point, centre),
        num_features=len(point),
        largest_change=None if centre is None else float(np.abs(point - centre).max(initial=0.0)),
        outputs=tuple((k, a, b) for k, (a, b) in enumerate(zip_longest(original, pruned)))[:MAX_FEATURES],
        top_original=_top(original),
        top_pruned=_top(pruned),
        chart=Markup(""),
    )


def _chart(view: WitnessView, name: str) -> Markup:
    answers = [
        f"{who} answers {top}"
        for who, top in (("original", view.top_original), ("pruned", view.top_pruned))
        if top is not None
    ]
    return outputs(name, view.outputs, "; ".join(answers)) if answers else Markup("")


def _top(outputs: Sequence[float]) -> int | None:
    return outputs.index(max(outputs)) if outputs else None


def _pictures(
    point: npt.NDArray[np.float64], shape: tuple[int, ...], centre: npt.NDArray[np.float64] | None
) -> tuple[Picture, ...]:
    known = [("original", centre)] if centre is not None else []
    values = [value for _, value in known] + [point]
    limits = min(float(v.min(initial=0.0)) for v in values), max(float(v.max(initial=1.0)) for v in values)
    drawn = [(name, as_pixels(v, shape, limits)) for name, v in [*known, ("perturbed", point)]]
    if centre is not None and not np.array_equal(centre, point):
        drawn.append(("difference", difference_pixels(point - centre, shape)))
    return tuple(Picture(name, png(p), p.shape[1], p.shape[0]) for name, p in drawn if p is not None)


def _features(point: npt.NDArray[np.float64], centre: npt.NDArray[np.float64] | None) -> tuple[Feature, ...]:
    order = np.arange(len(point)) if centre is None else np.argsort(-np.abs(point - centre), kind="stable")
    kept = sorted(int(k) for k in order[:MAX_FEATURES])
    return tuple(Feature(k, None if centre is None else float(centre[k]), float(point[k])) for k in kept)
