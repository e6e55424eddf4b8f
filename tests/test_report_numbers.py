"""Every number that a report shows is found in its audit.json: stated there, or counted from its records."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from paoding_verify.evidence.boxes import unpack_box
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.statistics import clopper_pearson
from paoding_verify.report.html import render_html
from paoding_verify.report.render import audit_json
from paoding_verify.report.text import number, percent
from tests.audits import every_example

EXAMPLES = {name: result for name, result in every_example().items() if name != "hostile"}
NUMBER = re.compile(r"(?<![\w.#/-])[−-]?\d[\d,]*(?:\.\d+)?(?:e[−-]?\d+)?")  # noqa: RUF001 - as the page writes it
FIXED = re.compile(
    r"NIST AI 100-2 \(E2025\)|NIST AI 100-2|AML\.T\d+(\.\d+)?|\.00[12]|ISO/IEC( TR)? 24029-\d:\d+|Art\. \d+|15\(\d\)"
    r"|\(\d\)|Annex IV, 2|NIST AI RMF 1\.0|MEASURE 2\.\d|SHA-256|IEEE 754|int8|float(32|64)|TF32|Top-1|top-1|z3"
    r"|95 %|below 1 |up to 5 |[0-9a-f]{64}"
)
"""Numbers that belong to the wording: names of standards, and constants of definitions."""


class Text(HTMLParser):
    """What a reader sees: no style; of drawings their descriptions and the figures at their marks, but no axes."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.hidden, self.drawn, self.words = 0, 0, [""]
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("style", "svg")
        self.drawn += tag == "desc" or (tag == "text" and ("class", "small") in attrs)
        self.words.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("style", "svg")
        self.drawn = 0

    def handle_data(self, data: str) -> None:
        if self.drawn or not self.hidden:
            self.words.append(data)


