"""The page: what it says, what it escapes, what it never does."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import jinja2
import pytest

from paoding_verify.evidence.boxes import unpack_box
from paoding_verify.evidence.claim import Witness
from paoding_verify.evidence.pruning import DistilRecord, RepairRecord
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report import html
from paoding_verify.report.html import render_html
from paoding_verify.report.text import DASH, visible
from paoding_verify.report.witnesses import MAX_WITNESSES
from tests.audits import (
    PAYLOAD,
    audit_example,
    certify_example,
    compare_example,
    every_example,
    finetuned_trace,
    large_example,
)
from tests.pages import Page

EXAMPLES = every_example()


@pytest.fixture(scope="module", params=sorted(EXAMPLES))
def page(request: pytest.FixtureRequest) -> Page:
    return Page(render_html(EXAMPLES[request.param]))


def test_a_page_has_no_script_and_asks_nobody_for_anything(page: Page):
    assert not {name for name, _ in page.tags} & {
        "script",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "audio",
        "video",
    }
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_no_style_loads_anything():
    css = (html.template_folder() / "audit.css").read_text()
    assert "@import" not in css
    assert set(re.findall(r"url\((.*?)\)", css)) == {"#hatch"}


def test_hostile_text_is_shown_and_changes_nothing():
    page = Page(render_html(EXAMPLES["hostile"]))
    plain = Page(render_html(audit_example(Outcome.FAIL, (0.01,), 12)))
    assert " ".join(visible(PAYLOAD).split()) in page.text
    assert {name for name, _ in page.tags} == {name for name, _ in plain.tags}
    assert len(page.all("img")) == len(plain.all("img"))
    assert not re.search("[\u202e\x00\x1b\ud800]", render_html(EXAMPLES["hostile"]))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_claim_is_on_the_page(name: str):
    text = Page(render_html(EXAMPLES[name])).text
    for claim in EXAMPLES[name].claims:
        assert " ".join(visible(claim.id).split()) in text


def test_open_claims_come_before_certified_ones():
    result = certify_example()
    evidence = render_html(result).split('id="evidence"')[1]
    order = [2 * (c.verdict is Verdict.CERTIFIED) + (c.verdict is Verdict.UNKNOWN) for c in result.claims]
    found = sorted(zip((evidence.index(f">{c.id}<") for c in result.claims), order, strict=True))
    assert [rank for _, rank in found] == sorted(order)


def test_equal_results_give_equal_bytes_whatever_time_they_took():
    result = audit_example()
    slower = replace(result, claims=tuple(replace(c, elapsed_s=99.0) for c in result.claims))
    assert render_html(result) == render_html(slower)


@pytest.mark.parametrize(("claims", "characters", "seconds"), [(1000, 250_000, 1), (10_000, 1_500_000, 3)])
def test_large_reports_stay_small_and_quick(claims: int, characters: int, seconds: float):
    result = large_example(claims)
    start = time.process_time()  # other work on the machine does not count
    page = render_html(result)
    assert time.process_time() - start <= seconds
    assert len(result.claims) == claims
    assert len(page.encode()) <= characters


def test_ids_are_unique_and_references_resolve(page: Page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = [a["href"][1:] for a in page.all("a")] + [
        i for _, a in page.tags for i in a.get("aria-labelledby", "").split()
    ]
    assert set(wanted) <= set(ids)


def test_tables_and_charts_are_accessible(page: Page):
    assert all(a.get("scope") in ("row", "col", "rowgroup") for a in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a["role"] == "img" for a in page.all("svg") if a.get("class") == "chart")
    assert all(a["alt"] for a in page.all("img"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_first_section_answers_the_questions(outcome: Outcome):
    result = audit_example(outcome, (0.01, 0.02), 10)
    summary = Page(render_html(result).split("<main", 1)[1].split("<nav", 1)[0]).text
    for expected in (
        outcome.value,
        "mnist-original.onnx",
        "mnist-pruned.onnx",
        "0.01, 0.02",
        "10 at each eps",
        "independently",
    ):
        assert expected in summary
    for word, verdict in (("proved", "certified"), ("refuted", "violated"), ("unknown", "unknown")):
        assert f"{result.counts[verdict]} {word}" in summary
    if outcome is not Outcome.PASS:
        assert "at least 80 %" in summary
        assert "keeps at least 90 %" not in summary


def test_a_long_policy_is_cut_in_the_summary_and_whole_below():
    result = audit_example(Outcome.PASS, (0.01,), 4)
    assert result.policy is not None
    rules = tuple(replace(result.policy.rules[0], text=f"rule number {k}".ljust(100, "x")) for k in range(5))
    page = render_html(replace(result, policy=replace(result.policy, rules=rules)))
    summary, rest = page.split("<nav", 1)
    assert ">2 more rules below<" in summary
    assert "rule number 3" not in summary
    assert "rule number 4" in rest
    short = tuple(replace(rule, text=f"rule {k}") for k, rule in enumerate(rules))
    page = render_html(replace(result, policy=replace(result.policy, rules=short)))
    assert "rule 4 (found: 0.9 to 0.95)" in page.split("<nav", 1)[0]
    assert "more rule" not in page.split("<nav", 1)[0]


def test_a_proof_that_was_not_checked_again_raises_an_alarm():
    result = audit_example(Outcome.PASS, (0.01,), 4)
    certified = next(c for c in result.claims if c.verdict is Verdict.CERTIFIED)
    doubtful = replace(
        result, claims=tuple(replace(c, rechecked=False) if c is certified else c for c in result.claims)
    )
    text = Page(render_html(doubtful)).text
    total = result.counts["certified"]
    assert f"only {total - 1} of {total}" in text
    assert "NOT RE-PROVED" in text
    assert "NOT RE-PROVED" not in Page(render_html(result)).text


def test_figures_by_stage_stand_in_the_results_and_are_not_passed_off_as_proved():
    result = replace(audit_example(Outcome.PASS, (0.01,), 4), pruning=finetuned_trace())
    results = render_html(result).split('<section id="results"')[1].split("</section>")[0]
    (row,) = re.findall(r'<th scope="row" class="break">pruned(.*)', results)
    assert re.sub("<.*?>", "|", row) == "|0.1|200|90.0 %|62.0 %|20.0 %|crown-ibp|25.0 %"
    assert "they were not proved a second time" in results
    text = Page(render_html(result)).text
    assert "of the parameters are weights at zero" in text
    assert "9,000 rows of train.npz" in text
    assert "Figures by stage" not in render_html(audit_example(Outcome.PASS, (0.01,), 4))


@pytest.mark.parametrize(("kept", "words"), [(True, "it was taken."), (False, "what it was before.")])
def test_the_page_says_what_distillation_and_repair_changed_and_why_the_run_ended(kept, words):
    result = audit_example(Outcome.PASS, (0.01,), 4)
    trace = replace(
        result.pruning, stopped="no proposal was accepted",
        distilled=DistilRecord(700, 12000, kept, 1.25, 0.75, 2.0, 2.5),
        repaired=RepairRecord(100, 128, 96, kept, 0.875, 0.5, 0.625, 0.5625),
    )  # fmt: skip
    text = Page(render_html(replace(result, pruning=trace))).text
    assert "ended before its target: no proposal was accepted." in text
    assert "12,000 inputs (700 steps)" in text
    assert "from 1.25 to 0.75 (logits)" in text
    assert "from 0.875 to 0.5, and at 96 anchors" in text
    assert "from 0.625 to 0.5625 (logits)" in text
    assert words in text
    plain = Page(render_html(result)).text
    assert not any(word in plain for word in ("ended before its target", "Distillation on", "Certified repair"))


def test_every_candidate_stands_in_the_page_with_signal_size_and_choice():
    result = audit_example(Outcome.PASS, (0.01,), 4)
    table = render_html(result).split('id="candidates-h"')[1].split("</table>")[0]
    rows = [re.sub("<.*?>", "|", row).strip("|\n ") for row in table.split("<tbody>")[1].split("<tr>")[1:]]
    shown = {(0.25, 1.5): "0.25|1.5", (None, None): f"{DASH}|{DASH}"}
    wanted = [
        f"{c.name}|{c.signal:g}|{', '.join(map(str, c.num_units))}|"
        f"{shown[c.weights_moved, c.distance_ratio]}|{'yes' if c.chosen else 'no'}"
        for c in result.pruning.candidates
    ]
    assert [row.split("\n")[0] for row in rows] == wanted


def test_weights_at_zero_are_counted_where_no_unit_left():
    result = audit_example(Outcome.PASS, (0.01,), 4)
    original = result.models[0]
    sparse = replace(original, role="pruned", num_parameters=1000, num_zero_weights=250)
    text = Page(render_html(replace(result, models=(original, sparse)))).text
    assert "25.0 % of parameters are weights at zero" in text
    assert "parameters without weights at zero" in text
    assert "weights at zero;" not in Page(render_html(result)).text


def test_one_network_needs_no_comparison():
    text = Page(render_html(certify_example())).text
    assert "pruned / original" not in text
    assert "No overall verdict" in text
    assert "1 claim ended in an error" in text


def test_a_comparison_without_metrics_says_so():
    assert "No accuracies were measured" in Page(render_html(compare_example())).text


def test_an_empty_result_still_renders():
    bare = replace(compare_example(), models=(), regions=(), claims=(), metrics=())
    assert "0 claims" in Page(render_html(bare)).text


def test_more_witnesses_than_are_shown():
    result = _with_violations(MAX_WITNESSES + 3)
    page = Page(render_html(result))
    assert len(page.all("img")) == 3 * MAX_WITNESSES  # original, perturbed, difference
    assert f"Shown: {MAX_WITNESSES} of {MAX_WITNESSES + 3}" in page.text


def test_a_witness_that_is_no_picture_is_a_table():
    source = render_html(certify_example())
    assert not Page(source).all("img")
    record = certify_example().regions[3]
    assert record.box
    assert "Largest change of any value" in source
    assert re.search(r'<tr><th scope="row">1<td>0\.\d+<td>\N{MINUS SIGN}1\.25<td>\N{MINUS SIGN}1\.\d+<tr>', source)


def test_a_witness_stands_beside_its_original_and_the_difference():
    result = audit_example(Outcome.FAIL, (0.01,), 12)
    page = Page(render_html(result))
    names = [image["alt"].split()[0] for image in page.all("img")]
    assert names == ["original", "perturbed", "difference"] * (len(names) // 3)
    assert len({image["src"] for image in page.all("img")}) > len(names) / 2
    assert re.search(r"Largest change of any value: 0\.01\b", page.text)
    for spoil in ({"box": ""}, {"sha256": "0"}):  # then the original is not known
        spoilt = replace(result, regions=tuple(replace(r, **spoil) for r in result.regions))
        assert {image["alt"].split()[0] for image in Page(render_html(spoilt)).all("img")} == {"perturbed"}


def test_witnesses_are_shown_in_turn_and_an_unchanged_one_needs_no_difference():
    result = audit_example(Outcome.FAIL, (0.01,), 12)
    broken = next(c for c in result.claims if c.witness is not None)
    record = next(r for r in result.regions if r.id == broken.region)
    shape = result.models[0].input_shape
    box = unpack_box(record.box, shape, eps=record.eps, domain=record.domain, sha256=record.sha256)
    assert broken.witness is not None
    itself = replace(broken.witness, input=tuple(map(float, box.centre.ravel())))
    claims = [
        replace(broken, id=f"{subject}{k}", subject=subject) for subject in ("original", "pruned", "pair") for k in "ab"
    ]
    claims[0] = replace(claims[0], witness=itself)
    page = render_html(replace(result, claims=tuple(claims)))
    shown = re.findall(r'<p class="id break">(\w+)</p>', page)
    assert shown == ["pruneda", "paira", "originala", "prunedb", "pairb", "originalb"]
    assert page.count("The unchanged input itself breaks the claim") == 1
    assert sorted(i["alt"] for i in Page(page).all("img") if i["alt"].endswith("originala")) == [
        "original input of claim originala", "perturbed input of claim originala"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["pass", "certify"])
def test_the_threat_model_and_the_clauses_stand_in_their_terms(name: str):
    source = render_html(EXAMPLES[name])
    threats = Page(source.split('<section id="claim"')[1].split("</section>")[0]).text
    for term in ("evasion", "integrity violation", "white-box", "AML.T0015", "AML.T0043.000", "poisoning", "AML.T0020"):
        assert term in threats
    clauses = Page(source.split('<section id="frameworks"')[1].split("</section>")[0]).text
    for clause in ("24029-1:2021", "24029-2:2023", "Art. 15(4)", "Annex IV, 2(g)", "MEASURE 2.5", "MEASURE 2.7"):
        assert clause in clauses
    assert "supports evidence for" in clauses
    assert "It is no statement of conformity" in clauses
    for word in ("complies", "compliant", "conforms", "fulfils"):
        assert word not in clauses


def test_clauses_about_accuracy_need_accuracies():
    clauses = Page(render_html(compare_example()).split('<section id="frameworks"')[1].split("</section>")[0]).text
    assert "MEASURE 2.7" in clauses
    assert "MEASURE 2.5" not in clauses
    assert "24029-1" not in clauses


def _with_violations(number: int) -> AuditResult:
    result = audit_example(Outcome.FAIL, (0.01,), 12)
    broken = next(c for c in result.claims if c.verdict is Verdict.VIOLATED)
    assert isinstance(broken.witness, Witness)
    return replace(result, claims=tuple(replace(broken, id=f"claim{k}") for k in range(number)))


def test_templates_refuse_undefined_names_and_objects():
    environment = html._environment()
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ nothing }}").render()
    with pytest.raises(TypeError, match="neither text nor a number"):
        environment.from_string("{{ value }}").render(value=None)
    assert environment.from_string("{{ value }}").render(value="<b>") == "&lt;b&gt;"
