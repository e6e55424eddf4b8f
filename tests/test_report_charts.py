"""Charts, pictures and the numbers behind them."""

from __future__ import annotations

import re
import struct
import zlib
from base64 import b64decode
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from markupsafe import Markup
from scipy.stats import binom

from paoding_verify.evidence.pruning import PruneStep
from paoding_verify.evidence.statistics import clopper_pearson
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.report import charts, charts_pruning, svg
from paoding_verify.report.charts import Curve
from paoding_verify.report.charts_witness import outputs
from paoding_verify.report.pictures import as_pixels, difference_pixels, png
from paoding_verify.report.tables import (
    distance_pairs,
    flows,
    margin_pairs,
    metric_rows,
    quantiles,
    smt_rows,
    spot_rows,
)
from paoding_verify.report.text import count, number, percent, shape, visible
from paoding_verify.report.view import build_view
from tests.audits import audit_example, certify_example, compare_example, trace

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parse(drawing: Markup) -> ET.Element:
    return ET.fromstring(str(drawing))  # noqa: S314 - drawn by us


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (47, 50), (1, 1)])
def test_clopper_pearson_inverts_the_binomial_tails(successes: int, trials: int):
    low, high = clopper_pearson(successes, trials)
    assert low <= successes / trials <= high
    if successes:
        assert binom.sf(successes - 1, trials, low) == pytest.approx(0.025)
    if successes < trials:
        assert binom.cdf(successes, trials, high) == pytest.approx(0.025)


def test_clopper_pearson_knows_nothing_without_trials():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (0.003, 0.0041), (3, 44), (1e6, 3e6)])
def test_ticks_are_few_and_inside(low: float, high: float):
    found = svg.ticks(low, high)
    assert 2 <= len(found) <= 9
    assert all(low <= t <= high for t in found)
    assert found == sorted(found)


def test_ticks_of_a_single_value():
    assert svg.ticks(2.0, 2.0) == [2.0]


def test_coordinates_are_short():
    assert [svg.coordinate(v) for v in (1.0, 1.25001, -0.01, 100.04)] == ["1", "1.3", "0", "100"]


def test_text_in_a_drawing_is_escaped():
    drawing = parse(svg.figure("x", "<a>&\u202e", '"><script>', 10, [svg.text(0, 0, "</text><script>")]))
    assert drawing.find(".//script") is None
    assert drawing[0].text == "<a>&<U+202E>"
    assert drawing[2].text == "</text><script>"


