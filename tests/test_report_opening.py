"""The first screen's words: why the verdict is what it is, and what a reader who is no specialist is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paoding_verify.evidence.result import SYNTHETIC, AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.opening import MAX_RULE_CHARACTERS, cautions, decision, explanation, measured
from tests.audits import audit_example, certify_example, compare_example


def with_rules(outcomes: str, verdict: Outcome) -> AuditResult:
    """A result whose rules came out as the letters say: p, f, i."""
    result = audit_example(Outcome.PASS, (0.01,), 4)
    assert result.policy is not None
    names = {"p": Outcome.PASS, "f": Outcome.FAIL, "i": Outcome.INCONCLUSIVE}
    first = result.policy.rules[0]
    rules = tuple(replace(first, text=f"rule {k}", outcome=names[letter]) for k, letter in enumerate(outcomes))
    return replace(result, policy=replace(result.policy, outcome=verdict, rules=rules))


@pytest.mark.parametrize(
    ("outcomes", "verdict", "lead", "listed"),
    [
        ("pp", Outcome.PASS, "Every rule of the policy is met (2 rules).", "01"),
        ("pfi", Outcome.FAIL, "1 of 3 rules of the policy is not met.", "1"),
        ("ffi", Outcome.FAIL, "2 of 3 rules of the policy are not met.", "01"),
        ("pip", Outcome.INCONCLUSIVE, "1 of 3 rules of the policy is neither met nor refuted by the evidence.", "1"),
        ("pp", Outcome.INCONCLUSIVE, "No rule of the policy fails, but a claim ended in an error", ""),
        ("", Outcome.PASS, "The policy has no rules.", ""),
    ],
)
def test_the_rules_that_decide_are_named(outcomes: str, verdict: Outcome, lead: str, listed: str):
    found = decision(with_rules(outcomes, verdict))
    assert found.lead.startswith(lead)
    assert found.rules == tuple(f"rule {k} (found: 0.9 to 0.95)" for k in listed)
    assert found.more == 0
    assert all(rule in str(found) for rule in found.rules)


def test_as_many_rules_are_named_as_there_is_room_for_and_one_at_least():
    result = with_rules("ppp", Outcome.PASS)
    assert result.policy is not None
    for length, room in ((MAX_RULE_CHARACTERS // 2 - 30, 2), (2 * MAX_RULE_CHARACTERS, 1)):
        rules = tuple(replace(rule, text="x" * length) for rule in result.policy.rules)
        found = decision(replace(result, policy=replace(result.policy, rules=rules)))
        assert (len(found.rules), found.more) == (room, 3 - room)
        assert str(found).endswith("below.")


def test_without_a_policy_there_is_no_verdict():
    assert "no overall verdict" in str(decision(certify_example()))


def test_a_bound_that_was_not_proved_is_no_figure():
    rule = with_rules("p", Outcome.PASS).policy.rules[0]  # type: ignore[union-attr]
    assert measured(replace(rule, low=0.5, high=1.7e308)) == "0.5 or more"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("cccu", "ccvc", "Of the 3 regions on which the original is proved to keep its answer, the pruned network is "
         "proved to keep it on 2."),
        ("cu", "cc", "On the one region on which the original is proved to keep its answer, the pruned network is "
         "proved to keep it."),
        ("cu", "vc", "the pruned network is not proved to keep it."),
        ("cc", "uv", "is proved to keep it on 0."),
    ],
)  # fmt: skip
def test_what_pruning_did_to_the_proofs_is_told(before: str, after: str, words: str):
    names = {"c": Verdict.CERTIFIED, "u": Verdict.UNKNOWN, "v": Verdict.VIOLATED}
    result = audit_example(Outcome.PASS, (0.01,), len(before))
    own = {s: [c for c in result.claims if (c.subject, c.kind) == (s, "top1_robust")] for s in ("original", "pruned")}
    claims = [replace(c, verdict=names[letter]) for c, letter in zip(own["original"], before, strict=True)]
    claims += [replace(c, verdict=names[letter]) for c, letter in zip(own["pruned"], after, strict=True)]
    assert words in " ".join(explanation(replace(result, claims=tuple(claims))))


@pytest.mark.parametrize("result", [certify_example(), compare_example()])
def test_nothing_is_told_about_pruning_where_there_is_nothing_to_compare(result: AuditResult):
    assert "proved to keep" not in " ".join(explanation(result))


def test_made_and_unlabelled_inputs_are_named():
    result = audit_example(Outcome.PASS, (0.01,), 4)
    labelled = replace(result, regions=tuple(replace(r, label=1, source="d.npz[0]") for r in result.regions))
    assert cautions(labelled) == []
    unlabelled = replace(labelled, regions=tuple(replace(r, label=None) for r in labelled.regions))
    (words,) = cautions(unlabelled)
    assert "no labels" in words
    made = replace(unlabelled, regions=tuple(replace(r, source=f"{SYNTHETIC}[0]") for r in unlabelled.regions))
    assert "No data was read" in cautions(made)[0]
    assert cautions(made)[1] == words
    assert set(cautions(made)) <= set(explanation(made))


def test_inputs_that_are_wrong_from_the_start_are_counted():
    result = audit_example(Outcome.PASS, (0.01,), 4)
    own = [c for c in result.claims if (c.subject, c.kind) == ("pruned", "top1_robust")]
    claims = [
        replace(c, verdict=Verdict.VIOLATED, margin=margin)
        for c, margin in zip(own, (-0.5, 0.5, 0.0, 0.5), strict=True)
    ]
    assert "2 of these are about robustness and fail at the input itself" in " ".join(
        explanation(replace(result, claims=tuple(claims)))
    )
