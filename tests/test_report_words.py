"""What the page says, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.html import render_html
from tests.audits import audit_example, certify_example, compare_example
from tests.pages import Page


def _with_smt(result: AuditResult, *, sampled: bool) -> AuditResult:
    claims = tuple(
        replace(c, smt="confirmed", smt_scale=1.0, smt_sampled=sampled) if c.verdict is Verdict.UNKNOWN else c
        for c in (replace(c, smt=None, smt_scale=None, smt_sampled=False) for c in result.claims)
    )
    return replace(result, claims=claims)


def test_the_last_resort_is_no_spot_check():
    declared, last = (Page(render_html(_with_smt(compare_example(), sampled=s))).text for s in (True, False))
    assert "before any result was known" in declared
    assert "last resort" not in declared
    assert "before any result was known" not in last
    assert "No spot check by z3 was declared" in last
    assert "left open, chosen by that and not by lot: top-1 equivalence: 2 confirmed" in last


def test_a_specification_is_told_in_its_own_words():
    result = certify_example()
    claims = tuple(replace(c, id=f"r{k}", kind="vnnlib", eps=None, label=None) for k, c in enumerate(result.claims))
    regions = tuple(replace(r, eps=None, label=None, box="") for r in result.regions)
    page = render_html(replace(result, claims=claims, regions=regions, metrics=()))
    before, after = page.split('<section id="frameworks"')  # laws are about robustness, whatever was asked
    text = Page(before + after.split("</section>", 1)[1]).text
    assert "Check of a network against its specification" in text
    for word in ("robust", "eps: largest change", "accuracy depends", "original input", "Pruning and these regions"):
        assert word not in text, word


def test_a_lone_network_is_called_the_network():
    text = Page(render_html(certify_example())).text
    assert "network mnist-original.onnx" in text
    assert "original mnist-original.onnx" not in text


def test_regions_and_pruning_are_told_apart():
    result = audit_example(Outcome.PASS, (0.01,), 4)
    confidence = Page(render_html(result).split('id="confidence"')[1].split('id="limitations"')[0]).text
    assert result.provenance.drawing in confidence
    assert result.provenance.data_split in confidence


def test_the_first_section_says_how_much_was_pruned():
    summary = Page(render_html(audit_example(Outcome.PASS, (0.01,), 4)).split("<nav", 1)[0]).text
    assert "43.8 % of units removed: 512 → 288" in summary


def test_a_normalisation_stands_beside_the_models():
    result = certify_example()
    config = {**result.provenance.config, "normalisation": "mean 0.1307, std 0.3081"}
    systems = render_html(replace(result, provenance=replace(result.provenance, config=config)))
    systems = systems.split('id="systems"')[1].split("</section>")[0]
    assert "mean 0.1307, std 0.3081" in Page(systems).text
    assert "normalisation is part" not in Page(render_html(result)).text


@pytest.mark.parametrize(("number", "words"), [(1, "One claim is proved"), (2, "2 claims are proved")])
def test_one_proof_is_told_in_the_singular(number: int, words: str):
    result = certify_example()
    proved = tuple(c for c in result.claims if c.verdict is Verdict.CERTIFIED)[:number]
    assert words in Page(render_html(replace(result, claims=proved, metrics=()))).text


@pytest.mark.parametrize(
    ("high", "words"), [(0.34, "(found: 0.34)"), (0.68, "0.34 to 0.68"), (1.7e308, "0.34 or more")]
)
def test_the_first_section_says_what_was_found(high: float, words: str):
    result = audit_example(Outcome.FAIL, (0.01,), 4)
    assert result.policy is not None
    rules = (replace(result.policy.rules[0], low=0.34, high=high),)
    summary = render_html(replace(result, policy=replace(result.policy, rules=rules))).split("<nav", 1)[0]
    assert words in summary


def test_proofs_that_the_checker_refuses_are_counted():
    result, words = compare_example(), "not re-proved by the checker (float32: the proved margin -0.1 is not positive)"
    count = result.counts["unknown"]
    assert count > 1
    claims = tuple(replace(c, reason=words) if c.verdict is Verdict.UNKNOWN else c for c in result.claims)
    said = f"Of the open claims {count} were proved by the search and not re-proved by the independent checker"
    assert said in Page(render_html(replace(result, claims=claims))).text
    assert "proved by the search" not in Page(render_html(result)).text