ONE = Curve("original", (0.01,), (0.9,), (0.95,))
MANY = [Curve("original", (0.01, 0.02), (0.9, 0.5), (0.95, 0.8)), Curve("pruned", (0.01, 0.02), (0.8, 0.2), (0.9, 0.7))]
DRAWINGS = {
    "bars": charts.accuracy_bars([ONE]),
    "curve": charts.accuracy_curve(MANY),
    "flow": charts.flow({("certified", "certified"): 3, ("certified", "violated"): 1, ("error", "unknown"): 1}),
    "margins": charts.margins([(1.0, 0.5), (2.0, 2.5)]),
    "equal margins": charts.margins([(0.0, 0.0), (0.0, 0.0)]),
    "brackets": charts.brackets([(0.5, 0.7)]),
    "zero brackets": charts.brackets([(0.0, 0.0)]),
    "trace": charts_pruning.trace(trace().steps),
    "candidates": charts_pruning.candidates([("paoding", 0.9, True), ("l1", -0.2, False), ("x" * 60, 1.5, False)]),
    "no drop": charts_pruning.candidates([("a", 0.0, True), ("b", 0.0, False)]),
    "one step": charts_pruning.trace((PruneStep(1, (), (), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),)),
    "many steps": charts_pruning.trace(trace(32).steps * 4),
    "outputs": outputs("outputs-1", [(k, k - 2.5, 2.0 - k) for k in range(10)], "original answers 9; pruned answers 0"),
    "outputs of one": outputs("outputs-1", [(k, None, -1.0 - k) for k in range(24)], "pruned answers 0"),
    "no outputs to tell apart": outputs("outputs-1", [(0, 0.0, 0.0)], "both answer 0"),
}


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_every_chart_is_well_formed_titled_and_inside_its_frame(name: str):
    drawing = parse(DRAWINGS[name])
    width, height = map(float, drawing.attrib["viewBox"].split()[2:])
    assert drawing.attrib["role"] == "img"
    assert drawing[0].tag == "title"
    assert drawing[0].text
    assert drawing[1].tag == "desc"
    assert drawing[1].text
    for element in drawing.iter("rect"):
        x, y, w, h = (float(element.attrib[k]) for k in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width + 0.1
        assert y + h <= height + 0.1
    assert "nan" not in str(DRAWINGS[name])


def test_the_trace_shows_both_accuracies():
    drawing = str(DRAWINGS["trace"])
    assert "accuracy (%): natural solid, certified dashed" in drawing
    assert "natural accuracy at the anchors 94.5 %, certified 78.1 %" in drawing
    assert drawing.count("line dashed pruned") == 1


def test_outputs_are_drawn_to_scale_from_zero():
    drawing = parse(DRAWINGS["outputs"])
    original, pruned = (e.attrib["d"] for e in drawing.iter("path") if e.attrib["class"].startswith("bar "))
    for bars, values in ((original, [k - 2.5 for k in range(10)]), (pruned, [2.0 - k for k in range(10)])):
        ends = [tuple(map(float, bar)) for bar in re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", bars)]
        heights = [zero - end for zero, end in ends]
        np.testing.assert_allclose(heights, np.array(values) * heights[0] / values[0], atol=0.2)
    assert [e.attrib["class"] for e in parse(DRAWINGS["outputs of one"]).iter("path")] == ["bar pruned", "axis"]


def test_the_bars_add_up_to_the_whole():
    widths = [float(r.attrib["width"]) for r in parse(DRAWINGS["bars"]).iter("rect")]
    assert widths[0] / sum(widths) == pytest.approx(0.9, abs=0.005)
    assert widths[1] / sum(widths) == pytest.approx(0.05, abs=0.005)


def test_a_flow_names_every_move():
    assert "certified to violated: 1" in str(DRAWINGS["flow"])
    assert len([e for e in parse(DRAWINGS["flow"]).iter("path") if "ribbon" in e.attrib["class"]]) == 3


@pytest.mark.parametrize(
    ("input_shape", "pixels"),
    [
        ((1, 8, 8), (8, 8)), ((8, 8), (8, 8)), ((64,), (8, 8)), ((1, 64, 1), (8, 8)), ((3, 8, 8), (8, 8, 3)),
        ((1, 1, 1, 5), None),
        ((65,), None), ((2, 8, 8), None), ((4,), None), ((), None),
    ],
)  # fmt: skip
def test_which_inputs_are_pictures(input_shape: tuple[int, ...], pixels: tuple[int, ...] | None):
    values = tuple(float(v) for v in np.linspace(0, 1, int(np.prod(input_shape))))
    found = as_pixels(values, input_shape)
    assert (found is None) == (pixels is None)
    if found is not None:
        assert found.shape == pixels
        assert (found.min(), found.max()) == (0, 255)


def test_a_picture_of_another_length_or_range():
    assert as_pixels((0.5,) * 63, (8, 8)) is None
    stretched = as_pixels(tuple(np.linspace(-3, 5, 64)), (8, 8), (-3, 5))
    cut = as_pixels(tuple(np.linspace(-3, 5, 64)), (8, 8))
    assert stretched is not None
    assert cut is not None
    assert (stretched.min(), stretched.max()) == (cut.min(), cut.max()) == (0, 255)
    assert (stretched == 0).sum() < (cut == 0).sum()
    flat = as_pixels((7.0,) * 64, (8, 8), (7.0, 7.0))
    assert flat is not None
    assert not flat.any()


def test_a_difference_is_grey_where_nothing_changed():
    change = np.zeros((8, 8))
    change[0, 0], change[7, 7] = -0.02, 0.01
    pixels = difference_pixels(change, (1, 8, 8))
    assert pixels is not None
    assert [int(pixels[k, k]) for k in (0, 3, 7)] == [0, 128, 191]
    same = difference_pixels(np.zeros(64), (8, 8))
    assert same is not None
    assert (same == 128).all()


def test_png_of_more_than_one_block_is_read_back():
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    data = b64decode(png(pixels).removeprefix("data:image/png;base64,"))
    start = data.index(b"IDAT") + 4
    rows = np.frombuffer(zlib.decompressobj().decompress(data[start:]), np.uint8).reshape(256, -1)
    assert (rows[:, 1:].reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize("size", [(6, 7), (6, 7, 3)])
def test_png_holds_the_pixels(size: tuple[int, ...]):
    pixels = np.arange(np.prod(size), dtype=np.uint8).reshape(size)
    data = b64decode(png(pixels).removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (7, 6)
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(6, -1)
    assert (rows[:, 1:].reshape(size) == pixels).all()
    assert not rows[:, 0].any()


def test_numbers_in_words():
    assert number(None) == "\N{EN DASH}"
    assert number(-0.12345) == "\N{MINUS SIGN}0.1235"
    shown = [percent(v) for v in (0.0, 1.0, 0.5, 0.99999, 0.00001)]
    assert shown == ["0.0 %", "100.0 %", "50.0 %", "> 99.9 %", "< 0.1 %"]
    assert [count(1, "claim"), count(2000, "claim"), count(2, "box", "boxes")] == ["1 claim", "2,000 claims", "2 boxes"]
    assert shape(()) == "scalar"
    assert visible("a\u202eb\n") == "a<U+202E>b<U+000A>"
    assert visible("Zürich 模型") == "Zürich 模型"


def test_the_view_counts_what_the_result_holds():
    result = audit_example()
    view = build_view(result)
    assert view.num_inputs == 50
    assert view.eps == (0.01, 0.02, 0.03)
    assert sum(flows(result).values()) == 150
    assert sum(sum(row.counts.values()) for row in view.properties) == len(result.claims)
    assert sum(sum(row.counts.values()) for row in view.methods) == len(result.claims)
    assert len(view.open_claims) + len(view.certified) == len(result.claims)
    assert set(view.charts) == {"accuracy", "flow", "margins", "distance", "trace", "candidates"}
    assert len(margin_pairs(result)) + sum(n for (_, b), n in flows(result).items() if b == "violated") == 150
    assert all(found <= proved for found, proved in distance_pairs(result))
    assert sum(row.confirmed for row in smt_rows(result, sampled=True)) == sum(c.smt is not None for c in result.claims)


@pytest.mark.parametrize(
    ("verdict", "smt", "scale", "words"),
    [
        (Verdict.CERTIFIED, "confirmed", 1.0, "agreement"),
        (Verdict.CERTIFIED, "confirmed", 0.25, "agreement, on the shrunk region"),
        (Verdict.VIOLATED, "refuted", 1.0, "agreement"),
        (Verdict.VIOLATED, "confirmed", 0.5, "no contradiction"),
        (Verdict.UNKNOWN, "confirmed", 1.0, "z3 alone"),
        (Verdict.CERTIFIED, "undecided", 2.0**-11, "no answer"),
        (Verdict.CERTIFIED, "refuted", 1.0, "contradiction"),
        (None, "confirmed", 1.0, "z3 alone"),
    ],
)
def test_every_spot_check_stands_beside_its_claim(verdict, smt, scale, words):
    result = audit_example()
    first, *others = result.claims
    claim = replace(first, verdict=verdict, smt=smt, smt_scale=scale, smt_sampled=True)
    others = [replace(other, smt=None, smt_sampled=False) for other in others]
    (row,) = spot_rows(replace(result, claims=(claim, *others)))
    assert row.claim == claim
    assert row.agreement.startswith(words) or words in row.agreement
    assert (row.agreement == "contradiction") == (words == "contradiction")


def test_metric_rows_cover_the_shares_they_belong_to():
    for row in metric_rows(audit_example()):
        assert row.certified[0] <= row.metric.certified_accuracy <= row.certified[1]
        assert row.unknown == pytest.approx(row.metric.empirical_robust_accuracy - row.metric.certified_accuracy)


def test_views_without_pairs_or_metrics():
    assert set(build_view(certify_example()).charts) == {"accuracy"}
    assert set(build_view(compare_example()).charts) == {"distance"}
    assert quantiles((("empty", []), ("one", [2.0])))[0].values == (2.0,) * 5