def leaves(value: Any) -> Iterator[Any]:
    """Every number, every text and the length of every list in a JSON value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list):
        yield len(value)
        for item in value:
            yield from leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield value


def shown(values: Iterable[float]) -> set[str]:
    """How a report may write these numbers."""
    found = set()
    for value in values:
        found |= {number(value), percent(value).split(" ")[-2], f"{value:g}", f"{value:,}", f"{value:.2f}", str(value)}
    return found


def groups(plain: dict[str, Any]) -> Iterator[int]:
    """How many claims and regions share what a table may group them by."""
    claims = plain["claims"]
    keys = ("kind", "subject", "eps", "delta", "verdict", "method", "rechecked", "smt", "smt_scale", "smt_sampled")
    for wanted in (
        ("verdict",), ("rechecked", "verdict"), ("method", "verdict"), ("kind", "subject", "verdict"),
        ("kind", "subject", "eps", "delta", "verdict"), ("kind", "smt", "smt_scale", "smt_sampled"),
    ):  # fmt: skip
        yield from Counter(tuple(c[k] for k in keys if k in wanted) for c in claims).values()
    yield from Counter(r["eps"] for r in plain["regions"]).values()
    yield from Counter(r["source"].split("[")[0] for r in plain["regions"]).values()
    yield sum(c["witness"] is not None for c in claims)
    yield sum(c["verdict"] != "CERTIFIED" for c in claims)
    yield 0
    yield from Counter(pair for pair in moves(plain)).values()


def pairs(plain: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    pruned = {c["region"]: c for c in plain["claims"] if (c["subject"], c["kind"]) == ("pruned", "top1_robust")}
    return [(c, pruned[c["region"]]) for c in plain["claims"] if c["subject"] == "original" and c["region"] in pruned]


def moves(plain: dict[str, Any]) -> list[tuple[str, str]]:
    return [(before["verdict"], after["verdict"]) for before, after in pairs(plain)]


def derived(plain: dict[str, Any]) -> Iterator[float]:
    """Ratios, intervals and quantiles: of figures that stand in audit.json."""
    yield from groups(plain)
    for metric in plain["metrics"]:
        yield metric["empirical_robust_accuracy"] - metric["certified_accuracy"]
        for name in ("natural_accuracy", "empirical_robust_accuracy", "certified_accuracy"):
            yield from clopper_pearson(round(metric[name] * metric["num_regions"]), metric["num_regions"])
    yield from (2 * m["num_macs"] for m in plain["models"])  # floating-point operations
    sizes = [
        (m["num_parameters"], m["num_macs"], sum(m["num_units"]), m["size_bytes"], *m["num_units"])
        for m in plain["models"]
    ]
    yield from (value for size in sizes for value in size)
    if len(sizes) == 2:
        yield from (after / before for before, after in zip(*sizes, strict=True))
        yield 1 - sizes[1][2] / sizes[0][2]
    bounds = [(a["bound"], b["bound"]) for a, b in pairs(plain) if None not in (a["bound"], b["bound"])]
    brackets = [
        (c["attack"], c["bound"])
        for c in plain["claims"]
        if c["kind"] == "output_distance" and None not in (c["attack"], c["bound"])
    ]
    change = [(after - before,) for before, after in bounds]
    for series in (bounds, brackets, change):
        yield len(series)
        for column in zip(*series, strict=True):
            yield from np.quantile(column, (0, 0.25, 0.5, 0.75, 1)).tolist()
    trace = plain["pruning"] or {"steps": [], "candidates": []}
    yield from (len(step[name]) for step in trace["steps"] for name in ("accepted", "rejected"))
    models = plain["models"]
    yield from range(1, 1 + max((len(m["layers"]) for m in models), default=0))  # numbers of layers
    yield from range(max((m["num_outputs"] for m in models), default=0))  # numbers of classes


def at_witnesses(result: AuditResult) -> Iterator[float]:
    """Centres of regions that a witness lies in, and how far it is from them: both stand in audit.json."""
    regions = {record.id: record for record in result.regions}
    for claim in result.claims:
        if claim.witness is None:
            continue
        record = regions[claim.region]
        box = unpack_box(
            record.box, result.models[0].input_shape, eps=record.eps, domain=record.domain, sha256=record.sha256
        )
        centre = box.centre.ravel().astype(np.float64)
        change = np.asarray(claim.witness.input) - centre
        yield float(np.abs(change).max())
        if len(centre) < 30:  # else it is shown as a picture
            yield from (*centre.tolist(), *change.tolist())


def strangers(page: str, result: AuditResult) -> list[str]:
    """Numbers of a page that its audit.json does not account for."""
    plain = json.loads(audit_json(result))
    values = list(leaves(plain))
    known = shown(v for v in values if not isinstance(v, str)) | shown(derived(plain)) | shown(at_witnesses(result))
    known |= {word for v in values if isinstance(v, str) for word in NUMBER.findall(v)}
    seen = NUMBER.findall(FIXED.sub(" ", texts(plain, "".join(Text(page).words))))
    assert len(seen) > 100
    return sorted({word for word in seen if word.rstrip(",") not in known})


def texts(plain: dict[str, Any], page: str) -> str:
    """The page without the texts that it takes over whole."""
    for text in sorted({v for v in leaves(plain) if isinstance(v, str) and len(v) > 8}, key=len, reverse=True):
        page = page.replace(text, " ")
    return page


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_number_of_the_page_is_found_in_audit_json(name: str):
    assert strangers(render_html(EXAMPLES[name]), EXAMPLES[name]) == []


@pytest.mark.parametrize("place", ["</desc>", "</figcaption>", "</p>", "</tbody>", "</caption>"])
def test_a_number_from_nowhere_is_found(place: str):
    page = render_html(EXAMPLES["pass"])
    assert strangers(page.replace(place, f" 87.65{place}", 1), EXAMPLES["pass"]) == ["87.65"]


def test_a_figure_that_differs_from_audit_json_is_found():
    result = EXAMPLES["pass"]
    claims = tuple(replace(c, bound=None if c.bound is None else c.bound * 1.0371) for c in result.claims)
    assert len(strangers(render_html(replace(result, claims=claims)), result)) > 10
