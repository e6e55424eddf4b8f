"""What changed since an earlier audit."""

from __future__ import annotations

from dataclasses import replace

from markupsafe import escape

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.changes import find_changes
from paoding_verify.report.html import render_html
from paoding_verify.report.markdown import render_markdown
from paoding_verify.report.text import visible
from tests.audits import audit_example, compare_example, hostile_example


def turned(result: AuditResult, subject: str, before: Verdict, after: Verdict | None) -> tuple[AuditResult, str]:
    """The result with the first such claim turned, and the id of that claim."""
    claim = next(c for c in result.claims if c.subject == subject and c.verdict is before)
    return replace(
        result, claims=tuple(replace(c, verdict=after) if c is claim else c for c in result.claims)
    ), claim.id


def test_nothing_changes_from_a_result_to_itself_whatever_its_regions_are_called():
    result = audit_example(Outcome.PASS, (0.01,), 12)
    renamed = replace(
        result,
        regions=tuple(replace(r, id=f"x{r.id}") for r in result.regions),
        claims=tuple(replace(c, region=f"x{c.region}", id=f"x{c.id}", elapsed_s=9.0) for c in result.claims),
    )
    changes = find_changes(renamed, result)
    assert changes.compared == len(result.claims)
    assert (changes.only_before, changes.only_now) == (0, 0)
    assert changes.violated + changes.open + changes.gained == ()
    assert all(model.same for model in changes.models)
    assert changes.verdict == "PASS"


def test_every_kind_of_change_is_found():
    earlier = audit_example(Outcome.PASS, (0.01,), 12)
    now, worse = turned(earlier, "pruned", Verdict.CERTIFIED, Verdict.VIOLATED)
    now, open_now = turned(now, "original", Verdict.CERTIFIED, Verdict.UNKNOWN)
    now, broken = turned(now, "pair", Verdict.CERTIFIED, None)
    now, better = turned(now, "pair", Verdict.UNKNOWN, Verdict.CERTIFIED)
    changes = find_changes(now, earlier)
    assert [(c.claim.id, c.before) for c in changes.violated] == [(worse, "certified")]
    assert [(c.claim.id, c.before, c.after) for c in changes.open] == [
        (open_now, "certified", "unknown"), (broken, "certified", "error")
    ]  # fmt: skip
    assert [(c.claim.id, c.before) for c in changes.gained] == [(better, "unknown")]


def test_claims_about_other_boxes_are_counted_and_not_compared():
    earlier, now = audit_example(Outcome.PASS, (0.01, 0.02), 6), audit_example(Outcome.FAIL, (0.02, 0.03), 6)
    changes = find_changes(now, earlier)
    alike = [c for c in now.claims if c.eps == 0.02]
    assert changes.compared + changes.only_now == len(now.claims)
    assert changes.compared + changes.only_before == len(earlier.claims)
    assert changes.compared == len(alike)


def test_a_threshold_or_a_label_makes_another_claim():
    earlier = compare_example()

    def other(claim: Claim) -> Claim:
        return replace(claim, delta=0.5) if claim.label is None else replace(claim, label=claim.label + 1)

    now = replace(earlier, claims=tuple(map(other, earlier.claims)))
    assert find_changes(now, earlier).compared == 0


def test_another_parameter_makes_another_claim():
    example = compare_example()
    asked, weaker = (
        replace(
            example, claims=tuple(replace(c, kind="top1_confident", parameter=p, verdict=v) for c in example.claims[:1])
        )
        for p, v in ((0.5, Verdict.UNKNOWN), (0.99, Verdict.CERTIFIED))
    )
    changes = find_changes(weaker, asked)
    assert (changes.compared, changes.only_before, changes.only_now, changes.gained) == (0, 1, 1, ())


def test_two_claims_about_one_box_are_compared_in_their_order():
    earlier = audit_example(Outcome.PASS, (0.01,), 4)
    first = replace(earlier.claims[0], verdict=Verdict.CERTIFIED)
    twice = replace(earlier, claims=(first, replace(first, id="again", verdict=Verdict.UNKNOWN)))
    changes = find_changes(twice, replace(twice, claims=(first, replace(first, id="again"))))
    assert [c.claim.id for c in changes.open] == ["again"]


def test_models_and_rules_are_compared():
    earlier = audit_example(Outcome.INCONCLUSIVE, (0.01,), 4)
    now = audit_example(Outcome.FAIL, (0.01,), 4)
    assert now.policy is not None
    rules = (*now.policy.rules, replace(now.policy.rules[0], rule="new"))
    models = (now.models[0], replace(now.models[1], canonical_sha256="0"))
    now = replace(now, models=models, policy=replace(now.policy, rules=rules))
    changes = find_changes(now, earlier)
    assert [m.same for m in changes.models] == [True, False]
    assert [before is None for _, before in changes.rules] == [False, False, False, True]
    alone = find_changes(now, replace(earlier, models=earlier.models[:1]))
    assert [m.same for m in alone.models] == [True, None]


def test_page_and_summary_name_every_change_and_only_then():
    earlier = audit_example(Outcome.PASS, (0.01,), 12)
    now, worse = turned(earlier, "pruned", Verdict.CERTIFIED, Verdict.VIOLATED)
    page = render_html(now, earlier)
    section = page.split('<section id="changes"')[1].split("</section>")[0]
    assert worse in section
    assert "newly violated<td>1\n" in section
    assert 'href="#changes"' in page
    assert 'id="changes"' not in render_html(now)
    assert "Newly violated: 1" in render_markdown(now, earlier)
    assert "Newly" not in render_markdown(now)


def test_a_hostile_baseline_is_shown_and_changes_nothing():
    now = hostile_example()
    earlier, name = turned(now, "pair", Verdict.CERTIFIED, Verdict.UNKNOWN)
    page = render_html(now, earlier)
    assert "<script" not in page
    assert str(escape(visible(name))) in page.split('<section id="changes"')[1].split("</section>")[0]
